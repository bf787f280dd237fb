//! Runs one suite's program with a deadline, passing on what it says while its tests are counted.
//!
//! Invariants: a program that hangs is named with all its children, killed with them, and counts as
//! failed; nothing it leaves behind, a daemon that holds its output for example, makes the runner
//! wait. The program has a process group of its own, so it outlives a runner that is interrupted
//! until it next says something to nobody.

use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::count::{self, Tally};
use crate::why::Why;

/// How long output may go on after its program, and how long a killed program may take to be gone.
const GOODBYE: Duration = Duration::from_secs(5);
/// How often a program that is silent is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Pieces of output under way.
const PIECES: usize = 64;
/// Longest command line shown of a process that hangs, in characters.
const SHOWN: usize = 160;

/// How a program went.
pub(crate) struct Ran {
    /// The tests it counted.
    pub(crate) tally: Tally,
    /// Whether it exited well.
    pub(crate) is_good: bool,
    /// What it said of its failures.
    pub(crate) why: Vec<String>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// A program to run as a person would. Cargo told this tool about its own package: passed on, build scripts that
/// watch such variables would see others than in a person's build, and everything above them would be built again.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if is_cargos(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether a variable is about the package whose program runs.
fn is_cargos(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Runs a program at the root.
pub(crate) fn run(root: &Path, words: &[&str], deadline: Duration) -> Result<Ran> {
    run_into(&mut std::io::stdout(), root, words, deadline)
}

/// The same; what is said goes there.
pub(crate) fn run_into(
    out: &mut dyn Write,
    root: &Path,
    words: &[&str],
    deadline: Duration,
) -> Result<Ran> {
    let (program, args) = words.split_first().context("a suite without a program")?;
    writeln!(out, "$ {}", words.join(" "))?;
    let begun = now();
    let end = begun + deadline;
    let mut child = command(program)
        .args(args)
        .current_dir(root)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut stdout = child.stdout.take().context("no pipe to the suite")?;
    let (pieces, output) = sync_channel(PIECES);
    thread::spawn(move || pass_on(&mut stdout, &pieces));
    let mut counter = Counter::default();
    if let Some(status) = follow(out, &mut child, &output, end, &mut counter)? {
        return Ok(counter.ran(status.success(), begun.elapsed()));
    }
    writeln!(
        out,
        "\nxtask: over its deadline of {} s:",
        deadline.as_secs()
    )?;
    for line in processes(child.id()) {
        writeln!(out, "xtask:   {line}")?;
    }
    kill(&mut child)?;
    // What it said last may tell why.
    follow(out, &mut child, &output, now() + GOODBYE, &mut counter)?;
    Ok(counter.ran(false, begun.elapsed()))
}

#[expect(clippy::disallowed_methods, reason = "a runner measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Sends output in pieces as it comes, so that also an unfinished line is seen.
fn pass_on(stdout: &mut impl std::io::Read, pieces: &SyncSender<Vec<u8>>) {
    let mut piece = [0; 8192];
    loop {
        match stdout.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                let said = piece.get(..count).unwrap_or_default().to_vec();
                if pieces.send(said).is_err() {
                    return;
                }
            }
        }
    }
}

