//! What a binding gives out now: of one secret, or of all that its templates name.
//!
//! Owns that question and no state. Invariant: a version that is dead, or of which another secret of the
//! same binding has none, is given out by nobody.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::id::{ContainerId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::plan::{Grant, HostPlan, PlannedBinding, PlannedSecret, Task};

use crate::shared::VersionKey;

/// The version a binding gives out now; never a dead one, and none while one of its further secrets has
/// none.
pub(crate) fn grant_of(binding: &PlannedBinding) -> Option<Grant> {
    let is_whole = binding.also.iter().all(|one| further_grant(one).is_some());
    own_grant(binding).filter(|_| is_whole)
}

fn own_grant(binding: &PlannedBinding) -> Option<Grant> {
    binding
        .current
        .filter(|grant| !is_dead(binding, (binding.secret, grant.version)))
}

fn further_grant(one: &PlannedSecret) -> Option<Grant> {
    one.current
        .filter(|grant| grant.version > one.floor && !one.dead.contains(&grant.version))
}

/// The further secrets of a binding, and the versions that it gives out of them.
pub(crate) fn further_of(
    binding: &PlannedBinding,
) -> impl Iterator<Item = (&PlannedSecret, Grant)> {
    let further = binding.also.iter();
    further.filter_map(|one| Some((one, further_grant(one)?)))
}

/// Everything that a binding gives out now, its own secret first.
pub(crate) fn versions_of(binding: &PlannedBinding) -> impl Iterator<Item = VersionKey> {
    let own = grant_of(binding).map(|grant| (binding.secret, grant.version));
    let further = further_of(binding).map(|(one, grant)| (one.secret, grant.version));
    let is_given = own.is_some();
    own.into_iter().chain(further.filter(move |_| is_given))
}

/// The versions before the current one that a binding's templates name, as far as there are any: while it
/// gives out anything, and never a dead one.
pub(crate) fn previous_of(binding: &PlannedBinding) -> impl Iterator<Item = (SecretId, Grant)> {
    let is_given = grant_of(binding).is_some();
    let previous = binding.previous.iter().filter(move |_| is_given);
    let alive = previous.filter(move |one| !is_dead(binding, (one.secret, one.grant.version)));
    alive.map(|one| (one.secret, one.grant))
}

/// Every version that what a binding gives is made of, those before the current ones among them.
pub(crate) fn parts_of(binding: &PlannedBinding) -> impl Iterator<Item = VersionKey> {
    let previous = previous_of(binding).map(|(secret, grant)| (secret, grant.version));
    versions_of(binding).chain(previous)
}

/// What the host is to have at hand and gives to nobody yet but canaries.
pub(crate) fn staged_of(plan: &HostPlan) -> impl Iterator<Item = (VersionKey, Grant)> {
    let staged = plan.staged.iter();
    let staged = staged.map(|one| ((one.secret, one.grant.version), one.grant));
    staged.filter(move |(key, _)| !plan.bindings.iter().any(|binding| is_dead(binding, *key)))
}

/// Whether a container is given nothing until a person lifts that.
pub(crate) fn is_quarantined(plan: &HostPlan, container: &ContainerId) -> bool {
    plan.orders
        .iter()
        .any(|order| order.container == *container && matches!(order.task, Task::Quarantine { .. }))
}

/// The plan as one container sees it: to a canary a staged version is the current one, while that one lives; to one in
/// quarantine there is nothing.
pub(crate) fn seen_by<'p>(plan: &'p HostPlan, container: &ContainerId) -> Cow<'p, HostPlan> {
    if is_quarantined(plan, container) {
        let mut bare = plan.clone();
        bare.bindings.clear();
        return Cow::Owned(bare);
    }
    let own = plan.staged.iter();
    let own = own.filter(|one| one.canaries.contains(container));
    let ahead: BTreeMap<SecretId, Grant> = own.map(|one| (one.secret, one.grant)).collect();
    if ahead.is_empty() {
        return Cow::Borrowed(plan);
    }
    let alive = |secret: SecretId, floor: u64, dead: &BTreeSet<u64>| {
        let grant = ahead.get(&secret).copied()?;
        (grant.version > floor && !dead.contains(&grant.version)).then_some(grant)
    };
    let mut seen = plan.clone();
    for binding in &mut seen.bindings {
        let given = alive(binding.secret, binding.floor, &binding.dead);
        binding.current = given.or(binding.current);
        for one in &mut binding.also {
            let given = alive(one.secret, one.floor, &one.dead);
            one.current = given.or(one.current);
        }
    }
    Cow::Owned(seen)
}

