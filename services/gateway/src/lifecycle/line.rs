//! One event as one line: what happened, to what, under which trace.

use keywheel_core::approval;
use keywheel_core::assignment;
use keywheel_core::event::Event;
use keywheel_core::host::OrderOutcome;
use keywheel_core::id::{HostId, RevocationId, RotationId, RunId, SecretId};
use keywheel_core::rotation::Outcome;
use keywheel_core::{host, playbook_run, revocation, rollout, rotation, secret};
use keywheel_daemon::{lines, names};
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_engine::state::Committed;
use keywheel_engine::tally::step_word;
use keywheel_engine::trace::Context;

use super::{outcome_word, secret_name};

/// A line of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    event: &'static str,
    text: &'static str,
    is_bad: bool,
    secret_name: Option<String>,
    version: Option<u64>,
    rotation: Option<String>,
    revocation: Option<String>,
    step: Option<&'static str>,
    attempt: Option<u64>,
    host: Option<String>,
    container: Option<String>,
    count: Option<u64>,
    millis: Option<u64>,
    outcome: Option<&'static str>,
    reason: Option<String>,
    playbook: Option<String>,
    run: Option<String>,
    trace: Option<String>,
}

impl Line {
    fn new(event: &'static str, text: &'static str) -> Self {
        Self {
            event,
            text,
            ..Self::default()
        }
    }

    /// Writes it.
    pub(super) fn write(&self) {
        macro_rules! at {
            ($level:ident) => {
                tracing::$level!(
                    { names::EVENT } = self.event,
                    { names::SECRET_NAME } = self.secret_name.as_deref(),
                    { names::VERSION } = self.version,
                    { names::ROTATION } = self.rotation.as_deref(),
                    { names::REVOCATION } = self.revocation.as_deref(),
                    { names::STEP } = self.step,
                    { names::ATTEMPT } = self.attempt,
                    { names::HOST } = self.host.as_deref(),
                    { names::CONTAINER } = self.container.as_deref(),
                    { names::COUNT } = self.count,
                    { names::MILLIS } = self.millis,
                    { names::OUTCOME } = self.outcome,
                    { names::REASON } = self.reason.as_deref(),
                    { names::PLAYBOOK } = self.playbook.as_deref(),
                    { names::RUN } = self.run.as_deref(),
                    { names::TRACE } = self.trace.as_deref(),
                    "{}",
                    self.text
                )
            };
        }
        match self.is_bad {
            true => at!(warn),
            false => at!(info),
        }
    }
}

/// The line of an event; most of what only prepares another has none.
pub(super) fn of(committed: &Committed, recorded: &RecordedEvent) -> Option<Line> {
    let own = recorded.traceparent.as_deref().and_then(Context::parse);
    let (mut line, trace) = match &recorded.event {
        Event::Rotation(id, event) => (
            of_rotation(committed, *id, event)?,
            committed.rotation_trace(*id),
        ),
        Event::Revocation(id, event) => (
            of_revocation(committed, *id, event)?,
            committed.revocation_trace(*id),
        ),
        Event::Assignment(key, event) => (of_assignment(committed, key, event)?, None),
        Event::Secret(id, event) => (of_secret(committed, *id, event)?, None),
        Event::Host(id, event) => (of_host(committed, *id, event)?, None),
        Event::Rollout(service, event) => (of_rollout(committed, service, event)?, None),
        Event::Approval(_, event) => (of_approval(event)?, None),
        Event::PlaybookRun(id, event) => (of_run(committed, *id, event)?, committed.run_trace(*id)),
        Event::Binding(..)
        | Event::Store(..)
        | Event::Notification(..)
        | Event::Signal(..)
        | Event::Playbook(..)
        | Event::Policy(..)
        | Event::Token(..) => return None,
    };
    // Whatever its report answers, a container goes for reasons of its own.
    let trace = match line.event {
        lines::VANISHED => None,
        _ => trace.or(own),
    };
    line.trace = trace.map(|trace| trace.trace_id());
    Some(line)
}

