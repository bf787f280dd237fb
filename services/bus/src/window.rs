//! The last ids and a number for each: what a transport and a receiver remember of what they saw.
//!
//! Invariant: at most so many as it was made for are remembered; the oldest is forgotten first.

use std::collections::{HashMap, VecDeque};

use keywheel_engine::port::bus::TOPIC_CAPACITY;

/// How many ids a topic, and each of its consumers, remembers.
pub(crate) const ID_WINDOW: usize = 2 * TOPIC_CAPACITY;
/// How many requests a server remembers: 270 a second as long as one counts as fresh, before and
/// after now.
pub(crate) const REQUEST_WINDOW: usize = 1 << 16;

/// The last ids and a number for each.
pub(crate) struct IdWindow {
    capacity: usize,
    /// The number, and the stamp of the id's place in the order.
    known: HashMap<[u8; 16], (u64, u64)>,
    order: VecDeque<([u8; 16], u64)>,
    stamp: u64,
}

impl IdWindow {
    /// Remembers so many.
    pub(crate) fn of(capacity: usize) -> Self {
        Self {
            capacity,
            known: HashMap::new(),
            order: VecDeque::new(),
            stamp: 0,
        }
    }

    /// Remembers an id; gives the number it was remembered with before.
    pub(crate) fn insert(&mut self, id: [u8; 16], number: u64) -> Option<u64> {
        if let Some((before, _)) = self.known.get(&id) {
            return Some(*before);
        }
        self.stamp += 1;
        self.known.insert(id, (number, self.stamp));
        self.order.push_back((id, self.stamp));
        while self.order.len() > self.capacity {
            let Some((oldest, stamp)) = self.order.pop_front() else {
                break;
            };
            if self
                .known
                .get(&oldest)
                .is_some_and(|(_, current)| *current == stamp)
            {
                self.known.remove(&oldest);
            }
        }
        None
    }

    /// Forgets an id.
    pub(crate) fn forget(&mut self, id: [u8; 16]) {
        self.known.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl IdWindow {
        /// How many are remembered, and how much room the order takes.
        pub(crate) fn sizes(&self) -> (usize, usize) {
            (self.known.len(), self.order.len())
        }
    }

    #[test]
    fn the_oldest_id_is_forgotten_first() {
        let mut window = IdWindow::of(2);
        let id = |number: u8| [number; 16];
        assert_eq!(window.insert(id(1), 10), None);
        assert_eq!(window.insert(id(2), 20), None);
        assert_eq!(window.insert(id(1), 30), Some(10));
        assert_eq!(window.insert(id(3), 40), None);
        assert_eq!(window.insert(id(2), 50), Some(20));
        assert_eq!(window.insert(id(1), 60), None, "forgotten");
    }
}
