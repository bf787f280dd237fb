//! The newest message of each topic, as the gateway said it: what is said again when the bus server
//! comes back or lost a stream.
//!
//! Consumers need no more: an event or audit record carries its number, so the newest one shows what
//! is missing; of plans and hosts only the newest counts; work is sent again by the publisher.
//! Invariants: at most one message per topic is kept, and at most [`MAX_KEPT_BYTES`] in all; nothing is
//! said again by a gateway whose turn to tell is over, also when nobody told it yet that it is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_engine::port::bus::Topic;

use crate::envelope::Frame;

/// Bytes that are kept in all; a message that does not fit is read from the gateway on request.
pub(super) const MAX_KEPT_BYTES: usize = 64 << 20;

/// The newest message of each topic.
#[derive(Default)]
pub(super) struct Newest(Mutex<Kept>);

struct Kept {
    /// Of the turn to tell, by the monotonic clock.
    turn_ends: Duration,
    bytes: usize,
    topics: HashMap<Topic, Said>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            turn_ends: Duration::MAX,
            bytes: 0,
            topics: HashMap::new(),
        }
    }
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

    /// The turn to tell ends then; at an end that has passed it is another's, and what was said before
    /// is forgotten: others say newer things. A turn that lapsed and is renewed was nobody else's.
    pub(super) fn set_turn(&self, now: Duration, ends: Duration) {
        let mut kept = self.lock();
        kept.turn_ends = ends;
        if now >= ends {
            kept.topics.clear();
            kept.bytes = 0;
        }
    }

    /// The bus server lost what it had of these topics.
    pub(super) fn lost(&self, is_lost: impl Fn(&Topic) -> bool) {
        let mut kept = self.lock();
        let lost = kept.topics.iter_mut().filter(|(topic, _)| is_lost(topic));
        lost.for_each(|(_, said)| said.is_stored = false);
    }

    /// What has to be said again.
    pub(super) fn unsaid(&self, now: Duration) -> Vec<(Topic, [u8; 16], Frame)> {
        let kept = self.lock();
        if now >= kept.turn_ends {
            return Vec::new();
        }
        let unsaid = kept.topics.iter().filter(|(_, said)| !said.is_stored);
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

    const NOW: Duration = Duration::from_secs(1000);
    /// A document that leaves no room for another one.
    const WHOLE: usize = MAX_KEPT_BYTES - 64;

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
        assert_eq!(newest.unsaid(NOW).len(), 4, "an older id changes nothing");
        newest.stored(&Topic::Events, [3; 16]);
        assert_eq!(newest.unsaid(NOW).len(), 3);
        newest.lost(|topic| *topic == Topic::Events);
        let lost = newest.unsaid(NOW);
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
        assert_eq!(newest.unsaid(NOW).len(), 7);
        newest.keep(&host(0), [0; 16], &frame(1));
        newest.keep(&host(8), [8; 16], &frame(8 << 20));
        assert_eq!(newest.unsaid(NOW).len(), 8, "room that was made is used");
    }

    #[test]
    fn what_was_said_in_a_turn_that_is_over_is_said_again_by_nobody() {
        let later = |seconds| NOW + Duration::from_secs(seconds);
        let said = || {
            let newest = Newest::default();
            newest.set_turn(NOW, later(6));
            newest.keep(&Topic::Events, [1; 16], &frame(WHOLE));
            newest
        };
        let renewed = said();
        renewed.set_turn(later(5), later(11));
        assert_eq!(renewed.unsaid(later(10)).len(), 1);
        // Nobody said that it is over: whoever was paused finds it by the clock.
        assert_eq!(said().unsaid(later(6)).len(), 0);
        let lapsed = said();
        lapsed.set_turn(later(7), later(13));
        assert_eq!(lapsed.unsaid(later(7)).len(), 1, "nobody had it in between");
        let taken_again = said();
        taken_again.set_turn(later(2), Duration::ZERO);
        assert_eq!(taken_again.unsaid(later(2)).len(), 0);
        taken_again.set_turn(later(7), later(13));
        assert_eq!(taken_again.unsaid(later(7)).len(), 0, "of the turn before");
        taken_again.keep(&Topic::Events, [2; 16], &frame(WHOLE));
        assert_eq!(taken_again.unsaid(later(8)).len(), 1);
    }
}
