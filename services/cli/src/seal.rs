//! Where store-sync's root key comes from, for services that are being started: a key file, or `seal.json`
//! beside what it opens, with which store-sync begins sealed, unless the key service that it names opens it.

pub(crate) mod custodian;
pub(crate) mod making;
mod next;
pub(crate) mod reseal;
pub(crate) mod service;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use keywheel_core::id::DeploymentId;
use keywheel_engine::port::clock::Clock;
use keywheel_schemas::config::Config;
use keywheel_schemas::seal_file::MAX_SEAL_FILE_BYTES;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::unseal::{Provider, SealedRoot};
use keywheel_store_sync::seal::{Custody, Opened, Seal, file};

use self::custodian::Custodian;
use crate::up::{Error, Kind, cache_error};

/// What to put right when the file is not as it was written.
const RESTORE: &str = "copy it back from where you keep it, or out of a backup, which `keywheel restore FILE --data-dir EMPTY_DIR` unpacks; without it nothing opens the cache";

/// store-sync's own cache under its seal: unsealed by its key file or its key service, or sealed until a person comes
/// or that service answers.
pub(crate) async fn under_seal(
    config: &Config,
    (directory, deployment): (&Path, DeploymentId),
    clock: Arc<dyn Clock>,
    key: impl FnOnce() -> Result<UnsealKey, Error>,
) -> Result<Seal, Error> {
    let file_of_cache = config.data_dir.join("cache.db");
    let failed = |error| cache_error(error, config);
    next::settle((directory, deployment), (&file_of_cache, failed)).await?;
    let root = read(&directory.join(file::NAME), deployment)?;
    let custodian = Custodian::new(config, deployment, clock.clone());
    let opened = match root_of_key_file(root.as_ref(), config, key)? {
        Some(root) => {
            let opened = custodian.open_cache(root).await;
            Some(Opened::own(opened.map_err(|e| cache_error(e, config))?))
        }
        None => None,
    };
    let service = match root.as_ref().map(|root| &root.provider) {
        Some(Provider::Service(kept)) => {
            Some(service::of_kept(kept, &config.data_dir, clock.clone())?)
        }
        _ => None,
    };
    let custody = Custody {
        deployment,
        root,
        custodian: Arc::new(custodian),
        service,
        clock,
        entropy: Arc::new(OsEntropy),
    };
    let seal = Seal::begin(custody, opened);
    Box::pin(seal.unseal_at_start()).await;
    if seal.is_sealed() {
        tracing::warn!("store-sync begins sealed; `keywheel unseal` opens it");
    }
    Ok(seal)
}

/// The root key, when a key file gives it.
fn root_of_key_file(
    sealed: Option<&SealedRoot>,
    config: &Config,
    key: impl FnOnce() -> Result<UnsealKey, Error>,
) -> Result<Option<UnsealKey>, Error> {
    match sealed {
        None => key().map(Some),
        Some(sealed) if sealed.provider == Provider::KeyFile => {
            let opened = sealed.open_with_key(&key()?);
            let wrong = |_| Error::wrong_unseal_key(&config.unseal_key_file, &config.data_dir);
            opened.map(Some).map_err(wrong)
        }
        Some(_) => Ok(None),
    }
}

/// The sealed root key, where there is one.
pub(crate) fn read(path: &Path, deployment: DeploymentId) -> Result<Option<SealedRoot>, Error> {
    let opened = match File::open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::path(path, &error)),
    };
    let most = u64::try_from(MAX_SEAL_FILE_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    opened
        .take(most)
        .read_to_string(&mut text)
        .map_err(|e| Error::path(path, &e))?;
    let root = file::from_text(&text).map_err(|error| {
        let text = format!("{}: {}", path.display(), keywheel_daemon::chain(&error));
        Error::new(Kind::Refused, text, RESTORE)
    })?;
    if root.deployment != *deployment.bytes() {
        let text = format!("{} belongs to another deployment", path.display());
        return Err(Error::new(Kind::Refused, text, RESTORE));
    }
    Ok(Some(root))
}
