//! Takes old audit records out of the file, a bounded number in each transaction.
//!
//! Invariant: of a record that is gone no byte is left in the file's free pages. The write-ahead log has its pages until
//! they are moved into the file and it is begun anew, as with every other change.

use keywheel_engine::port::PortError;
use sqlx::{Connection as _, SqliteConnection};

use super::SqliteJournal;
use crate::file::OVERWRITE_WITHIN_PAGES;
use crate::retention;

impl SqliteJournal {
    pub(super) async fn remove_records(&self, before: u64) -> Result<u64, PortError> {
        let mut writer = self.writer.lock().await;
        // Whatever an append left open is ended first.
        let tail = writer.take_tail(&self.path).await?;
        let before = before.min(tail.frontier.size());
        writer.tail = Some(tail);
        let removed = overwriting(&mut writer.connection, before).await;
        let removed = removed.map_err(|error| writer.failed(&self.path, error))?;
        removed.map_err(|damage| self.place.damaged(&damage))
    }
}

/// Removes, and leaves nothing of it in the file's free pages.
async fn overwriting(
    connection: &mut SqliteConnection,
    before: u64,
) -> Result<Result<u64, String>, sqlx::Error> {
    let on = sqlx::raw_sql("PRAGMA secure_delete = ON");
    on.execute(&mut *connection).await?;
    let removed = removing(connection, before).await;
    let within = sqlx::raw_sql(OVERWRITE_WITHIN_PAGES);
    within.execute(connection).await?;
    removed
}

async fn removing(
    connection: &mut SqliteConnection,
    before: u64,
) -> Result<Result<u64, String>, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let removed = retention::remove(&mut *transaction, before).await?;
    match removed {
        Ok(_) => transaction.commit().await?,
        Err(_) => transaction.rollback().await?,
    }
    Ok(removed)
}
