//! Logging: set up once per program, to stderr as lines for people or JSON for machines, or to systemd's
//! journal with fields.
//!
//! Invariant: whatever level is set, libraries of others tell nothing below `info`, where some of them tell what they
//! send and receive, with the value in it (rule C1).

use std::error::Error;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::str::FromStr;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::env;
use crate::journald::{Journal, SOCKET};

/// How the names of our own crates begin.
const OWN: &str = "keywheel";
/// Deepest chain of sources that is followed.
const MAX_SOURCES: usize = 16;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// Entries of systemd's journal, in its own protocol.
    Journald,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The format has no such name.
    #[error("`{0}` is not a log format; use `text`, `json` or `journald`")]
    Format(String),
    /// The level is not understood.
    #[error(
        "`{level}` is not a log level; use `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,keywheel_injector=debug`"
    )]
    Level {
        /// As given.
        level: String,
        /// What the parser says.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is no journal here.
    #[error("systemd's journal cannot be reached at {SOCKET}; use the log format `text` or `json`")]
    Journal(#[source] std::io::Error),
    /// Somebody set it up before.
    #[error("logging is set up already")]
    AlreadySet(#[source] Box<dyn Error + Send + Sync>),
}

impl FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(text: &str) -> Result<Self, LoggingError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "journald" => Ok(Self::Journald),
            other => Err(LoggingError::Format(other.chars().take(40).collect())),
        }
    }
}

impl LogFormat {
    /// What suits where stderr leads: the journal's own protocol where that is the journal's, as
    /// `JOURNAL_STREAM` says it; else lines for people.
    #[must_use]
    pub fn of_stderr() -> Self {
        let stream = env::lookup("JOURNAL_STREAM");
        let own = rustix::fs::fstat(std::io::stderr()).ok();
        let own = own.map(|found| format!("{}:{}", found.st_dev, found.st_ino));
        match stream.is_some() && stream == own && Path::new(SOCKET).exists() {
            true => Self::Journald,
            false => Self::Text,
        }
    }
}

/// Sends log lines to stderr, or to the journal, from now on.
///
/// # Errors
/// When the level is not understood or logging was set up before.
pub fn init_logging(format: LogFormat, level: &str) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder().parse(level).map_err(|source| {
        let level = level.chars().take(80).collect();
        LoggingError::Level { level, source }
    })?;
    if format == LogFormat::Journald {
        let journal = Journal::connect(Path::new(SOCKET), &program());
        let journal = journal.map_err(LoggingError::Journal)?;
        let lines = tracing_subscriber::registry().with(filter).with(journal);
        return bounded(lines)
            .try_init()
            .map_err(|e| LoggingError::AlreadySet(Box::new(e)));
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            bounded(lines.finish()).try_init()
        }
        LogFormat::Json | LogFormat::Journald => {
            let lines = lines.json().flatten_event(true);
            bounded(lines.finish()).try_init()
        }
    };
    set.map_err(|e| LoggingError::AlreadySet(Box::new(e)))
}

/// The same lines, but for what no level that is set lets through.
fn bounded(
    lines: impl Subscriber + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync + 'static {
    lines.with(filter_fn(may_be_told))
}

fn may_be_told(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(OWN) || *metadata.level() <= Level::INFO
}

/// What this program is called.
fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| "keywheel".to_owned())
}

/// An error and all its sources, in one line. Of a task that panicked it says that, and not with what (rule C5).
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    for _ in 0..MAX_SOURCES {
        let Some(cause) = source else { break };
        // Writing into a string cannot fail.
        let _ = match has_panicked(cause) {
            true => write!(text, ": it panicked; the log says where"),
            false => write!(text, ": {cause}"),
        };
        source = cause.source();
    }
    text
}

fn has_panicked(cause: &(dyn Error + 'static)) -> bool {
    let ended = cause.downcast_ref::<tokio::task::JoinError>();
    ended.is_some_and(tokio::task::JoinError::is_panic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("step not done")]
    struct Step(#[source] tokio::task::JoinError);

    #[tokio::test]
    async fn what_a_task_panicked_with_is_not_told() {
        let task = tokio::spawn(async { "x".parse::<u32>().expect("canary-in-a-task") });
        let error = Step(task.await.unwrap_err());
        let told = chain(&error);
        assert_eq!(told, "step not done: it panicked; the log says where");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("journal not opened")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_every_source_once() {
        let error = Outer(std::io::Error::other("disk full"));
        assert_eq!(chain(&error), "journal not opened: disk full");
    }

    #[derive(Debug)]
    struct Endless;
    impl std::fmt::Display for Endless {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("x")
        }
    }
    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn an_endless_chain_is_cut_at_its_limit() {
        assert_eq!(chain(&Endless).matches('x').count(), MAX_SOURCES + 1);
    }

    #[test]
    fn below_info_our_own_crates_speak_alone_whatever_level_is_set() {
        for level in ["trace", "keywheel_stores=trace,aws_smithy_runtime=trace"] {
            let filter = EnvFilter::builder().parse(level).unwrap();
            let lines = tracing_subscriber::fmt().with_env_filter(filter);
            tracing::subscriber::with_default(bounded(lines.finish()), || {
                assert!(tracing::enabled!(target: "keywheel_stores::aws", Level::TRACE));
                assert!(tracing::enabled!(target: "aws_smithy_runtime::client", Level::INFO));
                // A whole request, with the value that is put.
                let told = tracing::enabled!(target: "aws_smithy_runtime::client", Level::TRACE);
                assert!(!told, "{level}");
                let told = tracing::enabled!(target: "aws_smithy_runtime::client", Level::DEBUG);
                assert!(!told, "{level}");
            });
        }
    }

    #[test]
    fn an_unknown_format_or_level_is_refused_with_what_is_allowed() {
        let format = LogFormat::from_str("xml").map_err(|e| e.to_string());
        assert!(format.is_err_and(|text| text.contains("`json`")));
        let level = init_logging(LogFormat::Text, "a=b=c").map_err(|e| e.to_string());
        assert!(level.is_err_and(|text| text.contains("`debug`")));
    }
}
