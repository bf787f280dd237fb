//! What a rotation meets at one hit of one failpoint: an error, a delay, an end that nobody hears of, or the
//! end of its program by `kill -9`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Who performs it is a program of its own, and that is killed.
    Kill,
}

/// How a test runs once more as a program of its own, to be killed.
#[derive(Debug, Clone)]
pub struct Child {
    /// The test's whole name.
    pub test: &'static str,
    /// What that program has to know besides its step, one line each.
    pub words: Vec<String>,
}

/// One fault at one hit of one failpoint.
pub struct Trap {
    at: &'static str,
    fault: TrapFault,
    hit: u32,
    hits: Mutex<BTreeMap<&'static str, u32>>,
    cut: Notify,
    child: Option<Child>,
    /// Whether a program was killed there.
    killed: AtomicBool,
    /// Whether this is the program that is to be killed.
    is_deadly: bool,
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
            child: None,
            killed: AtomicBool::new(false),
            is_deadly: false,
        }
    }

    /// The same in the program that is killed there, at the first hit.
    #[must_use]
    pub fn deadly(at: &'static str) -> Self {
        Self {
            is_deadly: true,
            ..Self::new(at, TrapFault::Kill, 1)
        }
    }

    /// The same; where it is to kill, this program is what it kills.
    #[must_use]
    pub fn by(self, child: Child) -> Self {
        Self {
            child: Some(child),
            ..self
        }
    }

    /// The program that the next step is performed by, if there is still one to be killed.
    #[must_use]
    pub fn victim(&self) -> Option<&Child> {
        let is_due = self.fault == TrapFault::Kill && !self.killed.load(Ordering::Relaxed);
        self.child.as_ref().filter(|_| is_due)
    }

    /// The program was killed there.
    pub fn note_killed(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    /// The failpoint.
    #[must_use]
    pub const fn at(&self) -> &'static str {
        self.at
    }

    /// Whether anything came that far.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        if self.fault == TrapFault::Kill {
            return self.killed.load(Ordering::Relaxed);
        }
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
            // It is another program's, which does not come back.
            TrapFault::Kill if !self.is_deadly => Ok(()),
            TrapFault::Kill => {
                let own = rustix::process::getpid();
                loop {
                    let killed = rustix::process::kill_process(own, rustix::process::Signal::KILL);
                    killed.expect("a program may kill itself");
                }
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
