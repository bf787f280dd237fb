//! One signed request to a receiver and its answer.
//!
//! Invariants: only TLS leaves this machine, and the receiver's certificate is always checked; what listens
//! on this machine or its link is asked only where whoever started us named that address, however a name
//! resolves; no
//! redirect is followed, and an answer is bounded in time and in size; a value travels in a body
//! alone; what the receiver says against a request is told in few words, and not where it may quote a value;
//! a repeat is the same request under the same id, with a signature of its own time.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use keywheel_core::resource::Resource;
use keywheel_core::store::CredentialRef;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_schemas::webhook::{Kind, WebhookAnswer, WebhookRequest};
use keywheel_seal::{Entropy, SecretBytes};
use keywheel_stores::http::{Again, Answer, Call, Client, Door, Stream, json};

use super::signature::Keys;
use crate::address::{Address, MAX_URL_BYTES, Target, is_this_machine};
use crate::redis::{tls, wire};

/// Longest time for one request with its repeats.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Largest answer: a value of the largest size, every byte escaped, fits.
pub const MAX_ANSWER_BYTES: usize = 512 << 10;
/// Longest reason of a receiver that is told on, in characters.
pub const MAX_REASON_CHARS: usize = 200;
/// So many bytes of a value in a row make a reason that quotes it.
const QUOTED_BYTES: usize = 8;
const HTTPS_PORT: u16 = 443;
const HTTP_PORT: u16 = 80;

/// Beneath a failure: who was asked understood the request, or has no receiver there, and did nothing.
#[derive(Debug)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was done for that request")
    }
}

impl Error for Refused {}

impl Refused {
    /// Whether a failure is one.
    pub(super) fn is_beneath(error: &PortError) -> bool {
        let source = error.source.as_deref();
        source.is_some_and(|source| source.is::<Self>())
    }
}

/// The way to one receiver.
pub(super) struct Receiver {
    resource: Resource,
    address: Address,
    path: String,
    credentials: Arc<dyn Credentials>,
    clock: Arc<dyn Clock>,
    client: Client,
    near: Vec<SocketAddr>,
}

