//! Known answers of the certificate transparency tree, and the recursive definition as an oracle.

use proptest::prelude::*;

use super::*;

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// MTH of RFC 9162 §2.1.1, word by word.
fn oracle(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let mut k = 1;
            while k * 2 < leaves.len() {
                k *= 2;
            }
            node_hash(&oracle(&leaves[..k]), &oracle(&leaves[k..]))
        }
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

fn frontier(leaves: &[Hash]) -> Frontier {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier
}

fn roots_of(ranges: &[Range<u64>], leaves: &[Hash]) -> Vec<Hash> {
    let at = |n: u64| usize::try_from(n).unwrap();
    ranges
        .iter()
        .map(|range| oracle(&leaves[at(range.start)..at(range.end)]))
        .collect()
}

#[test]
fn roots_match_the_certificate_transparency_vectors() {
    let inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root().to_vec(), from_hex(roots[0]));
    for (input, root) in inputs.iter().zip(&roots[1..]) {
        frontier.push(leaf_hash(&from_hex(input)));
        assert_eq!(
            frontier.root().to_vec(),
            from_hex(root),
            "{} leaves",
            frontier.size()
        );
    }
}

#[test]
fn every_leaf_of_every_small_tree_has_a_proof_and_no_other_leaf_fits_it() {
    for size in 1..=33_u64 {
        let leaves = leaves(size);
        let root = oracle(&leaves);
        for index in 0..size {
            let path = roots_of(&inclusion_ranges(index, size).unwrap(), &leaves);
            let leaf = leaves[usize::try_from(index).unwrap()];
            assert!(
                verify_inclusion(&leaf, index, size, &path, &root),
                "{index} of {size}"
            );
            assert!(!verify_inclusion(
                &leaf_hash(b"other"),
                index,
                size,
                &path,
                &root
            ));
            assert!(!verify_inclusion(&leaf, (index + 1) % size, size, &path, &root) || size == 1);
            let mut longer = path.clone();
            longer.push(root);
            assert!(!verify_inclusion(&leaf, index, size, &longer, &root));
        }
        assert_eq!(inclusion_ranges(size, size), None);
        assert!(!verify_inclusion(&root, size, size, &[], &root));
    }
}

#[test]
fn every_small_tree_is_shown_to_grow_from_every_smaller_one() {
    let all = leaves(33);
    for new in 0..=33_u64 {
        let new_root = oracle(&all[..usize::try_from(new).unwrap()]);
        for old in 0..=new {
            let old_root = oracle(&all[..usize::try_from(old).unwrap()]);
            let path = roots_of(&consistency_ranges(old, new).unwrap(), &all);
            assert!(
                verify_consistency((old, &old_root), (new, &new_root), &path),
                "{old} to {new}"
            );
            let wrong = leaf_hash(b"wrong");
            assert!(!verify_consistency((old, &wrong), (new, &new_root), &path));
            if old > 0 {
                assert!(!verify_consistency((old, &old_root), (new, &wrong), &path));
            }
        }
        assert_eq!(consistency_ranges(new + 1, new), None);
    }
}

proptest! {
    #[test]
    fn a_frontier_gives_the_recursive_root(count in 0..600_u64) {
        let leaves = leaves(count);
        let frontier = frontier(&leaves);
        prop_assert_eq!(frontier.root(), oracle(&leaves));
        let again = Frontier::from_bytes(count, &frontier.to_bytes());
        prop_assert_eq!(again, Some(frontier));
    }

    #[test]
    fn subtrees_may_be_pushed_whole(count in 0..600_u64, level in 0..6_u32) {
        let leaves = leaves(count);
        let width = 1_usize << level;
        let mut frontier = Frontier::new();
        let mut chunks = leaves.chunks_exact(width);
        for chunk in chunks.by_ref() {
            prop_assert!(frontier.push_subtree(level, oracle(chunk)));
        }
        chunks.remainder().iter().for_each(|leaf| frontier.push(*leaf));
        prop_assert_eq!(frontier.size(), count);
        prop_assert_eq!(frontier.root(), oracle(&leaves));
    }

    #[test]
    fn proofs_of_large_trees_hold(size in 1..2000_u64, pick in any::<prop::sample::Index>()) {
        let leaves = leaves(size);
        let index = pick.index(leaves.len()) as u64;
        let root = oracle(&leaves);
        let path = roots_of(&inclusion_ranges(index, size).unwrap(), &leaves);
        prop_assert!(verify_inclusion(&leaves[pick.index(leaves.len())], index, size, &path, &root));
        let old = index + 1;
        let old_root = oracle(&leaves[..pick.index(leaves.len()) + 1]);
        let path = roots_of(&consistency_ranges(old, size).unwrap(), &leaves);
        prop_assert!(verify_consistency((old, &old_root), (size, &root), &path));
    }

    #[test]
    fn a_changed_proof_does_not_hold(size in 2..300_u64, pick in any::<prop::sample::Index>(), bit in 0..256_usize) {
        let leaves = leaves(size);
        let at = pick.index(leaves.len());
        let root = oracle(&leaves);
        let mut path = roots_of(&inclusion_ranges(at as u64, size).unwrap(), &leaves);
        let victim = pick.index(path.len());
        path[victim][bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify_inclusion(&leaves[at], at as u64, size, &path, &root));
    }
}

#[test]
fn a_frontier_that_does_not_fit_its_size_is_refused() {
    let bytes = frontier(&leaves(5)).to_bytes();
    assert!(Frontier::from_bytes(5, &bytes).is_some());
    assert_eq!(Frontier::from_bytes(4, &bytes), None);
    assert_eq!(Frontier::from_bytes(5, &bytes[1..]), None);
    assert!(!frontier(&leaves(3)).push_subtree(1, empty_root()));
    assert!(!frontier(&leaves(0)).push_subtree(64, empty_root()));
}