fn of_rotation(committed: &Committed, id: RotationId, event: &rotation::Event) -> Option<Line> {
    use rotation::Event as E;
    let line = match event {
        E::Started { .. } => Line::new(lines::ROTATION_STARTED, "rotation started"),
        E::StepCompleted { step } => Line {
            step: Some(step_word(*step)),
            ..Line::new(lines::STEP_COMPLETED, "step done")
        },
        E::StepFailed {
            step,
            attempt,
            reason,
        } => Line {
            step: Some(step_word(*step)),
            attempt: Some(u64::from(*attempt)),
            reason: Some(reason.clone()),
            is_bad: true,
            ..Line::new(lines::STEP_FAILED, "step failed")
        },
        E::DistributionStarted { consumers, .. } => Line {
            count: Some(consumers.len() as u64),
            ..Line::new(lines::DISTRIBUTION_STARTED, "consumers have to move")
        },
        E::HostBarrierAcknowledged { host } => Line {
            host: Some(host_name(committed, *host)),
            ..Line::new(lines::HOST_CLEARED, "host holds no older version")
        },
        E::HostReleased { host } => Line {
            host: Some(host_name(committed, *host)),
            ..Line::new(lines::HOST_RELEASED, "host is not waited for")
        },
        E::Closed { outcome } => Line {
            outcome: Some(outcome_word(outcome)),
            is_bad: matches!(outcome, Outcome::RolledBack | Outcome::Parked),
            ..Line::new(lines::ROTATION_CLOSED, "rotation ended")
        },
        E::Halted { .. } | E::TurnedBack { .. } => of_failure(committed, event)?,
        E::DeadlinePassed
        | E::StragglersNamed { .. }
        | E::Forced
        | E::Intervened { .. }
        | E::Reopened { .. }
        | E::SessionsLeft { .. }
        | E::SessionsUntold { .. } => {
            let known = committed.world.rotations.get(&id);
            of_waiting(event, known.is_some_and(|known| known.returning.is_some()))?
        }
        E::StagingStarted { .. }
        | E::HostStaged { .. }
        | E::StagingEnded { .. }
        | E::CutOver { .. }
        | E::GapMeasured { .. } => of_cut_over(event)?,
        E::CanaryStarted { .. }
        | E::CanaryWatched { .. }
        | E::CanaryPassed
        | E::CanarySkipped { .. } => of_canaries(event)?,
        // Acknowledged by what is swapped or reloaded, which has a line.
        E::StepStarted { .. } | E::ConsumerAcknowledged { .. } | E::DeadlineMoved { .. } => {
            return None;
        }
    };
    Some(told_of(line, committed, id))
}

/// What a container that did not run well leads to.
fn of_failure(committed: &Committed, event: &rotation::Event) -> Option<Line> {
    use rotation::Event as E;
    Some(match event {
        E::Halted { consumer, reason } => Line {
            host: Some(host_name(committed, consumer.host)),
            container: Some(consumer.container.short().to_string()),
            reason: Some(reason.clone()),
            is_bad: true,
            ..Line::new(
                lines::ROTATION_HALTED,
                "a container did not run well with it",
            )
        },
        E::TurnedBack { consumers, .. } => Line {
            count: Some(consumers.len() as u64),
            is_bad: true,
            ..Line::new(lines::ROTATION_TURNED_BACK, "consumers have to move back")
        },
        _ => return None,
    })
}

/// What comes before and after a server refuses the version before.
fn of_cut_over(event: &rotation::Event) -> Option<Line> {
    use rotation::Event as E;
    Some(match event {
        E::StagingStarted { hosts, .. } => Line {
            count: Some(hosts.len() as u64),
            ..Line::new(lines::STAGING_STARTED, "hosts take the version beforehand")
        },
        E::StagingEnded { missing } => Line {
            count: Some(missing.len() as u64),
            is_bad: !missing.is_empty(),
            ..Line::new(lines::STAGING_ENDED, "the server is told next")
        },
        E::GapMeasured { since, until } => Line {
            millis: u64::try_from(until.since(*since).as_millis()).ok(),
            ..Line::new(lines::GAP_MEASURED, "every consumer came over")
        },
        _ => return None,
    })
}