/// Prints output until the program ended; `None` when the time is over before. What holds the output
/// longer than the program is given [`GOODBYE`].
fn follow(
    out: &mut dyn Write,
    child: &mut Child,
    output: &Receiver<Vec<u8>>,
    end: Instant,
    counter: &mut Counter,
) -> Result<Option<ExitStatus>> {
    let mut exited: Option<(ExitStatus, Instant)> = None;
    loop {
        let is_silent = match output.recv_timeout(LOOK) {
            Ok(piece) => {
                out.write_all(&piece)?;
                out.flush()?;
                counter.take(&piece);
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if exited.is_none() {
            exited = child.try_wait()?.map(|status| (status, now() + GOODBYE));
        }
        match exited {
            Some((status, last)) if is_silent || now() >= last => return Ok(Some(status)),
            None if now() >= end => return Ok(None),
            _ => {}
        }
        if is_silent {
            thread::sleep(LOOK);
        }
    }
}

/// Ends the whole process group, by the shell's own `kill`: it is always there.
fn kill(child: &mut Child) -> Result<()> {
    let group = format!("kill -s KILL -- -{}", child.id());
    let sent = Command::new("sh").args(["-c", &group]).status()?;
    let end = now() + GOODBYE;
    while child.try_wait()?.is_none() {
        if now() >= end {
            bail!("process group {} does not end ({sent})", child.id());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// The processes of a group: number, state, command line.
fn processes(group: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let folder = entry.path();
        let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
        // After the name, which may hold anything: state, parent, group.
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let mut fields = rest.split(' ');
        let state = fields.next().unwrap_or_default().to_owned();
        if fields.nth(1).and_then(|field| field.parse().ok()) != Some(group) {
            continue;
        }
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let line: String = line.chars().take(SHOWN).collect();
        let number = entry.file_name().to_string_lossy().into_owned();
        found.push(format!("{number} {state} {line}"));
    }
    found
}

/// Counts tests over pieces of output.
#[derive(Default)]
struct Counter {
    tally: Tally,
    line: Vec<u8>,
    why: Why,
}

impl Counter {
    fn take(&mut self, piece: &[u8]) {
        for byte in piece {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            self.why.take(&line);
            self.tally.not_run += u64::from(count::is_not_run(&line));
            if let Some(more) = count::parse_line(&line) {
                self.tally = self.tally.plus(more);
            }
        }
    }

    fn ran(self, is_good: bool, took: Duration) -> Ran {
        Ran {
            tally: self.tally.told_apart(),
            is_good,
            why: self.why.into_lines(),
            took,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// What it says is heard by nobody else: whoever counts these tests' own lines would count it, too.
    fn sh(script: &str, deadline: Duration) -> (Tally, bool) {
        let out = &mut std::io::sink();
        let ran = run_into(out, Path::new("/"), &["sh", "-c", script], deadline).unwrap();
        (ran.tally, ran.is_good)
    }

    #[test]
    fn a_program_is_not_told_of_the_package_of_this_tool() {
        let told = |(name, _): (OsString, OsString)| is_cargos(&name.to_string_lossy());
        assert!(std::env::vars_os().any(told), "Cargo runs this");
        let seen = command("env").output().unwrap();
        let seen = String::from_utf8_lossy(&seen.stdout);
        assert!(seen.lines().any(|line| line.starts_with("PATH=")));
        assert!(!seen.lines().any(is_cargos), "{seen}");
    }

    #[test]
    fn output_is_counted_while_it_is_passed_on() {
        let two = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'";
        let (tally, is_good) = sh(&format!("{two}; {two}; exit 3"), LONG);
        assert_eq!((tally.passed, tally.failed), (4, 0));
        assert!(!is_good);
        assert!(sh("true", LONG).1);
    }

    #[test]
    fn a_test_that_says_that_it_did_not_run_is_counted_apart() {
        let said = "echo 'test result: ok. 2 passed; 0 failed'; echo 'NOT RUN: a: no server'";
        let (tally, is_good) = sh(said, LONG);
        assert_eq!((tally.passed, tally.failed, tally.not_run), (1, 0, 1));
        assert!(is_good);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children_and_what_it_counted_stays() {
        let counted = "echo 'test result: ok. 1 passed; 0 failed'; echo $$; sleep 600 & wait";
        let begun = now();
        let (tally, is_good) = sh(counted, Duration::from_secs(5));
        assert_eq!((tally.passed, is_good), (1, false));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn a_daemon_that_holds_the_output_makes_nobody_wait_for_ever() {
        let begun = now();
        let (_, is_good) = sh("setsid sleep 30 2>/dev/null & exit 0", LONG * 10);
        assert!(is_good);
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn the_processes_of_a_group_are_named() {
        let mut child = Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .unwrap();
        let begun = now();
        let mut found = processes(child.id());
        // The kernel may be at its start still, when it has no command line.
        while found.iter().all(|line| !line.contains("sleep")) && begun.elapsed() < LONG {
            std::thread::yield_now();
            found = processes(child.id());
        }
        kill(&mut child).unwrap();
        assert!(
            found.len() == 1 && found[0].contains("sleep 600"),
            "{found:?}"
        );
        assert!(processes(child.id()).is_empty());
    }
}
