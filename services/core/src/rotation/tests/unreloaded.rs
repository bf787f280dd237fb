//! Whether sessions are waited for, by what the secret says, its strategy, and what its consumers do with a new value:
//! the default where nothing is said.

use std::collections::BTreeSet;

use super::*;
use crate::binding::{DEFAULT_DIRECTORY, OnRevoke, Target};
use crate::command::Declaration;
use crate::decision::{DrainCause, drain_cause};
use crate::id::BindingId;
use crate::name::{BindingName, Directory, FileName};
use crate::report::Item;
use crate::resource::{Kind, Resource, Strategy};
use crate::schedule::{Ack, OnDeadline};
use crate::testing::{apply_admin, binding_name, evict};
use crate::world::World;

const ADMIN: SecretId = SecretId::from_bytes([0x42; 16]);
const OTHER_BINDING: BindingId = BindingId::from_bytes([0x43; 16]);

fn resource(strategy: Strategy) -> Resource {
    let accounts = ["app", "app_b"].into_iter().take(strategy.accounts());
    Resource {
        kind: Kind::Mariadb,
        connection: "mariadb://rotator@db.example:3306".to_owned(),
        accounts: accounts.map(str::to_owned).collect(),
        admin: SecretName::parse("shop/admin").unwrap(),
        strategy,
        ca: None,
    }
}

/// Version 1 is current, and opens accounts by this strategy.
fn opening(strategy: Option<Strategy>, rotation: RotationPolicy) -> Given {
    let known = resource(Strategy::DualPassword);
    let admin = apply_admin(&known, ADMIN, THIRD);
    let spec = Spec {
        rotator: strategy.map(|strategy| Box::new(resource(strategy))),
        rotation,
        ..generated()
    };
    let declared = Given::nothing().and(admin).and(apply_secret(spec));
    declared.finished(FIRST).and(enrol(HOST))
}

fn policy(ack: Option<Ack>) -> RotationPolicy {
    RotationPolicy {
        ack,
        ..RotationPolicy::default()
    }
}

fn command() -> Reload {
    Reload::Command {
        argv: vec!["/bin/reload".to_owned()],
        timeout: Duration::from_secs(1),
    }
}

/// How a container has the value, and whether it shows more than that it has it.
fn forms() -> [(Target, Reload, bool); 5] {
    [
        (file(), Reload::None, false),
        (file(), Reload::Signal(1), true),
        (file(), command(), true),
        (file(), Reload::Label, true),
        (env(), restart(), true),
    ]
}

/// What a container tells once it has done all that it does with a version.
fn through(shows: bool, n: u8, version: u64) -> Item {
    match shows {
        true => reloaded(n, version),
        false => swapped(n, version),
    }
}

fn told(items: Vec<Item>, version: u64) -> Command {
    Command::Report(report(items, &[version]))
}

/// Consumer 1 has the file and no reload, the old password is good until the end, and nothing is said of `ack`.
fn serving_unreloaded() -> Given {
    serving_under(policy(None))
}

fn serving_under(rotation: RotationPolicy) -> Given {
    opening(Some(Strategy::DualPassword), rotation)
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(told(vec![swapped(1, 1)], 1))
}

/// Version 2 is on its way.
fn distributing() -> Given {
    distributing_from(serving_unreloaded())
}

fn distributing_from(serving: Given) -> Given {
    serving.and(rotate(SECOND)).finished(SECOND)
}

/// What asks for sessions.
fn asks() -> event::Event {
    step(Step::Drain, 1)
}

/// What ends the old version at once.
fn dies() -> [event::Event; 2] {
    [revoked(1), step(Step::RevokeOld, 1)]
}

fn answered(sessions: Option<Sessions>) -> Command {
    Command::StepOutcome {
        rotation: SECOND,
        step: Step::Drain,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: None,
        sessions,
    }
}

fn left(left: u64) -> Command {
    answered(Some(Sessions { mark: 7, left }))
}

