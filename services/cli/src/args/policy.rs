//! `policy …` as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `policy …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Put a set in force, in place of the one that is. The one before it stays in the log.
    #[command(
        after_help = "Examples:\n  keywheel policy apply policies/\n  keywheel policy apply policies/ --dry-run\n  keywheel policy apply policies/ --withhold\n\nA set is a directory: all its `*.cedar` files, and `groups.json` if there is one. Findings are\nshown and refuse nothing; what does not fit the schema is refused."
    )]
    Apply(ApplyPoliciesArgs),
    /// Check a set here, without a server: syntax, schema, bounds, and what can never apply.
    #[command(after_help = "Example:\n  keywheel policy validate policies/")]
    Validate(SetArgs),
    /// Check a set against its `cases.json`, here, without a server.
    #[command(
        after_help = "Example:\n  keywheel policy test policies/\n\n{\"cases\": [{\"name\": \"ada rotates her own\", \"principal\": \"certificate:ada\", \"verb\": \"rotate\",\n            \"resource\": \"secret/prod/db\", \"expect\": \"allow\", \"by\": \"team\"}]}\n\nIt ends with 4 when one comes out otherwise."
    )]
    Test(SetArgs),
    /// Show whether somebody may do something, which policies decide that, and which were near it.
    #[command(
        after_help = "Examples:\n  keywheel policy explain certificate:ada rotate secret/prod/db\n  keywheel policy explain unix:1001 audit environment"
    )]
    Explain {
        /// Who: certificate:NAME, unix:UID, oidc:NAME, service:NAME or host:NAME.
        principal: String,
        /// list, write, delete, rotate, revoke, bind, grant, audit or read.
        verb: String,
        /// Of what: environment, secret/NAME, path/NAME, store/NAME, host/NAME, playbook/NAME, …
        resource: String,
    },
    /// Show the set in force, or one that was.
    #[command(after_help = "Examples:\n  keywheel policy show\n  keywheel policy show --version 3")]
    Show {
        /// That version; 0 for the shipped set.
        #[arg(long, value_name = "NUMBER")]
        version: Option<u64>,
    },
}

/// A set on this machine.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The set's directory, or one file of policies.
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

/// `policy apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyPoliciesArgs {
    #[command(flatten)]
    pub(crate) set: SetArgs,
    /// Only say what is wrong with it, with the names that there are now.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Apply it only over this version; 0 for the shipped set.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) expected: Option<u64>,
    /// Apply it also where it takes secrets from containers that have them.
    #[arg(long)]
    pub(crate) withhold: bool,
}
