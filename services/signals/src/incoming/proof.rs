//! Whether a request is its declared sender's: Standard Webhooks, GitHub's signatures, or a token.
//!
//! Invariants: what is compared is compared in constant time; a proof with a time is worth nothing five minutes
//! later; why a proof is none never quotes it, nor the key. That a proof without a time is shown again is for
//! its message's id.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use keywheel_core::signal::Proof;
use keywheel_core::time::Timestamp;
use keywheel_rotators::webhook::Keys;
use keywheel_seal::SecretBytes;
use rustls::SignatureScheme;
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// How far a proof's time may be from ours.
pub const MAX_AGE: Duration = Duration::from_secs(300);
/// Shortest key or token without a form of its own, in bytes.
const MIN_SECRET_BYTES: usize = 16;
/// What stands before the point of a P-256 key in its DER form.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a request proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoProof {
    /// The sender's fault.
    Sender(&'static str),
    /// The key file's fault, which a person mends here.
    KeyFile(&'static str),
}

/// Checks a request's proof.
///
/// # Errors
/// With why it is none, and whose fault that is.
pub fn verify(
    proof: Proof,
    key: &SecretBytes,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), NoProof> {
    match proof {
        Proof::StandardWebhooks => standard(key, headers, body, now),
        Proof::HubSignature => hub(key, headers, body),
        Proof::Bearer => bearer(key, headers),
        Proof::GithubPartner => partner(key, headers, body),
    }
}

/// A header as text.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, NoProof> {
    let found = headers.get(name).and_then(|value| value.to_str().ok());
    found.ok_or(NoProof::Sender("the request shows no proof"))
}

fn standard(
    key: &SecretBytes,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), NoProof> {
    let keys = Keys::parse(key).ok_or(NoProof::KeyFile(
        "it holds no `whsec_` and the base64 of 24 to 64 bytes",
    ))?;
    let id = header(headers, "webhook-id")?;
    let timestamp = header(headers, "webhook-timestamp")?;
    let signatures = header(headers, "webhook-signature")?;
    let timestamp: i64 = timestamp
        .parse()
        .map_err(|_| NoProof::Sender("the proof's time is none"))?;
    let ours = now.micros().div_euclid(1_000_000);
    if ours.abs_diff(timestamp) > MAX_AGE.as_secs() {
        return Err(NoProof::Sender(
            "the proof's time is more than five minutes from ours",
        ));
    }
    match keys.is_signed(id, timestamp, body, signatures) {
        true => Ok(()),
        false => Err(NoProof::Sender("the signature is not the sender's")),
    }
}

/// A key or token without a form, with no line break at its end.
fn plain(key: &SecretBytes) -> Result<&[u8], NoProof> {
    // EXPOSE: a proof is compared with what comes of it.
    let plain = key.expose().trim_ascii_end();
    match plain.len() < MIN_SECRET_BYTES {
        true => Err(NoProof::KeyFile("it holds less than 16 bytes")),
        false => Ok(plain),
    }
}

fn hub(key: &SecretBytes, headers: &HeaderMap, body: &[u8]) -> Result<(), NoProof> {
    let given = header(headers, "x-hub-signature-256")?;
    let wrong = NoProof::Sender("the signature is not the sender's");
    let given = given.strip_prefix("sha256=").and_then(unhex);
    let given = given.ok_or(wrong)?;
    let mac = Hmac::<Sha256>::new_from_slice(plain(key)?);
    let mut mac = mac.map_err(|_| NoProof::KeyFile("it cannot be used"))?;
    mac.update(body);
    mac.verify_slice(&given).map_err(|_| wrong)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(high)? * 16 + digit(low)?).ok();
    let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>();
    bytes.filter(|_| rest.is_empty())
}

fn bearer(key: &SecretBytes, headers: &HeaderMap) -> Result<(), NoProof> {
    let wanted = plain(key)?;
    let given = header(headers, "authorization")?;
    let token = given.strip_prefix("Bearer ").unwrap_or_default().trim();
    match bool::from(token.as_bytes().ct_eq(wanted)) {
        true => Ok(()),
        false => Err(NoProof::Sender("the token is not the sender's")),
    }
}

