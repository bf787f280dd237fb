//! The wire form of a message: a frame of header, body and signature.
//!
//! `KWB1`, length of the header (4 bytes, big endian), header (JSON), body, Ed25519 signature (64
//! bytes) over everything before it. The header names id, sender, receiver, trace context and kind
//! of body, so a signature holds for one message to one receiver. Reading trusts nothing that was
//! not verified: size, frame, header, sender, signature, receiver, body, right to send, in this order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use keywheel_core::audit::Role;
use keywheel_core::id::EventId;
use keywheel_engine::authority::{self, Destination};
use keywheel_engine::port::bus::{Address, Body, Message, Topic};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::wire::NotAWorkersCommand;
use keywheel_seal::sign::{Signature, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::body::{self, Kind};
use crate::refusal::Refusal;
use crate::word;

/// The largest frame, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// The longest trace context, in bytes.
pub const MAX_TRACEPARENT_BYTES: usize = 128;
/// What a bus signature is for.
pub const CONTEXT: &str = "keywheel/bus/v1";

const MAGIC: &[u8; 4] = b"KWB1";
const PREFIX_BYTES: usize = MAGIC.len() + 4;
const SIGNATURE_BYTES: usize = 64;
const MAX_HEADER_BYTES: usize = 1024;

/// Who one end of the bus is.
pub struct Identity {
    role: Role,
    key: SigningKey,
}

impl Identity {
    /// A role and the key it signs with.
    #[must_use]
    pub const fn new(role: Role, key: SigningKey) -> Self {
        Self { role, key }
    }

    /// Its role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The public half of its key.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }
}

/// Which key speaks for which role.
#[derive(Debug, Clone, Default)]
pub struct Trust(BTreeMap<Role, VerifyingKey>);

impl Trust {
    /// One key per role.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (Role, VerifyingKey)>) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl FromIterator<(Role, VerifyingKey)> for Trust {
    fn from_iter<I: IntoIterator<Item = (Role, VerifyingKey)>>(keys: I) -> Self {
        Self::new(keys)
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy)]
pub enum Receiver<'a> {
    /// Everyone who reads a topic.
    Topic(&'a Topic),
    /// Whoever serves an address.
    Request(Address),
    /// Whoever asked with this id.
    Answer(Address, [u8; 16]),
}

impl Receiver<'_> {
    /// Its word on the wire.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Topic(topic) => word::of_topic(topic),
            Self::Request(address) => format!("request/{}", word::of_address(*address)),
            Self::Answer(address, id) => {
                let id = EventId::from_bytes(*id);
                format!("answer/{}/{id}", word::of_address(*address))
            }
        }
    }

    const fn destination(&self) -> Destination<'_> {
        match self {
            Self::Topic(topic) => Destination::Topic(topic),
            Self::Request(address) => Destination::Request(*address),
            Self::Answer(address, _) => Destination::Answer(*address),
        }
    }
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Over the size limit.
    #[error(
        "the message has {bytes} bytes, at most {MAX_MESSAGE_BYTES} are allowed; send it in parts"
    )]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// The role may not say this there; receivers would drop it.
    #[error("{0} may not send this here")]
    NotPermitted(&'static str),
    /// People's commands do not travel on the bus.
    #[error(transparent)]
    NotAWorkersCommand(#[from] NotAWorkersCommand),
    /// No trace context is that long.
    #[error("the trace context is longer than {MAX_TRACEPARENT_BYTES} bytes")]
    TraceTooLong,
    /// A part did not become JSON.
    #[error("the message cannot be written")]
    Write(#[source] serde_json::Error),
}

impl From<EncodeError> for PortError {
    fn from(error: EncodeError) -> Self {
        Self::caused(
            ErrorKind::Denied,
            format!("message not sent: {error}"),
            error,
        )
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    trace: Option<Cow<'a, str>>,
    kind: Kind,
}

/// Writes and signs a message, after checking that receivers will take it.
///
/// # Errors
/// When the sender may not send it there, or it is too large.
pub fn encode(
    sender: &Identity,
    to: Receiver<'_>,
    id: [u8; 16],
    traceparent: Option<&str>,
    body: &Body,
) -> Result<Arc<[u8]>, EncodeError> {
    if !authority::may_send(sender.role, body, to.destination()) {
        return Err(EncodeError::NotPermitted(word::of_role(sender.role)));
    }
    encode_unchecked(sender, to, id, traceparent, body)
}

/// Writes and signs a message without asking whether the sender may send it: what a compromised
/// service would do. For tests of receivers.
///
/// # Errors
/// When it is too large.
pub fn encode_unchecked(
    sender: &Identity,
    to: Receiver<'_>,
    id: [u8; 16],
    traceparent: Option<&str>,
    body: &Body,
) -> Result<Arc<[u8]>, EncodeError> {
    if traceparent.is_some_and(|trace| trace.len() > MAX_TRACEPARENT_BYTES) {
        return Err(EncodeError::TraceTooLong);
    }
    let (kind, payload) = body::to_bytes(body)?;
    let header = Header {
        id: EventId::from_bytes(id).to_string().into(),
        from: word::of_role(sender.role).into(),
        to: to.word().into(),
        trace: traceparent.map(Cow::from),
        kind,
    };
    let header = serde_json::to_vec(&header).map_err(EncodeError::Write)?;
    let bytes = PREFIX_BYTES + header.len() + payload.len() + SIGNATURE_BYTES;
    if bytes > MAX_MESSAGE_BYTES {
        return Err(EncodeError::TooLarge { bytes });
    }
    let header_bytes = u32::try_from(header.len()).map_err(|_| EncodeError::TooLarge { bytes })?;
    let mut frame = Vec::with_capacity(bytes);
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&header_bytes.to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(&payload);
    let signature = sender.key.sign(CONTEXT, &frame);
    frame.extend_from_slice(&signature.to_bytes());
    Ok(frame.into())
}

/// Reads a message that arrived for `receiver`.
///
/// # Errors
/// With the reason why it must be dropped.
pub fn decode(trust: &Trust, receiver: Receiver<'_>, frame: &[u8]) -> Result<Message, Refusal> {
    if frame.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::TooLarge {
            bytes: frame.len(),
            limit: MAX_MESSAGE_BYTES,
        });
    }
    let parts = split(frame)?;
    let header: Header<'_> =
        serde_json::from_slice(parts.header).map_err(|_| Refusal::Malformed("header"))?;
    let role = word::to_role(&header.from).ok_or(Refusal::UnknownSender("an unknown role"))?;
    let name = word::of_role(role);
    let key = trust.0.get(&role).ok_or(Refusal::UnknownSender(name))?;
    key.verify(CONTEXT, parts.signed, &parts.signature)
        .map_err(|_| Refusal::Forged(name))?;
    if header.to != receiver.word() {
        return Err(Refusal::WrongReceiver);
    }
    let id = EventId::parse(&header.id).map_err(|_| Refusal::Malformed("id"))?;
    let trace = header
        .trace
        .filter(|trace| trace.len() <= MAX_TRACEPARENT_BYTES);
    let body = body::from_bytes(header.kind, parts.payload)?;
    if !authority::may_send(role, &body, receiver.destination()) {
        return Err(Refusal::NotPermitted(name));
    }
    Ok(Message {
        id: *id.bytes(),
        sender: role,
        traceparent: trace.map(Cow::into_owned),
        body,
    })
}

struct Parts<'a> {
    signed: &'a [u8],
    header: &'a [u8],
    payload: &'a [u8],
    signature: Signature,
}

fn split(frame: &[u8]) -> Result<Parts<'_>, Refusal> {
    let short = || Refusal::Malformed("too short");
    let (signed, signature) = frame
        .split_last_chunk::<SIGNATURE_BYTES>()
        .ok_or_else(short)?;
    let rest = signed
        .strip_prefix(MAGIC)
        .ok_or(Refusal::Malformed("not a frame"))?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
    if length > MAX_HEADER_BYTES {
        return Err(Refusal::Malformed("header too long"));
    }
    let (header, payload) = rest.split_at_checked(length).ok_or_else(short)?;
    let signature = Signature::from_bytes(*signature);
    Ok(Parts {
        signed,
        header,
        payload,
        signature,
    })
}

#[cfg(test)]
mod tests;
