//! Reload commands: begun here, in a task of their own, and back as an event.
//!
//! Invariants: one runs in a container at a time, for everything that waits for the same one; only exit
//! code 0 acknowledges, and only the content that was there when it began and is there when it ends, in
//! the same process and for the same command; what a command prints is read by nobody. One that fails is
//! tried a few times a content, one that hangs is not: it may still run.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::Reload;
use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::report::Fact;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::container_host::ExecOutcome;
use keywheel_telemetry::traces::{Kind, Span, names as spans};

use super::{RETRY_AFTER, Reconciler};
use crate::model::{Ack, Tracked, Tries};
use crate::origin::SERVICE;
use crate::reload::reload_in;
use crate::service::Event;

/// How often a reload command is tried for one content of a file.
pub(crate) const MAX_COMMAND_TRIES: u32 = 5;

/// A reload command that runs in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    argv: Vec<String>,
    timeout: Duration,
    /// What waits for it.
    due: Vec<Waiting>,
}

/// What waits for the end of a reload command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    binding: BindingId,
    secret: SecretId,
    version: u64,
    /// See [`crate::model::Holding::content`].
    content: u64,
}

/// How a reload command ended, and where.
struct Ended {
    /// Why it is no acknowledgement; `None` when it is one.
    failed: Option<String>,
    /// The first process of its container when it began.
    pid: i32,
    /// Whether that still lives.
    is_alive: bool,
}

/// What the end of a command means for one that waits for it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing: what is held now, or how it is told, is not what the command was begun for.
    Other,
    /// It is told.
    Done,
    /// The process that was told has ended; whether another has come, the engine says.
    Ended,
    /// It is not told, and why.
    Failed(String),
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
        let trace = trace.and_then(|due| self.shared.trace_of(due.secret));
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
        let target = tracked.target.as_ref();
        let ended = Ended {
            failed: failure(command, &result),
            pid,
            is_alive: target.is_some_and(|target| target.is_alive()),
        };
        tracing::info!(
            { names::CONTAINER } = id.short(),
            { names::REASON } = ended.failed.as_deref().unwrap_or_default(),
            "reload command ended"
        );
        let plan = self.shared.plan();
        for waiting in &command.due {
            let Some(tracked) = self.containers.get_mut(id) else {
                return;
            };
            let (binding, secret, version) = (waiting.binding, waiting.secret, waiting.version);
            let mut planned = plan.iter().flat_map(|plan| &plan.bindings);
            let planned = planned.find(|planned| planned.binding == binding);
            let reload = planned.map(|planned| reload_in(&planned.reload, &tracked.label));
            match judge(tracked, command, *waiting, reload.as_ref(), &ended) {
                // The pass that follows begins what is due now.
                Verdict::Other => {}
                Verdict::Done => {
                    if let Some(holding) = tracked.holdings.get_mut(&binding) {
                        holding.ack = Ack::Done;
                    }
                    tracked.dirty = true;
                    tracked.refused.remove(&binding);
                    tracked.tries.remove(&binding);
                    let told = tracked.facts(binding, |version| Fact::Reloaded { version, at });
                    self.items.extend(told);
                }
                Verdict::Ended => {
                    tracked.note_try(command, *waiting, &Err(String::new()), now);
                    self.inspect(id.clone());
                }
                Verdict::Failed(reason) => {
                    tracked.note_try(command, *waiting, &result, now);
                    self.refuse(id, binding, secret, version, reason);
                }
            }
        }
    }
}

impl Tracked {
    fn note_try(
        &mut self,
        command: &Command,
        waiting: Waiting,
        result: &Result<ExecOutcome, String>,
        now: Duration,
    ) {
        let before = self.tries.get(&waiting.binding);
        let tries = tried(before, command, waiting.content, result, now);
        self.tries.insert(waiting.binding, tries);
    }
}

/// What the end of a command means for one that waits for it, by what is held and planned now.
fn judge(
    tracked: &Tracked,
    command: &Command,
    waiting: Waiting,
    reload: Option<&Reload>,
    ended: &Ended,
) -> Verdict {
    let holding = tracked.holdings.get(&waiting.binding);
    let is_same = holding.is_some_and(|holding| {
        holding.secret == waiting.secret
            && holding.version == Some(waiting.version)
            && holding.content == waiting.content
            && holding.ack == Ack::Due
    });
    let is_meant = reload.is_some_and(|reload| command.is(reload));
    if !is_same || !is_meant || tracked.record.pid != ended.pid {
        return Verdict::Other;
    }
    match &ended.failed {
        Some(reason) => Verdict::Failed(reason.clone()),
        None if ended.is_alive => Verdict::Done,
        None => Verdict::Ended,
    }
}

impl Command {
    fn is(&self, reload: &Reload) -> bool {
        matches!(reload, Reload::Command { argv, timeout } if *argv == self.argv && *timeout == self.timeout)
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
        let is_for = |tries: &&Tries| {
            tries.content == holding.content && tries.argv == *argv && tries.timeout == *timeout
        };
        let tries = tracked.tries.get(binding).filter(is_for);
        match tries.map(|tries| tries.again) {
            Some(None) => continue,
            Some(Some(again)) if now < again => {
                next = Some(next.map_or(again, |next| next.min(again)));
                continue;
            }
            Some(Some(_)) | None => {}
        }
        let due = Waiting {
            binding: *binding,
            secret: holding.secret,
            version,
            content: holding.content,
        };
        match &mut found {
            Some(found) if found.is(reload) => found.due.push(due),
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
        Ok(ExecOutcome::Lost) => Some(format!(
            "reload_failed: how its reload command ended is not known, and it is tried {MAX_COMMAND_TRIES} times; look at the engine's log, or run it by hand with `docker exec`"
        )),
        Err(reason) => Some(format!("reload_failed: {reason}")),
    }
}

/// Notes one more failure. What kept it from beginning does not count: it says nothing of the command.
fn tried(
    before: Option<&Tries>,
    command: &Command,
    content: u64,
    result: &Result<ExecOutcome, String>,
    now: Duration,
) -> Tries {
    let known = before.filter(|tries| {
        tries.content == content && tries.argv == command.argv && tries.timeout == command.timeout
    });
    let failed = known.map_or(0, |tries| tries.failed);
    let (failed, wait) = match result {
        Err(_) => (failed, Some(RETRY_AFTER)),
        Ok(ExecOutcome::TimedOut) => (failed + 1, None),
        Ok(ExecOutcome::Exited(_) | ExecOutcome::Lost) if failed + 1 >= MAX_COMMAND_TRIES => {
            (failed + 1, None)
        }
        Ok(ExecOutcome::Exited(_) | ExecOutcome::Lost) => {
            (failed + 1, Some(RETRY_AFTER * 2_u32.pow(failed)))
        }
    };
    Tries {
        content,
        argv: command.argv.clone(),
        timeout: command.timeout,
        failed,
        again: wait.map(|wait| now + wait),
    }
}

#[cfg(test)]
mod tests;
