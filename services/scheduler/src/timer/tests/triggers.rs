//! Events and slots that begin runs of playbooks: once each, over replays, and not again at once.

use std::collections::BTreeMap;

use keywheel_core::id::{EventId, PlaybookId, SignalSourceId};
use keywheel_core::name::{PlaybookName, SignalSourceName};
use keywheel_core::playbook::{self, DEFAULT_HOLD_OFF, Trigger};
use keywheel_core::playbook_run::{self, Cause, Request};
use keywheel_core::signal;

use super::*;

const PLAYBOOK: PlaybookId = PlaybookId::from_bytes([0x20; 16]);
const REVOKED: &str = "dev.keywheel.secret.version_revoked.v1";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn told(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("secret".to_owned(), value.to_owned())])
}

fn declared(triggers: Vec<Trigger>) -> Event {
    let spec = playbook::Spec {
        triggers,
        ..playbook::Spec::default()
    };
    let name = PlaybookName::parse("leaked").unwrap();
    Event::Playbook(PLAYBOOK, playbook::Event::Declared { name, spec })
}

fn on_event() -> Event {
    declared(vec![Trigger::Event {
        event: REVOKED.to_owned(),
        when: Some("event.secret.startsWith(\"prod/\")".to_owned()),
        hold_off: DEFAULT_HOLD_OFF,
        arguments: told("${event.secret}"),
    }])
}

fn registered(id: SecretId, name: &str) -> Event {
    let name = SecretName::parse(name).unwrap();
    let spec = Spec::default();
    Event::Secret(id, secret::Event::Registered { name, spec })
}

fn revoked(id: SecretId) -> Event {
    Event::Secret(id, secret::Event::VersionRevoked { version: 1 })
}

/// What was begun, as the log has it.
fn begun(command: &Command) -> Event {
    let Command::Playbook(Request::Start {
        run,
        playbook,
        arguments,
        reason,
        cause,
        ..
    }) = command
    else {
        panic!("{command:?}");
    };
    let triggered = playbook_run::Event::Triggered {
        playbook: PLAYBOOK,
        name: playbook.clone(),
        arguments: arguments.clone(),
        steps: Vec::new(),
        by: playbook_run::SCHEDULER.to_owned(),
        reason: reason.clone(),
        parent: None,
        depth: 0,
        cause: *cause,
    };
    Event::PlaybookRun(*run, triggered)
}

fn secret_id(n: u8) -> SecretId {
    SecretId::from_bytes([n; 16])
}

/// Folds a log as the service does, a second apart, and learns names when it has to.
fn folded(log: &[Event]) -> Timers {
    let mut timers = Timers::new();
    for (number, event) in (1_u64..).zip(log) {
        let seconds = i64::try_from(number).unwrap();
        timers.fold((number, EventId::default()), at(seconds), event);
        if timers.lacks_names() {
            log.iter()
                .take(usize::try_from(number).unwrap())
                .for_each(|event| timers.learn(event));
            timers.learned();
        }
    }
    timers.settle();
    timers
}

fn pop(timers: &mut Timers, now: i64) -> Option<Command> {
    timers.pop(at(now)).map(|fired| fired.command)
}

#[test]
fn an_event_begins_one_run_told_of_its_secret_and_a_replay_none() {
    let mut log = vec![
        registered(secret_id(1), "prod/db"),
        registered(secret_id(2), "test/db"),
        on_event(),
        revoked(secret_id(2)),
        revoked(secret_id(1)),
        revoked(secret_id(1)),
    ];
    let mut timers = folded(&log);
    let command = pop(&mut timers, 10).unwrap();
    let Command::Playbook(Request::Start {
        arguments, cause, ..
    }) = &command
    else {
        panic!("{command:?}");
    };
    assert_eq!(arguments, &told("prod/db"));
    assert_eq!(*cause, Cause::Event { number: 5 });
    assert_eq!(pop(&mut timers, 10), None, "the second tells the same");
    log.push(begun(&command));
    assert_eq!(pop(&mut folded(&log), 10_000), None);
}

#[test]
fn what_tells_the_same_within_the_hold_off_begins_nothing_and_after_it_does() {
    let log = [
        registered(secret_id(1), "prod/db"),
        registered(secret_id(2), "prod/other"),
        on_event(),
        revoked(secret_id(1)),
    ];
    let mut timers = folded(&log);
    let first = pop(&mut timers, 10).unwrap();
    timers.fold((5, EventId::default()), at(20), &begun(&first));
    let mut again = |number: u64, seconds, id| {
        timers.fold((number, EventId::default()), at(seconds), &revoked(id));
        pop(&mut timers, seconds)
    };
    assert_eq!(again(6, 21, secret_id(1)), None);
    assert!(
        again(7, 22, secret_id(2)).is_some(),
        "another secret is another incident"
    );
    assert!(again(8, 20 + 601, secret_id(1)).is_some());
}

#[test]
fn a_refused_or_unanswered_start_is_let_go_or_asked_again() {
    let log = [
        registered(secret_id(1), "prod/db"),
        on_event(),
        revoked(secret_id(1)),
    ];
    let mut timers = folded(&log);
    let fired = timers.pop(at(10)).unwrap();
    assert!(timers.unanswered(&fired, at(10), DEADLINE_RETRY));
    let fired = timers.pop(at(11)).unwrap();
    timers.refused(&fired, at(11));
    assert_eq!(timers.pop(at(10_000)), None);
    assert!(!timers.unanswered(&fired, at(11), DEADLINE_RETRY));
}

