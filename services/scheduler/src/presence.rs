//! What the scheduler tells about itself: how far it read, how many timers it keeps, and whether the
//! gateway takes what they ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use keywheel_engine::presence::{Fact, Look, Reached, Seen};

use crate::timer::MAX_CONDITIONS;

/// A look at a running scheduler; clones are one.
#[derive(Debug, Clone, Default)]
pub struct Handle(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    seen: AtomicU64,
    timers: AtomicUsize,
    unanswered: AtomicUsize,
    surplus: AtomicUsize,
}

impl Handle {
    pub(crate) fn set(&self, seen: u64, timers: usize, unanswered: usize) {
        self.0.seen.store(seen, Ordering::Relaxed);
        self.0.timers.store(timers, Ordering::Relaxed);
        self.0.unanswered.store(unanswered, Ordering::Relaxed);
    }

    /// Notes how many conditions on events are not asked.
    pub(crate) fn set_surplus(&self, surplus: usize) {
        self.0.surplus.store(surplus, Ordering::Relaxed);
    }
}

#[async_trait]
impl Look for Handle {
    async fn look(&self) -> Seen {
        let counts = &self.0;
        let unanswered = counts.unanswered.load(Ordering::Relaxed);
        let timers = format!("{} wait", counts.timers.load(Ordering::Relaxed));
        let mut facts = vec![Fact::ok("timers", timers)];
        if unanswered > 0 {
            let note = format!("{unanswered} that ran out were not answered by a gateway yet");
            let next = "they are tried again; look at the gateways, and whether the clocks agree";
            facts.push(Fact::warning("answers", note, next));
        }
        let surplus = counts.surplus.load(Ordering::Relaxed);
        if surplus > 0 {
            let note = format!(
                "{surplus} conditions on events are not asked: more than {MAX_CONDITIONS} are on the same events"
            );
            let next = "let secrets share conditions, or name in each the secret that it follows";
            facts.push(Fact::warning("conditions", note, next));
        }
        Seen {
            reached: Some(Reached::Event(counts.seen.load(Ordering::Relaxed))),
            facts,
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_engine::presence::Health;

    use super::*;

    #[tokio::test]
    async fn silence_of_the_gateway_is_told() {
        let handle = Handle::default();
        handle.set(7, 3, 0);
        let seen = handle.look().await;
        assert_eq!(seen.reached, Some(Reached::Event(7)));
        assert_eq!(seen.facts, [Fact::ok("timers", "3 wait")]);
        handle.set(7, 3, 2);
        assert_eq!(handle.look().await.facts[1].health, Health::Warning);
        handle.set_surplus(1);
        assert_eq!(handle.look().await.facts[2].health, Health::Warning);
    }
}
