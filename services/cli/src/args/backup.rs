//! `backup …` and `restore …` as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `backup`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  sudo keywheel backup --out /backup/keywheel-$(date +%F)\n  sudo keywheel backup verify /backup/keywheel-2026-11-29\n\nIt is made while `keywheel up` serves, and fetched on its machine, as root or the daemon's user. Only the\nunseal key opens it, and that key is not in it: keep both, in two places."
)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<BackupVerb>,
    /// The file to write; nothing of that name may be there.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) out: Option<PathBuf>,
}

/// `backup …`.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Open a backup and check all of it, without a server. Nothing is restored.
    Verify(VerifyBackupArgs),
}

/// `backup verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sudo keywheel backup verify /backup/keywheel-2026-11-29\n\nIt is unpacked into a directory beside it that is removed again, so there has to be room for it there."
)]
pub(crate) struct VerifyBackupArgs {
    /// The backup.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// What opens a backup.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// File of the unseal key of the deployment that made it.
    #[arg(long, value_name = "FILE")]
    pub(crate) unseal_key_file: Option<PathBuf>,
    /// Configuration, TOML, as `keywheel up` reads it; flags win over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `restore`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  sudo keywheel restore /backup/keywheel-2026-11-29 --sink /mnt/old/audit-sink.db\n  sudo keywheel restore /backup/keywheel-2026-11-29 --seen-records 48211\n  keywheel restore accept --reason \"the disk is lost; ticket 17\"\n\nA backup that is older than what a sink or a person saw needs --accept-older with --reason, and then\nnothing is served before two different people accepted it where `keywheel up` runs."
)]
pub(crate) struct RestoreArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<RestoreVerb>,
    /// The backup.
    #[arg(required = true)]
    pub(crate) file: Option<PathBuf>,
    /// The directory to restore into, empty or not there [default: /var/lib/keywheel].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The audit's second copy, from the lost data directory or from elsewhere: what it kept is compared,
    /// and what it says died afterwards dies again.
    #[arg(long, value_name = "FILE")]
    pub(crate) sink: Option<PathBuf>,
    /// How many audit records a sink, a witness or a metric last saw.
    #[arg(long, value_name = "N")]
    pub(crate) seen_records: Option<u64>,
    /// Refuse a backup of another deployment than this one.
    #[arg(long, value_name = "ID")]
    pub(crate) deployment: Option<String>,
    /// Restore a backup although more happened after it.
    #[arg(long, requires = "reason")]
    pub(crate) accept_older: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `restore …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RestoreVerb {
    /// Accept that what `keywheel up` is to serve is older than what is known; two people have to.
    #[command(
        after_help = "Example:\n  keywheel restore accept --reason \"the disk is lost; ticket 17\""
    )]
    Accept {
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}
