//! Tells the world what was committed: plans to hosts, work to workers, events and audit records to
//! everyone. The log is the outbox: what a crash kept from being sent is sent after the next start.
//!
//! Plans go first: a container waits for them. Nothing here decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::effect::{self, Effect};
use keywheel_core::id::HostId;
use keywheel_core::plan::plan_host;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::command_bus::Commit;
use crate::port::PortError;
use crate::port::bus::{Body, Bus, Topic};
use crate::port::ids::Ids;
use crate::port::journal::{Journal, MAX_READ};
use crate::state::View;

/// An effect that is open for one whole such span is sent again.
pub const RESEND_INTERVAL: Duration = Duration::from_secs(30);

/// Ports of the publisher.
pub struct Publisher {
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Where to tell it.
    pub bus: Arc<dyn Bus>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Committed state.
    pub view: View,
    /// Called after a commit was told; names of failpoints.
    pub failpoint: fn(&'static str),
}

impl Publisher {
    /// Tells every commit, and open effects again from time to time, until the command bus ends.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn run(self, mut commits: mpsc::Receiver<Commit>) -> Result<(), PortError> {
        let mut audited = self.journal.head().await?.audit_size;
        let mut open = self.resend(&BTreeSet::new(), true).await?;
        let mut tick = tokio::time::interval(RESEND_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        loop {
            tokio::select! {
                commit = commits.recv() => {
                    let Some(commit) = commit else { return Ok(()) };
                    self.tell(&commit).await;
                    if commit.audited {
                        audited = self.tell_audit(audited).await?;
                    }
                    (self.failpoint)("gateway.after_publish");
                }
                _ = tick.tick() => open = self.resend(&open, false).await?,
            }
        }
    }

    async fn tell(&self, commit: &Commit) {
        for host in &commit.hosts {
            self.tell_plan(*host).await;
        }
        for effect in &commit.effects {
            self.tell_work(effect).await;
        }
        for event in &commit.events {
            self.send(Topic::Events, *event.id.bytes(), Body::Event(event.clone()))
                .await;
        }
    }

    async fn tell_plan(&self, host: HostId) {
        let plan = plan_host(&self.view.read().world, host);
        if let Some(plan) = plan {
            self.send(Topic::Plan(host), self.ids.draw(), Body::Plan(plan))
                .await;
        }
    }

    async fn tell_work(&self, effect: &Effect) {
        self.send(
            Topic::Work(Role::StoreSync),
            self.ids.draw(),
            Body::Work(effect.clone()),
        )
        .await;
    }

    async fn tell_audit(&self, from: u64) -> Result<u64, PortError> {
        let mut next = from;
        loop {
            let leaves = self.journal.read_audit(next, MAX_READ).await?;
            if leaves.is_empty() {
                return Ok(next);
            }
            for leaf in leaves {
                next = leaf.index + 1;
                self.send(Topic::Audit, self.ids.draw(), Body::Audit(leaf))
                    .await;
            }
        }
    }

    /// Sends effects that were open before and still are; at the start, all that are open.
    async fn resend(
        &self,
        before: &BTreeSet<effect::Key>,
        all: bool,
    ) -> Result<BTreeSet<effect::Key>, PortError> {
        let open = self.journal.open_effects().await?;
        for effect in open
            .iter()
            .filter(|effect| all || before.contains(&effect.key()))
        {
            self.tell_work(effect).await;
        }
        Ok(open.iter().map(Effect::key).collect())
    }

    /// A message that cannot be sent now is no loss: hosts read their plan, consumers the log, and
    /// effects are sent again.
    async fn send(&self, topic: Topic, id: [u8; 16], body: Body) {
        if let Err(error) = self.bus.publish(topic.clone(), id, None, body).await {
            tracing::warn!(?topic, error = %error, "message not sent");
        }
    }
}
