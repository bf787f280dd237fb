//! `rotator: { type: dynamic }`: what is read, and every way to get it wrong.

use std::time::Duration;

use keywheel_core::lease::{DEFAULT_LINGER, Lease};
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
        Some(&Lease::PerContainer { linger })
    );
    let found = spec(&format!("{ROLE}, linger: 30s"));
    let linger = Duration::from_secs(30);
    assert_eq!(
        found.lease.as_deref(),
        Some(&Lease::PerContainer { linger })
    );
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
