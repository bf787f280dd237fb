//! One look at one secret's place, and telling the gateway what was seen.
//!
//! Invariants: the version is asked for first, and the value only when the version is another one
//! than the known, or the known one that was passed over and a person wants now; a value equal to the
//! current one leads to no rotation; a version that was current before the known one is none that is new,
//! unless versions are times and a person asks, or it is told for long; a version whose value cannot be
//! taken over is not tried again at every poll; only the store's own calls say whether the store answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywheel_core::command::{Command, Observation};
use keywheel_core::id::{CommandId, RotationId, SecretId};
use keywheel_core::secret::Place;
use keywheel_core::store::{Found, Looked, RemoteVersion, SecretNow};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::port::leases::{Extended, Leases};
use keywheel_engine::port::store::{Observed, Store};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::trace::{Context, span_of};
use keywheel_engine::until::Until;
use keywheel_telemetry::traces::{Kind, Span, names as spans};
use tokio::sync::OnceCell;

use super::registry::Registry;
use crate::effect::{SERVICE, SUBMIT_TIMEOUT};
use crate::service::Shared;

/// How long all calls of one look may take.
pub const LOOK_SPAN: Duration = Duration::from_secs(15);
/// Longest pause before a version whose rotation failed is tried again.
pub const FETCH_RETRY_LIMIT: Duration = Duration::from_secs(3600);

/// Polls for which a static role tells one and the same earlier time before that is believed: nobody who
/// lags behind does so for long, and a server whose clock was set back does.
pub const BEHIND_POLLS: u32 = 3;
/// The shortest such time.
pub const BEHIND_SPAN: Duration = Duration::from_secs(60);

/// An earlier version than the known one, and since when it is told, by the monotonic clock.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    found: RemoteVersion,
    since: Duration,
}

/// How often a version was observed and not taken over, and when it may be observed again.
#[derive(Debug, Clone)]
pub(super) struct Tries {
    found: Option<RemoteVersion>,
    count: u32,
    next: Timestamp,
}

/// What a look says about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contact {
    /// It answers.
    Answers,
    /// It answers; what failed is ours, the gateway's or the cache's.
    Ours,
    /// It says no to the look itself.
    Refuses,
    /// It does not answer.
    Silent,
}

/// What a look gave.
pub(super) struct Outcome {
    pub(super) looked: Looked,
    /// The path that was looked at; several secrets may share one.
    pub(super) path: String,
    pub(super) contact: Contact,
}

/// What the look under way says so far. While the store is asked it is silent.
struct Contacted(Mutex<Contact>);

impl Contacted {
    fn set(&self, contact: Contact) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = contact;
    }

    fn get(&self) -> Contact {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call to the store; `refuses` is what it means that it says no.
    async fn store<T>(
        &self,
        refuses: Contact,
        call: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        self.set(Contact::Silent);
        let answer = call.await;
        self.set(match &answer {
            Ok(_) => Contact::Answers,
            Err(error) => match error.kind {
                ErrorKind::Unavailable => Contact::Silent,
                ErrorKind::Conflict => Contact::Answers,
                _ => refuses,
            },
        });
        answer
    }

    /// One call to somebody of ours.
    async fn ours<T>(
        &self,
        call: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        self.set(Contact::Ours);
        let answer = call.await;
        if answer.is_ok() {
            self.set(Contact::Answers);
        }
        answer
    }
}

/// What one round of looks saw: secrets that share a path share one request. What failed is asked again.
#[derive(Default)]
pub(super) struct Round(Mutex<BTreeMap<String, Arc<OnceCell<Option<Observed>>>>>);

impl Round {
    fn cell(&self, path: &str) -> Arc<OnceCell<Option<Observed>>> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(path.to_owned()).or_default())
    }

    /// Asks once whether the store answers: a lease that needs nothing yet asks nothing else of it.
    async fn check(
        &self,
        shared: &Shared,
        store: &Arc<dyn Store>,
        place: &Place,
        until: &Until,
    ) -> Result<(), PortError> {
        let cell = self.cell(&place.source.path);
        let metrics = &shared.registry.parts.metrics;
        let ask = || async {
            let checking = store.check(until);
            let checked = metrics.time(place.store.as_str(), "look", checking);
            checked.await.map(|()| None)
        };
        cell.get_or_try_init(ask).await.map(drop)
    }

    async fn look(
        &self,
        shared: &Shared,
        store: &Arc<dyn Store>,
        place: &Place,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let cell = self.cell(&place.source.path);
        let ask = || {
            let metrics = &shared.registry.parts.metrics;
            let looking = store.look(&place.source, until);
            metrics.time(place.store.as_str(), "look", looking)
        };
        let seen = cell.get_or_try_init(ask).await?;
        Ok(seen.as_ref().map(|observed| observed.version.clone()))
    }
}

