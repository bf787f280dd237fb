//! Leases of containers that do not run.

use super::*;

fn lingering(until: u64) -> Event {
    let until = at(until);
    Event::Secret(SECRET, secret::Event::LeaseLingering { until })
}

#[test]
fn a_lease_without_its_container_ends_in_its_time() {
    let mut timers = after(&[(10, lingering(40))]);
    assert_eq!(timers.pop(at(39)), None);
    let fired = timers.pop(at(40)).unwrap();
    assert_eq!(fired.command, Command::LingerEnded { secret: SECRET });
    assert_eq!(timers.pop(at(1000)), None, "once");
}

#[test]
fn an_end_that_is_refused_by_a_gateway_whose_clock_lags_comes_again_while_the_lease_is_kept() {
    let mut timers = after(&[(10, lingering(40))]);
    let fired = timers.pop(at(40)).unwrap();
    timers.refused(&fired, at(40));
    assert_eq!(timers.next_due(), Some(at(40).plus(DEADLINE_RETRY)));
    let again = timers.pop(at(41)).unwrap();
    assert_eq!(again.command, fired.command);
    assert!(timers.unanswered(&again, at(41), RETRY_BASE));
    let resumed = Event::Secret(SECRET, secret::Event::LeaseResumed);
    let ended = Event::Secret(SECRET, secret::Event::LeaseEnded);
    for over in [resumed, ended] {
        let mut timers = timers.clone();
        timers.apply(at(42), &over);
        timers.refused(&again, at(42));
        assert!(!timers.unanswered(&again, at(42), RETRY_BASE));
        assert!(timers.is_empty(), "{over:?}");
    }
}

#[test]
fn an_end_that_moved_meanwhile_comes_at_its_time() {
    let mut timers = after(&[(10, lingering(40))]);
    let fired = timers.pop(at(40)).unwrap();
    timers.apply(at(40), &lingering(90));
    timers.refused(&fired, at(41));
    assert_eq!(timers.next_due(), Some(at(90)));
}

#[test]
fn another_version_of_a_lease_does_not_keep_it_longer() {
    let staged = secret::Event::VersionStaged {
        version: 2,
        rotation: ROTATION,
    };
    let mut timers = after(&[(10, lingering(40)), (20, Event::Secret(SECRET, staged))]);
    assert!(timers.pop(at(40)).is_some());
}

#[test]
fn a_container_that_is_there_again_stops_the_time_and_a_removal_ends_it() {
    let resumed = Event::Secret(SECRET, secret::Event::LeaseResumed);
    let mut timers = after(&[(10, lingering(40)), (20, resumed)]);
    assert_eq!(timers.pop(at(1000)), None);
    let mut timers = after(&[(10, lingering(40)), (20, lingering(20))]);
    assert!(timers.pop(at(20)).is_some());
    assert_eq!(timers.pop(at(1000)), None, "it was set anew");
}
