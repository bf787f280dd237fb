//! When what failed at a container is tried again: after a while that is the same for it each time and another one
//! for others, so that many that failed together do not all come again together.
//!
//! Pure. Who is tried again, and how often, it does not know.

use std::time::Duration;

use keywheel_core::id::ContainerId;

use super::RETRY_AFTER;

/// It is up to so much later, by container.
const RETRY_SPREAD: Duration = Duration::from_secs(2);
/// Digits of a container's id that say how much; all of them are drawn at random.
const DIGITS: usize = 4;

/// After what time something that failed at this container is tried again.
pub(super) fn derive_wait(container: &ContainerId) -> Duration {
    let digits = container.as_str().get(..DIGITS).unwrap_or_default();
    let part = u16::from_str_radix(digits, 16).unwrap_or_default();
    RETRY_AFTER + RETRY_SPREAD * u32::from(part) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn wait_of(first: &str) -> Duration {
        derive_wait(&ContainerId::parse(&format!("{first:0<64}")).unwrap())
    }

    #[test]
    fn many_that_failed_together_come_again_one_by_one_and_each_at_its_own_time() {
        let waits: BTreeSet<Duration> = (0..=u8::MAX)
            .map(|number| wait_of(&format!("{number:02x}")))
            .collect();
        assert_eq!(waits.len(), 256);
        assert_eq!(wait_of("7f3a"), wait_of("7f3a"));
    }

    #[test]
    fn none_comes_before_its_time_or_much_after_it() {
        assert_eq!(wait_of("0000"), RETRY_AFTER);
        assert_eq!(wait_of("ffff"), RETRY_AFTER + RETRY_SPREAD);
    }
}
