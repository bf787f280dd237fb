//! Whether a message of an earlier state is a repeat, or of a time that is over.
//!
//! A bus gives each message at least once, and several gateways tell the same: so what is older than
//! the reader's state is normal for a while. Who reads says here what it took, and asks about what is
//! older. Invariants: nothing is stale that is as new as what the reader had [`REPEAT_LIMIT`] ago;
//! what is remembered is bounded ([`MAX_REMEMBERED`]), whatever comes.

use std::collections::VecDeque;
use std::time::Duration;

/// For so long after a newer state was taken an older one explains itself: a delivery that was not
/// acknowledged, an answer that overtook a message, another gateway's turn. As long as the bus
/// server drops copies by their id.
pub const REPEAT_LIMIT: Duration = Duration::from_secs(120);
/// States that were taken within this time may be remembered as one.
const GRAIN: Duration = Duration::from_secs(1);
/// Most states that are remembered at once: one for each grain, one before, one of now.
pub const MAX_REMEMBERED: usize = 122;

/// What a reader took, and when: numbers that only grow, oldest first; all but the first are younger
/// than the limit.
#[derive(Debug, Default)]
pub struct Late(VecDeque<(u64, Duration)>);

impl Late {
    /// A state was taken, at this instant of the monotonic clock.
    pub fn took(&mut self, number: u64, now: Duration) {
        self.forget(now);
        let times: Vec<Duration> = self.0.iter().rev().take(2).map(|(_, at)| *at).collect();
        let is_close = matches!(*times, [last, before] if last.saturating_sub(before) < GRAIN);
        match self.0.back_mut() {
            Some((last, _)) if number <= *last => {}
            // As if both had come now: too late is never said too early.
            Some(last) if is_close => *last = (number, now),
            _ => self.0.push_back((number, now)),
        }
    }

    /// Whether a message of this state comes later than repeats do.
    pub fn is_stale(&mut self, number: u64, now: Duration) -> bool {
        self.forget(now);
        let had = self.0.front();
        had.is_some_and(|(had, at)| number < *had && is_over(*at, now))
    }

    /// Forgets what the reader left behind before the limit.
    fn forget(&mut self, now: Duration) {
        while self.0.get(1).is_some_and(|(_, at)| is_over(*at, now)) {
            self.0.pop_front();
        }
    }
}

fn is_over(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) >= REPEAT_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    #[test]
    fn what_is_older_is_a_repeat_up_to_the_limit_and_stale_from_it_on() {
        let mut late = Late::default();
        assert!(!late.is_stale(0, START), "nothing was taken");
        late.took(5, START);
        late.took(7, START + Duration::from_secs(60));
        let (just, at) = (
            START + REPEAT_LIMIT - Duration::from_nanos(1),
            START + REPEAT_LIMIT,
        );
        assert!(!late.is_stale(4, just));
        assert!(late.is_stale(4, at));
        assert!(!late.is_stale(5, at), "as new as what it had then");
        assert!(!late.is_stale(6, at), "7 was taken a minute ago");
        assert!(late.is_stale(6, at + Duration::from_secs(60)));
        assert!(!late.is_stale(7, START * 9), "what it has is not late");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_says_nothing_too_early() {
        let mut late = Late::default();
        let mut now = START;
        let mut taken = Vec::new();
        for number in 1..50_000_u64 {
            now += Duration::from_millis(number % 37);
            late.took(number, now);
            taken.push(now);
            assert!(late.0.len() <= MAX_REMEMBERED, "{}", late.0.len());
            let Some(before) = now.checked_sub(REPEAT_LIMIT) else {
                continue;
            };
            let had = taken.partition_point(|at| *at <= before);
            let had = u64::try_from(had).unwrap();
            assert!(!late.is_stale(had, now));
            let long = before.saturating_sub(GRAIN * 2);
            let had_long = taken.partition_point(|at| *at <= long);
            if had_long > 1 {
                assert!(late.is_stale(u64::try_from(had_long).unwrap() - 1, now));
            }
        }
        assert!(late.0.len() > 100, "{}", late.0.len());
    }
}
