//! Events as bytes: CloudEvents 1.0, structured JSON, canonical. These bytes are what the journal
//! hashes, signs and keeps for ever.
//!
//! Invariants: `decode(encode(x)) == x`; the same event always gives the same bytes; `decode` takes
//! nothing that is not canonical and never panics. No value of a secret has a place here.

pub mod approval;
pub mod assignment;
pub mod binding;
mod envelope;
pub mod host;
mod kind;
pub mod notification;
pub mod playbook;
pub mod playbook_run;
pub mod policy;
mod proven;
pub mod resource;
pub mod revocation;
pub mod rollout;
pub mod rotation;
pub mod secret;
pub mod signal;
pub mod store;
pub mod token;

#[cfg(test)]
mod tests;

pub use crate::error::DecodeError;
pub use envelope::{Envelope, schema_address};
pub use kind::{KINDS, Kind, all_types, find, type_name};
pub use proven::{Proven, decode_proven};

use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, EventId};
use keywheel_core::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::canonical;
use crate::mirror::{Mirror, TextForm};
use assignment::{AssignmentEvent, Consumer};

/// Largest event, in bytes: a distribution to about thirty thousand consumers.
pub const MAX_EVENT_BYTES: usize = 8 << 20;

const WHAT: &str = "event";
/// The member of an assignment's event that carries its key.
const CONSUMER: &str = "consumer";
/// The member of a rollout's event that carries its service.
const SERVICE: &str = "service";

/// What the journal knows about an event besides what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventMeta {
    /// The event.
    pub id: EventId,
    /// Global number in the journal.
    pub number: u64,
    /// Number within its aggregate.
    pub aggregate_sequence: u64,
    /// When it was appended.
    pub time: Timestamp,
    /// Who appended it: `keywheel/<deployment uuid>/gateway`.
    pub source: String,
    /// W3C trace context, if any.
    pub traceparent: Option<String>,
    /// The command that led to it.
    pub causation: CommandId,
    /// Hash of the event before it.
    pub previous_hash: [u8; 32],
}

/// Writes an event as canonical bytes.
#[must_use]
pub fn encode(meta: &EventMeta, event: &Event) -> Vec<u8> {
    let envelope = Envelope::of(meta, type_name(event), subject(event), body(event));
    canonical::bytes(&canonical::value(&envelope))
}

/// Reads an event back.
///
/// # Errors
/// When the bytes are too long, not canonical, of an unknown type or of another shape.
pub fn decode(bytes: &[u8]) -> Result<(EventMeta, Event), DecodeError> {
    if bytes.len() > MAX_EVENT_BYTES {
        return Err(DecodeError::TooLarge {
            what: WHAT,
            bytes: bytes.len(),
            limit: MAX_EVENT_BYTES,
        });
    }
    let shape = |source| DecodeError::Shape { what: WHAT, source };
    let value: Value = serde_json::from_slice(bytes).map_err(shape)?;
    let named = value
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let kind = find(named).ok_or_else(|| DecodeError::UnknownType(crate::leaf::shorten(named)))?;
    let envelope: Envelope = serde_json::from_value(value).map_err(shape)?;
    let meta = envelope.meta(kind)?;
    let event = event_of(kind, &envelope.subject, Members::Read(envelope.data))?;
    if subject(&event) != envelope.subject {
        return Err(envelope::wrong("subject", "does not belong to this event"));
    }
    // One event has one form: no second spelling may carry another hash.
    if encode(&meta, &event) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok((meta, event))
}

