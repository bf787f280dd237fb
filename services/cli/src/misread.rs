//! A command line that is not understood, as a failure like the others: which flag or verb, the reason, what is possible,
//! its similar word where clap knows one, and the verb whose help says more. Pure.
//!
//! Invariant: nothing that was given is repeated but the name of a flag, for it may be a value that somebody typed or
//! pasted in the wrong place. What reads a value of a flag says nothing of it either, which a test holds every flag to.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory as _};

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::output::tame;

/// What clap says at the end: a line of use, which of a verb with many flags says little, and where help is.
const ENDS: [&str; 2] = ["Usage: ", "For more information, try "];
/// What is said of a word that is no flag.
const TOO_MANY: &str = "there is a word too many, or one whose flag is missing; it is not repeated here, for it may be a value";
/// What is said of a word that is no verb.
const NO_VERB: &str = "there is no such verb; the word is not repeated here, for it may be a value";
/// What is said of the value of a flag.
const WITHHELD: &str = "it is not repeated here, for it may be a secret";
/// Longest name of a flag that is repeated, in bytes: none of ours is longer.
const MAX_FLAG_BYTES: usize = 24;

/// The failure behind clap's error, for the words behind the program's name.
pub(crate) fn failure(error: &clap::Error, words: impl IntoIterator<Item = String>) -> Failure {
    let words: Vec<String> = words.into_iter().collect();
    let root = Cli::command();
    let text = match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
            of_value(error, &root, &words)
        }
        ErrorKind::InvalidSubcommand => of_verb(error),
        ErrorKind::UnknownArgument if !is_flag(error, &words) => TOO_MANY.to_owned(),
        ErrorKind::ArgumentConflict if !is_verb(error, &root) => TOO_MANY.to_owned(),
        _ => error.render().to_string(),
    };
    let lines = text.lines().map(str::trim);
    let said = lines.take_while(|line| !ENDS.iter().any(|end| line.starts_with(*end)));
    let said: Vec<String> = said.filter(|line| !line.is_empty()).map(tame).collect();
    let said = said.join("\n");
    Failure::new(
        Exit::Usage,
        said.strip_prefix("error: ").unwrap_or(&said),
        format!("`{} --help` shows how it is used", verb(&root, words)),
    )
}

/// A text of what clap knows about an error.
fn known(error: &clap::Error, kind: ContextKind) -> &str {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text,
        _ => "",
    }
}

/// Several of them.
fn all_known(error: &clap::Error, kind: ContextKind) -> &[String] {
    match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts,
        _ => &[],
    }
}

/// A flag with a value that it cannot have.
fn of_value(error: &clap::Error, root: &Command, words: &[String]) -> String {
    let flag = origin(known(error, ContextKind::InvalidArg), root, words);
    let has_none = known(error, ContextKind::InvalidValue).is_empty();
    let possible = all_known(error, ContextKind::ValidValue);
    let mut said = vec![match (error.kind(), reason(error)) {
        (ErrorKind::TooManyValues, _) => {
            format!("{flag} takes no value, and was given one; {WITHHELD}")
        }
        (ErrorKind::InvalidValue, _) if has_none => format!("{flag} needs a value, and has none"),
        (ErrorKind::InvalidValue, _) => {
            format!("{flag} was given none of its possible values; {WITHHELD}")
        }
        (_, Some(reason)) => format!("{flag} cannot have this value: {reason}; {WITHHELD}"),
        (_, None) => format!("{flag} cannot have this value; {WITHHELD}"),
    }];
    if !possible.is_empty() {
        said.push(format!("[possible values: {}]", possible.join(", ")));
    }
    let near = known(error, ContextKind::SuggestedValue);
    if !near.is_empty() {
        said.push(format!("tip: a similar value exists: '{near}'"));
    }
    said.join("\n")
}

/// Why, as what reads the value says it. Of a number clap repeats which one is out of a range.
fn reason(error: &clap::Error) -> Option<String> {
    let reason = error.source()?.to_string();
    match reason.split_once(" is not in ") {
        Some((_, range)) => Some(format!("it is not in {range}")),
        None => Some(reason),
    }
}

