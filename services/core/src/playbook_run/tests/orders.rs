//! Steps that restart containers or put them into quarantine: what they order, what hosts tell of that, and what ends
//! an order.

use super::*;
use crate::binding::{OnRevoke, Reload, Rollout as Policy};
use crate::host::{self, MAX_ORDERS, OrderKind, OrderOutcome, Standing};
use crate::plan::{Order, Task, plan_host};
use crate::report::{Fact, HostReport, OrderState, OrderTold, RestartState, RestartWish};
use crate::revocation;
use crate::rollout::{Due, Service};
use crate::testing::{
    BINDING, REVOCATION, anywhere, apply_binding, container, env, evict, file, item, of_host,
    of_revocation, reloaded, restart, revoke,
};

fn consumers() -> Vec<Selection> {
    the_secret()
}

pub(super) fn restarting() -> Deed {
    Deed::Restart {
        containers: consumers(),
    }
}

pub(super) fn cutting_off(action: OnRevoke) -> Deed {
    Deed::Quarantine {
        containers: consumers(),
        action,
    }
}

pub(super) fn telling(orders: Vec<OrderTold>) -> Command {
    Command::Report(HostReport {
        orders: Some(orders),
        ..report(Vec::new(), &[1])
    })
}

/// Three containers of one image run on version 1, on a host that takes orders.
pub(super) fn three() -> Given {
    let all = (1..4).map(|n| reloaded(n, 1)).collect();
    Given::serving().and(Command::Report(HostReport {
        orders: Some(Vec::new()),
        ..report(all, &[1])
    }))
}

pub(super) fn running_on(given: Given, steps: Vec<Step>) -> Given {
    settled(given.and(declare(spec(steps))).and(start()))
}

pub(super) fn orders(given: &Given) -> Vec<Order> {
    plan_host(given.world(), HOST).unwrap().orders
}

/// Which containers have an order.
fn ordered(given: &Given) -> Vec<crate::id::ContainerId> {
    let orders = orders(given).into_iter();
    orders.map(|order| order.container).collect()
}

/// The host tells the same of every order that it has.
pub(super) fn told(given: Given, state: &OrderState) -> Given {
    let told = orders(&given).into_iter().map(|order| OrderTold {
        container: order.container,
        number: order.number,
        state: state.clone(),
    });
    let told = telling(told.collect());
    settled(given.and(told))
}

pub(super) fn failed(reason: &str) -> OrderState {
    OrderState::Failed {
        reason: reason.to_owned(),
    }
}

pub(super) fn state(given: &Given) -> StepState {
    given.world().runs[&RUN].steps[0].clone()
}

#[test]
fn restarts_come_one_after_the_other_and_each_once_the_one_before_runs_well() {
    let mut given = running_on(three(), vec![step("restart", restarting(), &[])]);
    for n in 1..4 {
        assert_eq!(ordered(&given), [container(n)]);
        assert_eq!(progress(&given, "restart"), Progress::Open);
        // A report without news of it changes nothing.
        given = settled(given.and(telling(Vec::new())));
        assert_eq!(ordered(&given), [container(n)]);
        given = told(given, &OrderState::Done);
    }
    assert!(orders(&given).is_empty());
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    assert_eq!(state(&given).note.as_deref(), Some("3 restarted"));
}

#[test]
fn as_many_restart_at_a_time_as_their_binding_says() {
    let policy = Policy {
        max_parallel: 2,
        max_unavailable: 2,
        delay: Duration::from_secs(20),
        ..Policy::default()
    };
    let reload = Reload::Restart {
        settle: crate::binding::DEFAULT_SETTLE,
        health_timeout: crate::binding::DEFAULT_HEALTH_TIMEOUT,
        rollout: Some(policy),
    };
    let given = three().and(apply_binding(anywhere(), file(), reload));
    let given = running_on(given, vec![step("restart", restarting(), &[])]);
    assert_eq!(ordered(&given), [container(1), container(2)]);
    let given = told(given, &OrderState::Done);
    // The third one waits for the delay of its rollout.
    let not_before = Some(later(20));
    let task = Task::Restart { not_before };
    assert_eq!(orders(&given)[0].task, task);
}

