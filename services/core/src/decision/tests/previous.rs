//! The version before the current one, kept for templates that name it: who gets it, how long it lives, and
//! how it goes.

use std::collections::BTreeSet;

use super::*;
use crate::decision::scope::{Scope, hits};
use crate::plan::HostPlan;
use crate::resource::{Kind, Resource, Strategy};
use crate::rotation::{Intervention, Outcome, Phase};
use crate::schedule::RotationPolicy;
use crate::secret::{Rejection as No, Spec};
use crate::testing::{REVOCATION, evict};

fn keeping() -> Spec {
    Spec {
        rotation: RotationPolicy {
            keep_previous: true,
            ..RotationPolicy::default()
        },
        ..generated()
    }
}

/// A binding whose template names the version before, too.
fn naming() -> Command {
    Command::Apply(vec![Declaration::Binding {
        id: crate::testing::BINDING,
        name: binding_name(),
        secret: secret_name(),
        also: BTreeSet::new(),
        selector: anywhere(),
        target: file(),
        reload: Reload::None,
        previous: BTreeSet::from([secret_name()]),
        on_revoke: crate::binding::OnRevoke::Remove,
    }])
}

fn says(version: u64, holds: &[u64]) -> Command {
    Command::Report(report(vec![swapped(1, version)], holds))
}

/// Version 1, on which consumer 1 runs.
fn first() -> Given {
    let made = Given::nothing()
        .and(apply_secret(keeping()))
        .finished(FIRST);
    made.and(enrol(HOST)).and(naming()).and(says(1, &[1]))
}

/// Version 2 after it, on which consumer 1 runs, with version 1 beside it in its file.
fn second() -> Given {
    let promoted = first().and(rotate(SECOND)).finished(SECOND);
    promoted.and(says(2, &[2, 1]))
}

/// Version 3 is promoted and on its way.
fn third() -> Given {
    second().and(rotate(THIRD)).finished(THIRD)
}

fn planned(given: &Given, host: HostId) -> HostPlan {
    plan_host(given.world(), host).unwrap()
}

/// What the one binding's plan gives: the current version and the one before.
fn given_out(given: &Given, host: HostId) -> (Option<u64>, Vec<u64>) {
    let plan = planned(given, host);
    let binding = &plan.bindings[0];
    let previous = binding.previous.iter().map(|one| one.grant.version);
    (
        binding.current.map(|grant| grant.version),
        previous.collect(),
    )
}

#[test]
fn without_a_version_before_a_binding_that_names_one_gives_the_current_one_alone() {
    let given = first();
    assert_eq!(given_out(&given, HOST), (Some(1), vec![]));
    assert_eq!(given.secret().retained, None);
}

#[test]
fn the_version_before_outlives_its_rotation_and_is_planned_beside_the_current_one() {
    let given = second();
    let closed = Phase::Closed(Outcome::Completed);
    assert_eq!(given.world().rotations[&SECOND].phase, closed);
    assert_eq!(given.secret().alive(), [1, 2]);
    let stages = (given.secret().previous, given.secret().retained);
    assert_eq!(stages, (Some(1), Some(1)));
    assert_eq!(given_out(&given, HOST), (Some(2), vec![1]));
}

#[test]
fn the_next_rotation_ends_it_and_only_when_no_host_holds_it_any_more() {
    let given = third();
    let open = &given.world().rotations[&THIRD];
    assert_eq!(open.old, [1]);
    assert_eq!(open.barrier, BTreeSet::from([HOST]));
    assert_eq!(given_out(&given, HOST), (Some(3), vec![2]));
    // The file has the new version; something else on the host still has the oldest.
    let given = given.and(says(3, &[3, 2, 1]));
    assert_eq!(given.secret().alive(), [1, 2, 3]);
    let given = given.and(says(3, &[3, 2]));
    assert_eq!(given.secret().alive(), [2, 3]);
    let given = given.and(done(THIRD, Step::RevokeOld));
    let closed = Phase::Closed(Outcome::Completed);
    assert_eq!(given.world().rotations[&THIRD].phase, closed);
    assert_eq!(given.secret().destroyed, BTreeSet::from([1]));
    assert_eq!(given_out(&given, HOST), (Some(3), vec![2]));
}

#[test]
fn a_revocation_of_the_version_before_takes_it_out_of_the_plan_at_once_and_waits_for_the_hosts() {
    let before = second();
    let generation = before.world().host_generation(HOST);
    let given = before.and(revoke(Some(1)));
    assert!(given.world().host_generation(HOST) > generation);
    assert_eq!(given_out(&given, HOST), (Some(2), vec![]));
    let stages = (given.secret().previous, given.secret().retained);
    assert_eq!(stages, (None, None));
    let waiting = |given: &Given| given.world().revocations[&REVOCATION].waiting.clone();
    let given = given.and(says(2, &[2, 1]));
    assert_eq!(waiting(&given), BTreeSet::from([HOST]), "it is held yet");
    let given = given.and(says(2, &[2]));
    assert!(waiting(&given).is_empty());
    assert_eq!(given.secret().current, Some(2));
}

