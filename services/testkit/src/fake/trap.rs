//! What a rotation meets at one hit of one failpoint: an error, a delay, or an end that nobody hears of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::failpoint::Failpoint;
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::sync::Notify;

/// Longer than any answer of a server that is near.
const DELAY: Duration = Duration::from_millis(50);

/// What happens at a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrapFault {
    /// The step fails.
    Error,
    /// The step waits, and goes on.
    Delay,
    /// The step is never heard of again: who performs it is dropped.
    Cut,
}

/// One fault at one hit of one failpoint.
pub struct Trap {
    at: &'static str,
    fault: TrapFault,
    hit: u32,
    hits: Mutex<BTreeMap<&'static str, u32>>,
    cut: Notify,
}

impl Trap {
    /// This fault at the hit of this number; the first one is 1.
    #[must_use]
    pub fn new(at: &'static str, fault: TrapFault, hit: u32) -> Self {
        Self {
            at,
            fault,
            hit,
            hits: Mutex::default(),
            cut: Notify::new(),
        }
    }

    /// The failpoint.
    #[must_use]
    pub const fn at(&self) -> &'static str {
        self.at
    }

    /// Whether anything came that far.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        hits.get(self.at).is_some_and(|hits| *hits >= self.hit)
    }

    /// Performs a step; nothing when it stands still for good, and who performed it is dropped.
    pub async fn perform<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            ended = step => Some(ended),
            () = self.cut.notified() => None,
        }
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
            let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
            let hit = hits.entry(name).or_default();
            *hit += 1;
            *hit
        };
        if name != self.at || hit != self.hit {
            return Ok(());
        }
        match self.fault {
            TrapFault::Error => {
                let text = "a test has it fail here";
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
            TrapFault::Delay => {
                tokio::time::sleep(DELAY).await;
                Ok(())
            }
            TrapFault::Cut => {
                self.cut.notify_one();
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trap_springs_once_at_its_hit() {
        let trap = Trap::new("here", TrapFault::Error, 2);
        for name in ["here", "there", "there"] {
            assert!(trap.pass(name).await.is_ok());
        }
        assert!(!trap.has_fired());
        let failed = trap.perform(trap.pass("here")).await;
        assert!(failed.is_some_and(|passed| passed.is_err()));
        assert!(trap.has_fired() && trap.pass("here").await.is_ok());
        let cutting = Trap::new("here", TrapFault::Cut, 1);
        assert!(cutting.perform(cutting.pass("here")).await.is_none());
        let passed = cutting.perform(cutting.pass("here")).await;
        assert!(passed.is_some_and(|passed| passed.is_ok()));
    }
}
