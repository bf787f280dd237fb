//! A value sealed to store-sync's key, as the API carries it: opaque to everyone on the way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::leaf::Octets;
use crate::mirror::Text;

/// Largest sealed value, in bytes of ciphertext: padded to a class of at most 1 MiB, with length and tag.
pub const MAX_CIPHERTEXT_BYTES: usize = (1 << 20) + 20;
/// Longest encapsulated key, in bytes; room for hybrid suites.
pub const MAX_ENC_BYTES: usize = 2048;

/// HPKE output: only the holder of the private key opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealedValue {
    /// Number of the cipher suite.
    pub suite: u16,
    /// Encapsulated key.
    pub enc: Text<Octets<MAX_ENC_BYTES>>,
    /// Ciphertext with its tag.
    pub ciphertext: Text<Octets<MAX_CIPHERTEXT_BYTES>>,
}

impl SealedValue {
    /// Takes the parts of a sealed value.
    #[must_use]
    pub fn new(suite: u16, enc: &[u8], ciphertext: &[u8]) -> Self {
        Self {
            suite,
            enc: Text(Octets(enc.to_vec())),
            ciphertext: Text(Octets(ciphertext.to_vec())),
        }
    }

    /// The encapsulated key.
    #[must_use]
    pub fn enc_bytes(&self) -> &[u8] {
        &self.enc.0.0
    }

    /// The ciphertext with its tag.
    #[must_use]
    pub fn ciphertext_bytes(&self) -> &[u8] {
        &self.ciphertext.0.0
    }
}