#[test]
fn one_that_does_not_run_well_halts_the_others_and_fails_the_step() {
    let given = running_on(three(), vec![step("restart", restarting(), &[])]);
    let given = told(given, &OrderState::Done);
    let given = told(given, &failed("its health check fails"));
    assert!(orders(&given).is_empty());
    assert_eq!(outcome(&given), Some(Outcome::Failed));
    let why = state(&given).failure.unwrap();
    assert!(
        why.contains("container `web`: its health check fails"),
        "{why}"
    );
    assert!(why.contains("1 were not restarted"), "{why}");
}

#[test]
fn one_that_is_gone_is_no_failure_whether_its_order_was_given_or_not() {
    let given = running_on(three(), vec![step("restart", restarting(), &[])]);
    let gone = Command::Report(HostReport {
        orders: Some(Vec::new()),
        ..report(vec![item(3, Fact::Vanished)], &[1])
    });
    let given = told(settled(given.and(gone)), &OrderState::Gone);
    let given = told(given, &OrderState::Done);
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    let note = state(&given).note.unwrap();
    let said = "1 restarted; 1 gone or down before that; nothing was to be done to 1";
    assert_eq!(note, said);
}

#[test]
fn at_its_deadline_a_step_takes_back_the_restart_that_its_host_did_not_do() {
    let given = running_on(three(), vec![step("restart", restarting(), &[])]);
    let number = orders(&given)[0].number;
    let withdrawn = of_host(host::Event::OrderEnded {
        container: container(1),
        order: OrderKind::Restart,
        outcome: OrderOutcome::Withdrawn,
        at: later(60),
    });
    let reason = "3 of 3 containers were not through at its deadline; the first: `web`";
    let failed = of_run(Event::StepFailed {
        step: "restart".to_owned(),
        reason: reason.to_owned(),
    });
    let given = given.at(later(60)).when(due("restart"));
    let given = given.then([withdrawn, failed]);
    assert!(orders(&given).is_empty());
    // What the host did all the same comes late.
    let late = OrderTold {
        container: container(1),
        number,
        state: OrderState::Done,
    };
    given.when(telling(vec![late])).then_nothing();
}

#[test]
fn a_run_that_is_cancelled_restarts_nothing_more() {
    let given = running_on(three(), vec![step("restart", restarting(), &[])]);
    let given = given.and(Command::Playbook(Request::Intervene {
        run: RUN,
        intervention: Intervention::Cancel,
        by: "unix:0".to_owned(),
        reason: "false alarm".to_owned(),
    }));
    assert!(orders(&settled(given)).is_empty());
}

#[test]
fn a_quarantine_comes_to_all_at_once_and_stays_until_a_person_lifts_it() {
    let steps = vec![step("cut", cutting_off(OnRevoke::Disconnect), &[])];
    let given = running_on(three(), steps);
    let all = [container(1), container(2), container(3)];
    assert_eq!(ordered(&given), all);
    let action = OnRevoke::Disconnect;
    assert!(
        orders(&given)
            .iter()
            .all(|one| one.task == Task::Quarantine { action })
    );
    let given = told(given, &OrderState::Done);
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    assert_eq!(ordered(&given), all);
    let lift = |name: &str, reason: &str| {
        Command::Playbook(Request::Lift {
            container: name.to_owned(),
            by: "unix:1000".to_owned(),
            reason: reason.to_owned(),
        })
    };
    let id = container(2).to_string();
    let silent = given.clone().when(lift(&id, " "));
    silent.then_rejected(host::Rejection::LiftReasonMissing);
    let ids = all.iter().map(|id| id.short()).collect::<Vec<_>>();
    let several = host::Rejection::WhichQuarantine {
        name: "web".to_owned(),
        count: 3,
        ids: ids.join(", "),
    };
    let both = given.clone().when(lift("web", "looked at"));
    both.then_rejected(several);
    let nobody = host::Rejection::NoQuarantine("db".to_owned());
    let none = given.clone().when(lift("db", "looked at"));
    none.then_rejected(nobody);
    let lifted = of_host(host::Event::QuarantineLifted {
        container: container(2),
        by: "unix:1000".to_owned(),
        reason: "looked at".to_owned(),
    });
    let given = given.when(lift(&id, "looked at")).then([lifted]);
    assert_eq!(ordered(&given), [container(1), container(3)]);
}

