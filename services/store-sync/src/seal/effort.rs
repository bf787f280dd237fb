//! How often something wrong may be offered: then nothing is looked at for a while.

use std::collections::VecDeque;
use std::time::Duration;

use keywheel_engine::port::{ErrorKind, PortError};

/// So many refusals are allowed within [`REFUSED_SPAN`].
pub const MAX_REFUSED: usize = 5;
/// After so long a refusal counts no more.
pub const REFUSED_SPAN: Duration = Duration::from_secs(60);

/// The last refusals, by the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Effort {
    refused: VecDeque<Duration>,
}

impl Effort {
    /// Whether one more may be looked at, right or wrong.
    pub(super) fn check(&mut self, now: Duration) -> Result<(), PortError> {
        let counts = |at: &Duration| now.saturating_sub(*at) < REFUSED_SPAN;
        while self.refused.front().is_some_and(|at| !counts(at)) {
            self.refused.pop_front();
        }
        if self.refused.len() < MAX_REFUSED {
            return Ok(());
        }
        let oldest = self.refused.front().copied().unwrap_or(now);
        let left = REFUSED_SPAN.saturating_sub(now.saturating_sub(oldest));
        // What is left of a second counts: who comes back then is looked at.
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        let text = format!(
            "too many offers were refused: nothing was looked at; try again in {seconds} seconds"
        );
        Err(PortError::new(ErrorKind::Unavailable, text))
    }

    /// One was refused.
    pub(super) fn note(&mut self, now: Duration) {
        self.refused.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_so_many_refusals_nothing_is_looked_at_until_the_oldest_is_old() {
        let at = Duration::from_secs;
        let mut effort = Effort::default();
        for second in 0..5 {
            assert!(effort.check(at(second)).is_ok(), "{second}");
            effort.note(at(second));
        }
        let error = effort.check(at(59)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.text.ends_with(" in 1 seconds"), "{error}");
        for (now, left) in [(at(4), 56), (Duration::from_millis(30_001), 30)] {
            let error = effort.check(now).unwrap_err();
            let said = format!("try again in {left} seconds");
            assert!(error.text.ends_with(&said), "{error}");
        }
        assert!(effort.check(at(60)).is_ok(), "the first is a minute old");
        effort.note(at(60));
        assert!(effort.check(at(60)).is_err());
        assert_eq!(effort.refused.len(), MAX_REFUSED);
    }
}
