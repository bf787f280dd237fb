//! What the run of a playbook comes to: its steps, who approved, what died and whether that was shown, its score. Pure.

mod proofs;
mod steps;
pub(super) mod words;

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::event::Event;
use keywheel_core::id::{RunId, SecretId};
use keywheel_core::playbook_run::{Begun, Cause, Event as Fact, Outcome};
use keywheel_core::{host, revocation, rotation, secret};
use keywheel_schemas::api::{EvidenceSummary, ReportMark, ReportScore};
use keywheel_schemas::event::{self, EventMeta};

use self::steps::Course;
use super::consumers::dying;
use super::marks::{last, mark};
use super::summary::Case;

/// Fills in what a playbook's run has.
pub(super) fn summarise(case: &Case<'_>, summary: &mut EvidenceSummary) {
    let courses = steps::courses(case);
    let own = courses.first();
    if let Some(own) = own {
        summary.name = own.run.name.to_string();
        summary.reason.clone_from(&own.run.reason);
        summary.state = state(case, own);
        summary.score = score(own);
    }
    let all = courses.iter();
    summary.steps = all
        .clone()
        .flat_map(|one| steps::steps(case, one))
        .collect();
    summary.approvals = all.flat_map(Course::approvals).collect();
    summary.proofs = proofs::proofs(case);
    summary.logins = proofs::logins(case);
    summary.proof = proofs::in_all(&summary.proofs);
    summary.marks = marks(case, own, summary);
}

fn score(own: &Course<'_>) -> Option<ReportScore> {
    let (score, ended) = (own.run.score?, own.ended?);
    Some(ReportScore {
        targets: score.targets,
        through: score.through,
        percent: (score.through * 100)
            .checked_div(score.targets)
            .unwrap_or(100),
        event: ended.number,
    })
}

fn state(case: &Case<'_>, own: &Course<'_>) -> String {
    let Some(outcome) = own.run.outcome else {
        return own.standing();
    };
    let how = match outcome {
        Outcome::Completed | Outcome::Cancelled => outcome.word().to_owned(),
        Outcome::Failed => match own.first_failure() {
            Some((step, why)) => format!("failed at step {step}: {why}"),
            None => outcome.word().to_owned(),
        },
    };
    match open_parts(case) {
        0 => how,
        1 => format!("{how}; one thing that it began is not over yet"),
        open => format!("{how}; {open} things that it began are not over yet"),
    }
}

/// How many rotations and revocations go on.
fn open_parts(case: &Case<'_>) -> usize {
    let mut open = BTreeSet::new();
    for (_, event) in case.parts() {
        match event {
            Event::Rotation(_, rotation::Event::Closed { .. })
            | Event::Revocation(_, revocation::Event::Closed) => {
                open.remove(&event::subject(event));
            }
            Event::Rotation(
                _,
                rotation::Event::Started { .. } | rotation::Event::Reopened { .. },
            )
            | Event::Revocation(
                _,
                revocation::Event::Requested { .. } | revocation::Event::ReplacementAwaited { .. },
            ) => {
                open.insert(event::subject(event));
            }
            _ => {}
        }
    }
    open.len()
}

/// Versions that it makes, that die with it, or that a host may hold that it evicted.
pub(super) fn versions(case: &Case<'_>) -> BTreeSet<(SecretId, u64)> {
    let mut found = dying(case);
    for (_, event) in case.parts() {
        if let Event::Rotation(
            _,
            rotation::Event::Started {
                secret, version, ..
            },
        ) = event
        {
            found.insert((*secret, *version));
        }
    }
    let mut evicted = BTreeSet::new();
    for (_, event) in case.events.iter().rev() {
        match event {
            Event::Host(id, host::Event::Evicted { .. }) if is_by_step(case, event) => {
                evicted.insert(*id);
            }
            Event::Secret(id, secret::Event::Delivered { host, version, .. })
                if evicted.contains(host) =>
            {
                found.insert((*id, *version));
            }
            _ => {}
        }
    }
    found
}