#[test]
fn a_quarantine_that_fails_is_told_once_and_done_later() {
    let steps = vec![step("cut", cutting_off(OnRevoke::Pause), &[])];
    let given = told(running_on(three(), steps), &failed("the engine is away"));
    assert_eq!(outcome(&given), Some(Outcome::Failed));
    let before = given.log().len();
    let given = told(given, &failed("the engine is away still"));
    assert_eq!(given.log().len(), before);
    let given = told(given, &OrderState::Done);
    let host = &given.world().hosts[&HOST];
    let mut standings = host.quarantines.values().map(|one| &one.standing);
    assert!(standings.all(|one| *one == Standing::Done));
    // With its container it ends.
    let given = told(given, &OrderState::Gone);
    assert!(orders(&given).is_empty());
}

#[test]
fn whoever_is_in_quarantine_is_not_restarted_and_what_it_had_can_still_be_revoked() {
    let revoke = Deed::Revoke {
        secrets: vec![Selection::Container {
            name: "web".to_owned(),
        }],
        which: Which::Alive,
    };
    let mut again = step("again", cutting_off(OnRevoke::Disconnect), &["cut"]);
    again.deed = Deed::Quarantine {
        containers: vec![Selection::Container {
            name: "web".to_owned(),
        }],
        action: OnRevoke::Disconnect,
    };
    let mut restart = step("restart", restarting(), &["again"]);
    restart.deed = Deed::Restart {
        containers: vec![Selection::Container {
            name: "web".to_owned(),
        }],
    };
    restart.may_fail = true;
    let steps = vec![
        step("cut", cutting_off(OnRevoke::Disconnect), &[]),
        again,
        restart,
        step("revoke", revoke, &["restart"]),
    ];
    let given = running_on(three(), steps);
    let had = given.world().hosts[&HOST].quarantines[&container(1)]
        .had
        .clone();
    assert_eq!(had.len(), 1);
    // Its host takes the file away, and tells both.
    let withdrawn = (1..4).map(|n| item(n, Fact::Withdrawn)).collect();
    let given = given.and(Command::Report(HostReport {
        orders: Some(Vec::new()),
        ..report(withdrawn, &[])
    }));
    assert!(given.world().assignments.is_empty());
    let given = told(given, &OrderState::Done);
    let run = &given.world().runs[&RUN];
    let note = run.step("again").unwrap().note.as_deref().unwrap();
    assert!(note.starts_with("0 newly in quarantine"), "{note}");
    let why = run.step("restart").unwrap().failure.as_deref().unwrap();
    assert!(why.contains("`web` is in quarantine"), "{why}");
    assert!(given.secret().alive().is_empty());
}

/// Three containers with version 1 in a variable are cut off, and their host tells that they have it no more.
pub(super) fn cut_off_with_variables(action: OnRevoke) -> Given {
    let all = (1..4).map(|n| reloaded(n, 1)).collect();
    let given = Given::serving_as(env(), restart()).and(Command::Report(HostReport {
        orders: Some(Vec::new()),
        ..report(all, &[1])
    }));
    let given = running_on(given, vec![step("cut", cutting_off(action), &[])]);
    let gone = (1..4).map(|n| item(n, Fact::Vanished)).collect();
    let given = given.and(Command::Report(HostReport {
        orders: Some(Vec::new()),
        ..report(gone, &[])
    }));
    told(given, &OrderState::Done)
}

fn actions(given: &Given) -> Vec<Task> {
    let orders = orders(given).into_iter();
    let mut actions: Vec<Task> = orders.map(|order| order.task).collect();
    actions.dedup();
    actions
}

pub(super) fn is_waited_for(given: &Given) -> bool {
    let revocation = &given.world().revocations[&REVOCATION];
    let everywhere = of_revocation(revocation::Event::WithdrawnEverywhere);
    assert_eq!(
        revocation.waiting.is_empty(),
        given.log().contains(&everywhere)
    );
    revocation.waiting.contains(&HOST)
}

