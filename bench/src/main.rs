//! Runs the benchmarks that were named, prints a table and one JSON line.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark reports to a person")]

mod agent;
mod append;
mod audits;
mod crowd;
mod delivery;
mod due_at_once;
mod fleet;
mod incident;
mod keys;
mod long_log;
mod policies;
mod rotations;
mod signals;
mod starting;
mod stores;
mod submits;
mod timers;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use keywheel_bench::samples::Samples;
use serde_json::{Map, Value, json};

/// One measured line.
pub(crate) struct Line {
    /// A stable key for the JSON report.
    pub(crate) key: String,
    /// What it is, for people.
    pub(crate) what: String,
    /// What was measured.
    pub(crate) samples: Samples,
    /// The budget, in words.
    pub(crate) budget: &'static str,
}

/// A benchmark: its name and what runs it.
type Benchmark = (&'static str, fn() -> Result<Vec<Line>>);

const BENCHMARKS: [Benchmark; 21] = [
    ("swap", delivery::swap),
    ("revoke", delivery::revoke),
    ("restart", starting::restart),
    ("start", starting::start),
    ("append", append::append),
    ("memory", delivery::memory),
    ("apart", delivery::apart),
    ("submit", submits::submits),
    ("crowd", crowd::crowd),
    ("burst", crowd::burst),
    ("rotations", rotations::rotations),
    ("due_at_once", due_at_once::due_at_once),
    ("fleet", fleet::fleet),
    ("scheduler", timers::scheduler),
    ("cold_start", long_log::cold_start),
    ("stores", stores::stores),
    ("incident", incident::incident),
    ("signal", signals::signals),
    ("policies", policies::policies),
    ("audits", audits::audits),
    ("keys", keys::keys),
];

fn main() -> ExitCode {
    keywheel_tests::scratch::use_release();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [fleet::GATEWAY, url, journal] =
        wanted.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        return match fleet::serve(url, journal) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !BENCHMARKS.iter().any(|(known, _)| known == name))
    {
        println!(
            "no benchmark {unknown}; there are: {}",
            BENCHMARKS.map(|(name, _)| name).join(", ")
        );
        return ExitCode::from(64);
    }
    run_all(&wanted)
}

/// Resident memory of a process, in megabytes.
pub(crate) fn resident_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmRSS:")
}

/// The most that it had so far.
pub(crate) fn peak_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmHWM:")
}

fn status_mb(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|text| text.split_whitespace().next())
        .with_context(|| format!("no {field}"))?;
    Ok(kilobytes.parse::<f64>()? / 1024.0)
}

/// Processor time of all threads of a process so far, in milliseconds.
pub(crate) fn cpu_ms(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended since.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let spent = text.split_whitespace().next().unwrap_or("0");
        nanoseconds += spent.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e6)
}

fn run_all(wanted: &[String]) -> ExitCode {
    let mut report = Map::new();
    let mut good = true;
    println!(
        "{:<52} {:>6} {:>9} {:>9}  budget",
        "milliseconds (memory: MB)", "n", "p50", "p99"
    );
    for (name, run) in BENCHMARKS {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        match run() {
            Ok(lines) => print_lines(&lines, &mut report),
            Err(error) => {
                good = false;
                println!("{name}: {error:#}");
            }
        }
    }
    println!("{}", Value::Object(report));
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_lines(lines: &[Line], report: &mut Map<String, Value>) {
    for Line {
        key,
        what,
        samples,
        budget,
    } in lines
    {
        let (p50, p99, count) = (samples.p50(), samples.p99(), samples.count());
        println!("{what:<52} {count:>6} {p50:>9.2} {p99:>9.2}  {budget}");
        report.insert(key.clone(), json!({ "n": count, "p50": p50, "p99": p99 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!("../README.md");
    const SCRIPT: &str = include_str!("../run.sh");

    #[test]
    fn every_benchmark_is_described_and_named_by_the_script() {
        for (name, _) in BENCHMARKS {
            assert!(README.contains(&format!("\n- `{name}`: ")), "{name}");
            let usage = SCRIPT.lines().filter(|line| line.starts_with('#'));
            let mut words = usage.flat_map(str::split_whitespace);
            assert!(words.any(|word| word == name), "{name}");
        }
    }

    #[test]
    fn memory_is_read_now_and_at_most() -> Result<()> {
        let pid = std::process::id();
        let (now, most) = (resident_mb(pid)?, peak_mb(pid)?);
        assert!(now > 0.0 && most > 0.0, "{now} {most}");
        Ok(())
    }
}
