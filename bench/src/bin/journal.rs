//! The journal alone, for whoever changes it: one append beside a bare insert, group commits, and
//! how fast a full verification reads. The whole benchmark prints the first two among its own.
//!
//! Invariant: both files lie in one directory, have the same settings and take turns, so that only
//! the ratio counts. The last line of stdout is one JSON object.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a table for a person is what it is for"
)]

use std::path::Path;

use anyhow::Result;
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_core::id::DeploymentId;
use keywheel_engine::port::journal::{Decision, Journal as _, MAX_READ};
use keywheel_journal::offline::{Export, verify_export};
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::conformance::journal::decision;
use keywheel_tests::scratch::Scratch;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqliteConnection};

/// Pairs of one append and one insert.
const PAIRS: u64 = 2000;
/// Decisions of one group commit.
const GROUP: u64 = 64;
/// Group commits.
const GROUPS: u64 = 200;
/// Records in each decision of the audit's share of the verification.
const LEAVES: usize = 1000;
/// Decisions of only audit records, so that the leaves' speed shows.
const LEAF_DECISIONS: u64 = 200;

async fn bare(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = options.disable_statement_logging().connect().await?;
    sqlx::query("CREATE TABLE entry (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn open(path: &Path) -> Result<SqliteJournal> {
    let options = JournalOptions {
        deployment: DeploymentId::from_bytes([1; 16]),
        source: "keywheel/bench/gateway".to_owned(),
        signing_key: SigningKey::from_seed_bytes(&SecretBytes::from(vec![7_u8; 32]))?,
        origin: "keywheel.dev/bench".to_owned(),
    };
    Ok(SqliteJournal::open(path, options).await?)
}

async fn singles(
    journal: &SqliteJournal,
    bare: &mut SqliteConnection,
) -> Result<(Samples, Samples)> {
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for number in 1..=PAIRS {
        let one = [decision(number)];
        let begun = now();
        let written = journal.append(number, &one).await?;
        ours.add_span(begun.elapsed());
        let bytes = written
            .first()
            .map(|event| event.bytes.to_vec())
            .unwrap_or_default();
        let begun = now();
        sqlx::query("INSERT INTO entry (bytes) VALUES (?)")
            .bind(bytes)
            .execute(&mut *bare)
            .await?;
        theirs.add_span(begun.elapsed());
    }
    Ok((ours, theirs))
}

/// Events a second over all group commits.
async fn groups(journal: &SqliteJournal) -> Result<f64> {
    let batches: Vec<Vec<Decision>> = (0..GROUPS)
        .map(|group| PAIRS + group * GROUP + 1)
        .map(|first| (first..first + GROUP).map(decision).collect())
        .collect();
    let begun = now();
    for (batch, group) in batches.iter().zip(0..) {
        journal.append(PAIRS + group * GROUP + 1, batch).await?;
    }
    Ok((GROUPS * GROUP) as f64 / begun.elapsed().as_secs_f64())
}

/// Records a second of a verification of an audit tree without events.
async fn leaves(journal: &SqliteJournal) -> Result<f64> {
    for n in 0..LEAF_DECISIONS {
        let mut audit_only = decision(n);
        audit_only.events.clear();
        audit_only.audit = vec![audit_only.audit.remove(0); LEAVES];
        journal.append(1, &[audit_only]).await?;
    }
    let begun = now();
    let verification = journal.verify().await?;
    anyhow::ensure!(verification.faults.is_empty(), "{:?}", verification.faults);
    Ok(verification.audit_records as f64 / begun.elapsed().as_secs_f64())
}

/// Records a second of `audit verify`: an export of the same tree, without its journal.
async fn exported(journal: &SqliteJournal) -> Result<f64> {
    let head = journal.head().await?;
    let mut records = Vec::new();
    loop {
        let next = records.len() as u64;
        let page = journal.read_audit(next, MAX_READ).await?;
        if page.is_empty() {
            break;
        }
        records.extend(page.into_iter().map(|leaf| leaf.bytes.to_vec()));
    }
    let key = SigningKey::from_seed_bytes(&SecretBytes::from(vec![7_u8; 32]))?;
    let public = key.verifying_key().to_bytes();
    let origin = "keywheel.dev/bench".to_owned();
    let export = Export::new(origin, public, head.checkpoint, records);
    let begun = now();
    let report = verify_export(&export)?;
    Ok(report.records as f64 / begun.elapsed().as_secs_f64())
}

/// Events a second of a verification, signatures and all.
async fn events(journal: &SqliteJournal) -> Result<f64> {
    let begun = now();
    let verification = journal.verify().await?;
    anyhow::ensure!(verification.faults.is_empty(), "{:?}", verification.faults);
    Ok(verification.events as f64 / begun.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<()> {
    let scratch = Scratch::make()?;
    let journal = open(&scratch.join("journal.sqlite")).await?;
    let mut bare = bare(&scratch.join("bare.sqlite")).await?;
    let (ours, theirs) = singles(&journal, &mut bare).await?;
    let grouped = groups(&journal).await?;
    let events = events(&journal).await?;
    let audit = open(&scratch.join("audit.sqlite")).await?;
    let leaves = leaves(&audit).await?;
    let exported = exported(&audit).await?;
    let ratio = ours.p50() / theirs.p50();
    println!(
        "one append             p50 {:.3} ms, p99 {:.3} ms",
        ours.p50(),
        ours.p99()
    );
    println!(
        "a bare insert          p50 {:.3} ms, p99 {:.3} ms",
        theirs.p50(),
        theirs.p99()
    );
    println!("ratio of the p50       {ratio:.2} (budget 2)");
    println!("events a second        {grouped:.0} in groups of {GROUP} (budget 5000)");
    println!("verified events        {events:.0} a second");
    println!("verified records       {leaves:.0} a second (budget 100000)");
    println!("of an export           {exported:.0} a second (budget 100000)");
    println!(
        "{}",
        serde_json::json!({
            "append_ms": {"p50": ours.p50(), "p99": ours.p99()},
            "bare_insert_ms": {"p50": theirs.p50(), "p99": theirs.p99()},
            "append_ratio": ratio,
            "grouped_events_per_s": grouped,
            "verified_events_per_s": events,
            "verified_records_per_s": leaves,
            "verified_exported_records_per_s": exported,
        })
    );
    Ok(())
}
