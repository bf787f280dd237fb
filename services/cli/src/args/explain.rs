//! `explain` as clap reads it.

use clap::Args;

/// `explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel explain web prod/db\n  keywheel explain 3f2a9c1d0b77 prod/db -o json\n\nRun it on the container's own machine, as somebody who may use its engine: what the engine says of the\ncontainer is held against every binding of the secret. Nothing is changed or given."
)]
pub(crate) struct ExplainArgs {
    /// The container, by name, id, or at least twelve digits of that.
    pub(crate) container: String,
    /// The secret.
    pub(crate) secret: String,
    /// This machine as bindings call it; else what `keywheel status` says, where the gateway is on it.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}
