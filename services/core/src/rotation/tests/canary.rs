//! Canaries: who has a version before it is promoted, what is waited for, and that everybody is back before it dies.

use super::*;
use crate::binding::Rollout as Policy;
use crate::decision::scope::{Hit, struck};
use crate::id::HostId;
use crate::plan::{HostPlan, plan_host};
use crate::report::{Item, RestartState, RestartWish};
use crate::rollout::{self, Due, Instance, Service};
use crate::schedule::{CANARY_WATCH, Canary};
use crate::testing::{BINDING, container, evict};

const LATER: Duration = CANARY_WATCH;

fn spec(consumers: u32) -> Spec {
    let canary = Canary {
        consumers,
        watch: CANARY_WATCH,
    };
    Spec {
        rotation: RotationPolicy {
            canary: Some(canary),
            ..RotationPolicy::default()
        },
        ..generated()
    }
}

/// What a host says whose injector takes versions ahead of their promotion.
fn says(host: HostId, items: Vec<Item>, holds: &[u64]) -> Command {
    Command::Report(HostReport {
        host,
        knows_staged: true,
        ..report(items, holds)
    })
}

fn told(items: Vec<Item>, holds: &[u64]) -> Command {
    says(HOST, items, holds)
}

/// Containers 1 and 2 on [`HOST`] run on version 1, of a secret with so many canaries.
fn serving_as(consumers: u32, reload: Reload) -> Given {
    Given::nothing()
        .and(apply_secret(spec(consumers)))
        .finished(FIRST)
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), reload))
        .and(told(vec![reloaded(1, 1), reloaded(2, 1)], &[1]))
}

fn serving() -> Given {
    serving_as(1, Reload::None)
}

fn made(given: Given) -> Given {
    [Step::Create, Step::Set]
        .into_iter()
        .fold(given.and(rotate(SECOND)), |given, step| {
            given.and(done(SECOND, step))
        })
}

/// Container 1 is to run on version 2, and did not show it.
fn begun() -> Given {
    made(serving()).and(done(SECOND, Step::Test))
}

/// Container 1 runs on version 2, and is watched.
fn watched() -> Given {
    begun().and(told(vec![swapped(1, 2)], &[1, 2]))
}

/// Container 1 did not take version 2, and goes back.
fn refused() -> Given {
    watched().and(told(vec![item(1, no())], &[1, 2]))
}

fn no() -> Fact {
    Fact::Refused {
        version: 2,
        reason: "no room".to_owned(),
    }
}

fn skipped(given: &Given) -> Option<&str> {
    given.log().iter().rev().find_map(|event| match event {
        event::Event::Rotation(id, Event::CanarySkipped { reason }) if *id == SECOND => {
            Some(reason.as_str())
        }
        _ => None,
    })
}

fn turned_back(consumers: Vec<assignment::Key>, hosts: Vec<HostId>) -> event::Event {
    own(Event::TurnedBack {
        version: 1,
        consumers,
        hosts,
        deadline: NOW.plus(ACK_DEADLINE),
    })
}

fn plan(given: &Given) -> HostPlan {
    plan_host(given.world(), HOST).unwrap()
}

fn open(given: &Given) -> &Rotation {
    &given.world().rotations[&SECOND]
}

#[test]
fn one_consumer_gets_the_version_before_it_is_promoted_and_all_others_keep_theirs() {
    let given = made(serving()).when(done(SECOND, Step::Test)).then([
        completed(Step::Test),
        of_secret(secret::Event::Delivered {
            host: HOST,
            version: 2,
            delivery: drawn(1),
        }),
        of_consumer(1, assigned(2)),
        own(Event::CanaryStarted {
            consumers: vec![consumer(1)],
            hosts: vec![HOST],
            deadline: NOW.plus(ACK_DEADLINE),
        }),
    ]);
    let planned = plan(&given);
    assert_eq!(planned.bindings[0].current.unwrap().version, 1);
    assert_eq!(planned.staged.len(), 1);
    assert_eq!(planned.staged[0].grant.version, 2);
    assert_eq!(planned.staged[0].canaries, [container(1)]);
}

