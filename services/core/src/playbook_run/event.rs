//! What happens to a run, and the ways it says no.

use std::collections::BTreeMap;

use super::score::Score;
use crate::id::{
    ContainerId, HostId, NotificationId, PlaybookId, RevocationId, RotationId, RunId, SecretId,
};
use crate::name::PlaybookName;
use crate::playbook::Step;
use crate::time::Timestamp;

/// One thing that a step does something to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A secret.
    Secret {
        /// Which.
        secret: SecretId,
        /// The version to revoke; `None` for all, and for a rotation.
        version: Option<u64>,
    },
    /// A host.
    Host {
        /// Which.
        host: HostId,
    },
    /// Another playbook.
    Playbook {
        /// Which.
        name: PlaybookName,
    },
    /// A notification, whose receiver is told something.
    Notification {
        /// Which.
        notification: NotificationId,
    },
    /// A container.
    Container {
        /// Its host.
        host: HostId,
        /// Which.
        container: ContainerId,
        /// Its name, for people.
        name: String,
    },
}

/// What a step began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// A rotation.
    Rotation {
        /// Which.
        rotation: RotationId,
    },
    /// A revocation.
    Revocation {
        /// Which.
        revocation: RevocationId,
    },
    /// The eviction of a host.
    Eviction {
        /// Which.
        host: HostId,
    },
    /// A run of another playbook.
    Run {
        /// Which.
        run: RunId,
    },
    /// Nothing: it was as the step wants it already.
    Nothing,
    /// A message to a receiver: its event is the message.
    Message {
        /// The notification.
        notification: NotificationId,
    },
    /// The restart of a container.
    Restart {
        /// Its host.
        host: HostId,
    },
    /// The quarantine of a container.
    Quarantine {
        /// Its host.
        host: HostId,
    },
}

/// Why a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A person started it, or the step of a run did.
    Person,
    /// An event of the log.
    Event {
        /// Its number in the log.
        number: u64,
    },
    /// A slot of a schedule.
    Slot {
        /// When it was due.
        scheduled: Timestamp,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// No step failed, but those that may.
    Completed,
    /// A step failed.
    Failed,
    /// A person gave it up.
    Cancelled,
}

/// What a person may do to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intervention {
    /// Begin nothing more for now.
    Pause,
    /// Go on.
    Resume,
    /// Begin nothing more, ever. What it began goes on by itself.
    Cancel,
}

/// What happened to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It began.
    Triggered {
        /// The playbook.
        playbook: PlaybookId,
        /// Its name.
        name: PlaybookName,
        /// What it was told.
        arguments: BTreeMap<String, String>,
        /// Its steps, with that put in.
        steps: Vec<Step>,
        /// Who started it: `unix:0`, `certificate:anna`.
        by: String,
        /// Why, in that one's words.
        reason: String,
        /// The run whose step it is.
        parent: Option<RunId>,
        /// How many runs are above it.
        depth: u32,
        /// Why it began.
        cause: Cause,
    },
    /// A step began.
    StepStarted {
        /// The step.
        step: String,
        /// What it does something to, in this order.
        targets: Vec<Target>,
        /// When it has to be over.
        until: Timestamp,
    },
    /// A step did its deed to one of its targets.
    Acted {
        /// The step.
        step: String,
        /// Which of its targets; the first is 0.
        place: u32,
        /// What that began.
        begun: Begun,
    },
    /// A step could not do its deed to one of its targets.
    ActRefused {
        /// The step.
        step: String,
        /// Which of its targets; the first is 0.
        place: u32,
        /// Why.
        reason: String,
    },
    /// Somebody approved.
    Approved {
        /// The step.
        step: String,
        /// Who.
        by: String,
        /// Why, in that one's words.
        reason: String,
    },
    /// A step is done.
    StepCompleted {
        /// The step.
        step: String,
        /// What it found, in words; `None` for nothing beside that it is done.
        note: Option<String>,
    },
    /// A step failed.
    StepFailed {
        /// The step.
        step: String,
        /// Why.
        reason: String,
    },
    /// A step will not begin: what it comes after ended another way.
    StepSkipped {
        /// The step.
        step: String,
    },
    /// A person stepped in.
    Intervened {
        /// How.
        intervention: Intervention,
        /// Who.
        by: String,
        /// Why, in that one's words.
        reason: String,
    },
    /// It ended.
    Completed {
        /// How.
        outcome: Outcome,
        /// How many of what its steps were to begin were through by then.
        score: Score,
    },
    /// A step tells a receiver something: this event is what it is told.
    Notified {
        /// The step.
        step: String,
        /// Which of its targets; the first is 0.
        place: u32,
        /// The notification.
        notification: NotificationId,
        /// What it is told.
        text: String,
    },
    /// A receiver that is waited for has taken what it was told, or never will; or a host told what came of an order
    /// about a container.
    Answered {
        /// The step.
        step: String,
        /// Which of its targets; the first is 0.
        place: u32,
        /// Why it did not take it, or the order was not carried out; `None` when it did, or was.
        failure: Option<String>,
        /// When an order was over; `None` for a receiver's answer.
        at: Option<Timestamp>,
    },
}

