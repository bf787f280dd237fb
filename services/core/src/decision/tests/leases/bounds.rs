//! What leases are kept apart from, and where they end: names, hosts, roles, and how many there are.

use super::*;
use crate::binding::OnRevoke;
use crate::host;
use crate::id::{ContainerId, RunId};
use crate::lease::MAX_LEASES;

#[test]
fn names_of_leases_are_given_by_nobody_else_and_a_lease_is_made_nothing_else_of() {
    let secret = hidden_name();
    let declared = |name: &SecretName| {
        Command::Apply(vec![Declaration::Secret {
            id: SecretId::from_bytes([0x44; 16]),
            rotation: SECOND,
            name: name.clone(),
            spec: generated(),
        }])
    };
    let put = |provided| Command::Put {
        id: SecretId::from_bytes([0x44; 16]),
        rotation: SECOND,
        name: hidden_name(),
        provided,
    };
    let taken = secret::Rejection::LeaseName {
        secret: secret.clone(),
    };
    bound().when(declared(&secret)).then_rejected(taken.clone());
    bound().when(put(true)).then_rejected(taken);
    let made = secret::Rejection::LeaseNotProvided {
        secret: secret.clone(),
    };
    served().when(put(true)).then_rejected(made.clone());
    served().when(put(false)).then_rejected(made);
    let fixed = secret::Rejection::LeaseFixed {
        secret: secret.clone(),
    };
    served()
        .when(declared(&secret))
        .then_rejected(fixed.clone());
    let dynamic = Command::Apply(vec![Declaration::Secret {
        id: SECRET,
        rotation: FIRST,
        name: hidden_name(),
        spec: dynamic(),
    }]);
    served().when(dynamic).then_rejected(fixed);
}

#[test]
fn a_container_that_another_host_tells_of_stays_with_the_host_it_is_on() {
    let told = Command::Report(HostReport {
        host: OTHER_HOST,
        ..report(vec![item(1, Fact::Wanted)], &[])
    });
    let given = served().and(enrol(OTHER_HOST)).and(revoke(None));
    let given = through(given).drawn(0xdd);
    given.clone().when(told.clone()).then_nothing();
    let gone = given.and(evict(HOST)).and(told);
    let secret = &gone.world().secrets[&lease(1)];
    assert_eq!(secret.lease_of().unwrap().host, OTHER_HOST);
    assert!(gone.world().open_rotation(lease(1)).is_some());
}

#[test]
fn the_role_does_not_change_while_containers_have_leases_of_it() {
    let mut other = dynamic();
    if let Store::Outside(place) = &mut other.store {
        place.source.path = "database/creds/other".to_owned();
    }
    let live = secret::Rejection::LeasesLive {
        secret: secret_name(),
    };
    served()
        .when(apply_secret(other.clone()))
        .then_rejected(live);
    let revoked = served().and(revoke(None)).and(apply_secret(other));
    assert!(revoked.world().leases_of(SECRET).next().is_none());
}

#[test]
fn a_store_goes_to_no_other_server_while_containers_have_leases_of_it() {
    let moved = || store_at("https://bao:8200");
    let live = || secret::Rejection::LeasesLive {
        secret: secret_name(),
    };
    bound().and(wants(&[1])).when(moved()).then_rejected(live());
    served().when(moved()).then_rejected(live());
    let known = |given: &Given| given.world().secrets[&lease(1)].known.clone();
    let ended = through(served().and(revoke(None)));
    assert_eq!(known(&ended), Some(remote(1)));
    assert_eq!(known(&ended.and(moved())), None);
}

#[test]
fn a_host_has_so_many_leases_of_a_secret_and_no_more() {
    let wanted = (1..=MAX_LEASES + 1).map(|n| Item {
        container: ContainerId::parse(&format!("{n:064x}")).unwrap(),
        ..item(1, Fact::Wanted)
    });
    let given = bound().and(says(wanted.collect()));
    assert_eq!(given.world().leases_at(HOST).count(), MAX_LEASES);
}

#[test]
fn no_template_names_the_version_before_of_a_lease() {
    let mut bound = apply_binding(anywhere(), file(), Reload::None);
    if let Command::Apply(declarations) = &mut bound
        && let Some(Declaration::Binding { previous, .. }) = declarations.first_mut()
    {
        previous.insert(secret_name());
    }
    let none = secret::Rejection::PreviousOfLease {
        secret: secret_name(),
    };
    let given = Given::nothing().and(store()).and(apply_secret(dynamic()));
    given.when(bound).then_rejected(none);
}

#[test]
fn of_a_lease_that_ended_nothing_is_looked_at_any_more() {
    let ended = served().and(revoke(None));
    let now = |given: &Given| {
        let news = given.world().store_news(0, u64::MAX).secrets;
        news.into_iter().find(|now| now.secret == lease(1)).unwrap()
    };
    assert!(now(&ended).place.is_some(), "it is to be ended there");
    let confirmed = through(ended);
    let now = now(&confirmed);
    assert!(now.place.is_none() && now.leases.is_empty(), "{now:?}");
}

#[test]
fn who_wanted_a_lease_before_its_quarantine_was_known_gets_none_until_that_is_lifted() {
    let ordered = of_host(host::Event::QuarantineOrdered {
        subject: host::Subject {
            container: container(1),
            name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            service: String::new(),
        },
        origin: host::Origin {
            run: RunId::from_bytes([0x21; 16]),
            step: "cut".to_owned(),
            place: 0,
        },
        action: OnRevoke::Pause,
        reason: "intruder".to_owned(),
        had: Vec::new(),
    });
    let lifted = of_host(host::Event::QuarantineLifted {
        container: container(1),
        by: "unix:1000".to_owned(),
        reason: "looked at".to_owned(),
    });
    let known = bound().log().to_vec();
    let apart = known.into_iter().chain([ordered]);
    let given = Given::events(apart.clone()).and(wants(&[1, 2]));
    let has = |given: &Given, n: u8| given.world().secrets.contains_key(&lease(n));
    assert!(!has(&given, 1) && has(&given, 2));
    let given = Given::events(apart.chain([lifted])).and(wants(&[1]));
    assert!(has(&given, 1));
}
