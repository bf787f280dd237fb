//! What is said of store-sync's seal, and what a share or a passphrase is bound to on its way there.
//!
//! Pure; all ends call it. Invariant: whoever passes an offer on does not open it, and one that was kept opens
//! nothing later: the key it is sealed to is a run's own, and another one after every unsealing and sealing.

use keywheel_core::id::DeploymentId;

use crate::port::{ErrorKind, PortError};

/// Separates these envelopes from every other use of such keys.
const PURPOSE: &[u8] = b"keywheel/unseal/v1";
/// How the text of every failure begins that comes of the seal alone.
pub const SEALED: &str = "store-sync is sealed";

/// Longest word for a provider.
const MAX_PROVIDER_BYTES: usize = 20;
/// Digits of a root key's id.
const ROOT_ID_DIGITS: usize = 32;

/// How store-sync is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealState {
    /// Whether values cannot be opened.
    pub sealed: bool,
    /// Who gives the key, in a word: `key-file`, `passphrase`, `shamir`, `kms` or `transit`.
    pub provider: String,
    /// What shares and passphrases are sealed to (X25519).
    pub key: [u8; 32],
    /// How many shares are there, where there are shares and it is sealed.
    pub shares: Option<Shares>,
    /// Rows of the cache under a key that goes; `None` when there is one key alone, or none.
    pub kek_rows_left: Option<u64>,
}

/// How many shares are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// So many.
    pub have: u8,
    /// So many are needed.
    pub need: u8,
}

/// How a cache came by the root key that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It was made with it.
    Init,
    /// It was resealed.
    Reseal,
}

impl Given {
    /// The verb that did it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Reseal => "reseal",
        }
    }
}

/// Which root key opened store-sync's cache: nothing of the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootKey {
    /// How the cache came by it.
    pub given: Given,
    /// Who gives it, in a word, as in [`SealState`].
    pub provider: String,
    /// Its random id, 32 hexadecimal digits; none where it is the key of a key file itself.
    pub id: Option<String>,
}

impl RootKey {
    /// How store-sync tells it.
    #[must_use]
    pub fn words(&self) -> String {
        let id = self.id.as_ref().map(|id| format!(", id {id}"));
        let (given, id) = (self.given.word(), id.unwrap_or_default());
        format!("{given}, by {}{id}", self.provider)
    }

    /// Reads [`RootKey::words`]; nothing of what is said otherwise.
    #[must_use]
    pub fn parse(words: &str) -> Option<Self> {
        let mut parts = words.split(", ");
        let given = match parts.next()? {
            "init" => Given::Init,
            "reseal" => Given::Reseal,
            _ => return None,
        };
        let provider = parts.next()?.strip_prefix("by ")?;
        let is_word = (1..=MAX_PROVIDER_BYTES).contains(&provider.len())
            && provider
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'-');
        let id = match parts.next() {
            Some(part) => Some(part.strip_prefix("id ")?),
            None => None,
        };
        let is_id = |id: &str| {
            id.len() == ROOT_ID_DIGITS && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        // Only a key file is a root key by itself, until a reseal.
        let may_lack_id = given == Given::Init;
        let is_whole = parts.next().is_none() && is_word && id.map_or(may_lack_id, is_id);
        is_whole.then(|| Self {
            given,
            provider: provider.to_owned(),
            id: id.map(str::to_owned),
        })
    }
}

/// What whoever needs a value is told meanwhile: it may work later.
#[must_use]
pub fn sealed() -> PortError {
    let text = format!(
        "{SEALED}: no value can be opened; `keywheel unseal` takes what opens it. What runs keeps what it has, and work waits"
    );
    PortError::new(ErrorKind::Unavailable, text)
}

/// Whether that was said, here or by another service.
#[must_use]
pub fn is_sealed(kind: ErrorKind, text: &str) -> bool {
    kind == ErrorKind::Unavailable && text.starts_with(SEALED)
}

/// HPKE `info`: purpose, deployment.
#[must_use]
pub fn info(deployment: DeploymentId) -> Vec<u8> {
    [PURPOSE, deployment.bytes().as_slice()].concat()
}

/// HPKE associated data: the key it is sealed to.
#[must_use]
pub fn aad(key: &[u8; 32]) -> Vec<u8> {
    key.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_bytes() {
        let of = |byte| info(DeploymentId::from_bytes([byte; 16]));
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), [b"keywheel/unseal/v1".as_slice(), &[1; 16]].concat());
        assert_ne!(aad(&[1; 32]), aad(&[2; 32]));
    }

    #[test]
    fn a_root_key_is_told_and_read_again_and_nothing_else_is() {
        let of = |given, id: Option<&str>| RootKey {
            given,
            provider: "key-file".to_owned(),
            id: id.map(str::to_owned),
        };
        let id = "0123456789abcdef0123456789abcdef";
        for root in [
            of(Given::Init, None),
            of(Given::Init, Some(id)),
            of(Given::Reseal, Some(id)),
        ] {
            assert_eq!(RootKey::parse(&root.words()), Some(root));
        }
        for strange in [
            "",
            "init",
            "init, by ",
            "init, by Somebody",
            "rotate, by shamir",
            "reseal, by shamir",
            "reseal, by shamir, id 0123",
            "reseal, by shamir, id 0123456789ABCDEF0123456789ABCDEF",
            "reseal, by shamir, id 0123456789abcdef0123456789abcdef, more",
        ] {
            assert_eq!(RootKey::parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn only_the_seal_s_own_failure_is_taken_for_it() {
        let error = sealed();
        assert!(is_sealed(error.kind, &error.text));
        assert!(!is_sealed(ErrorKind::Denied, &error.text));
        let bao = "https://openbao.internal:8200 says that store-sync is sealed";
        assert!(!is_sealed(ErrorKind::Unavailable, bao));
    }
}
