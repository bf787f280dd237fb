//! The playbook: what is done in an incident or a drill, as a person declared it.
//!
//! It says what, after what and by when; a run (`playbook_run`) does it. Steps are a graph: each names
//! those that have to be over before it begins, and whether they have to be done or to have failed. So
//! branches beside each other and paths after a failure are the same thing.

mod check;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::binding::OnRevoke;
use crate::id::PlaybookId;
use crate::name::{NotificationName, PlaybookName};
use crate::playbook_run::Cause;

pub use check::Fault;
pub use resolve::{parameters_of, put_in};

/// Most steps of one playbook, those of its branches and failure paths among them.
pub const MAX_STEPS: usize = 64;
/// Most parameters of one playbook.
pub const MAX_PARAMETERS: usize = 16;
/// Most selections of one step.
pub const MAX_SELECTIONS: usize = 64;
/// Most secrets that one step may mean: its list is one event.
pub const MAX_TARGETS: usize = 1000;
/// Most principals that one step may wait for.
pub const MAX_APPROVALS: u32 = 8;
/// Most principals that one such step may leave out.
pub const MAX_LEFT_OUT: usize = 8;
/// Longest name of a step or parameter, in bytes.
pub const MAX_WORD_BYTES: usize = 64;
/// Longest value of a parameter, in bytes.
pub const MAX_ARGUMENT_BYTES: usize = 255;
/// Shortest deadline of a step, and shortest wait.
pub const MIN_DEADLINE: Duration = Duration::from_secs(1);
/// Longest deadline of a step, and longest wait: a week.
pub const MAX_DEADLINE: Duration = Duration::from_secs(7 * 86_400);
/// Most triggers of one playbook.
pub const MAX_TRIGGERS: usize = 8;
/// For how long events that tell a run the same begin no other one, unless the trigger says another time.
pub const DEFAULT_HOLD_OFF: Duration = Duration::from_secs(600);
/// What a trigger's arguments may name of its event, beside what lies below [`EVENT_DATA`].
pub const EVENT_WORDS: [&str; 2] = ["event.secret", "event.host"];
/// How what a trigger's arguments name of its event's data begins: `event.data.fields.secret` of a signal.
pub const EVENT_DATA: &str = "event.data.";
/// What a quarantine may do to a container.
pub const QUARANTINE_ACTIONS: [OnRevoke; 3] =
    [OnRevoke::Disconnect, OnRevoke::Pause, OnRevoke::Stop];
/// Longest text of a message, in bytes, before its parameters are put in.
pub const MAX_MESSAGE_BYTES: usize = 500;
/// How long a step may take that says nothing.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(3600);

/// What a run has to be told, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name; steps write it as `${name}`.
    pub name: String,
    /// What it is when a run is not told; `None` when a run has to be told.
    pub default: Option<String>,
}

/// Which secrets a step means. Each text may hold parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One, by name.
    Secret {
        /// The name.
        name: String,
    },
    /// All whose names begin with this path.
    Prefix {
        /// The path, without a slash at its end.
        path: String,
    },
    /// All that a host may hold, also one that was evicted since the run began.
    HeldBy {
        /// The host, by name or id.
        host: String,
    },
    /// All that lie in a store.
    Store {
        /// The store, by name.
        name: String,
    },
    /// What a container has, or is to have.
    Container {
        /// The container, by its name, or its id or the beginning of that.
        name: String,
    },
    /// The same of every container of an image.
    Image {
        /// The image's config digest.
        digest: String,
    },
    /// The same of every container of a service.
    Service {
        /// `PROJECT/SERVICE` under Compose, or `SERVICE` for that of every project.
        name: String,
    },
}

impl Selection {
    /// Its text, which may hold parameters.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Secret { name }
            | Self::Store { name }
            | Self::Container { name }
            | Self::Service { name } => name,
            Self::Prefix { path } => path,
            Self::HeldBy { host } => host,
            Self::Image { digest } => digest,
        }
    }

    /// The same with another text.
    #[must_use]
    pub fn with(&self, text: String) -> Self {
        match self {
            Self::Secret { .. } => Self::Secret { name: text },
            Self::Prefix { .. } => Self::Prefix { path: text },
            Self::HeldBy { .. } => Self::HeldBy { host: text },
            Self::Store { .. } => Self::Store { name: text },
            Self::Container { .. } => Self::Container { name: text },
            Self::Image { .. } => Self::Image { digest: text },
            Self::Service { .. } => Self::Service { name: text },
        }
    }
}

