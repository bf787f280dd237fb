//! A store outside, in memory: fields by path, versions by number, stages by token.
//!
//! It keeps the port's laws, and can be down, hold whoever asks, fail at one place, lag, lose an
//! answer, write long after whoever asked is gone, or say that it wrote without writing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use keywheel_core::id::RotationId;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_engine::port::leases::Leases;
use keywheel_engine::port::store::{Listed, ListedEntry, LoginRefused, Observed, Store};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;
use tokio::sync::watch;

use super::leases::FakeLeases;

/// Entries of a page.
const PAGE: usize = 2;

/// A store in memory.
#[derive(Default)]
pub struct FakeStore {
    /// What it lends.
    pub lender: FakeLeases,
    state: Mutex<State>,
    held: watch::Sender<bool>,
}

type Fields = BTreeMap<String, Vec<u8>>;

/// A promotion that is done later.
type Late = Box<dyn FnOnce(&mut State) + Send>;

#[derive(Default)]
struct State {
    paths: BTreeMap<String, Kept>,
    is_down: bool,
    refuses_login: bool,
    loses: u32,
    lies: u32,
    delays: bool,
    late: Vec<Late>,
    writes: u32,
    fetches: u32,
    retired: u32,
    calls: usize,
    lags: bool,
    refuses: Option<ErrorKind>,
    faults: BTreeMap<String, ErrorKind>,
    looks: BTreeMap<String, u32>,
}

#[derive(Default)]
struct Kept {
    /// The newest is the last; a destroyed one is `None`.
    versions: Vec<Option<Fields>>,
    by: BTreeMap<RotationId, u64>,
    staged: BTreeSet<RotationId>,
    is_deleted: bool,
}

impl Kept {
    fn current(&self) -> Option<u64> {
        let newest = u64::try_from(self.versions.len()).unwrap();
        (newest > 0 && !self.is_deleted).then_some(newest)
    }

    fn version(&self, number: u64) -> Option<&Fields> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        let fields = self.versions.get(place)?.as_ref();
        fields.filter(|_| !(self.is_deleted && place + 1 == self.versions.len()))
    }
}

