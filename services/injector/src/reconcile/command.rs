//! Reload commands: begun here, in a task of their own, and back as an event.
//!
//! Invariants: one runs in a container at a time, for everything that waits for the same one; only exit
//! code 0 acknowledges, and only a version that the file holds when it ends; what a command prints is
//! read by nobody. One that fails is tried a few times a version, one that hangs is not: it may still run.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::Reload;
use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::report::Fact;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::container_host::ExecOutcome;
use keywheel_telemetry::traces::{Kind, Span, names as spans};

use super::pass::Due;
use super::{RETRY_AFTER, Reconciler};
use crate::model::{Ack, Tracked, Tries};
use crate::origin::SERVICE;
use crate::service::Event;

/// How often a reload command is tried for one version of a secret.
pub(crate) const MAX_COMMAND_TRIES: u32 = 5;

/// A reload command that runs in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    argv: Vec<String>,
    timeout: Duration,
    /// What waits for it.
    due: Vec<Due>,
}

impl Reconciler {
    /// Begins the first reload command that a container waits for.
    pub(super) fn begin_command(&mut self, id: &ContainerId, reloads: &[(BindingId, Reload)]) {
        let now = self.now();
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        // In one that is paused nothing can run.
        if tracked.is_commanded || tracked.record.paused {
            return;
        }
        let (due, again) = find_due(tracked, reloads, now);
        if let Some(command) = due {
            tracked.is_commanded = true;
            let pid = tracked.record.pid;
            self.run(id, pid, command);
        }
        if let Some(again) = again {
            self.wake_by(again);
        }
    }

    fn run(&self, id: &ContainerId, pid: i32, command: Command) {
        let trace = command.due.first();
        let trace = trace.and_then(|due| self.shared.trace_of(due.1));
        let (shared, events, id) = (Arc::clone(&self.shared), self.events.clone(), id.clone());
        self.tasks.spawn(async move {
            let mut span = Span::below(SERVICE, spans::RELOAD_COMMAND, Kind::Internal, trace)
                .with(spans::CONTAINER_ID, id.to_string());
            let ran = shared
                .containers
                .exec(&id, &command.argv, command.timeout)
                .await;
            let result = ran.map_err(|error| chain(&error));
            if let Some(reason) = failure(&command, &result) {
                span.fail("reload", &reason);
            }
            drop(span);
            let _ = events
                .send(Event::Commanded {
                    id,
                    pid,
                    command: Box::new(command),
                    result,
                })
                .await;
        });
    }

    /// A reload command is over, one way or the other.
    pub(super) fn take_commanded(
        &mut self,
        id: &ContainerId,
        pid: i32,
        command: &Command,
        result: Result<ExecOutcome, String>,
    ) {
        let (now, at) = (self.now(), self.shared.clock.now());
        let Some(tracked) = self
            .containers
            .get_mut(id)
            .filter(|tracked| tracked.record.pid == pid)
        else {
            return;
        };
        tracked.is_commanded = false;
        let failed = failure(command, &result);
        tracing::info!(
            { names::CONTAINER } = id.short(),
            { names::REASON } = failed.as_deref().unwrap_or_default(),
            "reload command ended"
        );
        for (binding, secret, version) in command.due.iter().copied() {
            let Some(tracked) = self.containers.get_mut(id) else {
                return;
            };
            // What came meanwhile is told by the next one.
            let is_held = |holding: &&mut crate::model::Holding| {
                holding.secret == secret
                    && holding.version == Some(version)
                    && holding.ack == Ack::Due
            };
            let Some(holding) = tracked.holdings.get_mut(&binding).filter(is_held) else {
                continue;
            };
            let Some(reason) = &failed else {
                holding.ack = Ack::Done;
                tracked.dirty = true;
                tracked.refused.remove(&binding);
                tracked.tries.remove(&binding);
                self.items
                    .push(tracked.item(binding, secret, Fact::Reloaded { version, at }));
                continue;
            };
            let before = tracked.tries.get(&binding).copied();
            let tries = tried(before, (binding, secret, version), &result, now);
            tracked.tries.insert(binding, tries);
            self.refuse(id, binding, secret, version, reason.clone());
        }
    }
}

/// The first command that is due, with all that waits for the same one; and when the next may be tried
/// again.
fn find_due(
    tracked: &Tracked,
    reloads: &[(BindingId, Reload)],
    now: Duration,
) -> (Option<Command>, Option<Duration>) {
    let mut found: Option<Command> = None;
    let mut next: Option<Duration> = None;
    for (binding, reload) in reloads {
        let Reload::Command { argv, timeout } = reload else {
            continue;
        };
        let Some(holding) = tracked.holdings.get(binding) else {
            continue;
        };
        let Some(version) = holding.version.filter(|_| holding.ack == Ack::Due) else {
            continue;
        };
        let tries = tracked
            .tries
            .get(binding)
            .filter(|tries| tries.secret == holding.secret && tries.version == version);
        match tries.map(|tries| tries.again) {
            Some(None) => continue,
            Some(Some(again)) if now < again => {
                next = Some(next.map_or(again, |next| next.min(again)));
                continue;
            }
            Some(Some(_)) | None => {}
        }
        let due = (*binding, holding.secret, version);
        match &mut found {
            Some(found) if found.argv == *argv && found.timeout == *timeout => found.due.push(due),
            // Begun once the first has ended.
            Some(_) => {}
            None => {
                found = Some(Command {
                    argv: argv.clone(),
                    timeout: *timeout,
                    due: vec![due],
                });
            }
        }
    }
    (found, next)
}

/// Why it is no acknowledgement; `None` when it is one.
fn failure(command: &Command, result: &Result<ExecOutcome, String>) -> Option<String> {
    match result {
        Ok(ExecOutcome::Exited(0)) => None,
        Ok(ExecOutcome::Exited(code @ (126 | 127))) => Some(format!(
            "reload_failed: its reload command could not be begun (exit code {code}); name a program that is in its image, with its whole path, and may be run by its user"
        )),
        Ok(ExecOutcome::Exited(code)) => Some(format!(
            "reload_failed: its reload command ended with exit code {code}, and is tried {MAX_COMMAND_TRIES} times; look at the container's log, or run it by hand with `docker exec`"
        )),
        Ok(ExecOutcome::TimedOut) => Some(format!(
            "reload_failed: its reload command took longer than {} s, and may still run; look at the container, or raise `timeout`",
            command.timeout.as_secs()
        )),
        Err(reason) => Some(format!("reload_failed: {reason}")),
    }
}

/// Notes one more failure. The engine's own do not count: they say nothing of the command.
fn tried(
    before: Option<Tries>,
    (_, secret, version): Due,
    result: &Result<ExecOutcome, String>,
    now: Duration,
) -> Tries {
    let known = before.filter(|tries| tries.secret == secret && tries.version == version);
    let failed = known.map_or(0, |tries| tries.failed);
    let (failed, wait) = match result {
        Err(_) => (failed, Some(RETRY_AFTER)),
        Ok(ExecOutcome::TimedOut) => (failed + 1, None),
        Ok(ExecOutcome::Exited(_)) if failed + 1 >= MAX_COMMAND_TRIES => (failed + 1, None),
        Ok(ExecOutcome::Exited(_)) => (failed + 1, Some(RETRY_AFTER * 2_u32.pow(failed))),
    };
    Tries {
        secret,
        version,
        failed,
        again: wait.map(|wait| now + wait),
    }
}

#[cfg(test)]
mod tests;
