//! What a container gets: the password alone where one account stays, else account and password as one
//! JSON object, for the account changes with every rotation.
//!
//! Invariant: a value is read back to what it was made of, whatever characters are in it. A template takes it apart: `{{ secret("shop/db").username }}`.

use keywheel_core::resource::Strategy;
use keywheel_seal::SecretBytes;

/// Fields of the object; the names that AWS uses for its rotated credentials.
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
/// What stands around the two texts, with room to spare.
const FRAME_BYTES: usize = 64;
/// Most bytes of one character of a JSON text: `\u0000`.
const MAX_ESCAPED: usize = 6;

/// A version's value, taken apart.
pub struct Opened {
    /// The account that it opens; `None` where it says none.
    pub account: Option<String>,
    /// Its password.
    pub password: SecretBytes,
}

/// The value for an account and its password; `None` when the password is not text.
#[must_use]
pub fn encode(strategy: Strategy, account: &str, password: &SecretBytes) -> Option<SecretBytes> {
    // EXPOSE: the value is made of it.
    let password = password.expose();
    if strategy != Strategy::AlternatingUsers {
        return Some(SecretBytes::copied(password));
    }
    let password = std::str::from_utf8(password).ok()?;
    // The room is taken at once: a grown buffer would leave a copy behind.
    let room = (account.len() + password.len()) * MAX_ESCAPED + FRAME_BYTES;
    let mut text = Vec::with_capacity(room);
    text.extend_from_slice(format!("{{\"{USERNAME}\":").as_bytes());
    serde_json::to_writer(&mut text, account).ok()?;
    text.extend_from_slice(format!(",\"{PASSWORD}\":").as_bytes());
    serde_json::to_writer(&mut text, password).ok()?;
    text.push(b'}');
    Some(SecretBytes::from(text))
}

/// What a value was made of; `None` when it is no such value.
#[must_use]
pub fn decode(strategy: Strategy, value: &SecretBytes) -> Option<Opened> {
    // EXPOSE: the password is taken out of it for its server.
    let bytes = value.expose();
    if strategy != Strategy::AlternatingUsers {
        return Some(Opened {
            account: None,
            password: SecretBytes::copied(bytes),
        });
    }
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes).ok()?;
    let (mut account, mut password) = (None, None);
    for (name, field) in fields {
        let serde_json::Value::String(text) = field else {
            continue;
        };
        match name.as_str() {
            USERNAME => account = Some(text),
            PASSWORD => password = Some(SecretBytes::from(text.into_bytes())),
            _ => {}
        }
    }
    Some(Opened {
        account: Some(account?),
        password: password?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> SecretBytes {
        SecretBytes::from(text.as_bytes().to_vec())
    }

    fn text(value: &SecretBytes) -> String {
        // EXPOSE: the test looks at what a container gets.
        String::from_utf8(value.expose().to_vec()).unwrap()
    }

    #[test]
    fn a_value_is_read_back_to_what_it_was_made_of() {
        for password in ["simple", "\"\\{}é\n\u{0}", ""] {
            let given = bytes(password);
            for strategy in [
                Strategy::AlternatingUsers,
                Strategy::DualPassword,
                Strategy::SingleUser,
            ] {
                let value = encode(strategy, "app \"a\"", &given).unwrap();
                let opened = decode(strategy, &value).unwrap();
                assert!(opened.password.ct_eq(&given));
                let named =
                    (strategy == Strategy::AlternatingUsers).then(|| "app \"a\"".to_owned());
                assert_eq!(opened.account, named);
            }
        }
    }

    #[test]
    fn an_account_that_stays_is_not_in_the_value() {
        let value = encode(Strategy::SingleUser, "app", &bytes("pw")).unwrap();
        assert_eq!(text(&value), "pw");
        let value = encode(Strategy::AlternatingUsers, "app", &bytes("pw")).unwrap();
        assert_eq!(text(&value), r#"{"username":"app","password":"pw"}"#);
        let binary = SecretBytes::from(vec![0xff]);
        assert!(encode(Strategy::AlternatingUsers, "app", &binary).is_none());
    }

    #[test]
    fn what_is_no_such_value_opens_nothing() {
        for other in ["", "pw", "[]", r#"{"username":"a"}"#, r#"{"password":1}"#] {
            let opened = decode(Strategy::AlternatingUsers, &bytes(other));
            assert!(opened.is_none(), "{other}");
        }
    }
}
