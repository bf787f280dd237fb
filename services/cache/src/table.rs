//! The rows of a cache, as any database keeps them: one statement each, nothing judged.
//!
//! Invariants: SQLite and PostgreSQL run the same statements, so that everything that decides is
//! written once; a statement that several processes may run at once says by its answer who was first.

use async_trait::async_trait;
use keywheel_seal::envelope::SealedVersion;

use crate::error::Error;
use crate::postgres::PostgresTable;
use crate::sqlite::SqliteTable;

/// suite, key id, wrapped data key, nonce, ciphertext, commitment
pub(crate) type SealedColumns = (
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);
/// generation, when it was made, and the sealed columns
pub(crate) type StoreKeyColumns = (i64, i64, SealedColumns);
/// The same as one row.
type StoreKeyRow = (
    i64,
    i64,
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);
/// secret, version, and the sealed columns
type VersionRow = (
    Vec<u8>,
    i64,
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);
/// token, and the sealed columns
type StashRow = (
    Vec<u8>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);
/// state, and the sealed columns
type VersionColumns = (
    String,
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);
/// id, sealed key, state
pub(crate) type KekColumns = (Vec<u8>, Vec<u8>, String);
/// version, token, state
pub(crate) type PlaceColumns = (i64, Option<Vec<u8>>, String);

/// Where a sealed row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A version of a secret.
    Version(Vec<u8>, i64),
    /// A provided value, by its token.
    Stash(Vec<u8>),
    /// A key pair, by its generation.
    StoreKey(i64),
}

/// A row whose data key was wrapped anew; its value is what it was.
pub struct Rewrapped {
    /// Where.
    pub place: Place,
    /// With the new KEK and what that wrapped.
    pub sealed: SealedVersion,
    /// The data key as it was wrapped before.
    pub was: Vec<u8>,
}

/// A KEK to be written: id, sealed, wraps taken, when it was made.
pub struct NewKek {
    /// Its id.
    pub id: Vec<u8>,
    /// Sealed by the unseal key.
    pub sealed: Vec<u8>,
    /// Wraps that count as used.
    pub wraps: i64,
    /// Microseconds since 1970.
    pub created: i64,
}

/// What one kind of database does in its own way.
#[async_trait]
pub trait Store: Send {
    /// A failure of a statement.
    fn failed(&self, source: sqlx::Error) -> Error;
    /// The key does not open what is here.
    fn wrong_unseal_key(&self) -> Error;
    /// What is here is another installation's.
    fn wrong_deployment(&self) -> Error;
    /// What is here cannot be read.
    fn damaged(&self) -> Error;
    /// Brings tables of an older build to the newest format, once the key was proven right.
    async fn upgrade(&mut self, now: i64) -> Result<(), Error>;
    /// Makes freed rows unreadable, as far as the database can.
    async fn forget(&mut self) -> Result<(), Error>;
    /// Whether other processes may write, too.
    fn is_shared(&self) -> bool;
}

