//! The loops: hearing what changed about stores, and looking at each store in its own rhythm.
//!
//! Each store has a task of its own, so that none waits for another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::command::Command;
use keywheel_core::id::{SecretId, StoreId};
use keywheel_core::name::StoreName;
use keywheel_core::secret::Place;
use keywheel_core::store::{Found, MIN_POLL, NamedStore, RemoteVersion, SecretNow, StoreSpec};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{Shutdown, chain, names};
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::store::Store;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use tokio::task::{AbortHandle, JoinSet};

use super::look::{self, Contact, LOOK_SPAN, Outcome};
use super::registry::{Registry, lies_in};
use super::sweep::sweep;
use crate::effect::SUBMIT_TIMEOUT;
use crate::service::Shared;

/// How long the gateway may take to tell what changed; it answers with nothing well before.
pub const NEWS_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after the gateway did not tell.
const NEWS_RETRY: Duration = Duration::from_secs(1);
/// Longest pause between two tries at a store that does not answer, unless its poll is longer.
pub const BACKOFF_LIMIT: Duration = Duration::from_secs(300);

/// Longest pause until a lease is renewed that was due and could not be: its store refused that, or it is at its end.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

/// Hears what changed and looks at stores, until told to stop.
pub(crate) async fn watch(shared: Arc<Shared>, shutdown: &Shutdown) {
    let mut pollers = Pollers::default();
    let mut sealed = shared.seal.bell();
    loop {
        if *sealed.borrow_and_update() {
            // Nobody is asked without credentials.
            pollers = Pollers::default();
            tokio::select! {
                () = shutdown.requested() => break,
                Ok(()) = sealed.changed() => continue,
            }
        }
        let heard = tokio::select! {
            () = shutdown.requested() => break,
            Ok(()) = sealed.changed() => continue,
            heard = hear(&shared, true) => heard,
        };
        match heard {
            Ok(()) => pollers.keep(&shared),
            Err(error) => {
                tracing::debug!({ names::ERROR } = chain(&error), "news of stores not heard");
                tokio::select! {
                    () = shutdown.requested() => break,
                    () = tokio::time::sleep(NEWS_RETRY) => {}
                }
            }
        }
    }
    pollers.tasks.shutdown().await;
}

/// One task per store.
#[derive(Default)]
struct Pollers {
    tasks: JoinSet<()>,
    of: BTreeMap<(StoreName, StoreId), AbortHandle>,
}

/// Asks once what changed; with `wait` the gateway answers when something did.
pub(super) async fn hear(shared: &Shared, wait: bool) -> Result<(), PortError> {
    loop {
        let after = shared.registry.state().through;
        let body = Body::ReadStores { after, wait };
        let bus = &shared.ports.bus;
        let answer = bus.request(Address::Gateway, None, body, NEWS_TIMEOUT);
        match answer.await? {
            Body::Stores(news) => {
                let more = news.more;
                let is_taken = shared.registry.apply(after, *news);
                if is_taken && !more {
                    return Ok(());
                }
            }
            Body::Failed { kind, text } => return Err(PortError::new(kind, text)),
            _ => {
                let text = "the answer about stores is none";
                return Err(PortError::new(ErrorKind::Unavailable, text));
            }
        }
    }
}

/// Work may come before the news of its store, without which there are no credentials: hears once.
pub(crate) async fn hear_of(shared: &Shared, store: &NamedStore) -> Result<(), PortError> {
    if shared.registry.has(store) {
        return Ok(());
    }
    let _one_at_a_time = shared.registry.hearing.lock().await;
    if shared.registry.has(store) {
        return Ok(());
    }
    let heard = tokio::time::timeout(SUBMIT_TIMEOUT, hear(shared, false)).await;
    heard.unwrap_or_else(|_| {
        let text = format!("the gateway did not tell about stores within {SUBMIT_TIMEOUT:?}");
        Err(PortError::new(ErrorKind::Unavailable, text))
    })
}

