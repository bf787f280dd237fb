//! `keywheel`: the daemon (`up`) and its command line, in one program.
//!
//! Reads the command line, does one verb, and ends with a code of the table in `exit`. Answers go to
//! stdout, everything else to stderr. No verb prints a value of a secret.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods,
        reason = "tests may stop at once"
    )
)]

mod address;
mod args;
mod backup;
mod ca;
mod client;
mod credentials;
mod deed;
mod doctor;
mod exit;
mod http;
mod init;
mod login;
mod logins;
mod metrics;
mod misread;
mod nats;
mod output;
mod outside;
mod parts;
mod presence;
mod reading;
mod report;
mod seal;
mod server;
mod setup;
mod sinks;
mod span;
mod spans;
mod terminal;
mod up;
mod variables;
mod verbs;
mod wiring;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    keywheel_daemon::panics::withhold_messages();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error).into(),
    };
    variables::warn_of_unknown(&cli.verb);
    match serve(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            if failure.exit != Exit::Ok {
                // When stderr is gone, the code still tells.
                let _ = writeln!(std::io::stderr().lock(), "{failure}");
            }
            failure.exit.into()
        }
    }
}

fn serve(cli: Cli) -> Result<(), Failure> {
    keywheel_daemon::run_to_end(Box::pin(verbs::run(cli))).map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            format!("the runtime does not start: {error}"),
            "check the limit of threads and files",
        )
    })?
}

/// Help and version are answers; everything else is a wrong command line. One without a verb is shown the verbs.
fn refuse(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = write!(std::io::stdout().lock(), "{}", error.render());
            Exit::Ok
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = write!(std::io::stderr().lock(), "{}", error.render());
            Exit::Usage
        }
        _ => {
            let words = std::env::args_os().skip(1);
            let words = words.map(|word| word.to_string_lossy().into_owned());
            let failure = misread::failure(error, words);
            let _ = writeln!(std::io::stderr().lock(), "{failure}");
            failure.exit
        }
    }
}
