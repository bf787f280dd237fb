//! What waits to be decided: three bounded queues, so that no sort of request can crowd out another.
//!
//! Invariants: a revocation has places of its own and is taken before everything that waits; audit
//! records of requests without a command (denied, malformed, looks) never take a command's place;
//! within a queue the order is kept; no sort waits for ever behind another.

use keywheel_core::audit;
use keywheel_core::command::Command;
use keywheel_core::id::CommandId;
use keywheel_core::token;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Submission;
use crate::port::journal::Verdict;
use crate::port::{ErrorKind, PortError};

/// Most submits in one transaction.
pub const MAX_BATCH: usize = 128;
/// Most submits that wait for their turn; more are told to come back.
pub const MAX_WAITING: usize = 4096;
/// Places that only revocations and their outcomes take.
pub const MAX_URGENT: usize = 512;
/// Most audit records without a command that wait.
pub const MAX_RECORDS: usize = 1024;
/// Places of a batch that commands leave to such records.
const RECORDS_SHARE: usize = MAX_BATCH / 4;
/// Places of a batch that revocations leave to commands and records.
const OTHERS_SHARE: usize = MAX_BATCH / 2;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Its answer.
    pub verdict: Verdict,
    /// Whether it was decided before, and this is the answer of then.
    pub is_repeat: bool,
}

impl Decided {
    /// Of a command that was decided now.
    pub(super) const fn now(verdict: Verdict) -> Self {
        Self {
            verdict,
            is_repeat: false,
        }
    }

    /// Of a command that was decided before.
    pub(super) const fn before(verdict: Verdict) -> Self {
        Self {
            verdict,
            is_repeat: true,
        }
    }
}

/// Where the answer goes.
pub(super) type Answer = oneshot::Sender<Result<Decided, PortError>>;

/// What is asked of the deciding task.
pub(super) enum Request {
    /// What, and by which policies its sender may.
    Submit(Submission, Option<String>, Answer),
    /// A record, and the id that it is decided under.
    Record(Box<audit::Record>, CommandId, Answer),
    /// Nothing but to be at the log's head.
    Look(Answer),
}

impl Request {
    /// Tells its sender, who may be gone.
    pub(super) fn answer(self, answer: Result<Decided, PortError>) {
        let (Self::Submit(_, _, sender) | Self::Record(_, _, sender) | Self::Look(sender)) = self;
        let _gone = sender.send(answer);
    }
}

/// Submits commands; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    urgent: mpsc::Sender<Request>,
    commands: mpsc::Sender<Request>,
    records: mpsc::Sender<Request>,
    shared: bool,
}

impl Handle {
    /// Waits until the view is at least where the log ended when this was called. With nobody else to
    /// append it is there already.
    ///
    /// # Errors
    /// When the log cannot be reached, or too many submits wait.
    pub async fn look_at_head(&self) -> Result<(), PortError> {
        if !self.shared {
            return Ok(());
        }
        let (sender, answer) = oneshot::channel();
        place(&self.commands, Request::Look(sender), || {
            format!("{MAX_WAITING} commands wait already; try again in a moment")
        })?;
        answer.await.map_err(|_| gone())?.map(|_| ())
    }

    /// Submits a command and waits until it is decided and durable.
    ///
    /// # Errors
    /// When it could not be made durable, or too many submits wait.
    pub async fn submit(&self, submission: Submission) -> Result<Verdict, PortError> {
        Ok(self.decide(submission).await?.verdict)
    }

    /// Does what [`Self::submit`] does, and tells whether the answer is one that was given before.
    ///
    /// # Errors
    /// When it could not be made durable, or too many submits wait.
    pub async fn decide(&self, submission: Submission) -> Result<Decided, PortError> {
        self.decide_admitted(submission, None).await
    }

