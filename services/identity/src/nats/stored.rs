//! The bus's keys at rest, sealed under the unseal key. Writing the file is the caller's work.

use keywheel_core::id::DeploymentId;
use keywheel_seal::envelope::{SealedKey, UnsealKey};
use keywheel_seal::{Entropy, SecretBytes};
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};

use super::{BusAuthority, NatsError};
use crate::hex;

const OPERATOR: &str = "nats-operator";
const SYSTEM: &str = "nats-system-account";
const ACCOUNT: &str = "nats-account";

/// The bus's keys as a JSON file holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredBusAuthority {
    deployment: String,
    operator: String,
    system: String,
    account: String,
}

impl BusAuthority {
    /// Seals the keys for storing.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn seal(
        &self,
        unseal: &UnsealKey,
        entropy: &dyn Entropy,
    ) -> Result<StoredBusAuthority, NatsError> {
        let seal = |name, key: &KeyPair| {
            let seed = SecretBytes::from(key.seed()?.into_bytes());
            let sealed = unseal
                .seal_service_key(self.deployment.bytes(), name, &seed, entropy)
                .map_err(|_| NatsError::Damaged)?;
            Ok::<_, NatsError>(hex::encode(&sealed.to_bytes()))
        };
        Ok(StoredBusAuthority {
            deployment: self.deployment.to_string(),
            operator: seal(OPERATOR, &self.operator)?,
            system: seal(SYSTEM, &self.system)?,
            account: seal(ACCOUNT, &self.account)?,
        })
    }

    /// Opens stored keys.
    ///
    /// # Errors
    /// When the unseal key is another one, or the file is damaged.
    pub fn open(stored: &StoredBusAuthority, unseal: &UnsealKey) -> Result<Self, NatsError> {
        let deployment = DeploymentId::parse(&stored.deployment).map_err(|_| NatsError::Damaged)?;
        let open = |name, sealed: &str, kind: KeyPairType| {
            let sealed = hex::decode(sealed)
                .and_then(|bytes| SealedKey::from_bytes(&bytes))
                .ok_or(NatsError::Damaged)?;
            let seed = unseal
                .open_service_key(deployment.bytes(), name, &sealed)
                .map_err(|_| NatsError::WrongUnsealKey)?;
            // EXPOSE: the seed is parsed into the key type.
            let text = std::str::from_utf8(seed.expose()).map_err(|_| NatsError::Damaged)?;
            let pair = KeyPair::from_seed(text)?;
            let as_said =
                std::mem::discriminant(&pair.key_pair_type()) == std::mem::discriminant(&kind);
            as_said.then_some(pair).ok_or(NatsError::Damaged)
        };
        Ok(Self {
            deployment,
            operator: open(OPERATOR, &stored.operator, KeyPairType::Operator)?,
            system: open(SYSTEM, &stored.system, KeyPairType::Account)?,
            account: open(ACCOUNT, &stored.account, KeyPairType::Account)?,
        })
    }
}