/// Containers that have the version before it is promoted.
fn of_canaries(event: &rotation::Event) -> Option<Line> {
    use rotation::Event as E;
    Some(match event {
        E::CanaryStarted { consumers, .. } => Line {
            count: Some(consumers.len() as u64),
            ..Line::new(lines::CANARY_STARTED, "canaries get the version")
        },
        E::CanaryWatched { .. } => Line::new(lines::CANARY_WATCHED, "canaries run on it"),
        E::CanaryPassed => Line::new(lines::CANARY_PASSED, "canaries ran well with it"),
        E::CanarySkipped { reason } => Line {
            reason: Some(reason.clone()),
            ..Line::new(lines::CANARY_SKIPPED, "no canary runs ahead")
        },
        _ => return None,
    })
}

/// A line with the names of its rotation.
fn told_of(mut line: Line, committed: &Committed, id: RotationId) -> Line {
    line.rotation = Some(id.to_string());
    if let Some(known) = committed.world.rotations.get(&id) {
        line.secret_name = Some(secret_name(committed, known.secret));
        line.version = Some(known.version);
        let secret = committed.world.secrets.get(&known.secret);
        let is_lease = secret.is_some_and(|secret| secret.lease_of().is_some());
        // No store tells those of a lease: nobody has anything to mend there.
        line.is_bad &= !(is_lease && line.event == lines::SESSIONS_UNTOLD);
    }
    line
}

/// What a deadline leads to, and a person who steps in.
fn of_waiting(event: &rotation::Event, goes_back: bool) -> Option<Line> {
    use rotation::Event as E;
    Some(match event {
        E::DeadlinePassed => Line {
            is_bad: true,
            ..Line::new(
                lines::DEADLINE_PASSED,
                "consumers did not acknowledge in time",
            )
        },
        E::StragglersNamed { consumers, .. } => Line {
            count: Some(consumers.len() as u64),
            reason: consumers.first().map(|first| first.reason.clone()),
            is_bad: true,
            ..Line::new(
                lines::STRAGGLERS_NAMED,
                "consumers that did not acknowledge are on record",
            )
        },
        E::Forced => Line {
            is_bad: true,
            ..Line::new(
                lines::ROTATION_FORCED,
                match goes_back {
                    false => "nobody is waited for; what is old and not kept dies",
                    true => "nobody is waited for; the new version dies",
                },
            )
        },
        E::Intervened {
            intervention,
            reason,
        } => Line {
            reason: Some(reason.clone()),
            ..Line::new(lines::ROTATION_INTERVENED, intervened(*intervention))
        },
        E::Reopened { consumers, .. } => Line {
            count: Some(consumers.len() as u64),
            ..Line::new(lines::ROTATION_REOPENED, "consumers are waited for again")
        },
        E::SessionsLeft { sessions, .. } => Line {
            count: Some(*sessions),
            ..Line::new(
                lines::SESSIONS_LEFT,
                "sessions of the old credential are open",
            )
        },
        E::SessionsUntold { .. } => Line {
            is_bad: true,
            ..Line::new(
                lines::SESSIONS_UNTOLD,
                "the server does not tell sessions; a grace counts",
            )
        },
        _ => return None,
    })
}

const fn intervened(intervention: rotation::Intervention) -> &'static str {
    match intervention {
        rotation::Intervention::Abort => "a person aborts it",
        rotation::Intervention::Retry => "a person has it tried again",
        rotation::Intervention::Force => "a person has it wait no more",
    }
}

