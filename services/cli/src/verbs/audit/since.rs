//! `audit verify --since`: that the log goes on from a checkpoint that somebody kept.
//!
//! What a success shows: the records that the kept checkpoint was signed over are the first of the log now, whose
//! checkpoint the same key signed. So a log that was put back, cut or written anew behind it is found, which is sound in
//! itself. Online a consistency proof shows it, and no record is fetched; of an export its records do.

use std::path::Path;

use keywheel_journal::checkpoint::{Checkpoint, Note};
use keywheel_journal::merkle::Hash;
use keywheel_journal::offline::continuation::{verify_leaves, verify_proof};
use keywheel_schemas::api::{AuditConsistency, AuditExport};
use keywheel_seal::sign::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::offline::{
    self, OTHER_KEY, hexadecimal, is_other_key, parse_hash, parse_key, pinned_key,
};
use super::{Desk, input};
use crate::exit::{Exit, Failure};
use crate::http::MAX_ANSWER_BYTES;
use crate::output::table::fields;
use crate::output::{Screen, tame};

/// How the fault of a checkpoint begins that this log's key never signed.
const OF_ANOTHER: &str = "the checkpoint that was kept is not one of this log";

/// A checkpoint that somebody kept.
pub(super) struct Kept {
    note: String,
    /// Records at that time, as it says; nothing is shown by that alone.
    size: u64,
}

/// What is written by `audit export`, `audit prove` and `audit verify --since -o json` has the checkpoint in it.
#[derive(Deserialize)]
struct Holder {
    checkpoint: String,
}

/// What was found of a running log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// Whether nothing is wrong.
    verified: bool,
    /// Records at the kept checkpoint.
    since: u64,
    /// Records now; 0 when it does not verify.
    records: u64,
    /// The log's name.
    origin: String,
    /// Root of the tree now, hexadecimal; empty when it does not verify.
    root: String,
    /// The key that was asked for, base64.
    public_key: String,
    /// Whether that key came from outside the answer.
    key_pinned: bool,
    /// The checkpoint of now, to be kept for the next time; empty when it does not verify: nobody is to keep it.
    checkpoint: String,
    /// Whether the answer names another key itself.
    #[serde(skip)]
    names_other_key: bool,
    /// What is wrong.
    faults: Vec<String>,
}

/// Reads a checkpoint as it is, or out of JSON that has it.
pub(super) fn read(file: &Path) -> Result<Kept, Failure> {
    let text = input::text(file, MAX_ANSWER_BYTES, input::ANOTHER)?;
    let strange = |why: String| {
        Failure::new(
            Exit::Unverified,
            format!("{} has no checkpoint of the audit: {why}", file.display()),
            "name a checkpoint that you kept, or a file that `keywheel audit export` or `audit prove` wrote; the first one is had with `keywheel audit prove 0 --file kept.json`",
        )
    };
    let note = match text.trim_start().starts_with('{') {
        true => serde_json::from_str::<Holder>(&text)
            .map(|holder| holder.checkpoint)
            .map_err(|error| strange(error.to_string()))?,
        false => text,
    };
    let size = Note::parse(&note)
        .map(|read| read.checkpoint.size)
        .map_err(|error| strange(keywheel_daemon::chain(&error)))?;
    Ok(Kept { note, size })
}

pub(in crate::verbs) async fn verify(
    desk: &Desk,
    file: &Path,
    key: Option<&str>,
) -> Result<(), Failure> {
    let kept = read(file)?;
    let answer = ask(desk, kept.size).await?;
    let found = found(&kept, &answer, key)?;
    conclude(desk.screen, &found)
}

async fn ask(desk: &Desk, size: u64) -> Result<AuditConsistency, Failure> {
    let path = |size: u64| format!("/v1/audit/consistency/{size}");
    let answer: Result<AuditConsistency, Failure> = desk.client.read(&path(size)).await;
    match answer {
        // What is there now says by its own signature that there are fewer; a server that does not know the question
        // has no answer to this one either.
        Err(failure) if failure.exit == Exit::NotFound => desk.client.read(&path(0)).await,
        answer => answer,
    }
}

