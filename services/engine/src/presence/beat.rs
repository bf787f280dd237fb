//! An instance's beat: looks at the service and tells what it found, until the service ends.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_core::time::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{BEAT_INTERVAL, BusEnd, ENDED_FACT, Fact, Look, MAX_FACTS, Presence, Seen};
use crate::port::PortError;
use crate::port::bus::{Body, Bus, Topic};
use crate::port::clock::Clock;
use crate::port::ids::Ids;

/// How long one look may take; a store that hangs must not make its service silent.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last word may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the reason of an end may take: a service that ends as it starts has no connection yet.
const REASON_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries of that.
const REASON_INTERVAL: Duration = Duration::from_millis(50);

/// Which instance it is.
#[derive(Debug, Clone)]
pub struct About {
    /// Its role.
    pub role: Role,
    /// Its host, if it is an injector.
    pub host: Option<HostId>,
    /// This run of it.
    pub instance: [u8; 16],
    /// The machine it runs on.
    pub machine: String,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
}

/// Tells an instance's presence.
#[derive(Clone)]
pub struct Beat {
    /// Where to tell.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Which instance.
    pub about: About,
    /// What to look at.
    pub look: Arc<dyn Look>,
    /// How its connection is; `None` inside one process.
    pub end: Option<Arc<dyn Fn() -> BusEnd + Send + Sync>>,
    /// When its credentials end, if it has any.
    pub certificate_end: Arc<dyn Fn() -> Option<Timestamp> + Send + Sync>,
}

impl Beat {
    /// Tells at once, then every [`BEAT_INTERVAL`] and when its look says that something changed, and a last time when
    /// the service ends.
    ///
    /// # Errors
    /// Never: what is not heard now is heard with the next beat.
    pub async fn run(self, stop: CancellationToken) -> Result<(), PortError> {
        let mut beat = tokio::time::interval(BEAT_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    let left = self.tell(self.presence(Seen::default(), true));
                    let _late = tokio::time::timeout(LEAVE_TIMEOUT, left).await;
                    return Ok(());
                }
                _ = beat.tick() => {}
                () = self.look.changed() => {}
            }
            let seen = tokio::time::timeout(LOOK_TIMEOUT, self.look.look()).await;
            let seen = seen.unwrap_or_else(|_| hangs());
            self.tell(self.presence(seen, false)).await;
        }
    }

    /// Tells why the service cannot go on, instead of that it leaves: its row stays, with that.
    pub async fn fail(&self, note: impl Into<String>, next: impl Into<String>) {
        let seen = Seen {
            reached: None,
            facts: vec![Fact::problem(ENDED_FACT, note, next)],
        };
        let told = async {
            while !self.tell(self.presence(seen.clone(), false)).await {
                tokio::time::sleep(REASON_INTERVAL).await;
            }
        };
        let _late = tokio::time::timeout(REASON_TIMEOUT, told).await;
    }

    fn presence(&self, mut seen: Seen, leaving: bool) -> Presence {
        let about = &self.about;
        seen.facts.truncate(MAX_FACTS);
        Presence {
            role: about.role,
            host: about.host,
            instance: about.instance,
            machine: about.machine.clone(),
            version: about.version.clone(),
            started: about.started,
            sent: self.clock.now(),
            leaving,
            certificate_end: (self.certificate_end)(),
            bus: self.end.as_ref().map(|end| end()),
            seen,
        }
    }

    async fn tell(&self, presence: Presence) -> bool {
        let body = Body::Presence(Box::new(presence));
        let id = self.ids.draw();
        let told = self.bus.publish(Topic::Presence, id, None, body).await;
        if let Err(error) = &told {
            tracing::debug!(error = %error, "presence not told");
        }
        told.is_ok()
    }
}

fn hangs() -> Seen {
    let seconds = LOOK_TIMEOUT.as_secs();
    let note = format!("it did not answer its own question within {seconds} s");
    let next = "look at its log; restart it when the log is quiet";
    Seen {
        reached: None,
        facts: vec![Fact::problem("answers", note, next)],
    }
}
