//! Checks an exported audit log without a database, a daemon or a network.
//!
//! Owns the export's form and its check. Invariants: pure; a fault names the first bad index where
//! the hash list allows it, else the smallest range the signed checkpoints allow. Whose key it is,
//! the caller compares with what he got elsewhere: a key inside an export proves nothing by itself.

pub mod continuation;
mod json;
pub mod part;
pub mod sink;

use keywheel_seal::sign::{BadKey, VerifyingKey};

use crate::checkpoint::{Checkpoint, NoteError, verifier_key};
use crate::merkle::{self, Frontier, Hash};
use crate::retention;

/// Longest export that is read, in bytes.
pub const MAX_EXPORT_BYTES: usize = 1 << 30;

/// An audit log as it leaves the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Name of the log.
    pub origin: String,
    /// Public key of the journal that signs for it.
    pub public_key: [u8; 32],
    /// The signed checkpoint over all leaves.
    pub checkpoint: String,
    /// The records, oldest first.
    pub leaves: Vec<Vec<u8>>,
    /// Leaf hash of every record; may be empty. With it a fault names its index.
    pub leaf_hashes: Vec<Hash>,
    /// Earlier signed checkpoints, any, in order of size; may be empty.
    pub history: Vec<String>,
    /// Inclusion proofs to be checked as well; may be empty.
    pub proofs: Vec<ExportedProof>,
    /// Leaf hashes of the records before the first, where these were removed by their age.
    pub removed: Vec<Hash>,
}

/// Proof that one record is in the tree of the export's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedProof {
    /// The record.
    pub index: u64,
    /// The path to the root.
    pub path: Vec<Hash>,
}

/// What was found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportReport {
    /// Name of the log.
    pub origin: String,
    /// Records checked.
    pub records: u64,
    /// Root over them, as signed.
    pub root: Hash,
    /// The key that signed, as `name+id+base64`; to be compared with a trusted copy.
    pub verifier_key: String,
    /// Checkpoints checked, the newest among them.
    pub checkpoints: usize,
    /// Inclusion proofs checked.
    pub proofs: usize,
    /// Records that are gone; of these the hashes were checked. They count among the others.
    pub removed: u64,
}

/// How a record differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Its bytes are not those that were logged.
    Edited,
    /// It was taken out.
    Removed,
    /// It stands at another place.
    Moved,
    /// It was put in.
    Added,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Edited => "was edited",
            Self::Removed => "was removed",
            Self::Moved => "stands at another place than when it was logged",
            Self::Added => "was added after the checkpoint was signed",
        })
    }
}

/// What is wrong with an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Not the form of an export.
    #[error("the file is not an audit export: {0}")]
    Form(String),
    /// The key is none.
    #[error("the public key of the export is not an Ed25519 key")]
    Key(#[source] BadKey),
    /// The newest checkpoint.
    #[error("the checkpoint of the export is not valid")]
    Checkpoint(#[source] NoteError),
    /// An earlier checkpoint.
    #[error("earlier checkpoint number {place} is not valid")]
    History {
        /// Its place in the list; the first is 1.
        place: usize,
        /// Why.
        #[source]
        source: NoteError,
    },
    /// One record.
    #[error("audit record {index} {difference}")]
    Record {
        /// The first bad index.
        index: u64,
        /// How it differs.
        difference: Difference,
    },
    /// Somewhere in a range.
    #[error("audit records {first} to {last} do not give the root that was signed for them")]
    Range {
        /// The first that may be bad.
        first: u64,
        /// The last that may be bad.
        last: u64,
    },
    /// A leaf hash that contradicts its record, though the record is the one that was logged.
    #[error(
        "the leaf hash listed for audit record {index} is not that of the record; export the audit again"
    )]
    Hint {
        /// The first index whose hash is wrong, missing or of no record.
        index: u64,
    },
    /// An inclusion proof.
    #[error("the inclusion proof of audit record {index} does not lead to the signed root")]
    Proof {
        /// The record.
        index: u64,
    },
    /// Records that are gone without a word.
    #[error(
        "audit records {first} to {last} are gone, and no record of the audit says that they leave"
    )]
    Unrecorded {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
}

impl Export {
    /// An export of a whole tree, with its leaf hashes.
    #[must_use]
    pub fn new(
        origin: String,
        public_key: [u8; 32],
        checkpoint: String,
        leaves: Vec<Vec<u8>>,
    ) -> Self {
        let leaf_hashes = leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
        let (history, proofs) = (Vec::new(), Vec::new());
        Self {
            origin,
            public_key,
            checkpoint,
            leaves,
            leaf_hashes,
            history,
            proofs,
            removed: Vec::new(),
        }
    }

    /// Leaf hashes of all records, those that are gone first.
    fn hashes(&self) -> Vec<Hash> {
        let own = self.leaves.iter().map(|leaf| merkle::leaf_hash(leaf));
        self.removed.iter().copied().chain(own).collect()
    }

    /// The listed hashes, with those of records that are gone before them; none where none are listed.
    fn listed(&self) -> Vec<Hash> {
        match self.leaf_hashes.is_empty() {
            true => Vec::new(),
            false => [self.removed.as_slice(), &self.leaf_hashes].concat(),
        }
    }
}