/// Which versions of a secret a step revokes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// All that are alive.
    Alive,
    /// Those that are alive and older than the current one.
    Old,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Begins a rotation of each secret; one whose secret rotates already begins after that.
    Rotate {
        /// Which secrets.
        secrets: Vec<Selection>,
    },
    /// Revokes versions of each secret.
    Revoke {
        /// Which secrets.
        secrets: Vec<Selection>,
        /// Which of their versions.
        which: Which,
    },
    /// Evicts a host.
    Evict {
        /// The host, by name or id; may hold parameters.
        host: String,
    },
    /// Waits until all that steps before it began has ended well, or for a time.
    Wait {
        /// The time; `None` for what steps before it began.
        span: Option<Duration>,
    },
    /// Waits for people.
    Approve {
        /// How many different principals, without the one who started the run.
        count: u32,
        /// Who is none of them, as approvals name people; texts may hold parameters.
        not: Vec<String>,
    },
    /// Runs another playbook and waits for its end.
    Run {
        /// Which.
        playbook: PlaybookName,
        /// What it is told; values may hold parameters.
        arguments: BTreeMap<String, String>,
    },
    /// Waits until no host has what steps before it replace or revoke, as far back as the wait before it.
    Withdrawn,
    /// Waits until a login with each credential that steps before it replaced or revoked was refused, or says that
    /// it cannot be tried.
    Prove,
    /// Tells receivers of notifications something, whatever else they are told.
    Notify {
        /// The notifications.
        notifications: Vec<NotificationName>,
        /// What they are told; may hold parameters.
        text: String,
    },
    /// Tells one receiver something, and waits until it has taken it.
    Call {
        /// The notification.
        notification: NotificationName,
        /// What it is told; may hold parameters.
        text: String,
    },
    /// Restarts containers, as many at a time as their services let, and waits until each runs well.
    Restart {
        /// Which: those that are named, that have the secrets that are named, or that are on the host.
        containers: Vec<Selection>,
    },
    /// Cuts containers off, pauses or stops them, and gives them nothing any more until a person lifts that.
    Quarantine {
        /// Which, as of a restart.
        containers: Vec<Selection>,
        /// What is done to them: one of [`QUARANTINE_ACTIONS`].
        action: OnRevoke,
    },
}

/// What has to be over before a step begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// The step.
    pub step: String,
    /// Whether it has to have failed; else it has to be done.
    pub failed: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name, unique in the playbook.
    pub name: String,
    /// What it does.
    pub deed: Deed,
    /// What has to be over before it begins: all of them.
    pub after: Vec<After>,
    /// How long it may take.
    pub deadline: Duration,
    /// Whether the run goes on as if it was done when it fails.
    pub may_fail: bool,
}

impl Step {
    /// Whether somebody, as approvals name people, is not to approve it.
    #[must_use]
    pub fn leaves_out(&self, who: &str) -> bool {
        match &self.deed {
            Deed::Approve { not, .. } => not.iter().any(|one| one == who),
            _ => false,
        }
    }
}

/// What begins a run besides a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// An event of the log.
    Event {
        /// Its type.
        event: String,
        /// What has to hold for it, in CEL, checked by whoever took it in; `None` for every one.
        when: Option<String>,
        /// For how long another event that tells the same begins no other run.
        hold_off: Duration,
        /// What a run is told; values may name [`EVENT_WORDS`].
        arguments: BTreeMap<String, String>,
    },
    /// A cron line.
    Schedule {
        /// The line, checked by whoever took it in.
        expression: String,
        /// Its time zone.
        timezone: String,
        /// What a run is told.
        arguments: BTreeMap<String, String>,
    },
}

/// What a person declared, whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spec {
    /// What a run is told.
    pub parameters: Vec<Parameter>,
    /// What it does.
    pub steps: Vec<Step>,
    /// What begins a run besides a person.
    pub triggers: Vec<Trigger>,
}

/// What happened to a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It may be run from now on.
    Declared {
        /// Its name, for ever.
        name: PlaybookName,
        /// What a person declared.
        spec: Spec,
    },
    /// A later manifest says something else; runs that are open go on as they began.
    Changed {
        /// The new declaration, whole.
        spec: Spec,
    },
    /// It may not be run any more.
    Removed,
}

