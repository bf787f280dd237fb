//! Given rules on events, when events come, then secrets rotate once for each, in time, and in no circle.

use keywheel_core::host;
use keywheel_core::id::EventId;
use keywheel_core::name::HostName;
use keywheel_core::schedule::{EVENT_HOLD_OFF, Freeze, OnEvent, Window};

use super::*;
use crate::schedule::{event_rotation, event_slot};

mod about;

const CA: SecretId = SecretId::from_bytes([11; 16]);
const APP: SecretId = SecretId::from_bytes([12; 16]);
const WEB: HostId = HostId::from_bytes([13; 16]);
const CLOSED: &str = "dev.keywheel.rotation.closed.v1";

fn rule(event: &str, when: &str, hold_off: u64) -> OnEvent {
    OnEvent {
        event: event.to_owned(),
        when: (!when.is_empty()).then(|| when.to_owned()),
        hold_off: Some(Duration::from_secs(hold_off)),
    }
}

fn follows(name: &str) -> RotationPolicy {
    let when = format!("event.secret == \"{name}\"");
    RotationPolicy {
        on_event: vec![rule(CLOSED, &when, 10)],
        ..RotationPolicy::default()
    }
}

fn named(id: SecretId, name: &str, rotation: RotationPolicy) -> Event {
    let name = SecretName::parse(name).unwrap();
    let spec = spec(rotation);
    Event::Secret(id, secret::Event::Registered { name, spec })
}

fn promoted(id: SecretId) -> Event {
    Event::Secret(id, secret::Event::VersionPromoted { version: 1 })
}

fn begun(secret: SecretId, rotation: RotationId, trigger: Trigger) -> Event {
    let started = rotation::Event::Started {
        secret,
        version: 1,
        trigger,
    };
    Event::Rotation(rotation, started)
}

fn ended(rotation: RotationId) -> Event {
    let outcome = Outcome::Completed;
    Event::Rotation(rotation, rotation::Event::Closed { outcome })
}

fn number(number: u64) -> EventId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    EventId::from_bytes(bytes)
}

/// A log, and schedulers that read it: an event's place is its id.
#[derive(Default)]
struct Log(Vec<(u64, Event)>);

impl Log {
    /// `prod/app` follows `prod/ca`; both were promoted long ago.
    fn of(app: RotationPolicy, ca: RotationPolicy) -> Self {
        Self(vec![
            (0, named(CA, "prod/ca", ca)),
            (0, named(APP, "prod/app", app)),
        ])
    }

    fn add(&mut self, time: u64, event: Event) -> EventId {
        self.0.push((time, event));
        number(self.0.len() as u64)
    }

    /// A whole rotation; gives the id of its last event.
    fn rotate(&mut self, time: u64, secret: SecretId, rotation: RotationId) -> EventId {
        self.add(time, begun(secret, rotation, Trigger::OnDemand));
        self.add(time, promoted(secret));
        self.add(time, ended(rotation))
    }

    /// What a timer asked for begins and ends.
    fn serve(&mut self, time: u64, fired: &Fired) -> EventId {
        let Command::Due {
            rotation,
            secret,
            slot,
            scheduled,
            ..
        } = fired.command
        else {
            panic!("{fired:?}");
        };
        self.add(
            time,
            begun(
                secret,
                rotation,
                Trigger::Slot {
                    slot,
                    scheduled,
                    tzdata: None,
                },
            ),
        );
        self.add(time, promoted(secret));
        self.add(time, ended(rotation))
    }

    fn read(&self) -> Timers {
        let mut timers = Timers::new();
        for (place, (time, event)) in (1..).zip(&self.0) {
            timers.fold((place, number(place)), at(*time), event);
            if timers.lacks_names() {
                let before = self.0.iter().take(usize::try_from(place).unwrap());
                before.for_each(|(_, event)| timers.learn(event));
                timers.learned();
            }
        }
        timers.settle();
        timers
    }
}

