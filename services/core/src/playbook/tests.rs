//! Faults of a playbook, parameters, and one case per event and per rejection.

use std::collections::BTreeMap;

use super::*;
use crate::command::{Command, Declaration};
use crate::event;
use crate::playbook_run::Request;
use crate::testing::Given;

const PLAYBOOK: PlaybookId = PlaybookId::from_bytes([0x20; 16]);

fn name(text: &str) -> PlaybookName {
    PlaybookName::parse(text).unwrap()
}

fn step(name: &str, deed: Deed) -> Step {
    Step {
        name: name.to_owned(),
        deed,
        after: Vec::new(),
        deadline: DEFAULT_DEADLINE,
        may_fail: false,
    }
}

fn evicting(host: &str) -> Deed {
    Deed::Evict {
        host: host.to_owned(),
    }
}

fn asking(count: u32, not: &[&str]) -> Deed {
    Deed::Approve {
        count,
        not: not.iter().map(|one| (*one).to_owned()).collect(),
    }
}

fn spec(steps: Vec<Step>) -> Spec {
    Spec {
        parameters: vec![Parameter {
            name: "host".to_owned(),
            default: None,
        }],
        steps,
        triggers: Vec::new(),
    }
}

fn declare(spec: Spec) -> Command {
    Command::Apply(vec![Declaration::Playbook {
        id: PLAYBOOK,
        name: name("stolen"),
        spec,
    }])
}

fn of_playbook(event: Event) -> event::Event {
    event::Event::Playbook(PLAYBOOK, event)
}

fn remove(playbook: &str) -> Command {
    Command::Playbook(Request::Remove {
        name: name(playbook),
    })
}

#[test]
fn a_playbook_is_declared_changed_and_removed() {
    let first = spec(vec![step("evict", evicting("${host}"))]);
    let given = Given::nothing().when(declare(first.clone()));
    let given = given.then([of_playbook(Event::Declared {
        name: name("stolen"),
        spec: first.clone(),
    })]);
    let given = given.when(declare(first)).then_nothing();
    let second = spec(vec![step("evict", evicting("web-1"))]);
    let given = given.when(declare(second.clone()));
    let given = given.then([of_playbook(Event::Changed { spec: second })]);
    let given = given.when(remove("stolen"));
    let given = given.then([of_playbook(Event::Removed)]);
    let unknown = Rejection::Unknown(name("stolen"));
    given.when(remove("stolen")).then_rejected(unknown);
}

#[test]
fn a_playbook_that_another_one_runs_stays() {
    let runs = Deed::Run {
        playbook: name("stolen"),
        arguments: BTreeMap::new(),
    };
    let other = Command::Apply(vec![Declaration::Playbook {
        id: PlaybookId::from_bytes([0x21; 16]),
        name: name("drill"),
        spec: spec(vec![step("all", runs)]),
    }]);
    let given = Given::nothing()
        .and(declare(spec(vec![step("evict", evicting("web-1"))])))
        .and(other);
    let in_use = Rejection::InUse {
        playbook: name("stolen"),
        other: name("drill"),
    };
    given.when(remove("stolen")).then_rejected(in_use);
}

fn cutting(action: OnRevoke, selections: usize) -> Deed {
    let one = Selection::Container {
        name: "${host}".to_owned(),
    };
    Deed::Quarantine {
        containers: vec![one; selections],
        action,
    }
}

#[test]
fn what_is_done_to_no_container_or_cuts_nothing_off_is_refused() {
    let faults: Vec<(Spec, &str)> = vec![
        (
            spec(vec![step(
                "again",
                Deed::Restart {
                    containers: Vec::new(),
                },
            )]),
            "names no container",
        ),
        (
            spec(vec![step("cut", cutting(OnRevoke::Remove, 1))]),
            "choose `disconnect`",
        ),
        (
            spec(vec![step(
                "cut",
                cutting(OnRevoke::Stop, MAX_SELECTIONS + 1),
            )]),
            "65 selections",
        ),
    ];
    for (spec, words) in faults {
        let fault = spec.fault().unwrap().to_string();
        assert!(fault.contains(words), "{fault}");
    }
}

