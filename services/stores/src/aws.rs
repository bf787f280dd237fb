//! AWS Secrets Manager behind the port `Store`.
//!
//! Owns how a rotation becomes versions and labels there. A rotation's token is its version's id: the
//! value is put as `AWSPENDING`, then `AWSCURRENT` moves to it from exactly the version that was known,
//! which AWS refuses when somebody else moved it first. Invariants: what a token holds is never
//! replaced; every write is read back; what was done is found by its token; a call ends at the store's timeout. It keeps nothing but
//! connections and what the credential chain found.
//!
//! A version cannot be destroyed at AWS: without a label it is deprecated, and AWS removes it in time.

mod check;
mod connection;
mod document;
mod failure;
mod key;
pub(crate) mod policy;
mod probe;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::RotationId;
use keywheel_core::name::StoreName;
use keywheel_core::store::{AwsSpec, RemoteVersion, Source};
use keywheel_engine::port::store::{Credentials, Listed, Observed, Store};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

pub use connection::MAX_ANSWER_BYTES;
pub use key::AwsKey;

use connection::Connection;
use failure::{Failure, Reason};
use requests::{CURRENT, PENDING, Requests, Versions};

/// The longest value that AWS takes, all fields included.
pub const MAX_AWS_VALUE_BYTES: usize = 65_536;
/// Bounds of a version's id at AWS; what is outside of them names nothing there.
const VERSION_ID_BYTES: std::ops::RangeInclusive<usize> = 32..=64;

/// The region that is meant: the declared one, or the one of the standard chain here.
///
/// # Errors
/// `Denied` when neither says one.
pub async fn region(spec: &AwsSpec) -> Result<String, PortError> {
    Connection::new(spec.clone()).region().await
}

/// A declared store at AWS Secrets Manager.
pub struct AwsStore {
    name: StoreName,
    timeout: Duration,
    connection: Connection,
    credentials: Arc<dyn Credentials>,
}

