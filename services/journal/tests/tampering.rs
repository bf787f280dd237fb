//! Ten thousand random edits, truncations, reorderings and rollbacks of an audit: each is found, and the first bad
//! record is named wherever the signed list of hashes or a sink allows it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use keywheel_journal::checkpoint::Checkpoint;
use keywheel_journal::merkle::{self, Frontier, Hash};
use keywheel_journal::offline::sink::{Comparison, SinkFault};
use keywheel_journal::offline::{Export, ExportError, verify_export};
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;

/// How many audits are tampered with.
const ROUNDS: u64 = 10_000;
/// Records of the largest.
const MOST: u64 = 48;
/// Said here, so that every run is the same.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const ORIGIN: &str = "keywheel.dev/audit/tampered";

/// Numbers as good as random (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(most).unwrap()).unwrap()
    }
}

fn record(n: usize) -> Vec<u8> {
    format!("{{\"n\":{n},\"verb\":\"rotate\"}}").into_bytes()
}

fn note(leaves: &[Vec<u8>], key: &SigningKey) -> String {
    let mut tree = Frontier::new();
    leaves
        .iter()
        .for_each(|leaf| tree.push(merkle::leaf_hash(leaf)));
    Checkpoint {
        origin: ORIGIN.to_owned(),
        size: tree.size(),
        root: tree.root(),
    }
    .sign(key)
}

fn export(leaves: Vec<Vec<u8>>, key: &SigningKey) -> Export {
    let public = key.verifying_key().to_bytes();
    let note = note(&leaves, key);
    Export::new(ORIGIN.to_owned(), public, note, leaves)
}

