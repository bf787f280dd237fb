//! Places of receivers and letters in the file. One process owns it, so every receiver's turn is ours.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::{LetterId, NotificationId};
use keywheel_engine::port::PortError;
use keywheel_engine::port::deliveries::{Deliveries, Letter};

use super::SqliteJournal;
use crate::deliveries::{self, Change, deliveries_by_change};
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
        let written = deliveries::write(&mut writer.connection, change).await;
        written.map_err(|error| writer.failed(&self.path, error))
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

deliveries_by_change!(SqliteJournal);
