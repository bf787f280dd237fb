//! What a rotation meets at one hit of one failpoint.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_rotators::Failpoint;
use tokio::sync::Notify;

/// Longer than any answer of a server that is near.
const DELAY: Duration = Duration::from_millis(50);

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The step fails.
    Error,
    /// The step waits, and goes on.
    Delay,
    /// The step is never heard of again: who performs it is dropped.
    Cut,
}

/// One fault at one hit of one failpoint.
pub(crate) struct Trap {
    pub(crate) at: &'static str,
    fault: Fault,
    hit: u32,
    hits: Mutex<BTreeMap<&'static str, u32>>,
    /// Tells that the step stands still for good.
    pub(crate) cut: Notify,
}

impl Trap {
    pub(crate) fn new(at: &'static str, fault: Fault, hit: u32) -> Self {
        Self {
            at,
            fault,
            hit,
            hits: Mutex::default(),
            cut: Notify::new(),
        }
    }

    /// Whether anything came that far.
    pub(crate) fn has_fired(&self) -> bool {
        let hits = self.hits.lock().unwrap();
        hits.get(self.at).is_some_and(|hits| *hits >= self.hit)
    }

    /// Whether it lies where an account is made that is missing.
    pub(crate) fn is_of_making(&self) -> bool {
        let parts = ["_make", "_grant", "_default_role"];
        parts.iter().any(|part| self.at.ends_with(part))
    }

    /// Whether it lies where sessions are ended, as only a revocation does.
    pub(crate) fn is_of_revoking(&self) -> bool {
        self.at.ends_with("_end")
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}, hit {}", self.fault, self.at, self.hit)
    }
}

#[async_trait]
impl Failpoint for Trap {
    async fn pass(&self, name: &'static str) -> Result<(), PortError> {
        let hit = {
            let mut hits = self.hits.lock().unwrap();
            let hit = hits.entry(name).or_default();
            *hit += 1;
            *hit
        };
        if name != self.at || hit != self.hit {
            return Ok(());
        }
        match self.fault {
            Fault::Error => {
                let text = "a test has it fail here";
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
            Fault::Delay => {
                tokio::time::sleep(DELAY).await;
                Ok(())
            }
            Fault::Cut => {
                self.cut.notify_one();
                std::future::pending().await
            }
        }
    }
}
