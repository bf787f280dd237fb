//! Bounded waiting on something that another process does.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to wait for what is going to happen: far above every single timeout, pause and deadline of what
/// is waited for, also on a machine that stands still meanwhile. Where all goes well it costs nothing. What
/// asserts that something does not happen has a span of its own.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How often a condition is looked at.
pub const INTERVAL: Duration = Duration::from_millis(25);

/// Looks until `probe` answers, at most for `patience`; the error names `what`
/// and, when the probe failed last, why.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = now();
    loop {
        let looked = probe();
        if let Ok(Some(found)) = looked {
            return Ok(found);
        }
        if begun.elapsed() > patience {
            match looked {
                Err(error) => bail!("waited {patience:?} for {what}; last: {error:#}"),
                Ok(_) => bail!("waited {patience:?} for {what}"),
            }
        }
        thread::sleep(INTERVAL);
    }
}

/// The same for a yes or no.
pub fn until_true(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, patience, || Ok(probe()?.then_some(())))
}

/// The monotonic clock of the tests.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a system test waits in real time"
)]
pub fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_up_and_says_on_what() {
        let error = until_true("the moon", Duration::from_millis(30), || Ok(false)).err();
        assert!(error.is_some_and(|error| error.to_string().contains("the moon")));
    }

    #[test]
    fn it_returns_what_it_found() -> Result<()> {
        let mut left = 3;
        let found = until("zero", PATIENCE, || {
            left -= 1;
            Ok((left == 0).then_some(left))
        })?;
        assert_eq!(found, 0);
        Ok(())
    }
}
