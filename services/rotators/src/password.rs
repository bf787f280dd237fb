//! What a new password has to be made of, whatever the server, and what can be one at all.

use keywheel_engine::port::accounts::Login;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;

/// Longest new password, in bytes: every server and every client takes it.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1024;
/// Longest one that anybody can sign in with, in bytes: Redis takes no longer word before a login.
const MAX_SENT_BYTES: usize = 16 * 1024;

/// What is wrong with a new password: clients prepare some in different ways before they send them.
pub(crate) fn fault(password: &SecretBytes) -> Option<String> {
    // EXPOSE: its characters are looked at.
    let bytes = password.expose();
    if bytes.is_empty() {
        return Some("it is empty; put another value".to_owned());
    }
    if bytes.len() > MAX_PASSWORD_BYTES {
        return Some(format!(
            "it has more than {MAX_PASSWORD_BYTES} bytes, which not every server takes; give its generator a smaller `length`, or put another value"
        ));
    }
    let is_plain = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    (!is_plain).then(|| "it holds characters beyond printable ASCII, which servers and clients prepare in different ways; name an `alphabet` in its generator, or put another value".to_owned())
}

/// Refuses a new password that has a [`fault`].
pub(crate) fn check(login: &Login, password: &SecretBytes) -> Result<(), PortError> {
    let Some(fault) = fault(password) else {
        return Ok(());
    };
    let text = format!("the new password of account {login} cannot be used: {fault}");
    Err(PortError::new(ErrorKind::Denied, text))
}

/// Whether anybody can sign in with it, also where it is no password that we would set: what is no text
/// is sent by no client.
pub(crate) fn is_possible(password: &SecretBytes) -> bool {
    // EXPOSE: its characters are looked at.
    let bytes = password.expose();
    let is_sent = (1..=MAX_SENT_BYTES).contains(&bytes.len()) && !bytes.contains(&0);
    is_sent && std::str::from_utf8(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> SecretBytes {
        SecretBytes::from(bytes.to_vec())
    }

    #[test]
    fn only_printable_ascii_is_a_password() {
        let login = Login::of("app");
        let checked = |text: &str| check(&login, &of(text.as_bytes()));
        assert!(checked(" a'\"`\\~").is_ok());
        assert!(checked(&"a".repeat(MAX_PASSWORD_BYTES)).is_ok());
        let long = "a".repeat(MAX_PASSWORD_BYTES + 1);
        for text in ["", "a\n", "\u{7f}", "\u{e9}", &long] {
            let error = checked(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Denied, "{text:?}");
            assert!(error.to_string().contains("account app"), "{error}");
        }
    }

    #[test]
    fn what_somebody_may_have_set_by_hand_is_asked_about_and_no_bytes() {
        assert!(is_possible(&of("pässword\n".as_bytes())));
        let long = vec![b'a'; MAX_SENT_BYTES + 1];
        for bytes in [&b""[..], b"a\0", b"\xff", &long] {
            assert!(!is_possible(&of(bytes)), "{} bytes", bytes.len());
        }
    }
}
