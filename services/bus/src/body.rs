//! Bodies as bytes. What the core knows is written by `keywheel-schemas`; the rest has its shape here.
//!
//! Events, audit leaves and sealed values travel as their stored bytes, behind fixed-size numbers,
//! so what was hashed or sealed arrives bit for bit. Reading is bounded by the frame and never panics.

use std::sync::Arc;

use keywheel_core::decision::RejectionKind;
use keywheel_core::id::{CommandId, DeliveryId, HostId, RotationId, SecretId};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Body, ValueRequest};
use keywheel_engine::port::journal::{AuditLeaf, RecordedEvent, Verdict};
use keywheel_schemas::wire::DecodeError;
use keywheel_schemas::{event, wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::envelope::EncodeError;
use crate::refusal::Refusal;

/// Which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Event,
    Audit,
    Work,
    Plan,
    Submit,
    Verdict,
    ReadEvents,
    Events,
    ReadAudit,
    AuditLeaves,
    ReadPlan,
    OpenValue,
    Granted,
    SealedValue,
    ReadStoreKey,
    StoreKey,
    Stash,
    DropStash,
    Done,
    Failed,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum VerdictShape {
    Accepted { number: u64 },
    Rejected { kind: RejectionWord, text: String },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RejectionWord {
    NotFound,
    Conflict,
    Invalid,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadShape {
    from: u64,
    limit: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailedShape {
    kind: ErrorWord,
    text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ErrorWord {
    Conflict,
    NotFound,
    Denied,
    Unavailable,
    Corrupt,
}

/// Writes a body.
pub(crate) fn to_bytes(body: &Body) -> Result<(Kind, Vec<u8>), EncodeError> {
    Ok(match body {
        Body::Event(event) => (Kind::Event, write_event(event)),
        Body::Audit(leaf) => (Kind::Audit, write_leaf(leaf)),
        Body::Work(effect) => (Kind::Work, wire::effect_to_json(effect)),
        Body::Plan(plan) => (Kind::Plan, wire::plan_to_json(plan)),
        Body::Submit { id, command } => {
            let command = wire::command_to_json(command)?;
            (Kind::Submit, [id.bytes().as_slice(), &command].concat())
        }
        Body::Verdict(verdict) => (Kind::Verdict, json(&shape_of_verdict(verdict))?),
        Body::ReadEvents { after, limit } => (Kind::ReadEvents, json(&read(*after, *limit))?),
        Body::Events(events) => (Kind::Events, write_list(events.iter().map(write_event))),
        Body::ReadAudit { from, limit } => (Kind::ReadAudit, json(&read(*from, *limit))?),
        Body::AuditLeaves(leaves) => (Kind::AuditLeaves, write_list(leaves.iter().map(write_leaf))),
        Body::ReadPlan { host } => (Kind::ReadPlan, host.bytes().to_vec()),
        Body::OpenValue(request) => (Kind::OpenValue, write_request(request)),
        Body::Granted { sealing_key } => (Kind::Granted, sealing_key.to_vec()),
        Body::SealedValue(sealed) => (Kind::SealedValue, sealed.clone()),
        Body::ReadStoreKey => (Kind::ReadStoreKey, Vec::new()),
        Body::StoreKey(key) => (Kind::StoreKey, key.to_vec()),
        Body::Stash { token, sealed } => (Kind::Stash, [token.bytes().as_slice(), sealed].concat()),
        Body::DropStash { token } => (Kind::DropStash, token.bytes().to_vec()),
        Body::Done => (Kind::Done, Vec::new()),
        Body::Failed { kind, text } => (Kind::Failed, json(&shape_of_failure(*kind, text))?),
    })
}

/// Reads a body.
pub(crate) fn from_bytes(kind: Kind, bytes: &[u8]) -> Result<Body, Refusal> {
    Ok(match kind {
        Kind::Event => Body::Event(read_event(bytes)?),
        Kind::Audit => Body::Audit(read_leaf(bytes)?),
        Kind::Work => Body::Work(wire::effect_from_json(bytes).map_err(Refusal::Body)?),
        Kind::Plan => Body::Plan(wire::plan_from_json(bytes).map_err(Refusal::Body)?),
        Kind::Submit => {
            let (id, command) = split::<16>(bytes)?;
            let id = CommandId::from_bytes(*id);
            let command = wire::command_from_json(command).map_err(Refusal::Body)?;
            Body::Submit { id, command }
        }
        Kind::Verdict => Body::Verdict(verdict_of_shape(parse("verdict", bytes)?)),
        Kind::ReadEvents => {
            let (after, limit) = parse::<ReadShape>("request for events", bytes)?.parts();
            Body::ReadEvents { after, limit }
        }
        Kind::Events => Body::Events(read_list(bytes, read_event)?),
        Kind::ReadAudit => {
            let (from, limit) = parse::<ReadShape>("request for audit records", bytes)?.parts();
            Body::ReadAudit { from, limit }
        }
        Kind::AuditLeaves => Body::AuditLeaves(read_list(bytes, read_leaf)?),
        Kind::ReadPlan => Body::ReadPlan {
            host: HostId::from_bytes(exact(bytes)?),
        },
        Kind::OpenValue => Body::OpenValue(read_request(bytes)?),
        Kind::Granted => Body::Granted {
            sealing_key: exact(bytes)?,
        },
        Kind::SealedValue => Body::SealedValue(bytes.to_vec()),
        Kind::ReadStoreKey => exact::<0>(bytes).map(|_| Body::ReadStoreKey)?,
        Kind::StoreKey => Body::StoreKey(exact(bytes)?),
        Kind::Stash => {
            let (token, sealed) = split::<16>(bytes)?;
            let token = RotationId::from_bytes(*token);
            Body::Stash {
                token,
                sealed: sealed.to_vec(),
            }
        }
        Kind::DropStash => Body::DropStash {
            token: RotationId::from_bytes(exact(bytes)?),
        },
        Kind::Done => exact::<0>(bytes).map(|_| Body::Done)?,
        Kind::Failed => failure_of_shape(parse("failure", bytes)?),
    })
}

impl ReadShape {
    fn parts(self) -> (u64, usize) {
        (self.from, usize::try_from(self.limit).unwrap_or(usize::MAX))
    }
}

fn read(from: u64, limit: usize) -> ReadShape {
    ReadShape {
        from,
        limit: u64::try_from(limit).unwrap_or(u64::MAX),
    }
}

fn json<T: Serialize>(shape: &T) -> Result<Vec<u8>, EncodeError> {
    serde_json::to_vec(shape).map_err(EncodeError::Write)
}

fn parse<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|source| Refusal::Body(DecodeError::Shape { what, source }))
}

fn split<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), Refusal> {
    bytes
        .split_first_chunk::<N>()
        .ok_or(Refusal::Malformed("body too short"))
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes
        .try_into()
        .map_err(|_| Refusal::Malformed("body of another length"))
}

fn write_event(event: &RecordedEvent) -> Vec<u8> {
    [
        event.number.to_be_bytes().as_slice(),
        &event.hash,
        &event.signature,
        &event.bytes,
    ]
    .concat()
}

fn read_event(bytes: &[u8]) -> Result<RecordedEvent, Refusal> {
    let (number, rest) = split::<8>(bytes)?;
    let (hash, rest) = split::<32>(rest)?;
    let (signature, bytes) = split::<64>(rest)?;
    let number = u64::from_be_bytes(*number);
    let (meta, event) = event::decode(bytes).map_err(Refusal::Body)?;
    if meta.number != number {
        return Err(Refusal::Malformed("event under another number"));
    }
    Ok(RecordedEvent {
        number,
        id: meta.id,
        time: meta.time,
        event,
        bytes: Arc::from(bytes),
        hash: *hash,
        signature: *signature,
    })
}

fn write_leaf(leaf: &AuditLeaf) -> Vec<u8> {
    [leaf.index.to_be_bytes().as_slice(), &leaf.bytes].concat()
}

fn read_leaf(bytes: &[u8]) -> Result<AuditLeaf, Refusal> {
    let (index, bytes) = split::<8>(bytes)?;
    Ok(AuditLeaf {
        index: u64::from_be_bytes(*index),
        bytes: Arc::from(bytes),
    })
}

/// Each item behind its length (8 bytes, big endian).
fn write_list(items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        out.extend_from_slice(&(item.len() as u64).to_be_bytes());
        out.extend_from_slice(&item);
    }
    out
}

fn read_list<T>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    let mut items = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (length, after) = split::<8>(rest)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let parts = after.split_at_checked(length);
        let (item, after) = parts.ok_or(Refusal::Malformed("list too short"))?;
        items.push(read(item)?);
        rest = after;
    }
    Ok(items)
}

