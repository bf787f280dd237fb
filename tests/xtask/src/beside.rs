//! Runs a suite that mostly waits beside others, so that its minutes are nobody's.
//!
//! Owns one thread over one program; what that says goes to a file, and is printed where the suite has its place. A
//! test suite is run by its own program: Cargo holds the lock of its directory for as long as tests run, so two of
//! its kind would wait for each other. A suite chosen without the one that it begins with runs as every other one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};

use crate::program::{self, Ran};
use crate::suites::{Action, Counting, Suite};

/// What Cargo says before the path of a test's program, which is in brackets.
const EXECUTABLE: &str = "Executable ";

/// A suite under way.
pub(crate) struct Beside {
    running: JoinHandle<Result<Ran>>,
    log: PathBuf,
}

impl Beside {
    /// Starts it. It ends itself at its deadline.
    pub(crate) fn start(root: &Path, suite: &Suite) -> Result<Self> {
        let Action::Program(words) = &suite.action else {
            return Err(anyhow!("it is no program"));
        };
        let words = match suite.counting {
            Counting::Whole => words.iter().map(|word| (*word).to_owned()).collect(),
            Counting::Libtest => own_program(root, words)?,
        };
        let words = in_one_stream(words);
        let log = root.join(format!("target/{}.log", suite.name));
        let mut file =
            File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let (root, deadline) = (root.to_owned(), suite.deadline);
        let running = thread::spawn(move || {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            program::run_into(&mut file, &root, &words, deadline)
        });
        println!(
            "xtask: suite {} runs beside the next ones from here on",
            suite.name
        );
        Ok(Self { running, log })
    }

    /// Waits for its end, and prints what it said.
    pub(crate) fn finish(self) -> Result<Ran> {
        let ran = self.running.join();
        println!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        ran.map_err(|_| anyhow!("the thread over it ended"))?
    }
}

/// A program whose complaints go where all else of it goes, not between the lines of others.
fn in_one_stream(words: Vec<String>) -> Vec<String> {
    let joined = ["sh", "-c", "exec \"$@\" 2>&1", "sh"].map(str::to_owned);
    joined.into_iter().chain(words).collect()
}

/// The same tests by their own program, built by now, in the directory in which Cargo runs it.
fn own_program(root: &Path, words: &[&str]) -> Result<Vec<String>> {
    let (cargo, flags) = match words.iter().position(|word| *word == "--") {
        Some(at) => words.split_at(at),
        None => (words, [].as_slice()),
    };
    let (cargo_program, arguments) = cargo.split_first().context("a suite without a program")?;
    let built = program::command(cargo_program)
        .args(arguments)
        .arg("--no-run")
        .current_dir(root)
        .output()?;
    let said = String::from_utf8_lossy(&built.stderr);
    let path = executable(&said).with_context(|| format!("no program of its tests: {said}"))?;
    let home = root.join("tests");
    let start = [
        "env".to_owned(),
        "-C".to_owned(),
        home.display().to_string(),
        format!("CARGO_MANIFEST_DIR={}", home.display()),
        root.join(path).display().to_string(),
    ];
    let flags = flags.iter().skip(1).map(|flag| (*flag).to_owned());
    Ok(start.into_iter().chain(flags).collect())
}

/// The path in Cargo's words.
fn executable(said: &str) -> Option<&str> {
    let line = said
        .lines()
        .find(|line| line.trim_start().starts_with(EXECUTABLE))?;
    let (_, path) = line.rsplit_once('(')?;
    path.strip_suffix(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_read_from_what_cargo_says() {
        let said = "    Finished `test` profile\n  Executable system/partitions/main.rs (target/debug/deps/partitions-4f)\n";
        assert_eq!(executable(said), Some("target/debug/deps/partitions-4f"));
        assert_eq!(executable("error: no such target"), None);
    }

    #[test]
    fn what_it_said_is_counted_when_it_ended() {
        let root = std::env::temp_dir().join(format!("keywheel-beside-{}", std::process::id()));
        fs::create_dir_all(root.join("target")).unwrap();
        let suite = Suite {
            name: "x",
            aim: "y",
            counting: Counting::Whole,
            deadline: std::time::Duration::from_secs(60),
            action: Action::Program(vec!["sh", "-c", "echo Error: no >&2; exit 3"]),
        };
        let ran = Beside::start(&root, &suite).unwrap().finish().unwrap();
        let log = fs::read_to_string(root.join("target/x.log")).unwrap();
        fs::remove_dir_all(root).unwrap();
        assert!(!ran.is_good && log.contains("Error: no"));
        assert_eq!(ran.why, ["Error: no"]);
    }
}
