//! What an instance says of the memory in which it keeps keys and values.
//!
//! Nothing while all of it is locked: then there is nothing to do for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use keywheel_seal::memory::{self, NEXT_STEP, State};

use super::{Fact, Look, Seen};

/// Name of the fact.
pub const MEMORY_FACT: &str = "memory";

/// An instance's look at itself, and what is to be known of its memory.
pub struct WithMemory {
    look: Arc<dyn Look>,
    is_told: AtomicBool,
}

impl WithMemory {
    /// Over this look.
    #[must_use]
    pub fn new(look: Arc<dyn Look>) -> Self {
        Self {
            look,
            is_told: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl Look for WithMemory {
    async fn look(&self) -> Seen {
        let mut seen = self.look.look().await;
        if let Some(fact) = fact(&memory::state()) {
            if !self.is_told.swap(true, Ordering::Relaxed) {
                tracing::warn!(reason = %fact.note, next = NEXT_STEP, "memory is not locked");
            }
            // First, so that it is among those that are told.
            seen.facts.insert(0, fact);
        }
        seen
    }

    async fn changed(&self) {
        self.look.changed().await;
    }
}

fn fact(state: &State) -> Option<Fact> {
    memory::plain(state).map(|note| Fact::warning(MEMORY_FACT, note, NEXT_STEP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::Health;

    #[test]
    fn only_what_is_not_locked_is_told_with_the_next_step() {
        assert_eq!(fact(&State::default()), None);
        let plain = State {
            plain_bytes: 4096,
            limit: Some(65_536),
            ..State::default()
        };
        let fact = fact(&plain).unwrap();
        assert_eq!(
            (fact.name.as_str(), fact.health),
            ("memory", Health::Warning)
        );
        assert!(fact.note.contains("64 KiB"), "{}", fact.note);
        assert_eq!(fact.next.as_deref(), Some(NEXT_STEP));
    }
}