/// The flag, or the variable that gave its value where it is not among the words.
fn origin(flag: &str, root: &Command, words: &[String]) -> String {
    let name = flag.split(' ').next().unwrap_or_default();
    let long = name.strip_prefix("--");
    let argument = long.and_then(|long| find(root, long));
    let variable = argument.and_then(|argument| {
        let is_given = words.iter().any(|word| is_of(argument, name, word));
        argument.get_env().filter(|_| !is_given)
    });
    match variable {
        Some(variable) => format!(
            "'{flag}', from {} in the environment,",
            variable.to_string_lossy()
        ),
        None => format!("'{flag}'"),
    }
}

/// The flag of this name, whosever it is.
fn find<'a>(command: &'a Command, long: &str) -> Option<&'a Arg> {
    let mut own = command.get_arguments();
    let mut below = command.get_subcommands();
    own.find(|argument| argument.get_long() == Some(long))
        .or_else(|| below.find_map(|command| find(command, long)))
}

/// Whether a word gives a flag, with its value or before it.
fn is_of(argument: &Arg, name: &str, word: &str) -> bool {
    let is_long = word
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    let short = argument.get_short().map(|short| format!("-{short}"));
    is_long || short.is_some_and(|short| word.starts_with(&short))
}

/// A word that is no verb.
fn of_verb(error: &clap::Error) -> String {
    let near = all_known(error, ContextKind::SuggestedSubcommand);
    match near.is_empty() {
        true => NO_VERB.to_owned(),
        false => format!("{NO_VERB}\ntip: a similar one is '{}'", near.join("' or '")),
    }
}

/// Whether what stands where a verb would be is one, of any other; clap takes any word there for one that is in conflict.
fn is_verb(error: &clap::Error, command: &Command) -> bool {
    let word = known(error, ContextKind::InvalidSubcommand);
    let mut below = command.get_subcommands();
    word.is_empty() || below.any(|verb| verb.get_name() == word || is_verb(error, verb))
}

/// Whether what is unknown has the form of a flag: two hyphens and letters, or one hyphen and a letter; and whether it
/// stands where one can.
fn is_flag(error: &clap::Error, words: &[String]) -> bool {
    let word = known(error, ContextKind::InvalidArg);
    let is_behind = |at: usize| words.iter().skip(at + 1).any(|later| later == word);
    let end = words.iter().position(|word| word == "--");
    if end.is_some_and(is_behind) {
        return false;
    }
    match word.strip_prefix("--") {
        Some(name) => {
            let is_plain = |c: char| c.is_ascii_alphabetic() || c == '-' || c == '_';
            (1..=MAX_FLAG_BYTES).contains(&name.len()) && name.chars().all(is_plain)
        }
        None => {
            let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
            letters.next().is_some_and(|c| c.is_ascii_alphabetic()) && letters.next().is_none()
        }
    }
}

