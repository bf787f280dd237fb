//! Everything anyone may ask for, as one type. Who may submit which command is the engine's table.

use std::collections::BTreeSet;

use crate::approval;
use crate::audit::Principal;
use crate::binding::{OnRevoke, Reload, Selector, Target};
use crate::host::{JoinRequest, KeyRequest, PermitRequest, SealingKey, TokenRequest};
use crate::id::{
    BindingId, HostId, NotificationId, PlaybookId, RevocationId, RotationId, SecretId,
    SignalSourceId, SlotId, StoreId,
};
use crate::name::{
    BindingName, HostName, NotificationName, PlaybookName, SecretName, SignalSourceName, StoreName,
};
use crate::notification;
use crate::playbook;
use crate::playbook_run;
use crate::policy;
use crate::report::HostReport;
use crate::revocation::Proof;
use crate::rotation::{Intervention, Sessions, Step};
use crate::secret;
use crate::signal::{self, Signal};
use crate::store::{RemoteVersion, StoreSpec};
use crate::time::Timestamp;
use crate::token;

/// What came of logins with what was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofTaken {
    /// The revocation.
    pub revocation: RevocationId,
    /// The attempt.
    pub attempt: u32,
    /// What came of them.
    pub proof: Proof,
}

/// Numbers of versions that were given out in a time that this log does not know, since it was put back to before it.
/// None of them may mean another version now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuryLost {
    /// The secret.
    pub secret: SecretName,
    /// The highest number that is known of that time.
    pub up_to: u64,
    /// Why, in words.
    pub reason: String,
}

/// A wish to have versions replaced, and unusable then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacing {
    /// The revocation.
    pub revocation: RevocationId,
    /// The rotation that brings the replacement, unless one is under way that does.
    pub rotation: RotationId,
    /// The secret.
    pub secret: SecretName,
    /// One version, or all that are alive.
    pub version: Option<u64>,
    /// Why, in a person's words.
    pub reason: String,
    /// Whether they die as soon as the replacement is promoted, and without one where there is none.
    pub is_emergency: bool,
}

/// What a person declares. Each one is decided on what those before it make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declaration {
    /// Registers a secret or changes what is asked of it.
    Secret {
        /// Id if the name is new.
        id: SecretId,
        /// Rotation that makes its first version, if it has a generator.
        rotation: RotationId,
        /// Its name.
        name: SecretName,
        /// The wish, whole.
        spec: secret::Spec,
    },
    /// Declares a store outside, or changes what is known about it.
    Store {
        /// Id if the name is new.
        id: StoreId,
        /// Its name.
        name: StoreName,
        /// The declaration, whole.
        spec: StoreSpec,
    },
    /// Binds, or changes a binding.
    Binding {
        /// Id if the name is new.
        id: BindingId,
        /// Its name.
        name: BindingName,
        /// The secret, by name.
        secret: SecretName,
        /// Further secrets that its templates name.
        also: BTreeSet<SecretName>,
        /// Which containers.
        selector: Selector,
        /// In what form.
        target: Target,
        /// What happens on change.
        reload: Reload,
        /// Those whose version before the current one its templates name, too.
        previous: BTreeSet<SecretName>,
        /// What befalls a container that loses a revoked value.
        on_revoke: OnRevoke,
    },
    /// Declares a notification, or changes what is known about it.
    Notification {
        /// Id if the name is new.
        id: NotificationId,
        /// Its name.
        name: NotificationName,
        /// The declaration, whole.
        spec: notification::Spec,
    },
    /// Declares a source of signals, or changes what is known about it.
    SignalSource {
        /// Id if the name is new.
        id: SignalSourceId,
        /// Its name.
        name: SignalSourceName,
        /// The declaration, whole.
        spec: signal::Spec,
    },
    /// Declares a playbook, or changes it.
    Playbook {
        /// Id if the name is new.
        id: PlaybookId,
        /// Its name.
        name: PlaybookName,
        /// The declaration, whole.
        spec: playbook::Spec,
    },
}

/// What store-sync saw at a secret's place outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The secret.
    pub secret: SecretId,
    /// The rotation that takes over what was found, if one is needed.
    pub rotation: RotationId,
    /// The version that was known when it looked; another one now makes the look worthless.
    pub known: Option<RemoteVersion>,
    /// The version that is current there; `None` when nothing is there.
    pub found: Option<RemoteVersion>,
    /// Whether the value of that version is the current one of ours: nothing has to be replaced.
    pub is_unchanged: bool,
    /// Whether the known lease of a container ended there; one that only cannot be renewed for long did not.
    pub is_gone: bool,
}