/// Looks at one secret's place, and submits what is new. `forced` by a person: also what failed before.
pub(super) async fn look(
    shared: &Shared,
    store: &Arc<dyn Store>,
    round: &Round,
    secret: &SecretNow,
    forced: bool,
) -> Outcome {
    let clock = Arc::clone(&shared.registry.parts.clock);
    let until = Until::new(clock.now().plus(LOOK_SPAN), clock);
    let contacted = Contacted(Mutex::new(Contact::Answers));
    let asked = (store, round);
    let looking = seen(shared, asked, secret, forced, (&until, &contacted));
    let result = match tokio::time::timeout(LOOK_SPAN, looking).await {
        Ok(result) => result,
        Err(_) => Err(PortError::new(
            ErrorKind::Unavailable,
            format!("it did not answer within {LOOK_SPAN:?}"),
        )),
    };
    let contact = contacted.get();
    let found = result.unwrap_or_else(|error| {
        let reason = chain(&error);
        match contact {
            Contact::Ours => {
                tracing::warn!({ names::SECRET } = %secret.secret, reason, "looked at, and not told or compared");
            }
            _ => tracing::debug!({ names::SECRET } = %secret.secret, reason, "look failed"),
        }
        Found::Failed { reason }
    });
    let looked = Looked {
        secret: secret.secret,
        found,
    };
    let path = secret.place.as_ref().map(|place| place.source.path.clone());
    Outcome {
        looked,
        path: path.unwrap_or_default(),
        contact,
    }
}

async fn seen(
    shared: &Shared,
    (store, round): (&Arc<dyn Store>, &Round),
    secret: &SecretNow,
    forced: bool,
    (until, contacted): (&Until, &Contacted),
) -> Result<Found, PortError> {
    let Some(place) = &secret.place else {
        return Ok(Found::Unchanged);
    };
    until.check()?;
    if place.source.field.is_empty()
        && let Some(leases) = store.leases()
    {
        let due = due(&shared.registry, secret);
        if due.is_empty() {
            let checking = round.check(shared, store, place, until);
            contacted.store(Contact::Refuses, checking).await?;
            return Ok(Found::Unchanged);
        }
        let asked = (leases, &due[..]);
        return renewed(shared, asked, (secret, place), (until, contacted)).await;
    }
    let looking = round.look(shared, store, place, until);
    let found = contacted.store(Contact::Refuses, looking).await?;
    if found.is_none() {
        let makes_first = secret.current.is_none() && secret.is_generated && !secret.is_rotating;
        if makes_first && may_try(&shared.registry, secret.secret, None, forced) {
            let submitting = submit(shared, secret, None, false);
            let _first: bool = contacted.ours(submitting).await?;
        }
        return Ok(Found::Absent);
    }
    let is_wanted = forced && secret.is_passed_over;
    if found == secret.known && !is_wanted {
        shared.registry.state().behind.remove(&secret.secret);
        return Ok(Found::Unchanged);
    }
    let Some(version) = found else {
        return Ok(Found::Absent);
    };
    is_newer(shared, (store, place), secret, (&version, forced))?;
    if is_same_value(shared, store, secret, &version, (until, contacted)).await? {
        let submitting = submit(shared, secret, Some(version), true);
        contacted.ours(submitting).await?;
        return Ok(Found::Unchanged);
    }
    if secret.is_rotating {
        return Ok(Found::Busy);
    }
    if !may_try(&shared.registry, secret.secret, Some(&version), forced) {
        let reason = format!(
            "version {} there was not taken over before; `keywheel get rotations` says why, and it is tried again later",
            version.0
        );
        return Err(PortError::new(ErrorKind::Denied, reason));
    }
    let submitting = submit(shared, secret, Some(version), false);
    match contacted.ours(submitting).await? {
        true => Ok(Found::Changed),
        false => Ok(Found::Busy),
    }
}

