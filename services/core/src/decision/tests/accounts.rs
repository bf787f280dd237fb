//! Secrets whose versions open accounts: whose an account is, which password the admin has, and what
//! whoever works is told.

use super::*;
use crate::command::Observation;
use crate::effect::{AtResource, Work};
use crate::id::StoreId;
use crate::name::{SecretName, StoreName};
use crate::report::HostReport;
use crate::resource::{Kind, Resource, Strategy};
use crate::rotation::react;
use crate::secret::{Place, Rejection as No, Spec, Store};
use crate::store::{
    AwsAuth, AwsSpec, Backend, CredentialNow, DEFAULT_POLL, DEFAULT_TIMEOUT, RemoteVersion, Source,
    StoreSpec,
};
use crate::testing::{opening, reloaded};

const ADMIN: SecretId = SecretId::from_bytes([40; 16]);
const OTHER: SecretId = SecretId::from_bytes([41; 16]);
const GIVEN: RotationId = RotationId::from_bytes([42; 16]);
const SERVER: &str = "postgres://db.example:5432";

fn admin_name() -> SecretName {
    SecretName::parse("shop/admin").unwrap()
}

pub(super) fn resource(accounts: &[&str]) -> Resource {
    Resource {
        kind: Kind::Postgres,
        connection: "postgres://rotator@db.example:5432/shop".to_owned(),
        accounts: accounts.iter().map(ToString::to_string).collect(),
        admin: admin_name(),
        strategy: match accounts.len() {
            1 => Strategy::SingleUser,
            _ => Strategy::AlternatingUsers,
        },
        ca: None,
    }
}

fn secret(id: SecretId, name: SecretName, spec: Spec) -> Command {
    Command::Apply(vec![Declaration::Secret {
        id,
        rotation: RotationId::from_bytes([43; 16]),
        name,
        spec,
    }])
}

/// The admin's password is there.
pub(super) fn with_admin() -> Given {
    with_admin_beside(Given::nothing())
}

fn with_admin_beside(given: Given) -> Given {
    let spec = Spec {
        credential_for: Some(SERVER.to_owned()),
        ..Spec::default()
    };
    let put = Command::Put {
        id: ADMIN,
        rotation: GIVEN,
        name: admin_name(),
        provided: true,
    };
    let declared = given.and(secret(ADMIN, admin_name(), spec));
    declared.and(put).finished(GIVEN)
}

/// A secret over two accounts, whose version 1 is current.
pub(crate) fn alternating() -> Given {
    let spec = opening(resource(&["app", "app_b"]));
    with_admin().and(apply_secret(spec)).finished(FIRST)
}

/// A version at the store outside.
pub(crate) fn at_aws(n: u64) -> RemoteVersion {
    RemoteVersion(n.to_string())
}

/// The last step of a rotation whose version lies at a store outside, too.
pub(crate) fn written(rotation: RotationId, n: u64) -> Command {
    Command::StepOutcome {
        rotation,
        step: Step::Finish,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: Some(at_aws(n)),
        sessions: None,
    }
}

/// The same secret, whose versions also lie at AWS Secrets Manager.
pub(crate) fn alternating_at_aws() -> Given {
    let name = StoreName::parse("aws").unwrap();
    let store = Command::Apply(vec![Declaration::Store {
        id: StoreId::from_bytes([0x31; 16]),
        name: name.clone(),
        spec: StoreSpec {
            backend: Backend::Aws(AwsSpec {
                region: "eu-central-1".to_owned(),
                endpoint: String::new(),
                auth: AwsAuth::Chain {
                    profile: String::new(),
                },
            }),
            poll: DEFAULT_POLL,
            timeout: DEFAULT_TIMEOUT,
        },
    }]);
    let source = Source {
        path: "prod/db".to_owned(),
        field: String::new(),
    };
    let place = Place {
        store: name,
        source,
    };
    let spec = Spec {
        store: Store::Outside(place),
        ..opening(resource(&["app", "app_b"]))
    };
    let looked = Command::Observed(Observation {
        secret: SECRET,
        rotation: FIRST,
        known: None,
        found: None,
        is_unchanged: false,
        is_gone: false,
    });
    let given = with_admin().and(store).and(apply_secret(spec)).and(looked);
    let steps = [Step::Create, Step::Set, Step::Test].into_iter();
    let made = steps.fold(given, |given, step| given.and(done(FIRST, step)));
    made.and(written(FIRST, 1))
}