#[test]
fn it_is_promoted_when_the_canary_acknowledged_and_ran_well_for_long_enough() {
    let until = NOW.plus(LATER);
    let given = begun().when(told(vec![swapped(1, 2)], &[1, 2])).then([
        moves_to(1, 2),
        acknowledged(1),
        own(Event::CanaryWatched { until }),
    ]);
    let early = given.clone().when(deadline(SECOND));
    early.then_rejected(Rejection::NoDeadline(SECOND));
    let given = given.at(until).when(deadline(SECOND));
    let given = given.then([own(Event::CanaryPassed), step(Step::Finish, 1)]);
    let again = given.clone().when(deadline(SECOND));
    again.then_rejected(Rejection::NoDeadline(SECOND));
    let given = given.when(done(SECOND, Step::Finish)).then_among_others([
        of_consumer(2, assigned(2)),
        own(Event::DistributionStarted {
            consumers: vec![consumer(1), consumer(2)],
            hosts: vec![HOST],
            old: vec![1],
            deadline: until.plus(ACK_DEADLINE),
        }),
    ]);
    assert!(!open(&given).has_canaries());
    let all = told(vec![swapped(2, 2)], &[2]);
    given.when(all).then_among_others([
        acknowledged(1),
        acknowledged(2),
        barrier(),
        revoked(1),
        step(Step::RevokeOld, 1),
    ]);
}

#[test]
fn a_canary_that_does_not_take_it_goes_back_and_only_then_the_version_dies() {
    let reason = "no room".to_owned();
    let given = watched().when(told(vec![item(1, no())], &[1, 2])).then([
        of_consumer(
            1,
            assignment::Event::Refused {
                version: 2,
                reason: reason.clone(),
            },
        ),
        own(Event::Halted {
            consumer: consumer(1),
            reason,
        }),
        of_consumer(1, assigned(1)),
        turned_back(vec![consumer(1)], vec![HOST]),
    ]);
    let planned = plan(&given);
    assert!(planned.staged.is_empty(), "no host keeps it");
    assert!(given.secret().is_deliverable(2), "the canary needs it yet");
    let given = given.when(told(Vec::new(), &[1, 2])).then_nothing();
    // In its file it is not any more, in the host's cache it still is.
    let moved = told(vec![swapped(1, 1)], &[1, 2]);
    let given = given.when(moved).then([moves_to(1, 1), acknowledged(1)]);
    let given =
        given
            .when(told(Vec::new(), &[1]))
            .then([barrier(), revoked(2), step(Step::RollBack, 1)]);
    let given = given.when(done(SECOND, Step::RollBack)).then([
        completed(Step::RollBack),
        closed(Outcome::RolledBack),
        destroyed(2),
    ]);
    assert_eq!(given.secret().alive(), [1]);
    assert_eq!(given.secret().pending, None);
    let _next = given.and(rotate(THIRD));
}

#[test]
fn a_canary_that_ends_while_it_is_alone_turns_the_rotation_back() {
    for fact in [Fact::Vanished, Fact::Withdrawn] {
        for given in [begun(), watched()] {
            let gone = told(vec![item(1, fact.clone())], &[1, 2]);
            let given = given.when(gone);
            let given = given.then_among_others([turned_back(Vec::new(), vec![HOST])]);
            assert!(open(&given).halted.is_some());
            given.when(told(Vec::new(), &[1])).then([
                barrier(),
                revoked(2),
                step(Step::RollBack, 1),
            ]);
        }
    }
}

#[test]
fn a_canary_that_crashes_and_restarts_keeps_the_version_and_nobody_else_gets_it() {
    // What its host was told before it was a canary is late, and takes nothing back.
    let late = told(vec![swapped(1, 1)], &[1]);
    let given = begun().when(late).then_nothing();
    let crashed = vec![item(1, Fact::Vanished), swapped(1, 2)];
    let given = given.when(told(crashed, &[1, 2])).then([
        of_consumer(1, assignment::Event::Vanished),
        of_consumer(1, assigned(2)),
        moves_to(1, 2),
        acknowledged(1),
        own(Event::CanaryWatched {
            until: NOW.plus(LATER),
        }),
    ]);
    assert_eq!(plan(&given).staged[0].canaries, [container(1)]);
    let started = told(vec![swapped(3, 1)], &[1, 2]);
    let given = given.and(started);
    assert_eq!(given.world().assignments[&consumer(3)].assigned, 1);
}

