//! One case per event and per rejection of a run, and the law that a cut anywhere loses and repeats
//! nothing: what comes next follows from the log alone.

mod ended;
mod graph;
mod kept;
mod lifted;
mod many;
mod orders;
mod people;
mod proof;
mod slow;
mod told;
mod urgent;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::command::{Command, Declaration};
use crate::decision::next_run;
use crate::event;
use crate::id::{PlaybookId, RevocationId, RotationId, RunId};
use crate::name::PlaybookName;
use crate::playbook::{self, After, Deed, Parameter, Selection, Spec, Step, Which};
use crate::rotation;
use crate::testing::{
    Given, HOST, SECOND, SECRET, apply_secret, done, generated, later, report, rotate, swapped,
};

pub(super) const PLAYBOOK: PlaybookId = PlaybookId::from_bytes([0x20; 16]);
pub(super) const RUN: RunId = RunId::from_bytes([0x21; 16]);

pub(super) fn name() -> PlaybookName {
    PlaybookName::parse("leaked").unwrap()
}

/// A step after the one before, with a deadline of a minute.
pub(super) fn step(name: &str, deed: Deed, after: &[&str]) -> Step {
    let after = after.iter().map(|step| After {
        step: (*step).to_owned(),
        failed: false,
    });
    Step {
        name: name.to_owned(),
        deed,
        after: after.collect(),
        deadline: Duration::from_secs(60),
        may_fail: false,
    }
}

pub(super) fn the_secret() -> Vec<Selection> {
    vec![Selection::Secret {
        name: "${secret}".to_owned(),
    }]
}

pub(super) fn rotating() -> Deed {
    Deed::Rotate {
        secrets: the_secret(),
    }
}

pub(super) fn converging() -> Deed {
    Deed::Wait { span: None }
}

pub(super) fn spec(steps: Vec<Step>) -> Spec {
    let parameter = Parameter {
        name: "secret".to_owned(),
        default: Some("prod/db".to_owned()),
    };
    Spec {
        parameters: vec![parameter],
        steps,
        triggers: Vec::new(),
    }
}

pub(super) fn declare(spec: Spec) -> Command {
    Command::Apply(vec![Declaration::Playbook {
        id: PLAYBOOK,
        name: name(),
        spec,
    }])
}

pub(super) fn start() -> Command {
    start_with(BTreeMap::new())
}

pub(super) fn start_with(arguments: BTreeMap<String, String>) -> Command {
    Command::Playbook(Request::Start {
        run: RUN,
        playbook: name(),
        arguments,
        by: "unix:0".to_owned(),
        reason: "leaked".to_owned(),
        cause: Cause::Person,
    })
}

pub(super) fn advance() -> Command {
    Command::Playbook(Request::Advance { run: RUN })
}

pub(super) fn due(step: &str) -> Command {
    Command::Playbook(Request::Due {
        run: RUN,
        step: step.to_owned(),
    })
}

pub(super) fn of_run(event: Event) -> event::Event {
    event::Event::PlaybookRun(RUN, event)
}

/// As the gateway goes on by itself: until the run has nothing to do now.
pub(super) fn settled(mut given: Given) -> Given {
    for _ in 0..100 {
        let Some(next) = next_run(given.world()).map(|run| run.id) else {
            return given;
        };
        given = given.and(Command::Playbook(Request::Advance { run: next }));
    }
    panic!("a run never comes to rest");
}

/// A playbook over a secret whose version 1 serves, and a run of it.
pub(super) fn running(steps: Vec<Step>) -> Given {
    Given::serving().and(declare(spec(steps))).and(start())
}

pub(super) fn progress(given: &Given, step: &str) -> Progress {
    given.world().runs[&RUN].step(step).unwrap().progress
}

pub(super) fn outcome(given: &Given) -> Option<Outcome> {
    given.world().runs[&RUN].outcome
}

fn rotation_of(given: &Given) -> RotationId {
    given.world().open_rotation(SECRET).unwrap().id
}

/// The rotation is through: promoted, acknowledged, the old version dead.
fn rotated(given: Given) -> Given {
    let rotation = rotation_of(&given);
    given
        .finished(rotation)
        .and(Command::Report(report(vec![swapped(1, 2)], &[2])))
        .and(done(rotation, rotation::Step::RevokeOld))
}

#[test]
fn a_run_begins_with_its_steps_and_what_it_was_told() {
    let steps = vec![step("rotate", rotating(), &[])];
    let given = Given::serving().and(declare(spec(steps)));
    let triggered = Event::Triggered {
        playbook: PLAYBOOK,
        name: name(),
        arguments: BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())]),
        steps: vec![step(
            "rotate",
            Deed::Rotate {
                secrets: vec![Selection::Secret {
                    name: "prod/db".to_owned(),
                }],
            },
            &[],
        )],
        by: "unix:0".to_owned(),
        reason: "leaked".to_owned(),
        parent: None,
        depth: 0,
        cause: Cause::Person,
    };
    let given = given.when(start()).then([of_run(triggered)]);
    // Its id again is the same run.
    given.when(start()).then_nothing();
}

#[test]
fn a_step_and_what_it_does_are_one_append() {
    let given = running(vec![step("rotate", rotating(), &[])]);
    let target = Target::Secret {
        secret: SECRET,
        version: None,
    };
    let given = given.when(advance()).then([of_run(Event::StepStarted {
        step: "rotate".to_owned(),
        targets: vec![target],
        until: later(60),
    })]);
    let given = given.and(advance());
    let rotation = rotation_of(&given);
    let acted = Event::Acted {
        step: "rotate".to_owned(),
        place: 0,
        begun: Begun::Rotation { rotation },
    };
    assert_eq!(given.log().last(), Some(&of_run(acted)));
    let given = given.when(advance()).then([of_run(Event::StepCompleted {
        step: "rotate".to_owned(),
        note: None,
    })]);
    let given = given.when(advance()).then([of_run(Event::Completed {
        outcome: Outcome::Completed,
        score: Score {
            targets: 1,
            through: 0,
        },
    })]);
    given.when(advance()).then_nothing();
}