impl FakeStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answers nobody, or again.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// It takes no login of ours, or again.
    pub fn set_login_refused(&self, refused: bool) {
        self.state().refuses_login = refused;
    }

    /// Whoever asks gets no answer, until it is told otherwise.
    pub fn hold(&self, holds: bool) {
        self.held.send_replace(holds);
    }

    /// Looks are answered with the version before the current one.
    pub fn set_lag(&self, lags: bool) {
        self.state().lags = lags;
    }

    /// Looks and checks fail so, or no more.
    pub fn set_refusal(&self, kind: Option<ErrorKind>) {
        self.state().refuses = kind;
    }

    /// Looks at this path fail so, or no more.
    pub fn set_fault(&self, path: &str, kind: Option<ErrorKind>) {
        let faults = &mut self.state().faults;
        match kind {
            Some(kind) => faults.insert(path.to_owned(), kind),
            None => faults.remove(path),
        };
    }

    /// How many calls were begun.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state().calls
    }

    /// How often this path was looked at.
    #[must_use]
    pub fn looks(&self, path: &str) -> u32 {
        self.state().looks.get(path).copied().unwrap_or(0)
    }

    /// The next calls are done, and their answers lost.
    pub fn lose_answers(&self, calls: u32) {
        self.state().loses = calls;
    }

    /// The next promotions are answered with a version and not done.
    pub fn lie(&self, promotions: u32) {
        self.state().lies = promotions;
    }

    /// Promotions are taken and not answered; they are done when they are told to land.
    pub fn delay(&self, delays: bool) {
        self.state().delays = delays;
    }

    /// How many promotions are under way, whether or not somebody waits for them.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.state().late.len()
    }

    /// Does every promotion that is under way.
    pub fn land(&self) {
        let mut state = self.state();
        for late in std::mem::take(&mut state.late) {
            late(&mut state);
        }
    }

    /// How often a version was made by us.
    #[must_use]
    pub fn writes(&self) -> u32 {
        self.state().writes
    }

    /// How often a value was asked for.
    #[must_use]
    pub fn fetches(&self) -> u32 {
        self.state().fetches
    }

    /// How often a version was ended as its declaration says, and not for good.
    #[must_use]
    pub fn retired(&self) -> u32 {
        self.state().retired
    }

    /// How many tokens have something staged.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.state()
            .paths
            .values()
            .map(|kept| kept.staged.len())
            .sum()
    }

    /// Somebody else writes these fields and no others.
    pub fn write(&self, path: &str, fields: &[(&str, &str)]) {
        let mut state = self.state();
        let kept = state.paths.entry(path.to_owned()).or_default();
        let fields = fields.iter();
        let fields = fields.map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
        kept.versions.push(Some(fields.collect()));
        kept.is_deleted = false;
    }

    /// The fields that are current.
    #[must_use]
    pub fn fields(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let kept = state.paths.get(path);
        let fields = kept.and_then(|kept| kept.version(kept.current()?));
        fields.cloned().unwrap_or_default()
    }

    /// How many versions were ever made at a path.
    #[must_use]
    pub fn versions(&self, path: &str) -> usize {
        let state = self.state();
        state.paths.get(path).map_or(0, |kept| kept.versions.len())
    }

    /// Somebody else deletes what is current.
    pub fn delete(&self, path: &str) {
        if let Some(kept) = self.state().paths.get_mut(path) {
            kept.is_deleted = true;
        }
    }

    async fn call<T>(
        &self,
        until: &Until,
        act: impl FnOnce(&mut State) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        until.check()?;
        self.state().calls += 1;
        let mut held = self.held.subscribe();
        // The sender is our own, so it is there.
        let _opened = held.wait_for(|held| !*held).await;
        let mut state = self.state();
        let gone = |text| PortError::new(ErrorKind::Unavailable, text);
        if state.is_down {
            return Err(gone("the store does not answer; it is asked again"));
        }
        if state.refuses_login {
            let text = "the store refuses the login; mend the credential";
            let refused = PortError::new(ErrorKind::Denied, text);
            return Err(LoginRefused::beneath(refused));
        }
        let answer = act(&mut state);
        if state.loses > 0 {
            state.loses -= 1;
            return Err(gone("the store's answer was lost; it is asked again"));
        }
        answer
    }
}

fn named(number: u64) -> RemoteVersion {
    RemoteVersion(number.to_string())
}

fn refusal(kind: Option<ErrorKind>) -> Result<(), PortError> {
    let refused =
        |kind| PortError::new(kind, format!("the store says {kind:?}, as it was told to"));
    kind.map(refused).map_or(Ok(()), Err)
}

fn conflict(at: &Source) -> PortError {
    let text = format!("{} has a newer version than we know", at.path);
    PortError::new(ErrorKind::Conflict, text)
}

fn promote(
    state: &mut State,
    at: &Source,
    token: RotationId,
    value: &SecretBytes,
    expected: Option<&RemoteVersion>,
) -> Result<RemoteVersion, PortError> {
    let lies = state.lies > 0;
    let kept = state.paths.entry(at.path.clone()).or_default();
    let current = kept.current();
    if current.map(named).as_ref() != expected {
        return Err(conflict(at));
    }
    let next = u64::try_from(kept.versions.len()).unwrap() + 1;
    if lies {
        state.lies -= 1;
        return Ok(named(next));
    }
    let mut fields = current
        .and_then(|n| kept.version(n))
        .cloned()
        .unwrap_or_default();
    // EXPOSE: the fake keeps values in the clear.
    fields.insert(at.field.clone(), value.expose().to_vec());
    kept.versions.push(Some(fields));
    kept.by.insert(token, next);
    kept.staged.remove(&token);
    kept.is_deleted = false;
    state.writes += 1;
    Ok(named(next))
}

