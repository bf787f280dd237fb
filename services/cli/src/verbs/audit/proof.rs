//! `audit prove` and `audit verify --proof`: one record, shown to be in the log without the others.
//!
//! What a success shows: the record is, byte by byte, the one at its place in the tree whose root the
//! checkpoint names, and the checkpoint is signed by the key.

use std::path::Path;

use keywheel_journal::checkpoint::Checkpoint;
use keywheel_journal::offline::{ExportedProof, verify_record};
use keywheel_schemas::api::AuditProof;
use keywheel_seal::sign::VerifyingKey;
use serde::Serialize;

use super::offline::{OTHER_KEY, hexadecimal, is_other_key, parse_hash, parse_key, pinned_key};
use super::{Desk, input, refuse_taken, written};
use crate::exit::{Exit, Failure};
use crate::output::table::fields;
use crate::output::{Screen, records, tame};

/// Largest proof that is read, in bytes: a record, a checkpoint and at most 64 hashes.
const MAX_PROOF_BYTES: usize = 1 << 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// Whether nothing is wrong.
    verified: bool,
    /// Place of the record.
    index: u64,
    /// The record.
    record: String,
    /// Records in the log when its checkpoint was signed; 0 when it does not verify.
    records: u64,
    /// The log's name.
    origin: String,
    /// Root of the tree, hexadecimal; empty when it does not verify.
    root: String,
    /// The key that was asked for, base64.
    public_key: String,
    /// Whether that key came from outside the proof.
    key_pinned: bool,
    /// Whether the proof names another key itself.
    #[serde(skip)]
    names_other_key: bool,
    /// What is wrong.
    faults: Vec<String>,
}

pub(in crate::verbs) async fn prove(
    desk: &Desk,
    index: u64,
    file: Option<&Path>,
) -> Result<(), Failure> {
    refuse_taken(file)?;
    let path = format!("/v1/audit/proofs/{index}");
    let proof: AuditProof = desk.client.read(&path).await?;
    let found = verify(&proof, None)?;
    refuse_unproven(&found)?;
    if let Some(file) = written(desk.screen, &proof, file)? {
        desk.screen.note(&format!(
            "record {index} of {} proven in {file}; `keywheel audit verify --proof {file}` verifies it without a server",
            found.records
        ));
    }
    Ok(())
}

pub(in crate::verbs) fn verify_file(
    screen: Screen,
    file: &Path,
    key: Option<&str>,
) -> Result<(), Failure> {
    let text = input::text(file, MAX_PROOF_BYTES, input::ANOTHER)?;
    let proof: AuditProof = serde_json::from_str(&text).map_err(|error| {
        Failure::new(
            Exit::Unverified,
            format!("{} is not the proof of a record: {error}", file.display()),
            "make one with `keywheel audit prove N --file FILE`",
        )
    })?;
    let found = verify(&proof, key)?;
    screen.show(&found, words)?;
    refuse_unproven(&found)
}

fn verify(proof: &AuditProof, key: Option<&str>) -> Result<Finding, Failure> {
    let pinned = key.map(pinned_key).transpose()?;
    let checked = match pinned.map_or_else(|| parse_key(&proof.public_key), Ok) {
        Ok(key) => check(proof, key),
        Err(why) => Err(format!("the proof's public key {why}")),
    };
    let (records, root) = checked.as_ref().map_or((0, String::new()), |signed| {
        (signed.size, hexadecimal(&signed.root))
    });
    Ok(Finding {
        verified: checked.is_ok(),
        index: proof.index,
        record: proof.record.clone(),
        records,
        origin: proof.origin.clone(),
        root,
        public_key: key.unwrap_or(&proof.public_key).trim().to_owned(),
        key_pinned: pinned.is_some(),
        names_other_key: is_other_key(pinned, &proof.public_key),
        faults: Vec::from_iter(checked.err()),
    })
}

