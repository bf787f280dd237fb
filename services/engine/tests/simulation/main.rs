//! Simulation: the core and the engine's pure half on machines that fail, in virtual time.
//!
//! A seed decides everything: which commands people give, which containers start and stop, which messages
//! are lost, doubled, late or out of order, who is killed, cut off or without power, what the store and the
//! clocks do, who steps into a rotation, which containers restart with leave and do not run well, which get a
//! version before all others, and which have logins of their own; what is revoked, by whatever names it, what a
//! server says of that and does not do, and who gives it up; and which playbooks there are, what begins runs of them,
//! and who approves, pauses and cancels those; which containers their steps restart or put into quarantine, and who
//! lifts that. After every step the invariants I1 to I9 and the rules X1 to X5, P1 to P8 and O1 to O6 hold, nobody but
//! canaries has what is not promoted, and no login is made twice; then everybody behaves, and all that was begun has to
//! end: a server lets in exactly the logins that are on the log. It is one thread without a runtime, so that ten
//! thousand runs fit into a test.
//!
//! Real here: every decision, fold, effect and plan of `keywheel_core`; of the engine the committed state,
//! its numbers, the audit records and the table of roles; and `bus` gives the same commands to the real
//! command bus over the fake journal. A model here: hosts (`host`), the store (`store`), the server that makes
//! logins (`leases`), schedulers and receivers of notifications (`playbooks`), the network and the clocks (`sim`).
//! It stands in the engine's tests because it needs engine and core and nothing above them.
//!
//! `KEYWHEEL_SIM_SEED=N` runs one seed and prints its log; `KEYWHEEL_SIM_SEEDS=N` runs so many,
//! from `KEYWHEEL_SIM_FROM=N` on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod bus;
mod canaries;
mod container;
mod gateway;
mod host;
mod incidents;
mod invariants;
mod leases;
mod looks;
mod orders;
mod people;
mod planted;
mod playbooks;
mod random;
mod revocations;
mod runs;
mod scene;
mod scores;
mod sim;
mod steps;
mod store;
mod words;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use planted::Planted;
use scene::Reach;
use steps::run;

/// Runs of the test run; a release run takes more.
const SEEDS: u64 = 10_000;
/// Seeds that are run twice.
const TWICE: u64 = 20;

/// Why a run is no good, if it is not.
fn fault_of(seed: u64, reach: Reach, planted: Option<Planted>) -> Option<String> {
    let broken = run(seed, reach, planted, false).broken?;
    let text = words::short(&broken.text);
    Some(format!("{}: {text}", broken.rule))
}

/// What happened in a run, as far as it came.
fn log_of(seed: u64, reach: Reach, planted: Option<Planted>) -> Vec<String> {
    run(seed, reach, planted, true).sim.into_trace()
}

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Seeds that found something once, and how much could happen then.
fn known_seeds() -> Vec<(u64, Reach)> {
    let lines = include_str!("seeds.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let seeds = lines.map(|line| {
        let mut words = line.split_whitespace();
        let seed = words.next().unwrap_or_default();
        let reach = match words.next() {
            Some("first") => Reach::First,
            Some("people") => Reach::People,
            Some("logins") => Reach::Logins,
            Some("incidents") => Reach::Incidents,
            Some("playbooks") => Reach::Playbooks,
            Some("whole") => Reach::Whole,
            Some("defaults") => Reach::Defaults,
            other => panic!("{other:?} is no word for how much could happen"),
        };
        (seed.parse().expect("a seed"), reach)
    });
    seeds.collect()
}

/// The first seed of some, by number, that finds something; all cores look.
fn first_fault(seeds: Range<u64>, planted: Option<Planted>) -> Option<(u64, String)> {
    let (next, found) = (AtomicU64::new(seeds.start), AtomicU64::new(u64::MAX));
    let look = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            // What is below the one that was found may still be lower.
            if seed >= seeds.end || seed > found.load(Ordering::SeqCst) {
                return;
            }
            if fault_of(seed, Reach::Whole, planted).is_some() {
                found.fetch_min(seed, Ordering::SeqCst);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(look);
        }
    });
    let seed = found.into_inner();
    let fault = (seed < seeds.end).then(|| fault_of(seed, Reach::Whole, planted))?;
    fault.map(|fault| (seed, fault))
}

fn fail(seed: u64, reach: Reach, fault: &str) -> ! {
    panic!(
        "seed {seed} breaks {fault}\n{}\nonce more: KEYWHEEL_SIM_SEED={seed} cargo test -p keywheel-engine --test simulation ten_thousand -- --nocapture; then put the seed into services/engine/tests/simulation/seeds.txt",
        log_of(seed, reach, None).join("\n")
    )
}

#[test]
fn ten_thousand_seeds_break_no_invariant() {
    if let Some(seed) = number_in("KEYWHEEL_SIM_SEED") {
        let known = known_seeds();
        let known = known.iter().find(|(known, _)| *known == seed);
        let reach = known.map_or(Reach::Whole, |(_, reach)| *reach);
        println!("{}", log_of(seed, reach, None).join("\n"));
        if let Some(fault) = fault_of(seed, reach, None) {
            panic!("seed {seed} breaks {fault}");
        }
        return;
    }
    for (seed, reach) in known_seeds() {
        if let Some(fault) = fault_of(seed, reach, None) {
            fail(seed, reach, &fault);
        }
    }
    let first = number_in("KEYWHEEL_SIM_FROM").unwrap_or(0);
    let seeds = number_in("KEYWHEEL_SIM_SEEDS").unwrap_or(SEEDS);
    if let Some((seed, fault)) = first_fault(first..first + seeds, None) {
        fail(seed, Reach::Whole, &fault);
    }
}

/// The suite proves itself: each of these bugs is found within as many runs, and found again by its seed.
#[test]
fn each_planted_bug_is_found() {
    for planted in planted::ALL {
        let found = first_fault(0..SEEDS, Some(planted));
        let (seed, fault) = found.unwrap_or_else(|| panic!("{planted:?} was not found"));
        println!("{planted:?}: seed {seed} breaks {fault}");
        assert_eq!(
            fault_of(seed, Reach::Whole, Some(planted)),
            Some(fault),
            "{planted:?}"
        );
        assert_eq!(
            log_of(seed, Reach::Whole, Some(planted)),
            log_of(seed, Reach::Whole, Some(planted))
        );
        let last = log_of(seed, Reach::Whole, Some(planted))
            .pop()
            .unwrap_or_default();
        assert!(last.contains("BROKEN "), "{last}");
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let logs: Vec<_> = (0..TWICE)
        .map(|seed| log_of(seed, Reach::Whole, None))
        .collect();
    for (seed, log) in (0..).zip(&logs) {
        assert_eq!(log_of(seed, Reach::Whole, None), *log, "seed {seed}");
    }
    assert_ne!(logs.first(), logs.get(1));
}
