//! Values: asked for in the background, and opened for those who get them.
//!
//! Owns what is under way to store-sync. It does not decide who gets a value, and keeps none itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::plan::Grant;
use keywheel_daemon::{chain, names};
use keywheel_seal::SecretBytes;

use super::Reconciler;
use crate::decide::{FileWish, Had};
use crate::service::Event;
use crate::shared::VersionKey;

/// For so long a report without facts waits for values that are asked for: most often it tells of their
/// swaps, too, and is one decision of the gateway instead of two.
const REPORT_WAITS: Duration = Duration::from_millis(50);

/// Until when a report without facts waits; one that was said begins anew. One with facts does not: it would
/// keep what waits for as long as facts come, and what may not be kept on the disk with it.
#[derive(Debug, Default)]
pub(super) struct Unsaid(Option<Duration>);

impl Unsaid {
    /// When it is said at the latest; `None`: now.
    fn until(&mut self, is_asking: bool, now: Duration) -> Option<Duration> {
        if !is_asking {
            self.0 = None;
            return None;
        }
        let until = *self.0.get_or_insert(now.saturating_add(REPORT_WAITS));
        (now < until).then_some(until)
    }

    pub(super) fn said(&mut self, has_facts: bool) {
        if !has_facts {
            self.0 = None;
        }
    }
}

impl Reconciler {
    /// Whether a report without facts waits for the values that are asked for.
    pub(super) fn waits_for_values(&mut self) -> bool {
        let is_asking = self.fetching.values().any(Option::is_none);
        let until = self.unsaid.until(is_asking, self.now());
        if let Some(until) = until {
            self.wake_by(until);
        }
        until.is_some()
    }

    /// Asks for the values of a newer plan while that is written down: in memory a value changes nothing yet.
    pub(super) fn ask_ahead(&mut self) {
        let Some(plan) = self.shared.plan() else {
            return;
        };
        if !self.shared.is_disk_behind() {
            return;
        }
        for (key, grant) in self.gather(&plan).needs {
            self.fetch(key, grant);
        }
    }

    pub(super) fn had(&self, key: VersionKey) -> Had {
        match self.fetching.get(&key) {
            _ if self.shared.has_value(key) => Had::Here,
            Some(Some(_)) => Had::Failed,
            Some(None) | None => Had::Awaited,
        }
    }

    /// Asks for a value in the background, once at a time.
    pub(super) fn fetch(&mut self, key: VersionKey, grant: Grant) {
        if self.shared.has_value(key) {
            return;
        }
        let now = self.now();
        match self.fetching.get(&key) {
            Some(None) => return,
            Some(Some(at)) if now < *at => return,
            _ => {}
        }
        self.fetching.insert(key, None);
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(async move {
            let trace = shared.trace_of(key.0);
            let result = shared.fetch(key.0, grant, trace).await.map(|_| ());
            let _ = events.send(Event::Fetched { key, result }).await;
        });
    }

    /// Opens each wanted version once, however many containers get it.
    pub(super) fn open_values<'a>(
        &self,
        wishes: impl Iterator<Item = &'a FileWish>,
    ) -> BTreeMap<VersionKey, Arc<SecretBytes>> {
        let mut values = BTreeMap::new();
        for key in wishes.flat_map(FileWish::parts) {
            if values.contains_key(&key) {
                continue;
            }
            let Some(sealed) = self.shared.sealed(key) else {
                continue;
            };
            match self.shared.open(key, &sealed) {
                Ok(value) => {
                    values.insert(key, Arc::new(value));
                }
                Err(error) => {
                    tracing::error!({ names::SECRET } = %key.0, { names::ERROR } = chain(&error), "value not opened")
                }
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_facts_waits_for_values_and_not_for_ever() {
        let mut unsaid = Unsaid::default();
        let at = Duration::from_millis;
        assert_eq!(unsaid.until(false, at(7)), None);
        let until = at(10) + REPORT_WAITS;
        assert_eq!(unsaid.until(true, at(10)), Some(until));
        assert_eq!(unsaid.until(true, at(11)), Some(until), "as long as before");
        assert_eq!(unsaid.until(true, until), None);
        assert_eq!(unsaid.until(true, until + at(1)), None);
        unsaid.said(true);
        assert_eq!(unsaid.until(true, until + at(1)), None, "only facts said");
        assert_eq!(unsaid.until(false, until + at(2)), None, "they came");
        let later = until + at(3);
        assert_eq!(unsaid.until(true, later), Some(later + REPORT_WAITS));
        unsaid.said(true);
        let then = later + at(2);
        assert_eq!(unsaid.until(true, then), Some(later + REPORT_WAITS));
        unsaid.said(false);
        assert_eq!(unsaid.until(true, then), Some(then + REPORT_WAITS));
    }
}