impl Receiver {
    /// The one that was declared. Opens no connection.
    pub(super) fn new(
        resource: Resource,
        credentials: Arc<dyn Credentials>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, PortError> {
        let (address, path) = parse(&resource.connection)?;
        let client = Client::new(Arc::clone(&clock), entropy, MAX_ANSWER_BYTES);
        Ok(Self {
            resource,
            address,
            path,
            credentials,
            clock,
            client,
            near: Vec::new(),
        })
    }

    pub(super) fn allowing(self, near: Vec<SocketAddr>) -> Self {
        Self { near, ..self }
    }

    /// Asks under an id, and again under the same where that helps. A refusal is an error, which quotes
    /// neither what was sent nor these other values.
    pub(super) async fn ask(
        &self,
        id: &str,
        request: &WebhookRequest<'_>,
        others: &[SecretBytes],
        until: &Until,
    ) -> Result<WebhookAnswer, PortError> {
        until.check()?;
        let keys = self.keys().await?;
        let body = Bytes::from_owner(json(request)?);
        let make = || self.request(id, &keys, &body);
        let limit = ANSWER_TIMEOUT.min(until.remaining());
        let call = Call {
            until,
            ends: self.clock.monotonic().saturating_add(limit),
        };
        let again = Again {
            may_repeat: true,
            is_passing,
        };
        let sent = self.client.send(self, &make, again, call);
        let answer = tokio::time::timeout(limit, sent).await.map_err(|_| {
            let text = format!(
                "{} does not answer within {limit:?}; see its log",
                self.name()
            );
            PortError::new(ErrorKind::Unavailable, text)
        })??;
        self.read(&answer, request, others)
    }

    async fn keys(&self) -> Result<Keys, PortError> {
        let admin = &self.resource.admin;
        let secret = CredentialRef::Secret(admin.clone());
        let key = self.credentials.read(&secret).await?;
        Keys::parse(&key).ok_or_else(|| {
            let text = format!(
                "secret `{admin}` holds no key that signs; put `whsec_` and the base64 of 24 to 64 random bytes there, as the receiver has it"
            );
            LoginRefused::beneath(PortError::new(ErrorKind::Denied, text))
        })
    }

    fn request(
        &self,
        id: &str,
        keys: &Keys,
        body: &Bytes,
    ) -> Result<Request<Full<Bytes>>, PortError> {
        let timestamp = self.clock.now().micros().div_euclid(1_000_000);
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.path.as_str())
            .header(header::HOST, self.name())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "keywheel")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", keys.sign(id, timestamp, body));
        request.body(Full::new(body.clone())).map_err(|_| {
            let text = format!("{} cannot be asked; correct the connection", self.name());
            PortError::new(ErrorKind::Denied, text)
        })
    }

    /// Those that the receiver's certificate has to come from (PEM); nothing means the system's.
    async fn authorities(&self) -> Result<Option<Vec<u8>>, PortError> {
        let Some(ca) = &self.resource.ca else {
            return Ok(None);
        };
        let file = CredentialRef::File(ca.clone());
        let authorities = self.credentials.read(&file).await?;
        // EXPOSE: the receiver's certificate is checked with it; certificates are no secret.
        Ok(Some(authorities.expose().to_vec()))
    }

    fn read(
        &self,
        answer: &Answer,
        request: &WebhookRequest<'_>,
        others: &[SecretBytes],
    ) -> Result<WebhookAnswer, PortError> {
        match answer.status {
            200..300 => self.understand(answer, request.kind),
            status => Err(self.refusal(status, answer, (request, others))),
        }
    }

    /// What a success says; of a step that is only done, nothing is read.
    fn understand(&self, answer: &Answer, kind: Kind) -> Result<WebhookAnswer, PortError> {
        let is_told = matches!(kind, Kind::Create | Kind::Test | Kind::Probe);
        if !is_told || answer.body.is_empty() {
            return Ok(WebhookAnswer::default());
        }
        // The parser's own words may tell what it read.
        serde_json::from_slice(&answer.body).map_err(|_| {
            let text = format!(
                "{} answers {} with something else than rotator.webhook_answer.v1; correct the connection, or what answers there",
                self.name(),
                answer.status
            );
            PortError::new(ErrorKind::Denied, text)
        })
    }

    fn refusal(
        &self,
        status: u16,
        answer: &Answer,
        (request, others): (&WebhookRequest<'_>, &[SecretBytes]),
    ) -> PortError {
        let name = self.name();
        let (kind, why) = match status {
            300..=399 => (
                ErrorKind::Denied,
                "sends elsewhere, which is not followed; write the right URL as `connection`"
                    .to_owned(),
            ),
            401 | 403 => {
                let text = format!(
                    "{name} does not take the signature (status {status}); put the receiver's key into secret `{}`, and set both clocks right",
                    self.resource.admin
                );
                return LoginRefused::beneath(PortError::new(ErrorKind::Denied, text));
            }
            404 | 405 | 410 => (
                ErrorKind::Denied,
                "has no receiver at that path; correct the connection".to_owned(),
            ),
            _ if is_passing(status, true) => {
                let when = answer.retry_after.map_or_else(String::new, |wait| {
                    format!(" and asks to come again in {} s", wait.as_secs())
                });
                (
                    ErrorKind::Unavailable,
                    format!("cannot now{when}; see its log"),
                )
            }
            _ => (
                ErrorKind::Denied,
                format!("refuses{}; see its log", reason(answer, request, others)),
            ),
        };
        let text = format!("{name} {why} (status {status})");
        match status {
            400..=499 if kind == ErrorKind::Denied => PortError::caused(kind, text, Refused),
            _ => PortError::new(kind, text),
        }
    }
}

#[async_trait]
impl Door for Receiver {
    fn name(&self) -> &str {
        &self.address.name
    }

    async fn open(&self) -> Result<Box<dyn Stream>, PortError> {
        let authorities = self.authorities().await?;
        let at = addresses(&self.address, &self.near, "rotators.webhook_allow").await?;
        let opened = tls::connect_to(&self.address, &at, authorities.as_deref()).await;
        let stream = opened.map_err(|failure| wire::explain(failure, self.name()))?;
        Ok(Box::new(stream))
    }
}

/// Where an address's name leads now, without what may not be asked; `setting` allows more.
pub(crate) async fn addresses(
    address: &Address,
    near: &[SocketAddr],
    setting: &str,
) -> Result<Vec<SocketAddr>, PortError> {
    let (host, port) = match &address.target {
        Target::Tcp(host, port) => (host.as_str(), *port),
        // No URL of a receiver leads to one.
        Target::Socket(_) => return Ok(Vec::new()),
    };
    let name = &address.name;
    let found = look_up((host, port), name).await?;
    let may_be_asked = |at: &&SocketAddr| may_be_asked(near, **at);
    let allowed: Vec<SocketAddr> = found.iter().filter(may_be_asked).copied().collect();
    match (allowed.is_empty(), found.first()) {
        (true, Some(refused)) => Err(too_near(name, *refused, setting)),
        _ => Ok(allowed),
    }
}

/// Where a name leads now.
pub(crate) async fn look_up(place: (&str, u16), name: &str) -> Result<Vec<SocketAddr>, PortError> {
    let found = tokio::net::lookup_host(place).await;
    let found = found.map_err(|error| {
        let text = format!("{name} has no address now; see the name service");
        PortError::caused(ErrorKind::Unavailable, text, error)
    })?;
    Ok(found.collect())
}

