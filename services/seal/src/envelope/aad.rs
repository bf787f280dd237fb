//! What a sealed value is bound to (K2), in one canonical encoding.
//!
//! Invariant: the encoding is injective: every field has its length before it. It holds no secret.

use super::SUITE_AES256GCM;
use super::key::KekId;

/// The only format of associated data so far.
pub const AAD_FORMAT: u8 = 1;

/// What the sealed bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// The value of a secret version.
    Version = 1,
    /// A provided value that waits for its version number.
    Stash = 2,
    /// A private key of one of our services.
    ServiceKey = 3,
    /// A private key to which provided values are sealed; the version is its generation.
    StoreKey = 4,
}

/// The place of a sealed value: it opens nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aad {
    /// Format of this structure: [`AAD_FORMAT`].
    pub format: u8,
    /// The deployment.
    pub deployment: [u8; 16],
    /// The secret (or, for another purpose, the id of what is sealed).
    pub secret: [u8; 16],
    /// The version number; 0 where there is none.
    pub version: u64,
    /// The KEK that wraps the DEK.
    pub key_id: KekId,
    /// What the bytes are for.
    pub purpose: Purpose,
}

impl Aad {
    /// Binds the wrapped DEK: everything, the KEK's id too.
    pub(super) fn wrap(&self) -> Vec<u8> {
        self.encode(b"keywheel/wrap", &[&self.key_id.bytes()])
    }

    /// Binds the value: everything but the KEK's id, so that a KEK can be replaced by rewrapping
    /// alone. The value is bound to its KEK through the DEK, which opens under that KEK only.
    pub(super) fn place(&self) -> Vec<u8> {
        self.encode(b"keywheel/value", &[])
    }

    fn encode(&self, label: &[u8], more: &[&[u8]]) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let suite = SUITE_AES256GCM.to_be_bytes();
        let (format, purpose) = ([self.format], [self.purpose as u8]);
        let fields: [&[u8]; 7] = [
            label,
            &format,
            &suite,
            &self.deployment,
            &self.secret,
            &version,
            &purpose,
        ];
        let mut out = Vec::with_capacity(160);
        for field in fields.iter().chain(more) {
            out.extend_from_slice(&(field.len() as u64).to_be_bytes());
            out.extend_from_slice(field);
        }
        out
    }
}
