//! `report …`, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `report …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ReportVerb {
    /// Report on a revocation: what died, where and when, and who asked for it.
    #[command(
        after_help = "Examples:\n  keywheel report revocation prod/db --out leak.html --out leak.json    the newest of this secret\n  keywheel report revocation 0190c8f0-… --out leak.html"
    )]
    Revocation(ReportArgs),
    /// Report on a rotation.
    #[command(
        after_help = "Example:\n  keywheel report rotation prod/db --out rotation.html     the newest of this secret"
    )]
    Rotation(ReportArgs),
    /// Report on a host that was evicted, and on what it might hold.
    #[command(after_help = "Example:\n  keywheel report host web-1 --out eviction.html")]
    Host(ReportArgs),
    /// Report on a run of a playbook: its steps, who approved, what died, and whether that was shown.
    #[command(
        visible_alias = "run",
        after_help = "Examples:\n  keywheel report playbook-run leaked-credential --out incident.html     the newest run of this playbook\n  keywheel report playbook-run 0190c8f0-… --out incident.html --out incident.json"
    )]
    PlaybookRun(ReportArgs),
    /// Verify a report with nothing but itself and the public key.
    #[command(
        after_help = "Example:\n  keywheel report verify leak.html --key BASE64\n\nThe key is the one that `keywheel audit verify` prints: write it down once, and do not take it from the\nreport. It ends with 0 when all of the report is proven, and with 5 when something is not, which it names."
    )]
    Verify {
        /// The report, as page or as JSON.
        file: PathBuf,
        /// The key that must have signed, base64.
        #[arg(long, value_name = "BASE64", alias = "public-key")]
        key: String,
    },
}

/// `report revocation|rotation|host|playbook-run`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// A secret's, host's or playbook's name, or the id of the run or host.
    #[arg(value_name = "NAME|ID")]
    pub(crate) name: String,
    /// Where to: a page (.html), or JSON (.json); both may be given. Without it JSON to stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Vec<PathBuf>,
}
