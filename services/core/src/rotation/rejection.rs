//! The ways a command about a rotation is refused. Each names the thing, the reason and the next step.

use super::{MAX_REASON_CHARS, Step};
use crate::id::RotationId;
use crate::name::SecretName;

/// A normal "no" about a rotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// One at a time.
    #[error(
        "rotation {rotation} of secret `{secret}` is still open; `keywheel describe rotation {rotation}` shows what it waits for"
    )]
    AlreadyOpen {
        /// Name of the secret.
        secret: SecretName,
        /// The open rotation.
        rotation: RotationId,
    },
    /// The sender's id is another rotation's.
    #[error("rotation {0} was begun before; ask for another one with a fresh id")]
    IdTaken(RotationId),
    /// The slot was served before.
    #[error("this slot of secret `{secret}` was served already")]
    SlotServed {
        /// Name of the secret.
        secret: SecretName,
    },
    /// The slot is still to come.
    #[error(
        "this slot of secret `{secret}` is still to come; compare the clocks of gateway and scheduler"
    )]
    SlotEarly {
        /// Name of the secret.
        secret: SecretName,
    },
    /// Nobody wants slots for the secret.
    #[error("secret `{secret}` has no schedule; give it one in its manifest")]
    NotScheduled {
        /// Name of the secret.
        secret: SecretName,
    },
    /// An outcome for a step nobody waits for.
    #[error("rotation {rotation} does not wait for step {step:?} (attempt {attempt})")]
    StepNotOpen {
        /// The rotation.
        rotation: RotationId,
        /// The step.
        step: Step,
        /// The attempt.
        attempt: u32,
    },
    /// No such rotation, or ended long ago.
    #[error("no rotation {0}; `keywheel get rotations` lists them")]
    Unknown(RotationId),
    /// The secret has nothing to make values from.
    #[error(
        "secret `{secret}` has no generator; give the value with `keywheel secret put {secret} --value-file FILE`, or change it at its store and say `keywheel refresh {secret}`"
    )]
    NoGenerator {
        /// Name of the secret.
        secret: SecretName,
    },
    /// The deadline did not pass, or nobody waits for it.
    #[error("rotation {0} waits for no deadline")]
    NoDeadline(RotationId),
    /// Whoever steps in says why.
    #[error(
        "stepping into a rotation needs a reason, for the record; give one with --reason \"…\""
    )]
    ReasonMissing,
    /// A reason is no place for a log.
    #[error(
        "the reason has more than {} characters; say it shorter, and where more is written",
        MAX_REASON_CHARS
    )]
    ReasonTooLong,
    /// Nobody knows yet which version is current.
    #[error(
        "rotation {0} is promoting its version, and what came of it is not known yet; `keywheel describe rotation {0}` shows when it is through, then ask again"
    )]
    Promoting(RotationId),
    /// A person gave it up before.
    #[error(
        "rotation {0} was aborted already; it rolls back as soon as the step under way is answered"
    )]
    AbortedAlready(RotationId),
    /// It ended, or its end is under way.
    #[error(
        "rotation {rotation} cannot be aborted: it {state}; `keywheel rotate {secret}` makes a new value"
    )]
    NothingToAbort {
        /// The rotation.
        rotation: RotationId,
        /// Name of the secret.
        secret: SecretName,
        /// Where it stands, in words.
        state: &'static str,
    },
    /// The version before is dead.
    #[error(
        "rotation {rotation} cannot be aborted: no version before is alive to go back to; `keywheel rotate {secret}` makes a new value"
    )]
    NoWayBack {
        /// The rotation.
        rotation: RotationId,
        /// Name of the secret.
        secret: SecretName,
    },
    /// The version before opens nothing any more.
    #[error(
        "rotation {rotation} cannot be aborted: it is a cut-over (`singleUser`), and the password of the version before is refused since; `keywheel describe rotation {rotation}` shows what it waits for, `keywheel rotate {secret}` makes a new value once it has ended"
    )]
    CutOver {
        /// The rotation.
        rotation: RotationId,
        /// Name of the secret.
        secret: SecretName,
    },
    /// No failed step waits, and it is not parked.
    #[error(
        "rotation {0} has nothing to retry: no step of it failed, and it is not parked; `keywheel describe rotation {0}` shows what it waits for"
    )]
    NothingToRetry(RotationId),
    /// It waits for no consumer.
    #[error(
        "rotation {0} has nothing to force: it waits for no consumer; `keywheel describe rotation {0}` shows how it stands"
    )]
    NothingToForce(RotationId),
    /// Nothing is promoted that could end what was before.
    #[error(
        "rotation {0} has nothing to force: only canaries have its version, and nothing dies before it is promoted; `keywheel rotation abort {0} --reason …` takes it back from them"
    )]
    CanariesAhead(RotationId),
    /// It goes back to the version before, and its store keeps the new one.
    #[error(
        "rotation {rotation} has nothing to force: containers go back to the version before, the store outside keeps the new one, and no version dies at its end; once it has ended, `keywheel rotate {secret}` makes a value for both"
    )]
    NothingDies {
        /// The rotation.
        rotation: RotationId,
        /// Name of the secret.
        secret: SecretName,
    },
    /// A consumer did not run well with it, and would not now.
    #[error(
        "rotation {rotation} cannot go on: a container did not run well with its version; mend what `keywheel consumers --secret {secret}` names, then `keywheel rotate {secret}`"
    )]
    Halted {
        /// The rotation.
        rotation: RotationId,
        /// Name of the secret.
        secret: SecretName,
    },
    /// What it made is not what is in use.
    #[error(
        "rotation {rotation} cannot go on: what it would end with is not what is in use any more; `keywheel describe secret {secret}` shows what is, `keywheel rotate {secret}` makes a new value"
    )]
    PassedBy {
        /// The rotation.
        rotation: RotationId,
        /// Name of the secret.
        secret: SecretName,
    },
}
