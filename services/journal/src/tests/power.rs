//! The power goes: of what was written and not synced any part may be on the disk. What was acknowledged is there, and
//! what is there is whole.
//!
//! An append is acknowledged after SQLite synced its log; what is moved into the file is synced before the log begins
//! anew. So a disk between two synced states has the first of them, and of each sector that changed the old bytes or
//! the new ones: the log cut at every write and within it, and with holes; the file with some of its pages moved.

use std::fs;
use std::path::{Path, PathBuf};

use keywheel_engine::port::journal::{Decision, Journal as _};
use keywheel_testkit::conformance::journal::decision;

use super::{ORIGIN, open, options};
use crate::place::Place;
use crate::{file, opening, verify};

const EVENTS: u64 = 200;
/// Events of one append.
const BATCH: u64 = 10;
/// After so many appends the log is moved into the file, so that the next one begins it anew.
const APPENDS_BETWEEN_MOVES: u64 = 5;
/// Disks with holes at random of each append, and half moved ones of each move.
const AT_RANDOM: usize = 4;
const HALF_MOVED: usize = 8;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const PAGE: usize = 4096;
/// Of SQLite's log: its head, and that of each page in it.
const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
/// Said here, so that every run is the same.
const SEED: u64 = 0x5eed_0050;

/// Numbers as good as random (splitmix64).
struct Random(u64);

impl Random {
    fn is_even(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).is_multiple_of(2)
    }
}

/// What a disk has of a journal.
#[derive(Clone, PartialEq, Eq)]
struct Disk {
    file: Vec<u8>,
    log: Vec<u8>,
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

impl Disk {
    fn of(path: &Path) -> Self {
        Self {
            file: fs::read(path).unwrap(),
            log: fs::read(beside(path, "-wal")).unwrap(),
        }
    }

    fn put(&self, path: &Path) {
        fs::write(path, &self.file).unwrap();
        fs::write(beside(path, "-wal"), &self.log).unwrap();
        // It lies in memory alone.
        let _none = fs::remove_file(beside(path, "-shm"));
    }

    /// What it may be while an append writes what leads to the next one.
    fn while_appending(&self, next: &Self, random: &mut Random) -> Vec<Self> {
        assert!(self.file == next.file, "an append writes to the log alone");
        let (first, last) = changed(&self.log, &next.log);
        let with = |log| Self {
            log,
            ..self.clone()
        };
        let cut = |end: usize| {
            let mut log = self.log.clone();
            log.resize(log.len().max(end), 0);
            log[..end].copy_from_slice(&next.log[..end]);
            with(log)
        };
        let mut all: Vec<Self> = cuts(first, last).map(cut).collect();
        for _ in 0..AT_RANDOM {
            let logs = (self.log.as_slice(), next.log.as_slice());
            all.push(with(mixed(logs, SECTOR, |_| random.is_even())));
        }
        all
    }

    /// What it may be while the log is moved into the file; the log stays as it is.
    fn while_moving(&self, next: &Self, random: &mut Random) -> Vec<Self> {
        assert!(
            self.log == next.log,
            "the log is begun anew by the next append"
        );
        assert!(self.file != next.file, "nothing was moved");
        let half = |_| Self {
            file: mixed((self.file.as_slice(), next.file.as_slice()), PAGE, |_| {
                random.is_even()
            }),
            log: self.log.clone(),
        };
        (0..HALF_MOVED).map(half).collect()
    }
}

/// Where two states of a file differ: from the first byte to behind the last.
fn changed(before: &[u8], after: &[u8]) -> (usize, usize) {
    let same = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let last = match after.len() > before.len() {
        true => after.len(),
        false => (same..after.len())
            .rev()
            .find(|at| before[*at] != after[*at])
            .map_or(same, |at| at + 1),
    };
    (same, last)
}

/// Every place at which SQLite writes to its log, and one within each: in its head, and in the page.
fn cuts(first: usize, last: usize) -> impl Iterator<Item = usize> {
    let frames = (LOG_HEAD..last).step_by(FRAME_HEAD + PAGE);
    let of_frame = |at| [at, at + FRAME_HEAD + PAGE / 2];
    let all = [0, LOG_HEAD / 2]
        .into_iter()
        .chain(frames.flat_map(of_frame));
    all.filter(move |at| (first..last).contains(at))
}

/// One state with parts of another, which may be longer: what is not taken of that stays, or is nothing but zeros.
fn mixed(
    (before, after): (&[u8], &[u8]),
    part: usize,
    mut is_taken: impl FnMut(usize) -> bool,
) -> Vec<u8> {
    let mut found = before.to_vec();
    let mut at = 0;
    for new in after.chunks(part) {
        let end = at + new.len();
        if is_taken(at) {
            found.resize(found.len().max(end), 0);
            found[at..end].copy_from_slice(new);
        }
        at = end;
    }
    found
}

/// Opens what a disk has, checks all of it and gives the number of its last event.
async fn survivor(path: &Path) -> u64 {
    let (deployment, signer) = opening::signer(options(1)).unwrap();
    let opened = file::open_writer(path, deployment, &signer).await;
    let (mut connection, tail) = opened.unwrap();
    let key = signer.key.verifying_key();
    let checked = verify::over(&mut connection, &Place::file(path), ORIGIN, &key).await;
    let checked = checked.unwrap();
    assert_eq!(checked.faults, Vec::<String>::new());
    let there = (checked.events, checked.audit_records);
    assert_eq!(there, (tail.number, tail.number));
    file::close(path, connection).await.unwrap();
    tail.number
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_loss_of_power_at_every_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let torn = directory.path().join("torn.db");
    let journal = open(&path).await;
    let mut random = Random(SEED);
    let mut disk = Disk::of(&path);
    // Of an append that was under way there was nothing left, or all.
    let (mut without, mut with) = (0, 0);
    for acknowledged in (0..EVENTS).step_by(usize::try_from(BATCH).unwrap()) {
        let next = acknowledged + BATCH;
        let batch: Vec<Decision> = (acknowledged + 1..=next).map(decision).collect();
        journal.append(acknowledged + 1, &batch).await.unwrap();
        let synced = Disk::of(&path);
        for state in disk.while_appending(&synced, &mut random) {
            state.put(&torn);
            match survivor(&torn).await {
                there if there == acknowledged => without += 1,
                there if there == next => with += 1,
                there => panic!("{there} events, and {acknowledged} were acknowledged"),
            }
        }
        synced.put(&torn);
        assert_eq!(survivor(&torn).await, next);
        disk = synced;
        if !next.is_multiple_of(BATCH * APPENDS_BETWEEN_MOVES) {
            continue;
        }
        journal.on_writer("PRAGMA wal_checkpoint(PASSIVE)").await;
        let moved = Disk::of(&path);
        for state in disk.while_moving(&moved, &mut random) {
            state.put(&torn);
            assert_eq!(survivor(&torn).await, next);
        }
        disk = moved;
    }
    assert!(
        without > EVENTS,
        "{without} disks lost an append, {with} had it"
    );
    // What is left goes on where it ends.
    journal.close().await.unwrap();
    let journal = open(&torn).await;
    journal
        .append(EVENTS + 1, &[decision(EVENTS + 1)])
        .await
        .unwrap();
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}