/// A request to change something. Ids of what it may create are drawn by the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes secrets and bindings as declared: all of it, or nothing.
    Apply(Vec<Declaration>),
    /// Takes a binding back.
    Unbind {
        /// Its name.
        name: BindingName,
    },
    /// Asks a store outside nothing any more.
    RemoveStore {
        /// Its name.
        name: StoreName,
    },
    /// store-sync looked at a secret's place outside.
    Observed(Observation),
    /// store-sync found that a store answers again, or does not any more.
    StoreContact {
        /// The store.
        store: StoreId,
        /// Why it does not answer, without a value; `None` when it does.
        failure: Option<String>,
    },
    /// Makes a new version; registers an unknown name in `local`.
    Put {
        /// Id if the name is new.
        id: SecretId,
        /// The rotation; a provided value waits in the stash under it.
        rotation: RotationId,
        /// The secret.
        name: SecretName,
        /// Whether the value was provided; otherwise it is generated.
        provided: bool,
    },
    /// Rotates now.
    Rotate {
        /// The rotation.
        rotation: RotationId,
        /// The secret.
        secret: SecretName,
    },
    /// A person steps into a rotation.
    Intervene {
        /// The rotation.
        rotation: RotationId,
        /// How.
        intervention: Intervention,
        /// Why, in a person's words.
        reason: String,
    },
    /// A schedule's slot is due.
    Due {
        /// The rotation.
        rotation: RotationId,
        /// The secret.
        secret: SecretId,
        /// The slot.
        slot: SlotId,
        /// When it was due, before jitter.
        scheduled: Timestamp,
        /// Number in the log of the event that leads to it; `None` for a slot of the schedule.
        after: Option<u64>,
        /// Release of the time zone rules by which it was due; `None` where no zone is asked, and from older
        /// schedulers.
        tzdata: Option<String>,
    },
    /// Makes versions unusable now.
    Revoke {
        /// The revocation.
        revocation: RevocationId,
        /// The secret.
        secret: SecretName,
        /// One version, or all that are alive.
        version: Option<u64>,
        /// Why, in a person's words.
        reason: String,
        /// Whether it goes before other revocations, too.
        is_emergency: bool,
    },
    /// Makes the gateway's own machine known as a host, or replaces its key.
    EnrolHost {
        /// The host.
        host: HostId,
        /// Its name.
        name: HostName,
        /// Values for it are sealed to this key.
        sealing_key: SealingKey,
    },
    /// Lets a machine join under a name, once.
    IssueJoinToken(TokenRequest),
    /// A machine comes with a join token and its own public keys.
    JoinHost(JoinRequest),
    /// A host that joined replaces its keys.
    RotateHostKey(KeyRequest),
    /// A gateway is about to make a permit for the bus.
    NotePermit(PermitRequest),
    /// Trusts a host with nothing any more.
    EvictHost {
        /// The host.
        host: HostId,
        /// Why, in a person's words.
        reason: String,
    },
    /// A worker answers a rotation's step.
    StepOutcome {
        /// The rotation.
        rotation: RotationId,
        /// The step.
        step: Step,
        /// The attempt.
        attempt: u32,
        /// Why it failed, without a value; `None` for success.
        failure: Option<String>,
        /// Whether it failed because the store could not be reached or did not answer in time: then it
        /// is tried until the store answers.
        is_away: bool,
        /// After `finish` the version that is current at the store outside, if the value lies there.
        remote: Option<RemoteVersion>,
        /// After `drain` the sessions that are left; `None` when the backend does not tell.
        sessions: Option<Sessions>,
    },
    /// A worker answers a revocation.
    RevokeOutcome {
        /// The revocation.
        revocation: RevocationId,
        /// The attempt.
        attempt: u32,
        /// Why it failed, without a value; `None` for success.
        failure: Option<String>,
    },
    /// A rotation's failed step is tried again.
    RetryStep {
        /// The rotation.
        rotation: RotationId,
    },
    /// A revocation's failed attempt is tried again.
    RetryRevoke {
        /// The revocation.
        revocation: RevocationId,
    },
    /// Waiting for a rotation's consumers ends.
    DeadlinePassed {
        /// The rotation.
        rotation: RotationId,
    },
    /// An injector says what is.
    Report(HostReport),
    /// The lease of a container that is gone is kept no longer.
    LingerEnded {
        /// The container's hidden secret.
        secret: SecretId,
    },
    /// A worker tells what came of logins with what was revoked.
    ProofOutcome(ProofTaken),
    /// A person would have a revocation's store asked no more; it takes two.
    ForgetRevocation {
        /// The revocation.
        revocation: RevocationId,
        /// Who.
        by: Principal,
        /// Why, in a person's words.
        reason: String,
    },
    /// What goes between here and others outside.
    Outward(Outward),
    /// Makes versions unusable once something else takes their place.
    Replace(Replacing),
    /// About a playbook or a run of one.
    Playbook(playbook_run::Request),
    /// Puts a set of policies in force.
    ApplyPolicies(policy::Request),
    /// About tokens.
    Token(token::Request),
    /// The log was put back to an earlier time.
    BuryLost(BuryLost),
    /// Holds every binding against the policies as they are by now.
    JudgeBindings,
    /// About what takes several people.
    Approval(approval::Request),
}

/// What goes between here and others outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outward {
    /// Tells a receiver nothing any more.
    RemoveNotification(NotificationName),
    /// Takes no signals of a source any more.
    RemoveSignalSource(SignalSourceName),
    /// Somebody outside says that something happened.
    TakeSignal(Signal),
}