fn revoke(state: &mut State, at: &Source, version: &RemoteVersion) -> Result<(), PortError> {
    let Some(kept) = state.paths.get_mut(&at.path) else {
        return Ok(());
    };
    if kept.current().map(named).as_ref() == Some(version) {
        return Err(conflict(at));
    }
    let place = version
        .0
        .parse::<usize>()
        .ok()
        .and_then(|n| n.checked_sub(1));
    if let Some(old) = place.and_then(|place| kept.versions.get_mut(place)) {
        *old = None;
    }
    Ok(())
}

#[async_trait]
impl Store for FakeStore {
    async fn check(&self, until: &Until) -> Result<(), PortError> {
        self.call(until, |state| refusal(state.refuses)).await
    }

    async fn look(&self, at: &Source, until: &Until) -> Result<Option<Observed>, PortError> {
        self.call(until, |state| {
            *state.looks.entry(at.path.clone()).or_default() += 1;
            refusal(state.refuses)?;
            refusal(state.faults.get(&at.path).copied())?;
            let current = state.paths.get(&at.path).and_then(Kept::current);
            let current = current.map(|number| number - u64::from(state.lags));
            Ok(current.map(|number| Observed {
                version: named(number),
                created: None,
            }))
        })
        .await
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(&self.lender)
    }

    fn is_behind(&self, known: &RemoteVersion, found: &RemoteVersion) -> bool {
        let number = |version: &RemoteVersion| version.0.parse::<u64>().ok();
        number(found) < number(known)
    }

    async fn fetch(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        self.call(until, |state| {
            state.fetches += 1;
            let number = version.0.parse().ok();
            let kept = state.paths.get(&at.path);
            let fields = kept.and_then(|kept| kept.version(number?));
            let fields = fields.ok_or_else(|| {
                let text = format!("version {} of {} is gone", version.0, at.path);
                PortError::new(ErrorKind::NotFound, text)
            })?;
            let value = fields.get(&at.field).ok_or_else(|| {
                let text = format!("{} has no field {}", at.path, at.field);
                PortError::new(ErrorKind::Denied, text)
            })?;
            Ok(SecretBytes::from(value.clone()))
        })
        .await
    }

    async fn stage(
        &self,
        at: &Source,
        token: RotationId,
        _value: &SecretBytes,
        until: &Until,
    ) -> Result<(), PortError> {
        self.call(until, |state| {
            let kept = state.paths.entry(at.path.clone()).or_default();
            if !kept.by.contains_key(&token) {
                kept.staged.insert(token);
            }
            Ok(())
        })
        .await
    }

    async fn probe_stage(
        &self,
        at: &Source,
        token: RotationId,
        until: &Until,
    ) -> Result<bool, PortError> {
        self.call(until, |state| {
            let kept = state.paths.get(&at.path);
            Ok(kept.is_some_and(|kept| kept.staged.contains(&token)))
        })
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
        until.check()?;
        let delays = self.state().delays;
        if delays {
            // EXPOSE: the fake keeps values in the clear.
            let value = SecretBytes::from(value.expose().to_vec());
            let (at, expected) = (at.clone(), expected.cloned());
            let late: Late = Box::new(move |state| {
                // Nobody hears how it ends.
                let _ = promote(state, &at, token, &value, expected.as_ref());
            });
            self.state().late.push(late);
            return std::future::pending().await;
        }
        self.call(until, |state| promote(state, at, token, value, expected))
            .await
    }

    async fn probe_promote(
        &self,
        at: &Source,
        token: RotationId,
        _value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        self.call(until, |state| {
            let kept = state.paths.get(&at.path);
            let made = kept.and_then(|kept| {
                let current = kept.current()?;
                (kept.by.get(&token) == Some(&current)).then_some(current)
            });
            Ok(made.map(named).filter(|made| Some(made) != expected))
        })
        .await
    }

