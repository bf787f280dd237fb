//! What concerns all decisions: the plan's projection, replay, kinds of "no", and random histories.

pub(crate) mod accounts;
mod approvals;
mod entitle;
mod evict;
mod history;
pub(crate) mod leases;
mod left;
mod model;
mod outward;
mod policy;
mod previous;
mod proofs;
mod replace;
mod restored;
mod scopes;
mod several;
mod staging;
mod tokens;

use super::*;
use crate::binding::Reload;
use crate::command::{Command, Declaration};
use crate::id::{BindingId, HostId, RevocationId, RotationId, SecretId};
use crate::name::BindingName;
use crate::plan::plan_host;
use crate::rotation::Step;
use crate::testing::{
    FIRST, Given, HOST, OTHER_HOST, SECOND, SECRET, THIRD, anywhere, apply_binding, apply_secret,
    binding_name, done, enrol, env, file, generated, host_name, on_host, other_host_name, report,
    restart, revoke, rotate, secret_name, swapped,
};
use crate::world::KEPT_CLOSED;
use crate::{binding, host, revocation, rotation};

#[test]
fn a_host_sees_only_bindings_that_mean_it() {
    let given = Given::first_version()
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST))
        .and(apply_binding(on_host(host_name()), file(), Reload::None));
    let plan = |host| plan_host(given.world(), host).unwrap();
    assert_eq!(plan(HOST).bindings.len(), 1);
    assert_eq!(plan(HOST).host_name, host_name());
    assert!(plan(OTHER_HOST).bindings.is_empty());
    assert!(
        given
            .secret()
            .delivered
            .keys()
            .all(|(host, _)| *host == HOST)
    );
    assert_eq!(plan_host(given.world(), HostId::from_bytes([99; 16])), None);
}

#[test]
fn a_change_for_one_host_leaves_the_other_s_generation_alone() {
    let given = Given::first_version()
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST));
    let before = given.world().host_generation(OTHER_HOST);
    let given = given
        .and(apply_binding(on_host(host_name()), file(), Reload::None))
        .and(rotate(SECOND))
        .finished(SECOND);
    assert_eq!(given.world().host_generation(OTHER_HOST), before);
    assert!(given.world().host_generation(HOST) > before);
}

#[test]
fn a_binding_that_moves_to_another_host_raises_both_generations() {
    let moves = |name| apply_binding(on_host(name), file(), Reload::None);
    let given = Given::first_version()
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST));
    let given = given.and(moves(host_name()));
    let before = [HOST, OTHER_HOST].map(|host| given.world().host_generation(host));
    let given = given.and(moves(other_host_name()));
    let after = [HOST, OTHER_HOST].map(|host| given.world().host_generation(host));
    assert!(after[0] > before[0] && after[1] > before[1]);
    let version = |host| {
        let plan = plan_host(given.world(), host).unwrap();
        plan.bindings
            .first()
            .and_then(|binding| binding.current)
            .map(|grant| grant.version)
    };
    assert_eq!((version(HOST), version(OTHER_HOST)), (None, Some(1)));
}

#[test]
fn a_plan_gives_current_and_never_a_dead_or_pending_version() {
    let current = |given: &Given| {
        let plan = plan_host(given.world(), HOST).unwrap();
        plan.bindings[0].current.map(|grant| grant.version)
    };
    let given = Given::serving();
    assert_eq!(current(&given), Some(1));
    let given = given.and(rotate(SECOND));
    assert_eq!(current(&given), Some(1), "version 2 is only pending");
    let given = given.finished(SECOND);
    assert_eq!(current(&given), Some(2));
    let given = given.and(revoke(None));
    assert_eq!(current(&given), None);
    let plan = plan_host(given.world(), HOST).unwrap();
    assert_eq!(
        (plan.bindings[0].floor, plan.bindings[0].dead.len()),
        (2, 0)
    );
}

