//! Facts about a rotation.

use crate::assignment;
use crate::id::{HostId, RunId, SecretId, SlotId};
use crate::store::RemoteVersion;
use crate::time::Timestamp;

/// A step the shell performs and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Make the new value and keep it as pending.
    Create,
    /// Make the backend accept it.
    Set,
    /// Show that the backend accepts it.
    Test,
    /// Make it current at the store.
    Finish,
    /// Make the old version unusable at the backend and destroy its data key.
    RevokeOld,
    /// Take back what was made of the new version.
    RollBack,
    /// Ask the backend for sessions of the old credential from before the last acknowledgement.
    Drain,
}

/// What a backend says of the sessions of the credentials that are to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// Where it draws the line: of what was opened before it, these are left. It means something only to
    /// the backend that made it.
    pub mark: i64,
    /// How many are open.
    pub left: u64,
}

/// Why a rotation began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The secret was registered and has no version yet.
    Initial,
    /// A person or tool asked.
    OnDemand,
    /// A person provided the value.
    Provided,
    /// Somebody changed the value at the store outside.
    External {
        /// The version there that is taken over.
        remote: RemoteVersion,
    },
    /// A schedule fired.
    Slot {
        /// The slot, accepted once.
        slot: SlotId,
        /// When it was due, before jitter.
        scheduled: Timestamp,
        /// Release of the time zone rules by which it was due; `None` where no zone was asked.
        tzdata: Option<String>,
    },
    /// A step of a playbook's run asked. What it replaces dies by a revocation of its own, which shows that it is dead.
    Playbook {
        /// The run.
        run: RunId,
    },
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every consumer runs on the new version and the old one is dead.
    Completed,
    /// Consumers run on the version before, and the new one is dead.
    RolledBack,
    /// Consumers were too slow; the old version stays alive and a person decides.
    Parked,
    /// A revocation took over.
    Cancelled,
}

/// What a person may do to a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intervention {
    /// Give it up: consumers keep, or get back, the version before.
    Abort,
    /// Try a failed step again, or wait for consumers once more.
    Retry,
    /// Wait for consumers no more: what they were to give up dies.
    Force,
}

/// A consumer that did not acknowledge when waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Straggler {
    /// The consumer.
    pub consumer: assignment::Key,
    /// What it lacks, without a value.
    pub reason: String,
}

/// What happened to a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It began.
    Started {
        /// The secret.
        secret: SecretId,
        /// The version it makes.
        version: u64,
        /// Why.
        trigger: Trigger,
    },
    /// A step is to be performed: the intent.
    StepStarted {
        /// The step.
        step: Step,
        /// First is 1.
        attempt: u32,
    },
    /// The step is done.
    StepCompleted {
        /// The step.
        step: Step,
    },
    /// The step failed.
    StepFailed {
        /// The step.
        step: Step,
        /// Which attempt.
        attempt: u32,
        /// Why, without a value.
        reason: String,
    },
    /// Consumers have to move; an empty list is done at once.
    DistributionStarted {
        /// Everyone who has to acknowledge.
        consumers: Vec<assignment::Key>,
        /// Every host that held an older version.
        hosts: Vec<HostId>,
        /// Versions that die at the end.
        old: Vec<u64>,
        /// When waiting ends.
        deadline: Timestamp,
    },
    /// A consumer showed that it runs on the new version, or is gone.
    ConsumerAcknowledged {
        /// The consumer.
        consumer: assignment::Key,
    },
    /// A host showed that it holds no older version.
    HostBarrierAcknowledged {
        /// The host.
        host: HostId,
    },
    /// A host was evicted: nothing waits for it, and what it may hold is on the eviction's list. Or, before a
    /// cut-over, no binding gives it the secret any more.
    HostReleased {
        /// The host.
        host: HostId,
    },
    /// Consumers were given leave to restart, or have to wait for it, or sessions are waited for from now on, so
    /// waiting ends later.
    DeadlineMoved {
        /// When waiting ends.
        deadline: Timestamp,
    },
    /// A consumer did not run well with what the rotation brings: nobody else gets it by a restart.
    Halted {
        /// The consumer.
        consumer: assignment::Key,
        /// Why, with the next step.
        reason: String,
    },
    /// The version before is current again, or is still current where only canaries had another one; consumers
    /// have to move back to it.
    TurnedBack {
        /// That version.
        version: u64,
        /// Everyone who has to acknowledge it.
        consumers: Vec<assignment::Key>,
        /// Every host that may hold the version of this rotation.
        hosts: Vec<HostId>,
        /// When waiting ends.
        deadline: Timestamp,
    },
    /// Waiting ended before everyone acknowledged.
    DeadlinePassed,
    /// Who did not acknowledge by then, and which hosts may hold what was to die.
    StragglersNamed {
        /// The consumers.
        consumers: Vec<Straggler>,
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// Nobody is waited for any more: what was to die at the end dies now.
    Forced,
    /// A person stepped in.
    Intervened {
        /// How.
        intervention: Intervention,
        /// Why, in a person's words.
        reason: String,
    },
    /// A parked one waits for consumers again.
    Reopened {
        /// The secret.
        secret: SecretId,
        /// Everyone who has to acknowledge.
        consumers: Vec<assignment::Key>,
        /// Every host that may hold what dies at the end.
        hosts: Vec<HostId>,
        /// When waiting ends.
        deadline: Timestamp,
    },
    /// It ended.
    Closed {
        /// How.
        outcome: Outcome,
    },
    /// Sessions of what dies at the end are open from before the last acknowledgement; they are asked for
    /// again.
    SessionsLeft {
        /// Which attempt at asking found them.
        attempt: u32,
        /// Where the backend draws the line.
        mark: i64,
        /// How many.
        sessions: u64,
        /// Since when they are waited for.
        since: Timestamp,
    },
    /// The backend does not tell its sessions: the old credential lives on for a grace instead.
    SessionsUntold {
        /// Which attempt at asking said so.
        attempt: u32,
        /// When the grace ends.
        until: Timestamp,
    },
    /// A cut-over: hosts take the version beforehand, and give it to nobody yet.
    StagingStarted {
        /// Every host with consumers.
        hosts: Vec<HostId>,
        /// When nobody is waited for any more.
        deadline: Timestamp,
    },
    /// A host has the version at hand.
    HostStaged {
        /// The host.
        host: HostId,
    },
    /// Hosts are waited for no more; `set` is next.
    StagingEnded {
        /// Those that did not say in time that they have it: they ask for it when they are to give it out.
        missing: Vec<HostId>,
    },
    /// From here on the server may refuse the version before, which consumers still have.
    CutOver {
        /// When that was first known to be so.
        at: Timestamp,
    },
    /// The last consumer came over.
    GapMeasured {
        /// When the version before was refused.
        since: Timestamp,
        /// When nobody needed it any more.
        until: Timestamp,
    },
    /// A few containers get the version before it is promoted; a start of theirs gets it, too.
    CanaryStarted {
        /// Who they are, with everything of the secret that they have.
        consumers: Vec<assignment::Key>,
        /// Their hosts.
        hosts: Vec<HostId>,
        /// When they have to have acknowledged.
        deadline: Timestamp,
    },
    /// All of them acknowledged, and are watched.
    CanaryWatched {
        /// Until then.
        until: Timestamp,
    },
    /// They ran well with it for as long as was asked; it is promoted next.
    CanaryPassed,
    /// Nobody gets the version before it is promoted, or is watched any longer.
    CanarySkipped {
        /// Why.
        reason: String,
    },
}
