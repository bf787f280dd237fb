//! A host whose credentials have ended asks for fresh ones with nothing but its pinned key.
//!
//! Invariants: the signature covers the very connection it is sent on (its binding, RFC 9266), so what
//! is overheard, forwarded or sent again counts nowhere; it covers deployment, host and every byte of
//! what is asked. Whose key is pinned, and whether the host may come back, is not decided here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_seal::sign::{Signature, SigningKey, VerifyingKey};

use super::EnrolError;
use super::wire::{self, RenewAsk, ReturnAsk};
use crate::tls::Binding;

/// Context of the signature.
const CONTEXT: &str = "keywheel/identity/return/v1";

/// What a host asks, read and checked for its form. Nobody has judged the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedReturn {
    /// Who it says it is.
    pub host: HostId,
    /// Bytes of the [`RenewAsk`].
    pub ask: Vec<u8>,
    signature: Signature,
}

impl RenewAsk {
    /// The same for the join port, on one connection.
    #[must_use]
    pub fn signed(
        &self,
        (deployment, host): (DeploymentId, HostId),
        key: &SigningKey,
        binding: &Binding,
    ) -> ReturnAsk {
        // A struct of strings and numbers always has a JSON form.
        let ask = serde_json::to_string(self).unwrap_or_default();
        let signature = key.sign(CONTEXT, &covered(deployment, host, binding, &ask));
        ReturnAsk {
            v: wire::VERSION,
            host: host.to_string(),
            ask,
            signature: STANDARD.encode(signature.to_bytes()),
        }
    }
}

impl ReturnAsk {
    /// Reads the parts.
    ///
    /// # Errors
    /// When a part has not its form.
    pub fn check(&self) -> Result<CheckedReturn, EnrolError> {
        if self.v != wire::VERSION {
            return Err(EnrolError::Ask(format!("it has version {}", self.v)));
        }
        let host = HostId::parse(&self.host);
        let host = host.map_err(|error| EnrolError::Ask(error.to_string()))?;
        let signature = STANDARD.decode(&self.signature).ok();
        let signature = signature.and_then(|bytes| bytes.try_into().ok());
        let no_signature = || EnrolError::Ask("the signature is not 64 bytes of base64".to_owned());
        Ok(CheckedReturn {
            host,
            ask: self.ask.clone().into_bytes(),
            signature: Signature::from_bytes(signature.ok_or_else(no_signature)?),
        })
    }
}

impl CheckedReturn {
    /// Whether the holder of this key signed it for this deployment on the connection with this
    /// binding.
    #[must_use]
    pub fn is_by(&self, key: [u8; 32], deployment: DeploymentId, binding: &Binding) -> bool {
        let Ok(ask) = std::str::from_utf8(&self.ask) else {
            return false;
        };
        let covered = covered(deployment, self.host, binding, ask);
        VerifyingKey::from_bytes(key)
            .is_ok_and(|key| key.verify(CONTEXT, &covered, &self.signature).is_ok())
    }
}

/// Parts of a fixed length first, so that no byte can stand for another part.
fn covered(deployment: DeploymentId, host: HostId, binding: &Binding, ask: &str) -> Vec<u8> {
    [
        deployment.bytes().as_slice(),
        host.bytes(),
        binding,
        ask.as_bytes(),
    ]
    .concat()
}
