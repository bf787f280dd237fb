//! What the server answers, as far as we read it.
//!
//! Invariants: of a secret's data only the one field that was asked for is copied, into memory that
//! is overwritten; a text of the server is told only without what we sent it in secret. Unknown
//! members are skipped, so that Vault and OpenBao, and their versions, may differ in them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::http::Answer;
use super::version::Version;

/// Longest text of the server that is told on, in characters.
const MAX_TOLD_CHARS: usize = 200;

/// Everything is in one of these.
#[derive(Deserialize)]
pub(super) struct Envelope<T> {
    pub(super) data: T,
}

/// A login or a renewal.
#[derive(Deserialize)]
pub(super) struct Login {
    pub(super) auth: Auth,
}

/// A token that was given. No `Debug`: it would tell the token.
#[derive(Deserialize)]
pub(super) struct Auth {
    client_token: String,
    /// What the token is called; no secret.
    #[serde(default)]
    pub(super) accessor: String,
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

impl Auth {
    /// Takes the token out.
    pub(super) fn token(&mut self) -> SecretBytes {
        SecretBytes::from(std::mem::take(&mut self.client_token).into_bytes())
    }
}

/// A token as it is looked up.
#[derive(Deserialize)]
pub(super) struct TokenLife {
    #[serde(default)]
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// Whether the server serves.
#[derive(Deserialize)]
pub(super) struct SealStatus {
    pub(super) initialized: bool,
    pub(super) sealed: bool,
}

/// A mount.
#[derive(Deserialize)]
pub(super) struct Mount {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) options: Option<BTreeMap<String, String>>,
}

/// What a wrapping token wraps.
#[derive(Deserialize)]
pub(super) struct Wrapping {
    #[serde(default)]
    pub(super) creation_path: String,
}

/// Metadata of a path.
#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) current_version: u64,
    #[serde(default)]
    pub(super) versions: BTreeMap<String, VersionState>,
}

impl Metadata {
    /// Whether the current version was neither deleted nor destroyed by then. A deletion may lie in
    /// the future (`delete_version_after`).
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        let current = self.version(self.current_version);
        current.is_some_and(|current| current.is_live(now))
    }

    /// What the current version is called; also one that was deleted.
    pub(super) fn current(&self) -> Version {
        self.called(self.current_version)
    }

    /// What the version of this number is called.
    pub(super) fn called(&self, number: u64) -> Version {
        let state = self.version(number);
        Version::new(
            number,
            state.map_or("", |state| state.created_time.as_str()),
        )
    }

    pub(super) fn version(&self, number: u64) -> Option<&VersionState> {
        self.versions.get(&number.to_string())
    }
}

/// Metadata of one version.
#[derive(Deserialize)]
pub(super) struct VersionState {
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    pub(super) destroyed: bool,
}

impl VersionState {
    /// When it is deleted, by the store's clock; empty where that is not said.
    pub(super) fn deletion_time(&self) -> &str {
        &self.deletion_time
    }

    /// Whether it was neither deleted nor destroyed by then.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        // A time that cannot be read is taken for the past: the value is asked for by nobody then.
        let is_deleted = !self.deletion_time.is_empty()
            && self
                .deletion_time
                .parse::<Timestamp>()
                .map_or(true, |then| then <= now);
        !self.destroyed && !is_deleted
    }
}

/// What a value comes with; the value is skipped.
#[derive(Deserialize, Default)]
pub(super) struct Dated {
    #[serde(default)]
    metadata: VersionDate,
}

#[derive(Deserialize, Default)]
struct VersionDate {
    #[serde(default)]
    created_time: String,
}

impl Dated {
    /// When the version was made; empty where the server does not say.
    pub(super) fn created(&self) -> &str {
        &self.metadata.created_time
    }
}

/// The answer to a write.
#[derive(Deserialize)]
pub(super) struct Written {
    pub(super) version: u64,
}

/// Names of a folder.
#[derive(Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<String>,
}

