//! Makes a store from what was declared about it: one arm per kind. Keeps what the stores of one
//! process share.

use std::sync::Arc;

use keywheel_core::name::StoreName;
use keywheel_core::store::{Backend, StoreSpec};
use keywheel_engine::port::PortError;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::failpoint::{Failpoint, Points};
use keywheel_engine::port::store::{Connect, Credentials, Store};
use keywheel_seal::Entropy;

use crate::aws::AwsStore;
use crate::vault::{Process, VaultStore};

/// Every kind of store that this build has.
pub struct Connector {
    process: Process,
    points: Points,
}

impl Connector {
    /// With this clock and randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let process = Process {
            clock,
            entropy,
            wrappings: Arc::default(),
        };
        Self {
            process,
            points: Points::default(),
        }
    }

    /// What its stores do passes these failpoints.
    #[must_use]
    pub fn passing(self, failpoint: Arc<dyn Failpoint>) -> Self {
        let points = Points::watched(failpoint);
        Self { points, ..self }
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
                Ok(Arc::new(store.with(self.points.clone())))
            }
            Backend::Vault(vault) => {
                let process = self.process.clone();
                let store = VaultStore::new(name, vault, spec.timeout, credentials, process)?;
                Ok(Arc::new(store.with(self.points.clone())))
            }
        }
    }
}