#[test]
fn wherever_it_is_cut_a_run_goes_on_where_it_was_and_does_nothing_twice() {
    let steps = vec![
        step("rotate", rotating(), &[]),
        step("converge", converging(), &["rotate"]),
    ];
    let mut given = running(steps);
    let mut cuts = vec![given.clone()];
    for is_rotated in [false, true] {
        if is_rotated {
            given = rotated(given);
            cuts.push(given.clone());
        }
        while next_run(given.world()).is_some() {
            given = given.and(advance());
            cuts.push(given.clone());
        }
    }
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    for (cut, known) in cuts.iter().enumerate() {
        let again = Given::events(known.log().iter().cloned());
        assert_eq!(again.world(), known.world(), "cut at {cut}");
        let mut again = settled(again.drawn(0x77));
        if again.world().open_rotation(SECRET).is_some() {
            again = settled(rotated(again));
        }
        assert_eq!(outcome(&again), Some(Outcome::Completed), "cut at {cut}");
        let is_act = |event: &&event::Event| {
            matches!(
                event,
                event::Event::PlaybookRun(_, Event::Acted { .. } | Event::ActRefused { .. })
            )
        };
        assert_eq!(again.log().iter().filter(is_act).count(), 1, "cut at {cut}");
        assert_eq!(again.secret().last_version, 2, "cut at {cut}");
    }
}

#[test]
fn a_secret_that_rotates_already_is_waited_for() {
    let steps = vec![step("rotate", rotating(), &[])];
    let given = Given::serving()
        .and(rotate(SECOND))
        .and(declare(spec(steps)))
        .and(start());
    let given = settled(given);
    assert_eq!(progress(&given, "rotate"), Progress::Open);
    let given = settled(rotated(given));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    assert_ne!(rotation_of(&given), SECOND);
}

#[test]
fn a_refused_act_fails_its_step_after_the_others() {
    let given = Given::nothing()
        .and(apply_secret(without_generator()))
        .and(declare(spec(vec![step("rotate", rotating(), &[])])))
        .and(start());
    let given = settled(given);
    assert_eq!(progress(&given, "rotate"), Progress::Failed);
    assert_eq!(outcome(&given), Some(Outcome::Failed));
    let why = given.world().runs[&RUN].steps[0].failure.clone().unwrap();
    assert!(
        why.contains("1 of 1 refused") && why.contains("prod/db"),
        "{why}"
    );
}

/// A secret that makes no value of its own.
fn without_generator() -> crate::secret::Spec {
    crate::secret::Spec {
        generator: None,
        ..generated()
    }
}

#[test]
fn a_deadline_fails_what_is_not_over_and_ends_a_plain_wait() {
    let span = Some(Duration::from_secs(30));
    let steps = vec![
        step("pause", Deed::Wait { span }, &[]),
        step("rotate", rotating(), &["pause"]),
        step("converge", converging(), &["rotate"]),
    ];
    let given = settled(running(steps));
    let early = Rejection::NotDue {
        run: RUN,
        step: "pause".to_owned(),
    };
    given
        .clone()
        .at(later(29))
        .when(due("pause"))
        .then_rejected(early);
    let given = given.at(later(30)).when(due("pause"));
    let given = settled(given.then([of_run(Event::StepCompleted {
        step: "pause".to_owned(),
        note: None,
    })]));
    assert_eq!(progress(&given, "converge"), Progress::Open);
    let given = given
        .at(later(90))
        .when(due("converge"))
        .then([of_run(Event::StepFailed {
            step: "converge".to_owned(),
            reason: "it was not over at its deadline".to_owned(),
        })]);
    let given = settled(given);
    assert_eq!(outcome(&given), Some(Outcome::Failed));
    let late = Rejection::Ended(RUN);
    given.when(due("converge")).then_rejected(late);
}

#[test]
fn a_host_is_evicted_and_all_it_held_is_rotated() {
    let host = || "web-1".to_owned();
    let steps = vec![
        step("evict", Deed::Evict { host: host() }, &[]),
        step(
            "rotate",
            Deed::Rotate {
                secrets: vec![Selection::HeldBy { host: host() }],
            },
            &["evict"],
        ),
    ];
    let given = settled(running(steps));
    assert!(given.world().hosts[&HOST].is_evicted());
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    assert_eq!(given.world().open_rotation(SECRET).unwrap().version, 2);
}

#[test]
fn old_versions_die_and_the_current_one_lives() {
    let revoking = |which| Deed::Revoke {
        secrets: the_secret(),
        which,
    };
    let steps = vec![
        step("rotate", rotating(), &[]),
        step(
            "pause",
            Deed::Wait {
                span: Some(Duration::from_secs(10)),
            },
            &["rotate"],
        ),
        step("revoke", revoking(Which::Old), &["pause"]),
    ];
    let given = settled(running(steps));
    let rotation = rotation_of(&given);
    // Version 2 is current, and nobody acknowledged it yet.
    let given = given.finished(rotation).at(later(10)).and(due("pause"));
    let given = settled(given);
    assert_eq!(given.secret().alive(), vec![2]);
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    // Again there is nothing to revoke, which is no failure.
    let steps = vec![step("revoke", revoking(Which::Old), &[])];
    let given = settled(running(steps));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    assert_eq!(given.secret().alive(), vec![1]);
}
