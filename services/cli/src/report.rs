//! Reports on a run: what follows from their records, whether these are proven, and the page that shows both.
//!
//! Pure: no file, no server. Invariants: the summary and the page are functions of the records alone, so verifying is
//! making them anew and comparing; what a record says never becomes markup. It knows nothing of how records are
//! gathered: another kind of run is another [`Kind`] with its own summary.

mod check;
mod consumers;
mod marks;
mod names;
mod page;
mod parts;
mod playbook;
mod summary;
mod text;
mod words;

#[cfg(test)]
pub(crate) mod tests;

use keywheel_core::audit::Record;
use keywheel_core::event::Event;
use keywheel_schemas::event::EventMeta;

pub(crate) use check::{Fault, Finding, complete, verify};
pub(crate) use page::page;
use summary::summarise;
pub(crate) use text::{json, read};

/// What kind of run a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A revocation.
    Revocation,
    /// A rotation.
    Rotation,
    /// An eviction, by its host.
    Host,
    /// A run of a playbook, with all that its steps began.
    PlaybookRun,
}

impl Kind {
    /// The kind of this word.
    fn of(word: &str) -> Option<Self> {
        let all = [
            Self::Revocation,
            Self::Rotation,
            Self::Host,
            Self::PlaybookRun,
        ];
        all.into_iter().find(|kind| kind.word() == word)
    }

    /// As a report names it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::Rotation => "rotation",
            Self::Host => "host",
            Self::PlaybookRun => "playbook-run",
        }
    }

    /// As the subjects of its events begin.
    const fn aggregate(self) -> &'static str {
        match self {
            Self::PlaybookRun => "playbook_run",
            other => other.word(),
        }
    }

    /// The collection in the API's paths.
    pub(crate) const fn collection(self) -> &'static str {
        match self {
            Self::Revocation => "revocations",
            Self::Rotation => "rotations",
            Self::Host => "hosts",
            Self::PlaybookRun => "playbook-runs",
        }
    }
}

/// A report's records, read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Events in their order.
    events: Vec<(EventMeta, Event)>,
    /// Audit records with their places, in their order; the last one is the seal.
    records: Vec<(u64, Record)>,
}
