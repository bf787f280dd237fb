//! A key service outside: AWS KMS, the transit engine of Vault or OpenBao.
//!
//! It wraps one small key of ours, and gives it back; it never sees a value. Laws: what it wrapped opens with the
//! same key there and the same binding, and with nothing else (`Denied`); unwrapping changes nothing, so it may be
//! asked any number of times; who cannot be reached is `Unavailable`, and whatever a person has to put right there
//! is `Denied`. Every error names the service, its key, the reason and the next step, and tells no key and no
//! credential. A call begins only before its `Until`, and ends at the service's own timeout.

use async_trait::async_trait;
use keywheel_core::id::DeploymentId;
use keywheel_seal::SecretBytes;

use super::PortError;
use crate::until::Until;

/// The longest key that is wrapped, in bytes: the text of a key file has room.
pub const MAX_PLAIN_BYTES: usize = 128;

/// What a wrapped key is bound to: the service takes it as encryption context or associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The deployment whose key it is.
    pub deployment: DeploymentId,
}

impl Binding {
    /// What the key is for: nothing else of ours is wrapped.
    pub const PURPOSE: &'static str = "keywheel/root/v1";

    /// The binding by names, for a service that takes several.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, String); 2] {
        [
            ("keywheel:deployment", self.deployment.to_string()),
            ("keywheel:purpose", Self::PURPOSE.to_owned()),
        ]
    }

    /// The same in one text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}/{}", Self::PURPOSE, self.deployment)
    }
}

/// One key of a key service.
#[async_trait]
pub trait KeyService: Send + Sync {
    /// The key's name there, for people.
    fn key(&self) -> &str;
    /// Wraps a key of at most [`MAX_PLAIN_BYTES`].
    async fn wrap(
        &self,
        plain: &SecretBytes,
        binding: &Binding,
        until: &Until,
    ) -> Result<Vec<u8>, PortError>;
    /// Gives back what [`KeyService::wrap`] took.
    async fn unwrap(
        &self,
        wrapped: &[u8],
        binding: &Binding,
        until: &Until,
    ) -> Result<SecretBytes, PortError>;
    /// A person asks: a login that was refused before is tried at once.
    fn ask_anew(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deployment_has_a_binding_of_its_own() {
        let of = |byte| Binding {
            deployment: DeploymentId::from_bytes([byte; 16]),
        };
        assert_ne!(of(1).text(), of(2).text());
        assert_ne!(of(1).pairs(), of(2).pairs());
        assert!(of(1).text().starts_with("keywheel/root/v1/"));
    }
}
