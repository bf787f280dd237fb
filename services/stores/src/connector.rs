//! Makes a store from what was declared about it: one arm per kind. Keeps nothing.

use std::sync::Arc;

use keywheel_core::name::StoreName;
use keywheel_core::store::{Backend, StoreSpec};
use keywheel_engine::port::PortError;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::store::{Connect, Credentials, Store};
use keywheel_seal::Entropy;

use crate::VaultStore;
use crate::aws::AwsStore;

/// Every kind of store that this build has.
pub struct Connector {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Connector {
    /// With this clock and randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy }
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        name: &StoreName,
        spec: &StoreSpec,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Arc<dyn Store>, PortError> {
        match &spec.backend {
            Backend::Aws(aws) => {
                let store = AwsStore::new(name.clone(), aws.clone(), spec.timeout, credentials)?;
                Ok(Arc::new(store))
            }
            Backend::Vault(vault) => {
                let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
                let store =
                    VaultStore::new(name, vault, spec.timeout, credentials, clock, entropy)?;
                Ok(Arc::new(store))
            }
        }
    }
}
