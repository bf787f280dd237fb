//! Places of receivers and letters in the file. One process owns it, so every receiver's turn is ours.
//!
//! Invariant: of a letter that is gone no byte is left in the file and its log, once nobody reads them who began
//! before.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::{LetterId, NotificationId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::deliveries::{Deliveries, Letter};

use sqlx::SqliteConnection;

use super::SqliteJournal;
use crate::deliveries::{self, Change, deliveries_by_change};
use crate::file::{self, OVERWRITE_WITHIN_PAGES};
use crate::tables::{from_sql, to_sql};

impl SqliteJournal {
    async fn claim_receiver(
        &self,
        receiver: NotificationId,
        first: u64,
        _span: Duration,
    ) -> Result<Option<u64>, PortError> {
        let find = "SELECT number FROM delivery WHERE owner = $1";
        let mut reader = self.reader.lock().await;
        let found = sqlx::query_scalar::<_, i64>(find)
            .bind(receiver.to_string())
            .fetch_optional(&mut *reader)
            .await;
        drop(reader);
        if let Some(number) = found.map_err(|source| self.place.failed(source))? {
            return Ok(Some(from_sql(number)));
        }
        let mut writer = self.writer.lock().await;
        let tail = writer.take_tail(&self.path).await?;
        writer.tail = Some(tail);
        let sql = "INSERT INTO delivery (owner, number) VALUES ($1, $2) \
            ON CONFLICT (owner) DO UPDATE SET number = number RETURNING number";
        let made = sqlx::query_scalar::<_, i64>(sql)
            .bind(receiver.to_string())
            .bind(to_sql(first))
            .fetch_one(&mut writer.connection)
            .await;
        let made = made.map_err(|error| writer.failed(&self.path, error))?;
        Ok(Some(from_sql(made)))
    }

    async fn change_delivery(&self, change: Change<'_>) -> Result<u64, PortError> {
        let mut writer = self.writer.lock().await;
        // Whatever an append left open is ended first.
        let tail = writer.take_tail(&self.path).await?;
        writer.tail = Some(tail);
        let written = match change.removes_letters() {
            false => deliveries::write(&mut writer.connection, change).await,
            true => overwriting(&mut writer.connection, change).await,
        };
        let written = written.map_err(|error| writer.failed(&self.path, error))?;
        if change.removes_letters() {
            // One that is kept may take the place of another; whoever sweeps sees to that.
            let is_kept = matches!(change, Change::Keep(_));
            writer.has_remains |= is_kept || written > 0;
            if writer.has_remains && !is_kept {
                writer.has_remains = !empty_log(&mut writer.connection).await;
            }
        }
        Ok(written)
    }

    async fn read_places(&self) -> Result<BTreeMap<NotificationId, u64>, PortError> {
        deliveries::places(&mut *self.reader.lock().await, &self.place).await
    }

    async fn read_letters(&self) -> Result<Vec<Letter>, PortError> {
        deliveries::letters(&mut *self.reader.lock().await, &self.place).await
    }

    async fn read_letter(&self, id: LetterId) -> Result<Option<Letter>, PortError> {
        deliveries::letter(&mut *self.reader.lock().await, &self.place, id).await
    }
}

/// Makes a change that leaves nothing of what it removes in the file's free pages.
async fn overwriting(
    connection: &mut SqliteConnection,
    change: Change<'_>,
) -> Result<u64, sqlx::Error> {
    let on = sqlx::raw_sql("PRAGMA secure_delete = ON");
    on.execute(&mut *connection).await?;
    let written = deliveries::write(&mut *connection, change).await;
    // Appends remove what was sent, which is no secret and not worth the writing of whole pages.
    let within = sqlx::raw_sql(OVERWRITE_WITHIN_PAGES);
    within.execute(connection).await?;
    written
}

/// Moves the log into the file and empties it, so that what was overwritten is gone from both; whether that could
/// be done at once. Appends wait for nobody who reads the file meanwhile.
async fn empty_log(connection: &mut SqliteConnection) -> bool {
    let emptied = async {
        let at_once = sqlx::raw_sql("PRAGMA busy_timeout = 0");
        at_once.execute(&mut *connection).await?;
        let row: Result<(i64, i64, i64), _> = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut *connection)
            .await;
        let again = sqlx::raw_sql(file::WAIT_WHEN_BUSY);
        again.execute(&mut *connection).await?;
        row.map(|(busy, ..)| busy == 0)
    };
    match emptied.await {
        Ok(is_empty) => is_empty,
        Err(error) => {
            tracing::debug!(%error, "the journal's log keeps a letter that is gone for a while");
            false
        }
    }
}

deliveries_by_change!(SqliteJournal);
