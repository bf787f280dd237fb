//! One life of the gateway: from a start over the log to its death, or to the end of the test.

use std::sync::Arc;

use keywheel_core::decision;
use keywheel_engine::command_bus::{CommandBus, Commit, Handle, Parts, Started, Submission};
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::state::View;
use keywheel_testkit::fake::{FakeClock, FakeIds};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cut::Log;

/// More turns than any run takes to come to rest.
const MOST_TURNS: u32 = 10_000;

pub(crate) struct Life {
    handle: Handle,
    pub(crate) view: View,
    commits: mpsc::Receiver<Commit>,
    task: JoinHandle<()>,
}

impl Life {
    /// Begins; no two lives draw the same ids.
    pub(crate) async fn begin(log: &Log, clock: &Arc<FakeClock>, number: u64) -> Self {
        let parts = Parts {
            journal: Arc::new(log.clone()),
            clock: clock.clone(),
            ids: Arc::new(FakeIds::of_source(number)),
            failpoint: |_| (),
        };
        let Started {
            bus,
            handle,
            view,
            commits,
        } = CommandBus::start(parts).await.unwrap();
        let task = tokio::spawn(async move { bus.run().await.unwrap() });
        Self {
            handle,
            view,
            commits,
            task,
        }
    }

    /// Goes on by itself until no run has anything to do now; false when it died.
    pub(crate) async fn settle(&mut self) -> Result<bool, String> {
        for _ in 0..MOST_TURNS {
            while self.commits.try_recv().is_ok() {}
            if self.task.is_finished() {
                return Ok(false);
            }
            let has_next = decision::next_run(&self.view.read().world).is_some();
            if !has_next {
                return Ok(true);
            }
            tokio::task::yield_now().await;
        }
        Err("a run never comes to rest".to_owned())
    }

    /// What it answers; nothing when it died before it did.
    pub(crate) async fn submit(
        &mut self,
        submission: Submission,
    ) -> Result<Option<Verdict>, String> {
        let failure = match self.handle.submit(submission).await {
            Ok(verdict) => return Ok(Some(verdict)),
            Err(failure) => failure,
        };
        for _ in 0..MOST_TURNS {
            if self.task.is_finished() {
                return Ok(None);
            }
            tokio::task::yield_now().await;
        }
        Err(failure.to_string())
    }
}