fn of_revocation(
    committed: &Committed,
    id: RevocationId,
    event: &revocation::Event,
) -> Option<Line> {
    use revocation::Event as E;
    let on_host = |host: &HostId| Some(host_name(committed, *host));
    let mut line = match event {
        E::Requested { versions, .. } => Line {
            count: Some(versions.len() as u64),
            ..Line::new(lines::REVOCATION_REQUESTED, "versions are dead")
        },
        E::ReplacementAwaited { versions, .. } => Line {
            count: Some(versions.len() as u64),
            ..Line::new(lines::REVOCATION_AWAITS, "a replacement is made first")
        },
        E::ReplacementGivenUp { reason } => Line {
            reason: Some(reason.clone()),
            ..Line::new(lines::REVOCATION_UNREPLACED, "nothing takes their place")
        },
        E::WithdrawnOnHost { host } => Line {
            host: on_host(host),
            ..Line::new(lines::REVOCATION_WITHDRAWN, "host holds none of them")
        },
        E::BackendConfirmed => Line::new(lines::REVOCATION_CONFIRMED, "store made them unusable"),
        E::BackendFailed { attempt, reason } => Line {
            attempt: Some(u64::from(*attempt)),
            reason: Some(reason.clone()),
            is_bad: true,
            ..Line::new(lines::REVOCATION_FAILED, "store could not revoke yet")
        },
        E::ProvenDead { .. } => Line::new(lines::REVOCATION_PROVEN, "its login is refused"),
        E::StillAccepted { attempt, .. } => Line {
            attempt: Some(u64::from(*attempt)),
            is_bad: true,
            ..Line::new(lines::REVOCATION_ALIVE, "its login is still let in")
        },
        E::NotProvable { reason, .. } => Line {
            reason: Some(reason.clone()),
            ..Line::new(
                lines::REVOCATION_UNPROVEN,
                "no login can show that it is dead",
            )
        },
        E::Forgotten { reason, .. } => Line {
            reason: Some(reason.clone()),
            is_bad: true,
            ..Line::new(lines::REVOCATION_FORGOTTEN, "store is asked no more")
        },
        E::Closed => Line::new(lines::REVOCATION_CLOSED, "revocation ended"),
        E::HostReleased { .. }
        | E::BackendRetried { .. }
        | E::WithdrawnEverywhere
        | E::Destroyed
        | E::ForgetAsked { .. } => return None,
    };
    line.revocation = Some(id.to_string());
    let known = committed.world.revocations.get(&id);
    line.secret_name = known.map(|known| secret_name(committed, known.secret));
    Some(line)
}

fn of_assignment(
    committed: &Committed,
    key: &assignment::Key,
    event: &assignment::Event,
) -> Option<Line> {
    use assignment::Event as E;
    let with = |version: &u64, event, text| Line {
        version: Some(*version),
        ..Line::new(event, text)
    };
    let mut line = match event {
        E::Swapped { version, .. } => with(version, lines::SWAPPED, "container has it"),
        E::Reloaded { version, .. } => with(version, lines::RELOADED, "container uses it"),
        E::Withdrawn => Line::new(lines::WITHDRAWN, "container has none any more"),
        E::Vanished => Line::new(lines::VANISHED, "container is gone"),
        E::Refused { version, reason } => Line {
            reason: Some(reason.clone()),
            is_bad: true,
            ..with(version, lines::REFUSED, "container not served")
        },
        E::Assigned { .. } | E::ServiceNoted { .. } => return None,
    };
    let known = committed.world.assignments.get(key);
    line.secret_name = known.map(|known| secret_name(committed, known.secret));
    line.host = Some(host_name(committed, key.host));
    line.container = Some(key.container.short().to_string());
    Some(line)
}

fn of_secret(committed: &Committed, id: SecretId, event: &secret::Event) -> Option<Line> {
    let mut line = match event {
        secret::Event::VersionPromoted { version } => Line {
            version: Some(*version),
            ..Line::new(lines::VERSION_PROMOTED, "version is current")
        },
        secret::Event::ExternalChangeDetected { .. } => {
            Line::new(lines::CHANGED_OUTSIDE, "value was changed outside")
        }
        _ => return None,
    };
    line.secret_name = Some(secret_name(committed, id));
    Some(line)
}

fn of_host(committed: &Committed, id: HostId, event: &host::Event) -> Option<Line> {
    let mut line = match event {
        host::Event::Enrolled { .. } => Line::new(lines::HOST_ENROLLED, "host is known"),
        host::Event::Evicted { .. } => Line::new(lines::HOST_EVICTED, "host is evicted"),
        _ => of_order(event)?,
    };
    line.host = Some(host_name(committed, id));
    Some(line)
}

