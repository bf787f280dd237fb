//! Bindings whose templates name several secrets: each is granted, waited for and taken back by itself.

use crate::assignment;
use crate::binding::Reload;
use crate::command::{Command, Declaration};
use crate::decision::Rejection;
use crate::id::{RotationId, SecretId};
use crate::name::SecretName;
use crate::plan::{HostPlan, plan_host};
use crate::report::{Fact, HostReport, Item};
use crate::rotation::{Phase, Step};
use crate::testing::{
    BINDING, Given, HOST, NOW, REVOCATION, SECOND, SECRET, anywhere, binding_name, consumer, enrol,
    file, generated, item, report, rotate, secret_name, swapped,
};

pub(super) const OTHER: SecretId = SecretId::from_bytes([0x21; 16]);
const OTHER_FIRST: RotationId = RotationId::from_bytes([0x22; 16]);
const OTHER_SECOND: RotationId = RotationId::from_bytes([0x23; 16]);

pub(super) fn other_name() -> SecretName {
    SecretName::parse("prod/api").unwrap()
}

pub(super) fn bind(own: SecretName, also: &[SecretName]) -> Command {
    Command::Apply(vec![Declaration::Binding {
        id: BINDING,
        name: binding_name(),
        secret: own,
        also: also.iter().cloned().collect(),
        previous: std::collections::BTreeSet::new(),
        selector: anywhere(),
        target: file(),
        reload: Reload::None,
        on_revoke: crate::binding::OnRevoke::Remove,
    }])
}

pub(super) fn of_other(n: u8, fact: Fact) -> Item {
    Item {
        secret: OTHER,
        ..item(n, fact)
    }
}

pub(super) fn other_swapped(n: u8, version: u64) -> Item {
    of_other(n, Fact::Swapped { version, at: NOW })
}

/// A complete report; the host holds these versions of the one and of the other.
pub(super) fn says(items: Vec<Item>, own: &[u64], other: &[u64]) -> Command {
    let own = own.iter().map(|version| (SECRET, *version));
    let other = other.iter().map(|version| (OTHER, *version));
    Command::Report(HostReport {
        holds: own.chain(other).collect(),
        ..report(items, &[])
    })
}

pub(super) fn both_exist() -> Given {
    Given::first_version()
        .and(Command::Apply(vec![Declaration::Secret {
            id: OTHER,
            rotation: OTHER_FIRST,
            name: other_name(),
            spec: generated(),
        }]))
        .finished(OTHER_FIRST)
        .and(enrol(HOST))
}

/// Consumer 1 holds version 1 of both, in one file.
fn served() -> Given {
    let items = vec![swapped(1, 1), other_swapped(1, 1)];
    both_exist()
        .and(bind(secret_name(), &[other_name()]))
        .and(says(items, &[1], &[1]))
}

fn further(n: u8) -> assignment::Key {
    assignment::Key {
        also: Some(OTHER),
        ..consumer(n)
    }
}

fn keys(given: &Given) -> Vec<assignment::Key> {
    given.world().assignments.keys().cloned().collect()
}

fn planned(given: &Given) -> HostPlan {
    plan_host(given.world(), HOST).unwrap()
}

#[test]
fn every_secret_that_is_named_is_granted_and_planned() {
    let given = served();
    let plan = planned(&given);
    let [binding] = plan.bindings.as_slice() else {
        panic!("{} bindings", plan.bindings.len());
    };
    let [other] = binding.also.as_slice() else {
        panic!("{} further secrets", binding.also.len());
    };
    assert_eq!((other.secret, &other.name), (OTHER, &other_name()));
    assert_eq!(binding.current.map(|grant| grant.version), Some(1));
    assert_eq!(other.current.map(|grant| grant.version), Some(1));
    let granted = &given.world().secrets[&OTHER].delivered;
    assert!(granted.contains_key(&(HOST, 1)));
    assert_eq!(keys(&given), [consumer(1), further(1)]);
    assert!(given.world().is_bound(OTHER));
    given
        .when(bind(secret_name(), &[other_name()]))
        .then_nothing();
}

#[test]
fn a_secret_that_is_named_has_to_exist() {
    let name = SecretName::parse("elsewhere/unknown-thing").unwrap();
    both_exist()
        .when(bind(secret_name(), std::slice::from_ref(&name)))
        .then_rejected(Rejection::SecretUnknown {
            name,
            nearest: None,
        });
}

#[test]
fn a_binding_s_own_secret_is_no_further_one() {
    let given = both_exist().and(bind(secret_name(), &[secret_name()]));
    assert!(
        planned(&given)
            .bindings
            .iter()
            .all(|one| one.also.is_empty())
    );
}

