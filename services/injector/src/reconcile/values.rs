//! Values: asked for in the background, and opened for those who get them.
//!
//! Owns what is under way to store-sync. It does not decide who gets a value, and keeps none itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use keywheel_core::plan::Grant;
use keywheel_daemon::{chain, names};
use keywheel_seal::SecretBytes;

use super::Reconciler;
use crate::decide::{FileWish, Had};
use crate::service::Event;
use crate::shared::VersionKey;

impl Reconciler {
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
