//! Bodies as JSON, the `data` of a message's CloudEvent. What the core knows is written by
//! `keywheel-schemas`; the rest has its shape in [`shape`].
//!
//! Events and audit records are there as the very JSON text that was hashed, so they arrive bit for
//! bit. Reading is bounded by the message and never panics.

mod presence;
mod shape;
mod store;

use std::sync::Arc;

use keywheel_core::audit::Role;
use keywheel_core::effect::Effect;
use keywheel_core::id::HostId;
use keywheel_engine::port::bus::Body;
use keywheel_engine::port::journal::{AuditLeaf, RecordedEvent};
use keywheel_schemas::event;
use keywheel_schemas::mirror::{Mirror, Text};
use keywheel_schemas::wire::message::{
    EventShape, EventsShape, FailedShape, GrantedShape, HostShape, HostsShape, KeyShape, Kind,
    Nothing, Octet, ReadAuditShape, ReadEventsShape, RecordShape, RecordsShape, RenewalShape,
    RotationShape, SealedShape, StashShape, SubmitShape, ValueShape, VerdictShape, WorkShape,
};
use keywheel_schemas::wire::presence::PresenceShape;
use keywheel_schemas::wire::{self, DecodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::envelope::EncodeError;
use crate::refusal::Refusal;
use shape::{narrow, wide};

/// Who says it.
pub(crate) type Sender = (Role, Option<HostId>);

type Written = Result<(Kind, Box<RawValue>), EncodeError>;

/// Writes a body.
pub(crate) fn to_json(body: &Body) -> Written {
    match body {
        Body::Event(event) => shaped(Kind::Event, &write_event(event)?),
        Body::Audit(leaf) => shaped(Kind::Audit, &write_leaf(leaf)?),
        Body::Work {
            effect,
            deadline,
            first,
        } => {
            let shape = WorkShape {
                effect: raw(wire::effect_to_json(effect))?,
                deadline: Text(*deadline),
                first: *first,
            };
            shaped(Kind::Work, &shape)
        }
        Body::Plan(plan) => written(Kind::Plan, wire::plan_to_json(plan)),
        Body::Submit { id, command } => {
            let id = Text(*id);
            let command = raw(wire::command_to_json(command)?)?;
            shaped(Kind::Submit, &SubmitShape { id, command })
        }
        Body::Verdict(verdict) => shaped(Kind::Verdict, &shape::verdict(verdict)),
        Body::ReadEvents { after, limit } => {
            let (after, limit) = (*after, wide(*limit));
            shaped(Kind::ReadEvents, &ReadEventsShape { after, limit })
        }
        Body::Events(events) => {
            let events = events.iter().map(write_event).collect::<Result<_, _>>()?;
            shaped(Kind::Events, &EventsShape { events })
        }
        Body::ReadAudit { from, limit } => {
            let (from, limit) = (*from, wide(*limit));
            shaped(Kind::ReadAudit, &ReadAuditShape { from, limit })
        }
        Body::AuditLeaves(leaves) => {
            let records = leaves.iter().map(write_leaf).collect::<Result<_, _>>()?;
            shaped(Kind::AuditLeaves, &RecordsShape { records })
        }
        Body::ReadPlan { host } => shaped(Kind::ReadPlan, &HostShape { host: Text(*host) }),
        Body::ReadHosts => shaped(Kind::ReadHosts, &Nothing {}),
        Body::Hosts(hosts) => shaped(Kind::Hosts, &shape::hosts(hosts)),
        other => write_value(other),
    }
}

/// Bodies about values, and the short answers.
fn write_value(body: &Body) -> Written {
    match body {
        Body::Renew(ask) => renewal(Kind::Renew, ask),
        Body::Renewed(answer) => renewal(Kind::Renewed, answer),
        Body::OpenValue(request) => shaped(Kind::OpenValue, &shape::value(request)),
        Body::Granted { sealing_key } => {
            let sealing_key = Text(*sealing_key);
            shaped(Kind::Granted, &GrantedShape { sealing_key })
        }
        Body::SealedValue(sealed) => {
            let sealed = Octet::of(sealed);
            shaped(Kind::SealedValue, &SealedShape { sealed })
        }
        Body::StoreKey(key) => shaped(Kind::StoreKey, &KeyShape { key: Text(*key) }),
        Body::Stash { token, sealed } => {
            let (rotation, sealed) = (Text(*token), Octet::of(sealed));
            shaped(Kind::Stash, &StashShape { rotation, sealed })
        }
        Body::DropStash { token } => {
            let rotation = Text(*token);
            shaped(Kind::DropStash, &RotationShape { rotation })
        }
        Body::Failed { kind, text } => shaped(Kind::Failed, &shape::failed(*kind, text)),
        Body::Presence(said) => shaped(Kind::Presence, &presence::shape(said)),
        Body::ReadStoreKey => shaped(Kind::ReadStoreKey, &Nothing {}),
        other => store::write(other),
    }
}

/// Reads a body.
pub(crate) fn from_json(kind: Kind, sender: Sender, data: &RawValue) -> Result<Body, Refusal> {
    let bytes = data.get().as_bytes();
    Ok(match kind {
        Kind::Event => Body::Event(read_event(parse("event", bytes)?)?),
        Kind::Audit => Body::Audit(read_leaf(parse("audit record", bytes)?)),
        Kind::Work => {
            let shape = parse::<WorkShape>("work", bytes)?;
            Body::Work {
                effect: effect(shape.effect.get().as_bytes())?,
                deadline: shape.deadline.0,
                first: shape.first,
            }
        }
        Kind::Plan => Body::Plan(wire::plan_from_json(bytes).map_err(Refusal::Body)?),
        Kind::Submit => {
            let shape = parse::<SubmitShape>("submit", bytes)?;
            let command = wire::command_from_json(shape.command.get().as_bytes());
            Body::Submit {
                id: shape.id.0,
                command: command.map_err(Refusal::Body)?,
            }
        }
        Kind::Verdict => Body::Verdict(shape::to_verdict(parse::<VerdictShape>("verdict", bytes)?)),
        Kind::ReadEvents => {
            let asked = parse::<ReadEventsShape>("request for events", bytes)?;
            Body::ReadEvents {
                after: asked.after,
                limit: narrow(asked.limit),
            }
        }
        Kind::Events => {
            let events = parse::<EventsShape>("events", bytes)?.events;
            Body::Events(
                events
                    .into_iter()
                    .map(read_event)
                    .collect::<Result<_, _>>()?,
            )
        }
        Kind::ReadAudit => {
            let asked = parse::<ReadAuditShape>("request for audit records", bytes)?;
            Body::ReadAudit {
                from: asked.from,
                limit: narrow(asked.limit),
            }
        }
        Kind::AuditLeaves => {
            let records = parse::<RecordsShape>("audit records", bytes)?.records;
            Body::AuditLeaves(records.into_iter().map(read_leaf).collect())
        }
        Kind::ReadPlan => Body::ReadPlan {
            host: parse::<HostShape>("request for a plan", bytes)?.host.0,
        },
        Kind::ReadHosts => parse::<Nothing>("request for hosts", bytes).map(|_| Body::ReadHosts)?,
        Kind::Hosts => Body::Hosts(shape::to_hosts(parse::<HostsShape>("hosts", bytes)?)),
        Kind::Presence => {
            let shape = parse::<PresenceShape>("presence", bytes)?;
            Body::Presence(Box::new(presence::presence(shape, sender)?))
        }
        other => read_value(other, bytes)?,
    })
}

fn read_value(kind: Kind, bytes: &[u8]) -> Result<Body, Refusal> {
    Ok(match kind {
        Kind::OpenValue => Body::OpenValue(shape::to_value(&parse::<ValueShape>(
            "request for a value",
            bytes,
        )?)),
        Kind::Renew => Body::Renew(
            parse::<RenewalShape>("request for credentials", bytes)?
                .text
                .into_bytes(),
        ),
        Kind::Renewed => Body::Renewed(
            parse::<RenewalShape>("credentials", bytes)?
                .text
                .into_bytes(),
        ),
        Kind::Granted => Body::Granted {
            sealing_key: parse::<GrantedShape>("grant", bytes)?.sealing_key.0,
        },
        Kind::SealedValue => Body::SealedValue(
            parse::<SealedShape>("sealed value", bytes)?
                .sealed
                .into_bytes(),
        ),
        Kind::ReadStoreKey => {
            parse::<Nothing>("request for a key", bytes).map(|_| Body::ReadStoreKey)?
        }
        Kind::StoreKey => Body::StoreKey(parse::<KeyShape>("key", bytes)?.key.0),
        Kind::Stash => {
            let shape = parse::<StashShape>("stash", bytes)?;
            Body::Stash {
                token: shape.rotation.0,
                sealed: shape.sealed.into_bytes(),
            }
        }
        Kind::DropStash => Body::DropStash {
            token: parse::<RotationShape>("dropped stash", bytes)?.rotation.0,
        },
        Kind::Failed => shape::to_failed(parse::<FailedShape>("failure", bytes)?),
        other => store::read(other, bytes)?,
    })
}

fn renewal(kind: Kind, bytes: &[u8]) -> Written {
    let text = Octet::of(bytes);
    shaped(kind, &RenewalShape { text })
}

fn shaped<T: Serialize>(kind: Kind, shape: &T) -> Written {
    let data = serde_json::value::to_raw_value(shape).map_err(EncodeError::Write)?;
    Ok((kind, data))
}

fn written(kind: Kind, bytes: Vec<u8>) -> Written {
    Ok((kind, raw(bytes)?))
}

/// JSON text as it is; anything that would not arrive bit for bit is refused.
fn raw(bytes: Vec<u8>) -> Result<Box<RawValue>, EncodeError> {
    let text = String::from_utf8(bytes).map_err(|_| EncodeError::NotJson)?;
    let length = text.len();
    let raw = RawValue::from_string(text).map_err(EncodeError::Write)?;
    if raw.get().len() == length {
        Ok(raw)
    } else {
        Err(EncodeError::NotJson)
    }
}

fn parse<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|source| Refusal::Body(DecodeError::Shape { what, source }))
}

