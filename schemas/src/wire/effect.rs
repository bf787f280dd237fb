//! Effects and their keys on the wire.

use keywheel_core::effect::{self, Key};
use keywheel_core::id::{RevocationId, RotationId, SecretId};
use keywheel_core::rotation;
use keywheel_core::store::RemoteVersion;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::event::resource::{Probe, Resource};
use crate::event::rotation::Step;
use crate::event::secret::Generator;
use crate::event::store::{NamedStore, Source};
use crate::mirror::{Mirror, Text, mirror_struct, mirror_words};
use crate::wire::store::CredentialNow;

mirror_struct! {
    /// Where outside a secret's values lie.
    Outside = effect::Outside {
        /// The store.
        store: NamedStore,
        /// Where in it.
        source: Source,
        /// The version we know there; only that one may be replaced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<Text<RemoteVersion>>,
        /// The version to take over as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fetch: Option<Text<RemoteVersion>>,
        /// Versions to make unusable there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        retire: Vec<Text<RemoteVersion>>,
        /// The rotation whose half-made value is taken back there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unstage: Option<Text<RotationId>>,
        /// The server at which the logins that it makes are tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probe: Option<Box<Probe>>,
    }
}

mirror_struct! {
    /// The resource whose accounts a secret's versions open.
    AtResource = effect::AtResource {
        /// The resource.
        resource: Resource,
        /// Which version of which secret holds the admin's password now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        admin: Option<CredentialNow>,
        /// The version that is current.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<u64>,
        /// Every other version whose value may still be kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<u64>,
        /// Whether an earlier attempt at `set` may have been done without an answer; seldom so.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unclear: bool,
    }
}

mirror_struct! {
    /// One step of a rotation.
    StepWork = effect::StepWork {
        /// The rotation; its id is the token.
        rotation: Text<RotationId>,
        /// The secret.
        secret: Text<SecretId>,
        /// The step.
        step: Step,
        /// First is 1.
        attempt: u32,
        /// The new version; for `revoke_old` and `drain` the ones that die.
        versions: Vec<u64>,
        /// How the value is made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generator: Option<Generator>,
        /// Whether the value waits in the stash under the token.
        provided: bool,
        /// Where outside it works; absent for the store `local`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outside: Option<Box<Outside>>,
        /// The resource whose accounts its versions open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<Box<AtResource>>,
        /// For `drain` where the backend drew the line; absent when it has to do so now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mark: Option<Text<i64>>,
    }
}

mirror_struct! {
    /// Make versions unusable.
    RevokeWork = effect::RevokeWork {
        /// The revocation.
        revocation: Text<RevocationId>,
        /// The secret.
        secret: Text<SecretId>,
        /// The versions.
        versions: Vec<u64>,
        /// First is 1.
        attempt: u32,
        /// Where outside it works; absent for the store `local`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outside: Option<Box<Outside>>,
        /// The resource whose accounts its versions open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<Box<AtResource>>,
        /// Which part of it; absent for all of it at once.
        #[serde(default, skip_serializing_if = "Part::is_whole")]
        part: Part,
        /// Whether it goes before other revocations, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_emergency: bool,
    }
}

mirror_words! {
    /// Which part of a revocation is asked for.
    #[derive(Default)]
    Part = effect::Part {
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
}

impl Part {
    /// Whether it is all of it at once.
    fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// One step of a rotation.
    Step(StepWork),
    /// Make versions unusable.
    Revoke(RevokeWork),
}

impl Mirror for Work {
    type Core = effect::Work;
    fn of(core: &Self::Core) -> Self {
        match core {
            effect::Work::Step(work) => Self::Step(StepWork::of(work)),
            effect::Work::Revoke(work) => Self::Revoke(RevokeWork::of(work)),
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::Step(work) => effect::Work::Step(work.into_core()),
            Self::Revoke(work) => effect::Work::Revoke(work.into_core()),
        }
    }
}

const STEPS: [(&str, rotation::Step); 7] = [
    ("create", rotation::Step::Create),
    ("set", rotation::Step::Set),
    ("test", rotation::Step::Test),
    ("finish", rotation::Step::Finish),
    ("revoke_old", rotation::Step::RevokeOld),
    ("roll_back", rotation::Step::RollBack),
    ("drain", rotation::Step::Drain),
];

/// Writes an effect's key: `step/<rotation>/<step>/<attempt>` or `revoke/<revocation>/<attempt>`.
#[must_use]
pub fn effect_key_to_string(key: &Key) -> String {
    match key {
        Key::Step(rotation, step, attempt) => {
            let word = STEPS
                .iter()
                .find(|(_, known)| known == step)
                .map_or("", |(word, _)| word);
            format!("step/{rotation}/{word}/{attempt}")
        }
        Key::Revoke(revocation, attempt) => format!("revoke/{revocation}/{attempt}"),
    }
}

/// Reads an effect's key back.
///
/// # Errors
/// When the text is not one.
pub fn effect_key_from_string(text: &str) -> Result<Key, DecodeError> {
    let parts: Vec<&str> = text.split('/').collect();
    let key = match parts.as_slice() {
        ["step", rotation, step, attempt] => step_key(rotation, step, attempt),
        ["revoke", revocation, attempt] => RevocationId::parse(revocation)
            .ok()
            .zip(attempt.parse().ok())
            .map(|(id, n)| Key::Revoke(id, n)),
        _ => None,
    };
    key.filter(|key| effect_key_to_string(key) == text)
        .ok_or_else(|| DecodeError::EffectKey(crate::leaf::shorten(text)))
}

fn step_key(rotation: &str, step: &str, attempt: &str) -> Option<Key> {
    let (_, step) = STEPS.iter().find(|(word, _)| *word == step)?;
    Some(Key::Step(
        RotationId::parse(rotation).ok()?,
        *step,
        attempt.parse().ok()?,
    ))
}
