//! The exporter: takes ended spans from the queue and tells them to the collector, in batches.
//!
//! Invariants: a batch that is not taken within [`MAX_ATTEMPTS`] is dropped and counted; at the stop what
//! is queued is told once more, within [`FLUSH_TIMEOUT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hyper::body::Bytes;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Client, ClientError};
use super::headers::Headers;
use super::wire::{self, Export};
use super::{Counts, Ended, MAX_QUEUED, SINK, Sink, names};
use crate::endpoint::Source;
use crate::page::Page;

/// Most spans told at once.
pub const MAX_BATCH: usize = 512;
/// How long spans may take to be told at the stop.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the stop waits for the exporter at all, a batch that is under way included.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(500);
/// How long the collector may take for a batch.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is told at most.
const MAX_ATTEMPTS: u32 = 4;
/// Wait before the second time; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What every span of a process has in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its machine.
    pub machine: String,
    /// Its version.
    pub version: &'static str,
}

/// Who is told spans.
#[derive(Debug)]
pub struct Collector {
    /// Its base address.
    pub endpoint: String,
    /// What each request says besides.
    pub headers: Headers,
    /// Whether spans are compressed on their way.
    pub gzip: bool,
}

/// How many spans this process told, and how many it did not.
#[derive(Debug, Clone, Copy)]
pub struct SpanCounts;

#[async_trait]
impl Source for SpanCounts {
    async fn read(&self, page: &mut Page) {
        let of = |count: fn(&Counts) -> &AtomicU64| {
            let sink = SINK.get();
            sink.map_or(0, |sink| count(&sink.counts).load(Ordering::Relaxed))
        };
        let (exported, dropped) = (of(|all| &all.exported), of(|all| &all.dropped));
        page.count(&crate::names::SPANS_EXPORTED, &[], exported);
        page.count(&crate::names::SPANS_DROPPED, &[], dropped);
    }
}

/// A running exporter.
pub struct Exporting {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Tells what is queued, and ends. Whatever makes spans has ended before.
    pub async fn finish(self) {
        self.stop.cancel();
        // A collector that hangs does not hold the process.
        let _ended = tokio::time::timeout(STOP_TIMEOUT, self.task).await;
    }
}

/// Starts the exporter of this process; a second one tells nothing.
///
/// # Errors
/// When the address is none, or headers would go to it in the clear.
pub fn start(
    collector: Collector,
    resource: Resource,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
) -> Result<Exporting, ClientError> {
    let (sender, queue) = mpsc::channel(MAX_QUEUED);
    let counts = Arc::new(Counts::default());
    let stop = CancellationToken::new();
    let exporter = Exporter {
        client: Client::new(collector)?,
        instance: hex(&ids.draw()),
        resource,
        queue,
        counts: Arc::clone(&counts),
        stop: stop.clone(),
        is_failing: false,
    };
    // One is enough; a second queue has no sender and ends at once.
    let _second = SINK.set(Sink {
        queue: sender,
        clock,
        ids,
        counts,
    });
    Ok(Exporting {
        stop,
        task: tokio::spawn(exporter.run()),
    })
}

struct Exporter {
    client: Client,
    instance: String,
    resource: Resource,
    queue: mpsc::Receiver<Ended>,
    counts: Arc<Counts>,
    stop: CancellationToken,
    is_failing: bool,
}

impl Exporter {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while !stop.is_cancelled() && self.fill(&mut batch).await {
            let spans = std::mem::take(&mut batch);
            self.tell(spans).await;
        }
        let flush = async {
            loop {
                while batch.len() < MAX_BATCH
                    && let Ok(span) = self.queue.try_recv()
                {
                    batch.push(span);
                }
                if batch.is_empty() {
                    return;
                }
                let spans = std::mem::take(&mut batch);
                self.tell(spans).await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flush).await.is_err() {
            tracing::warn!("spans not told before the stop");
        }
    }

    /// Waits for spans; `false` when there will be none.
    async fn fill(&mut self, batch: &mut Vec<Ended>) -> bool {
        let taken = tokio::select! {
            () = self.stop.cancelled() => return false,
            taken = self.queue.recv_many(batch, MAX_BATCH) => taken,
        };
        let end = tokio::time::sleep(LINGER);
        tokio::pin!(end);
        while taken > 0 && batch.len() < MAX_BATCH {
            let room = MAX_BATCH - batch.len();
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = end.as_mut() => break,
                more = self.queue.recv_many(batch, room) => if more == 0 { break },
            }
        }
        taken > 0
    }

    async fn tell(&mut self, spans: Vec<Ended>) {
        let count = spans.len() as u64;
        let body = self.client.packed(self.export(spans).encode_to_vec());
        match self.post(body).await {
            Ok(()) => {
                self.counts.exported.fetch_add(count, Ordering::Relaxed);
                self.is_failing = false;
            }
            Err(reason) => {
                self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(count, reason, "spans dropped; look at the collector");
                }
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let posted = tokio::time::timeout(POST_TIMEOUT, self.client.post(body.clone())).await;
            let (reason, may_pass) = match posted {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => (chain(&error), error.may_pass()),
                Err(_) => {
                    let at = self.client.authority();
                    (format!("{at} did not answer in time"), true)
                }
            };
            if !may_pass || attempt >= MAX_ATTEMPTS || self.stop.is_cancelled() {
                return Err(reason);
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait *= 2;
            attempt += 1;
        }
    }

    fn export(&self, spans: Vec<Ended>) -> Export {
        let mut by_service: BTreeMap<&'static str, Vec<Ended>> = BTreeMap::new();
        for span in spans {
            by_service.entry(span.service).or_default().push(span);
        }
        let of = |(service, spans): (&str, Vec<Ended>)| {
            let resource = self.resource_of(service);
            wire::of_service(resource, self.resource.version, spans.into_iter())
        };
        Export {
            resource_spans: by_service.into_iter().map(of).collect(),
        }
    }

    fn resource_of(&self, service: &str) -> wire::Resource {
        let said: [(&str, String); 5] = [
            (names::SERVICE_NAME, format!("keywheel-{service}")),
            (names::SERVICE_NAMESPACE, names::SYSTEM.to_owned()),
            (names::SERVICE_INSTANCE_ID, self.instance.clone()),
            (names::SERVICE_VERSION, self.resource.version.to_owned()),
            (names::HOST_NAME, self.resource.machine.clone()),
        ];
        let attributes = said.into_iter();
        wire::Resource {
            attributes: attributes
                .map(|(key, text)| wire::attribute(key, text.into()))
                .collect(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An error and its source, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
