//! What the content of a file is made of, against what was there before: what is new to its consumer, and
//! what it has acknowledged.
//!
//! Pure. Invariant: an acknowledgement counts for exactly the versions that the file held.

use std::time::Duration;

use keywheel_core::binding::Reload;
use keywheel_core::id::BindingId;
use keywheel_core::report::{Fact, Item};
use keywheel_core::time::Timestamp;

use crate::model::{Ack, Holding, Tracked};
use crate::shared::VersionKey;
use crate::swap::Told;

/// Whether, as an earlier run remembered, its consumer had acknowledged exactly these versions.
pub(super) fn was_acked(held: &Holding, versions: &[VersionKey]) -> bool {
    held.remembered.is_some_and(|(_, acked)| acked) && is_remembered(held, versions)
}

fn is_remembered(held: &Holding, versions: &[VersionKey]) -> bool {
    let own = held.remembered.map(|(version, _)| (held.secret, version));
    let further = held.further.iter();
    let further = further.map(|(secret, version)| (*secret, *version));
    own.into_iter().chain(further).eq(versions.iter().copied())
}

/// What is new to a consumer with these versions, and what it was not told of before; empty: all of them.
pub(super) fn news_of(before: Option<&Holding>, versions: &[VersionKey]) -> Vec<VersionKey> {
    let Some(before) = before.filter(|before| before.version.is_some()) else {
        return Vec::new();
    };
    let untold = match before.ack {
        Ack::Done => Vec::new(),
        _ => before.untold(),
    };
    let is_new = |one: &&VersionKey| !before.has(**one) || untold.contains(one);
    versions.iter().filter(is_new).copied().collect()
}

/// Whether, as an earlier run remembered, its program began with these versions and was not judged yet.
pub(super) fn began_with(
    before: Option<&Holding>,
    versions: &[VersionKey],
    reload: &Reload,
) -> bool {
    let is_it = |held: &Holding| {
        held.version.is_none()
            && held.remembered.is_some_and(|(_, acked)| !acked)
            && is_remembered(held, versions)
            && held.ack == Ack::AtStart
    };
    matches!(reload, Reload::Restart { .. }) && before.is_some_and(is_it)
}

/// Forgets what a binding gave of secrets that are not among these, and says so; and whether its own secret
/// was another one.
pub(super) fn drop_others(
    tracked: &mut Tracked,
    binding: BindingId,
    versions: &[VersionKey],
) -> (Vec<Item>, bool) {
    let Some(held) = tracked.holdings.get(&binding) else {
        return (Vec::new(), false);
    };
    let is_other = versions.first().is_some_and(|(own, _)| *own != held.secret);
    let further = held.further.keys().copied();
    let gone = std::iter::once(held.secret)
        .chain(further)
        .filter(|held| versions.iter().all(|(secret, _)| secret != held));
    let gone = gone.map(|secret| tracked.item(binding, secret, Fact::Withdrawn));
    let gone: Vec<Item> = gone.collect();
    if is_other {
        tracked.drop_holding(binding);
    }
    (gone, is_other)
}

/// What a consumer has to do with a version that is new to it.
pub(super) fn ack_of(reload: &Reload, told: Told, is_first: bool, now: Duration) -> Ack {
    match (reload, told) {
        (Reload::None, _) | (Reload::Signal(_), Told::At(_)) => Ack::Done,
        (Reload::Signal(_) | Reload::Command { .. } | Reload::Label, _) => Ack::Due,
        (Reload::Restart { .. }, _) if is_first => Ack::Gate { since: now },
        (Reload::Restart { .. }, _) => Ack::Due,
    }
}

/// When the process heard of it; one that had acknowledged is not asked again.
pub(super) fn told_at(told: Told, acked: Option<Timestamp>) -> Option<Timestamp> {
    match told {
        Told::At(at) => Some(at),
        Told::NotAsked | Told::Unhandled => acked,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keywheel_core::id::SecretId;

    use super::*;
    use crate::decide::place_of;
    use crate::decide::tests::{binding, file, tracked};
    use crate::reconcile::start::hold;

    const OTHER: SecretId = SecretId::from_bytes([9; 16]);
    const THIRD: SecretId = SecretId::from_bytes([10; 16]);

    fn own() -> SecretId {
        SecretId::from_bytes([1; 16])
    }

    /// A file of the binding's own secret and another.
    fn held((own_version, other): (u64, u64), ack: Ack) -> Holding {
        let place = place_of(&binding(1, file("db"), Reload::None, Some(1)).target);
        let mut holding = hold(own(), (place, None, None), (own_version, 1), ack);
        holding.further = BTreeMap::from([(OTHER, other)]);
        holding
    }

    fn versions(own_version: u64, other: u64) -> [VersionKey; 2] {
        [(own(), own_version), (OTHER, other)]
    }

    #[test]
    fn only_what_changed_is_new_and_what_was_not_told_stays_so() {
        let done = held((1, 1), Ack::Done);
        assert_eq!(news_of(Some(&done), &versions(1, 2)), [(OTHER, 2)]);
        assert!(news_of(None, &versions(1, 2)).is_empty(), "all of it");
        let mut due = held((1, 2), Ack::Due);
        due.news = vec![(OTHER, 2)];
        assert_eq!(news_of(Some(&due), &versions(2, 2)), versions(2, 2));
        let owed = [(own(), 1), (OTHER, 2), (OTHER, 3)].map(|one| due.owes(one));
        assert_eq!(owed, [false, true, true]);
    }

    #[test]
    fn what_was_acknowledged_counts_for_exactly_these_versions() {
        let mut known = held((1, 1), Ack::Due);
        (known.version, known.remembered) = (None, Some((1, true)));
        assert!(was_acked(&known, &versions(1, 1)));
        for (one, other) in [(2, 1), (1, 2)] {
            assert!(!was_acked(&known, &versions(one, other)));
        }
        assert!(!was_acked(&known, &[(own(), 1)]));
        known.remembered = Some((1, false));
        assert!(!was_acked(&known, &versions(1, 1)));
    }

    #[test]
    fn a_secret_that_its_binding_names_no_more_is_withdrawn() {
        let id = BindingId::from_bytes([1; 16]);
        let of = |versions: &[VersionKey]| {
            let mut one = tracked("runc", &[]);
            one.holdings.insert(id, held((1, 1), Ack::Done));
            let (gone, is_other) = drop_others(&mut one, id, versions);
            assert!(gone.iter().all(|item| item.fact == Fact::Withdrawn));
            let gone: Vec<SecretId> = gone.iter().map(|item| item.secret).collect();
            (gone, is_other, one.holdings.len())
        };
        assert_eq!(of(&versions(1, 2)), (vec![], false, 1));
        assert_eq!(of(&[(own(), 1)]), (vec![OTHER], false, 1));
        assert_eq!(of(&[(OTHER, 1)]), (vec![own()], true, 0));
        let exchanged = of(&[(OTHER, 1), (own(), 1)]);
        assert_eq!(exchanged, (vec![], true, 0));
        assert_eq!(of(&[(THIRD, 1)]), (vec![own(), OTHER], true, 0));
    }
}
