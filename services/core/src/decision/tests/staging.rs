//! A cut-over: who has the version before `set`, what is waited for, what dies, and how long the gap was.

use std::time::Duration;

use crate::binding::Reload;
use crate::command::Command;
use crate::effect::Work;
use crate::event::Event;
use crate::id::{HostId, SecretId};
use crate::plan::plan_host;
use crate::report::HostReport;
use crate::rotation::{self, Intervention, Phase, STAGING_DEADLINE, Step};
use crate::secret;
use crate::testing::{
    Given, HOST, NOW, OTHER_HOST, SECOND, SECRET, THIRD, anywhere, apply_admin, apply_binding,
    apply_secret, binding_name, done, drawn, enrol, evict, failed, file, of_rotation, of_secret,
    one_account, opening, reloaded, report, revoke, rotate, swapped,
};

const ADMIN: SecretId = SecretId::from_bytes([0x42; 16]);

/// Consumer 1 on [`HOST`] runs on version 1, which opens an account of one password; whether its injector
/// knows staged versions.
fn serving_with(knows_staged: bool) -> Given {
    let admin = apply_admin(&one_account(), ADMIN, THIRD);
    Given::nothing()
        .and(admin)
        .and(apply_secret(opening(one_account())))
        .finished(crate::testing::FIRST)
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(HostReport {
            knows_staged,
            ..report(vec![reloaded(1, 1)], &[1])
        }))
}

fn serving() -> Given {
    serving_with(true)
}

fn own(event: rotation::Event) -> Event {
    of_rotation(SECOND, event)
}

/// Version 2 is made, and its hosts take it.
fn staging() -> Given {
    serving()
        .and(rotate(SECOND))
        .and(done(SECOND, Step::Create))
}

fn staged_at(host: HostId) -> Command {
    Command::Report(HostReport {
        host,
        staged: vec![(SECRET, 2)],
        ..report(Vec::new(), &[1, 2])
    })
}

fn set_begins(missing: Vec<HostId>) -> [Event; 2] {
    let set = rotation::Event::StepStarted {
        step: Step::Set,
        attempt: 1,
    };
    [rotation::Event::StagingEnded { missing }, set].map(own)
}

fn phase(given: &Given) -> &Phase {
    &given.world().rotations[&SECOND].phase
}

#[test]
fn a_host_with_consumers_has_the_version_under_a_grant_before_the_server_is_told() {
    let given = serving()
        .and(rotate(SECOND))
        .when(done(SECOND, Step::Create))
        .then([
            own(rotation::Event::StepCompleted { step: Step::Create }),
            of_secret(secret::Event::Delivered {
                host: HOST,
                version: 2,
                delivery: drawn(1),
            }),
            own(rotation::Event::StagingStarted {
                hosts: vec![HOST],
                deadline: NOW.plus(STAGING_DEADLINE),
            }),
        ]);
    let plan = plan_host(given.world(), HOST).unwrap();
    assert_eq!(plan.staged.len(), 1);
    assert_eq!(plan.staged[0].grant.version, 2);
    let current = plan.bindings[0].current.unwrap();
    assert_eq!(current.version, 1, "no container is given it");
    let other = plan_host(given.world(), OTHER_HOST).unwrap();
    assert!(other.staged.is_empty(), "it has no consumer");
}

#[test]
fn a_host_says_once_that_it_knows_staged_versions() {
    let says = Command::Report(HostReport {
        knows_staged: true,
        ..report(Vec::new(), &[])
    });
    let known = Event::Host(HOST, crate::host::Event::StagingKnown);
    let given = Given::nothing().and(enrol(HOST));
    let given = given.when(says.clone()).then([known]);
    given.when(says).then_nothing();
}

#[test]
fn a_host_that_does_not_know_staged_versions_is_missing_at_once_and_its_plan_has_none() {
    let completed = own(rotation::Event::StepCompleted { step: Step::Create });
    let after = std::iter::once(completed).chain(set_begins(vec![HOST]));
    let given = serving_with(false)
        .and(rotate(SECOND))
        .when(done(SECOND, Step::Create))
        .then(after);
    let grants = &given.secret().delivered;
    assert!(!grants.contains_key(&(HOST, 2)));
    let given = [Step::Set, Step::Test, Step::Finish]
        .into_iter()
        .fold(given, |given, step| given.and(done(SECOND, step)));
    let plan = plan_host(given.world(), HOST).unwrap();
    assert!(plan.staged.is_empty());
    assert_eq!(plan.bindings[0].current.map(|grant| grant.version), Some(2));
}