/// Everything that the host may keep.
pub(crate) fn versions_in(plan: &HostPlan) -> impl Iterator<Item = VersionKey> {
    let given = plan.bindings.iter().flat_map(parts_of);
    given.chain(staged_of(plan).map(|(key, _)| key))
}

/// The first secret of a binding that has no version to be given out.
pub(crate) fn lacking(binding: &PlannedBinding) -> Option<&SecretName> {
    let own = own_grant(binding).is_none().then_some(&binding.secret_name);
    let mut further = binding.also.iter();
    let further = further.find(|one| further_grant(one).is_none());
    own.or(further.map(|one| &one.name))
}

/// Whether a version may not be used any more, as far as the binding's plan tells.
pub(crate) fn is_dead(binding: &PlannedBinding, (secret, version): VersionKey) -> bool {
    if binding.secret == secret {
        return version <= binding.floor || binding.dead.contains(&version);
    }
    let mut further = binding.also.iter().filter(|one| one.secret == secret);
    further.any(|one| version <= one.floor || one.dead.contains(&version))
}

/// The version that a binding gives out of one of its secrets.
pub(crate) fn version_of(binding: &PlannedBinding, secret: SecretId) -> Option<u64> {
    let mut given = versions_of(binding);
    let (_, version) = given.find(|(given, _)| *given == secret)?;
    Some(version)
}

/// One number for all versions that something is made of: of a single secret its version, else a digest
/// (FNV-1a) of all.
pub(crate) fn mark(own: u64, further: impl IntoIterator<Item = VersionKey>) -> u64 {
    let mut further = further.into_iter().peekable();
    if further.peek().is_none() {
        return own;
    }
    let mix = |mark: u64, byte: &u8| (mark ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let own = own.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix);
    further.fold(own, |mark, (secret, version)| {
        let mark = secret.bytes().iter().fold(mark, mix);
        version.to_le_bytes().iter().fold(mark, mix)
    })
}

/// The mark of what a binding gives out now.
pub(crate) fn mark_of(binding: &PlannedBinding) -> Option<u64> {
    let own = grant_of(binding)?.version;
    let further = further_of(binding).map(|(one, grant)| (one.secret, grant.version));
    Some(mark(own, further.collect::<BTreeMap<_, _>>()))
}

#[cfg(test)]
mod tests {
    use keywheel_core::binding::Reload;
    use keywheel_core::id::DeliveryId;
    use keywheel_core::plan::{PlannedPrevious, Staged};

    use super::*;
    use crate::decide::tests::{binding, file, plan};

    const OTHER: SecretId = SecretId::from_bytes([9; 16]);

    fn grant(version: u64) -> Grant {
        Grant {
            version,
            delivery: DeliveryId::from_bytes([1; 16]),
        }
    }

    /// Version 3 of its own secret, and this one of another.
    fn of_two(version: Option<u64>) -> PlannedBinding {
        let mut planned = binding(1, file("db"), Reload::None, Some(3));
        planned.also.push(PlannedSecret {
            secret: OTHER,
            name: SecretName::parse("prod/api").unwrap(),
            current: version.map(grant),
            floor: 0,
            dead: BTreeSet::from([7]),
            traceparent: None,
        });
        planned
    }