/// Renews a container's leases when two thirds of their time are over. The one that is in use gives way to another
/// one when it ended, or is at its maximum lifetime; whatever came of one, the others are renewed.
async fn renewed(
    shared: &Shared,
    (leases, due): (&dyn Leases, &[RemoteVersion]),
    (secret, place): (&SecretNow, &Place),
    (until, contacted): (&Until, &Contacted),
) -> Result<Found, PortError> {
    let registry = &shared.registry;
    let metrics = &registry.parts.metrics;
    let (mut gives_way, mut is_gone, mut failed) = (false, false, None);
    for lease in due {
        let extending = leases.extend(&place.source, lease, until);
        let extending = metrics.time(place.store.as_str(), "renew", extending);
        let extended = match contacted.store(Contact::Refuses, extending).await {
            Ok(extended) => extended,
            Err(error) => {
                failed = failed.or(Some(error));
                continue;
            }
        };
        if let Extended::For { granted, whole } = &extended {
            let next = registry.parts.clock.now();
            let next = next.plus(Extended::renew_after(*granted, *whole));
            let mut state = registry.state();
            let known = state.leases.entry(secret.secret).or_default();
            known.insert(lease.clone(), next);
        }
        let is_in_use = secret.current.is_some() && secret.known.as_ref() == Some(lease);
        if is_in_use && !extended.gives_way() {
            // The swap before brought one that is well: the next one has nothing to wait for.
            registry.state().tries.remove(&secret.secret);
        }
        gives_way |= is_in_use && extended.gives_way();
        is_gone |= is_in_use && extended == Extended::Gone;
    }
    if gives_way {
        if secret.is_rotating || !may_try(registry, secret.secret, None, false) {
            return Ok(Found::Busy);
        }
        let seen = Observation {
            is_gone,
            ..observation(shared, secret, None, false)
        };
        return match contacted.ours(submit_seen(shared, secret, seen)).await? {
            true => Ok(Found::Changed),
            false => Ok(Found::Busy),
        };
    }
    failed.map_or(Ok(Found::Unchanged), Err)
}

/// Leases of a container that are to be renewed now; of one that nobody of us renewed yet nothing is known. Of a
/// container that has none, or none any more, there is nothing to keep.
fn due(registry: &Registry, secret: &SecretNow) -> Vec<RemoteVersion> {
    let now = registry.parts.clock.now();
    let state = registry.state();
    let known = state.leases.get(&secret.secret);
    let is_due = |lease: &&RemoteVersion| {
        let next = known.and_then(|known| known.get(*lease));
        next.is_none_or(|next| now >= *next)
    };
    secret.leases.iter().filter(is_due).cloned().collect()
}

/// A server that lags behind tells a version that was current before: that is no change. Times tell an order
/// only while nobody sets a clock back: there a person may know better, and so does who waits.
fn is_newer(
    shared: &Shared,
    (store, place): (&Arc<dyn Store>, &Place),
    secret: &SecretNow,
    (found, forced): (&RemoteVersion, bool),
) -> Result<(), PortError> {
    let Some(known) = &secret.known else {
        return Ok(());
    };
    if !store.is_behind(known, found) {
        return Ok(());
    }
    let is_timed = place.source.static_role().is_some();
    if is_timed && (forced || is_lasting(&shared.registry, place, secret.secret, found)) {
        return Ok(());
    }
    let next = match is_timed {
        true => {
            "If its clock or its data was set back, that is taken over after three polls, and at once by `keywheel refresh` or `keywheel rotate`"
        }
        false => "If it was set back to a backup, put the value there anew",
    };
    let text = format!(
        "the server is behind: it tells version {}, and {} is known; it is asked again at the next poll. {next}",
        found.0, known.0
    );
    Err(PortError::new(ErrorKind::Conflict, text))
}

/// Whether this is told for so long that nobody lags behind.
fn is_lasting(registry: &Registry, place: &Place, secret: SecretId, found: &RemoteVersion) -> bool {
    let now = registry.parts.clock.monotonic();
    let mut state = registry.state();
    let live = state.stores.get(&place.store);
    let poll = live.map_or(Duration::ZERO, |live| live.named.spec.poll);
    let before = state.behind.get(&secret);
    let before = before.filter(|before| before.found == *found);
    let since = before.map_or(now, |before| before.since);
    let found = found.clone();
    state.behind.insert(secret, Behind { found, since });
    now.saturating_sub(since) >= poll.saturating_mul(BEHIND_POLLS).max(BEHIND_SPAN)
}

