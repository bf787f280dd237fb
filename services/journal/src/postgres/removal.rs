//! Takes old audit records out of the database, a bounded number in each transaction.
//!
//! Invariant: removals and appends happen in turn, by the lock on the head's row, so two gateways remove each tile once.

use keywheel_engine::port::PortError;
use sqlx::PgPool;

use super::locked_tail;
use crate::place::Place;
use crate::retention;

/// Removes some records before an index; gives the first that is left.
pub(super) async fn records(pool: &PgPool, place: &Place, before: u64) -> Result<u64, PortError> {
    let failed = |source| place.failed(source);
    let mut transaction = pool.begin().await.map_err(failed)?;
    let tail = locked_tail(&mut transaction, place).await?;
    let before = before.min(tail.frontier.size());
    let removed = retention::remove(&mut *transaction, before).await;
    // What is damaged stays: the transaction ends without a commit.
    let first = removed
        .map_err(failed)?
        .map_err(|damage| place.damaged(&damage))?;
    transaction.commit().await.map_err(failed)?;
    Ok(first)
}
