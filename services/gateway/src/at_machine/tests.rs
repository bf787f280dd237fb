//! What is on record after deeds at the machine, however often it is looked at, and by whom.

mod troubled;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use keywheel_core::time::Timestamp;
use keywheel_engine::port::ErrorKind;
use keywheel_identity::init::AUTHORITY_FILE;
use keywheel_identity::ledger::{Asked, Came, Deed, Verb};
use keywheel_seal::OsEntropy;
use tempfile::TempDir;

use super::*;
use crate::testing::Bench;

/// 2027-01-15T08:00:00Z.
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
/// Stands in lines that nobody can read.
const CANARY: &str = "canary-0f1e2d";
const ASKED_NOW: &str = "asked for at 2027-01-15T08:00:00Z on the gateway's machine";
const DONE_NOW: &str = "done: it is so, at 2027-01-15T08:00:00Z";

/// A gateway's directory, as far as it matters.
fn home() -> TempDir {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join(AUTHORITY_FILE), "{}").unwrap();
    scratch
}

/// Of a gateway that starts now.
fn started(bench: &Bench, home: &Path) -> AtMachine {
    let api = &bench.api;
    let access = Access {
        own_uid: 0,
        group_file: "/nonexistent".into(),
        user_file: home.join("passwd"),
    };
    AtMachine::new(
        Ledger::new(home),
        api.journal.clone(),
        api.commands.clone(),
        api.clock.clone(),
        access,
    )
}

fn begin(home: &Path, verb: Verb, words: &str) -> Deed {
    let asked = Asked {
        uid: 1001,
        verb,
        object: "ca",
        words,
    };
    let begun = Ledger::new(home).begin(&asked, NOW, &OsEntropy);
    begun.unwrap()
}

fn done(home: &Path, verb: Verb) {
    let deed = begin(home, verb, "");
    deed.end(Came::Done("it is so".to_owned()), NOW).unwrap();
}

fn length(home: &Path) -> u64 {
    fs::metadata(home.join(LEDGER_FILE)).unwrap().len()
}