#[test]
fn a_version_that_dies_in_a_variable_of_one_in_quarantine_is_withdrawn_once_that_one_is_stopped() {
    for action in [OnRevoke::Disconnect, OnRevoke::Pause] {
        let given = cut_off_with_variables(action);
        assert!(given.world().assignments.is_empty());
        assert_eq!(actions(&given), [Task::Quarantine { action }]);
        let given = given.and(revoke(None));
        let action = OnRevoke::Stop;
        assert_eq!(actions(&given), [Task::Quarantine { action }]);
        // Neither that its host holds nothing, nor that one of them is stopped, means all of them.
        let given = settled(given.and(telling_holding_nothing(&[])));
        assert!(is_waited_for(&given));
        let first = orders(&given)[0].clone();
        let given = settled(given.and(telling_holding_nothing(&[first])));
        assert!(is_waited_for(&given));
        let all = orders(&given);
        let given = settled(given.and(telling_holding_nothing(&all)));
        assert!(!is_waited_for(&given));
    }
}

#[test]
fn what_lies_in_files_or_lives_stops_nobody_in_quarantine_and_one_that_was_stopped_is_not_waited_for()
 {
    let action = OnRevoke::Pause;
    let files = told(
        running_on(three(), vec![step("cut", cutting_off(action), &[])]),
        &OrderState::Done,
    );
    let given = files.and(revoke(None));
    assert_eq!(actions(&given), [Task::Quarantine { action }]);
    let given = settled(given.and(telling_holding_nothing(&[])));
    assert!(!is_waited_for(&given));

    // The newer version dies, which none of them ever had.
    let given = cut_off_with_variables(action).and(rotate(SECOND));
    let given = given.finished(SECOND).and(revoke(Some(2)));
    assert_eq!(actions(&given), [Task::Quarantine { action }]);
    assert!(!kept_by_quarantine(&given));

    let given = cut_off_with_variables(OnRevoke::Stop).and(revoke(None));
    let given = settled(given.and(telling_holding_nothing(&[])));
    assert!(!is_waited_for(&given));
}

#[test]
fn one_that_is_gone_from_quarantine_or_whose_host_is_evicted_is_not_waited_for() {
    let given = cut_off_with_variables(OnRevoke::Pause).and(revoke(None));
    let mut gone = orders(&given).into_iter().map(|order| OrderTold {
        container: order.container,
        number: order.number,
        state: OrderState::Gone,
    });
    let first = telling_of(gone.next());
    let given = settled(given.and(first));
    assert!(is_waited_for(&given));
    let given = settled(given.and(telling_of(gone)));
    assert!(!is_waited_for(&given));
    let given = cut_off_with_variables(OnRevoke::Pause).and(evict(HOST));
    let given = given.and(revoke(None));
    assert!(!is_waited_for(&given));
}

fn kept_by_quarantine(given: &Given) -> bool {
    let revocation = &given.world().revocations[&REVOCATION];
    let mut kept = given.world().kept_in_memory(SECRET, &revocation.versions);
    kept.next().is_some()
}

/// The host holds nothing, and says of these orders that they are done.
pub(super) fn telling_holding_nothing(done: &[Order]) -> Command {
    let told = done.iter().map(|order| OrderTold {
        container: order.container.clone(),
        number: order.number,
        state: OrderState::Done,
    });
    telling_of(told)
}

fn telling_of(orders: impl IntoIterator<Item = OrderTold>) -> Command {
    Command::Report(HostReport {
        orders: Some(orders.into_iter().collect()),
        ..report(Vec::new(), &[])
    })
}

#[test]
fn a_host_that_knows_no_orders_or_has_too_many_refuses_them() {
    let all = (1..4).map(|n| reloaded(n, 1)).collect();
    let older = Given::serving().and(Command::Report(report(all, &[1])));
    let given = running_on(older, vec![step("restart", restarting(), &[])]);
    assert_eq!(outcome(&given), Some(Outcome::Failed));
    let why = state(&given).failure.unwrap();
    assert!(why.contains("knows no orders about containers"), "{why}");
    let held = |n: usize| {
        let id = format!("{:064x}", n + 100);
        of_host(host::Event::QuarantineOrdered {
            subject: host::Subject {
                container: crate::id::ContainerId::parse(&id).unwrap(),
                name: "other".to_owned(),
                image_digest: String::new(),
                service: String::new(),
            },
            origin: host::Origin {
                run: RUN,
                step: "earlier".to_owned(),
                place: 0,
            },
            action: OnRevoke::Stop,
            reason: "intruder".to_owned(),
            had: Vec::new(),
        })
    };
    // One more finds room, and the next does not.
    let known = three().log().to_vec().into_iter();
    let full = Given::events(known.chain((0..MAX_ORDERS - 1).map(held)));
    let steps = vec![step("cut", cutting_off(OnRevoke::Stop), &[])];
    let given = running_on(full, steps);
    assert_eq!(given.world().hosts[&HOST].open_orders(), MAX_ORDERS);
    let refused = |act: &&Act| match act {
        Act::Refused(reason) => reason.contains("has 1000 open orders already"),
        Act::Begun(_) => false,
    };
    assert_eq!(state(&given).acts.values().filter(refused).count(), 2);
}

