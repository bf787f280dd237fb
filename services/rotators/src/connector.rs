//! Makes accounts from what was declared: one arm per kind of server.

use std::sync::Arc;

use keywheel_core::resource::{Kind, Resource};
use keywheel_engine::port::accounts::{Accounts, ConnectAccounts};
use keywheel_engine::port::failpoint::{Failpoint, Points};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::Entropy;

use crate::mariadb::{self, MariaDbAccounts};
use crate::postgres::{self, PostgresAccounts};
use crate::redis::{self, RedisAccounts};
use crate::webhook;

/// Every kind of server that this build has.
pub struct Connector {
    entropy: Arc<dyn Entropy>,
    points: Points,
}

impl Connector {
    /// With this randomness.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            entropy,
            points: Points::default(),
        }
    }

    /// What its accounts do passes these failpoints.
    #[must_use]
    pub fn passing(self, failpoint: Arc<dyn Failpoint>) -> Self {
        let points = Points::watched(failpoint);
        Self { points, ..self }
    }
}

impl ConnectAccounts for Connector {
    fn connect(
        &self,
        resource: &Resource,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Arc<dyn Accounts>, PortError> {
        let points = self.points.clone();
        match resource.kind {
            Kind::Postgres => {
                let entropy = Arc::clone(&self.entropy);
                let accounts = PostgresAccounts::new(resource.clone(), credentials, entropy)?;
                Ok(Arc::new(accounts.with(points)))
            }
            Kind::Mariadb => {
                let entropy = Arc::clone(&self.entropy);
                let accounts = MariaDbAccounts::new(resource.clone(), credentials, entropy)?;
                Ok(Arc::new(accounts.with(points)))
            }
            Kind::Redis => {
                let accounts = RedisAccounts::new(resource.clone(), credentials)?;
                Ok(Arc::new(accounts.with(points)))
            }
            Kind::Webhook => {
                let text = format!(
                    "{resource} performs the steps itself, and lets nobody in otherwise; leave it to its rotation"
                );
                Err(PortError::new(ErrorKind::Denied, text))
            }
        }
    }
}

/// What the admin of a resource needs, as statements for a person; asks nobody.
///
/// # Errors
/// When the declaration cannot be used.
pub fn grants(resource: &Resource) -> Result<String, PortError> {
    match resource.kind {
        Kind::Postgres => postgres::grants(resource),
        Kind::Mariadb => mariadb::grants(resource),
        Kind::Redis => redis::grants(resource),
        Kind::Webhook => webhook::grants(resource),
    }
}