#[test]
fn a_revocation_of_all_leaves_nothing_beside_what_comes_next() {
    let given = second()
        .and(revoke(None))
        .and(rotate(THIRD))
        .finished(THIRD);
    assert_eq!(given.secret().alive(), [3]);
    assert_eq!(given_out(&given, HOST), (Some(3), vec![]));
    let given = second().and(revoke(Some(2)));
    assert_eq!(given_out(&given, HOST).0, None, "no current one");
    let given = given.and(rotate(THIRD)).finished(THIRD);
    assert_eq!(given.world().rotations[&THIRD].old, [1]);
    assert_eq!(given_out(&given, HOST), (Some(3), vec![]));
}

#[test]
fn a_template_that_names_the_version_before_of_a_secret_that_keeps_none_is_refused() {
    let secret = secret_name();
    Given::first_version()
        .and(enrol(HOST))
        .when(naming())
        .then_rejected(No::PreviousNotKept { secret });
}

#[test]
fn what_dies_at_its_resource_is_not_kept() {
    let resource = Resource {
        kind: Kind::Postgres,
        connection: "postgres://rotator@db.example:5432/shop".to_owned(),
        accounts: vec!["app".to_owned(), "app_b".to_owned()],
        admin: secret_name(),
        strategy: Strategy::AlternatingUsers,
        ca: None,
    };
    let spec = Spec {
        rotator: Some(Box::new(resource.clone())),
        ..keeping()
    };
    Given::nothing()
        .when(apply_secret(spec))
        .then_rejected(No::PreviousAtResource {
            secret: secret_name(),
            resource: resource.to_string(),
        });
}

#[test]
fn a_host_is_granted_the_version_before_only_by_a_binding_that_names_it() {
    let granted = |given: &Given| {
        let delivered = given.secret().delivered.keys();
        let there = delivered.filter(|(host, _)| *host == OTHER_HOST);
        there.map(|(_, version)| *version).collect::<Vec<u64>>()
    };
    let joined = second().and(enrol(OTHER_HOST));
    assert_eq!(granted(&joined), [1, 2]);
    assert_eq!(given_out(&joined, OTHER_HOST), (Some(2), vec![1]));
    let plain = apply_binding(anywhere(), file(), Reload::None);
    let joined = second().and(plain).and(enrol(OTHER_HOST));
    assert_eq!(granted(&joined), [2]);
    assert_eq!(given_out(&joined, OTHER_HOST), (Some(2), vec![]));
    // It is named later.
    let named = joined.and(naming());
    assert_eq!(granted(&named), [1, 2]);
    assert_eq!(given_out(&named, OTHER_HOST), (Some(2), vec![1]));
}

#[test]
fn once_it_is_not_to_be_kept_any_more_the_next_rotation_ends_both() {
    let binding = binding_name();
    let named = No::PreviousNamed {
        secret: secret_name(),
        binding,
    };
    second()
        .when(apply_secret(generated()))
        .then_rejected(named.clone());
    // Both in one apply, in whichever order.
    let Command::Apply(secret) = apply_secret(generated()) else {
        panic!();
    };
    let Command::Apply(plain) = apply_binding(anywhere(), file(), Reload::None) else {
        panic!();
    };
    let Command::Apply(still) = naming() else {
        panic!();
    };
    second()
        .when(Command::Apply([still, secret.clone()].concat()))
        .then_rejected(named);
    second().and(Command::Apply([plain.clone(), secret.clone()].concat()));
    let given = second().and(Command::Apply([secret, plain].concat()));
    assert_eq!(given_out(&given, HOST), (Some(2), vec![]));
    assert_eq!(given.secret().alive(), [1, 2], "until then");
    let given = given.and(rotate(THIRD)).finished(THIRD);
    assert_eq!(given.world().rotations[&THIRD].old, [1, 2]);
    assert_eq!(given_out(&given, HOST), (Some(3), vec![]));
}

#[test]
fn to_keep_it_from_now_on_saves_nothing_that_a_rotation_already_ends() {
    let given = Given::distributing().and(apply_secret(keeping()));
    let given = given.and(naming());
    assert_eq!(given.world().rotations[&SECOND].old, [1]);
    assert_eq!(given_out(&given, HOST), (Some(2), vec![]));
}

#[test]
fn one_rotation_ends_what_an_evicted_host_may_have() {
    let given = second().and(enrol(OTHER_HOST)).and(evict(OTHER_HOST));
    let given = given.and(rotate(THIRD)).finished(THIRD);
    assert_eq!(given.world().rotations[&THIRD].old, [1, 2]);
    assert_eq!(given_out(&given, HOST), (Some(3), vec![]));
    let given = given.and(says(3, &[3])).and(done(THIRD, Step::RevokeOld));
    assert_eq!(given.secret().alive(), [3]);
    assert!(given.secret().lost.is_empty());
}

