//! Counts passed and failed tests from what libtest prints.
//!
//! Pure: text in, numbers out. A suite that dies without a summary counts as
//! one failure, so that a crash never looks like a success.

/// How a line begins with which a test says that it did not run, for want of a server that nobody here can pin. To
/// libtest it passed.
const NOT_RUN: &str = "NOT RUN: ";

/// Passed, failed, and neither, though libtest takes them for passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) not_run: u64,
}

impl Tally {
    /// The sum of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            not_run: self.not_run + other.not_run,
        }
    }

    /// The same; who did not run did not pass.
    pub(crate) fn told_apart(self) -> Self {
        Self {
            passed: self.passed.saturating_sub(self.not_run),
            ..self
        }
    }
}

/// Whether a test says that it did not run.
pub(crate) fn is_not_run(line: &str) -> bool {
    line.starts_with(NOT_RUN)
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
                failed: 3,
                not_run: 0
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
                failed: 1,
                ..Tally::default()
            }
        );
        assert_eq!(
            settle(
                Tally {
                    passed: 4,
                    ..Tally::default()
                },
                false
            ),
            Tally {
                passed: 4,
                failed: 1,
                not_run: 0
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
            ..Tally::default()
        };
        assert_eq!(settle(good, true), good);
    }

    #[test]
    fn who_did_not_run_did_not_pass_and_fails_no_suite() {
        assert!(is_not_run("NOT RUN: a_test: no MySQL at /x"));
        assert!(!is_not_run("test a_test ... ok") && !is_not_run("it did NOT RUN: so"));
        let said = Tally {
            passed: 4,
            failed: 0,
            not_run: 3,
        };
        let apart = said.told_apart();
        assert_eq!((apart.passed, apart.not_run), (1, 3));
        let nobody = Tally { passed: 3, ..said }.told_apart();
        assert_eq!(settle(nobody, true).failed, 0);
        assert_eq!(settle(nobody, false).failed, 1);
    }
}
