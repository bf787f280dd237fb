//! Who reads store-sync's key file and opens its cache, also after it was sealed.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use keywheel_cache::{Cache, Kind};
use keywheel_core::id::DeploymentId;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::config::Config;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use keywheel_store_sync::seal::{KeyCustodian, Opened};

use crate::up::layout;

/// Of one store-sync with a cache of its own.
pub(crate) struct Custodian {
    key_file: PathBuf,
    data_dir: PathBuf,
    deployment: [u8; 16],
    clock: Arc<dyn Clock>,
}

impl Custodian {
    /// As the configuration says.
    pub(crate) fn new(config: &Config, deployment: DeploymentId, clock: Arc<dyn Clock>) -> Self {
        Self {
            key_file: config.unseal_key_file.clone(),
            data_dir: config.data_dir.clone(),
            deployment: *deployment.bytes(),
            clock,
        }
    }

    /// Opens the cache, or makes it. One that a sealing is about to let go of is waited for, as the cache does.
    pub(crate) async fn open_cache(&self, root: UnsealKey) -> Result<Cache, keywheel_cache::Error> {
        let path = self.data_dir.join("cache.db");
        let (entropy, clock) = (Arc::new(OsEntropy), self.clock.clone());
        Cache::open(&path, self.deployment, root, entropy, clock).await
    }
}

#[async_trait]
impl KeyCustodian for Custodian {
    fn key_file(&self) -> Result<UnsealKey, PortError> {
        let key = layout::present_unseal_key(&self.key_file, &self.data_dir);
        key.map_err(|error| {
            let text = format!("{}; {}", error.what, error.next);
            PortError::new(ErrorKind::Unavailable, text)
        })
    }

    async fn open(&self, root: UnsealKey) -> Result<Opened, PortError> {
        let cache = self.open_cache(root).await.map_err(failed)?;
        Ok(Opened::own(cache))
    }
}

fn failed(error: keywheel_cache::Error) -> PortError {
    let kind = match error.kind() {
        Kind::Unavailable | Kind::Conflict => ErrorKind::Unavailable,
        Kind::Corrupt => ErrorKind::Corrupt,
        _ => ErrorKind::Denied,
    };
    PortError::caused(kind, "the cache does not open", error)
}
