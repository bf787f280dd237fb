//! Events of a binding, and the shapes of selector, target and reload.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::binding;
use keywheel_core::id::{ContainerId, SecretId};
use keywheel_core::name::{BindingName, Directory, EnvName, FileName, HostName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::leaf::Mode;
use crate::mirror::{Mirror, Set, Text, mirror_enum, mirror_struct, mirror_words};

/// How an image is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// Config digest: exactly this image.
    Digest(String),
    /// Repository, with or without tag: weaker.
    Repository(String),
}

impl Mirror for Image {
    type Core = binding::ImageSelector;
    fn of(core: &Self::Core) -> Self {
        match core {
            binding::ImageSelector::Digest(text) => Self::Digest(text.clone()),
            binding::ImageSelector::Repository(text) => Self::Repository(text.clone()),
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::Digest(text) => binding::ImageSelector::Digest(text),
            Self::Repository(text) => binding::ImageSelector::Repository(text),
        }
    }
}

mirror_struct! {
    /// Which containers a binding means; every part that is given must hold.
    Selector = binding::Selector {
        /// The host they run on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<Text<HostName>>,
        /// The image they were made from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<Image>,
        /// Labels they carry.
        labels: BTreeMap<String, String>,
        /// A person accepts a selector that does not name host and image.
        insecure: bool,
        /// Exactly this container; only in a plan, for a lease.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<Text<ContainerId>>,
        /// The name they were given, or how it begins, with `*` behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The user that their programs run as, without a group; root is `0`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    }
}

mirror_struct! {
    /// One of several files that change together.
    SetFile = binding::SetFile {
        /// Its name.
        name: Text<FileName>,
        /// What stands in it.
        template: String,
    }
}

/// The form in which a container gets the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A file in an injector-owned, read-only directory.
    File {
        /// The directory inside the container.
        directory: Text<Directory>,
        /// The file's name.
        name: Text<FileName>,
        /// Owner inside the container.
        uid: u32,
        /// Group inside the container.
        gid: u32,
        /// Permission bits, octal.
        mode: Text<Mode>,
        /// What stands in it around the value; absent: the value as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        template: Option<String>,
    },
    /// Several files in a directory of their own that changes as a whole.
    Files {
        /// Where that directory is, inside the container.
        directory: Text<Directory>,
        /// Its name.
        name: Text<FileName>,
        /// Owner of the files inside the container.
        uid: u32,
        /// Group inside the container.
        gid: u32,
        /// Permission bits, octal.
        mode: Text<Mode>,
        /// The files, by name.
        files: Vec<SetFile>,
    },
    /// An env variable of the container's first program.
    Env {
        /// The variable.
        name: Text<EnvName>,
    },
}

impl Mirror for Target {
    type Core = binding::Target;
    fn of(core: &Self::Core) -> Self {
        match core {
            binding::Target::File {
                directory,
                name,
                uid,
                gid,
                mode,
                template,
            } => Self::File {
                directory: Text(directory.clone()),
                name: Text(name.clone()),
                uid: *uid,
                gid: *gid,
                mode: Text(Mode(*mode)),
                template: template.clone(),
            },
            binding::Target::Files {
                directory,
                name,
                uid,
                gid,
                mode,
                files,
            } => Self::Files {
                directory: Text(directory.clone()),
                name: Text(name.clone()),
                uid: *uid,
                gid: *gid,
                mode: Text(Mode(*mode)),
                files: Mirror::of(files),
            },
            binding::Target::Env { name } => Self::Env {
                name: Text(name.clone()),
            },
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::File {
                directory,
                name,
                uid,
                gid,
                mode,
                template,
            } => binding::Target::File {
                directory: directory.0,
                name: name.0,
                uid,
                gid,
                mode: mode.0.0,
                template,
            },
            Self::Files {
                directory,
                name,
                uid,
                gid,
                mode,
                files,
            } => binding::Target::Files {
                directory: directory.0,
                name: name.0,
                uid,
                gid,
                mode: mode.0.0,
                files: files.into_core(),
            },
            Self::Env { name } => binding::Target::Env { name: name.0 },
        }
    }
}

