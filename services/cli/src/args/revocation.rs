//! `revocation …`, as clap reads it.

use clap::{Args, Subcommand};

/// `revocation …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RevocationVerb {
    /// List revocations, newest first.
    #[command(after_help = "Example:\n  keywheel revocation list -o json")]
    List,
    /// Show one: dead at its store, gone from containers, proven dead, destroyed; what it waits for.
    #[command(
        after_help = "Examples:\n  keywheel revocation describe prod/db      the newest of this secret\n  keywheel revocation describe 0190c8f0-…"
    )]
    Describe {
        /// Its id, or a secret's name for the newest of that secret.
        #[arg(value_name = "ID|SECRET")]
        revocation: String,
    },
    /// Ask its store no more, though it never confirmed. Takes two: another principal repeats it.
    Forget(ForgetArgs),
}

/// `revocation forget`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  keywheel revocation forget prod/db --reason \"the server was switched off\"\n\nA store that does not confirm is asked for ever. Only when it is sure that nothing of it is left to be asked, two\nprincipals say so: two unix users, or two client certificates, each with a reason. What the store accepts then,\nnobody looks after any more; the data keys are destroyed."
)]
pub(crate) struct ForgetArgs {
    /// Its id, or a secret's name for the newest of that secret.
    #[arg(value_name = "ID|SECRET")]
    pub(crate) revocation: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}
