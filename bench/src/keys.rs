//! Replacing the key that wraps data keys under 100,000 versions, while values are given out; and opening the seal.
//!
//! The replacement beside a plain update of as many rows: two columns of a bare SQLite file (WAL, FULL), as many rows
//! in each transaction. Both take turns. A read that fails fails the run.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_cache::{Cache, REKEY_STEP, Rekeying, Stepped};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_daemon::SystemClock;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::unseal::{Cost, SealedRoot};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_tests::scratch::Scratch;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection};
use tokio_util::sync::CancellationToken;

use crate::Line;

/// Versions in the cache.
const VERSIONS: u64 = 100_000;
/// Of each secret.
const PER_SECRET: u64 = 10;
/// Replacements, each in turn with a plain update.
const ROUNDS: usize = 3;
/// Between two reads.
const PAUSE: Duration = Duration::from_millis(1);
/// A step that reaches every version soon, in no order of theirs.
const STRIDE: u64 = 7919;
/// A wrapped data key, in bytes, and what else a row has.
const WRAPPED_BYTES: usize = 60;
const ROW_BYTES: usize = 200;
/// Openings of the seal.
const OPENINGS: usize = 10;
const DEPLOYMENT: [u8; 16] = [1; 16];

/// The name of a version.
fn place(number: u64) -> (SecretId, u64) {
    let mut id = [1; 16];
    let (_, end) = id.split_at_mut(8);
    end.copy_from_slice(&(number / PER_SECRET).to_be_bytes());
    (SecretId::from_bytes(id), number % PER_SECRET + 1)
}

fn value(number: u64) -> SecretBytes {
    SecretBytes::from(format!("value {number:026}").into_bytes())
}

async fn full_cache(directory: &Path) -> Result<Cache> {
    DirBuilder::new().mode(0o700).create(directory)?;
    let key = UnsealKey::generate(&OsEntropy);
    let (entropy, clock) = (Arc::new(OsEntropy), Arc::new(SystemClock::new()));
    let path = directory.join("cache.db");
    let cache = Cache::open(&path, DEPLOYMENT, key, entropy, clock).await?;
    for number in 0..VERSIONS {
        let mut token = [0; 16];
        let (_, end) = token.split_at_mut(8);
        end.copy_from_slice(&number.to_be_bytes());
        let (secret, version) = place(number);
        let token = RotationId::from_bytes(token);
        cache
            .insert_pending(secret, version, token, &value(number))
            .await?;
    }
    Ok(cache)
}

/// Replaces the key to the end, as store-sync does.
async fn replace(cache: &Cache) -> Result<Duration> {
    let begun = now();
    cache.begin_rekey().await?;
    loop {
        match cache.rekey_step(REKEY_STEP).await? {
            Stepped::More => tokio::task::yield_now().await,
            Stepped::Done => break,
            Stepped::Damaged(rows) => bail!("{rows} rows do not open"),
        }
    }
    let took = begun.elapsed();
    ensure!(
        cache.rekeying().await? == Rekeying::default(),
        "it is not done"
    );
    Ok(took)
}

