//! Every metric, in one place: its name, what it counts, its labels, and how many values each may take.
//!
//! Dashboards, alert rules and the tables of the documentation are made from this file. Invariants: names
//! begin with `keywheel_` and end with the unit they are in; a label is one of few words or is told
//! apart up to a bound; no label ever holds a value, its length or its digest.

/// Secrets that are told apart by name.
pub const MOST_SECRETS: usize = 200;
/// Hosts and machines that are told apart by name.
pub const MOST_HOSTS: usize = 200;
/// Stores that are told apart by name.
pub const MOST_STORES: usize = 32;
/// Sinks of the audit that are told apart: all that can be configured.
pub const MOST_SINKS: usize = 16;
/// Versions of Keywheel that are told apart.
pub const MOST_VERSIONS: usize = 8;

/// What sort of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How spans are spread.
    Histogram,
}

/// What it is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things, or yes and no.
    None,
    /// Seconds.
    Seconds,
    /// Seconds since 1970.
    Instant,
}

/// What becomes of several numbers under one set of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// They are added.
    Sum,
    /// The highest counts.
    Most,
    /// The lowest counts.
    Least,
}

/// How many values a label may take; one more, `other`, is for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// These.
    Words(&'static [&'static str]),
    /// So many, first come first served.
    Most(usize),
}

/// A label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub bound: Bound,
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What sort.
    pub kind: Kind,
    /// In what.
    pub unit: Unit,
    /// What it says, for people; without a period.
    pub help: &'static str,
    /// Its labels, in the order in which they are given.
    pub labels: &'static [Label],
    /// What becomes of numbers beyond a label's bound.
    pub fold: Fold,
    /// Which endpoint shows it: a role's word, or `every`.
    pub shown_by: &'static str,
}

const SERVICE: Label = Label {
    name: "service",
    bound: Bound::Words(&[
        "gateway",
        "scheduler",
        "store-sync",
        "injector",
        "audit-sink",
    ]),
};
const SECRET: Label = Label {
    name: "secret",
    bound: Bound::Most(MOST_SECRETS),
};
const HOST: Label = Label {
    name: "host",
    bound: Bound::Most(MOST_HOSTS),
};
const MACHINE: Label = Label {
    name: "machine",
    bound: Bound::Most(MOST_HOSTS),
};
const STORE: Label = Label {
    name: "store",
    bound: Bound::Most(MOST_STORES),
};
const SINK: Label = Label {
    name: "sink",
    bound: Bound::Most(MOST_SINKS),
};
const STEP: Label = Label {
    name: "step",
    bound: Bound::Words(&[
        "create",
        "set",
        "test",
        "finish",
        "distribute",
        "revoke_old",
        "roll_back",
        "drain",
    ]),
};
const TRIGGER: Label = Label {
    name: "trigger",
    bound: Bound::Words(&["initial", "on_demand", "provided", "schedule", "external"]),
};
const CAUSE: Label = Label {
    name: "cause",
    bound: Bound::Words(&[
        "initial",
        "on_demand",
        "provided",
        "schedule",
        "external",
        "late",
    ]),
};
const OUTCOME: Label = Label {
    name: "outcome",
    bound: Bound::Words(&["completed", "rolled_back", "parked", "cancelled"]),
};
const RUN_OUTCOME: Label = Label {
    name: "outcome",
    bound: Bound::Words(&["completed", "failed", "cancelled"]),
};
const STATE: Label = Label {
    name: "state",
    bound: Bound::Words(&["waiting", "swapped", "reloaded", "refused"]),
};
const LACK: Label = Label {
    name: "reason",
    bound: Bound::Words(&[
        "refused",
        "failed",
        "no_leave",
        "restarting",
        "unwell",
        "not_reloaded",
        "not_in_place",
    ]),
};
const READ: Label = Label {
    name: "result",
    bound: Bound::Words(&["hit", "miss", "error"]),
};
/// Whose letters are counted apart: the kinds of their owners.
pub const LETTER_KINDS: &[&str] = &["notification", "signal-source"];
const KIND: Label = Label {
    name: "kind",
    bound: Bound::Words(LETTER_KINDS),
};
const SEVERITY: Label = Label {
    name: "severity",
    bound: Bound::Words(&["unknown", "warning", "problem"]),
};
const TOPIC: Label = Label {
    name: "topic",
    bound: Bound::Words(&["events", "audit", "work", "plan", "hosts"]),
};
const HEARD: Label = Label {
    name: "heard",
    bound: Bound::Words(&["yes", "no"]),
};
const OPERATION: Label = Label {
    name: "operation",
    bound: Bound::Words(&[
        "create",
        "set",
        "test",
        "finish",
        "roll_back",
        "revoke",
        "probe",
        "look",
        "fetch",
        "renew",
        "sessions",
    ]),
};
const ERROR: Label = Label {
    name: "error",
    bound: Bound::Words(&["conflict", "not_found", "denied", "unavailable", "corrupt"]),
};

