//! A message as a NATS message: the document is the payload, the signature a header.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, Message as Received};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::id::EventId;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::bus::Message;

use crate::envelope::{self, Frame, Receiver};
use crate::refusal::Refusal;
use crate::trust::Trust;

/// The header with the sender's signature, base64.
pub(super) const SIGNATURE_HEADER: &str = "Keywheel-Signature";
const CONTENT_TYPE_HEADER: &str = "Content-Type";
/// The content type of structured CloudEvents.
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Headers of any message of ours.
pub(super) fn headers(frame: &Frame) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE_HEADER, CONTENT_TYPE);
    headers.insert(SIGNATURE_HEADER, STANDARD.encode(frame.signature));
    headers
}

/// A message for a stream; the bus server drops a repeat of its id.
pub(super) fn to_publish(frame: Frame, id: [u8; 16], stream: &str) -> PublishMessage {
    let mut headers = headers(&frame);
    headers.insert(NATS_MESSAGE_ID, EventId::from_bytes(id).to_string());
    PublishMessage::build()
        .headers(headers)
        .expected_stream(stream)
        .payload(frame.document.into())
}

/// Reads a message that arrived for `receiver` at `now`.
pub(super) fn read(
    trust: &Trust,
    receiver: Receiver<'_>,
    now: Timestamp,
    received: &Received,
) -> Result<Message, Refusal> {
    let signature = signature(received.headers.as_ref())?;
    envelope::read(trust, receiver, now, &received.payload, &signature)
}

fn signature(headers: Option<&HeaderMap>) -> Result<[u8; 64], Refusal> {
    let header = headers.and_then(|headers| headers.get(SIGNATURE_HEADER));
    let header = header.ok_or(Refusal::Malformed("no signature"))?;
    let bytes = STANDARD.decode(header.as_str()).ok();
    bytes
        .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
        .ok_or(Refusal::Malformed(
            "the signature is not base64 of 64 bytes",
        ))
}
