//! The rows of a journal, as any database gives them: one query each, nothing checked.
//!
//! Invariant: SQLite and PostgreSQL answer the same statements, so that everything that judges rows
//! is written once. Every read is bounded by its caller.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

/// number, hash, audit size, frontier, checkpoint
pub(crate) type HeadColumns = (i64, Vec<u8>, i64, Vec<u8>, String);
/// deployment, origin, public key
pub(crate) type OwnerColumns = (Vec<u8>, String, Vec<u8>);
/// number, bytes, hash, signature
pub(crate) type ProvenColumns = (i64, Vec<u8>, Vec<u8>, Vec<u8>);
/// number, id, aggregate, aggregate sequence, type, time, bytes, hash, signature
pub(crate) type EventColumns = (
    i64,
    Vec<u8>,
    String,
    i64,
    String,
    i64,
    Vec<u8>,
    Vec<u8>,
    Vec<u8>,
);
/// place, bytes, leaf hash
pub(crate) type LeafColumns = (i64, Vec<u8>, Vec<u8>);

/// Reads rows over one connection.
#[async_trait]
pub(crate) trait Rows: Send {
    /// The row that says where the log ends.
    async fn head(&mut self) -> Result<Option<HeadColumns>, sqlx::Error>;
    /// Whose log it is.
    async fn owner(&mut self) -> Result<Option<OwnerColumns>, sqlx::Error>;
    /// The newest event.
    async fn last_event(&mut self) -> Result<Option<ProvenColumns>, sqlx::Error>;
    /// Events from a number on.
    async fn events(&mut self, from: i64, limit: i64) -> Result<Vec<ProvenColumns>, sqlx::Error>;
    /// Events behind a number, with the names made from their bytes.
    async fn whole_events(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventColumns>, sqlx::Error>;
    /// An event whose number is none.
    async fn unnumbered_event(&mut self) -> Result<Option<i64>, sqlx::Error>;
    /// Aggregates whose sequences are not 1, 2, 3, …; sequences are unique.
    async fn gapped_aggregates(&mut self, limit: i64) -> Result<Vec<String>, sqlx::Error>;
    /// Last sequences of aggregates, at most a few dozen.
    async fn last_sequences(&mut self, of: &[String]) -> Result<Vec<(String, i64)>, sqlx::Error>;
    /// The answer to a command.
    async fn answer(&mut self, command: &[u8]) -> Result<Option<String>, sqlx::Error>;
    /// Answers behind a command's id.
    async fn answers(
        &mut self,
        after: &[u8],
        limit: i64,
    ) -> Result<Vec<(Vec<u8>, String)>, sqlx::Error>;
    /// Effects nobody answered yet, oldest first.
    async fn open_effects(&mut self) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error>;
    /// Effects behind a place: place, key, bytes.
    async fn effects(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, String, Vec<u8>)>, sqlx::Error>;
    /// Leaves from a place on.
    async fn leaves(&mut self, from: i64, limit: i64) -> Result<Vec<LeafColumns>, sqlx::Error>;
    /// Hashes of the leaves of a range.
    async fn leaf_hashes(&mut self, from: i64, to: i64) -> Result<Vec<Vec<u8>>, sqlx::Error>;
    /// A leaf outside of a tree of this size.
    async fn leaf_outside(&mut self, size: i64) -> Result<Option<i64>, sqlx::Error>;
    /// The place behind the last leaf.
    async fn leaf_end(&mut self) -> Result<i64, sqlx::Error>;
    /// The place of the first leaf.
    async fn leaf_begin(&mut self) -> Result<Option<i64>, sqlx::Error>;
    /// Leaf hashes of a tile whose records were removed.
    async fn removed_tile(&mut self, place: i64) -> Result<Option<Vec<u8>>, sqlx::Error>;
    /// Keeps the leaf hashes of a tile whose records are removed.
    async fn keep_tile(&mut self, place: i64, hashes: Vec<u8>) -> Result<(), sqlx::Error>;
    /// Removes the leaves of a range.
    async fn remove_leaves(&mut self, from: i64, to: i64) -> Result<(), sqlx::Error>;
    /// Roots of the tiles of a range.
    async fn tile_roots(&mut self, from: i64, to: i64) -> Result<Vec<Vec<u8>>, sqlx::Error>;
    /// Root and checkpoint of a tile.
    async fn tile(&mut self, place: i64) -> Result<Option<(Vec<u8>, String)>, sqlx::Error>;
    /// How far each process manager came.
    async fn process_checkpoints(&mut self) -> Result<Vec<(String, i64)>, sqlx::Error>;
    /// The first rows of a new log.
    async fn begin_log(
        &mut self,
        owner: OwnerColumns,
        head: HeadColumns,
        process_managers: &[&str],
    ) -> Result<(), sqlx::Error>;
}

/// Writes the same implementation for a connection.
macro_rules! rows_over {
    ($connection:ty, $has_removed_tiles:literal) => {
        #[async_trait]
        impl Rows for $connection {
            async fn head(&mut self) -> Result<Option<HeadColumns>, sqlx::Error> {
                let sql =
                    "SELECT number, hash, audit_size, frontier, checkpoint FROM head WHERE id = 1";
                sqlx::query_as(sql).fetch_optional(self).await
            }

            async fn owner(&mut self) -> Result<Option<OwnerColumns>, sqlx::Error> {
                let sql = "SELECT deployment, origin, public_key FROM log WHERE id = 1";
                sqlx::query_as(sql).fetch_optional(self).await
            }

            async fn last_event(&mut self) -> Result<Option<ProvenColumns>, sqlx::Error> {
                let sql =
                    "SELECT number, bytes, hash, signature FROM event ORDER BY number DESC LIMIT 1";
                sqlx::query_as(sql).fetch_optional(self).await
            }

            async fn events(
                &mut self,
                from: i64,
                limit: i64,
            ) -> Result<Vec<ProvenColumns>, sqlx::Error> {
                let sql = "SELECT number, bytes, hash, signature FROM event \
                    WHERE number >= $1 ORDER BY number LIMIT $2";
                let query = sqlx::query_as(sql).bind(from).bind(limit);
                query.fetch_all(self).await
            }

            async fn whole_events(
                &mut self,
                after: i64,
                limit: i64,
            ) -> Result<Vec<EventColumns>, sqlx::Error> {
                let sql =
                    "SELECT number, id, aggregate, aggregate_sequence, type, time, bytes, hash, \
                    signature FROM event WHERE number > $1 ORDER BY number LIMIT $2";
                let query = sqlx::query_as(sql).bind(after).bind(limit);
                query.fetch_all(self).await
            }

            async fn unnumbered_event(&mut self) -> Result<Option<i64>, sqlx::Error> {
                let sql = "SELECT number FROM event WHERE number < 1 LIMIT 1";
                sqlx::query_scalar(sql).fetch_optional(self).await
            }

            async fn gapped_aggregates(&mut self, limit: i64) -> Result<Vec<String>, sqlx::Error> {
                let sql = "SELECT aggregate FROM event GROUP BY aggregate \
                    HAVING COUNT(*) <> MAX(aggregate_sequence) OR MIN(aggregate_sequence) <> 1 \
                    ORDER BY aggregate LIMIT $1";
                sqlx::query_scalar(sql).bind(limit).fetch_all(self).await
            }

            async fn last_sequences(
                &mut self,
                of: &[String],
            ) -> Result<Vec<(String, i64)>, sqlx::Error> {
                let places: Vec<String> = (1..=of.len()).map(|n| format!("${n}")).collect();
                let sql = format!(
                    "SELECT aggregate, MAX(aggregate_sequence) FROM event \
                    WHERE aggregate IN ({}) GROUP BY aggregate",
                    places.join(", ")
                );
                let mut query = sqlx::query_as(AssertSqlSafe(sql));
                for aggregate in of {
                    query = query.bind(aggregate);
                }
                query.fetch_all(self).await
            }

            async fn answer(&mut self, command: &[u8]) -> Result<Option<String>, sqlx::Error> {
                let query = sqlx::query_scalar("SELECT verdict FROM command WHERE id = $1");
                query.bind(command.to_vec()).fetch_optional(self).await
            }

            async fn answers(
                &mut self,
                after: &[u8],
                limit: i64,
            ) -> Result<Vec<(Vec<u8>, String)>, sqlx::Error> {
                let sql = "SELECT id, verdict FROM command WHERE id > $1 ORDER BY id LIMIT $2";
                let query = sqlx::query_as(sql).bind(after.to_vec()).bind(limit);
                query.fetch_all(self).await
            }

            async fn open_effects(&mut self) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error> {
                let sql = "SELECT key, bytes FROM effect WHERE state = 'open' ORDER BY place";
                sqlx::query_as(sql).fetch_all(self).await
            }

            async fn effects(
                &mut self,
                after: i64,
                limit: i64,
            ) -> Result<Vec<(i64, String, Vec<u8>)>, sqlx::Error> {
                let sql =
                    "SELECT place, key, bytes FROM effect WHERE place > $1 ORDER BY place LIMIT $2";
                let query = sqlx::query_as(sql).bind(after).bind(limit);
                query.fetch_all(self).await
            }

            async fn leaves(
                &mut self,
                from: i64,
                limit: i64,
            ) -> Result<Vec<LeafColumns>, sqlx::Error> {
                let sql = "SELECT place, bytes, leaf_hash FROM audit \
                    WHERE place >= $1 ORDER BY place LIMIT $2";
                let query = sqlx::query_as(sql).bind(from).bind(limit);
                query.fetch_all(self).await
            }

            async fn leaf_hashes(
                &mut self,
                from: i64,
                to: i64,
            ) -> Result<Vec<Vec<u8>>, sqlx::Error> {
                let sql =
                    "SELECT leaf_hash FROM audit WHERE place >= $1 AND place < $2 ORDER BY place";
                let query = sqlx::query_scalar(sql).bind(from).bind(to);
                query.fetch_all(self).await
            }

            async fn leaf_outside(&mut self, size: i64) -> Result<Option<i64>, sqlx::Error> {
                let sql =
                    "SELECT place FROM audit WHERE place < 0 OR place >= $1 ORDER BY place LIMIT 1";
                let query = sqlx::query_scalar(sql).bind(size);
                query.fetch_optional(self).await
            }

            async fn leaf_end(&mut self) -> Result<i64, sqlx::Error> {
                let query = sqlx::query_scalar("SELECT COALESCE(MAX(place) + 1, 0) FROM audit");
                query.fetch_one(self).await
            }

            async fn leaf_begin(&mut self) -> Result<Option<i64>, sqlx::Error> {
                let query = sqlx::query_scalar("SELECT MIN(place) FROM audit WHERE place >= 0");
                query.fetch_one(self).await
            }

            async fn removed_tile(&mut self, place: i64) -> Result<Option<Vec<u8>>, sqlx::Error> {
                // A log of a build before there were any is read as it is.
                let query = sqlx::query_scalar::<_, i64>($has_removed_tiles);
                if query.fetch_one(&mut *self).await? == 0 {
                    return Ok(None);
                }
                let query = sqlx::query_scalar("SELECT hashes FROM removed_tile WHERE place = $1");
                query.bind(place).fetch_optional(self).await
            }

            async fn keep_tile(&mut self, place: i64, hashes: Vec<u8>) -> Result<(), sqlx::Error> {
                let query =
                    sqlx::query("INSERT INTO removed_tile (place, hashes) VALUES ($1, $2)");
                query.bind(place).bind(hashes).execute(self).await.map(drop)
            }

            async fn remove_leaves(&mut self, from: i64, to: i64) -> Result<(), sqlx::Error> {
                let query = sqlx::query("DELETE FROM audit WHERE place >= $1 AND place < $2");
                query.bind(from).bind(to).execute(self).await.map(drop)
            }

            async fn tile_roots(&mut self, from: i64, to: i64) -> Result<Vec<Vec<u8>>, sqlx::Error> {
                let sql = "SELECT root FROM tile WHERE place >= $1 AND place < $2 ORDER BY place";
                let query = sqlx::query_scalar(sql).bind(from).bind(to);
                query.fetch_all(self).await
            }

            async fn tile(
                &mut self,
                place: i64,
            ) -> Result<Option<(Vec<u8>, String)>, sqlx::Error> {
                let query = sqlx::query_as("SELECT root, checkpoint FROM tile WHERE place = $1");
                query.bind(place).fetch_optional(self).await
            }

            async fn process_checkpoints(&mut self) -> Result<Vec<(String, i64)>, sqlx::Error> {
                let sql = "SELECT name, number FROM process_checkpoint ORDER BY name";
                sqlx::query_as(sql).fetch_all(self).await
            }

            async fn begin_log(
                &mut self,
                (deployment, origin, public_key): OwnerColumns,
                (number, hash, audit_size, frontier, checkpoint): HeadColumns,
                process_managers: &[&str],
            ) -> Result<(), sqlx::Error> {
                let sql =
                    "INSERT INTO log (id, deployment, origin, public_key) VALUES (1, $1, $2, $3)";
                let query = sqlx::query(sql).bind(deployment).bind(origin);
                query.bind(public_key).execute(&mut *self).await?;
                let sql =
                    "INSERT INTO head (id, number, hash, audit_size, frontier, checkpoint) \
                    VALUES (1, $1, $2, $3, $4, $5)";
                let query = sqlx::query(sql).bind(number).bind(hash).bind(audit_size);
                let query = query.bind(frontier).bind(checkpoint);
                query.execute(&mut *self).await?;
                for name in process_managers {
                    let sql = "INSERT INTO process_checkpoint (name, number) VALUES ($1, $2)";
                    let query = sqlx::query(sql).bind((*name).to_owned()).bind(number);
                    query.execute(&mut *self).await?;
                }
                Ok(())
            }
        }
    };
}

rows_over!(
    SqliteConnection,
    "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'removed_tile'"
);
rows_over!(
    PgConnection,
    "SELECT COUNT(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('removed_tile')"
);
