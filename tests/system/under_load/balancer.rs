//! Clients of a service of several replicas, behind what a balancer does: it sends nobody to a replica whose
//! health check fails, and a request of which no byte of an answer came goes to the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use keywheel_tests::stage::PATIENCE;
use keywheel_tests::wait;

use crate::app::fetch;

/// Clients at once, and the pause of each between two requests.
const CLIENTS: usize = 2;
const PAUSE: Duration = Duration::from_millis(5);

/// What a client saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests that were answered well.
    pub(crate) done: u64,
    /// Requests that were not.
    pub(crate) failed: u64,
    /// Replicas that had just gone when they were asked.
    pub(crate) passed_on: u64,
    /// Why the first of them failed.
    pub(crate) why: Option<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.passed_on += other.passed_on;
        self.why = self.why.take().or(other.why);
    }

    /// One request, begun at the replica that has the turn.
    fn request(&mut self, replicas: &[PathBuf], turn: usize) {
        let mut why = "no replica is well".to_owned();
        for at in 0..replicas.len() {
            let Some(replica) = replicas.get((turn + at) % replicas.len()) else {
                continue;
            };
            if !is_well(replica) {
                continue;
            }
            match fetch(replica, "/query") {
                Ok((200, _)) => {
                    self.done += 1;
                    return;
                }
                // It was answered, so nobody else is asked.
                Ok((status, body)) => {
                    why = format!("{status}: {body}");
                    break;
                }
                Err(error) => {
                    self.passed_on += 1;
                    why = format!("{error:#}");
                }
            }
        }
        self.failed += 1;
        self.why.get_or_insert(why);
    }
}

fn is_well(replica: &Path) -> bool {
    fetch(replica, "/health").is_ok_and(|(status, _)| status == 200)
}

/// Running clients.
pub(crate) struct Balancer {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Balancer {
    pub(crate) fn begin(replicas: &[PathBuf]) -> Self {
        let (stop, requests) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |number: usize| {
            let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
            let replicas = replicas.to_vec();
            thread::spawn(move || {
                let mut tally = Tally::default();
                let mut turn = number;
                while !stop.load(Ordering::Relaxed) {
                    tally.request(&replicas, turn);
                    requests.fetch_add(1, Ordering::Relaxed);
                    turn += 1;
                    thread::sleep(PAUSE);
                }
                tally
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self {
            stop,
            requests,
            clients,
        }
    }

    /// Waits until so many more requests were made.
    pub(crate) fn wait_more(&self, more: u64) -> Result<()> {
        let wanted = self.requests.load(Ordering::Relaxed) + more;
        wait::until_true("requests of the clients", PATIENCE, || {
            Ok(self.requests.load(Ordering::Relaxed) >= wanted)
        })
    }

    /// Ends them, and tells what they saw. None may have failed.
    pub(crate) fn end(mut self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for client in std::mem::take(&mut self.clients) {
            tally.add(client.join().map_err(|_| anyhow!("a client panicked"))?);
        }
        ensure!(tally.failed == 0, "{tally:?}");
        Ok(tally)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