#[test]
fn the_server_is_told_when_every_host_has_it_at_hand_and_the_grant_stays_the_same() {
    let fetching = Command::Report(report(Vec::new(), &[1, 2]));
    let given = staging().when(fetching).then_nothing();
    let host_staged = own(rotation::Event::HostStaged { host: HOST });
    let given = given
        .when(staged_at(HOST))
        .then(std::iter::once(host_staged).chain(set_begins(Vec::new())));
    let staged = plan_host(given.world(), HOST).unwrap().staged[0].grant;
    let given = [Step::Set, Step::Test, Step::Finish]
        .into_iter()
        .fold(given, |given, step| given.and(done(SECOND, step)));
    let plan = plan_host(given.world(), HOST).unwrap();
    assert_eq!(
        plan.bindings[0].current,
        Some(staged),
        "nothing is asked for"
    );
    assert!(plan.staged.is_empty());
}

#[test]
fn a_host_that_is_away_holds_nothing_up_after_the_deadline_and_is_on_record() {
    let passed = Command::DeadlinePassed { rotation: SECOND };
    let early = NOW.plus(STAGING_DEADLINE - Duration::from_secs(1));
    staging()
        .at(early)
        .when(passed.clone())
        .then_rejected(rotation::Rejection::NoDeadline(SECOND));
    let given = staging()
        .at(NOW.plus(STAGING_DEADLINE))
        .when(passed.clone())
        .then(set_begins(vec![HOST]));
    given
        .when(passed)
        .then_rejected(rotation::Rejection::NoDeadline(SECOND));
}

#[test]
fn what_an_evicted_host_may_have_at_hand_is_not_promoted() {
    let dead = of_secret(secret::Event::VersionRevoked { version: 2 });
    let back = own(rotation::Event::StepStarted {
        step: Step::RollBack,
        attempt: 1,
    });
    let given = staging().when(evict(HOST)).then_among_others([dead, back]);
    assert!(!given.secret().is_deliverable(2));
    assert_eq!(given.secret().current, Some(1));
    // Whoever was given nothing of it takes nothing along.
    let given = staging().and(evict(OTHER_HOST));
    assert_eq!(phase(&given), &Phase::Staging);
    // Once the server may have it there is only forward.
    let given = staging().and(staged_at(HOST)).and(evict(HOST));
    assert!(given.secret().is_deliverable(2));
}

#[test]
fn a_gap_ends_with_who_is_waited_for_no_more_too() {
    let at = |millis| NOW.plus(Duration::from_millis(millis));
    let given = staging()
        .and(staged_at(HOST))
        .at(at(1_000))
        .and(done(SECOND, Step::Set))
        .and(done(SECOND, Step::Test))
        .and(done(SECOND, Step::Finish))
        .at(at(1_300));
    let force = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Force,
        reason: "it is gone".to_owned(),
    };
    for ends in [force, evict(HOST)] {
        let (since, until) = (at(1_000), at(1_300));
        let measured = own(rotation::Event::GapMeasured { since, until });
        given.clone().when(ends).then_among_others([measured]);
    }
}

#[test]
fn a_host_that_is_given_the_secret_no_more_is_not_waited_for() {
    let name = binding_name();
    let given = staging().and(Command::Unbind { name });
    assert_eq!(phase(&given), &Phase::Staging, "until it says so");
    let released = own(rotation::Event::HostReleased { host: HOST });
    let after = std::iter::once(released).chain(set_begins(Vec::new()));
    let withdrawn = Command::Report(report(Vec::new(), &[]));
    given.when(withdrawn).then_among_others(after);
}

#[test]
fn a_report_of_another_host_or_version_ends_no_wait() {
    let given = staging().and(staged_at(OTHER_HOST));
    assert_eq!(phase(&given), &Phase::Staging);
    let older = Command::Report(HostReport {
        staged: vec![(SECRET, 1), (ADMIN, 2)],
        ..report(Vec::new(), &[1, 2])
    });
    let given = given.and(older);
    assert_eq!(phase(&given), &Phase::Staging);
}