#[test]
fn a_rollout_gives_no_leave_while_one_of_its_service_restarts_by_order() {
    let reload = Reload::Restart {
        settle: crate::binding::DEFAULT_SETTLE,
        health_timeout: crate::binding::DEFAULT_HEALTH_TIMEOUT,
        rollout: Some(Policy::default()),
    };
    let given = three().and(apply_binding(anywhere(), file(), reload));
    let given = running_on(given, vec![step("restart", restarting(), &[])]);
    assert_eq!(ordered(&given), [container(1)]);
    let wish = |orders| {
        let due = Due {
            binding: BINDING,
            secret: SECRET,
            version: 1,
        };
        let wish = RestartWish {
            container: container(2),
            container_name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            service: String::new(),
            due: vec![due],
            state: RestartState::Due,
        };
        Command::Report(HostReport {
            restarts: vec![wish],
            orders: Some(orders),
            ..report(Vec::new(), &[1])
        })
    };
    let has_leave = |given: &Given| {
        let member = given.world().rollout_member(HOST, &container(2));
        member.unwrap().has_leave()
    };
    let given = settled(given.and(wish(Vec::new())));
    assert!(!has_leave(&given));
    let done = OrderTold {
        container: container(1),
        number: orders(&given)[0].number,
        state: OrderState::Done,
    };
    let given = settled(given.and(wish(vec![done])));
    assert!(has_leave(&given));
    // And the other way round: the next order waits until the rollout's container is through.
    assert!(orders(&given).is_empty());
    let given = settled(given.and(telling(Vec::new())));
    assert_eq!(ordered(&given), [container(2)]);
}

#[test]
fn wherever_it_is_cut_no_order_is_given_twice() {
    let steps = vec![
        step("restart", restarting(), &[]),
        step("cut", cutting_off(OnRevoke::Stop), &["restart"]),
    ];
    let mut given = three().and(declare(spec(steps))).and(start());
    let mut cuts = vec![given.clone()];
    for _ in 0..8 {
        while next_run(given.world()).is_some() {
            given = given.and(advance());
            cuts.push(given.clone());
        }
        given = told(given, &OrderState::Done);
        cuts.push(given.clone());
    }
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    let is_order = |event: &&event::Event| {
        matches!(
            event,
            event::Event::Host(
                _,
                host::Event::RestartOrdered { .. } | host::Event::QuarantineOrdered { .. }
            )
        )
    };
    for (cut, known) in cuts.iter().enumerate() {
        let again = Given::events(known.log().iter().cloned());
        assert_eq!(again.world(), known.world(), "cut at {cut}");
        let mut again = settled(again.drawn(0x77));
        for _ in 0..8 {
            again = told(again, &OrderState::Done);
        }
        assert_eq!(outcome(&again), Some(Outcome::Completed), "cut at {cut}");
        assert_eq!(
            again.log().iter().filter(is_order).count(),
            6,
            "cut at {cut}"
        );
    }
}

#[test]
fn what_nothing_serves_is_meant_by_nobody() {
    let deed = Deed::Restart {
        containers: vec![Selection::Container {
            name: "db-1".to_owned(),
        }],
    };
    let given = running_on(three(), vec![step("restart", deed, &[])]);
    let why = state(&given).failure.unwrap();
    assert!(
        why.contains("no container that is served or in quarantine"),
        "{why}"
    );
}

#[test]
fn compose_services_and_images_are_what_restarts_together() {
    let subject = |service: &str| host::Subject {
        container: container(1),
        name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        service: service.to_owned(),
    };
    let of = |service: &str| subject(service).rollout_service();
    assert_eq!(of("shop/web"), Service::of("sha256:1", "web"));
    assert_eq!(of("shop_web"), Service::of("sha256:1", ""));
    assert_eq!(of(""), Service::of("sha256:1", ""));
}
