//! The server's endpoints that a KV version 2 engine is used by, each as one function.
//!
//! Invariants: each request has a token that is alive as far as we know, and is asked once more with
//! another one when the server does not know it any more; a refusal names the path, what is missing
//! and the next step. What the answers mean together is not decided here.

use std::sync::Arc;

use hyper::Method;
use keywheel_core::id::RotationId;
use keywheel_core::store::{OldVersions, Source, VaultSpec};
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use serde::Serialize;
use zeroize::Zeroizing;

use super::VaultStore;
use super::http::{Answer, Ask, Call};
use super::session::{Session, json};
use super::version::Version;
use super::wire::{Dated, Envelope, Field, Keys, Metadata, Subkeys, Written};

/// What the server says when the version is not the one that was named.
const OTHER_VERSION: &str = "check-and-set";
/// Custom metadata: which rotation wrote a path's version of ours.
const NOTED_ROTATION: &str = "keywheel-rotation";
/// Custom metadata: which version that was.
const NOTED_VERSION: &str = "keywheel-version";

/// Longest name of a version in an error, in characters.
const MAX_SHOWN_VERSION: usize = 60;

/// A server as one login may use it.
pub(super) struct Api {
    pub(super) session: Arc<Session>,
    pub(super) namespace: String,
    pub(super) mount: String,
    pub(super) old_versions: OldVersions,
    pub(super) points: Points,
}

/// How a write over a known version ended.
pub(super) enum Patched {
    /// It is this version.
    Made(Version),
    /// Another version is current, or none.
    Newer,
}

#[derive(Serialize)]
struct Write<'a> {
    data: One<'a>,
    options: Options,
}

#[derive(Serialize)]
struct Options {
    cas: u64,
}

/// An object with one member.
struct One<'a>(&'a str, &'a str);

impl Serialize for One<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map([(self.0, self.1)])
    }
}

impl Api {
    pub(super) fn new(session: Arc<Session>, spec: &VaultSpec) -> Self {
        Self {
            session,
            namespace: spec.namespace.clone(),
            mount: spec.mount.clone(),
            old_versions: spec.old_versions,
            points: Points::default(),
        }
    }

    /// The same, passing these failpoints.
    pub(super) fn with(self, points: Points) -> Self {
        Self { points, ..self }
    }

    pub(super) fn place(&self) -> &str {
        &self.session.http.endpoint.authority
    }

