//! Checks that a log goes on from a checkpoint that somebody kept: by a consistency proof, or by the hashes of its records.
//!
//! Pure. What a success shows: the records that the kept checkpoint was signed over are, byte by byte and in their order,
//! the first of the log now. So a log that was put back, cut or written anew behind that checkpoint is found, however
//! sound it is in itself.

use keywheel_seal::sign::VerifyingKey;

use crate::checkpoint::{Checkpoint, NoteError};
use crate::merkle::{self, Frontier, Hash};

/// Why a log does not go on from a checkpoint of before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContinuationError {
    /// The one that was kept.
    #[error("the checkpoint that was kept is not one of this log")]
    Kept(#[source] NoteError),
    /// The one of now.
    #[error("the checkpoint of the log is not valid")]
    Now(#[source] NoteError),
    /// Fewer records than there were.
    #[error(
        "there were {kept} audit records when the checkpoint that was kept was signed, and there are {now}: the log was cut or put back"
    )]
    Cut {
        /// Records then.
        kept: u64,
        /// Records now.
        now: u64,
    },
    /// Other records than there were.
    #[error(
        "the log does not begin with the {kept} audit records that the checkpoint that was kept was signed over: it was written anew behind it"
    )]
    Rewritten {
        /// Records then.
        kept: u64,
    },
}

/// Checks a consistency proof between the checkpoint that was kept and the one of now; gives both, the kept one first.
///
/// # Errors
/// With what does not fit.
pub fn verify_proof(
    (origin, key): (&str, &VerifyingKey),
    (kept, now): (&str, &str),
    path: &[Hash],
) -> Result<(Checkpoint, Checkpoint), ContinuationError> {
    let kept = Checkpoint::verify(kept, origin, key).map_err(ContinuationError::Kept)?;
    let now = Checkpoint::verify(now, origin, key).map_err(ContinuationError::Now)?;
    refuse_cut(&kept, now.size)?;
    match merkle::verify_consistency((kept.size, &kept.root), (now.size, &now.root), path) {
        true => Ok((kept, now)),
        false => Err(ContinuationError::Rewritten { kept: kept.size }),
    }
}

/// Checks the leaf hashes of all records, which are known to be the log's, against the checkpoint that was kept.
///
/// # Errors
/// With what does not fit.
pub fn verify_leaves(
    (origin, key): (&str, &VerifyingKey),
    kept: &str,
    leaves: &[Hash],
) -> Result<Checkpoint, ContinuationError> {
    let kept = Checkpoint::verify(kept, origin, key).map_err(ContinuationError::Kept)?;
    refuse_cut(&kept, leaves.len() as u64)?;
    let first = usize::try_from(kept.size).unwrap_or(usize::MAX);
    let mut tree = Frontier::new();
    leaves.iter().take(first).for_each(|leaf| tree.push(*leaf));
    match tree.root() == kept.root {
        true => Ok(kept),
        false => Err(ContinuationError::Rewritten { kept: kept.size }),
    }
}

