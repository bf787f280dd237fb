//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// Wait after the first failure.
pub const RETRY_BASE: Duration = Duration::from_secs(1);
/// Longest wait.
pub const RETRY_CAP: Duration = Duration::from_secs(60);

/// Wait after the n-th failure: doubled each time, capped; it never gives up.
#[must_use]
pub fn retry_delay(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    RETRY_BASE.saturating_mul(1_u32 << doublings).min(RETRY_CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_stay_there() {
        let seconds: Vec<u64> = (0..9).map(|n| retry_delay(n).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry_delay(u32::MAX), RETRY_CAP);
    }
}
