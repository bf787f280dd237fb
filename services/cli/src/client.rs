//! The daemon's HTTP API, typed. Every fault becomes a [`Failure`] that names the next step.
//!
//! Invariant: no type that comes back can hold a value (see `keywheel_schemas::api`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::http::response::Parts;
use hyper::{Method, StatusCode};
use keywheel_schemas::api::{AUDIT_BEGINS, Problem, StreamEnd};
use keywheel_schemas::event::MAX_EVENT_BYTES;
use keywheel_seal::SecretBytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::address::Address;
use crate::exit::{Exit, Failure};
use crate::http::{self, Ask, Target};

mod bearer;
mod failure;
mod operator;

/// How long an answer may take: more than the longest wait the daemon grants.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The same for answers that read everything (verification, export), and for a revocation of many.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(1800);
/// Most pages of one list: a page has a thousand rows.
pub(crate) const MAX_PAGES: usize = 1000;
/// Longest line of a stream, in bytes: an event as large as one may be is a line.
pub(crate) const MAX_LINE_BYTES: usize = MAX_EVENT_BYTES;

/// Speaks to one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    target: Target,
    bearer: Option<Arc<SecretBytes>>,
    /// Why what takes others goes on without them.
    glass: Option<String>,
}

/// How a client shows who it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Proof<'a> {
    /// Directory of an operator's credentials.
    pub(crate) identity: Option<&'a Path>,
    /// File of a token; `-` is stdin.
    pub(crate) token_file: Option<&'a Path>,
    /// The roots by which a gateway is known to who has a token and no credentials.
    pub(crate) ca_file: Option<&'a Path>,
}

impl Client {
    /// A client; nothing is connected yet. For a gateway elsewhere, `identity` is the directory of an
    /// operator's credentials.
    pub(crate) fn new(address: Address, identity: Option<&Path>) -> Result<Self, Failure> {
        let proof = Proof {
            identity,
            ..Proof::default()
        };
        Self::with(address, proof)
    }

    /// A client with a token, or credentials, or both; then the token says who it is.
    pub(crate) fn with(address: Address, proof: Proof<'_>) -> Result<Self, Failure> {
        let bearer = proof.token_file.map(bearer::read).transpose()?;
        let target = match address {
            Address::Unix(path) => Target::Socket(path),
            Address::Https(address) => Target::Tls {
                address,
                config: match (proof.identity, bearer.is_some()) {
                    (None, true) => bearer::config(proof.ca_file)?,
                    (identity, _) => operator::config(identity)?,
                },
            },
        };
        Ok(Self {
            target,
            bearer: bearer.map(Arc::new),
            glass: None,
        })
    }

    /// Has what takes others go on without them, for this reason.
    pub(crate) fn breaking_glass(self, reason: Option<String>) -> Self {
        Self {
            glass: reason,
            ..self
        }
    }

    /// A client by a login, and nothing else.
    pub(crate) fn logged_in(
        address: Address,
        login: SecretBytes,
        ca_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let target = Self::without_certificate(address, ca_file)?;
        Ok(Self {
            target,
            bearer: Some(Arc::new(login)),
            glass: None,
        })
    }

    /// A client that shows no token, to log in: with credentials where some are named.
    pub(crate) fn visiting(address: Address, proof: Proof<'_>) -> Result<Self, Failure> {
        if proof.identity.is_some() {
            return Self::new(address, proof.identity);
        }
        let target = Self::without_certificate(address, proof.ca_file)?;
        Ok(Self {
            target,
            bearer: None,
            glass: None,
        })
    }

    fn without_certificate(address: Address, ca_file: Option<&Path>) -> Result<Target, Failure> {
        Ok(match address {
            Address::Unix(path) => Target::Socket(path),
            Address::Https(address) => Target::Tls {
                address,
                config: bearer::config(ca_file)?,
            },
        })
    }

