//! The Merkle tree over audit records: RFC 9162 §2.1 hashing, proofs and their checks.
//!
//! Owns the frontier (the roots of the complete subtrees, so that an append costs O(log n) and no
//! read) and the arithmetic of proofs. Invariant: every root equals the recursive definition of the
//! RFC. Pure: it never reads a database; a proof is given as the ranges whose roots make it up.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash of a leaf, a subtree or a tree.
pub type Hash = [u8; 32];

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// Root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Hash of a leaf: SHA-256 over 0x00 and its bytes.
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(bytes)
        .finalize()
        .into()
}

/// Hash of an inner node: SHA-256 over 0x01 and its children.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The right edge of a tree: one root per complete subtree, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// The tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A stored frontier; `None` when the bytes do not fit the size.
    #[must_use]
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let (nodes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let fits = rest.is_empty() && nodes.len() == size.count_ones() as usize;
        fits.then(|| Self {
            size,
            nodes: nodes.to_vec(),
        })
    }

    /// What [`Frontier::from_bytes`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.nodes.concat()
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            if let Some(left) = self.nodes.pop() {
                hash = node_hash(&left, &hash);
            }
            size >>= 1;
        }
        self.nodes.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// Appends a complete subtree of 2^level leaves by its root; `false`, and nothing happens, when
    /// the tree does not end on a boundary of such subtrees.
    #[must_use]
    pub fn push_subtree(&mut self, level: u32, root: Hash) -> bool {
        let Some(width) = 1_u64
            .checked_shl(level)
            .filter(|w| self.size.is_multiple_of(*w))
        else {
            return false;
        };
        let Some(grown) = self.size.checked_add(width) else {
            return false;
        };
        let mut hash = root;
        let mut count = self.size >> level;
        while count & 1 == 1 {
            if let Some(left) = self.nodes.pop() {
                hash = node_hash(&left, &hash);
            }
            count >>= 1;
        }
        self.nodes.push(hash);
        self.size = grown;
        true
    }

    /// The leaves behind the last boundary of subtrees of 2^level leaves, as a tree of their own.
    #[must_use]
    pub fn beyond(&self, level: u32) -> Self {
        let mask = 1_u64.checked_shl(level).unwrap_or(0).wrapping_sub(1);
        let size = self.size & mask;
        let from = self.nodes.len().saturating_sub(size.count_ones() as usize);
        Self {
            size,
            nodes: self.nodes.get(from..).unwrap_or_default().to_vec(),
        }
    }

    /// Root of the whole tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else {
            return empty_root();
        };
        nodes.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The largest power of two below `n`, for `n` ≥ 2.
pub(crate) fn split(n: u64) -> u64 {
    1 << (u64::BITS - 1 - n.saturating_sub(1).leading_zeros())
}

/// The ranges of leaves whose subtree roots, in this order, prove that leaf `index` is in the tree
/// of `size`; `None` when it is not.
#[must_use]
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let mut ranges = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    ranges.reverse();
    Some(ranges)
}

/// The ranges of leaves whose subtree roots, in this order, prove that the tree of `old` leaves is
/// the beginning of the tree of `new`; `None` when `old` is larger.
#[must_use]
pub fn consistency_ranges(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    if old > new {
        return None;
    }
    let mut ranges = Vec::new();
    if old == 0 {
        return Some(ranges);
    }
    let (mut start, mut end) = (0, new);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    if start != 0 {
        ranges.push(start..end);
    }
    ranges.reverse();
    Some(ranges)
}

/// Checks an inclusion proof (RFC 9162 §2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node != 0 && node & 1 == 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Checks a consistency proof (RFC 9162 §2.1.4.2). The empty tree is the beginning of every tree.
#[must_use]
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 {
        return path.is_empty() && *old_root == empty_root();
    }
    if old_size == new_size {
        return path.is_empty() && old_root == new_root;
    }
    if old_size > new_size {
        return false;
    }
    let mut path = path.iter();
    let seed = if old_size.is_power_of_two() {
        Some(old_root)
    } else {
        path.next()
    };
    let Some(seed) = seed else { return false };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*seed, *seed);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node != 0 && node & 1 == 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests;
