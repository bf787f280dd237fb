//! A log that goes on verifies, and each way in which it does not is named.

use std::ops::Range;

use keywheel_journal::merkle::{self, Frontier};
use keywheel_seal::sign::SigningKey;

use super::*;
use crate::verbs::audit::offline::tests::{export, signed};

fn leaves(records: &[String]) -> Vec<Hash> {
    let records = records.iter();
    records
        .map(|record| merkle::leaf_hash(record.as_bytes()))
        .collect()
}

/// What a server answers whose log has these records.
pub(in crate::verbs) fn answer(of: &AuditExport, key: &SigningKey, old: usize) -> AuditConsistency {
    let leaves = leaves(&of.records);
    let at = |number: u64| usize::try_from(number).unwrap();
    let root = |range: Range<u64>| {
        let mut tree = Frontier::new();
        let own = &leaves[at(range.start)..at(range.end)];
        own.iter().for_each(|leaf| tree.push(*leaf));
        hexadecimal(&tree.root())
    };
    let ranges = merkle::consistency_ranges(old as u64, leaves.len() as u64).unwrap();
    AuditConsistency {
        origin: of.origin.clone(),
        public_key: of.public_key.clone(),
        checkpoint: signed(&of.records, key),
        size: old as u64,
        path: ranges.into_iter().map(root).collect(),
    }
}

/// A log of nine records, and the checkpoint that somebody kept when there were five.
pub(in crate::verbs) fn kept() -> (AuditExport, SigningKey, String) {
    let (now, key) = export(9);
    let note = signed(&now.records[..5], &key);
    (now, key, note)
}

fn of(note: String) -> Kept {
    let size = Note::parse(&note).unwrap().checkpoint.size;
    Kept { note, size }
}

/// The same log with other bytes in one of its first five records.
fn anew(now: &AuditExport, key: &SigningKey) -> AuditExport {
    let mut anew = now.clone();
    anew.records[2].push(' ');
    anew.leaf_hashes = leaves(&anew.records).iter().map(hexadecimal).collect();
    anew.checkpoint = signed(&anew.records, key);
    anew
}

#[test]
fn a_running_log_goes_on_or_what_does_not_fit_is_named() {
    let (now, key, note) = kept();
    let kept = of(note);
    let good = found(&kept, &answer(&now, &key, 5), Some(&now.public_key)).unwrap();
    assert!(good.verified && good.key_pinned, "{good:?}");
    assert_eq!((good.since, good.records), (5, 9));
    assert!(words(&good).contains("5 records of then are the first of 9"));
    assert!(Note::parse(&good.checkpoint).is_ok(), "to be kept next");
    let (mut cut, foreign) = (now.clone(), export(9).0);
    cut.records.truncate(3);
    let mut strange = answer(&now, &key, 5);
    strange.path[0] = "xy".to_owned();
    let mut short = answer(&now, &key, 5);
    short.path.pop();
    for (answer, part) in [
        (answer(&anew(&now, &key), &key, 5), "written anew"),
        (short, "written anew"),
        (answer(&cut, &key, 0), "there are 3: the log was cut"),
        (strange, "not hexadecimal"),
        (answer(&foreign, &key, 5), "no signature by key"),
    ] {
        let found = found(&kept, &answer, None).unwrap();
        assert!(!found.verified && found.records == 0, "{found:?}");
        assert_eq!(found.checkpoint, "", "nobody keeps this one");
        assert!(found.faults[0].contains(part), "{part}: {found:?}");
        assert!(words(&found).contains("NO"));
    }
    let failure = found(&kept, &answer(&now, &key, 5), Some("short"));
    assert_eq!(failure.unwrap_err().exit, Exit::Usage);
}

#[test]
fn whoever_gave_a_wrong_key_or_file_is_told_where_the_right_one_is_had() {
    let (now, key, note) = kept();
    let kept = of(note);
    let foreign = export(9).0;
    let strange = found(&kept, &answer(&foreign, &key, 5), None).unwrap();
    let said = next(&strange.faults[0], strange.names_other_key);
    assert!(
        said.contains("`keywheel audit prove 0 --file kept.json`"),
        "{said}"
    );
    let wrong = found(&kept, &answer(&now, &key, 5), Some(&foreign.public_key)).unwrap();
    assert!(!wrong.verified && wrong.names_other_key, "{wrong:?}");
    assert_eq!(next(&wrong.faults[0], wrong.names_other_key), OTHER_KEY);
    // What the log itself did is no matter of a key or a file.
    let anew = found(&kept, &answer(&anew(&now, &key), &key, 5), None).unwrap();
    let said = next(&anew.faults[0], anew.names_other_key);
    assert!(said.contains("--against FILE"), "{said}");
}

#[test]
fn an_export_that_is_sound_in_itself_is_held_against_the_checkpoint() {
    let (now, key, note) = kept();
    let kept = of(note);
    let compared = |export: &AuditExport| {
        let finding = offline::verify(export, None).unwrap();
        assert!(finding.verified, "it is sound in itself: {finding:?}");
        compare(export, finding, &kept).unwrap()
    };
    let good = compared(&now);
    assert!(good.verified && good.since == Some(5), "{good:?}");
    let mut cut = now.clone();
    cut.records.truncate(3);
    cut.leaf_hashes.truncate(3);
    cut.checkpoint = signed(&cut.records, &key);
    for (export, part) in [
        (anew(&now, &key), "written anew"),
        (cut, "there are 3: the log was cut"),
        (export(9).0, "no signature by key"),
    ] {
        let found = compared(&export);
        assert!(!found.verified, "{part}");
        assert!(found.faults[0].contains(part), "{part}: {found:?}");
    }
    // One that is not sound is that, and no more is said of it.
    let mut changed = now;
    changed.records[7].push('x');
    let finding = offline::verify(&changed, None).unwrap();
    assert_eq!(compare(&changed, finding.clone(), &kept).unwrap(), finding);
    let part = offline::tests::part(9, 3..6);
    let finding = offline::verify(&part, None).unwrap();
    assert_eq!(
        compare(&part, finding, &kept).unwrap_err().exit,
        Exit::Usage
    );
}

#[test]
fn records_that_are_gone_count_by_their_hashes() {
    let removed = offline::tests::without(4, 9, true);
    let whole = offline::tests::export(9).0;
    assert_eq!(offline::leaves(&removed).len(), 10);
    assert_eq!(
        offline::leaves(&removed)[..9],
        leaves(&whole.records),
        "those that are gone come first"
    );
}

#[test]
fn a_checkpoint_is_read_as_it_is_or_out_of_what_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kept");
    let (now, _, note) = kept();
    std::fs::write(&file, &note).unwrap();
    assert_eq!(read(&file).unwrap().note, note);
    std::fs::write(&file, serde_json::to_vec_pretty(&now).unwrap()).unwrap();
    assert_eq!(read(&file).unwrap().size, 9);
    for strange in ["", "{}", "a checkpoint", "{\"checkpoint\":\"x\"}"] {
        std::fs::write(&file, strange).unwrap();
        let failure = read(&file).err().unwrap();
        assert_eq!(failure.exit, Exit::Unverified, "{strange}");
    }
    let missing = read(&directory.path().join("nowhere")).err().unwrap();
    assert_eq!(missing.exit, Exit::NoInput);
}
