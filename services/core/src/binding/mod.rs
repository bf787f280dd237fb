//! The binding: which containers get which secret, in what form, and what happens on change.
//!
//! A binding grants; a label or placeholder alone only asks (rule Z2).

mod event;
mod part;
mod selector;
mod service;
#[cfg(test)]
mod tests;

pub use event::{Binding, Denial, Event, Rejection, Withheld};
pub use part::Part;
pub use selector::{ContainerFacts, ImageSelector, Selector, user_of};

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::SecretId;
use crate::name::{Directory, EnvName, FileName};

/// How long a container without a health check must run to count as healthy, by default.
pub const DEFAULT_SETTLE: Duration = Duration::from_secs(10);
/// How long a health check may take to turn healthy, by default.
pub const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a reload command may take, by default.
pub const DEFAULT_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Directory of the files, by default.
pub const DEFAULT_DIRECTORY: &str = "/run/secrets";

/// The form in which a container gets the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file in an injector-owned, read-only directory.
    File {
        /// The directory inside the container.
        directory: Directory,
        /// The file's name.
        name: FileName,
        /// Owner inside the container.
        uid: u32,
        /// Group inside the container.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// What stands in it around the value; `None`: the value as it is.
        template: Option<String>,
    },
    /// Several files in a directory of their own that changes as a whole.
    Files {
        /// Where that directory is, inside the container.
        directory: Directory,
        /// Its name.
        name: FileName,
        /// Owner of the files inside the container.
        uid: u32,
        /// Group inside the container.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// The files, by name.
        files: Vec<SetFile>,
    },
    /// An env variable of the container's first program: the weaker tier.
    Env {
        /// The variable.
        name: EnvName,
    },
}

/// One of several files that change together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFile {
    /// Its name.
    pub name: FileName,
    /// What stands in it.
    pub template: String,
}

/// How the restarts of one service go, over all hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// Containers that may restart at the same time; at least 1.
    pub max_parallel: u32,
    /// Containers that may be unavailable at the same time, those that restart among them; at least 1.
    pub max_unavailable: u32,
    /// Pause after one is through, before the next restarts.
    pub delay: Duration,
    /// How long a healthy one is watched before it counts as running well.
    pub monitor: Duration,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_parallel: 1,
            max_unavailable: 1,
            delay: Duration::ZERO,
            monitor: Duration::ZERO,
        }
    }
}

impl Rollout {
    /// What keeps to both.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        Self {
            max_parallel: self.max_parallel.min(other.max_parallel),
            max_unavailable: self.max_unavailable.min(other.max_unavailable),
            delay: self.delay.max(other.delay),
            monitor: self.monitor.max(other.monitor),
        }
    }
}

/// What makes a consumer use the new value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reload {
    /// It reads the file again by itself.
    #[default]
    None,
    /// A signal to the container's first program, by number.
    Signal(i32),
    /// A restart in place, gated on health.
    Restart {
        /// How long it must run when it has no health check.
        settle: Duration,
        /// How long its health check may take.
        health_timeout: Duration,
        /// With it the gateway gives leave to restart, one service over all hosts; without it each host
        /// restarts one container of a service at a time by itself.
        rollout: Option<Rollout>,
    },
    /// A command in the container, as `docker exec` runs one; its exit code 0 is the acknowledgement.
    Command {
        /// The program and its arguments, without a shell; never empty. It is on record: no place for a
        /// value.
        argv: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
    /// Whatever the container's label says. The binding lets it; a label alone moves nothing.
    Label,
}

/// What befalls a container beside that its file goes, when a value that it has is revoked and no other is to be
/// had. Where several bindings say so, the last of these words counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum OnRevoke {
    /// Nothing: it runs on without its file. One that has the value in a variable is stopped.
    #[default]
    Remove,
    /// It is restarted, without the file.
    Restart,
    /// It is cut off all its networks.
    Disconnect,
    /// Its processes are frozen.
    Pause,
    /// It is stopped.
    Stop,
}

impl OnRevoke {
    /// All of them, with the words of manifests and state files.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("remove", Self::Remove),
        ("restart", Self::Restart),
        ("disconnect", Self::Disconnect),
        ("pause", Self::Pause),
        ("stop", Self::Stop),
    ];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Restart => "restart",
            Self::Disconnect => "disconnect",
            Self::Pause => "pause",
            Self::Stop => "stop",
        }
    }

    /// The one of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words.find_map(|(known, one)| (known == word).then_some(one))
    }
}

/// What a consumer has to show before the old version may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckLevel {
    /// File replaced and read back.
    Swapped,
    /// Caught signal delivered, reload command ended well, or restarted and healthy.
    Reloaded,
}

/// What a binding says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The secret.
    pub secret: SecretId,
    /// Further secrets that its templates name; granted like the first. A container gets all of them or
    /// none.
    pub also: BTreeSet<SecretId>,
    /// Which containers.
    pub selector: Selector,
    /// In what form.
    pub target: Target,
    /// What happens on change.
    pub reload: Reload,
    /// Those among its secrets whose version before the current one its templates name, too.
    pub previous: BTreeSet<SecretId>,
    /// What befalls a container that loses a revoked value.
    pub on_revoke: OnRevoke,
}

impl Spec {
    /// Whether it gives out this secret, as the first or as a further one.
    #[must_use]
    pub fn names(&self, secret: SecretId) -> bool {
        self.secret == secret || self.also.contains(&secret)
    }

    /// Every secret that it gives out, the first one first.
    pub fn secrets(&self) -> impl Iterator<Item = SecretId> {
        std::iter::once(self.secret).chain(self.also.iter().copied())
    }

    /// The level a consumer under this binding has to reach.
    #[must_use]
    pub fn ack_level(&self) -> AckLevel {
        match (&self.target, &self.reload) {
            (Target::File { .. } | Target::Files { .. }, Reload::None) => AckLevel::Swapped,
            _ => AckLevel::Reloaded,
        }
    }
}
