//! Puts on record what a person did with the authorities at this gateway's machine, where nothing was asked of a
//! gateway.
//!
//! Each line of the ledger in the gateway's directory is a record; intent and outcome of a deed share their command.
//! Invariants: a line is recorded once, whichever gateway reads it, however often and after however many starts: its
//! record's id is made of the deed and its stage, and the journal takes an id once. An intent without an outcome is
//! closed only once nobody is at the deed any more, which the lock says. Lines that cannot be read are one record that
//! counts them and repeats nothing of them. The ledger is emptied when everything that it says is durable on the log, and
//! not before. A line says who ran the command by the kernel's word; who can write in the gateway's directory can say
//! more, and could sign for the gateway as well. What keeps the ledger from being taken up the gateway tells of itself
//! (`trouble`).

mod trouble;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::id::CommandId;
use keywheel_daemon::{chain, names};
use keywheel_engine::command_bus::Handle;
use keywheel_engine::port::PortError;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::journal::Journal;
use keywheel_identity::ledger::{LEDGER_FILE, Ledger, LedgerError, Line, Noted, Stage};
use keywheel_seal::digest;
use tokio_util::sync::CancellationToken;

pub use self::trouble::{DEEDS_FACT, Trouble, WithTrouble};
use crate::access::{Access, Peer};
use crate::deeds::ASKED;
use crate::denials::instant;

/// Pause between two looks at the ledger. One at an empty ledger is one call to the kernel.
pub const TURN: Duration = Duration::from_secs(5);
/// What ids are made of besides.
const CONTEXT: &[u8] = b"keywheel/at-machine/v1";
/// What the record of lines that cannot be read is called.
const READ: &str = "read-deeds";
/// The stage of a deed that nobody will end any more.
const ABANDONED: &str = "abandoned";
/// What is said of one.
const UNKNOWN: &str = "not known whether it was done: it ended before an outcome was on record";

/// Why the ledger cannot be taken up now.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The disk said no, or another thing stands in its place.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The log did.
    #[error(transparent)]
    Log(#[from] PortError),
    /// The process ends.
    #[error("the look at the ledger was stopped")]
    Stopped,
}

/// Takes the ledger up, as long as the gateway runs.
pub struct AtMachine {
    ledger: Ledger,
    journal: Arc<dyn Journal>,
    commands: Handle,
    clock: Arc<dyn Clock>,
    access: Access,
    /// Ids on record of lines that the ledger still has.
    known: BTreeSet<CommandId>,
    trouble: Trouble,
}