#[test]
fn folding_the_log_again_gives_the_same_world_at_every_length() {
    let given = Given::retiring()
        .and(done(SECOND, Step::RevokeOld))
        .and(revoke(None));
    let mut live = World::default();
    for (index, event) in given.log().iter().enumerate() {
        live.apply(u64::try_from(index + 1).unwrap(), event);
        let replayed = Given::events(given.log()[..=index].iter().cloned());
        assert_eq!(replayed.world(), &live, "after {} events", index + 1);
    }
    assert_eq!(&live, given.world());
}

#[test]
fn the_oldest_closed_rotations_are_forgotten_and_open_ones_never() {
    let mut given = Given::first_version();
    for n in 0..u8::try_from(KEPT_CLOSED + 3).unwrap() {
        let id = RotationId::from_bytes([100 + n; 16]);
        given = given
            .and(rotate(id))
            .finished(id)
            .and(done(id, Step::RevokeOld));
    }
    assert_eq!(given.world().rotations.len(), KEPT_CLOSED);
    let given = given.and(rotate(THIRD));
    assert_eq!(given.world().rotations.len(), KEPT_CLOSED + 1);
    assert!(!given.world().rotations.contains_key(&FIRST));
}

#[test]
fn an_applied_binding_of_an_unregistered_secret_is_refused_before_anything_is_granted() {
    let command = apply_binding(anywhere(), file(), Reload::None);
    let given = Given::nothing().and(enrol(HOST));
    given.when(command).then_rejected(Rejection::SecretUnknown {
        name: secret_name(),
        nearest: None,
    });
}

fn declared(command: Command) -> Declaration {
    match command {
        Command::Apply(mut declarations) => declarations.remove(0),
        other => panic!("{other:?} declares nothing"),
    }
}

/// Binding `payments`, and another that places another file.
fn two_bindings() -> [Declaration; 2] {
    let first = declared(apply_binding(anywhere(), file(), Reload::None));
    let second = Declaration::Binding {
        id: BindingId::from_bytes([77; 16]),
        name: BindingName::parse("other").unwrap(),
        secret: secret_name(),
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector: anywhere(),
        target: env(),
        reload: restart(),
        on_revoke: crate::binding::OnRevoke::Remove,
    };
    [first, second]
}

#[test]
fn a_declaration_is_decided_on_what_those_before_it_make() {
    let [binding, other] = two_bindings();
    let secret = declared(apply_secret(generated()));
    let declarations = vec![secret, binding, other];
    let given = Given::nothing().and(enrol(HOST));
    let planned = plan_apply(given.world(), &declarations, &context()).unwrap();
    assert!(planned.iter().all(|one| one.action == Action::Created));
    let given = given.and(Command::Apply(declarations.clone()));
    assert_eq!(given.world().bindings.len(), 2);
    let again = plan_apply(given.world(), &declarations, &context()).unwrap();
    assert!(again.iter().all(|one| one.action == Action::Unchanged));
    given.when(Command::Apply(declarations)).then_nothing();
}

#[test]
fn one_refused_declaration_refuses_all_of_them_and_is_named() {
    let secret = declared(apply_secret(generated()));
    let mut stray = declared(apply_binding(anywhere(), file(), Reload::None));
    if let Declaration::Binding { secret, .. } = &mut stray {
        *secret = SecretName::parse("prod/none").unwrap();
    }
    let unknown = Rejection::SecretUnknown {
        name: SecretName::parse("prod/none").unwrap(),
        nearest: None,
    };
    let refused = Rejection::Declared {
        place: 2,
        what: "Binding `payments`".to_owned(),
        reason: Box::new(unknown),
    };
    assert_eq!(refused.kind(), RejectionKind::NotFound);
    Given::nothing()
        .when(Command::Apply(vec![secret, stray]))
        .then_rejected(refused);
}

