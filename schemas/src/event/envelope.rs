//! The CloudEvents attributes around an event. Extension names are lower-case letters and digits.

use keywheel_core::id::{CommandId, EventId};
use keywheel_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{EventMeta, Kind};
use crate::error::DecodeError;
use crate::mirror::Text;

/// The version of CloudEvents.
const SPEC_VERSION: &str = "1.0";
/// The content type of `data`.
const CONTENT_TYPE: &str = "application/json";
/// Where the schemas are published.
const SCHEMA_ROOT: &str = "https://keywheel.dev/schemas";

/// A structured CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Always `1.0`.
    pub specversion: String,
    /// The event, unique.
    pub id: Text<EventId>,
    /// Who appended it.
    #[schemars(length(min = 1))]
    pub source: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// `<aggregate>/<uuid>`.
    pub subject: String,
    /// When it was appended.
    pub time: Text<Timestamp>,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// Where the schema of this type is published.
    pub dataschema: String,
    /// Global number in the journal.
    #[schemars(regex(pattern = r"^[0-9]+$"))]
    pub sequence: String,
    /// Number within its aggregate.
    #[schemars(regex(pattern = r"^[0-9]+$"))]
    pub aggregatesequence: String,
    /// The command that led to it.
    pub causationid: Text<CommandId>,
    /// Hash of the event before it, hexadecimal.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub previoushash: String,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What happened.
    pub data: Map<String, Value>,
}

/// Where the schema of a type is published; also its `$id`.
#[must_use]
pub fn schema_address(name: &str) -> String {
    format!("{SCHEMA_ROOT}/{name}.json")
}

impl Envelope {
    pub(super) fn of(
        meta: &EventMeta,
        type_name: &str,
        subject: String,
        data: Map<String, Value>,
    ) -> Self {
        Self {
            specversion: SPEC_VERSION.to_owned(),
            id: Text(meta.id),
            source: meta.source.clone(),
            type_name: type_name.to_owned(),
            subject,
            time: Text(meta.time),
            datacontenttype: CONTENT_TYPE.to_owned(),
            dataschema: schema_address(type_name),
            sequence: meta.number.to_string(),
            aggregatesequence: meta.aggregate_sequence.to_string(),
            causationid: Text(meta.causation),
            previoushash: hexadecimal(&meta.previous_hash),
            traceparent: meta.traceparent.clone(),
            data,
        }
    }

    pub(super) fn meta(&self, kind: &Kind) -> Result<EventMeta, DecodeError> {
        let fixed = [
            ("specversion", self.specversion.as_str(), SPEC_VERSION),
            ("datacontenttype", &self.datacontenttype, CONTENT_TYPE),
            ("dataschema", &self.dataschema, &schema_address(kind.name)),
        ];
        for (name, found, wanted) in fixed {
            if found != wanted {
                return Err(wrong(name, &format!("has to be `{wanted}`")));
            }
        }
        if self.source.is_empty() {
            return Err(wrong("source", "is empty"));
        }
        Ok(EventMeta {
            id: self.id.0,
            number: number("sequence", &self.sequence)?,
            aggregate_sequence: number("aggregatesequence", &self.aggregatesequence)?,
            time: self.time.0,
            source: self.source.clone(),
            traceparent: self.traceparent.clone(),
            causation: self.causationid.0,
            previous_hash: hash(&self.previoushash)?,
        })
    }
}

pub(super) fn wrong(name: &'static str, fault: &str) -> DecodeError {
    DecodeError::Attribute {
        name,
        fault: fault.to_owned(),
    }
}

fn number(name: &'static str, text: &str) -> Result<u64, DecodeError> {
    let parsed = text
        .parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text);
    parsed.ok_or_else(|| wrong(name, "is not a decimal number"))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(text: &str) -> Result<[u8; 32], DecodeError> {
    let bad = || wrong("previoushash", "is not 64 lower-case hexadecimal digits");
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    bytes
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or_else(bad)
}
