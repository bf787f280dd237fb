//! `keywheel up`: all services in one process, over the in-process bus.
//!
//! It only wires: directories, keys, adapters, services, socket; then it waits for a signal or for
//! the first service that cannot go on. What it wires is the same code that runs apart elsewhere.

mod compose;
mod error;
pub(crate) mod fires;
pub(crate) mod held;
mod identity;
pub(crate) mod layout;
mod reapply;
pub(crate) mod restored;
mod settings;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_core::name::HostName;
use keywheel_daemon::{Shutdown, SystemClock, SystemIds};
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_schemas::config::Config;
use keywheel_seal::backup::BackupKey;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::letters::LetterKey;
use keywheel_seal::sign::VerifyingKey;
use keywheel_store_sync::seal::Seal;
use tokio::sync::mpsc;

use crate::args::UpArgs;
use crate::seal::under_seal;
use crate::spans;
use crate::wiring::harden;
pub(crate) use error::{Error, Kind};
use identity::Installation;

/// How long services may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures that wait to be told; the first one ends the process.
const MAX_FAILURES: usize = 16;

/// Everything that is open before a service runs.
struct Opened {
    config: Config,
    host_name: HostName,
    installation: Installation,
    journal: Arc<SqliteJournal>,
    seal: Seal,
    letter_key: Arc<LetterKey>,
    backup_key: Arc<BackupKey>,
    clock: Arc<SystemClock>,
    ids: Arc<SystemIds>,
    _lock: File,
}

/// Runs until a signal, or until a service cannot go on.
pub(crate) async fn run(args: UpArgs) -> Result<(), Error> {
    let config = settings::load(args)?;
    crate::sinks::read(&config)?;
    crate::logins::read(&config)?;
    harden(config.require_locked_memory)?;
    let opened = open(config).await?;
    let exporting = spans::start(&opened.config, opened.clock.clone(), opened.ids.clone())?;
    let shutdown = Shutdown::new();
    shutdown
        .on_signals()
        .map_err(|e| Error::new(Kind::Broken, keywheel_daemon::chain(&e), "report this"))?;
    let (failed, mut failures) = mpsc::channel(MAX_FAILURES);
    let Some(restored) = restored::settle(&opened, &shutdown).await? else {
        return Ok(());
    };
    let composed = compose::all(&opened, &restored, &shutdown, &failed).await?;
    tracing::info!(socket = %opened.config.socket.display(), host = %opened.host_name, "serving");
    keywheel_daemon::readiness::ready();
    let token = shutdown.token();
    let failure = tokio::select! {
        () = token.cancelled() => None,
        failure = failures.recv() => failure,
    };
    tracing::info!("stopping");
    shutdown.request();
    composed.hub.shutdown();
    drop(composed.hub);
    let _late = tokio::time::timeout(STOP_TIMEOUT, composed.stopped).await;
    spans::finish(exporting).await;
    let _gone = std::fs::remove_file(&opened.config.socket);
    // Folds the write-ahead log into the file, when nobody holds on to the journal any more.
    if let Some(journal) = Arc::into_inner(opened.journal)
        && let Err(error) = journal.close().await
    {
        tracing::warn!(error = %keywheel_daemon::chain(&error), "journal not closed");
    }
    match failure {
        None => Ok(()),
        Some((service, reason)) => Err(Error::new(
            Kind::Broken,
            format!("{service} cannot go on: {reason}"),
            "start again: it verifies what is there and resumes; the log above has the cause",
        )),
    }
}

async fn open(config: Config) -> Result<Opened, Error> {
    layout::private_directory(&config.data_dir)?;
    let lock = layout::lock(&config.data_dir)?;
    restored::refuse_half_done(&config.data_dir)?;
    let unseal = layout::unseal_key(&config.unseal_key_file, &config.data_dir)?;
    layout::open_directory(&config.run_dir)?;
    let ids = Arc::new(SystemIds);
    let clock = Arc::new(SystemClock::new());
    let installation =
        Installation::open(&config.data_dir, &unseal, &config.unseal_key_file, &*ids)?;
    let host_name = HostName::parse(&config.host_name).map_err(|e| {
        Error::new(
            Kind::BadConfiguration,
            e.to_string(),
            "give a name with --host-name or in the configuration",
        )
    })?;
    let options = JournalOptions {
        deployment: installation.deployment,
        source: format!("keywheel/{}/gateway", installation.deployment),
        signing_key: installation.signing_key(Role::Gateway)?,
        origin: installation.origin(),
    };
    let journal = SqliteJournal::open(&config.data_dir.join("journal.db"), options).await?;
    let letter_key = Arc::new(LetterKey::of(&unseal));
    let backup_key = Arc::new(BackupKey::of(&unseal));
    let own = (config.data_dir.as_path(), installation.deployment);
    let seal = under_seal(&config, own, clock.clone(), || Ok(unseal)).await?;
    Ok(Opened {
        host_name,
        installation,
        journal: Arc::new(journal),
        seal,
        letter_key,
        backup_key,
        clock,
        ids,
        config,
        _lock: lock,
    })
}

/// Prepares the data directory of a first `keywheel up`: its key file and its identity. The file is its lock.
pub(crate) fn prepare(data_dir: &Path, key_file: &Path) -> Result<(DeploymentId, File), Error> {
    layout::private_directory(data_dir)?;
    let lock = layout::lock(data_dir)?;
    let unseal = layout::unseal_key(key_file, data_dir)?;
    let installation = Installation::open(data_dir, &unseal, key_file, &SystemIds)?;
    Ok((installation.deployment, lock))
}

/// Whose data directory it is; known without any key.
pub(crate) fn deployment_of(data_dir: &Path) -> Result<DeploymentId, Error> {
    identity::deployment_of(data_dir)
}

/// Whose a data directory is, as far as others may know.
pub(crate) struct Named {
    /// The deployment.
    pub(crate) deployment: DeploymentId,
    /// Origin line of its audit's checkpoints.
    pub(crate) origin: String,
    /// What its events and checkpoints are verified by.
    pub(crate) gateway: VerifyingKey,
}

/// Whose a data directory is that nobody serves.
pub(crate) fn identity_in(
    data_dir: &Path,
    unseal: &UnsealKey,
    key_file: &Path,
) -> Result<Named, Error> {
    let found = Installation::present(data_dir, unseal, key_file)?;
    Ok(Named {
        deployment: found.deployment,
        origin: found.origin(),
        gateway: found.signing_key(Role::Gateway)?.verifying_key(),
    })
}

/// Why the cache does not open, for a person.
pub(crate) fn cache_error(error: keywheel_cache::Error, config: &Config) -> Error {
    if matches!(error, keywheel_cache::Error::WrongUnsealKey { .. }) {
        return Error::wrong_unseal_key(&config.unseal_key_file, &config.data_dir);
    }
    let kind = match error.kind() {
        keywheel_cache::Kind::Unavailable => Kind::Unavailable,
        keywheel_cache::Kind::Conflict => Kind::AlreadyRunning,
        keywheel_cache::Kind::Refused => Kind::Refused,
        _ => Kind::Broken,
    };
    let next = "correct what is named above and start again; nothing was changed";
    Error::new(kind, keywheel_daemon::chain(&error), next)
}
