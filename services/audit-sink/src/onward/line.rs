//! A record as a sink is told it: one JSON object, without a line break.
//!
//! The native form is `{"sequence":N,"leaf":"HEX","record":{…}}`, with the record's very bytes, so that whoever
//! keeps these lines can verify them against a checkpoint (`schemas/audit.md`). Pure.

use keywheel_core::audit::Record;
use keywheel_engine::port::journal::AuditLeaf;
use keywheel_schemas::config::sinks::SinkFormat;
use keywheel_schemas::wire::audit_record_from_json;
use keywheel_seal::digest;
use serde::de::IgnoredAny;

use super::ocsf;

/// One record, written.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Its number; the first is 0.
    pub(super) sequence: u64,
    /// Its leaf hash, hexadecimal.
    pub(super) leaf: String,
    /// One JSON object.
    pub(super) text: String,
    /// The record, if this build knows its form.
    pub(super) record: Option<Record>,
}

impl Line {
    /// Writes a record.
    pub(super) fn of(format: SinkFormat, leaf: &AuditLeaf) -> Self {
        let record = audit_record_from_json(&leaf.bytes).ok();
        let hash = hexadecimal(&leaf_hash(&leaf.bytes));
        let told = match (format, &record) {
            (SinkFormat::Ocsf, Some(record)) => ocsf::event(leaf.index, &hash, record),
            _ => None,
        };
        Self {
            sequence: leaf.index,
            text: told.unwrap_or_else(|| native(leaf, &hash)),
            leaf: hash,
            record,
        }
    }
}

/// What cannot be read, such as a record of a newer build, goes on as it is.
fn native(leaf: &AuditLeaf, hash: &str) -> String {
    let text = std::str::from_utf8(&leaf.bytes).ok();
    let whole = text.filter(|text| {
        !text.contains(['\n', '\r']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
    });
    let (sequence, bytes) = (leaf.index, &leaf.bytes);
    match whole {
        Some(record) => format!(r#"{{"sequence":{sequence},"leaf":"{hash}","record":{record}}}"#),
        None => {
            let bytes = hexadecimal(bytes);
            format!(r#"{{"sequence":{sequence},"leaf":"{hash}","bytes":"{bytes}"}}"#)
        }
    }
}

/// Hash of a leaf of the audit tree (RFC 9162): SHA-256 over 0x00 and its bytes.
pub(super) fn leaf_hash(bytes: &[u8]) -> [u8; 32] {
    digest::sha256(&[[0].as_slice(), bytes].concat())
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use keywheel_core::audit::{Category, Outcome, Principal};
    use keywheel_core::id::CommandId;
    use keywheel_core::time::Timestamp;
    use keywheel_schemas::wire::audit_record_to_json;

    use super::*;

    pub(in crate::onward) fn record() -> Record {
        Record {
            // 2026-11-29T10:00:00.000001Z
            time: Timestamp::from_micros(1_795_946_400_000_001),
            category: Category::Administration,
            principal: Principal::User {
                uid: 1000,
                name: "ada".to_owned(),
            },
            verb: "rotate".to_owned(),
            object: "secret/prod/db".to_owned(),
            version: Some(3),
            outcome: Outcome::Allowed,
            reason: "policy".to_owned(),
            container: None,
            command: CommandId::from_bytes([7; 16]),
            trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        }
    }

    /// A record as the journal has them.
    pub(in crate::onward) fn leaf(index: u64) -> AuditLeaf {
        let mut record = record();
        record.version = Some(index);
        AuditLeaf {
            index,
            bytes: Arc::from(audit_record_to_json(&record)),
        }
    }

    pub(in crate::onward) fn lines(from: u64, count: u64) -> Vec<Line> {
        let line = |index| Line::of(SinkFormat::Native, &leaf(index));
        (from..from + count).map(line).collect()
    }

    #[test]
    fn the_native_form_has_the_very_bytes_of_the_record() {
        let leaf = leaf(7);
        let line = Line::of(SinkFormat::Native, &leaf);
        let bytes = String::from_utf8(leaf.bytes.to_vec()).unwrap();
        let hash = hexadecimal(&leaf_hash(&leaf.bytes));
        assert_eq!(
            line.text,
            format!(r#"{{"sequence":7,"leaf":"{hash}","record":{bytes}}}"#)
        );
        assert!(line.record.is_some(), "the example is a record");
        let ocsf = Line::of(SinkFormat::Ocsf, &leaf);
        let event: serde_json::Value = serde_json::from_str(&ocsf.text).unwrap();
        assert_eq!(event["metadata"]["sequence"], 7);
        assert!(!ocsf.text.contains('\n'));
    }

    #[test]
    fn what_this_build_does_not_know_is_passed_on_as_it_is() {
        for (bytes, told) in [
            (b"{\"new\":1}".as_slice(), r#""record":{"new":1}}"#),
            (b"no json", r#""bytes":"6e6f206a736f6e"}"#),
            (b"{\n}", r#""bytes":"7b0a7d"}"#),
            (b"\xff", r#""bytes":"ff"}"#),
        ] {
            let leaf = AuditLeaf {
                index: 1,
                bytes: Arc::from(bytes),
            };
            for format in [SinkFormat::Native, SinkFormat::Ocsf] {
                let line = Line::of(format, &leaf);
                assert!(line.text.ends_with(told), "{}", line.text);
                assert!(!line.text.contains('\n') && line.record.is_none());
            }
        }
    }

    #[test]
    fn a_leaf_hash_is_that_of_the_standard() {
        // RFC 9162 hashes of the empty leaf and of the leaf 00, as Certificate Transparency's own tests have them.
        let empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(hexadecimal(&leaf_hash(b"")), empty);
        let zero = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
        assert_eq!(hexadecimal(&leaf_hash(b"\0")), zero);
    }
}
