//! Runs suites that mostly wait beside others, one after another, so that their minutes are nobody's.
//!
//! Owns one thread over such a line of suites; what one says goes to a file, and is printed where the suite has its
//! place. A test suite is run by its own program: Cargo lets one at a time look whether anything is to be built. A
//! suite chosen without the one that its line begins with runs as every other one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::program::{self, Ran};
use crate::suites::{Action, Counting, Suite};

/// What Cargo says before the path of a test's program, which is in brackets.
const EXECUTABLE: &str = "Executable ";
/// What stands before a test target's name on Cargo's command line.
const TARGET: &str = "--test";

/// A suite under way, or to come in its line.
pub(crate) struct Beside {
    ended: Receiver<Result<Ran>>,
    log: PathBuf,
}

/// What is run for a suite, and who waits for its end.
struct Job {
    words: Vec<String>,
    log: PathBuf,
    deadline: Duration,
    end: SyncSender<Result<Ran>>,
}

/// Starts a line of suites. Each ends itself at its deadline. One that cannot be prepared is told, and runs at its own
/// place.
pub(crate) fn start(root: &Path, suites: &[&Suite]) -> Vec<(&'static str, Beside)> {
    let mut jobs = Vec::new();
    let mut line = Vec::new();
    let said = programs(root, suites);
    for suite in suites {
        match prepare(root, suite, &said) {
            Ok((job, beside)) => {
                println!(
                    "xtask: suite {} runs beside others from here on",
                    suite.name
                );
                jobs.push(job);
                line.push((suite.name, beside));
            }
            Err(error) => println!("xtask: {} runs later: {error:#}", suite.name),
        }
    }
    let root = root.to_owned();
    thread::spawn(move || {
        for job in jobs {
            let ran = job.run(&root);
            // Nobody waits when the runner ended.
            let _ = job.end.send(ran);
        }
    });
    line
}

fn prepare(root: &Path, suite: &Suite, said: &str) -> Result<(Job, Beside)> {
    let Action::Program(words) = &suite.action else {
        return Err(anyhow!("it is no program"));
    };
    let words = match suite.counting {
        Counting::Whole => words.iter().map(|word| (*word).to_owned()).collect(),
        Counting::Libtest => own_program(root, words, said)?,
    };
    let log = root.join(format!("target/{}.log", suite.name));
    // Of a run before: it is not to be read as this one's.
    let _ = fs::remove_file(&log);
    let (end, ended) = sync_channel(1);
    let job = Job {
        words: in_one_stream(words),
        log: log.clone(),
        deadline: suite.deadline,
        end,
    };
    Ok((job, Beside { ended, log }))
}

impl Job {
    fn run(&self, root: &Path) -> Result<Ran> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut file = File::create(&self.log)
            .with_context(|| format!("cannot make {}", self.log.display()))?;
        program::run_into(&mut file, root, &words, self.deadline)
    }
}

impl Beside {
    /// Waits for its end, and prints what it said.
    pub(crate) fn finish(self) -> Result<Ran> {
        let ran = self.ended.recv();
        match fs::read(&self.log) {
            Ok(said) => println!("{}", String::from_utf8_lossy(&said)),
            Err(error) => println!("xtask: no log at {}: {error}", self.log.display()),
        }
        ran.context("the thread over it ended")?
    }
}

/// A program whose complaints go where all else of it goes, not between the lines of others.
fn in_one_stream(words: Vec<String>) -> Vec<String> {
    let joined = ["sh", "-c", "exec \"$@\" 2>&1", "sh"].map(str::to_owned);
    joined.into_iter().chain(words).collect()
}

/// What Cargo says of the programs of these suites' tests, which are built by now: all of them in one look.
fn programs(root: &Path, suites: &[&Suite]) -> String {
    let lines = suites.iter().filter_map(|suite| match &suite.action {
        Action::Program(words) if suite.counting == Counting::Libtest => Some(words),
        _ => None,
    });
    let names: Vec<&str> = lines.filter_map(|words| target(words)).collect();
    if names.is_empty() {
        return String::new();
    }
    let asked = program::command("cargo")
        .args(["test", "--workspace", "--no-run"])
        .args(names.iter().flat_map(|name| [TARGET, *name]))
        .current_dir(root)
        .output();
    match asked {
        Ok(said) => String::from_utf8_lossy(&said.stderr).into_owned(),
        Err(error) => format!("cannot ask cargo: {error}"),
    }
}

/// The test target that a command line of Cargo names.
fn target<'a>(words: &[&'a str]) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == TARGET)?;
    words.get(at + 1).copied()
}