    /// One request with a token.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
        call: Call<'_>,
    ) -> Result<Answer, PortError> {
        let mut token = self.session.token(call).await?;
        let mut again = true;
        loop {
            let ask = Ask {
                method: method.clone(),
                path: path.to_owned(),
                token: Some(&token.secret),
                namespace: &self.namespace,
                body: body.clone(),
                may_repeat: true,
            };
            let answer = self.session.http.ask(ask, call).await?;
            if answer.status != 403 || !again {
                return Ok(answer);
            }
            let other = self.session.replace(&token, call).await?;
            if Arc::ptr_eq(&other, &token) {
                return Ok(answer);
            }
            (token, again) = (other, false);
        }
    }

    /// Metadata of a path; `None` when there is none.
    pub(super) async fn metadata(
        &self,
        path: &str,
        call: Call<'_>,
    ) -> Result<Option<Metadata>, PortError> {
        let place = self.at("metadata", path);
        let answer = self.ask(Method::GET, &place, None, call).await?;
        match answer.status {
            200 => Ok(Some(answer.read::<Envelope<Metadata>>(self.place())?.data)),
            404 => Ok(None),
            _ => Err(self.refused(&answer, "read", &place, None)),
        }
    }

    /// The field of one version, and what that is called in full.
    pub(super) async fn value(
        &self,
        at: &Source,
        version: &Version,
        call: Call<'_>,
    ) -> Result<(SecretBytes, Version), PortError> {
        let number = version.number;
        let place = self.at("data", &at.path);
        let query = format!("{place}?version={number}");
        let answer = self.ask(Method::GET, &query, None, call).await?;
        match answer.status {
            200 => {}
            404 => return Err(gone(&at.path, &number.to_string())),
            _ => return Err(self.refused(&answer, "read", &place, None)),
        }
        let dated = answer.read::<Envelope<Dated>>(self.place());
        let dated = dated.map_or_else(|_| Dated::default(), |dated| dated.data);
        let found = Version::new(number, dated.created());
        if !found.is(version) {
            // The path was made anew since.
            return Err(gone(&at.path, &version.name().0));
        }
        self.field_of(at, number, &answer)
            .map(|value| (value, found))
    }

    fn field_of(
        &self,
        at: &Source,
        number: u64,
        answer: &Answer,
    ) -> Result<SecretBytes, PortError> {
        let denied = |why: String| Err(PortError::new(ErrorKind::Denied, why));
        let (path, field) = (&at.path, &at.field);
        match answer.field(field) {
            // EXPOSE: it is handed on under the limit that every value has.
            Field::Text(text) => SecretBytes::value(text.expose().to_vec()).or_else(|_| {
                denied(format!(
                    "field {field} of {path} is longer than a value may be; shorten it"
                ))
            }),
            Field::NoText => denied(format!(
                "field {field} of {path} is no text; write it as a string"
            )),
            Field::Missing => denied(format!(
                "{path} has no field {field}; add it there, or correct the secret's source"
            )),
            Field::NoData => Err(gone(path, &number.to_string())),
            Field::Unclear => {
                let text = format!("{} answers with something else than {path}", self.place());
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
        }
    }

    /// Replaces one field where this version is current.
    pub(super) async fn patch(
        &self,
        at: &Source,
        value: &SecretBytes,
        over: u64,
        call: Call<'_>,
    ) -> Result<Patched, PortError> {
        let place = self.at("data", &at.path);
        let body = write(at, value, over)?;
        let answer = self.send_write(Method::PATCH, &place, body, call).await?;
        match answer.status {
            200 => self.made(&answer).map(Patched::Made),
            404 => Ok(Patched::Newer),
            400 if answer.mentions(OTHER_VERSION) => Ok(Patched::Newer),
            _ => Err(self.refused(&answer, "patch", &place, Some(value))),
        }
    }

    /// Makes a version with this field alone where nothing is current; `None` when something is.
    pub(super) async fn create(
        &self,
        at: &Source,
        value: &SecretBytes,
        over: u64,
        call: Call<'_>,
    ) -> Result<Option<Version>, PortError> {
        let place = self.at("data", &at.path);
        let body = write(at, value, over)?;
        let answer = self.send_write(Method::POST, &place, body, call).await?;
        match answer.status {
            200 => self.made(&answer).map(Some),
            400 if answer.mentions(OTHER_VERSION) => Ok(None),
            _ => {
                let right = if over == 0 { "create" } else { "update" };
                Err(self.refused(&answer, right, &place, Some(value)))
            }
        }
    }

    /// What makes a version, between its failpoints.
    async fn send_write(
        &self,
        method: Method,
        place: &str,
        body: Zeroizing<Vec<u8>>,
        call: Call<'_>,
    ) -> Result<Answer, PortError> {
        self.points.pass("store.kv.before_write").await?;
        let answer = self.ask(method, place, Some(body), call).await?;
        self.points.pass("store.kv.after_write").await?;
        Ok(answer)
    }

    fn made(&self, answer: &Answer) -> Result<Version, PortError> {
        let written = answer.read::<Envelope<Written>>(self.place())?.data;
        Ok(Version::new(written.version, ""))
    }

    /// Notes beside the path who wrote which version; what others noted stays.
    pub(super) async fn note(
        &self,
        path: &str,
        rotation: RotationId,
        number: u64,
        call: Call<'_>,
    ) -> Result<(), PortError> {
        let place = self.at("metadata", path);
        let body = json(&serde_json::json!({ "custom_metadata": {
            NOTED_ROTATION: rotation.to_string(),
            NOTED_VERSION: number.to_string(),
        }}))?;
        let answer = self.ask(Method::PATCH, &place, Some(body), call).await?;
        self.points.pass("store.kv.after_note").await?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(self.refused(&answer, "patch", &place, None)),
        }
    }

    /// Destroys one version.
    pub(super) async fn end(
        &self,
        path: &str,
        number: u64,
        ending: OldVersions,
        call: Call<'_>,
    ) -> Result<(), PortError> {
        let kind = match ending {
            OldVersions::Destroy => "destroy",
            OldVersions::SoftDelete => "delete",
        };
        let place = self.at(kind, path);
        let body = json(&serde_json::json!({ "versions": [number] }))?;
        self.points.pass("store.kv.before_end").await?;
        let answer = self.ask(Method::PUT, &place, Some(body), call).await?;
        self.points.pass("store.kv.after_end").await?;
        match answer.status {
            200 | 204 | 404 => Ok(()),
            _ => Err(self.refused(&answer, "update", &place, None)),
        }
    }

    /// Names in a folder, folders with a slash; none when there is no such folder.
    pub(super) async fn keys(
        &self,
        folder: &str,
        call: Call<'_>,
    ) -> Result<Vec<String>, PortError> {
        let place = self.at("metadata", folder);
        let query = format!("{place}?list=true");
        let answer = self.ask(Method::GET, &query, None, call).await?;
        match answer.status {
            200 => Ok(answer.read::<Envelope<Keys>>(self.place())?.data.keys),
            404 => Ok(Vec::new()),
            _ => Err(self.refused(&answer, "list", &place, None)),
        }
    }

    /// Names of a path's fields: none where we may not know them, `None` where nothing is current.
    pub(super) async fn fields(
        &self,
        path: &str,
        call: Call<'_>,
    ) -> Result<Option<Vec<String>>, PortError> {
        let query = format!("{}?depth=1", self.at("subkeys", path));
        let answer = self.ask(Method::GET, &query, None, call).await?;
        match answer.status {
            200 => {
                let found = answer.read::<Envelope<Subkeys>>(self.place())?.data.subkeys;
                Ok(Some(found.unwrap_or_default().into_keys().collect()))
            }
            404 => Ok(None),
            403 => Ok(Some(Vec::new())),
            _ => Err(self.refused(&answer, "read", &query, None)),
        }
    }

    /// `MOUNT/KIND/PATH`, encoded.
    pub(super) fn at(&self, kind: &str, path: &str) -> String {
        format!("{}/{kind}/{}", encoded(&self.mount), encoded(path))
    }

    /// What a refusal means, and the next step.
    pub(super) fn refused(
        &self,
        answer: &Answer,
        right: &str,
        place: &str,
        sent: Option<&SecretBytes>,
    ) -> PortError {
        let server = self.place();
        let secrets: Vec<_> = sent.into_iter().collect();
        let reasons = answer.reasons(&secrets);
        let (kind, text) = match answer.status {
            403 => (
                ErrorKind::Denied,
                format!(
                    "{server} denies `{right}` on {place}: add it to the policy, as `keywheel store policy NAME` prints it"
                ),
            ),
            300..=399 => (
                ErrorKind::Unavailable,
                format!(
                    "{server} sends us elsewhere for {place}, which is not followed; give the address of the active node"
                ),
            ),
            405 => (
                ErrorKind::Denied,
                format!(
                    "{server} knows no such request for {place}; it needs Vault 1.11 or later, or OpenBao, and a KV version 2 engine"
                ),
            ),
            status if status >= 500 => (
                ErrorKind::Unavailable,
                format!("{server} answers {status} for {place}: {reasons}"),
            ),
            status => (
                ErrorKind::Denied,
                format!(
                    "{server} refuses {place} ({status}): {reasons}; correct the secret's source or the store"
                ),
            ),
        };
        PortError::new(kind, text)
    }
}

