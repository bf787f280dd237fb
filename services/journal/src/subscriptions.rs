//! Subscriptions as rows: the same statements for SQLite and PostgreSQL, and what they mean.
//!
//! Invariant: no hash and no checkpoint covers them, and none of them is an event; a place only moves on.

use async_trait::async_trait;
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::PortError;
use keywheel_engine::port::subscriptions::{MAX_SUBSCRIPTIONS, Subscription, too_many, unknown};
use sqlx::{PgConnection, SqliteConnection};

use crate::place::Place;
use crate::tables::{from_sql, to_sql};

/// SQLite's table; a build that does not know it leaves it alone.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS subscription (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;";

/// Reads and writes rows over one connection.
#[async_trait]
pub(crate) trait SubscriptionRows: Send {
    /// All of them, by name.
    async fn subscriptions(&mut self) -> Result<Vec<(String, i64)>, sqlx::Error>;
    /// Adds one while there are fewer than `most`; one that is there stays.
    async fn add(&mut self, name: &str, number: i64, most: i64) -> Result<(), sqlx::Error>;
    /// Moves one on.
    async fn advance(&mut self, name: &str, number: i64) -> Result<(), sqlx::Error>;
    /// Removes one; how many went.
    async fn remove(&mut self, name: &str) -> Result<u64, sqlx::Error>;
}

/// Writes the same implementation for a connection.
macro_rules! subscription_rows_over {
    ($connection:ty) => {
        #[async_trait]
        impl SubscriptionRows for $connection {
            async fn subscriptions(&mut self) -> Result<Vec<(String, i64)>, sqlx::Error> {
                let sql = "SELECT name, number FROM subscription ORDER BY name";
                sqlx::query_as(sql).fetch_all(self).await
            }

            async fn add(&mut self, name: &str, number: i64, most: i64) -> Result<(), sqlx::Error> {
                let sql = "INSERT INTO subscription (name, number) SELECT $1, $2 \
                    WHERE (SELECT COUNT(*) FROM subscription) < $3 ON CONFLICT (name) DO NOTHING";
                let query = sqlx::query(sql).bind(name.to_owned()).bind(number).bind(most);
                query.execute(self).await.map(drop)
            }

            async fn advance(&mut self, name: &str, number: i64) -> Result<(), sqlx::Error> {
                let sql = "UPDATE subscription SET number = $2 WHERE name = $1 AND number < $2";
                let query = sqlx::query(sql).bind(name.to_owned()).bind(number);
                query.execute(self).await.map(drop)
            }

            async fn remove(&mut self, name: &str) -> Result<u64, sqlx::Error> {
                let query = sqlx::query("DELETE FROM subscription WHERE name = $1");
                let done = query.bind(name.to_owned()).execute(self).await?;
                Ok(done.rows_affected())
            }
        }
    };
}

subscription_rows_over!(SqliteConnection);
subscription_rows_over!(PgConnection);

/// A change of one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// Makes it, after an event.
    Subscribe(u64),
    /// Moves it on to an event.
    Acknowledge(u64),
    /// Forgets it.
    Unsubscribe,
}

/// All of them, by name.
pub(crate) async fn list(
    rows: &mut impl SubscriptionRows,
    place: &Place,
) -> Result<Vec<Subscription>, PortError> {
    let found = rows.subscriptions().await;
    let found = found.map_err(|source| place.failed(source))?;
    let read = |(name, number): (String, i64)| {
        let name = SubscriptionName::parse(&name)
            .map_err(|_| place.damaged("a subscription has no valid name"))?;
        Ok(Subscription {
            name,
            acknowledged: from_sql(number),
        })
    };
    found.into_iter().map(read).collect()
}

/// Makes a change, in one statement.
pub(crate) async fn write(
    rows: &mut impl SubscriptionRows,
    name: &SubscriptionName,
    change: Change,
) -> Result<u64, sqlx::Error> {
    let name = name.as_str();
    let most = i64::try_from(MAX_SUBSCRIPTIONS).unwrap_or(i64::MAX);
    match change {
        Change::Subscribe(after) => rows.add(name, to_sql(after), most).await.map(|()| 1),
        Change::Acknowledge(number) => rows.advance(name, to_sql(number)).await.map(|()| 1),
        Change::Unsubscribe => rows.remove(name).await,
    }
}

/// What a change came to: how it stands now, or why there is none.
pub(crate) async fn outcome(
    rows: &mut impl SubscriptionRows,
    place: &Place,
    (name, change, went): (&SubscriptionName, Change, u64),
) -> Result<Option<Subscription>, PortError> {
    let all = list(rows, place).await?;
    let found = all.into_iter().find(|one| one.name == *name);
    match (change, found) {
        (Change::Unsubscribe, _) if went == 0 => Err(unknown(name)),
        (Change::Unsubscribe, _) => Ok(None),
        (_, Some(found)) => Ok(Some(found)),
        (Change::Subscribe(_), None) => Err(too_many(name)),
        (Change::Acknowledge(_), None) => Err(unknown(name)),
    }
}

/// The port over `change`, for an adapter that has one.
macro_rules! subscriptions_by_change {
    ($adapter:ty) => {
        #[async_trait]
        impl Subscriptions for $adapter {
            async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
                self.list_subscriptions().await
            }

            async fn subscribe(
                &self,
                name: &SubscriptionName,
                after: u64,
            ) -> Result<Subscription, PortError> {
                let made = self.change_subscription(name, Change::Subscribe(after));
                made.await?.ok_or_else(|| too_many(name))
            }

            async fn acknowledge(
                &self,
                name: &SubscriptionName,
                number: u64,
            ) -> Result<Subscription, PortError> {
                let moved = self.change_subscription(name, Change::Acknowledge(number));
                moved.await?.ok_or_else(|| unknown(name))
            }

            async fn unsubscribe(&self, name: &SubscriptionName) -> Result<(), PortError> {
                self.change_subscription(name, Change::Unsubscribe)
                    .await
                    .map(drop)
            }
        }
    };
}
pub(crate) use subscriptions_by_change;
