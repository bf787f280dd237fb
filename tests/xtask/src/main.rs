//! The repository's own runner: `cargo xtask ci|tidy|list`.
//!
//! Owns the order of the suites and the house's mechanical rules. It never
//! installs anything (`tests/run.sh` does) and never changes sources, except
//! by `ci --fix`, which formats them.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a command line tool speaks to a person"
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod beside;
mod ci;
mod count;
mod program;
mod suites;
mod tidy;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code for a wrong command line, as the product's own.
const EXIT_USAGE: u8 = 64;

const HELP: &str = "\
usage: cargo xtask COMMAND

  ci [--only SUITE]... [--fix]   run the suites in order, go on after a failure
  tidy                           the house's mechanical rules only
  list                           name the suites
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["ci", rest @ ..] => match ci::Options::parse(rest) {
            Ok(options) => ci::run(&root(), &options),
            Err(fault) => return usage(&fault),
        },
        ["tidy"] => tidy::run(&root()),
        ["list"] => {
            for suite in suites::all() {
                println!("{:<16} {}", suite.name, suite.aim);
            }
            Ok(true)
        }
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(true)
        }
        _ => return usage("unknown or missing command"),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(fault: &str) -> ExitCode {
    println!("xtask: {fault}\n\n{HELP}");
    ExitCode::from(EXIT_USAGE)
}

/// The repository's root: two folders above this package.
fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path.pop();
    path
}
