//! What a server keeps of a password (SCRAM-SHA-256, RFC 5802 and 7677), made on our side.
//!
//! So a password is chosen here, and neither a statement nor the server's log ever holds it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keywheel_seal::SecretBytes;
use sha2::{Digest as _, Sha256};

/// Bytes of salt.
pub const SALT_BYTES: usize = 16;
/// Rounds, as PostgreSQL itself takes them; our passwords are random, more would gain nothing.
const ROUNDS: u32 = 4096;

/// The text for `ALTER ROLE … PASSWORD`. The password has to be printable ASCII, which needs no
/// preparation of its text.
#[must_use]
pub fn scram_verifier(password: &SecretBytes, salt: [u8; SALT_BYTES]) -> String {
    let salted = salted(password, salt);
    let stored = Sha256::digest(keyed(&salted, b"Client Key"));
    let server = keyed(&salted, b"Server Key");
    format!(
        "SCRAM-SHA-256${ROUNDS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}

/// Whether a server keeps this of a password; `None` where it is of another form than ours.
#[must_use]
pub fn is_of(kept: &str, password: &SecretBytes) -> Option<bool> {
    let (rounds, rest) = kept.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
    if rounds.parse::<u32>() != Ok(ROUNDS) {
        return None;
    }
    let (salt, _) = rest.split_once('$')?;
    let salt: [u8; SALT_BYTES] = STANDARD.decode(salt).ok()?.try_into().ok()?;
    Some(scram_verifier(password, salt) == kept)
}

/// `Hi` of RFC 5802: PBKDF2 with one block.
fn salted(password: &SecretBytes, salt: [u8; SALT_BYTES]) -> [u8; 32] {
    // EXPOSE: what the server keeps is computed from it.
    let password = password.expose();
    let mut last = keyed(password, &[&salt[..], &1u32.to_be_bytes()].concat());
    let mut sum = last;
    for _ in 1..ROUNDS {
        last = keyed(password, &last);
        sum.iter_mut().zip(last).for_each(|(to, from)| *to ^= from);
    }
    sum
}

fn keyed(key: &[u8], text: &[u8]) -> [u8; 32] {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(text).finalize().into_bytes().into(),
        // An HMAC takes a key of any length.
        Err(_) => [0; 32],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_keeps_is_of_one_password_and_another_form_tells_nothing() {
        let (one, two) = (b"one".to_vec(), b"two".to_vec());
        let (one, two) = (SecretBytes::from(one), SecretBytes::from(two));
        let kept = scram_verifier(&one, [7; SALT_BYTES]);
        assert_eq!(is_of(&kept, &one), Some(true));
        assert_eq!(is_of(&kept, &two), Some(false));
        let more = kept.replace("$4096:", "$8192:");
        for other in [
            "",
            "md5d41d8cd98f00b204e9800998ecf8427e",
            &more,
            "SCRAM-SHA-256$4096:AA==$",
        ] {
            assert_eq!(is_of(other, &one), None, "{other}");
        }
    }

    #[test]
    fn it_is_what_the_example_of_rfc_7677_leads_to() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let password = SecretBytes::from(b"pencil".to_vec());
        let verifier = scram_verifier(&password, salt.try_into().unwrap());
        let (_, server_key) = verifier.rsplit_once(':').unwrap();
        let server_key = STANDARD.decode(server_key).unwrap();
        let exchange = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = STANDARD.encode(keyed(&server_key, exchange.as_bytes()));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert!(verifier.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"));
    }
}
