//! How many signals of one source are taken: a few at once, and then so many a minute. Pure.

use std::time::Duration;

/// Signals that may come at once.
pub const BURST: u32 = 100;
/// Signals a minute after that.
pub const PER_MINUTE: u32 = 120;

/// One source's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// When it is full again, by the monotonic clock.
    full_at: Duration,
}

/// How long one place takes to come back.
const PLACE: Duration = Duration::from_millis(60_000 / PER_MINUTE as u64);

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            full_at: Duration::ZERO,
        }
    }

    /// Takes so many places, all or none of them.
    ///
    /// # Errors
    /// With the time after which there are so many; of more than [`BURST`] there never are.
    pub fn take(&mut self, now: Duration, places: u32) -> Result<(), Duration> {
        let room = PLACE.saturating_mul(BURST);
        let taken = PLACE.saturating_mul(places);
        let full_at = self.full_at.max(now).saturating_add(taken);
        let used = full_at.saturating_sub(now);
        if used > room {
            return Err(used.saturating_sub(room));
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_so_many_a_minute() {
        let mut bucket = Bucket::full();
        let start = Duration::from_secs(1000);
        for taken in 0..BURST {
            assert_eq!(bucket.take(start, 1), Ok(()), "{taken}");
        }
        assert_eq!(bucket.take(start, 1), Err(PLACE));
        let later = start + PLACE;
        assert_eq!(bucket.take(later, 1), Ok(()));
        assert!(bucket.take(later, 1).is_err());
        let minute = later + Duration::from_secs(60);
        let taken = (0..1000).filter(|_| bucket.take(minute, 1).is_ok());
        assert_eq!(
            taken.count(),
            BURST as usize,
            "it never holds more than a burst"
        );
    }

    #[test]
    fn a_batch_takes_all_of_its_places_or_none() {
        let mut bucket = Bucket::full();
        let start = Duration::from_secs(1000);
        assert!(bucket.take(start, BURST + 1).is_err());
        assert_eq!(bucket.take(start, BURST), Ok(()));
        assert_eq!(bucket.take(start, 2), Err(PLACE * 2));
        assert!(bucket.take(start + PLACE, 2).is_err());
        assert_eq!(bucket.take(start + PLACE, 1), Ok(()), "nothing was taken");
    }
}
