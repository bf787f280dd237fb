//! A quarantine that is lifted while its container may have in a variable what is dead.

use super::orders::cut_off_with_variables;
use super::*;
use crate::binding::OnRevoke;
use crate::report::HostReport;
use crate::testing::{SECOND, container, rotate};

#[test]
fn what_a_host_told_by_a_plan_from_before_a_quarantine_was_lifted_shows_nothing() {
    let given = cut_off_with_variables(OnRevoke::Pause).and(rotate(SECOND));
    let lift = |n| {
        Command::Playbook(Request::Lift {
            container: container(n).to_string(),
            by: "unix:1000".to_owned(),
            reason: "false alarm".to_owned(),
        })
    };
    let given = given.finished(SECOND);
    let promoted = given.world().rotations[&SECOND].generation;
    let given = (1..4).fold(given, |given, n| given.and(lift(n)));
    let lifted = given.world().hosts[&HOST].lifted;
    assert_eq!(lifted, given.world().host_generation(HOST));
    assert!(promoted < lifted);
    let is_waited_for = |given: &Given| {
        let open = given.world().rotations.get(&SECOND);
        open.is_some_and(|open| open.barrier.contains(&HOST))
    };
    assert!(is_waited_for(&given));
    // Its injector has what they have in variables counted as lost until it knows of the last one.
    let by = |generation| {
        Command::Report(HostReport {
            generation,
            ..report(Vec::new(), &[])
        })
    };
    let given = given.and(by(lifted - 1));
    assert!(is_waited_for(&given));
    let given = given.and(by(lifted));
    assert!(!is_waited_for(&given));
}
