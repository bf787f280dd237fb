//! Trace contexts of what was committed together, so that who is told of it goes on with the trace of
//! the command that led to it (W3C trace context; CloudEvents' distributed tracing extension).
//!
//! They are for people who look for one rotation's way; nothing is decided by them. What is told again
//! after a restart goes on with them, too: an event's is in its bytes, an effect's is stored with it.

use std::collections::BTreeMap;

use keywheel_core::effect::{self, Effect};

use crate::port::journal::Decision;

/// The trace contexts of one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    events: BTreeMap<u64, String>,
    effects: BTreeMap<effect::Key, String>,
}

impl Traces {
    /// Of decisions whose first event has this number.
    #[must_use]
    pub fn of(first: u64, decisions: &[Decision]) -> Self {
        let mut traces = Self::default();
        let mut number = first;
        for decision in decisions {
            for _ in &decision.events {
                if let Some(trace) = &decision.traceparent {
                    traces.events.insert(number, trace.clone());
                }
                number += 1;
            }
            for effect in &decision.effects {
                if let Some(trace) = &decision.traceparent {
                    traces.effects.insert(effect.key(), trace.clone());
                }
            }
        }
        traces
    }

    /// An event's.
    #[must_use]
    pub fn of_event(&self, number: u64) -> Option<String> {
        self.events.get(&number).cloned()
    }

    /// An effect's.
    #[must_use]
    pub fn of_effect(&self, effect: &Effect) -> Option<String> {
        self.effects.get(&effect.key()).cloned()
    }

    /// That of what changed a host's plan to a generation: the event of that number.
    #[must_use]
    pub fn of_plan(&self, generation: u64) -> Option<String> {
        self.of_event(generation)
    }
}
