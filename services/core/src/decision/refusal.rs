//! The ways a command is refused, and what a refusal leaves behind.

use crate::event::Event;
use crate::name::{BindingName, SecretName};
use crate::{
    approval, binding, host, notification, playbook, playbook_run, policy, revocation, rotation,
    secret, signal, store, token,
};

/// A refused command: why, and the facts that stand all the same. A join token, for example, is
/// spent by coming with it, whatever comes of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Rejection,
    /// What happened; appended like the events of any decision.
    pub events: Vec<Event>,
}

impl From<Rejection> for Refusal {
    fn from(reason: Rejection) -> Self {
        Self {
            reason,
            events: Vec::new(),
        }
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
    /// One of several declarations; none of them holds.
    #[error("nothing was applied: document {place}, {what}: {reason}")]
    Declared {
        /// Its place among them; the first is 1.
        place: usize,
        /// Its kind and name.
        what: String,
        /// Why it is refused.
        reason: Box<Rejection>,
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
    /// About a store outside.
    #[error(transparent)]
    Store(#[from] store::Rejection),
    /// About a notification.
    #[error(transparent)]
    Notification(#[from] notification::Rejection),
    /// About a signal or its source.
    #[error(transparent)]
    Signal(#[from] signal::Rejection),
    /// About a playbook.
    #[error(transparent)]
    Playbook(#[from] playbook::Rejection),
    /// About a run of a playbook.
    #[error(transparent)]
    PlaybookRun(#[from] playbook_run::Rejection),
    /// About the policies.
    #[error(transparent)]
    Policy(#[from] policy::Rejection),
    /// About tokens.
    #[error(transparent)]
    Token(#[from] token::Rejection),
    /// About what takes several people.
    #[error(transparent)]
    Approval(#[from] approval::Rejection),
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
            Self::Declared { reason, .. } => reason.kind(),
            Self::Approval(no) => of_approval(no),
            Self::SecretUnknown { .. }
            | Self::BindingUnknown(_)
            | Self::Secret(secret::Rejection::VersionUnknown { .. })
            | Self::Host(host::Rejection::NotEnrolled(_) | host::Rejection::NoQuarantine(_))
            | Self::Store(store::Rejection::Unknown(_))
            | Self::Notification(notification::Rejection::Unknown(_))
            | Self::Signal(signal::Rejection::Unknown(_))
            | Self::Rotation(rotation::Rejection::Unknown(_))
            | Self::Playbook(playbook::Rejection::Unknown(_))
            | Self::PlaybookRun(playbook_run::Rejection::Unknown(_))
            | Self::Token(token::Rejection::Unknown(_) | token::Rejection::NoneOf(_))
            | Self::Revocation(revocation::Rejection::Unknown(_)) => RejectionKind::NotFound,
            Self::Binding(binding::Rejection::NotBound { .. }) => RejectionKind::Conflict,
            Self::Store(
                store::Rejection::InUse { .. }
                | store::Rejection::LookOutdated(_)
                | store::Rejection::NotOutside(_),
            ) => RejectionKind::Conflict,
            Self::Binding(_) | Self::TargetTaken { .. } | Self::Store(_) => RejectionKind::Invalid,
            Self::Playbook(playbook::Rejection::InUse { .. }) => RejectionKind::Conflict,
            Self::Token(reason) if reason.is_invalid() => RejectionKind::Invalid,
            Self::Policy(policy::Rejection::TooLarge(_))
            | Self::Playbook(_)
            | Self::PlaybookRun(
                playbook_run::Rejection::ReasonMissing
                | playbook_run::Rejection::ReasonTooLong(_)
                | playbook_run::Rejection::TooLarge { .. },
            ) => RejectionKind::Invalid,
            Self::Host(
                host::Rejection::TokenUnknown
                | host::Rejection::TokenExpired(_)
                | host::Rejection::TokenForged(_)
                | host::Rejection::TokenOfAnother { .. }
                | host::Rejection::ReasonMissing
                | host::Rejection::LiftReasonMissing,
            )
            | Self::Rotation(
                rotation::Rejection::NoGenerator { .. }
                | rotation::Rejection::ReasonMissing
                | rotation::Rejection::ReasonTooLong,
            )
            | Self::Secret(
                secret::Rejection::PhaseTaken { .. }
                | secret::Rejection::PreviousAtResource { .. }
                | secret::Rejection::OnlyLeases { .. }
                | secret::Rejection::LeaseNotProvided { .. }
                | secret::Rejection::LeaseNameTooLong { .. }
                | secret::Rejection::LeaseName { .. }
                | secret::Rejection::PreviousOfLease { .. }
                | secret::Rejection::LeaseNotAlone { .. }
                | secret::Rejection::DrainedUntold { .. },
            )
            | Self::Revocation(
                revocation::Rejection::ReasonMissing | revocation::Rejection::ReasonTooLong,
            )
            | Self::Signal(signal::Rejection::OutOfBounds | signal::Rejection::NoText) => {
                RejectionKind::Invalid
            }
            _ => RejectionKind::Conflict,
        }
    }
    /// Whether it keeps someone out, rather than finding fault with what was asked; such a refusal is
    /// a denial in the audit.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::Host(
                host::Rejection::Evicted { .. }
                    | host::Rejection::NotJoined(_)
                    | host::Rejection::KeysPinned(_)
                    | host::Rejection::TokenUnknown
                    | host::Rejection::TokenExpired(_)
                    | host::Rejection::TokenForged(_)
                    | host::Rejection::TokenOfAnother { .. }
            ) | Self::Token(token::Rejection::Over | token::Rejection::UsedUp(_))
        )
    }
}

const fn of_approval(no: &approval::Rejection) -> RejectionKind {
    match no {
        approval::Rejection::Unknown(_) => RejectionKind::NotFound,
        approval::Rejection::People { .. }
        | approval::Rejection::TooLarge
        | approval::Rejection::ReasonMissing
        | approval::Rejection::ReasonTooLong => RejectionKind::Invalid,
        _ => RejectionKind::Conflict,
    }
}
