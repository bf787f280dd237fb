//! What hosts ask for and report of their consumers, and the usage that this leaves on record.

use std::collections::BTreeMap;

use keywheel_core::binding::{self, Selector, Target};
use keywheel_core::id::JoinTokenId;
use keywheel_core::name::{BusKey, EnvName};

use super::*;

pub(super) fn commands() -> Vec<(&'static [&'static str], Command)> {
    let joining = host::JoinRequest {
        host: HOST,
        name: host_name(),
        token: JoinTokenId::default(),
        secret_hash: [0; 32],
        signing_key: [0; 32],
        sealing_key: [0; 32],
    };
    let keys = host::KeyRequest {
        host: HOST,
        signing_key: [0; 32],
        sealing_key: [0; 32],
        generation: 2,
    };
    let enrol = Command::EnrolHost {
        host: HOST,
        name: host_name(),
        sealing_key: [0; 32],
    };
    let permit = host::PermitRequest {
        host: HOST,
        key: BusKey::parse(&"U".repeat(56)).unwrap(),
        expires_at: Timestamp::default(),
    };
    vec![
        (&["enrol"], enrol),
        (&["join"], Command::JoinHost(joining)),
        (&["rotate-host-key"], Command::RotateHostKey(keys)),
        (&["issue-permit"], Command::NotePermit(permit)),
        // Facts are recorded one by one, and here are none.
        (&[], report()),
    ]
}

#[test]
fn every_usage_fact_leaves_the_record_of_its_verb() {
    let (version, at) = (2, Timestamp::default());
    let swapped = || assignment::Event::Swapped { version, at };
    let refused = assignment::Event::Refused {
        version,
        reason: "no runtime".to_owned(),
    };
    let allowed = Outcome::Allowed;
    let rows = [
        (0, swapped(), "inject", Some(2), allowed),
        (1, swapped(), "replace", Some(2), allowed),
        (
            2,
            assignment::Event::Reloaded { version, at },
            "reload",
            Some(2),
            allowed,
        ),
        (1, assignment::Event::Withdrawn, "remove", Some(1), allowed),
        (1, assignment::Event::Vanished, "vanish", Some(1), allowed),
        (0, assignment::Event::Vanished, "vanish", None, allowed),
        (1, refused, "refuse", Some(2), Outcome::Rejected),
    ];
    for (held, fact, verb, version, outcome) in rows {
        let principal = Principal::Service(Role::Injector);
        let decided = Ok(vec![Event::Assignment(key(), fact)]);
        let before = consumer_that_holds(held);
        let left = records(&before, &deed(&principal), &report(), &decided);
        let [record] = left.as_slice() else {
            panic!("{verb}: {left:?}");
        };
        assert_eq!((record.verb.as_str(), record.version), (verb, version));
        assert_eq!(
            (record.category, record.outcome),
            (Category::Usage, outcome)
        );
        assert_eq!(record.object, "secret/prod/db");
        let container = record.container.as_ref().unwrap();
        let named = [&container.name, &container.image_digest, &container.host];
        assert_eq!(named, ["web", "sha256:1", "web-1"], "{verb}");
    }
}

