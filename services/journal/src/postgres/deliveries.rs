//! Places of receivers and letters on the server, and whose turn each receiver is.
//!
//! Invariants: by the server's clock alone, one holder of a receiver's turn at a time; a turn that is not
//! renewed ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::{LetterId, NotificationId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::deliveries::{Deliveries, Letter};

use super::PostgresJournal;
use crate::deliveries::{self, Change, deliveries_by_change};
use crate::tables::{from_sql, to_sql};

impl PostgresJournal {
    async fn claim_receiver(
        &self,
        receiver: NotificationId,
        first: u64,
        span: Duration,
    ) -> Result<Option<u64>, PortError> {
        let claimed = async {
            let mut connection = self.connection().await?;
            let sql = "INSERT INTO delivery (owner, number, holder, until) VALUES \
                ($1, $2, $3, clock_timestamp() + $4 * INTERVAL '1 millisecond') \
                ON CONFLICT (owner) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until \
                WHERE delivery.holder = EXCLUDED.holder OR delivery.until < clock_timestamp() \
                RETURNING number";
            let claim = sqlx::query_scalar::<_, i64>(sql)
                .bind(receiver.to_string())
                .bind(to_sql(first))
                .bind(self.holder.clone())
                .bind(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
            let claimed = claim.fetch_optional(&mut *connection).await;
            let claimed = claimed.map_err(|source| self.place.failed(source))?;
            Ok(claimed.map(from_sql))
        };
        self.within(claimed).await
    }

    async fn change_delivery(&self, change: Change<'_>) -> Result<u64, PortError> {
        let changed = async {
            let mut connection = self.connection().await?;
            let written = deliveries::write(&mut *connection, change).await;
            written.map_err(|source| self.place.failed(source))
        };
        self.within(changed).await
    }

    async fn read_places(&self) -> Result<BTreeMap<NotificationId, u64>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            deliveries::places(&mut *connection, &self.place).await
        };
        self.within(read).await
    }

    async fn read_letters(&self) -> Result<Vec<Letter>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            deliveries::letters(&mut *connection, &self.place).await
        };
        self.within(read).await
    }

    async fn read_letter(&self, id: LetterId) -> Result<Option<Letter>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            deliveries::letter(&mut *connection, &self.place, id).await
        };
        self.within(read).await
    }
}

deliveries_by_change!(PostgresJournal);
