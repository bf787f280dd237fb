//! Any event, and the aggregate it belongs to.

use crate::id::{
    ApprovalId, BindingId, HostId, NotificationId, PlaybookId, PolicySetId, RevocationId,
    RotationId, RunId, SecretId, SignalSourceId, StoreId, TokenId,
};
use crate::{
    approval, assignment, binding, host, notification, playbook, playbook_run, policy, revocation,
    rollout, rotation, secret, signal, store, token,
};

/// Any event with its aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Of a secret.
    Secret(SecretId, secret::Event),
    /// Of a binding.
    Binding(BindingId, binding::Event),
    /// Of an assignment.
    Assignment(assignment::Key, assignment::Event),
    /// Of a host.
    Host(HostId, host::Event),
    /// Of a rotation.
    Rotation(RotationId, rotation::Event),
    /// Of a revocation.
    Revocation(RevocationId, revocation::Event),
    /// Of a store outside.
    Store(StoreId, store::Event),
    /// Of a service's rollout.
    Rollout(rollout::Service, rollout::Event),
    /// Of a notification.
    Notification(NotificationId, notification::Event),
    /// Of a source of signals.
    Signal(SignalSourceId, signal::Event),
    /// Of a playbook.
    Playbook(PlaybookId, playbook::Event),
    /// Of a run of a playbook.
    PlaybookRun(RunId, playbook_run::Event),
    /// Of the policies.
    Policy(PolicySetId, policy::Event),
    /// Of a token.
    Token(TokenId, token::Event),
    /// Of a request that takes several people.
    Approval(ApprovalId, approval::Event),
}

/// Names the aggregate of an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AggregateKey {
    /// A secret.
    Secret(SecretId),
    /// A binding.
    Binding(BindingId),
    /// An assignment.
    Assignment(assignment::Key),
    /// A host.
    Host(HostId),
    /// A rotation.
    Rotation(RotationId),
    /// A revocation.
    Revocation(RevocationId),
    /// A store outside.
    Store(StoreId),
    /// A service's rollout.
    Rollout(rollout::Service),
    /// A notification.
    Notification(NotificationId),
    /// A source of signals.
    Signal(SignalSourceId),
    /// A playbook.
    Playbook(PlaybookId),
    /// A run of a playbook.
    PlaybookRun(RunId),
    /// The policies.
    Policy(PolicySetId),
    /// A token.
    Token(TokenId),
    /// A request that takes several people.
    Approval(ApprovalId),
}

impl Event {
    /// The aggregate it belongs to.
    #[must_use]
    pub fn aggregate(&self) -> AggregateKey {
        match self {
            Self::Secret(id, _) => AggregateKey::Secret(*id),
            Self::Binding(id, _) => AggregateKey::Binding(*id),
            Self::Assignment(key, _) => AggregateKey::Assignment(key.clone()),
            Self::Host(id, _) => AggregateKey::Host(*id),
            Self::Rotation(id, _) => AggregateKey::Rotation(*id),
            Self::Revocation(id, _) => AggregateKey::Revocation(*id),
            Self::Store(id, _) => AggregateKey::Store(*id),
            Self::Rollout(service, _) => AggregateKey::Rollout(service.clone()),
            Self::Notification(id, _) => AggregateKey::Notification(*id),
            Self::Signal(id, _) => AggregateKey::Signal(*id),
            Self::Playbook(id, _) => AggregateKey::Playbook(*id),
            Self::PlaybookRun(id, _) => AggregateKey::PlaybookRun(*id),
            Self::Policy(id, _) => AggregateKey::Policy(*id),
            Self::Token(id, _) => AggregateKey::Token(*id),
            Self::Approval(id, _) => AggregateKey::Approval(*id),
        }
    }
}
