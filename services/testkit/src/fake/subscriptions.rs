//! Subscriptions of the journal in memory; they live in its state, so its handles share them.

use async_trait::async_trait;
use keywheel_core::id::SubscriptionId;
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::PortError;
use keywheel_engine::port::subscriptions::{
    MAX_SUBSCRIPTIONS, Subscription, Subscriptions, made_again, too_many, unknown,
};

use super::MemoryJournal;

#[async_trait]
impl Subscriptions for MemoryJournal {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
        Ok(self.state().subscriptions.values().cloned().collect())
    }

    async fn subscribe(
        &self,
        name: &SubscriptionName,
        id: SubscriptionId,
        after: u64,
    ) -> Result<Subscription, PortError> {
        let kept = &mut self.state().subscriptions;
        if !kept.contains_key(name) && kept.len() >= MAX_SUBSCRIPTIONS {
            return Err(too_many(name));
        }
        let made = || Subscription {
            id,
            name: name.clone(),
            acknowledged: after,
        };
        Ok(kept.entry(name.clone()).or_insert_with(made).clone())
    }

    async fn acknowledge(
        &self,
        name: &SubscriptionName,
        id: SubscriptionId,
        number: u64,
    ) -> Result<Subscription, PortError> {
        let kept = &mut self.state().subscriptions;
        let known = kept.get_mut(name).ok_or_else(|| unknown(name))?;
        if known.id != id {
            return Err(made_again(name));
        }
        known.acknowledged = number.max(known.acknowledged);
        Ok(known.clone())
    }

    async fn unsubscribe(&self, name: &SubscriptionName) -> Result<(), PortError> {
        let gone = self.state().subscriptions.remove(name);
        gone.map(drop).ok_or_else(|| unknown(name))
    }
}