    #[test]
    fn all_secrets_of_a_binding_are_given_out_or_none() {
        let planned = of_two(Some(2));
        assert_eq!(grant_of(&planned), planned.current);
        let all: Vec<VersionKey> = versions_of(&planned).collect();
        assert_eq!(all, [(planned.secret, 3), (OTHER, 2)]);
        assert_eq!(version_of(&planned, OTHER), Some(2));
        assert_eq!(lacking(&planned), None);
        for other in [None, Some(7)] {
            let planned = of_two(other);
            assert_eq!(
                (grant_of(&planned), versions_of(&planned).next()),
                (None, None)
            );
            assert_eq!(lacking(&planned).map(SecretName::as_str), Some("prod/api"));
        }
        let mut revoked = of_two(Some(2));
        revoked.floor = 3;
        assert_eq!(
            (grant_of(&revoked), version_of(&revoked, OTHER)),
            (None, None)
        );
        assert_eq!(lacking(&revoked), Some(&revoked.secret_name));
    }

    #[test]
    fn a_version_before_is_a_part_while_it_lives_and_is_never_given_out_as_a_version() {
        let mut planned = of_two(Some(4));
        planned.previous = vec![previous(planned.secret, 2), previous(OTHER, 3)];
        let parts = |planned: &PlannedBinding| parts_of(planned).collect::<Vec<VersionKey>>();
        let own = planned.secret;
        assert_eq!(
            parts(&planned),
            [(own, 3), (OTHER, 4), (own, 2), (OTHER, 3)]
        );
        let all: Vec<VersionKey> = versions_of(&planned).collect();
        assert_eq!(all, [(own, 3), (OTHER, 4)]);
        assert_eq!(version_of(&planned, own), Some(3));
        let mark = mark_of(&planned);
        planned.dead.insert(2);
        planned.also[0].dead.insert(3);
        assert_eq!(parts(&planned), [(own, 3), (OTHER, 4)]);
        assert_eq!(mark_of(&planned), mark);
        planned.current = None;
        assert!(parts(&planned).is_empty(), "nothing is given out");
    }

    fn previous(secret: SecretId, version: u64) -> PlannedPrevious {
        PlannedPrevious {
            secret,
            grant: grant(version),
        }
    }

    #[test]
    fn only_a_canary_sees_a_staged_version_and_only_while_it_lives() {
        let id = |digit: &str| ContainerId::parse(&digit.repeat(64)).unwrap();
        let (canary, other) = (id("a"), id("b"));
        let staged = |secret, version| Staged {
            secret,
            grant: grant(version),
            canaries: vec![canary.clone()],
        };
        let mut planned = plan(vec![of_two(Some(2))]);
        let own = planned.bindings[0].secret;
        let seen = |plan: &HostPlan, container| {
            let seen = seen_by(plan, container);
            versions_of(&seen.bindings[0]).collect::<Vec<VersionKey>>()
        };
        let before = [(own, 3), (OTHER, 2)];
        assert_eq!(seen(&planned, &canary), before);
        planned.staged = vec![staged(own, 4)];
        assert_eq!(seen(&planned, &other), before);
        assert_eq!(seen(&planned, &canary), [(own, 4), (OTHER, 2)]);
        planned.staged = vec![staged(OTHER, 5)];
        assert_eq!(seen(&planned, &canary), [(own, 3), (OTHER, 5)]);
        // Dead: what is current is better than nothing.
        planned.staged = vec![staged(own, 4), staged(OTHER, 7)];
        planned.bindings[0].dead.insert(4);
        assert_eq!(seen(&planned, &canary), before);
    }

    #[test]
    fn a_mark_is_the_version_of_one_secret_and_another_for_each_map_of_several() {
        let one = binding(1, file("db"), Reload::None, Some(3));
        assert_eq!(mark_of(&one), Some(3));
        let (two, three) = (mark_of(&of_two(Some(2))), mark_of(&of_two(Some(3))));
        assert!(two != three && two == mark_of(&of_two(Some(2))));
        assert_eq!(mark_of(&of_two(None)), None);
    }
}
