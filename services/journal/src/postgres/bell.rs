//! Listens for appends of others: the server rings at every commit.
//!
//! Invariant: only a hint. A ring may be late, spurious or lost with its connection; after each new
//! connection the head is looked at, so that what was missed meanwhile is made up for.

use std::time::Duration;

use keywheel_engine::port::journal::Mark;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use crate::tables::from_sql;

/// Where commits are told.
pub(super) const CHANNEL: &str = "keywheel_journal";
/// How long to wait before the server is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Rings until dropped.
pub(super) async fn ring(pool: PgPool, bell: watch::Sender<Mark>) {
    loop {
        if let Err(error) = follow(&pool, &bell).await {
            tracing::debug!(%error, "not told of appends by others; trying again");
        }
        if bell.is_closed() || pool.is_closed() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(pool: &PgPool, bell: &watch::Sender<Mark>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    advance(bell, head(pool).await?);
    loop {
        match listener.try_recv().await? {
            Some(told) => match mark(told.payload()) {
                Some(mark) => advance(bell, mark),
                None => advance(bell, head(pool).await?),
            },
            None => advance(bell, head(pool).await?),
        }
    }
}

async fn head(pool: &PgPool) -> Result<Mark, sqlx::Error> {
    let row: (i64, i64) = sqlx::query_as("SELECT number, audit_size FROM head WHERE id = 1")
        .fetch_one(pool)
        .await?;
    Ok(Mark {
        number: from_sql(row.0),
        audit_size: from_sql(row.1),
    })
}

fn mark(payload: &str) -> Option<Mark> {
    let (number, audit_size) = payload.split_once(' ')?;
    Some(Mark {
        number: number.parse().ok()?,
        audit_size: audit_size.parse().ok()?,
    })
}

fn advance(bell: &watch::Sender<Mark>, to: Mark) {
    bell.send_if_modified(|at| {
        let further = to.number > at.number || to.audit_size > at.audit_size;
        if further {
            *at = to;
        }
        further
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_never_goes_back_and_nonsense_is_no_mark() {
        let (bell, heard) = watch::channel(Mark::default());
        let at = |number, audit_size| Mark { number, audit_size };
        advance(&bell, mark("7 9").unwrap());
        assert_eq!(*heard.borrow(), at(7, 9));
        advance(&bell, at(6, 8));
        assert_eq!(*heard.borrow(), at(7, 9));
        for bad in ["", "7", "x 1", "1 x", "-1 1"] {
            assert_eq!(mark(bad), None, "{bad}");
        }
    }
}
