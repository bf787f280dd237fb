//! `store …` and `refresh` as clap reads them.

use clap::{Args, Subcommand};

use super::WaitArgs;

/// `store …`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// List the stores outside: whether each answers, since when not and why, what to do.
    #[command(
        after_help = "Examples:\n  keywheel store list\n  keywheel store list -o json | jq '.[] | select(.health != \"ok\")'\n\nA store is declared by a manifest with `kind: Store`. While one does not answer, containers keep\nwhat they have and starts are served from the cache."
    )]
    List,
    /// Show one store: what was declared, which secrets lie where, which version of them is known.
    #[command(after_help = "Example:\n  keywheel store describe openbao")]
    Describe {
        /// The store.
        name: String,
    },
    /// Print the least rights that Keywheel needs at a store, in that store's own language.
    #[command(
        after_help = "Examples:\n  keywheel store policy openbao > keywheel.hcl && bao policy write keywheel keywheel.hcl\n  keywheel store policy aws > policy.json\n\nIt names exactly the places of the secrets that lie there: print it anew when one is added. Where\nKeywheel makes the values it may write; `--writes` adds that for all others, which\n`keywheel secret put` needs."
    )]
    Policy {
        /// The store.
        name: String,
        /// Also what `keywheel secret put` needs to write to secrets whose values the store makes.
        #[arg(long)]
        writes: bool,
    },
    /// Remove a store in which no secret lies any more.
    #[command(after_help = "Example:\n  keywheel store remove openbao --yes")]
    Remove {
        /// The store.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// `refresh`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel refresh                    look at everything that lies outside\n  keywheel refresh prod/db --wait     and wait until every consumer has the new value\n\nStores are looked at by themselves, in their poll interval; this does not wait for that. It ends with\n4 when a look failed, or, with --wait, when a consumer does not run on the new value."
)]
pub(crate) struct RefreshStoresArgs {
    /// Only this secret.
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}
