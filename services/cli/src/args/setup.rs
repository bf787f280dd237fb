//! `setup …` as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `setup …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SetupVerb {
    /// Register keywheel's runtime in Docker's daemon.json; no container is touched.
    Docker(SetupDockerArgs),
    /// Register keywheel's runtime with Podman, in a file of its own; no container is touched.
    Podman(SetupPodmanArgs),
}

/// `setup docker`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo keywheel setup docker\n  docker run --runtime keywheel -e DB_PASSWORD='{keywheel:prod/db}' IMAGE\n  sudo keywheel setup docker --undo\n\nNAME refuses a container whose secrets cannot be given; NAME-default starts it without them, and is\nmeant as the default runtime. dockerd is reloaded by SIGHUP: running containers are not touched."
)]
pub(crate) struct SetupDockerArgs {
    /// Remove what this verb registered.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Name of the strict runtime; the permissive one is NAME-default.
    #[arg(long, value_name = "NAME", default_value = "keywheel")]
    pub(crate) runtime_name: String,
    /// Docker's configuration; else what dockerd was started with, else /etc/docker/daemon.json.
    #[arg(long, value_name = "PATH")]
    pub(crate) daemon_json: Option<PathBuf>,
    /// The injector's socket; else injector.sock beside the socket of --address.
    #[arg(long, value_name = "PATH")]
    pub(crate) injector_socket: Option<PathBuf>,
}

/// `setup podman`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo keywheel setup podman\n  sudo podman run --runtime keywheel -e DB_PASSWORD='{keywheel:prod/db}' IMAGE\n  sudo keywheel setup podman --make-default\n  sudo keywheel setup podman --undo\n\nNAME refuses a container whose secrets cannot be given; NAME-default starts it without them, and is\nwhat --make-default names. Containers of root only. Podman reads the file at each command; a service\nof it (podman.service) when it starts. Running containers are not touched."
)]
pub(crate) struct SetupPodmanArgs {
    /// Remove what this verb registered.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Name of the strict runtime; the permissive one is NAME-default.
    #[arg(long, value_name = "NAME", default_value = "keywheel")]
    pub(crate) runtime_name: String,
    /// The runtime that ours calls: runc or crun, by name or path.
    #[arg(long, value_name = "NAME|PATH", default_value = "runc")]
    pub(crate) real_runtime: String,
    /// Let the permissive runtime be the one that Podman takes when none is named.
    #[arg(long, conflicts_with = "undo")]
    pub(crate) make_default: bool,
    /// Podman's configuration; in it, containers.conf.d/NAME.conf is written.
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/containers")]
    pub(crate) configuration: PathBuf,
    /// Where the two programs of one line lie that call keywheel-runtime with its arguments.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/usr/local/libexec/keywheel"
    )]
    pub(crate) programs: PathBuf,
    /// The injector's socket; else injector.sock beside the socket of --address.
    #[arg(long, value_name = "PATH")]
    pub(crate) injector_socket: Option<PathBuf>,
}
