//! Refused starts come back: started by the engine as soon as what they need can be given out.
//!
//! Invariant: nothing is started that the runtime would refuse again, as far as plan and values tell;
//! right before a start the engine is asked once more whether it is still refused, so that whoever
//! started, stopped or removed it since is respected; and nothing that nobody wants (`is_wanted`). The
//! engine is looked through by one scan at a time, after a failure ever later.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::id::ContainerId;
use keywheel_core::name::HostName;
use keywheel_core::plan::{Grant, HostPlan};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, lines, names};
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::ContainerRecord;

use super::{RELIST_AFTER, RETRY_AFTER, Reconciler};
use crate::leases::unleased;
use crate::refused::{Due, Look, Offer, is_wanted, save};
use crate::runtime::answer::{key_of, parts_of};
use crate::runtime::resolve::choose;
use crate::service::Event;
use crate::shared::{Shared, VersionKey};

/// First wait before the engine is looked through again that did not tell; doubled each time.
const SCAN_FIRST: Duration = Duration::from_secs(1);
/// Longest such wait.
const SCAN_MOST: Duration = Duration::from_secs(300);
/// So often at most is tried anew what was started in vain and has not changed.
const RETRY_EVERY: Duration = Duration::from_secs(180);
/// How long a start keeps others from beginning; an engine may take longer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The looking through the engine.
#[derive(Debug, Default)]
pub(super) struct Scan {
    is_under_way: bool,
    /// Asked for while one was under way.
    is_wanted: bool,
    /// When the next is due.
    at: Option<Duration>,
    /// How often the engine did not tell, one after the other.
    failed: u32,
    /// When everything was tried anew.
    retried: Option<Duration>,
}

impl Scan {
    /// Whether one is to begin now.
    fn begin(&mut self) -> bool {
        if self.is_under_way {
            self.is_wanted = true;
            return false;
        }
        (self.is_under_way, self.is_wanted, self.at) = (true, false, None);
        true
    }

    fn end(&mut self, has_worked: bool, now: Duration) {
        self.is_under_way = false;
        if has_worked {
            self.failed = 0;
            if self.is_wanted {
                self.by(now);
            }
            return;
        }
        let wait = SCAN_FIRST.saturating_mul(2_u32.saturating_pow(self.failed));
        self.failed = self.failed.saturating_add(1);
        self.at = Some(now + wait.min(SCAN_MOST));
    }

