//! Events of a secret, and the shapes of what a person asked for.

use std::time::Duration;

use keywheel_core::id::{ContainerId, DeliveryId, HostId, RotationId, SecretId};
use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::store::RemoteVersion;
use keywheel_core::time::Timestamp;
use keywheel_core::{lease, schedule, secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::{Probe, Resource};
use super::store::Source;
use crate::mirror::{Mirror, Text, mirror_enum, mirror_struct, mirror_words};

mirror_words! {
    /// What happens to a slot nobody served in time.
    MissedRun = schedule::MissedRun {
        /// One catch-up run, however many slots were missed.
        Once,
        /// Wait for the next slot.
        Skip,
    }
}

mirror_struct! {
    /// How a new value is made.
    Generator = secret::Generator {
        /// Characters in a value.
        length: u32,
        /// Characters to draw from; empty means the default alphabet.
        alphabet: String,
        /// Characters never drawn.
        exclude: String,
    }
}

/// The rule for the next fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Only on demand.
    OnDemand {},
    /// A cron line in an IANA time zone.
    Cron {
        /// The line.
        expression: String,
        /// The zone.
        timezone: String,
    },
    /// Every so often after the last promotion.
    Interval {
        /// How often.
        every: Text<Duration>,
    },
}

impl Mirror for Schedule {
    type Core = schedule::Schedule;
    fn of(core: &Self::Core) -> Self {
        match core {
            schedule::Schedule::OnDemand => Self::OnDemand {},
            schedule::Schedule::Cron {
                expression,
                timezone,
            } => Self::Cron {
                expression: expression.clone(),
                timezone: timezone.clone(),
            },
            schedule::Schedule::Interval(every) => Self::Interval {
                every: Text(*every),
            },
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::OnDemand {} => schedule::Schedule::OnDemand,
            Self::Cron {
                expression,
                timezone,
            } => schedule::Schedule::Cron {
                expression,
                timezone,
            },
            Self::Interval { every } => schedule::Schedule::Interval(every.0),
        }
    }
}

mirror_words! {
    /// What happens when consumers did not acknowledge in time.
    OnDeadline = schedule::OnDeadline {
        /// The old version stays alive; the rotation is parked and a person decides.
        Hold,
        /// The old version dies all the same, on the record.
        Force,
    }
}

impl OnDeadline {
    const fn hold() -> Self {
        Self::Hold
    }
    fn is_hold(&self) -> bool {
        *self == Self::Hold
    }
}

mirror_struct! {
    /// A time in which the secret may rotate by itself.
    Window = schedule::Window {
        /// The cron line that opens it.
        expression: String,
        /// Its zone.
        timezone: String,
        /// How long it stays open.
        duration: Text<Duration>,
    }
}

mirror_struct! {
    /// A time in which the secret does not rotate by itself.
    Freeze = schedule::Freeze {
        /// Its first instant.
        from: Text<Timestamp>,
        /// The first instant after it.
        until: Text<Timestamp>,
        /// What for; may be empty.
        reason: String,
    }
}

mirror_struct! {
    /// A secret's place among related ones that are not to rotate at the same time.
    GroupOffset = schedule::GroupOffset {
        /// Name of the group.
        group: String,
        /// How much later than its schedule says.
        offset: Text<Duration>,
    }
}

mirror_words! {
    /// What has to be shown before the old version may die, beyond each binding's own level.
    Ack = schedule::Ack {
        /// Every consumer has the new version and reloaded as its binding says.
        Reloaded,
        /// Besides, the backend has no session of the old credential from before the last acknowledgement.
        Drained,
    }
}

mirror_struct! {
    /// One of Keywheel's own events that leads to a rotation.
    OnEvent = schedule::OnEvent {
        /// The event's type.
        event: String,
        /// What has to hold for it, in CEL; absent: every one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<String>,
        /// How long after the last promotion the rotation begins at the earliest; absent for the default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold_off: Option<Text<Duration>>,
    }
}

mirror_struct! {
    /// Who gets a new version before it is promoted.
    Canary = schedule::Canary {
        /// How many containers.
        consumers: u32,
        /// How long all of them have to run well with it.
        watch: Text<Duration>,
    }
}

mirror_struct! {
    /// Schedule, spread, limits, missed-run rule and deadline of one secret.
    RotationPolicy = schedule::RotationPolicy {
        /// When.
        schedule: Schedule,
        /// Largest delay added to a slot.
        jitter: Text<Duration>,
        /// What happens to a missed slot.
        missed_run: MissedRun,
        /// How long consumers may take; absent for the default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Text<Duration>>,
        /// What happens to those who take longer; absent for `hold`.
        #[serde(default = "OnDeadline::hold", skip_serializing_if = "OnDeadline::is_hold")]
        on_deadline: OnDeadline,
        /// It also rotates when its version is so old.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_age: Option<Text<Duration>>,
        /// How long the other side takes a version; it also rotates after two thirds of that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifetime: Option<Text<Duration>>,
        /// Slots sooner than this after a promotion are passed over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold_off: Option<Text<Duration>>,
        /// It rotates only while one of these is open; none means always.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        windows: Vec<Window>,
        /// It does not rotate during these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        freezes: Vec<Freeze>,
        /// How its schedule stands to those of related secrets.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<GroupOffset>,
        /// Whether the version before the current one stays alive for templates; absent for no.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep_previous: bool,
        /// It also rotates after one of these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        on_event: Vec<OnEvent>,
        /// What has to be shown before the old version may die; absent for what suits its strategy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ack: Option<Ack>,
        /// Whether a few containers get a version before it is promoted; absent for no.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        canary: Option<Canary>,
    }
}

