//! One message to one receiver: a signed request, a message to a channel, to a subject, or to a mailbox.
//!
//! Invariants: a repeat has the same id; keys and URLs that are credentials are read from their files for each
//! message and stand in no text; what is the message's own fault is told apart from what is the receiver's,
//! for only that may pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use keywheel_bus::outward::{self, Outward};
use keywheel_core::notification::Receiver;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_rotators::endpoint::{Endpoint, refuse_near};
use keywheel_rotators::webhook::Keys;
use keywheel_seal::SecretBytes;
use keywheel_stores::http::{Again, Call, Client, Door, Stream};

use super::mail::{self, Envelope};
use super::message::Message;
use crate::desk::Inner;

/// How long one message may take.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer of a receiver that is read.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Setting that allows receivers of this machine and its link.
const ALLOW: &str = "signals.allow";

/// How sending a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The receiver has it.
    Done,
    /// The receiver does not take this message, now or later.
    Refused(String),
    /// It was not told now.
    Later(String),
    /// The same, but it may have it: something was on its way, and no answer came.
    Unheard(String),
}

/// Sends messages to one receiver, over connections that it keeps.
pub(crate) struct Sender {
    inner: Arc<Inner>,
    client: Client,
    /// The URL to which connections are kept.
    kept: SecretBytes,
    nats: Option<(Receiver, Outward)>,
    /// Whether the message may be on its way.
    is_out: Arc<AtomicBool>,
}

/// Notes that a connection was opened: from then on the message may be on its way.
struct Watched<'a> {
    endpoint: &'a Endpoint,
    is_out: &'a AtomicBool,
}

#[async_trait]
impl Door for Watched<'_> {
    fn name(&self) -> &str {
        self.endpoint.name()
    }

    async fn open(&self) -> Result<Box<dyn Stream>, PortError> {
        let stream = self.endpoint.open().await?;
        self.is_out.store(true, Ordering::Relaxed);
        Ok(stream)
    }
}

