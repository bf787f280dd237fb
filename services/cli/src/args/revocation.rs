//! `revoke` and `revocation …`, as clap reads them.

use clap::{Args, Subcommand};

use super::WaitArgs;

/// `revoke`.
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("scope").required(true).args(["name", "prefix", "store", "container", "image", "service", "principal"])),
    after_help = "Examples:\n  keywheel revoke prod/db --reason \"leaked in ticket 4711\"\n  keywheel revoke prod/db --version 3 --reason leaked --yes --wait\n  keywheel revoke prod/db --replace --reason leaked --yes --wait\n  keywheel revoke --prefix prod/shop --dry-run\n  keywheel revoke --container web-7 --reason \"shell found in it\" --emergency\n  keywheel revoke --principal certificate:bob --reason \"bob left\"\n\nThere is no way back: a revoked version is never served again. A file is taken out of its containers;\na container that has the value in its environment is stopped. `keywheel rotate` gives a new value. With\n--replace another version comes first, and containers go over to it instead. With\n--dry-run nothing is revoked: it shows each secret with its versions, hosts, containers, images and\nresource, and who would stop."
)]
pub(crate) struct RevokeArgs {
    /// The secret.
    pub(crate) name: Option<String>,
    /// Only this version; without it all that are alive.
    #[arg(long, value_name = "N", conflicts_with_all = ["prefix", "store", "container", "image", "service", "principal"])]
    pub(crate) version: Option<u64>,
    /// Every secret at this path or below it.
    #[arg(long, value_name = "PATH")]
    pub(crate) prefix: Option<String>,
    /// Every secret that lies in this store.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Whatever this container has: its name, its id, or twelve digits of that.
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) container: Option<String>,
    /// Whatever the containers of this image have: its config digest.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) image: Option<String>,
    /// Whatever the containers of this service have: PROJECT/SERVICE or SERVICE of Compose, or Swarm's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Whatever policies and bindings let service:NAME have, or its containers have; of certificate:NAME, unix:UID or oidc:NAME every token.
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) principal: Option<String>,
    /// All that is alive of every secret that is hit, also what a rotation under way may have made; it goes before
    /// other revocations, too.
    #[arg(long, conflicts_with = "version")]
    pub(crate) emergency: bool,
    /// Make another version first, and revoke once every running container uses that; with --emergency as soon as it
    /// is promoted, and also where none can be made.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Only say what it would do.
    #[arg(long, conflicts_with_all = ["wait", "yes"])]
    pub(crate) dry_run: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    pub(crate) reason: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

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
