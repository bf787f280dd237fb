//! Everything the shell may be asked to do. Each effect is idempotent under its key, is appended
//! with the event that asks for it, and stays open until a worker submits the outcome.

use crate::id::{RevocationId, RotationId, SecretId};
use crate::resource::{Probe, Resource};
use crate::rotation::Step;
use crate::secret::Generator;
use crate::store::{CredentialNow, NamedStore, RemoteVersion, Source};

/// An instruction from the core to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What to do.
    pub work: Work,
}

/// What to do. All of it is store-sync's today; hosts are steered by their plans instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// One step of a rotation.
    Step(StepWork),
    /// Make versions unusable and destroy their data keys.
    Revoke(RevokeWork),
}

/// One step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepWork {
    /// The rotation; its id is the token.
    pub rotation: RotationId,
    /// The secret.
    pub secret: SecretId,
    /// The step.
    pub step: Step,
    /// First is 1.
    pub attempt: u32,
    /// The new version; for `RevokeOld` and `Drain` the ones that die.
    pub versions: Vec<u64>,
    /// How the value is made.
    pub generator: Option<Generator>,
    /// Whether the value was provided and waits in the stash under the token.
    pub provided: bool,
    /// Where outside it works; `None` for the store `local`.
    pub outside: Option<Box<Outside>>,
    /// The resource whose accounts its versions open; `None` for a value that opens none.
    pub resource: Option<Box<AtResource>>,
    /// For `Drain` where the backend drew the line; `None` when it has to do so now.
    pub mark: Option<i64>,
}

/// Where outside a secret's values lie, as it was decided: whoever works looks nothing up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The store.
    pub store: NamedStore,
    /// Where in it.
    pub source: Source,
    /// The version we know there; only that one may be replaced.
    pub known: Option<RemoteVersion>,
    /// The version to take over as it is; nothing is written there then.
    pub fetch: Option<RemoteVersion>,
    /// Versions to make unusable there: of a revocation and of `RevokeOld`.
    pub retire: Vec<RemoteVersion>,
    /// The rotation whose half-made value is taken back there: a revocation cancelled it.
    pub unstage: Option<RotationId>,
    /// The server at which the logins that it makes are tried; `None` where its own word has to do.
    pub probe: Option<Box<Probe>>,
}

/// The resource whose accounts a secret's versions open, as it was decided: whoever works looks nothing
/// up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtResource {
    /// The resource.
    pub resource: Resource,
    /// Which version of which secret holds the admin's password now; `None` when there is no such
    /// secret any more, or it is meant for another server.
    pub admin: Option<CredentialNow>,
    /// The version that is current; a roll-back gives the account its password back.
    pub current: Option<u64>,
    /// Every other version whose value may still be kept, but the one that is worked on: what they open is
    /// in use. What a revocation made unusable there, and keeps for its proof, is none.
    pub kept: Vec<u64>,
    /// Whether an earlier attempt at `set` may have been done without an answer. Then an account that has
    /// neither the new password nor the one before is left to a person.
    pub unclear: bool,
}

/// Make versions unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeWork {
    /// The revocation.
    pub revocation: RevocationId,
    /// The secret.
    pub secret: SecretId,
    /// The versions.
    pub versions: Vec<u64>,
    /// First is 1.
    pub attempt: u32,
    /// Where outside it works; `None` for the store `local`.
    pub outside: Option<Box<Outside>>,
    /// The resource whose accounts its versions open; `None` for a value that opens none.
    pub resource: Option<Box<AtResource>>,
    /// Which part of it.
    pub part: Part,
    /// Whether it goes before other revocations, too.
    pub is_emergency: bool,
}

/// Which part of a revocation is asked for. Where a login can show that a credential is dead, its value is
/// needed until then, and the parts come one after the other; else there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// Unusable at the store, and their data keys destroyed.
    #[default]
    Whole,
    /// Unusable at the store; their data keys stay.
    Disable,
    /// A login with each, which has to be refused.
    Prove,
    /// Their data keys are destroyed; the store is not asked.
    Destroy,
}

/// Identifies an effect; an outcome is taken once per key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A rotation's step and attempt.
    Step(RotationId, Step, u32),
    /// A revocation's attempt.
    Revoke(RevocationId, u32),
}

impl Effect {
    /// The effect's key.
    #[must_use]
    pub fn key(&self) -> Key {
        match &self.work {
            Work::Step(work) => Key::Step(work.rotation, work.step, work.attempt),
            Work::Revoke(work) => Key::Revoke(work.revocation, work.attempt),
        }
    }
}