/// Reads and writes rows.
#[async_trait]
pub trait Table: Store {
    /// Writes the first rows, unless somebody did.
    async fn begin(&mut self, deployment: Vec<u8>, kek: NewKek) -> Result<(), sqlx::Error>;
    /// The installation it belongs to.
    async fn deployment(&mut self) -> Result<Vec<u8>, sqlx::Error>;
    /// Every KEK.
    async fn keks(&mut self) -> Result<Vec<KekColumns>, sqlx::Error>;
    /// When the current KEK was made.
    async fn current_created(&mut self) -> Result<i64, sqlx::Error>;
    /// Takes a block of wraps from a KEK; `false` when it is used up or no longer current.
    async fn reserve(&mut self, kek: Vec<u8>, block: i64, most: i64) -> Result<bool, sqlx::Error>;
    /// Makes a KEK current in place of `old`; `false` when somebody else replaced that.
    async fn replace(&mut self, old: Vec<u8>, kek: NewKek) -> Result<bool, sqlx::Error>;
    /// What lies at a version's place or under its token.
    async fn places(
        &mut self,
        secret: Vec<u8>,
        version: i64,
        token: Vec<u8>,
    ) -> Result<Vec<PlaceColumns>, sqlx::Error>;
    /// Inserts a version; `false` when place or token is taken.
    async fn insert(
        &mut self,
        secret: Vec<u8>,
        version: i64,
        token: Vec<u8>,
        sealed: SealedVersion,
    ) -> Result<bool, sqlx::Error>;
    /// State and sealed columns of a version.
    async fn version(
        &mut self,
        secret: Vec<u8>,
        version: i64,
    ) -> Result<Option<(String, SealedColumns)>, sqlx::Error>;
    /// Overwrites a version, or bars its place; and drops what its rotation left.
    async fn destroy(&mut self, secret: Vec<u8>, version: i64) -> Result<(), sqlx::Error>;
    /// Whether a live version is there.
    async fn is_live(&mut self, secret: Vec<u8>, version: i64) -> Result<bool, sqlx::Error>;
    /// Live versions, ascending.
    async fn live(&mut self, secret: Vec<u8>) -> Result<Vec<i64>, sqlx::Error>;
    /// How many provided values wait, and whether one waits under the token.
    async fn waiting(&mut self, token: Vec<u8>) -> Result<(i64, bool), sqlx::Error>;
    /// Inserts a provided value; `false` when one waits under the token.
    async fn stash(
        &mut self,
        token: Vec<u8>,
        now: i64,
        sealed: SealedVersion,
    ) -> Result<bool, sqlx::Error>;
    /// A provided value.
    async fn stashed(&mut self, token: Vec<u8>) -> Result<Option<SealedColumns>, sqlx::Error>;
    /// Removes a provided value; `false` when there was none.
    async fn unstash(&mut self, token: Vec<u8>) -> Result<bool, sqlx::Error>;
    /// Removes provided values put before a time; `false` when there was none.
    async fn expire(&mut self, before: i64) -> Result<bool, sqlx::Error>;
    /// Every key pair for provided values, newest first.
    async fn store_keys(&mut self) -> Result<Vec<StoreKeyColumns>, sqlx::Error>;
    /// Inserts a key pair; `false` when its generation is there.
    async fn insert_store_key(
        &mut self,
        generation: i64,
        made_at: i64,
        sealed: SealedVersion,
    ) -> Result<bool, sqlx::Error>;
    /// Removes key pairs older than a generation; `false` when there was none.
    async fn drop_store_keys(&mut self, before: i64) -> Result<bool, sqlx::Error>;
    /// How many KEKs there are beside the current one.
    async fn old_keks(&mut self) -> Result<i64, sqlx::Error>;
    /// How many rows are under another KEK.
    async fn count_stale(&mut self, current: Vec<u8>) -> Result<i64, sqlx::Error>;
    /// Live versions after one, in their order; with a KEK only those under others.
    async fn versions_after(
        &mut self,
        but: Option<Vec<u8>>,
        after: (Vec<u8>, i64),
        most: i64,
    ) -> Result<Vec<(Place, SealedColumns)>, sqlx::Error>;
    /// Every provided value.
    async fn stashes(&mut self) -> Result<Vec<(Place, SealedColumns)>, sqlx::Error>;
    /// Writes KEK and data key of rows that are still as they were.
    async fn rewrap(&mut self, rows: Vec<Rewrapped>) -> Result<(), sqlx::Error>;
    /// Removes every KEK but the current one that no row names; whoever writes a row under one is waited for.
    async fn drop_keks(&mut self, current: Vec<u8>) -> Result<(), sqlx::Error>;
}

