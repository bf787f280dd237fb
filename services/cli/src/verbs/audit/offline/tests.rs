//! Every way to tamper with an export is found, and the index is named where there is one.

use std::ops::Range;

use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::id::CommandId;
use keywheel_core::time::Timestamp;
use keywheel_journal::merkle::Frontier;
use keywheel_journal::retention;
use keywheel_schemas::wire::audit_record_to_json;
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;

use super::*;

const ORIGIN: &str = "keywheel.dev/audit/test";

pub(in crate::verbs) fn signed(records: &[String], key: &SigningKey) -> String {
    let mut tree = Frontier::new();
    for record in records {
        tree.push(merkle::leaf_hash(record.as_bytes()));
    }
    Checkpoint {
        origin: ORIGIN.to_owned(),
        size: tree.size(),
        root: tree.root(),
    }
    .sign(key)
}

pub(in crate::verbs) fn export(count: usize) -> (AuditExport, SigningKey) {
    let key = SigningKey::generate(&OsEntropy);
    let records: Vec<String> = (0..count)
        .map(|index| format!("{{\"verb\":\"rotate\",\"n\":{index}}}"))
        .collect();
    let export = AuditExport {
        origin: ORIGIN.to_owned(),
        public_key: STANDARD.encode(key.verifying_key().to_bytes()),
        checkpoint: signed(&records, &key),
        leaf_hashes: records
            .iter()
            .map(|r| hexadecimal(&merkle::leaf_hash(r.as_bytes())))
            .collect(),
        records,
        removed_hashes: Vec::new(),
        part: None,
    };
    (export, key)
}

/// An export of a log whose first records were removed, and whose last says so, or does not.
pub(in crate::verbs) fn without(first: usize, count: usize, is_said: bool) -> AuditExport {
    let key = SigningKey::generate(&OsEntropy);
    let mut records = export(count).0.records;
    if is_said {
        records.push(said(first));
    }
    let hashes: Vec<String> = records
        .iter()
        .map(|record| hexadecimal(&merkle::leaf_hash(record.as_bytes())))
        .collect();
    AuditExport {
        origin: ORIGIN.to_owned(),
        public_key: STANDARD.encode(key.verifying_key().to_bytes()),
        checkpoint: signed(&records, &key),
        records: records[first..].to_vec(),
        leaf_hashes: hashes[first..].to_vec(),
        removed_hashes: hashes[..first].to_vec(),
        part: None,
    }
}

/// The record with which a gateway lets records go.
fn said(end: usize) -> String {
    let record = Record {
        time: Timestamp::from_micros(1),
        category: Category::System,
        principal: Principal::Service(Role::Gateway),
        verb: retention::VERB.to_owned(),
        object: retention::object(&(0..end as u64)).unwrap(),
        version: None,
        outcome: Outcome::Allowed,
        reason: String::new(),
        container: None,
        command: CommandId::from_bytes([1; 16]),
        trace: String::new(),
    };
    String::from_utf8(audit_record_to_json(&record)).unwrap()
}

/// Some of the records of such an export, with their proof.
pub(in crate::verbs::audit) fn part(count: usize, range: Range<usize>) -> AuditExport {
    let (whole, _) = export(count);
    let leaves: Vec<Hash> = whole
        .records
        .iter()
        .map(|record| merkle::leaf_hash(record.as_bytes()))
        .collect();
    let at = |number: u64| usize::try_from(number).unwrap();
    let path = |index: usize| {
        let ranges = merkle::inclusion_ranges(index as u64, count as u64).unwrap();
        let root = |range: Range<u64>| {
            let mut tree = Frontier::new();
            let own = &leaves[at(range.start)..at(range.end)];
            own.iter().for_each(|leaf| tree.push(*leaf));
            hexadecimal(&tree.root())
        };
        ranges.into_iter().map(root).collect()
    };
    let proof = AuditPart {
        first: range.start as u64,
        first_path: path(range.start),
        last_path: path(range.end - 1),
    };
    AuditExport {
        records: whole.records[range.clone()].to_vec(),
        leaf_hashes: whole.leaf_hashes[range].to_vec(),
        part: Some(proof),
        ..whole
    }
}

fn found(export: &AuditExport, key: Option<&str>) -> Finding {
    verify(export, key).unwrap()
}

#[test]
fn a_log_whose_old_records_were_removed_verifies_and_says_which_they_were() {
    let finding = found(&without(4, 9, true), None);
    assert!(finding.verified, "{finding:?}");
    assert_eq!((finding.records, finding.removed), (6, Some(4)));
    assert_eq!(found(&export(3).0, None).removed, None);
    let unsaid = found(&without(4, 9, false), None);
    assert!(!unsaid.verified);
    assert_eq!(unsaid.first_bad_index, Some(0));
    assert!(unsaid.faults[0].contains("are gone"), "{unsaid:?}");
    let changes: [fn(&mut AuditExport); 5] = [
        |export| export.removed_hashes[1] = "00".repeat(32),
        |export| export.removed_hashes[1] = "no hash".to_owned(),
        |export| drop(export.removed_hashes.pop()),
        |export| export.removed_hashes.swap(0, 1),
        |export| export.records[1].push('x'),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut changed = without(4, 9, true);
        change(&mut changed);
        let finding = found(&changed, None);
        assert!(!finding.verified, "change {n}");
        if n == 4 {
            assert_eq!(finding.first_bad_index, Some(5), "by its number in the log");
        }
    }
}