/// What went without the others is loud; all else of a request is in the log of record.
fn of_approval(event: &approval::Event) -> Option<Line> {
    let (line, reason, is_bad) = match event {
        approval::Event::GlassBroken { reason, .. } => {
            let text = "what takes several people goes without the others";
            (Line::new(lines::GLASS_BROKEN, text), reason, true)
        }
        approval::Event::GlassReviewed { reason, .. } => {
            let text = "what went without the others is reviewed";
            (Line::new(lines::GLASS_REVIEWED, text), reason, false)
        }
        _ => return None,
    };
    Some(Line {
        reason: Some(reason.clone()),
        is_bad,
        ..line
    })
}

/// Of an order about a container.
fn of_order(event: &host::Event) -> Option<Line> {
    let (container, line) = match event {
        host::Event::RestartOrdered { subject, .. } => {
            let line = Line::new(lines::RESTART_ORDERED, "container is to restart");
            (&subject.container, line)
        }
        host::Event::QuarantineOrdered {
            subject, reason, ..
        } => {
            let line = Line {
                reason: Some(reason.clone()),
                ..Line::new(
                    lines::QUARANTINE_ORDERED,
                    "container is put into quarantine",
                )
            };
            (&subject.container, line)
        }
        host::Event::OrderEnded {
            container, outcome, ..
        } => {
            let (word, reason) = match outcome {
                OrderOutcome::Done => ("done", None),
                OrderOutcome::Gone => ("gone", None),
                OrderOutcome::Failed { reason } => ("failed", Some(reason.clone())),
                OrderOutcome::Withdrawn => ("withdrawn", None),
            };
            let line = Line {
                outcome: Some(word),
                is_bad: reason.is_some(),
                reason,
                ..Line::new(lines::ORDER_ENDED, "order about a container ended")
            };
            (container, line)
        }
        host::Event::QuarantineLifted {
            container, reason, ..
        } => {
            let line = Line {
                reason: Some(reason.clone()),
                ..Line::new(lines::QUARANTINE_LIFTED, "quarantine is lifted")
            };
            (container, line)
        }
        _ => return None,
    };
    Some(Line {
        container: Some(container.short().to_owned()),
        ..line
    })
}

fn of_rollout(
    committed: &Committed,
    service: &rollout::Service,
    event: &rollout::Event,
) -> Option<Line> {
    let mut line = match event {
        rollout::Event::LeaveGiven { .. } => Line::new(lines::LEAVE_GIVEN, "container may restart"),
        rollout::Event::Failed { reason, .. } => Line {
            reason: Some(reason.clone()),
            is_bad: true,
            ..Line::new(
                lines::RESTART_FAILED,
                "container did not run well after its restart",
            )
        },
        _ => return None,
    };
    let rollout = committed.world.rollouts.get(service);
    line.count = rollout.map(|rollout| rollout.members.len() as u64);
    let instance = event.instance();
    line.host = Some(host_name(committed, instance.host));
    line.container = Some(instance.container.short().to_string());
    Some(line)
}

fn of_run(committed: &Committed, id: RunId, event: &playbook_run::Event) -> Option<Line> {
    use playbook_run::Event as E;
    let mut line = match event {
        E::Triggered { .. } => Line::new(lines::PLAYBOOK_TRIGGERED, "run of a playbook began"),
        E::StepFailed { step, reason } => Line {
            reason: Some(format!("{step}: {reason}")),
            is_bad: true,
            ..Line::new(lines::PLAYBOOK_STEP_FAILED, "step of a playbook failed")
        },
        E::Completed { outcome, .. } => Line {
            outcome: Some(outcome.word()),
            is_bad: *outcome == playbook_run::Outcome::Failed,
            ..Line::new(lines::PLAYBOOK_COMPLETED, "run of a playbook ended")
        },
        _ => return None,
    };
    let run = committed.world.runs.get(&id);
    line.playbook = run.map(|run| run.name.to_string());
    line.run = Some(id.to_string());
    Some(line)
}

fn host_name(committed: &Committed, id: HostId) -> String {
    let host = committed.world.hosts.get(&id);
    host.map_or_else(|| id.to_string(), |host| host.name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_rotation_says_which_version_dies() {
        let said = |goes_back| {
            let line = of_waiting(&rotation::Event::Forced, goes_back);
            line.unwrap().text
        };
        assert!(said(false).ends_with("what is old and not kept dies"));
        assert!(said(true).ends_with("the new version dies"));
    }
}