fn write_request(request: &ValueRequest) -> Vec<u8> {
    [
        request.host.bytes().as_slice(),
        request.secret.bytes(),
        &request.version.to_be_bytes(),
        request.delivery.bytes(),
    ]
    .concat()
}

fn read_request(bytes: &[u8]) -> Result<ValueRequest, Refusal> {
    let (host, rest) = split::<16>(bytes)?;
    let (secret, rest) = split::<16>(rest)?;
    let (version, rest) = split::<8>(rest)?;
    Ok(ValueRequest {
        host: HostId::from_bytes(*host),
        secret: SecretId::from_bytes(*secret),
        version: u64::from_be_bytes(*version),
        delivery: DeliveryId::from_bytes(exact(rest)?),
    })
}

fn shape_of_verdict(verdict: &Verdict) -> VerdictShape {
    match verdict {
        Verdict::Accepted { number } => VerdictShape::Accepted { number: *number },
        Verdict::Rejected { kind, text } => VerdictShape::Rejected {
            kind: match kind {
                RejectionKind::NotFound => RejectionWord::NotFound,
                RejectionKind::Conflict => RejectionWord::Conflict,
                RejectionKind::Invalid => RejectionWord::Invalid,
            },
            text: text.clone(),
        },
    }
}

fn verdict_of_shape(shape: VerdictShape) -> Verdict {
    match shape {
        VerdictShape::Accepted { number } => Verdict::Accepted { number },
        VerdictShape::Rejected { kind, text } => Verdict::Rejected {
            kind: match kind {
                RejectionWord::NotFound => RejectionKind::NotFound,
                RejectionWord::Conflict => RejectionKind::Conflict,
                RejectionWord::Invalid => RejectionKind::Invalid,
            },
            text,
        },
    }
}

fn shape_of_failure(kind: ErrorKind, text: &str) -> FailedShape {
    let kind = match kind {
        ErrorKind::Conflict => ErrorWord::Conflict,
        ErrorKind::NotFound => ErrorWord::NotFound,
        ErrorKind::Denied => ErrorWord::Denied,
        ErrorKind::Unavailable => ErrorWord::Unavailable,
        ErrorKind::Corrupt => ErrorWord::Corrupt,
    };
    FailedShape {
        kind,
        text: text.to_owned(),
    }
}

fn failure_of_shape(shape: FailedShape) -> Body {
    let kind = match shape.kind {
        ErrorWord::Conflict => ErrorKind::Conflict,
        ErrorWord::NotFound => ErrorKind::NotFound,
        ErrorWord::Denied => ErrorKind::Denied,
        ErrorWord::Unavailable => ErrorKind::Unavailable,
        ErrorWord::Corrupt => ErrorKind::Corrupt,
    };
    Body::Failed {
        kind,
        text: shape.text,
    }
}