/// The same tests by their own program, in the directory in which Cargo runs it.
fn own_program(root: &Path, words: &[&str], said: &str) -> Result<Vec<String>> {
    // What stands before it would be lost, a variable for instance.
    anyhow::ensure!(
        words.first() == Some(&"cargo"),
        "it does not begin with cargo"
    );
    let name = target(words).context("its command line names no test")?;
    let path =
        executable(said, name).with_context(|| format!("no program of its tests: {said}"))?;
    let home = root.join("tests");
    let start = [
        "env".to_owned(),
        "-C".to_owned(),
        home.display().to_string(),
        format!("CARGO_MANIFEST_DIR={}", home.display()),
        root.join(path).display().to_string(),
    ];
    let flags = words.iter().skip_while(|word| **word != "--").skip(1);
    let flags = flags.map(|flag| (*flag).to_owned());
    Ok(start.into_iter().chain(flags).collect())
}

/// The path in Cargo's words.
fn executable<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let source = format!("/{name}/");
    let line = said
        .lines()
        .find(|line| line.trim_start().starts_with(EXECUTABLE) && line.contains(&source))?;
    let (_, path) = line.rsplit_once('(')?;
    path.strip_suffix(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_read_from_what_cargo_says() {
        let said = "    Finished `test` profile\n  \
            Executable system/traffic/main.rs (target/debug/deps/traffic-3e)\n  \
            Executable system/partitions/main.rs (target/debug/deps/partitions-4f)\n";
        let path = Some("target/debug/deps/partitions-4f");
        assert_eq!(executable(said, "partitions"), path);
        assert_eq!(executable(said, "partition"), None);
        assert_eq!(executable("error: no such target", "partitions"), None);
    }

    #[test]
    fn a_suite_is_run_by_its_own_program_with_its_flags() {
        let words = [
            "cargo",
            "test",
            "--test",
            "traffic",
            "--",
            "--test-threads",
            "1",
        ];
        let said = "  Executable system/traffic/main.rs (target/debug/deps/traffic-3e)\n";
        let own = own_program(Path::new("/r"), &words, said).unwrap();
        let flags = ["/r/target/debug/deps/traffic-3e", "--test-threads", "1"];
        assert!(own.ends_with(&flags.map(str::to_owned)), "{own:?}");
        assert!(own_program(Path::new("/r"), &words, "").is_err());
        let with_variable = [&["env", "A=b"], &words[..]].concat();
        assert!(own_program(Path::new("/r"), &with_variable, said).is_err());
        assert!(own_program(Path::new("/r"), &["cargo", "clippy"], said).is_err());
    }

    #[test]
    fn what_it_said_is_counted_when_it_ended() {
        let root = std::env::temp_dir().join(format!("keywheel-beside-{}", std::process::id()));
        fs::create_dir_all(root.join("target")).unwrap();
        let suite = Suite {
            name: "x",
            aim: "y",
            counting: Counting::Whole,
            deadline: Duration::from_secs(60),
            action: Action::Program(vec!["sh", "-c", "echo Error: no >&2; exit 3"]),
        };
        let mut line = start(&root, &[&suite]);
        let (_, beside) = line.remove(0);
        let ran = beside.finish().unwrap();
        let log = fs::read_to_string(root.join("target/x.log")).unwrap();
        fs::remove_dir_all(root).unwrap();
        assert!(!ran.is_good && log.contains("Error: no"));
        assert_eq!(ran.why, ["Error: no"]);
    }

    #[test]
    fn a_line_runs_one_after_another_and_a_failure_stops_it_not() {
        let root = std::env::temp_dir().join(format!("keywheel-line-{}", std::process::id()));
        fs::create_dir_all(root.join("target")).unwrap();
        let suite = |name, script| Suite {
            name,
            aim: "y",
            counting: Counting::Whole,
            deadline: Duration::from_secs(60),
            action: Action::Program(vec!["sh", "-c", script]),
        };
        let first = suite("first", "sleep 1; echo first >>target/order; exit 3");
        let second = suite("second", "echo second >>target/order");
        let line = start(&root, &[&first, &second]);
        let names: Vec<_> = line.iter().map(|(name, _)| *name).collect();
        let good: Vec<_> = line
            .into_iter()
            .map(|(_, beside)| beside.finish().unwrap().is_good)
            .collect();
        let order = fs::read_to_string(root.join("target/order")).unwrap();
        fs::remove_dir_all(root).unwrap();
        assert_eq!(names, ["first", "second"]);
        assert_eq!(good, [false, true]);
        assert_eq!(order, "first\nsecond\n");
    }
}