/// Every cell of the rule, and that what is said beforehand is what comes.
#[test]
fn every_cell_of_the_rule_says_who_waits_and_a_rotation_does_as_it_says() {
    use DrainCause::{Alternating, Asked, Unreloaded};
    let strategies = [
        Some(Strategy::AlternatingUsers),
        Some(Strategy::DualPassword),
        Some(Strategy::SingleUser),
        None,
    ];
    // For each strategy: where the consumer reloads, and where it does not.
    let table = [
        (Some(Ack::Drained), [[Some(Asked); 2]; 4]),
        (Some(Ack::Reloaded), [[None; 2]; 4]),
        (
            None,
            [
                [Some(Alternating); 2],
                [None, Some(Unreloaded)],
                [None; 2],
                [None; 2],
            ],
        ),
    ];
    for (ack, row) in table {
        for (strategy, [reloading, unreloaded]) in strategies.into_iter().zip(row) {
            for (target, reload, shows) in forms() {
                let cell = format!("{ack:?} {strategy:?} {reload:?}");
                let expected = if shows { reloading } else { unreloaded };
                let given = opening(strategy, policy(ack));
                let given = given.and(apply_binding(anywhere(), target, reload));
                let given = given.and(told(vec![through(shows, 1, 1)], 1));
                let foretold = drain_cause(given.world(), given.secret());
                assert_eq!(foretold, expected, "{cell}");
                let given = distributing_from(given).and(told(vec![through(shows, 1, 2)], 2));
                let open = &given.world().rotations[&SECOND];
                assert_eq!(open.is_draining(), expected.is_some(), "{cell}: {open:?}");
                let is_alive = given.secret().is_deliverable(1);
                assert_eq!(is_alive, expected.is_some(), "{cell}");
            }
        }
    }
}

#[test]
fn without_consumers_nobody_s_session_is_waited_for_by_default() {
    let bound = opening(Some(Strategy::DualPassword), policy(None));
    let bound = bound.and(apply_binding(anywhere(), file(), Reload::None));
    assert_eq!(drain_cause(bound.world(), bound.secret()), None);
    let given = distributing_from(bound);
    assert!(given.secret().is_deliverable(1), "its host may hold it");
    given.when(told(Vec::new(), 2)).then_among_others([
        barrier(),
        revoked(1),
        step(Step::RevokeOld, 1),
    ]);
    // Who was refused before it had a value is no consumer.
    let refused = Fact::Refused {
        version: 1,
        reason: "its mount is full".to_owned(),
    };
    let bound = opening(Some(Strategy::DualPassword), policy(None));
    let bound = bound.and(apply_binding(anywhere(), file(), Reload::None));
    let bound = bound.and(told(vec![item(1, refused)], 1));
    assert_eq!(bound.world().assignments[&consumer(1)].holds, 0);
    assert_eq!(drain_cause(bound.world(), bound.secret()), None);
}

#[test]
fn an_old_password_lives_until_the_sessions_of_a_consumer_without_reload_are_gone() {
    let given = distributing().when(told(vec![swapped(1, 2)], 2));
    let given = given.then([moves_to(1, 2), acknowledged(1), barrier(), asks()]);
    let given = given.when(left(1)).then([own(Event::SessionsLeft {
        attempt: 1,
        mark: 7,
        sessions: 1,
        since: NOW,
    })]);
    assert!(given.secret().is_deliverable(1));
    let given = given.and(Command::RetryStep { rotation: SECOND });
    let gone = Command::StepOutcome {
        rotation: SECOND,
        step: Step::Drain,
        attempt: 2,
        failure: None,
        is_away: false,
        remote: None,
        sessions: Some(Sessions { mark: 7, left: 0 }),
    };
    let [first, second] = dies();
    given
        .when(gone)
        .then([completed(Step::Drain), first, second]);
}