#[test]
fn a_slot_begins_one_run_and_a_missed_one_none() {
    let hourly = declared(vec![Trigger::Schedule {
        expression: "0 * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        arguments: told("drill/db"),
    }]);
    let mut log = vec![hourly];
    let mut timers = folded(&log);
    assert_eq!(pop(&mut timers, 3599), None);
    let command = pop(&mut timers, 3600).unwrap();
    let Command::Playbook(Request::Start { cause, .. }) = &command else {
        panic!("{command:?}");
    };
    let scheduled = at(3600);
    assert_eq!(*cause, Cause::Slot { scheduled });
    log.push(begun(&command));
    let mut timers = folded(&log);
    // Down over the next one: a drill belongs to its hour.
    assert_eq!(pop(&mut timers, 7200 + 61), None);
    assert!(pop(&mut timers, 10_800).is_some());
}

fn leak(fields: &[(&str, &str)]) -> Event {
    let word = |text: &str| text.to_owned();
    let received = signal::Event::Received {
        via: SignalSourceName::parse("scanner").unwrap(),
        source: word("https://scanner.example"),
        id: word("1"),
        kind: word("leak"),
        subject: word("build 4711"),
        fields: fields
            .iter()
            .map(|(name, value)| (word(name), word(value)))
            .collect(),
        compared: None,
        matched: None,
        first: None,
    };
    Event::Signal(SignalSourceId::from_bytes([0x40; 16]), received)
}

/// A playbook that a signal of this source begins, if its condition holds.
fn on_signal(argument: &str) -> Event {
    declared(vec![Trigger::Event {
        event: "dev.keywheel.signal.received.v1".to_owned(),
        when: Some("event.data.via == \"scanner\" && event.data.type == \"leak\"".to_owned()),
        hold_off: DEFAULT_HOLD_OFF,
        arguments: told(argument),
    }])
}

fn told_by(log: &[Event]) -> Option<BTreeMap<String, String>> {
    match pop(&mut folded(log), 10)? {
        Command::Playbook(Request::Start { arguments, .. }) => Some(arguments),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signal_from_outside_begins_a_run_told_of_what_was_kept_of_it() {
    let signal = leak(&[("secret", "prod/db")]);
    let by_field = on_signal("${event.data.fields.secret}");
    assert_eq!(told_by(&[by_field, signal.clone()]), Some(told("prod/db")));
    let by_subject = on_signal("${event.data.subject}");
    assert_eq!(told_by(&[by_subject, signal]), Some(told("build 4711")));
}

#[test]
fn a_signal_that_does_not_say_what_a_run_is_told_begins_none() {
    let signal = leak(&[("repository", "shop")]);
    let trigger = on_signal("${event.data.fields.secret}");
    assert_eq!(told_by(&[trigger, signal]), None);
    let whole = on_signal("${event.data.fields}");
    assert_eq!(told_by(&[whole, leak(&[("secret", "prod/db")])]), None);
}

#[test]
fn of_several_triggers_the_first_that_has_something_to_tell_begins_the_run() {
    let of = |argument: &str| Trigger::Event {
        event: "dev.keywheel.signal.received.v1".to_owned(),
        when: None,
        hold_off: DEFAULT_HOLD_OFF,
        arguments: told(argument),
    };
    let both = declared(vec![
        of("${event.secret}"),
        of("${event.data.fields.secret}"),
    ]);
    let signal = leak(&[("secret", "prod/db")]);
    assert_eq!(told_by(&[both, signal]), Some(told("prod/db")));
}

#[test]
fn what_waits_for_its_run_waits_on_when_the_playbook_is_changed() {
    let changed = |trigger: Event| {
        let Event::Playbook(id, playbook::Event::Declared { spec, .. }) = trigger else {
            panic!("nothing is declared");
        };
        Event::Playbook(id, playbook::Event::Changed { spec })
    };
    let log = [
        registered(secret_id(1), "prod/db"),
        on_event(),
        revoked(secret_id(1)),
        changed(on_event()),
    ];
    assert_eq!(told_by(&log), Some(told("prod/db")));
}

/// The same signal, of whose token it was known later that a secret's version holds it.
fn known_later(signal: &Event, secret: SecretId) -> Event {
    let mut later = signal.clone();
    if let Event::Signal(
        _,
        signal::Event::Received {
            compared,
            matched,
            first,
            ..
        },
    ) = &mut later
    {
        let found = signal::Match { secret, version: 1 };
        (*compared, *matched, *first) = (Some(true), Some(vec![found]), Some(3));
    }
    later
}

#[test]
fn what_is_known_of_a_signal_later_begins_what_it_could_not_before_and_nothing_again() {
    let of = |argument: &str| {
        declared(vec![Trigger::Event {
            event: "dev.keywheel.signal.received.v1".to_owned(),
            when: None,
            hold_off: Duration::ZERO,
            arguments: told(argument),
        }])
    };
    let signal = leak(&[("secret", "prod/other")]);
    let later = known_later(&signal, secret_id(1));
    let known = registered(secret_id(1), "prod/db");
    let by_secret = [known.clone(), of("${event.secret}"), signal.clone()];
    assert_eq!(told_by(&by_secret), None, "nobody knows whose it is");
    let by_secret = [&by_secret[..], std::slice::from_ref(&later)].concat();
    assert_eq!(told_by(&by_secret), Some(told("prod/db")));

    let mut by_field = vec![known, of("${event.data.fields.secret}"), signal.clone()];
    let command = pop(&mut folded(&by_field), 10).unwrap();
    by_field.push(begun(&command));
    let again = [&by_field[..], &[later]].concat();
    assert_eq!(told_by(&again), None);
    // Another signal that tells the same does begin another run.
    let again = [&by_field[..], &[signal]].concat();
    assert_eq!(told_by(&again), Some(told("prod/other")));
}