/// Whether the value there is the one that containers have; with none there is nothing to compare.
async fn is_same_value(
    shared: &Shared,
    store: &Arc<dyn Store>,
    secret: &SecretNow,
    version: &RemoteVersion,
    (until, contacted): (&Until, &Contacted),
) -> Result<bool, PortError> {
    let (Some(current), Some(place)) = (secret.current, &secret.place) else {
        return Ok(false);
    };
    until.check()?;
    let metrics = &shared.registry.parts.metrics;
    let fetching = store.fetch(&place.source, version, until);
    let fetching = metrics.time(place.store.as_str(), "fetch", fetching);
    let theirs = contacted.store(Contact::Answers, fetching).await?;
    let opening = shared.ports.vault.open(secret.secret, current);
    match contacted.ours(opening).await {
        Ok(ours) => Ok(ours.ct_eq(&theirs)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this may be observed now; counts it.
fn may_try(
    registry: &Registry,
    secret: SecretId,
    found: Option<&RemoteVersion>,
    forced: bool,
) -> bool {
    let now = registry.parts.clock.now();
    let mut state = registry.state();
    let poll = state
        .secrets
        .get(&secret)
        .and_then(|known| state.stores.get(&known.place.as_ref()?.store))
        .map_or(Duration::ZERO, |live| live.named.spec.poll);
    let before = state.tries.get(&secret);
    let before = before.filter(|tries| tries.found.as_ref() == found);
    let count = before.map_or(0, |tries| tries.count);
    if !forced && before.is_some_and(|tries| now < tries.next) {
        return false;
    }
    let pause = poll.saturating_mul(2_u32.saturating_pow(count.min(12)));
    let tries = Tries {
        found: found.cloned(),
        count: count.saturating_add(1),
        next: now.plus(pause.min(FETCH_RETRY_LIMIT)),
    };
    state.tries.insert(secret, tries);
    true
}

/// Tells what was seen; the look begins a trace, which the rotation that follows goes on with.
async fn submit(
    shared: &Shared,
    secret: &SecretNow,
    found: Option<RemoteVersion>,
    is_unchanged: bool,
) -> Result<bool, PortError> {
    let seen = observation(shared, secret, found, is_unchanged);
    submit_seen(shared, secret, seen).await
}

fn observation(
    shared: &Shared,
    secret: &SecretNow,
    found: Option<RemoteVersion>,
    is_unchanged: bool,
) -> Observation {
    Observation {
        secret: secret.secret,
        rotation: RotationId::from_bytes(drawn(shared)),
        known: secret.known.clone(),
        found,
        is_unchanged,
        is_gone: false,
    }
}

async fn submit_seen(
    shared: &Shared,
    secret: &SecretNow,
    seen: Observation,
) -> Result<bool, PortError> {
    let mut span = span_of_look(shared, secret);
    let told = tell_within(shared, Command::Observed(seen), &span).await;
    if let Err(error) = &told {
        span.fail(error.kind.word(), &error.text);
    }
    told
}

/// The root of what comes of a look that found something.
fn span_of_look(shared: &Shared, secret: &SecretNow) -> Span {
    let own = Context::new(drawn(shared), span_of(&drawn(shared)));
    let mut span = Span::at(SERVICE, spans::LOOK, Kind::Internal, own, None)
        .with(spans::SECRET_NAME, secret.name.to_string());
    if let Some(place) = &secret.place {
        span.set(spans::STORE, place.store.to_string());
    }
    span
}

fn drawn(shared: &Shared) -> [u8; 16] {
    let mut id = [0; 16];
    shared.ports.entropy.fill(&mut id);
    id
}

/// Tells the gateway; `false` when it had a reason to do nothing with it.
pub(super) async fn tell(shared: &Shared, command: Command) -> Result<bool, PortError> {
    tell_within(shared, command, &Span::default()).await
}

async fn tell_within(shared: &Shared, command: Command, span: &Span) -> Result<bool, PortError> {
    let body = Body::Submit {
        id: CommandId::from_bytes(drawn(shared)),
        command,
    };
    let bus = &shared.ports.bus;
    let answer = bus.request(Address::Gateway, span.traceparent(), body, SUBMIT_TIMEOUT);
    match answer.await? {
        Body::Verdict(Verdict::Accepted { .. }) => Ok(true),
        Body::Verdict(Verdict::Rejected { text, .. }) => {
            tracing::info!({ names::REASON } = text, "what was seen is not needed");
            Ok(false)
        }
        Body::Failed { kind, text } => Err(PortError::new(kind, text)),
        _ => Err(PortError::new(
            ErrorKind::Unavailable,
            "the answer to an observation is no verdict",
        )),
    }
}
