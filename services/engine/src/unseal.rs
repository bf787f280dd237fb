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
    fn only_the_seal_s_own_failure_is_taken_for_it() {
        let error = sealed();
        assert!(is_sealed(error.kind, &error.text));
        assert!(!is_sealed(ErrorKind::Denied, &error.text));
        let bao = "https://openbao.internal:8200 says that store-sync is sealed";
        assert!(!is_sealed(ErrorKind::Unavailable, bao));
    }
}
