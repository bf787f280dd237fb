//! Alerts about runs of playbooks.

use super::Severity::Critical;
use super::{Alert, Runbook, fires, quiet};

pub(super) const ALL: &[Alert] = &[
    Alert {
        name: "KeywheelPlaybookRunFailed",
        when: "max(increase(keywheel_playbook_runs_total{outcome=\"failed\"}[15m])) > 0",
        minutes: 0,
        severity: Critical,
        what: "a run of a playbook failed: what it was to do in an incident or a drill is not all done",
        next: "`keywheel playbook runs` names it, `keywheel playbook describe-run ID` the step that failed and why, and what is not through.",
        runbook: Runbook {
            means: "Within the last 15 minutes a run ended as `failed`: one of its steps was refused, did not end well, or was not over at its deadline, and the playbook bears no failure there. Steps of its failure path, if it has one, were done all the same.",
            affected: "What its steps were to rotate, revoke or prove may be alive still. Whatever they began goes on by itself. In an incident the credential has to be taken for known to others.",
            look: &[
                "`keywheel playbook runs`: which run failed, of which playbook, and its score.",
                "`keywheel playbook describe-run ID`: the step that failed, its reason, and what is not through.",
                "`keywheel get revocations` and `keywheel get rotations`: what of it is open, parked or rolled back.",
                "`keywheel report playbook-run ID --out run.html`: all of it in order, with who has which version still.",
            ],
            act: &[
                "A rotation was rolled back or parked: go on with [KeywheelRotationParked](#keywheelrotationparked).",
                "A revocation waits for a host or a store: go on with [KeywheelRevocationOpen](#keywheelrevocationopen).",
                "Nobody approved in time, or a receiver did not answer: start it again, `keywheel playbook run NAME --set PARAMETER=VALUE --reason TEXT --wait`; it begins with its first step again, so what rotated already rotates once more.",
                "The leak is real and nothing else helps: `keywheel revoke SECRET --emergency --reason TEXT` takes it from everybody now.",
            ],
        },
        labels: &[],
        examples: &[
            fires(
                "fires",
                &[(
                    "keywheel_playbook_runs_total{outcome=\"failed\"}",
                    "0+0x50 1+0x10",
                )],
            ),
            fires(
                "fires at the first failure after a start",
                &[(
                    "keywheel_playbook_runs_total{outcome=\"failed\"}",
                    "_x45 0+0x5 1+0x10",
                )],
            ),
            quiet(
                "keeps quiet about runs that ended well",
                &[
                    (
                        "keywheel_playbook_runs_total{outcome=\"completed\"}",
                        "0+1x60",
                    ),
                    ("keywheel_playbook_runs_total{outcome=\"failed\"}", "0+0x60"),
                ],
            ),
            quiet(
                "keeps quiet when a gateway starts and tells what the log has",
                &[(
                    "keywheel_playbook_runs_total{outcome=\"failed\"}",
                    "_x50 3+0x10",
                )],
            ),
        ],
    },
    Alert {
        name: "KeywheelPlaybookRunOverdue",
        when: "max(keywheel_playbook_runs_overdue) > 0",
        minutes: 2,
        severity: Critical,
        what: "a run of a playbook stands still beyond the deadline of a step",
        next: "Is a scheduler heard in `keywheel status`? It ends steps at their deadlines. `keywheel playbook runs` names the run.",
        runbook: Runbook {
            means: "A step of an open run had to be over two minutes ago and is not. A step that is too slow fails at its deadline, and its failure path begins; here nobody said that the time had come, which the scheduler does.",
            affected: "The run does not go on: neither its failure path nor what comes after the step. What it began before goes on by itself.",
            look: &[
                "`keywheel status`: is a scheduler heard, and what does it say about its clock and how far it has read?",
                "`keywheel playbook runs` and `keywheel playbook describe-run ID`: which step, and until when it had time.",
                "`journalctl -u keywheel-scheduler --since -30min` on its machine: what it could not submit, and why.",
            ],
            act: &[
                "No scheduler is heard: `keywheel-node start scheduler` on its machine; what was due meanwhile is done at once.",
                "It is heard and behind: go on with [KeywheelReaderLag](#keywheelreaderlag).",
                "What the step waits for cannot be waited for: `keywheel playbook cancel ID --reason TEXT`, and then by hand, `keywheel revoke SECRET --reason TEXT`.",
            ],
        },
        labels: &[],
        examples: &[
            fires("fires", &[("keywheel_playbook_runs_overdue", "1+0x60")]),
            quiet(
                "keeps quiet",
                &[
                    ("keywheel_playbook_runs_open", "1+0x60"),
                    ("keywheel_playbook_runs_overdue", "0+0x60"),
                ],
            ),
        ],
    },
];
