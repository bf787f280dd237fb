//! Runs the suites in order, prints each one's time and a plain last line.
//!
//! Invariant: a suite that fails or hangs never hides the ones after it, and any
//! failure makes the whole run fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::beside::{self, Beside};
use crate::count::{self, Tally};
use crate::program::{self, Ran};
use crate::suites::{self, Action, Counting, Suite};
use crate::tidy;

/// What `cargo xtask ci` was asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    only: Vec<String>,
    fix: bool,
}

impl Options {
    /// Parses the words after `ci`; the error is a sentence for a person.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match *word {
                "--fix" => options.fix = true,
                "--only" => {
                    let name = rest.next().ok_or("--only needs the name of a suite")?;
                    if !suites::all().iter().any(|suite| suite.name == *name) {
                        return Err(format!(
                            "no suite is called {name}; `cargo xtask list` names them"
                        ));
                    }
                    options.only.push((*name).to_owned());
                }
                other => return Err(format!("unknown flag {other}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, suite: &Suite) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == suite.name)
    }
}

struct Row {
    name: &'static str,
    tally: Tally,
    took: Duration,
    /// Others ran meanwhile, so its time is nobody's.
    is_beside: bool,
    why: Vec<String>,
}

/// Runs all wanted suites; true when none failed.
pub(crate) fn run(root: &Path, options: &Options) -> Result<bool> {
    if options.fix {
        let status = Command::new("cargo")
            .args(["fmt", "--all"])
            .current_dir(root)
            .status()?;
        println!("xtask: cargo fmt: {status}");
    }
    let mut rows = Vec::new();
    let mut under_way = BTreeMap::new();
    for suite in suites::all()
        .into_iter()
        .filter(|suite| options.wants(suite))
    {
        println!("\n=== {}: {}", suite.name, suite.aim);
        under_way.extend(start_beside(root, suite.name, options));
        let beside = under_way.remove(suite.name);
        let is_beside = beside.is_some();
        let begun = now();
        let (tally, took, why) = run_suite(root, &suite, beside).unwrap_or_else(|error| {
            println!("xtask: suite {}: {error:#}", suite.name);
            (FAILED, begun.elapsed(), vec![format!("{error:#}")])
        });
        rows.push(Row {
            name: suite.name,
            tally,
            took,
            is_beside,
            why,
        });
    }
    Ok(report(&rows))
}

/// Starts the lines of suites that run beside this one and later ones.
fn start_beside(root: &Path, from: &str, options: &Options) -> Vec<(&'static str, Beside)> {
    let all = suites::all();
    let mut under_way = Vec::new();
    for (_, names) in suites::BESIDE.iter().filter(|(start, _)| *start == from) {
        let line = names
            .iter()
            .filter_map(|name| all.iter().find(|suite| suite.name == *name));
        let line: Vec<&Suite> = line.filter(|suite| options.wants(suite)).collect();
        under_way.extend(beside::start(root, &line));
    }
    under_way
}

#[expect(clippy::disallowed_methods, reason = "a runner measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Of a suite that counts as one test.
const FAILED: Tally = Tally {
    passed: 0,
    failed: 1,
    not_run: 0,
};
const PASSED: Tally = Tally {
    passed: 1,
    failed: 0,
    not_run: 0,
};

/// What it counted, how long it took, and why it failed if it did.
fn run_suite(
    root: &Path,
    suite: &Suite,
    beside: Option<Beside>,
) -> Result<(Tally, Duration, Vec<String>)> {
    let begun = now();
    let ran = match (&suite.action, beside) {
        (_, Some(beside)) => beside.finish()?,
        (Action::Tidy, None) => Ran {
            tally: Tally::default(),
            is_good: tidy::run(root)?,
            why: Vec::new(),
            took: begun.elapsed(),
        },
        (Action::Program(words), None) => program::run(root, words, suite.deadline)?,
    };
    let tally = match suite.counting {
        Counting::Whole if ran.is_good => PASSED,
        Counting::Whole => FAILED,
        Counting::Libtest => count::settle(ran.tally, ran.is_good),
    };
    Ok((tally, ran.took, ran.why))
}

fn report(rows: &[Row]) -> bool {
    for row in rows.iter().filter(|row| row.tally.failed > 0) {
        println!("\nwhy {} failed, in its own words:", row.name);
        for line in &row.why {
            println!("  {line}");
        }
    }
    println!(
        "\n{:<16} {:>8} {:>8} {:>10}",
        "suite", "passed", "failed", "seconds"
    );
    let mut total = Tally::default();
    for row in rows {
        let mark = match row.tally {
            Tally { failed: 1.., .. } => "  <- failed",
            Tally { not_run: 1.., .. } => "  <- not all ran",
            _ => "",
        };
        let seconds = row.took.as_secs_f64();
        let seconds = match row.is_beside {
            true => format!("({seconds:.1})"),
            false => format!("{seconds:.1}"),
        };
        println!(
            "{:<16} {:>8} {:>8} {seconds:>10}{mark}",
            row.name, row.tally.passed, row.tally.failed,
        );
        total = total.plus(row.tally);
    }
    if total.not_run > 0 {
        println!(
            "{} DID NOT RUN, for want of a server: the lines above that begin with NOT RUN say which",
            total.not_run
        );
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0 && !rows.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_suite_can_be_chosen() {
        let options = Options::parse(&["--only", "fmt"]).unwrap();
        let chosen: Vec<_> = suites::all()
            .into_iter()
            .filter(|suite| options.wants(suite))
            .map(|suite| suite.name)
            .collect();
        assert_eq!(chosen, ["fmt"]);
    }

    #[test]
    fn an_unknown_suite_is_refused_by_name() {
        assert!(
            Options::parse(&["--only", "nonsense"])
                .unwrap_err()
                .contains("nonsense")
        );
        assert!(Options::parse(&["--only"]).is_err());
        assert!(Options::parse(&["--faster"]).is_err());
    }

    #[test]
    fn a_failure_makes_the_report_fail() {
        let row = |failed| Row {
            name: "x",
            tally: Tally {
                passed: 1,
                failed,
                not_run: 1,
            },
            took: Duration::ZERO,
            is_beside: false,
            why: vec!["Error: no".to_owned()],
        };
        assert!(report(&[row(0)]));
        assert!(!report(&[row(0), row(1)]));
        assert!(!report(&[]));
    }
}
