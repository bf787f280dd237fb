//! Two thousand random attacks on the audit in a real journal's file: each is found, and the first bad record is named.
//!
//! Each is made and checked in a transaction that is taken back, so none pays for a file of its own. Ten thousand on an
//! export, and whole stores that were put back, are in `tests/tampering.rs`.

use keywheel_engine::port::journal::{Decision, Journal as _};
use keywheel_testkit::conformance::journal::decision;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, SqliteConnection};

use super::{ORIGIN, open};
use crate::place::Place;
use crate::{merkle, verify};

const ATTACKS: u64 = 2000;
/// A full tile, and an open one.
const RECORDS: u64 = 300;
/// Most records that are taken out of the middle at once.
const MOST_TAKEN: u64 = 6;
/// Said here, so that every run is the same.
const SEED: u64 = 0xa77a_c450;

/// Numbers as good as random (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

/// The first record that is bad after an attack, and whether the check knows it alone.
struct Expected {
    first: u64,
    is_exact: bool,
}

async fn run(connection: &mut SqliteConnection, sql: String) {
    let statement = sqlx::raw_sql(AssertSqlSafe(sql));
    statement.execute(connection).await.unwrap();
}

/// Writes one record anew, with a leaf hash that fits it: only the tree knows.
async fn forge(connection: &mut SqliteConnection, at: u64) {
    let at = i64::try_from(at).unwrap();
    let bytes: Vec<u8> = sqlx::query_scalar("SELECT bytes FROM audit WHERE place = $1")
        .bind(at)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let forged = [bytes.as_slice(), b" "].concat();
    sqlx::query("UPDATE audit SET bytes = $1, leaf_hash = $2 WHERE place = $3")
        .bind(forged.clone())
        .bind(merkle::leaf_hash(&forged).to_vec())
        .bind(at)
        .execute(connection)
        .await
        .unwrap();
}

async fn attack(connection: &mut SqliteConnection, sort: u64, random: &mut Random) -> Expected {
    let at = random.below(RECORDS);
    let other = (at + 1 + random.below(RECORDS - 1)) % RECORDS;
    let exact = |first| Expected {
        first,
        is_exact: true,
    };
    let within = |first| Expected {
        first,
        is_exact: false,
    };
    match sort {
        0 => {
            let byte = 1 + random.below(60);
            let edited = format!(
                "UPDATE audit SET bytes = CAST(substr(bytes, 1, {byte} - 1) || \
                 CASE substr(bytes, {byte}, 1) WHEN x'41' THEN x'42' ELSE x'41' END || \
                 substr(bytes, {byte} + 1) AS BLOB) WHERE place = {at}"
            );
            run(connection, edited).await;
            exact(at)
        }
        1 => {
            let last = at + random.below(MOST_TAKEN);
            let taken = format!("DELETE FROM audit WHERE place BETWEEN {at} AND {last}");
            run(connection, taken).await;
            exact(at)
        }
        2 => {
            run(connection, format!("DELETE FROM audit WHERE place >= {at}")).await;
            exact(at)
        }
        3 => {
            let swapped = format!(
                "UPDATE audit SET place = -1 WHERE place = {at}; \
                 UPDATE audit SET place = {at} WHERE place = {other}; \
                 UPDATE audit SET place = {other} WHERE place = -1"
            );
            run(connection, swapped).await;
            within(at.min(other))
        }
        4 => {
            let added = format!(
                "INSERT INTO audit SELECT {RECORDS}, bytes, leaf_hash FROM audit WHERE place = {at}"
            );
            run(connection, added).await;
            exact(RECORDS)
        }
        _ => {
            forge(connection, at).await;
            within(at)
        }
    }
}

/// The records that a fault names: `audit record 5 …`, `audit records 0 to 255 …`.
fn named(fault: &str) -> Option<(u64, u64)> {
    let rest = fault.strip_prefix("audit record")?;
    let rest = rest.strip_prefix('s').unwrap_or(rest).trim_start();
    let number = |text: &str| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        text.get(..digits)?.parse::<u64>().ok()
    };
    let first = number(rest)?;
    let last = rest.split_once(" to ").and_then(|(_, rest)| number(rest));
    Some((first, last.unwrap_or(first)))
}

#[tokio::test]
async fn two_thousand_attacks_on_a_journal_s_audit_are_found_and_the_first_bad_record_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let journal = open(&path).await;
    let mut filled: Decision = decision(1);
    filled.events.clear();
    filled.audit = (0..RECORDS).flat_map(|n| decision(n).audit).collect();
    journal.append(1, &[filled]).await.unwrap();
    let key = journal.public_key();
    journal.close().await.unwrap();
    let options = SqliteConnectOptions::new().filename(&path);
    let mut connection = options.connect().await.unwrap();
    let mut random = Random(SEED);
    let place = Place::file(&path);
    for n in 0..ATTACKS {
        run(&mut connection, "BEGIN".to_owned()).await;
        let sort = n % 6;
        let expected = attack(&mut connection, sort, &mut random).await;
        let found = verify::over(&mut connection, &place, ORIGIN, &key).await;
        run(&mut connection, "ROLLBACK".to_owned()).await;
        let faults = found.unwrap().faults;
        let first = faults.first().and_then(|fault| named(fault));
        let (from, to) = first.unwrap_or_else(|| panic!("{n}, sort {sort}: {faults:?}"));
        let is_named = match expected.is_exact {
            true => from == expected.first,
            false => (from..=to).contains(&expected.first),
        };
        assert!(is_named, "{n}, sort {sort}, {}: {faults:?}", expected.first);
    }
    // None of them was more than an attempt.
    let whole = verify::over(&mut connection, &place, ORIGIN, &key).await;
    assert_eq!(whole.unwrap().faults, Vec::<String>::new());
}