#[test]
fn two_declarations_of_one_command_draw_different_ids() {
    let given = Given::first_version()
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST));
    let [first, mut second] = two_bindings();
    if let Declaration::Binding { secret, .. } = &mut second {
        *secret = SecretName::parse("prod/other").unwrap();
    }
    let rotation = RotationId::from_bytes([71; 16]);
    let given = given
        .and(Command::Apply(vec![Declaration::Secret {
            id: SecretId::from_bytes([70; 16]),
            rotation,
            name: SecretName::parse("prod/other").unwrap(),
            spec: generated(),
        }]))
        .finished(rotation)
        .and(Command::Apply(vec![first, second]));
    let delivered = given.log().iter().filter_map(|event| match event {
        Event::Secret(_, secret::Event::Delivered { delivery, .. }) => Some(*delivery),
        _ => None,
    });
    let mut delivered: Vec<_> = delivered.collect();
    delivered.sort_unstable();
    delivered.dedup();
    assert_eq!(delivered.len(), 4);
}

fn context() -> Context {
    Context {
        now: Timestamp::default(),
        seed: [0xee; 16],
        enrolment: Enrolment::Local,
    }
}

#[test]
fn a_command_s_ids_differ_from_each_other_and_from_its_seed() {
    let ctx = context();
    let mut ids: Vec<[u8; 16]> = (0..2000).map(|n| ctx.id(n)).collect();
    assert_eq!(ids[0], ctx.seed);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2000);
}

fn assert_kind(kind: RejectionKind, rejections: &[Rejection]) {
    for rejection in rejections {
        assert_eq!(rejection.kind(), kind, "{rejection}");
        let text = rejection.to_string();
        assert!(!text.ends_with('.') && text.len() > 15, "{text}");
    }
}

#[test]
fn what_does_not_exist_is_not_found() {
    let rejections: [Rejection; 6] = [
        Rejection::SecretUnknown {
            name: secret_name(),
            nearest: None,
        },
        Rejection::BindingUnknown(binding_name()),
        secret::Rejection::VersionUnknown {
            secret: secret_name(),
            version: 1,
        }
        .into(),
        host::Rejection::NotEnrolled(HOST).into(),
        rotation::Rejection::Unknown(FIRST).into(),
        revocation::Rejection::Unknown(RevocationId::default()).into(),
    ];
    assert_kind(RejectionKind::NotFound, &rejections);
}

#[test]
fn what_can_never_be_served_is_invalid() {
    let binding = binding_name();
    let name = host_name();
    let of_host = [
        host::Rejection::TokenUnknown,
        host::Rejection::TokenExpired(name.clone()),
        host::Rejection::TokenForged(name.clone()),
        host::Rejection::TokenOfAnother {
            bound: name,
            asked: other_host_name(),
        },
        host::Rejection::ReasonMissing,
    ];
    assert_kind(RejectionKind::Invalid, &of_host.map(Rejection::from));
    let rejections: [Rejection; 6] = [
        secret::Rejection::PhaseTaken {
            secret: secret_name(),
            group: "pair".to_owned(),
            other: secret_name(),
        }
        .into(),
        Rejection::TargetTaken {
            binding: binding.clone(),
            other: binding.clone(),
        },
        binding::Rejection::SelectorTooWeak {
            binding: binding.clone(),
        }
        .into(),
        binding::Rejection::EnvNeedsRestart { binding }.into(),
        rotation::Rejection::NoGenerator {
            secret: secret_name(),
        }
        .into(),
        revocation::Rejection::ReasonMissing.into(),
    ];
    assert_kind(RejectionKind::Invalid, &rejections);
}