/// The subject an event carries: `<aggregate>/<uuid>`.
#[must_use]
pub fn subject(event: &Event) -> String {
    match event {
        Event::Secret(id, _) => format!("secret/{id}"),
        Event::Binding(id, _) => format!("binding/{id}"),
        Event::Assignment(key, _) => format!("assignment/{}", assignment::derive_subject(key)),
        Event::Host(id, _) => format!("host/{id}"),
        Event::Rotation(id, _) => format!("rotation/{id}"),
        Event::Revocation(id, _) => format!("revocation/{id}"),
        Event::Store(id, _) => format!("store/{id}"),
        Event::Rollout(service, _) => format!("rollout/{}", rollout::derive_subject(service)),
        Event::Notification(id, _) => format!("notification/{id}"),
        Event::Signal(id, _) => format!("signal/{id}"),
        Event::Playbook(id, _) => format!("playbook/{id}"),
        Event::PlaybookRun(id, _) => format!("playbook_run/{id}"),
        Event::Policy(id, _) => format!("policy/{id}"),
        Event::Token(id, _) => format!("token/{id}"),
        Event::Approval(id, _) => format!("approval/{id}"),
    }
}

/// The members of an event, as its `data` carries them.
#[must_use]
pub fn data(event: &Event) -> Map<String, Value> {
    body(event)
}

/// A text in an event's data, by its path: `fields.secret` of a signal. `None` for what is no text, or not there.
#[must_use]
pub fn text_at(event: &Event, path: &str) -> Option<String> {
    let data = data(event);
    let mut parts = path.split('.');
    let first = data.get(parts.next()?)?;
    let found = parts.try_fold(first, |at, part| at.get(part))?;
    Some(found.as_str()?.to_owned())
}

fn body(event: &Event) -> Map<String, Value> {
    match event {
        Event::Secret(_, event) => members(&secret::SecretEvent::of(event)),
        Event::Binding(_, event) => members(&binding::BindingEvent::of(event)),
        Event::Assignment(key, event) => {
            let mut members = members(&AssignmentEvent::of(event));
            members.insert(CONSUMER.to_owned(), canonical::value(&Consumer::of(key)));
            members
        }
        Event::Host(_, event) => members(&host::HostEvent::of(event)),
        Event::Rotation(_, event) => members(&rotation::RotationEvent::of(event)),
        Event::Revocation(_, event) => members(&revocation::RevocationEvent::of(event)),
        Event::Store(_, event) => members(&store::StoreEvent::of(event)),
        Event::Notification(_, event) => members(&notification::NotificationEvent::of(event)),
        Event::Signal(_, event) => members(&signal::SignalEvent::of(event)),
        Event::Playbook(_, event) => members(&playbook::PlaybookEvent::of(event)),
        Event::PlaybookRun(_, event) => members(&playbook_run::PlaybookRunEvent::of(event)),
        Event::Policy(_, event) => members(&policy::PolicyEvent::of(event)),
        Event::Token(_, event) => members(&token::TokenEvent::of(event)),
        Event::Approval(_, event) => members(&approval::ApprovalEvent::of(event)),
        Event::Rollout(service, event) => {
            let mut members = members(&rollout::RolloutEvent::of(event));
            let service = canonical::value(&rollout::Service::of(service));
            members.insert(SERVICE.to_owned(), service);
            members
        }
    }
}

/// The members of an event; its variant is said by the type and left out here.
fn members<T: Serialize>(event: &T) -> Map<String, Value> {
    let Value::Object(tagged) = canonical::value(event) else {
        return Map::new();
    };
    match tagged.into_iter().next() {
        Some((_, Value::Object(members))) => members,
        _ => Map::new(),
    }
}

/// The members of an event, read or as they are written.
enum Members<'a> {
    Read(Map<String, Value>),
    Written(&'a RawValue),
}

impl Members<'_> {
    fn read(self) -> serde_json::Result<Map<String, Value>> {
        match self {
            Self::Read(members) => Ok(members),
            Self::Written(text) => serde_json::from_str(text.get()),
        }
    }

    /// The event they are, as the variant of its aggregate that they belong to.
    fn parse<T: DeserializeOwned>(self, variant: &str) -> serde_json::Result<T> {
        match self {
            Self::Read(members) => {
                let tagged = Map::from_iter([(variant.to_owned(), Value::Object(members))]);
                T::deserialize(Value::Object(tagged))
            }
            Self::Written(text) => {
                serde_json::from_str(&format!("{{\"{variant}\":{}}}", text.get()))
            }
        }
    }
}

