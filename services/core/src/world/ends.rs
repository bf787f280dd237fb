//! What is over by the log's own time stays over, whatever a clock says later (rule TM2).
//!
//! Invariant: a token, a request of approval or a join token whose end is not after the time of an event that was folded
//! behind it opens nothing any more. A clock that was ahead for one event so ends early what was alive then, and nothing
//! that is issued afterwards.

use std::collections::BTreeSet;

use super::World;
use crate::id::JoinTokenId;
use crate::time::Timestamp;

/// Ends of what lives until a time, the first one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends<K>(BTreeSet<(Timestamp, K)>);

impl<K> Default for Ends<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Ord + Copy> Ends<K> {
    pub(super) fn add(&mut self, end: Timestamp, key: K) {
        self.0.insert((end, key));
    }

    pub(super) fn remove(&mut self, end: Timestamp, key: K) {
        self.0.remove(&(end, key));
    }

    /// Takes out what is over by then.
    pub(super) fn take_until(&mut self, now: Timestamp) -> Vec<K> {
        let mut over = Vec::new();
        while self.0.first().is_some_and(|(end, _)| *end <= now) {
            over.extend(self.0.pop_first().map(|(_, key)| key));
        }
        over
    }
}

impl World {
    /// Takes note of the time of an event; said before the event is folded.
    pub fn note_time(&mut self, at: Timestamp) {
        self.tokens.note_time(at);
        self.approvals.note_time(at);
        for id in self.join_ends.take_until(at) {
            if let Some(open) = self.join_tokens.get_mut(&id) {
                open.is_over |= open.expires_at <= at;
            }
        }
    }

    pub(super) fn forget_join_token(&mut self, id: JoinTokenId) {
        if let Some(open) = self.join_tokens.remove(&id) {
            self.join_ends.remove(open.expires_at, id);
        }
    }
}