impl AwsStore {
    /// Makes it; no connection is opened.
    ///
    /// # Errors
    /// `Denied` when values would leave this machine in the clear.
    pub fn new(
        name: StoreName,
        spec: AwsSpec,
        timeout: Duration,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Self, PortError> {
        if !is_private(&spec.endpoint) {
            let text = format!(
                "store `{name}`: endpoint `{}` is neither https nor http to a loopback address",
                spec.endpoint
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        Ok(Self {
            name,
            timeout,
            connection: Connection::new(spec),
            credentials,
        })
    }

    fn requests<'a>(&'a self, until: &'a Until) -> Requests<'a> {
        Requests {
            name: &self.name,
            connection: &self.connection,
            credentials: &*self.credentials,
            until,
        }
    }

    /// Ends a call at the store's timeout and at the effect's deadline, whichever is first.
    async fn bounded<T>(
        &self,
        until: &Until,
        call: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        until.check()?;
        let limit = self.timeout.min(until.remaining());
        let ended = tokio::time::timeout(limit, Box::pin(call)).await;
        ended.unwrap_or_else(|_| {
            let text = format!(
                "store `{}`: no answer within {limit:?}; it is asked again later",
                self.name
            );
            Err(PortError::new(ErrorKind::Unavailable, text))
        })
    }

    fn error(&self, kind: ErrorKind, at: &Source, text: &str) -> PortError {
        let (name, path) = (&self.name, &at.path);
        PortError::new(kind, format!("store `{name}`: `{path}`: {text}"))
    }

    fn conflict(&self, at: &Source) -> PortError {
        let text = "somebody else made another version current; it is taken over at the next look";
        self.error(ErrorKind::Conflict, at, text)
    }

    /// The whole value that is to be stored: ours, or the current one with our field in it.
    async fn document(
        &self,
        at: &Source,
        current: Option<&str>,
        value: &SecretBytes,
        requests: &Requests<'_>,
    ) -> Result<SecretBytes, PortError> {
        let before = match current {
            Some(version) if !at.field.is_empty() => Some(requests.value(&at.path, version).await?),
            _ => None,
        };
        let whole = if at.field.is_empty() {
            // EXPOSE: copied to be the whole value there.
            SecretBytes::copied(value.expose())
        } else {
            document::write(before.as_ref(), &at.field, value).map_err(|error| {
                let text = format!("field `{}` cannot be written: {error}", at.field);
                self.error(ErrorKind::Denied, at, &text)
            })?
        };
        // EXPOSE: only counted.
        let bytes = whole.expose().len();
        if bytes == 0 || bytes > MAX_AWS_VALUE_BYTES {
            let text = format!(
                "AWS takes values of 1 to {MAX_AWS_VALUE_BYTES} bytes, all fields together; put one \
                 that fits"
            );
            return Err(self.error(ErrorKind::Denied, at, &text));
        }
        Ok(whole)
    }

    /// Puts the value under the token beside the current one, or finds that it is there.
    async fn ensure_pending(
        &self,
        at: &Source,
        versions: &Versions,
        token: &str,
        value: &SecretBytes,
        requests: &Requests<'_>,
    ) -> Result<(), PortError> {
        let current = versions.current()?;
        let other = versions
            .holders(PENDING)
            .find(|holder| *holder != token && Some(*holder) != current);
        if let Some(other) = other.filter(|_| versions.rotates) {
            let text = format!(
                "AWS is rotating it (version {other} is pending); wait for its end, or leave the \
                 rotation to one of the two: `aws secretsmanager cancel-rotate-secret`"
            );
            return Err(self.error(ErrorKind::Conflict, at, &text));
        }
        let whole = self.document(at, current, value, requests).await?;
        if versions.labels_of(token).is_empty() {
            for other in versions.holders(PENDING) {
                // AWS takes the label away by itself; who copies AWS may not.
                let moved = requests.relabel(&at.path, PENDING, Some(other), None).await;
                unless(moved, Reason::Label)?;
            }
            let put = requests.put_pending(&at.path, token, &whole).await;
            unless(put, Reason::Exists)?;
        }
        let held = requests.value(&at.path, token).await?;
        if held.ct_eq(&whole) {
            return Ok(());
        }
        let text = format!("version {token} holds another value; rotate it again");
        Err(self.error(ErrorKind::Conflict, at, &text))
    }

    async fn stage_now(
        &self,
        at: &Source,
        token: &str,
        value: &SecretBytes,
        until: &Until,
    ) -> Result<(), PortError> {
        let requests = self.requests(until);
        let Some(versions) = requests.describe(&at.path).await? else {
            return Ok(());
        };
        self.refuse_deleted(at, &versions)?;
        let current = versions.current()?;
        if current.is_none() || current == Some(token) {
            return Ok(());
        }
        self.ensure_pending(at, &versions, token, value, &requests)
            .await
    }

    fn refuse_deleted(&self, at: &Source, versions: &Versions) -> Result<(), PortError> {
        if !versions.deleted {
            return Ok(());
        }
        let text =
            "it is marked for deletion; bring it back by `aws secretsmanager restore-secret`";
        Err(self.error(ErrorKind::Denied, at, text))
    }

    async fn promote_now(
        &self,
        at: &Source,
        token: &str,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<String, PortError> {
        let requests = self.requests(until);
        let expected = expected.map(|version| version.0.as_str());
        let Some(versions) = requests.describe(&at.path).await? else {
            return match expected {
                None => self.create(at, token, value, &requests).await,
                Some(_) => Err(self.error(
                    ErrorKind::Conflict,
                    at,
                    "it was deleted since; make it again, or remove it from this secret's manifest",
                )),
            };
        };
        self.refuse_deleted(at, &versions)?;
        let current = versions.current()?;
        if current != expected {
            return Err(self.conflict(at));
        }
        self.ensure_pending(at, &versions, token, value, &requests)
            .await?;
        // The first version of a secret may be made current at once.
        if expected.is_some() || !self.is_current(at, token, &requests).await? {
            let moved = requests
                .relabel(&at.path, CURRENT, expected, Some(token))
                .await;
            unless(moved, Reason::Label)?;
        }
        self.confirm(at, token, expected, &requests).await
    }

    async fn create(
        &self,
        at: &Source,
        token: &str,
        value: &SecretBytes,
        requests: &Requests<'_>,
    ) -> Result<String, PortError> {
        if at.path.starts_with("arn:") {
            let text =
                "there is no such secret, and AWS makes none by ARN; create it there, or name it";
            return Err(self.error(ErrorKind::Denied, at, text));
        }
        let whole = self.document(at, None, value, requests).await?;
        match requests.create(&at.path, token, &whole).await {
            Err(failure) if failure.reason == Reason::Exists => {}
            made => return self.confirm(at, &made?, None, requests).await,
        }
        // Ours, whose answer was lost, or somebody else's.
        let versions = requests.describe(&at.path).await?;
        let there = match &versions {
            Some(versions) => versions.current()?,
            None => None,
        };
        match there {
            Some(there) if self.is_own(at, there, value, requests).await? => Ok(there.to_owned()),
            _ => Err(self.conflict(at)),
        }
    }

    async fn is_current(
        &self,
        at: &Source,
        version: &str,
        requests: &Requests<'_>,
    ) -> Result<bool, PortError> {
        let versions = requests.describe(&at.path).await?;
        Ok(versions.is_some_and(|versions| versions.is(version, CURRENT)))
    }

    /// Reads back that the version is current, and clears away what the rotation needed.
    async fn confirm(
        &self,
        at: &Source,
        version: &str,
        before: Option<&str>,
        requests: &Requests<'_>,
    ) -> Result<String, PortError> {
        let versions = requests.describe(&at.path).await?;
        let current = match &versions {
            Some(versions) => versions.current()?,
            None => None,
        };
        match (&versions, current) {
            (Some(versions), Some(current)) if current == version => {
                self.drop_pending(at, versions, version, requests).await?;
                Ok(version.to_owned())
            }
            (_, current) if current == before => {
                let text = format!(
                    "AWS said that version {version} is current, and it is not; it is tried again"
                );
                Err(self.error(ErrorKind::Unavailable, at, &text))
            }
            _ => Err(self.conflict(at)),
        }
    }

    /// A pending label that stays behind would be a rotation under way to AWS once another is current.
    async fn drop_pending(
        &self,
        at: &Source,
        versions: &Versions,
        version: &str,
        requests: &Requests<'_>,
    ) -> Result<(), PortError> {
        if !versions.is(version, PENDING) {
            return Ok(());
        }
        let moved = requests
            .relabel(&at.path, PENDING, Some(version), None)
            .await;
        unless(moved, Reason::Label)
    }

    async fn revoke_now(&self, at: &Source, version: &str, until: &Until) -> Result<(), PortError> {
        let requests = self.requests(until);
        let Some(versions) = requests.describe(&at.path).await? else {
            return Ok(());
        };
        if versions.is(version, CURRENT) {
            let text =
                format!("version {version} is current there; make another one current first");
            return Err(self.error(ErrorKind::Conflict, at, &text));
        }
        let labels = versions.labels_of(version);
        for label in labels {
            let moved = requests.relabel(&at.path, label, Some(version), None).await;
            unless(moved, Reason::Label)?;
        }
        if labels.is_empty() {
            return Ok(());
        }
        let after = requests.describe(&at.path).await?;
        if after.is_none_or(|after| after.labels_of(version).is_empty()) {
            return Ok(());
        }
        let text = format!(
            "AWS said that version {version} has no label left, and it has; it is tried again"
        );
        Err(self.error(ErrorKind::Unavailable, at, &text))
    }

    async fn fetch_now(
        &self,
        at: &Source,
        version: &str,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        let gone = || {
            let text = format!("version {version} is not there any more");
            self.error(ErrorKind::NotFound, at, &text)
        };
        if !VERSION_ID_BYTES.contains(&version.len()) {
            return Err(gone());
        }
        let whole = match self.requests(until).value(&at.path, version).await {
            Err(failure) if matches!(failure.reason, Reason::Missing | Reason::State) => {
                return Err(gone());
            }
            whole => whole?,
        };
        if at.field.is_empty() {
            return Ok(whole);
        }
        document::read(&whole, &at.field).map_err(|error| {
            let text = format!(
                "field `{}` of version {version}: {error}; correct the field in the secret's manifest, \
                 or the value at AWS",
                at.field
            );
            self.error(ErrorKind::Denied, at, &text)
        })
    }

    async fn check_now(&self, until: &Until) -> Result<(), PortError> {
        let named = |error: PortError| {
            let text = format!("store `{}`: {}", self.name, error.text);
            PortError { text, ..error }
        };
        self.connection.find_credentials().await.map_err(named)?;
        let listed = self.requests(until).names("", None, Some(1)).await;
        // Whoever is told that this right is missing has been recognised, and needs it only to import;
        // what a secret needs is asked at its place.
        unless(listed.map(drop), Reason::Denied)
    }
}

/// A refusal for this reason says that it is so already.
fn unless(done: Result<(), Failure>, reason: Reason) -> Result<(), PortError> {
    match done {
        Err(failure) if failure.reason == reason => Ok(()),
        done => Ok(done?),
    }
}

/// Whether nobody on the way can read what is sent to it.
fn is_private(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return endpoint.is_empty() || endpoint.starts_with("https://");
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[async_trait]
impl Store for AwsStore {
    async fn check(&self, until: &Until) -> Result<(), PortError> {
        self.bounded(until, self.check_now(until)).await
    }

    async fn check_use(
        &self,
        at: &Source,
        writes: bool,
        until: &Until,
    ) -> Result<Vec<String>, PortError> {
        let requests = self.requests(until);
        let asked = check::rights(&requests, self.connection.spec(), &at.path, writes);
        self.bounded(until, asked).await
    }

    async fn look(&self, at: &Source, until: &Until) -> Result<Option<Observed>, PortError> {
        let call = async {
            let versions = self.requests(until).describe(&at.path).await?;
            let Some(versions) = versions.filter(|versions| !versions.deleted) else {
                return Ok(None);
            };
            // AWS tells when a secret changed in any way, and not when its version was made.
            let observed = |version: &str| Observed {
                version: RemoteVersion(version.to_owned()),
                created: None,
            };
            Ok(versions.current()?.map(observed))
        };
        self.bounded(until, call).await
    }

    async fn fetch(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        self.bounded(until, self.fetch_now(at, &version.0, until))
            .await
    }

    async fn stage(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        until: &Until,
    ) -> Result<(), PortError> {
        let token = token.to_string();
        self.bounded(until, self.stage_now(at, &token, value, until))
            .await
    }

    async fn promote(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<RemoteVersion, PortError> {
        let token = token.to_string();
        let call = self.promote_now(at, &token, value, expected, until);
        self.bounded(until, call).await.map(RemoteVersion)
    }

    async fn probe_stage(
        &self,
        at: &Source,
        token: RotationId,
        until: &Until,
    ) -> Result<bool, PortError> {
        self.bounded(until, self.is_staged(at, token, until)).await
    }

    async fn probe_promote(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let token = token.to_string();
        let call = self.find(at, &token, value, expected, until);
        Ok(self.bounded(until, call).await?.map(RemoteVersion))
    }

    async fn unstage(
        &self,
        at: &Source,
        token: RotationId,
        until: &Until,
    ) -> Result<(), PortError> {
        let token = token.to_string();
        let call = async {
            let requests = self.requests(until);
            match requests.describe(&at.path).await? {
                Some(versions) => self.drop_pending(at, &versions, &token, &requests).await,
                None => Ok(()),
            }
        };
        self.bounded(until, call).await
    }

    async fn revoke(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError> {
        self.bounded(until, self.revoke_now(at, &version.0, until))
            .await
    }

    async fn list(
        &self,
        prefix: &str,
        page: Option<&str>,
        until: &Until,
    ) -> Result<Listed, PortError> {
        let call = async { Ok(self.requests(until).names(prefix, page, None).await?) };
        self.bounded(until, call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for endpoint in [
            "",
            "https://secretsmanager.example",
            "http://127.0.0.1:4566",
            "http://127.9.9.9/",
            "http://localhost",
            "http://[::1]:4566",
        ] {
            assert!(is_private(endpoint), "{endpoint}");
        }
        for endpoint in [
            "http://secretsmanager.example",
            "http://localhost.example:80",
            "http://127.0.0.1.example",
            "http://10.0.0.1:4566",
            "http://127.0.0.1@example",
            "http://example:80@127.0.0.1",
            "ftp://127.0.0.1",
            "127.0.0.1:4566",
        ] {
            assert!(!is_private(endpoint), "{endpoint}");
        }
    }
}
