//! How playbooks and their runs stand in the audit: who started, approved or stepped in, every move that
//! a run made by itself, with the one who started it, and what came of each order about a container.

use keywheel_core::audit::{Category, ContainerRef, Outcome, Record};
use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::host::{self, OrderKind, OrderOutcome};
use keywheel_core::id::RunId;
use keywheel_core::playbook_run::{Event as E, Intervention, Request};
use keywheel_core::rotation::MAX_REASON_CHARS;
use keywheel_core::world::World;

use super::{Deed, Described, blank, host_name, host_object};

/// Longest name of a container in a record's object.
const MAX_NAME_CHARS: usize = 128;

/// Verb and object of a request.
pub(super) fn described(world: &World, request: &Request) -> Described {
    let of = |run: &RunId| {
        let known = world.runs.get(run);
        known.map_or_else(
            || format!("playbook-run/{run}"),
            |known| format!("playbook/{}", known.name),
        )
    };
    match request {
        Request::Start { playbook, .. } => ("run-playbook", format!("playbook/{playbook}"), None),
        Request::Advance { run } => ("advance-playbook", of(run), None),
        Request::Due { run, .. } => ("end-playbook-step", of(run), None),
        Request::Approve { run, .. } => ("approve-playbook", of(run), None),
        Request::Intervene {
            run, intervention, ..
        } => (intervention_verb(*intervention), of(run), None),
        Request::Answer { run, .. } => ("answer-playbook", of(run), None),
        Request::Lift { container, .. } => {
            let name: String = container.chars().take(MAX_NAME_CHARS).collect();
            ("lift-quarantine", format!("container/{name}"), None)
        }
        Request::Remove { name } => ("remove-playbook", format!("playbook/{name}"), None),
    }
}

const fn intervention_verb(intervention: Intervention) -> &'static str {
    match intervention {
        Intervention::Pause => "pause-playbook",
        Intervention::Resume => "resume-playbook",
        Intervention::Cancel => "cancel-playbook",
    }
}

/// Why a person asked for it, as far as a record has room.
pub(super) fn own_words(command: &Command) -> Option<String> {
    let Command::Playbook(
        Request::Start { reason, .. }
        | Request::Approve { reason, .. }
        | Request::Intervene { reason, .. }
        | Request::Lift { reason, .. },
    ) = command
    else {
        return None;
    };
    let words: String = reason.trim().chars().take(MAX_REASON_CHARS).collect();
    (!words.is_empty()).then_some(words)
}

/// What a run did by itself, in words; `None` where a person's own say it.
pub(super) fn told(before: &World, events: &[Event]) -> Option<String> {
    let (id, event) = events.iter().rev().find_map(|event| match event {
        Event::PlaybookRun(id, event) => Some((id, event)),
        _ => None,
    })?;
    let known = before.runs.get(id)?;
    let moved = match event {
        E::StepStarted { step, targets, .. } => {
            format!("step `{step}` began with {} targets", targets.len())
        }
        E::Acted { step, place, .. } => format!("step `{step}`, target {}: begun", place + 1),
        E::ActRefused {
            step,
            place,
            reason,
        } => format!("step `{step}`, target {}: refused: {reason}", place + 1),
        E::StepCompleted { step, note: None } => format!("step `{step}` is done"),
        E::StepCompleted {
            step,
            note: Some(note),
        } => format!("step `{step}` is done: {note}"),
        E::Notified { step, place, .. } => format!("step `{step}`, target {}: told", place + 1),
        E::Answered {
            step,
            place,
            failure: None,
            ..
        } => format!("step `{step}`, target {}: taken", place + 1),
        E::Answered {
            step,
            place,
            failure: Some(reason),
            ..
        } => format!("step `{step}`, target {}: not taken: {reason}", place + 1),
        E::StepFailed { step, reason } => format!("step `{step}` failed: {reason}"),
        E::StepSkipped { step } => format!("step `{step}` is skipped"),
        E::Completed { outcome, score } if events.len() == 1 => format!(
            "ended as {}, {} of {} are through",
            outcome.word(),
            score.through,
            score.targets
        ),
        E::Completed { .. } | E::Triggered { .. } | E::Approved { .. } | E::Intervened { .. } => {
            return None;
        }
    };
    Some(format!("{moved} (run {id}, started by {})", known.by))
}

/// What came of an order about a container, which its step's own record only begins.
pub(super) fn order_record(before: &World, deed: &Deed<'_>, event: &Event) -> Option<Record> {
    let Event::Host(
        at,
        host::Event::OrderEnded {
            container,
            order,
            outcome,
            ..
        },
    ) = event
    else {
        return None;
    };
    let known = before.hosts.get(at)?;
    let (verb, subject, origin) = match order {
        OrderKind::Restart => {
            let one = known.restarts.get(container)?;
            ("restart-by-order", &one.subject, &one.origin)
        }
        OrderKind::Quarantine => {
            let one = known.quarantines.get(container)?;
            ("quarantine", &one.subject, &one.origin)
        }
    };
    let (ended, told) = match outcome {
        OrderOutcome::Done => (Outcome::Allowed, "done"),
        OrderOutcome::Gone => (Outcome::Allowed, "the container is gone, or down"),
        OrderOutcome::Failed { reason } => (Outcome::Rejected, reason.as_str()),
        OrderOutcome::Withdrawn => (Outcome::Rejected, "its step was over before it was begun"),
    };
    let run = before.runs.get(&origin.run);
    let by = run.map_or("nobody that is known", |run| run.by.as_str());
    let mut record = blank(deed, Category::System, verb);
    record.object = run.map_or_else(
        || format!("playbook-run/{}", origin.run),
        |run| format!("playbook/{}", run.name),
    );
    record.outcome = ended;
    record.reason = format!(
        "step `{}`: {told} (run {}, started by {by})",
        origin.step, origin.run
    );
    record.container = Some(ContainerRef {
        id: container.to_string(),
        name: subject.name.clone(),
        image_digest: subject.image_digest.clone(),
        host: host_name(before, *at),
    });
    Some(record)
}

