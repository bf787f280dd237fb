//! What a report on one run is checked by, without a journal: each event by its own signature, and the whole by
//! its seal.
//!
//! An event's signature is over its chain hash, so it says the event and the hash of the one before it. The seal is
//! the reason of an audit record: how many events and audit records a report has, and a digest over which they are.
//! That record is in the audit tree itself, so nothing can be left out, put in or moved without its breaking.
//! Pure. Whose key it is, the caller knows from elsewhere.

use keywheel_seal::sign::{BadSignature, Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::batch::{EVENT_CONTEXT, chain_hash};
use crate::merkle::Hash;

/// What the digest of a seal is of.
const CONTEXT: &str = "keywheel/report/v1";

/// Checks that a journal's key signed an event behind the hash of the one before it; gives its own hash.
///
/// # Errors
/// When it is not that key's signature over these bytes.
pub fn verify_event(
    key: &VerifyingKey,
    previous: &Hash,
    bytes: &[u8],
    signature: [u8; 64],
) -> Result<Hash, BadSignature> {
    let hash = chain_hash(previous, bytes);
    let signature = Signature::from_bytes(signature);
    key.verify(EVENT_CONTEXT, &hash, &signature)?;
    Ok(hash)
}

/// A seal that is being made, or made anew to be compared.
#[derive(Debug, Clone)]
pub struct Seal {
    digest: Sha256,
    events: u64,
    records: u64,
}

impl Seal {
    /// Of a run, by its kind and id.
    #[must_use]
    pub fn new(kind: &str, id: &str) -> Self {
        let digest = Sha256::new().chain_update(format!("{CONTEXT}\n{kind}/{id}\n"));
        Self {
            digest,
            events: 0,
            records: 0,
        }
    }

    /// The next event, by its number and chain hash.
    pub fn event(&mut self, number: u64, hash: &Hash) {
        self.digest.update(format!("event {number}\n"));
        self.digest.update(hash);
        self.events = self.events.saturating_add(1);
    }

    /// The next audit record, by its place and leaf hash.
    pub fn record(&mut self, index: u64, leaf: &Hash) {
        self.digest.update(format!("record {index}\n"));
        self.digest.update(leaf);
        self.records = self.records.saturating_add(1);
    }

    /// What the audit record says that seals the report.
    #[must_use]
    pub fn words(self) -> String {
        let Self {
            digest,
            events,
            records,
        } = self;
        let hash: Hash = digest.finalize().into();
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{events} events and {records} audit records, sha256 {hash}")
    }
}

#[cfg(test)]
mod tests {
    use keywheel_seal::SecretBytes;
    use keywheel_seal::sign::SigningKey;

    use super::*;

    fn seal(events: &[u64], records: &[u64]) -> String {
        let mut seal = Seal::new("revocation", "r");
        events.iter().for_each(|n| seal.event(*n, &[7; 32]));
        records.iter().for_each(|n| seal.record(*n, &[8; 32]));
        seal.words()
    }

    #[test]
    fn a_seal_says_what_is_in_it_and_in_which_order() {
        let whole = seal(&[3, 4], &[1]);
        assert!(whole.starts_with("2 events and 1 audit records, sha256 "));
        assert_eq!(whole, seal(&[3, 4], &[1]));
        for other in [
            seal(&[4, 3], &[1]),
            seal(&[3], &[1]),
            seal(&[3, 4], &[]),
            seal(&[3, 4], &[2]),
            Seal::new("rotation", "r").words(),
        ] {
            assert_ne!(whole, other);
        }
        assert_ne!(
            Seal::new("revocation", "r").words(),
            Seal::new("rotation", "r").words()
        );
    }

    #[test]
    fn an_event_is_proven_by_its_key_its_bytes_and_the_hash_before_it() {
        let key = SigningKey::from_seed_bytes(&SecretBytes::from(vec![1; 32])).unwrap();
        let (previous, bytes) = ([5; 32], b"an event".as_slice());
        let hash = chain_hash(&previous, bytes);
        let signature = key.sign(EVENT_CONTEXT, &hash).to_bytes();
        let public = key.verifying_key();
        assert_eq!(verify_event(&public, &previous, bytes, signature), Ok(hash));
        let other = SigningKey::from_seed_bytes(&SecretBytes::from(vec![2; 32])).unwrap();
        let raw = key.sign_raw(&hash).to_bytes();
        for refused in [
            verify_event(&other.verifying_key(), &previous, bytes, signature),
            verify_event(&public, &[6; 32], bytes, signature),
            verify_event(&public, &previous, b"an Event", signature),
            verify_event(&public, &previous, bytes, raw),
        ] {
            assert_eq!(refused, Err(BadSignature));
        }
    }
}
