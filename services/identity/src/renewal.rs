//! When to renew certificates and when to make and destroy sealing keys: pure arithmetic.
//!
//! Invariants: hosts do not renew in step (the jitter follows from the id), and one host's moment
//! does not move between two looks; an old sealing key lives as long as a delivery may need it, and
//! not longer. Nothing here reads a clock or makes a key.

use std::time::Duration;

use keywheel_core::time::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::authority::CLOCK_SKEW;

/// How far from half of the life a renewal may be, as a part of the life: a tenth.
const JITTER_PARTS: u64 = 10;
/// How long a failed renewal waits before the next attempt, at least.
pub const RETRY_MIN: Duration = Duration::from_secs(10);
/// And at most.
pub const RETRY_MAX: Duration = Duration::from_secs(10 * 60);

/// When to renew what lives from `begin` to `end`: at half of its life, a tenth of it earlier or
/// later. The same id and life give the same moment.
#[must_use]
pub fn renew_at(id: &[u8], begin: Timestamp, end: Timestamp) -> Timestamp {
    let life = u64::try_from(end.since(begin).as_micros()).unwrap_or(u64::MAX);
    let spread = 2 * (life / JITTER_PARTS);
    let digest: [u8; 32] = Sha256::new_with_prefix(begin.micros().to_be_bytes())
        .chain_update(id)
        .finalize()
        .into();
    let draw = digest
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let earliest = life / 2 - life / JITTER_PARTS;
    let shift = if spread == 0 { 0 } else { draw % (spread + 1) };
    begin.plus(Duration::from_micros(earliest.saturating_add(shift)))
}

/// When to renew a certificate that is valid from `begin` to `end`: it was given out a clock's skew
/// after its begin.
#[must_use]
pub fn due(id: &[u8], (begin, end): (Timestamp, Timestamp)) -> Timestamp {
    renew_at(id, begin.plus(CLOCK_SKEW).min(end), end)
}

/// How long to wait after the `failures`th failure in a row: doubling, within bounds.
#[must_use]
pub fn retry_after(failures: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    RETRY_MIN.saturating_mul(factor).clamp(RETRY_MIN, RETRY_MAX)
}

/// What is known of one sealing key of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAge {
    /// Its generation; the highest is the one values are sealed to.
    pub generation: u64,
    /// When it was made.
    pub made: Timestamp,
    /// Whether the gateway knows a newer one as the host's key.
    pub superseded: bool,
    /// Deliveries asked for and not yet opened, sealed to this key.
    pub open_deliveries: usize,
}

/// What to do with a host's sealing keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStep {
    /// Make a key of this generation and tell the gateway.
    Make(u64),
    /// Overwrite the key of this generation.
    Destroy(u64),
}

/// The steps that are due now. A new key is made when the newest has reached `age`; an older one is
/// destroyed once the gateway knows its successor and no delivery sealed to it is open.
#[must_use]
pub fn sealing_key_steps(keys: &[KeyAge], age: Duration, now: Timestamp) -> Vec<KeyStep> {
    let newest = keys.iter().max_by_key(|key| key.generation);
    let make = match newest {
        None => Some(KeyStep::Make(1)),
        Some(key) if now.since(key.made) >= age => {
            Some(KeyStep::Make(key.generation.saturating_add(1)))
        }
        Some(_) => None,
    };
    let done = keys.iter().filter(|key| {
        let is_newest = newest.is_some_and(|newest| newest.generation == key.generation);
        !is_newest && key.superseded && key.open_deliveries == 0
    });
    let destroy = done.map(|key| KeyStep::Destroy(key.generation));
    make.into_iter().chain(destroy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600 * 1_000_000;
    const AGE: Duration = Duration::from_micros(DAY);

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(i64::try_from(micros).unwrap())
    }

    #[test]
    fn renewals_fall_around_half_of_the_life_and_spread() {
        let moments: Vec<u64> = (0_u32..1_000)
            .map(|id| {
                let when = renew_at(&id.to_be_bytes(), at(7), at(7 + DAY));
                u64::try_from(when.since(at(7)).as_micros()).unwrap()
            })
            .collect();
        let (low, high) = (moments.iter().min().unwrap(), moments.iter().max().unwrap());
        assert!(*low >= DAY * 4 / 10 && *high <= DAY * 6 / 10);
        assert!(
            *low < DAY * 41 / 100 && *high > DAY * 59 / 100,
            "{low} {high}"
        );
    }

    #[test]
    fn the_same_host_and_life_give_the_same_moment() {
        let first = renew_at(b"host", at(1), at(DAY));
        assert_eq!(renew_at(b"host", at(1), at(DAY)), first);
        assert_ne!(renew_at(b"hosu", at(1), at(DAY)), first);
    }

    #[test]
    fn a_short_life_is_not_renewed_before_it_began() {
        let (begin, life) = (at(DAY), Duration::from_secs(10));
        let issued = begin.plus(CLOCK_SKEW);
        let when = due(b"host", (begin, issued.plus(life)));
        assert!(when >= issued.plus(life * 4 / 10) && when <= issued.plus(life * 6 / 10));
        assert_eq!(due(b"host", (begin, begin)), begin);
    }

    #[test]
    fn a_life_of_nothing_is_renewed_at_once() {
        assert_eq!(renew_at(b"x", at(9), at(9)), at(9));
        assert_eq!(renew_at(b"x", at(9), at(3)), at(9));
    }

    #[test]
    fn retries_wait_longer_up_to_a_bound() {
        assert_eq!(retry_after(0), RETRY_MIN);
        assert_eq!(retry_after(1), RETRY_MIN);
        assert_eq!(retry_after(2), RETRY_MIN * 2);
        assert_eq!(retry_after(7), RETRY_MAX);
        assert_eq!(retry_after(u32::MAX), RETRY_MAX);
    }

    fn key(generation: u64, made: u64, superseded: bool, open_deliveries: usize) -> KeyAge {
        KeyAge {
            generation,
            made: at(made),
            superseded,
            open_deliveries,
        }
    }

    #[test]
    fn a_key_is_made_daily() {
        assert_eq!(sealing_key_steps(&[], AGE, at(0)), [KeyStep::Make(1)]);
        let young = [key(4, 0, false, 0)];
        assert_eq!(sealing_key_steps(&young, AGE, at(DAY - 1)), []);
        assert_eq!(sealing_key_steps(&young, AGE, at(DAY)), [KeyStep::Make(5)]);
    }

    #[test]
    fn an_old_key_waits_for_its_successor_and_its_last_delivery() {
        let newest = key(5, DAY, false, 0);
        for (old, steps) in [
            (key(4, 0, false, 0), vec![]),
            (key(4, 0, true, 1), vec![]),
            (key(4, 0, true, 0), vec![KeyStep::Destroy(4)]),
        ] {
            assert_eq!(sealing_key_steps(&[old, newest], AGE, at(DAY)), steps);
        }
        let wrong = [key(5, DAY, true, 0)];
        assert_eq!(
            sealing_key_steps(&wrong, AGE, at(DAY)),
            [],
            "the newest is never destroyed"
        );
    }
}
