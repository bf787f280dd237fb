//! Suite kill_loop: see README.md beside this file.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::planted::{self, PLANTED};
use keywheel_tests::stage::{current, items};
use keywheel_tests::wait;
use serde_json::Value;

/// Kills; the issue asks for at least 200.
const CYCLES: u32 = 200;
/// Clients at work while the kill comes.
const CLIENTS: u32 = 2;
/// Of so many cycles one has its window behind a first answer, wherever it falls: on a busy machine many
/// a window is over before one.
const ANSWERED_EVERY: u32 = 4;
/// Commands that are acknowledged at least.
const LEAST_ACKNOWLEDGED: usize = (CYCLES / ANSWERED_EVERY) as usize;
/// The shortest and the longest window before a kill, in milliseconds.
const WINDOW: (u64, u64) = (20, 140);
/// How often all names are looked up in between.
const LOOK_EVERY: u32 = 25;

/// Spreads the windows without a random source, so that a run can be repeated.
fn window(cycle: u32) -> Duration {
    let spread = u64::from(cycle).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    Duration::from_millis(WINDOW.0 + spread % (WINDOW.1 - WINDOW.0))
}

/// What a cycle and its clients tell each other.
#[derive(Default)]
struct Told {
    answered: AtomicBool,
    stop: AtomicBool,
}

/// Puts secrets until it is told to stop; the names that were acknowledged.
fn client(keywheel: &Keywheel, cycle: u32, number: u32, told: &Told) -> Result<Vec<String>> {
    let mut acknowledged = Vec::new();
    for turn in 0.. {
        if told.stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("loop/{cycle}/{number}/{turn}");
        if keywheel.cli(&["secret", "put", &name])?.code == 0 {
            acknowledged.push(name);
            told.answered.store(true, Ordering::Relaxed);
        }
    }
    Ok(acknowledged)
}

/// A first answer of this cycle.
fn wait_answer(told: &Told) -> Result<()> {
    wait::until_true("a first answer", wait::PATIENCE, || {
        Ok(told.answered.load(Ordering::Relaxed))
    })
}

/// One cycle: clients work, the server dies, clients end.
fn cycle(keywheel: &mut Keywheel, cycle: u32) -> Result<Vec<String>> {
    let told = Told::default();
    let pid = keywheel
        .pid()
        .ok_or_else(|| anyhow!("up does not run"))?
        .to_string();
    let shared = &*keywheel;
    let acknowledged = thread::scope(|scope| {
        let told = &told;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(shared, cycle, number, told)))
            .collect();
        let answered = if cycle.is_multiple_of(ANSWERED_EVERY) {
            wait_answer(told)
        } else {
            Ok(())
        };
        thread::sleep(window(cycle));
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &pid])
            .status();
        told.stop.store(true, Ordering::Relaxed);
        let mut names = Vec::new();
        for handle in clients {
            names.extend(handle.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        answered?;
        ensure!(killed?.success(), "the kill failed");
        Ok(names)
    })?;
    keywheel.wait_exit(wait::PATIENCE)?;
    Ok(acknowledged)
}

fn names_known(keywheel: &Keywheel) -> Result<BTreeSet<String>> {
    let said = keywheel.json(&["secret", "list"])?;
    let name = |row: &&Value| row.get("name").and_then(Value::as_str).map(str::to_owned);
    Ok(items(&said).iter().filter_map(name).collect())
}

fn check(keywheel: &Keywheel, acknowledged: &[String]) -> Result<()> {
    let known = names_known(keywheel)?;
    let lost: Vec<&String> = acknowledged
        .iter()
        .filter(|name| !known.contains(*name))
        .collect();
    ensure!(
        lost.is_empty(),
        "{} acknowledged commands are lost: {lost:?}",
        lost.len()
    );
    Ok(())
}

#[test]
fn no_acknowledged_command_is_lost_in_200_kills() -> Result<()> {
    let mut keywheel = Keywheel::start()?;
    planted::plant(&keywheel, PLANTED)?;
    let mut acknowledged = Vec::new();
    for number in 1..=CYCLES {
        acknowledged.extend(cycle(&mut keywheel, number)?);
        keywheel.up(&Options::default())?;
        if number % LOOK_EVERY == 0 {
            check(&keywheel, &acknowledged)?;
            eprintln!(
                "{number} kills, {} commands acknowledged, 0 lost",
                acknowledged.len()
            );
        }
    }
    ensure!(
        acknowledged.len() >= LEAST_ACKNOWLEDGED,
        "only {} commands were acknowledged",
        acknowledged.len()
    );
    check(&keywheel, &acknowledged)?;
    keywheel.json(&["journal", "verify"])?;
    keywheel.json(&["audit", "verify"])?;
    wait::until_true(
        "a first version of every acknowledged secret",
        wait::PATIENCE,
        || {
            let said = keywheel.json(&["secret", "list"])?;
            let without =
                |row: &Value| row.get("current").and_then(Value::as_u64).unwrap_or(0) == 0;
            let names: BTreeSet<&str> = acknowledged.iter().map(String::as_str).collect();
            let named = |row: &Value| {
                row.get("name")
                    .and_then(Value::as_str)
                    .is_some_and(|name| names.contains(name))
            };
            Ok(!items(&said)
                .into_iter()
                .any(|row| named(row) && without(row)))
        },
    )?;
    ensure!(
        current(&keywheel, PLANTED)? == 1,
        "the planted value is lost"
    );
    planted::assert_clean(&keywheel, &[])
}