fn append(home: &Path, text: &str) {
    let file = File::options().append(true).open(home.join(LEDGER_FILE));
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

fn noted(home: &Path) -> Noted {
    Ledger::new(home).read().unwrap().unwrap()
}

/// Commands of what is noted, in its order.
fn commands(home: &Path) -> Vec<CommandId> {
    let lines = noted(home).lines;
    lines.iter().map(|line| line.command).collect()
}

/// Whoever ran the command, under this name.
fn person(name: &str) -> (Category, Principal) {
    let name = name.to_owned();
    let user = Principal::User { uid: 1001, name };
    (Category::Administration, user)
}

fn gateway() -> (Category, Principal) {
    (Category::System, Principal::Service(Role::Gateway))
}

/// A whole record, as the journal in memory shows it.
fn shown(
    (category, principal): (Category, Principal),
    (verb, object): (&str, &str),
    command: CommandId,
    (outcome, reason): (Outcome, &str),
) -> String {
    let record = Record {
        time: Timestamp::default(),
        category,
        principal,
        verb: verb.to_owned(),
        object: object.to_owned(),
        version: None,
        outcome,
        reason: reason.to_owned(),
        container: None,
        command,
        trace: String::new(),
    };
    format!("{record:?}")
}

/// What is on record of a deed that is done.
fn pair(verb: Verb, command: CommandId) -> [String; 2] {
    let one = |reason: &str| {
        let came = (Outcome::Allowed, reason);
        shown(person("1001"), (verb.word(), "ca"), command, came)
    };
    [one(ASKED_NOW), one(DONE_NOW)]
}

#[tokio::test]
async fn intent_and_outcome_are_two_records_of_one_command_and_the_ledger_is_emptied() {
    let (bench, home) = (Bench::start().await, home());
    fs::write(home.path().join("passwd"), "alice:x:1001:1001::/:/bin/sh\n").unwrap();
    let mut taking = started(&bench, home.path());
    taking.take_up().await.unwrap();
    let before = bench.audit().await.len();
    let deed = begin(home.path(), Verb::BeginCaRollover, "to the authority in x");
    deed.end(Came::Done("both are trusted".to_owned()), NOW)
        .unwrap();
    let deed = begin(home.path(), Verb::FinishCaRollover, "");
    deed.end(Came::Failed("it is too early".to_owned()), NOW)
        .unwrap();
    let commands = commands(home.path());
    taking.take_up().await.unwrap();
    let records = bench.audit().await.split_off(before);
    let of = |number: usize, verb: &str, outcome: Outcome, reason: &str| {
        let command = commands[number];
        shown(person("alice"), (verb, "ca"), command, (outcome, reason))
    };
    let (first, second) = ("begin-ca-rollover", "finish-ca-rollover");
    let words = format!("{ASKED_NOW}: to the authority in x");
    let well = "done: both are trusted, at 2027-01-15T08:00:00Z";
    let not = "failed: it is too early, at 2027-01-15T08:00:00Z";
    let expected = [
        of(0, first, Outcome::Allowed, &words),
        of(1, first, Outcome::Allowed, well),
        of(2, second, Outcome::Allowed, ASKED_NOW),
        of(3, second, Outcome::Rejected, not),
    ];
    assert_eq!(records, expected);
    assert_eq!(commands.len(), 4);
    assert_eq!(commands[0], commands[1]);
    assert_ne!(commands[1], commands[2]);
    assert_eq!(commands[2], commands[3]);
    assert_eq!(length(home.path()), 0);
    // Nothing more, however often; the next deed is as the first.
    taking.take_up().await.unwrap();
    done(home.path(), Verb::RefreshCredentials);
    taking.take_up().await.unwrap();
    assert_eq!(bench.audit().await.len(), before + 6);
}

#[tokio::test]
async fn two_gateways_and_every_start_record_a_line_once() {
    let [one, other] = Bench::pair().await;
    let (here, there) = (home(), home());
    let before = one.audit().await.len();
    done(here.path(), Verb::BeginCaRollover);
    drop(begin(here.path(), Verb::FinishCaRollover, ""));
    let commands = commands(here.path());
    let noted = fs::read(here.path().join(LEDGER_FILE)).unwrap();
    // The other machine has a copy of the directory.
    drop(begin(there.path(), Verb::BeginCaRollover, ""));
    fs::write(there.path().join(LEDGER_FILE), &noted).unwrap();
    let (mut first, mut second) = (started(&one, here.path()), started(&other, there.path()));
    let (came, went) = tokio::join!(first.take_up(), second.take_up());
    came.unwrap();
    went.unwrap();
    let finish = ("finish-ca-rollover", "ca");
    let asked = (Outcome::Allowed, ASKED_NOW);
    let closed = (Outcome::Rejected, UNKNOWN);
    let mut expected = pair(Verb::BeginCaRollover, commands[0]).to_vec();
    expected.push(shown(person("1001"), finish, commands[2], asked));
    expected.push(shown(gateway(), finish, commands[2], closed));
    let records = one.audit().await.split_off(before);
    // Each once and in the ledger's order, whoever of the two was first.
    assert_eq!(records, expected);
    // A gateway that was killed before it emptied it.
    fs::write(here.path().join(LEDGER_FILE), &noted).unwrap();
    started(&one, here.path()).take_up().await.unwrap();
    assert_eq!(one.audit().await.len(), before + 4);
    assert_eq!((length(here.path()), length(there.path())), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_recorded_now_stays_for_the_next_turn() {
    let (bench, home) = (Bench::start().await, home());
    let mut taking = started(&bench, home.path());
    let before = bench.audit().await.len();
    done(home.path(), Verb::BeginCaRollover);
    let noted = length(home.path());
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    assert!(matches!(taking.take_up().await, Err(Fault::Log(_))));
    assert_eq!(bench.audit().await.len(), before);
    assert_eq!(length(home.path()), noted);
    let command = commands(home.path())[0];
    taking.take_up().await.unwrap();
    let records = bench.audit().await.split_off(before);
    assert_eq!(records, pair(Verb::BeginCaRollover, command));
    assert_eq!(length(home.path()), 0);
}

#[tokio::test]
async fn a_deed_under_way_is_left_alone_and_one_that_was_killed_is_closed() {
    let (bench, home) = (Bench::start().await, home());
    let mut taking = started(&bench, home.path());
    let before = bench.audit().await.len();
    let deed = begin(home.path(), Verb::RefreshCredentials, "directory /x");
    let command = commands(home.path()).remove(0);
    for _ in 0..2 {
        taking.take_up().await.unwrap();
        started(&bench, home.path()).take_up().await.unwrap();
    }
    let about = ("refresh-credentials", "ca");
    let words = format!("{ASKED_NOW}: directory /x");
    let asked = shown(person("1001"), about, command, (Outcome::Allowed, &words));
    assert_eq!(bench.audit().await.split_off(before), [asked]);
    assert_ne!(length(home.path()), 0);
    // Killed: the kernel frees the lock.
    drop(deed);
    for _ in 0..2 {
        taking.take_up().await.unwrap();
    }
    let closed = shown(gateway(), about, command, (Outcome::Rejected, UNKNOWN));
    assert_eq!(bench.audit().await.split_off(before + 1), [closed]);
    assert_eq!(length(home.path()), 0);
}

#[tokio::test]
async fn what_is_no_ledger_of_ours_is_left_as_it_is() {
    let (bench, home) = (Bench::start().await, home());
    let before = bench.audit().await.len();
    let ledger = home.path().join(LEDGER_FILE);
    std::os::unix::fs::symlink(home.path().join(AUTHORITY_FILE), &ledger).unwrap();
    let taken = started(&bench, home.path()).take_up().await;
    assert!(matches!(taken, Err(Fault::Ledger(_))));
    fs::remove_file(&ledger).unwrap();
    started(&bench, home.path()).take_up().await.unwrap();
    assert_eq!(bench.audit().await.len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_running_gateway_takes_up_what_was_there_at_its_start_and_what_comes() {
    let (bench, home) = (Bench::start().await, home());
    let before = bench.audit().await.len();
    done(home.path(), Verb::BeginCaRollover);
    let first = commands(home.path())[0];
    let stop = CancellationToken::new();
    let running = tokio::spawn(started(&bench, home.path()).run(stop.clone()));
    while length(home.path()) > 0 {
        tokio::time::sleep(TURN).await;
    }
    let records = bench.audit().await.split_off(before);
    assert_eq!(records, pair(Verb::BeginCaRollover, first));
    done(home.path(), Verb::FinishCaRollover);
    while length(home.path()) > 0 {
        tokio::time::sleep(TURN).await;
    }
    let records = bench.audit().await.split_off(before + 2);
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records[0].contains(ASKED_NOW) && records[1].contains(DONE_NOW));
    stop.cancel();
    running.await.unwrap();
}
