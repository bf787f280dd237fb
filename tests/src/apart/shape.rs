//! How many of each process a deployment has, and what they are called.

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// NATS.
    Bus,
    /// Decides and keeps the journal.
    Gateway,
    /// Speaks to stores.
    StoreSync,
    /// Fires schedules.
    Scheduler,
    /// Keeps the audit's second copy.
    AuditSink,
    /// One per host.
    Injector,
    /// Is told spans.
    Collector,
}

impl Role {
    /// As `keywheel server` and directories call it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bus => "nats",
            Self::Gateway => "gateway",
            Self::StoreSync => "store-sync",
            Self::Scheduler => "scheduler",
            Self::AuditSink => "audit-sink",
            Self::Injector => "injector",
            Self::Collector => "collector",
        }
    }

    /// Name of one of them, counted from 0: `gateway`, `gateway-2`.
    #[must_use]
    pub fn name(self, number: usize) -> String {
        numbered(self.word(), number)
    }
}

/// A name for the first, the second and so on: `run`, `run-2`.
#[must_use]
pub fn numbered(base: &str, number: usize) -> String {
    match number {
        0 => base.to_owned(),
        more => format!("{base}-{}", more + 1),
    }
}

/// How a deployment looks; by default one of each, on loopback and on the machine's engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bus servers; three make a cluster.
    pub bus: usize,
    /// Gateways; several need a database. They share identity and unseal key.
    pub gateways: usize,
    /// Schedulers, which share an identity.
    pub schedulers: usize,
    /// store-syncs, which share identity and unseal key; several need a database.
    pub store_syncs: usize,
    /// Journal and cache in PostgreSQL instead of SQLite.
    pub database: bool,
    /// Hosts, each with an injector.
    pub hosts: usize,
    /// Whether each host has a Docker daemon of its own.
    pub own_engines: bool,
    /// The runtime of such a daemon's containers that name none; runc when it is none of ours.
    pub default_runtime: Option<&'static str>,
    /// Whose subordinate ids the users of such a daemon's containers are; the host's own when none's.
    pub userns_remap: Option<&'static str>,
    /// Whether hosts reach the services over a network that can be cut. The bus has TLS then.
    pub lan: bool,
    /// Whether the bus has TLS on loopback, too.
    pub tls: bool,
    /// Whether everything that passes the (one) bus server is kept. Not with `lan`.
    pub tap: bool,
    /// Whether a collector is told the spans of all processes.
    pub collector: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            bus: 1,
            gateways: 1,
            schedulers: 1,
            store_syncs: 1,
            database: false,
            hosts: 1,
            own_engines: false,
            default_runtime: None,
            userns_remap: None,
            lan: false,
            tls: false,
            tap: false,
            collector: false,
        }
    }
}

impl Shape {
    /// The services and how many of each, in the order in which they start.
    pub(super) const fn services(&self) -> [(Role, usize); 4] {
        [
            (Role::Gateway, self.gateways),
            (Role::StoreSync, self.store_syncs),
            (Role::Scheduler, self.schedulers),
            (Role::AuditSink, 1),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_has_no_number() {
        assert_eq!(Role::Gateway.name(0), "gateway");
        assert_eq!(Role::StoreSync.name(1), "store-sync-2");
    }
}
