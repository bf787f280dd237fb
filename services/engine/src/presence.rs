//! Presence: what every running instance of a service tells about itself, so that `status` can show
//! all of a deployment. [`Beat`] tells it, [`Table`] keeps the newest of each instance.
//!
//! Invariants: presence is signed like everything, says nothing that is secret, and is in no log: it
//! is lost without harm, and an instance that is not heard for [`SILENT_AFTER`] counts as silent.
//! What an instance tells is bounded; so is what a gateway keeps. It decides nothing: who is alive
//! has no influence on what may be done, but for sinks of the audit where some are asked for (rule A1):
//! with fewer that say that they take records no new work begins, so that not being heard permits nothing.

mod beat;
mod memory;
mod table;

use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_core::time::Timestamp;

pub use beat::{About, Beat};
pub use memory::{MEMORY_FACT, WithMemory};
pub use table::{Heard, Row, Table};

/// How often an instance tells.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(10);
/// An instance that was not heard for so long is silent: three beats, and time on the way.
pub const SILENT_AFTER: Duration = Duration::from_secs(35);
/// A silent instance is forgotten after so long.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Instances of one service role that are kept.
pub const MAX_INSTANCES: usize = 32;
/// Hosts whose injector is kept.
pub const MAX_HOSTS: usize = 16_384;
/// Facts one instance tells.
pub const MAX_FACTS: usize = 32;
/// Longest text of a fact, in characters.
pub const MAX_TEXT_CHARS: usize = 500;

/// Name of the fact with which a store-sync says whether it has its unseal key.
pub const SEAL_FACT: &str = "seal";
/// Name of the fact with which a store-sync says which root key opened its cache: `RootKey::words`.
pub const ROOT_KEY_FACT: &str = "root key";
/// Name of the fact with what the audit's second copy says against the journal.
pub const COPY_FACT: &str = "copy";
/// A fact about a sink of the audit begins so; a problem does not count among those that take records.
pub const SINK_FACT: &str = "sink ";
/// Name of the fact with which an audit sink says which set of sinks it was given: `sha256:` and the digest, first.
pub const SINK_SET_FACT: &str = "sinks";
/// Name of the fact with which an instance says why it ended.
pub const ENDED_FACT: &str = "ended";

/// How a thing is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Health {
    /// As it should be.
    #[default]
    Ok,
    /// It cannot be known from here.
    Unknown,
    /// It works, and a person should know.
    Warning,
    /// It does not work, and a person has to act.
    Problem,
}

/// One thing an instance tells about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What, in a word or two.
    pub name: String,
    /// How it is.
    pub health: Health,
    /// That in words.
    pub note: String,
    /// What to do about it.
    pub next: Option<String>,
}

impl Fact {
    /// Something that is as it should be.
    pub fn ok(name: &str, note: impl Into<String>) -> Self {
        Self::of(name, Health::Ok, note, None)
    }

    /// Something that cannot be known, and how it could be.
    pub fn unknown(name: &str, note: impl Into<String>, next: impl Into<String>) -> Self {
        Self::of(name, Health::Unknown, note, Some(next.into()))
    }

    /// Something a person should know, with the next step.
    pub fn warning(name: &str, note: impl Into<String>, next: impl Into<String>) -> Self {
        Self::of(name, Health::Warning, note, Some(next.into()))
    }

    /// Something that does not work, with the next step.
    pub fn problem(name: &str, note: impl Into<String>, next: impl Into<String>) -> Self {
        Self::of(name, Health::Problem, note, Some(next.into()))
    }

    fn of(name: &str, health: Health, note: impl Into<String>, next: Option<String>) -> Self {
        let cut = |text: String| text.chars().take(MAX_TEXT_CHARS).collect();
        Self {
            name: name.to_owned(),
            health,
            note: cut(note.into()),
            next: next.map(cut),
        }
    }
}

/// How far an instance has read or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Number of the last event it knows.
    Event(u64),
    /// Audit records it keeps.
    AuditRecords(u64),
    /// Generation of the plan it works on.
    Plan(u64),
}

/// An instance's connection to the bus server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BusEnd {
    /// Whether there is one.
    pub connected: bool,
    /// What the bus server says it is.
    pub server_version: String,
    /// Connects since the start.
    pub connects: u64,
    /// Messages that this end refused.
    pub refused: u64,
    /// What is not as it must be, or what the bus server refused last.
    pub problem: Option<String>,
}

/// What an instance finds when it looks at itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// How far it is.
    pub reached: Option<Reached>,
    /// Everything else.
    pub facts: Vec<Fact>,
}

/// What one instance tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Its role; the sender's.
    pub role: Role,
    /// Its host, if it is an injector; the sender's.
    pub host: Option<HostId>,
    /// This run of it.
    pub instance: [u8; 16],
    /// The machine it runs on, as that calls itself.
    pub machine: String,
    /// Its version.
    pub version: String,
    /// When it started, by its clock.
    pub started: Timestamp,
    /// When it said this, by its clock.
    pub sent: Timestamp,
    /// Whether it ends on purpose with this.
    pub leaving: bool,
    /// When its credentials end.
    pub certificate_end: Option<Timestamp>,
    /// Its connection to the bus server; `None` inside one process.
    pub bus: Option<BusEnd>,
    /// What it found.
    pub seen: Seen,
}

/// Looks at a service, for a beat. Quick: it may ask its own store, never another service.
#[async_trait]
pub trait Look: Send + Sync {
    /// How it is now.
    async fn look(&self) -> Seen;

    /// Comes back when something changed that is told at once, and not with the next beat. What changes between two
    /// calls is not lost. By default nothing is.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// What waits on the bus server for this process.
#[async_trait]
pub trait Backlog: Send + Sync {
    /// For each topic that it reads, how many messages it has not done with: not delivered yet, or
    /// delivered and not acknowledged. Who does not answer in time is left out.
    async fn backlog(&self) -> Vec<(&'static str, u64)>;
}
