//! One case per event and per rejection of a secret.

use super::*;
use crate::command::{Command, Declaration};
use crate::event;
use crate::id::{DeliveryId, RotationId, SecretId};
use crate::name::SecretName;
use crate::rotation::{self, Step, Trigger};
use crate::schedule::{Ack, GroupOffset, RotationPolicy, Schedule};
use crate::store::{AwsAuth, AwsSpec, Backend, CredentialRef, OldVersions, VaultAuth, VaultSpec};
use crate::testing::{
    FIRST, Given, HOST, NOW, REVOCATION, SECOND, SECRET, apply_secret, done, drawn, generated,
    of_rotation, of_secret, revoke, rotate, secret_name,
};

fn staged(version: u64) -> Event {
    Event::VersionStaged {
        version,
        rotation: RotationId::default(),
    }
}

fn secret(events: impl IntoIterator<Item = Event>) -> Secret {
    let mut secret = Secret::registered(SECRET, secret_name(), generated());
    events.into_iter().for_each(|event| secret.evolve(&event));
    secret
}

/// Version 1 revoked, version 2 current, version 3 pending.
fn three_versions() -> Secret {
    secret([
        staged(1),
        Event::VersionPromoted { version: 1 },
        staged(2),
        Event::VersionPromoted { version: 2 },
        Event::VersionRevoked { version: 1 },
        staged(3),
    ])
}

#[test]
fn a_new_name_is_registered_and_gets_its_first_version() {
    Given::nothing().when(apply_secret(generated())).then([
        of_secret(Event::Registered {
            name: secret_name(),
            spec: generated(),
        }),
        of_secret(Event::VersionStaged {
            version: 1,
            rotation: FIRST,
        }),
        of_rotation(
            FIRST,
            rotation::Event::Started {
                secret: SECRET,
                version: 1,
                trigger: Trigger::Initial,
            },
        ),
        of_rotation(
            FIRST,
            rotation::Event::StepStarted {
                step: Step::Create,
                attempt: 1,
            },
        ),
    ]);
}

#[test]
fn a_secret_without_a_generator_is_registered_and_waits_for_its_value() {
    let given = Given::nothing().when(apply_secret(Spec::default()));
    let registered = Event::Registered {
        name: secret_name(),
        spec: Spec::default(),
    };
    given.then([of_secret(registered)]);
}

#[test]
fn the_same_manifest_again_changes_nothing_and_another_changes_the_spec() {
    let given = Given::first_version();
    given.clone().when(apply_secret(generated())).then_nothing();
    let spec = Spec {
        rotation: RotationPolicy {
            schedule: Schedule::Interval(std::time::Duration::from_secs(60)),
            ..RotationPolicy::default()
        },
        ..generated()
    };
    let changed = of_secret(Event::SpecChanged { spec: spec.clone() });
    let after = given.when(apply_secret(spec.clone())).then([changed]);
    assert_eq!(after.secret().spec, spec);
}

#[test]
fn a_staged_version_is_pending_and_its_number_is_never_given_out_again() {
    let secret = secret([staged(1), Event::VersionRevoked { version: 1 }]);
    assert_eq!((secret.pending, secret.last_version), (None, 1));
    assert_eq!(
        secret.decide_stage(SECOND),
        Ok(Event::VersionStaged {
            version: 2,
            rotation: SECOND
        })
    );
}

#[test]
fn a_promoted_version_is_current_and_the_former_one_previous() {
    let secret = three_versions();
    assert_eq!(
        (secret.pending, secret.current, secret.previous),
        (Some(3), Some(2), None)
    );
    assert_eq!(
        secret.decide_promote(3),
        Ok(Event::VersionPromoted { version: 3 })
    );
    let mut promoted = secret;
    promoted.evolve(&Event::VersionPromoted { version: 3 });
    assert_eq!(
        (promoted.pending, promoted.current, promoted.previous),
        (None, Some(3), Some(2))
    );
}

#[test]
fn a_delivered_version_is_granted_once_per_host() {
    let delivered = Event::Delivered {
        host: HOST,
        version: 2,
        delivery: drawn(1),
    };
    let mut secret = three_versions();
    assert_eq!(
        secret.decide_deliver(HOST, 2, drawn(1)),
        Ok(Some(delivered.clone()))
    );
    secret.evolve(&delivered);
    assert_eq!(secret.decide_deliver(HOST, 2, drawn(2)), Ok(None));
    assert_eq!(secret.delivered[&(HOST, 2)], drawn(1));
}

