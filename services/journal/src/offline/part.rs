//! Checks a part of the audit: records one after the other, and the inclusion proofs of the first and the last.
//!
//! The two proofs have the roots of everything before the first and behind the last, so with the records between them
//! they give the root of the whole tree. Pure. That nothing is behind the part is not shown by it.

use std::collections::BTreeMap;

use keywheel_seal::sign::VerifyingKey;

use super::ExportError;
use crate::checkpoint::Checkpoint;
use crate::merkle::{self, Frontier, Hash};

/// A part of the audit as it leaves the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Number of its first record.
    pub first: u64,
    /// Leaf hashes of its records.
    pub leaves: Vec<Hash>,
    /// Leaf hashes as they are listed; empty where none are. With them a fault names its index.
    pub listed: Vec<Hash>,
    /// Inclusion proof of the first.
    pub first_path: Vec<Hash>,
    /// Inclusion proof of the last.
    pub last_path: Vec<Hash>,
}

/// Checks that all records of a part stand, one after the other, in the tree of a signed checkpoint.
///
/// # Errors
/// With the first fault; without a listed hash that is right, the whole part is named.
pub fn verify_part(
    (origin, key): (&str, &VerifyingKey),
    checkpoint: &str,
    part: &Part,
) -> Result<Checkpoint, ExportError> {
    let signed = Checkpoint::verify(checkpoint, origin, key).map_err(ExportError::Checkpoint)?;
    if part.root(&part.leaves, signed.size) == Some(signed.root) {
        return match part.listed.is_empty() || part.listed == part.leaves {
            true => Ok(signed),
            false => Err(ExportError::Hint {
                index: part.first_difference(),
            }),
        };
    }
    if part.root(&part.listed, signed.size) == Some(signed.root) {
        return Err(ExportError::Record {
            index: part.first_difference(),
            difference: super::Difference::Edited,
        });
    }
    let last = part.leaves.len().saturating_sub(1) as u64;
    Err(ExportError::Range {
        first: part.first,
        last: part.first.saturating_add(last),
    })
}

impl Part {
    /// Root of the whole tree with these leaves in its place; nothing when the proofs do not fit them.
    fn root(&self, leaves: &[Hash], size: u64) -> Option<Hash> {
        let end = self.first.checked_add(leaves.len() as u64)?;
        if leaves.is_empty() || end > size {
            return None;
        }
        let mut known = BTreeMap::new();
        for (index, path) in [(self.first, &self.first_path), (end - 1, &self.last_path)] {
            let ranges = merkle::inclusion_ranges(index, size)?;
            if ranges.len() != path.len() {
                return None;
            }
            let outside =
                |range: &std::ops::Range<u64>| range.end <= self.first || range.start >= end;
            for (range, root) in ranges.into_iter().zip(path) {
                let is_new = outside(&range);
                // What both proofs have has to be the same.
                if is_new
                    && known
                        .insert((range.start, range.end), *root)
                        .is_some_and(|other| other != *root)
                {
                    return None;
                }
            }
        }
        self.subtree((0, size), (leaves, end), &known)
    }

    fn subtree(
        &self,
        (from, to): (u64, u64),
        (leaves, end): (&[Hash], u64),
        known: &BTreeMap<(u64, u64), Hash>,
    ) -> Option<Hash> {
        if to <= self.first || from >= end {
            return known.get(&(from, to)).copied();
        }
        if from >= self.first && to <= end {
            let at = |index: u64| usize::try_from(index - self.first).ok();
            let mut frontier = Frontier::new();
            let own = leaves.get(at(from)?..at(to)?)?;
            own.iter().for_each(|leaf| frontier.push(*leaf));
            return Some(frontier.root());
        }
        let middle = from + merkle::split(to - from);
        let left = self.subtree((from, middle), (leaves, end), known)?;
        let right = self.subtree((middle, to), (leaves, end), known)?;
        Some(merkle::node_hash(&left, &right))
    }

