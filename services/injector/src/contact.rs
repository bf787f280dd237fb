//! Whether the gateway speaks to this host: the lease, the age of its last word, and coming back.
//!
//! Invariants: only an answer to a question of ours counts as its word, so a bus that replays or
//! holds back what it has renews nothing; after a silence the plan, with its floors and dead sets, is
//! read and taken before anything else is asked or told (rule X5); a start waits for the gateway a
//! bounded time and not again until [`TRY_AGAIN`] has passed. Who is told that it gets no plan, as an evicted host is, asks
//! later and later, and tells nothing and fetches nothing meanwhile; a plan that comes to it all the same ends that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_core::plan::HostPlan;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::bus::{Address, Body, Source, UNSENT};
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::sync::watch;

use crate::host_cache::HostCache;
use crate::lease::{Lease, Moment, Stored};
use crate::options::LeasePolicy;
use crate::shared::Shared;

/// How often the gateway is asked, whatever else happens: its answer is the sign that it is there.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// How old the gateway's last word may be before that is an alarm: four missed questions.
pub const HEAD_AGE_LIMIT: Duration = Duration::from_secs(120);
/// How long a start waits for the gateway's newest word before what the host holds serves.
pub const FRESH_WAIT: Duration = Duration::from_secs(2);
/// For so long after a failed attempt no start waits again.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// For so long at first a host that is refused its plan asks nothing; each time after that twice as long.
const BARRED_FIRST: Duration = HEARTBEAT;
/// The same at most. Nobody whom this concerns comes back by itself: an evicted machine joins as another host.
const BARRED_MOST: Duration = Duration::from_secs(600);
/// Each wait is shorter by up to this part of it, so that hosts that were evicted together do not ask together.
const BARRED_SPREAD: u32 = 4;
/// How long the gateway may take for a question.
pub(crate) const GATEWAY_TIMEOUT: Duration = Duration::from_secs(5);
/// The lease on the disk is at most so far behind; what is missing counts as spent.
const LEASE_SAVED_EVERY: Duration = Duration::from_secs(60);

/// See the file.
pub(crate) struct Contact {
    state: Mutex<State>,
    enrolled: watch::Sender<bool>,
}

struct State {
    lease: Lease,
    /// Nothing was heard since something failed, or since the start.
    is_away: bool,
    started: Duration,
    /// The last word, or the start.
    heard: Duration,
    /// When the plan was asked for last.
    asked: Option<Duration>,
    failed: Option<Duration>,
    lease_saved: Option<Duration>,
    fault: Option<String>,
    is_alarmed: bool,
    barred: Option<Barred>,
}

/// The gateway refused this host its plan.
struct Barred {
    /// When it is asked again.
    until: Duration,
    /// So often one after the other.
    refusals: u32,
    /// What it said.
    why: String,
}

