//! A command line that is not understood, as a failure like the others: clap's words for the thing and the reason, its
//! similar word where it knows one, and the verb whose help says more. Pure.
//!
//! Invariant: a word that is one too many is not repeated, for it may be a value that somebody typed behind `put`.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory as _};

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::output::tame;

/// What clap says at the end: a line of use, which of a verb with many flags says little, and where help is.
const ENDS: [&str; 2] = ["Usage: ", "For more information, try "];
/// What is said of a word that is no flag.
const TOO_MANY: &str = "there is a word too many, or one whose flag is missing; it is not repeated here, for it may be a value";

/// The failure behind clap's error, for the words behind the program's name.
pub(crate) fn failure(error: &clap::Error, words: impl IntoIterator<Item = String>) -> Failure {
    let words: Vec<String> = words.into_iter().collect();
    let text = match is_word_too_many(error, &words) {
        true => TOO_MANY.to_owned(),
        false => error.render().to_string(),
    };
    let lines = text.lines().map(str::trim);
    let said = lines.take_while(|line| !ENDS.iter().any(|end| line.starts_with(*end)));
    let said: Vec<String> = said.filter(|line| !line.is_empty()).map(tame).collect();
    let said = said.join("\n");
    Failure::new(
        Exit::Usage,
        said.strip_prefix("error: ").unwrap_or(&said),
        format!("`{} --help` shows how it is used", verb(words)),
    )
}

/// Whether clap would repeat a word that is no flag: one of two hyphens, or of one and a letter. Behind `--` none is.
fn is_word_too_many(error: &clap::Error, words: &[String]) -> bool {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) => {
            let is_short = word.starts_with('-') && word.chars().count() <= 2;
            let is_flag = word.starts_with("--") || is_short;
            !is_flag || words.iter().any(|word| word == "--")
        }
        _ => false,
    }
}

/// The verb that was meant, as far as there is one: `keywheel audit list`.
fn verb(words: impl IntoIterator<Item = String>) -> String {
    let root = Cli::command();
    let mut command = &root;
    let mut verb = vec!["keywheel"];
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            if [command, &root].iter().any(|of| takes_next(of, &word)) {
                words.next();
            }
            continue;
        }
        let Some(below) = command.find_subcommand(&word) else {
            break;
        };
        command = below;
        verb.push(below.get_name());
    }
    verb.join(" ")
}

/// Whether the word behind a flag is its value, and no verb.
fn takes_next(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| {
        let short = argument.get_short().map(|short| format!("-{short}"));
        let long = argument.get_long().map(|long| format!("--{long}"));
        let is_it = [short, long].into_iter().flatten().any(|name| name == flag);
        is_it && argument.get_action().takes_values()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn misread(line: &str) -> Failure {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let whole = std::iter::once("keywheel".to_owned()).chain(words.clone());
        let error = Cli::try_parse_from(whole).unwrap_err();
        failure(&error, words)
    }

    #[test]
    fn every_misread_line_ends_with_the_help_of_its_own_verb() {
        for (line, verb) in [
            ("rotat a/b", "keywheel"),
            ("--nonsense", "keywheel"),
            ("status --nonsense", "keywheel status"),
            ("audit list --nonsense", "keywheel audit list"),
            ("audit query --limit many", "keywheel audit list"),
            ("-o json audit prove", "keywheel audit prove"),
            ("--address unix:///x events lis", "keywheel events"),
            (
                "--identity=/i rotation retry --reason why",
                "keywheel rotation retry",
            ),
            // What a flag is given is no verb.
            (
                "--break-glass status rotation abort a/b",
                "keywheel rotation abort",
            ),
            ("revoke a/b", "keywheel revoke"),
        ] {
            let failure = misread(line);
            assert_eq!(failure.exit, Exit::Usage, "{line}");
            let text = failure.to_string();
            let end = format!("\n  next: `{verb} --help` shows how it is used");
            assert!(text.ends_with(&end), "{line}: {text}");
            assert!(
                text.starts_with("error: ") && !text.contains("error: error"),
                "{text}"
            );
            assert!(
                !text.contains("Usage:") && !text.contains("For more"),
                "{text}"
            );
            assert!(text.lines().all(|line| !line.is_empty()), "{text}");
        }
    }

    #[test]
    fn what_is_missing_and_what_is_similar_is_said() {
        for (line, part) in [
            ("rotat a/b", "'rotate'"),
            ("status --chek", "'--check'"),
            ("completion tcsh", "possible values: "),
            ("revoke a/b", "\n  --reason <TEXT>\n"),
            ("rotate a/b --timeout soon", "'--timeout <SPAN>'"),
        ] {
            let text = misread(line).to_string();
            assert!(text.contains(part), "{line}: {text}");
        }
    }

    #[test]
    fn a_word_too_many_is_not_repeated_for_it_may_be_a_value() {
        for line in [
            "put a/b hunter2",
            "put a/b -- -hunter2",
            "put a/b -- --hunter2",
            "put a/b --valu=hunter2",
            "rotate-kek hunter2",
            "seal hunter2",
        ] {
            let text = misread(line).to_string();
            assert!(!text.contains("hunter2"), "{line}: {text}");
        }
        let said = misread("seal hunter2");
        assert_eq!(said.what, TOO_MANY);
        assert_eq!(
            said.next.unwrap(),
            "`keywheel seal --help` shows how it is used"
        );
        let flag = misread("seal --valu=hunter2").to_string();
        assert!(flag.contains("'--valu'"), "{flag}");
    }

    #[test]
    fn what_was_typed_cannot_steer_the_terminal() {
        let text = misread("status --\u{1b}[31mred").to_string();
        assert!(!text.contains('\u{1b}') && text.contains("red"), "{text}");
    }
}