mirror_struct! {
    /// How the restarts of one service go, over all hosts.
    Rollout = binding::Rollout {
        /// Containers that may restart at the same time.
        max_parallel: u32,
        /// Containers that may be unavailable at the same time.
        max_unavailable: u32,
        /// Pause after one is through, before the next restarts.
        delay: Text<Duration>,
        /// How long a healthy one is watched before it counts as running well.
        monitor: Text<Duration>,
    }
}

/// What makes a consumer use the new value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reload {
    /// It reads the file again by itself.
    None {},
    /// A signal to the container's first program.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// A restart in place, gated on health.
    Restart {
        /// How long it must run when it has no health check.
        settle: Text<Duration>,
        /// How long its health check may take.
        health_timeout: Text<Duration>,
        /// Absent: each host restarts one container of a service at a time by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<Rollout>,
    },
    /// A command in the container; its exit code 0 is the acknowledgement.
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
        /// How long it may take.
        timeout: Text<Duration>,
    },
    /// Whatever the container's label says.
    Label {},
}

impl Mirror for Reload {
    type Core = binding::Reload;
    fn of(core: &Self::Core) -> Self {
        match core {
            binding::Reload::None => Self::None {},
            binding::Reload::Signal(signal) => Self::Signal { signal: *signal },
            binding::Reload::Restart {
                settle,
                health_timeout,
                rollout,
            } => Self::Restart {
                settle: Text(*settle),
                health_timeout: Text(*health_timeout),
                rollout: Mirror::of(rollout),
            },
            binding::Reload::Command { argv, timeout } => Self::Command {
                argv: argv.clone(),
                timeout: Text(*timeout),
            },
            binding::Reload::Label => Self::Label {},
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::None {} => binding::Reload::None,
            Self::Signal { signal } => binding::Reload::Signal(signal),
            Self::Restart {
                settle,
                health_timeout,
                rollout,
            } => binding::Reload::Restart {
                settle: settle.0,
                health_timeout: health_timeout.0,
                rollout: rollout.into_core(),
            },
            Self::Command { argv, timeout } => binding::Reload::Command {
                argv,
                timeout: timeout.0,
            },
            Self::Label {} => binding::Reload::Label,
        }
    }
}

mirror_struct! {
    /// What a binding says.
    BindingSpec = binding::Spec {
        /// The secret.
        secret: Text<SecretId>,
        /// Further secrets that its templates name; seldom any.
        #[serde(default, skip_serializing_if = "Set::is_empty")]
        also: Set<Text<SecretId>>,
        /// Which containers.
        selector: Selector,
        /// In what form.
        target: Target,
        /// What happens on change.
        reload: Reload,
        /// Those whose version before the current one its templates name, too; seldom any.
        #[serde(default, skip_serializing_if = "Set::is_empty")]
        previous: Set<Text<SecretId>>,
        /// What befalls a container that loses a revoked value; absent: its file goes.
        #[serde(default, skip_serializing_if = "OnRevoke::is_remove")]
        on_revoke: OnRevoke,
    }
}

mirror_words! {
    /// What befalls a container beside that its file goes, when a value that it has is revoked and no other is to
    /// be had.
    #[derive(Default)]
    OnRevoke = binding::OnRevoke {
        /// Nothing.
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
}

impl OnRevoke {
    /// Whether only the file goes.
    pub(crate) fn is_remove(&self) -> bool {
        *self == Self::Remove
    }
}

mirror_struct! {
    /// What policies said of the service that a binding is for.
    BindingDenial = binding::Denial {
        /// The service, as policies name it.
        service: String,
        /// The first of the binding's secrets that it may not have.
        secret: Text<SecretId>,
        /// What decided.
        reason: String,
    }
}

mirror_enum! {
    /// What happened to a binding.
    BindingEvent = binding::Event {
        /// It grants from now on, or grants something else than before.
        Bound {
            /// Its name, for ever.
            name: Text<BindingName>,
            /// What it grants, whole.
            spec: BindingSpec,
        },
        /// It grants nothing any more.
        Unbound {},
        /// It is declared and grants nothing, for policies say that its service may not have what it would give.
        Withheld {
            /// Its name, for ever.
            name: Text<BindingName>,
            /// What it would grant, whole.
            spec: BindingSpec,
            /// What policies said.
            denial: BindingDenial,
        },
    }
}
