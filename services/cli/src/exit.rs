//! How a run ends: the exit codes, one table for code, help and README, and the failure that carries one.
//!
//! Invariant: a code once released keeps its meaning. A failure says what, why and the next step; it
//! never holds a value, and what others wrote into it does not steer the terminal.

use std::fmt;
use std::process::ExitCode;

use keywheel_schemas::api::{NOT_LET_IN, Problem};

use crate::output::tame;

/// What a text names that is told instead of every answer, of `keywheel status` too: a log waits to be accepted.
const ACCEPTED_WITH: &str = "`keywheel restore accept";
/// Most lines of a failure that are shown; a tired person reads no more.
pub(crate) const MAX_LINES: usize = 20;

/// Declares the codes once, so that the table cannot differ from the code.
macro_rules! exits {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal;)*) => {
        /// How a run ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Exit { $($(#[$doc])* $name,)* }

        impl Exit {
            /// All of them, as the table shows them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number a shell sees.
            pub(crate) const fn code(self) -> u8 { match self { $(Self::$name => $code,)* } }

            /// What it means, for people.
            pub(crate) const fn meaning(self) -> &'static str { match self { $(Self::$name => $meaning,)* } }
        }

        /// The table as text, for `keywheel help exit-codes`.
        pub(crate) const TABLE: &str = concat!(
            "Exit codes. They are stable: scripts may rely on them.\n\n",
            $("  ", stringify!($code), "\t", $meaning, "\n",)*
        );
    };
}

exits! {
    /// Done.
    Ok = 0, "done";
    /// A fault of ours, or damaged state.
    Unexpected = 1, "unexpected: a fault of Keywheel, or damaged state";
    /// The rules say no.
    Conflict = 2, "rejected: it conflicts with what is there (for example, a rotation runs already)";
    /// No such thing.
    NotFound = 3, "not found: nothing has this name or id";
    /// Not everybody followed.
    Partial = 4, "partial: not all consumers followed (parked, rolled back, cancelled), --timeout was reached, something is in the way of `rotate --dry-run`, or `status --check` or `doctor` found a problem";
    /// A proof does not hold.
    Unverified = 5, "verification failed: journal, audit or report does not prove what it claims";
    /// Others have to be for it first.
    Waiting = 6, "waiting: nothing was done, others have to approve it first (`keywheel approval list`)";
    /// Wrong command line.
    Usage = 64, "usage: a wrong command line, name or configuration file";
    /// Wrong input.
    Input = 65, "bad input: the manifest, the value or the name to register is wrong";
    /// The input is not there.
    NoInput = 66, "no input: a file that was named is missing, unreadable or a directory";
    /// Somebody does not answer.
    Unavailable = 69, "unavailable: keywheel is not running, the disk is full, or Docker does not answer";
    /// A place cannot be made.
    CannotCreate = 73, "cannot create: the data directory, a socket or an output file";
    /// Somebody holds it.
    Busy = 75, "busy: another `keywheel up` runs on this data directory; try again later";
    /// Not allowed.
    Denied = 77, "denied: this user may not; the attempt is on record";
    /// The key or configuration does not fit.
    Config = 78, "wrong or refused unseal key, or a configuration that does not fit what is there";
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a run did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What and why; several lines when there are several faults.
    pub(crate) what: String,
    /// What to do next.
    pub(crate) next: Option<String>,
}