    fn by(&mut self, at: Duration) {
        self.at = Some(self.at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Whether everything may be tried anew now; if not, it is looked through again when it may.
    fn may_retry(&mut self, now: Duration) -> bool {
        let free = self.retried.map(|at| at + RETRY_EVERY);
        if let Some(free) = free.filter(|free| *free > now) {
            self.by(free);
            return false;
        }
        self.retried = Some(now);
        true
    }
}

impl Reconciler {
    /// Looks at all of them anew, also at those that were refused while no injector was there.
    pub(super) fn look_for_refused(&mut self) {
        if !self.scan.begin() {
            return;
        }
        self.refused.again();
        let now = self.now();
        if self.refused.has_tried() && self.scan.may_retry(now) {
            self.refused.retry();
        }
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(async move {
            let result = shared.containers.refused().await;
            let _ = events.send(Event::Refused { result }).await;
        });
    }

    pub(super) fn take_refused(&mut self, result: Result<Vec<ContainerRecord>, PortError>) {
        let now = self.now();
        self.scan.end(result.is_ok(), now);
        match result {
            Ok(records) => {
                for record in records {
                    if self.shared.options.is_wrapper(&record.runtime) {
                        let is_own = self.was_asked(&record);
                        self.refused.found(record, is_own, now);
                    }
                }
                for id in self.refused.unvouched() {
                    self.inspect(id);
                }
            }
            Err(error) => {
                tracing::warn!(
                    { names::ERROR } = chain(&error),
                    "refused starts not looked for"
                );
            }
        }
    }

    /// Whether this is the injector that did not answer. An engine may have runtimes of several.
    fn was_asked(&self, record: &ContainerRecord) -> bool {
        let said = record.refused.as_ref();
        let at = said.and_then(|said| said.nobody_at.as_ref());
        at.is_some_and(|at| *at == self.shared.options.runtime_socket)
    }

    /// The runtime was told "no" for this container.
    pub(super) fn note_refused(&mut self, id: &ContainerId) {
        let (now, at) = (self.now(), self.shared.clock.now());
        self.refused.note(id.clone(), now, at);
        self.inspect(id.clone());
    }

    /// What the engine says of a container that may be one of them.
    pub(super) fn look_at_refused(&mut self, id: &ContainerId, record: Option<&ContainerRecord>) {
        let now = self.now();
        if self.refused.look(id, record, now) == Look::Again {
            self.unsettled.insert(id.clone(), now + RELIST_AFTER);
        }
    }

    /// The engine did not tell of this one.
    pub(super) fn look_at_refused_later(&mut self, id: &ContainerId) {
        if self.refused.has(id) {
            let at = self.now() + RETRY_AFTER;
            self.unsettled.insert(id.clone(), at);
        }
    }

    /// Asks again about those of which the engine may not have written the refusal down.
    pub(super) fn look_at_unsettled(&mut self) {
        let now = self.now();
        if let Some(at) = self.scan.at {
            match at <= now {
                true => self.look_for_refused(),
                false => self.wake_by(at),
            }
        }
        let due = self.unsettled.extract_if(.., |_, at| *at <= now);
        let due: Vec<ContainerId> = due.map(|(id, _)| id).collect();
        for id in due {
            self.inspect(id);
        }
        let waits: Vec<_> = self.unsettled.values().copied().collect();
        for at in waits {
            self.wake_by(at);
        }
    }

    /// Starts what can be given everything that it needs, and asks for the values that are missing.
    pub(super) fn start_refused(&mut self) {
        let Some(plan) = self.shared.plan() else {
            return;
        };
        let circumstances = (plan.generation, self.shared.is_lease_over());
        let now = self.shared.clock.now();
        let (mut idle, mut starts, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for Due { record, at } in self.refused.due(circumstances) {
            let id = &record.facts.id;
            // While we are at it, or know it to run, its end comes first.
            if self.containers.contains_key(id) || !is_wanted(record, at, now, booted(now)) {
                continue;
            }
            let offered = offered(&plan, &self.shared.options.host_name, record);
            let offered = offered.filter(|(offer, _)| self.refused.may_try(id, offer));
            let Some((offer, needs)) = offered else {
                // It is asked for again and again: what is in the lease's way is in no plan.
                if !unleased(&plan, &self.shared.options.host_name, &record.facts).is_empty() {
                    self.shared.wants.add(&record.facts);
                    continue;
                }
                idle.push(id.clone());
                continue;
            };
            let held = |(key, _): &(VersionKey, Grant)| self.shared.has_value(*key);
            match needs.iter().all(held) {
                true => starts.push((id.clone(), at, offer)),
                false => missing.extend(needs),
            }
        }
        for id in idle {
            self.refused.leave(&id, circumstances);
        }
        for (key, grant) in missing {
            self.fetch(key, grant);
        }
        for (id, at, offer) in starts {
            self.refused.begin(&id, offer);
            self.begin_start(id, at);
        }
    }

    fn begin_start(&mut self, id: ContainerId, refused_at: Option<Timestamp>) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        let (pool, asked) = (Arc::clone(&self.start_pool), id.clone());
        self.tasks.spawn(async move {
            let permit = pool.acquire().await;
            let starting = start_if_refused(&shared, &asked, refused_at);
            let mut starting = std::pin::pin!(starting);
            let result = match tokio::time::timeout(START_LIMIT, &mut starting).await {
                Ok(result) => result,
                Err(_) => {
                    drop(permit);
                    starting.await
                }
            };
            let _ = events.send(Event::Started { id, result }).await;
        });
    }

    /// Our start is over, one way or the other; `true` when it was made.
    pub(super) fn take_started(&mut self, id: &ContainerId, result: Result<bool, PortError>) {
        let now = self.now();
        self.refused.end(id, now);
        match result {
            Ok(true) => tracing::info!(
                { names::EVENT } = lines::CONTAINER_STARTED,
                { names::CONTAINER } = id.short(),
                "container started: what was missing when its start was refused is there"
            ),
            Ok(false) => {}
            Err(error) => tracing::warn!(
                { names::CONTAINER } = id.short(),
                { names::ERROR } = chain(&error),
                "container whose start was refused not started"
            ),
        }
        self.inspect(id.clone());
    }

    /// Writes down which they are, when that changed.
    pub(super) async fn save_refused(&mut self) {
        let Some(saved) = self.refused.take_changed() else {
            return;
        };
        let folder = self.tools.state.clone();
        let written = tokio::task::spawn_blocking(move || save(&folder, &saved)).await;
        let fault = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(&error),
            Err(error) => chain(&error),
        };
        tracing::warn!({ names::ERROR } = fault, "refused starts not written");
        self.refused.not_saved();
    }
}

/// When the machine was booted, by its clock of now.
fn booted(now: Timestamp) -> Timestamp {
    let up = Duration::from_secs(u64::try_from(rustix::system::sysinfo().uptime).unwrap_or(0));
    let up = i64::try_from(up.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(up))
}

/// What a container would get now, and the values for that; `None` when the runtime would refuse it.
fn offered(
    plan: &HostPlan,
    host: &HostName,
    record: &ContainerRecord,
) -> Option<(Offer, Vec<(VersionKey, Grant)>)> {
    // Its mounts only the runtime knows; one that is in the way is refused again, once.
    let chosen = choose(plan, host, &record.facts, &record.placeholders, &[]).ok()?;
    let all = || chosen.env.iter().chain(&chosen.files).flat_map(parts_of);
    let offer = all().map(|(given, _)| (given.binding.binding, given.version, given.place));
    let needs = all().map(|(given, grant)| (key_of(&given), grant));
    Some((offer.collect(), needs.collect()))
}

/// `false` when nobody's start is refused there any more, or nobody wants it.
async fn start_if_refused(
    shared: &Shared,
    id: &ContainerId,
    refused_at: Option<Timestamp>,
) -> Result<bool, PortError> {
    let record = shared.containers.inspect(id).await?;
    let now = shared.clock.now();
    let is_ours = record.is_some_and(|record| {
        let is_wrapped = shared.options.is_wrapper(&record.runtime);
        is_wrapped && is_wanted(&record, refused_at, now, booted(now))
    });
    if !is_ours {
        return Ok(false);
    }
    shared.containers.start(id).await.map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn one_scan_is_under_way_and_one_waits_behind_it() {
        let mut scan = Scan::default();
        assert!(scan.begin() && !scan.begin() && !scan.begin());
        scan.end(true, NOW);
        assert_eq!(scan.at, Some(NOW));
        assert!(scan.begin());
        scan.end(true, NOW);
        assert_eq!(scan.at, None);
    }

    #[test]
    fn an_engine_that_does_not_tell_is_asked_ever_later() {
        let mut scan = Scan::default();
        let mut wait = |works: bool| {
            assert!(scan.begin());
            scan.end(works, NOW);
            scan.at.map(|at| (at - NOW).as_secs())
        };
        let waits: Vec<_> = (0..10).map(|_| wait(false).unwrap()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!((0..64).all(|_| wait(false) == Some(300)));
        assert_eq!(wait(true), None);
        assert_eq!(wait(false), Some(1));
    }

    #[test]
    fn what_was_in_vain_is_tried_anew_only_so_often() {
        let mut scan = Scan::default();
        assert!(scan.may_retry(NOW));
        let free = NOW + RETRY_EVERY;
        assert!(!scan.may_retry(free - Duration::from_nanos(1)));
        assert_eq!(scan.at, Some(free), "looked through again by then");
        assert!(scan.may_retry(free));
    }
}
