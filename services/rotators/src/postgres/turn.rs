//! One of us at a time at an account: what is asked about it and what is changed then belong together.
//!
//! The lock is the server's (advisory) and ends with its transaction, also where the way goes through a
//! pooler. Invariant: who can sign in could hold that lock, too, but cannot put off a revocation by it:
//! only a holder that is the admin itself is waited for.

use std::time::Duration;

use keywheel_engine::port::accounts::Login;
use sha2::{Digest as _, Sha256};
use sqlx::{Acquire as _, PgConnection, Postgres, Transaction};

/// How often the lock is asked for, and the time between.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_millis(100);
/// Longest time without a statement in between: a login is tried meanwhile.
const QUIET: &str = "SET LOCAL idle_in_transaction_session_timeout = '10s'";

/// Who has the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// This transaction.
    Us,
    /// Another session of the admin.
    Admin,
    /// Somebody else, for reasons of their own.
    Other,
}

/// Begins a transaction and takes the account's lock, or tells who has it.
pub(super) async fn begin<'c>(
    admin: &'c mut PgConnection,
    login: &Login,
) -> Result<(Transaction<'c, Postgres>, Holder), sqlx::Error> {
    let key = key_of(&login.name);
    let mut turn = admin.begin().await?;
    sqlx::raw_sql(QUIET).execute(&mut *turn).await?;
    for _ in 0..TRIES {
        let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(key)
            .fetch_one(&mut *turn)
            .await?;
        if is_ours {
            return Ok((turn, Holder::Us));
        }
        tokio::time::sleep(PAUSE).await;
    }
    let is_admin: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
         AND ((l.classid::bigint << 32) | l.objid::bigint) = $1 \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND a.usename = current_user)",
    )
    .bind(key)
    .fetch_one(&mut *turn)
    .await?;
    let holder = match is_admin {
        true => Holder::Admin,
        false => Holder::Other,
    };
    Ok((turn, holder))
}

/// The number of an account's lock.
fn key_of(name: &str) -> i64 {
    let digest = Sha256::digest(format!("keywheel account {name}"));
    let number = |sum: i64, byte: &u8| (sum << 8) | i64::from(*byte);
    digest.iter().take(8).fold(0, number)
}
