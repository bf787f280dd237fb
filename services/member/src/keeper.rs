//! Renewal: certificate and permit are replaced at half of their life, for as long as the member runs.
//!
//! Invariants: a failure is tried again, sooner than the credentials end where that is possible; what
//! is asked for is written before it is used; a moment is judged by the wall clock, also when that was
//! set or the machine slept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_bus::{ConnectError, Nats};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::bus::{Address, Body, Bus};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_identity::bundle::{Bundle, BundleError, Identity, SealingKey, TlsFiles};
use keywheel_identity::enrol::{EnrolError, RenewAnswer, RenewAsk, Renewing};
use keywheel_identity::refresh::RefreshError;
use keywheel_identity::renewal::{self, KeyAge, KeyStep};
use keywheel_identity::tls::TlsError;
use keywheel_seal::Entropy;
use keywheel_seal::hpke::{BadKey, HostKeyPair};
use tokio_util::sync::CancellationToken;

use crate::connection::{check_permit, files};

/// How long the gateway may take to answer.
pub const RENEWAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait without a look at the wall clock, which can be set.
const LOOK: Duration = Duration::from_secs(60);
/// Shortest wait between two renewals.
const PAUSE_LEAST: Duration = Duration::from_secs(1);
/// Longest wait between two attempts once the credentials have ended: a host that is back asks soon.
const ENDED_MOST: Duration = Duration::from_secs(30);
/// A failure is tried again after this part of the life that is left, at the latest.
const LEFT_PARTS: u32 = 8;

