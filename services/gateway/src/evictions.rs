//! Evictions, as every gateway applies them: what the log refuses, whoever appended it, is noted for
//! the bus server.
//!
//! Invariant: a key that the log refuses is noted before anything newer is, and again after a failure.
//! Telling the bus servers is the matter of [`crate::claims`].

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::host::RefusedKey;
use keywheel_engine::port::clock::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;

/// Pause before what could not be noted is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Notes what is refused, now and whenever it changes, until told to stop.
pub async fn keep(
    registry: Arc<Registry>,
    mut refused: watch::Receiver<Vec<RefusedKey>>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    loop {
        let keys = refused.borrow_and_update().clone();
        let is_kept = note(&registry, keys, &*clock).await;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = refused.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !is_kept => {}
        }
    }
}

/// Notes it; `false` when the disk refused.
async fn note(registry: &Arc<Registry>, keys: Vec<RefusedKey>, clock: &dyn Clock) -> bool {
    if keys.is_empty() {
        return true;
    }
    let (registry, now) = (Arc::clone(registry), clock.now());
    let noting = tokio::task::spawn_blocking(move || registry.refuse(&keys, now));
    let noted = noting.await.map_err(|error| error.to_string());
    match noted.and_then(|noted| noted.map_err(|error| keywheel_daemon::chain(&error))) {
        Ok(0) => true,
        Ok(count) => {
            tracing::info!(count, "keys of evicted hosts are refused on the bus");
            true
        }
        Err(error) => {
            tracing::error!(error, "keys of evicted hosts are not noted; trying again");
            false
        }
    }
}
