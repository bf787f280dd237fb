//! What demands come to: a set that cannot be read, rights that come with others, and what a command needs.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::binding::{OnRevoke, Reload, Selector, Target};
use keywheel_core::command::{Command, Declaration};
use keywheel_core::event::Event;
use keywheel_core::id::{BindingId, PlaybookId, PolicySetId, RotationId, SecretId};
use keywheel_core::name::{BindingName, EnvName, HostName, PlaybookName, SecretName};
use keywheel_core::playbook::{self, Deed, Selection, Spec, Step};
use keywheel_core::policy;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_policy::{DEFAULT_DENY, LOCAL_RECOVERY, MAX_SET_BYTES};

use super::*;

fn world(text: &str) -> World {
    let mut world = World::default();
    let applied = policy::Event::Applied {
        version: 1,
        policies: Policies {
            text: text.to_owned(),
            groups: Vec::new(),
        },
        by: "unix:0".to_owned(),
    };
    world.apply(1, &Event::Policy(PolicySetId::default(), applied));
    world
}

fn in_force(world: &World) -> InForce {
    let admission = Admission::new().unwrap();
    admission.in_force(world.policies().map(|applied| &**applied))
}

fn who(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

#[test]
fn a_set_of_the_log_that_cannot_be_read_permits_nothing_but_its_replacement() {
    let broken = in_force(&world("this is no policy"));
    assert!(!broken.is_read && broken.version == Some(1));
    let grant = [Demand::of_all(Verb::Grant)];
    assert_eq!(
        broken.admit(&who("unix:0"), &grant, 0).unwrap(),
        LOCAL_RECOVERY
    );
    for (principal, demand) in [
        ("unix:0", Demand::of_all(Verb::List)),
        ("certificate:ada", Demand::of_all(Verb::Grant)),
    ] {
        let refused = broken.admit(&who(principal), &[demand], 0).unwrap_err();
        assert_eq!(refused.reason, DEFAULT_DENY);
    }
}

#[test]
fn all_demands_are_met_or_none_and_the_first_that_is_not_is_told() {
    let text = "@id(\"b\") permit (principal, action == Action::\"rotate\", resource);\n@id(\"a\") permit (principal, action == Action::\"list\", resource);";
    let set = in_force(&world(text));
    let demand = |verb| Demand::new(verb, Resource::Secret("x".to_owned()));
    let ada = who("certificate:ada");
    let both = [demand(Verb::Rotate), demand(Verb::List)];
    assert_eq!(set.admit(&ada, &both, 0).unwrap(), "a, b");
    let more = [
        demand(Verb::Rotate),
        demand(Verb::Write),
        demand(Verb::Revoke),
    ];
    let refused = set.admit(&ada, &more, 0).unwrap_err();
    assert_eq!(refused.demand, demand(Verb::Write));
    let either = Demand {
        or: Some(Verb::List),
        ..demand(Verb::Revoke)
    };
    assert_eq!(set.admit(&ada, &[either], 0).unwrap(), "a");
}

#[test]
fn a_set_is_read_once_and_anew_when_another_is_applied() {
    let admission = Admission::new().unwrap();
    let read = |world: &World| {
        admission
            .in_force(world.policies().map(|applied| &**applied))
            .set
    };
    let mut world = world("");
    let first = read(&world);
    assert!(Arc::ptr_eq(&first, &read(&world)));
    let next = policy::Event::Applied {
        version: 2,
        policies: Policies {
            text: String::new(),
            groups: Vec::new(),
        },
        by: "unix:0".to_owned(),
    };
    world.apply(2, &Event::Policy(PolicySetId::default(), next));
    assert!(!Arc::ptr_eq(&first, &read(&world)));
}

#[test]
fn a_set_that_was_read_for_its_apply_is_not_read_again() {
    let (admission, world) = (Admission::new().unwrap(), world(""));
    let applied = world.policies().unwrap();
    let read = Arc::new(Set::compile(&source_of(&applied.policies)).unwrap());
    admission.take(applied, read.clone());
    let in_force = admission.in_force(Some(applied));
    assert!(Arc::ptr_eq(&in_force.set, &read) && in_force.is_read);
    assert_eq!(in_force.version, Some(1));
}

#[test]
fn the_bounds_of_a_set_are_the_same_on_both_sides() {
    assert_eq!(policy::MAX_POLICY_SET_BYTES, MAX_SET_BYTES);
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn binding(secret: &str) -> Declaration {
    Declaration::Binding {
        id: BindingId::from_bytes([1; 16]),
        name: BindingName::parse("b").unwrap(),
        secret: name(secret),
        also: BTreeSet::from([name("prod/also")]),
        selector: Selector {
            insecure: true,
            ..Selector::default()
        },
        target: Target::Env {
            name: EnvName::parse("X").unwrap(),
        },
        reload: Reload::None,
        previous: BTreeSet::new(),
        on_revoke: OnRevoke::default(),
    }
}

fn texts(demands: &[Demand]) -> Vec<String> {
    let text = |one: &Demand| format!("{} {}", one.verb.word(), one.resource);
    demands.iter().map(text).collect()
}

#[test]
fn a_binding_needs_the_right_to_bind_all_that_it_gives() {
    let needs = demands::of_declarations(&World::default(), &[binding("prod/db")]);
    assert_eq!(
        texts(&needs),
        ["bind secret/prod/also", "bind secret/prod/db"]
    );
}

#[test]
fn what_nobody_submits_for_themselves_takes_the_right_to_give_rights() {
    let world = World::default();
    let due = Command::RetryStep {
        rotation: RotationId::default(),
    };
    let needs = demands::of_command(&world, &due, Timestamp::default());
    assert_eq!(texts(&needs), ["grant environment"]);
    // And what is not there is asked of all there is, so that a denial tells nobody whether it is.
    let unbind = Command::Unbind {
        name: BindingName::parse("none").unwrap(),
    };
    let needs = demands::of_command(&world, &unbind, Timestamp::default());
    assert_eq!(texts(&needs), ["bind environment"]);
    let put = Command::Put {
        id: SecretId::default(),
        rotation: RotationId::default(),
        name: name("prod/db"),
        provided: true,
    };
    let needs = demands::of_command(&world, &put, Timestamp::default());
    assert_eq!(texts(&needs), ["write secret/prod/db"]);
}

#[test]
fn a_command_in_containers_takes_the_right_to_their_host_or_to_all_there_is() {
    let with = |on: Option<&str>, argv: &str| {
        let mut one = binding("prod/db");
        if let Declaration::Binding {
            selector, reload, ..
        } = &mut one
        {
            selector.host = on.map(|host| HostName::parse(host).unwrap());
            *reload = Reload::Command {
                argv: vec![argv.to_owned()],
                timeout: Duration::from_secs(1),
            };
        }
        texts(&demands::of_declarations(&World::default(), &[one]))
    };
    let secrets = ["bind secret/prod/also", "bind secret/prod/db"];
    let on_one = with(Some("web-1"), "reload");
    assert_eq!(on_one, [&secrets[..], &["bind host/web-1"][..]].concat());
    let anywhere = with(None, "reload");
    assert_eq!(anywhere, [&["bind environment"][..], &secrets[..]].concat());
}

fn playbook(deed: Deed) -> Spec {
    Spec {
        parameters: Vec::new(),
        steps: vec![Step {
            name: "only".to_owned(),
            deed,
            after: Vec::new(),
            deadline: Duration::from_secs(60),
            may_fail: false,
        }],
        triggers: Vec::new(),
    }
}

#[test]
fn a_playbook_that_runs_another_takes_what_that_one_does_however_far_below() {
    let named = |name: &str| PlaybookName::parse(name).unwrap();
    let runs = |name: &str| Deed::Run {
        playbook: named(name),
        arguments: BTreeMap::new(),
    };
    let rotate = Deed::Rotate {
        secrets: vec![Selection::Secret {
            name: "prod/db".to_owned(),
        }],
    };
    let known = [
        ("inner", rotate),
        ("middle", runs("inner")),
        ("circle", runs("circle")),
    ];
    let mut world = World::default();
    for (n, (name, deed)) in (1..).zip(known) {
        let declared = playbook::Event::Declared {
            name: named(name),
            spec: playbook(deed),
        };
        let id = PlaybookId::from_bytes([n; 16]);
        world.apply(u64::from(n), &Event::Playbook(id, declared));
    }
    let declare = |below: &str| {
        let outer = Declaration::Playbook {
            id: PlaybookId::from_bytes([9; 16]),
            name: named("outer"),
            spec: playbook(runs(below)),
        };
        texts(&demands::of_declarations(&world, &[outer]))
    };
    let of_all = [
        "list playbook/inner",
        "list playbook/middle",
        "write playbook/outer",
        "rotate secret/prod/db",
    ];
    assert_eq!(declare("middle"), of_all);
    let itself = ["list playbook/circle", "write playbook/outer"];
    assert_eq!(declare("circle"), itself);
}
