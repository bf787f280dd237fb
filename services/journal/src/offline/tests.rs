//! Exports: a good one, and every way to falsify one.

use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;

use super::*;
use crate::merkle::inclusion_ranges;

fn key() -> SigningKey {
    SigningKey::from_seed_bytes(&SecretBytes::from(vec![3; 32])).unwrap()
}

fn frontier(leaves: &[Vec<u8>]) -> Frontier {
    let mut frontier = Frontier::new();
    leaves
        .iter()
        .for_each(|leaf| frontier.push(merkle::leaf_hash(leaf)));
    frontier
}

fn sign(leaves: &[Vec<u8>]) -> String {
    let frontier = frontier(leaves);
    Checkpoint {
        origin: "log".to_owned(),
        size: frontier.size(),
        root: frontier.root(),
    }
    .sign(&key())
}

fn proof(index: u64, leaves: &[Vec<u8>]) -> ExportedProof {
    let at = |n: u64| usize::try_from(n).unwrap();
    let ranges = inclusion_ranges(index, leaves.len() as u64).unwrap();
    let path = ranges
        .iter()
        .map(|range| frontier(&leaves[at(range.start)..at(range.end)]).root());
    ExportedProof {
        index,
        path: path.collect(),
    }
}

fn export(count: u64) -> Export {
    let leaves: Vec<Vec<u8>> = (0..count)
        .map(|n| format!("{{\"n\":{n}}}").into_bytes())
        .collect();
    let mut export = Export::new(
        "log".to_owned(),
        key().verifying_key().to_bytes(),
        sign(&leaves),
        leaves.clone(),
    );
    export.history = (1..=count / 10)
        .map(|n| sign(&leaves[..usize::try_from(n * 10).unwrap()]))
        .collect();
    export.proofs = (0..count.min(3)).map(|n| proof(n, &leaves)).collect();
    export
}

fn fault(change: impl Fn(&mut Export)) -> ExportError {
    let mut export = export(35);
    change(&mut export);
    verify_export(&export).unwrap_err()
}

fn record(index: u64, difference: Difference) -> ExportError {
    ExportError::Record { index, difference }
}

#[test]
fn no_export_makes_its_reader_panic_and_none_that_was_changed_is_another_audit() {
    let whole = export(35);
    let root = verify_export(&whole).unwrap().root;
    keywheel_testkit::hostile(&whole.to_json().unwrap(), |bytes| {
        let Ok(read) = Export::from_json(bytes) else {
            return;
        };
        if let Ok(report) = verify_export(&read) {
            // What is not covered by the signature may differ; the records may not.
            assert_eq!((report.records, report.root), (35, root));
        }
    });
}

#[test]
fn a_whole_export_is_right_also_as_a_file() {
    for count in [0, 1, 2, 35] {
        let export = export(count);
        let report = verify_export(&export).unwrap();
        assert_eq!((report.records, report.origin.as_str()), (count, "log"));
        assert_eq!(report.checkpoints as u64, 1 + count / 10);
        assert_eq!(report.proofs as u64, count.min(3));
        assert_eq!(report.root, frontier(&export.leaves).root());
        assert_eq!(Export::from_json(&export.to_json().unwrap()), Ok(export));
    }
}

#[test]
fn with_the_hash_list_the_first_bad_index_is_named() {
    assert_eq!(
        fault(|e| e.leaves[17][0] ^= 1),
        record(17, Difference::Edited)
    );
    assert_eq!(
        fault(|e| drop(e.leaves.remove(17))),
        record(17, Difference::Removed)
    );
    assert_eq!(
        fault(|e| drop(e.leaves.pop())),
        record(34, Difference::Removed)
    );
    assert_eq!(fault(|e| e.leaves.clear()), record(0, Difference::Removed));
    assert_eq!(
        fault(|e| e.leaves.swap(4, 20)),
        record(4, Difference::Moved)
    );
    assert_eq!(
        fault(|e| e.leaves.push(b"{}".to_vec())),
        record(35, Difference::Added)
    );
    assert_eq!(
        fault(|e| e.leaves.insert(3, b"{}".to_vec())),
        record(3, Difference::Edited)
    );
}