impl Pollers {
    fn keep(&mut self, shared: &Arc<Shared>) {
        let wanted = shared.registry.names();
        self.of.retain(|key, poller| {
            let keeps = wanted.contains(key);
            if !keeps {
                poller.abort();
            }
            keeps && !poller.is_finished()
        });
        for key in wanted {
            if !self.of.contains_key(&key) {
                let (shared, name) = (Arc::clone(shared), key.0.clone());
                let poller = self.tasks.spawn(async move { poll(&shared, &name).await });
                self.of.insert(key, poller);
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Looks at one store again and again: when its poll comes, and at once at what is new in it.
async fn poll(shared: &Arc<Shared>, name: &StoreName) {
    let registry = &shared.registry;
    let mut bell = registry.bell();
    let (mut failures, mut from) = (0, None);
    loop {
        let Some(lying) = lying_in(registry, name) else {
            return;
        };
        let before = Before::of(&lying);
        let poll = lying.spec.poll;
        let (answered, left) = cycle(shared, name, lying, from).await;
        from = left;
        failures = if answered { 0 } else { failures + 1 };
        let wakes = async {
            while bell.changed().await.is_ok() {
                if let Some(news) = before.news(registry, name) {
                    return news;
                }
            }
            std::future::pending().await
        };
        let pause = next_look(registry, name, pause(registry, poll, failures), failures);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            news = wakes => {
                if news == News::Store {
                    failures = 0;
                }
            }
        }
    }
}

/// Why a store is asked before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// The store is another one, has another credential, or answered somebody: what failed before says
    /// nothing.
    Store,
    /// A secret is new in it, or lies elsewhere in it.
    Secret,
}

/// A store as it was when it was asked last.
struct Before {
    spec: StoreSpec,
    nudges: u64,
    secrets: BTreeMap<SecretId, Newness>,
}

impl Before {
    fn of(lying: &Lying) -> Self {
        Self {
            spec: lying.spec.clone(),
            nudges: lying.nudges,
            secrets: lying.secrets.iter().map(Newness::of).collect(),
        }
    }

    /// What is new since. Rung for every change of any secret, so nothing is copied here.
    fn news(&self, registry: &Registry, name: &StoreName) -> Option<News> {
        let state = registry.state();
        let Some(live) = state.stores.get(name) else {
            return Some(News::Store);
        };
        if live.named.spec != self.spec || live.nudges != self.nudges {
            return Some(News::Store);
        }
        let is_known = |secret: &SecretNow| {
            let before = self.secrets.get(&secret.secret);
            before.is_some_and(|before| before.is_of(secret))
        };
        let mut secrets = state.secrets.values();
        let is_new = secrets.any(|secret| lies_in(secret, name) && !is_known(secret));
        is_new.then_some(News::Secret)
    }
}

/// What makes a secret worth a look before its time.
#[derive(Debug)]
struct Newness {
    place: Option<Place>,
    is_generated: bool,
    /// A lease is renewed for the first time at once: then it is known how long it lives.
    leases: Vec<RemoteVersion>,
    is_being_made: bool,
}

impl Newness {
    fn of(secret: &SecretNow) -> (SecretId, Self) {
        let newness = Self {
            place: secret.place.clone(),
            is_generated: secret.is_generated,
            leases: secret.leases.clone(),
            is_being_made: is_being_made(secret),
        };
        (secret.secret, newness)
    }

    fn is_of(&self, secret: &SecretNow) -> bool {
        self.place == secret.place
            && self.is_generated == secret.is_generated
            && secret.leases.iter().all(|one| self.leases.contains(one))
            && self.is_being_made == is_being_made(secret)
    }
}

/// Whether a rotation is under way where the server makes the values. Once it ended, also without success,
/// what is current there opens the account and nothing else does.
fn is_being_made(secret: &SecretNow) -> bool {
    let place = secret.place.as_ref();
    secret.is_rotating && place.is_some_and(|place| place.source.is_made_there())
}

/// A store, and what lies in it.
struct Lying {
    store: Arc<dyn Store>,
    spec: StoreSpec,
    nudges: u64,
    secrets: Vec<SecretNow>,
}

fn lying_in(registry: &Registry, name: &StoreName) -> Option<Lying> {
    let state = registry.state();
    let live = state.stores.get(name)?;
    let secrets = state.secrets.values();
    let secrets = secrets.filter(|secret| lies_in(secret, name)).cloned();
    Some(Lying {
        store: Arc::clone(live.store.as_ref().ok()?),
        spec: live.named.spec.clone(),
        nudges: live.nudges,
        secrets: secrets.collect(),
    })
}

/// The poll interval, doubled for each failure in a row.
fn backoff(poll: Duration, failures: u32) -> Duration {
    let backoff = poll.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    backoff.min(BACKOFF_LIMIT.max(poll))
}

/// How long until a store is asked again: a lease of it may have to be renewed before its poll comes.
fn next_look(registry: &Registry, name: &StoreName, pause: Duration, failures: u32) -> Duration {
    if failures > 0 {
        return pause;
    }
    let now = registry.parts.clock.now();
    let state = registry.state();
    let lies = |id: &SecretId| {
        let secret = state.secrets.get(id);
        secret.is_some_and(|secret| lies_in(secret, name))
    };
    let leases = state.leases.iter().filter(|(id, _)| lies(id));
    let nexts = leases.flat_map(|(_, leases)| leases.values());
    let first = nexts.map(|next| until_renewal(*next, now)).min();
    first.map_or(pause, |first| pause.min(first))
}

/// How long until a lease is to be renewed. What was due was asked for a moment ago, and is not at once again.
fn until_renewal(next: Timestamp, now: Timestamp) -> Duration {
    match next > now {
        true => next.since(now).max(MIN_POLL),
        false => RENEW_AGAIN,
    }
}

/// That, a tenth earlier or later.
fn pause(registry: &Registry, poll: Duration, failures: u32) -> Duration {
    let mut byte = [0];
    registry.parts.entropy.fill(&mut byte);
    // From 0.9 to 1.1.
    let jitter = 0.9 + f64::from(byte[0]) / 255.0 * 0.2;
    backoff(poll, failures).mul_f64(jitter)
}

/// Looks at every place in a store, beginning at this secret, and notes how the store is. Without
/// secrets the login is tried. Gives whether it answers, and where the next cycle begins.
async fn cycle(
    shared: &Arc<Shared>,
    name: &StoreName,
    lying: Lying,
    from: Option<SecretId>,
) -> (bool, Option<SecretId>) {
    let Lying {
        store, mut secrets, ..
    } = lying;
    if secrets.is_empty() {
        let fault = bounded_check(shared, &store).await.err();
        let fault = fault.map(|error| chain(&error));
        note(shared, name, fault.as_deref()).await;
        return (fault.is_none(), None);
    }
    let begins = from.map_or(0, |from| {
        secrets.partition_point(|secret| secret.secret < from)
    });
    secrets.rotate_left(begins);
    let swept = sweep(shared, &store, secrets, false, None).await;
    let fault = swept.fault();
    for outcome in &swept.outcomes {
        note_look(shared, name, outcome, fault.is_some());
    }
    note(shared, name, fault).await;
    (fault.is_none(), swept.left.first().copied())
}

/// Notes how a store is, and tells the gateway when that is another thing than it was told last.
pub(super) async fn note(shared: &Shared, name: &StoreName, silent: Option<&str>) {
    let Some(store) = note_health(shared, name, silent) else {
        return;
    };
    let failure = silent.map(str::to_owned);
    match look::tell(shared, Command::StoreContact { store, failure }).await {
        Ok(_) => {
            let mut state = shared.registry.state();
            let live = state.stores.get_mut(name);
            if let Some(live) = live.filter(|live| live.id == store) {
                live.health.told = Some(silent.is_some());
                live.is_stale = silent.is_some();
            }
        }
        // The next cycle tells it again.
        Err(error) => {
            tracing::debug!({ names::ERROR } = chain(&error), "not told how a store is");
        }
    }
}

/// Gives the store when the gateway has to be told: what is new here, and that it answers when the log
/// says otherwise, since whoever said that may be gone. That it does not is said once: another
/// store-sync may well reach it.
fn note_health(shared: &Shared, name: &StoreName, silent: Option<&str>) -> Option<StoreId> {
    let now = shared.registry.parts.clock.now();
    let mut state = shared.registry.state();
    let live = state.stores.get_mut(name)?;
    let was_silent = live.health.silent.is_some();
    match silent {
        Some(reason) => {
            if !was_silent {
                tracing::warn!(store = %name, { names::REASON } = reason, "store does not answer; containers keep what they have");
            }
            live.health.is_silent(now, reason);
        }
        None => {
            if was_silent {
                tracing::info!(store = %name, "store answers again");
            }
            live.health.answers(now);
        }
    }
    let is_new = live.health.told != Some(silent.is_some());
    (is_new || (live.is_stale && silent.is_none())).then_some(live.id)
}

/// Notes what is wrong with one secret; that its store does not answer is noted for the store.
pub(super) fn note_look(shared: &Shared, name: &StoreName, outcome: &Outcome, is_silent: bool) {
    let mut state = shared.registry.state();
    let id = outcome.looked.secret;
    let secret = state.secrets.get(&id).map(|secret| secret.name.to_string());
    let Some(live) = state.stores.get_mut(name) else {
        return;
    };
    let reason = match &outcome.looked.found {
        Found::Failed { .. } if outcome.contact == Contact::Ours => return,
        Found::Failed { .. } if is_silent && outcome.contact == Contact::Silent => return,
        Found::Failed { reason } => Some(reason.clone()),
        Found::Absent => Some("nothing is there any more, or not yet".to_owned()),
        _ => None,
    };
    match reason {
        Some(reason) => {
            let fault = (secret.unwrap_or_default(), reason);
            live.health.faults.insert(id, fault);
        }
        None => {
            live.health.faults.remove(&id);
        }
    }
}

pub(super) async fn bounded_check(
    shared: &Shared,
    store: &Arc<dyn Store>,
) -> Result<(), PortError> {
    let clock = Arc::clone(&shared.registry.parts.clock);
    let until = Until::new(clock.now().plus(LOOK_SPAN), clock);
    match tokio::time::timeout(LOOK_SPAN, store.check(&until)).await {
        Ok(checked) => checked,
        Err(_) => Err(PortError::new(
            ErrorKind::Unavailable,
            format!("it did not answer within {LOOK_SPAN:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::name::SecretName;
    use keywheel_core::store::Source;

    use super::*;

    #[test]
    fn a_silent_store_is_asked_later_and_later_and_never_later_than_the_limit() {
        let poll = Duration::from_secs(60);
        let pauses = [0, 1, 2, 3, 60].map(|failures| backoff(poll, failures));
        let seconds = pauses.map(|pause| pause.as_secs());
        assert_eq!(
            seconds,
            [
                60,
                120,
                240,
                BACKOFF_LIMIT.as_secs(),
                BACKOFF_LIMIT.as_secs()
            ]
        );
        let rare = BACKOFF_LIMIT * 2;
        assert_eq!(backoff(rare, 5), rare, "a longer poll is its own limit");
    }

    #[test]
    fn a_lease_that_could_not_be_renewed_when_it_was_due_is_not_asked_for_each_second() {
        let now = Timestamp::from_micros(1_000_000_000);
        let after = |span: Duration| until_renewal(now.plus(span), now);
        assert_eq!(after(Duration::ZERO), RENEW_AGAIN);
        assert_eq!(until_renewal(now, now.plus(MIN_POLL)), RENEW_AGAIN);
        assert_eq!(after(Duration::from_millis(1)), MIN_POLL);
        assert_eq!(after(RENEW_AGAIN * 6), RENEW_AGAIN * 6);
    }

    #[test]
    fn the_end_of_a_rotation_is_worth_a_look_where_the_server_makes_the_values() {
        let at = |path: &str, is_rotating: bool| SecretNow {
            secret: SecretId::default(),
            name: SecretName::parse("prod/db").unwrap(),
            place: Some(Place {
                store: StoreName::parse("vault").unwrap(),
                source: Source {
                    path: path.to_owned(),
                    field: "password".to_owned(),
                },
            }),
            known: None,
            current: Some(1),
            is_generated: true,
            is_rotating,
            is_passed_over: false,
            leases: Vec::new(),
        };
        let is_news = |path: &str| {
            let (_, before) = Newness::of(&at(path, true));
            !before.is_of(&at(path, false))
        };
        assert!(is_news("/db/static-creds/app") && !is_news("app/db"));
    }
}
