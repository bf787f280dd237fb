//! Several statements with their values, run as one: one message to SQLite's thread per append.
//!
//! Invariant: the text is made of the constants of this crate only; every value is bound. It does
//! not undo a transaction whose script stopped half way; its caller does.

use std::fmt::Write as _;

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

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