impl VaultStore {
    /// The same, passing these failpoints.
    pub(crate) fn with(self, points: Points) -> Self {
        let api = self.api.with(points);
        Self { api, ..self }
    }
}

/// A version that cannot be read any more.
pub(super) fn gone(path: &str, version: &str) -> PortError {
    let shown: String = version
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_SHOWN_VERSION)
        .collect();
    let text =
        format!("version {shown} of {path} is not there; it was deleted, destroyed or never made");
    PortError::new(ErrorKind::NotFound, text)
}

fn write(at: &Source, value: &SecretBytes, over: u64) -> Result<Zeroizing<Vec<u8>>, PortError> {
    // EXPOSE: it is written to the store, where it is to lie from now on.
    let text = std::str::from_utf8(value.expose()).map_err(|_| {
        let text = format!(
            "the new value of {} is no text, which this store's fields are; use another one",
            at.path
        );
        PortError::new(ErrorKind::Denied, text)
    })?;
    json(&Write {
        data: One(&at.field, text),
        options: Options { cas: over },
    })
}

/// Percent-encodes what a path of a URL may not hold; slashes stay.
pub(super) fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.extend(
                    [byte >> 4, byte & 15]
                        .map(|half| char::from(b"0123456789ABCDEF"[usize::from(half)])),
                );
            }
        }
    }
    out
}
