//! Given rules on events, when an event comes whose secret or cause it does not name, then it counts all the same.

use std::collections::BTreeMap;

use keywheel_core::id::SignalSourceId;
use keywheel_core::name::SignalSourceName;
use keywheel_core::signal::{self, Match};
use keywheel_core::store::RemoteVersion;
use keywheel_core::{lease, revocation};

use super::*;

fn on(event: &str, secret: &str) -> RotationPolicy {
    let when = format!("event.secret == \"{secret}\"");
    RotationPolicy {
        on_event: vec![rule(&format!("dev.keywheel.{event}.v1"), &when, 10)],
        ..RotationPolicy::default()
    }
}

#[test]
fn what_comes_after_the_end_of_a_rotation_is_about_its_secret_also_where_the_rule_came_later() {
    let intervened = rotation::Event::Intervened {
        intervention: rotation::Intervention::Retry,
        reason: "mended".to_owned(),
    };
    let answered = rotation::Event::StepCompleted { step: Step::Finish };
    for (name, event) in [
        ("rotation.intervened", intervened),
        ("rotation.step_completed", answered),
    ] {
        let policy = on(name, "prod/ca");
        for is_late in [false, true] {
            let app = match is_late {
                true => RotationPolicy::default(),
                false => policy.clone(),
            };
            let mut log = Log::of(app, RotationPolicy::default());
            log.rotate(100, CA, ROTATION);
            if is_late {
                let spec = spec(policy.clone());
                log.add(101, Event::Secret(APP, secret::Event::SpecChanged { spec }));
            }
            let mut later = Log(log.0.clone());
            let told = log.add(200, Event::Rotation(ROTATION, event.clone()));
            let fired = log.read().pop(at(200));
            assert_eq!(due_for(fired, APP, told), at(200), "{name}");
            for n in 1..=LAST_ROTATIONS {
                let mut id = [0x40; 16];
                id[0] = u8::try_from(n).unwrap();
                later.rotate(150, CA, RotationId::from_bytes(id));
            }
            later.add(200, Event::Rotation(ROTATION, event.clone()));
            assert!(later.read().is_empty(), "{name}: what is kept is bounded");
        }
    }
}

#[test]
fn what_somebody_changed_at_a_store_goes_back_to_nobody() {
    let changed = "secret.external_change_detected";
    let mut log = Log::of(follows("prod/ca"), on(changed, "prod/app"));
    log.rotate(100, CA, ROTATION);
    let fired = log.read().pop(at(100)).unwrap();
    log.serve(101, &fired);
    assert!(log.read().is_empty());
    // What an event led to is the last rotation of it, and has nothing to do with this.
    let rotation = RotationId::from_bytes([9; 16]);
    let detected = secret::Event::ExternalChangeDetected {
        remote: RemoteVersion("8".to_owned()),
        rotation,
    };
    let told = log.add(200, Event::Secret(APP, detected));
    let remote = RemoteVersion("8".to_owned());
    log.add(200, begun(APP, rotation, Trigger::External { remote }));
    assert_eq!(due_for(log.read().pop(at(200)), CA, told), at(200));
}

#[test]
fn a_signal_is_about_the_secret_that_holds_what_it_reports() {
    let policy = on("signal.received", "prod/app");
    let mut log = Log::of(policy, RotationPolicy::default());
    log.rotate(100, APP, ROTATION);
    for other in [&[][..], &[CA], &[CA, APP]] {
        log.add(200, received(Some(other), None));
        assert!(log.read().is_empty(), "{other:?}");
    }
    let told = log.add(300, received(Some(&[APP]), None));
    assert_eq!(due_for(log.read().pop(at(300)), APP, told), at(300));
}

/// A signal whose token these hold, if that is known.
fn received(secrets: Option<&[SecretId]>, first: Option<u64>) -> Event {
    let held = |secret: &SecretId| Match {
        secret: *secret,
        version: 1,
    };
    let received = signal::Event::Received {
        via: SignalSourceName::parse("scanner").unwrap(),
        source: "s".to_owned(),
        id: "1".to_owned(),
        kind: "leak".to_owned(),
        subject: String::new(),
        fields: BTreeMap::new(),
        compared: Some(secrets.is_some()),
        matched: secrets.map(|secrets| secrets.iter().map(held).collect()),
        first,
    };
    Event::Signal(SignalSourceId::from_bytes([4; 16]), received)
}

#[test]
fn what_is_known_of_a_signal_later_leads_to_what_it_could_not_before_and_to_nothing_again() {
    let kind = "dev.keywheel.signal.received.v1";
    let policy = |when: &str| RotationPolicy {
        on_event: vec![rule(kind, when, 10)],
        ..RotationPolicy::default()
    };
    let by_secret = policy("event.data.via == \"scanner\" && event.secret == \"prod/app\"");
    let mut log = Log::of(by_secret, RotationPolicy::default());
    log.rotate(100, APP, ROTATION);
    log.add(200, received(None, None));
    assert!(log.read().is_empty(), "nobody knows whose it is");
    let told = log.add(300, received(Some(&[APP]), Some(200)));
    assert_eq!(due_for(log.read().pop(at(300)), APP, told), at(300));

    let by_source = policy("event.data.via == \"scanner\"");
    let mut log = Log::of(by_source, RotationPolicy::default());
    log.rotate(100, APP, ROTATION);
    log.add(200, received(None, None));
    let fired = log.read().pop(at(200)).unwrap();
    log.serve(201, &fired);
    log.add(300, received(Some(&[APP]), Some(200)));
    assert!(log.read().is_empty());
    // Another signal does.
    let told = log.add(400, received(None, None));
    assert_eq!(due_for(log.read().pop(at(400)), APP, told), at(400));
}

#[test]
fn the_revocation_of_what_a_rotation_replaced_leads_to_none_of_its_secret_and_any_other_does() {
    let requested = |id| {
        let requested = revocation::Event::Requested {
            secret: APP,
            versions: vec![1],
            hosts: Vec::new(),
            reason: "leaked".to_owned(),
            is_to_prove: true,
            is_emergency: false,
        };
        Event::Revocation(id, requested)
    };
    let kind = "dev.keywheel.revocation.requested.v1";
    let policy = RotationPolicy {
        on_event: vec![rule(kind, "event.secret == \"prod/app\"", 10)],
        ..RotationPolicy::default()
    };
    let mut log = Log::of(policy, RotationPolicy::default());
    log.rotate(100, APP, ROTATION);
    log.add(100, requested(lease::end_of(ROTATION)));
    assert!(log.read().is_empty());
    let event = log.add(200, requested(RevocationId::from_bytes([9; 16])));
    assert_eq!(due_for(log.read().pop(at(200)), APP, event), at(200));
}