/// GitHub's public keys, as `https://api.github.com/meta/public_keys/secret_scanning` has them.
#[derive(Deserialize)]
struct PublicKeys {
    public_keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct PublicKey {
    key_identifier: String,
    key: String,
}

fn partner(key: &SecretBytes, headers: &HeaderMap, body: &[u8]) -> Result<(), NoProof> {
    let identifier = header(headers, "github-public-key-identifier")?;
    let signature = header(headers, "github-public-key-signature")?;
    // EXPOSE: public keys are no secret.
    let keys: PublicKeys = serde_json::from_slice(key.expose()).map_err(|_| {
        NoProof::KeyFile(
            "it does not hold GitHub's public keys as https://api.github.com/meta/public_keys/secret_scanning has them",
        )
    })?;
    let mut known = keys.public_keys.iter();
    let known = known.find(|one| one.key_identifier == identifier);
    let known = known.ok_or(NoProof::Sender(
        "the key that signed is not among GitHub's; fetch them again where it is new",
    ))?;
    let point = point(&known.key).ok_or(NoProof::KeyFile("a key in it is no P-256 key"))?;
    let wrong = NoProof::Sender("the signature is not GitHub's");
    let signature = STANDARD.decode(signature).map_err(|_| wrong)?;
    let provider = rustls::crypto::ring::default_provider();
    let mapping = provider.signature_verification_algorithms.mapping;
    let wanted = SignatureScheme::ECDSA_NISTP256_SHA256;
    let found = mapping.iter().find(|(scheme, _)| *scheme == wanted);
    let algorithm = found.and_then(|(_, algorithms)| algorithms.first());
    let algorithm = algorithm.ok_or(NoProof::KeyFile("P-256 is not known here"))?;
    algorithm
        .verify_signature(&point, body, &signature)
        .map_err(|_| wrong)
}

/// The point of a P-256 key in PEM.
fn point(pem: &str) -> Option<Vec<u8>> {
    let lines = pem.lines().map(str::trim);
    let base64: String = lines.filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(base64).ok()?;
    let point = der.strip_prefix(&P256_PREFIX)?;
    (point.len() == 65).then(|| point.to_vec())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_767_492_000_000_000);
    const BODY: &[u8] = b"{\"a\":1}";

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::from(text.as_bytes().to_vec())
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn is_sender_s(checked: Result<(), NoProof>) -> bool {
        matches!(checked, Err(NoProof::Sender(_)))
    }

    #[test]
    fn a_standard_webhook_counts_five_minutes_and_not_longer() {
        let key = format!("whsec_{}", STANDARD.encode([7_u8; 32]));
        let keys = Keys::parse(&secret(&key)).unwrap();
        let at = |offset: i64| {
            let time = NOW.micros() / 1_000_000 + offset;
            let signed = keys.sign("m1", time, BODY);
            let time = time.to_string();
            let shown = headers(&[
                ("webhook-id", "m1"),
                ("webhook-timestamp", &time),
                ("webhook-signature", &signed),
            ]);
            verify(Proof::StandardWebhooks, &secret(&key), &shown, BODY, NOW)
        };
        for offset in [-300, 0, 300] {
            assert_eq!(at(offset), Ok(()), "{offset}");
        }
        for offset in [-301, 301] {
            assert!(is_sender_s(at(offset)), "{offset}");
        }
        let none = headers(&[]);
        let checked = verify(Proof::StandardWebhooks, &secret(&key), &none, BODY, NOW);
        assert!(is_sender_s(checked));
        let checked = verify(Proof::StandardWebhooks, &secret("x"), &none, BODY, NOW);
        assert!(matches!(checked, Err(NoProof::KeyFile(_))));
    }

