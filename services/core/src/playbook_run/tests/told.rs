//! What a playbook tells receivers, and what it waits for of them; and what else than names and paths a step may mean.

use super::*;
use crate::decision::tests::leases;
use crate::id::NotificationId;
use crate::name::NotificationName;
use crate::notification;

const SOC: NotificationId = NotificationId::from_bytes([0x30; 16]);

fn soc() -> NotificationName {
    NotificationName::parse("soc").unwrap()
}

fn with_soc(steps: Vec<Step>) -> Given {
    let receiver = notification::Receiver::Webhook {
        url: "https://hooks.example/k".to_owned(),
        key_file: "/etc/keywheel/signals/soc.key".to_owned(),
        ca_file: String::new(),
    };
    let declared = Command::Apply(vec![Declaration::Notification {
        id: SOC,
        name: soc(),
        spec: notification::Spec {
            receiver,
            when: "event.type == \"never\"".to_owned(),
        },
    }]);
    let given = Given::serving().and(declared);
    given.and(declare(spec(steps))).and(start())
}

fn calling() -> Vec<Step> {
    let call = Deed::Call {
        notification: soc(),
        text: "${secret} leaked".to_owned(),
    };
    vec![
        step("call", call, &[]),
        step("converge", converging(), &["call"]),
    ]
}

fn answer(failure: Option<&str>) -> Command {
    Command::Playbook(Request::Answer {
        run: RUN,
        step: "call".to_owned(),
        place: 0,
        failure: failure.map(ToOwned::to_owned),
    })
}

fn said(step: &str) -> event::Event {
    of_run(Event::Notified {
        step: step.to_owned(),
        place: 0,
        notification: SOC,
        text: "prod/db leaked".to_owned(),
    })
}

#[test]
fn a_notification_is_told_by_an_event_and_nobody_is_waited_for() {
    let tell = Deed::Notify {
        notifications: vec![soc()],
        text: "${secret} leaked".to_owned(),
    };
    let given = settled(with_soc(vec![step("tell", tell, &[])]));
    assert!(given.log().contains(&said("tell")));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
}

#[test]
fn a_notification_that_is_not_there_fails_the_step_by_name() {
    let tell = Deed::Notify {
        notifications: vec![soc()],
        text: "x".to_owned(),
    };
    let given = settled(running(vec![step("tell", tell, &[])]));
    let state = given.world().runs[&RUN].step("tell").unwrap();
    assert!(state.failure.as_deref().unwrap().contains("`soc`"));
}

#[test]
fn a_call_is_done_when_its_receiver_has_taken_it() {
    let given = settled(with_soc(calling()));
    assert!(given.log().contains(&said("call")));
    assert_eq!(progress(&given, "call"), Progress::Open);
    let answered = Event::Answered {
        step: "call".to_owned(),
        place: 0,
        failure: None,
        at: None,
    };
    let given = given.when(answer(None)).then([of_run(answered)]);
    let no_more = Rejection::NotCalled {
        run: RUN,
        step: "call".to_owned(),
    };
    given
        .clone()
        .when(answer(Some("late")))
        .then_rejected(no_more);
    let given = settled(given);
    assert_eq!(outcome(&given), Some(Outcome::Completed));
}

#[test]
fn a_call_that_is_never_taken_fails_with_the_reason() {
    let given = settled(settled(with_soc(calling())).and(answer(Some("it answered 400"))));
    let state = given.world().runs[&RUN].step("call").unwrap();
    assert_eq!(state.failure.as_deref(), Some("it answered 400"));
    assert_eq!(outcome(&given), Some(Outcome::Failed));
}

#[test]
fn what_a_container_has_is_revoked_by_its_versions_and_an_unknown_one_fails_by_name() {
    let revoke = |name: &str| Deed::Revoke {
        secrets: vec![Selection::Container {
            name: name.to_owned(),
        }],
        which: Which::Alive,
    };
    let given = settled(running(vec![step("revoke", revoke("web"), &[])]));
    let target = Target::Secret {
        secret: SECRET,
        version: Some(1),
    };
    let state = given.world().runs[&RUN].step("revoke").unwrap();
    assert_eq!(state.targets, [target]);
    assert!(given.secret().alive().is_empty());
    let given = settled(running(vec![step("revoke", revoke("nobody"), &[])]));
    let state = given.world().runs[&RUN].step("revoke").unwrap();
    let why = state.failure.as_deref().unwrap();
    assert!(why.contains("container `nobody`"), "{why}");
    assert_eq!(given.secret().alive(), [1]);
}

#[test]
fn a_path_below_which_nothing_lies_fails_by_name() {
    let rotate = Deed::Rotate {
        secrets: vec![Selection::Prefix {
            path: "prdo".to_owned(),
        }],
    };
    let given = settled(running(vec![step("rotate", rotate, &[])]));
    let state = given.world().runs[&RUN].step("rotate").unwrap();
    assert!(state.failure.as_deref().unwrap().contains("`prdo`"));
}

#[test]
fn of_a_secret_that_gives_leases_each_is_rotated_that_a_container_has_and_one_is_by_its_name() {
    let lease = leases::lease(1);
    let target = Target::Secret {
        secret: lease,
        version: None,
    };
    let run = |secret: &str| {
        let given = leases::served().and(declare(spec(vec![step("rotate", rotating(), &[])])));
        let told = BTreeMap::from([("secret".to_owned(), secret.to_owned())]);
        settled(given.and(start_with(told)))
    };
    let name = leases::served().world().secrets[&lease].name.to_string();
    for named in ["prod/db", name.as_str()] {
        let given = run(named);
        let state = given.world().runs[&RUN].step("rotate").unwrap();
        assert_eq!(state.targets, std::slice::from_ref(&target), "{named}");
        let open = given.world().open_rotation(lease).unwrap();
        assert_eq!(open.trigger, rotation::Trigger::Playbook { run: RUN });
    }
}

#[test]
fn a_lease_before_that_a_grace_keeps_alive_holds_no_rotation_of_a_playbook_up() {
    let lease = leases::lease(1);
    let given = leases::graces::giving_way();
    let given = given.and(declare(spec(vec![step("rotate", rotating(), &[])])));
    let told = BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())]);
    let given = settled(given.and(start_with(told)));
    let open = given.world().open_rotation(lease).unwrap();
    assert_eq!(open.trigger, rotation::Trigger::Playbook { run: RUN });
    assert_eq!(given.world().secrets[&lease].alive(), [2, 3]);
}
