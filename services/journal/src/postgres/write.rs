//! Writes a batch: one statement per table, whatever its size.
//!
//! Invariant: the caller holds the lock on the head's row, so that places are counted, not drawn.

use keywheel_schemas::event::type_name;
use sqlx::PgConnection;

use super::bell::CHANNEL;
use crate::batch::{Batch, EventRow, LeafRow, Tail, TileRow};
use crate::tables::to_sql;

/// Writes everything of a batch into the open transaction.
pub(super) async fn batch(connection: &mut PgConnection, batch: Batch) -> Result<(), sqlx::Error> {
    let (ids, answers): (Vec<Vec<u8>>, Vec<String>) = batch
        .answers
        .into_iter()
        .map(|(id, text)| (id.bytes().to_vec(), text))
        .unzip();
    sqlx::query("INSERT INTO command (id, verdict) SELECT * FROM UNNEST($1::bytea[], $2::text[])")
        .bind(ids)
        .bind(answers)
        .execute(&mut *connection)
        .await?;
    events(connection, batch.events).await?;
    effects(connection, batch.effects, &batch.tail).await?;
    if !batch.closes.is_empty() {
        sqlx::query("UPDATE effect SET state = 'closed' WHERE key = ANY($1)")
            .bind(batch.closes)
            .execute(&mut *connection)
            .await?;
    }
    leaves(connection, batch.leaves).await?;
    tiles(connection, batch.tiles).await?;
    tail(connection, &batch.tail).await
}

async fn events(connection: &mut PgConnection, rows: Vec<EventRow>) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = rows.iter().map(|r| to_sql(r.recorded.number)).collect();
    let ids: Vec<Vec<u8>> = rows
        .iter()
        .map(|r| r.recorded.id.bytes().to_vec())
        .collect();
    let sequences: Vec<i64> = rows.iter().map(|r| to_sql(r.sequence)).collect();
    let types: Vec<String> = rows
        .iter()
        .map(|r| type_name(&r.recorded.event).to_owned())
        .collect();
    let times: Vec<i64> = rows.iter().map(|r| r.recorded.time.micros()).collect();
    let bytes: Vec<Vec<u8>> = rows.iter().map(|r| r.recorded.bytes.to_vec()).collect();
    let hashes: Vec<Vec<u8>> = rows.iter().map(|r| r.recorded.hash.to_vec()).collect();
    let signatures: Vec<Vec<u8>> = rows.iter().map(|r| r.recorded.signature.to_vec()).collect();
    let aggregates: Vec<String> = rows.into_iter().map(|r| r.aggregate).collect();
    sqlx::query(
        "INSERT INTO event \
         (number, id, aggregate, aggregate_sequence, type, time, bytes, hash, signature) \
         SELECT * FROM UNNEST($1::bigint[], $2::bytea[], $3::text[], $4::bigint[], $5::text[], \
         $6::bigint[], $7::bytea[], $8::bytea[], $9::bytea[])",
    )
    .bind(numbers)
    .bind(ids)
    .bind(aggregates)
    .bind(sequences)
    .bind(types)
    .bind(times)
    .bind(bytes)
    .bind(hashes)
    .bind(signatures)
    .execute(connection)
    .await
    .map(drop)
}

async fn effects(
    connection: &mut PgConnection,
    effects: Vec<(String, Vec<u8>)>,
    tail: &Tail,
) -> Result<(), sqlx::Error> {
    if effects.is_empty() {
        return Ok(());
    }
    let (keys, bytes): (Vec<String>, Vec<Vec<u8>>) = effects.into_iter().unzip();
    sqlx::query(
        "INSERT INTO effect (place, key, number, bytes, state) \
         SELECT (SELECT COALESCE(MAX(place), 0) FROM effect) + new.n, new.key, $1, new.bytes, 'open' \
         FROM UNNEST($2::text[], $3::bytea[]) WITH ORDINALITY AS new (key, bytes, n)",
    )
    .bind(to_sql(tail.number))
    .bind(keys)
    .bind(bytes)
    .execute(connection)
    .await
    .map(drop)
}

async fn leaves(connection: &mut PgConnection, rows: Vec<LeafRow>) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let places: Vec<i64> = rows.iter().map(|row| to_sql(row.place)).collect();
    let hashes: Vec<Vec<u8>> = rows.iter().map(|row| row.hash.to_vec()).collect();
    let bytes: Vec<Vec<u8>> = rows.into_iter().map(|row| row.bytes).collect();
    sqlx::query(
        "INSERT INTO audit (place, bytes, leaf_hash) \
         SELECT * FROM UNNEST($1::bigint[], $2::bytea[], $3::bytea[])",
    )
    .bind(places)
    .bind(bytes)
    .bind(hashes)
    .execute(connection)
    .await
    .map(drop)
}

async fn tiles(connection: &mut PgConnection, rows: Vec<TileRow>) -> Result<(), sqlx::Error> {
    for row in rows {
        sqlx::query("INSERT INTO tile (place, root, checkpoint) VALUES ($1, $2, $3)")
            .bind(to_sql(row.place))
            .bind(row.root.to_vec())
            .bind(row.checkpoint)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn tail(connection: &mut PgConnection, tail: &Tail) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE head SET number = $1, hash = $2, audit_size = $3, frontier = $4, checkpoint = $5 \
         WHERE id = 1",
    )
    .bind(to_sql(tail.number))
    .bind(tail.hash.to_vec())
    .bind(to_sql(tail.frontier.size()))
    .bind(tail.frontier.to_bytes())
    .bind(tail.checkpoint.clone())
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE process_checkpoint SET number = $1")
        .bind(to_sql(tail.number))
        .execute(&mut *connection)
        .await?;
    // Told at the commit, and only then.
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(format!("{} {}", tail.number, tail.frontier.size()))
        .execute(connection)
        .await
        .map(drop)
}
