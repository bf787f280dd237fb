//! Views that carry a judgement: who is behind, what is said about it.

use keywheel_schemas::api::RotationTimings;

use super::*;

fn consumer(state: &str, version: u64) -> ConsumerView {
    ConsumerView {
        container: "0123456789abcdef".repeat(4),
        name: "web".to_owned(),
        host: "h".to_owned(),
        secret: "a/b".to_owned(),
        binding: "b".to_owned(),
        version,
        assigned: 2,
        state: state.to_owned(),
        reason: (state == "refused").then(|| "recreate it with --runtime keywheel".to_owned()),
        restart: (state == "waiting").then(|| "may restart".to_owned()),
        latency_ms: Some(1.25),
        previous: None,
    }
}

fn rotation_of(consumers: Vec<ConsumerView>) -> RotationView {
    RotationView {
        rotation_id: "r".to_owned(),
        secret: "a/b".to_owned(),
        version: 2,
        state: "distributing".to_owned(),
        trigger: "on_demand".to_owned(),
        waiting_for: vec!["container web: new value not in place yet".to_owned()],
        dying: vec![1],
        next_step: Some("`keywheel rotation retry r --reason …` waits once more".to_owned()),
        timings: RotationTimings::default(),
        consumers,
    }
}

#[test]
fn those_who_left_are_not_waited_for() {
    let states = [
        "waiting",
        "swapped",
        "reloaded",
        "withdrawn",
        "vanished",
        "refused",
    ];
    let behind: Vec<&str> = states
        .into_iter()
        .filter(|state| is_behind(&consumer(state, 2), 2))
        .collect();
    assert_eq!(behind, ["waiting", "refused"]);
    assert!(
        is_behind(&consumer("reloaded", 1), 2),
        "acknowledged an older version only"
    );
}

#[test]
fn a_rotation_tells_what_it_waits_for_and_who_acknowledged() {
    let view = rotation_of(vec![consumer("reloaded", 2), consumer("refused", 1)]);
    assert_eq!(acknowledged(&view), "1 of 2");
    let text = rotation(&view, false);
    for part in [
        "waits for:  container web",
        "next:  `keywheel rotation retry r",
        "web (0123456789ab)",
        "1.2 ms",
        "recreate it with --runtime keywheel",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_dry_run_says_would() {
    let answer = ApplyAnswer {
        results: vec![keywheel_schemas::api::Applied {
            kind: "Secret".to_owned(),
            name: "a/b".to_owned(),
            action: "created".to_owned(),
            note: Some("weak".to_owned()),
        }],
    };
    assert!(applied(&answer, true, false).contains("would be created"));
    assert!(!applied(&answer, false, false).contains("would"));
    assert!(applied(&answer, false, false).contains("note: a/b: weak"));
}

#[test]
fn what_a_rollout_says_of_a_consumer_stands_beside_its_state() {
    let text = consumers(&[consumer("waiting", 1), consumer("reloaded", 2)], false);
    assert!(text.contains("waiting, may restart"), "{text}");
    assert!(!text.contains("reloaded,"), "{text}");
}

#[test]
fn a_consumer_that_has_the_version_before_too_holds_both() {
    let mut both = consumer("reloaded", 7);
    both.previous = Some(6);
    let text = consumers(&[both], false);
    assert!(text.contains("7, 6"), "{text}");
    assert!(!consumers(&[consumer("reloaded", 7)], false).contains("7, "));
}

#[test]
fn a_gap_is_told_where_there_was_one() {
    let mut told = rotation_of(Vec::new());
    assert!(!rotation(&told, false).contains("gap:"));
    told.timings.gap_ms = Some(42.3);
    assert!(rotation(&told, false).contains("gap:  42.3 ms"));
}

#[test]
fn bindings_name_the_policy_that_withholds_what_one_would_give() {
    let binding = |name: &str, withheld: Option<&str>| BindingView {
        name: name.to_owned(),
        id: "i".to_owned(),
        secret: "shop/db".to_owned(),
        also: Vec::new(),
        selector: "service web".to_owned(),
        target: "file /run/secrets/db".to_owned(),
        reload: "none".to_owned(),
        on_revoke: None,
        consumers: 0,
        note: None,
        withheld: withheld.map(str::to_owned),
    };
    let why = "policies withhold it: service `shop/web` may not read\u{1b} secret/shop/db (no-db)";
    let text = bindings(&[binding("one", None), binding("other", Some(why))], false);
    let last = text.lines().last().unwrap();
    assert_eq!(
        last,
        "other: policies withhold it: service `shop/web` may not read· secret/shop/db (no-db)"
    );
    assert!(!text.contains("one: "), "{text}");
}
