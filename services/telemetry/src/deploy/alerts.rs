//! Every alert: when it fires, for how long, and what a person does then; with an example that fires
//! and one that does not, from which the rules' own tests are made.

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Somebody looks now.
    Critical,
    /// Somebody looks today.
    Warning,
}

impl Severity {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// A series and its values, one a minute, as `promtool` writes them.
pub type Series = (&'static str, &'static str);

/// An alert.
#[derive(Debug, Clone, Copy)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// When it fires.
    pub when: &'static str,
    /// After how many minutes of that.
    pub minutes: u32,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in a line.
    pub what: &'static str,
    /// What a person does.
    pub next: &'static str,
    /// With this it has fired after [`EXAMPLE_MINUTES`].
    pub fires: &'static [Series],
    /// With which labels.
    pub labels: &'static [(&'static str, &'static str)],
    /// With this it has not.
    pub quiet: &'static [Series],
}

/// How long the examples last: longer than every alert waits.
pub const EXAMPLE_MINUTES: u32 = 60;

use Severity::{Critical, Warning};

/// All of them, in the order of their pages.
pub const ALL: &[Alert] = &[
    Alert {
        name: "KeywheelSecretOverdue",
        when: "max by (secret) (keywheel_secret_overdue) > 0",
        minutes: 5,
        severity: Warning,
        what: "a secret has not rotated although its schedule wanted it",
        next: "`keywheel describe secret NAME` and `keywheel get rotations`: is a rotation open, parked or rolled back? Is the scheduler heard in `keywheel status`? Then `keywheel rotate NAME --wait`.",
        fires: &[("keywheel_secret_overdue{secret=\"a\"}", "1+0x60")],
        labels: &[("secret", "a")],
        quiet: &[("keywheel_secret_overdue{secret=\"a\"}", "0+0x60")],
    },
    Alert {
        name: "KeywheelRotationParked",
        when: "max(keywheel_rotations_parked) > 0",
        minutes: 1,
        severity: Warning,
        what: "a rotation was parked: consumers were too slow, and the old version is still alive",
        next: "`keywheel get rotations` names it, `keywheel describe rotation ID` the consumers it waited for. Repair or stop those, then rotate again: that retires every older version.",
        fires: &[("keywheel_rotations_parked", "1+0x60")],
        labels: &[],
        quiet: &[("keywheel_rotations_parked", "0+0x60")],
    },
    Alert {
        name: "KeywheelRotationStepFails",
        when: "max by (step) (increase(keywheel_rotation_step_failures_total[15m])) > 0",
        minutes: 0,
        severity: Warning,
        what: "a step of a rotation fails; it is tried again, and rolled back in the end",
        next: "`keywheel describe rotation ID` has the reason of the last failure; `keywheel status` says whether the store answers.",
        fires: &[(
            "keywheel_rotation_step_failures_total{step=\"set\"}",
            "0+1x60",
        )],
        labels: &[("step", "set")],
        quiet: &[(
            "keywheel_rotation_step_failures_total{step=\"set\"}",
            "3+0x60",
        )],
    },
    Alert {
        name: "KeywheelStragglers",
        when: "max by (secret) (keywheel_stragglers) > 0",
        minutes: 10,
        severity: Warning,
        what: "consumers do not run on the current version of a secret",
        next: "`keywheel consumers` names them with their reason. Is their host heard (`keywheel host list`)? Do they restart or catch the signal?",
        fires: &[("keywheel_stragglers{secret=\"a\"}", "2+0x60")],
        labels: &[("secret", "a")],
        quiet: &[("keywheel_stragglers{secret=\"a\"}", "0+0x60")],
    },
    Alert {
        name: "KeywheelPropagationSlow",
        when: "histogram_quantile(0.99, max by (le) (rate(keywheel_propagation_seconds_bucket[30m]))) > 30",
        minutes: 0,
        severity: Warning,
        what: "new versions reach running containers slowly",
        next: "Which host lags (`keywheel_host_plan_lag_seconds`)? Is the bus reached from there, and is the container engine busy?",
        fires: &[
            ("keywheel_propagation_seconds_bucket{le=\"300\"}", "0+1x60"),
            ("keywheel_propagation_seconds_bucket{le=\"+Inf\"}", "0+1x60"),
        ],
        labels: &[],
        quiet: &[
            ("keywheel_propagation_seconds_bucket{le=\"1\"}", "0+1x60"),
            ("keywheel_propagation_seconds_bucket{le=\"+Inf\"}", "0+1x60"),
        ],
    },
    Alert {
        name: "KeywheelRevocationOpen",
        when: "max(keywheel_revocations_open) > 0",
        minutes: 5,
        severity: Critical,
        what: "a revocation waits: a host may still hold a dead version, or a store has not confirmed",
        next: "`keywheel get revocations`, then `keywheel describe revocation ID` names hosts and store. A host that is gone for good: `keywheel host evict NAME`.",
        fires: &[("keywheel_revocations_open", "1+0x60")],
        labels: &[],
        quiet: &[("keywheel_revocations_open", "0+0x60")],
    },
    Alert {
        name: "KeywheelHostSilent",
        when: "time() - max by (host) (keywheel_host_last_contact_timestamp_seconds) > 120",
        minutes: 1,
        severity: Critical,
        what: "no gateway hears a host; its containers keep what they have",
        next: "On the host: is keywheel-injector running, and does it reach the bus? A machine that is gone: `keywheel host evict NAME`.",
        fires: &[(
            "keywheel_host_last_contact_timestamp_seconds{host=\"h\"}",
            "0+0x60",
        )],
        labels: &[("host", "h")],
        quiet: &[(
            "keywheel_host_last_contact_timestamp_seconds{host=\"h\"}",
            "0+60x60",
        )],
    },
    Alert {
        name: "KeywheelHostPlanLag",
        when: "max by (host) (keywheel_host_plan_lag_seconds) > 60",
        minutes: 1,
        severity: Warning,
        what: "a host works on an older plan than the newest",
        next: "Look at the injector's log on that host: the container engine may hang, or a container cannot be served.",
        fires: &[("keywheel_host_plan_lag_seconds{host=\"h\"}", "90+0x60")],
        labels: &[("host", "h")],
        quiet: &[("keywheel_host_plan_lag_seconds{host=\"h\"}", "60+0x60")],
    },
    Alert {
        name: "KeywheelHostLeaseEnding",
        when: "min by (host) (keywheel_host_lease_expiry_timestamp_seconds) - time() < 3600",
        minutes: 5,
        severity: Critical,
        what: "a host's lease on what it holds is about to end, or has: no container starts there then",
        next: "Let the host reach its gateway: first the bus, then the gateway. `injector.lease` says how long it may be alone.",
        fires: &[(
            "keywheel_host_lease_expiry_timestamp_seconds{host=\"h\"}",
            "5000+0x60",
        )],
        labels: &[("host", "h")],
        quiet: &[(
            "keywheel_host_lease_expiry_timestamp_seconds{host=\"h\"}",
            "86400+0x60",
        )],
    },
    Alert {
        name: "KeywheelHostEngineDown",
        when: "min by (host) (keywheel_host_engine_up) == 0",
        minutes: 2,
        severity: Critical,
        what: "the container engine of a host cannot be used",
        next: "Start Docker on that host, or name its socket with `DOCKER_HOST`.",
        fires: &[("keywheel_host_engine_up{host=\"h\"}", "0+0x60")],
        labels: &[("host", "h")],
        quiet: &[("keywheel_host_engine_up{host=\"h\"}", "1+0x60")],
    },
    Alert {
        name: "KeywheelInstanceSilent",
        when: "max by (service) (keywheel_instances{heard=\"no\"}) > 0",
        minutes: 2,
        severity: Warning,
        what: "an instance of a service is not heard any more",
        next: "`keywheel status` names its machine. Start it again there; one that ended for good is forgotten after a day.",
        fires: &[(
            "keywheel_instances{service=\"scheduler\",heard=\"no\"}",
            "1+0x60",
        )],
        labels: &[("service", "scheduler")],
        quiet: &[(
            "keywheel_instances{service=\"scheduler\",heard=\"yes\"}",
            "1+0x60",
        )],
    },
    Alert {
        name: "KeywheelReaderLag",
        when: "min by (service, machine) (keywheel_reader_lag) > 1000",
        minutes: 5,
        severity: Warning,
        what: "a reader of the log, or the audit's second copy, stays behind",
        next: "It catches up by itself; when the number grows, look at its log and at its disk.",
        fires: &[(
            "keywheel_reader_lag{service=\"audit-sink\",machine=\"m\"}",
            "2000+0x60",
        )],
        labels: &[("service", "audit-sink"), ("machine", "m")],
        quiet: &[(
            "keywheel_reader_lag{service=\"audit-sink\",machine=\"m\"}",
            "1000+0x60",
        )],
    },
    Alert {
        name: "KeywheelBusDisconnected",
        when: "keywheel_bus_connected == 0",
        minutes: 1,
        severity: Critical,
        what: "a service has no connection to the bus server",
        next: "Is the bus server up, and reached from that machine? The service's log says why its connect is refused.",
        fires: &[("keywheel_bus_connected{service=\"gateway\"}", "0+0x60")],
        labels: &[("service", "gateway")],
        quiet: &[("keywheel_bus_connected{service=\"gateway\"}", "1+0x60")],
    },
    Alert {
        name: "KeywheelBusRefuses",
        when: "increase(keywheel_bus_refused_messages_total[10m]) > 0",
        minutes: 0,
        severity: Warning,
        what: "a service refuses messages: a wrong clock, another build, or an attack",
        next: "Its log names the reason and the subject of each sort; `of another time` is mostly a wrong clock; `stale` is an older state told again: a journal that was put back, a gateway that slept, or somebody who replays.",
        fires: &[(
            "keywheel_bus_refused_messages_total{service=\"gateway\"}",
            "0+1x60",
        )],
        labels: &[("service", "gateway")],
        quiet: &[(
            "keywheel_bus_refused_messages_total{service=\"gateway\"}",
            "7+0x60",
        )],
    },
    Alert {
        name: "KeywheelCredentialsEnding",
        when: "keywheel_credentials_expiry_timestamp_seconds - time() < 300",
        minutes: 1,
        severity: Critical,
        what: "a service's credentials end and were not renewed",
        next: "Its log says why. A service that was away too long: `keywheel credentials refresh` at the gateway's machine; a host joins again.",
        fires: &[(
            "keywheel_credentials_expiry_timestamp_seconds{service=\"gateway\"}",
            "3600+0x60",
        )],
        labels: &[("service", "gateway")],
        quiet: &[(
            "keywheel_credentials_expiry_timestamp_seconds{service=\"gateway\"}",
            "7200+0x60",
        )],
    },
    Alert {
        name: "KeywheelJournalDown",
        when: "keywheel_journal_up == 0",
        minutes: 1,
        severity: Critical,
        what: "the journal does not answer a gateway: nothing is decided there",
        next: "Look at the database, or at the disk of the data directory, and at the gateway's log.",
        fires: &[("keywheel_journal_up", "0+0x60")],
        labels: &[],
        quiet: &[("keywheel_journal_up", "1+0x60")],
    },
    Alert {
        name: "KeywheelAuditShrank",
        when: "keywheel_audit_records < max_over_time(keywheel_audit_records[1h])",
        minutes: 0,
        severity: Critical,
        what: "the audit has fewer records than before: the journal was cut or put back",
        next: "Keep the journal and the audit sink's file as they are, run `keywheel journal verify`, and compare both with your backup.",
        fires: &[("keywheel_audit_records", "50+0x30 40+0x60")],
        labels: &[],
        quiet: &[("keywheel_audit_records", "50+1x60")],
    },
    Alert {
        name: "KeywheelStoreFails",
        when: "sum by (store, error) (increase(keywheel_store_errors_total[10m])) > 0",
        minutes: 0,
        severity: Warning,
        what: "a store fails at what it is asked",
        next: "`keywheel status` shows the store; store-sync's log has the reason of each. Containers keep what they have.",
        fires: &[(
            "keywheel_store_errors_total{store=\"s\",operation=\"set\",error=\"denied\"}",
            "0+1x60",
        )],
        labels: &[("store", "s"), ("error", "denied")],
        quiet: &[(
            "keywheel_store_errors_total{store=\"s\",operation=\"set\",error=\"denied\"}",
            "9+0x60",
        )],
    },
    Alert {
        name: "KeywheelStoreStale",
        when: "max by (store) (keywheel_store_up) == 0",
        minutes: 5,
        severity: Warning,
        what: "a store outside does not answer: what is known of it gets old; containers keep what they have",
        next: "`keywheel store list` says since when and why. It is asked again by itself; `keywheel refresh` asks at once.",
        fires: &[("keywheel_store_up{store=\"s\"}", "0+0x60")],
        labels: &[("store", "s")],
        quiet: &[("keywheel_store_up{store=\"s\"}", "1+0x60")],
    },
    Alert {
        name: "KeywheelStoreSecretsUnreadable",
        when: "max by (store) (keywheel_store_unreadable_secrets) > 0",
        minutes: 10,
        severity: Warning,
        what: "secrets cannot be read at their place in a store that answers: a change there would not be seen",
        next: "`keywheel store list` names one with the reason. Add the right (`keywheel store policy NAME`), or correct the secret's `source`; then `keywheel refresh NAME`.",
        fires: &[("keywheel_store_unreadable_secrets{store=\"s\"}", "1+0x60")],
        labels: &[("store", "s")],
        quiet: &[("keywheel_store_unreadable_secrets{store=\"s\"}", "0+0x60")],
    },
    Alert {
        name: "KeywheelStoreSlow",
        when: "histogram_quantile(0.99, sum by (store, le) (rate(keywheel_store_operation_duration_seconds_bucket[30m]))) > 10",
        minutes: 0,
        severity: Warning,
        what: "a store is slow",
        next: "Look at the store itself and at the way to it; a step has 45 seconds, then it is tried again.",
        fires: &[
            (
                "keywheel_store_operation_duration_seconds_bucket{store=\"s\",le=\"60\"}",
                "0+1x60",
            ),
            (
                "keywheel_store_operation_duration_seconds_bucket{store=\"s\",le=\"+Inf\"}",
                "0+1x60",
            ),
        ],
        labels: &[("store", "s")],
        quiet: &[
            (
                "keywheel_store_operation_duration_seconds_bucket{store=\"s\",le=\"1\"}",
                "0+1x60",
            ),
            (
                "keywheel_store_operation_duration_seconds_bucket{store=\"s\",le=\"+Inf\"}",
                "0+1x60",
            ),
        ],
    },
    Alert {
        name: "KeywheelEffectsWait",
        when: "min(keywheel_effects_open) > 0",
        minutes: 15,
        severity: Warning,
        what: "work for store-sync is not done",
        next: "Is a store-sync heard in `keywheel status`, and does its store answer? What is open is sent again until it is done.",
        fires: &[("keywheel_effects_open", "1+0x60")],
        labels: &[],
        quiet: &[("keywheel_effects_open", "0+0x60")],
    },
    Alert {
        name: "KeywheelSealed",
        when: "min(keywheel_sealed) > 0",
        minutes: 2,
        severity: Critical,
        what: "no store-sync that is heard has its unseal key: no value is given out; hosts keep what they have",
        next: "`keywheel status` names the store-syncs. One does not start without its unseal key: its log says what is missing.",
        fires: &[("keywheel_sealed", "1+0x60")],
        labels: &[],
        quiet: &[("keywheel_sealed", "0+0x60")],
    },
    Alert {
        name: "KeywheelRequestsDenied",
        when: "sum(increase(keywheel_requests_denied_total[10m])) > 20",
        minutes: 0,
        severity: Warning,
        what: "many requests of those who may not",
        next: "`keywheel audit list` names who asked for what: a program with a wrong user, or somebody who tries.",
        fires: &[("keywheel_requests_denied_total", "0+10x60")],
        labels: &[],
        quiet: &[("keywheel_requests_denied_total", "0+1x60")],
    },
    Alert {
        name: "KeywheelProblem",
        when: "max(keywheel_findings{severity=\"problem\"}) > 0",
        minutes: 5,
        severity: Warning,
        what: "`keywheel status` finds a problem",
        next: "`keywheel status`: problems come first, each with its next step.",
        fires: &[("keywheel_findings{severity=\"problem\"}", "1+0x60")],
        labels: &[],
        quiet: &[("keywheel_findings{severity=\"warning\"}", "1+0x60")],
    },
    Alert {
        name: "KeywheelVersionsDiffer",
        when: "count(count by (version) (keywheel_build_info)) > 1",
        minutes: 30,
        severity: Warning,
        what: "services of different versions run together",
        next: "Bring all to one version; `keywheel_build_info` says which service has which.",
        fires: &[
            ("keywheel_build_info{version=\"1\"}", "1+0x60"),
            ("keywheel_build_info{version=\"2\"}", "1+0x60"),
        ],
        labels: &[],
        quiet: &[(
            "keywheel_build_info{service=\"gateway\",version=\"1\"}",
            "1+0x60",
        )],
    },
];
