//! Which versions hold a token that somebody outside reported, by its digest alone.
//!
//! Invariants: the comparison's key comes sealed to ours; a value is opened, digested under it, and overwritten; the
//! answer names versions and nothing else; how many values one comparison opens, and how many comparisons run at a time,
//! is bounded. A token counts as held where it is the value, the value without a line end, or a text in a value that is
//! JSON, such as the password of an account.

use keywheel_engine::comparison;
use keywheel_engine::port::bus::{
    Body, Comparison, Held, MAX_COMPARED_AT_ONCE, MAX_COMPARED_TOKENS,
};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::texts;
use keywheel_seal::{SecretBytes, digest};

use crate::service::Shared;
use crate::value;

/// Why a comparison is refused whose key is none of ours.
const REFUSED: &str =
    "the key of the comparison does not open; read the store's key again and ask anew";
/// Comparisons at a time; each holds one value open.
pub const MAX_COMPARING: usize = 2;

/// Compares what is held of some versions.
pub(crate) async fn run(shared: &Shared, asked: &Comparison) -> Result<Body, PortError> {
    if asked.digests.len() > MAX_COMPARED_TOKENS || asked.among.len() > MAX_COMPARED_AT_ONCE {
        let text = format!(
            "one comparison is of at most {MAX_COMPARED_TOKENS} tokens with {MAX_COMPARED_AT_ONCE} versions"
        );
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    let _place = shared.comparing.acquire().await.map_err(|_| {
        let text = "store-sync stops and compares nothing";
        PortError::new(ErrorKind::Unavailable, text)
    })?;
    let opened = key_of(shared, asked).await?;
    // EXPOSE: it is used for this comparison where it lies, and no value is in it.
    let key = <&[u8; 32]>::try_from(opened.expose());
    let key = key.map_err(|_| PortError::new(ErrorKind::Denied, REFUSED))?;
    let mut found = Vec::new();
    for &(secret, version) in &asked.among {
        let value = match shared.ports.vault.open(secret, version).await {
            Ok(value) => value,
            // It was destroyed since, or is only about to be made.
            Err(error) if error.kind == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for token in held_in(&value, key, &asked.digests) {
            found.push(Held {
                token,
                secret,
                version,
            });
        }
    }
    Ok(Body::Compared(found))
}

/// A comparison's key, as it came.
async fn key_of(shared: &Shared, asked: &Comparison) -> Result<SecretBytes, PortError> {
    let info = comparison::info(shared.options.deployment);
    let aad = comparison::aad(&asked.digests);
    value::open_sealed(shared, &asked.sealed_key, (&info, &aad), REFUSED).await
}

/// Which of the tokens a value holds.
fn held_in(value: &SecretBytes, key: &[u8; 32], digests: &[[u8; 32]]) -> Vec<u32> {
    let mut found = Vec::new();
    let mut look = |part: &[u8]| {
        let own = digest::keyed(key, part);
        // Digests under a key that is used once: how long a comparison takes tells nothing of a token.
        let same = (0_u32..).zip(digests).filter(|(_, one)| **one == own);
        for (token, _) in same {
            if !found.contains(&token) {
                found.push(token);
            }
        }
    };
    // EXPOSE: the value and its parts are digested under the comparison's key.
    let bytes = value.expose();
    look(bytes);
    let line = bytes.strip_suffix(b"\n");
    if let Some(line) = line {
        look(line.strip_suffix(b"\r").unwrap_or(line));
    }
    if matches!(bytes.first(), Some(b'{' | b'[' | b'"')) {
        let _is_json = texts::each(bytes, |text| look(text.as_bytes()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn held_under(key: &[u8; 32], value: &str, tokens: &[&str]) -> Vec<u32> {
        let digest = |token: &&str| digest::keyed(&KEY, token.as_bytes());
        let digests: Vec<[u8; 32]> = tokens.iter().map(digest).collect();
        let value = SecretBytes::copied(value.as_bytes());
        held_in(&value, key, &digests)
    }

    fn held(value: &str, tokens: &[&str]) -> Vec<u32> {
        held_under(&KEY, value, tokens)
    }

    #[test]
    fn a_value_is_held_whole_as_a_line_or_as_a_text_of_json() {
        assert_eq!(held("s3cret", &["other", "s3cret"]), [1]);
        assert_eq!(held("s3cret\n", &["s3cret"]), [0]);
        assert_eq!(held("s3cret\r\n", &["s3cret"]), [0]);
        let login = r#"{"username":"app","password":"a\"b","more":["c"]}"#;
        assert_eq!(held(login, &["c", "a\"b", "username"]), [1, 0]);
        assert_eq!(held("\"quoted\"", &["quoted", "\"quoted\""]), [1, 0]);
    }

    #[test]
    fn no_part_of_a_text_and_no_other_case_is_held() {
        for token in ["s3cre", "3cret", "S3CRET", "s3cret ", ""] {
            assert_eq!(held("s3cret", &[token]), [0_u32; 0], "{token}");
        }
        let other = held_under(&[8; 32], "s3cret", &["s3cret"]);
        assert!(other.is_empty(), "under another key");
    }
}
