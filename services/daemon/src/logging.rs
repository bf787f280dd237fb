//! Logging: set up once per program, to stderr, as lines for people or JSON for machines.

use std::error::Error;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

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
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The format has no such name.
    #[error("`{0}` is not a log format; use `text` or `json`")]
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
            other => Err(LoggingError::Format(other.chars().take(40).collect())),
        }
    }
}

/// Sends log lines to stderr from now on.
///
/// # Errors
/// When the level is not understood or logging was set up before.
pub fn init_logging(format: LogFormat, level: &str) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder().parse(level).map_err(|source| {
        let level = level.chars().take(80).collect();
        LoggingError::Level { level, source }
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(LoggingError::AlreadySet)
}

/// An error and all its sources, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    for _ in 0..MAX_SOURCES {
        let Some(cause) = source else { break };
        // Writing into a string cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_unknown_format_or_level_is_refused_with_what_is_allowed() {
        let format = LogFormat::from_str("xml").map_err(|e| e.to_string());
        assert!(format.is_err_and(|text| text.contains("`json`")));
        let level = init_logging(LogFormat::Text, "a=b=c").map_err(|e| e.to_string());
        assert!(level.is_err_and(|text| text.contains("`debug`")));
    }
}