/// Whether a step of the run evicted this host.
fn is_by_step(case: &Case<'_>, event: &Event) -> bool {
    let Event::Host(id, _) = event else {
        return false;
    };
    case.parts().any(|(_, event)| match event {
        Event::PlaybookRun(
            _,
            Fact::Acted {
                begun: Begun::Eviction { host },
                ..
            },
        ) => host == id,
        _ => false,
    })
}

fn marks(case: &Case<'_>, own: Option<&Course<'_>>, told: &EvidenceSummary) -> Vec<ReportMark> {
    let triggered = |(_, event): &&(EventMeta, Event)| {
        matches!(event, Event::PlaybookRun(_, Fact::Triggered { .. }))
    };
    let begun = case.own().find(triggered).map(|(meta, _)| meta);
    let mut marks = Vec::from_iter(cause(case));
    let by = own.map_or_else(String::new, |own| format!(" by {}", own.run.by));
    marks.push(mark(case, &format!("begun{by}"), begun));
    let evicted = last(case, |event| {
        matches!(event, Event::Host(_, host::Event::Evicted { .. })) && is_by_step(case, event)
    });
    marks.extend(evicted.map(|meta| mark(case, "last host evicted", Some(meta))));
    let versions = versions(case);
    let promoted = last(case, |event| match event {
        Event::Secret(id, secret::Event::VersionPromoted { version }) => {
            versions.contains(&(*id, *version))
        }
        _ => false,
    });
    marks.extend(promoted.map(|meta| mark(case, "last new version is current", Some(meta))));
    marks.extend(reached(
        case,
        "last container through with it",
        told.consumers.iter().map(|one| one.event),
    ));
    marks.extend(reached(
        case,
        "last version dead, no host gets it any more",
        deaths(case).into_iter(),
    ));
    let confirmed = proofs::confirmed(case).into_iter();
    marks.extend(reached(
        case,
        "every store confirmed that it is unusable there",
        confirmed,
    ));
    let shown = told.proofs.iter().map(|one| one.event);
    marks.extend(reached(
        case,
        "of each it is known whether a login is refused",
        shown,
    ));
    marks.push(mark(case, "the run ended", own.and_then(|own| own.ended)));
    marks
}

/// What is reached when the last of several events is there; nothing where none is waited for.
pub(super) fn reached(
    case: &Case<'_>,
    what: &str,
    events: impl Iterator<Item = Option<u64>>,
) -> Option<ReportMark> {
    let events: Vec<Option<u64>> = events.collect();
    if events.is_empty() {
        return None;
    }
    let all: Option<Vec<u64>> = events.into_iter().collect();
    let last = all.and_then(|all| all.into_iter().max());
    let is_last = |(meta, _): &&(EventMeta, Event)| Some(meta.number) == last;
    let meta = case.events.iter().find(is_last).map(|(meta, _)| meta);
    Some(mark(case, what, meta))
}

/// Of each version that dies with the run, the event with which it did.
fn deaths(case: &Case<'_>) -> Vec<Option<u64>> {
    let dies = |(meta, event): &(EventMeta, Event)| match event {
        Event::Secret(id, secret::Event::VersionRevoked { version }) => {
            Some(((*id, *version), meta.number))
        }
        _ => None,
    };
    let died: BTreeMap<(SecretId, u64), u64> = case.since().filter_map(dies).collect();
    let dying = dying(case).into_iter();
    dying.map(|version| died.get(&version).copied()).collect()
}

/// The event of the log that led to it, where one did.
fn cause(case: &Case<'_>) -> Option<ReportMark> {
    let id = RunId::parse(case.id).ok()?;
    let number = case.own().find_map(|(_, event)| match event {
        Event::PlaybookRun(
            run,
            Fact::Triggered {
                cause: Cause::Event { number },
                ..
            },
        ) if *run == id => Some(*number),
        _ => None,
    })?;
    let is_it = |(meta, _): &&(EventMeta, Event)| meta.number == number;
    let (meta, event) = case.events.iter().find(is_it)?;
    let what = format!("led to by an event: {}", super::words::type_words(event));
    Some(ReportMark {
        after_us: None,
        ..mark(case, &what, Some(meta))
    })
}
