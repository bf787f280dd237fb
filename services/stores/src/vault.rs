//! Vault and OpenBao: one KV version 2 engine as a [`Store`].
//!
//! A version is the engine's number. `promote` patches one field with check-and-set, so other fields
//! stay without being read, reads back what it wrote, and notes in the path's custom metadata which
//! rotation wrote which version. A repeat finds its own value at the next number. `stage` has nothing
//! to do: the engine has no version beside the current one. `revoke` destroys, and sees that it is
//! destroyed. Invariants: a version is looked at by metadata, and a value is asked for only to be
//! fetched or to see whether it is ours; every call of the port ends within the store's timeout.
//! Works where Vault and OpenBao agree; `sys/health`, in which they differ, is not asked.

mod api;
mod check;
mod http;
pub(crate) mod policy;
mod session;
mod tls;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::RotationId;
use keywheel_core::name::StoreName;
use keywheel_core::store::{RemoteVersion, Source, VaultSpec};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::store::{Credentials, Listed, ListedEntry, Observed, Store};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::{Entropy, SecretBytes};

use self::api::{Api, Patched};
use self::http::{Call, Http};
use self::session::Session;
use self::tls::Endpoint;
use self::wire::Metadata;

/// Names of one page.
const PAGE: usize = 100;

/// One KV version 2 engine.
pub struct VaultStore {
    name: StoreName,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    api: Api,
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
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, PortError> {
        let endpoint = Endpoint::parse(spec).map_err(|error| of_store(name, error))?;
        let http = Http::new(endpoint, credentials, Arc::clone(&clock), entropy);
        let session = Session::new(http, spec.auth.clone(), spec.namespace.clone());
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
        let Some(metadata) = self.api.metadata(path, call).await? else {
            return Ok(None);
        };
        let live = metadata.live(self.now());
        Ok(live.map(|version| Observed {
            version: named(metadata.current_version),
            created: version
                .created()
                .map(|at| Timestamp::from_micros(at.as_microsecond())),
        }))
    }

    /// Writes over what is known, and gives the number of our version.
    async fn write(
        &self,
        at: &Source,
        value: &SecretBytes,
        expected: Option<u64>,
        call: Call<'_>,
    ) -> Result<u64, PortError> {
        let base = match expected {
            Some(number) => match self.api.patch(at, value, number, call).await? {
                Patched::Made(number) => return Ok(number),
                Patched::NothingThere => return Err(newer(at, "was deleted there")),
                Patched::Newer => number,
            },
            None => {
                let metadata = self.api.metadata(&at.path, call).await?;
                let number = metadata
                    .as_ref()
                    .map_or(0, |metadata| metadata.current_version);
                let is_free = metadata.is_none_or(|metadata| metadata.live(self.now()).is_none());
                if !is_free {
                    // What is there may be ours: its answer was lost.
                    number.saturating_sub(1)
                } else if let Some(made) = self.api.create(at, value, number, call).await? {
                    return Ok(made);
                } else {
                    number
                }
            }
        };
        self.ours(at, value, base, call).await
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
        let known = expected.map(|version| {
            number(version).ok_or_else(|| newer(at, "is known by a version that no KV engine has"))
        });
        let made = self.write(at, value, known.transpose()?, call).await?;
        if !self.has(at, made, value, call).await? {
            let text = format!(
                "version {made} of {} is not there, though its write was answered with success",
                at.path
            );
            return Err(PortError::new(ErrorKind::Unavailable, text));
        }
        self.api.note(&at.path, token, made, call).await?;
        Ok(named(made))
    }

    /// The number after the known one, if it is current and has our value: an earlier attempt's.
    async fn ours(
        &self,
        at: &Source,
        value: &SecretBytes,
        base: u64,
        call: Call<'_>,
    ) -> Result<u64, PortError> {
        let metadata = self.api.metadata(&at.path, call).await?;
        let current = metadata.filter(|metadata| metadata.live(self.now()).is_some());
        let next = base + 1;
        if current.is_some_and(|metadata| metadata.current_version == next)
            && self.has(at, next, value, call).await?
        {
            return Ok(next);
        }
        Err(newer(at, "has a newer version there than we know"))
    }

    async fn has(
        &self,
        at: &Source,
        number: u64,
        value: &SecretBytes,
        call: Call<'_>,
    ) -> Result<bool, PortError> {
        match self.api.value(at, number, call).await {
            Ok(there) => Ok(there.ct_eq(value)),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Denied) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn destroy(&self, path: &str, number: u64, call: Call<'_>) -> Result<(), PortError> {
        let Some(metadata) = self.api.metadata(path, call).await? else {
            return Ok(());
        };
        if metadata.current_version == number && metadata.live(self.now()).is_some() {
            let text = format!(
                "version {number} of {path} is current there; make another one current first"
            );
            return Err(PortError::new(ErrorKind::Conflict, text));
        }
        if is_gone(&metadata, number) {
            return Ok(());
        }
        self.api.destroy(path, number, call).await?;
        let after = self.api.metadata(path, call).await?;
        if after.is_none_or(|metadata| is_gone(&metadata, number)) {
            return Ok(());
        }
        let text = format!(
            "version {number} of {path} is still there, though its destruction was answered with success"
        );
        Err(PortError::new(ErrorKind::Unavailable, text))
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

    async fn check_use(&self, at: &Source, writes: bool, until: &Until) -> Result<(), PortError> {
        let call = self.call(until);
        self.within(call, self.api.check_use(at, writes, call))
            .await
    }

    async fn look(&self, at: &Source, until: &Until) -> Result<Option<Observed>, PortError> {
        let call = self.call(until);
        self.within(call, self.look_at(&at.path, call)).await
    }

    async fn fetch(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        let call = self.call(until);
        let Some(number) = number(version) else {
            return Err(of_store(&self.name, api::gone(&at.path, &version.0)));
        };
        self.within(call, self.api.value(at, number, call)).await
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
        let work = self.write_and_see(at, token, value, expected, call);
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
        let call = self.call(until);
        match number(version) {
            Some(number) => {
                self.within(call, self.destroy(&at.path, number, call))
                    .await
            }
            // No engine ever had it.
            None => Ok(()),
        }
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

fn named(number: u64) -> RemoteVersion {
    RemoteVersion(number.to_string())
}

fn number(version: &RemoteVersion) -> Option<u64> {
    version.0.parse().ok().filter(|number| *number > 0)
}

fn newer(at: &Source, why: &str) -> PortError {
    let text = format!("{} {why}; it is taken up at the next look", at.path);
    PortError::new(ErrorKind::Conflict, text)
}

fn is_gone(metadata: &Metadata, number: u64) -> bool {
    metadata
        .version(number)
        .is_none_or(|version| version.destroyed)
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
