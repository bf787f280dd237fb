//! Keeps why tests failed, from what libtest prints, so that the end of a long run says it again: who sees only
//! the end of a log sees the reason too.
//!
//! Pure: lines in, lines out. Owns how much is kept; who prints it does so where people look.

/// Lines kept of one suite.
const MAX_LINES: usize = 30;
/// Lines kept from one reason on, its first among them.
const LINES_EACH: usize = 8;
/// Characters kept of a line.
const MAX_CHARS: usize = 400;

/// The reasons of one suite.
#[derive(Debug, Default)]
pub(crate) struct Why {
    lines: Vec<String>,
    more: usize,
}

impl Why {
    /// Looks at one line of the suite's output.
    pub(crate) fn take(&mut self, line: &str) {
        // A test that returns its fault, one that panics, and a compiler's.
        let begins = line.starts_with("Error: ")
            || line.contains(" panicked at ")
            || line.starts_with("error");
        if begins {
            self.more = LINES_EACH;
        } else if line.is_empty() || line.starts_with("--- ") {
            self.more = 0;
        }
        if self.more > 0 && self.lines.len() < MAX_LINES {
            self.more -= 1;
            self.lines.push(line.chars().take(MAX_CHARS).collect());
        }
    }

    /// What was kept.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let mut why = Why::default();
        for line in text.split('\n') {
            why.take(line);
        }
        why.into_lines()
    }

    #[test]
    fn a_returned_fault_is_kept_with_its_causes_and_logs_are_not() {
        let text = "--- the end of up.log\nWARN error=x\nError: no value\n\nCaused by:\n    gone\n";
        assert_eq!(of(text), ["Error: no value"]);
        let panicked = "thread 'a' (7) panicked at a.rs:3:5:\nassertion failed\n left: 1\n\nafter";
        assert_eq!(
            of(panicked),
            [
                "thread 'a' (7) panicked at a.rs:3:5:",
                "assertion failed",
                " left: 1"
            ]
        );
    }

    #[test]
    fn each_reason_and_the_whole_are_bounded() {
        let long = "x".repeat(MAX_CHARS + 1);
        let one = format!("Error: a\n{}", format!("{long}\n").repeat(LINES_EACH));
        let kept = of(&one);
        assert_eq!(kept.len(), LINES_EACH);
        assert!(kept.iter().all(|line| line.chars().count() <= MAX_CHARS));
        assert_eq!(of(&one.repeat(MAX_LINES)).len(), MAX_LINES);
    }
}
