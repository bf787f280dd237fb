//! What a revocation bars from being set again.
//!
//! The value of what was made unusable is kept for its proof, and a `set` that was asked for before may come late: it
//! was sent twice, or another store-sync had it. Invariant: whoever sets a barred version finds that, before it tells
//! the server of it or right after, and a roll-back gives none back. The mark is a destroyed version in the vault under
//! an id of its own, so it stays for ever and for all who share the vault. Ending what was told all the same is each
//! rotator's part.

use keywheel_core::effect::StepWork;
use keywheel_core::id::SecretId;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::digest;

/// Nobody sets this version from now on.
pub(crate) async fn bar(
    vault: &dyn VersionVault,
    secret: SecretId,
    version: u64,
) -> Result<(), PortError> {
    vault.destroy(mark_id(secret), version).await
}

/// Whether nobody may set this version.
pub(crate) async fn is_barred(
    vault: &dyn VersionVault,
    secret: SecretId,
    version: u64,
) -> Result<bool, PortError> {
    vault.is_destroyed(mark_id(secret), version).await
}

/// Why it is not set.
pub(crate) fn barred(work: &StepWork, version: u64) -> PortError {
    let text = format!(
        "version {version} of secret {} was revoked, so no server is told of it; rotate again",
        work.secret
    );
    PortError::new(ErrorKind::Denied, text)
}

/// Under which id a secret's marks lie.
fn mark_id(secret: SecretId) -> SecretId {
    let id = secret.bytes();
    let digest = digest::sha256(&[b"keywheel barred version".as_slice(), id].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    SecretId::from_bytes(bytes)
}