impl Failure {
    /// A failure with its next step.
    pub(crate) fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            next: Some(next.into()),
        }
    }

    /// The same with another next step.
    pub(crate) fn with_next(self, next: impl Into<String>) -> Self {
        Self {
            next: Some(next.into()),
            ..self
        }
    }

    /// What the gateway answered. `of_input` marks verbs that send a file: there, invalid means the file.
    pub(crate) fn of_problem(problem: &Problem, of_input: bool) -> Self {
        let names_a_command = problem.detail.contains("`keywheel ");
        let general = |next: &'static str| (!names_a_command).then_some(next);
        // Who came in and may not do one thing is told which right it takes: being another user is none.
        let is_shut_out = problem.detail.contains(NOT_LET_IN);
        let (exit, next) = match problem.code.as_str() {
            "invalid" if of_input => (Exit::Input, Some("correct it, then repeat the command")),
            "invalid" => (
                Exit::Usage,
                Some("correct the command; `--help` shows its form"),
            ),
            // A text that names what to do is told alone: what is said of all such failures is not always so of one.
            "not_found" => (
                Exit::NotFound,
                general(
                    "`keywheel secret list` names the secrets there are, `keywheel get KIND` everything else",
                ),
            ),
            "conflict" => (
                Exit::Conflict,
                general("`keywheel status` and `keywheel get rotations` show what is under way"),
            ),
            "denied" => (
                Exit::Denied,
                is_shut_out.then_some(
                    "ask someone who may: root, the user the daemon runs as, or a member of the group `keywheel`",
                ),
            ),
            "unavailable" => (
                Exit::Unavailable,
                (!problem.detail.contains(ACCEPTED_WITH))
                    .then_some("`keywheel status` shows what is missing; then repeat the command"),
            ),
            "sealed" => (
                Exit::Unavailable,
                Some(
                    "`keywheel unseal` on the machine where a share, or the passphrase, is known; then repeat the command",
                ),
            ),
            "waiting" => (
                Exit::Waiting,
                Some(
                    "once they approved it, repeat the same command; in an emergency `keywheel --break-glass TEXT …` goes on without them",
                ),
            ),
            "corrupt" => (
                Exit::Unexpected,
                Some(
                    "keep a copy of the data directory, then `keywheel journal verify` names the place",
                ),
            ),
            _ => (Exit::Unexpected, Some("look into the log of `keywheel up`")),
        };
        Self {
            exit,
            what: problem.detail.clone(),
            next: next.map(str::to_owned),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and texts of others are in both.
        let tamed = |text: &str| -> Vec<String> { text.lines().map(tame).collect() };
        let lines = tamed(&self.what);
        let (shown, left) = lines.split_at(lines.len().min(MAX_LINES));
        write!(f, "error: {}", shown.join("\n  "))?;
        if !left.is_empty() {
            write!(f, "\n  … and {} more", left.len())?;
        }
        match &self.next {
            Some(next) => write!(f, "\n  next: {}", tamed(next).join("\n  ")),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &str) -> Problem {
        Problem {
            kind: format!("about:blank#{code}"),
            title: code.to_owned(),
            status: 400,
            detail: "no secret is named `a`".to_owned(),
            code: code.to_owned(),
        }
    }

    #[test]
    fn the_table_lists_every_code_once_with_its_meaning() {
        for exit in Exit::ALL {
            let row = format!("  {}\t{}\n", exit.code(), exit.meaning());
            assert_eq!(TABLE.matches(&row).count(), 1, "{row}");
        }
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 64, 65, 66, 69, 73, 75, 77, 78]);
    }

    #[test]
    fn the_readme_shows_the_same_table() {
        let readme = include_str!("../../../README.md");
        let rows = Exit::ALL.iter();
        let rows: String = rows
            .map(|exit| format!("| {} | {} |\n", exit.code(), exit.meaning()))
            .collect();
        let table = format!("| code | meaning |\n|---|---|\n{rows}\n");
        assert!(
            readme.contains(&table),
            "README.md has another table than\n{table}"
        );
    }

    #[test]
    fn every_problem_code_has_its_exit_code() {
        let rows = [
            ("invalid", 64, 65),
            ("not_found", 3, 3),
            ("conflict", 2, 2),
            ("denied", 77, 77),
            ("unavailable", 69, 69),
            ("corrupt", 1, 1),
            ("sealed", 69, 69),
            ("waiting", 6, 6),
            ("of_the_future", 1, 1),
        ];
        for (code, plain, of_input) in rows {
            assert_eq!(
                Failure::of_problem(&problem(code), false).exit.code(),
                plain,
                "{code}"
            );
            let failure = Failure::of_problem(&problem(code), true);
            assert_eq!(failure.exit.code(), of_input, "{code}");
            let has_next = failure.next.is_some();
            assert_eq!(has_next, code != "denied", "{code}: {failure}");
        }
    }

    fn next_of(code: &str, detail: &str) -> Option<String> {
        let problem = Problem {
            detail: detail.to_owned(),
            ..problem(code)
        };
        Failure::of_problem(&problem, false).next
    }

    #[test]
    fn only_who_may_not_come_in_is_told_to_be_another_user() {
        let shut_out =
            "user `nobody` (uid 65534) may not use this socket, and the attempt is on record";
        let next = next_of("denied", shut_out).unwrap();
        assert!(next.contains("root"), "{next}");
        for refused in [
            "`unix:0` may not rotate `secret/prod/db` (default deny, version 2); whoever may `grant` can change it",
            "this token opens nothing here",
            "this stream ends: `certificate:ada` may not audit `environment` any more",
        ] {
            assert_eq!(next_of("denied", refused), None, "{refused}");
        }
    }

    #[test]
    fn a_text_that_names_a_command_is_followed_by_no_general_one() {
        for code in ["not_found", "conflict"] {
            let named = "no request a1 is at hand; `keywheel approval list` lists them";
            assert_eq!(next_of(code, named), None, "{code}");
            let next = next_of(code, "`keywheel` is the name of another one").unwrap();
            assert!(next.contains("`keywheel "), "{next}");
        }
        // The others say how to go on with the same command.
        let named = "store-sync is sealed; `keywheel unseal` opens it";
        assert!(next_of("unavailable", named).is_some());
        // But where status itself gets no other answer.
        let held = "nothing is served: accept it with `keywheel restore accept --reason TEXT`";
        assert_eq!(next_of("unavailable", held), None);
    }

    #[test]
    fn what_others_wrote_into_a_failure_steers_no_terminal() {
        let failure = Failure::new(
            Exit::Unverified,
            "the checkpoint is not of `\u{1b}]0;x\u{7}\u{9b}2J`\nnor of `\u{202e}b`",
            "look at \u{1b}[31mx",
        );
        assert_eq!(
            failure.to_string(),
            "error: the checkpoint is not of `·]0;x··2J`\n  nor of `·b`\n  next: look at ·[31mx"
        );
    }

    #[test]
    fn a_failure_shows_its_faults_one_a_line_and_the_next_step_last() {
        let failure = Failure::new(
            Exit::Input,
            "2 faults\nm.yaml:1:2: a\nm.yaml:3:4: b",
            "correct them",
        );
        assert_eq!(
            failure.to_string(),
            "error: 2 faults\n  m.yaml:1:2: a\n  m.yaml:3:4: b\n  next: correct them"
        );
        let long = "x\n".repeat(MAX_LINES + 3);
        let text = Failure {
            exit: Exit::Input,
            what: long,
            next: None,
        }
        .to_string();
        assert!(text.ends_with("… and 3 more"), "{text}");
        assert_eq!(text.lines().count(), MAX_LINES + 1);
    }
}
