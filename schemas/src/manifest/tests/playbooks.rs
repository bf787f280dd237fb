//! `kind: Playbook`: what steps become, and what is refused with which words.

use keywheel_core::playbook::{
    DEFAULT_DEADLINE, DEFAULT_HOLD_OFF, Deed, MAX_STEPS, Selection, Spec, Step, Trigger, Which,
};

use super::*;

fn playbook(steps: &str) -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Playbook\nmetadata: {{ name: leaked }}\nspec:\n  parameters: [{{ name: secret }}, {{ name: host, default: web-1 }}]\n  steps: {steps}\n"
    )
}

fn spec_of(steps: &str) -> Spec {
    match read(&playbook(steps)).unwrap().remove(0) {
        Manifest::Playbook { name, spec, .. } => {
            assert_eq!(name.as_str(), "leaked");
            spec
        }
        other => panic!("{other:?}"),
    }
}

fn fault_of(steps: &str) -> String {
    let faults = read(&playbook(steps)).unwrap_err();
    faults[0].message.clone()
}

/// Steps as `name < what it comes after`, with `!` for a failure.
fn order(steps: &[Step]) -> Vec<String> {
    let after = |step: &Step| {
        let words = step.after.iter().map(|after| match after.failed {
            true => format!("!{}", after.step),
            false => after.step.clone(),
        });
        words.collect::<Vec<_>>().join(",")
    };
    let shown = |step: &Step| format!("{} < {}", step.name, after(step));
    steps.iter().map(shown).collect()
}

#[test]
fn every_kind_of_step_is_read() {
    let spec = spec_of(
        "[{ name: a, approve: { count: 2 }, deadline: 10m }, \
          { name: b, rotate: { secrets: [\"${secret}\"], prefixes: [prod], heldBy: \"${host}\" } }, \
          { name: c, wait: {} }, { name: d, wait: { for: 5s } }, \
          { name: e, revoke: { secrets: [x], versions: old } }, \
          { name: f, evict: { host: web-1 }, onFailure: continue }, \
          { name: g, run: { playbook: other, with: { secret: \"${secret}\" } } }]",
    );
    let deeds: Vec<&Deed> = spec.steps.iter().map(|step| &step.deed).collect();
    assert_eq!(deeds[0], &Deed::Approve { count: 2 });
    let secrets = vec![
        Selection::Secret {
            name: "${secret}".to_owned(),
        },
        Selection::Prefix {
            path: "prod".to_owned(),
        },
        Selection::HeldBy {
            host: "${host}".to_owned(),
        },
    ];
    assert_eq!(deeds[1], &Deed::Rotate { secrets });
    assert_eq!(deeds[2], &Deed::Wait { span: None });
    let span = Some(Duration::from_secs(5));
    assert_eq!(deeds[3], &Deed::Wait { span });
    assert!(matches!(
        deeds[4],
        Deed::Revoke {
            which: Which::Old,
            ..
        }
    ));
    assert_eq!(
        spec.steps
            .iter()
            .map(|step| step.may_fail)
            .collect::<Vec<_>>(),
        [false, false, false, false, false, true, false]
    );
    assert_eq!(spec.steps[0].deadline, Duration::from_secs(600));
    assert_eq!(spec.steps[1].deadline, DEFAULT_DEADLINE);
    assert!(matches!(deeds[6], Deed::Run { arguments, .. } if arguments["secret"] == "${secret}"));
}

#[test]
fn branches_and_failure_paths_become_one_graph() {
    let spec = spec_of(
        "[{ name: a, wait: {}, onFailure: [{ name: b, wait: {} }, { name: c, wait: {} }] }, \
          { parallel: [[{ name: d, wait: {} }, { name: e, wait: {} }], [{ name: f, wait: {} }]] }, \
          { name: g, wait: {} }]",
    );
    assert_eq!(
        order(&spec.steps),
        [
            "a < ", "b < !a", "c < b", "d < a", "e < d", "f < a", "g < e,f"
        ]
    );
}

