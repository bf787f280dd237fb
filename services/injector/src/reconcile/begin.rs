//! Work that takes long: begun here, in tasks of its own, and back as an event.
//!
//! Invariants: a container is marked busy before its task begins; versions that a task handles are
//! said before; one container of a service restarts at a time, or as many as have leave.

use std::collections::BTreeMap;
use std::sync::Arc;

use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::plan::Grant;
use keywheel_daemon::{chain, failpoint, lines, names};
use keywheel_engine::trace::Context;
use keywheel_seal::SecretBytes;
use keywheel_telemetry::traces::{Kind, Span, names as spans};

use super::Reconciler;
use super::pass::Due;
use crate::attach::{Wanted, attach};
use crate::decide::FileWish;
use crate::form::FurtherValues;
use crate::granted::{mark_of, seen_by};
use crate::model::{Busy, Service, alone_of};
use crate::origin::SERVICE;
use crate::service::Event;
use crate::shared::VersionKey;
use crate::state::Remembered;

/// The opened values of the further secrets that a file is made of, and of the versions before the current
/// ones, if all are there.
pub(super) fn further_values(
    wish: &FileWish,
    values: &BTreeMap<VersionKey, Arc<SecretBytes>>,
) -> Option<FurtherValues> {
    let parts = wish.further.iter().chain(&wish.previous);
    let value = |(secret, grant): &(SecretId, Grant)| {
        let key = (*secret, grant.version);
        Some((key, Arc::clone(values.get(&key)?)))
    };
    parts.map(value).collect()
}

impl Reconciler {
    /// The mark of what a binding gives out to a container now.
    pub(super) fn mark_of(&self, id: &ContainerId, binding: BindingId) -> Option<u64> {
        let plan = self.shared.plan()?;
        let plan = seen_by(&plan, id);
        let mut planned = plan.bindings.iter();
        mark_of(planned.find(|planned| planned.binding == binding)?)
    }

    pub(super) fn begin_attach(
        &mut self,
        id: &ContainerId,
        wishes: Vec<FileWish>,
        values: &BTreeMap<VersionKey, Arc<SecretBytes>>,
    ) {
        let want = |wish: FileWish| {
            Some(Wanted {
                further: further_values(&wish, values)?,
                value: Arc::clone(values.get(&(wish.secret, wish.grant.version))?),
                binding: wish.binding,
                secret: wish.secret,
                version: wish.grant.version,
                directory: wish.directory,
                name: wish.name,
                attr: wish.attr,
                form: wish.form,
            })
        };
        let wanted: Vec<Wanted> = wishes.into_iter().filter_map(want).collect();
        let Some(tracked) = self.containers.get_mut(id).filter(|_| !wanted.is_empty()) else {
            return;
        };
        tracked.busy = Busy::Attaching;
        let own = wanted.iter().map(|file| (file.secret, file.version));
        let forms = wanted.iter().filter_map(|file| file.form.as_ref());
        let further =
            forms.flat_map(|form| form.versions().into_iter().chain(form.previous_versions()));
        let versions = own.chain(further).collect();
        let ((), intent) = self.shared.intend(|_| ((), versions));
        let (base, pid) = (Remembered::of(tracked), tracked.record.pid);
        let (tools, events, pool, id) = (
            self.tools.clone(),
            self.events.clone(),
            Arc::clone(&self.attach_pool),
            id.clone(),
        );
        self.tasks.spawn(async move {
            let _permit = pool.acquire().await;
            let target = id.clone();
            let work = move || attach(&tools, &target, pid, base, wanted);
            let result = match tokio::task::spawn_blocking(work).await {
                Ok(result) => result.map(Box::new),
                Err(_) => return,
            };
            let _ = events
                .send(Event::Attached {
                    id,
                    pid,
                    result,
                    intent,
                })
                .await;
        });
    }

    pub(super) fn begin_stop(&mut self, id: &ContainerId) {
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        tracked.busy = Busy::Stopping;
        tracing::warn!(
            { names::EVENT } = lines::CONTAINER_STOPPED,
            { names::CONTAINER } = id.short(),
            "container stopped: a variable it holds may not be used any more"
        );
        self.spawn_stop(id.clone());
    }

    pub(super) fn spawn_stop(&self, id: ContainerId) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(async move {
            let work = async {
                failpoint::hit_async("injector.before_stop")
                    .await
                    .map_err(|error| error.to_string())?;
                let stopped = shared.containers.stop(&id).await;
                stopped.map_err(|error| chain(&error))?;
                failpoint::hit_async("injector.after_stop")
                    .await
                    .map_err(|error| error.to_string())
            };
            let result = work.await;
            let _ = events.send(Event::Stopped { id, result }).await;
        });
    }

    /// Restarts a container, one of its service at a time; a version its service failed with holds back the rest.
    pub(super) fn begin_restart(&mut self, id: &ContainerId, due: &[Due]) {
        let Some(tracked) = self.containers.get(id) else {
            return;
        };
        // What only its own label asks for neither waits for its siblings nor lets them wait.
        let is_alone = due.iter().all(|(binding, ..)| self.is_by_label(*binding));
        let service = if is_alone {
            tracked.alone()
        } else {
            tracked.service()
        };
        if self.is_rolled(due) {
            return self.begin_rolled(id, due, service);
        }
        let failed = due.iter().find(|(binding, _, version)| {
            let mark = self.mark_of(id, *binding).unwrap_or(*version);
            self.failed
                .get(&(service.clone(), *binding))
                .is_some_and(|failed| *failed == mark)
        });
        if let Some((binding, secret, version)) = failed.copied() {
            let reason = format!(
                "held back: another container of the same service did not run well with version {version}; look at its log, then rotate again"
            );
            return self.refuse(id, binding, secret, version, reason);
        }
        if self.is_occupied(&service) {
            return;
        }
        self.restart_now(id, due, service);
    }

    /// Restarts a container with the gateway's leave: which of a service restart together is its word.
    fn begin_rolled(&mut self, id: &ContainerId, due: &[Due], service: Service) {
        let plan = self.shared.plan();
        let alone = alone_of(id);
        // One that needs no leave may be on its way.
        if let Some(plan) = plan
            && let Some(number) = self.leave_of(&plan, id)
            && !self.is_occupied(&service)
            && !self.is_occupied(&alone)
        {
            self.use_leave(&plan, id, number, due);
            self.restart_now(id, due, alone);
        }
    }

    fn restart_now(&mut self, id: &ContainerId, due: &[Due], slot: Service) {
        if let Some(tracked) = self.containers.get_mut(id) {
            tracked.busy = Busy::Restarting;
            // What was said of an earlier try is not said of this one.
            for (binding, ..) in due {
                tracked.refused.remove(binding);
            }
        }
        self.take_turn(id, due, slot);
    }

    pub(super) fn spawn_restart(&self, id: ContainerId, trace: Option<Context>) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(async move {
            let mut span = Span::below(SERVICE, spans::RESTART, Kind::Internal, trace)
                .with(spans::CONTAINER_ID, id.to_string());
            let work = async {
                failpoint::hit_async("injector.before_restart")
                    .await
                    .map_err(|error| error.to_string())?;
                shared
                    .containers
                    .restart(&id)
                    .await
                    .map_err(|error| chain(&error))?;
                failpoint::hit_async("injector.after_restart")
                    .await
                    .map_err(|error| error.to_string())
            };
            let result = work.await;
            if let Err(reason) = &result {
                span.fail("restart", reason);
            }
            drop(span);
            let _ = events.send(Event::Restarted { id, result }).await;
        });
    }
}