#[test]
fn where_the_server_cannot_tell_the_old_password_lives_on_for_a_grace_and_the_acknowledgement_is_not_late()
 {
    let given = distributing().when(told(vec![swapped(1, 2)], 2));
    let given = given.then_among_others([acknowledged(1), asks()]);
    let until = NOW.plus(GRACE);
    let untold = own(Event::SessionsUntold { attempt: 1, until });
    let given = given.when(answered(None)).then([untold]);
    assert!(given.world().rotations[&SECOND].waiting.is_empty());
    given
        .clone()
        .at(later(GRACE.as_secs() - 1))
        .when(deadline(SECOND))
        .then_rejected(Rejection::NoDeadline(SECOND));
    let [first, second] = dies();
    given
        .at(until)
        .when(deadline(SECOND))
        .then([completed(Step::Drain), first, second]);
}

/// Another binding gives container 2 the same value as another file.
fn apply_other(reload: Reload) -> Command {
    Command::Apply(vec![Declaration::Binding {
        id: OTHER_BINDING,
        name: BindingName::parse("other").unwrap(),
        secret: secret_name(),
        also: BTreeSet::new(),
        previous: BTreeSet::new(),
        selector: anywhere(),
        target: Target::File {
            directory: Directory::parse(DEFAULT_DIRECTORY).unwrap(),
            name: FileName::parse("other").unwrap(),
            uid: 1000,
            gid: 1000,
            mode: 0o400,
            template: None,
        },
        reload,
        on_revoke: OnRevoke::Remove,
    }])
}

/// Container 2 is told of it.
fn with_a_told_one(given: Given) -> Given {
    let shown = Fact::Reloaded {
        version: 1,
        at: NOW,
    };
    let told_one = given.and(apply_other(Reload::Signal(1)));
    told_one.and(told(vec![of_told(shown)], 1))
}

fn of_told(fact: Fact) -> Item {
    Item {
        binding: OTHER_BINDING,
        ..item(2, fact)
    }
}

fn told_is_through() -> Item {
    of_told(Fact::Reloaded {
        version: 2,
        at: NOW,
    })
}

#[test]
fn one_consumer_without_reload_is_enough() {
    let given = distributing_from(with_a_told_one(serving_unreloaded()));
    let given = given.and(told(vec![swapped(1, 2)], 2));
    assert!(!given.world().rotations[&SECOND].is_draining());
    // The last acknowledgement is the other one's.
    given
        .when(told(vec![told_is_through()], 2))
        .then_among_others([asks()]);
}

/// Who the consumers are when the last one acknowledges counts, not who they were when it began.
#[test]
fn a_consumer_without_reload_that_is_gone_by_then_is_not_waited_for() {
    let ends: [fn(Given) -> Given; 3] = [
        // It ended before, or in the very report that ends the wait.
        |given| given.and(told(vec![item(1, Fact::Vanished)], 2)),
        |given| given,
        // Its binding gives it to nobody any more.
        |given| {
            given.and(Command::Unbind {
                name: binding_name(),
            })
        },
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let given = distributing_from(with_a_told_one(serving_unreloaded()));
        let given = end(given.and(told(vec![swapped(1, 2)], 2)));
        assert!(given.secret().is_deliverable(1), "{n}");
        let mut last = vec![told_is_through()];
        if n == 1 {
            last.push(item(1, Fact::Vanished));
        }
        given.when(told(last, 2)).then_among_others(dies());
    }
}