#[test]
fn a_revoked_version_loses_stage_and_grants_and_is_never_deliverable_again() {
    let mut secret = three_versions();
    secret.evolve(&Event::Delivered {
        host: HOST,
        version: 2,
        delivery: DeliveryId::default(),
    });
    assert_eq!(
        secret.decide_revoke(2),
        Ok(Event::VersionRevoked { version: 2 })
    );
    secret.evolve(&Event::VersionRevoked { version: 2 });
    assert_eq!((secret.current, secret.is_deliverable(2)), (None, false));
    assert!(secret.delivered.is_empty());
    assert_eq!(secret.alive(), [3]);
}

#[test]
fn the_floor_rises_only_over_an_unbroken_row_of_dead_versions() {
    let mut secret = secret([staged(1), staged(2), staged(3)]);
    secret.evolve(&Event::VersionRevoked { version: 2 });
    assert_eq!((secret.floor, secret.dead.len()), (0, 1));
    secret.evolve(&Event::VersionRevoked { version: 1 });
    assert_eq!((secret.floor, secret.dead.len()), (2, 0));
    assert_eq!(secret.alive(), [3]);
}

#[test]
fn a_destroyed_version_is_noted_once() {
    let mut secret = three_versions();
    assert_eq!(
        secret.decide_destroy(1),
        Ok(Some(Event::VersionDestroyed { version: 1 }))
    );
    secret.evolve(&Event::VersionDestroyed { version: 1 });
    assert_eq!(secret.decide_destroy(1), Ok(None));
}

#[test]
fn a_version_that_was_never_given_out_is_unknown() {
    let secret = three_versions();
    for version in [0, 4] {
        let unknown = Rejection::VersionUnknown {
            secret: secret_name(),
            version,
        };
        assert_eq!(secret.decide_promote(version), Err(unknown.clone()));
        assert_eq!(secret.decide_revoke(version), Err(unknown.clone()));
        assert_eq!(secret.decide_destroy(version), Err(unknown.clone()));
        assert_eq!(
            secret.decide_deliver(HOST, version, drawn(1)),
            Err(unknown.clone())
        );
        if version == 4 {
            Given::first_version()
                .when(revoke(Some(4)))
                .then_rejected(unknown);
        }
    }
}

#[test]
fn a_dead_version_is_not_promoted_delivered_or_revoked_again() {
    let secret = three_versions();
    let dead = Rejection::VersionDead {
        secret: secret_name(),
        version: 1,
    };
    assert_eq!(secret.decide_promote(1), Err(dead.clone()));
    assert_eq!(secret.decide_deliver(HOST, 1, drawn(1)), Err(dead.clone()));
    assert_eq!(secret.decide_revoke(1), Err(dead));
}

/// Version 2 is pending though no rotation makes it: what no decision leads to.
fn stray_version() -> Vec<event::Event> {
    let registered = Event::Registered {
        name: secret_name(),
        spec: generated(),
    };
    let promoted = Event::VersionPromoted { version: 1 };
    [registered, staged(1), promoted, staged(2)]
        .map(of_secret)
        .to_vec()
}

/// A rotation that makes a version and waits for the end of a step.
fn performing(version: u64, step: Step) -> Vec<event::Event> {
    let started = rotation::Event::Started {
        secret: SECRET,
        version,
        trigger: Trigger::OnDemand,
    };
    let distributing = rotation::Event::DistributionStarted {
        consumers: Vec::new(),
        hosts: Vec::new(),
        old: vec![1],
        deadline: NOW,
    };
    let waiting = rotation::Event::StepStarted { step, attempt: 1 };
    [started, distributing, waiting]
        .map(|event| of_rotation(SECOND, event))
        .to_vec()
}

#[test]
fn only_the_pending_version_is_promoted() {
    let rejection = Rejection::VersionNotPending {
        secret: secret_name(),
        version: 1,
    };
    Given::events([stray_version(), performing(1, Step::Finish)].concat())
        .when(done(SECOND, Step::Finish))
        .then_rejected(rejection);
}

#[test]
fn no_second_version_is_staged_beside_a_pending_one() {
    let rejection = Rejection::PendingExists {
        secret: secret_name(),
        version: 2,
    };
    Given::events(stray_version())
        .when(rotate(SECOND))
        .then_rejected(rejection);
}

#[test]
fn a_version_that_is_alive_is_not_destroyed() {
    let rejection = Rejection::VersionAlive {
        secret: secret_name(),
        version: 1,
    };
    Given::events([stray_version(), performing(2, Step::RevokeOld)].concat())
        .when(done(SECOND, Step::RevokeOld))
        .then_rejected(rejection);
}