impl Place {
    /// Gives a row another KEK and data key; one that was destroyed stays so, and one that another process wrapped
    /// anew, or that is another one by now, stays as it is.
    const fn rewrap_sql(&self) -> &'static str {
        match self {
            Self::Version(..) => {
                "UPDATE version SET key_id = $1, wrapped_dek = $2 \
                    WHERE secret = $3 AND version = $4 AND state = 'live' AND wrapped_dek = $5"
            }
            Self::Stash(_) => {
                "UPDATE stash SET key_id = $1, wrapped_dek = $2 \
                    WHERE token = $3 AND wrapped_dek = $4"
            }
            Self::StoreKey(_) => {
                "UPDATE store_key SET key_id = $1, wrapped_dek = $2 \
                    WHERE generation = $3 AND wrapped_dek = $4"
            }
        }
    }
}

/// Whether something was not written because a row would name a KEK that is gone.
pub(crate) fn is_kek_gone(source: &sqlx::Error) -> bool {
    let said = source.as_database_error();
    said.is_some_and(|said| said.is_foreign_key_violation())
}

/// Writes the same implementation for a table: how it runs one statement, how it begins a
/// transaction, what it does first when the cache is made, and how it waits for whoever writes under a KEK
/// that is to go.
macro_rules! table_over {
    ($table:ty, $it:ident, $executor:expr, $begin:expr, $first:expr, $bar:expr) => {
        #[async_trait]
        impl Table for $table {
            async fn begin(&mut self, deployment: Vec<u8>, kek: NewKek) -> Result<(), sqlx::Error> {
                let $it = self;
                let mut transaction = $begin.await?;
                sqlx::raw_sql($first).execute(&mut *transaction).await?;
                let made: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM deployment")
                    .fetch_one(&mut *transaction)
                    .await?;
                if made > 0 {
                    return Ok(());
                }
                let sql = "INSERT INTO deployment (id) VALUES ($1)";
                let insert = sqlx::query(sql).bind(deployment);
                insert.execute(&mut *transaction).await?;
                let insert = sqlx::query(INSERT_KEK).bind(kek.id).bind(kek.sealed);
                let insert = insert.bind(kek.wraps).bind(kek.created);
                insert.execute(&mut *transaction).await?;
                transaction.commit().await
            }

            async fn deployment(&mut self) -> Result<Vec<u8>, sqlx::Error> {
                let $it = self;
                let query = sqlx::query_scalar("SELECT id FROM deployment");
                query.fetch_one($executor).await
            }

            async fn keks(&mut self) -> Result<Vec<KekColumns>, sqlx::Error> {
                let $it = self;
                let query = sqlx::query_as("SELECT id, sealed, state FROM kek");
                query.fetch_all($executor).await
            }

            async fn current_created(&mut self) -> Result<i64, sqlx::Error> {
                let $it = self;
                let sql = "SELECT created FROM kek WHERE state = 'current'";
                sqlx::query_scalar(sql).fetch_one($executor).await
            }

            async fn reserve(
                &mut self,
                kek: Vec<u8>,
                block: i64,
                most: i64,
            ) -> Result<bool, sqlx::Error> {
                let $it = self;
                let sql = "UPDATE kek SET wraps = wraps + $1 \
                    WHERE id = $2 AND state = 'current' AND wraps + $1 <= $3";
                let query = sqlx::query(sql).bind(block).bind(kek).bind(most);
                Ok(query.execute($executor).await?.rows_affected() == 1)
            }

            async fn replace(&mut self, old: Vec<u8>, kek: NewKek) -> Result<bool, sqlx::Error> {
                let $it = self;
                let mut transaction = $begin.await?;
                let sql = "UPDATE kek SET state = 'old' WHERE state = 'current' AND id = $1";
                let retired = sqlx::query(sql).bind(old).execute(&mut *transaction).await?;
                if retired.rows_affected() == 0 {
                    return Ok(false);
                }
                let insert = sqlx::query(INSERT_KEK).bind(kek.id).bind(kek.sealed);
                let insert = insert.bind(kek.wraps).bind(kek.created);
                insert.execute(&mut *transaction).await?;
                transaction.commit().await?;
                Ok(true)
            }

            async fn places(
                &mut self,
                secret: Vec<u8>,
                version: i64,
                token: Vec<u8>,
            ) -> Result<Vec<PlaceColumns>, sqlx::Error> {
                let $it = self;
                let sql = "SELECT version, token, state FROM version \
                    WHERE secret = $1 AND (version = $2 OR token = $3)";
                let query = sqlx::query_as(sql).bind(secret).bind(version).bind(token);
                query.fetch_all($executor).await
            }

            async fn insert(
                &mut self,
                secret: Vec<u8>,
                version: i64,
                token: Vec<u8>,
                sealed: SealedVersion,
            ) -> Result<bool, sqlx::Error> {
                let $it = self;
                let sql = "INSERT INTO version (secret, version, token, state, suite, key_id, \
                    wrapped_dek, nonce, ciphertext, commitment) \
                    VALUES ($1, $2, $3, 'live', $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(secret).bind(version).bind(token);
                let query = query.bind(i64::from(sealed.suite));
                let query = query.bind(sealed.key_id.bytes().to_vec());
                let query = query.bind(sealed.wrapped_dek).bind(sealed.nonce.to_vec());
                let query = query.bind(sealed.ciphertext).bind(sealed.commitment.to_vec());
                Ok(query.execute($executor).await?.rows_affected() == 1)
            }

            async fn version(
                &mut self,
                secret: Vec<u8>,
                version: i64,
            ) -> Result<Option<(String, SealedColumns)>, sqlx::Error> {
                let $it = self;
                let sql = "SELECT state, suite, key_id, wrapped_dek, nonce, ciphertext, commitment \
                    FROM version WHERE secret = $1 AND version = $2";
                let query = sqlx::query_as(sql).bind(secret).bind(version);
                let row: Option<VersionColumns> = query.fetch_optional($executor).await?;
                Ok(row.map(|(state, a, b, c, d, e, f)| (state, (a, b, c, d, e, f))))
            }

            async fn destroy(&mut self, secret: Vec<u8>, version: i64) -> Result<(), sqlx::Error> {
                let $it = self;
                let mut transaction = $begin.await?;
                let sql = "INSERT INTO version (secret, version, state) \
                    VALUES ($1, $2, 'destroyed') ON CONFLICT (secret, version) DO UPDATE SET \
                    state = 'destroyed', suite = NULL, key_id = NULL, wrapped_dek = NULL, \
                    nonce = NULL, ciphertext = NULL, commitment = NULL";
                let query = sqlx::query(sql).bind(secret.clone()).bind(version);
                query.execute(&mut *transaction).await?;
                let sql = "DELETE FROM stash WHERE token = \
                    (SELECT token FROM version WHERE secret = $1 AND version = $2)";
                let query = sqlx::query(sql).bind(secret).bind(version);
                query.execute(&mut *transaction).await?;
                transaction.commit().await
            }

            async fn is_live(
                &mut self,
                secret: Vec<u8>,
                version: i64,
            ) -> Result<bool, sqlx::Error> {
                let $it = self;
                let sql = "SELECT COUNT(*) FROM version \
                    WHERE secret = $1 AND version = $2 AND state = 'live'";
                let query = sqlx::query_scalar(sql).bind(secret).bind(version);
                let count: i64 = query.fetch_one($executor).await?;
                Ok(count == 1)
            }

            async fn live(&mut self, secret: Vec<u8>) -> Result<Vec<i64>, sqlx::Error> {
                let $it = self;
                let sql = "SELECT version FROM version \
                    WHERE secret = $1 AND state = 'live' ORDER BY version";
                sqlx::query_scalar(sql).bind(secret).fetch_all($executor).await
            }

            async fn waiting(&mut self, token: Vec<u8>) -> Result<(i64, bool), sqlx::Error> {
                let $it = self;
                let sql = "SELECT COUNT(*), COUNT(CASE WHEN token = $1 THEN 1 END) FROM stash";
                let query = sqlx::query_as(sql).bind(token);
                let (all, own): (i64, i64) = query.fetch_one($executor).await?;
                Ok((all, own > 0))
            }

            async fn stash(
                &mut self,
                token: Vec<u8>,
                now: i64,
                sealed: SealedVersion,
            ) -> Result<bool, sqlx::Error> {
                let $it = self;
                let sql = "INSERT INTO stash (token, put_at, suite, key_id, wrapped_dek, nonce, \
                    ciphertext, commitment) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                    ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(token).bind(now);
                let query = query.bind(i64::from(sealed.suite));
                let query = query.bind(sealed.key_id.bytes().to_vec());
                let query = query.bind(sealed.wrapped_dek).bind(sealed.nonce.to_vec());
                let query = query.bind(sealed.ciphertext).bind(sealed.commitment.to_vec());
                Ok(query.execute($executor).await?.rows_affected() == 1)
            }

            async fn stashed(
                &mut self,
                token: Vec<u8>,
            ) -> Result<Option<SealedColumns>, sqlx::Error> {
                let $it = self;
                let sql = "SELECT suite, key_id, wrapped_dek, nonce, ciphertext, commitment \
                    FROM stash WHERE token = $1";
                sqlx::query_as(sql).bind(token).fetch_optional($executor).await
            }

            async fn unstash(&mut self, token: Vec<u8>) -> Result<bool, sqlx::Error> {
                let $it = self;
                let query = sqlx::query("DELETE FROM stash WHERE token = $1").bind(token);
                Ok(query.execute($executor).await?.rows_affected() > 0)
            }

            async fn expire(&mut self, before: i64) -> Result<bool, sqlx::Error> {
                let $it = self;
                let query = sqlx::query("DELETE FROM stash WHERE put_at < $1").bind(before);
                Ok(query.execute($executor).await?.rows_affected() > 0)
            }

            async fn store_keys(&mut self) -> Result<Vec<StoreKeyColumns>, sqlx::Error> {
                let $it = self;
                let sql = "SELECT generation, made_at, suite, key_id, wrapped_dek, nonce, \
                    ciphertext, commitment FROM store_key ORDER BY generation DESC";
                let rows: Vec<StoreKeyRow> = sqlx::query_as(sql).fetch_all($executor).await?;
                let split = |(at, made, a, b, c, d, e, f)| (at, made, (a, b, c, d, e, f));
                Ok(rows.into_iter().map(split).collect())
            }

            async fn insert_store_key(
                &mut self,
                generation: i64,
                made_at: i64,
                sealed: SealedVersion,
            ) -> Result<bool, sqlx::Error> {
                let $it = self;
                let sql = "INSERT INTO store_key (generation, made_at, suite, key_id, \
                    wrapped_dek, nonce, ciphertext, commitment) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(generation).bind(made_at);
                let query = query.bind(i64::from(sealed.suite));
                let query = query.bind(sealed.key_id.bytes().to_vec());
                let query = query.bind(sealed.wrapped_dek).bind(sealed.nonce.to_vec());
                let query = query.bind(sealed.ciphertext).bind(sealed.commitment.to_vec());
                Ok(query.execute($executor).await?.rows_affected() == 1)
            }

            async fn drop_store_keys(&mut self, before: i64) -> Result<bool, sqlx::Error> {
                let $it = self;
                let query = sqlx::query("DELETE FROM store_key WHERE generation < $1").bind(before);
                Ok(query.execute($executor).await?.rows_affected() > 0)
            }

            async fn old_keks(&mut self) -> Result<i64, sqlx::Error> {
                let $it = self;
                let sql = "SELECT COUNT(*) FROM kek WHERE state = 'old'";
                sqlx::query_scalar(sql).fetch_one($executor).await
            }

            async fn count_stale(&mut self, current: Vec<u8>) -> Result<i64, sqlx::Error> {
                let $it = self;
                let sql = "SELECT (SELECT COUNT(*) FROM version WHERE key_id <> $1) \
                    + (SELECT COUNT(*) FROM stash WHERE key_id <> $1) \
                    + (SELECT COUNT(*) FROM store_key WHERE key_id <> $1)";
                sqlx::query_scalar(sql).bind(current).fetch_one($executor).await
            }

            async fn versions_after(
                &mut self,
                but: Option<Vec<u8>>,
                after: (Vec<u8>, i64),
                most: i64,
            ) -> Result<Vec<(Place, SealedColumns)>, sqlx::Error> {
                let $it = self;
                let sql = "SELECT secret, version, suite, key_id, wrapped_dek, nonce, \
                    ciphertext, commitment FROM version WHERE state = 'live' \
                    AND (secret, version) > ($1, $2) AND ($3 IS NULL OR key_id <> $3) \
                    ORDER BY secret, version LIMIT $4";
                let query = sqlx::query_as(sql).bind(after.0).bind(after.1);
                let rows: Vec<VersionRow> =
                    query.bind(but).bind(most).fetch_all($executor).await?;
                let split = |(secret, version, a, b, c, d, e, f)| {
                    (Place::Version(secret, version), (a, b, c, d, e, f))
                };
                Ok(rows.into_iter().map(split).collect())
            }

            async fn stashes(&mut self) -> Result<Vec<(Place, SealedColumns)>, sqlx::Error> {
                let $it = self;
                let sql = "SELECT token, suite, key_id, wrapped_dek, nonce, ciphertext, \
                    commitment FROM stash ORDER BY token";
                let rows: Vec<StashRow> = sqlx::query_as(sql).fetch_all($executor).await?;
                let split = |(token, a, b, c, d, e, f)| (Place::Stash(token), (a, b, c, d, e, f));
                Ok(rows.into_iter().map(split).collect())
            }

            async fn rewrap(&mut self, rows: Vec<Rewrapped>) -> Result<(), sqlx::Error> {
                let $it = self;
                let mut transaction = $begin.await?;
                for Rewrapped { place, sealed, was } in rows {
                    let kek = sealed.key_id.bytes().to_vec();
                    let query = sqlx::query(place.rewrap_sql()).bind(kek).bind(sealed.wrapped_dek);
                    let query = match place {
                        Place::Version(secret, version) => query.bind(secret).bind(version),
                        Place::Stash(token) => query.bind(token),
                        Place::StoreKey(generation) => query.bind(generation),
                    };
                    query.bind(was).execute(&mut *transaction).await?;
                }
                transaction.commit().await
            }

            async fn drop_keks(&mut self, current: Vec<u8>) -> Result<(), sqlx::Error> {
                let $it = self;
                let sql = "DELETE FROM kek WHERE state = 'old' AND id <> $1 \
                    AND NOT EXISTS (SELECT 1 FROM version WHERE key_id = kek.id) \
                    AND NOT EXISTS (SELECT 1 FROM stash WHERE key_id = kek.id) \
                    AND NOT EXISTS (SELECT 1 FROM store_key WHERE key_id = kek.id)";
                let mut transaction = $begin.await?;
                sqlx::raw_sql($bar).execute(&mut *transaction).await?;
                let query = sqlx::query(sql).bind(current);
                query.execute(&mut *transaction).await?;
                transaction.commit().await
            }
        }
    };
}

/// A KEK becomes current.
const INSERT_KEK: &str =
    "INSERT INTO kek (id, sealed, wraps, state, created) VALUES ($1, $2, $3, 'current', $4)";

table_over!(
    SqliteTable,
    it,
    &mut it.connection,
    sqlx::Connection::begin(&mut it.connection),
    crate::file::SCHEMA,
    // Nobody else has the file open.
    "SELECT 1"
);
table_over!(
    PostgresTable,
    it,
    &it.pool,
    it.pool.begin(),
    // One opener at a time makes the first rows.
    "LOCK TABLE deployment IN EXCLUSIVE MODE",
    // A row that names one holds on to it until it is committed, so what is looked for then is all there is.
    "SELECT 1 FROM kek WHERE state = 'old' ORDER BY id FOR UPDATE"
);
