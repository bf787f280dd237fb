//! What the scheduler tells about itself: how far it read, how many timers it keeps, whether the
//! gateway takes what they ask, and whether its clock was set back.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::presence::{Fact, Look, Reached, Seen};
use keywheel_telemetry::{Page, Source, names};

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
    /// How often the wall clock was set back since the start.
    set_back: AtomicU64,
    /// How far last, in milliseconds, while people are told; else 0.
    back_millis: AtomicU64,
    /// The release of the rules for time zones.
    zones: Mutex<String>,
}

impl Handle {
    pub(crate) fn set(&self, seen: u64, timers: usize, unanswered: usize) {
        self.0.seen.store(seen, Ordering::Relaxed);
        self.0.timers.store(timers, Ordering::Relaxed);
        self.0.unanswered.store(unanswered, Ordering::Relaxed);
    }

    /// Notes which rules for time zones slots are computed by.
    pub(crate) fn set_zones(&self, release: &str) {
        let mut known = self.0.zones.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != release {
            release.clone_into(&mut known);
        }
    }

    fn zones(&self) -> String {
        let known = self.0.zones.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Notes how often the wall clock was set back, and how far last while people are told.
    pub(crate) fn set_clock(&self, times: u64, told: Option<Duration>) {
        let millis = told.map_or(0, |back| back.as_millis());
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.0.set_back.store(times, Ordering::Relaxed);
        self.0.back_millis.store(millis, Ordering::Relaxed);
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
        let zones = Some(self.zones()).filter(|release| !release.is_empty());
        facts.extend(zones.map(|release| Fact::ok("time zones", format!("tzdata {release}"))));
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
        let back = Duration::from_millis(counts.back_millis.load(Ordering::Relaxed));
        if !back.is_zero() {
            let note = format!(
                "the wall clock of its machine was set back by {} s within the last hour; what was served does not fire again, and what is to come waits for the times that it names",
                back.as_secs()
            );
            let next = "have a time server set it (`timedatectl`), and look at the schedules: `keywheel schedule next NAME`";
            facts.push(Fact::warning("clock", note, next));
        }
        Seen {
            reached: Some(Reached::Event(counts.seen.load(Ordering::Relaxed))),
            facts,
        }
    }
}

#[async_trait]
impl Source for Handle {
    async fn read(&self, page: &mut Page) {
        let set_back = self.0.set_back.load(Ordering::Relaxed);
        page.count(&names::CLOCK_SET_BACK, &["scheduler"], set_back);
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

    #[tokio::test]
    async fn the_rules_for_time_zones_are_named() {
        let handle = Handle::default();
        handle.set_zones("2026a");
        handle.set_zones("2026b");
        let facts = handle.look().await.facts;
        assert_eq!(facts[1], Fact::ok("time zones", "tzdata 2026b"));
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_is_named_and_counted() {
        let handle = Handle::default();
        handle.set_clock(2, Some(Duration::from_secs(90)));
        let facts = handle.look().await.facts;
        assert_eq!((facts.len(), facts[1].health), (2, Health::Warning));
        assert!(facts[1].note.contains("set back by 90 s"), "{facts:?}");
        let shown = async |handle: &Handle| {
            let mut page = Page::default();
            handle.read(&mut page).await;
            page.text()
        };
        let line = |n| format!("keywheel_clock_set_back_total{{service=\"scheduler\"}} {n}\n");
        assert!(shown(&handle).await.contains(&line(2)));
        handle.set_clock(2, None);
        assert_eq!(handle.look().await.facts.len(), 1, "told long enough");
        assert!(
            shown(&handle).await.contains(&line(2)),
            "what is counted stays"
        );
        assert!(shown(&Handle::default()).await.contains(&line(0)));
    }
}