fn due_for(fired: Option<Fired>, secret: SecretId, event: EventId) -> Timestamp {
    let fired = fired.unwrap();
    assert_eq!(fired.key, Key::OnEvent(secret));
    match fired.command {
        Command::Due {
            rotation,
            secret: of,
            slot,
            scheduled,
            after,
            tzdata,
        } => {
            assert_eq!((after.map(number), tzdata), (Some(event), None));
            assert_eq!((of, slot), (secret, event_slot(secret, event)));
            assert_eq!(rotation, event_rotation(slot));
            scheduled
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_rotates_after_the_one_it_follows_and_after_no_other() {
    let mut log = Log::of(follows("prod/ca"), RotationPolicy::default());
    log.rotate(100, APP, RotationId::from_bytes([1; 16]));
    assert!(log.read().is_empty(), "its own rotation means nothing");
    let event = log.rotate(200, CA, ROTATION);
    let mut timers = log.read();
    assert_eq!(due_for(timers.pop(at(200)), APP, event), at(200));
    assert_eq!(timers.pop(at(9000)), None);
}

#[test]
fn two_schedulers_ask_for_the_same_and_a_replay_asks_for_nothing_that_was_served() {
    let mut log = Log::of(follows("prod/ca"), RotationPolicy::default());
    log.rotate(200, CA, ROTATION);
    let (fired, again) = (log.read().pop(at(200)), log.read().pop(at(200)));
    assert_eq!(fired, again, "one that was away asks for the same");
    log.serve(201, &fired.unwrap());
    assert!(log.read().is_empty());
    let event = log.rotate(900, CA, RotationId::from_bytes([4; 16]));
    assert_eq!(due_for(log.read().pop(at(900)), APP, event), at(900));
}

#[test]
fn a_rotation_that_began_after_the_event_serves_it_and_an_open_one_is_waited_for() {
    let mut log = Log::of(follows("prod/ca"), RotationPolicy::default());
    let open = RotationId::from_bytes([5; 16]);
    log.add(190, begun(APP, open, Trigger::OnDemand));
    let event = log.rotate(200, CA, ROTATION);
    assert!(log.read().is_empty(), "one is open");
    log.add(300, ended(open));
    assert_eq!(due_for(log.read().pop(at(300)), APP, event), at(200));
    log.rotate(301, APP, RotationId::from_bytes([6; 16]));
    assert!(log.read().is_empty(), "it began after the event");
}

#[test]
fn an_event_within_the_hold_off_waits_and_several_are_one() {
    let mut log = Log::of(follows("prod/ca"), RotationPolicy::default());
    log.rotate(195, APP, RotationId::from_bytes([1; 16]));
    let first = log.rotate(200, CA, ROTATION);
    log.rotate(202, CA, RotationId::from_bytes([4; 16]));
    let mut timers = log.read();
    assert_eq!(timers.len(), 1);
    assert_eq!(timers.pop(at(204)), None);
    assert_eq!(due_for(timers.pop(at(205)), APP, first), at(200));

    let mut app = follows("prod/ca");
    app.on_event[0].hold_off = None;
    let mut log = Log::of(app, RotationPolicy::default());
    log.rotate(5000, APP, RotationId::from_bytes([1; 16]));
    log.rotate(5001, CA, ROTATION);
    assert_eq!(log.read().next_due(), Some(at(5000).plus(EVENT_HOLD_OFF)));
}

#[test]
fn two_that_follow_each_other_come_to_rest() {
    let mut log = Log::of(follows("prod/ca"), follows("prod/app"));
    log.rotate(100, CA, ROTATION);
    let fired = log.read().pop(at(100)).unwrap();
    assert_eq!(fired.key, Key::OnEvent(APP));
    log.serve(101, &fired);
    assert!(
        log.read().is_empty(),
        "what the first led to leads not back"
    );
    // One that begins by itself leads on again, each way once.
    log.rotate(500, APP, RotationId::from_bytes([7; 16]));
    let fired = log.read().pop(at(500)).unwrap();
    assert_eq!(fired.key, Key::OnEvent(CA));
    log.serve(501, &fired);
    assert!(log.read().is_empty());
}

#[test]
fn a_version_that_is_staged_for_what_was_led_to_leads_not_back() {
    let staged = "dev.keywheel.secret.version_staged.v1";
    let on_staged = |name: &str| RotationPolicy {
        on_event: vec![rule(staged, &format!("event.secret == \"{name}\""), 10)],
        ..RotationPolicy::default()
    };
    let stage = |secret, rotation| {
        let version = 2;
        Event::Secret(secret, secret::Event::VersionStaged { version, rotation })
    };
    let mut log = Log::of(on_staged("prod/ca"), on_staged("prod/app"));
    log.add(100, stage(CA, ROTATION));
    log.rotate(100, CA, ROTATION);
    let fired = log.read().pop(at(100)).unwrap();
    let Command::Due { rotation, .. } = fired.command else {
        panic!("{fired:?}");
    };
    log.add(101, stage(APP, rotation));
    log.serve(101, &fired);
    assert!(log.read().is_empty());
}

#[test]
fn a_chain_of_secrets_has_an_end() {
    let id = |n: usize| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
        SecretId::from_bytes(bytes)
    };
    let mut log = Log::default();
    log.add(0, named(id(0), "s/0", RotationPolicy::default()));
    for n in 1..MAX_CHAIN + 5 {
        let policy = follows(&format!("s/{}", n - 1));
        log.add(0, named(id(n), &format!("s/{n}"), policy));
    }
    log.rotate(100, id(0), ROTATION);
    let mut led = 0;
    let mut timers = log.read();
    while let Some(fired) = timers.pop(at(1000)) {
        led += 1;
        let before = log.0.len();
        log.serve(1000, &fired);
        for (place, (time, event)) in (1..).zip(&log.0).skip(before) {
            timers.fold((place, number(place)), at(*time), event);
        }
        timers.settle();
    }
    assert_eq!(led, MAX_CHAIN);
}

#[test]
fn windows_and_freezes_hold_an_event_back() {
    let mut app = follows("prod/ca");
    app.windows = vec![Window {
        expression: "0 22 * * *".to_owned(),
        timezone: "UTC".to_owned(),
        duration: Duration::from_secs(HOUR),
    }];
    app.freezes = vec![Freeze {
        from: at(22 * HOUR),
        until: at(22 * HOUR + 600),
        reason: String::new(),
    }];
    let mut log = Log::of(app, RotationPolicy::default());
    let event = log.rotate(HOUR, CA, ROTATION);
    let mut timers = log.read();
    assert_eq!(timers.pop(at(2 * HOUR)), None);
    assert_eq!(timers.next_due(), Some(at(22 * HOUR + 600)));
    // Late is not missed: whoever was away for the whole window waits for the next.
    assert_eq!(timers.pop(at(24 * HOUR)), None);
    let opens = at(46 * HOUR);
    assert_eq!(due_for(timers.pop(opens), APP, event), at(HOUR));
}

#[test]
fn what_an_evicted_host_was_given_rotates_and_nothing_else() {
    let held = RotationPolicy {
        on_event: vec![rule(
            "dev.keywheel.host.evicted.v1",
            "held && event.host == \"web-1\"",
            1,
        )],
        ..RotationPolicy::default()
    };
    let mut log = Log::of(held.clone(), held);
    let name = HostName::parse("web-1").unwrap();
    let issued = host::Event::JoinTokenIssued {
        name,
        token: keywheel_core::id::JoinTokenId::from_bytes([1; 16]),
        secret_hash: [0; 32],
        expires_at: at(1),
    };
    log.add(1, Event::Host(WEB, issued));
    let delivered = secret::Event::Delivered {
        host: WEB,
        version: 1,
        delivery: keywheel_core::id::DeliveryId::from_bytes([1; 16]),
    };
    log.add(2, Event::Secret(APP, delivered));
    let reason = "stolen".to_owned();
    let evicted = log.add(100, Event::Host(WEB, host::Event::Evicted { reason }));
    let mut timers = log.read();
    assert_eq!(timers.len(), 1);
    assert_eq!(due_for(timers.pop(at(100)), APP, evicted), at(100));
}

#[test]
fn what_waits_goes_only_with_the_last_rule_that_meant_it() {
    let destroyed = "dev.keywheel.secret.version_destroyed.v1";
    let of = |rules: &[(&str, u64)]| {
        let rules = rules.iter().map(|(event, hold_off)| {
            let when = "event.secret == \"prod/ca\"";
            rule(event, when, *hold_off)
        });
        RotationPolicy {
            on_event: rules.collect(),
            ..RotationPolicy::default()
        }
    };
    let mut log = Log::of(
        of(&[(CLOSED, 10), (destroyed, 10)]),
        RotationPolicy::default(),
    );
    log.rotate(195, APP, RotationId::from_bytes([1; 16]));
    let event = log.rotate(200, CA, ROTATION);
    let change = |policy| {
        let spec = spec(policy);
        Event::Secret(APP, secret::Event::SpecChanged { spec })
    };
    log.add(201, change(of(&[(CLOSED, 60)])));
    let mut timers = log.read();
    assert_eq!(timers.next_due(), Some(at(255)), "the hold-off of now");
    assert_eq!(due_for(timers.pop(at(255)), APP, event), at(200));
    log.add(202, change(of(&[(destroyed, 10)])));
    assert!(log.read().is_empty());
    log.rotate(400, CA, RotationId::from_bytes([4; 16]));
    assert!(log.read().is_empty());
}

#[test]
fn what_was_refused_is_asked_for_anew_until_a_rotation_begins() {
    let mut log = Log::of(follows("prod/ca"), RotationPolicy::default());
    log.rotate(200, CA, ROTATION);
    let mut timers = log.read();
    let fired = timers.pop(at(200)).unwrap();
    assert!(timers.unanswered(&fired, at(200), Duration::from_secs(5)));
    let again = timers.pop(at(205)).unwrap();
    assert_eq!((&again.command, again.attempt), (&fired.command, 0));
    for refusal in 1..=QUICK_REFUSALS + 1 {
        timers.refused(&fired, at(300));
        let rest = match refusal {
            few if few <= QUICK_REFUSALS => retry_delay(few),
            _ => REFUSED_REST,
        };
        assert_eq!(timers.pop(at(299).plus(rest)), None);
        let again = timers.pop(at(300).plus(rest)).unwrap();
        assert_eq!((&again.command, again.attempt), (&fired.command, refusal));
    }
    log.serve(400, &fired);
    let later = log.rotate(500, CA, RotationId::from_bytes([4; 16]));
    let mut timers = log.read();
    timers.refused(&fired, at(500));
    assert_eq!(timers.next_due(), Some(at(500)), "it was about another");
    assert_eq!(due_for(timers.pop(at(500)), APP, later), at(500));
}

#[test]
fn what_was_refused_while_a_rotation_is_open_is_asked_for_at_its_end() {
    let mut log = Log::of(follows("prod/ca"), RotationPolicy::default());
    let parked = RotationId::from_bytes([5; 16]);
    log.rotate(100, APP, parked);
    let event = log.rotate(200, CA, ROTATION);
    let fired = log.read().pop(at(200)).unwrap();
    let reopened = rotation::Event::Reopened {
        secret: APP,
        consumers: Vec::new(),
        hosts: Vec::new(),
        deadline: at(900),
    };
    log.add(201, Event::Rotation(parked, reopened));
    let mut timers = log.read();
    timers.refused(&fired, at(202));
    assert_eq!(timers.len(), 1, "the deadline alone");
    log.add(300, ended(parked));
    assert_eq!(due_for(log.read().pop(at(300)), APP, event), at(200));
}

#[test]
fn what_may_never_begin_waits_for_another_policy() {
    let mut app = follows("prod/ca");
    // The thirtieth of February.
    app.windows = vec![Window {
        expression: "0 0 30 2 *".to_owned(),
        timezone: "UTC".to_owned(),
        duration: Duration::from_secs(HOUR),
    }];
    let mut log = Log::of(app, RotationPolicy::default());
    let event = log.rotate(200, CA, ROTATION);
    let mut timers = log.read();
    assert_eq!(timers.pop(at(HOUR)), None);
    assert!(timers.is_empty());
    let free = secret::Event::SpecChanged {
        spec: spec(follows("prod/ca")),
    };
    log.add(2 * HOUR, Event::Secret(APP, free));
    assert_eq!(due_for(log.read().pop(at(2 * HOUR)), APP, event), at(200));
}

#[test]
fn what_comes_after_the_end_of_a_rotation_leads_not_back_either() {
    let destroyed = "dev.keywheel.secret.version_destroyed.v1";
    let on_destroyed = |name: &str| RotationPolicy {
        on_event: vec![rule(destroyed, &format!("event.secret == \"{name}\""), 10)],
        ..RotationPolicy::default()
    };
    let gone = |secret| Event::Secret(secret, secret::Event::VersionDestroyed { version: 1 });
    let mut log = Log::of(on_destroyed("prod/ca"), on_destroyed("prod/app"));
    log.rotate(100, CA, ROTATION);
    log.add(100, gone(CA));
    let fired = log.read().pop(at(100)).unwrap();
    assert_eq!(fired.key, Key::OnEvent(APP));
    log.serve(101, &fired);
    log.add(101, gone(APP));
    assert!(log.read().is_empty());
    // A rotation of its own leads on again.
    log.rotate(500, APP, RotationId::from_bytes([7; 16]));
    let event = log.add(500, gone(APP));
    assert_eq!(due_for(log.read().pop(at(500)), CA, event), at(500));
}

#[test]
fn what_began_after_an_event_serves_it_though_the_clock_was_set_back() {
    let mut log = Log::of(follows("prod/ca"), RotationPolicy::default());
    log.rotate(9000, CA, ROTATION);
    log.rotate(5400, APP, RotationId::from_bytes([6; 16]));
    assert!(log.read().is_empty());
    let event = log.rotate(5500, CA, RotationId::from_bytes([7; 16]));
    assert_eq!(due_for(log.read().pop(at(5500)), APP, event), at(5500));
}

#[test]
fn a_rule_that_comes_late_knows_what_was_before_it() {
    let mut log = Log::of(RotationPolicy::default(), RotationPolicy::default());
    let delivered = secret::Event::Delivered {
        host: WEB,
        version: 1,
        delivery: keywheel_core::id::DeliveryId::from_bytes([1; 16]),
    };
    log.add(2, Event::Secret(APP, delivered));
    let mut app = follows("prod/ca");
    app.on_event
        .push(rule("dev.keywheel.host.evicted.v1", "held", 1));
    let late = secret::Event::SpecChanged { spec: spec(app) };
    log.add(3, Event::Secret(APP, late));
    let mut other = Log(log.0.clone());
    let event = log.rotate(100, CA, ROTATION);
    assert_eq!(due_for(log.read().pop(at(100)), APP, event), at(100));
    let reason = "stolen".to_owned();
    let evicted = other.add(100, Event::Host(WEB, host::Event::Evicted { reason }));
    assert_eq!(due_for(other.read().pop(at(100)), APP, evicted), at(100));
}

#[test]
fn of_conditions_on_the_same_events_the_first_count_until_one_goes() {
    let id = |n: usize| {
        let mut bytes = [0xee; 16];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        SecretId::from_bytes(bytes)
    };
    let asks = |n: usize| {
        let when = format!("event.host != \"{n}\" && event.secret == \"prod/ca\"");
        RotationPolicy {
            on_event: vec![rule(CLOSED, &when, 1)],
            ..RotationPolicy::default()
        }
    };
    let mut log = Log::of(RotationPolicy::default(), RotationPolicy::default());
    for n in 0..=MAX_CONDITIONS {
        log.add(1, named(id(n), &format!("s/{n}"), asks(n)));
    }
    // One on other events counts apart.
    let other = RotationId::from_bytes([9; 16]);
    log.add(1, named(id(999), "s/999", follows("prod/app")));
    let led = |log: &Log| {
        let mut timers = log.read();
        let all = std::iter::from_fn(|| timers.pop(at(1000)));
        let mut keys: Vec<Key> = all.map(|fired| fired.key).collect();
        keys.sort_unstable();
        (keys.len(), keys.pop(), timers.surplus_conditions())
    };
    let mut first = Log(log.0.clone());
    first.rotate(100, CA, ROTATION);
    let last = MAX_CONDITIONS - 1;
    let expected = (MAX_CONDITIONS, Some(Key::OnEvent(id(last))), 1);
    assert_eq!(led(&first), expected);
    let freed = secret::Event::SpecChanged {
        spec: spec(RotationPolicy::default()),
    };
    log.add(50, Event::Secret(id(0), freed));
    log.rotate(100, CA, ROTATION);
    let expected = (MAX_CONDITIONS, Some(Key::OnEvent(id(last + 1))), 0);
    assert_eq!(led(&log), expected);
    log.rotate(101, APP, other);
    let expected = (MAX_CONDITIONS + 1, Some(Key::OnEvent(id(999))), 0);
    assert_eq!(led(&log), expected);
}

#[test]
fn a_condition_that_cannot_be_read_or_asked_leads_to_nothing() {
    for when in ["nobody.knows(this)", "event.data.reason == \"x\""] {
        let policy = RotationPolicy {
            on_event: vec![rule(CLOSED, when, 1)],
            ..RotationPolicy::default()
        };
        let mut log = Log::of(policy, RotationPolicy::default());
        log.rotate(200, CA, ROTATION);
        assert!(log.read().is_empty(), "{when}");
    }
}
