//! The ways a command about a revocation is refused. Each names the thing, the reason and the next step.

use super::MAX_REASON_CHARS;
use crate::id::{RevocationId, RotationId};
use crate::name::SecretName;

/// A normal "no" about a revocation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No version is alive.
    #[error("secret `{secret}` has no version that is alive; there is nothing to revoke")]
    NothingAlive {
        /// Name of the secret.
        secret: SecretName,
    },
    /// An incident needs a reason on the record.
    #[error("a revocation needs a reason; give one with --reason \"…\"")]
    ReasonMissing,
    /// An outcome nobody waits for.
    #[error("revocation {revocation} does not wait for attempt {attempt}")]
    AttemptNotOpen {
        /// The revocation.
        revocation: RevocationId,
        /// The attempt.
        attempt: u32,
    },
    /// A reason that no record holds.
    #[error(
        "the reason has more than {} characters; say it shorter, and where more is written",
        MAX_REASON_CHARS
    )]
    ReasonTooLong,
    /// The store confirmed, or there is nothing it could still be asked.
    #[error(
        "revocation {0} does not wait for its store, so there is nothing to forget; a host that holds it up is let go with `keywheel host evict`"
    )]
    NothingToForget(RevocationId),
    /// One principal cannot give it up alone.
    #[error(
        "revocation {0} is forgotten only when a second principal says so; have somebody else repeat it, as another unix user or with another client certificate"
    )]
    SecondPrincipal(RevocationId),
    /// A service has no say in it.
    #[error("only a person can have a revocation forgotten")]
    NoPerson,
    /// No such revocation, or ended long ago.
    #[error("no revocation {0}; `keywheel get revocations` lists them")]
    Unknown(RevocationId),
    /// The rotation that is open cannot bring the replacement, and another one cannot begin.
    #[error(
        "nothing was revoked: rotation {rotation} of secret `{secret}` is open, and cannot bring a replacement for what is to be revoked; `keywheel describe rotation {rotation}` shows what it waits for; repeat this after its end, name an older version with --version, or revoke without --replace"
    )]
    ReplacementHeldUp {
        /// Name of the secret.
        secret: SecretName,
        /// The open rotation.
        rotation: RotationId,
    },
    /// Leases are not rotated by themselves.
    #[error(
        "nothing was revoked: `{secret}` is of leases, which have no replacement of their own; revoke it without --replace"
    )]
    LeaseNotReplaced {
        /// Name of the secret.
        secret: SecretName,
    },
}