    /// What is asked, with the token.
    fn signed(&self, ask: Ask) -> Ask {
        Ask {
            bearer: self.bearer.clone(),
            ..ask
        }
    }

    /// Whether it asks a gateway on this machine.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self.target, Target::Socket(_))
    }

    /// Reads a resource.
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.typed(Ask::look(path), PATIENCE, false).await
    }

    /// Reads a list to its end, page by page, as its `Link` headers lead.
    pub(crate) async fn read_all<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Vec<T>, Failure> {
        let (mut all, mut path) = (Vec::new(), path.to_owned());
        for _ in 0..MAX_PAGES {
            let (head, body) = self.answered(Ask::look(&path), PATIENCE, false).await?;
            let page: Vec<T> = understood(&body)?;
            all.extend(page);
            match next_page(&head.headers) {
                Some(next) => path = next,
                None => return Ok(all),
            }
        }
        Err(Failure::new(
            Exit::Unexpected,
            format!("the list goes on after {MAX_PAGES} pages"),
            REPORT,
        ))
    }

    /// Reads a resource that takes long to make.
    pub(crate) async fn read_long<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.typed(Ask::look(path), LONG_PATIENCE, false).await
    }

    /// Asks for a change.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send(path, body, (PATIENCE, false)).await
    }

    /// Asks for a change of many things at once.
    pub(crate) async fn change_many<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send(path, body, (LONG_PATIENCE, false)).await
    }

    /// Asks for a change by a file: what is invalid then is the input, not the command line.
    pub(crate) async fn change_by_input<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send(path, body, (PATIENCE, true)).await
    }

    /// Removes a resource.
    pub(crate) async fn remove<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let ask = Ask {
            method: Method::DELETE,
            path: path.to_owned(),
            body: None,
            bearer: None,
        };
        self.typed(ask, PATIENCE, false).await
    }

    /// Opens a stream of lines.
    pub(crate) async fn lines(&self, path: &str) -> Result<Lines, Failure> {
        let ask = self.signed(Ask::look(path));
        let opened = http::open(self.target.clone(), ask, PATIENCE).await;
        let response = opened.map_err(|fault| failure::of(&self.target, &fault))?;
        if response.status().is_success() {
            let begins = response.headers().get(AUDIT_BEGINS);
            let begins = begins.and_then(|begins| begins.to_str().ok()?.parse().ok());
            return Ok(Lines {
                begins: begins.unwrap_or(0),
                body: response.into_body(),
                waiting: Vec::new(),
                read: 0,
                ended: false,
            });
        }
        let body = response.into_body().collect().await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        Err(refusal(&body, false))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        (patience, of_input): (Duration, bool),
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Failure::new(
                Exit::Unexpected,
                format!("the request has no JSON form: {error}"),
                REPORT,
            )
        })?;
        let ask = Ask {
            method: Method::POST,
            path: path.to_owned(),
            body: Some(body),
            bearer: None,
        };
        self.typed(ask, patience, of_input).await
    }

    async fn typed<T: DeserializeOwned>(
        &self,
        ask: Ask,
        patience: Duration,
        of_input: bool,
    ) -> Result<T, Failure> {
        let (_, body) = self.answered(ask, patience, of_input).await?;
        understood(&body)
    }

    async fn answered(
        &self,
        ask: Ask,
        patience: Duration,
        of_input: bool,
    ) -> Result<(Parts, Bytes), Failure> {
        let (mut head, mut body) = self.exchange(ask.clone(), patience).await?;
        let request = request_of(&head);
        if let (Some(request), Some(reason)) = (request, &self.glass) {
            let broken = self.exchange(glass_breaker(&request, reason), PATIENCE);
            let (answer, told) = broken.await?;
            if !answer.status.is_success() {
                return Err(refusal(&told, false));
            }
            (head, body) = self.exchange(ask, patience).await?;
        }
        match head.status.is_success() && head.status != StatusCode::ACCEPTED {
            true => Ok((head, body)),
            false => Err(refusal(&body, of_input)),
        }
    }

    async fn exchange(&self, ask: Ask, patience: Duration) -> Result<(Parts, Bytes), Failure> {
        let ask = self.signed(ask);
        let answered = http::exchange_whole(self.target.clone(), ask, patience).await;
        answered.map_err(|fault| failure::of(&self.target, &fault))
    }
}