#[test]
fn a_rotation_of_one_of_them_waits_for_that_one() {
    let given = served()
        .and(Command::Rotate {
            rotation: OTHER_SECOND,
            secret: other_name(),
        })
        .finished(OTHER_SECOND);
    let waiting = &given.world().rotations[&OTHER_SECOND].waiting;
    assert_eq!(Vec::from_iter(waiting), [&further(1)]);
    let given = given.and(says(vec![swapped(1, 1)], &[1], &[1]));
    assert!(!given.world().rotations[&OTHER_SECOND].waiting.is_empty());
    let both = vec![swapped(1, 1), other_swapped(1, 2)];
    let given = given.and(says(both, &[1], &[2]));
    let open = &given.world().rotations[&OTHER_SECOND];
    assert!(open.waiting.is_empty() && open.barrier.is_empty());
    assert!(matches!(
        open.phase,
        Phase::Performing {
            step: Step::RevokeOld,
            ..
        }
    ));
    let held: Vec<u64> = given
        .world()
        .assignments
        .values()
        .map(|one| one.holds)
        .collect();
    assert_eq!(held, [1, 2], "of each its own version");
}

#[test]
fn a_report_ends_the_rotation_that_it_settles_and_no_other() {
    let given = served()
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(Command::Rotate {
            rotation: OTHER_SECOND,
            secret: other_name(),
        })
        .finished(OTHER_SECOND);
    let retires = |given: &Given, rotation| {
        let phase = &given.world().rotations[&rotation].phase;
        matches!(phase, Phase::Performing { step, .. } if *step == Step::RevokeOld)
    };
    let given = given.and(says(vec![swapped(1, 2), other_swapped(1, 1)], &[2], &[1]));
    assert!(retires(&given, SECOND) && !retires(&given, OTHER_SECOND));
    let open = &given.world().rotations[&OTHER_SECOND];
    assert_eq!((open.waiting.len(), open.barrier.len()), (1, 1));
    // Another container that took the old version of late holds up its end.
    let late = vec![other_swapped(1, 2), other_swapped(2, 1)];
    let given = given.and(says(late, &[2], &[2]));
    assert!(!retires(&given, OTHER_SECOND));
    let given = given.and(says(vec![other_swapped(2, 2)], &[2], &[2]));
    assert!(retires(&given, OTHER_SECOND));
}

#[test]
fn a_revoked_one_is_not_given_any_more_and_the_rest_is_not_dead() {
    let given = served().and(Command::Revoke {
        revocation: REVOCATION,
        secret: other_name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    });
    let plan = planned(&given);
    let binding = plan.bindings.first().unwrap();
    let other = binding.also.first().unwrap();
    assert!(binding.current.is_some() && other.current.is_none());
    assert!(other.floor >= 1 || other.dead.contains(&1));
    let gone = vec![item(1, Fact::Withdrawn), of_other(1, Fact::Withdrawn)];
    let given = given.and(says(gone, &[1], &[]));
    assert!(given.world().revocations[&REVOCATION].waiting.is_empty());
    assert!(keys(&given).is_empty());
}

#[test]
fn secrets_keep_their_places_when_a_binding_makes_another_its_own() {
    let exchanged = served().and(bind(other_name(), &[secret_name()]));
    let items = vec![other_swapped(1, 1), swapped(1, 1)];
    let exchanged = exchanged.when(says(items, &[1], &[1])).then_nothing();
    // Nothing is left of the one that is named no more.
    let alone = exchanged.and(bind(other_name(), &[]));
    let alone = alone.and(says(vec![item(1, Fact::Withdrawn)], &[], &[1]));
    assert_eq!(keys(&alone), [further(1)]);
    let fresh = alone.and(says(vec![other_swapped(2, 1)], &[], &[1]));
    assert_eq!(keys(&fresh), [further(1), consumer(2)]);
}

#[test]
fn a_second_secret_that_becomes_the_binding_s_own_takes_no_place() {
    let given = both_exist()
        .and(bind(secret_name(), &[]))
        .and(says(vec![swapped(1, 1)], &[1], &[]))
        .and(bind(other_name(), &[secret_name()]));
    let items = vec![other_swapped(1, 1), swapped(1, 1)];
    let given = given.and(says(items.clone(), &[1], &[1]));
    assert_eq!(keys(&given), [consumer(1), further(1)]);
    given.when(says(items, &[1], &[1])).then_nothing();
}

#[test]
fn a_late_farewell_does_not_take_back_what_came_since() {
    let farewell = item(1, Fact::Withdrawn);
    let given = both_exist()
        .and(bind(secret_name(), &[]))
        .and(says(vec![swapped(1, 1)], &[1], &[]))
        .and(bind(other_name(), &[]))
        .and(says(vec![farewell.clone(), other_swapped(1, 1)], &[], &[1]));
    assert_eq!(given.world().consumers(OTHER).count(), 1);
    given.when(says(vec![farewell], &[], &[1])).then_nothing();
}