fn effect(bytes: &[u8]) -> Result<Effect, Refusal> {
    wire::effect_from_json(bytes).map_err(Refusal::Body)
}

fn write_event(event: &RecordedEvent) -> Result<EventShape, EncodeError> {
    Ok(EventShape {
        number: event.number,
        hash: Text(event.hash),
        signature: Octet::of(&event.signature),
        event: raw(event.bytes.to_vec())?,
    })
}

fn read_event(shape: EventShape) -> Result<RecordedEvent, Refusal> {
    let bytes = shape.event.get().as_bytes();
    let (meta, event) = event::decode(bytes).map_err(Refusal::Body)?;
    if meta.number != shape.number {
        return Err(Refusal::Malformed("event under another number"));
    }
    let signature = shape.signature.into_bytes();
    let signature = <[u8; 64]>::try_from(signature)
        .map_err(|_| Refusal::Malformed("event's signature of another length"))?;
    Ok(RecordedEvent {
        number: shape.number,
        id: meta.id,
        time: meta.time,
        traceparent: meta.traceparent,
        event,
        bytes: Arc::from(bytes),
        hash: shape.hash.into_core(),
        signature,
    })
}

fn write_leaf(leaf: &AuditLeaf) -> Result<RecordShape, EncodeError> {
    Ok(RecordShape {
        index: leaf.index,
        record: raw(leaf.bytes.to_vec())?,
    })
}

fn read_leaf(shape: RecordShape) -> AuditLeaf {
    AuditLeaf {
        index: shape.index,
        bytes: Arc::from(shape.record.get().as_bytes()),
    }
}
