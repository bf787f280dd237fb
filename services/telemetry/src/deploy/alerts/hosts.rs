//! Alerts about hosts.

use super::Severity::{Critical, Warning};
use super::{Alert, Runbook, fires, quiet};

pub(super) const ALL: &[Alert] = &[
    Alert {
        name: "KeywheelHostSilent",
        when: "time() - max by (host) (keywheel_host_last_contact_timestamp_seconds) > 120",
        minutes: 1,
        severity: Critical,
        what: "no gateway hears a host; its containers keep what they have",
        next: "On the host: is keywheel-injector running, and does it reach the bus? A machine that is gone: `keywheel host evict NAME --reason TEXT`.",
        runbook: Runbook {
            means: "A host asks for its plan every half minute, and no gateway has heard it for two minutes. A gateway that just started counts from its start, so a host that was dead before is found, two minutes later.",
            affected: "Its containers keep what they have. Starts there are served from what the host holds until its lease is over. Rotations wait for it and are parked, revocations stay open.",
            look: &[
                "`keywheel host describe HOST`: when it was heard last, what it may hold, what waits for it.",
                "`systemctl status keywheel-injector` and `journalctl -u keywheel-injector --since -30min` on the host.",
                "`keywheel doctor --config /etc/keywheel/injector.toml --role injector` on the host: credentials, clock, bus servers, engine.",
            ],
            act: &[
                "The machine is down: start it; nothing else has to be done.",
                "The injector does not run: `keywheel-node start injector`; with `keywheel up`, start that.",
                "It runs and does not reach the bus: repair network or firewall to the addresses that `keywheel doctor` names.",
                "Its credentials ended: it renews at the gateway's join port by itself; open that port, or make it join again: `keywheel host join-token HOST`.",
                "The machine is gone for good, or not yours any more: `keywheel host evict HOST --reason TEXT`, then rotate the secrets that the answer names.",
            ],
        },
        labels: &[("host", "h")],
        examples: &[
            fires(
                "fires",
                &[(
                    "keywheel_host_last_contact_timestamp_seconds{host=\"h\"}",
                    "0+0x60",
                )],
            ),
            fires(
                "fires for a host that a restarted gateway never heard",
                &[(
                    "keywheel_host_last_contact_timestamp_seconds{host=\"h\"}",
                    "_x55 3300+0x5",
                )],
            ),
            quiet(
                "keeps quiet",
                &[(
                    "keywheel_host_last_contact_timestamp_seconds{host=\"h\"}",
                    "0+60x60",
                )],
            ),
            quiet(
                "keeps quiet while one of two gateways hears it",
                &[
                    (
                        "keywheel_host_last_contact_timestamp_seconds{host=\"h\",instance=\"a\"}",
                        "0+0x60",
                    ),
                    (
                        "keywheel_host_last_contact_timestamp_seconds{host=\"h\",instance=\"b\"}",
                        "0+60x60",
                    ),
                ],
            ),
        ],
    },
    Alert {
        name: "KeywheelHostPlanLag",
        when: "max by (host) (keywheel_host_plan_lag_seconds) > 60",
        minutes: 1,
        severity: Warning,
        what: "a host works on an older plan than the newest",
        next: "Look at the injector's log on that host: the container engine may hang, or a container cannot be served.",
        runbook: Runbook {
            means: "The host is heard, but for more than a minute it has said that it works on an older plan than the gateway has for it.",
            affected: "New versions, bindings and revocations have no effect there yet. What its containers have is untouched.",
            look: &[
                "`keywheel host describe HOST`: its plan and the newest.",
                "`journalctl -u keywheel-injector --since -30min` there: what does the pass wait for?",
                "`docker ps` there: does the engine answer at once?",
                "The metric `keywheel_bus_backlog_messages{service=\"injector\"}` of that host: do plans wait on the bus?",
            ],
            act: &[
                "The engine hangs: repair or restart it; the injector goes on by itself.",
                "A container cannot be served: its reason is in `keywheel consumers`; stop it or correct its binding.",
                "The log says that a plan was refused as `stale`: an older journal or gateway talks to it; see [KeywheelBusRefuses](#keywheelbusrefuses).",
                "Nothing of this: `keywheel-node stop injector` and `keywheel-node start injector` there; containers keep what they have.",
            ],
        },
        labels: &[("host", "h")],
        examples: &[
            fires(
                "fires",
                &[("keywheel_host_plan_lag_seconds{host=\"h\"}", "90+0x60")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_host_plan_lag_seconds{host=\"h\"}", "60+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelHostLeaseEnding",
        when: "min by (host) ((keywheel_host_lease_expiry_timestamp_seconds - timestamp(keywheel_host_lease_expiry_timestamp_seconds)) / keywheel_host_lease_seconds) < 0.25",
        minutes: 1,
        severity: Critical,
        what: "less than a quarter of a host's lease on what it holds is left, or none: no container starts there then",
        next: "Let the host reach its gateway: first the bus, then the gateway. `injector.lease` says how long it may be alone.",
        runbook: Runbook {
            means: "The lease begins anew with each word of the gateway, every half minute. Three quarters of it have passed without one.",
            affected: "When it is over, no container that needs a secret starts on that host. With `injector.lease_policy = \"withdraw\"` files are then taken out of running containers, and containers with a variable are stopped.",
            look: &[
                "`keywheel host describe HOST`: when the gateway heard it last.",
                "`keywheel doctor --config /etc/keywheel/injector.toml --role injector` on the host: does it reach the bus servers?",
                "`keywheel status`: is a gateway heard, and does the journal answer?",
            ],
            act: &[
                "No gateway runs: `keywheel-node start gateway` on its machine; that comes first.",
                "The host is cut off: repair the way to the bus servers.",
                "It takes longer than what is left: on a host that may be alone for longer raise `injector.lease` (at most 30 days) in `/etc/keywheel/injector.toml`, then `keywheel-node stop injector` and `keywheel-node start injector`. The time that was spent counts.",
                "The machine is not trusted any more: `keywheel host evict HOST --reason TEXT`.",
            ],
        },
        labels: &[("host", "h")],
        examples: &[
            fires(
                "fires for a lease of a day",
                &[
                    (
                        "keywheel_host_lease_expiry_timestamp_seconds{host=\"h\"}",
                        "5000+0x60",
                    ),
                    ("keywheel_host_lease_seconds{host=\"h\"}", "86400+0x60"),
                ],
            ),
            fires(
                "fires for a lease that is over",
                &[
                    (
                        "keywheel_host_lease_expiry_timestamp_seconds{host=\"h\"}",
                        "0+60x60",
                    ),
                    ("keywheel_host_lease_seconds{host=\"h\"}", "300+0x60"),
                ],
            ),
            quiet(
                "keeps quiet about a host that is alone for an hour of its day",
                &[
                    (
                        "keywheel_host_lease_expiry_timestamp_seconds{host=\"h\"}",
                        "86400+0x60",
                    ),
                    ("keywheel_host_lease_seconds{host=\"h\"}", "86400+0x60"),
                ],
            ),
            quiet(
                "keeps quiet about the shortest lease that is permitted",
                &[
                    (
                        "keywheel_host_lease_expiry_timestamp_seconds{host=\"h\"}",
                        "270+60x60",
                    ),
                    ("keywheel_host_lease_seconds{host=\"h\"}", "300+0x60"),
                ],
            ),
        ],
    },
    Alert {
        name: "KeywheelHostEngineDown",
        when: "min by (host) (keywheel_host_engine_up) == 0",
        minutes: 2,
        severity: Critical,
        what: "the container engine of a host cannot be used",
        next: "Start Docker on that host, or name its socket with `DOCKER_HOST`.",
        runbook: Runbook {
            means: "The injector of that host gets no answer from its container engine.",
            affected: "Containers run on with what they have. New versions reach none of them there, and starts are refused, since nothing is known about a container that starts.",
            look: &[
                "`docker info` on the host, as the user that the injector runs as.",
                "`systemctl status docker` and `journalctl -u docker --since -30min` there.",
                "`keywheel doctor --config /etc/keywheel/injector.toml --role injector` there: the engine, as the injector sees it, in words.",
            ],
            act: &[
                "The engine is down: `systemctl start docker`.",
                "It runs elsewhere than at its usual socket: set `DOCKER_HOST` for the injector and start that again.",
                "It runs and is refused: give the injector's user the right to its socket.",
                "Afterwards `keywheel host describe HOST` shows the newest plan within half a minute.",
            ],
        },
        labels: &[("host", "h")],
        examples: &[
            fires(
                "fires",
                &[("keywheel_host_engine_up{host=\"h\"}", "0+0x60")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_host_engine_up{host=\"h\"}", "1+0x60")],
            ),
        ],
    },
];
