//! Keeping up with a log that others append to: read what is new, fold it, hand it on.
//!
//! Invariants: afterwards the draft is the committed world and nothing else; what another process
//! appended is handed on exactly as if it had been appended here, with the work it asks for, so that
//! whoever's turn it is can tell the world. It appends nothing.

use std::time::Duration;

use tokio::sync::watch;

use super::effects::react;
use super::inbox::Request;
use super::{CommandBus, Commit};
use crate::port::journal::{MAX_READ, Mark, RecordedEvent, Verdict};
use crate::port::{ErrorKind, PortError};

/// How often a log that others append to is looked at although no bell rang.
pub const FOLLOW_INTERVAL: Duration = Duration::from_secs(5);

/// Waits for the next ring; for ever when nobody else can append.
pub(super) async fn rung(bell: &mut Option<watch::Receiver<Mark>>) {
    if let Some(ringing) = bell
        && ringing.changed().await.is_ok()
    {
        return;
    }
    // Nobody rings any more; the slow look goes on.
    std::future::pending().await
}

impl CommandBus {
    /// The answer to whoever asks for a single record that is there already: another process was first, and gave it
    /// the same id.
    pub(super) async fn on_record(&self, requests: &[Request]) -> Option<Verdict> {
        let [Request::Record(_, own, _)] = requests else {
            return None;
        };
        let known = self.parts.journal.verdict(*own).await;
        known.ok().flatten()
    }

    /// Reads and folds everything behind the committed state.
    pub(super) async fn follow(&mut self) -> Result<(), PortError> {
        self.go_back();
        loop {
            let after = self.next - 1;
            let events = self.parts.journal.read(after, MAX_READ).await?;
            if events.is_empty() {
                return Ok(());
            }
            self.take_over(events).await;
        }
    }

    /// Follows on a bell's ring or a slow look; a server that is away now is asked again later.
    pub(super) async fn keep_up(&mut self, heard: Option<Mark>) -> Result<(), PortError> {
        match self.follow().await {
            Err(error) if error.kind == ErrorKind::Unavailable => {
                tracing::warn!(%error, "cannot follow the log now");
                return Ok(());
            }
            followed => followed?,
        }
        // Audit records without an event: there is nothing to fold, and something to tell.
        if heard.is_some_and(|heard| heard.audit_size > self.audit_size) {
            self.audit_size = heard.map_or(0, |heard| heard.audit_size);
            // Who follows the audit here sees what was recorded elsewhere.
            self.writer.ring();
            self.hand_on(Commit {
                events: Vec::new(),
                effects: Vec::new(),
                hosts: Vec::new(),
                audited: true,
            })
            .await;
        }
        Ok(())
    }

    /// Throws away what was decided and not appended.
    pub(super) fn go_back(&mut self) {
        let next = self.writer.number() + 1;
        if self.next != next {
            self.draft = self.writer.draft();
            self.next = next;
        }
    }

    async fn take_over(&mut self, events: Vec<RecordedEvent>) {
        let mut effects = Vec::new();
        for event in &events {
            self.draft.note_time(event.time);
            self.draft.apply(event.number, &event.event);
            self.next = event.number + 1;
            effects.extend(react(&self.draft, &event.event));
        }
        let hosts = self.make_committed(&events);
        self.hand_on(Commit {
            events,
            effects,
            hosts,
            audited: true,
        })
        .await;
    }

    /// Hands a commit to whoever tells the world; that only ends with the process.
    pub(super) async fn hand_on(&self, commit: Commit) {
        let _gone = self.commits.send(commit).await;
    }
}
