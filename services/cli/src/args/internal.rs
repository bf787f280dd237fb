//! `internal …` and `completion SHELL`: for scripts and packages, not for a person at work.

use clap::{Subcommand, ValueEnum};

/// Shells with completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

/// `internal …`.
#[derive(Debug, Subcommand)]
pub(crate) enum InternalVerb {
    /// Print the names of all failpoints, one a line.
    Failpoints,
    /// Check a cron line and a time zone.
    CheckSchedule {
        /// The cron line.
        expression: String,
        /// The zone.
        #[arg(long, default_value = "UTC")]
        timezone: String,
    },
}
