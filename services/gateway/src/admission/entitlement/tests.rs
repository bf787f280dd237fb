//! Bindings against policies: without a set, under one that cannot be read, and when a policy ends by itself.

use std::collections::BTreeSet;

use keywheel_core::binding::{self, OnRevoke, Reload, Selector, Target};
use keywheel_core::command::Declaration;
use keywheel_core::event::Event;
use keywheel_core::id::{BindingId, PolicySetId, RotationId};
use keywheel_core::name::{EnvName, SecretName};
use keywheel_core::policy::{self, Policies};
use keywheel_core::secret;

use super::*;
use crate::testing::Bench;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const BINDING: BindingId = BindingId::from_bytes([2; 16]);

fn name() -> BindingName {
    BindingName::parse("web").unwrap()
}

fn spec() -> Spec {
    Spec {
        secret: SECRET,
        also: BTreeSet::new(),
        selector: Selector {
            insecure: true,
            ..Selector::default()
        },
        target: Target::Env {
            name: EnvName::parse("DB").unwrap(),
        },
        reload: Reload::None,
        previous: BTreeSet::new(),
        on_revoke: OnRevoke::default(),
    }
}

fn policies(text: &str) -> Policies {
    Policies {
        text: text.to_owned(),
        groups: Vec::new(),
    }
}

fn apply(world: &mut World, number: u64, text: &str) {
    let applied = policy::Event::Applied {
        version: number,
        policies: policies(text),
        by: "unix:0".to_owned(),
    };
    world.apply(number, &Event::Policy(PolicySetId::default(), applied));
}

/// One binding, by an event of its own.
fn bound() -> World {
    let mut world = World::default();
    let registered = secret::Event::Registered {
        name: SecretName::parse("prod/db").unwrap(),
        spec: secret::Spec::default(),
    };
    world.apply(1, &Event::Secret(SECRET, registered));
    let (name, spec) = (name(), spec());
    let bound = binding::Event::Bound { name, spec };
    world.apply(2, &Event::Binding(BINDING, bound));
    world
}

fn judge_of(world: &World, spec: &Spec) -> Option<Denial> {
    let admission = Arc::new(Admission::new().unwrap());
    judge(&admission)(world, &name(), spec, Timestamp::default())
}

#[test]
fn without_a_set_bindings_grant_what_they_say_and_with_one_what_is_permitted() {
    let mut world = bound();
    assert_eq!(judge_of(&world, &spec()), None);
    apply(&mut world, 3, "");
    let denial = judge_of(&world, &spec()).unwrap();
    assert_eq!(
        (denial.service.as_str(), denial.reason.as_str()),
        ("web", "default deny")
    );
    let permit = "@id(\"web\") permit (principal == Service::\"web\", action == Action::\"read\", resource in Path::\"prod\");";
    apply(&mut world, 4, permit);
    assert_eq!(judge_of(&world, &spec()), None);
    let forbid = "@id(\"no\") forbid (principal, action == Action::\"read\", resource == Secret::\"prod/db\");";
    apply(&mut world, 5, &format!("{permit}\n{forbid}"));
    let denial = judge_of(&world, &spec()).unwrap();
    assert_eq!(denial.reason, "forbidden by no");
}

#[test]
fn a_set_that_cannot_be_read_takes_nothing_and_gives_nothing_more() {
    let mut world = bound();
    apply(&mut world, 3, "this is no policy");
    assert_eq!(judge_of(&world, &spec()), None);
    let other = Spec {
        selector: Selector::default(),
        ..spec()
    };
    assert_eq!(judge_of(&world, &other).unwrap().reason, UNREAD);
    // What was withheld before stays so, for the reason of then.
    let denial = Denial {
        service: "web".to_owned(),
        secret: SECRET,
        reason: "default deny".to_owned(),
    };
    let (name, spec) = (name(), spec());
    let withheld = binding::Event::Withheld {
        name,
        spec: spec.clone(),
        denial: denial.clone(),
    };
    world.apply(4, &Event::Binding(BINDING, withheld));
    assert_eq!(judge_of(&world, &spec), Some(denial));
}

#[test]
fn a_set_of_a_state_that_came_to_nothing_is_not_taken_for_the_one_that_took_its_number() {
    let admission = Admission::new().unwrap();
    let of = |text: &str| {
        let mut world = World::default();
        apply(&mut world, 7, text);
        admission.of_draft(world.policies().unwrap())
    };
    let one = "@id(\"one\") permit (principal, action, resource);";
    let read = Arc::new(Set::compile(&super::super::source_of(&policies(one))).unwrap());
    admission.prepare(&policies(one), read.clone());
    assert!(Arc::ptr_eq(&of(one).set, &read), "it is not read again");
    let other = of("");
    assert!(other.set.is_empty() && other.version == Some(7));
    assert_eq!(of(one).set.len(), 1);
}

async fn submit(bench: &Bench, command: Command) {
    let submission = Submission {
        id: CommandId::from_bytes(bench.api.ids.draw()),
        principal: audit::Principal::Service(Role::Gateway),
        traceparent: None,
        command,
    };
    bench.api.commands.submit(submission).await.unwrap();
}

#[tokio::test]
async fn what_a_policy_permitted_until_a_date_is_withheld_at_the_look_after_that() {
    let bench = Bench::start().await;
    let (now, secret) = (bench.clock.now(), SecretName::parse("prod/db").unwrap());
    let spec = spec();
    let declared = vec![
        Declaration::Secret {
            id: SECRET,
            rotation: RotationId::from_bytes([3; 16]),
            name: secret.clone(),
            spec: secret::Spec::default(),
        },
        Declaration::Binding {
            id: BINDING,
            name: name(),
            secret,
            also: BTreeSet::new(),
            selector: spec.selector,
            target: Target::Env {
                name: EnvName::parse("DB").unwrap(),
            },
            reload: Reload::Restart {
                settle: binding::DEFAULT_SETTLE,
                health_timeout: binding::DEFAULT_HEALTH_TIMEOUT,
                rollout: None,
            },
            previous: BTreeSet::new(),
            on_revoke: OnRevoke::default(),
        },
    ];
    submit(&bench, Command::Apply(declared)).await;
    let until = now.micros().div_euclid(1_000_000) + 100;
    let text = format!(
        "@id(\"until\") permit (principal is Service, action == Action::\"read\", resource) when {{ context.now < {until} }};"
    );
    let applied = Command::ApplyPolicies(policy::Request {
        id: PolicySetId::from_bytes([4; 16]),
        expected: None,
        policies: policies(&text),
        by: "unix:0".to_owned(),
    });
    submit(&bench, applied).await;
    let is_withheld = || {
        let committed = bench.api.view.read();
        let known = committed.world.binding_named(&name()).unwrap();
        known.withheld.is_some()
    };
    let rights = Rights {
        commands: bench.api.commands.clone(),
        view: bench.api.view.clone(),
        admission: bench.api.admission.clone(),
        clock: bench.clock.clone(),
        ids: bench.api.ids.clone(),
    };
    assert!(!is_withheld() && !rights.is_otherwise().await);
    bench.clock.advance(Duration::from_secs(101));
    assert!(rights.is_otherwise().await);
    rights.have_judged().await;
    assert!(is_withheld() && !rights.is_otherwise().await);
    let said = bench.audit().await;
    assert!(
        said.iter()
            .any(|record| record.contains("withhold") && record.contains("binding/web")),
        "{said:?}"
    );
}
