//! Decisions: one command, the world as it is, and the events of every aggregate concerned.
//!
//! A decision is one append. It reads the world, changes nothing, and either gives events or a
//! rejection. An empty list of events means: everything is as asked already.

mod manifest;
mod report;
mod revoke;
mod rotate;
#[cfg(test)]
mod tests;

use crate::command::Command;
use crate::event::Event;
use crate::name::{BindingName, SecretName};
use crate::time::Timestamp;
use crate::world::World;
use crate::{binding, host, revocation, rotation, secret};

/// What a decision may know besides the world.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Now.
    pub now: Timestamp,
    /// Sixteen random bytes, drawn once per command; further ids are counted up from them.
    pub seed: [u8; 16],
}

impl Context {
    /// The n-th id of this command.
    #[must_use]
    pub fn id(&self, n: u32) -> [u8; 16] {
        let mut bytes = self.seed;
        for (byte, count) in bytes.iter_mut().rev().zip(n.to_le_bytes()) {
            *byte ^= count;
        }
        bytes
    }
}

/// A normal "no" to a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No secret has that name.
    #[error("no secret is named `{name}`{}; `keywheel get secrets` lists them", nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
    SecretUnknown {
        /// The name asked for.
        name: SecretName,
        /// A name much like it.
        nearest: Option<SecretName>,
    },
    /// No binding has that name.
    #[error("no binding is named `{0}`; `keywheel get bindings` lists them")]
    BindingUnknown(BindingName),
    /// Two bindings of one host and container set would place the same file or variable.
    #[error(
        "binding `{binding}` places the same file or variable as binding `{other}` for the same selector; give one of them another name"
    )]
    TargetTaken {
        /// The binding asked for.
        binding: BindingName,
        /// The one that has it.
        other: BindingName,
    },
    /// About a secret.
    #[error(transparent)]
    Secret(#[from] secret::Rejection),
    /// About a binding.
    #[error(transparent)]
    Binding(#[from] binding::Rejection),
    /// About a host.
    #[error(transparent)]
    Host(#[from] host::Rejection),
    /// About a rotation.
    #[error(transparent)]
    Rotation(#[from] rotation::Rejection),
    /// About a revocation.
    #[error(transparent)]
    Revocation(#[from] revocation::Rejection),
}

/// What sort of "no" it is; exit codes and HTTP statuses follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionKind {
    /// The thing named does not exist.
    NotFound,
    /// The thing is in a state that does not allow it now.
    Conflict,
    /// The request itself cannot be served.
    Invalid,
}

impl Rejection {
    /// What sort of "no" it is.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        match self {
            Self::SecretUnknown { .. }
            | Self::BindingUnknown(_)
            | Self::Secret(secret::Rejection::VersionUnknown { .. })
            | Self::Host(host::Rejection::NotEnrolled(_))
            | Self::Rotation(rotation::Rejection::Unknown(_))
            | Self::Revocation(revocation::Rejection::Unknown(_)) => RejectionKind::NotFound,
            Self::Binding(binding::Rejection::NotBound { .. }) => RejectionKind::Conflict,
            Self::Binding(_) | Self::TargetTaken { .. } => RejectionKind::Invalid,
            Self::Rotation(rotation::Rejection::NoGenerator { .. })
            | Self::Revocation(revocation::Rejection::ReasonMissing) => RejectionKind::Invalid,
            _ => RejectionKind::Conflict,
        }
    }
}

/// Decides one command.
///
/// # Errors
/// With the reason when the command is refused.
pub fn decide(world: &World, command: &Command, ctx: &Context) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::ApplySecret {
            id,
            rotation,
            name,
            spec,
        } => manifest::apply_secret(world, *id, *rotation, name, spec, ctx),
        Command::ApplyBinding {
            id,
            name,
            secret,
            selector,
            target,
            reload,
        } => {
            let spec = manifest::BindingWish {
                secret,
                selector,
                target,
                reload,
            };
            manifest::apply_binding(world, *id, name, &spec, ctx)
        }
        Command::Unbind { name } => manifest::unbind(world, name),
        Command::Put {
            id,
            rotation,
            name,
            provided,
        } => rotate::put(world, *id, *rotation, name, *provided, ctx),
        Command::Rotate { rotation, secret } => rotate::on_demand(world, *rotation, secret, ctx),
        Command::Due {
            rotation,
            secret,
            slot,
            scheduled,
        } => rotate::due(world, *rotation, *secret, *slot, *scheduled, ctx),
        Command::Revoke {
            revocation,
            secret,
            version,
            reason,
        } => revoke::request(world, *revocation, secret, *version, reason),
        Command::EnrolHost {
            host,
            name,
            sealing_key,
        } => manifest::enrol_host(world, *host, name, sealing_key, ctx),
        Command::StepOutcome {
            rotation,
            step,
            attempt,
            failure,
        } => rotate::outcome(world, *rotation, *step, *attempt, failure.as_deref(), ctx),
        Command::RevokeOutcome {
            revocation,
            attempt,
            failure,
        } => revoke::outcome(world, *revocation, *attempt, failure.as_deref()),
        Command::RetryStep { rotation } => rotate::retry(world, *rotation),
        Command::RetryRevoke { revocation } => revoke::retry(world, *revocation),
        Command::DeadlinePassed { rotation } => rotate::deadline(world, *rotation, ctx.now),
        Command::Report(report) => report::record(world, report),
    }
}

fn secret_or_reject<'w>(
    world: &'w World,
    name: &SecretName,
) -> Result<&'w secret::Secret, Rejection> {
    world.secret_named(name).ok_or_else(|| {
        let nearest = world
            .secrets
            .values()
            .map(|s| &s.name)
            .min_by_key(|n| distance(n.as_str(), name.as_str()));
        let near = nearest
            .filter(|n| distance(n.as_str(), name.as_str()) <= 3)
            .cloned();
        Rejection::SecretUnknown {
            name: name.clone(),
            nearest: near,
        }
    })
}

/// Edit distance, for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX);
            let cost = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            if let Some(cell) = row.get_mut(j) {
                *cell = left;
            }
            left = cost;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}