impl AtMachine {
    /// Nothing is taken up yet. `access` knows users' names.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        journal: Arc<dyn Journal>,
        commands: Handle,
        clock: Arc<dyn Clock>,
        access: Access,
    ) -> Self {
        Self {
            ledger,
            journal,
            commands,
            clock,
            access,
            known: BTreeSet::new(),
            trouble: Trouble::none(),
        }
    }

    /// What keeps it from taking the ledger up, as long as it runs.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Looks now and every [`TURN`], until told to stop. What cannot be recorded now is with the next turn.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_said = false;
        loop {
            match self.take_up().await {
                Ok(()) => is_said = false,
                Err(error) if !is_said => {
                    is_said = true;
                    tracing::warn!(
                        { names::ERROR } = chain(&error),
                        "what was done at this machine is not on record yet; trying again"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TURN) => {}
            }
        }
    }

    /// Puts on record what is noted, empties the ledger once all of it is there, and says what is in the way of that.
    pub(crate) async fn take_up(&mut self) -> Result<(), Fault> {
        let taken = self.put_on_record().await;
        self.trouble.say(&taken);
        taken
    }

    async fn put_on_record(&mut self) -> Result<(), Fault> {
        let ledger = self.ledger.clone();
        let Some(noted) = blocking(move || ledger.read()).await? else {
            self.known.clear();
            return Ok(());
        };
        for line in &noted.lines {
            let own = id_of(line, line.stage.word());
            if !self.is_known(own).await? {
                self.note(own, self.record(line)).await?;
            }
        }
        for line in noted.abandoned() {
            let own = id_of(line, ABANDONED);
            if !self.is_known(own).await? {
                self.note(own, self.closing(line)).await?;
            }
        }
        if noted.is_held {
            return Ok(());
        }
        if noted.unread > 0 {
            self.note_unread(&noted).await?;
        }
        let ledger = self.ledger.clone();
        if blocking(move || ledger.empty(&noted)).await? {
            self.known.clear();
        }
        Ok(())
    }

    async fn note_unread(&mut self, noted: &Noted) -> Result<(), PortError> {
        let own = made_of(READ, &noted.mark());
        if self.is_known(own).await? {
            return Ok(());
        }
        let unread = noted.unread;
        tracing::warn!(
            unread,
            "lines of the ledger were none of ours and are passed over"
        );
        self.note(own, self.passed_over(own, unread)).await
    }

    async fn is_known(&mut self, own: CommandId) -> Result<bool, PortError> {
        if self.known.contains(&own) {
            return Ok(true);
        }
        let is_known = self.journal.verdict(own).await?.is_some();
        if is_known {
            self.known.insert(own);
        }
        Ok(is_known)
    }

    async fn note(&mut self, own: CommandId, record: Record) -> Result<(), PortError> {
        self.commands.record_as(own, record).await?;
        self.known.insert(own);
        Ok(())
    }

    fn record(&self, line: &Line) -> Record {
        let (outcome, reason) = said(line);
        // The group decides nothing: whoever ran it could, by the rights of files.
        let peer = Peer::User {
            uid: line.uid,
            gid: u32::MAX,
        };
        Record {
            time: self.clock.now(),
            category: Category::Administration,
            principal: self.access.principal(&peer),
            verb: line.verb.word().to_owned(),
            object: line.object.clone(),
            version: None,
            outcome,
            reason,
            container: None,
            command: line.command,
            trace: String::new(),
        }
    }

    /// What the gateway says of a deed that nobody will end any more.
    fn closing(&self, intent: &Line) -> Record {
        Record {
            category: Category::System,
            principal: Principal::Service(Role::Gateway),
            outcome: Outcome::Rejected,
            reason: UNKNOWN.to_owned(),
            ..self.record(intent)
        }
    }

    /// What the gateway says of lines that it cannot read: how many, and nothing of what stands there.
    fn passed_over(&self, own: CommandId, lines: usize) -> Record {
        let (lines, are) = match lines {
            1 => ("1 line".to_owned(), "is none that this build writes"),
            more => (format!("{more} lines"), "are none that this build writes"),
        };
        Record {
            time: self.clock.now(),
            category: Category::System,
            principal: Principal::Service(Role::Gateway),
            verb: READ.to_owned(),
            object: LEDGER_FILE.to_owned(),
            version: None,
            outcome: Outcome::Rejected,
            reason: format!("passed over: {lines} of it on the gateway's machine {are}"),
            container: None,
            command: own,
            trace: String::new(),
        }
    }
}

/// How a line ended, and in which words.
fn said(line: &Line) -> (Outcome, String) {
    let (at, words) = (instant(line.time), &line.words);
    match line.stage {
        Stage::Asked if words.is_empty() => (
            Outcome::Allowed,
            format!("{ASKED} at {at} on the gateway's machine"),
        ),
        Stage::Asked => (
            Outcome::Allowed,
            format!("{ASKED} at {at} on the gateway's machine: {words}"),
        ),
        Stage::Done => (Outcome::Allowed, format!("done: {words}, at {at}")),
        Stage::Failed => (Outcome::Rejected, format!("failed: {words}, at {at}")),
    }
}

fn id_of(line: &Line, stage: &str) -> CommandId {
    made_of(stage, line.command.bytes())
}

fn made_of(stage: &str, of: &[u8]) -> CommandId {
    let parts = [CONTEXT, stage.as_bytes(), of];
    let each: Vec<u8> = parts.into_iter().flat_map(digest::sha256).collect();
    let hash = digest::sha256(&each);
    CommandId::from_bytes(hash.first_chunk().copied().unwrap_or_default())
}

async fn blocking<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, Fault> {
    let looked = tokio::task::spawn_blocking(look).await;
    Ok(looked.map_err(|_| Fault::Stopped)??)
}

#[cfg(test)]
mod tests;
