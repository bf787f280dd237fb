//! Verifying an export of the audit without any server: the API's form, given to the journal's check. Pure.
//!
//! What a success shows: all records together give the root that the checkpoint names, and the
//! checkpoint is signed by the key. Without a key given from outside it does not show whose log it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_journal::checkpoint::Checkpoint;
use keywheel_journal::merkle::{self, Hash};
use keywheel_journal::offline::part::{Part, verify_part};
use keywheel_journal::offline::{Export, ExportError, ExportReport, verify_export};
use keywheel_schemas::api::{AuditExport, AuditPart};
use keywheel_seal::sign::VerifyingKey;
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whether nothing is wrong.
    pub(crate) verified: bool,
    /// Records in the export; those that were removed by their age are not.
    pub(crate) records: usize,
    /// The log's name.
    pub(crate) origin: String,
    /// Root over the records, hexadecimal; empty when they do not verify.
    pub(crate) root: String,
    /// The key that was asked for, base64.
    pub(crate) public_key: String,
    /// Whether that key came from outside the export.
    pub(crate) key_pinned: bool,
    /// Whether the export names another key itself.
    #[serde(skip)]
    pub(crate) names_other_key: bool,
    /// Index of the first record that is not the one that was recorded, or may be the first.
    pub(crate) first_bad_index: Option<u64>,
    /// What is wrong, first first.
    pub(crate) faults: Vec<String>,
    /// Records of a sink that were compared with it, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compared: Option<u64>,
    /// The first record that was compared, where it is not the log's first: nothing is shown of those before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compared_from: Option<u64>,
    /// Which records they are, where they are not all; what is said is said of these alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) part: Option<Span>,
    /// So many records before the first were removed by their age; their hashes were verified with the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) removed: Option<usize>,
    /// Records at a checkpoint of before, where one was named: that these are the first of the log was verified as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<u64>,
}

/// Where records stand that are not all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Span {
    /// Number of the first.
    pub(crate) first: u64,
    /// How many there are in all, as signed.
    pub(crate) of: u64,
}

/// What is done first where something names another key than the one that a person gave.
pub(super) const OTHER_KEY: &str = "look at the key first: `keywheel audit verify` on the gateway's own machine prints the right one behind `signed by`, to be given as --public-key; where that is the one you gave, keep this file and the data directory as they are";

/// Whether a person gave another key than the one that something names itself.
pub(super) fn is_other_key(given: Option<[u8; 32]>, own: &str) -> bool {
    given.is_some_and(|given| parse_key(own) != Ok(given))
}

/// Verifies; `key` is base64 and takes the place of the export's own.
pub(crate) fn verify(export: &AuditExport, key: Option<&str>) -> Result<Finding, Failure> {
    let pinned = key.map(pinned_key).transpose()?;
    let key_pinned = pinned.is_some();
    let public_key = key.unwrap_or(&export.public_key).trim().to_owned();
    let checked = match pinned.map_or_else(|| parse_key(&export.public_key), Ok) {
        Ok(key) => match &export.part {
            None => check(export, key).map(|report| (report.root, None)),
            Some(part) => check_part(export, part, key).map(|signed| {
                let (first, of) = (part.first, signed.size);
                (signed.root, Some(Span { first, of }))
            }),
        },
        Err(why) => Err((None, format!("the export's public key {why}"))),
    };
    let (root, part, first_bad_index, faults) = match checked {
        Ok((root, part)) => (hexadecimal(&root), part, None, Vec::new()),
        Err((index, fault)) => (String::new(), None, index, vec![fault]),
    };
    Ok(Finding {
        verified: faults.is_empty(),
        records: export.records.len(),
        origin: export.origin.clone(),
        root,
        public_key,
        key_pinned,
        names_other_key: is_other_key(pinned, &export.public_key),
        first_bad_index,
        faults,
        compared: None,
        compared_from: None,
        part,
        removed: Some(export.removed_hashes.len()).filter(|removed| *removed > 0),
        since: None,
    })
}

/// Leaf hashes of all records, those that are gone first. A hash that is none was found before this.
pub(super) fn leaves(export: &AuditExport) -> Vec<Hash> {
    let removed = export.removed_hashes.iter();
    let removed = removed.map(|hash| parse_hash(hash).unwrap_or_default());
    let own = export.records.iter();
    let own = own.map(|record| merkle::leaf_hash(record.as_bytes()));
    removed.chain(own).collect()
}

