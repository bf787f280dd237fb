//! What a finished command said: exit code, stdout, stderr, JSON on demand.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// A finished command.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; 128 + signal when a signal ended it, as shells say.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// Runs a command to its end and keeps what it said.
    pub fn of(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::ExitStatusExt as _;
        let line = line_of(command);
        let done = command
            .output()
            .with_context(|| format!("cannot start `{line}`"))?;
        let code = done
            .status
            .code()
            .unwrap_or_else(|| 128 + done.status.signal().unwrap_or(0));
        Ok(Self {
            line,
            code,
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    /// The output when the command succeeded, an error with all it said else.
    pub fn ok(self) -> Result<Self> {
        if self.code != 0 {
            bail!(
                "`{}` exited {}\nstdout: {}\nstderr: {}",
                self.line,
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(self)
    }

    /// Stdout as JSON: the whole of it, else its last line.
    pub fn json(&self) -> Result<Value> {
        let text = self.stdout.trim();
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(text)
            .or_else(|_| serde_json::from_str(last))
            .with_context(|| {
                format!(
                    "`{}` (exit {}) printed no JSON: {text}\nstderr: {}",
                    self.line, self.code, self.stderr
                )
            })
    }

    /// Both streams, for searching.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

fn line_of(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_tells_what_it_said() -> Result<()> {
        let output = Output::of(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 7"]))?;
        assert_eq!(output.code, 7);
        let told = output
            .ok()
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            told.contains("out") && told.contains("err") && told.contains("exited 7"),
            "{told}"
        );
        Ok(())
    }

    #[test]
    fn json_may_be_the_last_line_only() -> Result<()> {
        let output = Output::of(Command::new("sh").args(["-c", "echo hello; echo '{\"a\":1}'"]))?;
        assert_eq!(output.json()?, serde_json::json!({ "a": 1 }));
        Ok(())
    }
}
