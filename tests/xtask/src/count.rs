//! Counts passed and failed tests from what libtest prints.
//!
//! Pure: text in, numbers out. A suite that dies without a summary counts as
//! one failure, so that a crash never looks like a success.

/// Passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// The sum of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

/// Reads one `test result: ok. 12 passed; 0 failed; …` line.
pub(crate) fn parse_line(line: &str) -> Option<Tally> {
    let rest = line.trim_start().strip_prefix("test result: ")?;
    let (_verdict, counts) = rest.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split(';') {
        let mut words = part.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
            continue;
        };
        match words.next() {
            Some("passed") => tally.passed = number,
            Some("failed") => tally.failed = number,
            _ => {}
        }
    }
    Some(tally)
}

/// The result of a libtest suite: at least one failure when it exited badly.
pub(crate) fn settle(counted: Tally, exit_ok: bool) -> Tally {
    let ran_nothing = counted == Tally::default();
    if (!exit_ok || ran_nothing) && counted.failed == 0 {
        return Tally {
            failed: 1,
            ..counted
        };
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_line_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s";
        assert_eq!(
            parse_line(line),
            Some(Tally {
                passed: 12,
                failed: 3
            })
        );
    }

    #[test]
    fn other_lines_are_no_summary() {
        assert_eq!(parse_line("test decide::ok ... ok"), None);
        assert_eq!(parse_line("test result"), None);
    }

    #[test]
    fn a_crash_without_a_summary_is_a_failure() {
        assert_eq!(
            settle(Tally::default(), false),
            Tally {
                passed: 0,
                failed: 1
            }
        );
        assert_eq!(
            settle(
                Tally {
                    passed: 4,
                    failed: 0
                },
                false
            ),
            Tally {
                passed: 4,
                failed: 1
            }
        );
    }

    #[test]
    fn a_suite_that_ran_no_test_is_a_failure() {
        assert_eq!(settle(Tally::default(), true).failed, 1);
    }

    #[test]
    fn a_good_suite_is_left_alone() {
        let good = Tally {
            passed: 4,
            failed: 0,
        };
        assert_eq!(settle(good, true), good);
    }
}
