//! `rotator: { type: dynamic }`: what is read, and every way to get it wrong.

use std::time::Duration;

use keywheel_core::lease::{DEFAULT_LINGER, Lease};
use keywheel_core::resource::{Kind, MAX_CONNECTION_BYTES, Probe};
use keywheel_core::schedule::{Ack, RotationPolicy};
use keywheel_core::secret::{Spec, Store};

use super::super::Manifest;
use super::{faults, read, secret};

const ROLE: &str = "type: dynamic, store: bao, role: database/creds/app";

fn spec(fields: &str) -> Spec {
    let text = secret(&format!("{{ rotator: {{ {fields} }} }}"));
    let read = read(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
    match read.into_iter().next() {
        Some(Manifest::Secret { spec, .. }) => spec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_role_of_a_store_gives_each_container_a_lease() {
    let found = spec(ROLE);
    let Store::Outside(place) = &found.store else {
        panic!("{found:?}");
    };
    assert_eq!(place.store.as_str(), "bao");
    assert_eq!(place.source.path, "database/creds/app");
    assert_eq!(place.source.field, "", "it is no field of a secret");
    let linger = DEFAULT_LINGER;
    assert_eq!(
        found.lease.as_deref(),
        Some(&Lease::PerContainer {
            linger,
            probe: None
        })
    );
    let found = spec(&format!("{ROLE}, linger: 30s"));
    let linger = Duration::from_secs(30);
    assert_eq!(
        found.lease.as_deref(),
        Some(&Lease::PerContainer {
            linger,
            probe: None
        })
    );
}

#[test]
fn the_server_that_its_logins_are_for_is_named_without_a_login() {
    let found = |probe: &str| match spec(&format!("{ROLE}, probe: {{ {probe} }}"))
        .lease
        .as_deref()
    {
        Some(Lease::PerContainer { probe, .. }) => probe.as_deref().cloned(),
        other => panic!("{other:?}"),
    };
    let probe = found("type: postgres, connection: 'postgres://db.example/shop', caFile: /ca.pem");
    assert_eq!(
        probe,
        Some(Probe {
            kind: Kind::Postgres,
            connection: "postgres://db.example/shop".to_owned(),
            ca: Some("/ca.pem".to_owned()),
        })
    );
    for (kind, connection) in [
        ("mariadb", "mysql://db.example:3306"),
        ("redis", "rediss://db.example"),
        ("postgres", "postgresql://%2Frun%2Fpostgresql/shop"),
    ] {
        let probe = found(&format!("type: {kind}, connection: '{connection}'")).unwrap();
        assert_eq!((probe.kind.word(), &*probe.connection), (kind, connection));
        assert_eq!(probe.ca, None);
    }
}

#[test]
fn a_server_at_which_no_login_can_be_tried_is_refused_and_no_password_is_quoted() {
    for (probe, says) in [
        ("type: postgres", "`connection` is missing"),
        ("connection: 'postgres://db/shop'", "`type` is missing"),
        (
            "type: webhook, connection: 'https://db'",
            "probe type `webhook`",
        ),
        (
            "type: oracle, connection: 'oracle://db'",
            "probe type `oracle`",
        ),
        (
            "type: postgres, connection: 'postgres://app:canary@db/shop'",
            "`connection` names a login",
        ),
        (
            "type: postgres, connection: 'postgres://db'",
            "`connection` has to be like",
        ),
        (
            "type: postgres, connection: 'postgres:///shop'",
            "`connection` has to be like",
        ),
        (
            "type: postgres, connection: 'postgres://db/shop?sslmode=disable'",
            "`connection` has to be like",
        ),
        (
            "type: redis, connection: 'mysql://db'",
            "`connection` has to be like `rediss://",
        ),
        (
            "type: redis, connection: 'redis://db', adminSecret: db/admin",
            "adminSecret",
        ),
        (
            "type: redis, connection: 'redis://db', caFile: ca.pem",
            "`caFile` has to be an absolute path",
        ),
    ] {
        let text = format!("{{ rotator: {{ {ROLE}, probe: {{ {probe} }} }} }}");
        let faults = faults(&secret(&text));
        assert!(
            faults.iter().any(|fault| fault.contains(says)),
            "{text}: {faults:?}"
        );
        assert!(!faults.iter().any(|fault| fault.contains("canary")));
    }
    let long = format!("postgres://{}/shop", "d".repeat(MAX_CONNECTION_BYTES));
    let text =
        format!("{{ rotator: {{ {ROLE}, probe: {{ type: postgres, connection: '{long}' }} }} }}");
    let faults = faults(&secret(&text));
    assert!(faults[0].contains("has more than 1024 bytes"), "{faults:?}");
}

#[test]
fn how_a_lease_gives_way_may_be_said_and_when_may_not() {
    let of = |rotation: &str| {
        secret(&format!(
            "{{ rotator: {{ {ROLE} }}, rotation: {rotation} }}"
        ))
    };
    for (said, ack) in [
        ("{ ack: drained }", Some(Ack::Drained)),
        ("{ ack: reloaded }", Some(Ack::Reloaded)),
        ("{}", None),
    ] {
        let Some(Manifest::Secret { spec, .. }) = read(&of(said)).unwrap().into_iter().next()
        else {
            panic!("{said}");
        };
        let expected = RotationPolicy {
            ack,
            ..RotationPolicy::default()
        };
        assert_eq!(spec.rotation, expected, "{said}");
        assert!(!spec.rotation.is_automatic());
    }
    for (said, part) in [
        ("{ interval: 1h }", "leave `interval` out"),
        ("{ ack: drained, deadline: 1m }", "leave `deadline` out"),
        ("{ ack: swapped }", "write `reloaded` or `drained`"),
        ("often", "rotation has to be a mapping"),
    ] {
        let found = faults(&of(said));
        assert_eq!(found.len(), 1, "{said}: {found:?}");
        assert!(found[0].contains(part), "{said}: {found:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_next_step() {
    for (text, says) in [
        (
            "{ rotator: { type: dynamic, role: a/b/c } }",
            "`store` is missing",
        ),
        (
            "{ rotator: { type: dynamic, store: bao } }",
            "`role` is missing",
        ),
        (
            "{ rotator: { type: dynamic, store: local, role: a/b/c } }",
            "the store `local` gives no logins",
        ),
        (
            "{ rotator: { type: dynamic, store: bao, role: \"\" } }",
            "`role` has 1 to",
        ),
        (
            "{ generator: {}, rotator: { type: dynamic, store: bao, role: a/b/c } }",
            "`generator` does not go with",
        ),
        (
            "{ rotator: { type: dynamic, store: bao, role: a/b/c, account: app } }",
            "account",
        ),
        (
            "{ rotator: { type: dynamic, store: bao, role: a/b/c, linger: 25h } }",
            "linger",
        ),
        (
            "{ rotator: { type: dynamic, store: bao, role: a/b/c, linger: 29s } }",
            "linger",
        ),
    ] {
        let faults = faults(&secret(text));
        assert!(
            faults.iter().any(|fault| fault.contains(says)),
            "{text}: {faults:?}"
        );
    }
}