#[test]
fn an_account_belongs_to_one_secret_however_its_server_is_written() {
    let other = SecretName::parse("shop/other").unwrap();
    let theirs = Resource {
        connection: "postgresql://someone@DB.example:5432/stock".to_owned(),
        ..resource(&["app_b"])
    };
    let second = alternating().when(secret(OTHER, other.clone(), opening(theirs.clone())));
    second.then_rejected(No::AccountTaken {
        secret: other.clone(),
        other: secret_name(),
        account: "app_b".to_owned(),
        resource: "postgres at db.example:5432".to_owned(),
    });
    let elsewhere = Resource {
        accounts: vec!["stock".to_owned()],
        ..theirs
    };
    let _apart = alternating().and(secret(OTHER, other, opening(elsewhere)));
    let spec = opening(resource(&["app", "app_b"]));
    alternating().when(apply_secret(spec)).then_nothing();
}

#[test]
fn the_admin_s_password_is_given_for_that_server_before_anything_is_made_there() {
    let spec = || opening(resource(&["app"]));
    let not_meant = || No::AdminNotMeant {
        secret: secret_name(),
        admin: admin_name(),
        server: SERVER.to_owned(),
    };
    let nobody = Given::nothing().when(apply_secret(spec()));
    nobody.then_rejected(not_meant());
    let ordinary = Given::nothing().and(secret(ADMIN, admin_name(), generated()));
    ordinary
        .when(apply_secret(spec()))
        .then_rejected(not_meant());
    let _declared = with_admin().and(apply_secret(spec()));
}

#[test]
fn what_versions_open_stays_and_the_admin_may_change() {
    let fixed = || No::ResourceFixed {
        secret: secret_name(),
    };
    for wish in [
        opening(resource(&["app", "app_c"])),
        opening(resource(&["app"])),
        generated(),
    ] {
        alternating()
            .when(apply_secret(wish))
            .then_rejected(fixed());
    }
    let moved = Resource {
        connection: "postgres://new_admin@db.example:5432/shop".to_owned(),
        ca: Some("/etc/keywheel/ca.pem".to_owned()),
        ..resource(&["app", "app_b"])
    };
    let given = alternating().and(apply_secret(opening(moved.clone())));
    assert_eq!(given.secret().spec.rotator.as_deref(), Some(&moved));
    // A value that opened nothing may be the password of one account, and of no two.
    let before = || with_admin().and(apply_secret(generated())).finished(FIRST);
    let two = before().when(apply_secret(opening(resource(&["app", "app_b"]))));
    two.then_rejected(fixed());
    let _one = before().and(apply_secret(opening(resource(&["app"]))));
}

/// What the work of the step that is open names.
fn told(given: &Given, rotation: RotationId) -> AtResource {
    let (world, log) = (given.world(), given.log());
    let begun = log.iter().rev().find_map(|event| match event {
        Event::Rotation(id, begun @ rotation::Event::StepStarted { .. }) if *id == rotation => {
            Some(begun)
        }
        _ => None,
    });
    let mut effects = react(world, &world.rotations[&rotation], begun.unwrap());
    match effects.remove(0).work {
        Work::Step(work) => *work.resource.expect("it opens accounts"),
        other @ Work::Revoke(_) => panic!("{other:?}"),
    }
}

#[test]
fn whoever_works_is_told_the_admin_s_version_and_what_else_may_be_in_use() {
    let at = |current: Option<u64>| AtResource {
        resource: resource(&["app", "app_b"]),
        admin: Some(CredentialNow {
            name: admin_name(),
            secret: ADMIN,
            version: Some(1),
        }),
        current,
        kept: Vec::new(),
        unclear: false,
    };
    let given = alternating().and(rotate(SECOND));
    assert_eq!(told(&given, SECOND), at(Some(1)));
    // Nobody has to move: sessions of the old version are asked for at once.
    let given = given.finished(SECOND);
    assert_eq!(told(&given, SECOND), at(Some(2)));
}

#[test]
fn a_cut_over_is_aborted_before_the_promotion_and_only_goes_forward_after_it() {
    let abort = || Command::Intervene {
        rotation: SECOND,
        intervention: rotation::Intervention::Abort,
        reason: "ticket 4711".to_owned(),
    };
    let given = with_admin_beside(Given::serving());
    let given = given.and(apply_secret(opening(resource(&["app"]))));
    let begun = given.and(rotate(SECOND));
    let _aborted = begun.clone().and(abort());
    let moving = begun.finished(SECOND);
    let cut_over = rotation::Rejection::CutOver {
        rotation: SECOND,
        secret: secret_name(),
    };
    moving.when(abort()).then_rejected(cut_over);
}