fn refuse_cut(kept: &Checkpoint, now: u64) -> Result<(), ContinuationError> {
    match kept.size > now {
        true => Err(ContinuationError::Cut {
            kept: kept.size,
            now,
        }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use keywheel_seal::SecretBytes;
    use keywheel_seal::sign::SigningKey;

    use super::*;

    const ORIGIN: &str = "keywheel.test/a";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed_bytes(&SecretBytes::from(vec![seed; 32])).unwrap()
    }

    fn leaves(count: usize) -> Vec<Hash> {
        let record = |n: usize| merkle::leaf_hash(n.to_string().as_bytes());
        (0..count).map(record).collect()
    }

    fn root(leaves: &[Hash]) -> Hash {
        let mut tree = Frontier::new();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree.root()
    }

    fn signed(leaves: &[Hash], origin: &str, key: &SigningKey) -> String {
        Checkpoint {
            origin: origin.to_owned(),
            size: leaves.len() as u64,
            root: root(leaves),
        }
        .sign(key)
    }

    /// What a server answers that has these.
    fn proof(leaves: &[Hash], old: usize) -> Vec<Hash> {
        let ranges = merkle::consistency_ranges(old as u64, leaves.len() as u64).unwrap();
        let at = |number: u64| usize::try_from(number).unwrap();
        let of = |range: Range<u64>| root(&leaves[at(range.start)..at(range.end)]);
        ranges.into_iter().map(of).collect()
    }

    #[test]
    fn a_log_goes_on_from_every_checkpoint_it_ever_had() {
        let key = key(1);
        let public = key.verifying_key();
        let now = leaves(9);
        let head = signed(&now, ORIGIN, &key);
        for old in 0..=9 {
            let kept = signed(&now[..old], ORIGIN, &key);
            let found = verify_proof((ORIGIN, &public), (&kept, &head), &proof(&now, old)).unwrap();
            assert_eq!((found.0.size, found.1.size), (old as u64, 9));
            let found = verify_leaves((ORIGIN, &public), &kept, &now).unwrap();
            assert_eq!(found.size, old as u64);
        }
    }

    #[test]
    fn a_log_that_was_written_anew_behind_a_kept_checkpoint_is_found() {
        let key = key(1);
        let public = key.verifying_key();
        let before = leaves(6);
        let kept = signed(&before, ORIGIN, &key);
        for changed in 0..6 {
            let mut anew = leaves(9);
            anew[changed] = merkle::leaf_hash(b"another");
            let head = signed(&anew, ORIGIN, &key);
            // Of its own tree, and of the one that was: neither leads from the one to the other.
            for path in [proof(&anew, 6), proof(&leaves(9), 6), Vec::new()] {
                let found = verify_proof((ORIGIN, &public), (&kept, &head), &path);
                assert_eq!(found, Err(ContinuationError::Rewritten { kept: 6 }));
            }
            let found = verify_leaves((ORIGIN, &public), &kept, &anew);
            assert_eq!(found, Err(ContinuationError::Rewritten { kept: 6 }));
            // As long as it was, with another record in it.
            let same = signed(&anew[..6], ORIGIN, &key);
            let found = verify_proof((ORIGIN, &public), (&kept, &same), &[]);
            assert_eq!(found, Err(ContinuationError::Rewritten { kept: 6 }));
        }
    }

    #[test]
    fn a_log_that_was_cut_is_told_from_one_that_was_written_anew() {
        let key = key(1);
        let public = key.verifying_key();
        let (kept, now) = (leaves(6), leaves(4));
        let (kept, head) = (signed(&kept, ORIGIN, &key), signed(&now, ORIGIN, &key));
        let cut = ContinuationError::Cut { kept: 6, now: 4 };
        let found = verify_proof((ORIGIN, &public), (&kept, &head), &[]);
        assert_eq!(found, Err(cut.clone()));
        let found = verify_leaves((ORIGIN, &public), &kept, &now);
        assert_eq!(found, Err(cut));
    }

    #[test]
    fn a_kept_checkpoint_of_another_log_or_key_and_one_that_was_changed_are_refused() {
        let key = key(1);
        let public = key.verifying_key();
        let now = leaves(5);
        let head = signed(&now, ORIGIN, &key);
        let own = signed(&now[..3], ORIGIN, &key);
        for kept in [
            signed(&now[..3], "keywheel.test/b", &key),
            signed(&now[..3], ORIGIN, &self::key(2)),
            own.replace("\n3\n", "\n2\n"),
            String::new(),
        ] {
            let path = proof(&now, 3);
            let found = verify_proof((ORIGIN, &public), (&kept, &head), &path);
            assert!(matches!(found, Err(ContinuationError::Kept(_))), "{kept}");
            let found = verify_leaves((ORIGIN, &public), &kept, &now);
            assert!(matches!(found, Err(ContinuationError::Kept(_))), "{kept}");
        }
        let forged = signed(&now, ORIGIN, &self::key(2));
        let found = verify_proof((ORIGIN, &public), (&own, &forged), &proof(&now, 3));
        assert!(matches!(found, Err(ContinuationError::Now(_))), "{found:?}");
    }
}