    async fn unstage(
        &self,
        at: &Source,
        token: RotationId,
        until: &Until,
    ) -> Result<(), PortError> {
        self.call(until, |state| {
            if let Some(kept) = state.paths.get_mut(&at.path) {
                kept.staged.remove(&token);
            }
            Ok(())
        })
        .await
    }

    async fn revoke(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError> {
        self.call(until, |state| revoke(state, at, version)).await
    }

    async fn retire(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError> {
        self.call(until, |state| {
            state.retired += 1;
            revoke(state, at, version)
        })
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        page: Option<&str>,
        until: &Until,
    ) -> Result<Listed, PortError> {
        self.call(until, |state| {
            let after = page.unwrap_or_default();
            let mut rest = state.paths.iter().filter(|(path, kept)| {
                path.starts_with(prefix) && path.as_str() > after && kept.current().is_some()
            });
            let entries: Vec<_> = rest
                .by_ref()
                .take(PAGE)
                .map(|(path, kept)| ListedEntry {
                    path: path.clone(),
                    fields: kept
                        .current()
                        .and_then(|n| kept.version(n))
                        .map_or_else(Vec::new, |fields| fields.keys().cloned().collect()),
                })
                .collect();
            let last = entries.last().map(|entry| entry.path.clone());
            let next = rest.next().and(last);
            Ok(Listed { entries, next })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::conformance::store::{self, FIELD, Outside};

    #[derive(Default)]
    struct Memory {
        store: Arc<FakeStore>,
        places: AtomicU32,
    }

    #[async_trait]
    impl Outside for Memory {
        fn store(&self) -> Arc<dyn Store> {
            Arc::clone(&self.store) as Arc<dyn Store>
        }

        fn fresh(&self) -> Source {
            let number = self.places.fetch_add(1, Ordering::Relaxed);
            Source {
                path: format!("conformance/{number}"),
                field: FIELD.to_owned(),
            }
        }

        async fn write(&self, path: &str, fields: &[(&str, &str)]) {
            self.store.write(path, fields);
        }

        async fn fields(&self, path: &str) -> BTreeMap<String, String> {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            let fields = self.store.fields(path).into_iter();
            fields.map(|(name, bytes)| (name, text(bytes))).collect()
        }

        async fn delete(&self, path: &str) {
            self.store.delete(path);
        }

        async fn versions(&self, path: &str) -> usize {
            self.store.versions(path)
        }

        fn revoked_is_gone(&self) -> bool {
            true
        }

        fn has_stage(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn it_keeps_the_laws_of_the_port() {
        store::check(&Memory::default()).await;
    }

    #[tokio::test]
    async fn it_is_down_loses_answers_and_lies_when_told_to() {
        let (fake, until) = (FakeStore::default(), store::plenty());
        let at = Source {
            path: "p".to_owned(),
            field: FIELD.to_owned(),
        };
        let make = |n| {
            let value = store::value("a");
            let (fake, at, until) = (&fake, &at, &until);
            async move {
                let token = crate::conformance::store::token(n);
                fake.promote(at, token, &value, None, until).await
            }
        };
        fake.set_down(true);
        assert_eq!(store::kind(make(1).await), ErrorKind::Unavailable);
        fake.set_down(false);
        fake.lie(1);
        assert_eq!(make(1).await.unwrap(), named(1));
        assert!(fake.fields("p").is_empty());
        fake.lose_answers(1);
        assert_eq!(store::kind(make(1).await), ErrorKind::Unavailable);
        assert_eq!(store::kind(make(1).await), ErrorKind::Conflict);
        assert_eq!(fake.writes(), 1);
        let (value, token) = (store::value("a"), crate::conformance::store::token(1));
        let found = fake.probe_promote(&at, token, &value, None, &until);
        assert_eq!(found.await.unwrap(), Some(named(1)));
    }
}