    /// The vector of GitHub's own documentation.
    #[test]
    fn github_s_own_example_of_a_signature_is_taken_and_every_other_body_is_not() {
        let key = secret("It's a Secret to Everybody\n");
        let shown = headers(&[(
            "x-hub-signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        )]);
        let check = |body: &[u8]| verify(Proof::HubSignature, &key, &shown, body, NOW);
        assert_eq!(check(b"Hello, World!"), Ok(()));
        assert!(is_sender_s(check(b"Hello, World?")));
        let other = headers(&[("x-hub-signature-256", "sha256=75")]);
        let checked = verify(Proof::HubSignature, &key, &other, b"Hello, World!", NOW);
        assert!(is_sender_s(checked));
        let short = verify(Proof::HubSignature, &secret("short"), &shown, BODY, NOW);
        assert!(matches!(short, Err(NoProof::KeyFile(_))));
    }

    #[test]
    fn a_token_is_compared_whole() {
        let key = secret("0123456789abcdef\n");
        let check = |given: &str| {
            let shown = headers(&[("authorization", given)]);
            verify(Proof::Bearer, &key, &shown, BODY, NOW)
        };
        assert_eq!(check("Bearer 0123456789abcdef"), Ok(()));
        for given in [
            "Bearer 0123456789abcde",
            "0123456789abcdef",
            "Bearer ",
            "Basic x",
        ] {
            assert!(is_sender_s(check(given)), "{given}");
        }
    }

    /// A key and its signature of [`BODY`], made by OpenSSL; nobody has the private half.
    #[test]
    fn a_partner_s_signature_is_taken_over_its_body_alone() {
        let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAECMoEgHvjjRbPmzoOuOe4H5gu5lIzIlBxUtLg2lfke7b7bXuUYKzkyDprEGrMhSpGRFSRT5wq+FX4nrm19xfdgw==";
        let signature = "MEUCIEk2Ne6E8Ld4H+keXrZWJ+zXTFsUbQnWUL9mhDPVXvsqAiEAok8uxc5yH0eDmCG0FV3HJxKkjXoukUWfIfejP/PWkWI=";
        let (first, second) = key.split_at(64);
        let file = format!(
            "{{\"public_keys\":[{{\"key_identifier\":\"k0\",\"key\":\"x\"}},{{\"key_identifier\":\"k1\",\"key\":\"-----BEGIN PUBLIC KEY-----\\n{first}\\n{second}\\n-----END PUBLIC KEY-----\\n\",\"is_current\":true}}]}}"
        );
        let shown = headers(&[
            ("github-public-key-identifier", "k1"),
            ("github-public-key-signature", signature),
        ]);
        let check = |body: &[u8]| verify(Proof::GithubPartner, &secret(&file), &shown, body, NOW);
        assert_eq!(check(BODY), Ok(()));
        assert!(is_sender_s(check(b"{\"a\":2}")));
    }

    #[test]
    fn a_partner_s_key_is_one_of_the_file() {
        let shown = headers(&[
            ("github-public-key-identifier", "k1"),
            ("github-public-key-signature", "AAAA"),
        ]);
        let check = |file: &str| verify(Proof::GithubPartner, &secret(file), &shown, BODY, NOW);
        assert!(matches!(check("{}"), Err(NoProof::KeyFile(_))));
        assert!(is_sender_s(check("{\"public_keys\":[]}")));
        let bad = "{\"public_keys\":[{\"key_identifier\":\"k1\",\"key\":\"x\"}]}";
        assert!(matches!(check(bad), Err(NoProof::KeyFile(_))));
        let point = STANDARD.encode([&P256_PREFIX[..], &[4; 65]].concat());
        let file = format!(
            "{{\"public_keys\":[{{\"key_identifier\":\"k1\",\"key\":\"-----BEGIN PUBLIC KEY-----\\n{point}\\n-----END PUBLIC KEY-----\"}}]}}"
        );
        assert!(is_sender_s(check(&file)), "no point of the curve signed it");
    }
}
