//! Makes a store from what was declared about it: one arm per kind. Keeps nothing.

use std::sync::Arc;

use keywheel_core::name::StoreName;
use keywheel_core::store::{Backend, StoreSpec};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::store::{Connect, Credentials, Store};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::Entropy;

use crate::aws::AwsStore;

/// Every kind of store that this build has.
pub struct Connector {
    _clock: Arc<dyn Clock>,
    _entropy: Arc<dyn Entropy>,
}

impl Connector {
    /// With this clock and randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            _clock: clock,
            _entropy: entropy,
        }
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
            Backend::Vault(_) => {
                let word = spec.backend.word();
                let text = format!("store `{name}`: this build has no stores of kind `{word}`");
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
        }
    }
}
