//! What a person or a program gets to see: answers on stdout, everything else on stderr.
//!
//! Invariants: with `-o json` stdout holds JSON only; colour and progress are for terminals only, and
//! `NO_COLOR` is honoured; what the server or a container's name says cannot steer the terminal.

pub(crate) mod approvals;
pub(crate) mod entitlement;
pub(crate) mod hosts;
pub(crate) mod outward;
pub(crate) mod playbooks;
pub(crate) mod policies;
pub(crate) mod progress;
pub(crate) mod radius;
pub(crate) mod records;
pub(crate) mod revocations;
pub(crate) mod rotations;
pub(crate) mod schedule;
pub(crate) mod status;
pub(crate) mod stores;
pub(crate) mod table;
pub(crate) mod tokens;
pub(crate) mod views;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::args::Format;
use crate::exit::{Exit, Failure};

/// Longest line a person types as an answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 4096;

/// Where answers go and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    format: Format,
    /// Whether to colour words.
    pub(crate) color: bool,
    /// Whether progress can be shown.
    pub(crate) live: bool,
    /// Whether a person can be asked.
    pub(crate) interactive: bool,
}

impl Screen {
    /// What this process was given.
    pub(crate) fn of_terminal(format: Format) -> Self {
        let no_color = keywheel_daemon::env::read("NO_COLOR").is_ok_and(|set| set.is_some());
        let live = io::stderr().is_terminal();
        Self {
            format,
            color: io::stdout().is_terminal() && !no_color,
            live,
            interactive: live && io::stdin().is_terminal(),
        }
    }

    /// Whether a program reads.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Shows an answer: as JSON, or as what `words` makes of it.
    pub(crate) fn show<T: Serialize>(
        self,
        answer: &T,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => words(answer),
            Format::Json => serde_json::to_string_pretty(answer).map_err(|error| {
                Failure::new(
                    Exit::Unexpected,
                    format!("the answer has no JSON form: {error}"),
                    "use -o table",
                )
            })?,
        };
        self.line(&text)
    }

    /// Writes a text and ends its line.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.write(&[text.trim_end_matches('\n').as_bytes(), b"\n"].concat())
    }

    /// Writes bytes as they are.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| written(&error))
    }

    /// Tells a person something beside the answer.
    pub(crate) fn note(self, text: &str) {
        // When stderr is gone, nobody is left to be told.
        let _ = writeln!(io::stderr().lock(), "{}", tame_lines(text));
    }

    /// Asks a person for a line.
    pub(crate) fn ask(self, question: &str) -> Result<String, Failure> {
        let mut error = io::stderr().lock();
        let _ = write!(error, "{} ", tame_lines(question));
        let _ = error.flush();
        let mut line = String::new();
        let mut input = io::Read::take(io::stdin().lock(), MAX_ANSWER_BYTES);
        input.read_line(&mut line).map_err(|error| {
            Failure::new(
                Exit::NoInput,
                format!("cannot read the answer: {error}"),
                "add --yes to go on without a question",
            )
        })?;
        Ok(line.trim().to_owned())
    }
}

fn written(error: &io::Error) -> Failure {
    // Whoever read has read enough, for example `| head`.
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure {
            exit: Exit::Ok,
            what: String::new(),
            next: None,
        };
    }
    Failure::new(
        Exit::CannotCreate,
        format!("cannot write the answer: {error}"),
        "check where stdout goes",
    )
}

/// A text from elsewhere, without anything that could steer a terminal, or show letters in another order than they are
/// read in: somebody approves what they see.
pub(crate) fn tame(text: &str) -> String {
    text.chars()
        .map(|c| if is_steering(c) { '\u{b7}' } else { c })
        .collect()
}

/// The same of each line of a text of ours, into which others' words are put.
fn tame_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(tame).collect();
    lines.join("\n")
}

/// Whether a character does something to what stands around it: controls, and marks that turn the direction of text or
/// show nothing.
pub(crate) fn is_steering(character: char) -> bool {
    let turns = [
        '\u{61c}'..='\u{61c}',
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
    ];
    character.is_control() || turns.iter().any(|range| range.contains(&character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_beside_an_answer_keeps_its_lines_and_nothing_that_steers() {
        assert_eq!(tame_lines("a\n\n  b\u{1b}[2J\r\n"), "a\n\n  b·[2J·\n");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(tame("a\u{1b}[31mb\nc"), "a·[31mb·c");
        assert_eq!(tame("prod/db ä"), "prod/db ä");
        // A comment that would be shown as if it were none.
        assert_eq!(tame("// \u{202e}a\u{2066} b\u{200b}"), "// ·a· b·");
    }
}