#[test]
fn every_fault_is_found_and_refused() {
    let after = |mut step: Step, before: &str| {
        step.after.push(After {
            step: before.to_owned(),
            failed: false,
        });
        step
    };
    let good = || step("evict", evicting("web-1"));
    let timed = |deadline| Step { deadline, ..good() };
    let faults: Vec<(Spec, &str)> = vec![
        (spec(Vec::new()), "no step"),
        (spec(vec![good(); MAX_STEPS + 1]), "at most 64"),
        (spec(vec![good(), good()]), "two of its steps"),
        (
            spec(vec![step("Evict!", evicting("web-1"))]),
            "no name of a step",
        ),
        (spec(vec![after(good(), "before")]), "no step of it"),
        (spec(vec![after(good(), "evict")]), "waits for itself"),
        (spec(vec![timed(MAX_DEADLINE * 2)]), "seven days"),
        (spec(vec![timed(Duration::ZERO)]), "one second"),
        (spec(vec![step("ask", asking(0, &[]))]), "ask for 1 to"),
        (
            spec(vec![step("ask", asking(MAX_APPROVALS + 1, &[]))]),
            "ask for 1 to",
        ),
        (
            spec(vec![step("ask", asking(1, &["ann"]))]),
            "leaves out `ann`, which names no person",
        ),
        (
            spec(vec![step("ask", asking(1, &["unix:0", "${hots}"]))]),
            "`${hots}`",
        ),
        (
            spec(vec![step("ask", asking(1, &["unix:${host"]))]),
            "without `}`",
        ),
        (
            spec(vec![step("ask", asking(1, &["unix:0"; MAX_LEFT_OUT + 1]))]),
            "at most 8",
        ),
        (
            spec(vec![step(
                "rotate",
                Deed::Rotate {
                    secrets: Vec::new(),
                },
            )]),
            "names no secret",
        ),
        (spec(vec![step("evict", evicting("${hots}"))]), "`${hots}`"),
        (spec(vec![step("evict", evicting("${host"))]), "without `}`"),
    ];
    for (faulty, words) in faults {
        let fault = faulty.fault().expect(words).to_string();
        assert!(fault.contains(words), "{fault}");
        let rejection = Rejection::Faulty {
            playbook: name("stolen"),
            fault: faulty.fault().unwrap(),
        };
        Given::nothing()
            .when(declare(faulty))
            .then_rejected(rejection);
    }
    let last = vec![good()];
    assert_eq!(spec(last).fault(), None);
}

#[test]
fn each_limit_itself_is_allowed_and_one_more_is_not() {
    let fault = |spec: Spec| spec.fault().map(|fault| fault.to_string());
    let good = || step("evict", evicting("web-1"));
    let with_parameters = |count: usize| Spec {
        parameters: (0..count)
            .map(|n| Parameter {
                name: format!("p{n}"),
                default: None,
            })
            .collect(),
        ..spec(vec![good()])
    };
    assert_eq!(fault(with_parameters(MAX_PARAMETERS)), None);
    let many = fault(with_parameters(MAX_PARAMETERS + 1)).unwrap();
    assert!(many.contains("17 parameters; at most 16"), "{many}");
    let with_selections = |count: usize| {
        let one = Selection::Secret {
            name: "prod/db".to_owned(),
        };
        let secrets = vec![one; count];
        spec(vec![step("rotate", Deed::Rotate { secrets })])
    };
    assert_eq!(fault(with_selections(MAX_SELECTIONS)), None);
    let many = fault(with_selections(MAX_SELECTIONS + 1)).unwrap();
    assert!(many.contains("65 selections; at most 64"), "{many}");
    let with_triggers = |count: usize| {
        let one = Trigger::Schedule {
            expression: "0 3 * * 0".to_owned(),
            timezone: "UTC".to_owned(),
            arguments: BTreeMap::from([("host".to_owned(), "web-1".to_owned())]),
        };
        Spec {
            triggers: vec![one; count],
            ..spec(vec![good()])
        }
    };
    assert_eq!(fault(with_triggers(MAX_TRIGGERS)), None);
    let many = fault(with_triggers(MAX_TRIGGERS + 1)).unwrap();
    assert!(many.contains("9 triggers; at most 8"), "{many}");
    let named = |bytes: usize| spec(vec![step(&"s".repeat(bytes), evicting("web-1"))]);
    assert_eq!(fault(named(MAX_WORD_BYTES)), None);
    assert!(fault(named(MAX_WORD_BYTES + 1)).is_some());
}

