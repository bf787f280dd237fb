//! Places of receivers and letters of the journal in memory; they live in its state, so its handles share them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::{LetterId, NotificationId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::deliveries::{Deliveries, Letter, MAX_LETTERS};

use super::MemoryJournal;

impl MemoryJournal {
    /// Removes every other letter; how many.
    fn keep_only(&self, is_kept: impl Fn(&Letter) -> bool) -> u64 {
        let mut state = self.state();
        let before = state.letters.len();
        state.letters.retain(|_, one| is_kept(one));
        u64::try_from(before - state.letters.len()).unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl Deliveries for MemoryJournal {
    async fn claim(
        &self,
        receiver: NotificationId,
        first: u64,
        _span: Duration,
    ) -> Result<Option<u64>, PortError> {
        let handle = self.handle();
        let mut state = self.state();
        let (place, holder) = state.places.entry(receiver).or_insert((first, None));
        if holder.is_some_and(|holder| holder != handle) {
            return Ok(None);
        }
        *holder = Some(handle);
        Ok(Some(*place))
    }

    async fn advance(
        &self,
        receiver: NotificationId,
        from: u64,
        to: u64,
    ) -> Result<bool, PortError> {
        let mut state = self.state();
        let place = state.places.get_mut(&receiver).map(|(place, _)| place);
        let place = place.filter(|place| **place == from);
        Ok(place.map(|place| *place = to).is_some())
    }

    async fn rewind(&self, receiver: NotificationId, to: u64) -> Result<bool, PortError> {
        let mut state = self.state();
        let place = state.places.get_mut(&receiver).map(|(place, _)| place);
        let place = place.filter(|place| **place > to);
        Ok(place.map(|place| *place = to).is_some())
    }

    async fn places(&self) -> Result<BTreeMap<NotificationId, u64>, PortError> {
        let state = self.state();
        let places = state.places.iter().map(|(id, (place, _))| (*id, *place));
        Ok(places.collect())
    }

    async fn forget(&self, receiver: NotificationId) -> Result<(), PortError> {
        self.state().places.remove(&receiver);
        Ok(())
    }

    async fn keep(&self, letter: &Letter) -> Result<u64, PortError> {
        let mut state = self.state();
        state.letters.insert(letter.id, letter.clone());
        let own = state
            .letters
            .values()
            .filter(|one| one.owner == letter.owner);
        let mut own: Vec<_> = own.map(|one| (one.time, one.id)).collect();
        own.sort_unstable();
        let surplus = own.len().saturating_sub(MAX_LETTERS);
        for (_, id) in own.into_iter().take(surplus) {
            state.letters.remove(&id);
        }
        Ok(u64::try_from(surplus).unwrap_or(u64::MAX))
    }

    async fn letters(&self) -> Result<Vec<Letter>, PortError> {
        let state = self.state();
        let mut all: Vec<Letter> = state.letters.values().cloned().collect();
        all.sort_unstable_by_key(|one| (one.time, one.id));
        for letter in &mut all {
            letter.body.clear();
        }
        Ok(all)
    }

    async fn letter(&self, id: LetterId) -> Result<Option<Letter>, PortError> {
        Ok(self.state().letters.get(&id).cloned())
    }

    async fn discard(&self, id: LetterId) -> Result<bool, PortError> {
        Ok(self.state().letters.remove(&id).is_some())
    }

    async fn expire(&self, owners: &str, before: Timestamp) -> Result<u64, PortError> {
        let is_kept = |one: &Letter| !one.owner.starts_with(owners) || one.time >= before;
        Ok(self.keep_only(is_kept))
    }

    async fn discard_all(&self, owner: &str) -> Result<u64, PortError> {
        Ok(self.keep_only(|one| one.owner != owner))
    }
}
