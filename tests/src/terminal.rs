//! A command at a terminal of its own, where a person answers what it asks.
//!
//! The terminal is `script`'s, of util-linux. Invariant: the answer is no secret; it is a file's for a moment.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::output::Output;
use crate::scratch::{Scratch, unique};

/// Runs a command with its arguments and environment, and types one line; both of its streams come as stdout.
pub fn answer(scratch: &Scratch, command: &Command, line: &str) -> Result<Output> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(quoted).collect::<Result<_>>()?;
    let path = scratch.write(&unique("answer"), format!("{line}\n"))?;
    let stdin = File::open(&path)?;
    fs::remove_file(path)?;
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &words.join(" "), "/dev/null"]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    Output::of(script.stdin(stdin))
}

/// As one word of a shell.
fn quoted(word: &OsStr) -> Result<String> {
    let word = word.to_str().context("a word that is no text")?;
    ensure!(!word.contains('\''), "a word with a quote: {word}");
    Ok(format!("'{word}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_terminal_and_the_line_is_typed() -> Result<()> {
        let scratch = Scratch::make()?;
        let mut command = Command::new("sh");
        let line = "test -t 0 && test -t 2 && read -r line && echo \"$KEPT: it was $line\"; exit 7";
        command.args(["-c", line]).env("KEPT", "kept");
        let said = answer(&scratch, &command, "n")?;
        assert_eq!(said.code, 7, "{}", said.said());
        assert!(said.stdout.contains("kept: it was n"), "{}", said.stdout);
        Ok(())
    }
}
