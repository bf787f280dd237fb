//! Subscriptions of the journal in memory; they live in its state, so its handles share them.

use async_trait::async_trait;
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::PortError;
use keywheel_engine::port::subscriptions::{
    MAX_SUBSCRIPTIONS, Subscription, Subscriptions, too_many, unknown,
};

use super::MemoryJournal;

#[async_trait]
impl Subscriptions for MemoryJournal {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
        let state = self.state();
        let one = |(name, acknowledged): (&SubscriptionName, &u64)| Subscription {
            name: name.clone(),
            acknowledged: *acknowledged,
        };
        Ok(state.subscriptions.iter().map(one).collect())
    }

    async fn subscribe(
        &self,
        name: &SubscriptionName,
        after: u64,
    ) -> Result<Subscription, PortError> {
        let kept = &mut self.state().subscriptions;
        if !kept.contains_key(name) && kept.len() >= MAX_SUBSCRIPTIONS {
            return Err(too_many(name));
        }
        Ok(Subscription {
            name: name.clone(),
            acknowledged: *kept.entry(name.clone()).or_insert(after),
        })
    }

    async fn acknowledge(
        &self,
        name: &SubscriptionName,
        number: u64,
    ) -> Result<Subscription, PortError> {
        let kept = &mut self.state().subscriptions;
        let acknowledged = kept.get_mut(name).ok_or_else(|| unknown(name))?;
        *acknowledged = number.max(*acknowledged);
        Ok(Subscription {
            name: name.clone(),
            acknowledged: *acknowledged,
        })
    }

    async fn unsubscribe(&self, name: &SubscriptionName) -> Result<(), PortError> {
        let gone = self.state().subscriptions.remove(name);
        gone.map(drop).ok_or_else(|| unknown(name))
    }
}
