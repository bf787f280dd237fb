//! The wire form of a message: one CloudEvents 1.0 document (structured JSON), and an Ed25519
//! signature over its bytes beside it.
//!
//! The document names id, sender (`source`), receiver, time, trace context and kind of body, so a
//! signature holds for one message to one receiver. Reading trusts nothing that was not verified:
//! size, document, sender, signature, receiver, freshness of requests, body, right to send, in this
//! order.

use std::borrow::Cow;

use keywheel_core::audit::Role;
use keywheel_core::id::{EventId, HostId};
use keywheel_core::time::Timestamp;
use keywheel_engine::authority::{self, Destination};
use keywheel_engine::port::bus::{Address, Body, Message, Topic};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::mirror::TextForm as _;
use keywheel_schemas::wire::NotAWorkersCommand;
use keywheel_schemas::wire::message::Kind;
use keywheel_seal::sign::Signature;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::body;
use crate::refusal::Refusal;
use crate::trust::{Identity, Trust};
use crate::word;

/// The largest document, in bytes.
pub const MAX_MESSAGE_BYTES: usize = keywheel_schemas::subject::MAX_FRAME_BYTES;
/// The longest trace context, in bytes.
pub const MAX_TRACEPARENT_BYTES: usize = 128;
/// How far the clocks of who asks and who serves may be apart. What is older was kept by somebody and
/// sent again; younger copies are known by their id.
pub const FRESHNESS: std::time::Duration = std::time::Duration::from_secs(120);
/// What a bus signature is for.
pub const CONTEXT: &str = "keywheel/bus/v1";

const SPEC_VERSION: &str = "1.0";
const DATA_TYPE: &str = "application/json";
/// First word of a source.
const SOURCE_PREFIX: &str = "keywheel/";

/// A message as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The CloudEvents document.
    pub document: Vec<u8>,
    /// Its sender's signature over the document.
    pub signature: [u8; 64],
}

impl Frame {
    /// Bytes it takes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.document.len() + self.signature.len()
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

/// What a sender says about a message besides its body.
#[derive(Debug, Clone, Copy)]
pub struct Heading<'a> {
    /// Its id.
    pub id: [u8; 16],
    /// When it is sent.
    pub time: Timestamp,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
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
    /// The sender may not say this there; receivers would drop it.
    #[error("{0} may not send this here")]
    NotPermitted(&'static str),
    /// People's commands do not travel on the bus.
    #[error(transparent)]
    NotAWorkersCommand(#[from] NotAWorkersCommand),
    /// No trace context is that long.
    #[error("the trace context is longer than {MAX_TRACEPARENT_BYTES} bytes")]
    TraceTooLong,
    /// What is stored as JSON is not.
    #[error("a part of the message is not plain JSON text")]
    NotJson,
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
struct Document<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    receiver: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    datacontenttype: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Writes and signs a message, after checking that receivers will take it.
///
/// # Errors
/// When the sender may not send it there, or it is too large.
pub fn encode(
    sender: &Identity,
    to: Receiver<'_>,
    heading: Heading<'_>,
    body: &Body,
) -> Result<Frame, EncodeError> {
    if !authority::may_send(sender.role(), sender.host(), body, to.destination()) {
        return Err(EncodeError::NotPermitted(word::of_role(sender.role())));
    }
    encode_unchecked(sender, to, heading, body)
}

/// Writes and signs a message without asking whether the sender may send it: what a compromised
/// service would do. For tests of receivers.
///
/// # Errors
/// When it is too large.
pub fn encode_unchecked(
    sender: &Identity,
    to: Receiver<'_>,
    heading: Heading<'_>,
    body: &Body,
) -> Result<Frame, EncodeError> {
    let trace = heading.traceparent;
    if trace.is_some_and(|trace| trace.len() > MAX_TRACEPARENT_BYTES) {
        return Err(EncodeError::TraceTooLong);
    }
    let (kind, data) = body::to_json(body)?;
    let document = Document {
        specversion: SPEC_VERSION.into(),
        id: EventId::from_bytes(heading.id).to_string().into(),
        source: source_of(sender).into(),
        kind: kind.type_name().into(),
        time: heading.time.text().into(),
        receiver: to.word().into(),
        traceparent: trace.map(Cow::from),
        datacontenttype: DATA_TYPE.into(),
        data: &data,
    };
    let document = serde_json::to_vec(&document).map_err(EncodeError::Write)?;
    if document.len() > MAX_MESSAGE_BYTES {
        let bytes = document.len();
        return Err(EncodeError::TooLarge { bytes });
    }
    let signature = sender.key().sign(CONTEXT, &document).to_bytes();
    Ok(Frame {
        document,
        signature,
    })
}

/// Reads a message that arrived for `receiver` at `now`.
///
/// # Errors
/// With the reason why it must be dropped.
pub fn decode(
    trust: &Trust,
    receiver: Receiver<'_>,
    now: Timestamp,
    frame: &Frame,
) -> Result<Message, Refusal> {
    read(trust, receiver, now, &frame.document, &frame.signature)
}

/// The same for a document and a signature that arrived apart.
pub(crate) fn read(
    trust: &Trust,
    receiver: Receiver<'_>,
    now: Timestamp,
    bytes: &[u8],
    signature: &[u8; 64],
) -> Result<Message, Refusal> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::TooLarge {
            bytes: bytes.len(),
            limit: MAX_MESSAGE_BYTES,
        });
    }
    let document: Document<'_> =
        serde_json::from_slice(bytes).map_err(|_| Refusal::Malformed("not a document of ours"))?;
    let source = Source::read(&document.source)?;
    let name = word::of_role(source.role);
    let key = trust.key_of(source.role, source.host);
    key.ok_or(Refusal::UnknownSender(name))?
        .verify(CONTEXT, bytes, &Signature::from_bytes(*signature))
        .map_err(|_| Refusal::Forged(name))?;
    if document.receiver != receiver.word() || source.deployment != trust.deployment().to_string() {
        return Err(Refusal::WrongReceiver);
    }
    if document.specversion != SPEC_VERSION || document.datacontenttype != DATA_TYPE {
        return Err(Refusal::Malformed("another kind of document"));
    }
    check_time(receiver, now, &document.time)?;
    let id = EventId::parse(&document.id).map_err(|_| Refusal::Malformed("id"))?;
    let kind = Kind::of_type(&document.kind).ok_or(Refusal::Malformed("unknown type"))?;
    let body = body::from_json(kind, (source.role, source.host), document.data)?;
    if !authority::may_send(source.role, source.host, &body, receiver.destination()) {
        return Err(Refusal::NotPermitted(name));
    }
    let trace = document.traceparent;
    let trace = trace.filter(|trace| trace.len() <= MAX_TRACEPARENT_BYTES);
    Ok(Message {
        id: *id.bytes(),
        sender: source.role,
        host: source.host,
        traceparent: trace.map(Cow::into_owned),
        body,
    })
}