/// A key that a person gave.
pub(super) fn pinned_key(text: &str) -> Result<[u8; 32], Failure> {
    parse_key(text).map_err(|why| {
        Failure::new(
            Exit::Usage,
            format!("--public-key {why}"),
            "give the key as `keywheel audit verify` prints it behind `signed by`",
        )
    })
}

pub(super) fn parse_key(text: &str) -> Result<[u8; 32], String> {
    let bytes = STANDARD
        .decode(text.trim())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.ok_or_else(|| "is not base64 of 32 bytes".to_owned())
}

pub(super) fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn parse_hash(text: &str) -> Option<Hash> {
    let digits = text.bytes().map(|b| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    });
    let digits = digits.collect::<Option<Vec<u8>>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    Hash::try_from(bytes).ok().filter(|_| rest.is_empty())
}

/// The journal's check; a fault comes with the first bad index, where it is known.
fn check(
    export: &AuditExport,
    public_key: [u8; 32],
) -> Result<ExportReport, (Option<u64>, String)> {
    let leaves = export
        .records
        .iter()
        .map(|record| record.as_bytes().to_vec())
        .collect();
    let mut known = Export::new(
        export.origin.clone(),
        public_key,
        export.checkpoint.clone(),
        leaves,
    );
    // A list that cannot be read names no index; the records themselves are checked first all the same.
    let listed: Vec<Option<Hash>> = export.leaf_hashes.iter().map(|h| parse_hash(h)).collect();
    let first = export.removed_hashes.len() as u64;
    let unreadable = (first..).zip(&listed).find(|(_, hash)| hash.is_none());
    let unreadable = unreadable.map(|(index, _)| ExportError::Hint { index });
    known.leaf_hashes = listed
        .into_iter()
        .collect::<Option<_>>()
        .unwrap_or_default();
    let removed = export.removed_hashes.iter().map(|hash| parse_hash(hash));
    let removed: Option<Vec<Hash>> = removed.collect();
    let strange = "a hash of a removed record is not hexadecimal of 32 bytes";
    known.removed = removed.ok_or_else(|| (None, strange.to_owned()))?;
    let checked = verify_export(&known);
    let checked = checked.and_then(|report| unreadable.map_or(Ok(report), Err));
    checked.map_err(|error| named(&error))
}

/// A part has other proofs than the whole.
fn check_part(
    export: &AuditExport,
    part: &AuditPart,
    public_key: [u8; 32],
) -> Result<Checkpoint, (Option<u64>, String)> {
    let strange = |text: &str| (None, text.to_owned());
    if !export.removed_hashes.is_empty() {
        // Nothing would show that they are right.
        return Err(strange(
            "a part of the audit has no hashes of removed records, and this one does",
        ));
    }
    let key = VerifyingKey::from_bytes(public_key)
        .map_err(|error| (None, keywheel_daemon::chain(&error)))?;
    let hashes = |texts: &[String]| {
        let hashes: Option<Vec<Hash>> = texts.iter().map(|text| parse_hash(text)).collect();
        hashes.ok_or_else(|| strange("a hash of the export is not hexadecimal of 32 bytes"))
    };
    let records = export.records.iter();
    let part = Part {
        first: part.first,
        leaves: records
            .map(|record| merkle::leaf_hash(record.as_bytes()))
            .collect(),
        listed: hashes(&export.leaf_hashes)?,
        first_path: hashes(&part.first_path)?,
        last_path: hashes(&part.last_path)?,
    };
    let checked = verify_part((&export.origin, &key), &export.checkpoint, &part);
    checked.map_err(|error| named(&error))
}

/// The first bad record where a fault names one, and its words.
pub(super) fn named(error: &ExportError) -> (Option<u64>, String) {
    let index = match error {
        ExportError::Record { index, .. }
        | ExportError::Hint { index }
        | ExportError::Proof { index } => Some(*index),
        ExportError::Range { first, .. } | ExportError::Unrecorded { first, .. } => Some(*first),
        _ => None,
    };
    (index, keywheel_daemon::chain(error))
}

#[cfg(test)]
pub(in crate::verbs) mod tests;
