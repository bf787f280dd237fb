//! Hears what every instance tells about itself, and keeps the newest of each for `status`.
//!
//! It decides nothing. What is heard is compared with the log as it is then, so that a reader is
//! called behind only by what was there when it spoke.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::EventId;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Body, Bus, Topic};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::Journal;
use keywheel_engine::presence::{Health, Heard, Presence, Reached, Row, SEAL_FACT, Table};
use keywheel_engine::state::View;
use tokio_util::sync::CancellationToken;

use crate::root_key::RootKeys;
use crate::sinks;

/// Pause before it listens again.
const RETRY: Duration = Duration::from_secs(1);

/// What this gateway heard; clones are one.
#[derive(Clone)]
pub struct Presences {
    table: Arc<Table>,
    clock: Arc<dyn Clock>,
    began: Duration,
    began_at: Timestamp,
    min_sinks: usize,
    keep_records: Option<Duration>,
    /// Whether no sink is asked for, just now.
    lenient: Arc<AtomicBool>,
}

impl Presences {
    /// Nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            table: Arc::default(),
            began: clock.monotonic(),
            began_at: clock.now(),
            clock,
            min_sinks: 0,
            keep_records: None,
            lenient: Arc::default(),
        }
    }

    /// Asks for so many sinks of the audit that take records.
    #[must_use]
    pub fn with_min_sinks(self, min_sinks: usize) -> Self {
        Self { min_sinks, ..self }
    }

    /// Has audit records leave the journal at this age; `None` keeps them all.
    #[must_use]
    pub fn with_keep_records(self, keep_records: Option<Duration>) -> Self {
        Self {
            keep_records,
            ..self
        }
    }

    /// At which age audit records leave the journal; `None` where all are kept.
    #[must_use]
    pub const fn keep_records(&self) -> Option<Duration> {
        self.keep_records
    }

    /// By which time ages of records are told: a clock that is set forward while the gateway runs makes nothing old.
    #[must_use]
    pub fn steady_now(&self) -> Timestamp {
        self.clock.now().min(self.began_at.plus(self.listening()))
    }

    /// Why audit records before a number may not leave the journal now; nothing when others have them.
    #[must_use]
    pub fn keeps_records(&self, before: u64) -> Option<String> {
        let heard = self.table.heard(Role::AuditSink, self.clock.monotonic());
        sinks::keeps(&heard, before, self.min_sinks)
    }

    /// Asks for no sinks while `is_lenient`: a restored log is made ready before any of them can run.
    pub fn set_lenient(&self, is_lenient: bool) {
        self.lenient.store(is_lenient, Ordering::Relaxed);
    }

    /// Why no new work may begin now; nothing while there are sinks enough.
    #[must_use]
    pub fn held_back(&self) -> Option<String> {
        match self.lenient.load(Ordering::Relaxed) {
            true => None,
            false => self.short_of_sinks(),
        }
    }

    /// Why no worker may be told of new work now: also while commands are let through, since what they lead to is no
    /// less work for that.
    #[must_use]
    pub fn short_of_sinks(&self) -> Option<String> {
        if self.min_sinks == 0 {
            return None;
        }
        let heard = self.table.heard(Role::AuditSink, self.clock.monotonic());
        sinks::held_back(&heard, self.min_sinks)
    }

    /// Audit sinks that are heard now.
    #[must_use]
    pub fn audit_sinks(&self) -> Vec<Row> {
        self.table.heard(Role::AuditSink, self.clock.monotonic())
    }

    /// Whether store-syncs are heard and all of them say that they are sealed. Of one that is not heard nobody knows.
    #[must_use]
    pub fn says_sealed(&self) -> bool {
        let heard = self.table.heard(Role::StoreSync, self.clock.monotonic());
        let facts = heard.iter().flat_map(|row| &row.presence.seen.facts);
        let told = facts.filter(|fact| fact.name == SEAL_FACT);
        let told: Vec<Health> = told.map(|fact| fact.health).collect();
        !told.is_empty() && !told.contains(&Health::Ok)
    }

    /// Everything that is known now.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.table.all(self.clock.monotonic())
    }

    /// How long it has listened.
    #[must_use]
    pub fn listening(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    /// Takes what was heard just now; `head` is what there was for it to reach.
    pub fn hear(&self, presence: Presence, head: Option<u64>) -> bool {
        let heard = Heard {
            at: self.clock.now(),
            steady: self.clock.monotonic(),
            head,
        };
        self.table.hear(presence, heard)
    }
}

/// Listens to everyone.
pub struct Listener {
    /// This gateway's end of the bus.
    pub bus: Arc<dyn Bus>,
    /// Committed state.
    pub view: View,
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Where it is kept.
    pub presences: Presences,
    /// Puts on record which root keys store-syncs have.
    pub roots: RootKeys,
}

impl Listener {
    /// Listens until told to stop.
    ///
    /// # Errors
    /// Never: when the bus is away, it listens again.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), PortError> {
        // Each gateway hears everything, so each run has a name of its own.
        let consumer = format!("gateway-{}", EventId::from_bytes(self.ids.draw()));
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                lost = self.listen(&consumer) => {
                    if let Err(error) = lost {
                        tracing::warn!(error = %error, "presence of services not heard; trying again");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn listen(&mut self, consumer: &str) -> Result<(), PortError> {
        let mut heard = self.bus.subscribe(Topic::Presence, consumer).await?;
        while let Some(incoming) = heard.next().await {
            if let Body::Presence(presence) = incoming.message.body {
                self.roots.hear(&presence).await;
                let head = self.head_for(&presence).await;
                if !self.presences.hear(*presence, head) {
                    tracing::debug!("presence passed over: older than what is known, or too many");
                }
            }
            heard.ack(incoming.sequence).await?;
        }
        Ok(())
    }

    /// What there is for an instance to reach.
    async fn head_for(&self, presence: &Presence) -> Option<u64> {
        match presence.seen.reached? {
            Reached::Event(_) => Some(self.view.read().number),
            Reached::AuditRecords(_) => self.journal.head().await.ok().map(|head| head.audit_size),
            Reached::Plan(_) => {
                let host = presence.host?;
                Some(self.view.read().world.host_generation(host))
            }
        }
    }
}
