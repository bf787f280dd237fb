//! Subscriptions as rows: the same statements for SQLite and PostgreSQL, and what they mean.
//!
//! Invariant: no hash and no checkpoint covers them, and none of them is an event; a place only moves on.

use async_trait::async_trait;
use keywheel_core::id::SubscriptionId;
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::PortError;
use keywheel_engine::port::subscriptions::{
    MAX_SUBSCRIPTIONS, Subscription, made_again, too_many, unknown,
};
use sqlx::{PgConnection, SqliteConnection};

use crate::place::Place;
use crate::tables::{from_sql, to_sql};

/// SQLite's table; a build that does not know it leaves it alone.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS subscription (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;";
/// Whether SQLite's table has the id of each subscription.
pub(crate) const HAS_IDS: &str =
    "SELECT COUNT(*) FROM pragma_table_info('subscription') WHERE name = 'id'";
/// Adds it; those that were made before have the id of zeros.
pub(crate) const ADD_IDS: &str = "ALTER TABLE subscription ADD COLUMN id TEXT NOT NULL
    DEFAULT '00000000-0000-0000-0000-000000000000';";

/// A row: name, id, number.
pub(crate) type Row = (String, String, i64);

/// Reads and writes rows over one connection.
#[async_trait]
pub(crate) trait SubscriptionRows: Send {
    /// All of them, by name.
    async fn subscriptions(&mut self) -> Result<Vec<Row>, sqlx::Error>;
    /// Adds one while there are fewer than `most`; one that is there stays.
    async fn add(&mut self, row: Row, most: i64) -> Result<(), sqlx::Error>;
    /// Moves one on.
    async fn advance(&mut self, row: Row) -> Result<(), sqlx::Error>;
    /// Removes one; how many went.
    async fn remove(&mut self, name: &str) -> Result<u64, sqlx::Error>;
}

/// Writes the same implementation for a connection.
macro_rules! subscription_rows_over {
    ($connection:ty) => {
        #[async_trait]
        impl SubscriptionRows for $connection {
            async fn subscriptions(&mut self) -> Result<Vec<Row>, sqlx::Error> {
                let sql = "SELECT name, id, number FROM subscription ORDER BY name";
                sqlx::query_as(sql).fetch_all(self).await
            }

            async fn add(&mut self, (name, id, number): Row, most: i64) -> Result<(), sqlx::Error> {
                let sql = "INSERT INTO subscription (name, id, number) SELECT $1, $2, $3 \
                    WHERE (SELECT COUNT(*) FROM subscription) < $4 ON CONFLICT (name) DO NOTHING";
                let query = sqlx::query(sql).bind(name).bind(id).bind(number).bind(most);
                query.execute(self).await.map(drop)
            }

            async fn advance(&mut self, (name, id, number): Row) -> Result<(), sqlx::Error> {
                let sql = "UPDATE subscription SET number = $3 \
                    WHERE name = $1 AND id = $2 AND number < $3";
                let query = sqlx::query(sql).bind(name).bind(id).bind(number);
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
    /// Makes it with an id, after an event.
    Subscribe(SubscriptionId, u64),
    /// Moves the one with that id on to an event.
    Acknowledge(SubscriptionId, u64),
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
    let read = |(name, id, number): Row| {
        let name = SubscriptionName::parse(&name)
            .map_err(|_| place.damaged("a subscription has no valid name"))?;
        let id = SubscriptionId::parse(&id)
            .map_err(|_| place.damaged("a subscription has no valid id"))?;
        Ok(Subscription {
            id,
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
    let row = |id: SubscriptionId, number| (name.to_string(), id.to_string(), to_sql(number));
    let most = i64::try_from(MAX_SUBSCRIPTIONS).unwrap_or(i64::MAX);
    match change {
        Change::Subscribe(id, after) => rows.add(row(id, after), most).await.map(|()| 1),
        Change::Acknowledge(id, number) => rows.advance(row(id, number)).await.map(|()| 1),
        Change::Unsubscribe => rows.remove(name.as_str()).await,
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
        (Change::Acknowledge(id, _), Some(found)) if found.id != id => Err(made_again(name)),
        (_, Some(found)) => Ok(Some(found)),
        (Change::Subscribe(..), None) => Err(too_many(name)),
        (Change::Acknowledge(..), None) => Err(unknown(name)),
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
                id: SubscriptionId,
                after: u64,
            ) -> Result<Subscription, PortError> {
                let made = self.change_subscription(name, Change::Subscribe(id, after));
                made.await?.ok_or_else(|| too_many(name))
            }

            async fn acknowledge(
                &self,
                name: &SubscriptionName,
                id: SubscriptionId,
                number: u64,
            ) -> Result<Subscription, PortError> {
                let moved = self.change_subscription(name, Change::Acknowledge(id, number));
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
