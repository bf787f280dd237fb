//! A file with the version before the current one in it: written again whenever that one changes or dies.

use keywheel_core::plan::PlannedPrevious;

use super::*;
use crate::model::Busy;

/// Version 3, and this version before it.
fn with_previous(version: Option<u64>) -> PlannedBinding {
    let mut target = file("db");
    if let Target::File { template, .. } = &mut target {
        let text = "{{ secret(\"prod/db\") }},{{ secret(\"prod/db\", version=\"previous\") }}";
        *template = Some(text.to_owned());
    }
    let mut planned = binding(1, target, Reload::None, Some(3));
    planned.previous = version
        .map(|version| PlannedPrevious {
            secret: planned.secret,
            grant: Grant {
                version,
                delivery: DeliveryId::from_bytes([2; 16]),
            },
        })
        .into_iter()
        .collect();
    planned
}

/// A container that has what a plan gives.
fn holder(planned: &PlannedBinding) -> Tracked {
    let mut tracked = tracked("runc", &[]);
    holds(&mut tracked, planned, Some(3), Ack::Done);
    let holding = tracked.holdings.get_mut(&planned.binding).unwrap();
    let previous = planned.previous.iter();
    holding.previous = previous
        .map(|one| (one.secret, one.grant.version))
        .collect();
    tracked
}

#[test]
fn a_file_needs_both_versions_and_only_the_current_one_is_news() {
    let todo = decided(vec![with_previous(Some(2))], &tracked("runc", &[]));
    let needs: Vec<u64> = todo.needs.iter().map(|(_, grant)| grant.version).collect();
    assert_eq!(needs, [3, 2]);
    let wish = &todo.writes[0];
    assert_eq!(wish.news, [(wish.secret, 3)]);
    assert_eq!(wish.versions().collect::<Vec<_>>(), [(wish.secret, 3)]);
    let parts: Vec<_> = wish.parts().collect();
    assert_eq!(parts, [(wish.secret, 3), (wish.secret, 2)]);
}

#[test]
fn a_file_is_written_again_when_the_version_before_comes_changes_or_goes() {
    for (held, wanted, writes) in [
        (Some(2), Some(2), 0),
        (None, Some(2), 1),
        (Some(1), Some(2), 1),
        (Some(2), None, 1),
    ] {
        let container = holder(&with_previous(held));
        let todo = decided(vec![with_previous(wanted)], &container);
        assert_eq!(todo.writes.len(), writes, "{held:?} {wanted:?}");
        assert!(todo.removes.is_empty(), "{held:?} {wanted:?}");
    }
}

#[test]
fn a_file_with_a_dead_version_before_goes_at_once_when_it_cannot_be_replaced() {
    let mut revoked = with_previous(None);
    revoked.dead.insert(2);
    for (had, removes) in [(Had::Here, 0), (Had::Awaited, 1), (Had::Failed, 1)] {
        let container = holder(&with_previous(Some(2)));
        let todo = decided_with(vec![revoked.clone()], &container, had);
        assert_eq!(
            (todo.removes.len(), todo.writes.len()),
            (removes, 1),
            "{had:?}"
        );
    }
    // A plan that names it all the same gives it to nobody.
    let mut both = with_previous(Some(2));
    both.dead.insert(2);
    let todo = decided(vec![both], &tracked("runc", &[]));
    assert_eq!(todo.needs.len(), 1);
    assert!(todo.writes[0].previous.is_empty());
}

#[test]
fn a_dead_version_before_does_not_wait_for_its_container() {
    type Change = fn(&mut Tracked);
    let changes: [(&str, Change, usize); 6] = [
        ("free", |_| {}, 0),
        ("restarts", |one| one.busy = Busy::Restarting, 1),
        ("attaches", |one| one.busy = Busy::Attaching, 1),
        (
            "is tried again later",
            |one| one.retry_at = Duration::from_secs(10),
            1,
        ),
        (
            "starts",
            |one| one.creating_until = Some(Duration::from_secs(60)),
            1,
        ),
        ("is down", |one| one.record.running = false, 1),
    ];
    let mut revoked = with_previous(None);
    revoked.dead.insert(2);
    for (what, change, removes) in changes {
        let mut container = holder(&with_previous(Some(2)));
        change(&mut container);
        let todo = decided(vec![revoked.clone()], &container);
        assert_eq!(todo.removes.len(), removes, "{what}");
        // What lives may wait.
        let todo = decided(vec![with_previous(None)], &container);
        assert!(todo.removes.is_empty(), "{what}");
    }
}

#[test]
fn what_the_disk_remembers_of_a_version_before_counts_as_held() {
    let mut container = holder(&with_previous(Some(2)));
    let holding = container.holdings.values_mut().next().unwrap();
    (holding.version, holding.remembered) = (None, Some((3, true)));
    let held: Vec<u64> = holding.parts().map(|(_, version)| version).collect();
    assert_eq!(held, [3, 2]);
    let said: Vec<u64> = holding.held().map(|(_, version)| version).collect();
    assert_eq!(said, [3], "nobody runs on the one before");
}

#[test]
fn a_program_is_told_when_the_version_before_dies() {
    let mut revoked = with_previous(None);
    revoked.reload = RESTART;
    let mut container = holder(&with_previous(Some(2)));
    let todo = decided(vec![revoked.clone()], &container);
    assert_eq!(todo.writes[0].reload, RESTART);
    assert_eq!(
        todo.writes[0].news,
        [(revoked.secret, 3)],
        "all that is left"
    );
    holds(&mut container, &revoked, Some(3), Ack::Due);
    let due = decided(vec![revoked.clone()], &container).restart;
    assert_eq!(due, [(revoked.binding, revoked.secret, 3)]);
}
