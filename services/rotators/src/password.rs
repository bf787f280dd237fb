//! What a new password has to be made of, whatever the server.

use keywheel_engine::port::accounts::Login;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;

/// Refuses a password that clients prepare in different ways before they send it, and an empty one.
pub(crate) fn check(login: &Login, password: &SecretBytes) -> Result<(), PortError> {
    // EXPOSE: its characters are looked at.
    let is_plain = password
        .expose()
        .iter()
        .all(|byte| (b' '..=b'~').contains(byte));
    if is_plain && !password.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the new password of account {login} is empty or holds characters beyond printable ASCII, which servers and clients prepare in different ways; name an `alphabet` in its generator, or put another value"
    );
    Err(PortError::new(ErrorKind::Denied, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_is_a_password() {
        let login = Login::of("app");
        let checked = |text: &str| check(&login, &SecretBytes::from(text.as_bytes().to_vec()));
        assert!(checked(" a'\"`\\~").is_ok());
        for text in ["", "a\n", "\u{7f}", "\u{e9}"] {
            let error = checked(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Denied, "{text:?}");
            assert!(error.to_string().contains("account app"), "{error}");
        }
    }
}
