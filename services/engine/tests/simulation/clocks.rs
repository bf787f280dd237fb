//! The clocks of a run. All machines have the same time, right or not: it jumps for all of them at once, and runs
//! fast or slow while a time server mends it. The gateway's may be off from that, too.
//!
//! What passes by a clock that nobody sets is `Sim::now`; waits and leases of hosts go by that. Invariant: with the
//! same jumps the same time is told again.

use std::collections::BTreeSet;
use std::time::Duration;

use keywheel_core::time::Timestamp;

use crate::sim::Sim;

/// Where the clocks of a run begin.
const BEGIN: i64 = 1_800_000_000_000_000;
/// A day and a minute.
const DAY: i64 = 86_400_000_000;
const MINUTE: i64 = 60_000_000;
/// How much fast, or slow, a clock runs at most while it is mended bit by bit, in millionths.
const SLEW: i64 = 500;

/// How far clocks are off.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// How far the gateway's is ahead of all others, in microseconds.
    ahead: i64,
    /// How far all of them were off when they were set last, in microseconds, and when that was.
    off: i64,
    since: Duration,
    /// How much fast they run since then, in millionths.
    rate: i64,
    /// What happened to all of them.
    turns: BTreeSet<&'static str>,
}

impl Clocks {
    /// How far all of them are off at a time.
    fn off_at(&self, now: Duration) -> i64 {
        let span = now.saturating_sub(self.since).as_micros();
        let span = i64::try_from(span).unwrap_or(i64::MAX);
        let slewed = span.saturating_mul(self.rate) / 1_000_000;
        self.off.saturating_add(slewed)
    }

    /// What they are off by stays, and from now on they run so much fast.
    fn run(&mut self, now: Duration, rate: i64) {
        self.off = self.off_at(now);
        (self.since, self.rate) = (now, rate);
    }
}

impl Sim {
    /// What all clocks say but the gateway's.
    pub(crate) fn time(&self) -> Timestamp {
        let begin = BEGIN.saturating_add(self.clocks.off_at(self.now));
        Timestamp::from_micros(begin).plus(self.now)
    }

    /// What the gateway's clock says.
    pub(crate) fn gateway_time(&self) -> Timestamp {
        Timestamp::from_micros(self.time().micros().saturating_add(self.clocks.ahead))
    }

    /// The gateway's clock is off from all others from now on.
    pub(crate) fn gateway_clock_jumps(&mut self) {
        self.clocks.ahead = [-DAY, -MINUTE, 0, MINUTE, DAY][self.random.below(5)];
        self.note(|| "the gateway's clock jumps".to_owned());
    }

    /// All clocks jump by a day at once, run fast or slow from now on, or are set right.
    pub(crate) fn all_clocks_jump(&mut self) {
        let (turn, by, rate) = [
            ("jump a day ahead", DAY, 0),
            ("jump back a day", -DAY, 0),
            ("run fast", 0, SLEW),
            ("run slow", 0, -SLEW),
            ("are right", -self.clocks.off_at(self.now), 0),
        ][self.random.below(5)];
        self.clocks.run(self.now, rate);
        self.clocks.off = self.clocks.off.saturating_add(by);
        self.clocks.turns.insert(turn);
        self.note(|| format!("all clocks {turn}"));
    }

    /// What they are off by stays; nothing is mended any more.
    pub(crate) fn clocks_run_evenly(&mut self) {
        self.clocks.run(self.now, 0);
    }

    /// A slot comes whose hour the clocks show once more: one that is as late, or later, was served.
    pub(crate) fn note_slot(&mut self, scheduled: Timestamp, last: Option<Timestamp>) {
        if last.is_some_and(|last| scheduled < last) {
            self.clocks.turns.insert("show an hour again");
        }
    }
}

/// Runs that are looked at: enough to have each.
const LOOKED_AT: u64 = 1000;

/// A rule about what never happens would hold of itself.
#[test]
fn all_clocks_take_every_turn_that_there_is() {
    let mut seen = BTreeSet::new();
    for seed in 0..LOOKED_AT {
        let run = crate::steps::run(seed, crate::scene::Reach::Whole, None, false);
        seen.extend(run.sim.clocks.turns);
    }
    let all = [
        "are right",
        "jump a day ahead",
        "jump back a day",
        "run fast",
        "run slow",
        "show an hour again",
    ];
    assert!(seen.iter().eq(&all), "{seen:?}");
}

/// All machines have one time, the gateway's is off from it, and one that runs slow loses half a millisecond a second.
#[test]
fn a_time_follows_from_the_jumps() {
    let mut sim = Sim::new(1, crate::scene::Reach::Whole, None, false);
    let begin = sim.time();
    assert_eq!(sim.gateway_time(), begin);
    sim.clocks.run(sim.now, -SLEW);
    sim.now += Duration::from_secs(1000);
    let span = Duration::from_micros(999_500_000);
    assert_eq!(sim.time(), begin.plus(span));
    sim.clocks_run_evenly();
    sim.clocks.off -= DAY;
    sim.clocks.ahead = MINUTE;
    sim.now += Duration::from_secs(1);
    let micros = begin.plus(span + Duration::from_secs(1)).micros() - DAY;
    assert_eq!(sim.time().micros(), micros);
    assert_eq!(sim.gateway_time().micros(), micros + MINUTE);
}
