//! Alerts about Keywheel's own services, the bus, the journal and the audit.

use super::Severity::{Critical, Warning};
use super::{Alert, Runbook, fires, fires_as, quiet};

/// That anything of Keywheel is there at all: all other alerts need it.
pub(super) const DOWN: &[Alert] = &[
    Alert {
        name: "KeywheelGatewayAbsent",
        when: "absent(keywheel_build_info{service=\"gateway\"})",
        minutes: 2,
        severity: Critical,
        what: "Prometheus sees no gateway: Keywheel is down, or its page is not read, and every other alert is blind",
        next: "`keywheel status` on the gateway's machine; start it with `keywheel-node start gateway` or `keywheel up`; when it runs, look at Prometheus' page of targets.",
        runbook: Runbook {
            means: "No page that Prometheus reads has a gateway on it. With `keywheel up` that is the whole of Keywheel; apart it is the last gateway. Nothing else can tell: the numbers of all other alerts went with it.",
            affected: "When it is really down: nothing is decided, no rotation, revocation or apply. Containers keep what they have; starts are served from each host's cache until its lease is over.",
            look: &[
                "`keywheel status` on the gateway's machine: does it answer?",
                "`systemctl status keywheel-gateway` and `journalctl -u keywheel-gateway --since -30min`; for `keywheel up` the same of whatever starts it.",
                "The page of targets of your Prometheus: is the target there, and what does its last error say?",
                "`curl --silent http://127.0.0.1:9464/metrics` on its machine, or `curl --silent --unix-socket /run/keywheel/metrics.sock http://x/metrics`: is the page served where `metrics.listen` says?",
            ],
            act: &[
                "It is down: `keywheel-node start gateway`, or `keywheel up` as before. It reads its journal and goes on where it was.",
                "It does not start: its last line says the thing, the reason and the next step; `keywheel doctor --config /etc/keywheel/gateway.toml --role gateway` looks at its file, credentials, database, bus and disk.",
                "Its machine is lost: put `/etc/keywheel/gateway`, its unseal key and `journal.password` from your backup on another one that answers to the same name, and start it there.",
                "It runs and Prometheus does not see it: set `metrics.listen`, correct the scrape configuration, or start the agent that passes the page on.",
            ],
        },
        labels: &[("service", "gateway")],
        examples: &[
            fires(
                "fires when a process that was everything is gone",
                &[
                    (
                        "keywheel_build_info{service=\"gateway\",instance=\"a\"}",
                        "1+0x50 stale",
                    ),
                    ("up{job=\"keywheel\",instance=\"a\"}", "1+0x50 0+0x10"),
                ],
            ),
            fires("fires when there never was one", &[]),
            quiet(
                "keeps quiet while one of two is left",
                &[
                    (
                        "keywheel_build_info{service=\"gateway\",instance=\"a\"}",
                        "1+0x50 stale",
                    ),
                    (
                        "keywheel_build_info{service=\"gateway\",instance=\"b\"}",
                        "1+0x60",
                    ),
                ],
            ),
        ],
    },
    Alert {
        name: "KeywheelDown",
        when: "up{job=~\"keywheel.*\"} == 0 or (up == 0 and on (job, instance) last_over_time(keywheel_build_info[1d]))",
        minutes: 2,
        severity: Critical,
        what: "a process of Keywheel is not there, or does not show its page",
        next: "On the machine of `instance`: `keywheel-node status`, then `keywheel-node start ROLE`; its log has the reason.",
        runbook: Runbook {
            means: "Prometheus cannot read a page: of a job that is called `keywheel` or begins so, or of a target that showed Keywheel within the last day. `instance` says which.",
            affected: "What that process did. A gateway: decisions. store-sync: steps at stores and new values. scheduler: schedules. injector: one host. audit-sink: the second copy of the audit. Containers keep what they have.",
            look: &[
                "`keywheel status`: which service is not heard, and on which machine?",
                "`keywheel-node status` on that machine: which roles run there?",
                "`journalctl -u 'keywheel-*' --since -30min` there; without systemd `tail /var/log/keywheel/*`.",
                "`curl --silent http://127.0.0.1:9464/metrics` there: it runs, and only its page cannot be read?",
            ],
            act: &[
                "It ended: `keywheel-node start ROLE`. It resumes what was open; nothing has to be repeated by hand.",
                "It ends again at once: `keywheel doctor --config /etc/keywheel/ROLE.toml` names what is wrong with its configuration, credentials, clock, bus or disk.",
                "It was killed for its memory or by a full disk: `journalctl -k --since -1h`, `df -h`; give it what it needs.",
                "It was taken away on purpose: take its target out of your Prometheus as well.",
            ],
        },
        labels: &[("job", "keywheel"), ("instance", "a")],
        examples: &[
            fires(
                "fires when a process is gone",
                &[
                    (
                        "keywheel_build_info{service=\"scheduler\",job=\"keywheel\",instance=\"a\"}",
                        "1+0x50 stale",
                    ),
                    ("up{job=\"keywheel\",instance=\"a\"}", "1+0x50 0+0x10"),
                    ("up{job=\"keywheel\",instance=\"b\"}", "1+0x60"),
                    ("up{job=\"other\",instance=\"c\"}", "0+0x60"),
                ],
            ),
            fires_as(
                "fires for a job of any name, once it showed Keywheel",
                &[("job", "nodes"), ("instance", "a")],
                &[
                    (
                        "keywheel_build_info{service=\"scheduler\",job=\"nodes\",instance=\"a\"}",
                        "1+0x50 stale",
                    ),
                    ("up{job=\"nodes\",instance=\"a\"}", "1+0x50 0+0x10"),
                ],
            ),
            fires(
                "fires for one that never answered",
                &[("up{job=\"keywheel\",instance=\"a\"}", "0+0x60")],
            ),
            quiet(
                "keeps quiet about what is none of ours",
                &[
                    ("up{job=\"other\",instance=\"c\"}", "0+0x60"),
                    ("up{job=\"keywheel\",instance=\"a\"}", "1+0x60"),
                    (
                        "keywheel_build_info{service=\"gateway\",job=\"keywheel\",instance=\"a\"}",
                        "1+0x60",
                    ),
                ],
            ),
        ],
    },
];