/// How a secret has to do with leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lease {
    /// Its store makes one for each container.
    PerContainer {
        /// How long one is kept for a container that does not run.
        linger: Text<Duration>,
        /// The server at which its logins are tried; absent where only their store is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probe: Option<Box<Probe>>,
    },
    /// Its versions are the leases of one container.
    Of {
        /// The secret that a person declared.
        secret: Text<SecretId>,
        /// The container's host.
        host: Text<HostId>,
        /// The container.
        container: Text<ContainerId>,
        /// How long one is kept while the container does not run.
        linger: Text<Duration>,
    },
}

impl Mirror for Lease {
    type Core = lease::Lease;
    fn of(core: &Self::Core) -> Self {
        match core {
            lease::Lease::PerContainer { linger, probe } => Self::PerContainer {
                linger: Text(*linger),
                probe: Mirror::of(probe),
            },
            lease::Lease::Of(of) => Self::Of {
                secret: Text(of.secret),
                host: Text(of.host),
                container: Text(of.container.clone()),
                linger: Text(of.linger),
            },
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::PerContainer { linger, probe } => lease::Lease::PerContainer {
                linger: linger.0,
                probe: probe.into_core(),
            },
            Self::Of {
                secret,
                host,
                container,
                linger,
            } => lease::Lease::Of(lease::LeaseOf {
                secret: secret.0,
                host: host.0,
                container: container.0,
                linger: linger.0,
            }),
        }
    }
}

/// What a person asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSpec {
    /// Where the values live: `local`, or the name of a declared store.
    store: Text<StoreName>,
    /// Where in that store; absent for `local`, and there for every other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    /// How a new value is made; absent for a secret whose values are always provided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generator: Option<Generator>,
    /// When it rotates by itself.
    rotation: RotationPolicy,
    /// The server at which it is a credential of Keywheel's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential_for: Option<String>,
    /// The resource whose accounts its versions open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotator: Option<Box<Resource>>,
    /// How it has to do with leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<Box<Lease>>,
}

impl Mirror for SecretSpec {
    type Core = secret::Spec;
    fn of(core: &Self::Core) -> Self {
        let (store, source) = match &core.store {
            secret::Store::Local => (StoreName::local(), None),
            secret::Store::Outside(place) => (place.store.clone(), Some(Source::of(&place.source))),
        };
        Self {
            store: Text(store),
            source,
            generator: core.generator.as_ref().map(Generator::of),
            rotation: RotationPolicy::of(&core.rotation),
            credential_for: core.credential_for.clone(),
            rotator: Mirror::of(&core.rotator),
            lease: Mirror::of(&core.lease),
        }
    }
    fn into_core(self) -> Self::Core {
        // Of the two that do not fit each other neither form is the canonical one: it is refused there.
        let source = self
            .source
            .filter(|_| self.store.0.as_str() != secret::LOCAL_STORE);
        let store = match source {
            None => secret::Store::Local,
            Some(source) => secret::Store::Outside(secret::Place {
                store: self.store.0,
                source: source.into_core(),
            }),
        };
        secret::Spec {
            store,
            generator: self.generator.into_core(),
            rotation: self.rotation.into_core(),
            credential_for: self.credential_for,
            rotator: self.rotator.into_core(),
            lease: self.lease.into_core(),
        }
    }
}

mirror_enum! {
    /// What happened to a secret.
    SecretEvent = secret::Event {
        /// The name is known from now on.
        Registered {
            /// Its name, for ever.
            name: Text<SecretName>,
            /// What a person asked for.
            spec: SecretSpec,
        },
        /// A later manifest says something else.
        SpecChanged {
            /// The new wish, whole.
            spec: SecretSpec,
        },
        /// A version number is taken and carries the stage `pending`.
        VersionStaged {
            /// The new number, higher than any before.
            version: u64,
            /// The rotation that will fill it.
            rotation: Text<RotationId>,
        },
        /// A host may hold this version from now on.
        Delivered {
            /// The host.
            host: Text<HostId>,
            /// The version.
            version: u64,
            /// The grant store-sync checks before it seals.
            delivery: Text<DeliveryId>,
        },
        /// The version carries `current`; the former one carries `previous`.
        VersionPromoted {
            /// The version.
            version: u64,
        },
        /// The version is in the dead set: never delivered, sealed or promoted again.
        VersionRevoked {
            /// The version.
            version: u64,
        },
        /// Somebody changed the value at the store outside.
        ExternalChangeDetected {
            /// The version that is current there.
            remote: Text<RemoteVersion>,
            /// The rotation that takes it over.
            rotation: Text<RotationId>,
        },
        /// A version of the store outside holds one of ours, and is current there.
        RemoteVersionNoted {
            /// Our version.
            version: u64,
            /// What the store calls it.
            remote: Text<RemoteVersion>,
            /// Whether Keywheel wrote it.
            written: bool,
        },
        /// A version of the store outside was made unusable there.
        RemoteVersionRetired {
            /// What the store calls it.
            remote: Text<RemoteVersion>,
        },
        /// The version's data key is gone.
        VersionDestroyed {
            /// The version.
            version: u64,
        },
        /// The container of a lease does not run; the lease is kept for a while.
        LeaseLingering {
            /// It is revoked then.
            until: Text<Timestamp>,
        },
        /// The container of a lease is there again.
        LeaseResumed {},
        /// Nothing is kept for the container of a lease any more.
        LeaseEnded {},
    }
}