/// Requests and presence must be of now. What is in another topic may be old, and answers belong to
/// one question.
fn check_time(receiver: Receiver<'_>, now: Timestamp, time: &str) -> Result<(), Refusal> {
    let time = Timestamp::parse_text(time).map_err(|_| Refusal::Malformed("time"))?;
    let apart = now.since(time).max(time.since(now));
    let is_of_now = matches!(
        receiver,
        Receiver::Request(_) | Receiver::Topic(Topic::Presence)
    );
    if is_of_now && apart > FRESHNESS {
        return Err(Refusal::Stale(FRESHNESS));
    }
    Ok(())
}

/// `keywheel/<deployment>/<role>` or `keywheel/<deployment>/injector/<host>`.
fn source_of(sender: &Identity) -> String {
    let role = word::of_role(sender.role());
    let deployment = sender.deployment();
    sender.host().map_or_else(
        || format!("{SOURCE_PREFIX}{deployment}/{role}"),
        |host| format!("{SOURCE_PREFIX}{deployment}/{role}/{host}"),
    )
}

struct Source<'a> {
    deployment: &'a str,
    role: Role,
    host: Option<HostId>,
}

impl<'a> Source<'a> {
    fn read(text: &'a str) -> Result<Self, Refusal> {
        let unknown = Refusal::UnknownSender("an unknown sender");
        let Some((deployment, sender)) = text
            .strip_prefix(SOURCE_PREFIX)
            .and_then(|rest| rest.split_once('/'))
        else {
            return Err(unknown);
        };
        let (role, host) = match sender.split_once('/') {
            None => (sender, None),
            Some((role, host)) => match HostId::parse(host) {
                Ok(host) => (role, Some(host)),
                Err(_) => return Err(unknown),
            },
        };
        let role = word::to_role(role).ok_or(unknown)?;
        Ok(Self {
            deployment,
            role,
            host,
        })
    }
}

#[cfg(test)]
mod tests;
