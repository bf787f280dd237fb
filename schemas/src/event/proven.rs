//! Reads events whose bytes a hash chain has proven: what was canonical when it was hashed still is.
//!
//! Folding a long log spends most of its time in reading, so nothing is looked at twice here: only
//! what the fold needs is read, straight into its type. Bytes from anywhere else go by
//! [`decode`](super::decode).

use std::borrow::Cow;

use keywheel_core::event::Event;
use keywheel_core::id::EventId;
use keywheel_core::time::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Members, event_of, find};
use crate::error::DecodeError;
use crate::leaf::shorten;
use crate::mirror::Text;

/// An event that was read from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The event.
    pub id: EventId,
    /// When it was appended.
    pub time: Timestamp,
    /// W3C trace context of the command that led to it.
    pub traceparent: Option<String>,
    /// What happened.
    pub event: Event,
}

#[derive(Deserialize)]
struct Needed<'a> {
    id: Text<EventId>,
    #[serde(rename = "type", borrow)]
    type_name: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    time: Text<Timestamp>,
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads an event whose bytes are proven to be what [`encode`](super::encode) wrote.
///
/// # Errors
/// When they are of an unknown type or of another shape, as a newer build's may be.
pub fn decode_proven(bytes: &[u8]) -> Result<Proven, DecodeError> {
    let needed: Needed<'_> =
        serde_json::from_slice(bytes).map_err(|source| DecodeError::Shape {
            what: super::WHAT,
            source,
        })?;
    let unknown = || DecodeError::UnknownType(shorten(&needed.type_name));
    let kind = find(&needed.type_name).ok_or_else(unknown)?;
    Ok(Proven {
        id: needed.id.0,
        time: needed.time.0,
        traceparent: needed.traceparent,
        event: event_of(kind, &needed.subject, Members::Written(needed.data))?,
    })
}