#[test]
fn what_consumers_moved_back_from_is_no_version_before() {
    let mut secret = second().secret().clone();
    for event in [
        crate::secret::Event::VersionStaged {
            version: 3,
            rotation: THIRD,
        },
        crate::secret::Event::VersionPromoted { version: 3 },
    ] {
        secret.evolve(&event);
    }
    let mut early = secret.clone();
    assert_eq!(
        (secret.retained, secret.retained_before),
        (Some(2), Some(1))
    );
    secret.evolve(&crate::secret::Event::VersionPromoted { version: 2 });
    assert_eq!((secret.previous, secret.retained), (Some(3), Some(1)));
    assert_eq!(secret.retained_before, None);
    // Dead meanwhile, or not to be kept any more.
    early.evolve(&crate::secret::Event::VersionRevoked { version: 1 });
    assert_eq!(early.retains_on_return(2), None);
    assert_eq!(early.retained_before, None);
    let mut unkept = third().secret().clone();
    unkept.spec = generated();
    assert_eq!(unkept.retains_on_return(2), None);
}

fn abort() -> Command {
    Command::Intervene {
        rotation: THIRD,
        intervention: Intervention::Abort,
        reason: "ticket 4711".to_owned(),
    }
}

#[test]
fn whoever_never_left_the_version_that_a_rotation_goes_back_to_sees_no_change() {
    let before = planned(&second(), HOST);
    let given = third();
    assert_eq!(given_out(&given, HOST), (Some(3), vec![2]));
    let given = given.and(enrol(OTHER_HOST));
    assert_eq!(given_out(&given, OTHER_HOST), (Some(3), vec![2]));
    let given = given.and(abort());
    let after = planned(&given, HOST);
    assert_eq!(after.bindings, before.bindings);
    assert_eq!(given.world().rotations[&THIRD].old, [3]);
    // Whoever came in between is granted both.
    assert_eq!(given_out(&given, OTHER_HOST), (Some(2), vec![1]));
    // The next rotation ends it, as it would have.
    let mut other = report(Vec::new(), &[2, 1]);
    other.host = OTHER_HOST;
    let given = given.and(Command::Report(other)).and(says(2, &[2, 1]));
    let given = given.and(done(THIRD, Step::RollBack));
    assert_eq!(given.secret().alive(), [1, 2]);
    assert_eq!(
        planned(&given, HOST).bindings[0].previous,
        before.bindings[0].previous
    );
    let fourth = crate::id::RotationId::from_bytes([0x44; 16]);
    let given = given.and(rotate(fourth)).finished(fourth);
    assert_eq!(given.world().rotations[&fourth].old, [1]);
    assert_eq!(given_out(&given, HOST), (Some(4), vec![2]));
}

#[test]
fn while_nothing_is_current_nothing_is_given_beside_it() {
    let given = second().and(revoke(Some(2)));
    assert_eq!(given.secret().retained, Some(1));
    assert_eq!(given_out(&given, HOST), (None, vec![]));
    let joined = given.and(enrol(OTHER_HOST));
    let delivered = joined.secret().delivered.keys();
    assert_eq!(delivered.filter(|(host, _)| *host == OTHER_HOST).count(), 0);
}

#[test]
fn a_binding_that_stays_as_it_is_is_not_asked_again_whether_it_may_name_the_version_before() {
    // A journal of an earlier build, whose secret was let go while a binding named its version before.
    let spec = generated();
    let changed = crate::testing::of_secret(crate::secret::Event::SpecChanged { spec });
    let given = second();
    let given = Given::events(given.log().iter().cloned().chain([changed]));
    given.when(naming()).then_nothing();
}

#[test]
fn the_version_at_a_store_outside_that_holds_the_one_before_is_not_retired() {
    let mut secret = second().secret().clone();
    let remote = |version: u64| crate::store::RemoteVersion(format!("r{version}"));
    for version in [1, 2] {
        secret.evolve(&crate::secret::Event::RemoteVersionNoted {
            version,
            remote: remote(version),
            written: true,
        });
    }
    assert!(secret.written_before(2).is_empty(), "version 1 is kept");
    assert_eq!(
        secret.written_before(3),
        [remote(1)],
        "about to be promoted"
    );
    secret.evolve(&crate::secret::Event::VersionPromoted { version: 3 });
    assert_eq!(secret.written_before(3), [remote(1)]);
}

#[test]
fn what_a_container_has_beside_the_current_version_is_hit_with_it() {
    let hit = |given: &Given| {
        let scope = Scope::Container("web".to_owned());
        let all = hits(given.world(), &scope);
        all.into_iter()
            .flat_map(|hit| hit.versions)
            .collect::<Vec<u64>>()
    };
    assert_eq!(hit(&first()), [1]);
    assert_eq!(hit(&second()), [1, 2]);
    // It moves on, and version 1 is in its file until it has.
    assert_eq!(hit(&third()), [1, 2, 3]);
}
