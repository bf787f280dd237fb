//! Sessions: their settings, what is asked of the server before it is used, and the tables.
//!
//! Invariants: several processes may open an empty database at once and one of them makes the
//! tables; tables are only ever upgraded; a session that goes quiet inside a transaction is cut by the
//! server, whose locks are free then.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, PgPool};

use crate::{Address, Error, fault};

/// The oldest server that the tests run against.
pub const MIN_VERSION: i32 = 150_000;
/// Most connections of one process to one database.
pub const MAX_CONNECTIONS: u32 = 8;
/// How long a caller waits for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a session may hold a transaction open without working. A paused process, or one whose
/// host vanished, holds its locks for that long.
pub const MAX_IDLE_IN_TRANSACTION: Duration = Duration::from_secs(3);
/// How long a statement waits for a lock: longer than another session may sit on it.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(8);
/// How long any statement may take.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// What a [`login`] calls itself: the server ends its session a moment after it was closed here.
pub const LOGIN_NAME: &str = "keywheel-login";
/// Held while tables are made or upgraded; "keywheel" in bytes.
const UPGRADE_LOCK: i64 = 0x6b65_7977_6865_656c;

/// Connects, and brings the tables of `schema` to the newest format. Every session then finds that
/// schema by itself. `upgrades` holds one text of statements per format, first first.
///
/// # Errors
/// When the server is away, says no, is not fit, or holds tables of a newer build.
pub async fn open(
    address: &Address,
    schema: &'static str,
    upgrades: &[&'static str],
) -> Result<PgPool, Error> {
    let pool = connect(address, schema).await?;
    let connection = pool.acquire().await;
    let mut connection = connection.map_err(|source| fault::opening(address.name(), source))?;
    upgrade(&mut connection, address.name(), schema, upgrades).await?;
    drop(connection);
    Ok(pool)
}

/// Connects, asserts that the server keeps what it acknowledges, and changes nothing.
///
/// # Errors
/// When the server is away, says no or is not fit.
pub async fn connect(address: &Address, schema: &'static str) -> Result<PgPool, Error> {
    let failed = |source| fault::opening(address.name(), source);
    let options = address.options().application_name("keywheel").options([
        ("search_path", schema.to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("lock_timeout", millis(LOCK_TIMEOUT)),
        ("statement_timeout", millis(STATEMENT_TIMEOUT)),
        (
            "idle_in_transaction_session_timeout",
            millis(MAX_IDLE_IN_TRANSACTION),
        ),
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(CONNECT_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(failed)?;
    let mut connection = pool.acquire().await.map_err(failed)?;
    assert_durable(&mut connection, address.name()).await?;
    drop(connection);
    Ok(pool)
}

/// One connection of its own to a server that keeps nothing of ours: nothing is asserted about it, and
/// no table of its owner is found by an unqualified name.
///
/// # Errors
/// As the library tells it; one that was not made within [`CONNECT_TIMEOUT`] as a pool's timeout.
pub async fn single(address: &Address) -> Result<PgConnection, sqlx::Error> {
    let options = address.options().application_name("keywheel").options([
        ("search_path", "pg_catalog".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("lock_timeout", millis(LOCK_TIMEOUT)),
        ("statement_timeout", millis(LOCK_TIMEOUT)),
        (
            "idle_in_transaction_session_timeout",
            millis(MAX_IDLE_IN_TRANSACTION),
        ),
    ]);
    let made = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    made.map_err(|_| sqlx::Error::PoolTimedOut)?
}

/// Whether the server lets this address's user in: a login that ends at once and asks for no setting.
///
/// # Errors
/// As the library tells it; the refusal of a login is one.
pub async fn login(address: &Address) -> Result<(), sqlx::Error> {
    let options = address.options().application_name(LOGIN_NAME);
    let made = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    let connection = made.map_err(|_| sqlx::Error::PoolTimedOut)??;
    // It was let in; how the connection ends, and whether the server takes its end, says nothing about
    // that.
    let end = sqlx::Connection::close(connection);
    let _ended = tokio::time::timeout(CONNECT_TIMEOUT, end).await;
    Ok(())
}

fn millis(span: Duration) -> String {
    span.as_millis().to_string()
}

/// Asks the server what it really does, whatever it was told.
async fn assert_durable(connection: &mut PgConnection, name: &str) -> Result<(), Error> {
    let failed = |source| fault::opening(name, source);
    let version: String = sqlx::query_scalar("SHOW server_version_num")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if version.parse::<i32>().unwrap_or(0) < MIN_VERSION {
        return Err(Error::Unfit {
            name: name.to_owned(),
            setting: "server_version_num",
            found: version,
            wanted: "150000 (PostgreSQL 15) or newer",
        });
    }
    for (setting, sql, good) in [
        ("fsync", "SHOW fsync", &["on"][..]),
        ("full_page_writes", "SHOW full_page_writes", &["on"]),
        (
            "synchronous_commit",
            "SHOW synchronous_commit",
            &["on", "remote_apply"],
        ),
        (
            "transaction_read_only",
            "SHOW transaction_read_only",
            &["off"],
        ),
    ] {
        let found: String = sqlx::query_scalar(sql)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        if !good.contains(&found.as_str()) {
            return Err(Error::Unfit {
                name: name.to_owned(),
                setting,
                found,
                wanted: good.first().copied().unwrap_or_default(),
            });
        }
    }
    Ok(())
}

/// Brings the tables to the newest format, one opener at a time, all or nothing.
async fn upgrade(
    connection: &mut PgConnection,
    name: &str,
    schema: &'static str,
    upgrades: &[&'static str],
) -> Result<(), Error> {
    let failed = |source| fault::opening(name, source);
    let mut transaction = sqlx::Connection::begin(connection).await.map_err(failed)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(UPGRADE_LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("{schema}.format"))
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    if !there {
        // Safe: `schema` is a constant of the calling adapter.
        let sql = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {schema}.format (number BIGINT NOT NULL); \
             INSERT INTO {schema}.format VALUES (0)"
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    let found: i64 = sqlx::query_scalar("SELECT number FROM format")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    let known = i64::try_from(upgrades.len()).unwrap_or(i64::MAX);
    let behind = usize::try_from(found)
        .ok()
        .and_then(|done| upgrades.get(done..));
    let Some(behind) = behind else {
        return Err(Error::UnknownFormat {
            name: name.to_owned(),
            found,
            known,
        });
    };
    for statements in behind {
        sqlx::raw_sql(*statements)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    sqlx::query("UPDATE format SET number = $1")
        .bind(known)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
