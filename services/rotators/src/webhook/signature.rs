//! Signing as Standard Webhooks 1.0 has it: symmetric, `v1`.
//!
//! Invariants: a key is `whsec_` and the base64 of 24 to 64 bytes; what is signed is
//! `id.timestamp.body`, the very bytes that are sent; keys are overwritten when they are dropped, and
//! nothing tells one. What is signed by others is checked in constant time; how old it may be is its taker's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keywheel_seal::SecretBytes;
use sha2::Sha256;
use zeroize::Zeroizing;

/// What a key begins with.
const PREFIX: &str = "whsec_";
/// Shortest key.
pub const MIN_KEY_BYTES: usize = 24;
/// Longest key.
pub const MAX_KEY_BYTES: usize = 64;
/// Keys that sign one request: while a receiver changes over, the new one and the one before.
pub const MAX_KEYS: usize = 2;
/// Signatures of one message that are looked at.
pub const MAX_SIGNATURES: usize = 8;

/// The keys that sign.
pub struct Keys(Vec<Zeroizing<Vec<u8>>>);

impl Keys {
    /// Reads `whsec_…`, or two of these with a space or a line break between them; nothing when it is
    /// anything else.
    #[must_use]
    pub fn parse(secret: &SecretBytes) -> Option<Self> {
        // EXPOSE: the keys that sign are read from it.
        let text = std::str::from_utf8(secret.expose()).ok()?;
        let mut keys = Vec::with_capacity(MAX_KEYS);
        for word in text.split_ascii_whitespace() {
            let key = STANDARD.decode(word.strip_prefix(PREFIX)?).ok()?;
            let key = Zeroizing::new(key);
            if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len()) || keys.len() == MAX_KEYS {
                return None;
            }
            keys.push(key);
        }
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// `webhook-signature`: one signature for each key.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed = self.0.iter().filter_map(|key| {
            let mac = mac(key, (id, timestamp, body))?;
            Some(format!(
                "v1,{}",
                STANDARD.encode(mac.finalize().into_bytes())
            ))
        });
        signed.collect::<Vec<_>>().join(" ")
    }

    /// Whether one of the signatures in a `webhook-signature` is one of these keys', compared in constant time.
    #[must_use]
    pub fn is_signed(&self, id: &str, timestamp: i64, body: &[u8], signatures: &str) -> bool {
        let words = signatures.split_ascii_whitespace().take(MAX_SIGNATURES);
        let given = words.filter_map(|word| STANDARD.decode(word.strip_prefix("v1,")?).ok());
        let given: Vec<Vec<u8>> = given.collect();
        // Whoever comes may send signatures of anything: the body is hashed once for each key, not for each of them.
        let mut macs = self
            .0
            .iter()
            .filter_map(|key| mac(key, (id, timestamp, body)));
        macs.any(|mac| {
            let is_it = |given: &Vec<u8>| mac.clone().verify_slice(given).is_ok();
            given.iter().any(is_it)
        })
    }
}

/// Over `id.timestamp.body`.
fn mac(key: &[u8], (id, timestamp, body): (&str, i64, &[u8])) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    let timestamp = timestamp.to_string();
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The first one is that of the specification's own libraries.
    const VECTORS: &str = include_str!("../../../../deploy/examples/webhook-signature.json");

    fn keys(text: &str) -> Option<Keys> {
        Keys::parse(&SecretBytes::from(text.as_bytes().to_vec()))
    }

    #[test]
    fn every_vector_is_signed_as_it_says() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() > 2, "{} vectors", vectors.len());
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let (id, timestamp) = (text("id"), vector["timestamp"].as_i64().unwrap());
            let words = vector["keys"].as_array().unwrap().iter();
            let words = words.map(|key| format!("{PREFIX}{}", key.as_str().unwrap()));
            let keys = keys(&words.collect::<Vec<_>>().join(" ")).unwrap();
            let signed = keys.sign(id, timestamp, text("body").as_bytes());
            assert_eq!(signed, text("signature"), "{id}");
            let body = text("body").as_bytes();
            let last = signed.split(' ').next_back().unwrap();
            assert!(keys.is_signed(id, timestamp, body, last), "{id}");
            for other in [
                format!("v2{}", &last[2..]),
                format!("{last}A"),
                String::new(),
            ] {
                assert!(
                    !keys.is_signed(id, timestamp, body, &other),
                    "{id}: {other}"
                );
            }
            assert!(!keys.is_signed(id, timestamp + 1, body, last), "{id}");
            assert_ne!(
                signed,
                keys.sign(id, timestamp + 1, text("body").as_bytes())
            );
        }
    }

    #[test]
    fn only_keys_of_the_right_form_and_length_sign() {
        let of = |length: usize| format!("{PREFIX}{}", STANDARD.encode(vec![7_u8; length]));
        for good in [MIN_KEY_BYTES, MAX_KEY_BYTES] {
            assert!(keys(&of(good)).is_some(), "{good}");
        }
        let two = format!("{}\n{}\n", of(32), of(33));
        assert_eq!(keys(&two).unwrap().0.len(), MAX_KEYS);
        for bad in [
            String::new(),
            "canary".to_owned(),
            STANDARD.encode([7_u8; 32]),
            format!("{PREFIX}not base64"),
            of(MIN_KEY_BYTES - 1),
            of(MAX_KEY_BYTES + 1),
            format!("{} {} {}", of(32), of(32), of(32)),
        ] {
            assert!(keys(&bad).is_none(), "{bad}");
        }
    }
}
