//! Vault and OpenBao: one KV version 2 engine as a [`Store`].
//!
//! A version is the engine's number with the time at which it was made. `promote` patches one field
//! with check-and-set, so other fields stay without being read, and reads back what it wrote; over
//! the known version that was deleted it makes a new one. Which rotation wrote which version is noted
//! in the path's custom metadata, where that can be. A probe finds our own value current over the known
//! one, and notes it then. `stage` has nothing to do: the engine has no version beside the current one.
//! `revoke` destroys, `retire` does so too or deletes, as was declared; each sees that it is done.
//! Invariants: a version is looked at by metadata, and a value is asked for only to be
//! fetched or to see whether it is ours; every call of the port ends within the store's timeout.
//! What lies at a static role of a database engine is in `static_role`; a key of a transit engine, which is no store,
//! in `transit`.
//! Works where Vault and OpenBao agree; `sys/health`, in which they differ, is not asked.

mod api;
mod check;
mod http;
mod leases;
pub(crate) mod policy;
mod refusal;
mod session;
mod static_role;
mod tls;
mod transit;
mod version;
mod wire;
mod wrapping;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::RotationId;
use keywheel_core::name::StoreName;
use keywheel_core::store::{OldVersions, RemoteVersion, Source, VaultSpec};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::leases::Leases;
use keywheel_engine::port::store::{Credentials, Listed, ListedEntry, Observed, Store};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::{Entropy, SecretBytes};

use self::api::{Api, Patched};
use self::http::{Call, Http};
use self::session::Session;
use self::static_role::{made_at, not_ours};
use self::tls::Endpoint;
use self::version::Version;
use self::wire::Metadata;

pub use self::refusal::{LOGIN_PAUSE, LOGIN_PAUSE_LIMIT};
pub use self::tls::MAX_CA_FILE_BYTES;
pub use self::transit::TransitKey;
pub use self::wrapping::{MAX_UNWRAPPED, Wrappings};

/// Names of one page.
const PAGE: usize = 100;
/// Longest time for noting who wrote: what was written is current whether that succeeds or not.
const NOTE_SPAN: Duration = Duration::from_secs(2);

/// What is wrong with a place where something else than the known version is current.
const NEWER: &str = "has a newer version there than we know; it";

/// One KV version 2 engine.
pub struct VaultStore {
    name: StoreName,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    api: Api,
}

/// What every store of one process shares.
#[derive(Clone)]
pub struct Process {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Secret ids that came wrapped.
    pub wrappings: Arc<Wrappings>,
}

impl VaultStore {
    /// The engine that was declared. Opens no connection.
    ///
    /// # Errors
    /// When its address is none that we speak to.
    pub fn new(
        name: &StoreName,
        spec: &VaultSpec,
        timeout: Duration,
        credentials: Arc<dyn Credentials>,
        process: Process,
    ) -> Result<Self, PortError> {
        let Process {
            clock,
            entropy,
            wrappings,
        } = process;
        let endpoint = Endpoint::parse(spec).map_err(|error| of_store(name, error))?;
        let http = Http::new(endpoint, credentials, Arc::clone(&clock), entropy);
        let (auth, namespace) = (spec.auth.clone(), spec.namespace.clone());
        let session = Session::new(http, auth, namespace, wrappings);
        Ok(Self {
            name: name.clone(),
            timeout,
            clock,
            api: Api::new(session, spec),
        })
    }