#[test]
fn steps_in_a_circle_are_found_behind_others() {
    let mut steps: Vec<Step> = ["a", "b", "c"]
        .map(|name| step(name, evicting("web-1")))
        .into();
    for (at, before) in [(1, "c"), (2, "b")] {
        steps[at].after.push(After {
            step: before.to_owned(),
            failed: false,
        });
    }
    let circle = Fault::Circle {
        step: "b".to_owned(),
    };
    assert_eq!(spec(steps).fault(), Some(circle));
}

#[test]
fn parameters_are_put_in_wherever_they_stand_and_nothing_else_is() {
    let known = Playbook {
        id: PLAYBOOK,
        name: name("stolen"),
        spec: spec(vec![
            step("evict", evicting("${host}")),
            step(
                "rotate",
                Deed::Rotate {
                    secrets: vec![Selection::Prefix {
                        path: "prod/${host}/$x".to_owned(),
                    }],
                },
            ),
        ]),
    };
    let told = BTreeMap::from([("host".to_owned(), "${host}".to_owned())]);
    let steps = known.steps(&known.arguments(&told).unwrap());
    assert_eq!(steps[0].deed, evicting("${host}"));
    let told = BTreeMap::from([("host".to_owned(), "web-1".to_owned())]);
    let steps = known.steps(&known.arguments(&told).unwrap());
    assert_eq!(steps[0].deed, evicting("web-1"));
    let path = "prod/web-1/$x".to_owned();
    let secrets = vec![Selection::Prefix { path }];
    assert_eq!(steps[1].deed, Deed::Rotate { secrets });
    for value in ["x".repeat(MAX_ARGUMENT_BYTES + 1), "a\nb".to_owned()] {
        let told = BTreeMap::from([("host".to_owned(), value)]);
        let parameter = "host".to_owned();
        assert_eq!(
            known.arguments(&told),
            Err(Rejection::ArgumentOff { parameter })
        );
    }
}

#[test]
fn a_trigger_tells_all_that_has_to_be_told_and_only_what_there_is() {
    let told = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect::<BTreeMap<String, String>>()
    };
    let on_event = |arguments| Trigger::Event {
        event: "dev.keywheel.host.evicted.v1".to_owned(),
        when: None,
        hold_off: DEFAULT_HOLD_OFF,
        arguments,
    };
    let on_schedule = |arguments| Trigger::Schedule {
        expression: "0 3 * * 0".to_owned(),
        timezone: "UTC".to_owned(),
        arguments,
    };
    let fault = |trigger| {
        let mut spec = spec(vec![step("evict", evicting("${host}"))]);
        spec.triggers.push(trigger);
        spec.fault().map(|fault| fault.to_string())
    };
    assert_eq!(fault(on_event(told(&[("host", "${event.host}")]))), None);
    assert_eq!(fault(on_schedule(told(&[("host", "web-1")]))), None);
    for (trigger, words) in [
        (on_event(told(&[])), "does not tell `host`"),
        (
            on_event(told(&[("host", "x"), ("hots", "x")])),
            "tells `hots`",
        ),
        (
            on_event(told(&[("host", "${event.data}")])),
            "names something else",
        ),
        (
            on_schedule(told(&[("host", "${event.host}")])),
            "names something else",
        ),
    ] {
        let fault = fault(trigger).expect(words);
        assert!(fault.contains(words), "{fault}");
    }
}
