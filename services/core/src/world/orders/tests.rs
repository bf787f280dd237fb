//! Hosts whose plans say from now on that a container in quarantine is stopped: those of which one has in a variable what
//! dies, and nobody else.

use std::collections::BTreeSet;

use crate::binding::OnRevoke;
use crate::command::Command;
use crate::event::Event;
use crate::host::{self, Had, OrderKind, OrderOutcome, Origin, Subject};
use crate::id::{HostId, RunId, SecretId};
use crate::plan::{Task, plan_host};
use crate::report::HostReport;
use crate::secret;
use crate::testing::{
    Given, HOST, NOW, OTHER_HOST, SECOND, SECRET, container, enrol, evict, of_secret, report,
};

const OTHER_SECRET: SecretId = SecretId::from_bytes([0x41; 16]);
const DIES: secret::Event = secret::Event::VersionRevoked { version: 1 };

/// Two hosts, and a secret that no binding gives to any.
fn unbound(events: &[Event]) -> Given {
    let knows_orders = Command::Report(HostReport {
        orders: Some(Vec::new()),
        ..report(Vec::new(), &[])
    });
    let given = Given::first_version()
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST))
        .and(knows_orders);
    Given::events(given.log().iter().chain(events).cloned())
}

fn had(secret: SecretId, version: u64, in_variable: bool) -> Had {
    Had {
        secret,
        version,
        in_variable,
    }
}

/// It has version 1 in a variable.
fn in_variable() -> Had {
    had(SECRET, 1, true)
}

fn ordered(host: HostId, n: u8, action: OnRevoke, had: &[Had]) -> Event {
    let quarantine = host::Event::QuarantineOrdered {
        subject: Subject {
            container: container(n),
            name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            service: String::new(),
        },
        origin: Origin {
            run: RunId::from_bytes([0x21; 16]),
            step: "cut".to_owned(),
            place: 0,
        },
        action,
        reason: "leaked".to_owned(),
        had: had.to_vec(),
    };
    Event::Host(host, quarantine)
}

fn ended(host: HostId, n: u8, outcome: OrderOutcome) -> Event {
    let ended = host::Event::OrderEnded {
        container: container(n),
        order: OrderKind::Quarantine,
        outcome,
        at: NOW,
    };
    Event::Host(host, ended)
}

fn lifted(n: u8) -> Event {
    let lifted = host::Event::QuarantineLifted {
        container: container(n),
        by: "unix:1000".to_owned(),
        reason: "looked at".to_owned(),
    };
    Event::Host(HOST, lifted)
}

fn to_stop(given: &Given, event: &secret::Event) -> BTreeSet<HostId> {
    let hosts = given.world().hosts_to_stop(SECRET, event);
    hosts.into_iter().collect()
}

#[test]
fn a_death_changes_the_plan_of_a_host_to_which_no_binding_gives_the_version() {
    for (had, action, is_changed) in [
        (in_variable(), OnRevoke::Stop, true),
        (had(SECRET, 1, false), OnRevoke::Pause, false),
    ] {
        let given = unbound(&[ordered(HOST, 1, OnRevoke::Pause, &[had])]);
        let generations =
            |given: &Given| [HOST, OTHER_HOST].map(|host| given.world().host_generation(host));
        let before = generations(&given);
        // That event alone: the revocation's own may change plans for other reasons.
        let after = Given::events(given.log().iter().cloned().chain([of_secret(DIES)]));
        let [own, other] = generations(&after);
        assert_eq!(own > before[0], is_changed, "{had:?}");
        assert_eq!(other, before[1], "{had:?}");
        let orders = plan_host(after.world(), HOST).unwrap().orders;
        assert_eq!(orders[0].task, Task::Quarantine { action }, "{had:?}");
    }
}

#[test]
fn a_host_is_meant_while_one_of_its_containers_may_have_in_a_variable_what_dies() {
    let ordered = |action, had: &[Had]| ordered(HOST, 1, action, had);
    let ended = |outcome| ended(HOST, 1, outcome);
    let failed = || OrderOutcome::Failed {
        reason: "the engine does not answer".to_owned(),
    };
    let paused = || ordered(OnRevoke::Pause, &[in_variable()]);
    let stopped = || ordered(OnRevoke::Stop, &[in_variable()]);
    let beside = [
        had(SECRET, 1, false),
        had(OTHER_SECRET, 1, true),
        in_variable(),
    ];
    for (events, is_meant) in [
        (vec![paused()], true),
        (vec![paused(), ended(OrderOutcome::Done)], true),
        (vec![paused(), ended(failed())], true),
        (vec![stopped()], true),
        (vec![stopped(), ended(failed())], true),
        (vec![ordered(OnRevoke::Disconnect, &beside)], true),
        // Its program has ended, and what it had with it.
        (vec![stopped(), ended(OrderOutcome::Done)], false),
        (vec![paused(), ended(OrderOutcome::Gone)], false),
        (vec![paused(), lifted(1)], false),
        (vec![ordered(OnRevoke::Pause, &beside[..2])], false),
        (
            vec![ordered(OnRevoke::Pause, &[had(SECRET, 2, true)])],
            false,
        ),
        (vec![ordered(OnRevoke::Pause, &[])], false),
        (Vec::new(), false),
    ] {
        let found = to_stop(&unbound(&events), &DIES);
        let wanted: BTreeSet<HostId> = is_meant.then_some(HOST).into_iter().collect();
        assert_eq!(found, wanted, "{events:?}");
    }
}

#[test]
fn of_several_hosts_each_is_meant_by_its_own_containers_until_it_is_evicted() {
    let pause = |host, n, had| ordered(host, n, OnRevoke::Pause, &[had]);
    let given = unbound(&[
        pause(HOST, 1, in_variable()),
        pause(HOST, 2, in_variable()),
        pause(OTHER_HOST, 1, in_variable()),
    ]);
    assert_eq!(to_stop(&given, &DIES), BTreeSet::from([HOST, OTHER_HOST]));
    // One of two is lifted: the other one has it still.
    let one_left = Given::events(given.log().iter().cloned().chain([lifted(1)]));
    assert_eq!(
        to_stop(&one_left, &DIES),
        BTreeSet::from([HOST, OTHER_HOST])
    );
    let evicted = given.and(evict(OTHER_HOST));
    assert_eq!(to_stop(&evicted, &DIES), BTreeSet::from([HOST]));
}

#[test]
fn nothing_but_a_death_stops_anybody() {
    let given = unbound(&[ordered(HOST, 1, OnRevoke::Pause, &[in_variable()])]);
    for event in [
        secret::Event::VersionPromoted { version: 1 },
        secret::Event::VersionDestroyed { version: 1 },
        secret::Event::VersionStaged {
            version: 1,
            rotation: SECOND,
        },
    ] {
        assert_eq!(to_stop(&given, &event), BTreeSet::new(), "{event:?}");
    }
    assert_eq!(to_stop(&given, &DIES), BTreeSet::from([HOST]));
}
