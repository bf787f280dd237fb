//! When this program did what. It tells nobody but the injector, in the questions that it asks anyway:
//! spans of a container's start are the injector's to tell.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970, as traces count; 0 by a clock that stands before.
#[expect(
    clippy::disallowed_methods,
    reason = "for people who look at a trace; nothing is decided by it"
)]
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(0))
}

/// The real runtime's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Real {
    /// When it was called.
    pub(crate) called: i64,
    /// When it came back.
    pub(crate) returned: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_after_this_was_written() {
        assert!(now() > 1_764_000_000_000_000);
    }
}
