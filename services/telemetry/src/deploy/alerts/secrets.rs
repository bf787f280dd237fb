//! Alerts about secrets, their rotations and revocations, and whoever uses them.

use super::Severity::{Critical, Warning};
use super::{Alert, Runbook, fires, quiet};

pub(super) const ALL: &[Alert] = &[
    Alert {
        name: "KeywheelSecretOverdue",
        when: "max by (secret) (keywheel_secret_overdue) > 0",
        minutes: 5,
        severity: Warning,
        what: "a secret has not rotated although its schedule wanted it, or never had a version",
        next: "`keywheel describe secret NAME` and `keywheel get rotations`: is a rotation open, parked or rolled back? Is the scheduler heard in `keywheel status`? Then `keywheel rotate NAME --wait`.",
        runbook: Runbook {
            means: "The schedule wanted a new version, its jitter and ten minutes more have passed, and none was promoted. Or a secret was declared that long ago, with a generator or a place in a store outside, and its first version never came.",
            affected: "Containers keep the version they have, which is older than you allow. A secret without any version lets no container start that needs it.",
            look: &[
                "`keywheel describe secret NAME`: which version is current, since when, and is a rotation open?",
                "`keywheel describe rotation NAME`: the newest rotation of the secret, the step it is at and the reason of its last failure.",
                "`keywheel status`: are a scheduler and a store-sync heard, and does the store answer?",
                "`keywheel events list --secret NAME --since 24h`: what happened to it, in order.",
            ],
            act: &[
                "No scheduler is heard: start it, `keywheel-node start scheduler` on its machine; what was missed is made up for at once.",
                "A step fails: repair what its reason names (rights, address, disk); it is tried again by itself.",
                "The last rotation was rolled back or parked: remove the cause, then `keywheel rotate NAME --wait`.",
                "The schedule itself is not what you want: change `spec.rotation` in its manifest and `keywheel apply -f FILE`.",
            ],
        },
        labels: &[("secret", "a")],
        examples: &[
            fires(
                "fires",
                &[("keywheel_secret_overdue{secret=\"a\"}", "1+0x60")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_secret_overdue{secret=\"a\"}", "0+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelRotationParked",
        when: "max(keywheel_rotations_parked) > 0",
        minutes: 1,
        severity: Warning,
        what: "a rotation was parked: consumers were too slow, and the old version is still alive",
        next: "`keywheel get rotations` names it, `keywheel describe rotation ID` the consumers it waited for. Repair or stop those, then rotate again: that retires every older version.",
        runbook: Runbook {
            means: "The new version is current and was given out, but not every container showed by its deadline (five minutes, or what the manifest says) that it uses it. Nothing was taken from anybody: the old version stays alive for the stragglers.",
            affected: "The stragglers work on with the old version. It is not destroyed, so a leak of it would still count.",
            look: &[
                "`keywheel get rotations`: which secret's rotation is `parked`.",
                "`keywheel describe rotation NAME`: the consumers it waited for, by host and container.",
                "`keywheel consumers --secret NAME`: who holds which version now, and why not the newest.",
            ],
            act: &[
                "The host is not heard: go on with [KeywheelHostSilent](#keywheelhostsilent).",
                "The container ignores its signal, or does not become healthy after a restart: `docker logs CONTAINER`; correct `spec.reload` of its binding, or restart it by hand: `docker restart CONTAINER`.",
                "The container is not needed any more: `docker rm -f CONTAINER`.",
                "Then `keywheel rotation retry NAME --reason TEXT --wait` waits for them once more; or `keywheel rotate NAME --wait` makes a new value and retires every older version that is left. Either ends the alert. For what stays away: `keywheel rotation force NAME --reason TEXT` revokes the old version without it.",
            ],
        },
        labels: &[],
        examples: &[
            fires("fires", &[("keywheel_rotations_parked", "1+0x60")]),
            quiet("keeps quiet", &[("keywheel_rotations_parked", "0+0x60")]),
        ],
    },
    Alert {
        name: "KeywheelRotationStepFails",
        when: "max by (step) (increase(keywheel_rotation_step_failures_total[15m])) > 0",
        minutes: 0,
        severity: Warning,
        what: "a step of a rotation fails; it is tried again, and rolled back in the end",
        next: "`keywheel describe rotation ID` has the reason of the last failure; `keywheel status` says whether the store answers.",
        runbook: Runbook {
            means: "store-sync could not do one of `create`, `set`, `test`, `finish`, `drain`, `revoke_old` or `roll_back` at a store within the last 15 minutes. The label `step` says which. It is tried again with growing pauses; a store that is away is waited for, anything else is rolled back in the end.",
            affected: "Nothing that runs: until `finish` is done, everybody has the version from before. The secret of that rotation does not get its new one.",
            look: &[
                "`keywheel get rotations`: which is open, or was rolled back just now.",
                "`keywheel describe rotation NAME`: the step, its attempts and the reason in words.",
                "`keywheel events list --type dev.keywheel.rotation.step_failed. --since 1h`: all failures, with their reasons.",
                "`journalctl -u keywheel-store-sync KEYWHEEL_EVENT=step.failed --since -1h` on store-sync's machine: the same with what lay beneath.",
            ],
            act: &[
                "`denied`: give the right that is missing; `keywheel store policy NAME` prints what Keywheel needs.",
                "`conflict`: somebody else wrote there; `keywheel refresh NAME` takes over what is there, then `keywheel rotate NAME --wait`.",
                "`unavailable`: repair the store or the way to it; `keywheel store list` says since when. The step goes on by itself.",
                "Nothing helps and it has to stop: `keywheel describe rotation NAME` until it is rolled back; nothing is lost by that.",
            ],
        },
        labels: &[("step", "set")],
        examples: &[
            fires(
                "fires while steps fail again and again",
                &[(
                    "keywheel_rotation_step_failures_total{step=\"set\"}",
                    "0+1x60",
                )],
            ),
            fires(
                "fires at the first failure after a start",
                &[(
                    "keywheel_rotation_step_failures_total{step=\"set\"}",
                    "_x45 0+0x5 1+0x10",
                )],
            ),
            quiet(
                "keeps quiet about what failed long ago",
                &[(
                    "keywheel_rotation_step_failures_total{step=\"set\"}",
                    "3+0x60",
                )],
            ),
            quiet(
                "keeps quiet when a gateway starts and tells what the log has",
                &[(
                    "keywheel_rotation_step_failures_total{step=\"set\"}",
                    "_x50 3+0x10",
                )],
            ),
        ],
    },
    Alert {
        name: "KeywheelStragglers",
        when: "max by (secret) (keywheel_stragglers) > 0",
        minutes: 10,
        severity: Warning,
        what: "consumers do not run on the current version of a secret",
        next: "`keywheel consumers` names them with their reason. Is their host heard (`keywheel host list`)? Do they restart or catch the signal?",
        runbook: Runbook {
            means: "For ten minutes containers have run on another version of the secret than the current one.",
            affected: "Those containers only; they work as long as the old version does. At a store where it was made unusable they fail.",
            look: &[
                "`keywheel consumers --secret NAME`: the containers, their hosts, what they hold and why.",
                "`keywheel host list`: is their host heard, and on its newest plan?",
                "`journalctl -u keywheel-injector --since -1h` on that host: `container.refused`, or an engine that does not answer.",
            ],
            act: &[
                "The host is silent or behind: [KeywheelHostSilent](#keywheelhostsilent), [KeywheelHostPlanLag](#keywheelhostplanlag).",
                "Its reload command fails: the exit code is in `keywheel consumers`; run it by hand with `docker exec`, or correct `spec.reload` of its binding.",
                "The container does not take its signal: `docker restart CONTAINER`; with `reload: { restart: {} }` in its binding Keywheel does that by itself.",
                "It was refused: `keywheel events list --secret NAME --type dev.keywheel.assignment.refused. --since 24h` has the reason.",
                "It is not wanted any more: stop it, or `keywheel unbind BINDING`.",
            ],
        },
        labels: &[("secret", "a")],
        examples: &[
            fires("fires", &[("keywheel_stragglers{secret=\"a\"}", "2+0x60")]),
            quiet(
                "keeps quiet",
                &[("keywheel_stragglers{secret=\"a\"}", "0+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelPropagationSlow",
        when: "histogram_quantile(0.99, max by (le) (rate(keywheel_propagation_seconds_bucket[30m]))) > 30",
        minutes: 0,
        severity: Warning,
        what: "new versions reach running containers slowly",
        next: "Which host lags (`keywheel_host_plan_lag_seconds`)? Is the bus reached from there, and is the container engine busy?",
        runbook: Runbook {
            means: "Of the copies that were replaced in the last half hour, one in a hundred came more than 30 seconds after its version was promoted.",
            affected: "Rotations take longer, and the old version lives longer. Nothing is refused.",
            look: &[
                "`keywheel host list`: which host is behind, and how long ago each was heard.",
                "`keywheel consumers`: are the late ones all on one host, or all of one secret?",
                "The panels `Behind the newest plan` and `Waiting on the bus` of the dashboard: which host or service has a backlog?",
                "`keywheel doctor --config /etc/keywheel/injector.toml --role injector` on a slow host: bus, clock, engine.",
            ],
            act: &[
                "One host: look at its load and at its engine (`docker info`), and at the way to the bus servers.",
                "All hosts: look at the bus servers (`keywheel status`) and at store-sync, which seals every value.",
                "Clocks: the span is by the host's clock; `timedatectl` on host and gateway, and one time server for both.",
            ],
        },
        labels: &[],
        examples: &[
            fires(
                "fires",
                &[
                    ("keywheel_propagation_seconds_bucket{le=\"300\"}", "0+1x60"),
                    ("keywheel_propagation_seconds_bucket{le=\"+Inf\"}", "0+1x60"),
                ],
            ),
            quiet(
                "keeps quiet",
                &[
                    ("keywheel_propagation_seconds_bucket{le=\"1\"}", "0+1x60"),
                    ("keywheel_propagation_seconds_bucket{le=\"+Inf\"}", "0+1x60"),
                ],
            ),
        ],
    },
    Alert {
        name: "KeywheelRevocationOpen",
        when: "max(keywheel_revocations_open) > 0",
        minutes: 5,
        severity: Critical,
        what: "a revocation waits: a host may still hold a dead version, or a store has not confirmed",
        next: "`keywheel get revocations`, then `keywheel describe revocation ID` names hosts and store. A host that is gone for good: `keywheel host evict NAME --reason TEXT`.",
        runbook: Runbook {
            means: "Somebody made versions unusable, and five minutes later it is not sure that they are: a host has not said that it holds them no more, or the store has not confirmed that it destroyed them.",
            affected: "No start gets a dead version any more. What a silent host holds may still be used there, and at the store the old value may still open doors.",
            look: &[
                "`keywheel get revocations`: which one is open.",
                "`keywheel describe revocation NAME`: which hosts it waits for, whether the store confirmed, and the reason of the last failure.",
                "`keywheel host list`: is the host that it waits for heard?",
                "`keywheel store list`: does the store answer?",
            ],
            act: &[
                "A host is silent: bring it back ([KeywheelHostSilent](#keywheelhostsilent)); it withdraws as soon as it has its plan.",
                "The host will not come back, or is in the wrong hands: `keywheel host evict HOST --reason TEXT`; the answer names the secrets to rotate.",
                "The store does not confirm: repair it, it is asked again by itself; meanwhile make the value unusable there by hand, with the store's own tools.",
                "The store is gone for good: `keywheel revocation forget NAME --reason TEXT`, and a second principal repeats it.",
                "It waits for a replacement (`awaiting_replacement`), so its versions live on: `replacement` there says what is missing; `keywheel revoke NAME --reason TEXT` without `--replace` revokes them now.",
                "A leak is under way: `keywheel rotate NAME --wait` for whatever else the same people could read.",
            ],
        },
        labels: &[],
        examples: &[
            fires("fires", &[("keywheel_revocations_open", "1+0x60")]),
            quiet("keeps quiet", &[("keywheel_revocations_open", "0+0x60")]),
        ],
    },
];