#[test]
fn a_start_with_the_version_that_is_told_of_after_the_way_back_began_is_waited_for() {
    let given = watched().and(told(vec![item(1, Fact::Vanished)], &[1, 2]));
    let started = told(vec![swapped(1, 2)], &[2]);
    let given = given
        .when(started)
        .then([of_consumer(1, assigned(2)), moves_to(1, 2)]);
    let given = given.when(told(vec![swapped(1, 1)], &[1]));
    given.then([
        of_consumer(1, assigned(1)),
        moves_to(1, 1),
        barrier(),
        revoked(2),
        step(Step::RollBack, 1),
    ]);
}

#[test]
fn a_canary_that_does_not_show_it_in_time_goes_back() {
    let at = NOW.plus(ACK_DEADLINE);
    let given = begun().at(at).when(deadline(SECOND)).then([
        own(Event::DeadlinePassed),
        own(Event::Halted {
            consumer: consumer(1),
            reason: "it did not show in time that it runs on it: new value not in place yet"
                .to_owned(),
        }),
        of_consumer(1, assigned(1)),
        own(Event::TurnedBack {
            version: 1,
            // It never left it.
            consumers: Vec::new(),
            hosts: vec![HOST],
            deadline: at.plus(ACK_DEADLINE),
        }),
    ]);
    given
        .when(told(Vec::new(), &[1]))
        .then_among_others([revoked(2), step(Step::RollBack, 1)]);
}

#[test]
fn beyond_its_time_the_way_back_stays_open_until_it_is_over_or_a_person_ends_it() {
    let late = NOW.plus(ACK_DEADLINE);
    let given = refused().at(late).when(deadline(SECOND)).then([
        own(Event::DeadlinePassed),
        own(Event::StragglersNamed {
            consumers: vec![lacking(1)],
            hosts: vec![HOST],
        }),
    ]);
    assert!(open(&given).is_held_by_canaries());
    let again = given.clone().when(deadline(SECOND));
    again.then_rejected(Rejection::NoDeadline(SECOND));
    let force = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Force,
        reason: "gone for good".to_owned(),
    };
    given.clone().when(force).then_among_others([
        own(Event::Forced),
        revoked(2),
        step(Step::RollBack, 1),
    ]);
    given
        .when(told(vec![swapped(1, 1)], &[1]))
        .then_among_others([barrier(), revoked(2), step(Step::RollBack, 1)]);
}

#[test]
fn a_person_may_give_it_up_meanwhile() {
    let abort = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Abort,
        reason: "not today".to_owned(),
    };
    let force = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Force,
        reason: "now".to_owned(),
    };
    let forced = watched().when(force);
    forced.then_rejected(Rejection::CanariesAhead(SECOND));
    let given = watched().when(abort.clone());
    let given = given.then_among_others([
        of_consumer(1, assigned(1)),
        turned_back(vec![consumer(1)], vec![HOST]),
    ]);
    let twice = given.when(abort);
    twice.then_rejected(Rejection::NothingToAbort {
        rotation: SECOND,
        secret: secret_name(),
        state: "goes back to the version before already",
    });
}

#[test]
fn a_promotion_that_fails_for_good_lets_canaries_go_back_first() {
    let given = watched().at(NOW.plus(LATER)).and(deadline(SECOND));
    let given = before_the_last_attempt(given, Step::Finish);
    let given = given.when(failed(SECOND, Step::Finish, MAX_STEP_ATTEMPTS));
    let given = given.then_among_others([
        step_failed(Step::Finish, MAX_STEP_ATTEMPTS),
        of_consumer(1, assigned(1)),
    ]);
    assert!(open(&given).is_canary_return());
    assert!(given.secret().is_deliverable(2));
    given
        .when(told(vec![swapped(1, 1)], &[1]))
        .then_among_others([barrier(), revoked(2), step(Step::RollBack, 1)]);
}

#[test]
fn a_revocation_of_the_version_ends_all_of_it() {
    let given = watched().when(revoke(Some(2)));
    let given = given.then_among_others([revoked(2), closed(Outcome::Cancelled)]);
    let planned = plan(&given);
    assert!(planned.staged.is_empty() && planned.bindings[0].dead.contains(&2));
    // Its containers have the version before again.
    let given = given.and(told(vec![swapped(1, 1)], &[1]));
    assert_eq!(given.world().assignments[&consumer(1)].assigned, 1);
}