/// Why credentials were not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalFault {
    /// The gateway was not reached, or says no.
    #[error("the gateway gives no fresh credentials")]
    Gateway(#[source] PortError),
    /// It answered something else.
    #[error("the gateway's answer cannot be read: {0}")]
    Answer(String),
    /// What it answered does not fit.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The directory cannot be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The authorities refused.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The bus does not take it.
    #[error(transparent)]
    Bus(#[from] ConnectError),
    /// A sealing key is none.
    #[error("a sealing key cannot be used")]
    Sealing(#[from] BadKey),
    /// The work was cut off.
    #[error("the work was cut off")]
    Stopped,
}

/// Where fresh credentials come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// Replaces those in the directory.
    ///
    /// # Errors
    /// When there are none; then the old ones lie there.
    async fn renew(&self, directory: &Path) -> Result<(), RenewalFault>;

    /// When something else than the certificate has to be renewed.
    fn due(&self, _identity: &Identity) -> Option<Timestamp> {
        None
    }
}

/// A host's keys for what is sealed to it, where they are used.
#[async_trait]
pub trait SealingKeys: Send + Sync {
    /// Takes these from now on; values are going to be sealed to the newest.
    ///
    /// # Errors
    /// When one cannot be used.
    fn hold(&self, keys: &[SealingKey]) -> Result<(), RenewalFault>;

    /// The gateway knows this one: nothing more is sealed to older ones. Comes back when nothing that
    /// is sealed to them is under way.
    async fn supersede(&self, known: u64);

    /// Overwrites one; what is kept that was sealed to it is sealed to the newest first.
    fn destroy(&self, generation: u64);
}

/// Rotation of a host's sealing keys.
#[derive(Clone)]
pub struct Sealing {
    /// Where they are used.
    pub keys: Arc<dyn SealingKeys>,
    /// How old the newest becomes.
    pub age: Duration,
}

/// Where a host asks whose credentials have ended: it proves itself with its pinned key.
#[async_trait]
pub trait JoinPort: Send + Sync {
    /// What the gateway answers.
    ///
    /// # Errors
    /// When none is reached, or it refuses.
    async fn ask(
        &self,
        tls: &TlsFiles,
        identity: &Identity,
        ask: &RenewAsk,
    ) -> Result<RenewAnswer, PortError>;
}

/// Asks the gateway.
pub struct OverBus {
    /// This member's end of the bus.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// A host's sealing keys; services have none.
    pub sealing: Option<Sealing>,
    /// Where to ask once the credentials have ended, and the bus with them; services have nothing.
    pub port: Option<Arc<dyn JoinPort>>,
}

#[async_trait]
impl Source for OverBus {
    async fn renew(&self, directory: &Path) -> Result<(), RenewalFault> {
        if let Some(sealing) = &self.sealing {
            self.prepare(sealing, directory).await?;
        }
        let (bundle, mut identity) = read(directory).await?;
        let mut renewing = Renewing::begin()?.keeping_addresses(&bundle.tls);
        if let Some(newest) = identity.newest_sealing() {
            renewing = renewing.with_sealing_key(newest);
        }
        let answer = self.ask(&bundle, &identity, &renewing).await?;
        if let Some(sealing) = &self.sealing {
            self.retire(sealing, &mut identity).await;
        }
        let bundle = renewing.accept(identity, &answer)?;
        write(directory, bundle).await
    }

    fn due(&self, identity: &Identity) -> Option<Timestamp> {
        let newest = identity.newest_sealing()?;
        let age = self.sealing.as_ref()?.age;
        // A second one is left of a rotation that was cut off.
        Some(match identity.sealing.len() {
            1 => newest.made.plus(age),
            _ => self.clock.now(),
        })
    }
}

impl OverBus {
    /// Makes the next sealing key when it is due. The disk has it before anybody is told.
    async fn prepare(&self, sealing: &Sealing, directory: &Path) -> Result<(), RenewalFault> {
        let (mut bundle, mut identity) = read(directory).await?;
        let now = self.clock.now();
        let steps = renewal::sealing_key_steps(&ages(&identity, false), sealing.age, now);
        let next = steps.iter().find_map(|step| match step {
            KeyStep::Make(generation) => Some(*generation),
            KeyStep::Destroy(_) => None,
        });
        if let Some(generation) = next {
            identity.sealing.push(SealingKey {
                generation,
                made: now,
                pair: HostKeyPair::generate(&*self.entropy),
            });
            sealing.keys.hold(&identity.sealing)?;
            bundle.identity = Some(identity);
            write(directory, bundle).await?;
            tracing::info!({ names::GENERATION } = generation, "sealing key made");
        }
        Ok(())
    }

    /// Destroys the keys that the gateway knows a newer one for.
    async fn retire(&self, sealing: &Sealing, identity: &mut Identity) {
        let Some(known) = identity.newest_sealing().map(|key| key.generation) else {
            return;
        };
        sealing.keys.supersede(known).await;
        let now = self.clock.now();
        for step in renewal::sealing_key_steps(&ages(identity, true), sealing.age, now) {
            if let KeyStep::Destroy(generation) = step {
                sealing.keys.destroy(generation);
                identity.sealing.retain(|key| key.generation != generation);
                tracing::info!({ names::GENERATION } = generation, "sealing key destroyed");
            }
        }
    }
}

/// What is known of a host's sealing keys; `is_known`: the gateway has the newest.
fn ages(identity: &Identity, is_known: bool) -> Vec<KeyAge> {
    let newest = identity.newest_sealing().map(|key| key.generation);
    let age = |key: &SealingKey| KeyAge {
        generation: key.generation,
        made: key.made,
        superseded: is_known && Some(key.generation) < newest,
        open_deliveries: 0,
    };
    identity.sealing.iter().map(age).collect()
}

impl OverBus {
    async fn ask(
        &self,
        bundle: &Bundle,
        identity: &Identity,
        renewing: &Renewing,
    ) -> Result<RenewAnswer, RenewalFault> {
        let (_, end) = bundle.tls.life()?;
        if let Some(port) = self.port.as_ref().filter(|_| self.clock.now() >= end) {
            let ask = renewing.ask();
            let asked = port.ask(&bundle.tls, identity, &ask).await;
            return asked.map_err(RenewalFault::Gateway);
        }
        let unreadable = |error: serde_json::Error| RenewalFault::Answer(error.to_string());
        let ask = serde_json::to_vec(&renewing.ask()).map_err(unreadable)?;
        let answered = self
            .bus
            .request(Address::Gateway, None, Body::Renew(ask), RENEWAL_TIMEOUT)
            .await
            .map_err(RenewalFault::Gateway)?;
        match answered {
            Body::Renewed(answer) => serde_json::from_slice(&answer).map_err(unreadable),
            Body::Failed { kind, text } => Err(RenewalFault::Gateway(PortError::new(kind, text))),
            _ => Err(RenewalFault::Gateway(PortError::new(
                ErrorKind::Corrupt,
                "it answered something else than credentials",
            ))),
        }
    }
}

/// What else has to know of fresh credentials.
pub type Taken = Box<dyn Fn(&Bundle, &Identity) -> Result<(), RenewalFault> + Send + Sync>;

/// When the first renewal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At once: the first credentials live longer than those that come after.
    AtOnce,
    /// When it is due.
    WhenDue,
}

/// Keeps one directory's credentials fresh.
pub struct Keeper {
    /// The directory.
    pub directory: PathBuf,
    /// Where fresh ones come from.
    pub source: Arc<dyn Source>,
    /// Goes on with them.
    pub nats: Nats,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When the first renewal is.
    pub begin: Begin,
    /// What a person does once they ended.
    pub when_ended: String,
    /// Goes on with them, too.
    pub taken: Taken,
}

