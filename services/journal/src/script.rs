//! Several statements with their values, run as one: one message to SQLite's thread per append.
//!
//! Invariant: the text is made of the constants of this crate only; every value is bound. It does
//! not undo a transaction whose script stopped half way; its caller does.

use std::fmt::Write as _;

use keywheel_schemas::event::type_name;

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

use crate::batch::{Batch, EventRow, LeafRow, Tail, TileRow};
use crate::tables::to_sql;

/// Most rows of one INSERT: its values stay far below SQLite's limit on bound values.
const MAX_ROWS: usize = 64;
/// Longest script whose compiled form is kept for the next append of the same shape.
const MAX_CACHED_BYTES: usize = 4096;

/// Statements and values.
#[derive(Default)]
pub(crate) struct Script {
    text: String,
    values: SqliteArguments,
    fault: Option<sqlx::error::BoxDynError>,
}

impl Script {
    /// Appends a statement; its values are bound after it, in order.
    pub(crate) fn statement(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self.text.push_str(";\n");
        self
    }

    /// Binds a value.
    pub(crate) fn bind<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        if let Err(fault) = self.values.add(value) {
            self.fault.get_or_insert(fault);
        }
        self
    }

    /// Appends rows in as few statements as the limits allow. `into` is `INSERT INTO t (a, b)`,
    /// `row` is `(?, ?)`; `bind` binds one row.
    pub(crate) fn insert<R>(
        &mut self,
        into: &'static str,
        row: &'static str,
        rows: impl ExactSizeIterator<Item = R>,
        mut bind: impl FnMut(&mut Self, R),
    ) {
        let mut left = rows.len();
        let mut in_statement = 0;
        for values in rows {
            if in_statement == 0 {
                // Writing to a String cannot fail.
                let _ = write!(self.text, "{into} VALUES {row}");
            } else {
                self.text.push(',');
                self.text.push_str(row);
            }
            bind(self, values);
            in_statement += 1;
            left = left.saturating_sub(1);
            if in_statement == MAX_ROWS || left == 0 {
                self.text.push_str(";\n");
                in_statement = 0;
            }
        }
    }

    /// Runs everything; after a failure the statements behind it did not run.
    pub(crate) async fn run(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if let Some(fault) = self.fault {
            return Err(sqlx::Error::Encode(fault));
        }
        let keep = self.text.len() <= MAX_CACHED_BYTES;
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.values).persistent(keep);
        query.execute(connection).await.map(drop)
    }
}

/// A whole batch, from BEGIN to COMMIT.
pub(crate) fn of_batch(batch: Batch) -> Script {
    let mut script = Script::default();
    script.statement("BEGIN IMMEDIATE");
    let into = "INSERT INTO command (id, verdict)";
    let answers = batch.answers.into_iter();
    script.insert(into, "(?, ?)", answers, |script, (id, text)| {
        script.bind(id.bytes().to_vec()).bind(text);
    });
    write_events(&mut script, batch.events);
    write_effects(&mut script, batch.effects, batch.closes, batch.tail.number);
    write_tree(&mut script, batch.leaves, batch.tiles);
    write_tail(&mut script, &batch.tail);
    script.statement("COMMIT");
    script
}

fn write_events(script: &mut Script, rows: Vec<EventRow>) {
    let into = "INSERT INTO event \
        (number, id, aggregate, aggregate_sequence, type, time, bytes, hash, signature)";
    script.insert(
        into,
        "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows.into_iter(),
        |script, row| {
            let event = row.recorded;
            script
                .bind(to_sql(event.number))
                .bind(event.id.bytes().to_vec())
                .bind(row.aggregate)
                .bind(to_sql(row.sequence))
                .bind(type_name(&event.event))
                .bind(event.time.micros())
                .bind(event.bytes)
                .bind(event.hash.to_vec())
                .bind(event.signature.to_vec());
        },
    );
}

fn write_effects(
    script: &mut Script,
    effects: Vec<(String, Vec<u8>)>,
    closes: Vec<String>,
    number: u64,
) {
    let into = "INSERT INTO effect (key, number, bytes, state)";
    let effects = effects.into_iter();
    script.insert(
        into,
        "(?, ?, ?, 'open')",
        effects,
        |script, (key, bytes)| {
            script.bind(key).bind(to_sql(number)).bind(bytes);
        },
    );
    for key in closes {
        script
            .statement("UPDATE effect SET state = 'closed' WHERE key = ?")
            .bind(key);
    }
}

fn write_tree(script: &mut Script, leaves: Vec<LeafRow>, tiles: Vec<TileRow>) {
    let into = "INSERT INTO audit (place, bytes, leaf_hash)";
    script.insert(into, "(?, ?, ?)", leaves.into_iter(), |script, leaf| {
        script
            .bind(to_sql(leaf.place))
            .bind(leaf.bytes)
            .bind(leaf.hash.to_vec());
    });
    let into = "INSERT INTO tile (place, root, checkpoint)";
    script.insert(into, "(?, ?, ?)", tiles.into_iter(), |script, tile| {
        script
            .bind(to_sql(tile.place))
            .bind(tile.root.to_vec())
            .bind(tile.checkpoint);
    });
}

fn write_tail(script: &mut Script, tail: &Tail) {
    script
        .statement("UPDATE head SET number = ?, hash = ?, audit_size = ?, frontier = ?, checkpoint = ? WHERE id = 1")
        .bind(to_sql(tail.number))
        .bind(tail.hash.to_vec())
        .bind(to_sql(tail.frontier.size()))
        .bind(tail.frontier.to_bytes())
        .bind(tail.checkpoint.clone());
    script
        .statement("UPDATE process_checkpoint SET number = ?")
        .bind(to_sql(tail.number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_into_as_few_statements_as_the_limit_allows() {
        for (rows, statements) in [(0, 0), (1, 1), (MAX_ROWS, 1), (MAX_ROWS + 1, 2)] {
            let mut script = Script::default();
            script.insert(
                "INSERT INTO t (a)",
                "(?)",
                vec![1_i64; rows].into_iter(),
                |script, n| {
                    script.bind(n);
                },
            );
            assert_eq!(
                script.text.matches(" VALUES ").count(),
                statements,
                "{rows}"
            );
            assert_eq!(script.text.matches(";\n").count(), statements, "{rows}");
            assert_eq!(script.text.matches('?').count(), rows);
        }
    }
}