/// A normal "no" about a playbook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No playbook has that name.
    #[error(
        "no playbook is named `{0}`; `keywheel playbook list` lists them, and `kind: Playbook` declares one"
    )]
    Unknown(PlaybookName),
    /// It cannot be as it was declared.
    #[error("playbook `{playbook}`: {fault}")]
    Faulty {
        /// The playbook.
        playbook: PlaybookName,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A run has to be told something.
    #[error(
        "playbook `{playbook}` has to be told `{parameter}`; give it with `--set {parameter}=…`"
    )]
    ArgumentMissing {
        /// The playbook.
        playbook: PlaybookName,
        /// The parameter.
        parameter: String,
    },
    /// It has no such parameter.
    #[error(
        "playbook `{playbook}` has no parameter `{parameter}`; `keywheel playbook describe {playbook}` shows those it has"
    )]
    ArgumentUnknown {
        /// The playbook.
        playbook: PlaybookName,
        /// The parameter.
        parameter: String,
    },
    /// A value is longer than any name.
    #[error(
        "`{parameter}` has more than {MAX_ARGUMENT_BYTES} bytes, or a control character; give a name"
    )]
    ArgumentOff {
        /// The parameter.
        parameter: String,
    },
    /// Another one runs it.
    #[error("playbook `{other}` runs playbook `{playbook}`; change or remove that first")]
    InUse {
        /// The playbook.
        playbook: PlaybookName,
        /// The other one.
        other: PlaybookName,
    },
}

/// One playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playbook {
    /// Its id.
    pub id: PlaybookId,
    /// Its name.
    pub name: PlaybookName,
    /// What a person declared.
    pub spec: Spec,
}

impl Playbook {
    /// What has to be said for it to be as wished; `None` when it is.
    #[must_use]
    pub fn decide_declare(&self, spec: &Spec) -> Option<Event> {
        (self.spec != *spec).then(|| Event::Changed { spec: spec.clone() })
    }

    /// Folds one event; total. Declaring and removing are the world's.
    pub fn evolve(&mut self, event: &Event) {
        if let Event::Changed { spec } = event {
            self.spec = spec.clone();
        }
    }
}

impl Trigger {
    /// What a run is told.
    #[must_use]
    pub const fn arguments(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Event { arguments, .. } | Self::Schedule { arguments, .. } => arguments,
        }
    }
}

impl Spec {
    /// Whether a run may begin for this cause, and be told this: what a trigger does not take from its event is as
    /// it was declared.
    #[must_use]
    pub fn allows(&self, cause: Cause, told: &BTreeMap<String, String>) -> bool {
        let is_of_event = |text: &str| parameters_of(text).is_none_or(|named| !named.is_empty());
        let is_meant = |trigger: &&Trigger| match (trigger, cause) {
            (Trigger::Event { .. }, Cause::Event { .. })
            | (Trigger::Schedule { .. }, Cause::Slot { .. }) => {
                let declared = trigger.arguments();
                let mut pairs = declared.values().zip(told.values());
                declared.keys().eq(told.keys())
                    && pairs.all(|(text, value)| is_of_event(text) || text == value)
            }
            _ => false,
        };
        cause == Cause::Person || self.triggers.iter().any(|trigger| is_meant(&trigger))
    }

    /// Playbooks that its steps run.
    pub fn runs(&self) -> impl Iterator<Item = &PlaybookName> {
        self.steps.iter().filter_map(|step| match &step.deed {
            Deed::Run { playbook, .. } => Some(playbook),
            _ => None,
        })
    }
}

/// Whether a text names somebody as approvals do; in any other spelling it would leave nobody out. The letters are those
/// that names in certificates, and of logins, are made of.
#[must_use]
pub fn is_person(text: &str) -> bool {
    let Some((kind, name)) = text.split_once(':') else {
        return false;
    };
    let is_small = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-@".contains(&b);
    let is_of_login = |b: u8| is_small(b) || b.is_ascii_uppercase() || b"+|".contains(&b);
    match kind {
        "unix" => name.parse::<u32>().is_ok_and(|uid| uid.to_string() == name),
        "certificate" => !name.is_empty() && name.bytes().all(is_small),
        "oidc" => !name.is_empty() && name.bytes().all(is_of_login),
        _ => false,
    }
}

/// What a step that waits for people waits for, in words.
#[must_use]
pub fn approval_words(count: u32, not: &[String]) -> String {
    let waits = match count {
        1 => "wait for an approval".to_owned(),
        count => format!("wait for {count} approvals"),
    };
    match not {
        [] => waits,
        not => format!("{waits}, not by {}", not.join(", ")),
    }
}

impl Deed {
    /// What a manifest calls it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Rotate { .. } => "rotate",
            Self::Revoke { .. } => "revoke",
            Self::Evict { .. } => "evict",
            Self::Wait { .. } => "wait",
            Self::Approve { .. } => "approve",
            Self::Run { .. } => "run",
            Self::Withdrawn => "wait until withdrawn",
            Self::Prove => "prove",
            Self::Notify { .. } => "notify",
            Self::Call { .. } => "call",
            Self::Restart { .. } => "restart",
            Self::Quarantine { .. } => "quarantine",
        }
    }
}
