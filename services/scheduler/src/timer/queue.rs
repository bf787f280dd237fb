//! Instants in order, one per key. Setting, clearing and reading the first cost a logarithm.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::time::Timestamp;

use super::Key;

#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    in_order: BTreeSet<(Timestamp, Key)>,
    by_key: BTreeMap<Key, Timestamp>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn set(&mut self, key: Key, due: Timestamp) {
        self.clear(key);
        self.by_key.insert(key, due);
        self.in_order.insert((due, key));
    }

    pub(super) fn clear(&mut self, key: Key) {
        if let Some(due) = self.by_key.remove(&key) {
            self.in_order.remove(&(due, key));
        }
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.by_key.contains_key(&key)
    }

    pub(super) fn first(&self) -> Option<(Timestamp, Key)> {
        self.in_order.first().copied()
    }
}
