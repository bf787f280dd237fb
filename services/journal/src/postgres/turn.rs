//! Whose turn it is to tell the world what was appended.
//!
//! Invariants: by the server's clock alone, one holder at a time; a turn that is not renewed ends by
//! itself; only its holder moves the mark, and never back.

use std::time::Duration;

use keywheel_engine::port::journal::{Mark, Turn};
use sqlx::PgConnection;

use crate::tables::{from_sql, to_sql};

/// Takes the turn when it is free, keeps it when it is ours.
pub(super) async fn take(
    connection: &mut PgConnection,
    holder: &[u8],
    told: Option<Mark>,
    span: Duration,
) -> Result<Turn, sqlx::Error> {
    let told = told.unwrap_or_default();
    let row: Option<(i64, i64)> = sqlx::query_as(
        "UPDATE turn SET holder = $1, until = clock_timestamp() + $2 * INTERVAL '1 millisecond', \
         number = CASE WHEN holder = $1 THEN GREATEST(number, $3) ELSE number END, \
         audit_size = CASE WHEN holder = $1 THEN GREATEST(audit_size, $4) ELSE audit_size END \
         WHERE id = 1 AND (holder = $1 OR until < clock_timestamp()) RETURNING number, audit_size",
    )
    .bind(holder.to_vec())
    .bind(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
    .bind(to_sql(told.number))
    .bind(to_sql(told.audit_size))
    .fetch_optional(connection)
    .await?;
    Ok(row.map_or(Turn::Theirs, |(number, audit_size)| {
        Turn::Ours(Mark {
            number: from_sql(number),
            audit_size: from_sql(audit_size),
        })
    }))
}
