//! Rules on events: read whole, refused with place and next step, limits at their value.

use keywheel_core::schedule::{OnEvent, RotationPolicy};

use super::*;
use crate::manifest::MAX_EVENT_RULES;

fn rotation(fields: &str) -> String {
    secret(&format!("{{ generator: {{}}, rotation: {{ {fields} }} }}"))
}

fn policy(fields: &str) -> RotationPolicy {
    match read(&rotation(fields)).unwrap().remove(0) {
        Manifest::Secret { spec, .. } => spec.rotation,
        other => panic!("{other:?}"),
    }
}

/// Asserts that a rule has exactly one fault, which says `part`; the secret's name is `db`.
fn refused(rule: &str, part: &str) {
    let found = faults(&rotation(&format!("onEvent: [{{ {rule} }}]")));
    assert_eq!(found.len(), 1, "{rule}: {found:#?}");
    assert!(found[0].contains(part), "`{part}` is not in: {}", found[0]);
}

#[test]
fn rules_on_events_are_read_whole() {
    let text = "onEvent: [{ type: dev.keywheel.rotation.closed.v1, when: 'event.secret == \"prod/ca\"', holdOff: 1m }, { type: dev.keywheel.host.evicted.v1 }], windows: [{ schedule: '0 22 * * *', duration: 6h }], jitter: 1m";
    let found = policy(text);
    let rule = |event: &str, when: Option<&str>, hold_off| OnEvent {
        event: event.to_owned(),
        when: when.map(str::to_owned),
        hold_off,
    };
    let minute = Some(Duration::from_secs(60));
    let closed = Some("event.secret == \"prod/ca\"");
    assert_eq!(
        found.on_event,
        [
            rule("dev.keywheel.rotation.closed.v1", closed, minute),
            rule("dev.keywheel.host.evicted.v1", None, None),
        ]
    );
    assert_eq!(
        (found.schedule, found.windows.len()),
        (Schedule::OnDemand, 1)
    );
    assert!(is_valid_under_schema(&rotation(text)));
}

#[test]
fn a_type_that_leads_to_no_rotation_is_refused() {
    refused("when: held", "`type` is missing in a rule of `onEvent`");
    refused(
        "type: dev.keywheel.rotation.close.v1",
        "is no type of an event (did you mean `dev.keywheel.rotation.closed.v1`?)",
    );
    refused(
        "type: dev.keywheel.assignment.swapped.v1",
        "events of the aggregate `assignment` lead to no rotation",
    );
}

#[test]
fn a_condition_that_is_wrong_is_refused_where_it_stands() {
    let closed = |when: &str| format!("type: dev.keywheel.rotation.closed.v1, when: '{when}'");
    refused(&closed("event.secret =="), "is no CEL at line 1");
    refused(&closed("secret == \"a\""), "names `secret` at character 1");
    refused(&closed("event.secret"), "not yes or no");
    let long = format!("event.secret == \"{}\"", "a".repeat(512));
    refused(&closed(&long), "at most 512 are allowed");
}

#[test]
fn a_rule_that_follows_its_own_rotation_is_refused() {
    let part = "the rule also means what `db` itself brings about";
    refused("type: dev.keywheel.rotation.closed.v1", part);
    refused(
        "type: dev.keywheel.secret.version_promoted.v1, when: 'event.secret == \"db\"'",
        part,
    );
    refused(
        "type: dev.keywheel.rotation.closed.v1, when: 'event.secret != \"prod/ca\"'",
        "leave its own out with `event.secret != \"db\"`",
    );
    refused(
        "type: dev.keywheel.rotation.closed.v1, when: 'event.data.outcome == \"completed\"'",
        part,
    );
    policy(
        "onEvent: [{ type: dev.keywheel.rotation.closed.v1, when: 'event.data.outcome == \"completed\" && event.secret == \"a\"' }]",
    );
    // What a person brings about may be its own.
    policy(
        "onEvent: [{ type: dev.keywheel.revocation.closed.v1, when: 'event.secret == \"db\"' }]",
    );
    policy("onEvent: [{ type: dev.keywheel.host.evicted.v1, when: held }]");
    policy("onEvent: [{ type: dev.keywheel.rotation.closed.v1, when: 'event.secret != \"db\"' }]");
}

#[test]
fn rules_have_a_limit_and_what_is_not_about_them_is_refused_beside_them() {
    let rules = |count| {
        let rule =
            |n| format!("{{ type: dev.keywheel.host.evicted.v1, when: 'event.host == \"h{n}\"' }}");
        let rules: Vec<String> = (0..count).map(rule).collect();
        format!("onEvent: [{}]", rules.join(", "))
    };
    assert_eq!(
        policy(&rules(MAX_EVENT_RULES)).on_event.len(),
        MAX_EVENT_RULES
    );
    let found = faults(&rotation(&rules(MAX_EVENT_RULES + 1)));
    assert!(found[0].contains("`onEvent` has 9 entries; between 1 and 8"));
    for part in ["missedRun: skip", "holdOff: 1d"] {
        let found = faults(&rotation(&format!("{part}, {}", rules(1))));
        assert!(found[0].contains("says nothing without"), "{found:?}");
    }
}

#[test]
fn a_rule_that_is_there_twice_is_refused() {
    let rule = "type: dev.keywheel.host.evicted.v1, when: held";
    let twice = format!("onEvent: [{{ {rule} }}, {{ {rule}, holdOff: 1m }}]");
    let found = faults(&rotation(&twice));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("mean the same events"), "{found:?}");
}

#[test]
fn what_an_event_may_or_may_not_say_excludes_no_rotation_of_ones_own() {
    for when in [
        "has(event.data.outcome)",
        "size(event.data) > 0",
        "event.host == \"web-1\"",
        "event.time > \"2026-06\"",
    ] {
        refused(
            &format!("type: dev.keywheel.rotation.closed.v1, when: '{when}'"),
            "the rule also means what `db` itself brings about",
        );
    }
}
