//! What no host gets any more is called dead once its store, or the end of its rotation, said so; and not before.

use keywheel_core::id::DeliveryId;
use keywheel_core::{host, lease, rotation};
use keywheel_schemas::api::EvidenceSummary;

use super::*;

const ROTATION: RotationId = RotationId::from_bytes([12; 16]);
const STORE: &str = "the store confirmed";
const ALL_DEAD: &str = "all that it may hold is dead";
/// As the example registers it.
const NAME: &str = "prod/payments/db-password version 1";

fn of_rotation(fact: rotation::Event) -> Event {
    Event::Rotation(ROTATION, fact)
}

fn of_secret(fact: secret::Event) -> Event {
    Event::Secret(SECRET, fact)
}

fn closed() -> Event {
    of_rotation(rotation::Event::Closed {
        outcome: rotation::Outcome::Completed,
    })
}

/// Version 1 is replaced, and no host gets it any more; its store was not heard yet.
fn replaced() -> Vec<Event> {
    vec![
        of_rotation(rotation::Event::Started {
            secret: SECRET,
            version: 2,
            trigger: rotation::Trigger::OnDemand,
        }),
        of_secret(secret::Event::VersionPromoted { version: 2 }),
        of_rotation(rotation::Event::DistributionStarted {
            consumers: Vec::new(),
            hosts: Vec::new(),
            old: vec![1],
            deadline: time(200),
        }),
        of_secret(secret::Event::VersionRevoked { version: 1 }),
        of_rotation(rotation::Event::StepStarted {
            step: rotation::Step::RevokeOld,
            attempt: 1,
        }),
    ]
}

/// A revocation by which it dies, and what its store says to that.
fn end() -> [Event; 3] {
    let of = |fact| Event::Revocation(lease::end_of(ROTATION), fact);
    [
        of(revocation::Event::Requested {
            secret: SECRET,
            versions: vec![1],
            hosts: Vec::new(),
            reason: "replaced".to_owned(),
            is_to_prove: false,
            is_emergency: false,
        }),
        of(revocation::Event::BackendFailed {
            attempt: 1,
            reason: "away".to_owned(),
        }),
        of(revocation::Event::BackendConfirmed),
    ]
}

/// What is told, and the page.
fn told(kind: &str, id: &str, events: &[Event]) -> (EvidenceSummary, String) {
    let report = complete(answered_of(kind, id, events, &key())).unwrap();
    assert_eq!(found(&report).faults, []);
    let page = page(&report).unwrap();
    (report.summary.unwrap(), page)
}

fn reached(told: &EvidenceSummary, what: &str) -> Option<u64> {
    let mut marks = told.marks.iter();
    marks.find(|mark| mark.what == what).unwrap().event
}

#[test]
fn what_a_rotation_replaced_is_dead_once_that_ended_and_not_while_its_server_is_away() {
    let id = ROTATION.to_string();
    let open = [Vec::from(named()), replaced()].concat();
    let (waits, page) = told("rotation", &id, &open);
    assert_eq!(reached(&waits, STORE), None);
    let no_more = reached(&waits, "last version dead, no host gets it any more");
    assert_eq!(no_more, Some(FIRST + 6));
    assert!(
        !page.contains("<li>Dead: "),
        "its server may let it in still"
    );
    let line =
        format!("<li>Given to no host any more, but NOT confirmed dead at its store: {NAME}.");
    assert!(page.contains(&line), "{page}");
    let whole = [open, vec![closed()]].concat();
    let (ended, page) = told("rotation", &id, &whole);
    assert_eq!(reached(&ended, STORE), Some(FIRST + 8));
    assert!(page.contains(&format!("<li>Dead: {NAME}, ")), "{page}");
    // Where it dies by a revocation, that one's report shows it.
    let [requested, ..] = end();
    let (left, page) = told("rotation", &id, &[whole, vec![requested]].concat());
    assert_eq!(reached(&left, STORE), None);
    assert!(left.proof.contains("by a revocation"), "{}", left.proof);
    assert!(page.contains(&line), "{page}");
}

#[test]
fn what_an_evicted_host_may_hold_is_dead_once_each_store_said_so() {
    let before = vec![
        of_secret(secret::Event::Delivered {
            host: HOST,
            version: 1,
            delivery: DeliveryId::from_bytes([7; 16]),
        }),
        Event::Host(
            HOST,
            host::Event::Evicted {
                reason: "stolen".to_owned(),
            },
        ),
    ];
    let id = HOST.to_string();
    let open = [Vec::from(named()), before, replaced()].concat();
    let state = |events: &[Event]| {
        let (told, page) = told("host", &id, events);
        let is_called_dead = page.contains(&format!("<li>Dead: {NAME}"));
        assert_eq!(is_called_dead, reached(&told, ALL_DEAD).is_some());
        (told.state, is_called_dead)
    };
    let (waits, is_dead) = state(&open);
    assert!(waits.contains(
        "1 versions that it may hold are given to nobody any more, and NOT confirmed dead"
    ));
    assert!(!is_dead);
    let by_rotation = [open.clone(), vec![closed()]].concat();
    let nothing = "evicted; nothing that it may hold is alive".to_owned();
    assert_eq!(state(&by_rotation), (nothing.clone(), true));
    let [requested, failed, confirmed] = end();
    let asked = [by_rotation, vec![requested, failed]].concat();
    assert_eq!(state(&asked), (waits, false));
    let said = [asked, vec![confirmed]].concat();
    assert_eq!(state(&said), (nothing, true));
}