/// The verb that was meant, as far as there is one: `keywheel audit list`.
fn verb(root: &Command, words: Vec<String>) -> String {
    let mut command = root;
    let mut verb = vec!["keywheel"];
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            if [command, root].iter().any(|of| takes_next(of, &word)) {
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
            ("rotate a/b --timeout soon", "30s, 5m, 1h"),
            ("schedule next a/b --count 0", "it is not in 1..=100"),
            ("init --out /o --api-port 70000", "it is not in 0..=65535"),
            ("status -o jso", "possible values: table, json]"),
            ("status -o jso", "a similar value exists: 'json'"),
            ("rotate a/b --wait=yes", "'--wait' takes no value"),
            ("backup --out /b verify /b", "'verify' cannot be used with"),
            ("status --output", "'--output <FORMAT>' needs a value"),
        ] {
            let text = misread(line).to_string();
            assert!(text.contains(part), "{line}: {text}");
        }
    }

    #[test]
    fn a_word_too_many_is_not_repeated_for_it_may_be_a_value() {
        for line in [
            "put a/b hunter2",
            "secret put a/b hunter2",
            "secret put a/b -- -hunter2",
            "secret put a/b -- --hunter",
            "secret put a/b --valu=hunter2",
            "secret put a/b --hunter2",
            "hunter2 a/b",
            "restore /b hunter2",
            "backup --out /b hunter2",
            "help hunter2",
            "rotate-kek hunter2",
            "seal hunter2",
        ] {
            let text = misread(line).to_string();
            assert!(!text.contains("hunter"), "{line}: {text}");
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
    fn a_value_that_came_from_the_environment_is_named_by_its_variable() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let flag = "--output <FORMAT>";
        let of_variable = "'--output <FORMAT>', from KEYWHEEL_OUTPUT in the environment,";
        let root = Cli::command();
        let origin = |flag: &str, words: &[String]| origin(flag, &root, words);
        assert_eq!(origin(flag, &words("status")), of_variable);
        for line in ["status -o xml", "status -oxml", "--output=xml status"] {
            assert_eq!(origin(flag, &words(line)), "'--output <FORMAT>'");
        }
        let server = origin("--server <URL>", &words("import vault"));
        assert!(server.contains("VAULT_ADDR"), "{server}");
        assert_eq!(origin("--wait", &words("rotate a/b")), "'--wait'");
        assert_eq!(origin("<SHELL>", &words("completion x")), "'<SHELL>'");
    }

    /// What somebody may give for a value: text, numbers of which clap says that they are out of a range, spans.
    const CANARIES: [&str; 3] = [
        "canary-hunter2",
        "918273645546372819",
        "918273645546372819d",
    ];

    /// Every line that gives a canary to something of this command, and to those below it.
    fn lines(command: &Command, path: &[String], all: &mut Vec<Vec<String>>) {
        let mut add = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned());
            all.push(path.iter().cloned().chain(words).collect());
        };
        let [word, ..] = CANARIES;
        add(&[word]);
        add(&["--", word]);
        add(&["--", &format!("--{word}")]);
        add(&[&format!("--{word}")]);
        add(&[&format!("--nonsense={word}")]);
        for canary in CANARIES {
            add(&["a", canary, canary, canary]);
            for argument in command.get_arguments() {
                if let Some(long) = argument.get_long() {
                    add(&[&format!("--{long}={canary}")]);
                }
                if let Some(short) = argument.get_short() {
                    add(&[&format!("-{short}{canary}")]);
                    add(&[&format!("-{short}"), canary]);
                }
            }
        }
        for below in command.get_subcommands() {
            let name = below.get_name().to_owned();
            let path: Vec<String> = path.iter().cloned().chain([name]).collect();
            lines(below, &path, all);
        }
    }

    #[test]
    fn no_flag_and_no_verb_repeats_what_it_was_given_when_it_is_not_understood() {
        let mut all = Vec::new();
        lines(&Cli::command(), &[], &mut all);
        let mut refused = 0;
        for words in all {
            let whole = std::iter::once("keywheel".to_owned()).chain(words.clone());
            let Err(error) = Cli::try_parse_from(whole) else {
                continue;
            };
            let text = match error.kind() {
                ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.render().to_string(),
                _ => failure(&error, words.clone()).to_string(),
            };
            refused += 1;
            let has_it = ["canary", "hunter", "18273645546372819"]
                .iter()
                .any(|part| text.contains(part));
            assert!(!has_it, "{words:?}: {text}");
        }
        assert!(refused > 500, "{refused}: the command line was not walked");
    }

    #[test]
    fn every_flag_is_named_that_was_given_what_it_cannot_have() {
        fn walk(command: &Command, path: &[&str], named: &mut usize) {
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long() else {
                    continue;
                };
                let given = format!("--{long}=canary-hunter2");
                let words = path.iter().copied().chain([given.as_str()]);
                let words: Vec<String> = words.map(str::to_owned).collect();
                let whole = std::iter::once("keywheel".to_owned()).chain(words.clone());
                let Err(error) = Cli::try_parse_from(whole) else {
                    continue;
                };
                let of_value = [
                    ErrorKind::InvalidValue,
                    ErrorKind::ValueValidation,
                    ErrorKind::TooManyValues,
                ];
                if of_value.contains(&error.kind()) {
                    let text = failure(&error, words).to_string();
                    assert!(text.contains(&format!("'--{long}")), "{text}");
                    *named += 1;
                }
            }
            for below in command.get_subcommands() {
                let path: Vec<&str> = path.iter().copied().chain([below.get_name()]).collect();
                walk(below, &path, named);
            }
        }
        let mut named = 0;
        walk(&Cli::command(), &[], &mut named);
        assert!(named > 40, "{named}");
    }

    #[test]
    fn help_does_not_show_what_the_environment_says() {
        fn walk(command: &Command) {
            let own = command.get_arguments();
            for argument in own.filter(|argument| argument.get_env().is_some()) {
                assert!(argument.is_hide_env_values_set(), "{argument:?}");
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn what_was_typed_cannot_steer_the_terminal() {
        for line in ["status --\u{1b}[31mred", "status -\u{1b}", "\u{1b}[31m"] {
            let text = misread(line).to_string();
            assert!(!text.contains('\u{1b}') && !text.contains("red"), "{text}");
        }
    }
}