#[test]
fn a_revocation_of_the_version_before_promotes_the_new_one_at_once() {
    let given = begun().when(revoke(Some(1)));
    let given = given.then_among_others([revoked(1), step(Step::Finish, 1)]);
    assert!(skipped(&given).is_some());
    assert!(open(&given).waiting.is_empty());
    assert_eq!(plan(&given).staged[0].canaries, [container(1)]);
    // There is nothing to go back to: it is tried until it is promoted.
    let given = before_the_last_attempt(given, Step::Finish);
    let given = given
        .when(failed(SECOND, Step::Finish, MAX_STEP_ATTEMPTS))
        .then([step_failed(Step::Finish, MAX_STEP_ATTEMPTS)]);
    assert!(given.secret().is_deliverable(2));
}

#[test]
fn a_revocation_of_what_canaries_go_back_to_takes_both() {
    let turned = refused();
    let hit = Hit {
        secret: turned.secret().id,
        versions: vec![1],
        is_whole: false,
    };
    let (dying, cancelled) = struck(turned.world(), &hit);
    assert_eq!(
        (dying, cancelled.map(|open| open.id)),
        (vec![1, 2], Some(SECOND))
    );
    let going_on = begun();
    let (dying, cancelled) = struck(going_on.world(), &hit);
    assert_eq!((dying, cancelled), (vec![1], None));

    let given = turned.when(revoke(Some(1)));
    let given = given.then_among_others([revoked(1), revoked(2), closed(Outcome::Cancelled)]);
    assert_eq!(given.secret().pending, None);
    let _next = given.and(rotate(THIRD));
}

#[test]
fn the_host_of_a_canary_is_evicted_and_those_on_others_go_back_first() {
    let given = watched().when(evict(HOST));
    let given = given.then_among_others([
        turned_back(Vec::new(), Vec::new()),
        revoked(2),
        step(Step::RollBack, 1),
    ]);
    assert!(open(&given).halted.is_some());

    let given = serving_as(3, Reload::None).and(enrol(OTHER_HOST));
    let other = says(OTHER_HOST, vec![reloaded(3, 1)], &[1]);
    let given = made(given.and(other)).and(done(SECOND, Step::Test));
    assert_eq!(open(&given).canaries.len(), 3);
    let elsewhere = assignment::Key {
        host: OTHER_HOST,
        ..consumer(3)
    };
    let given = given.and(says(OTHER_HOST, vec![swapped(3, 2)], &[1, 2]));
    let given = given.when(evict(HOST));
    let given = given.then_among_others([turned_back(vec![elsewhere], vec![OTHER_HOST])]);
    assert!(given.secret().is_deliverable(2), "a canary needs it yet");
    given
        .when(says(OTHER_HOST, vec![swapped(3, 1)], &[1]))
        .then_among_others([revoked(2), step(Step::RollBack, 1)]);
}

#[test]
fn without_a_consumer_that_can_be_one_it_goes_on_and_says_so() {
    let unserved = Given::nothing()
        .and(apply_secret(spec(1)))
        .finished(FIRST)
        .and(enrol(HOST));
    // Its injector never said that it takes versions ahead of their promotion.
    let unknowing = unserved
        .clone()
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(report(vec![reloaded(1, 1)], &[1])));
    let unwell = serving_as(1, Reload::Signal(1))
        .and(told(vec![item(1, Fact::Vanished)], &[1]))
        .and(told(vec![item(2, Fact::Vanished)], &[1]))
        .and(told(vec![swapped(3, 1)], &[1]));
    let mut seen = Vec::new();
    for given in [unserved, unknowing, unwell] {
        let given = made(given).and(done(SECOND, Step::Test));
        seen.push(skipped(&given).unwrap().to_owned());
        let step = Step::Finish;
        assert_eq!(open(&given).phase, Phase::Performing { step, attempt: 1 });
        assert_eq!(
            given
                .secret()
                .delivered
                .keys()
                .filter(|at| at.1 == 2)
                .count(),
            0
        );
    }
    assert!(
        seen[0].starts_with("no container has the version before"),
        "{seen:?}"
    );
    assert!(
        seen[1].starts_with("no container is known to run well"),
        "{seen:?}"
    );
    assert_eq!(seen[1], seen[2]);
}

