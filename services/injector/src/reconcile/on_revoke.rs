//! What befalls a container that lost a revoked value for which there is no other, beside that its file goes: what
//! its binding says.
//!
//! Invariants: it is written down with the loss itself and done until it worked, also by a later run of this process
//! (a crash before that finds the value in the container still, and takes it again); it comes once with each loss, so
//! that what a person undoes is not done again; it holds up no new value. A new incarnation of a container has begun
//! without the value: it is not restarted once more. A container that is down before it was done has it coming when it
//! begins anew, until it is removed.

use std::sync::Arc;

use keywheel_core::binding::OnRevoke;
use keywheel_core::id::ContainerId;
use keywheel_daemon::{chain, lines, names};

use super::{RETRY_AFTER, Reconciler};
use crate::model::{Busy, Tracked};
use crate::service::Event;
use crate::state::Remembered;

impl Reconciler {
    /// Containers that just lose a value; the strongest word counts.
    pub(super) fn note_owed(&mut self, owed: Vec<(ContainerId, OnRevoke)>) {
        for (id, action) in owed {
            let Some(tracked) = self.containers.get_mut(&id) else {
                continue;
            };
            if tracked.owed < action {
                tracked.owed = action;
                tracked.dirty = true;
            }
        }
    }

    /// What is owed to the incarnation of a container that begins now, also after what a run before this one wrote
    /// down, or since it went down. It is read before that of the one before is let go.
    pub(super) fn owed_anew(&self, id: &ContainerId) -> OnRevoke {
        let tracked = self.containers.get(id).map(|tracked| tracked.owed);
        let remembered = self.remembered.get(id).map(Remembered::owed);
        let owing = self.owing.get(id).map(Remembered::owed);
        owed_after_restart(tracked.max(remembered).max(owing).unwrap_or_default())
    }

    /// A container is down. What is owed to it stays on the disk, for whenever it begins anew; whatever else was
    /// written down of it goes.
    pub(super) fn go_down(&mut self, id: &ContainerId, ticks: u64, owing: Option<Remembered>) {
        // Of no incarnation, its file takes the place of what stays.
        if owing.is_none() || ticks != 0 {
            self.forget_file(id, ticks);
        }
        if let Some(owing) = owing {
            self.owing.insert(id.clone(), owing);
            self.owing_unsaved.insert(id.clone());
        }
    }

    /// What is owed to a container is its new incarnation's from here on.
    pub(super) fn take_owing(&mut self, id: &ContainerId, tracked: &mut Tracked) {
        if let Some(owing) = self.owing.remove(id) {
            tracked.owed = tracked.owed.max(owing.owed());
            tracked.dirty = true;
        }
    }

    /// A container ended; to one that is gone for good nothing is owed.
    pub(super) fn forget_owing(&mut self, id: &ContainerId, removed: bool) {
        if removed && let Some(owing) = self.owing.remove(id) {
            self.forget_file(id, owing.ticks);
        }
    }

    /// What is owed to containers that went down, to be written before what else was written down of them goes.
    pub(super) fn owing_to_save(&mut self) -> Vec<Remembered> {
        let unsaved = std::mem::take(&mut self.owing_unsaved).into_iter();
        unsaved
            .filter_map(|id| self.owing.get(&id).cloned())
            .collect()
    }

    /// Begins what is owed to a container.
    pub(super) fn begin_owed(&mut self, id: &ContainerId) {
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        let action = tracked.owed;
        tracing::warn!(
            { names::EVENT } = lines::CONTAINER_ON_REVOKE,
            { names::CONTAINER } = id.short(),
            { names::KIND } = action.word(),
            "container lost a revoked value: what its binding says is done"
        );
        match action {
            OnRevoke::Remove => {}
            OnRevoke::Restart => {
                tracked.busy = Busy::Restarting;
                self.spawn_restart(id.clone(), None);
            }
            OnRevoke::Stop => {
                tracked.busy = Busy::Stopping;
                self.spawn_stop(id.clone());
            }
            OnRevoke::Disconnect | OnRevoke::Pause => {
                tracked.busy = Busy::CuttingOff;
                self.spawn_cut_off(id.clone(), action);
            }
        }
    }

    pub(super) fn spawn_cut_off(&self, id: ContainerId, action: OnRevoke) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(async move {
            let done = match action {
                OnRevoke::Pause => shared.containers.pause(&id).await,
                _ => shared.containers.disconnect(&id).await,
            };
            let result = done.map_err(|error| chain(&error));
            let _ = events.send(Event::CutOff { id, result }).await;
        });
    }

    /// It is paused or cut off its networks, or could not be.
    pub(super) fn take_cut_off(&mut self, id: &ContainerId, result: Result<(), String>) {
        let now = self.now();
        let is_ordered = self.note_apart(id, &result);
        let is_it = |tracked: &&mut Tracked| tracked.busy == Busy::CuttingOff;
        let Some(tracked) = self.containers.get_mut(id).filter(is_it) else {
            return;
        };
        tracked.busy = Busy::No;
        match result {
            // What else is owed to it stays so.
            Ok(()) if is_ordered => {}
            Ok(()) => {
                tracked.owed = OnRevoke::Remove;
                tracked.dirty = true;
                if tracked.target.is_none() {
                    // Nothing else of it was written down.
                    let ticks = tracked.ticks;
                    self.forget_file(id, ticks);
                }
            }
            Err(reason) => {
                tracing::error!(
                    { names::CONTAINER } = id.short(),
                    { names::KIND } = tracked.owed.word(),
                    { names::REASON } = reason,
                    "container that lost a revoked value or is in quarantine is not paused or cut off; do it by hand"
                );
                tracked.stop_at = now + RETRY_AFTER;
                self.wake_by(now + RETRY_AFTER);
            }
        }
    }
}

/// What is owed to a container that ended; to one that is gone for good nothing, nor to one that we stopped, for there
/// is no stronger word.
pub(super) fn still_owing(tracked: &Tracked, removed: bool) -> Option<Remembered> {
    let is_over = removed || tracked.busy == Busy::Stopping;
    let owing = Remembered::of(tracked).owing();
    owing.filter(|_| !is_over)
}

/// What is owed to the next incarnation of a container: it began without the value.
pub(super) fn owed_after_restart(before: OnRevoke) -> OnRevoke {
    match before {
        OnRevoke::Restart => OnRevoke::Remove,
        owed => owed,
    }
}
