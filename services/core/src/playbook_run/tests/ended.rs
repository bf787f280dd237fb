//! What ends an order otherwise than by its host's word that it is done, what a step says of it then, and what a lifted
//! quarantine leaves.

use std::collections::BTreeSet;

use super::orders::{
    cut_off_with_variables, cutting_off, failed, orders, restarting, running_on, state, telling,
    telling_holding_nothing, three, told,
};
use super::*;
use crate::binding::{DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, OnRevoke, Reload, Rollout as Policy};
use crate::host::{self, MAX_ORDERS, OrderKind, OrderOutcome, Standing};
use crate::id::ContainerId;
use crate::report::{Fact, HostReport, OrderState, OrderTold, RestartState, RestartWish};
use crate::rollout::Due;
use crate::schedule::RotationPolicy;
use crate::testing::{
    BINDING, FIRST, NOW, REVOCATION, anywhere, apply_binding, binding_name, container, enrol,
    evict, file, item, of_host, revoke, secret_name,
};

fn restart_of_all() -> Vec<Step> {
    vec![step("restart", restarting(), &[])]
}

fn cut_of_all(action: OnRevoke) -> Vec<Step> {
    vec![step("cut", cutting_off(action), &[])]
}

fn lift(n: u8) -> Command {
    Command::Playbook(Request::Lift {
        container: container(n).to_string(),
        by: "unix:1000".to_owned(),
        reason: "looked at".to_owned(),
    })
}

fn lifted(n: u8) -> event::Event {
    of_host(host::Event::QuarantineLifted {
        container: container(n),
        by: "unix:1000".to_owned(),
        reason: "looked at".to_owned(),
    })
}

fn cancel() -> Command {
    Command::Playbook(Request::Intervene {
        run: RUN,
        intervention: Intervention::Cancel,
        by: "unix:0".to_owned(),
        reason: "false alarm".to_owned(),
    })
}

#[test]
fn nothing_that_an_evicted_host_was_to_do_counts_as_done() {
    for steps in [restart_of_all(), cut_of_all(OnRevoke::Stop)] {
        let given = settled(running_on(three(), steps.clone()).and(evict(HOST)));
        assert_eq!(given.world().hosts[&HOST].open_orders(), 0);
        assert_eq!(outcome(&given), Some(Outcome::Failed));
        let why = state(&given).failure.unwrap();
        assert!(
            why.contains("container `web`: its host was evicted"),
            "{why}"
        );
        // Nor what a step would have it do that had begun before.
        let begun = three()
            .and(declare(spec(steps)))
            .and(start())
            .and(advance());
        assert_eq!(state(&begun).targets.len(), 3);
        let given = settled(begun.and(evict(HOST)));
        assert_eq!(outcome(&given), Some(Outcome::Failed));
        let why = state(&given).failure.unwrap();
        assert!(
            why.contains("was evicted and is refused everything"),
            "{why}"
        );
    }
}

#[test]
fn one_that_was_gone_by_then_is_not_among_those_in_quarantine_also_after_a_replay() {
    let given = running_on(three(), cut_of_all(OnRevoke::Disconnect));
    let first = orders(&given)[0].clone();
    let gone = telling(vec![OrderTold {
        container: first.container,
        number: first.number,
        state: OrderState::Gone,
    }]);
    let given = settled(given.and(gone));
    let again = Given::events(given.log().iter().cloned());
    assert_eq!(again.world(), given.world());
    let given = told(given, &OrderState::Done);
    let note = state(&given).note.unwrap();
    assert_eq!(
        note,
        "2 newly in quarantine (disconnect); 1 gone or down before that"
    );
    // That it goes later changes nothing of what was done.
    let steps = vec![
        step("cut", cutting_off(OnRevoke::Disconnect), &[]),
        step(
            "look",
            Deed::Approve {
                count: 1,
                not: Vec::new(),
            },
            &["cut"],
        ),
    ];
    let given = told(running_on(three(), steps), &OrderState::Done);
    let given = told(given, &OrderState::Gone);
    assert!(state(&given).gone.is_empty());
}

/// Container 2 would restart under a rollout of the service in which container 1 restarts by order.
fn waiting_for_room() -> Given {
    let reload = Reload::Restart {
        settle: DEFAULT_SETTLE,
        health_timeout: DEFAULT_HEALTH_TIMEOUT,
        rollout: Some(Policy::default()),
    };
    let given = three().and(apply_binding(anywhere(), file(), reload));
    let given = running_on(given, restart_of_all());
    assert_eq!(orders(&given)[0].container, container(1));
    let wish = RestartWish {
        container: container(2),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        service: String::new(),
        due: vec![Due {
            binding: BINDING,
            secret: SECRET,
            version: 1,
        }],
        state: RestartState::Due,
    };
    let given = settled(given.and(Command::Report(HostReport {
        restarts: vec![wish],
        orders: Some(Vec::new()),
        ..report(Vec::new(), &[1])
    })));
    assert!(!has_leave(&given));
    given
}

fn has_leave(given: &Given) -> bool {
    let member = given.world().rollout_member(HOST, &container(2));
    member.unwrap().has_leave()
}

/// No report need come for that: the host of the order may be away.
#[test]
fn what_waits_for_the_room_of_an_order_gets_it_once_that_is_withdrawn() {
    let late = waiting_for_room().at(later(60)).and(due("restart"));
    assert!(orders(&late).is_empty() && has_leave(&late));
    let cancelled = waiting_for_room().and(cancel());
    assert!(orders(&cancelled).is_empty() && has_leave(&cancelled));
}