#[test]
fn as_many_containers_as_are_asked_for_are_chosen_in_a_fixed_order() {
    for (asked, chosen) in [(1, 1), (2, 2), (9, 2)] {
        let given = made(serving_as(asked, Reload::None)).and(done(SECOND, Step::Test));
        let wanted: std::collections::BTreeSet<_> = (1..=chosen).map(consumer).collect();
        assert_eq!(open(&given).canaries, wanted);
    }
}

fn rolling() -> Reload {
    Reload::Restart {
        settle: crate::binding::DEFAULT_SETTLE,
        health_timeout: crate::binding::DEFAULT_HEALTH_TIMEOUT,
        rollout: Some(Policy::default()),
    }
}

/// What the host says of a container that restarts with a version under a rollout, or is to.
fn asks(n: u8, version: u64, state: RestartState, holds: &[u64]) -> Command {
    Command::Report(HostReport {
        knows_staged: true,
        restarts: vec![RestartWish {
            container: container(n),
            container_name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            service: String::new(),
            due: vec![Due {
                binding: BINDING,
                secret: SECRET,
                version,
            }],
            state,
        }],
        ..report(Vec::new(), holds)
    })
}

#[test]
fn a_canary_restarts_with_leave_and_a_failed_restart_turns_the_rotation_back() {
    let wish = |state| asks(1, 2, state, &[1, 2]);
    let given = made(serving_as(1, rolling())).and(done(SECOND, Step::Test));
    let leave = rollout::Event::LeaveGiven {
        instance: Instance {
            host: HOST,
            container: container(1),
        },
        not_before: None,
    };
    let service = Service::of("sha256:1", "");
    let given = given
        .when(wish(RestartState::Due))
        .then_among_others([event::Event::Rollout(service, leave)]);
    let reason = "its health check fails".to_owned();
    let broken = wish(RestartState::Failed {
        reason: reason.clone(),
    });
    let given = given.when(broken).then_among_others([
        own(Event::Halted {
            consumer: consumer(1),
            reason,
        }),
        of_consumer(1, assigned(1)),
    ]);
    assert!(open(&given).is_canary_return());
    assert_eq!(open(&given).wanted(), 1);
    // It is down, and may begin with what its host held when it asked.
    let up = asks(1, 1, RestartState::Due, &[1]);
    let given = given.when(up).then_among_others([barrier()]);
    assert!(given.secret().is_deliverable(2), "it is not up yet");
    let up = told(Vec::new(), &[1]);
    let given = given.when(up);
    given.then_among_others([revoked(2), step(Step::RollBack, 1)]);
}

#[test]
fn a_way_back_waits_for_no_restart_of_who_never_had_the_version() {
    let other = || asks(2, 1, RestartState::Due, &[1]);
    let given = made(serving_as(1, rolling()).and(other())).and(done(SECOND, Step::Test));
    let member = given.world().rollout_member(HOST, &container(2));
    assert!(member.is_some_and(rollout::Member::has_leave));
    let wanted: std::collections::BTreeSet<_> = [consumer(1)].into();
    assert_eq!(open(&given).canaries, wanted);
    let abort = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Abort,
        reason: "not today".to_owned(),
    };
    let given = given.and(abort);
    given
        .when(other())
        .then_among_others([barrier(), revoked(2), step(Step::RollBack, 1)]);
}

#[test]
fn a_canary_that_began_anew_and_did_not_show_again_that_it_runs_well_goes_back_at_the_end() {
    let begun = made(serving_as(1, Reload::Signal(1))).and(done(SECOND, Step::Test));
    let given = begun.and(told(vec![swapped(1, 2), reloaded(1, 2)], &[1, 2]));
    assert!(open(&given).waiting.is_empty());
    let until = NOW.plus(LATER);
    let anew = vec![item(1, Fact::Vanished), swapped(1, 2)];
    let given = given.and(told(anew, &[1, 2]));
    let reason =
        "it did not show in time that it runs on it: has the new value, reload not confirmed yet";
    let late = given.clone().at(until).when(deadline(SECOND));
    let late = late.then_among_others([
        own(Event::DeadlinePassed),
        own(Event::Halted {
            consumer: consumer(1),
            reason: reason.to_owned(),
        }),
        of_consumer(1, assigned(1)),
    ]);
    assert!(open(&late).is_canary_return());
    let shown = given.and(told(vec![reloaded(1, 2)], &[1, 2])).at(until);
    let shown = shown.when(deadline(SECOND));
    shown.then([own(Event::CanaryPassed), step(Step::Finish, 1)]);
}