    /// The same of a command that policies let in: its records name them.
    ///
    /// # Errors
    /// When it could not be made durable, or too many submits wait.
    pub async fn decide_admitted(
        &self,
        submission: Submission,
        by: Option<String>,
    ) -> Result<Decided, PortError> {
        let (queue, limit) = match submission.command {
            Command::Revoke { .. }
            | Command::RevokeOutcome { .. }
            | Command::RetryRevoke { .. }
            | Command::ProofOutcome { .. }
            | Command::ForgetRevocation { .. }
            | Command::Replace(_)
            | Command::LingerEnded { .. }
            | Command::EvictHost { .. }
            | Command::Token(token::Request::Revoke { .. }) => (&self.urgent, MAX_URGENT),
            _ => (&self.commands, MAX_WAITING),
        };
        let (sender, answer) = oneshot::channel();
        place(queue, Request::Submit(submission, by, sender), || {
            format!("{limit} commands wait already; try again in a moment")
        })?;
        answer.await.map_err(|_| gone())?
    }

    /// Makes an audit record durable that belongs to no command: a denied or malformed request.
    ///
    /// # Errors
    /// When it could not be made durable; then the request must not be answered with more.
    pub async fn record(&self, record: audit::Record) -> Result<(), PortError> {
        let own = record.command;
        self.record_as(own, record).await
    }

    /// The same of a record about a command that has one already: it is decided under an id of its own.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn record_as(&self, own: CommandId, record: audit::Record) -> Result<(), PortError> {
        let (sender, answer) = oneshot::channel();
        place(
            &self.records,
            Request::Record(Box::new(record), own, sender),
            || format!("{MAX_RECORDS} audit records wait already; try again in a moment"),
        )?;
        answer.await.map_err(|_| gone())?.map(|_| ())
    }
}

fn place(
    queue: &mpsc::Sender<Request>,
    request: Request,
    full: impl FnOnce() -> String,
) -> Result<(), PortError> {
    queue.try_send(request).map_err(|error| match error {
        TrySendError::Full(_) => PortError::new(ErrorKind::Unavailable, full()),
        TrySendError::Closed(_) => gone(),
    })
}

fn gone() -> PortError {
    PortError::new(
        ErrorKind::Unavailable,
        "the gateway is shutting down; try again",
    )
}

/// The deciding task's end.
pub(super) struct Inbox {
    urgent: mpsc::Receiver<Request>,
    commands: mpsc::Receiver<Request>,
    records: mpsc::Receiver<Request>,
}

/// Both ends; `shared` when other processes append to the same log.
pub(super) fn inbox(shared: bool) -> (Handle, Inbox) {
    let (urgent, urgent_inbox) = mpsc::channel(MAX_URGENT);
    let (commands, commands_inbox) = mpsc::channel(MAX_WAITING);
    let (records, records_inbox) = mpsc::channel(MAX_RECORDS);
    let handle = Handle {
        urgent,
        commands,
        records,
        shared,
    };
    let inbox = Inbox {
        urgent: urgent_inbox,
        commands: commands_inbox,
        records: records_inbox,
    };
    (handle, inbox)
}

impl Inbox {
    /// What is decided next, in this order; `None` when every handle is gone and nothing waits.
    pub(super) async fn next_batch(&mut self) -> Option<Vec<Request>> {
        let first = tokio::select! {
            biased;
            Some(request) = self.urgent.recv() => request,
            Some(request) = self.commands.recv() => request,
            Some(request) = self.records.recv() => request,
            else => return None,
        };
        let mut batch = vec![first];
        take(&mut self.urgent, &mut batch, MAX_BATCH - OTHERS_SHARE);
        take(&mut self.commands, &mut batch, MAX_BATCH - RECORDS_SHARE);
        take(&mut self.records, &mut batch, MAX_BATCH);
        // What the others left free.
        take(&mut self.urgent, &mut batch, MAX_BATCH);
        take(&mut self.commands, &mut batch, MAX_BATCH);
        Some(batch)
    }
}

fn take(queue: &mut mpsc::Receiver<Request>, batch: &mut Vec<Request>, until: usize) {
    while batch.len() < until {
        let Ok(request) = queue.try_recv() else {
            return;
        };
        batch.push(request);
    }
}

#[cfg(test)]
mod tests;
