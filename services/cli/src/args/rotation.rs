//! `rotate` and `rotation …`, as clap reads them.

use clap::{Args, Subcommand};

use super::WaitArgs;

/// `rotate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel rotate prod/db\n  keywheel rotate prod/db --dry-run\n  keywheel rotate prod/db --wait --timeout 2m\n\nWith --dry-run nothing is begun: it shows the strategy, who would move, who would restart, the\ngap to expect, and what is in the way; it ends with 4 when something is. With --wait it shows\nevery consumer as it moves, and ends with 0 when each runs on the new value, with 4 when not."
)]
pub(crate) struct RotateArgs {
    /// The secret.
    pub(crate) name: String,
    /// Only say what it would do, and what is in the way.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `rotation …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RotationVerb {
    /// List rotations, newest first.
    #[command(after_help = "Example:\n  keywheel rotation list -o json")]
    List,
    /// Show one: what it waits for, who holds it up, and what can be done.
    #[command(
        after_help = "Examples:\n  keywheel rotation describe prod/db      the newest of this secret\n  keywheel rotation describe 0190c8f0-…"
    )]
    Describe {
        /// Its id, or a secret's name for the newest of that secret.
        #[arg(value_name = "ID|SECRET")]
        rotation: String,
    },
    /// Give it up: consumers keep, or get back, the version before.
    #[command(
        after_help = "Example:\n  keywheel rotation abort prod/db --reason \"payments cannot read the new one\" --wait\n\nBefore the new version is promoted it is rolled back. After that the version before becomes\ncurrent again, while it lives, and the new one dies once everybody has moved back."
    )]
    Abort(InterveneArgs),
    /// Try a failed step again now, or let a parked rotation wait for its consumers once more.
    #[command(
        after_help = "Example:\n  keywheel rotation retry prod/db --reason \"web-3 is back\" --wait"
    )]
    Retry(InterveneArgs),
    /// Wait for consumers no more: the old version is revoked, whoever still has it.
    #[command(
        after_help = "Example:\n  keywheel rotation force prod/db --reason \"batch-7 is gone for good\"\n\nThere is no way back: the old version dies (with `previous: keep` the one before it, if there is one), or the new one where consumers go back. What dies and who is left behind is named first, here and on record."
    )]
    Force(ForceArgs),
}

/// `rotation abort` and `rotation retry`.
#[derive(Debug, Args)]
pub(crate) struct InterveneArgs {
    /// Its id, or a secret's name for the newest of that secret.
    #[arg(value_name = "ID|SECRET")]
    pub(crate) rotation: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `rotation force`.
#[derive(Debug, Args)]
pub(crate) struct ForceArgs {
    #[command(flatten)]
    pub(crate) intervene: InterveneArgs,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}
