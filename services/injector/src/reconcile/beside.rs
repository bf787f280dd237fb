//! That a container was given a version before the current one is on record: a consumer's state names
//! the one it runs on, so that nothing else says it.
//!
//! Invariant: one note for each such version that comes into a file, and none for a file that had it.

use std::collections::BTreeMap;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::{BindingId, SecretId};
use keywheel_core::report::{UsageKind, UsageNote};
use keywheel_core::time::Timestamp;

use super::Reconciler;
use super::pass::Due;
use crate::attach::Written;
use crate::report::bound_notes;
use crate::swap::Swapped;

/// The same note about everything that was given.
pub(super) fn notes_of<'a>(
    kind: UsageKind,
    facts: &'a ContainerFacts,
    given: impl IntoIterator<Item = Due> + 'a,
    at: Timestamp,
) -> impl Iterator<Item = UsageNote> + 'a {
    let given = given.into_iter();
    given.map(move |(binding, secret, version)| UsageNote {
        kind,
        container: facts.id.clone(),
        container_name: facts.name.clone(),
        image_digest: facts.image_digest.clone(),
        binding,
        secret,
        version,
        at,
    })
}

/// What is new beside the current versions, against what lay there.
fn new_beside(
    binding: BindingId,
    held: &BTreeMap<SecretId, u64>,
    now: BTreeMap<SecretId, u64>,
) -> Vec<Due> {
    let new = now
        .into_iter()
        .filter(|(secret, version)| held.get(secret) != Some(version));
    new.map(|(secret, version)| (binding, secret, version))
        .collect()
}

/// What lies beside the current versions in files that a container did not have before.
pub(super) fn written_beside(written: &[Written]) -> Vec<Due> {
    let nothing = BTreeMap::new();
    let beside = |one: &Written| {
        let now = one.form.as_ref().map(|form| form.previous_versions());
        new_beside(one.binding, &nothing, now.unwrap_or_default())
    };
    written.iter().flat_map(beside).collect()
}

impl Reconciler {
    /// A file was replaced; what lay in it before is known still.
    pub(super) fn note_swapped_beside(&mut self, swapped: &Swapped) {
        let is_written = swapped.result.as_ref().is_ok_and(|done| done.written);
        let Some(tracked) = self.containers.get(&swapped.container) else {
            return;
        };
        let Some(form) = swapped.form.as_ref().filter(|_| is_written) else {
            return;
        };
        let held = tracked.holdings.get(&swapped.binding);
        let held = held.map(|held| held.previous.clone()).unwrap_or_default();
        let given = new_beside(swapped.binding, &held, form.previous_versions());
        let facts = tracked.record.facts.clone();
        self.note_beside(&facts, given);
    }

    pub(super) fn note_beside(&mut self, facts: &ContainerFacts, given: Vec<Due>) {
        if given.is_empty() {
            return;
        }
        let at = self.shared.clock.now();
        let notes = notes_of(UsageKind::GivenBeside, facts, given, at);
        self.notes.extend(notes);
        bound_notes(&mut self.notes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_before_is_noted_when_it_comes_and_not_while_it_stays() {
        let (binding, one, other) = (
            BindingId::from_bytes([1; 16]),
            SecretId::from_bytes([2; 16]),
            SecretId::from_bytes([3; 16]),
        );
        let held = BTreeMap::from([(one, 3), (other, 1)]);
        let now = BTreeMap::from([(one, 4), (other, 1)]);
        assert_eq!(new_beside(binding, &held, now.clone()), [(binding, one, 4)]);
        assert_eq!(new_beside(binding, &BTreeMap::new(), now).len(), 2);
        assert!(new_beside(binding, &held, BTreeMap::new()).is_empty());
    }
}
