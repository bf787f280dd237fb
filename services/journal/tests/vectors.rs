//! The published vectors of the audit (`schemas/audit-vectors.json`), held against this code. They were made by an
//! implementation that shares nothing with it, so whoever writes a verifier by `schemas/audit.md` gets what we get.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_journal::checkpoint::{Checkpoint, verifier_key};
use keywheel_journal::merkle::{self, Frontier, Hash};
use keywheel_journal::offline::sink::Comparison;
use keywheel_journal::offline::{Export, ExportError, verify_export};
use keywheel_schemas::api::AuditExport;
use keywheel_schemas::wire::{audit_record_from_json, audit_record_to_json};
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../schemas/audit-vectors.json")).unwrap()
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap();
    (0..hexadecimal.len()).step_by(2).map(digit).collect()
}

fn hash(value: &Value) -> Hash {
    bytes(value.as_str().unwrap()).try_into().unwrap()
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn key(vectors: &Value) -> SigningKey {
    let seed = bytes(vectors["seed"].as_str().unwrap());
    SigningKey::from_seed_bytes(&SecretBytes::from(seed)).unwrap()
}

#[test]
fn every_record_is_one_of_ours_and_has_its_leaf_hash() {
    let vectors = vectors();
    let records = vectors["records"].as_array().unwrap();
    let leaves = hashes(&vectors["leaf_hashes"]);
    assert_eq!((records.len(), leaves.len()), (7, 7));
    for (record, leaf) in records.iter().zip(leaves) {
        let text = record.as_str().unwrap();
        let read = audit_record_from_json(text.as_bytes()).unwrap();
        let written = audit_record_to_json(&read);
        assert_eq!(String::from_utf8(written).unwrap(), text, "canonical");
        assert_eq!(merkle::leaf_hash(text.as_bytes()), leaf);
    }
}

#[test]
fn every_tree_has_its_root_and_its_checkpoint_letter_by_letter() {
    let vectors = vectors();
    let (leaves, key) = (hashes(&vectors["leaf_hashes"]), key(&vectors));
    let origin = vectors["origin"].as_str().unwrap();
    let public = key.verifying_key();
    assert_eq!(vectors["verifier_key"], verifier_key(origin, &public));
    assert_eq!(vectors["public_key"], STANDARD.encode(public.to_bytes()));
    let trees = vectors["trees"].as_array().unwrap();
    assert_eq!(trees.len(), leaves.len() + 1);
    for tree in trees {
        let size = usize::try_from(number(&tree["size"])).unwrap();
        let mut frontier = Frontier::new();
        leaves[..size].iter().for_each(|leaf| frontier.push(*leaf));
        assert_eq!(frontier.root(), hash(&tree["root"]), "{size}");
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size: frontier.size(),
            root: frontier.root(),
        };
        // Ed25519 signs one text in one way.
        let note = tree["checkpoint"].as_str().unwrap();
        assert_eq!(checkpoint.sign(&key), note);
        assert_eq!(Checkpoint::verify(note, origin, &public), Ok(checkpoint));
    }
}

#[test]
fn every_proof_holds_for_its_leaf_and_for_no_other() {
    let vectors = vectors();
    let leaves = hashes(&vectors["leaf_hashes"]);
    let root = |size: u64| hash(&vectors["trees"][usize::try_from(size).unwrap()]["root"]);
    let inclusion = vectors["inclusion"].as_array().unwrap();
    assert_eq!(inclusion.len(), 28);
    for proof in inclusion {
        let (index, size) = (number(&proof["index"]), number(&proof["size"]));
        let path = hashes(&proof["path"]);
        let at = usize::try_from(index).unwrap();
        let holds =
            |leaf: &Hash, index| merkle::verify_inclusion(leaf, index, size, &path, &root(size));
        assert!(holds(&leaves[at], index), "{index} of {size}");
        assert!(!holds(&leaves[(at + 1) % leaves.len()], index));
        assert!(!holds(&leaves[at], index + 1));
    }
    let consistency = vectors["consistency"].as_array().unwrap();
    assert_eq!(consistency.len(), 36);
    for proof in consistency {
        let (old, new) = (number(&proof["old"]), number(&proof["new"]));
        let path = hashes(&proof["path"]);
        let holds =
            |old_root: &Hash| merkle::verify_consistency((old, old_root), (new, &root(new)), &path);
        assert!(holds(&root(old)), "{old} to {new}");
        assert!(!holds(&[0; 32]));
    }
}

fn hashes_of(texts: &[String]) -> Vec<Hash> {
    let hash = |text: &String| bytes(text).try_into().unwrap();
    texts.iter().map(hash).collect()
}

/// Whether an export and what a sink has of it are sound; the first bad record, where one is named.
fn judged(export: &AuditExport, against: &[Value]) -> (bool, Option<u64>) {
    let leaves: Vec<Vec<u8>> = export
        .records
        .iter()
        .map(|record| record.as_bytes().to_vec())
        .collect();
    let removed = hashes_of(&export.removed_hashes);
    let own = leaves.iter().map(|leaf| merkle::leaf_hash(leaf));
    let found: Vec<Hash> = removed.iter().copied().chain(own).collect();
    let public = STANDARD.decode(&export.public_key).unwrap();
    let mut known = Export::new(
        export.origin.clone(),
        public.try_into().unwrap(),
        export.checkpoint.clone(),
        leaves,
    );
    known.leaf_hashes = hashes_of(&export.leaf_hashes);
    known.removed = removed;
    match verify_export(&known) {
        Err(ExportError::Record { index, .. }) => return (false, Some(index)),
        Err(ExportError::Range { first, .. } | ExportError::Unrecorded { first, .. }) => {
            return (false, Some(first));
        }
        Err(_) => return (false, None),
        Ok(_) => {}
    }
    let mut comparison = Comparison::with(&found);
    for line in against {
        if let Err(fault) = comparison.line(line.as_str().unwrap().as_bytes()) {
            return (false, fault.index());
        }
    }
    (true, None)
}

#[test]
fn every_export_is_judged_as_the_vectors_say() {
    let vectors = vectors();
    let exports = vectors["exports"].as_array().unwrap();
    let sound = exports.iter().filter(|one| one["verifies"] == true).count();
    assert_eq!((exports.len(), sound), (20, 6));
    for one in exports {
        let export: AuditExport = serde_json::from_value(one["export"].clone()).unwrap();
        let judged = judged(&export, one["against"].as_array().unwrap());
        let wanted = (
            one["verifies"].as_bool().unwrap(),
            one["first_bad_index"].as_u64(),
        );
        assert_eq!(judged, wanted, "{}", one["name"]);
    }
}
