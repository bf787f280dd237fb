//! A receiver of requests, signed as Standard Webhooks has it: one request for some records, in order.
//!
//! Invariants: only TLS leaves this machine, and the certificate is always checked; no redirect is followed; a repeat
//! has the same id as long as it has the same records; the key is read from its file for each request and stands in
//! no text. [`Way`] is what every sink that speaks HTTP has in common.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_rotators::endpoint::Endpoint;
use keywheel_rotators::webhook::Keys;
use keywheel_seal::Entropy;
use keywheel_stores::http::{Again, Answer, Call, Client, Door as _};

use super::line::Line;
use super::pump::SEND_TIMEOUT;
use super::{Target, secret};

/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Type of a message with records.
const KIND: &str = "keywheel.audit.records";

/// The way to one URL, and the connections that are kept to it.
pub(super) struct Way {
    clock: Arc<dyn Clock>,
    client: Client,
    url: String,
    ca_file: Option<String>,
}

impl Way {
    pub(super) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            client: Client::new(Arc::clone(&clock), entropy, MAX_ANSWER_BYTES),
            clock,
            url: String::new(),
            ca_file: None,
        }
    }

    pub(super) fn to(self, url: String, ca_file: Option<String>) -> Self {
        Self {
            url,
            ca_file,
            ..self
        }
    }

    /// Seconds since 1970.
    pub(super) fn seconds(&self) -> i64 {
        self.clock.now().micros().div_euclid(1_000_000)
    }

    pub(super) fn forget(&self) {
        self.client.forget_connections();
    }

    /// Posts a body with these headers; what is not a success is an error.
    pub(super) async fn post(
        &self,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Answer, PortError> {
        let authorities = secret::certificates(self.ca_file.as_deref()).await?;
        // Whoever writes the configuration may name what is on this machine, too.
        let near = near(&self.url).await?;
        let endpoint = Endpoint::parse(&self.url, authorities)?.allowing(&near, "audit.sinks_file");
        let ends = self.clock.monotonic().saturating_add(SEND_TIMEOUT);
        let until = Until::new(self.clock.now().plus(SEND_TIMEOUT), Arc::clone(&self.clock));
        let call = Call {
            until: &until,
            ends,
        };
        let again = Again {
            may_repeat: true,
            is_passing: |_, _| false,
        };
        let make = || request(&endpoint, headers, &body);
        let answer = self.client.send(&endpoint, &make, again, call).await?;
        match answer.status {
            200..300 => Ok(answer),
            status => {
                let text = format!("{} answers with status {status}", endpoint.name());
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
        }
    }
}

fn request(
    endpoint: &Endpoint,
    headers: &[(&str, String)],
    body: &Bytes,
) -> Result<Request<Full<Bytes>>, PortError> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(endpoint.path())
        .header(header::HOST, endpoint.name())
        .header(header::USER_AGENT, "keywheel");
    for (name, value) in headers {
        request = request.header(*name, value.as_str());
    }
    request.body(Full::new(body.clone())).map_err(|_| {
        let text = "the sink cannot be asked; correct its URL and the files it names";
        PortError::new(ErrorKind::Denied, text)
    })
}

/// The addresses of a URL's host.
async fn near(url: &str) -> Result<Vec<SocketAddr>, PortError> {
    let wrong = || PortError::new(ErrorKind::Denied, "the URL of the sink is none; correct it");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    let port = match uri.scheme_str() {
        Some("http") => 80,
        _ => 443,
    };
    let port = uri.port_u16().unwrap_or(port);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((host, port)).await;
    found.map(Iterator::collect).map_err(|error| {
        let text = format!("{host} has no address now");
        PortError::caused(ErrorKind::Unavailable, text, error)
    })
}

/// The sink.
pub(super) struct Receiver {
    pub(super) way: Way,
    pub(super) key_file: String,
}

#[async_trait]
impl Target for Receiver {
    async fn tell(&mut self, lines: &[Line]) -> Result<(), PortError> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
            return Ok(());
        };
        let key = secret::key(&self.key_file).await?;
        let keys = Keys::parse(&key).ok_or_else(|| {
            let text = format!(
                "the file {} holds no key that signs; put `whsec_` and the base64 of 24 to 64 random bytes there, as the receiver has it",
                self.key_file
            );
            PortError::new(ErrorKind::Denied, text)
        })?;
        let id = format!("audit-{}-{}-{}", first.sequence, last.sequence, last.leaf);
        let body = Bytes::from(body(lines));
        let timestamp = self.way.seconds();
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("webhook-signature", keys.sign(&id, timestamp, &body)),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-id", id),
        ];
        self.way.post(&headers, body).await.map(drop)
    }

    fn reset(&mut self) {
        self.way.forget();
    }
}

/// As Standard Webhooks has it: `type` and `data`.
fn body(lines: &[Line]) -> String {
    let records: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    format!(
        r#"{{"type":"{KIND}","data":{{"records":[{}]}}}}"#,
        records.join(",")
    )
}

#[cfg(test)]
pub(super) mod tests;
