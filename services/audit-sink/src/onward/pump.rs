//! One sink's task: reads what it lacks from the copy, tells it, and notes how far it is.
//!
//! Invariants: a place is noted after the sink has the records, so a crash between tells them again and loses
//! none; an attempt ends at [`SEND_TIMEOUT`]; the wait before the next one grows to [`LONGEST_PAUSE`], and what is told
//! at once shrinks, so that a record which a sink does not take has no others told with it again and again.

use std::sync::Arc;
use std::time::Duration;

use keywheel_daemon::{chain, names};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::config::sinks::SinkFormat;
use tokio_util::sync::CancellationToken;

use super::line::{Line, leaf_hash};
use super::state::State;
use super::{Known, Target};
use crate::error::AuditSinkError;
use crate::file::File;

/// Records that are told at once.
pub const MAX_BATCH: usize = 256;
/// How long a sink may take for them.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait after a first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a sink is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    send: Duration,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            send: SEND_TIMEOUT,
            first_pause: FIRST_PAUSE,
            longest_pause: LONGEST_PAUSE,
        }
    }
}

/// The task of one sink.
pub(crate) struct Pump {
    pub(super) copy: File,
    pub(super) target: Box<dyn Target>,
    pub(super) format: SinkFormat,
    pub(super) state: Arc<State>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pace: Pace,
}

impl Pump {
    /// Its state, for whoever looks.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Tells records until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        let mut grown = self.copy.grown();
        let mut place = None;
        let mut pause = self.pace.first_pause;
        let mut most = MAX_BATCH;
        loop {
            match self.step(&mut place, most).await {
                Ok(next) => {
                    pause = self.pace.first_pause;
                    most = (most * 2).min(MAX_BATCH);
                    // Ends only with the copy, and so with this task.
                    let _size = grown.wait_for(|size| *size > next).await;
                }
                Err(error) => {
                    self.give_up(&error);
                    place = None;
                    most = (most / 2).max(1);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.pace.longest_pause);
                }
            }
        }
    }

    /// Tells one batch, if there is one; gives the first record that the sink lacks then.
    async fn step(&mut self, place: &mut Option<u64>, most: usize) -> Result<u64, PortError> {
        let next = match *place {
            Some(next) => next.max(self.copy.begins()),
            None => self.begin().await?,
        };
        *place = Some(next);
        self.note(next);
        let leaves = self.copy.read(next, most).await.map_err(unread)?;
        if leaves.is_empty() {
            self.state.is_well();
            return Ok(next);
        }
        let line = |leaf| Line::of(self.format, leaf);
        let lines: Vec<Line> = leaves.iter().map(line).collect();
        in_time(self.pace.send, self.target.tell(&lines)).await?;
        let next = next + lines.len() as u64;
        let name = self.state.name().to_owned();
        self.copy.advance(&name, next).await.map_err(unread)?;
        *place = Some(next);
        self.note(next);
        self.state.is_well();
        Ok(next)
    }

    /// Where to begin: where the sink says it is, or where it was when it was told last.
    async fn begin(&mut self) -> Result<u64, PortError> {
        let Some(known) = in_time(self.pace.send, self.target.known()).await? else {
            let name = self.state.name().to_owned();
            let next = self.copy.place(&name).await.map_err(unread)?;
            return Ok(next.max(self.copy.begins()));
        };
        self.compare(known).await?;
        Ok(known.next.max(self.copy.begins()))
    }

    /// Refuses to go on behind records that are not those of the copy: one of the two was changed or put back.
    async fn compare(&self, known: Known) -> Result<(), PortError> {
        let size = self.copy.size();
        let differs = if known.next > size {
            Some(format!(
                "it has {} records and the copy has {size}: the journal or the copy was cut or put back",
                known.next
            ))
        } else {
            let last = known.next.checked_sub(1).zip(known.leaf);
            let kept = match last {
                Some((at, _)) => self.copy.read(at, 1).await.map_err(unread)?,
                None => Vec::new(),
            };
            // Of what is before its beginning the copy knows nothing.
            let kept = kept
                .first()
                .filter(|kept| Some(kept.index) == last.map(|(at, _)| at));
            let other = last.zip(kept);
            let other = other.filter(|((_, leaf), kept)| *leaf != leaf_hash(&kept.bytes));
            other.map(|((at, _), _)| {
                format!("its record {at} is another one than the copy's: one of them was changed")
            })
        };
        let Some(differs) = differs else {
            return Ok(());
        };
        if self.state.differs(differs.clone()) {
            let sink = self.state.name();
            tracing::error!(
                { names::SINK } = sink,
                { names::REASON } = differs,
                "audit sink has other records"
            );
        }
        Err(PortError::new(ErrorKind::Corrupt, differs))
    }

    fn note(&self, next: u64) {
        let now = self.clock.monotonic();
        self.state.stands(next, self.copy.size(), now);
    }

    fn give_up(&mut self, error: &PortError) {
        self.target.reset();
        let now = self.clock.monotonic();
        self.state.still_stands(self.copy.size(), now);
        let reason = chain(error);
        if self.state.fails(reason.clone()) {
            let sink = self.state.name();
            tracing::warn!(
                { names::SINK } = sink,
                { names::ERROR } = reason,
                "audit sink does not take records; trying again"
            );
        }
    }
}

async fn in_time<T>(
    span: Duration,
    call: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    tokio::time::timeout(span, call).await.unwrap_or_else(|_| {
        let text = format!("it did not take records within {span:?}");
        Err(PortError::new(ErrorKind::Unavailable, text))
    })
}

fn unread(error: AuditSinkError) -> PortError {
    let text = "the copy cannot be read or written";
    PortError::caused(ErrorKind::Unavailable, text, error)
}

#[cfg(test)]
mod tests;