pub(super) const ALL: &[Alert] = &[
    Alert {
        name: "KeywheelInstanceSilent",
        when: "max by (service) (keywheel_instances{heard=\"no\"}) > 0",
        minutes: 2,
        severity: Warning,
        what: "an instance of a service is not heard, or a needed service never was",
        next: "`keywheel status` names its machine. Start it again there; one that ended for good is forgotten after a day.",
        runbook: Runbook {
            means: "Each instance says every ten seconds that it is there. One was not heard for 35 seconds, or a service that is needed (scheduler, store-sync, audit sink, a host's injector) was never heard since the gateway began to listen.",
            affected: "Without a scheduler nothing rotates by itself; without a store-sync no step is done and no new value given out; without an audit sink there is no second copy of the audit. Where several run, the others go on.",
            look: &[
                "`keywheel status`: the instance, its machine and since when; `-` where none was ever heard.",
                "`systemctl status 'keywheel-*'` and `keywheel-node status` on that machine.",
                "`keywheel doctor --config /etc/keywheel/ROLE.toml` there: does it reach the bus servers, is its clock right?",
            ],
            act: &[
                "It is down: `keywheel-node start ROLE`.",
                "It runs and is not heard: repair its way to the bus, or its clock (more than two minutes apart and nothing it says is taken).",
                "It ended for good: nothing; it is forgotten after a day. A host: `keywheel host evict HOST --reason TEXT`.",
            ],
        },
        labels: &[("service", "scheduler")],
        examples: &[
            fires(
                "fires",
                &[(
                    "keywheel_instances{service=\"scheduler\",heard=\"no\"}",
                    "1+0x60",
                )],
            ),
            quiet(
                "keeps quiet",
                &[
                    (
                        "keywheel_instances{service=\"scheduler\",heard=\"yes\"}",
                        "1+0x60",
                    ),
                    (
                        "keywheel_instances{service=\"scheduler\",heard=\"no\"}",
                        "0+0x60",
                    ),
                ],
            ),
        ],
    },
    Alert {
        name: "KeywheelReaderLag",
        when: "min by (service, machine) (keywheel_reader_lag) > 1000",
        minutes: 5,
        severity: Warning,
        what: "a reader of the log, or the audit's second copy, stays behind",
        next: "It catches up by itself; when the number grows, look at its log and at its disk.",
        runbook: Runbook {
            means: "A gateway, a scheduler or the audit sink has been more than a thousand events, or records, behind the log for five minutes.",
            affected: "A scheduler that is behind fires late. An audit sink that is behind has not yet copied the newest records: until then only the journal has them.",
            look: &[
                "`keywheel status`: `lag` of the instance that `service` and `machine` name; ask again after a minute: does it shrink?",
                "`journalctl -u keywheel-SERVICE --since -30min` on that machine.",
                "`df -h` and `iostat -x 1 5` there: is its disk full or slow?",
                "`keywheel doctor --config /etc/keywheel/ROLE.toml` there: bus, clock, disk.",
            ],
            act: &[
                "The number shrinks: wait; after a long time away it reads everything once.",
                "The disk is full or slow: make room; it goes on by itself.",
                "The number stands: `keywheel-node stop ROLE` and `keywheel-node start ROLE`; nothing is lost by it.",
            ],
        },
        labels: &[("service", "audit-sink"), ("machine", "m")],
        examples: &[
            fires(
                "fires",
                &[(
                    "keywheel_reader_lag{service=\"audit-sink\",machine=\"m\"}",
                    "2000+0x60",
                )],
            ),
            quiet(
                "keeps quiet",
                &[(
                    "keywheel_reader_lag{service=\"audit-sink\",machine=\"m\"}",
                    "1000+0x60",
                )],
            ),
        ],
    },
    Alert {
        name: "KeywheelBusDisconnected",
        when: "keywheel_bus_connected == 0",
        minutes: 1,
        severity: Critical,
        what: "a service has no connection to the bus server",
        next: "Is the bus server up, and reached from that machine? The service's log says why its connect is refused.",
        runbook: Runbook {
            means: "The process at `instance` has had no connection to any of its bus servers for a minute. It tries again all the time.",
            affected: "That service does nothing for others. A gateway: no host and no service gets work or plans from it. A host: it keeps what it has.",
            look: &[
                "`keywheel doctor --config /etc/keywheel/ROLE.toml` on its machine: which bus servers answer, and what do they say?",
                "`systemctl status 'keywheel-bus@*'` on the bus servers' machines, and `journalctl -u 'keywheel-bus@*' --since -30min`.",
                "`journalctl -u keywheel-SERVICE --since -30min`: refused by a certificate, by its permit, or not reached?",
            ],
            act: &[
                "The bus servers are down: `keywheel-node start bus-1`, and the others alike; two of three are enough.",
                "They are not reached: repair network, firewall or name resolution.",
                "The certificate is refused: look at the clocks of both; of a bus server that was not renewed for 90 days `keywheel credentials refresh DIR` at the gateway's machine.",
                "A bus server lost its files: `keywheel nats config --bus HOST-1:4222 --bus HOST-2:4222 --bus HOST-3:4222 --node bus-1 --out DIR` at the gateway's machine writes them anew.",
            ],
        },
        labels: &[("service", "gateway")],
        examples: &[
            fires(
                "fires",
                &[("keywheel_bus_connected{service=\"gateway\"}", "0+0x60")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_bus_connected{service=\"gateway\"}", "1+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelBusBacklog",
        when: "max by (service, topic) (keywheel_bus_backlog_messages) > 1000",
        minutes: 5,
        severity: Warning,
        what: "messages wait on the bus server, and their reader does not keep up",
        next: "`keywheel status`: is the service heard, and what does it say of itself? Its log says what it waits for.",
        runbook: Runbook {
            means: "For five minutes more than a thousand messages of a topic have waited for a service: not read, or read and not done with. The bus server counts them, so a service that hangs is seen, too.",
            affected: "`work`: steps and revocations at stores are late. `plan`: that host gets versions late. `events`, `audit`: schedules and the second copy of the audit are late. Nothing is lost: streams are a convenience, and the log has all of it.",
            look: &[
                "`keywheel status`: the service that `service` names, its facts and its lag.",
                "The metric `keywheel_bus_backlog_messages` over the last hours: does it grow, stand, or shrink?",
                "`journalctl -u keywheel-SERVICE --since -30min`: what does it wait for?",
                "`keywheel doctor --config /etc/keywheel/ROLE.toml` on its machine: bus, clock, disk.",
            ],
            act: &[
                "`work`: a store that is slow or away holds its steps; see [KeywheelStoreStale](#keywheelstorestale) and [KeywheelStoreSlow](#keywheelstoreslow). Start another store-sync beside it: `keywheel-node start store-sync` on another machine.",
                "It shrinks: wait.",
                "The service hangs: `keywheel-node stop ROLE` and `keywheel-node start ROLE`; what it had not done comes again.",
            ],
        },
        labels: &[("service", "store-sync"), ("topic", "work")],
        examples: &[
            fires(
                "fires",
                &[(
                    "keywheel_bus_backlog_messages{service=\"store-sync\",topic=\"work\"}",
                    "1001+0x60",
                )],
            ),
            quiet(
                "keeps quiet",
                &[(
                    "keywheel_bus_backlog_messages{service=\"store-sync\",topic=\"work\"}",
                    "1000+0x60",
                )],
            ),
        ],
    },
    Alert {
        name: "KeywheelBusRefuses",
        when: "sum by (service, instance) (increase(keywheel_bus_refused_messages_total[10m])) > 0 or sum by (service, instance) (keywheel_bus_refused_messages_total unless keywheel_bus_refused_messages_total offset 10m) > 0",
        minutes: 0,
        severity: Warning,
        what: "a service refuses messages: a wrong clock, another build, or an attack",
        next: "Its log names the reason and the subject of each sort; `of another time` is mostly a wrong clock; `stale` is an older state told again: a journal that was put back, a gateway that slept, or somebody who replays.",
        runbook: Runbook {
            means: "Within ten minutes the service at `instance` dropped a message: forged, replayed, stale, malformed, or of a sender who may not say it.",
            affected: "Nothing by itself: what is refused has no effect and delays nothing else. When it was an honest message, its sender is not heard.",
            look: &[
                "`journalctl -u keywheel-SERVICE --since -30min`: one line per reason and ten seconds, with the subject.",
                "`keywheel audit list --limit 100`: `refuse-plan` with the reason `stale`, where a host refused a plan.",
                "`timedatectl` on the machines of both sides: clocks must agree within two minutes.",
                "`keywheel status`: do versions differ, or does an instance say that its clock is apart?",
            ],
            act: &[
                "`of another time`: set both clocks by one time server.",
                "`stale`: an older journal was put back, or a gateway slept: `keywheel journal verify`; stop the gateway that is behind.",
                "Another version: bring all to one, in the order that the README of `deploy/` gives.",
                "A signature that fits nobody, or a sender who may not: somebody else has credentials. `keywheel host evict HOST --reason TEXT` for a host; for a service `keywheel ca begin`, and later `keywheel ca finish`, gives everybody new ones.",
            ],
        },
        labels: &[("service", "gateway"), ("instance", "a")],
        examples: &[
            fires(
                "fires while messages are refused",
                &[(
                    "keywheel_bus_refused_messages_total{service=\"gateway\",instance=\"a\"}",
                    "0+1x60",
                )],
            ),
            fires(
                "fires when the first came before the page was read once",
                &[(
                    "keywheel_bus_refused_messages_total{service=\"gateway\",instance=\"a\"}",
                    "_x55 1+0x10",
                )],
            ),
            quiet(
                "keeps quiet about what was refused long ago",
                &[(
                    "keywheel_bus_refused_messages_total{service=\"gateway\",instance=\"a\"}",
                    "7+0x60",
                )],
            ),
            quiet(
                "keeps quiet after a start",
                &[(
                    "keywheel_bus_refused_messages_total{service=\"gateway\",instance=\"a\"}",
                    "_x55 0+0x10",
                )],
            ),
        ],
    },
    Alert {
        name: "KeywheelCredentialsEnding",
        when: "(keywheel_credentials_expiry_timestamp_seconds - timestamp(keywheel_credentials_expiry_timestamp_seconds)) / keywheel_credentials_lifetime_seconds < 0.25",
        minutes: 1,
        severity: Critical,
        what: "less than a quarter of the life of a service's credentials is left, and they were not renewed",
        next: "Its log says why. A service that was away too long: `keywheel credentials refresh DIR` at the gateway's machine; a host joins again.",
        runbook: Runbook {
            means: "Credentials are renewed at half of their life (`credentials.lifetime`, an hour unless you said otherwise). This process has less than a quarter left.",
            affected: "Nothing yet. When they end, its next connect to the bus is refused, and it is as good as down.",
            look: &[
                "`journalctl -u keywheel-SERVICE --since -1h` on its machine: why was it not renewed?",
                "`keywheel status`: is a gateway heard? It renews them.",
                "`keywheel doctor --config /etc/keywheel/ROLE.toml` there: the end of its certificate, its clock, and whether its directory can be written.",
            ],
            act: &[
                "No gateway runs: `keywheel-node start gateway`; the next try comes by itself.",
                "Its directory cannot be written, or the disk is full: make it so; the next try comes by itself.",
                "They ended meanwhile: `keywheel credentials refresh DIR` at the gateway's machine, with the service's directory or a copy of it; a host renews at the join port, or joins again with `keywheel host join-token HOST`.",
            ],
        },
        labels: &[("service", "gateway")],
        examples: &[
            fires(
                "fires for credentials of an hour",
                &[
                    (
                        "keywheel_credentials_expiry_timestamp_seconds{service=\"gateway\"}",
                        "4200+0x60",
                    ),
                    (
                        "keywheel_credentials_lifetime_seconds{service=\"gateway\"}",
                        "3600+0x60",
                    ),
                ],
            ),
            fires(
                "fires for credentials that are over",
                &[
                    (
                        "keywheel_credentials_expiry_timestamp_seconds{service=\"gateway\"}",
                        "100+0x60",
                    ),
                    (
                        "keywheel_credentials_lifetime_seconds{service=\"gateway\"}",
                        "10+0x60",
                    ),
                ],
            ),
            quiet(
                "keeps quiet about the shortest life that is permitted, right before it is renewed",
                &[
                    (
                        "keywheel_credentials_expiry_timestamp_seconds{service=\"gateway\"}",
                        "4+60x60",
                    ),
                    (
                        "keywheel_credentials_lifetime_seconds{service=\"gateway\"}",
                        "10+0x60",
                    ),
                ],
            ),
            quiet(
                "keeps quiet about a life of a day",
                &[
                    (
                        "keywheel_credentials_expiry_timestamp_seconds{service=\"gateway\"}",
                        "43200+0x60",
                    ),
                    (
                        "keywheel_credentials_lifetime_seconds{service=\"gateway\"}",
                        "86400+0x60",
                    ),
                ],
            ),
        ],
    },
    Alert {
        name: "KeywheelVersionsDiffer",
        when: "count(count by (version) (keywheel_build_info)) > 1",
        minutes: 30,
        severity: Warning,
        what: "services of different versions run together",
        next: "Bring all to one version; `keywheel_build_info` says which service has which.",
        runbook: Runbook {
            means: "For half an hour processes of more than one version of Keywheel have run.",
            affected: "Mostly nothing: that is what an upgrade looks like. A newer gateway writes events that older services refuse to guess at, and these stand still then.",
            look: &[
                "`keywheel status`: each instance with its version.",
                "`keywheel version` on the machine of the one that differs.",
            ],
            act: &[
                "Go on with the upgrade in its order: bus servers, audit-sink, store-sync, scheduler, gateways, injectors last.",
                "Replace the programs with `deploy/install.sh`, then `keywheel-node stop ROLE` and `keywheel-node start ROLE`.",
                "`keywheel status` afterwards: one version, nothing found.",
            ],
        },
        labels: &[],
        examples: &[
            fires(
                "fires",
                &[
                    ("keywheel_build_info{version=\"1\"}", "1+0x60"),
                    ("keywheel_build_info{version=\"2\"}", "1+0x60"),
                ],
            ),
            quiet(
                "keeps quiet",
                &[(
                    "keywheel_build_info{service=\"gateway\",version=\"1\"}",
                    "1+0x60",
                )],
            ),
        ],
    },
    Alert {
        name: "KeywheelClockSetBack",
        when: "sum by (service, instance) (increase(keywheel_clock_set_back_total[30m])) > 0 or sum by (service, instance) (keywheel_clock_set_back_total unless keywheel_clock_set_back_total offset 30m) > 0",
        minutes: 0,
        severity: Warning,
        what: "the wall clock of the scheduler's machine was set back by more than 5 seconds",
        next: "`timedatectl` on the scheduler's machine: is it set by a time server? `keywheel schedule next NAME` says when secrets rotate by the clock as it is now.",
        runbook: Runbook {
            means: "Within half an hour the wall clock of the machine on which the scheduler runs went back against its monotonic one: somebody set it, a time server stepped it, or the machine was put back to a snapshot.",
            affected: "Nothing is done twice: a slot that was served is known by its id, and does not fire again. Slots and deadlines to come wait for the times that they name, so they come later by as much as the clock was set back.",
            look: &[
                "`keywheel status`: does the scheduler name its clock, and do other instances say that their clocks are apart?",
                "`timedatectl` and `journalctl -u systemd-timesyncd --since -1h` on its machine: who set it, and is it right now?",
                "`keywheel schedule next NAME`: when the next rotation of a secret comes.",
            ],
            act: &[
                "The clock is wrong: have a time server set it; rotations that are due by the right clock come at once then.",
                "It was ahead before and is right now: a rotation that began early stays; `keywheel get rotations` shows which began in that time.",
                "The machine was put back to a snapshot: `keywheel journal verify` where it holds a journal, and read `keywheel status`.",
            ],
        },
        labels: &[("service", "scheduler"), ("instance", "a")],
        examples: &[
            fires(
                "fires when the clock was set back",
                &[(
                    "keywheel_clock_set_back_total{service=\"scheduler\",instance=\"a\"}",
                    "0+0x50 1+0x10",
                )],
            ),
            fires(
                "fires when that was before the page was read once",
                &[(
                    "keywheel_clock_set_back_total{service=\"scheduler\",instance=\"a\"}",
                    "_x50 1+0x10",
                )],
            ),
            quiet(
                "keeps quiet about what was long ago",
                &[(
                    "keywheel_clock_set_back_total{service=\"scheduler\",instance=\"a\"}",
                    "1+0x60",
                )],
            ),
            quiet(
                "keeps quiet after a start",
                &[(
                    "keywheel_clock_set_back_total{service=\"scheduler\",instance=\"a\"}",
                    "_x50 0+0x10",
                )],
            ),
        ],
    },
];
