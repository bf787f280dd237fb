//! One long-running program of a test: how it is started, killed, stopped in its tracks and asked.
//!
//! Invariants: its log is a file that grows over restarts; whatever runs is ended when its value is
//! dropped, asked first. It ends no process that it did not start.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::output::Output;
use crate::wait;

/// How long a program may take to do what it was told.
pub const PATIENCE: Duration = wait::PATIENCE;
/// How long a program is waited for that its test has done with.
const GOODBYE: Duration = Duration::from_secs(30);
/// Lines of the log that a failed test shows.
const LOG_TAIL: usize = 60;

/// A program, running or not.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// Begins its command line.
    prefix: Vec<String>,
    words: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    starts: usize,
}

impl Process {
    /// A program with its arguments; nothing runs yet.
    #[must_use]
    pub fn new(name: &str, log: PathBuf, program: &Path, arguments: &[&str]) -> Self {
        let program = program.display().to_string();
        let arguments = arguments.iter().map(|word| (*word).to_owned());
        Self {
            name: name.to_owned(),
            prefix: Vec::new(),
            words: std::iter::once(program).chain(arguments).collect(),
            environment: Vec::new(),
            log,
            child: None,
            starts: 0,
        }
    }

    /// The same, inside the network namespace at this path.
    #[must_use]
    pub fn inside(mut self, namespace: Option<&str>) -> Self {
        if let Some(namespace) = namespace {
            let enter = ["nsenter".to_owned(), format!("--net={namespace}")];
            self.words.splice(0..0, enter);
        }
        self
    }

    /// Replaces what it is told by its environment, from the next start on.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Begins its command line with these words, from the next start on: a program that becomes it.
    pub fn set_prefix(&mut self, words: Vec<String>) {
        self.prefix = words;
    }

    /// Starts it; one that runs is left alone.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let words: Vec<&String> = self.prefix.iter().chain(&self.words).collect();
        let (program, arguments) = words.split_first().context("no program")?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_remove("KEYWHEEL_FAILPOINTS")
            .env_remove("KEYWHEEL_ADDRESS")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn();
        self.child = Some(child.with_context(|| format!("cannot start {}", self.name))?);
        self.starts += 1;
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, when it has; a program that was never started has.
    pub fn exited(&mut self) -> Result<Option<String>> {
        let Some(child) = &mut self.child else {
            return Ok(Some("not started".to_owned()));
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status.map(|status| status.to_string()))
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.exited()?.is_none())
    }

    /// Kills it as a power cut would.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to stop, waits, and tells how it ended; kills it when it does not.
    pub fn stop(&mut self) -> Result<Option<String>> {
        self.stop_within(PATIENCE)
    }

    fn stop_within(&mut self, patience: Duration) -> Result<Option<String>> {
        if !self.is_running()? {
            return Ok(None);
        }
        self.signal("-TERM")?;
        let what = format!("{} to stop", self.name);
        let ended = wait::until(&what, patience, || self.exited());
        self.kill9()?;
        ended.map(Some)
    }

    /// Stops it in its tracks: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.signal("-STOP")?;
        let pid = self.pid().context("it does not run")?;
        wait::until_true("a process to stand still", PATIENCE, || {
            Ok(fs::read_to_string(format!("/proc/{pid}/stat"))?.contains(") T "))
        })
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("{} does not run", self.name))?;
        Output::of(Command::new("kill").args([signal, &pid.to_string()]))?.ok()?;
        Ok(())
    }

    /// Everything it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log says something once for each of its starts; fails at once when it ended.
    pub fn wait_said(&mut self, words: &str) -> Result<()> {
        let begun = wait::now();
        loop {
            if self.log().matches(words).count() >= self.starts {
                return Ok(());
            }
            if let Some(code) = self.exited()? {
                bail!("{} exited ({code}); log:\n{}", self.name, self.tail());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{} did not say `{words}` within {PATIENCE:?}; log:\n{}",
                self.name,
                self.tail()
            );
            std::thread::sleep(wait::INTERVAL);
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_TAIL);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.pid().is_none() {
            return;
        }
        // A paused one hears nothing.
        let _ = self.resume();
        if let Err(error) = self.stop_within(GOODBYE) {
            eprintln!("harness: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn shell(scratch: &Scratch, script: &str) -> Process {
        let arguments = ["-c", script];
        Process::new("sh", scratch.join("log"), Path::new("/bin/sh"), &arguments)
    }

    #[test]
    fn it_says_how_it_ended_and_starts_again() -> Result<()> {
        let scratch = Scratch::make()?;
        let mut process = shell(&scratch, "echo said; exit 3");
        assert_eq!(process.exited()?.as_deref(), Some("not started"));
        for start in 1..=2 {
            process.start()?;
            wait::until_true("its end", PATIENCE, || Ok(!process.is_running()?))?;
            assert_eq!(process.log().matches("said").count(), start);
        }
        Ok(())
    }

    #[test]
    fn it_is_asked_before_it_is_killed() -> Result<()> {
        let scratch = Scratch::make()?;
        let script = "trap 'echo asked; exit' TERM; echo up; while :; do sleep 0.1; done";
        let mut process = shell(&scratch, script);
        process.start()?;
        process.wait_said("up")?;
        process.pause()?;
        process.resume()?;
        process.stop()?;
        assert!(process.log().contains("asked"));
        Ok(())
    }
}
