//! A durable append beside a bare SQLite insert of the same bytes.
//!
//! Both databases lie in the same directory on the same disk, with the same
//! settings (WAL, FULL), and take turns. The group commit is what the gateway
//! does under load: many decisions in one transaction.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_core::id::DeploymentId;
use keywheel_engine::port::journal::{Decision, Journal as _};
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::conformance::journal::decision;
use keywheel_tests::scratch::Scratch;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection};

use crate::Line;

/// Pairs of one append and one insert.
const PAIRS: u64 = 1500;
/// Decisions of one group commit.
const GROUP: u64 = 64;
/// Group commits.
const GROUPS: u64 = 60;

async fn bare(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::query("CREATE TABLE entry (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn journal(path: &Path) -> Result<SqliteJournal> {
    let key = SigningKey::from_seed_bytes(&SecretBytes::from(vec![7u8; 32]))?;
    let options = JournalOptions {
        deployment: DeploymentId::from_bytes([1; 16]),
        source: "keywheel/bench/gateway".to_owned(),
        signing_key: key,
        origin: "keywheel.dev/bench".to_owned(),
    };
    Ok(SqliteJournal::open(path, options).await?)
}

/// One append and one insert in turns, then group commits.
async fn measure(scratch: &Scratch) -> Result<Vec<Line>> {
    let mut bare = bare(&scratch.join("bare.sqlite")).await?;
    let journal = journal(&scratch.join("journal.sqlite")).await?;
    let (mut ours, mut theirs, mut ratio) =
        (Samples::default(), Samples::default(), Samples::default());
    for number in 1..=PAIRS {
        let begun = now();
        let written = journal.append(number, &[decision(number)]).await?;
        let append = begun.elapsed();
        let bytes: Arc<[u8]> = written
            .first()
            .context("nothing was appended")?
            .bytes
            .clone();
        let begun = now();
        let insert = sqlx::query("INSERT INTO entry (bytes) VALUES (?)").bind(bytes.to_vec());
        insert.execute(&mut bare).await?;
        let insert = begun.elapsed();
        ours.add_span(append);
        theirs.add_span(insert);
        ratio.add(append.as_secs_f64() / insert.as_secs_f64());
    }
    let mut grouped = Samples::default();
    for group in 0..GROUPS {
        let first = PAIRS + group * GROUP + 1;
        let decisions: Vec<Decision> = (first..first + GROUP).map(decision).collect();
        let begun = now();
        journal.append(first, &decisions).await?;
        grouped.add(GROUP as f64 / begun.elapsed().as_secs_f64());
    }
    let line = |key: &str, what: &str, samples, budget| Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget,
    };
    Ok(vec![
        line(
            "append",
            "journal append, one decision with its audit",
            ours,
            "-",
        ),
        line(
            "bare_insert",
            "a bare SQLite insert, WAL and FULL",
            theirs,
            "-",
        ),
        line("append_ratio", "ratio of each pair", ratio, "p50 <= 2"),
        line(
            "append_group_per_s",
            "events a second, 64 decisions a commit",
            grouped,
            ">= 5000",
        ),
    ])
}

/// The journal's append.
pub(crate) fn append() -> Result<Vec<Line>> {
    let scratch = Scratch::make()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(&scratch))
}
