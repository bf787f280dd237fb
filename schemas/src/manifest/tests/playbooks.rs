//! `kind: Playbook`: what steps become, and what is refused with which words.

use keywheel_core::binding::OnRevoke;
use keywheel_core::name::NotificationName;
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
    faults[0].clone()
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
    assert_eq!(
        deeds[0],
        &Deed::Approve {
            count: 2,
            not: Vec::new()
        }
    );
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
fn whom_an_approval_leaves_out_is_read_and_never_left_open() {
    let spec = spec_of("[{ name: a, approve: { not: [\"${host}\", \"unix:0\"] } }]");
    let not = vec!["${host}".to_owned(), "unix:0".to_owned()];
    assert_eq!(spec.steps[0].deed, Deed::Approve { count: 1, not });
    for (off, words) in [
        ("not:", "`not` is missing"),
        ("not: []", "`not` has 0 entries"),
        ("not: ann", "`not` has to be a list"),
        ("not: [ann]", "names no person"),
    ] {
        let fault = fault_of(&format!("[{{ name: a, approve: {{ {off} }} }}]"));
        assert!(fault.contains(words), "{off}: {fault}");
    }
}

#[test]
fn what_a_step_waits_for_proves_and_tells_is_read() {
    let spec = spec_of(
        "[{ name: a, wait: { until: withdrawn } }, { name: b, prove: {} }, \
          { name: c, notify: { notifications: [soc, pager], text: \"${secret} leaked\" } }, \
          { name: d, call: { notification: soc, text: x } }]",
    );
    let deeds: Vec<&Deed> = spec.steps.iter().map(|step| &step.deed).collect();
    let soc = || NotificationName::parse("soc").unwrap();
    let notify = Deed::Notify {
        notifications: vec![soc(), NotificationName::parse("pager").unwrap()],
        text: "${secret} leaked".to_owned(),
    };
    let call = Deed::Call {
        notification: soc(),
        text: "x".to_owned(),
    };
    assert_eq!(deeds, [&Deed::Withdrawn, &Deed::Prove, &notify, &call]);
}

#[test]
fn a_step_means_what_a_revocation_can_be_about() {
    let spec = spec_of(
        "[{ name: a, revoke: { stores: [bao], containers: [web-7], images: [\"sha256:1\"], services: [shop/web], versions: alive } }]",
    );
    let word = |word: &str| word.to_owned();
    let secrets = vec![
        Selection::Store { name: word("bao") },
        Selection::Container {
            name: word("web-7"),
        },
        Selection::Image {
            digest: word("sha256:1"),
        },
        Selection::Service {
            name: word("shop/web"),
        },
    ];
    let which = Which::Alive;
    assert_eq!(spec.steps[0].deed, Deed::Revoke { secrets, which });
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
fn containers_are_meant_by_what_they_are_and_have_and_by_their_host() {
    let spec = spec_of(
        "[{ name: a, restart: { containers: [web-7], images: [\"sha256:1\"], services: [shop/web], consumersOf: [\"${secret}\"], host: web-1 } }, \
          { name: b, quarantine: { services: [web], action: pause } }, \
          { name: c, quarantine: { host: web-1 } }]",
    );
    let word = |word: &str| word.to_owned();
    let containers = vec![
        Selection::Container {
            name: word("web-7"),
        },
        Selection::Image {
            digest: word("sha256:1"),
        },
        Selection::Service {
            name: word("shop/web"),
        },
        Selection::Secret {
            name: word("${secret}"),
        },
        Selection::HeldBy {
            host: word("web-1"),
        },
    ];
    assert_eq!(spec.steps[0].deed, Deed::Restart { containers });
    let containers = vec![Selection::Service { name: word("web") }];
    let action = OnRevoke::Pause;
    assert_eq!(spec.steps[1].deed, Deed::Quarantine { containers, action });
    let host = word("web-1");
    assert_eq!(spec.steps[2].deed, Deed::Evict { host });
}

#[test]
fn a_quarantine_says_what_is_done_and_one_of_a_host_says_nothing_else() {
    for (steps, words) in [
        ("[{ name: a, restart: {} }]", "names no container"),
        (
            "[{ name: a, quarantine: { containers: [x] } }]",
            "`action` is missing",
        ),
        (
            "[{ name: a, quarantine: { containers: [x], action: remove } }]",
            "has to be `disconnect`",
        ),
        (
            "[{ name: a, quarantine: { host: x, action: stop } }]",
            "is its eviction",
        ),
    ] {
        let fault = fault_of(steps);
        assert!(fault.contains(words), "{fault}");
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
        (
            "[{ name: a, wait: { for: 5s, until: withdrawn } }]",
            "either `for`",
        ),
        (
            "[{ name: a, wait: { until: dead } }]",
            "has to be `withdrawn`",
        ),
        (
            "[{ name: a, notify: { notifications: [soc], text: \" \" } }]",
            "has to say something",
        ),
        (
            "[{ name: a, call: { notification: soc } }]",
            "`text` is missing",
        ),
        (
            "[{ name: a, notify: { notifications: [soc], text: \"${hots}\" } }]",
            "`${hots}`",
        ),
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
        Err(faults) => Err(faults[0].clone()),
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
fn a_trigger_on_a_signal_tells_what_was_kept_of_it() {
    let text = "${event.data.fields.secret}";
    let read = triggers(&format!(
        "[{{ event: dev.keywheel.signal.received.v1, when: 'event.data.via == \"scanner\"', with: {{ secret: \"{text}\" }} }}]"
    ));
    let read = read.unwrap().remove(0);
    assert_eq!(read.arguments()["secret"], text);
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
        (
            "[{ event: dev.keywheel.signal.received.v1, with: { secret: \"${event.data.fields.}\" } }]",
            "names something else",
        ),
    ] {
        let fault = triggers(text).expect_err(text);
        assert!(fault.contains(words), "{text}: {fault}");
    }
}
