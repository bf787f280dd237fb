//! `notification …`, `signal …` and `letter …` as clap reads them.

use clap::Subcommand;

/// `notification …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NotificationVerb {
    /// List who outside is told which events, and how far each receiver came.
    #[command(
        after_help = "Example:\n  keywheel notification list\n\nOne is declared by a manifest with `kind: Notification`. A receiver that does not answer is tried\nagain and delays no other; what it did not take for a day is a letter: `keywheel letter list`."
    )]
    List,
    /// Show one.
    #[command(after_help = "Example:\n  keywheel notification describe soc")]
    Describe {
        /// The notification.
        name: String,
    },
    /// Send its receiver a message that says it is a test; ends well when the receiver has it.
    #[command(after_help = "Example:\n  keywheel notification test soc")]
    Test {
        /// The notification.
        name: String,
    },
    /// Tell its receiver again what happened after an event. Each message has the id it had before.
    #[command(after_help = "Example:\n  keywheel notification replay soc --after 4711")]
    Replay {
        /// The notification.
        name: String,
        /// Number of the event before the first one.
        #[arg(long, value_name = "N")]
        after: u64,
    },
    /// Remove one: its receiver is told nothing any more.
    #[command(after_help = "Example:\n  keywheel notification remove soc --yes")]
    Remove {
        /// The notification.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// `signal …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SignalVerb {
    /// List who outside may say that something happened, and where.
    #[command(
        after_help = "Examples:\n  keywheel signal sources\n  keywheel events list --type dev.keywheel.signal.     what they said\n\nOne is declared by a manifest with `kind: SignalSource`. What cannot be read is a letter:\n`keywheel letter list`."
    )]
    Sources,
    /// Remove a source: its signals are refused.
    #[command(after_help = "Example:\n  keywheel signal remove-source pager --yes")]
    RemoveSource {
        /// The source.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// `letter …`.
#[derive(Debug, Subcommand)]
pub(crate) enum LetterVerb {
    /// List what could not be delivered, or not be read of what came.
    #[command(
        after_help = "Example:\n  keywheel letter list\n\nThe newest 100 of each notification and each source are kept."
    )]
    List,
    /// Deliver, or read, one once more; it is gone when that goes well.
    #[command(
        after_help = "Example:\n  keywheel letter retry 0190b0c1-0000-7000-8000-000000000001\n\nWhat came is read by what is declared of its source now: mend the mapping first."
    )]
    Retry {
        /// Its id.
        id: String,
    },
    /// Throw one away.
    #[command(
        after_help = "Example:\n  keywheel letter discard 0190b0c1-0000-7000-8000-000000000001"
    )]
    Discard {
        /// Its id.
        id: String,
    },
}
