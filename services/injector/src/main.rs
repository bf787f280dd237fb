//! `keywheel-injector`: one host's injector by itself, over NATS. It joins once and then runs.
//!
//! It only reads the command line and wires; what it wires is the same as inside `keywheel up`.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keywheel_injector::apart::{self, Problem};
use keywheel_schemas::config::ConfigFlags;

/// Keywheel's injector: gives the containers of this host the secrets they were granted.
#[derive(Debug, Parser)]
#[command(name = "keywheel-injector", version, max_term_width = 100)]
struct Cli {
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Join with a token that `keywheel host join-token` printed; once.
    #[command(
        after_help = "Example:\n  keywheel-injector join --token-file - --identity-dir /etc/keywheel/host < token\n\nThe token is good once and for ten minutes, also when it is refused."
    )]
    Join {
        /// File with the token; `-` reads stdin. A token is never an argument: others see those.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// New directory for this host's credentials.
        #[arg(long, value_name = "DIR", default_value = "/etc/keywheel/host")]
        identity_dir: PathBuf,
    },
    /// Serve this host, in the foreground.
    #[command(
        after_help = "Example:\n  keywheel-injector run --config /etc/keywheel/injector.toml\n\nThe configuration names the credentials (`identity_dir`) that `keywheel-injector join` made."
    )]
    Run {
        /// Configuration, TOML; flags win over it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Directory of what waits to be reported.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Directory of the socket for `keywheel-runtime` and of bundles.
        #[arg(long, value_name = "DIR")]
        run_dir: Option<PathBuf>,
        /// Serve metrics for Prometheus there, on this machine only: 127.0.0.1:PORT or unix:/PATH.
        #[arg(long, value_name = "PLACE")]
        metrics_listen: Option<String>,
        /// Tell spans to the OpenTelemetry collector there, by OTLP over HTTP: http://127.0.0.1:4318.
        #[arg(long, value_name = "URL")]
        otlp_endpoint: Option<String>,
        /// How log lines look: text, json or journald; else journald where systemd's journal reads them.
        #[arg(long, value_name = "FORMAT")]
        log_format: Option<String>,
    },
}

fn main() -> ExitCode {
    keywheel_daemon::panics::withhold_messages();
    let cli = Cli::parse();
    // Elsewhere than with the GNU C library it stays as large as it was.
    let _is_heard = keywheel_sys::memory::keep_little();
    let done = keywheel_daemon::run_to_end(Box::pin(serve(cli))).unwrap_or_else(|error| {
        Err(Problem {
            exit: 1,
            what: format!("the runtime does not start: {error}"),
            next: "check the limit of threads and files".to_owned(),
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => tell(&problem),
    }
}

async fn serve(cli: Cli) -> Result<(), Problem> {
    match cli.verb {
        Verb::Join {
            token_file,
            identity_dir,
        } => {
            warn_of_unknown_variables();
            apart::join(&token_file, &identity_dir).await
        }
        Verb::Run {
            config,
            data_dir,
            run_dir,
            metrics_listen,
            otlp_endpoint,
            log_format,
        } => {
            let flags = ConfigFlags {
                data_dir,
                run_dir,
                metrics_listen,
                otlp_endpoint,
                log_format,
                ..ConfigFlags::default()
            };
            apart::run(config.as_deref(), flags).await
        }
    }
}

/// Most likely they were mistyped; of a program that serves its log says it.
fn warn_of_unknown_variables() {
    let mut out = std::io::stderr().lock();
    for unknown in keywheel_daemon::env::unknown() {
        // When stderr is gone, nobody is left to be told.
        let _ = writeln!(
            out,
            "warning: {unknown}\n  next: correct its name, or unset it"
        );
    }
}

fn tell(problem: &Problem) -> ExitCode {
    let mut out = std::io::stderr().lock();
    // When stderr is gone, the code still tells.
    let _ = writeln!(out, "error: {}\n  next: {}", problem.what, problem.next);
    ExitCode::from(problem.exit)
}