#[test]
fn a_step_hears_that_a_quarantine_was_lifted_before_it_was_done() {
    let given = running_on(three(), cut_of_all(OnRevoke::Pause));
    let why = "container `web`: its quarantine was lifted before it was done";
    let answered = of_run(Event::Answered {
        step: "cut".to_owned(),
        place: 1,
        failure: Some(why.to_owned()),
        at: Some(NOW),
    });
    let given = given.when(lift(2)).then([lifted(2), answered]);
    let given = told(given, &OrderState::Done);
    assert_eq!(outcome(&given), Some(Outcome::Failed));
    assert_eq!(state(&given).failure.as_deref(), Some(why));
}

#[test]
fn while_a_revocation_waits_for_a_program_s_end_its_quarantine_is_not_lifted() {
    let given = cut_off_with_variables(OnRevoke::Pause).and(revoke(None));
    let still = host::Rejection::StillInMemory {
        name: "web".to_owned(),
        revocation: REVOCATION,
    };
    given.clone().when(lift(1)).then_rejected(still);
    let stopped = orders(&given);
    let given = settled(given.and(telling_holding_nothing(&stopped)));
    assert!(given.world().revocations[&REVOCATION].waiting.is_empty());
    given.when(lift(1)).then([lifted(1)]);
    // What lies in files is taken away as from any other.
    let given = told(
        running_on(three(), cut_of_all(OnRevoke::Pause)),
        &OrderState::Done,
    );
    given.and(revoke(None)).when(lift(1)).then([lifted(1)]);
}

#[test]
fn one_that_was_cut_off_and_could_not_be_when_it_began_anew_stands_as_failed() {
    let given = running_on(three(), cut_of_all(OnRevoke::Pause));
    let given = told(given, &OrderState::Done);
    let standings = |given: &Given| {
        let all = given.world().hosts[&HOST].quarantines.values();
        let mut all: Vec<Standing> = all.map(|one| one.standing.clone()).collect();
        all.dedup();
        all
    };
    let before = given.log().len();
    let given = told(given, &failed("the engine is away"));
    let away = Standing::Failed("the engine is away".to_owned());
    assert_eq!(standings(&given), [away]);
    let given = told(given, &failed("the engine is away still"));
    assert_eq!(given.log().len(), before + 3);
    let given = told(given, &OrderState::Done);
    assert_eq!(standings(&given), [Standing::Done]);
    assert_eq!(given.log().len(), before + 6);
}

/// A container has version 2, and version 1 beside it in its file.
fn with_the_version_before() -> Given {
    let keeping = crate::secret::Spec {
        rotation: RotationPolicy {
            keep_previous: true,
            ..RotationPolicy::default()
        },
        ..generated()
    };
    let naming = Command::Apply(vec![Declaration::Binding {
        id: BINDING,
        name: binding_name(),
        secret: secret_name(),
        also: BTreeSet::new(),
        selector: anywhere(),
        target: file(),
        reload: Reload::None,
        previous: BTreeSet::from([secret_name()]),
        on_revoke: OnRevoke::Remove,
    }]);
    let made = Given::nothing().and(apply_secret(keeping)).finished(FIRST);
    let first = made.and(enrol(HOST)).and(naming);
    let first = first.and(Command::Report(report(vec![swapped(1, 1)], &[1])));
    let second = first.and(rotate(SECOND)).finished(SECOND);
    second.and(Command::Report(HostReport {
        orders: Some(Vec::new()),
        ..report(vec![swapped(1, 2)], &[2, 1])
    }))
}

#[test]
fn what_lay_beside_the_current_version_in_the_file_of_one_in_quarantine_is_revoked_with_it() {
    let revoke = Deed::Revoke {
        secrets: vec![Selection::Container {
            name: "web".to_owned(),
        }],
        which: Which::Alive,
    };
    let steps = vec![
        step("cut", cutting_off(OnRevoke::Pause), &[]),
        step("revoke", revoke, &["cut"]),
    ];
    let given = running_on(with_the_version_before(), steps);
    assert_eq!(given.secret().alive().len(), 2);
    let given = given.and(Command::Report(HostReport {
        orders: Some(Vec::new()),
        ..report(vec![item(1, Fact::Withdrawn)], &[])
    }));
    assert!(given.world().assignments.is_empty());
    let given = told(given, &OrderState::Done);
    assert!(given.secret().alive().is_empty());
}

#[test]
fn a_stricter_quarantine_takes_the_room_of_the_one_before() {
    let other = |n: usize| ContainerId::parse(&format!("{:064x}", n + 100)).unwrap();
    let held = |container: ContainerId| {
        of_host(host::Event::QuarantineOrdered {
            subject: host::Subject {
                container,
                name: "web".to_owned(),
                image_digest: "sha256:1".to_owned(),
                service: String::new(),
            },
            origin: host::Origin {
                run: RUN,
                step: "earlier".to_owned(),
                place: 0,
            },
            action: OnRevoke::Pause,
            reason: "intruder".to_owned(),
            had: Vec::new(),
        })
    };
    let done = of_host(host::Event::OrderEnded {
        container: container(1),
        order: OrderKind::Quarantine,
        outcome: OrderOutcome::Done,
        at: NOW,
    });
    let known = three().log().to_vec().into_iter();
    let full = known.chain((1..MAX_ORDERS).map(other).map(held));
    let full = full.chain([held(container(1)), done]);
    let given = running_on(Given::events(full), cut_of_all(OnRevoke::Stop));
    assert_eq!(given.world().hosts[&HOST].open_orders(), MAX_ORDERS);
    let own = &given.world().hosts[&HOST].quarantines[&container(1)];
    assert_eq!(own.action, OnRevoke::Stop);
    let acts = state(&given).acts;
    let refused = acts.values().filter(|act| matches!(act, Act::Refused(_)));
    assert_eq!(refused.count(), 2);
}