fn event_of(kind: &Kind, subject: &str, data: Members<'_>) -> Result<Event, DecodeError> {
    Ok(match kind.aggregate {
        "secret" => Event::Secret(
            id_of(kind, subject)?,
            core_of::<secret::SecretEvent>(kind, data)?,
        ),
        "binding" => Event::Binding(
            id_of(kind, subject)?,
            core_of::<binding::BindingEvent>(kind, data)?,
        ),
        "host" => Event::Host(
            id_of(kind, subject)?,
            core_of::<host::HostEvent>(kind, data)?,
        ),
        "rotation" => Event::Rotation(
            id_of(kind, subject)?,
            core_of::<rotation::RotationEvent>(kind, data)?,
        ),
        "revocation" => Event::Revocation(
            id_of(kind, subject)?,
            core_of::<revocation::RevocationEvent>(kind, data)?,
        ),
        "store" => Event::Store(
            id_of(kind, subject)?,
            core_of::<store::StoreEvent>(kind, data)?,
        ),
        "notification" => Event::Notification(
            id_of(kind, subject)?,
            core_of::<notification::NotificationEvent>(kind, data)?,
        ),
        "signal" => Event::Signal(
            id_of(kind, subject)?,
            core_of::<signal::SignalEvent>(kind, data)?,
        ),
        "playbook" => Event::Playbook(
            id_of(kind, subject)?,
            core_of::<playbook::PlaybookEvent>(kind, data)?,
        ),
        "playbook_run" => Event::PlaybookRun(
            id_of(kind, subject)?,
            core_of::<playbook_run::PlaybookRunEvent>(kind, data)?,
        ),
        "policy" => Event::Policy(
            id_of(kind, subject)?,
            core_of::<policy::PolicyEvent>(kind, data)?,
        ),
        "token" => Event::Token(
            id_of(kind, subject)?,
            core_of::<token::TokenEvent>(kind, data)?,
        ),
        "approval" => Event::Approval(
            id_of(kind, subject)?,
            core_of::<approval::ApprovalEvent>(kind, data)?,
        ),
        "rollout" => rollout_of(kind, data)?,
        _ => {
            let shape = |what| move |source| DecodeError::Shape { what, source };
            let mut data = data.read().map_err(shape(kind.name))?;
            let consumer = data.remove(CONSUMER).unwrap_or(Value::Null);
            let key = Consumer::deserialize(consumer).map_err(shape(CONSUMER))?;
            let event = core_of::<AssignmentEvent>(kind, Members::Read(data))?;
            Event::Assignment(key.into_core(), event)
        }
    })
}

fn rollout_of(kind: &Kind, data: Members<'_>) -> Result<Event, DecodeError> {
    let shape = |what| move |source| DecodeError::Shape { what, source };
    let mut data = data.read().map_err(shape(kind.name))?;
    let service = data.remove(SERVICE).unwrap_or(Value::Null);
    let service = rollout::Service::deserialize(service).map_err(shape(SERVICE))?;
    let event = core_of::<rollout::RolloutEvent>(kind, Members::Read(data))?;
    Ok(Event::Rollout(service.into_core(), event))
}

fn id_of<T: TextForm>(kind: &Kind, subject: &str) -> Result<T, DecodeError> {
    let (aggregate, id) = subject.split_once('/').unwrap_or((subject, ""));
    if aggregate != kind.aggregate {
        return Err(envelope::wrong(
            "subject",
            "names another aggregate than the type",
        ));
    }
    T::parse_text(id).map_err(|fault| DecodeError::Attribute {
        name: "subject",
        fault,
    })
}

fn core_of<T: Mirror + DeserializeOwned>(
    kind: &Kind,
    data: Members<'_>,
) -> Result<T::Core, DecodeError> {
    let event: T = data
        .parse(kind.variant)
        .map_err(|source| DecodeError::Shape {
            what: kind.name,
            source,
        })?;
    Ok(event.into_core())
}
