//! Where store-sync's root key comes from, for services that are being started: a key file, or `seal.json`
//! beside what it opens, with which store-sync begins sealed.

pub(crate) mod custodian;
pub(crate) mod making;
mod next;
pub(crate) mod reseal;

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
use keywheel_seal::unseal::SealedRoot;
use keywheel_store_sync::seal::{Custody, Opened, Seal, file};

use self::custodian::Custodian;
use crate::up::{Error, Kind, cache_error};

/// What to put right when the file is not as it was written.
const RESTORE: &str = "restore it from your backup; without it nothing opens the cache";

/// store-sync's own cache under its seal: unsealed by its key file, or sealed until a person comes.
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
    if opened.is_none() {
        tracing::warn!("store-sync begins sealed; `keywheel unseal` opens it");
    }
    let custody = Custody {
        deployment,
        root,
        custodian: Arc::new(custodian),
        clock,
        entropy: Arc::new(OsEntropy),
    };
    Ok(Seal::begin(custody, opened))
}

/// The root key, when a key file gives it.
fn root_of_key_file(
    sealed: Option<&SealedRoot>,
    config: &Config,
    key: impl FnOnce() -> Result<UnsealKey, Error>,
) -> Result<Option<UnsealKey>, Error> {
    match sealed {
        None => key().map(Some),
        Some(sealed) if sealed.provider.unseals_by_itself() => {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_file_is_no_seal_and_one_of_another_deployment_or_changed_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(file::NAME);
        let own = DeploymentId::from_bytes([1; 16]);
        assert_eq!(read(&path, own).ok().unwrap(), None);
        let root = UnsealKey::generate(&OsEntropy);
        let made = SealedRoot::by_shares(*own.bytes(), &root, (2, 3), &OsEntropy).unwrap();
        let text = file::to_text(&made.0).unwrap();
        fs::write(&path, &text).unwrap();
        assert_eq!(read(&path, own).ok().unwrap(), Some(made.0));
        let other = read(&path, DeploymentId::from_bytes([2; 16])).unwrap_err();
        assert!(other.what.contains("another deployment"), "{}", other.what);
        fs::write(&path, text.replace("\"v\":1", "\"v\": 1")).unwrap();
        let changed = read(&path, own).unwrap_err();
        assert!(changed.what.contains("it was changed"), "{}", changed.what);
    }
}
