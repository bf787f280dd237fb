//! What keeps the ledger from being taken up, as its gateway tells it of itself.
//!
//! Nothing while it is taken up: then there is nothing to do for anybody. What changes is told at once, to every gateway,
//! and nothing that stands in the ledger is told.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_daemon::chain;
use keywheel_engine::presence::{Fact, Look, Seen};
use keywheel_identity::ledger::LedgerError;
use tokio::sync::{Mutex, watch};

use super::Fault;

/// Name of the fact.
pub const DEEDS_FACT: &str = "deeds";
/// What to do about a file that is none of ours.
const STRANGE_NEXT: &str = "look who put it there, and keep it; then give it to the directory's owner with mode 0600, or move it away: it is looked at again every five seconds";
/// What to do about a disk, or about rights.
const UNREAD_NEXT: &str = "let the gateway's own user read and write that file, and look at its disk; it is looked at again every five seconds";
/// What to do about a log that takes nothing.
const UNLOGGED_NEXT: &str = "put right what is named there; until then it stays in the file and is tried again every five seconds, so leave that where it is";

/// What is in the way now; clones are one.
#[derive(Debug, Clone)]
pub struct Trouble(Arc<watch::Sender<Option<Fact>>>);

impl Trouble {
    pub(super) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Takes what came of a look at the ledger; rings when that is another thing than before.
    pub(super) fn say(&self, looked: &Result<(), Fault>) {
        let next = looked.as_ref().err().and_then(fact);
        self.0.send_if_modified(|known| {
            let is_new = *known != next;
            *known = next;
            is_new
        });
    }

    fn fact(&self) -> Option<Fact> {
        self.0.borrow().clone()
    }
}

/// Nothing of a look that ended with the process.
fn fact(fault: &Fault) -> Option<Fact> {
    let note = format!(
        "what was done with the authorities at this machine cannot be put on record: {}",
        chain(fault)
    );
    match fault {
        Fault::Ledger(LedgerError::Strange { .. }) => {
            Some(Fact::problem(DEEDS_FACT, note, STRANGE_NEXT))
        }
        Fault::Ledger(_) => Some(Fact::problem(DEEDS_FACT, note, UNREAD_NEXT)),
        Fault::Log(_) => Some(Fact::warning(DEEDS_FACT, note, UNLOGGED_NEXT)),
        Fault::Stopped => None,
    }
}

/// A gateway's look at itself, and what keeps its ledger from being taken up.
pub struct WithTrouble {
    look: Arc<dyn Look>,
    trouble: Trouble,
    bell: Mutex<watch::Receiver<Option<Fact>>>,
}

impl WithTrouble {
    /// Over this look.
    #[must_use]
    pub fn new(look: Arc<dyn Look>, trouble: Trouble) -> Self {
        Self {
            bell: Mutex::new(trouble.0.subscribe()),
            look,
            trouble,
        }
    }

    /// Comes back when the trouble is another.
    async fn rung(&self) {
        let rung = self.bell.lock().await.changed().await;
        if rung.is_err() {
            // It cannot be: whoever rings is kept here.
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Look for WithTrouble {
    async fn look(&self) -> Seen {
        let mut seen = self.look.look().await;
        if let Some(fact) = self.trouble.fact() {
            // First, so that it is among those that are told.
            seen.facts.insert(0, fact);
        }
        seen
    }

    async fn changed(&self) {
        tokio::select! {
            () = self.look.changed() => {}
            () = self.rung() => {}
        }
    }
}