/// Checks an export: the note's signature, every record, the root, earlier checkpoints, the listed
/// leaf hashes, proofs, and that the audit says so where records are gone.
///
/// # Errors
/// With the first fault.
pub fn verify_export(export: &Export) -> Result<ExportReport, ExportError> {
    let key = VerifyingKey::from_bytes(export.public_key).map_err(ExportError::Key)?;
    let signed = Checkpoint::verify(&export.checkpoint, &export.origin, &key)
        .map_err(ExportError::Checkpoint)?;
    let history = read_history(export, &key)?;
    let (hashes, listed) = (export.hashes(), export.listed());
    if is_signed(&listed, &signed) {
        compare(&hashes, &listed)?;
    }
    check_roots(&hashes, &history, &signed)?;
    check_hints(&hashes, &listed)?;
    check_proofs(export, &hashes, &signed)?;
    check_removed(export)?;
    Ok(ExportReport {
        origin: signed.origin,
        records: signed.size,
        root: signed.root,
        verifier_key: verifier_key(&export.origin, &key),
        checkpoints: history.len() + 1,
        proofs: export.proofs.len(),
        removed: export.removed.len() as u64,
    })
}

/// Checks that one record is in the tree of a signed checkpoint.
///
/// # Errors
/// When the checkpoint is not the key's, or the path does not lead to its root.
pub fn verify_record(
    (origin, key): (&str, &VerifyingKey),
    checkpoint: &str,
    record: &[u8],
    proof: &ExportedProof,
) -> Result<Checkpoint, ExportError> {
    let signed = Checkpoint::verify(checkpoint, origin, key).map_err(ExportError::Checkpoint)?;
    let leaf = merkle::leaf_hash(record);
    if merkle::verify_inclusion(&leaf, proof.index, signed.size, &proof.path, &signed.root) {
        Ok(signed)
    } else {
        Err(ExportError::Proof { index: proof.index })
    }
}

fn read_history(export: &Export, key: &VerifyingKey) -> Result<Vec<Checkpoint>, ExportError> {
    let read = |(place, note): (usize, &String)| {
        Checkpoint::verify(note, &export.origin, key)
            .map_err(|source| ExportError::History { place, source })
    };
    let mut history = (1..)
        .zip(&export.history)
        .map(read)
        .collect::<Result<Vec<_>, _>>()?;
    history.sort_by_key(|checkpoint| checkpoint.size);
    Ok(history)
}

/// Whether the list of hashes is the one that was signed; only then it can name a bad index.
fn is_signed(list: &[Hash], signed: &Checkpoint) -> bool {
    let mut frontier = Frontier::new();
    list.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.size() == signed.size && frontier.root() == signed.root
}

/// Names the first record that is not what the signed list says.
fn compare(found: &[Hash], wanted: &[Hash]) -> Result<(), ExportError> {
    let same = found
        .iter()
        .zip(wanted)
        .take_while(|(found, wanted)| found == wanted)
        .count();
    let difference = match (found.get(same), wanted.get(same)) {
        (None, None) => return Ok(()),
        (Some(_), None) => Difference::Added,
        (None, Some(_)) => Difference::Removed,
        (Some(here), Some(_)) => {
            let shorter = found.len() < wanted.len();
            let known = wanted.get(same..).is_some_and(|rest| rest.contains(here));
            match (shorter, known) {
                (true, true) => Difference::Removed,
                (false, true) => Difference::Moved,
                (_, false) => Difference::Edited,
            }
        }
    };
    Err(ExportError::Record {
        index: same as u64,
        difference,
    })
}

/// Recomputes the root at the size of every checkpoint.
fn check_roots(
    hashes: &[Hash],
    history: &[Checkpoint],
    signed: &Checkpoint,
) -> Result<(), ExportError> {
    let mut frontier = Frontier::new();
    let mut good = 0;
    let mut leaves = hashes.iter();
    for checkpoint in history.iter().chain([signed]) {
        while frontier.size() < checkpoint.size {
            let Some(leaf) = leaves.next() else {
                return Err(ExportError::Record {
                    index: frontier.size(),
                    difference: Difference::Removed,
                });
            };
            frontier.push(*leaf);
        }
        let is_newer = checkpoint.size < frontier.size();
        if is_newer || frontier.root() != checkpoint.root {
            let last = checkpoint.size.saturating_sub(1).max(good);
            return Err(ExportError::Range { first: good, last });
        }
        good = checkpoint.size;
    }
    match leaves.next() {
        Some(_) => Err(ExportError::Record {
            index: signed.size,
            difference: Difference::Added,
        }),
        None => Ok(()),
    }
}

/// Refuses a hash list that contradicts the records; these fit the signed root already.
fn check_hints(hashes: &[Hash], listed: &[Hash]) -> Result<(), ExportError> {
    if listed.is_empty() || listed == hashes {
        return Ok(());
    }
    let same = hashes
        .iter()
        .zip(listed)
        .take_while(|(hash, listed)| hash == listed)
        .count();
    Err(ExportError::Hint { index: same as u64 })
}

fn check_proofs(export: &Export, hashes: &[Hash], signed: &Checkpoint) -> Result<(), ExportError> {
    for proof in &export.proofs {
        let leaf = usize::try_from(proof.index)
            .ok()
            .and_then(|index| hashes.get(index));
        let holds = leaf.is_some_and(|leaf| {
            merkle::verify_inclusion(leaf, proof.index, signed.size, &proof.path, &signed.root)
        });
        if !holds {
            return Err(ExportError::Proof { index: proof.index });
        }
    }
    Ok(())
}

/// Refuses records that are gone without a record that says so; that record is in the signed tree by now.
fn check_removed(export: &Export) -> Result<(), ExportError> {
    let removed = export.removed.len() as u64;
    let Some(last) = removed.checked_sub(1) else {
        return Ok(());
    };
    let leaves = export.leaves.iter();
    let first = leaves.fold(0, |before, leaf| retention::let_go(before, leaf));
    match first > last {
        true => Ok(()),
        false => Err(ExportError::Unrecorded { first, last }),
    }
}

#[cfg(test)]
mod tests;