#[test]
fn consumers_of_an_evicted_host_have_no_sessions_that_count() {
    let given = opening(Some(Strategy::DualPassword), policy(None))
        .and(enrol(OTHER_HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(told(vec![swapped(1, 1)], 1));
    let given = distributing_from(given);
    let elsewhere = Command::Report(HostReport {
        host: OTHER_HOST,
        ..report(Vec::new(), &[2])
    });
    // It has the new one, and its host still holds the old one.
    let swapped = Command::Report(report(vec![swapped(1, 2)], &[1, 2]));
    let given = given.and(elsewhere).and(swapped);
    assert_eq!(given.world().assignments[&consumer(1)].holds, 2);
    let given = given.when(evict(HOST));
    given.then_among_others([step(Step::RevokeOld, 1)]);
}

#[test]
fn a_consumer_that_came_meanwhile_counts() {
    let told_one = opening(Some(Strategy::DualPassword), policy(None))
        .and(apply_binding(anywhere(), file(), Reload::Signal(1)))
        .and(told(vec![reloaded(1, 1)], 1));
    let given = distributing_from(told_one);
    let came = of_told(Fact::Swapped {
        version: 2,
        at: NOW,
    });
    given
        .and(apply_other(Reload::None))
        .when(told(vec![came, reloaded(1, 2)], 2))
        .then_among_others([asks()]);
}

#[test]
fn the_deadline_s_policy_a_person_and_a_revocation_end_this_wait_like_any() {
    let forces = RotationPolicy {
        on_deadline: OnDeadline::Force,
        ..policy(None)
    };
    let waiting = |rotation| {
        let given = distributing_from(serving_under(rotation));
        given.and(told(vec![swapped(1, 2)], 2)).and(left(2))
    };
    let end = NOW.plus(ACK_DEADLINE);
    let by_policy = waiting(forces).at(end).when(deadline(SECOND));
    by_policy.then_among_others([own(Event::Forced), revoked(1), step(Step::RevokeOld, 1)]);
    let held = waiting(policy(None)).at(end).and(deadline(SECOND));
    assert!(held.world().rotations[&SECOND].is_held_by_sessions());
    assert!(held.secret().is_deliverable(1));
    let force = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Force,
        reason: "ticket 4711".to_owned(),
    };
    held.when(force)
        .then_among_others([own(Event::Forced), revoked(1), step(Step::RevokeOld, 1)]);
    let revoked_one = waiting(policy(None)).when(revoke(Some(1)));
    revoked_one.then_among_others([revoked(1), completed(Step::Drain)]);
}

fn abort() -> Command {
    Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Abort,
        reason: "ticket 4711".to_owned(),
    }
}

#[test]
fn on_its_way_back_a_rotation_waits_only_where_sessions_were_asked_for() {
    let early = distributing().and(abort());
    let back = || told(vec![swapped(1, 1)], 1);
    early
        .when(back())
        .then_among_others([revoked(2), step(Step::RollBack, 1)]);
    let asked = distributing()
        .and(told(vec![swapped(1, 2)], 2))
        .and(left(1));
    let given = asked.and(abort()).when(back());
    let given = given.then_among_others([step(Step::Drain, 2)]);
    assert!(given.secret().is_deliverable(2));
    // Who does not run any more then has no session of the new one.
    let asked = distributing()
        .and(told(vec![swapped(1, 2)], 2))
        .and(left(1));
    let gone = told(vec![item(1, Fact::Vanished)], 1);
    asked
        .and(abort())
        .when(gone)
        .then_among_others([revoked(2), step(Step::RollBack, 1)]);
}

/// The log says what was decided, by whatever rule; folding decides nothing.
#[test]
fn what_was_decided_by_an_older_rule_stands() {
    let before = distributing();
    let older = [moves_to(1, 2), acknowledged(1), barrier()]
        .into_iter()
        .chain(dies());
    let log = before.log().iter().cloned().chain(older);
    let given = Given::events(log.collect::<Vec<_>>());
    assert!(!given.secret().is_deliverable(1));
    let given = given.when(done(SECOND, Step::RevokeOld)).then([
        completed(Step::RevokeOld),
        closed(Outcome::Completed),
        destroyed(1),
    ]);
    // And what the new one decides is folded to the same again.
    let waiting = distributing()
        .and(told(vec![swapped(1, 2)], 2))
        .and(left(1));
    for given in [given, waiting] {
        let mut again = World::default();
        for (number, event) in (1..).zip(given.log()) {
            again.apply(number, event);
        }
        assert_eq!(again, *given.world());
    }
}
