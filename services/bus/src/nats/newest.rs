//! The newest message of each topic, as the gateway said it: what is said again when the bus server
//! comes back or lost a stream.
//!
//! Consumers need no more: an event or audit record carries its number, so the newest one shows what
//! is missing; of plans and hosts only the newest counts; work is sent again by the publisher.
//! Invariants: at most one message per topic is kept, and at most [`MAX_KEPT_BYTES`] in all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keywheel_engine::port::bus::Topic;

use crate::envelope::Frame;

/// Bytes that are kept in all; a message that does not fit is read from the gateway on request.
pub(super) const MAX_KEPT_BYTES: usize = 64 << 20;

/// The newest message of each topic.
#[derive(Default)]
pub(super) struct Newest(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    bytes: usize,
    topics: HashMap<Topic, Said>,
}

#[derive(Clone)]
struct Said {
    id: [u8; 16],
    frame: Frame,
    is_stored: bool,
}

impl Newest {
    /// Keeps a message that is about to be sent.
    pub(super) fn keep(&self, topic: &Topic, id: [u8; 16], frame: &Frame) {
        if matches!(topic, Topic::Work(_)) {
            return;
        }
        let mut kept = self.lock();
        if let Some(before) = kept.topics.remove(topic) {
            kept.bytes -= before.frame.size();
        }
        if kept.bytes + frame.size() > MAX_KEPT_BYTES {
            return;
        }
        kept.bytes += frame.size();
        let said = Said {
            id,
            frame: frame.clone(),
            is_stored: false,
        };
        kept.topics.insert(topic.clone(), said);
    }

    /// A message was stored.
    pub(super) fn stored(&self, topic: &Topic, id: [u8; 16]) {
        if let Some(said) = self
            .lock()
            .topics
            .get_mut(topic)
            .filter(|said| said.id == id)
        {
            said.is_stored = true;
        }
    }

    /// What has to be said again: all, or only what is not stored yet.
    pub(super) fn unsaid(&self, is_lost: impl Fn(&Topic) -> bool) -> Vec<(Topic, [u8; 16], Frame)> {
        let kept = self.lock();
        let unsaid = kept
            .topics
            .iter()
            .filter(|(topic, said)| !said.is_stored || is_lost(topic));
        unsaid
            .map(|(topic, said)| (topic.clone(), said.id, said.frame.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::audit::Role;
    use keywheel_core::id::HostId;

    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame {
            document: vec![0; bytes],
            signature: [0; 64],
        }
    }

    fn host(number: u8) -> Topic {
        Topic::Plan(HostId::from_bytes([number; 16]))
    }

    #[test]
    fn only_the_newest_of_each_topic_is_said_again() {
        let newest = Newest::default();
        for id in 1..4 {
            newest.keep(&Topic::Events, [id; 16], &frame(1));
            newest.keep(&host(id), [id; 16], &frame(1));
        }
        newest.keep(&Topic::Work(Role::StoreSync), [9; 16], &frame(1));
        newest.stored(&Topic::Events, [2; 16]);
        assert_eq!(
            newest.unsaid(|_| false).len(),
            4,
            "an older id changes nothing"
        );
        newest.stored(&Topic::Events, [3; 16]);
        assert_eq!(newest.unsaid(|_| false).len(), 3);
        let lost = newest.unsaid(|topic| *topic == Topic::Events);
        assert_eq!(lost.len(), 4);
        assert!(
            lost.iter()
                .any(|(topic, id, _)| *topic == Topic::Events && id[0] == 3)
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let newest = Newest::default();
        for number in 0..9 {
            newest.keep(&host(number), [number; 16], &frame(8 << 20));
        }
        assert_eq!(newest.unsaid(|_| true).len(), 7);
        newest.keep(&host(0), [0; 16], &frame(1));
        newest.keep(&host(8), [8; 16], &frame(8 << 20));
        assert_eq!(
            newest.unsaid(|_| true).len(),
            8,
            "room that was made is used"
        );
    }
}