#[test]
fn what_the_state_does_not_allow_now_is_a_conflict() {
    let (secret, version, attempt) = (secret_name(), 1, 1);
    let of_secret: [secret::Rejection; 4] = [
        secret::Rejection::VersionDead {
            secret: secret.clone(),
            version,
        },
        secret::Rejection::VersionNotPending {
            secret: secret.clone(),
            version,
        },
        secret::Rejection::PendingExists {
            secret: secret.clone(),
            version,
        },
        secret::Rejection::VersionAlive {
            secret: secret.clone(),
            version,
        },
    ];
    assert_kind(RejectionKind::Conflict, &of_secret.map(Rejection::from));
    let (rotation, revocation, step) = (FIRST, RevocationId::default(), Step::Set);
    let rejections: [Rejection; 10] = [
        binding::Rejection::NotBound {
            binding: binding_name(),
        }
        .into(),
        host::Rejection::NameTaken(host_name()).into(),
        rotation::Rejection::AlreadyOpen {
            secret: secret.clone(),
            rotation,
        }
        .into(),
        rotation::Rejection::SlotServed {
            secret: secret.clone(),
        }
        .into(),
        rotation::Rejection::SlotEarly {
            secret: secret.clone(),
        }
        .into(),
        rotation::Rejection::NotScheduled {
            secret: secret.clone(),
        }
        .into(),
        rotation::Rejection::StepNotOpen {
            rotation,
            step,
            attempt,
        }
        .into(),
        rotation::Rejection::NoDeadline(rotation).into(),
        revocation::Rejection::NothingAlive { secret }.into(),
        revocation::Rejection::AttemptNotOpen {
            revocation,
            attempt,
        }
        .into(),
    ];
    assert_kind(RejectionKind::Conflict, &rejections);
}

#[test]
fn what_a_host_may_not_do_now_is_a_conflict() {
    let name = host_name();
    let of_host = [
        host::Rejection::IdTaken(HOST),
        host::Rejection::Evicted {
            host: HOST,
            name: name.clone(),
        },
        host::Rejection::NotJoined(name.clone()),
        host::Rejection::KeysPinned(name.clone()),
        host::Rejection::TooManyTokens,
        host::Rejection::KeysOutOfTurn {
            name,
            asked: 3,
            known: 1,
        },
    ];
    assert_kind(RejectionKind::Conflict, &of_host.map(Rejection::from));
}

#[test]
fn who_is_kept_out_is_denied_and_other_faults_are_not() {
    let name = host_name();
    let denials = [
        host::Rejection::NotJoined(name.clone()),
        host::Rejection::KeysPinned(name.clone()),
        host::Rejection::TokenUnknown,
        host::Rejection::TokenExpired(name.clone()),
        host::Rejection::TokenForged(name),
    ];
    for denial in denials.map(Rejection::from) {
        assert!(denial.is_denial(), "{denial}");
    }
    let faults = [
        host::Rejection::TooManyTokens,
        host::Rejection::ReasonMissing,
        host::Rejection::NotEnrolled(HOST),
    ];
    for fault in faults.map(Rejection::from) {
        assert!(!fault.is_denial(), "{fault}");
    }
}

#[test]
fn edit_distance_counts_letters_put_in_left_out_and_changed() {
    for (a, b, expected) in [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("abc", "abd", 1),
        ("abc", "ac", 1),
        ("ac", "abc", 1),
        ("kitten", "sitting", 3),
    ] {
        assert_eq!(distance(a, b), expected, "{a} {b}");
    }
}

#[test]
fn two_secrets_do_not_touch_each_other() {
    let other = SecretName::parse("prod/other").unwrap();
    let (id, rotation) = (
        SecretId::from_bytes([70; 16]),
        RotationId::from_bytes([71; 16]),
    );
    let given = Given::distributing().and(Command::Apply(vec![Declaration::Secret {
        id,
        rotation,
        name: other,
        spec: generated(),
    }]));
    let given = given.finished(rotation);
    assert!(given.world().rotations[&SECOND].is_open());
    assert_eq!(given.world().secrets[&id].current, Some(1));
    let mut foreign = report(vec![swapped(1, 2)], &[]);
    foreign.holds = vec![(id, 1)];
    let given = given.and(Command::Report(foreign));
    assert_eq!(given.secret().alive(), [2]);
    assert_eq!(given.world().secrets[&SECRET].current, Some(2));
    given.when(apply_secret(generated())).then_nothing();
}
