//! What policies take from a binding and give back, and the set that its record names.

use std::collections::BTreeSet;

use keywheel_core::binding::{self, Denial, OnRevoke, Selector, Spec, Target};
use keywheel_core::id::PolicySetId;
use keywheel_core::name::EnvName;
use keywheel_core::policy::{self, Policies};

use super::*;

const SET: PolicySetId = PolicySetId::from_bytes([6; 16]);

fn policies() -> Policies {
    Policies {
        text: String::new(),
        groups: Vec::new(),
    }
}

fn applied(version: u64) -> Event {
    let event = policy::Event::Applied {
        version,
        policies: policies(),
        by: "unix:0".to_owned(),
    };
    Event::Policy(SET, event)
}

fn apply() -> Command {
    Command::ApplyPolicies(policy::Request {
        id: SET,
        expected: None,
        policies: policies(),
        by: "unix:0".to_owned(),
    })
}

/// A binding that is granted, and one that is withheld.
fn of_bindings() -> [Event; 2] {
    let spec = Spec {
        secret: SECRET,
        also: BTreeSet::new(),
        selector: Selector::default(),
        target: Target::Env {
            name: EnvName::parse("A").unwrap(),
        },
        reload: Reload::None,
        previous: BTreeSet::new(),
        on_revoke: OnRevoke::Remove,
    };
    let denial = Denial {
        service: "web".to_owned(),
        secret: SECRET,
        reason: "default deny".to_owned(),
    };
    let name = |name| BindingName::parse(name).unwrap();
    let bound = binding::Event::Bound {
        name: name("web"),
        spec: spec.clone(),
    };
    let withheld = binding::Event::Withheld {
        name: name("jobs"),
        spec,
        denial,
    };
    [
        Event::Binding(BindingId::from_bytes([1; 16]), bound),
        Event::Binding(BindingId::from_bytes([2; 16]), withheld),
    ]
}

/// What the records of a decision about bindings say beside its own, after these sets.
fn told(sets: u64, command: &Command, mut decided: Vec<Event>) -> Vec<(String, String)> {
    let mut world = World::default();
    for version in 1..=sets {
        world.apply(version, &applied(version));
    }
    decided.extend(of_bindings());
    let principal = Principal::Service(Role::Gateway);
    let left = records(&world, &deed(&principal), command, &Ok(decided));
    let verbs = ["give-back", "withhold"];
    let own = left
        .into_iter()
        .filter(|record| verbs.contains(&record.verb.as_str()));
    own.map(|record| (record.verb, record.reason)).collect()
}

fn words(set: &str) -> Vec<(String, String)> {
    let given = format!("policies permit again what it grants{set}");
    let taken = format!("service `web` may not read secret/: default deny{set}");
    vec![
        ("give-back".to_owned(), given),
        ("withhold".to_owned(), taken),
    ]
}

#[test]
fn what_policies_take_and_give_back_names_the_version_that_decided() {
    // The set that comes in force decides, and not the one before it.
    let comes = told(2, &apply(), vec![applied(3)]);
    assert_eq!(comes, words(" (policies version 3)"));
    let is_in_force = told(2, &Command::JudgeBindings, Vec::new());
    assert_eq!(is_in_force, words(" (policies version 2)"));
    let is_none = told(0, &Command::JudgeBindings, Vec::new());
    assert_eq!(is_none, words(""));
}
