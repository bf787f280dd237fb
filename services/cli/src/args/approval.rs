//! `approval …` as clap reads it.

use clap::{Args, Subcommand};
use keywheel_core::approval::MAX_APPROVAL_REASON_CHARS;

/// `approval …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalVerb {
    /// List requests that take several people: the newest first, with how many each waits for.
    #[command(
        after_help = "Examples:\n  keywheel approval list --waiting\n  keywheel approval list --unreviewed -o json"
    )]
    List {
        /// Only those that wait for others.
        #[arg(long)]
        waiting: bool,
        /// Only those that went without the others, and that nobody has reviewed.
        #[arg(long)]
        unreviewed: bool,
    },
    /// Show one: what would happen, who asked, who is for it.
    #[command(after_help = "Example:\n  keywheel approval describe 0190c8f0-…")]
    Describe {
        /// Its id.
        id: String,
    },
    /// Be for one. Who asked for it is counted already; one person is one word, and a token says none.
    #[command(
        after_help = "Example:\n  keywheel approval approve 0190c8f0-… --reason \"seen the ticket\"\n\nLook first: `keywheel approval describe` shows all that would happen. Who asked then repeats the command."
    )]
    Approve(WordArgs),
    /// Be against one, which ends it.
    #[command(
        after_help = "Example:\n  keywheel approval deny 0190c8f0-… --reason \"that is another bob\""
    )]
    Deny(WordArgs),
    /// Take your word back; a request of your own ends with that.
    #[command(after_help = "Example:\n  keywheel approval withdraw 0190c8f0-…")]
    Withdraw {
        /// Its id.
        id: String,
    },
    /// Have one go without the others, in an emergency. It is told to everybody, and has to be reviewed.
    #[command(
        after_help = "Example:\n  keywheel approval break-glass 0190c8f0-… --reason \"nobody else is awake, ticket 4711\"\n\n`keywheel --break-glass TEXT VERB …` asks, breaks the glass and goes on at once. Until somebody else has\nreviewed it, `keywheel status` is a problem."
    )]
    BreakGlass(WordArgs),
    /// Say what you found of one that went without the others. Neither who asked nor who broke the glass may.
    #[command(
        after_help = "Example:\n  keywheel approval review 0190c8f0-… --reason \"looked at the set; it stays\""
    )]
    Review(WordArgs),
    /// Be for the sinks that the audit is told to now, where that takes several people.
    #[command(
        after_help = "Example:\n  keywheel approval confirm-sinks --reason \"the new SIEM, ticket 4711\"\n\nThe first who says so asks, and others are for it. `keywheel approval describe` shows which sinks."
    )]
    ConfirmSinks {
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Why the glass is broken: what no gateway would take is refused before anything is asked for.
pub(super) fn parse_reason(text: &str) -> Result<String, String> {
    let reason = text.trim();
    if reason.is_empty() || reason.chars().count() > MAX_APPROVAL_REASON_CHARS {
        return Err(format!(
            "say why in 1 to {MAX_APPROVAL_REASON_CHARS} characters, for the record"
        ));
    }
    Ok(reason.to_owned())
}

/// A word about a request.
#[derive(Debug, Args)]
pub(crate) struct WordArgs {
    /// Its id.
    pub(crate) id: String,
    /// Why, for the record; of a review, what you found.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}