#[test]
fn an_admin_that_was_declared_for_another_server_since_is_not_told() {
    let meant_for = |server: &str| Spec {
        credential_for: Some(server.to_owned()),
        ..Spec::default()
    };
    let put = Command::Put {
        id: ADMIN,
        rotation: GIVEN,
        name: admin_name(),
        provided: true,
    };
    let spec = opening(resource(&["app"]));
    let declared = Given::nothing()
        .and(secret(ADMIN, admin_name(), meant_for(SERVER)))
        .and(apply_secret(spec));
    let moved = secret(
        ADMIN,
        admin_name(),
        meant_for("postgres://other.example:5432"),
    );
    let elsewhere = declared.clone().and(moved).and(put.clone()).finished(GIVEN);
    assert_eq!(told(&elsewhere, FIRST).admin, None);
    let given = declared.and(put).finished(GIVEN);
    let version = told(&given, FIRST).admin.and_then(|admin| admin.version);
    assert_eq!(version, Some(1));
}

/// Whether the work of a revocation names the accounts.
fn reaches_the_server(given: Given, version: Option<u64>) -> bool {
    let given = given.and(revoke(version));
    let world = given.world();
    let requested = given.log().iter().rev().find_map(|event| match event {
        Event::Revocation(id, event @ revocation::Event::Requested { .. }) => Some((id, event)),
        _ => None,
    });
    let (id, requested) = requested.unwrap();
    let mut effects = revocation::react(world, &world.revocations[id], requested);
    match effects.remove(0).work {
        Work::Revoke(work) => work.resource.is_some(),
        other @ Work::Step(_) => panic!("{other:?}"),
    }
}

#[test]
fn an_account_that_was_only_about_to_be_taken_over_is_not_locked_by_a_revocation() {
    let begun = || with_admin().and(apply_secret(opening(resource(&["app"]))));
    assert!(!reaches_the_server(begun(), None), "nothing was set");
    let set = || begun().and(done(FIRST, Step::Create));
    assert!(reaches_the_server(set(), None));
    assert!(reaches_the_server(alternating(), Some(1)));
    let second = || alternating().and(rotate(SECOND));
    assert!(reaches_the_server(second(), Some(1)));
    assert!(!reaches_the_server(second(), Some(2)));
}

/// A secret whose receiver is asked at this path.
fn received(path: &str) -> Spec {
    opening(Resource {
        kind: Kind::Webhook,
        connection: format!("https://hooks.example{path}"),
        ..resource(&[path])
    })
}

fn with_key_beside(given: Given) -> Given {
    let spec = Spec {
        credential_for: Some("webhook://hooks.example:443".to_owned()),
        ..Spec::default()
    };
    given.and(secret(ADMIN, admin_name(), spec))
}

#[test]
fn what_a_receiver_may_have_made_is_revoked_there_before_it_was_set() {
    let made = || with_key_beside(Given::nothing()).and(apply_secret(received("/stripe")));
    assert!(reaches_the_server(made(), None), "it is asked at `create`");
    let serving = with_key_beside(Given::serving()).and(apply_secret(received("/stripe")));
    let knowing = HostReport {
        knows_staged: true,
        ..report(vec![reloaded(1, 1)], &[1])
    };
    let serving = serving.and(Command::Report(knowing));
    let staging = serving.and(rotate(SECOND)).and(done(SECOND, Step::Create));
    let phase = &staging.world().rotations[&SECOND].phase;
    assert_eq!(*phase, rotation::Phase::Staging);
    assert!(reaches_the_server(staging, Some(2)));
    let provided = Spec {
        generator: None,
        ..received("/stripe")
    };
    let put = Command::Put {
        id: SECRET,
        rotation: FIRST,
        name: secret_name(),
        provided: true,
    };
    let declared = with_key_beside(Given::nothing()).and(apply_secret(provided));
    let given = declared.and(put);
    assert!(!reaches_the_server(given, None), "it is not asked for one");
}

#[test]
fn a_wrong_address_is_corrected_until_something_was_set_there() {
    let made = with_key_beside(Given::nothing()).and(apply_secret(received("/strpe")));
    let _corrected = made.clone().and(apply_secret(received("/stripe")));
    let other_kind = made.clone().when(apply_secret(generated()));
    other_kind.then_rejected(No::ResourceFixed {
        secret: secret_name(),
    });
    let set = made.and(done(FIRST, Step::Create));
    let fixed = set.when(apply_secret(received("/stripe")));
    fixed.then_rejected(No::ResourceFixed {
        secret: secret_name(),
    });
}
