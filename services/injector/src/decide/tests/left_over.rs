//! A file whose content may not be used any more, while what would replace it cannot be made.

use super::*;
use crate::model::Unformed;

/// As [`of_two`] at these versions, and the other secret's version 1 is dead.
fn after_a_revocation() -> PlannedBinding {
    let mut planned = of_two(Some(2));
    planned.also[0].dead.insert(1);
    planned
}

/// The same file of its own secret alone: its template names the other one no more.
fn of_one() -> PlannedBinding {
    let mut target = file("db");
    if let Target::File { template, .. } = &mut target {
        *template = Some("{{ secret(\"prod/db\").field }}".to_owned());
    }
    binding(1, target, Reload::None, Some(3))
}

/// A container with a file of version 3 and of the other secret's version 1.
fn holder() -> Tracked {
    let mut tracked = tracked("runc", &[]);
    holds_two(&mut tracked, &of_two(Some(1)), 1, Ack::Done);
    tracked
}

fn does_not_fit(tracked: &mut Tracked, planned: &PlannedBinding) {
    let unformed = Unformed {
        secret: planned.secret,
        version: 3,
        form: Form::of(planned),
        reason: "template_failed".to_owned(),
    };
    tracked.unformed.insert(planned.binding, unformed);
}

#[test]
fn a_file_with_a_dead_version_goes_when_its_successor_does_not_fit() {
    for (planned, removes) in [(of_two(Some(2)), 0), (after_a_revocation(), 1)] {
        let mut container = holder();
        does_not_fit(&mut container, &planned);
        let todo = decided(vec![planned], &container);
        assert_eq!((todo.removes.len(), todo.writes.len()), (removes, 0));
        assert_eq!(todo.refusals.len(), 1, "and it is said why");
    }
}

#[test]
fn a_file_with_a_dead_version_goes_when_the_values_of_its_successor_are_not_here() {
    for (planned, had, removes) in [
        (of_two(Some(2)), Had::Awaited, 0),
        (of_two(Some(2)), Had::Failed, 0),
        (after_a_revocation(), Had::Awaited, 1),
        (after_a_revocation(), Had::Failed, 1),
        (after_a_revocation(), Had::Here, 0),
    ] {
        let todo = decided_with(vec![planned], &holder(), had);
        assert_eq!(todo.removes.len(), removes, "{had:?}");
        assert_eq!((todo.writes.len(), todo.needs.len()), (1, 2), "{had:?}");
    }
}

#[test]
fn a_dead_version_that_only_the_disk_remembers_goes_too() {
    let mut container = holder();
    let holding = container.holdings.values_mut().next().unwrap();
    (holding.version, holding.remembered) = (None, Some((3, true)));
    let todo = decided_with(vec![after_a_revocation()], &container, Had::Failed);
    assert_eq!(todo.removes.len(), 1);
}

#[test]
fn a_file_of_a_secret_that_its_binding_names_no_more_stays_until_its_successor_cannot_be_made() {
    for (had, removes) in [(Had::Here, 0), (Had::Awaited, 0), (Had::Failed, 1)] {
        let todo = decided_with(vec![of_one()], &holder(), had);
        assert_eq!(todo.removes.len(), removes, "{had:?}");
        assert_eq!(todo.writes.len(), 1, "{had:?}");
    }
    let mut container = holder();
    does_not_fit(&mut container, &of_one());
    let todo = decided(vec![of_one()], &container);
    assert_eq!((todo.removes.len(), todo.writes.len()), (1, 0));
}

#[test]
fn a_variable_does_not_go_without_its_program() {
    let mut bound = binding(1, env(), RESTART, Some(4));
    bound.dead.insert(3);
    let mut container = tracked("keywheel", &["DB={keywheel:prod/db}"]);
    holds(&mut container, &bound, Some(3), Ack::Done);
    let todo = decided_with(vec![bound], &container, Had::Failed);
    assert!(todo.removes.is_empty() && todo.stop.is_empty());
    assert_eq!(todo.restart.len(), 1);
}
