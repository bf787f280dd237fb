//! Places of receivers and letters as rows: the same statements for SQLite and PostgreSQL, and what they mean.
//!
//! Invariant: no hash and no checkpoint covers them, and none of them is an event. Whose turn a receiver is,
//! each adapter says by itself.

use std::collections::BTreeMap;

use async_trait::async_trait;
use keywheel_core::id::{LetterId, NotificationId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::deliveries::{Letter, MAX_LETTERS};
use sqlx::{PgConnection, SqliteConnection};

use crate::place::Place;
use crate::tables::{from_sql, to_sql};

/// SQLite's tables; a build that does not know them leaves them alone.
pub(crate) const TABLES: &str = "CREATE TABLE IF NOT EXISTS delivery (
    owner TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS letter (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    heading TEXT NOT NULL,
    time INTEGER NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;";

/// A letter's row without its body: id, owner, heading, time, reason.
pub(crate) type Head = (String, String, String, i64, String);

/// Reads and writes rows over one connection.
#[async_trait]
pub(crate) trait DeliveryRows: Send {
    /// Every place.
    async fn places(&mut self) -> Result<Vec<(String, i64)>, sqlx::Error>;
    /// Moves a place from one number to another; how many went.
    async fn advance(&mut self, owner: String, from: i64, to: i64) -> Result<u64, sqlx::Error>;
    /// Moves a place back; how many went.
    async fn rewind(&mut self, owner: String, to: i64) -> Result<u64, sqlx::Error>;
    /// Removes a place.
    async fn forget(&mut self, owner: String) -> Result<u64, sqlx::Error>;
    /// Adds a letter, or puts it in place of the one with its id.
    async fn put(&mut self, head: Head, body: Vec<u8>) -> Result<u64, sqlx::Error>;
    /// Removes all letters of an owner but the newest.
    async fn trim(&mut self, owner: String, most: i64) -> Result<u64, sqlx::Error>;
    /// Removes the letters before a time, of owners whose name is like that; how many went.
    async fn expire(&mut self, like: String, before: i64) -> Result<u64, sqlx::Error>;
    /// Removes every letter of an owner; how many went.
    async fn discard_all(&mut self, owner: String) -> Result<u64, sqlx::Error>;
    /// Removes a letter; how many went.
    async fn discard(&mut self, id: String) -> Result<u64, sqlx::Error>;
    /// Every letter without its body, oldest first.
    async fn heads(&mut self) -> Result<Vec<Head>, sqlx::Error>;
    /// One letter without its body.
    async fn one_head(&mut self, id: String) -> Result<Option<Head>, sqlx::Error>;
    /// The body of one.
    async fn body(&mut self, id: String) -> Result<Option<Vec<u8>>, sqlx::Error>;
}

/// Writes the same implementation for a connection.
macro_rules! delivery_rows_over {
    ($connection:ty) => {
        #[async_trait]
        impl DeliveryRows for $connection {
            async fn places(&mut self) -> Result<Vec<(String, i64)>, sqlx::Error> {
                let sql = "SELECT owner, number FROM delivery";
                sqlx::query_as(sql).fetch_all(self).await
            }

            async fn advance(
                &mut self,
                owner: String,
                from: i64,
                to: i64,
            ) -> Result<u64, sqlx::Error> {
                let sql = "UPDATE delivery SET number = $3 WHERE owner = $1 AND number = $2";
                let query = sqlx::query(sql).bind(owner).bind(from).bind(to);
                Ok(query.execute(self).await?.rows_affected())
            }

            async fn rewind(&mut self, owner: String, to: i64) -> Result<u64, sqlx::Error> {
                let sql = "UPDATE delivery SET number = $2 WHERE owner = $1 AND number > $2";
                let query = sqlx::query(sql).bind(owner).bind(to);
                Ok(query.execute(self).await?.rows_affected())
            }

            async fn forget(&mut self, owner: String) -> Result<u64, sqlx::Error> {
                let query = sqlx::query("DELETE FROM delivery WHERE owner = $1").bind(owner);
                Ok(query.execute(self).await?.rows_affected())
            }

            async fn put(
                &mut self,
                (id, owner, heading, time, reason): Head,
                body: Vec<u8>,
            ) -> Result<u64, sqlx::Error> {
                let sql = "INSERT INTO letter (id, owner, heading, time, reason, body) \
                    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET \
                    owner = EXCLUDED.owner, heading = EXCLUDED.heading, time = EXCLUDED.time, \
                    reason = EXCLUDED.reason, body = EXCLUDED.body";
                let query = sqlx::query(sql).bind(id).bind(owner).bind(heading);
                let query = query.bind(time).bind(reason).bind(body);
                Ok(query.execute(self).await?.rows_affected())
            }

            async fn trim(&mut self, owner: String, most: i64) -> Result<u64, sqlx::Error> {
                let sql = "DELETE FROM letter WHERE owner = $1 AND id NOT IN \
                    (SELECT id FROM letter WHERE owner = $1 ORDER BY time DESC, id DESC LIMIT $2)";
                let query = sqlx::query(sql).bind(owner).bind(most);
                Ok(query.execute(self).await?.rows_affected())
            }

            async fn expire(&mut self, like: String, before: i64) -> Result<u64, sqlx::Error> {
                let sql = "DELETE FROM letter WHERE owner LIKE $1 AND time < $2";
                let query = sqlx::query(sql).bind(like).bind(before);
                Ok(query.execute(self).await?.rows_affected())
            }

            async fn discard_all(&mut self, owner: String) -> Result<u64, sqlx::Error> {
                let query = sqlx::query("DELETE FROM letter WHERE owner = $1").bind(owner);
                Ok(query.execute(self).await?.rows_affected())
            }

            async fn discard(&mut self, id: String) -> Result<u64, sqlx::Error> {
                let query = sqlx::query("DELETE FROM letter WHERE id = $1").bind(id);
                Ok(query.execute(self).await?.rows_affected())
            }

            async fn heads(&mut self) -> Result<Vec<Head>, sqlx::Error> {
                let sql = "SELECT id, owner, heading, time, reason FROM letter ORDER BY time, id";
                sqlx::query_as(sql).fetch_all(self).await
            }

            async fn one_head(&mut self, id: String) -> Result<Option<Head>, sqlx::Error> {
                let sql = "SELECT id, owner, heading, time, reason FROM letter WHERE id = $1";
                sqlx::query_as(sql).bind(id).fetch_optional(self).await
            }

            async fn body(&mut self, id: String) -> Result<Option<Vec<u8>>, sqlx::Error> {
                let sql = "SELECT body FROM letter WHERE id = $1";
                sqlx::query_scalar(sql).bind(id).fetch_optional(self).await
            }
        }
    };
}

delivery_rows_over!(SqliteConnection);
delivery_rows_over!(PgConnection);

/// A change that is no turn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    /// Moves a place from one number to another.
    Advance(NotificationId, u64, u64),
    /// Moves a place back.
    Rewind(NotificationId, u64),
    /// Forgets a place.
    Forget(NotificationId),
    /// Keeps a letter.
    Keep(&'a Letter),
    /// Throws a letter away.
    Discard(LetterId),
    /// Throws away what is too old, of all owners whose name begins so.
    Expire(&'a str, Timestamp),
    /// Throws away all of an owner.
    DiscardAll(&'a str),
}

impl Change<'_> {
    /// Whether it may remove a letter, or what one held before.
    pub(crate) const fn removes_letters(&self) -> bool {
        match self {
            Self::Advance(..) | Self::Rewind(..) | Self::Forget(_) => false,
            Self::Keep(_) | Self::Discard(_) | Self::Expire(..) | Self::DiscardAll(_) => true,
        }
    }
}

/// Makes a change; how many rows it changed, and of a letter that is kept how many others went.
pub(crate) async fn write(
    rows: &mut impl DeliveryRows,
    change: Change<'_>,
) -> Result<u64, sqlx::Error> {
    match change {
        Change::Advance(owner, from, to) => {
            rows.advance(owner.to_string(), to_sql(from), to_sql(to))
                .await
        }
        Change::Rewind(owner, to) => rows.rewind(owner.to_string(), to_sql(to)).await,
        Change::Forget(owner) => rows.forget(owner.to_string()).await,
        Change::Discard(id) => rows.discard(id.to_string()).await,
        Change::DiscardAll(owner) => rows.discard_all(owner.to_owned()).await,
        Change::Expire(owners, before) => {
            // Names of owners are ours, and have no sign that a pattern reads as another.
            rows.expire(format!("{owners}%"), before.micros()).await
        }
        Change::Keep(letter) => {
            let head = (
                letter.id.to_string(),
                letter.owner.clone(),
                letter.heading.clone(),
                letter.time.micros(),
                letter.reason.clone(),
            );
            rows.put(head, letter.body.clone()).await?;
            let most = i64::try_from(MAX_LETTERS).unwrap_or(i64::MAX);
            rows.trim(letter.owner.clone(), most).await
        }
    }
}

/// Every place.
pub(crate) async fn places(
    rows: &mut impl DeliveryRows,
    place: &Place,
) -> Result<BTreeMap<NotificationId, u64>, PortError> {
    let found = rows.places().await.map_err(|source| place.failed(source))?;
    let read = |(owner, number): (String, i64)| {
        let owner = NotificationId::parse(&owner);
        let owner = owner.map_err(|_| place.damaged("a delivery has no valid receiver"))?;
        Ok((owner, from_sql(number)))
    };
    found.into_iter().map(read).collect()
}

/// Every letter without its body.
pub(crate) async fn letters(
    rows: &mut impl DeliveryRows,
    place: &Place,
) -> Result<Vec<Letter>, PortError> {
    let found = rows.heads().await.map_err(|source| place.failed(source))?;
    let read = |head| letter_of(head, Vec::new(), place);
    found.into_iter().map(read).collect()
}

/// One letter, whole.
pub(crate) async fn letter(
    rows: &mut impl DeliveryRows,
    place: &Place,
    id: LetterId,
) -> Result<Option<Letter>, PortError> {
    let failed = |source| place.failed(source);
    let head = rows.one_head(id.to_string()).await.map_err(failed)?;
    let body = rows.body(id.to_string()).await.map_err(failed)?;
    let whole = head.zip(body);
    whole
        .map(|(head, body)| letter_of(head, body, place))
        .transpose()
}

fn letter_of(
    (id, owner, heading, time, reason): Head,
    body: Vec<u8>,
    place: &Place,
) -> Result<Letter, PortError> {
    let id = LetterId::parse(&id).map_err(|_| place.damaged("a letter has no valid id"))?;
    Ok(Letter {
        id,
        owner,
        heading,
        time: Timestamp::from_micros(time),
        reason,
        body,
    })
}

/// The port over an adapter's `claim_receiver`, `change_delivery`, and `read_deliveries`.
macro_rules! deliveries_by_change {
    ($adapter:ty) => {
        #[async_trait]
        impl Deliveries for $adapter {
            async fn claim(
                &self,
                receiver: NotificationId,
                first: u64,
                span: Duration,
            ) -> Result<Option<u64>, PortError> {
                self.claim_receiver(receiver, first, span).await
            }

            async fn advance(
                &self,
                receiver: NotificationId,
                from: u64,
                to: u64,
            ) -> Result<bool, PortError> {
                let change = Change::Advance(receiver, from, to);
                Ok(self.change_delivery(change).await? > 0)
            }

            async fn rewind(&self, receiver: NotificationId, to: u64) -> Result<bool, PortError> {
                let change = Change::Rewind(receiver, to);
                Ok(self.change_delivery(change).await? > 0)
            }

            async fn places(&self) -> Result<BTreeMap<NotificationId, u64>, PortError> {
                self.read_places().await
            }

            async fn forget(&self, receiver: NotificationId) -> Result<(), PortError> {
                let change = Change::Forget(receiver);
                self.change_delivery(change).await.map(drop)
            }

            async fn keep(&self, letter: &Letter) -> Result<u64, PortError> {
                self.change_delivery(Change::Keep(letter)).await
            }

            async fn letters(&self) -> Result<Vec<Letter>, PortError> {
                self.read_letters().await
            }

            async fn letter(&self, id: LetterId) -> Result<Option<Letter>, PortError> {
                self.read_letter(id).await
            }

            async fn discard(&self, id: LetterId) -> Result<bool, PortError> {
                Ok(self.change_delivery(Change::Discard(id)).await? > 0)
            }

            async fn expire(&self, owners: &str, before: Timestamp) -> Result<u64, PortError> {
                let change = Change::Expire(owners, before);
                self.change_delivery(change).await
            }

            async fn discard_all(&self, owner: &str) -> Result<u64, PortError> {
                let change = Change::DiscardAll(owner);
                self.change_delivery(change).await
            }
        }
    };
}
pub(crate) use deliveries_by_change;