/// Opens one version after the other until told to stop; each has to be what was put.
async fn read_meanwhile(cache: &Cache, stop: &CancellationToken) -> Result<Samples> {
    let mut samples = Samples::new();
    let mut number = 0;
    while !stop.is_cancelled() {
        number = (number + STRIDE) % VERSIONS;
        let (secret, version) = place(number);
        let begun = now();
        let opened = cache.open_version(secret, version).await?;
        samples.add_span(begun.elapsed());
        ensure!(opened.ct_eq(&value(number)), "a read gave another value");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(samples)
}

async fn replace_and_read(cache: &Cache) -> Result<(Duration, Samples)> {
    let stop = CancellationToken::new();
    let replaced = async {
        let replaced = replace(cache).await;
        stop.cancel();
        replaced
    };
    let (took, reads) = tokio::join!(replaced, read_meanwhile(cache, &stop));
    Ok((took?, reads?))
}

/// As many rows of a bare file.
async fn bare(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let table =
        "CREATE TABLE entry (number INTEGER PRIMARY KEY, key_id BLOB, wrapped BLOB, rest BLOB)";
    sqlx::query(table).execute(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    for number in 0..i64::try_from(VERSIONS)? {
        let insert = sqlx::query("INSERT INTO entry VALUES (?, ?, ?, ?)").bind(number);
        let insert = insert.bind(vec![0u8; 16]).bind(vec![0u8; WRAPPED_BYTES]);
        let insert = insert.bind(vec![0u8; ROW_BYTES]);
        insert.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(connection)
}

async fn update(connection: &mut SqliteConnection, round: u8) -> Result<Duration> {
    let begun = now();
    let all = i64::try_from(VERSIONS)?;
    for first in (0..all).step_by(usize::try_from(REKEY_STEP)?) {
        let mut transaction = connection.begin().await?;
        for number in first..all.min(first + i64::from(REKEY_STEP)) {
            let query = sqlx::query("UPDATE entry SET key_id = ?, wrapped = ? WHERE number = ?");
            let query = query.bind(vec![round; 16]).bind(vec![round; WRAPPED_BYTES]);
            query.bind(number).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
    }
    Ok(begun.elapsed())
}

/// Opening the seal by a passphrase at the costs that `init` writes, and by three of five shares.
fn openings() -> Result<[Samples; 2]> {
    let root = UnsealKey::generate(&OsEntropy);
    let words = SecretBytes::from(b"correct horse battery staple".to_vec());
    let by = (&words, Cost::DEFAULT);
    let phrase = SealedRoot::by_passphrase(DEPLOYMENT, &root, by, &OsEntropy)?;
    let (shared, shares) = SealedRoot::by_shares(DEPLOYMENT, &root, (3, 5), &OsEntropy)?;
    let [mut by_phrase, mut by_shares] = [Samples::new(), Samples::new()];
    for _ in 0..OPENINGS {
        let begun = now();
        phrase.open_with_passphrase(&words)?;
        by_phrase.add_span(begun.elapsed());
        let begun = now();
        let mut gathered = shared.gather().context("it has no shares")?;
        for share in shares.iter().take(3) {
            gathered.take(&share.to_text())?;
        }
        shared.open_with_shares(&gathered)?;
        by_shares.add_span(begun.elapsed());
    }
    Ok([by_phrase, by_shares])
}

async fn measure(scratch: &Scratch) -> Result<Vec<Line>> {
    let cache = full_cache(&scratch.join("cache")).await?;
    let mut bare = bare(&scratch.join("bare.sqlite")).await?;
    let [mut ours, mut theirs, mut ratio] = [Samples::new(), Samples::new(), Samples::new()];
    let [mut reads, mut longest] = [Samples::new(), Samples::new()];
    for round in 1..=ROUNDS {
        let (took, read) = replace_and_read(&cache).await?;
        let plain = update(&mut bare, u8::try_from(round)?).await?;
        reads.extend(&read);
        longest.add(read.quantile(1.0));
        ours.add_span(took);
        theirs.add_span(plain);
        ratio.add(took.as_secs_f64() / plain.as_secs_f64());
    }
    let [by_phrase, by_shares] = openings()?;
    let line = |key: &str, what: &str, samples, budget| Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget,
    };
    Ok(vec![
        line(
            "rekey_100k",
            "a fresh KEK under 100,000 versions, reads go on",
            ours,
            "p99 <= 60000",
        ),
        line(
            "rekey_100k_bare",
            "a plain update of 100,000 rows, WAL and FULL",
            theirs,
            "-",
        ),
        line("rekey_100k_ratio", "ratio of each pair", ratio, "-"),
        line(
            "rekey_100k_reads",
            "a value opened meanwhile, none fails",
            reads,
            "-",
        ),
        line(
            "rekey_100k_longest_read",
            "the longest of them in each replacement",
            longest,
            "-",
        ),
        line(
            "unseal_passphrase",
            "the seal opened by a passphrase (Argon2id)",
            by_phrase,
            "-",
        ),
        line(
            "unseal_shares",
            "the seal opened by three of five shares",
            by_shares,
            "-",
        ),
    ])
}

/// Measures them.
pub(crate) fn keys() -> Result<Vec<Line>> {
    let scratch = Scratch::make()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(&scratch))
}
