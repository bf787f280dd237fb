//! Refused starts come back: started by the engine as soon as what they need can be given out.
//!
//! Invariant: nothing is started that the runtime would refuse again, as far as plan and values tell;
//! right before a start the engine is asked once more whether it is still refused, so that whoever
//! started, stopped or removed it since is respected.

use std::sync::Arc;

use keywheel_core::id::ContainerId;
use keywheel_core::name::HostName;
use keywheel_core::plan::{Grant, HostPlan};
use keywheel_daemon::{chain, lines, names};
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::ContainerRecord;

use super::{RELIST_AFTER, RETRY_AFTER, Reconciler};
use crate::refused::{Look, Offer, save};
use crate::runtime::resolve::choose;
use crate::service::Event;
use crate::shared::{Shared, VersionKey};

impl Reconciler {
    /// Looks at all of them anew, also at those that were refused while no injector was there.
    pub(super) fn look_for_refused(&mut self) {
        self.rescan_at = None;
        self.refused.again();
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(async move {
            let result = shared.containers.refused().await;
            let _ = events.send(Event::Refused { result }).await;
        });
    }

    pub(super) fn take_refused(&mut self, result: Result<Vec<ContainerRecord>, PortError>) {
        let now = self.now();
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
                self.rescan_at = Some(now + RELIST_AFTER);
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
        let now = self.now();
        self.refused.note(id.clone(), now);
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
        if let Some(at) = self.rescan_at {
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
        for record in self.refused.due() {
            let id = &record.facts.id;
            // While we are at it, or know it to run, its end comes first.
            if self.containers.contains_key(id) {
                continue;
            }
            let Some((offer, needs)) = offered(&plan, &self.shared.options.host_name, &record)
            else {
                continue;
            };
            if !self.refused.may_try(id, &offer) {
                continue;
            }
            let held = |(key, _): &(VersionKey, Grant)| self.shared.has_value(*key);
            if needs.iter().all(held) {
                self.refused.begin(id, offer);
                self.begin_start(id.clone());
                continue;
            }
            for (key, grant) in needs {
                self.fetch(key, grant);
            }
        }
    }

    fn begin_start(&mut self, id: ContainerId) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        let pool = Arc::clone(&self.start_pool);
        self.tasks.spawn(async move {
            let _permit = pool.acquire().await;
            let result = start_if_refused(&shared, &id).await;
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
        let Some(ids) = self.refused.take_changed() else {
            return;
        };
        let folder = self.tools.state.clone();
        let saved = tokio::task::spawn_blocking(move || save(&folder, &ids)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(
                { names::ERROR } = chain(&error),
                "refused starts not written"
            );
        }
    }
}

/// What a container would get now, and the values for that; `None` when the runtime would refuse it.
fn offered(
    plan: &HostPlan,
    host: &HostName,
    record: &ContainerRecord,
) -> Option<(Offer, Vec<(VersionKey, Grant)>)> {
    // Its mounts only the runtime knows; one that is in the way is refused again, once.
    let chosen = choose(plan, host, &record.facts, &record.placeholders, &[]).ok()?;
    let all = || chosen.env.iter().chain(&chosen.files);
    let offer = all().map(|(given, _)| (given.binding.binding, given.version, given.place.clone()));
    let needs = all().map(|(given, grant)| ((given.binding.secret, given.version), *grant));
    Some((offer.collect(), needs.collect()))
}

/// `false` when nobody's start is refused there any more.
async fn start_if_refused(shared: &Shared, id: &ContainerId) -> Result<bool, PortError> {
    let record = shared.containers.inspect(id).await?;
    if record.is_none_or(|record| record.refused.is_none()) {
        return Ok(false);
    }
    shared.containers.start(id).await.map(|()| true)
}