impl Sender {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let (clock, entropy) = (inner.parts.clock.clone(), inner.parts.entropy.clone());
        Self {
            // What was taken is not told again for what else its receiver says.
            client: Client::new(clock, entropy, MAX_ANSWER_BYTES).by_status(),
            inner,
            kept: SecretBytes::from(Vec::new()),
            nats: None,
            is_out: Arc::default(),
        }
    }

    /// Sends one.
    pub(crate) async fn send(&mut self, receiver: &Receiver, message: &Message) -> Told {
        self.is_out.store(false, Ordering::Relaxed);
        let sending = async {
            match receiver {
                Receiver::Webhook {
                    url,
                    key_file,
                    ca_file,
                } => self.webhook((url, key_file, ca_file), message).await,
                Receiver::Slack { url_file, ca_file } => {
                    self.slack((url_file, ca_file), message).await
                }
                Receiver::Nats { .. } => self.nats(receiver, message).await,
                Receiver::Email {
                    url,
                    from,
                    to,
                    credentials_file,
                    ca_file,
                } => {
                    let place = (url.as_str(), ca_file.as_str());
                    let envelope = Envelope { from, to };
                    self.mail((place, credentials_file), envelope, message)
                        .await
                }
            }
        };
        let sent = tokio::time::timeout(SEND_TIMEOUT, sending).await;
        match sent {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => self.untold(error.text),
            Err(_) => {
                self.nats = None;
                self.untold(format!("it does not answer within {SEND_TIMEOUT:?}"))
            }
        }
    }

    fn untold(&self, reason: String) -> Told {
        match self.is_out.load(Ordering::Relaxed) {
            true => Told::Unheard(reason),
            false => Told::Later(reason),
        }
    }

    async fn webhook(
        &mut self,
        (url, key_file, ca_file): (&str, &str, &str),
        message: &Message,
    ) -> Result<Told, PortError> {
        let key = self.inner.keys.read(key_file).await?;
        let keys = Keys::parse(&key).ok_or_else(|| {
            let text = format!(
                "the file {key_file} holds no key that signs; put `whsec_` and the base64 of 24 to 64 random bytes there, as the receiver has it"
            );
            PortError::new(ErrorKind::Denied, text)
        })?;
        let body = Bytes::copy_from_slice(&message.body);
        let timestamp = self.inner.parts.clock.now().micros().div_euclid(1_000_000);
        let signature = keys.sign(&message.id, timestamp, &body);
        let signed = move |request: hyper::http::request::Builder| {
            request
                .header(header::CONTENT_TYPE, "application/cloudevents+json")
                .header("webhook-id", message.id.as_str())
                .header("webhook-timestamp", timestamp)
                .header("webhook-signature", signature.as_str())
                .body(Full::new(body.clone()))
        };
        self.post((url, ca_file), &signed).await
    }

    async fn slack(
        &mut self,
        (url_file, ca_file): (&str, &str),
        message: &Message,
    ) -> Result<Told, PortError> {
        let url = self.inner.keys.read(url_file).await?;
        // EXPOSE: the request goes there.
        let text = std::str::from_utf8(url.expose()).map(str::trim);
        let text = text.map_err(|_| {
            let text = format!("the file {url_file} holds no URL; put the channel's there");
            PortError::new(ErrorKind::Denied, text)
        })?;
        let body = Bytes::from(message.slack());
        let plain = move |request: hyper::http::request::Builder| {
            request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
        };
        self.post((text, ca_file), &plain).await
    }

    async fn post(
        &mut self,
        (url, ca_file): (&str, &str),
        fill: &Fill<'_>,
    ) -> Result<Told, PortError> {
        let parts = &self.inner.parts;
        let authorities = self.inner.keys.authorities(ca_file).await?;
        let endpoint = Endpoint::parse(url, authorities)?.allowing(&parts.near, ALLOW);
        let place = SecretBytes::from(url.as_bytes().to_vec());
        if !self.kept.ct_eq(&place) {
            self.client.forget_connections();
            self.kept = place;
        }
        let clock = parts.clock.clone();
        let ends = clock.monotonic().saturating_add(SEND_TIMEOUT);
        let until = Until::new(clock.now().plus(SEND_TIMEOUT), clock);
        let call = Call {
            until: &until,
            ends,
        };
        // A repeat is known by its id; when it is sent again after an answer is not for a connection to say.
        let again = Again {
            may_repeat: true,
            is_passing: |_, _| false,
        };
        let make = || request(&endpoint, fill);
        let door = Watched {
            endpoint: &endpoint,
            is_out: &self.is_out,
        };
        let answer = self.client.send(&door, &make, again, call).await?;
        Ok(told(answer.status))
    }

    async fn mail(
        &self,
        ((url, ca_file), credentials_file): ((&str, &str), &str),
        envelope: Envelope<'_>,
        message: &Message,
    ) -> Result<Told, PortError> {
        let (keys, parts) = (&self.inner.keys, &self.inner.parts);
        let login = match credentials_file {
            "" => None,
            path => Some(keys.read(path).await?),
        };
        let authorities = keys.authorities(ca_file).await?;
        let endpoint = Endpoint::parse_mail(url, authorities)?;
        let stream = endpoint.allowing(&parts.near, ALLOW).open().await?;
        let now = parts.clock.now();
        self.is_out.store(true, Ordering::Relaxed);
        mail::submit(stream, login.as_ref(), envelope, (message, now)).await
    }

    async fn nats(&mut self, receiver: &Receiver, message: &Message) -> Result<Told, PortError> {
        let Receiver::Nats {
            url,
            subject,
            credentials_file,
            ca_file,
        } = receiver
        else {
            return Ok(Told::Later("it is no subject".to_owned()));
        };
        let (known, line) = match self.nats.take() {
            Some((known, line)) if known == *receiver => (known, line),
            _ => {
                let (host, port) = outward::place(url)?;
                refuse_near((&host, port), &self.inner.parts.near, ALLOW).await?;
                let keys = &self.inner.keys;
                let credentials = match credentials_file.as_str() {
                    "" => None,
                    path => Some(keys.read(path).await?),
                };
                let authorities = keys.authorities(ca_file).await?;
                let line = Outward::connect(url, credentials.as_ref(), authorities.as_deref());
                (receiver.clone(), line.await?)
            }
        };
        // One that failed is not kept: the next message connects anew.
        self.is_out.store(true, Ordering::Relaxed);
        line.publish(subject, &message.id, &message.body).await?;
        self.nats = Some((known, line));
        Ok(Told::Done)
    }
}

/// Adds headers and body.
type Fill<'a> = dyn Fn(hyper::http::request::Builder) -> Result<Request<Full<Bytes>>, hyper::http::Error>
    + Sync
    + 'a;

fn request(endpoint: &Endpoint, fill: &Fill<'_>) -> Result<Request<Full<Bytes>>, PortError> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(endpoint.path())
        .header(header::HOST, endpoint.name())
        .header(header::USER_AGENT, "keywheel");
    fill(request).map_err(|_| {
        let text = "the receiver cannot be asked; correct its URL";
        PortError::new(ErrorKind::Denied, text)
    })
}

/// Who says that this message is wrong is not asked again with it; whatever else is wrong may be mended.
fn told(status: u16) -> Told {
    match status {
        200..300 => Told::Done,
        400 | 413 | 415 | 422 => {
            Told::Refused(format!("the receiver refuses it with status {status}"))
        }
        _ => Told::Later(format!("the receiver answers with status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_message_s_own_fault_is_refused() {
        for status in [200, 202, 204] {
            assert_eq!(told(status), Told::Done);
        }
        for status in [400, 413, 415, 422] {
            assert!(matches!(told(status), Told::Refused(_)), "{status}");
        }
        for status in [302, 401, 403, 404, 408, 410, 429, 500, 503] {
            assert!(matches!(told(status), Told::Later(_)), "{status}");
        }
    }
}