impl Contact {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                lease: Lease::default(),
                is_away: true,
                started: now,
                heard: now,
                asked: None,
                failed: None,
                lease_saved: None,
                fault: None,
                is_alarmed: false,
                barred: None,
            }),
            enrolled: watch::channel(false).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with the lease of an earlier run; one whose clock went back is over.
    pub(crate) fn resume(&self, now: Duration, stored: Option<&Stored>, at: &Moment) {
        if let Some(spent) = stored.and_then(|stored| stored.spent(at)) {
            self.state().lease.resume(now, spent);
        }
    }

    /// The gateway took this host with its present key.
    pub(crate) fn enrolled(&self) {
        self.enrolled.send_replace(true);
    }

    pub(crate) fn is_enrolled(&self) -> bool {
        *self.enrolled.borrow()
    }

    /// The gateway refuses this host its plan; `draw` spreads when it is asked again. Who was asked side by side says
    /// it once.
    fn bar(&self, now: Duration, why: &str, draw: u8) {
        let mut state = self.state();
        let (until, before) = match &state.barred {
            Some(barred) => (barred.until, barred.refusals),
            None => (now, 0),
        };
        if now < until {
            return;
        }
        state.barred = Some(Barred {
            until: now.saturating_add(barred_for(before, draw)),
            refusals: before.saturating_add(1),
            why: why.to_owned(),
        });
    }

    /// The gateway gave this host a plan.
    pub(crate) fn unbar(&self) {
        self.state().barred = None;
    }

    /// What the gateway said when it refused this host, while it is not asked again.
    fn barred(&self, now: Duration) -> Option<PortError> {
        let state = self.state();
        let barred = state.barred.as_ref().filter(|barred| now < barred.until)?;
        Some(PortError::new(ErrorKind::Denied, barred.why.clone()))
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Whether what the host holds may not be given to anything new any more.
    pub(crate) fn is_lease_over(&self) -> bool {
        let now = self.now();
        self.contact.state().lease.is_over(now, self.options.lease)
    }

    /// Whether running containers lose what they hold, too.
    pub(crate) fn withdraws(&self) -> bool {
        self.options.lease_policy == LeasePolicy::Withdraw && self.is_lease_over()
    }

    /// The gateway answered something. Not enough to be back: that takes its plan.
    pub(crate) fn heard(&self) {
        let now = self.now();
        let mut state = self.contact.state();
        state.lease.renew(now);
        state.heard = now;
        state.fault = None;
        let was_alarmed = std::mem::take(&mut state.is_alarmed);
        drop(state);
        if was_alarmed {
            tracing::info!("the gateway answers this host again");
        }
    }

    /// How long ago the gateway's last word was, if it ever spoke to this run, and how long the lease
    /// still is; nothing once it is over.
    pub(crate) fn since_and_left(&self) -> (Option<Duration>, Option<Duration>) {
        let now = self.now();
        let state = self.contact.state();
        let heard = (state.heard > state.started).then(|| now.saturating_sub(state.heard));
        let ends = state.lease.ends_at(now, self.options.lease);
        (heard, ends.map(|ends| ends.saturating_sub(now)))
    }

    /// A question was not answered.
    pub(crate) fn lost(&self, error: &PortError) {
        if error.kind != ErrorKind::Unavailable {
            return;
        }
        let now = self.now();
        let mut state = self.contact.state();
        state.is_away = true;
        state.failed = Some(now);
        state.fault = Some(chain(error));
    }

    /// Whether the gateway refused this host its plan, and is not asked again yet.
    pub(crate) fn is_barred(&self) -> bool {
        self.contact.barred(self.now()).is_some()
    }

    /// Reads and takes the gateway's plan: its word that it is there, and what counts now.
    pub(crate) async fn reach(&self) -> Result<(), PortError> {
        if let Some(refused) = self.contact.barred(self.now()) {
            return Err(refused);
        }
        let host = self.options.host;
        self.contact.state().asked = Some(self.now());
        let asked = self
            .bus
            .request(
                Address::Gateway,
                None,
                Body::ReadPlan { host },
                GATEWAY_TIMEOUT,
            )
            .await;
        let read = asked.and_then(|answer| match answer {
            Body::Plan(plan) => self.take_word(plan),
            Body::Failed { kind, text } => Err(PortError::new(kind, text)),
            _ => Err(PortError::new(
                ErrorKind::Corrupt,
                "the gateway answered something else than a plan",
            )),
        });
        if let Err(error) = &read {
            let mut state = self.contact.state();
            state.failed = Some(self.now());
            state.fault = Some(chain(error));
            drop(state);
            self.lost(error);
            // A plan that is too large to be sent is refused to nobody: what this host has goes on meanwhile.
            if error.kind == ErrorKind::Denied && !error.text.starts_with(UNSENT) {
                self.contact.bar(self.now(), &error.text, self.draw());
            }
        }
        read
    }

    /// A byte that other hosts draw otherwise.
    fn draw(&self) -> u8 {
        let [.., last] = self.ids.draw();
        last
    }

    /// Whether the gateway was not asked for so long that it has to be.
    pub(crate) fn is_beat_due(&self) -> bool {
        let asked = self.contact.state().asked;
        asked.is_none_or(|asked| self.now().saturating_sub(asked) >= HEARTBEAT)
    }

    fn take_word(&self, plan: HostPlan) -> Result<(), PortError> {
        let held = self.held_generation();
        if plan.host != self.options.host || held.is_some_and(|held| plan.generation < held) {
            let text = format!(
                "the gateway's plan {} is older than plan {}, which this host has; when the journal was put back on purpose, stop the injector and remove {}",
                plan.generation,
                held.unwrap_or_default(),
                self.options.host_cache_dir.display()
            );
            self.receive_plan(plan, Source::Answer(Address::Gateway));
            return Err(PortError::new(ErrorKind::Conflict, text));
        }
        self.contact.unbar();
        let was_over = self.is_lease_over();
        let is_newer = self.take_plan(plan);
        self.heard();
        let was_away = std::mem::take(&mut self.contact.state().is_away);
        if is_newer || was_away || was_over {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// After a silence: the plan before anything else. An error while the silence lasts.
    pub(crate) async fn come_back(&self) -> Result<(), PortError> {
        if !self.contact.is_enrolled() {
            return Err(PortError::new(
                ErrorKind::Unavailable,
                "the gateway has not taken this host yet since the injector's start",
            ));
        }
        if let Some(refused) = self.contact.barred(self.now()) {
            return Err(refused);
        }
        let is_away = self.contact.state().is_away;
        if is_away || self.is_lease_over() {
            return self.reach().await;
        }
        Ok(())
    }

    /// Whether the gateway did not answer what it was asked last: what is given out is what this host has.
    pub(crate) fn is_alone(&self) -> bool {
        self.contact.state().is_away
    }

    /// Before a start is served from what is held: the gateway's newest word, if it comes soon.
    pub(crate) async fn freshen(&self) {
        let now = self.now();
        let (is_away, started, failed) = {
            let state = self.contact.state();
            (state.is_away, state.started, state.failed)
        };
        if !is_away {
            return;
        }
        if self.contact.is_enrolled() {
            if failed.is_none_or(|failed| now.saturating_sub(failed) >= TRY_AGAIN) {
                let reached = tokio::time::timeout(FRESH_WAIT, self.reach()).await;
                if reached.is_err() {
                    self.contact.state().failed = Some(self.now());
                }
            }
            return;
        }
        let left = (started + FRESH_WAIT).saturating_sub(now);
        let mut enrolled = self.contact.enrolled.subscribe();
        let _ = tokio::time::timeout(left, enrolled.wait_for(|is| *is)).await;
    }

    /// Says once that the gateway's last word is too old, and when this has to be looked at again.
    pub(crate) fn look_at_contact(&self) -> Vec<Duration> {
        let now = self.now();
        let mut state = self.contact.state();
        let due = state.heard.saturating_add(HEAD_AGE_LIMIT);
        let ends = state.lease.ends_at(now, self.options.lease);
        let raise = now >= due && !state.is_alarmed;
        state.is_alarmed |= raise;
        let fault = raise.then(|| state.fault.clone().unwrap_or_default());
        drop(state);
        if let Some(fault) = fault {
            tracing::error!({ names::REASON } = fault, "{}", silence());
        }
        ends.into_iter().chain((now < due).then_some(due)).collect()
    }

    /// Why the host is on its own, once that is an alarm.
    pub(crate) fn gateway_fault(&self) -> Option<String> {
        let is_alarmed = self.contact.state().is_alarmed;
        is_alarmed.then(silence)
    }

    /// Why what the host holds is not given out.
    pub(crate) fn lease_text(&self) -> String {
        format!(
            "the gateway has not answered this host for {} hours, so its lease on what it holds is over",
            self.options.lease.as_secs() / 3600
        )
    }

    /// Brings the plan on the disk up to the newest word. Slow work runs on threads of its own; a fault is
    /// said and tried again with the next pass.
    pub(crate) async fn settle_cache(self: &Arc<Self>) {
        let Some(cache) = self.cache.get().cloned() else {
            return;
        };
        let is_behind = self.is_disk_behind();
        let lease = self.lease_to_save();
        if !is_behind && lease.is_none() {
            return;
        }
        let shared = Arc::clone(self);
        let work = move || settle(&shared, &cache, is_behind, lease);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            tracing::error!(
                { names::ERROR } = chain(&error),
                "host cache not brought up to date"
            );
        }
    }

    /// Whether the disk has an older word than the newest.
    pub(crate) fn is_disk_behind(&self) -> bool {
        let newest = self.cache.get().zip(self.newest_word());
        newest.is_some_and(|(cache, (plan, _))| cache.is_behind(&plan))
    }

    /// Drops from the disk what may not be kept by the newest word. Its faults are as those above.
    pub(crate) async fn clear_cache(self: &Arc<Self>) {
        let newest = self.cache.get().cloned().zip(self.newest_word());
        let Some((cache, _)) = newest.filter(|(cache, (_, wanted))| cache.has_unwanted(wanted))
        else {
            return;
        };
        let shared = Arc::clone(self);
        let work = move || cache.clear(|| shared.newest_word());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            tracing::error!(
                { names::ERROR } = chain(&error),
                "host cache not brought up to date"
            );
        }
    }

    /// The lease, when what the disk has of it is too old.
    fn lease_to_save(&self) -> Option<Lease> {
        let now = self.now();
        let mut state = self.contact.state();
        let is_due = state
            .lease_saved
            .is_none_or(|saved| now.saturating_sub(saved) >= LEASE_SAVED_EVERY);
        let due = (is_due && state.lease.spent(now).is_some()).then_some(state.lease);
        if due.is_some() {
            state.lease_saved = Some(now);
        }
        due
    }
}

fn settle(
    shared: &Shared,
    cache: &HostCache,
    is_behind: bool,
    lease: Option<Lease>,
) -> std::io::Result<()> {
    if is_behind {
        cache.settle(|| shared.newest_word())?;
    }
    let at = Moment::read(&*shared.clock);
    match lease.and_then(|lease| lease.store(shared.clock.monotonic(), &at)) {
        Some(stored) => cache.keep_lease(&stored),
        None => Ok(()),
    }
}

/// How long the gateway is not asked after so many refusals before this one.
fn barred_for(before: u32, draw: u8) -> Duration {
    let doubled = 2_u32.checked_pow(before).unwrap_or(u32::MAX);
    let longest = BARRED_FIRST.saturating_mul(doubled).min(BARRED_MOST);
    let spread = longest / BARRED_SPREAD * u32::from(draw) / (u32::from(u8::MAX) + 1);
    longest.saturating_sub(spread)
}

fn silence() -> String {
    format!(
        "the gateway has not answered this host for more than {} s: it is away, or the bus withholds its word; look at the bus, then at the gateway",
        HEAD_AGE_LIMIT.as_secs()
    )
}

#[cfg(test)]
mod tests;
