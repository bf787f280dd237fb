//! Requests that take several people: those that are open, those that wait for a review, and the last others.

use std::collections::BTreeMap;

use super::ends::Ends;
use crate::approval::{Approval, Ask, Digest, End, Event, KEPT_APPROVALS, Operation};
use crate::id::ApprovalId;
use crate::time::Timestamp;

/// Requests by id, and the set of sinks that was confirmed last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    by_id: BTreeMap<ApprovalId, Approval>,
    ends: Ends<ApprovalId>,
    sinks: Option<Digest>,
}

impl Approvals {
    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Approval> {
        self.by_id.values()
    }

    /// One by its id.
    #[must_use]
    pub fn by_id(&self, id: ApprovalId) -> Option<&Approval> {
        self.by_id.get(&id)
    }

    /// The newest of one thing, whoever asked and however it ended.
    #[must_use]
    pub fn newest(&self, operation: Operation, digest: &Digest) -> Option<&Approval> {
        let like =
            |known: &&Approval| known.operation == Some(operation) && known.digest == *digest;
        self.iter().filter(like).max_by_key(|known| known.number)
    }

    /// The one that is open and is what somebody asks for.
    #[must_use]
    pub fn open_like(&self, wish: &Ask, now: Timestamp) -> Option<&Approval> {
        self.open_of(wish.operation, &wish.digest, (&wish.by, wish.needed), now)
    }

    /// The one of somebody, of at least so many people, that is open and is about this.
    #[must_use]
    pub fn open_of(
        &self,
        operation: Operation,
        digest: &Digest,
        (by, needed): (&str, u64),
        now: Timestamp,
    ) -> Option<&Approval> {
        let is_meant = |known: &&Approval| {
            known.is_of(operation, digest, by) && known.needed >= needed && known.is_open(now)
        };
        // One that is good already goes before one that waits.
        let meant = self.iter().filter(is_meant);
        meant.min_by_key(|known| (known.missing(), known.number))
    }

    /// The set of sinks that was confirmed last.
    #[must_use]
    pub const fn sinks(&self) -> Option<&Digest> {
        self.sinks.as_ref()
    }

    pub(super) fn apply(&mut self, number: u64, id: ApprovalId, event: &Event) {
        if let Event::Requested {
            operation,
            object,
            digest,
            plan,
            by,
            reason,
            needed,
            asked_at,
            expires_at,
        } = event
        {
            self.make_room(*asked_at);
            let asked = Approval {
                id,
                operation: Operation::parse(operation),
                word: operation.clone(),
                object: object.clone(),
                digest: *digest,
                plan: plan.clone(),
                by: by.clone(),
                reason: reason.clone(),
                needed: *needed,
                asked_at: *asked_at,
                expires_at: *expires_at,
                is_over: false,
                words: std::iter::once(by.clone()).collect(),
                end: None,
                glass: None,
                number,
            };
            self.ends.add(*expires_at, id);
            self.by_id.insert(id, asked);
            return;
        }
        let Some(known) = self.by_id.get_mut(&id) else {
            return;
        };
        known.evolve(event);
        let is_sinks = known.operation == Some(Operation::SinkChange);
        if is_sinks && known.end == Some(End::Used) {
            self.sinks = Some(known.digest);
        }
    }

    /// Forgets the oldest of those that are over. What waits for a review stays, and the last unsealing: who gave a
    /// share of it is known as long as it goes on.
    fn make_room(&mut self, now: Timestamp) {
        let unsealing = |known: &&Approval| known.operation == Some(Operation::Unseal);
        let last = self
            .iter()
            .filter(unsealing)
            .max_by_key(|known| known.number);
        let last = last.map(|known| known.id);
        let is_over = |known: &&Approval| {
            !known.is_open(now) && !known.is_unreviewed() && Some(known.id) != last
        };
        let over = self.iter().filter(is_over);
        let mut over: Vec<(u64, ApprovalId)> = over.map(|known| (known.number, known.id)).collect();
        let beyond = over.len().saturating_sub(KEPT_APPROVALS);
        over.sort_unstable();
        for (_, id) in over.into_iter().take(beyond) {
            if let Some(known) = self.by_id.remove(&id) {
                self.ends.remove(known.expires_at, id);
            }
        }
    }

    pub(super) fn note_time(&mut self, at: Timestamp) {
        for id in self.ends.take_until(at) {
            if let Some(known) = self.by_id.get_mut(&id) {
                known.is_over |= known.expires_at <= at;
            }
        }
    }
}
