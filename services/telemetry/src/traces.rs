//! Spans: what services say of their work, told to an OpenTelemetry collector.
//!
//! A span is made where the work is done, from the trace context that came with it, and told when it is
//! dropped. One exporter per process, as one logger; where none was started a span is nothing and hands
//! on the context that it was given. Invariants: making and ending a span never waits; what the queue
//! does not take is counted and dropped; texts are cut at [`MAX_TEXT_CHARS`]; an attribute never holds
//! a value of a secret.

mod client;
mod export;
mod headers;
pub mod names;
mod wire;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::trace::Context;
use tokio::sync::mpsc;

pub use client::ClientError;
pub use export::{Collector, Exporting, FLUSH_TIMEOUT, MAX_BATCH, Resource, SpanCounts, start};
pub use headers::{Headers, HeadersError, MAX_HEADERS, MAX_HEADERS_BYTES};

/// Spans that wait for the exporter; more are dropped and counted.
pub const MAX_QUEUED: usize = 4096;
/// Longest text of an attribute, a name or a status, in characters.
pub const MAX_TEXT_CHARS: usize = 256;
/// Most attributes of one span.
pub const MAX_ATTRIBUTES: usize = 16;

/// What part a span plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work within a service.
    Internal,
    /// A request that is answered.
    Server,
    /// A request that is made.
    Client,
    /// Work that is taken from a topic.
    Consumer,
}

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text; it is cut where it is too long.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(cut(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(cut(&text))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    service: &'static str,
    name: Cow<'static, str>,
    kind: Kind,
    own: Context,
    parent: Option<[u8; 8]>,
    start: Timestamp,
    end: Timestamp,
    attributes: Vec<(&'static str, Value)>,
    error: Option<String>,
}

/// Where ended spans go.
struct Sink {
    queue: mpsc::Sender<Ended>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    counts: Arc<Counts>,
}

/// What became of spans.
#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Work under way; told when it is dropped.
#[derive(Debug, Default)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    /// What follows from it stands there.
    place: Option<Context>,
    open: Option<Box<Ended>>,
    /// Its end was told.
    is_over: bool,
}

impl Span {
    /// Below a context that came with the work; nothing where none came, or where the trace is not
    /// recorded.
    pub fn below(
        service: &'static str,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        above: Option<Context>,
    ) -> Self {
        let Some((sink, above)) = SINK.get().zip(above) else {
            return Self::nothing(above);
        };
        let own = above.at(draw(&*sink.ids));
        Self::at(service, name, kind, own, Some(above.span))
    }

    /// The first of a trace of its own. The trace is drawn also where no spans are told: events and log
    /// lines name it.
    pub fn root(
        service: &'static str,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        ids: &dyn Ids,
    ) -> Self {
        let own = Context::new(ids.draw(), draw(ids));
        Self::at(service, name, kind, own, None)
    }

    /// At a place that was chosen before.
    pub fn at(
        service: &'static str,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        own: Context,
        parent: Option<[u8; 8]>,
    ) -> Self {
        let Some(sink) = SINK.get().filter(|_| own.is_sampled) else {
            return Self::nothing(Some(own));
        };
        let start = sink.clock.now();
        let open = Ended {
            service,
            name: name.into(),
            kind,
            own,
            parent,
            start,
            end: start,
            attributes: Vec::new(),
            error: None,
        };
        Self {
            place: Some(own),
            open: Some(Box::new(open)),
            is_over: false,
        }
    }

    const fn nothing(place: Option<Context>) -> Self {
        Self {
            place,
            open: None,
            is_over: false,
        }
    }

    /// Where what follows from it stands: below it, or below what is above it where it is nothing.
    #[must_use]
    pub const fn context(&self) -> Option<Context> {
        self.place
    }

    /// [`Self::context`] as it travels.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        self.place.as_ref().map(Context::to_string)
    }

    /// Says something of it; what is over [`MAX_ATTRIBUTES`] is left out.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.open
            && open.attributes.len() < MAX_ATTRIBUTES
        {
            open.attributes.push((key, value.into()));
        }
    }

    /// [`Self::set`], for a chain of them.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    /// It failed: what sort of failure, in one word, and why.
    pub fn fail(&mut self, word: &'static str, reason: &str) {
        self.set(names::ERROR_TYPE, word);
        if let Some(open) = &mut self.open {
            open.error = Some(cut(reason));
        }
    }

    /// It began before it was made here.
    pub fn since(mut self, start: Timestamp) -> Self {
        if let Some(open) = &mut self.open {
            open.start = start;
        }
        self
    }

    /// It is not told: nothing was done.
    pub fn cancel(mut self) {
        self.open = None;
    }

    /// It ended before it is dropped here.
    pub fn until(mut self, end: Timestamp) -> Self {
        if let Some(open) = &mut self.open {
            open.end = end;
            self.is_over = true;
        }
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some((mut open, sink)) = self.open.take().zip(SINK.get()) else {
            return;
        };
        if !self.is_over {
            open.end = sink.clock.now();
        }
        open.end = open.end.max(open.start);
        if sink.queue.try_send(*open).is_err() {
            sink.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether spans are told.
#[must_use]
pub fn is_on() -> bool {
    SINK.get().is_some()
}

fn draw(ids: &dyn Ids) -> [u8; 8] {
    let [.., a, b, c, d, e, f, g, h] = ids.draw();
    let drawn = [a, b, c, d, e, f, g, h];
    if drawn == [0; 8] { [1; 8] } else { drawn }
}

#[cfg(test)]
mod tests;
