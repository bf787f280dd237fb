//! The authority at rest: everything public as it is, the key sealed under the unseal key.
//!
//! Invariant: the sealed key opens only for its deployment and its purpose. Writing the file is
//! the caller's work.

use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_seal::envelope::{SealedKey, UnsealKey};
use keywheel_seal::{Entropy, SecretBytes};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

use super::rollover::Rollover;
use super::{Authority, AuthorityError, MEMBER_LIFETIME, certificates, check_chain, pem};
use crate::hex;

/// What the key is sealed as.
const SEALED_AS: &str = "certificate-authority";

/// The authority as a JSON file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredAuthority {
    deployment: String,
    sealed_key: String,
    chain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollover: Option<StoredRollover>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRollover {
    old_root: String,
    link: String,
    begun_micros: i64,
}

impl Authority {
    /// Seals the authority for storing.
    ///
    /// # Errors
    /// When the key is longer than the unseal key takes (RSA).
    pub fn seal(
        &self,
        unseal: &UnsealKey,
        entropy: &dyn Entropy,
    ) -> Result<StoredAuthority, AuthorityError> {
        let key = SecretBytes::from(self.key.serialize_der());
        let sealed = unseal
            .seal_service_key(self.deployment.bytes(), SEALED_AS, &key, entropy)
            .map_err(|_| AuthorityError::Key("it is too long".into()))?;
        Ok(StoredAuthority {
            deployment: self.deployment.to_string(),
            sealed_key: hex::encode(&sealed.to_bytes()),
            chain: self.chain.iter().map(|der| pem(der)).collect(),
            rollover: self.rollover.as_ref().map(|rollover| StoredRollover {
                old_root: pem(&rollover.root),
                link: pem(&rollover.link),
                begun_micros: rollover.begun.micros(),
            }),
        })
    }

    /// Opens a stored authority.
    ///
    /// # Errors
    /// When the unseal key is another one, or the file is damaged.
    pub fn open(stored: &StoredAuthority, unseal: &UnsealKey) -> Result<Self, AuthorityError> {
        let damaged = AuthorityError::Damaged;
        let deployment =
            DeploymentId::parse(&stored.deployment).map_err(|_| damaged("no deployment id"))?;
        let sealed = hex::decode(&stored.sealed_key)
            .and_then(|bytes| SealedKey::from_bytes(&bytes))
            .ok_or_else(|| damaged("no sealed key"))?;
        let key = unseal
            .open_service_key(deployment.bytes(), SEALED_AS, &sealed)
            .map_err(|_| AuthorityError::WrongUnsealKey)?;
        // EXPOSE: the stored key is parsed into the key type.
        let key = KeyPair::try_from(key.expose()).map_err(|_| damaged("no key"))?;
        let chain = certificates(&stored.chain).map_err(|_| damaged("no chain"))?;
        check_chain(&chain, &key).map_err(|_| damaged("chain and key do not match"))?;
        let one = |text: &str| {
            let mut all = certificates(text).ok()?;
            all.pop().filter(|_| all.is_empty())
        };
        let rollover = match &stored.rollover {
            None => None,
            Some(stored) => Some(Rollover {
                root: one(&stored.old_root).ok_or_else(|| damaged("no old root"))?,
                link: one(&stored.link).ok_or_else(|| damaged("no link"))?,
                begun: Timestamp::from_micros(stored.begun_micros),
            }),
        };
        Ok(Self {
            deployment,
            key,
            chain,
            rollover,
            member_lifetime: MEMBER_LIFETIME,
        })
    }
}