#[test]
fn version_numbers_go_on_after_everything_was_revoked() {
    let given = Given::first_version().and(revoke(None)).and(rotate(SECOND));
    assert_eq!(given.secret().pending, Some(2));
    assert_eq!(given.world().revocations[&REVOCATION].versions, [1]);
}

/// Secrets of one group, each with its offset in hours.
fn members(wanted: &[(&str, u8, u64)]) -> Command {
    let declare = |(name, n, hours): &(&str, u8, u64)| Declaration::Secret {
        id: SecretId::from_bytes([*n; 16]),
        rotation: RotationId::from_bytes([0x40 + *n; 16]),
        name: SecretName::parse(name).unwrap(),
        spec: Spec {
            rotation: RotationPolicy {
                schedule: Schedule::Cron {
                    expression: "0 3 * * *".to_owned(),
                    timezone: "UTC".to_owned(),
                },
                phase: Some(GroupOffset {
                    group: "pair".to_owned(),
                    offset: std::time::Duration::from_secs(hours * 3600),
                }),
                ..RotationPolicy::default()
            },
            ..generated()
        },
    };
    Command::Apply(wanted.iter().map(declare).collect())
}

fn taken(secret: &str, other: &str) -> Rejection {
    Rejection::PhaseTaken {
        secret: SecretName::parse(secret).unwrap(),
        group: "pair".to_owned(),
        other: SecretName::parse(other).unwrap(),
    }
}

#[test]
fn two_of_a_group_do_not_have_the_same_offset() {
    Given::nothing()
        .when(members(&[("a", 1, 0), ("b", 2, 0)]))
        .then_rejected(taken("b", "a"));
    let given = Given::nothing().and(members(&[("a", 1, 0), ("b", 2, 12)]));
    given
        .clone()
        .when(members(&[("c", 3, 12)]))
        .then_rejected(taken("c", "b"));
    let third = given.and(members(&[("c", 3, 6)]));
    assert_eq!(third.world().secrets.len(), 3);
}

#[test]
fn two_of_a_group_exchange_their_offsets_in_one_apply() {
    let given = Given::nothing().and(members(&[("a", 1, 0), ("b", 2, 12)]));
    given
        .clone()
        .when(members(&[("a", 1, 12)]))
        .then_rejected(taken("a", "b"));
    let exchanged = given.and(members(&[("a", 1, 12), ("b", 2, 0)]));
    let offset = |n| {
        let secret = &exchanged.world().secrets[&SecretId::from_bytes([n; 16])];
        secret
            .spec
            .rotation
            .phase
            .as_ref()
            .unwrap()
            .offset
            .as_secs()
    };
    assert_eq!((offset(1), offset(2)), (12 * 3600, 0));
}

fn lying_at(path: &str) -> Spec {
    let place = Place {
        store: StoreName::parse("vault").unwrap(),
        source: Source {
            path: path.to_owned(),
            field: "password".to_owned(),
        },
    };
    Spec {
        store: Store::Outside(place),
        ..Spec::default()
    }
}

#[test]
fn nothing_is_promised_of_a_value_that_a_server_ended_at_once() {
    let policy = RotationPolicy {
        keep_previous: true,
        ack: Some(Ack::Drained),
        ..RotationPolicy::default()
    };
    let refused = |path: &str| {
        let spec = Spec {
            rotation: policy.clone(),
            ..lying_at(path)
        };
        [openbao(), aws()].map(|backend| {
            let kept = Secret::refuse_keeping(&secret_name(), &spec, Some(&backend));
            let drained = Secret::refuse_draining(&secret_name(), &spec, Some(&backend));
            (kept.is_err(), drained.is_err())
        })
    };
    assert_eq!(refused("app/db"), [(false, false); 2]);
    let at_aws = (false, false);
    assert_eq!(refused("/db/static-creds/app"), [(true, true), at_aws]);
}

fn openbao() -> Backend {
    Backend::Vault(VaultSpec {
        address: "https://vault:8200".to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token {
            token: CredentialRef::File("/etc/token".to_owned()),
        },
    })
}

fn aws() -> Backend {
    Backend::Aws(AwsSpec {
        region: "eu-central-1".to_owned(),
        endpoint: String::new(),
        auth: AwsAuth::Chain {
            profile: String::new(),
        },
    })
}

#[test]
fn what_a_server_made_itself_has_no_way_back() {
    let lies_at = |path: &str| Secret::registered(SECRET, secret_name(), lying_at(path));
    assert!(lies_at("app/db").has_way_back());
    assert!(!lies_at("/team/db/static-creds/app").has_way_back());
    assert!(secret([]).has_way_back());
}