#[test]
fn a_part_verifies_and_says_which_it_is() {
    let honest = part(9, 3..6);
    let finding = found(&honest, None);
    assert!(finding.verified, "{finding:?}");
    assert_eq!(finding.part, Some(Span { first: 3, of: 9 }));
    let mut shorter = honest.clone();
    shorter.records.pop();
    shorter.leaf_hashes.pop();
    let mut pretending = honest.clone();
    pretending.removed_hashes = vec!["00".repeat(32)];
    let mut elsewhere = honest;
    elsewhere.part.as_mut().unwrap().first = 4;
    for changed in [shorter, pretending, elsewhere] {
        assert!(!found(&changed, None).verified);
    }
}

#[test]
fn an_honest_export_of_any_size_verifies() {
    for count in [0, 1, 2, 3, 7, 8, 100] {
        let (export, _) = export(count);
        let finding = found(&export, None);
        assert!(finding.verified && finding.records == count, "{finding:?}");
        assert!(!finding.key_pinned);
        assert!(found(&export, Some(&export.public_key)).key_pinned);
    }
}

#[test]
fn a_changed_record_is_named_by_its_index() {
    let (mut export, _) = export(9);
    export.records[6] = export.records[6].replace("rotate", "nothing");
    export.records[8].push(' ');
    let finding = found(&export, None);
    assert!(!finding.verified);
    assert_eq!(finding.first_bad_index, Some(6));
    assert!(finding.faults[0].contains("record 6"), "{finding:?}");
}

#[test]
fn removed_added_and_swapped_records_are_found() {
    let tampering: [fn(&mut AuditExport); 4] = [
        |export| {
            export.records.pop();
            export.leaf_hashes.pop();
        },
        |export| {
            export.records.remove(2);
        },
        |export| {
            export.records.push("{}".to_owned());
            export
                .leaf_hashes
                .push(hexadecimal(&merkle::leaf_hash(b"{}")));
        },
        |export| {
            export.records.swap(0, 1);
            export.leaf_hashes.swap(0, 1);
        },
    ];
    for (number, tamper) in tampering.into_iter().enumerate() {
        let (mut export, _) = export(5);
        tamper(&mut export);
        assert!(
            !found(&export, None).verified,
            "tampering {number} was not found"
        );
    }
}

#[test]
fn a_record_changed_together_with_its_leaf_hash_breaks_the_signed_root() {
    let (mut export, _) = export(5);
    export.records[3].push('x');
    export.leaf_hashes[3] = hexadecimal(&merkle::leaf_hash(export.records[3].as_bytes()));
    let finding = found(&export, None);
    assert!(!finding.verified && finding.root.is_empty());
    assert!(finding.faults[0].contains("root"), "{finding:?}");
}

#[test]
fn a_listed_leaf_hash_that_is_not_its_records_is_refused_though_the_records_are_right() {
    for changed in ["00".repeat(32), "no hash".to_owned()] {
        let (mut export, _) = export(5);
        export.leaf_hashes[3] = changed;
        let finding = found(&export, None);
        assert!(!finding.verified);
        assert_eq!(finding.first_bad_index, Some(3));
        assert!(finding.faults[0].contains("leaf hash"), "{finding:?}");
    }
}

#[test]
fn a_forger_with_a_key_of_his_own_fails_against_the_pinned_key() {
    let (honest, _) = export(4);
    let (mut forged, key) = export(4);
    forged.records[0].push('x');
    forged.leaf_hashes[0] = hexadecimal(&merkle::leaf_hash(forged.records[0].as_bytes()));
    forged.checkpoint = signed(&forged.records, &key);
    assert!(found(&forged, None).verified, "it is consistent in itself");
    assert!(!found(&forged, Some(&honest.public_key)).verified);
}

#[test]
fn a_changed_checkpoint_origin_or_key_is_found() {
    let (good, _) = export(3);
    let mut size = good.clone();
    size.checkpoint = size.checkpoint.replacen("\n3\n", "\n2\n", 1);
    let mut origin = good.clone();
    origin.origin = "keywheel.dev/audit/other".to_owned();
    let mut key = good.clone();
    key.public_key = "AAAA".to_owned();
    for bad in [size, origin, key] {
        assert!(!found(&bad, None).verified);
    }
    assert_eq!(
        verify(&good, Some("not a key")).unwrap_err().exit,
        Exit::Usage
    );
}