const fn gauge(
    shown_by: &'static str,
    name: &'static str,
    unit: Unit,
    labels: &'static [Label],
    fold: Fold,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        unit,
        help,
        labels,
        fold,
        shown_by,
    }
}

const fn counter(
    shown_by: &'static str,
    name: &'static str,
    labels: &'static [Label],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        unit: Unit::None,
        help,
        labels,
        fold: Fold::Sum,
        shown_by,
    }
}

const fn histogram(
    shown_by: &'static str,
    name: &'static str,
    labels: &'static [Label],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        help,
        labels,
        fold: Fold::Sum,
        shown_by,
    }
}

use Fold::{Least, Most, Sum};
use Unit::{Instant, None as Plain, Seconds};

const EVERY: &str = "every";
const GATEWAY: &str = "gateway";
const STORE_SYNC: &str = "store-sync";
const SCHEDULER: &str = "scheduler";
const INJECTOR: &str = "injector";
const AUDIT_SINK: &str = "audit-sink";

macro_rules! metrics {
    ($($(#[$doc:meta])* $constant:ident = $metric:expr;)*) => {
        $($(#[$doc])* pub const $constant: Metric = $metric;)*

        /// All of them.
        pub const ALL: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    /// One per service and version.
    BUILD_INFO = gauge(EVERY, "keywheel_build_info", Plain,
        &[SERVICE, Label { name: "version", bound: Bound::Most(MOST_VERSIONS) }], Most,
        "Always 1; its labels say which service of which version this is");
    /// When a service began.
    START_TIME = gauge(EVERY, "keywheel_start_time_seconds", Instant, &[SERVICE], Least,
        "When this service started");
    /// The bus server is reached.
    BUS_CONNECTED = gauge(EVERY, "keywheel_bus_connected", Plain, &[SERVICE], Least,
        "Whether this service is connected to the bus server; absent inside one process");
    /// Connections to the bus server.
    BUS_CONNECTS = counter(EVERY, "keywheel_bus_connects_total", &[SERVICE],
        "Connections to the bus server that were made since the start");
    /// Messages that were refused.
    BUS_REFUSED = counter(EVERY, "keywheel_bus_refused_messages_total", &[SERVICE],
        "Messages this service refused: forged, replayed, stale, malformed or not permitted");
    /// What waits on the bus server.
    BUS_BACKLOG = gauge(EVERY, "keywheel_bus_backlog_messages", Plain, &[SERVICE, TOPIC], Most,
        "Messages on the bus server that this service has not done with: not read yet, or read and not acknowledged; absent inside one process and while the bus server does not answer");
    /// When credentials end.
    CREDENTIALS_EXPIRY = gauge(EVERY, "keywheel_credentials_expiry_timestamp_seconds", Instant,
        &[SERVICE], Least,
        "When this service's credentials end; they are renewed at half of their life");
    /// How long credentials live.
    CREDENTIALS_LIFETIME = gauge(EVERY, "keywheel_credentials_lifetime_seconds", Seconds, &[SERVICE], Least,
        "How long this service's credentials live, from their issue to their end");
    /// Spans that the collector took.
    SPANS_EXPORTED = counter(EVERY, "keywheel_spans_exported_total", &[],
        "Spans that the OpenTelemetry collector took");
    /// Spans that nobody sees.
    SPANS_DROPPED = counter(EVERY, "keywheel_spans_dropped_total", &[],
        "Spans that were dropped: the queue was full, or the collector did not take them");
    /// Log lines that nobody reads.
    LOG_LINES_LOST = counter(EVERY, "keywheel_log_lines_lost_total", &[],
        "Log lines that systemd's journal did not take: more came at once than it reads");

    /// Known secrets.
    SECRETS = gauge(GATEWAY, "keywheel_secrets", Plain, &[], Sum,
        "Secrets that are known");
    /// How old what a starting container gets is.
    SECRET_AGE = gauge(GATEWAY, "keywheel_secret_age_seconds", Seconds, &[SECRET], Most,
        "Age of the current version, since its first promotion");
    /// The last promotion.
    SECRET_LAST_ROTATION = gauge(GATEWAY, "keywheel_secret_last_rotation_timestamp_seconds", Instant,
        &[SECRET], Least, "When the current version was promoted first");
    /// The next one, by the schedule.
    SECRET_NEXT_ROTATION = gauge(GATEWAY, "keywheel_secret_next_rotation_timestamp_seconds", Instant,
        &[SECRET], Least,
        "When the schedule wants the next version, counted from the last one, or a secret its first; in the past when it is overdue");
    /// It should have rotated.
    SECRET_OVERDUE = gauge(GATEWAY, "keywheel_secret_overdue", Plain, &[SECRET], Sum,
        "Whether the schedule wanted a new version, or a secret without one its first, and the time for that has passed");
    /// Rotations by what led to them.
    ROTATIONS = counter(GATEWAY, "keywheel_rotations_total", &[TRIGGER],
        "Rotations that began, by what led to them");
    /// Rotations under way.
    ROTATIONS_OPEN = gauge(GATEWAY, "keywheel_rotations_open", Plain, &[], Sum,
        "Rotations under way");
    /// Rotations that wait for a person.
    ROTATIONS_PARKED = gauge(GATEWAY, "keywheel_rotations_parked", Plain, &[], Sum,
        "Secrets whose last rotation was parked: an old version is still alive because consumers were too slow, or sessions or canaries hold a version beyond its deadline");
    /// How long rotations took.
    ROTATION_DURATION = histogram(GATEWAY, "keywheel_rotation_duration_seconds", &[OUTCOME],
        "From the request of a rotation to its end, by how it ended");
    /// How long steps took.
    ROTATION_STEP_DURATION = histogram(GATEWAY, "keywheel_rotation_step_duration_seconds", &[STEP],
        "From the first attempt at a step to its end");
    /// Attempts that failed.
    ROTATION_STEP_FAILURES = counter(GATEWAY, "keywheel_rotation_step_failures_total", &[STEP],
        "Attempts at a step that failed");
    /// How fast consumers have a new version.
    PROPAGATION = histogram(GATEWAY, "keywheel_propagation_seconds", &[],
        "From the promotion of a version to its place in a running container, by the host's clock");
    /// How long consumers were without a credential that is good.
    ROTATION_GAP = histogram(GATEWAY, "keywheel_rotation_gap_seconds", &[],
        "In a cut-over (singleUser), from the moment the server took the new password to the last consumer that had it");
    /// Who is waited for.
    STRAGGLERS = gauge(GATEWAY, "keywheel_stragglers", Plain, &[SECRET], Sum,
        "Consumers that have not shown yet that they run on the current version; a canary does not count while it is to have the next one");
    /// What they lack.
    STRAGGLERS_LACKING = gauge(GATEWAY, "keywheel_stragglers_lacking", Plain, &[LACK], Sum,
        "Consumers that open rotations wait for, by what they lack");
    /// What is waited for at the server.
    SESSIONS_LEFT = gauge(GATEWAY, "keywheel_sessions_left", Plain, &[SECRET], Sum,
        "Sessions of the old credential that a rotation waits for, as the server told them last");
    /// Consumers by how far they are.
    CONSUMERS = gauge(GATEWAY, "keywheel_consumers", Plain, &[STATE], Sum,
        "Containers under a binding, by how far they are with the version they have to run on");
    /// Restarts of consumers.
    CONSUMER_RESTARTS = counter(GATEWAY, "keywheel_consumer_restarts_total", &[CAUSE],
        "Consumers that were restarted to take a new version, by what led to its rotation");
    /// Consumers that were refused.
    CONSUMERS_REFUSED = counter(GATEWAY, "keywheel_consumers_refused_total", &[],
        "Times an injector could not or would not serve a consumer");
    /// Revocations under way.
    REVOCATIONS_OPEN = gauge(GATEWAY, "keywheel_revocations_open", Plain, &[], Sum,
        "Revocations that wait for a host or a store");
    /// How long revocations took.
    REVOCATION_DURATION = histogram(GATEWAY, "keywheel_revocation_duration_seconds", &[],
        "From the request of a revocation until every host withdrew and the store confirmed");
    /// Runs of playbooks by how they ended.
    PLAYBOOK_RUNS = counter(GATEWAY, "keywheel_playbook_runs_total", &[RUN_OUTCOME],
        "Runs of playbooks that ended, by how; one that a step of another run began counts, too");
    /// Runs of playbooks under way.
    PLAYBOOK_RUNS_OPEN = gauge(GATEWAY, "keywheel_playbook_runs_open", Plain, &[], Sum,
        "Runs of playbooks that did not end yet, paused ones among them");
    /// Runs that wait for people.
    PLAYBOOK_RUNS_AWAITING_APPROVAL = gauge(GATEWAY, "keywheel_playbook_runs_awaiting_approval", Plain, &[], Sum,
        "Open runs of playbooks with a step that waits for somebody's approval");
    /// Runs that nobody moves on.
    PLAYBOOK_RUNS_OVERDUE = gauge(GATEWAY, "keywheel_playbook_runs_overdue", Plain, &[], Sum,
        "Open runs of playbooks with a step whose time is over and that did not end for it: nothing moves them on");
    /// Requests that wait for people.
    APPROVALS_WAITING = gauge(GATEWAY, "keywheel_approvals_waiting", Plain, &[], Sum,
        "Requests that take several people and wait for some of them");
    /// What went without the others.
    BREAK_GLASS_UNREVIEWED = gauge(GATEWAY, "keywheel_break_glass_unreviewed", Plain, &[], Sum,
        "Requests that take several people, went without the others in an emergency, and were not reviewed yet");
    /// Live hosts.
    HOSTS = gauge(GATEWAY, "keywheel_hosts", Plain, &[], Sum,
        "Hosts that joined and were not evicted");
    /// The last word of a host.
    HOST_LAST_CONTACT = gauge(GATEWAY, "keywheel_host_last_contact_timestamp_seconds", Instant, &[HOST],
        Least, "When this gateway last heard of a host; when it began to listen, as long as it has not heard it");
    /// How long a host has been behind.
    HOST_PLAN_LAG = gauge(GATEWAY, "keywheel_host_plan_lag_seconds", Seconds, &[HOST], Most,
        "How long a host has worked on an older plan than the newest; 0 when it has the newest");
    /// Instances that are there.
    INSTANCES = gauge(GATEWAY, "keywheel_instances", Plain, &[SERVICE, HEARD], Sum,
        "Instances of each service, by whether they were heard in the last 35 seconds; one that is needed counts though it was never heard");
    /// How far readers are behind.
    READER_LAG = gauge(GATEWAY, "keywheel_reader_lag", Plain, &[SERVICE, MACHINE], Most,
        "Events, or audit records for the audit sink, that a reader of the log had not read when it last spoke");
    /// The end of the log.
    JOURNAL_EVENTS = gauge(GATEWAY, "keywheel_journal_events", Plain, &[], Most,
        "Events in the log, as this gateway has folded it");
    /// The journal answers.
    JOURNAL_UP = gauge(GATEWAY, "keywheel_journal_up", Plain, &[], Least,
        "Whether the journal answered this gateway just now");
    /// The end of the audit.
    AUDIT_RECORDS = gauge(GATEWAY, "keywheel_audit_records", Plain, &[], Most,
        "Records in the audit: the size of its Merkle tree");
    /// Open effects.
    EFFECTS_OPEN = gauge(GATEWAY, "keywheel_effects_open", Plain, &[], Sum,
        "Work for store-sync that nobody answered yet");
    /// What status finds wrong.
    FINDINGS = gauge(GATEWAY, "keywheel_findings", Plain, &[SEVERITY], Sum,
        "What `keywheel status` finds, by how bad it is");
    /// Nobody has the unseal key.
    SEALED = gauge(GATEWAY, "keywheel_sealed", Plain, &[], Most,
        "Whether no store-sync that is heard has its unseal key: then no value is given out");
    /// Denied requests.
    REQUESTS_DENIED = counter(GATEWAY, "keywheel_requests_denied_total", &[],
        "Requests of those who may not, at the socket and the ports of this gateway");
    /// Looks at health.
    HEALTH_LOOKS = counter(GATEWAY, "keywheel_health_looks_total", &[],
        "Looks at health, the key for values and the description of the API, which leave no record each, at this gateway");
    /// Letters.
    LETTERS = gauge(GATEWAY, "keywheel_letters", Plain, &[KIND], Most,
        "Letters that wait for a person: what could not be told to a receiver, or not be read of what came");

    /// How long stores take.
    STORE_DURATION = histogram(STORE_SYNC, "keywheel_store_operation_duration_seconds", &[STORE, OPERATION],
        "How long a store took for a step of a rotation or a look at what lies there, failures included");
    /// What fails at stores.
    STORE_ERRORS = counter(STORE_SYNC, "keywheel_store_errors_total", &[STORE, OPERATION, ERROR],
        "Steps of a rotation and looks that failed at a store");
    /// The last time a store did something.
    STORE_LAST_SUCCESS = gauge(STORE_SYNC, "keywheel_store_last_success_timestamp_seconds", Instant, &[STORE],
        Least, "When a store last did what it was asked, since the start");
    /// A store outside answers.
    STORE_UP = gauge(STORE_SYNC, "keywheel_store_up", Plain, &[STORE], Least,
        "Whether a store outside answered this store-sync when it was asked last");
    /// How old what is known of a store is.
    STORE_LAST_LOOK = gauge(STORE_SYNC, "keywheel_store_last_look_timestamp_seconds", Instant, &[STORE],
        Least, "When a store outside last answered looks at what lies there: what is known is as old as that");
    /// Secrets in a store.
    STORE_SECRETS = gauge(STORE_SYNC, "keywheel_store_secrets", Plain, &[STORE], Sum,
        "Secrets that lie in a store outside");
    /// Secrets that cannot be looked at.
    STORE_UNREADABLE = gauge(STORE_SYNC, "keywheel_store_unreadable_secrets", Plain, &[STORE], Sum,
        "Secrets whose place cannot be read though the store answers: gone, denied, or no text");
    /// Reads of the encrypted cache.
    CACHE_READS = counter(STORE_SYNC, "keywheel_cache_reads_total", &[READ],
        "Versions that were asked of the encrypted cache, by whether it had them");

    /// A wall clock that went back.
    CLOCK_SET_BACK = counter(SCHEDULER, "keywheel_clock_set_back_total", &[SERVICE],
        "Times the wall clock of this service's machine was set back by more than 5 seconds since its start");

    /// The plan a host works on.
    HOST_PLAN_GENERATION = gauge(INJECTOR, "keywheel_host_plan_generation", Plain, &[HOST], Most,
        "Generation of the plan this host works on");
    /// The gateway's last word.
    HOST_GATEWAY_CONTACT = gauge(INJECTOR, "keywheel_host_gateway_contact_timestamp_seconds", Instant,
        &[HOST], Least,
        "When the gateway last answered this host: what it holds is as old as that");
    /// The end of a host's lease.
    HOST_LEASE_EXPIRY = gauge(INJECTOR, "keywheel_host_lease_expiry_timestamp_seconds", Instant, &[HOST],
        Least, "When the host's lease on what it holds ends, unless the gateway answers before");
    /// The length of a host's lease.
    HOST_LEASE = gauge(INJECTOR, "keywheel_host_lease_seconds", Seconds, &[HOST], Least,
        "How long the host may use what it holds after the gateway's last word: `injector.lease`");
    /// Containers of a host.
    HOST_CONTAINERS = gauge(INJECTOR, "keywheel_host_containers", Plain, &[HOST], Sum,
        "Containers that run on this host");
    /// Consumers of a host.
    HOST_CONSUMERS = gauge(INJECTOR, "keywheel_host_consumers", Plain, &[HOST], Sum,
        "Containers on this host that hold something");
    /// The container engine answers.
    HOST_ENGINE_UP = gauge(INJECTOR, "keywheel_host_engine_up", Plain, &[HOST], Least,
        "Whether the container engine can be used");
    /// Reads of what a host holds.
    HOST_CACHE_READS = counter(INJECTOR, "keywheel_host_cache_reads_total", &[READ],
        "Values the host needed, by whether it held them: a miss asks store-sync");

    /// Records that wait for a sink.
    AUDIT_SINK_WAITING = gauge(AUDIT_SINK, "keywheel_audit_sink_waiting_records", Plain, &[SINK], Most,
        "Audit records that a sink was not told yet");
    /// How long they wait.
    AUDIT_SINK_LAG = gauge(AUDIT_SINK, "keywheel_audit_sink_lag_seconds", Seconds, &[SINK], Most,
        "How long audit records have waited for a sink; beyond `audit.max_lag` it does not count among those that take records");
    /// Attempts that failed.
    AUDIT_SINK_FAILURES = counter(AUDIT_SINK, "keywheel_audit_sink_failures_total", &[SINK],
        "Attempts to tell a sink that failed, or that it did not answer in time");
    /// A sink with other records.
    AUDIT_SINK_DIFFERS = gauge(AUDIT_SINK, "keywheel_audit_sink_differs", Plain, &[SINK], Most,
        "Whether a sink has other records than the copy: one of the two was changed, cut or put back");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("keywheel_"), "{name}");
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(plain), "{name}");
            assert_eq!(
                metric.kind == Kind::Counter,
                name.ends_with("_total"),
                "{name}"
            );
            let ends_in_unit = name.ends_with("_seconds");
            assert_eq!(metric.unit != Unit::None, ends_in_unit, "{name}");
            let is_instant = name.ends_with("_timestamp_seconds") || metric == &&START_TIME;
            assert_eq!(metric.unit == Unit::Instant, is_instant, "{name}");
            assert!(
                !metric.help.is_empty() && !metric.help.ends_with('.'),
                "{name}"
            );
        }
    }

    /// Most series one metric can have: every label has one value more, `other`.
    #[test]
    fn no_metric_can_have_more_series_than_a_prometheus_bears() {
        for metric in ALL {
            let of = |label: &Label| match label.bound {
                Bound::Words(words) => words.len() + 1,
                Bound::Most(most) => most + 1,
            };
            let series: usize = metric.labels.iter().map(of).product();
            assert!(series <= 3_000, "{}: {series}", metric.name);
        }
    }
}