/// What a binding of this reload leaves of a consumer that shows that it uses version 2.
fn left_by(reload: Reload, is_waited_for: bool) -> Record {
    let mut world = consumer_that_holds(2);
    let bound = binding::Event::Bound {
        name: BindingName::parse("web-db").unwrap(),
        spec: binding::Spec {
            secret: SECRET,
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector: Selector::default(),
            target: Target::Env {
                name: EnvName::parse("A").unwrap(),
            },
            reload,
            on_revoke: keywheel_core::binding::OnRevoke::Remove,
        },
    };
    let started = rotation::Event::Started {
        secret: SECRET,
        version: 2,
        trigger: rotation::Trigger::Initial,
    };
    let distributing = rotation::Event::DistributionStarted {
        consumers: Vec::from_iter(is_waited_for.then(key)),
        hosts: vec![HOST],
        old: vec![1],
        deadline: Timestamp::default(),
    };
    let events = [
        Event::Binding(BindingId::default(), bound),
        Event::Rotation(ROTATION, started),
        Event::Rotation(ROTATION, distributing),
    ];
    for (number, event) in (10..).zip(&events) {
        world.apply(number, event);
    }
    let at = Timestamp::default();
    let fact = assignment::Event::Reloaded { version: 2, at };
    let principal = Principal::Service(Role::Injector);
    let decided = Ok(vec![Event::Assignment(key(), fact)]);
    let left = records(&world, &deed(&principal), &report(), &decided);
    assert_eq!(left.len(), 1, "{left:?}");
    left.into_iter().next().unwrap()
}

#[test]
fn a_restart_for_a_rotation_is_told_from_a_reload_and_from_a_person_s_start() {
    let restart = Reload::Restart {
        settle: std::time::Duration::from_secs(1),
        health_timeout: std::time::Duration::from_secs(1),
        rollout: None,
    };
    for (reload, is_waited_for, verb) in [
        (restart.clone(), true, "restart"),
        (restart, false, "reload"),
        (Reload::Signal(1), true, "reload"),
    ] {
        let record = left_by(reload, is_waited_for);
        assert_eq!(record.verb, verb);
        assert_eq!(record.reason, "binding/web-db");
    }
}

#[test]
fn a_usage_record_names_its_binding_also_beside_another_reason() {
    let mut world = consumer_that_holds(0);
    let name = BindingName::parse("web-db").unwrap();
    let known = binding::Binding::new(BindingId::default(), name);
    world.bindings.insert(BindingId::default(), known);
    let refused = assignment::Event::Refused {
        version: 2,
        reason: "no runtime".to_owned(),
    };
    let principal = Principal::Service(Role::Injector);
    let decided = Ok(vec![Event::Assignment(key(), refused)]);
    let left = records(&world, &deed(&principal), &report(), &decided);
    assert_eq!(left[0].reason, "binding/web-db: no runtime");
}

#[test]
fn a_wish_is_no_usage_and_a_new_consumer_s_fact_is_named_by_it() {
    let assigned = assignment::Event::Assigned {
        secret: SECRET,
        version: 1,
        container_name: "new".to_owned(),
        image_digest: "sha256:2".to_owned(),
    };
    let at = Timestamp::default();
    let swapped = assignment::Event::Swapped { version: 1, at };
    let decided = Ok(Vec::from(
        [assigned, swapped].map(|e| Event::Assignment(key(), e)),
    ));
    let mut before = consumer_that_holds(0);
    before.assignments = BTreeMap::new();
    let principal = Principal::Service(Role::Injector);
    let left = records(&before, &deed(&principal), &report(), &decided);
    assert_eq!((left.len(), left[0].verb.as_str()), (1, "inject"));
    assert_eq!(left[0].object, "secret/prod/db");
    assert_eq!(left[0].container.as_ref().unwrap().name, "new");
}

#[test]
fn a_report_that_is_refused_leaves_a_denial() {
    let command = report();
    let deed = Deed {
        principal: &Principal::Service(Role::Injector),
        id: CommandId::from_bytes([2; 16]),
        time: Timestamp::default(),
        traceparent: None,
    };
    let evicted = host::Rejection::Evicted {
        host: HOST,
        name: HostName::parse("web-1").unwrap(),
    };
    let refused = Err(Rejection::from(evicted).into());
    let left = records(&World::default(), &deed, &command, &refused);
    assert_eq!((left.len(), left[0].outcome), (1, Outcome::Denied));
    assert_eq!(left[0].object, format!("host/{HOST}"));
    assert!(left[0].reason.contains("evicted"), "{}", left[0].reason);
    assert!(records(&World::default(), &deed, &command, &Ok(Vec::new())).is_empty());
}