/// That somebody is not asked where it is.
pub(crate) fn too_near(name: &str, at: SocketAddr, setting: &str) -> PortError {
    let text = format!(
        "{name} is {at}, on this service's own machine or link, and is not asked; start it with that in `{setting}`"
    );
    PortError::new(ErrorKind::Denied, text)
}

/// Whether an address is away from this machine and its link, or allowed.
pub(crate) fn may_be_asked(near: &[SocketAddr], at: SocketAddr) -> bool {
    !is_near(at.ip()) || is_allowed(near, at)
}

fn is_allowed(near: &[SocketAddr], at: SocketAddr) -> bool {
    let is_it = |one: &SocketAddr| one.ip() == at.ip().to_canonical() && one.port() == at.port();
    near.iter().any(is_it)
}

/// Whether an address is this machine's own, or its link's: what listens there trusts its neighbours.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// What was not done, or may have been: it is asked again under the same id.
const fn is_passing(status: u16, _may_repeat: bool) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// The receiver's reason on one line, in brackets; nothing where it gives none, or may quote a value: one that
/// it was sent, or made, or that is in use. What it makes at `create` and does at `finish` nobody here knows.
fn reason(answer: &Answer, request: &WebhookRequest<'_>, others: &[SecretBytes]) -> String {
    if matches!(request.kind, Kind::Create | Kind::Finish) {
        return String::new();
    }
    let Ok(said) = serde_json::from_slice::<WebhookAnswer>(&answer.body) else {
        return String::new();
    };
    let Some(reason) = said.reason else {
        return String::new();
    };
    let data = &request.data;
    let current = data.current.as_ref().map(|current| current.value);
    let told_here = data.value.into_iter().chain(current);
    let values = told_here.chain(said.value.as_deref()).map(str::as_bytes);
    // EXPOSE: a reason that quotes one of them is not told.
    let mut values = values.chain(others.iter().map(SecretBytes::expose));
    let looked_at = 3 * (MAX_REASON_CHARS + QUOTED_BYTES);
    let begun: String = reason.chars().take(looked_at).collect();
    let plainly = decoded(begun.as_bytes());
    if values.any(|value| quotes(begun.as_bytes(), value) || quotes(&plainly, value)) {
        return String::new();
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let told: String = begun.chars().take(MAX_REASON_CHARS).map(plain).collect();
    format!(" ({told})")
}

/// A text with what it has as `%XX` resolved.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (mut plain, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        let byte = byte.and_then(|(high, low)| u8::try_from(16 * high + low).ok());
        plain.push(byte.unwrap_or(*first));
        rest = byte.map_or(after, |_| after.get(2..).unwrap_or_default());
    }
    plain
}

/// Whether a text has a part of a value in it, in capitals or not.
fn quotes(text: &[u8], value: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    let value = SecretBytes::from(value.to_ascii_lowercase());
    // EXPOSE: it is compared, and overwritten.
    let value = value.expose();
    let length = value.len().min(QUOTED_BYTES);
    if length == 0 {
        return false;
    }
    let parts: BTreeSet<&[u8]> = text.windows(length).collect();
    value.windows(length).any(|part| parts.contains(part))
}

/// What a URL may begin with, and the ports that are meant where none is said.
pub(crate) struct Schemes {
    /// With TLS.
    pub(crate) secure: (&'static str, u16),
    /// Without, to this machine only.
    pub(crate) plain: (&'static str, u16),
}

const HTTP: Schemes = Schemes {
    secure: ("https", HTTPS_PORT),
    plain: ("http", HTTP_PORT),
};

/// The address and the path of `https://host[:port]/path`; `http` only of this machine.
pub(crate) fn parse(url: &str) -> Result<(Address, String), PortError> {
    parse_as(url, &HTTP)
}

/// The same with other schemes.
pub(crate) fn parse_as(url: &str, schemes: &Schemes) -> Result<(Address, String), PortError> {
    let refuse = |why: &str| {
        let text = format!("`connection` of a rotator cannot be used: {why}");
        PortError::new(ErrorKind::Denied, text)
    };
    let (secure, plain) = (schemes.secure, schemes.plain);
    let unclear = || refuse(&format!("it is not {}://host/path; correct it", secure.0));
    if url.len() > MAX_URL_BYTES {
        return Err(refuse("it is too long; correct it"));
    }
    let uri: Uri = url.parse().map_err(|_| unclear())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(unclear());
    };
    if uri.query().is_some() || authority.as_str().contains('@') || url.contains('#') {
        return Err(unclear());
    }
    let host = authority.host();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_near = is_this_machine(host);
    let is_tls = match scheme {
        scheme if scheme == secure.0 => true,
        scheme if scheme == plain.0 && is_near => false,
        scheme if scheme == plain.0 => {
            let why = format!("only {}:// may leave this machine; use that", secure.0);
            return Err(refuse(&why));
        }
        _ => return Err(unclear()),
    };
    let default = if is_tls { secure.1 } else { plain.1 };
    let port = authority.port_u16().unwrap_or(default);
    let address = Address {
        user: String::new(),
        target: Target::Tcp(host.to_owned(), port),
        is_tls,
        is_near,
        name: authority.to_string(),
    };
    Ok((address, uri.path().to_owned()))
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::webhook::{Overlap, WebhookTask};
    use keywheel_stores::http::ATTEMPTS;

    use super::*;

    fn request(value: &str) -> WebhookRequest<'_> {
        WebhookRequest {
            kind: Kind::Set,
            data: WebhookTask {
                secret: String::new(),
                rotation: None,
                version: 1,
                account: "app",
                strategy: Overlap::SingleUser,
                value: Some(value),
                reason: None,
                current: None,
            },
        }
    }

