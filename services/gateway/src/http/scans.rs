//! How many readings of the whole log run at once.
//!
//! Invariant: so many of each kind and no more; whoever comes beyond is told when to come again. A
//! stream that began waits for its turn between two of its pieces.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Failure;

/// Most at once of what reads the whole log and keeps something of all of it: a state of the past, an
/// export of the audit, a verification.
pub const MAX_FOLDS: usize = 2;
/// Most filtered streams that read at once what was before they began.
pub const MAX_SCANS: usize = 8;
/// When one who found no place may come again, in seconds.
pub const COME_AGAIN_AFTER: u64 = 2;

/// The places.
#[derive(Debug, Clone)]
pub struct Scans {
    folds: Arc<Semaphore>,
    scans: Arc<Semaphore>,
}

impl Default for Scans {
    fn default() -> Self {
        Self {
            folds: Arc::new(Semaphore::new(MAX_FOLDS)),
            scans: Arc::new(Semaphore::new(MAX_SCANS)),
        }
    }
}

/// A place; it is free again when this is dropped.
pub(super) type Taken = OwnedSemaphorePermit;

impl Scans {
    /// A place for something that keeps something of the whole log.
    pub(super) fn fold(&self) -> Result<Taken, Failure> {
        take(&self.folds, MAX_FOLDS, "requests that read the whole log")
    }

    /// A place for a filtered stream that begins.
    pub(super) fn scan(&self) -> Result<Taken, Failure> {
        let what = "filtered streams that read what was before they began";
        take(&self.scans, MAX_SCANS, what)
    }

    /// A place for a filtered stream that goes on, once one is free.
    pub(super) async fn next_scan(&self) -> Option<Taken> {
        let place = Arc::clone(&self.scans).acquire_owned().await;
        place.ok()
    }
}

fn take(places: &Arc<Semaphore>, most: usize, what: &str) -> Result<Taken, Failure> {
    let place = Arc::clone(places).try_acquire_owned();
    place.map_err(|_| {
        Failure::busy(
            format!("{most} {what} run already; come again in {COME_AGAIN_AFTER} seconds"),
            COME_AGAIN_AFTER,
        )
    })
}