    /// One call of the port: how long it lasts.
    fn call<'a>(&self, until: &'a Until) -> Call<'a> {
        let limit = self.timeout.min(until.remaining());
        Call {
            until,
            ends: self.clock.monotonic().saturating_add(limit),
        }
    }

    /// Runs one call of the port within its time, and names the store in what fails.
    async fn within<T>(
        &self,
        call: Call<'_>,
        work: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        let limit = self.timeout.min(call.until.remaining());
        let done = match call.until.check() {
            Ok(()) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
                let text = format!(
                    "no answer within {limit:?}; see the server, or raise the store's timeout"
                );
                Err(PortError::new(ErrorKind::Unavailable, text))
            }),
            Err(late) => Err(late),
        };
        done.map_err(|error| of_store(&self.name, error))
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.clock.now().micros()).unwrap_or_default()
    }

    async fn look_at(&self, path: &str, call: Call<'_>) -> Result<Option<Observed>, PortError> {
        let metadata = self.api.metadata(path, call).await?;
        let live = metadata.filter(|metadata| metadata.is_live(self.now()));
        Ok(live.map(|metadata| {
            let current = metadata.current();
            Observed {
                created: current.time(),
                version: current.name(),
            }
        }))
    }

    /// Writes over what is known, also where that was deleted, and gives our version.
    async fn write(
        &self,
        at: &Source,
        value: &SecretBytes,
        expected: Option<&Version>,
        call: Call<'_>,
    ) -> Result<Version, PortError> {
        let metadata = self.api.metadata(&at.path, call).await?;
        let is_live = metadata
            .as_ref()
            .is_some_and(|metadata| metadata.is_live(self.now()));
        let current = metadata.as_ref().map(Metadata::current);
        let number = current.as_ref().map_or(0, |current| current.number);
        let is_known = match (expected, &current) {
            (Some(known), Some(current)) => known.is(current),
            (Some(_), None) => true,
            (None, _) => !is_live,
        };
        if is_known && is_live {
            if let Patched::Made(made) = self.api.patch(at, value, number, call).await? {
                return Ok(made);
            }
        } else if is_known {
            if let Some(made) = self.api.create(at, value, number, call).await? {
                return Ok(made);
            }
        } else if is_live {
            return Err(newer(at, NEWER));
        } else {
            let why = format!(
                "has version {number}, which somebody made and deleted there; bring it back or put a value there: then it"
            );
            return Err(newer(at, &why));
        }
        // Something is current since we looked: ours, when the answer was lost and it was asked again.
        let ours = self.ours(at, value, expected, call).await?;
        ours.ok_or_else(|| newer(at, NEWER))
    }

    /// Makes a value current, sees that it is, and notes who wrote it.
    async fn write_and_see(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        call: Call<'_>,
    ) -> Result<RemoteVersion, PortError> {
        let known = known(at, expected)?;
        let made = self.write(at, value, known.as_ref(), call).await?;
        let Some(made) = self.has(at, &made, value, call).await? else {
            let text = format!(
                "version {} of {} is not there, though its write was answered with success",
                made.number, at.path
            );
            return Err(PortError::new(ErrorKind::Unavailable, text));
        };
        self.note(at, token, &made, call).await;
        Ok(made.name())
    }

    /// What an earlier attempt made current, and notes who wrote it.
    async fn find(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        call: Call<'_>,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let known = known(at, expected)?;
        let Some(made) = self.ours(at, value, known.as_ref(), call).await? else {
            return Ok(None);
        };
        self.note(at, token, &made, call).await;
        Ok(Some(made.name()))
    }

    /// Notes who wrote it. The value is current already, so a failure is only told.
    async fn note(&self, at: &Source, token: RotationId, made: &Version, call: Call<'_>) {
        let left = call.ends.saturating_sub(self.clock.monotonic());
        let noting = self.api.note(&at.path, token, made.number, call);
        let noted = tokio::time::timeout(NOTE_SPAN.min(left / 2), noting).await;
        let why = match noted {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.text,
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(
            store = %self.name,
            reason = why,
            "what was written is current; who wrote it could not be noted beside it"
        );
    }

    /// What is current over the known version, if it has our value.
    async fn ours(
        &self,
        at: &Source,
        value: &SecretBytes,
        known: Option<&Version>,
        call: Call<'_>,
    ) -> Result<Option<Version>, PortError> {
        let metadata = self.api.metadata(&at.path, call).await?;
        let live = metadata.filter(|metadata| metadata.is_live(self.now()));
        let current = live.map(|metadata| metadata.current());
        match current.filter(|current| known.is_none_or(|known| !known.is(current))) {
            Some(current) => self.has(at, &current, value, call).await,
            None => Ok(None),
        }
    }

    /// What a version is called in full, when it has this value.
    async fn has(
        &self,
        at: &Source,
        version: &Version,
        value: &SecretBytes,
        call: Call<'_>,
    ) -> Result<Option<Version>, PortError> {
        match self.api.value(at, version, call).await {
            Ok((there, version)) => Ok(there.ct_eq(value).then_some(version)),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Denied) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends a version that is not current, and sees that it ended.
    async fn end(
        &self,
        path: &str,
        version: &Version,
        ending: OldVersions,
        call: Call<'_>,
    ) -> Result<(), PortError> {
        let number = version.number;
        let is_gone = |metadata: &Metadata| match ending {
            OldVersions::Destroy => is_destroyed(metadata, version),
            OldVersions::SoftDelete => {
                let state = metadata.version(number);
                is_destroyed(metadata, version) || state.is_none_or(|one| !one.is_live(self.now()))
            }
        };
        let Some(metadata) = self.api.metadata(path, call).await? else {
            return Ok(());
        };
        if is_gone(&metadata) {
            return Ok(());
        }
        if metadata.current_version == number && metadata.is_live(self.now()) {
            let text = format!(
                "version {number} of {path} is current there; make another one current first"
            );
            return Err(PortError::new(ErrorKind::Conflict, text));
        }
        self.api.end(path, number, ending, call).await?;
        let after = self.api.metadata(path, call).await?;
        let deleted = |metadata: &Metadata| -> String {
            let state = metadata.version(number);
            state.map_or_else(String::new, |one| one.deletion_time().to_owned())
        };
        // The store deletes by its own clock, which may be ahead of ours: another time than before is ours.
        let is_ours = |after: &Metadata| {
            let then = deleted(after);
            ending == OldVersions::SoftDelete && !then.is_empty() && then != deleted(&metadata)
        };
        if after.is_none_or(|after| is_gone(&after) || is_ours(&after)) {
            return Ok(());
        }
        let text = format!(
            "version {number} of {path} is still there, though its end was answered with success"
        );
        Err(PortError::new(ErrorKind::Unavailable, text))
    }

    async fn end_version(
        &self,
        at: &Source,
        version: &RemoteVersion,
        ending: OldVersions,
        until: &Until,
    ) -> Result<(), PortError> {
        let call = self.call(until);
        match Version::parse(version) {
            Some(version) => {
                let ended = self.end(&at.path, &version, ending, call);
                self.within(call, ended).await
            }
            // No engine ever had it.
            None => Ok(()),
        }
    }

    async fn page(
        &self,
        prefix: &str,
        page: Option<&str>,
        call: Call<'_>,
    ) -> Result<Listed, PortError> {
        let (mut after, mut folders) = unfold(prefix, page);
        let mut listed = Listed::default();
        while let Some(folder) = folders.pop_front() {
            let mut keys = self.api.keys(&folder, call).await?;
            keys.sort_unstable();
            keys.retain(|key| format!("{folder}{key}").starts_with(prefix));
            if after.is_empty() {
                let below = keys.iter().filter(|key| key.ends_with('/'));
                folders.extend(below.map(|key| format!("{folder}{key}")));
            }
            let names: Vec<_> = keys
                .into_iter()
                .filter(|key| !key.ends_with('/') && key.as_str() > after.as_str())
                .collect();
            for key in names {
                if listed.entries.len() == PAGE {
                    folders.push_front(folder);
                    listed.next = Some(fold(&after, &folders));
                    return Ok(listed);
                }
                let path = format!("{folder}{key}");
                if let Some(fields) = self.api.fields(&path, call).await? {
                    listed.entries.push(ListedEntry { path, fields });
                }
                after = key;
            }
            after = String::new();
        }
        Ok(listed)
    }
}

#[async_trait]
impl Store for VaultStore {
    async fn check(&self, until: &Until) -> Result<(), PortError> {
        let call = self.call(until);
        self.within(call, self.api.check(call)).await
    }

    async fn check_use(
        &self,
        at: &Source,
        writes: bool,
        until: &Until,
    ) -> Result<Vec<String>, PortError> {
        let call = self.call(until);
        let asked = self.within(call, self.api.check_use(at, writes, call));
        asked.await.map(|()| Vec::new())
    }

    async fn look(&self, at: &Source, until: &Until) -> Result<Option<Observed>, PortError> {
        let call = self.call(until);
        if let Some(role) = at.static_role() {
            return self.within(call, self.api.role_now(&role, call)).await;
        }
        self.within(call, self.look_at(&at.path, call)).await
    }

    async fn fetch(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        let call = self.call(until);
        if let Some(role) = at.static_role() {
            return self.fetch_at(at, &role, version, call).await;
        }
        let Some(version) = Version::parse(version) else {
            return Err(of_store(&self.name, api::gone(&at.path, &version.0)));
        };
        let value = self.within(call, self.api.value(at, &version, call));
        value.await.map(|(value, _)| value)
    }

    fn is_behind(&self, known: &RemoteVersion, found: &RemoteVersion) -> bool {
        if let Some((known, found)) = made_at(known).zip(made_at(found)) {
            return found < known;
        }
        let both = Version::parse(known).zip(Version::parse(found));
        both.is_some_and(|(known, found)| found.is_before(&known))
    }

    fn makes(&self, at: &Source) -> bool {
        at.is_made_there()
    }

    async fn make(
        &self,
        at: &Source,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        self.make_at(at, expected, until).await
    }

    async fn stage(
        &self,
        _: &Source,
        _: RotationId,
        _: &SecretBytes,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()
    }

    async fn promote(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<RemoteVersion, PortError> {
        let call = self.call(until);
        if let Some(role) = at.static_role() {
            let ours = self.ours_at(at, &role, (value, expected), call).await?;
            return ours.ok_or_else(|| of_store(&self.name, not_ours(at)));
        }
        let work = self.write_and_see(at, token, value, expected, call);
        self.within(call, work).await
    }

    async fn probe_stage(
        &self,
        _: &Source,
        _: RotationId,
        until: &Until,
    ) -> Result<bool, PortError> {
        until.check().map(|()| false)
    }

    async fn probe_promote(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let call = self.call(until);
        if let Some(role) = at.static_role() {
            return self.ours_at(at, &role, (value, expected), call).await;
        }
        let work = self.find(at, token, value, expected, call);
        self.within(call, work).await
    }

    async fn unstage(&self, _: &Source, _: RotationId, until: &Until) -> Result<(), PortError> {
        until.check()
    }

    async fn revoke(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError> {
        if let Some(role) = at.static_role() {
            return self.revoke_at(at, &role, version, until).await;
        }
        self.end_version(at, version, OldVersions::Destroy, until)
            .await
    }

    async fn retire(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError> {
        if let Some(role) = at.static_role() {
            let call = self.call(until);
            return self.retire_at(at, &role, version, call).await;
        }
        self.end_version(at, version, self.api.old_versions, until)
            .await
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    async fn list(
        &self,
        prefix: &str,
        page: Option<&str>,
        until: &Until,
    ) -> Result<Listed, PortError> {
        let call = self.call(until);
        self.within(call, self.page(prefix, page, call)).await
    }
}

fn of_store(name: &StoreName, error: PortError) -> PortError {
    PortError {
        text: format!("store `{name}`: {}", error.text),
        ..error
    }
}

/// The known version as the engine calls it.
fn known(at: &Source, expected: Option<&RemoteVersion>) -> Result<Option<Version>, PortError> {
    let parsed = expected.map(|version| {
        Version::parse(version)
            .ok_or_else(|| newer(at, "is known by a version that no KV engine has; it"))
    });
    parsed.transpose()
}

fn newer(at: &Source, why: &str) -> PortError {
    let text = format!("{} {why} is taken up at the next look", at.path);
    PortError::new(ErrorKind::Conflict, text)
}

/// A version of the same number that was made at another time is another one.
fn is_destroyed(metadata: &Metadata, version: &Version) -> bool {
    let state = metadata.version(version.number);
    state.is_none_or(|state| state.destroyed) || !metadata.called(version.number).is(version)
}

/// Where a page begins: after which name of the first folder, and the folders to come.
fn unfold(prefix: &str, page: Option<&str>) -> (String, VecDeque<String>) {
    let Some(page) = page else {
        let folder = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
        return (String::new(), VecDeque::from([folder.to_owned()]));
    };
    let mut lines = page.split('\n').map(str::to_owned);
    (lines.next().unwrap_or_default(), lines.collect())
}

fn fold(after: &str, folders: &VecDeque<String>) -> String {
    let folders = folders.iter().map(String::as_str);
    std::iter::once(after)
        .chain(folders)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests;
