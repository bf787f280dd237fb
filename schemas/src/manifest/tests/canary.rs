//! `rotation: { canary: … }`: what is read, its limits, and every place where it cannot work.

use std::time::Duration;

use keywheel_core::schedule::{CANARIES, CANARY_WATCH, Canary, MAX_CANARIES};

use super::{Manifest, faults, is_valid_under_schema, read, secret};
use crate::manifest::{MAX_CANARY_WATCH, MIN_CANARY_WATCH};

/// A secret of the store `local` with this wish.
fn of(canary: &str) -> String {
    secret(&format!(
        "{{ generator: {{}}, rotation: {{ canary: {canary} }} }}"
    ))
}

fn wish(text: &str) -> Option<Canary> {
    match read(text).unwrap().remove(0) {
        Manifest::Secret { spec, .. } => spec.rotation.canary,
        other => panic!("{other:?}"),
    }
}

/// Asserts that a text has exactly one fault, which says `part`.
fn refused(text: &str, part: &str) {
    let found = faults(text);
    assert_eq!(found.len(), 1, "{text}: {found:#?}");
    assert!(found[0].contains(part), "`{part}` is not in: {}", found[0]);
}

#[test]
fn a_wish_is_read_and_what_it_leaves_out_is_the_default() {
    for (text, consumers, watch) in [
        ("{}", CANARIES, CANARY_WATCH),
        ("{ consumers: 3 }", 3, CANARY_WATCH),
        ("{ for: 5m }", CANARIES, Duration::from_secs(300)),
        ("{ consumers: 2, for: 1m30s }", 2, Duration::from_secs(90)),
    ] {
        let text = of(text);
        assert_eq!(wish(&text), Some(Canary { consumers, watch }), "{text}");
        assert!(is_valid_under_schema(&text), "{text}");
    }
    assert_eq!(wish(&secret("{ generator: {} }")), None);
}

#[test]
fn numbers_and_times_have_limits() {
    let consumers = |n: u32| of(&format!("{{ consumers: {n} }}"));
    let watched = |time: Duration| of(&format!("{{ for: {}ms }}", time.as_millis()));
    let moment = Duration::from_millis(1);
    for text in [
        consumers(1),
        consumers(MAX_CANARIES),
        watched(MIN_CANARY_WATCH),
        watched(MAX_CANARY_WATCH),
    ] {
        assert!(wish(&text).is_some(), "{text}");
        assert!(is_valid_under_schema(&text), "{text}");
    }
    for n in [0, MAX_CANARIES + 1] {
        refused(&consumers(n), "`consumers` has to lie between 1 and 100");
        assert!(!is_valid_under_schema(&consumers(n)), "{n}");
    }
    for time in [MIN_CANARY_WATCH - moment, MAX_CANARY_WATCH + moment] {
        refused(&watched(time), "`for` has to lie between");
    }
    refused(&of("{ seconds: 3 }"), "known fields: consumers, for");
    refused(&of("yes"), "canary has to be a mapping");
}

#[test]
fn a_canary_is_refused_where_the_version_before_is_not_good_beside_the_new_one() {
    let rotator = |fields: &str| {
        secret(&format!(
            "{{ generator: {{}}, rotation: {{ canary: {{}} }}, rotator: {{ adminSecret: shop/admin, {fields} }} }}"
        ))
    };
    let postgres = "type: postgres, connection: \"postgres://admin@db:5432/shop\"";
    let webhook = "type: webhook, connection: \"https://hooks.example/rotate\"";
    for text in [
        rotator(&format!("{postgres}, account: app")),
        rotator(webhook),
    ] {
        refused(&text, "with `strategy: singleUser` the new password ends");
    }
    for text in [
        rotator(&format!("{postgres}, account: [app, app_b]")),
        rotator(&format!("{webhook}, strategy: dualPassword")),
    ] {
        assert!(wish(&text).is_some(), "{text}");
    }
    let outside = |fields: &str| {
        secret(&format!(
            "{{ store: bao, rotation: {{ canary: {{}} }}, {fields} }}"
        ))
    };
    let role = "source: { path: /database/static-creds/app, field: password }";
    refused(&outside(role), "the server of a static role");
    let made = format!("{role}, generator: {{}}");
    refused(&outside(&made), "the server of a static role");
    let place = "source: { path: payments/db, field: password }";
    refused(
        &outside(place),
        "without a `generator` the value is changed",
    );
    assert!(wish(&outside(&format!("{place}, generator: {{}}"))).is_some());
    refused(
        &secret("{ credentialFor: aws, rotation: { canary: {} } }"),
        "no container gets a credential",
    );
    refused(
        &secret("{ generator: {}, rotation: { previous: keep, canary: {} } }"),
        "with `previous: keep`",
    );
}

#[test]
fn a_secret_that_gives_leases_has_no_canary() {
    refused(
        &secret(
            "{ rotation: { canary: {} }, rotator: { type: dynamic, store: bao, role: database/creds/app } }",
        ),
        "`rotation` does not go with `rotator: { type: dynamic }`",
    );
}
