//! What a condition may say, what it answers, and that neither takes long nor fails.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const CLOSED: About<'_> = About {
    id: "01890000-0000-7000-8000-000000000001",
    type_name: "dev.keywheel.rotation.closed.v1",
    subject: "rotation/01890000-0000-7000-8000-000000000002",
    time: "2026-11-28T12:00:00Z",
    secret: "prod/ca",
    host: "web-1",
};

fn facts(data: &Json) -> Facts {
    Facts::of(CLOSED, data.as_object().unwrap())
}

fn holds(text: &str) -> bool {
    let facts = facts(&json!({
        "outcome": "completed", "version": 3, "written": true, "versions": [1, 2],
        "trigger": { "kind": "slot" }, "share": 0.5, "none": null,
    }));
    Condition::parse(text).unwrap().holds(&facts, false)
}

/// Asserts that a condition is refused with words that say `part`.
fn refused(text: &str, part: &str) {
    let fault = Condition::parse(text).map(drop).unwrap_err();
    assert!(fault.contains(part), "`{part}` is not in: {fault}");
}

#[test]
fn what_a_condition_says_of_an_event_holds_or_does_not() {
    for text in [
        r#"event.secret == "prod/ca""#,
        r#"event.secret.startsWith("prod/") && event.host != """#,
        r#"event.type.endsWith(".closed.v1") && event.subject.contains("rotation/")"#,
        r#"event.data.outcome in ["completed", "rolled_back"]"#,
        r#"event.data.version >= 3 && event.data.versions[1] == 2"#,
        r#"event.data.trigger.kind == "slot" && size(event.data.versions) == 2"#,
        r#"event.data.written"#,
        r#"has(event.data.outcome) && !has(event.data.reason)"#,
        r#"event.secret == "prod/db" ? held : !held"#,
        r#"event.time > "2026-01-01T00:00:00Z" && event.id != """#,
        r#"event.data.share < 1.0 && event.data.none == null"#,
        "true",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        r#"event.secret == "prod/db""#,
        r#"event.data.outcome == "parked""#,
        "held",
        "false",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn what_cannot_be_said_of_an_event_does_not_hold() {
    for text in [
        r#"event.data.reason == "leak""#,
        r#"event.data.version == "three""#,
        "event.data.versions[9] == 1",
        "event.data.outcome",
        r#"!(event.data.reason == "leak")"#,
    ] {
        assert!(!holds(text), "{text}");
    }
    assert!(holds(r#"event.data.reason == "leak" || true"#));
}

#[test]
fn an_event_is_excluded_only_by_its_secret_and_its_type() {
    let excludes = |text: &str| {
        let condition = Condition::parse(text).unwrap();
        condition.excludes(CLOSED.secret, CLOSED.type_name)
    };
    for text in [
        r#"event.secret == "prod/db" && event.data.outcome == "completed""#,
        r#"event.data.outcome == "completed" && event.secret == "prod/db""#,
        r#"event.secret != "prod/ca""#,
        r#"!(event.secret == "prod/ca" || held)"#,
        r#"event.secret in ["prod/db", "prod/api"] && has(event.data.outcome)"#,
        r#"event.secret.startsWith("test/")"#,
        r#"event.type == "dev.keywheel.host.evicted.v1""#,
        r#"event.secret == "prod/ca" ? false : held"#,
        "false",
    ] {
        assert!(excludes(text), "{text}");
    }
    // Their answers hang on what an event says besides, or on whether it says it at all.
    for text in [
        r#"event.secret == "prod/ca" && event.data.outcome == "completed""#,
        r#"event.data.outcome == "completed""#,
        "has(event.data.outcome)",
        r#""outcome" in event.data"#,
        "size(event.data) > 0",
        r#"event.host == "web-1""#,
        r#"event.host != """#,
        r#"event.time > "2026-06""#,
        r#"event.data.reason == "" || event.secret == "prod/db""#,
        "held && !held",
        "held",
    ] {
        assert!(!excludes(text), "{text}");
    }
}

#[test]
fn the_only_secret_is_said_where_nothing_else_can_hold() {
    let only = |text: &str| {
        let condition = Condition::parse(text).unwrap();
        condition.only_secret().map(str::to_owned)
    };
    for text in [
        r#"event.secret == "prod/ca""#,
        r#""prod/ca" == event.secret"#,
        r#"held && (event.host != "" && event.secret == "prod/ca")"#,
    ] {
        assert_eq!(only(text).as_deref(), Some("prod/ca"), "{text}");
    }
    for text in [
        r#"event.secret == "prod/ca" || held"#,
        r#"!(event.secret == "prod/ca")"#,
        r#"event.secret != "prod/ca""#,
        r#"event.host == "prod/ca""#,
        r#"event.secret in ["prod/ca"]"#,
    ] {
        assert_eq!(only(text), None, "{text}");
    }
}

#[test]
fn a_condition_says_whether_it_asks_what_a_host_was_given() {
    for (text, asks) in [
        (r#"event.host == "web-1" && held"#, true),
        ("event.data.held == true", false),
        (r#"event.secret == "held""#, false),
        ("!(true && (held == true))", true),
    ] {
        assert_eq!(Condition::parse(text).unwrap().asks_held(), asks, "{text}");
    }
}

#[test]
fn held_is_said_by_who_asks() {
    let held = Condition::parse(r#"held && event.host == "web-1""#).unwrap();
    let facts = facts(&json!({}));
    assert!(held.holds(&facts, true));
    assert!(!held.holds(&facts, false));
}

#[test]
fn what_is_unknown_is_refused_with_its_place_and_what_is_known() {
    refused(r#"secret == "prod/ca""#, "names `secret` at character 1,");
    refused("held && helt", "(did you mean `held`?)");
    refused(
        "true && evnt.secret == \"a\"",
        "names `evnt` at character 9",
    );
    refused("event.secrte == \"a\"", "(did you mean `secret`?)");
    refused("has(event.name)", "an event has `id`");
    refused("matches(event.secret, \"a\")", "calls `matches`");
    refused(
        "event.secret.startWith(\"a\")",
        "(did you mean `startsWith`?)",
    );
}

#[test]
fn what_costs_more_than_a_look_is_refused() {
    for text in [
        "event.data.versions.all(v, v > 1)",
        "event.data.versions.exists(v, v > 1)",
        "event.data.versions.map(v, v) == [1]",
        "event.data.versions.filter(v, v > 1) == []",
    ] {
        refused(text, "walks a list");
    }
    refused("event.secret + event.secret == \"a\"", "calls `+`");
    refused("event.data.version * 2 == 2", "calls `*`");
    refused("{\"a\": 1} == event.data", "makes a mapping");
}

#[test]
fn what_is_never_yes_or_no_is_refused() {
    refused("event.secret", "is a text");
    refused("\"prod/ca\"", "is a text");
    refused("1", "is a number");
    refused("size(event.secret)", "is a number");
    refused("event", "is the whole event");
    refused("event.data", "is all of an event's data");
    refused("[true]", "is a list");
    refused("held && event.host", "is a text");
    refused("!event.host", "is a text");
    refused("held ? event.host : \"a\"", "is a text");
}

#[test]
fn what_is_no_cel_is_refused_with_line_and_column() {
    refused("event.secret ==", "is no CEL at line 1, column ");
    refused("", "is no CEL at line 1, column ");
    refused("held &&\n&& held", "is no CEL at line 2, column ");
    refused("event.secret = \"a\"", "is no CEL at line 1, column ");
}

#[test]
fn a_condition_has_a_longest_text_and_a_deepest_nesting() {
    let long = |bytes: usize| {
        let rest = "held || ".repeat(bytes / 8 - 1);
        format!("{rest}{:>8}", "held")
    };
    assert_eq!(long(MAX_CONDITION_BYTES).len(), MAX_CONDITION_BYTES);
    Condition::parse(&long(MAX_CONDITION_BYTES)).unwrap();
    let more = format!("{} ", long(MAX_CONDITION_BYTES));
    refused(&more, "has 513 bytes; at most 512");
    let deep = |levels: usize| format!("{}held{}", "(".repeat(levels), ")".repeat(levels));
    Condition::parse(&deep(usize::from(MAX_CONDITION_DEPTH) / 2)).unwrap();
    refused(&deep(usize::from(MAX_CONDITION_DEPTH) + 1), "is no CEL");
}

#[test]
fn parts_are_counted_before_they_are_read() {
    for (text, count) in [
        ("", 0),
        ("event.secret == \"prod/ca && x\"", 5),
        ("held&&!!held", 5),
        ("r\"\\\" + \"a\"", 3),
        ("\"\"\"a \" b\"\"\" in [1]", 5),
        ("held // \" && held\n&& held", 3),
        ("\"a\\\"b\" == '\\u00e9'", 3),
        ("\"no end", 3),
        ("\"\\q!!\"", 6),
    ] {
        assert_eq!(tokens::count(text), count, "{text}");
    }
    let held = |signs: usize| format!("{}held", "!".repeat(signs));
    refused(&held(MAX_CONDITION_TOKENS), "has 161 parts; at most 160");
    Condition::parse("held || ".repeat(63).trim_end_matches("|| ")).unwrap();
}

#[test]
fn what_goes_deep_without_brackets_is_refused_like_what_has_them() {
    for text in [
        format!("{}1", "1<".repeat(60)),
        format!("event.data{} == 1", "[0]".repeat(40)),
        format!("event.data{} == 1", ".a".repeat(40)),
        format!("{}true", "held ? true : ".repeat(30)),
    ] {
        let fault = Condition::parse(&text).map(drop).unwrap_err();
        assert!(fault.contains("nested deeper than 24"), "{text}: {fault}");
    }
    let far = format!("event.data{} == 1", ".a".repeat(20));
    Condition::parse(&far).unwrap();
}

#[test]
fn of_a_large_event_nothing_is_known_but_what_surrounds_it() {
    let outcome = Condition::parse(r#"event.data.outcome == "completed""#).unwrap();
    let secret = Condition::parse(r#"event.secret == "prod/ca""#).unwrap();
    let of = |bytes: usize| facts(&json!({ "outcome": "completed", "reason": "x".repeat(bytes) }));
    // The names of both members, the other value and one for each value.
    let rest = "outcome".len() + "completed".len() + "reason".len() + 2;
    let largest = of(MAX_CONDITION_DATA - rest);
    assert!(outcome.holds(&largest, false));
    let larger = of(MAX_CONDITION_DATA - rest + 1);
    assert!(!outcome.holds(&larger, false));
    assert!(secret.holds(&larger, false));
}

fn any_part() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("event".to_owned()),
        Just("held".to_owned()),
        Just("event.secret".to_owned()),
        Just("event.data".to_owned()),
        Just("event.data.a".to_owned()),
        "[0-9]{1,19}",
        "\"[a-z\\\\]{0,4}\"",
        Just("null".to_owned()),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            (
                inner.clone(),
                inner.clone(),
                proptest::sample::select(vec!["==", "<", "in", "&&", "||", "+", "."])
            )
                .prop_map(|(one, other, sign)| format!("({one} {sign} {other})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(one, two, three)| format!("({one} ? {two} : {three})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("{one}[{other}]")),
            inner.clone().prop_map(|one| format!("!{one}")),
            inner.clone().prop_map(|one| format!("has({one})")),
            inner.clone().prop_map(|one| format!("size({one})")),
            inner.prop_map(|one| format!("[{one}]")),
        ]
    })
}

proptest! {
    /// Whatever a person writes is refused or read, and what was read answers.
    #[test]
    fn any_text_is_refused_or_answers(text in "\\PC{0,80}", part in any_part()) {
        let facts = facts(&json!({ "a": { "a": [1, "b", null, 18_446_744_073_709_551_615_u64] } }));
        for text in [text, part] {
            if let Ok(condition) = Condition::parse(&text) {
                let _answer = condition.holds(&facts, true);
            }
        }
    }

    /// Whatever an event holds can be asked about.
    #[test]
    fn any_event_can_be_asked_about(secret in "\\PC{0,20}", key in "\\PC{0,20}", number in any::<f64>()) {
        let about = About { secret: &secret, ..CLOSED };
        let data = json!({ key: [number, { "a": secret }] });
        let facts = Facts::of(about, data.as_object().unwrap());
        let condition = Condition::parse(r#"event.secret == "" || event.data.a == 1"#).unwrap();
        prop_assert_eq!(condition.holds(&facts, false), secret.is_empty());
    }
}