/// A normal "no" about a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such run, or ended long ago.
    #[error("no playbook run {0}; `keywheel playbook runs` lists them")]
    Unknown(RunId),
    /// It ended.
    #[error("playbook run {0} has ended; start another one with `keywheel playbook run`")]
    Ended(RunId),
    /// An incident needs a reason on the record.
    #[error("a playbook run needs a reason; give one with --reason \"…\"")]
    ReasonMissing,
    /// Longer than a record holds.
    #[error("the reason has more than {0} characters; say it shorter")]
    ReasonTooLong(usize),
    /// No person is waited for.
    #[error("playbook run {run} waits for nobody's approval{}; `keywheel playbook describe-run {run}` shows where it stands", step.as_ref().map(|step| format!(" at step `{step}`")).unwrap_or_default())]
    NothingToApprove {
        /// The run.
        run: RunId,
        /// The step that was named.
        step: Option<String>,
    },
    /// Several steps wait.
    #[error(
        "several steps of playbook run {run} wait for an approval: {steps}; name one with --step"
    )]
    WhichStep {
        /// The run.
        run: RunId,
        /// Their names.
        steps: String,
    },
    /// One principal, one approval.
    #[error("`{by}` approved step `{step}` already; another principal has to")]
    ApprovedAlready {
        /// The step.
        step: String,
        /// Who.
        by: String,
    },
    /// Who has somebody's token need not be that person.
    #[error(
        "`{by}` came with a token, and approving playbook run {run} takes people: approve it without one, with a login (`keywheel login`), a client certificate or at the unix socket"
    )]
    NoPerson {
        /// The run.
        run: RunId,
        /// Whose token.
        by: String,
    },
    /// Who starts a run does not approve it.
    #[error("`{by}` started playbook run {run}; another principal has to approve it")]
    OwnRun {
        /// The run.
        run: RunId,
        /// Who.
        by: String,
    },
    /// Whom a step leaves out does not approve it.
    #[error(
        "step `{step}` of playbook run {run} is not for `{by}` to approve, whom it leaves out; another principal has to"
    )]
    LeftOut {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// Who.
        by: String,
    },
    /// A pause of what is paused, or a resumption of what is not.
    #[error("playbook run {run} is {}", if *paused { "paused already; go on with `keywheel playbook resume`" } else { "not paused; there is nothing to resume" })]
    PausedAlready {
        /// The run.
        run: RunId,
        /// Whether it is paused.
        paused: bool,
    },
    /// Too many at once.
    #[error(
        "{limit} playbook runs are open already; wait for one, or cancel one: `keywheel playbook runs` lists them"
    )]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// Playbooks that run each other without an end.
    #[error("playbooks run each other more than {limit} deep; take one of the `run` steps out")]
    TooDeep {
        /// How deep they may.
        limit: u32,
    },
    /// More text than one event takes.
    #[error(
        "the steps of playbook `{playbook}` have {bytes} bytes of text with their parameters put in; at most {limit} are allowed; write fewer parameters into one text"
    )]
    TooLarge {
        /// The playbook.
        playbook: PlaybookName,
        /// How many.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A trigger that is there no more.
    #[error(
        "playbook `{0}` has no such trigger any more; `keywheel playbook describe {0}` shows those it has"
    )]
    NotTriggered(PlaybookName),
    /// An answer of a receiver that no step waits for.
    #[error("step `{step}` of playbook run {run} waits for no answer of a receiver")]
    NotCalled {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
    },
    /// A timer of a step that waits no more, or for longer.
    #[error("step `{step}` of playbook run {run} is not due")]
    NotDue {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
    },
}