#[test]
fn what_nothing_performs_yet_is_refused_with_what_to_do_instead() {
    for word in ["restart", "quarantine", "prove", "notify", "call"] {
        let fault = fault_of(&format!("[{{ name: a, {word}: {{}} }}]"));
        let begin = format!("nothing performs a step `{word}` yet; ");
        assert!(
            fault.len() > begin.len() && fault.starts_with(&begin),
            "{fault}"
        );
    }
}

#[test]
fn faults_say_what_would_be_right() {
    let many = format!("[{}]", "{ name: a, wait: {} },".repeat(MAX_STEPS + 1));
    for (steps, words) in [
        ("[{ name: a }]", "exactly one thing"),
        (
            "[{ name: a, wait: {}, evict: { host: x } }]",
            "exactly one thing",
        ),
        ("[{ wait: {} }]", "`name` is missing"),
        ("[{ name: a, wait: }]", "write `wait: {}`"),
        ("[{ name: a, rotate: {} }]", "names no secret"),
        (
            "[{ name: a, revoke: { secrets: [x] } }]",
            "`versions` is missing",
        ),
        (
            "[{ name: a, revoke: { secrets: [x], versions: all } }]",
            "has to be `old`",
        ),
        ("[{ name: a, approve: { count: 9 } }]", "between 1 and 8"),
        (
            "[{ name: a, wait: {}, onFailure: again }]",
            "a list of steps",
        ),
        (
            "[{ name: a, wait: {} }, { name: a, wait: {} }]",
            "two of its steps",
        ),
        (
            "[{ name: a, parallel: [[{ name: b, wait: {} }]] }]",
            "into a branch",
        ),
        ("[{ name: a, evict: { host: \"${hots}\" } }]", "`${hots}`"),
        (&many, "between 1 and 64"),
    ] {
        let fault = fault_of(steps);
        assert!(fault.contains(words), "{steps}: {fault}");
    }
}

/// What triggers become, or the first fault.
fn triggers(text: &str) -> Result<Vec<Trigger>, String> {
    let steps = playbook("[{ name: a, wait: {} }]");
    let text = format!("{steps}  triggers: {text}\n");
    match read(&text) {
        Ok(mut read) => match read.remove(0) {
            Manifest::Playbook { spec, .. } => Ok(spec.triggers),
            other => panic!("{other:?}"),
        },
        Err(faults) => Err(faults[0].message.clone()),
    }
}

#[test]
fn triggers_on_events_and_schedules_are_read() {
    let told = |value: &str| BTreeMap::from([("secret".to_owned(), value.to_owned())]);
    let kind = "dev.keywheel.secret.version_revoked.v1";
    let read = triggers(&format!(
        "[{{ event: {kind}, when: 'event.secret != \"a\"', with: {{ secret: \"${{event.secret}}\" }} }}, {{ schedule: \"0 3 1 * *\", with: {{ secret: x }} }}]"
    ));
    let on_event = Trigger::Event {
        event: kind.to_owned(),
        when: Some("event.secret != \"a\"".to_owned()),
        hold_off: DEFAULT_HOLD_OFF,
        arguments: told("${event.secret}"),
    };
    let on_schedule = Trigger::Schedule {
        expression: "0 3 1 * *".to_owned(),
        timezone: "UTC".to_owned(),
        arguments: told("x"),
    };
    assert_eq!(read, Ok(vec![on_event, on_schedule]));
}

#[test]
fn faults_of_triggers_say_what_would_be_right() {
    for (text, words) in [
        ("[{ with: { secret: x } }]", "either `event`"),
        (
            "[{ event: no.such, with: { secret: x } }]",
            "is no type of an event",
        ),
        (
            "[{ event: dev.keywheel.host.evicted.v1 }]",
            "does not tell `secret`",
        ),
        (
            "[{ event: dev.keywheel.host.evicted.v1, when: held, with: { secret: x } }]",
            "`event.host` instead",
        ),
        (
            "[{ event: dev.keywheel.playbook_run.completed.v1, with: { secret: x } }]",
            "lead to no rotation",
        ),
        (
            "[{ schedule: \"0 3 * * *\", with: { secret: \"${event.secret}\" } }]",
            "names something else",
        ),
    ] {
        let fault = triggers(text).expect_err(text);
        assert!(fault.contains(words), "{text}: {fault}");
    }
}
