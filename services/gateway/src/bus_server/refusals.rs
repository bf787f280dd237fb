//! What members on the bus are refused, on record: of each one the first ones by themselves, the rest as one record per
//! window.
//!
//! Invariants: a refusal is on record or counted before it is answered; what is counted is kept until its record is
//! durable; what the rules refuse to who renews is refused without a command, each of which would be one record more. A
//! process that dies in the middle of a window loses that window's count, and never the first refusals.

use std::time::Duration;

use keywheel_core::audit::{Principal, Record};
use keywheel_core::host::{KeyRequest, PermitRequest, permit_of};
use keywheel_core::id::HostId;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::BusServer;
use crate::denials::{Asker, Attempt, Counted, Ruling};

/// How long writing the last counts may take.
const LAST_COUNTS: Duration = Duration::from_secs(3);

/// What the renewal of a host asks the log for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish<'a> {
    /// A permit, now.
    Permit(&'a PermitRequest, Timestamp),
    /// Its next keys.
    Keys(&'a KeyRequest),
}

impl BusServer {
    /// Puts on record what a member is refused, or counts it when much came before it in this window.
    pub(super) async fn refuse(
        &self,
        record: Record,
        host: Option<HostId>,
    ) -> Result<(), PortError> {
        let principal = record.principal.clone();
        let asker = Asker {
            principal: &principal,
            host,
        };
        let what = format!("{} {}: {}", record.verb, record.object, record.reason);
        let attempt = Attempt::new(record.time, &what);
        if self.refused.note(asker, attempt.clone()) == Ruling::Count {
            return Ok(());
        }
        let recorded = self.commands.record(record).await;
        if recorded.is_err() {
            // It is not durable; it comes with the next count.
            self.refused.put_back(asker, attempt);
        }
        recorded
    }

    /// Why the rules refuse what a renewal asks for, as of the log's head.
    pub(super) async fn refused_by_rules(
        &self,
        wish: Wish<'_>,
    ) -> Result<Option<String>, PortError> {
        if self.refused_here(wish).is_none() {
            return Ok(None);
        }
        // Another gateway may have taken what this one follows.
        self.commands.look_at_head().await?;
        Ok(self.refused_here(wish))
    }

    fn refused_here(&self, wish: Wish<'_>) -> Option<String> {
        let committed = self.view.read();
        let world = &committed.world;
        let refused = match wish {
            Wish::Permit(wish, now) => {
                world.live_host(wish.host)?;
                permit_of(world, wish, now).err()
            }
            Wish::Keys(next) => world.live_host(next.host)?.decide_rotate_keys(next).err(),
        };
        refused.map(|why| why.to_string())
    }

    /// Writes what was counted, again and again, until told to stop.
    pub(super) async fn write_counts_every(self, window: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(window) => {}
            }
            self.write_counts().await;
        }
    }

    /// Writes the last counts once the task that writes them otherwise has ended, unless that takes too long.
    pub(super) async fn write_last_counts(&self, counting: JoinHandle<()>) {
        let writing = async {
            let _ended = counting.await;
            self.write_counts().await;
        };
        let written = tokio::time::timeout(LAST_COUNTS, writing).await;
        if written.is_err() {
            tracing::warn!("counts of refusals on the bus not written in time");
        }
    }

    /// Writes what was counted since the last time; what cannot be written stays counted.
    pub(super) async fn write_counts(&self) {
        for counted in self.refused.turn() {
            let mut record = self.denied(counted.principal.clone(), self.fresh_command());
            record.verb = "request".to_owned();
            record.object = object_of(&counted);
            record.reason = counted.reason();
            if let Err(error) = self.commands.record(record).await {
                tracing::warn!(error = %error, "count of refusals on the bus not written; it is kept");
                self.refused.restore(counted);
            }
        }
    }
}

/// Whom a count is about; nobody by name where many are counted together.
fn object_of(counted: &Counted) -> String {
    match (&counted.principal, counted.host) {
        (Principal::Service(role), None) => format!("service/{role:?}"),
        (_, Some(host)) => format!("host/{host}"),
        _ => String::new(),
    }
}
