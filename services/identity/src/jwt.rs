//! Tokens that a provider of identities signed (JWS in compact form, RFC 7515): whether one of its keys signed them,
//! and what they claim. What a claim means is not known here.
//!
//! Invariants: three algorithms count and no other, `none` never; the key is one of the provider's, of the same
//! algorithm, and never one that the token brings along; nothing of a token is believed, or even read beyond its head,
//! before its signature is verified; every length is bounded.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token, in bytes.
pub const MAX_JWT_BYTES: usize = 16 << 10;
/// Longest document of keys, in bytes.
pub const MAX_KEYS_BYTES: usize = 64 << 10;
/// Most keys of a provider.
pub const MAX_KEYS: usize = 64;
/// Longest text of a token's head that an error quotes, in characters.
const MAX_QUOTED_CHARS: usize = 40;

/// Why a token, or a document of keys, does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Its length is out of bounds.
    #[error("the token has more than {MAX_JWT_BYTES} bytes")]
    TooLarge,
    /// It has not the form.
    #[error("the token is no signed JSON: {0}")]
    Malformed(&'static str),
    /// Signed in a way that does not count.
    #[error("the token is signed by `{0}`, and only RS256, ES256 and EdDSA count")]
    Algorithm(String),
    /// It wants to be understood in a way that is not known here.
    #[error("the token has critical headers, which are not understood here")]
    Critical,
    /// No key of the provider goes by that name.
    #[error("the provider has no key `{0}` for this algorithm")]
    UnknownKey(String),
    /// The signature is another one.
    #[error("the signature is not the provider's")]
    Signature,
    /// The document of keys cannot be used.
    #[error("the provider's keys cannot be read: {0}")]
    Keys(&'static str),
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A provider's key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Public {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    public: Public,
}

/// A provider's keys that count here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Keys {
    /// Reads a document of keys (RFC 7517). Keys of other kinds and purposes are left out.
    ///
    /// # Errors
    /// When it is none, is out of bounds, or has no key that counts here.
    pub fn parse(document: &[u8]) -> Result<Self, JwtError> {
        if document.len() > MAX_KEYS_BYTES {
            return Err(JwtError::Keys("the document is too large"));
        }
        let read: Result<Document, _> = serde_json::from_slice(document);
        let document = read.map_err(|_| JwtError::Keys("it is no JSON object with `keys`"))?;
        if document.keys.len() > MAX_KEYS {
            return Err(JwtError::Keys("there are too many"));
        }
        let keys: Vec<Key> = document.keys.into_iter().filter_map(key).collect();
        match keys.is_empty() {
            true => Err(JwtError::Keys("none is for RS256, ES256 or EdDSA")),
            false => Ok(Self(keys)),
        }
    }

    /// The key that a token names; without a name the only one of its algorithm.
    fn named(&self, algorithm: Algorithm, id: Option<&str>) -> Option<&Public> {
        let all = self.0.iter();
        let mut fit = all.filter(|key| key.public.algorithm() == algorithm);
        let found = match id {
            Some(id) => fit.find(|key| key.id.as_deref() == Some(id)),
            None => {
                let only = fit.next();
                only.filter(|_| fit.next().is_none())
            }
        };
        found.map(|key| &key.public)
    }
}

impl Public {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents {
                    n: modulus.as_slice(),
                    e: exponent.as_slice(),
                };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

/// A key that counts here.
fn key(written: Value) -> Option<Key> {
    let written: Written = serde_json::from_value(written).ok()?;
    if written.purpose.as_deref().is_some_and(|of| of != "sig") {
        return None;
    }
    let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    let public = match (written.kty.as_str(), written.crv.as_deref()) {
        ("RSA", _) => Public::Rsa {
            modulus: without_zeros(part(&written.n)?),
            exponent: without_zeros(part(&written.e)?),
        },
        ("EC", Some("P-256")) => {
            let (x, y) = (part(&written.x)?, part(&written.y)?);
            Public::P256([&[4_u8][..], x.as_slice(), y.as_slice()].concat())
        }
        ("OKP", Some("Ed25519")) => Public::Ed25519(part(&written.x)?),
        _ => return None,
    };
    let said = written.alg.as_deref().map(Algorithm::parse);
    // A key that says what it is for signs nothing else.
    let is_for_it = said.is_none_or(|said| said == Some(public.algorithm()));
    is_for_it.then_some(Key {
        id: written.kid,
        public,
    })
}

fn without_zeros(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

/// What a token claims, after its signature was verified.
///
/// # Errors
/// When no key of the provider signed it in a way that counts.
pub fn claims(token: &[u8], keys: &Keys) -> Result<Map<String, Value>, JwtError> {
    if token.len() > MAX_JWT_BYTES {
        return Err(JwtError::TooLarge);
    }
    let mut ends = token.iter().enumerate().filter(|(_, byte)| **byte == b'.');
    let (Some((first, _)), Some((second, _)), None) = (ends.next(), ends.next(), ends.next())
    else {
        return Err(JwtError::Malformed("it has not three parts"));
    };
    let (signed, signature) = (&token[..second], &token[second + 1..]);
    let (head, body) = (&token[..first], &token[first + 1..second]);
    let part = |text: &[u8]| {
        let decoded = URL_SAFE_NO_PAD.decode(text);
        decoded.map_err(|_| JwtError::Malformed("a part is no base64url"))
    };
    let head: Head = serde_json::from_slice(&part(head)?)
        .map_err(|_| JwtError::Malformed("its head is no JSON object with `alg`"))?;
    let algorithm =
        Algorithm::parse(&head.alg).ok_or_else(|| JwtError::Algorithm(quoted(&head.alg)))?;
    if head.crit.is_some() {
        return Err(JwtError::Critical);
    }
    let key = keys.named(algorithm, head.kid.as_deref());
    let key = key.ok_or_else(|| {
        let id = head.kid.as_deref().map(quoted);
        JwtError::UnknownKey(id.unwrap_or_default())
    })?;
    if !key.verify(signed, &part(signature)?) {
        return Err(JwtError::Signature);
    }
    serde_json::from_slice(&part(body)?)
        .map_err(|_| JwtError::Malformed("its body is no JSON object"))
}

/// What an error says of somebody's text.
fn quoted(text: &str) -> String {
    let seen = text.chars().map(|c| if c.is_control() { '?' } else { c });
    seen.take(MAX_QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests;