fn check(proof: &AuditProof, key: [u8; 32]) -> Result<Checkpoint, String> {
    let key = VerifyingKey::from_bytes(key).map_err(|error| keywheel_daemon::chain(&error))?;
    let path: Option<Vec<_>> = proof.path.iter().map(|hash| parse_hash(hash)).collect();
    let path = path.ok_or("a hash of the proof is not hexadecimal of 32 bytes")?;
    let place = ExportedProof {
        index: proof.index,
        path,
    };
    let (log, record) = ((proof.origin.as_str(), &key), proof.record.as_bytes());
    verify_record(log, &proof.checkpoint, record, &place)
        .map_err(|error| keywheel_daemon::chain(&error))
}

fn refuse_unproven(found: &Finding) -> Result<(), Failure> {
    let Some(fault) = found.faults.first() else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::Unverified,
        format!("the record is not proven: {fault}"),
        match found.names_other_key {
            true => OTHER_KEY,
            false => {
                "keep the proof as it is; `keywheel audit verify` says whether the whole log is sound"
            }
        },
    ))
}

fn words(found: &Finding) -> String {
    let verdict = match found.verified {
        true => format!("yes: record {} of {}", found.index, found.records),
        false => "NO".to_owned(),
    };
    let whose = match found.key_pinned {
        true => "as you gave it",
        false => "from the proof itself; compare it, and give it as --public-key",
    };
    let mut text = fields(&[
        ("verified", verdict),
        ("record", records::audit(found.record.as_bytes())),
        ("log", found.origin.clone()),
        ("root", found.root.clone()),
        ("signed by", format!("{} ({whose})", found.public_key)),
    ]);
    for fault in &found.faults {
        text.push_str(&format!("fault: {}\n", tame(fault)));
    }
    text
}

#[cfg(test)]
mod tests {
    use keywheel_journal::merkle;

    use super::*;
    use crate::verbs::audit::offline::tests::export;

    /// Record 2 of 5: its path has three hashes.
    fn proof() -> AuditProof {
        let (export, _) = export(5);
        let leaf = |n: usize| merkle::leaf_hash(export.records[n].as_bytes());
        let node = |left, right| merkle::node_hash(&left, &right);
        let path = [leaf(3), node(leaf(0), leaf(1)), leaf(4)];
        AuditProof {
            origin: export.origin,
            public_key: export.public_key,
            checkpoint: export.checkpoint,
            index: 2,
            record: export.records[2].clone(),
            path: path.iter().map(hexadecimal).collect(),
        }
    }

    #[test]
    fn an_honest_proof_verifies_and_says_of_what() {
        let proof = proof();
        let found = verify(&proof, Some(&proof.public_key)).unwrap();
        assert!(found.verified && found.key_pinned, "{found:?}");
        assert_eq!((found.index, found.records), (2, 5));
        assert!(words(&found).contains("yes: record 2 of 5"));
    }

    #[test]
    fn whatever_is_changed_in_a_proof_is_found() {
        let tampering: [fn(&mut AuditProof); 7] = [
            |proof| proof.record.push(' '),
            |proof| proof.index = 1,
            |proof| proof.index = 5,
            |proof| proof.path.swap(0, 1),
            |proof| drop(proof.path.pop()),
            |proof| proof.path[0] = "xy".to_owned(),
            |proof| proof.checkpoint = proof.checkpoint.replace("\n5\n", "\n6\n"),
        ];
        for (n, tamper) in tampering.into_iter().enumerate() {
            let mut proof = proof();
            tamper(&mut proof);
            let found = verify(&proof, None).unwrap();
            assert!(!found.verified, "tampering {n} is not found");
            let failure = refuse_unproven(&found).unwrap_err();
            assert_eq!(failure.exit, Exit::Unverified);
        }
        let other = export(1).0.public_key;
        let found = verify(&proof(), Some(&other)).unwrap();
        assert!(!found.verified);
        let next = refuse_unproven(&found).unwrap_err().next.unwrap();
        assert!(
            next.contains("`keywheel audit verify` on the gateway's"),
            "{next}"
        );
        assert!(!verify(&proof(), None).unwrap().names_other_key);
        assert!(verify(&proof(), Some("short")).is_err());
    }
}