fn understood<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            format!("the answer is not what this client understands: {error}"),
            "use the client of the same version as the daemon: compare `keywheel version` and `keywheel status`",
        )
    })
}

/// The request that others have to be for before what was asked for is done: a path of the same server, or nothing.
fn request_of(head: &Parts) -> Option<String> {
    let location = head.headers.get(header::LOCATION)?.to_str().ok()?;
    let is_waiting = head.status == StatusCode::ACCEPTED && location.starts_with("/v1/approvals/");
    is_waiting.then(|| location.to_owned())
}

fn glass_breaker(request: &str, reason: &str) -> Ask {
    Ask {
        method: Method::POST,
        path: format!("{request}/break-glass"),
        body: Some(
            serde_json::json!({ "reason": reason })
                .to_string()
                .into_bytes(),
        ),
        bearer: None,
    }
}

/// Where the next page is: a path of the same server, or nothing.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (path, relation) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = relation.contains("rel=\"next\"");
    (is_next && path.starts_with("/v1/")).then(|| path.to_owned())
}

/// What to do about a fault of ours.
const REPORT: &str = "this is a fault of keywheel; please report it with the command you gave";

fn refusal(body: &[u8], of_input: bool) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Failure::of_problem(&problem, of_input),
        Err(_) => Failure::new(
            Exit::Unexpected,
            "what answers there does not speak keywheel's protocol",
            "check that --address names the socket of `keywheel up`, or a gateway's port for operators",
        ),
    }
}

/// Lines of a stream as they come.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Number of the first audit record that is there.
    begins: u64,
    body: Incoming,
    waiting: Vec<u8>,
    /// How much of `waiting` was given out.
    read: usize,
    ended: bool,
}

impl Lines {
    /// Number of the first audit record that is there, where older ones were removed; 0 of everything else.
    pub(crate) const fn begins(&self) -> u64 {
        self.begins
    }

    /// The next line without its end; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let rest = self.waiting.get(self.read..).unwrap_or_default();
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                refuse_long(length)?;
                let line = rest.get(..length).unwrap_or_default().to_vec();
                self.read += length + 1;
                refuse_ended(&line)?;
                return Ok(Some(line));
            }
            refuse_long(rest.len())?;
            if self.ended {
                let line = rest.to_vec();
                self.read = self.waiting.len();
                return Ok((!line.is_empty()).then_some(line));
            }
            self.waiting.drain(..self.read);
            self.read = 0;
            match self.chunk().await? {
                Some(bytes) => self.waiting.extend_from_slice(&bytes),
                None => self.ended = true,
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.body.frame().await {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(Failure::new(
                Exit::Unavailable,
                format!("the stream broke off: {}", keywheel_daemon::chain(&error)),
                "keywheel stopped; when it is up again, go on with --after and the last number you saw",
            )),
        }
    }
}

/// A stream says by a last line that the right to it ended.
fn refuse_ended(line: &[u8]) -> Result<(), Failure> {
    if !line.starts_with(b"{\"ended\":") {
        return Ok(());
    }
    let ended = serde_json::from_slice::<StreamEnd>(line);
    ended.map_or(Ok(()), |end| Err(Failure::of_problem(&end.ended, false)))
}

fn refuse_long(length: usize) -> Result<(), Failure> {
    if length <= MAX_LINE_BYTES {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Unexpected,
        format!("a line of the stream has more than {MAX_LINE_BYTES} bytes"),
        REPORT,
    ))
}

#[cfg(test)]
mod tests;