/// A host that a step evicted: the step's own record names the playbook alone.
pub(super) fn evicted(
    before: &World,
    deed: &Deed<'_>,
    (command, event): (&Command, &Event),
) -> Option<Record> {
    let (Command::Playbook(_), Event::Host(host, host::Event::Evicted { reason })) =
        (command, event)
    else {
        return None;
    };
    let mut record = blank(deed, Category::System, "evict");
    record.object = host_object(before, *host);
    record.reason.clone_from(reason);
    Some(record)
}

#[cfg(test)]
mod tests {
    use keywheel_core::audit::{Principal, Role};
    use keywheel_core::binding::OnRevoke;
    use keywheel_core::host::{Origin, Subject};
    use keywheel_core::id::{CommandId, ContainerId, HostId};
    use keywheel_core::name::HostName;
    use keywheel_core::time::Timestamp;

    use super::*;

    const HOST: HostId = HostId::from_bytes([1; 16]);

    fn container() -> ContainerId {
        ContainerId::parse(&"a".repeat(64)).unwrap()
    }

    /// A host with an open restart and a quarantine of one container.
    fn world() -> World {
        let subject = Subject {
            container: container(),
            name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            service: String::new(),
        };
        let origin = Origin {
            run: RunId::from_bytes([2; 16]),
            step: "cut".to_owned(),
            place: 0,
        };
        let events = [
            host::Event::Enrolled {
                name: HostName::parse("web-1").unwrap(),
                sealing_key: [0; 32],
                signing_key: None,
            },
            host::Event::RestartOrdered {
                subject: subject.clone(),
                origin: origin.clone(),
                not_before: None,
            },
            host::Event::QuarantineOrdered {
                subject,
                origin,
                action: OnRevoke::Pause,
                reason: "intruder".to_owned(),
                had: Vec::new(),
            },
        ];
        let mut world = World::default();
        for (number, event) in (1..).zip(events) {
            world.apply(number, &Event::Host(HOST, event));
        }
        world
    }

    const fn deed(principal: &Principal) -> Deed<'_> {
        Deed {
            principal,
            id: CommandId::from_bytes([3; 16]),
            time: Timestamp::from_micros(0),
            traceparent: None,
        }
    }

    #[test]
    fn a_host_that_a_step_evicted_is_on_record_by_its_name() {
        let principal = Principal::Service(Role::Gateway);
        let reason = "playbook `intruder`, step `out`".to_owned();
        let event = Event::Host(HOST, host::Event::Evicted { reason });
        let run = RunId::from_bytes([2; 16]);
        let advance = Command::Playbook(Request::Advance { run });
        let record = evicted(&world(), &deed(&principal), (&advance, &event)).unwrap();
        assert_eq!(
            (record.verb.as_str(), record.object.as_str(), record.outcome),
            ("evict", "host/web-1", Outcome::Allowed)
        );
        assert!(record.reason.contains("step `out`"), "{}", record.reason);
        // A person's eviction has its own record already.
        let own = Command::EvictHost {
            host: HOST,
            reason: "stolen".to_owned(),
        };
        assert_eq!(evicted(&world(), &deed(&principal), (&own, &event)), None);
    }

    #[test]
    fn what_came_of_an_order_is_on_record_with_its_container_and_its_run() {
        let principal = Principal::Service(Role::Injector);
        let deed = deed(&principal);
        let failed = OrderOutcome::Failed {
            reason: "its health check fails".to_owned(),
        };
        let cases = [
            (
                OrderKind::Restart,
                OrderOutcome::Done,
                "restart-by-order",
                Outcome::Allowed,
            ),
            (
                OrderKind::Restart,
                failed,
                "restart-by-order",
                Outcome::Rejected,
            ),
            (
                OrderKind::Restart,
                OrderOutcome::Withdrawn,
                "restart-by-order",
                Outcome::Rejected,
            ),
            (
                OrderKind::Quarantine,
                OrderOutcome::Done,
                "quarantine",
                Outcome::Allowed,
            ),
            (
                OrderKind::Quarantine,
                OrderOutcome::Gone,
                "quarantine",
                Outcome::Allowed,
            ),
        ];
        for (order, outcome, verb, ended) in cases {
            let event = Event::Host(
                HOST,
                host::Event::OrderEnded {
                    container: container(),
                    order,
                    outcome: outcome.clone(),
                    at: Timestamp::default(),
                },
            );
            let record = order_record(&world(), &deed, &event).unwrap();
            assert_eq!((record.verb.as_str(), record.outcome), (verb, ended));
            assert!(
                record.reason.starts_with("step `cut`: "),
                "{}",
                record.reason
            );
            if let OrderOutcome::Failed { reason } = &outcome {
                assert!(record.reason.contains(reason));
            }
            let of = record.container.unwrap();
            assert_eq!((of.name.as_str(), of.host.as_str()), ("web", "web-1"));
        }
    }
}