    fn first_difference(&self) -> u64 {
        let pairs = self.leaves.iter().zip(&self.listed);
        let same = pairs.take_while(|(own, listed)| own == listed).count();
        self.first.saturating_add(same as u64)
    }
}

#[cfg(test)]
mod tests {
    use keywheel_seal::SecretBytes;
    use keywheel_seal::sign::SigningKey;

    use super::*;
    use crate::merkle::inclusion_ranges;

    fn key() -> SigningKey {
        SigningKey::from_seed_bytes(&SecretBytes::from(vec![3; 32])).unwrap()
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count)
            .map(|n| merkle::leaf_hash(&n.to_be_bytes()))
            .collect()
    }

    fn root(leaves: &[Hash]) -> Hash {
        let mut frontier = Frontier::new();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        frontier.root()
    }

    fn at(index: u64) -> usize {
        usize::try_from(index).unwrap()
    }

    fn path(index: u64, all: &[Hash]) -> Vec<Hash> {
        let ranges = inclusion_ranges(index, all.len() as u64).unwrap();
        let ranges = ranges.into_iter();
        ranges
            .map(|range| root(&all[at(range.start)..at(range.end)]))
            .collect()
    }

    fn part(first: u64, end: u64, all: &[Hash]) -> Part {
        let leaves = all[at(first)..at(end)].to_vec();
        Part {
            first,
            listed: leaves.clone(),
            leaves,
            first_path: path(first, all),
            last_path: path(end - 1, all),
        }
    }

    fn verified(part: &Part, all: &[Hash]) -> Result<u64, ExportError> {
        let signed = Checkpoint {
            origin: "log".to_owned(),
            size: all.len() as u64,
            root: root(all),
        };
        let note = signed.sign(&key());
        let public = key().verifying_key();
        verify_part(("log", &public), &note, part).map(|signed| signed.size)
    }

    #[test]
    fn every_part_of_every_small_tree_is_proven() {
        for size in 1..=20 {
            let all = leaves(size);
            for first in 0..size {
                for end in first + 1..=size {
                    let part = part(first, end, &all);
                    assert_eq!(verified(&part, &all), Ok(size), "{first}..{end} of {size}");
                    let mut unlisted = part;
                    unlisted.listed.clear();
                    assert_eq!(verified(&unlisted, &all), Ok(size));
                }
            }
        }
    }

    #[test]
    fn whatever_is_changed_in_a_part_is_found() {
        let all = leaves(20);
        let changes: [fn(&mut Part); 9] = [
            |part| part.leaves[2] = [0; 32],
            |part| part.leaves.truncate(5),
            |part| part.leaves[1..].rotate_left(1),
            |part| part.leaves.push([0; 32]),
            |part| part.leaves.swap(0, 1),
            |part| part.first += 1,
            |part| part.first_path[0] = [0; 32],
            |part| part.last_path.truncate(1),
            |part| part.leaves.clear(),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            for is_listed in [true, false] {
                let mut part = part(5, 11, &all);
                if !is_listed {
                    part.listed.clear();
                }
                change(&mut part);
                assert!(verified(&part, &all).is_err(), "change {n}");
            }
        }
    }

    #[test]
    fn the_first_bad_record_of_a_part_is_named_where_its_hash_is_listed() {
        let all = leaves(20);
        let mut changed = part(5, 11, &all);
        changed.leaves[3] = [0; 32];
        let named = verified(&changed, &all);
        assert!(
            matches!(named, Err(ExportError::Record { index: 8, .. })),
            "{named:?}"
        );
        changed.listed = changed.leaves.clone();
        let range = ExportError::Range { first: 5, last: 10 };
        assert_eq!(verified(&changed, &all), Err(range));
        let mut hint = part(5, 11, &all);
        hint.listed[2] = [0; 32];
        assert_eq!(verified(&hint, &all), Err(ExportError::Hint { index: 7 }));
    }
}