/// What is known of the credentials in use.
#[derive(Clone, Copy)]
struct Current {
    due: Timestamp,
    end: Timestamp,
}

impl Keeper {
    /// Runs until told to stop.
    ///
    /// # Errors
    /// When the directory cannot be read at the start.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RenewalFault> {
        let (bundle, identity) = read(&self.directory).await?;
        let mut current = self.current(&bundle, &identity)?;
        if self.begin == Begin::AtOnce {
            current.due = self.clock.now();
        }
        let mut failures = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.wait_until(current.due) => {}
            }
            let renewed = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                renewed = self.renew() => renewed,
            };
            let earliest = self.clock.now().plus(PAUSE_LEAST);
            match renewed {
                Ok(fresh) => {
                    failures = 0;
                    current = fresh;
                }
                Err(fault) => {
                    failures += 1;
                    self.tell(&fault, current.end, failures);
                    current.due = again(self.clock.now(), current.end, failures);
                }
            }
            current.due = current.due.max(earliest);
        }
    }

    async fn renew(&self) -> Result<Current, RenewalFault> {
        self.source.renew(&self.directory).await?;
        let (bundle, identity) = read(&self.directory).await?;
        self.nats.renew(&files(&bundle)).await?;
        (self.taken)(&bundle, &identity)?;
        if let Err(error) = check_permit(&bundle, &identity) {
            let next = "update the gateway and this program to the same build";
            tracing::error!({ names::REASON } = %error, next, "the permit for the bus does not fit");
        }
        let current = self.current(&bundle, &identity)?;
        tracing::info!(
            ends = ends(current.end),
            { names::DUE } = ends(current.due),
            "credentials renewed"
        );
        Ok(current)
    }

    fn current(&self, bundle: &Bundle, identity: &Identity) -> Result<Current, RenewalFault> {
        let life = bundle.tls.life()?;
        let id = identity.signing.verifying_key().to_bytes();
        let due = renewal::due(&id, life);
        Ok(Current {
            due: self
                .source
                .due(identity)
                .map_or(due, |other| other.min(due)),
            end: life.1,
        })
    }

    fn tell(&self, fault: &RenewalFault, end: Timestamp, failures: u32) {
        let (reason, ends) = (chain(fault), ends(end));
        if self.clock.now() >= end {
            let next = &self.when_ended;
            tracing::error!(
                { names::ERROR } = reason,
                ends,
                next,
                "credentials have ended"
            );
        } else {
            tracing::warn!(
                { names::ERROR } = reason,
                { names::ATTEMPT } = failures,
                ends,
                "credentials not renewed yet"
            );
        }
    }

    async fn wait_until(&self, due: Timestamp) {
        loop {
            let left = due.since(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

/// When a failed renewal is tried again.
fn again(now: Timestamp, end: Timestamp, failures: u32) -> Timestamp {
    let pause = renewal::retry_after(failures);
    let left = end.since(now) / LEFT_PARTS;
    now.plus(if left.is_zero() {
        pause.min(ENDED_MOST)
    } else {
        pause.min(left)
    })
}

/// A moment as people read it.
#[must_use]
pub fn ends(at: Timestamp) -> String {
    let shown = jiff::Timestamp::from_microsecond(at.micros());
    shown.map_or_else(|_| at.to_string(), |shown| shown.to_string())
}

async fn write(directory: &Path, bundle: Bundle) -> Result<(), RenewalFault> {
    let directory = directory.to_owned();
    let writing = tokio::task::spawn_blocking(move || bundle.write(&directory));
    Ok(writing.await.map_err(|_| RenewalFault::Stopped)??)
}

async fn read(directory: &Path) -> Result<(Bundle, Identity), RenewalFault> {
    let directory = directory.to_owned();
    let reading = tokio::task::spawn_blocking(move || Bundle::read_speaker(&directory));
    Ok(reading.await.map_err(|_| RenewalFault::Stopped)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_tried_again_before_the_end_and_soon_after_it() {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let in_minutes = |minutes: u64| now.plus(Duration::from_secs(60 * minutes));
        for (left, failures, most) in [(30, 1, 10), (30, 50, 225), (1, 50, 8)] {
            let next = again(now, in_minutes(left), failures).since(now);
            assert!(
                next <= Duration::from_secs(most),
                "{left} {failures} {next:?}"
            );
        }
        assert_eq!(again(now, now, 50), now.plus(ENDED_MOST));
    }
}