    fn refused(body: &str) -> Answer {
        Answer {
            status: 422,
            body: body.as_bytes().to_vec().into(),
            retry_after: None,
        }
    }

    #[test]
    fn only_tls_leaves_this_machine_and_no_secret_stands_in_an_address() {
        let (address, path) = parse("https://Hooks.example/rotate/stripe").unwrap();
        assert_eq!(path, "/rotate/stripe");
        assert!(address.is_tls && address.name == "Hooks.example");
        for near in [
            "http://127.0.0.1:80",
            "http://[::1]:8099/r",
            "http://localhost:1/",
        ] {
            assert!(!parse(near).unwrap().0.is_tls, "{near}");
        }
        for url in [
            "http://hooks.example/canary",
            "https://me:canary@hooks.example",
            "https://hooks.example/?canary",
            "https://hooks.example/#canary",
            "ftp://hooks.example/canary",
            "canary",
        ] {
            let error = parse(url).map(drop).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Denied, "{url}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        let long = format!("https://h/{}", "a".repeat(MAX_URL_BYTES));
        assert!(
            parse(&long)
                .map(drop)
                .unwrap_err()
                .text
                .contains("too long")
        );
    }

    #[test]
    fn what_is_near_is_known_by_its_address_however_that_is_written() {
        for near in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "169.254.169.254",
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    fn a_reason_is_short_and_never_quotes_a_value() {
        let value = "s3cr\"et-of-the-test";
        let told = |body: &str| reason(&refused(body), &request(value), &[]);
        assert_eq!(told(r#"{"reason":"locked\nthere"}"#), " (locked there)");
        for silent in ["", "{}", "<html>", r#"{"reason":7}"#] {
            assert_eq!(told(silent), "", "{silent}");
        }
        for quoting in [
            r#"{"reason":"`s3cr\"et-of-the-test` is too weak"}"#,
            r#"{"reason":"it begins with et-of-th"}"#,
            r#"{"reason":"it begins with ET-OF-TH"}"#,
            r#"{"reason":"100%, it begins with %65t%2Dof%2dth"}"#,
            r#"{"reason":"made-there is as good","value":"Made-There"}"#,
        ] {
            assert_eq!(told(quoting), "", "{quoting}");
        }
        let long = format!("{{\"reason\":\"{}\"}}", "x".repeat(MAX_REASON_CHARS + 1));
        assert_eq!(told(&long).len(), MAX_REASON_CHARS + " ()".len());
        let late = format!(
            "{{\"reason\":\"{} s3cr\\\"et-of\"}}",
            "x".repeat(MAX_REASON_CHARS - 2)
        );
        assert_eq!(told(&late), "", "what is cut off counts, too");
        let other = SecretBytes::from(b"what-is-in-use".to_vec());
        let quoting = refused(r#"{"reason":"as is-in-use"}"#);
        assert_eq!(reason(&quoting, &request(value), &[other]), "");
        for kind in [Kind::Create, Kind::Finish] {
            let request = WebhookRequest {
                kind,
                ..request(value)
            };
            let said = reason(&refused(r#"{"reason":"locked"}"#), &request, &[]);
            assert_eq!(said, "", "of these values we know nothing");
        }
    }

    #[test]
    fn limits_leave_room_for_what_they_bound() {
        const { assert!(MAX_ANSWER_BYTES > 6 * MAX_VALUE_BYTES + 4096) };
        const { assert!(ATTEMPTS > 1) };
        for status in [408, 425, 429, 500, 503, 599] {
            assert!(is_passing(status, true), "{status}");
        }
        for status in [200, 302, 400, 401, 404, 409, 422] {
            assert!(!is_passing(status, true), "{status}");
        }
    }
}
