//! `migrate` as clap reads it.

use std::time::Duration;

use clap::Args;

/// `migrate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo keywheel migrate web --env DB_PASSWORD=prod/db --dry-run\n  sudo keywheel migrate web --env DB_PASSWORD=prod/db --env API_TOKEN=prod/api\n  sudo keywheel migrate web-2 --env DB_PASSWORD=prod/db --use-current prod/db --yes\n\nRun it on the container's own machine, as somebody who may use Docker there; `keywheel setup docker`\nregisters the runtime. The container is recreated once, with everything else as it was: name, networks,\naddresses, mounts, labels, ports, limits. When the new one is not healthy, the old one is put back."
)]
pub(crate) struct MigrateArgs {
    /// The container, by name or id.
    pub(crate) container: String,
    /// A variable, and the secret that takes its value; may be repeated.
    #[arg(long, value_name = "VARIABLE=SECRET", required = true)]
    pub(crate) env: Vec<String>,
    /// This secret is there already: its current version is used, the container's own value is dropped.
    #[arg(long, value_name = "SECRET")]
    pub(crate) use_current: Vec<String>,
    /// Name of the runtime, as `keywheel setup docker` registered it.
    #[arg(long, value_name = "NAME", default_value = "keywheel")]
    pub(crate) runtime: String,
    /// This machine as bindings call it; else what `keywheel status` says.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Only say what would happen, or why nothing would.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Files that the container wrote outside its mounts may be lost.
    #[arg(long)]
    pub(crate) discard_changes: bool,
    /// How long its health check may take, now and after each rotation.
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = crate::span::parse)]
    pub(crate) wait_healthy: Duration,
    /// How long it must run to count as healthy when it has no health check, now and after each rotation.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = crate::span::parse)]
    pub(crate) settle: Duration,
}
