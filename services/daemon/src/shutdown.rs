//! Orderly stopping: one token that everyone watches, one tracker that waits for everyone.
//!
//! Invariant: a task spawned here is waited for by [`Shutdown::drain`]; nobody else spawns.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::names;

/// How long tasks may take to end after they were asked to.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Signals could not be listened for.
#[derive(Debug, thiserror::Error)]
#[error("signal handlers not installed")]
pub struct SignalError(#[source] std::io::Error);

/// A request to stop, shared by everything that runs; clones are one.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nothing runs and nobody asked to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The token itself, for libraries that take one.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Asks everyone to stop; a repeat changes nothing.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Runs a task that is waited for at the end.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Runs blocking work that is waited for at the end.
    pub fn spawn_blocking<F, T>(&self, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.tasks.spawn_blocking(work)
    }

    /// Asks everyone to stop when SIGINT or SIGTERM arrives.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signals(&self) -> Result<(), SignalError> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(SignalError)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(SignalError)?;
        let token = self.token.clone();
        self.spawn(async move {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
                () = token.cancelled() => return,
            };
            tracing::info!({ names::SIGNAL } = name, "stopping");
            token.cancel();
        });
        Ok(())
    }

    /// Asks everyone to stop and waits for them; `false` when some still run after `grace`.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.request();
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn draining_waits_for_tasks_that_watch_the_token() {
        let shutdown = Shutdown::new();
        let watched = shutdown.clone();
        let task = shutdown.spawn(async move {
            watched.requested().await;
            7
        });
        assert!(!shutdown.is_requested());
        assert!(shutdown.drain(DEFAULT_GRACE).await);
        assert_eq!(task.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_reported_after_the_grace() {
        let shutdown = Shutdown::new();
        let task = shutdown.spawn(std::future::pending::<()>());
        assert!(!shutdown.drain(Duration::from_millis(20)).await);
        task.abort();
    }

    #[tokio::test]
    async fn sigterm_asks_everyone_to_stop() {
        let shutdown = Shutdown::new();
        shutdown.on_signals().unwrap();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(120), shutdown.requested()).await;
        assert!(waited.is_ok() && shutdown.is_requested());
    }
}