#[test]
fn what_hosts_have_of_a_version_that_is_rolled_back_is_dead_before_that_begins() {
    let back = own(rotation::Event::StepStarted {
        step: Step::RollBack,
        attempt: 1,
    });
    let dead = of_secret(secret::Event::VersionRevoked { version: 2 });
    let abort = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Abort,
        reason: "the wrong day".to_owned(),
    };
    let aborted = staging()
        .when(abort)
        .then_among_others([dead.clone(), back.clone()]);
    let refused =
        (1..rotation::MAX_STEP_ATTEMPTS).fold(staging().and(staged_at(HOST)), |given, attempt| {
            let retry = Command::RetryStep { rotation: SECOND };
            given.and(failed(SECOND, Step::Set, attempt)).and(retry)
        });
    let last = failed(SECOND, Step::Set, rotation::MAX_STEP_ATTEMPTS);
    let refused = refused.when(last).then_among_others([dead, back]);
    for given in [aborted, refused] {
        let plan = plan_host(given.world(), HOST).unwrap();
        assert!(plan.staged.is_empty());
        assert!(!given.secret().is_deliverable(2));
        assert_eq!(plan.bindings[0].current.map(|grant| grant.version), Some(1));
        let destroyed = of_secret(secret::Event::VersionDestroyed { version: 2 });
        let outcome = rotation::Outcome::RolledBack;
        given
            .when(done(SECOND, Step::RollBack))
            .then_among_others([own(rotation::Event::Closed { outcome })])
            .log()
            .iter()
            .find(|event| **event == destroyed)
            .expect("its data key goes, too");
    }
}

#[test]
fn a_revocation_takes_a_staged_version_and_waits_for_its_hosts() {
    let given = staging().and(revoke(Some(2)));
    assert!(!given.world().rotations[&SECOND].is_open());
    let waiting = given.world().revocations.values().next().unwrap();
    assert!(waiting.waiting.contains(&HOST));
    assert!(plan_host(given.world(), HOST).unwrap().staged.is_empty());
}

#[test]
fn the_gap_is_from_the_server_s_answer_to_the_last_consumer() {
    let at = |millis| NOW.plus(Duration::from_millis(millis));
    let since = at(1_000);
    let given = staging()
        .and(staged_at(HOST))
        .at(since)
        .when(done(SECOND, Step::Set))
        .then_among_others([own(rotation::Event::CutOver { at: since })])
        .at(at(1_020))
        .and(done(SECOND, Step::Test))
        .and(done(SECOND, Step::Finish))
        .at(at(1_042));
    let until = at(1_042);
    let given = given
        .when(Command::Report(report(vec![swapped(1, 2)], &[2])))
        .then_among_others([own(rotation::Event::GapMeasured { since, until })]);
    let gap = Some(Duration::from_millis(42));
    assert_eq!(given.world().rotations[&SECOND].gap, gap);
    assert_eq!(given.world().last_gap(SECRET), gap);
}

/// Whether whoever performs this attempt at `set` is told that an earlier one may have been done.
fn is_unclear(given: &Given, attempt: u32) -> bool {
    let rotation = &given.world().rotations[&SECOND];
    let asks = rotation::Event::StepStarted {
        step: Step::Set,
        attempt,
    };
    let effect = rotation::react(given.world(), rotation, &asks).remove(0);
    match effect.work {
        Work::Step(work) => work.resource.unwrap().unclear,
        other @ Work::Revoke(_) => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_that_was_lost_begins_the_gap_and_one_that_says_no_does_not() {
    let lost = Command::StepOutcome {
        rotation: SECOND,
        step: Step::Set,
        attempt: 2,
        failure: Some("the connection is lost".to_owned()),
        is_away: true,
        remote: None,
        sessions: None,
    };
    let retry = Command::RetryStep { rotation: SECOND };
    let given = staging()
        .and(staged_at(HOST))
        .and(failed(SECOND, Step::Set, 1))
        .and(retry.clone());
    assert_eq!(given.world().rotations[&SECOND].cut_over, None);
    assert!(!is_unclear(&given, 2), "it was answered");
    let given = given.at(NOW.plus(Duration::from_secs(9))).and(lost);
    let since = NOW.plus(Duration::from_secs(9));
    let given = given.and(retry).at(NOW.plus(Duration::from_secs(30)));
    let third = Command::StepOutcome {
        rotation: SECOND,
        step: Step::Set,
        attempt: 3,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    };
    assert!(is_unclear(&given, 3), "nobody heard what came of it");
    let given = given.and(third);
    assert_eq!(given.world().rotations[&SECOND].cut_over, Some(since));
}

#[test]
fn a_first_version_and_one_beside_another_are_not_staged() {
    let first = serving();
    let staged = |event: &Event| {
        matches!(
            event,
            Event::Rotation(_, rotation::Event::StagingStarted { .. })
        )
    };
    assert!(!first.log().iter().any(staged));
    let overlapping = Given::distributing();
    assert!(!overlapping.log().iter().any(staged));
    let open = &overlapping.world().rotations[&SECOND];
    assert_eq!((open.cut_over, open.gap), (None, None));
}