/// Fields of a secret, without values.
#[derive(Deserialize)]
pub(super) struct Subkeys {
    pub(super) subkeys: Option<BTreeMap<String, IgnoredAny>>,
}

/// What a token may do, by path.
pub(super) type Capabilities = BTreeMap<String, Vec<String>>;

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Answer {
    /// Reads the body of a success.
    pub(super) fn read<T: DeserializeOwned>(&self, place: &str) -> Result<T, PortError> {
        // The parser's own words may tell what it read.
        serde_json::from_slice(&self.body).map_err(|_| {
            let text = format!(
                "{place} answers {} with something else than was asked for",
                self.status
            );
            PortError::new(ErrorKind::Unavailable, text)
        })
    }

    /// The server's reasons, without these secrets, on one line.
    pub(super) fn reasons(&self, secrets: &[&SecretBytes]) -> String {
        let errors = serde_json::from_slice::<Errors>(&self.body);
        let told = errors.map_or_else(|_| String::new(), |errors| errors.errors.join("; "));
        // EXPOSE: what we sent is looked for, so that it is not told on.
        let tells = |secret: &&SecretBytes| {
            let secret = secret.expose();
            !secret.is_empty()
                && told
                    .as_bytes()
                    .windows(secret.len())
                    .any(|part| part == secret)
        };
        if secrets.iter().any(tells) {
            return "it repeats what must not be told".to_owned();
        }
        let shown = told
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_TOLD_CHARS)
            .collect::<String>();
        if shown.is_empty() {
            "it says no reason".to_owned()
        } else {
            shown
        }
    }

    /// The answer says so in its first reason.
    pub(super) fn mentions(&self, text: &str) -> bool {
        let errors = serde_json::from_slice::<Errors>(&self.body);
        errors.is_ok_and(|errors| errors.errors.iter().any(|error| error.contains(text)))
    }

    /// One field of the data of a version: `{"data": {"data": {field: text}, "metadata": …}}`.
    pub(super) fn field(&self, name: &str) -> Field {
        let mut json = serde_json::Deserializer::from_slice(&self.body);
        let outer = Member {
            name: "data",
            inner: Member {
                name: "data",
                inner: Member { name, inner: Text },
            },
        };
        match outer.deserialize(&mut json) {
            Ok(Some(Some(Some(Some(text))))) => Field::Text(text),
            Ok(Some(Some(Some(None)))) => Field::NoText,
            Ok(Some(Some(None))) => Field::Missing,
            Ok(_) => Field::NoData,
            Err(_) => Field::Unclear,
        }
    }

    /// One text member of the data: `{"data": {name: text}}`.
    pub(super) fn member(&self, name: &str) -> Option<SecretBytes> {
        let mut json = serde_json::Deserializer::from_slice(&self.body);
        let outer = Member {
            name: "data",
            inner: Member { name, inner: Text },
        };
        outer
            .deserialize(&mut json)
            .ok()
            .flatten()
            .flatten()
            .flatten()
    }
}

/// A field that was looked for.
pub(super) enum Field {
    /// There it is.
    Text(SecretBytes),
    /// Its value is a number, a list or the like.
    NoText,
    /// The data has no such field.
    Missing,
    /// There is no data: deleted or destroyed.
    NoData,
    /// The answer is no such answer.
    Unclear,
}

/// One member of an object, the others skipped; `None` when the object is `null` or has none.
#[derive(Clone, Copy)]
struct Member<'n, S> {
    name: &'n str,
    inner: S,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Member<'_, S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Member<'_, S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut inner = Some(self.inner);
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            match inner.take_if(|_| name == self.name) {
                Some(inner) => found = Some(map.next_value_seed(inner)?),
                None => {
                    let IgnoredAny = map.next_value()?;
                }
            }
        }
        Ok(found)
    }
}

/// A text, straight into memory that is overwritten; `None` for anything else.
#[derive(Clone, Copy)]
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<SecretBytes>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<SecretBytes>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(SecretBytes::copied(text.as_bytes())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}