#[test]
fn without_a_signed_hash_list_the_checkpoints_bound_the_place() {
    let strip = |e: &mut Export| e.leaf_hashes.clear();
    let range = |first, last| ExportError::Range { first, last };
    assert_eq!(
        fault(|e| {
            strip(e);
            e.leaves[17][0] ^= 1
        }),
        range(10, 19)
    );
    assert_eq!(
        fault(|e| {
            strip(e);
            e.leaves[34][0] ^= 1
        }),
        range(30, 34)
    );
    assert_eq!(
        fault(|e| {
            strip(e);
            e.history.clear();
            e.leaves.swap(1, 2)
        }),
        range(0, 34)
    );
    assert_eq!(
        fault(|e| {
            strip(e);
            drop(e.leaves.pop())
        }),
        record(34, Difference::Removed)
    );
    // Bytes and hash edited alike: the list is not the signed one any more.
    assert_eq!(
        fault(|e| {
            e.leaves[12][0] ^= 1;
            e.leaf_hashes[12] = merkle::leaf_hash(&e.leaves[12]);
        }),
        range(10, 19)
    );
}

#[test]
fn a_listed_hash_that_contradicts_a_right_record_is_refused() {
    let hint = |index| ExportError::Hint { index };
    assert_eq!(fault(|e| e.leaf_hashes[12][0] ^= 1), hint(12));
    assert_eq!(fault(|e| e.leaf_hashes.swap(4, 20)), hint(4));
    assert_eq!(fault(|e| e.leaf_hashes.truncate(34)), hint(34));
    assert_eq!(fault(|e| e.leaf_hashes.push([0; 32])), hint(35));
    let text = hint(12).to_string();
    assert!(text.contains("audit record 12") && text.contains("export the audit again"));
    let mut without = export(35);
    without.leaf_hashes.clear();
    assert_eq!(verify_export(&without).unwrap().records, 35);
}

#[test]
fn checkpoints_keys_and_proofs_are_checked() {
    assert!(matches!(
        fault(|e| e.checkpoint = e.checkpoint.replace("\n35\n", "\n34\n")),
        ExportError::Checkpoint(_)
    ));
    assert!(matches!(
        fault(|e| e.origin = "other".to_owned()),
        ExportError::Checkpoint(NoteError::Origin { .. })
    ));
    assert!(matches!(
        fault(|e| e.public_key = [0; 32]),
        ExportError::Key(_)
    ));
    let other = SigningKey::from_seed_bytes(&SecretBytes::from(vec![4; 32]))
        .unwrap()
        .verifying_key()
        .to_bytes();
    assert!(matches!(
        fault(|e| e.public_key = other),
        ExportError::Checkpoint(NoteError::Unsigned(_))
    ));
    assert!(matches!(
        fault(|e| e.history[1] = String::new()),
        ExportError::History { place: 2, .. }
    ));
    assert_eq!(
        fault(|e| e.proofs[1].path[0][0] ^= 1),
        ExportError::Proof { index: 1 }
    );
    assert_eq!(
        fault(|e| e.proofs[1].index = 99),
        ExportError::Proof { index: 99 }
    );
    // A larger tree that does not grow from the signed one.
    let forked: Vec<Vec<u8>> = (0..40).map(|n| vec![n]).collect();
    assert!(matches!(
        fault(|e| e.history.push(sign(&forked))),
        ExportError::Record { index: 35, .. }
    ));
}

#[test]
fn one_record_can_be_shown_alone() {
    let export = export(35);
    let public = key().verifying_key();
    let proof = proof(20, &export.leaves);
    let signed = verify_record(
        ("log", &public),
        &export.checkpoint,
        &export.leaves[20],
        &proof,
    )
    .unwrap();
    assert_eq!(signed.size, 35);
    let wrong = verify_record(
        ("log", &public),
        &export.checkpoint,
        &export.leaves[21],
        &proof,
    );
    assert_eq!(wrong, Err(ExportError::Proof { index: 20 }));
}

#[test]
fn what_is_not_an_export_is_refused() {
    let good = String::from_utf8(export(1).to_json().unwrap()).unwrap();
    for bad in [
        String::new(),
        "{}".to_owned(),
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replace("\"origin\"", "\"name\""),
        good.replace("\"public_key\": \"", "\"public_key\": \"!"),
    ] {
        assert!(
            matches!(Export::from_json(bad.as_bytes()), Err(ExportError::Form(_))),
            "{bad}"
        );
    }
    let mut binary = export(1);
    binary.leaves[0] = vec![0xff];
    assert!(binary.to_json().is_err());
}

#[test]
fn an_export_over_the_limit_is_refused_unread() {
    // Pages of zeros that nobody touches take no memory.
    let long = vec![0; MAX_EXPORT_BYTES + 1];
    let refused = Export::from_json(&long).unwrap_err();
    assert!(
        refused.to_string().contains("1073741824 bytes"),
        "{refused}"
    );
    let short = Export::from_json(b"{}").unwrap_err();
    assert!(!short.to_string().contains("bytes"), "{short}");
}
