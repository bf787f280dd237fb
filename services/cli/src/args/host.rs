//! `host …` as clap reads it.

use clap::{Args, Subcommand};

/// `host …`.
#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// List the hosts: when each was heard of, how far it is, which were evicted.
    #[command(after_help = "Example:\n  keywheel host list -o json")]
    List,
    /// Show one host: its keys, what it may hold, what to do.
    #[command(
        after_help = "Examples:\n  keywheel host describe web-1\n  keywheel host describe 0198c2f1-7c1e-7d3a-9b55-2f6f1c9a4e10    one that was evicted, by its id"
    )]
    Describe {
        /// The host, by name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Print a token with which one machine joins under this name, once, within ten minutes.
    #[command(
        after_help = "Example:\n  keywheel host join-token web-2 | ssh web-2 sudo keywheel-injector join --token-file -\n\nWhoever has the token can become this host: hand it over like a password. The first who comes with it\nuses it up, also when it is refused. A host that lost its keys joins again under its name and stays\nthe same host; one that was evicted becomes a new one."
    )]
    JoinToken {
        /// Name of the host, as bindings write it.
        name: String,
    },
    /// Trust a host with nothing any more, for good; names the secrets to rotate.
    Evict(EvictArgs),
}

/// `host evict`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel host evict web-1 --reason \"stolen\"\n  keywheel host evict web-1 --reason retired --yes --rotate\n\nThere is no way back for this host: it gets no plan and no value, its reports are refused, and no\nrotation or revocation waits for it. What it holds, it holds: rotate what this verb names. The machine\ncan join again under the same name, as a new host; the machine of `keywheel up` does so at its next\nstart."
)]
pub(crate) struct EvictArgs {
    /// The host, by name or id.
    #[arg(value_name = "NAME|ID")]
    pub(crate) name: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Rotate what it may hold at once.
    #[arg(long)]
    pub(crate) rotate: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}
