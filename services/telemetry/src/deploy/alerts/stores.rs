//! Alerts about stores, and the work that is done there.

use super::Severity::{Critical, Warning};
use super::{Alert, Runbook, fires, quiet};

pub(super) const ALL: &[Alert] = &[
    Alert {
        name: "KeywheelStoreFails",
        when: "sum by (store, error) (increase(keywheel_store_errors_total[10m])) > 0 or sum by (store, error) (keywheel_store_errors_total unless keywheel_store_errors_total offset 10m) > 0",
        minutes: 0,
        severity: Warning,
        what: "a store fails at what it is asked",
        next: "`keywheel status` shows the store; store-sync's log has the reason of each. Containers keep what they have.",
        runbook: Runbook {
            means: "Within ten minutes a step of a rotation, or a look at what lies there, failed at the store. `error` says how: `denied`, `not_found`, `conflict`, `unavailable` or `corrupt`.",
            affected: "Rotations of that store's secrets wait or are rolled back, and changes there are noticed late. Containers keep what they have, from the encrypted cache.",
            look: &[
                "`keywheel store list`: does it answer, since when not, and why?",
                "`keywheel store describe STORE`: which secrets lie where, and which version of each is known.",
                "`journalctl -u keywheel-store-sync --since -30min` on store-sync's machine: `step.failed`, and looks that failed, each with its reason.",
                "`keywheel events list --type dev.keywheel.rotation.step_failed. --since 1h`: which rotations it hit.",
            ],
            act: &[
                "`denied`: compare its rights with `keywheel store policy STORE` and add what is missing; look whether the credential ended.",
                "`not_found`: correct the secret's `spec.source`, or put a value there; `keywheel refresh NAME` looks at once.",
                "`conflict`: somebody else wrote there; `keywheel refresh NAME` takes that over.",
                "`unavailable`: repair the store or the way to it; it is asked again with growing pauses.",
                "`corrupt`: an answer that is none, or a value that is no text: look at the secret with the store's own tools.",
            ],
        },
        labels: &[("store", "s"), ("error", "denied")],
        examples: &[
            fires(
                "fires while it fails again and again",
                &[(
                    "keywheel_store_errors_total{store=\"s\",operation=\"set\",error=\"denied\"}",
                    "0+1x60",
                )],
            ),
            fires(
                "fires at the first failure of a series that was not there",
                &[(
                    "keywheel_store_errors_total{store=\"s\",operation=\"set\",error=\"denied\"}",
                    "_x55 1+0x10",
                )],
            ),
            fires(
                "fires at the first failure of an operation that was done before",
                &[(
                    "keywheel_store_errors_total{store=\"s\",operation=\"set\",error=\"denied\"}",
                    "_x30 0+0x23 1+0x10",
                )],
            ),
            quiet(
                "keeps quiet about what failed long ago",
                &[(
                    "keywheel_store_errors_total{store=\"s\",operation=\"set\",error=\"denied\"}",
                    "9+0x60",
                )],
            ),
            quiet(
                "keeps quiet when an operation is done for the first time",
                &[(
                    "keywheel_store_errors_total{store=\"s\",operation=\"set\",error=\"denied\"}",
                    "_x55 0+0x10",
                )],
            ),
        ],
    },
    Alert {
        name: "KeywheelStoreStale",
        when: "max by (store) (keywheel_store_up) == 0",
        minutes: 5,
        severity: Warning,
        what: "a store outside does not answer: what is known of it gets old; containers keep what they have",
        next: "`keywheel store list` says since when and why. It is asked again by itself; `keywheel refresh` asks at once.",
        runbook: Runbook {
            means: "For five minutes no store-sync has had an answer from the store.",
            affected: "Rotations of its secrets wait for it. What is changed there is not noticed. Containers keep what they have, and starts are served from the encrypted cache.",
            look: &[
                "`keywheel store list`: since when, and the reason in words.",
                "`keywheel store describe STORE`: its address and how it is logged in to.",
                "`keywheel events list --type dev.keywheel.store. --since 24h`: when it went stale and came back.",
                "The store's own health, from store-sync's machine: for Vault or OpenBao `curl --silent --cacert CA https://SERVER:8200/v1/sys/health`.",
            ],
            act: &[
                "The store is down or sealed: start or unseal it; Keywheel asks again within five minutes by itself.",
                "Its certificate or address changed: correct the manifest of the store and `keywheel apply -f FILE`.",
                "The login is refused: put a fresh credential where its manifest says; a secret id that came wrapped is spent and has to be made anew.",
                "Then `keywheel refresh`: it asks at once, and versions are compared; what did not change restarts nothing.",
            ],
        },
        labels: &[("store", "s")],
        examples: &[
            fires("fires", &[("keywheel_store_up{store=\"s\"}", "0+0x60")]),
            quiet(
                "keeps quiet",
                &[("keywheel_store_up{store=\"s\"}", "1+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelStoreSecretsUnreadable",
        when: "max by (store) (keywheel_store_unreadable_secrets) > 0",
        minutes: 10,
        severity: Warning,
        what: "secrets cannot be read at their place in a store that answers: a change there would not be seen",
        next: "`keywheel store list` names one with the reason. Add the right (`keywheel store policy NAME`), or correct the secret's `source`; then `keywheel refresh NAME`.",
        runbook: Runbook {
            means: "The store answers, but at the place of some secrets there is nothing, nothing that may be read, or nothing that is text.",
            affected: "Those secrets only: a change there is not seen, and one that never was read has no version, so no container gets it.",
            look: &[
                "`keywheel store list`: one of them with the reason.",
                "`keywheel store describe STORE`: each secret with its place and the version that is known.",
                "`keywheel describe secret NAME`: has it a version that is still given out?",
            ],
            act: &[
                "It may not be read: add the right that `keywheel store policy STORE` prints for it.",
                "It was moved or deleted there: put it back, or correct `spec.source` of its manifest and `keywheel apply -f FILE`.",
                "It is no text: keep text there; other bytes cannot be given to a container as a variable.",
                "Then `keywheel refresh NAME`.",
            ],
        },
        labels: &[("store", "s")],
        examples: &[
            fires(
                "fires",
                &[("keywheel_store_unreadable_secrets{store=\"s\"}", "1+0x60")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_store_unreadable_secrets{store=\"s\"}", "0+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelStoreSlow",
        when: "histogram_quantile(0.99, sum by (store, le) (rate(keywheel_store_operation_duration_seconds_bucket[30m]))) > 10",
        minutes: 0,
        severity: Warning,
        what: "a store is slow",
        next: "Look at the store itself and at the way to it; a step has 45 seconds, then it is tried again.",
        runbook: Runbook {
            means: "Of what the store was asked in the last half hour, one in a hundred took more than ten seconds.",
            affected: "Rotations of its secrets take longer. A step has 45 seconds; what takes longer is cut and tried again, and a repeat finds what the late call did. Other stores are not delayed.",
            look: &[
                "The panel `Stores, p99` of the dashboard: which operation, and since when?",
                "`keywheel store list`: does it answer at all?",
                "`journalctl -u keywheel-store-sync KEYWHEEL_EVENT=step.performed --since -1h`: `ms` says how long each step took.",
                "The store's own metrics and audit, and the way there: `curl --silent --output /dev/null --write-out '%{time_total}' https://SERVER:8200/v1/sys/health`.",
            ],
            act: &[
                "The store throttles: raise `spec.poll` of its manifest, or its limit, and `keywheel apply -f FILE`.",
                "The local store: it is store-sync's cache; look at its disk or database (`df -h`, `iostat -x 1 5`).",
                "The network: a store nearer to store-sync, or a store-sync nearer to the store.",
            ],
        },
        labels: &[("store", "s")],
        examples: &[
            fires(
                "fires",
                &[
                    (
                        "keywheel_store_operation_duration_seconds_bucket{store=\"s\",le=\"60\"}",
                        "0+1x60",
                    ),
                    (
                        "keywheel_store_operation_duration_seconds_bucket{store=\"s\",le=\"+Inf\"}",
                        "0+1x60",
                    ),
                ],
            ),
            quiet(
                "keeps quiet",
                &[
                    (
                        "keywheel_store_operation_duration_seconds_bucket{store=\"s\",le=\"1\"}",
                        "0+1x60",
                    ),
                    (
                        "keywheel_store_operation_duration_seconds_bucket{store=\"s\",le=\"+Inf\"}",
                        "0+1x60",
                    ),
                ],
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
        runbook: Runbook {
            means: "For a quarter of an hour there has always been a step or a revocation that no store-sync answered.",
            affected: "The rotations and revocations that it belongs to stand still. Containers keep what they have.",
            look: &[
                "`keywheel get rotations` and `keywheel get revocations`: which are open, and since when?",
                "`keywheel status`: is a store-sync heard, and what does it say about its work and its clock?",
                "`keywheel store list`: is a store away that they need?",
                "`journalctl -u keywheel-store-sync --since -30min`: what it was given and what came of it.",
            ],
            act: &[
                "No store-sync is heard: `keywheel-node start store-sync`.",
                "A store is away: repair it; this alert ends with [KeywheelStoreStale](#keywheelstorestale).",
                "Its clock is 45 seconds ahead, so that all work is too late for it: set it by the time server of the gateway.",
                "Nothing of this: `keywheel-node stop store-sync` and `keywheel-node start store-sync`; work is sent again and every step may be repeated.",
            ],
        },
        labels: &[],
        examples: &[
            fires("fires", &[("keywheel_effects_open", "1+0x60")]),
            quiet("keeps quiet", &[("keywheel_effects_open", "0+0x60")]),
        ],
    },
    Alert {
        name: "KeywheelSealed",
        when: "min(keywheel_sealed) > 0",
        minutes: 2,
        severity: Critical,
        what: "no store-sync that is heard has its unseal key: no value is given out; hosts keep what they have",
        next: "`keywheel status` names the store-syncs. One that is sealed waits for `keywheel unseal`; one does not start without its key file: its log says what is missing.",
        runbook: Runbook {
            means: "No store-sync that is heard says that it could open its cache.",
            affected: "No value is given out to a host that does not hold it yet, and no rotation is done. Starts are served from what hosts hold until their lease is over.",
            look: &[
                "`keywheel status`: is any store-sync heard, and what does its `seal` say?",
                "`journalctl -u keywheel-store-sync --since -1h`: why it does not start.",
                "`ls -l /etc/keywheel/store-sync-unseal.key` on its machine: is the key file there, and may it be read by whoever needs it?",
            ],
            act: &[
                "It is down: `keywheel-node start store-sync`.",
                "It is sealed: `keywheel unseal`, share by share or with the passphrase, from any machine that may use keywheel.",
                "The key file is missing: put it back from where you keep it, mode 0600; the cache opens with no other.",
                "The key is lost: values in the cache are lost. Those of stores outside are fetched anew by a new store-sync; for the others `keywheel rotate NAME --wait` makes new ones.",
            ],
        },
        labels: &[],
        examples: &[
            fires("fires", &[("keywheel_sealed", "1+0x60")]),
            quiet("keeps quiet", &[("keywheel_sealed", "0+0x60")]),
        ],
    },
];
