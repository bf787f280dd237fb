//! Appends whose COMMIT got no answer, and how to find out what became of them.
//!
//! Invariant: what is looked for is something that only this append can have written, so that another
//! process's append of the same command is not taken for it.

use keywheel_core::id::CommandId;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::RecordedEvent;
use sqlx::PgConnection;

use crate::batch::Batch;
use crate::merkle::Hash;
use crate::rows::Rows as _;
use crate::tables::{from_sql, to_sql};

/// Why an append did not end well.
pub(super) enum Failure {
    /// Nothing was changed.
    Before(PortError),
    /// The answer to its COMMIT is lost.
    AtCommit(Lost),
}

/// An append whose end is not known.
pub(super) struct Lost {
    pub(super) recorded: Vec<RecordedEvent>,
    pub(super) trace: Trace,
    pub(super) source: sqlx::Error,
}

/// What only this append can have left.
pub(super) enum Trace {
    /// The hash of its first event.
    Event(u64, Hash),
    /// The hash of its first audit record, and the place.
    Leaf(u64, Hash),
    /// An answer and nothing else: whoever gave it, it is the same.
    Answer(CommandId),
}

impl Trace {
    pub(super) fn of(batch: &Batch, command: CommandId) -> Self {
        let event = batch.events.first();
        let event = event.map(|row| Self::Event(row.recorded.number, row.recorded.hash));
        let leaf = batch.leaves.first();
        event
            .or_else(|| leaf.map(|leaf| Self::Leaf(leaf.place, leaf.hash)))
            .unwrap_or(Self::Answer(command))
    }

    pub(super) async fn is_there(
        &self,
        connection: &mut PgConnection,
    ) -> Result<bool, sqlx::Error> {
        Ok(match self {
            Self::Event(number, hash) => {
                let found = connection.events(to_sql(*number), 1).await?;
                let found = found.first().map(|row| (from_sql(row.0), row.2.as_slice()));
                found == Some((*number, hash.as_slice()))
            }
            Self::Leaf(place, hash) => {
                let found = connection.leaves(to_sql(*place), 1).await?;
                let found = found.first().map(|row| (from_sql(row.0), row.2.as_slice()));
                found == Some((*place, hash.as_slice()))
            }
            Self::Answer(command) => connection.answer(command.bytes()).await?.is_some(),
        })
    }
}
