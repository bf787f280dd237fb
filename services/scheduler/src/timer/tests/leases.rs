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
fn a_container_that_is_there_again_stops_the_time_and_a_removal_ends_it() {
    let resumed = Event::Secret(SECRET, secret::Event::LeaseResumed);
    let mut timers = after(&[(10, lingering(40)), (20, resumed)]);
    assert_eq!(timers.pop(at(1000)), None);
    let mut timers = after(&[(10, lingering(40)), (20, lingering(20))]);
    assert!(timers.pop(at(20)).is_some());
    assert_eq!(timers.pop(at(1000)), None, "it was set anew");
}
