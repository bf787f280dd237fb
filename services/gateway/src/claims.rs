//! Telling the bus servers who is refused: after an eviction, and whenever the bus comes back.
//!
//! Invariants: what is refused is told until a bus server has it, and what it has is read first, so
//! that gateways do not undo each other's; a bus server that lost it is told again at the next connect. What
//! it took is told once more a moment later: who was being let in while it heard it stays connected else.
//! While something is not told, it can be seen.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_bus::{ClaimsDesk, ConnectError, MemberFiles};
use keywheel_engine::port::clock::Clock;
use keywheel_identity::bundle::{Bundle, BundleError};
use keywheel_identity::nats::{CLAIMS_INBOX, CLAIMS_SUBJECT};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::registry::{Registry, RegistryError};

/// First pause before it is told again.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause.
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Pause before what was taken is told once more: a connection that is being made is made by then.
const SETTLE: Duration = Duration::from_secs(3);
/// The answer that says that a claim was taken.
const TAKEN: u16 = 200;

/// Why a bus server does not know who is refused.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// It is not reached, or does not answer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The gateway's directory lacks what is needed.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// There is no permit for it.
    #[error(
        "{0} has no nats-claims.creds; make the directory fresh with `keywheel credentials refresh`"
    )]
    NoPermit(PathBuf),
    /// The authorities refuse.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It says no.
    #[error(
        "the bus server does not take the list of refused users: {0}; check that it runs with this deployment's nats.conf"
    )]
    Refused(String),
    /// The work was cut off.
    #[error("the work was cut off")]
    Stopped,
}

/// The bus servers, as claims reach them.
#[async_trait]
pub trait Desk: Send + Sync {
    /// Asks for a subject's answer.
    ///
    /// # Errors
    /// When none comes.
    async fn ask(&self, subject: String, content: String) -> Result<Vec<u8>, ClaimsError>;
}

/// The real ones: a connection for each question, with the newest credentials in the directory.
pub struct BusDesk {
    /// The gateway's directory of credentials.
    pub directory: PathBuf,
    /// Where the servers are.
    pub servers: Vec<String>,
}

#[async_trait]
impl Desk for BusDesk {
    async fn ask(&self, subject: String, content: String) -> Result<Vec<u8>, ClaimsError> {
        let directory = self.directory.clone();
        let reading = tokio::task::spawn_blocking(move || Bundle::read(&directory));
        let bundle = reading.await.map_err(|_| ClaimsError::Stopped)??;
        let permit = bundle.claims.as_ref();
        let files = MemberFiles {
            roots: &bundle.tls.roots_pem,
            certificate: &bundle.tls.chain_pem,
            key: &bundle.tls.key_pem,
            permit: Some(permit.ok_or_else(|| ClaimsError::NoPermit(self.directory.clone()))?),
        };
        let desk = ClaimsDesk::open(&self.servers, &files, CLAIMS_INBOX).await?;
        Ok(desk.ask(subject, content).await?)
    }
}

/// Whether bus servers know who is refused, for people.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Option<String>>>);

impl Told {
    /// Why something is not told yet; `None` when all is.
    #[must_use]
    pub fn open(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, open: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }
}

/// Tells the bus servers.
pub struct Claims {
    /// Who is refused.
    pub registry: Arc<Registry>,
    /// Where it is told.
    pub desk: Arc<dyn Desk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Rings whenever the bus is there again.
    pub connects: watch::Receiver<u64>,
    /// What people see.
    pub told: Told,
}

impl Claims {
    /// Tells now, whenever something new is refused and whenever the bus comes back, until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut refusals = self.registry.refusals();
        let mut pause = RETRY_FIRST;
        // A gateway that ended in between owes it, too.
        let (mut is_second, mut is_second_owed) = (false, self.registry.refuses_anyone());
        loop {
            self.connects.mark_unchanged();
            refusals.mark_unchanged();
            let told = tokio::select! {
                () = stop.cancelled() => return,
                told = self.tell(is_second) => told,
            };
            let is_told = told.is_ok();
            match told {
                Ok(is_taken) => {
                    self.told.set(None);
                    pause = RETRY_FIRST;
                    is_second_owed = !is_second && (is_taken || is_second_owed);
                }
                Err(error) => {
                    let reason = keywheel_daemon::chain(&error);
                    if is_second {
                        tracing::warn!(reason, "bus servers are not told a second time yet");
                    } else {
                        tracing::warn!(reason, "bus servers do not know yet who is refused");
                        self.told.set(Some(reason));
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = refusals.changed() => is_second = false,
                Ok(()) = self.connects.changed() => is_second = false,
                () = tokio::time::sleep(SETTLE), if is_told && is_second_owed => is_second = true,
                () = tokio::time::sleep(pause), if !is_told => {
                    pause = (pause * 2).min(RETRY_MOST);
                }
            }
        }
    }

    /// Tells what is not known there, or all of it once more; whether a bus server took it. Nothing is asked while
    /// nobody is refused.
    async fn tell(&self, is_second: bool) -> Result<bool, ClaimsError> {
        if !self.registry.refuses_anyone() {
            return Ok(false);
        }
        if !is_second {
            self.told.set(Some("it is being told".to_owned()));
        }
        let known = self.desk.ask(self.registry.lookup_subject(), String::new());
        let known = String::from_utf8_lossy(&known.await?).into_owned();
        let (registry, now) = (Arc::clone(&self.registry), self.clock.now());
        let making = tokio::task::spawn_blocking(move || match is_second {
            // A bus server passes over the very claim that it has.
            true => registry.claim(Some(&known), now).map(Some),
            false => registry.claim_after(&known, now),
        });
        let Some(claim) = making.await.map_err(|_| ClaimsError::Stopped)?? else {
            return Ok(false);
        };
        let answer = self.desk.ask(CLAIMS_SUBJECT.to_owned(), claim).await?;
        check(&answer)?;
        if !is_second {
            tracing::info!("bus servers know who is refused");
        }
        Ok(true)
    }
}

/// The bus server's answer to a claim.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Option<Taken>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Taken {
    code: u16,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    description: String,
}

fn check(answer: &[u8]) -> Result<(), ClaimsError> {
    let refused = |text: &str| ClaimsError::Refused(text.to_owned());
    let answer: Answer =
        serde_json::from_slice(answer).map_err(|_| refused("its answer is none"))?;
    match (answer.data, answer.error) {
        (Some(Taken { code: TAKEN }), _) => Ok(()),
        (_, Some(refusal)) => Err(refused(&refusal.description)),
        (Some(taken), None) => Err(refused(&format!("code {}", taken.code))),
        (None, None) => Err(refused("its answer says nothing")),
    }
}

#[cfg(test)]
mod tests;