/// What a sink was told of these records.
fn lines(leaves: &[Vec<u8>]) -> Vec<String> {
    let line = |(n, leaf): (usize, &Vec<u8>)| {
        let hash = merkle::leaf_hash(leaf);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let record = String::from_utf8(leaf.clone()).unwrap();
        format!(r#"{{"sequence":{n},"leaf":"{hash}","record":{record}}}"#)
    };
    leaves.iter().enumerate().map(line).collect()
}

fn first_difference(one: &[Vec<u8>], other: &[Vec<u8>]) -> u64 {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    u64::try_from(same).unwrap()
}

/// Changes the records, and nothing else; `false` where that changed nothing.
fn tamper_with_records(leaves: &mut Vec<Vec<u8>>, random: &mut Random) -> bool {
    let before = leaves.clone();
    let at = random.below(leaves.len());
    match random.below(6) {
        0 => {
            let byte = random.below(leaves[at].len());
            leaves[at][byte] ^= 1 << random.below(8);
        }
        1 => drop(leaves.remove(at)),
        2 => leaves.truncate(at),
        3 => {
            let other = random.below(leaves.len());
            leaves.swap(at, other);
        }
        4 => leaves.insert(at, b"{}".to_vec()),
        _ => {
            let cut = leaves.split_off(at);
            leaves.extend(cut.into_iter().rev());
        }
    }
    *leaves != before
}

fn named(error: &ExportError) -> Option<(u64, u64)> {
    match error {
        ExportError::Record { index, .. } => Some((*index, *index)),
        ExportError::Range { first, last } => Some((*first, *last)),
        _ => None,
    }
}

/// One round: which sort it was, for the count of what was tried.
fn round(random: &mut Random, key: &SigningKey, n: u64) -> Option<usize> {
    let size = 1 + random.below(usize::try_from(MOST).unwrap());
    let whole: Vec<Vec<u8>> = (0..size).map(record).collect();
    let mut tampered = export(whole.clone(), key);
    let sort = random.below(3);
    match sort {
        // Records alone: the signed list names the very first.
        0 => {
            if !tamper_with_records(&mut tampered.leaves, random) {
                return None;
            }
            let error = verify_export(&tampered).expect_err(&format!("round {n}"));
            let first = first_difference(&whole, &tampered.leaves);
            assert_eq!(named(&error), Some((first, first)), "round {n}: {error}");
        }
        // Records and their hashes: the root does not fit, and the range has the first in it, or some are missing.
        1 => {
            if !tamper_with_records(&mut tampered.leaves, random) {
                return None;
            }
            let hashes = tampered.leaves.iter();
            tampered.leaf_hashes = hashes.map(|leaf| merkle::leaf_hash(leaf)).collect();
            let error = verify_export(&tampered).expect_err(&format!("round {n}"));
            let first = first_difference(&whole, &tampered.leaves);
            let (from, to) = named(&error).unwrap_or_else(|| panic!("round {n}: {error}"));
            // With too few of them only the end is known to be missing.
            let end = u64::try_from(tampered.leaves.len()).unwrap();
            let is_short = end < u64::try_from(size).unwrap() && from == end;
            let is_named = (from..=to).contains(&first) || is_short;
            assert!(is_named, "round {n}: {first}: {error}");
        }
        // The whole store, signed by its own key: sound in itself, and another one at the sink.
        _ => {
            let kept = random.below(size);
            let mut leaves = whole[..kept].to_vec();
            let grows = random.below(size * 2 - kept);
            leaves.extend((0..grows).map(|n| record(1000 + n)));
            let put_back = export(leaves.clone(), key);
            verify_export(&put_back).unwrap_or_else(|error| panic!("round {n}: {error}"));
            let found: Vec<Hash> = leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
            let mut comparison = Comparison::with(&found);
            let lines = lines(&whole);
            let fault = lines
                .iter()
                .find_map(|line| comparison.line(line.as_bytes()).err());
            let index = u64::try_from(kept).unwrap();
            let wanted = match grows {
                0 => SinkFault::Missing { index },
                _ => SinkFault::Different { index },
            };
            assert_eq!(fault, Some(wanted), "round {n}");
        }
    }
    Some(sort)
}

#[test]
fn ten_thousand_ways_to_tamper_are_all_found_and_the_first_bad_record_is_named() {
    let key = SigningKey::from_seed_bytes(&SecretBytes::from(vec![5; 32])).unwrap();
    let mut random = Random(SEED);
    let mut tried = [0_u64; 3];
    let mut n = 0;
    while tried.iter().sum::<u64>() < ROUNDS {
        if let Some(sort) = round(&mut random, &key, n) {
            tried[sort] += 1;
        }
        n += 1;
    }
    assert!(tried.iter().all(|count| *count > ROUNDS / 5), "{tried:?}");
}

/// The record with which a gateway lets the records before `end` go.
fn letting_go(end: usize) -> Vec<u8> {
    let last = end - 1;
    let words = r#""outcome":"allowed","principal":{"kind":"service","role":"gateway"},"reason":"","time":"2028-01-04T10:00:00.000000Z","trace":"","v":1,"verb":"remove-audit-records"}"#;
    let command = "00000000-0000-4000-8000-0000000000ff";
    format!(r#"{{"category":"system","command":"{command}","object":"audit/0-{last}",{words}"#)
        .into_bytes()
}

/// An export whose first records were removed after it was said that `said` of them leave.
fn without_old(size: usize, (gone, said): (usize, usize), key: &SigningKey) -> Export {
    let mut leaves: Vec<Vec<u8>> = (0..size).map(record).collect();
    leaves.push(letting_go(said));
    let mut export = export(leaves, key);
    export.leaves.drain(..gone);
    export.removed = export.leaf_hashes.drain(..gone).collect();
    export
}

#[test]
fn whatever_is_done_to_what_stands_for_removed_records_is_found() {
    let key = SigningKey::from_seed_bytes(&SecretBytes::from(vec![5; 32])).unwrap();
    let mut random = Random(SEED);
    for n in 0..ROUNDS / 5 {
        let size = 2 + random.below(usize::try_from(MOST).unwrap());
        let gone = 1 + random.below(size - 1);
        let honest = without_old(size, (gone, gone), &key);
        let report = verify_export(&honest).unwrap_or_else(|error| panic!("round {n}: {error}"));
        assert_eq!(report.removed, gone as u64);
        let mut tampered = honest.clone();
        let at = random.below(gone);
        match random.below(6) {
            0 => tampered.removed[at][random.below(32)] ^= 1,
            1 => drop(tampered.removed.remove(at)),
            2 => tampered.removed.insert(at, [7; 32]),
            3 => tampered.removed.swap(at, (at + 1) % gone),
            // A record more is taken than was said, and its right hash stands for it.
            4 => {
                let more = merkle::leaf_hash(&tampered.leaves.remove(0));
                tampered.removed.push(more);
                tampered.leaf_hashes.remove(0);
            }
            _ => {
                tampered.leaves[0][3] ^= 1;
            }
        }
        if tampered == honest {
            continue;
        }
        let error = verify_export(&tampered).expect_err(&format!("round {n}"));
        match error {
            ExportError::Unrecorded { first, last } => {
                assert_eq!((first, last), (gone as u64, gone as u64))
            }
            other => assert!(named(&other).is_some(), "round {n}: {other}"),
        }
    }
}