fn found(kept: &Kept, answer: &AuditConsistency, key: Option<&str>) -> Result<Finding, Failure> {
    let pinned = key.map(pinned_key).transpose()?;
    let checked = match pinned.map_or_else(|| parse_key(&answer.public_key), Ok) {
        Ok(key) => check(kept, answer, key),
        Err(why) => Err(format!("the answer's public key {why}")),
    };
    let (records, root, checkpoint) = checked.as_ref().map_or_else(
        |_| (0, String::new(), String::new()),
        |now| (now.size, hexadecimal(&now.root), answer.checkpoint.clone()),
    );
    Ok(Finding {
        verified: checked.is_ok(),
        since: kept.size,
        records,
        origin: answer.origin.clone(),
        root,
        public_key: key.unwrap_or(&answer.public_key).trim().to_owned(),
        key_pinned: pinned.is_some(),
        names_other_key: is_other_key(pinned, &answer.public_key),
        checkpoint,
        faults: Vec::from_iter(checked.err()),
    })
}

fn check(kept: &Kept, answer: &AuditConsistency, key: [u8; 32]) -> Result<Checkpoint, String> {
    let key = VerifyingKey::from_bytes(key).map_err(|error| keywheel_daemon::chain(&error))?;
    let path: Option<Vec<Hash>> = answer.path.iter().map(|hash| parse_hash(hash)).collect();
    let path = path.ok_or("a hash of the proof is not hexadecimal of 32 bytes")?;
    let notes = (kept.note.as_str(), answer.checkpoint.as_str());
    verify_proof((answer.origin.as_str(), &key), notes, &path)
        .map(|(_, now)| now)
        .map_err(|error| keywheel_daemon::chain(&error))
}

/// Adds to what was found of an export whether it goes on from the checkpoint.
pub(super) fn compare(
    export: &AuditExport,
    finding: offline::Finding,
    kept: &Kept,
) -> Result<offline::Finding, Failure> {
    if export.part.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "the export is a part of the audit, and shows nothing of the records that a checkpoint of before was signed over",
            "export it whole: `keywheel audit export --file FILE`; or leave out --file, and the server is asked for the proof",
        ));
    }
    Ok(compare_leaves(&offline::leaves(export), finding, kept))
}

/// The same, by the leaf hashes of all records.
pub(super) fn compare_leaves(
    leaves: &[Hash],
    finding: offline::Finding,
    kept: &Kept,
) -> offline::Finding {
    if !finding.verified {
        // Nothing is known of hashes that are not the log's.
        return finding;
    }
    let mut finding = offline::Finding {
        since: Some(kept.size),
        ..finding
    };
    if let Err(fault) = check_leaves((&finding.origin, leaves), &finding.public_key, kept) {
        finding.verified = false;
        finding.faults.push(fault);
    }
    finding
}

fn check_leaves((origin, leaves): (&str, &[Hash]), key: &str, kept: &Kept) -> Result<(), String> {
    let key = parse_key(key).map_err(|why| format!("the export's public key {why}"))?;
    let key = VerifyingKey::from_bytes(key).map_err(|error| keywheel_daemon::chain(&error))?;
    verify_leaves((origin, &key), &kept.note, leaves)
        .map(drop)
        .map_err(|error| keywheel_daemon::chain(&error))
}

fn conclude(screen: Screen, found: &Finding) -> Result<(), Failure> {
    screen.show(found, words)?;
    let Some(fault) = found.faults.first() else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::Unverified,
        format!("the audit does not go on from the checkpoint that was kept: {fault}"),
        next(fault, found.names_other_key),
    ))
}

/// What is done about it: a wrong key or a wrong file is looked for first.
pub(super) fn next(fault: &str, names_other_key: bool) -> &'static str {
    match (names_other_key, fault.starts_with(OF_ANOTHER)) {
        (true, _) => OTHER_KEY,
        (false, true) => {
            "look at the file first: a checkpoint names its log in its first line, and is kept unchanged; one of the log as it is now is had with `keywheel audit prove 0 --file kept.json`, and shows nothing of the time before. Where it is the one that you kept of this log, keep everything as it is"
        }
        (false, false) => {
            "keep the checkpoint, the sinks' files and the data directory as they are; `keywheel audit verify --against FILE` names the first record that differs from a sink's or an older export's"
        }
    }
}

fn words(found: &Finding) -> String {
    let verdict = match found.verified {
        true => format!(
            "yes: the {} records of then are the first of {} now",
            found.since, found.records
        ),
        false => "NO".to_owned(),
    };
    let whose = match found.key_pinned {
        true => "as you gave it",
        false => "from the answer itself; compare it, and give it as --public-key",
    };
    let mut text = fields(&[
        ("goes on", verdict),
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
pub(in crate::verbs) mod tests;
