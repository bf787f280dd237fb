//! Alerts about the journal, the audit, and what a gateway finds.

use super::Severity::{Critical, Warning};
use super::{Alert, Runbook, fires, quiet};

pub(super) const ALL: &[Alert] = &[
    Alert {
        name: "KeywheelJournalDown",
        when: "keywheel_journal_up == 0",
        minutes: 1,
        severity: Critical,
        what: "the journal does not answer a gateway: nothing is decided there",
        next: "Look at the database, or at the disk of the data directory, and at the gateway's log.",
        runbook: Runbook {
            means: "The gateway at `instance` runs, and its log of record has not answered it for a minute.",
            affected: "That gateway refuses whatever changes something. Containers keep what they have. Other gateways over the same database are affected when the database is.",
            look: &[
                "`keywheel status`: what the journal says.",
                "`journalctl -u keywheel-gateway --since -30min` on its machine: the database's own words.",
                "PostgreSQL: `psql --no-psqlrc \"$DATABASE\" --command 'select 1'` from that machine, with the address of its `journal.url`. SQLite: `df -h` and `dmesg --level=err` for the data directory.",
            ],
            act: &[
                "The database is down: start it; the gateway goes on by itself.",
                "The disk is full: make room; revocations, reports and audit records still go into the reserve beside the journal.",
                "The password or a right changed: put it back, or `psql --file deploy/postgres/roles.sql` makes the role's rights anew.",
                "The database is lost: restore it, start the gateway, and `keywheel journal verify`; see [KeywheelAuditShrank](#keywheelauditshrank).",
            ],
        },
        labels: &[],
        examples: &[
            fires("fires", &[("keywheel_journal_up", "0+0x60")]),
            quiet("keeps quiet", &[("keywheel_journal_up", "1+0x60")]),
        ],
    },
    Alert {
        name: "KeywheelAuditShrank",
        when: "keywheel_audit_records < max_over_time(keywheel_audit_records[1h])",
        minutes: 0,
        severity: Critical,
        what: "the audit has fewer records than before: the journal was cut or put back",
        next: "Keep the journal and the audit sink's file as they are, run `keywheel journal verify`, and compare both with your backup.",
        runbook: Runbook {
            means: "The audit only ever grows. It has fewer records than within the last hour: the journal was cut, replaced, or put back from a backup.",
            affected: "What happened after the point that it was put back to is not in the journal any more. The audit sink's copy has it.",
            look: &[
                "`keywheel status`: the audit sink says what it has more, or other, than the journal.",
                "`keywheel journal verify` and `keywheel audit verify`: every hash, every signature, the tree.",
                "Who restored what: the database's own log, and your backup's.",
            ],
            act: &[
                "You restored on purpose: `keywheel audit verify`, note the gap, and compare with the sink's copy; hosts refuse plans older than theirs until somebody removes their `host-cache`, so that they notice, too. Of `keywheel up`, `keywheel restore FILE` does all of this: deploy/docs/backup.md.",
                "Nobody restored anything: stop the gateway (`keywheel-node stop gateway`), keep journal and sink file as they are, and treat it as an incident.",
                "Afterwards rotate what was rotated or revoked in the gap: `keywheel rotate NAME --wait`, `keywheel revoke NAME --version 3 --reason TEXT`.",
            ],
        },
        labels: &[],
        examples: &[
            fires("fires", &[("keywheel_audit_records", "50+0x30 40+0x60")]),
            quiet("keeps quiet", &[("keywheel_audit_records", "50+1x60")]),
        ],
    },
    Alert {
        name: "KeywheelAuditSinkBehind",
        when: "max by (sink) (keywheel_audit_sink_lag_seconds) > 300",
        minutes: 5,
        severity: Warning,
        what: "a sink of the audit does not take records; nothing is lost, and with too few of them no new work begins",
        next: "`keywheel status` says why. Mend the receiver or the way to it; it is told by itself what it lacks.",
        runbook: Runbook {
            means: "For ten minutes audit records have waited for the sink `sink`: it does not answer, refuses them, or is slower than they come.",
            affected: "That sink's copy ends where it was told last. Other sinks, the journal and the audit sink's own copy have every record. Where `audit.min_sinks` asks for it, the gateway refuses new work, and revocations go on.",
            look: &[
                "`keywheel status`: the sink with the reason, and under `journal` whether new work is held back.",
                "`journalctl -u keywheel-audit-sink --since -30min` on its machine: when it began, and the receiver's own words.",
                "The receiver's log: does it see our connections, and what does it say of them?",
                "`keywheel audit tail`: how many records come, if it is slow.",
            ],
            act: &[
                "The receiver is down or its disk is full: mend it; it is tried again within half a minute, and told everything since.",
                "Its certificate or our credentials ended: put fresh ones where the file of sinks says; they are read for each attempt.",
                "It is gone for good: take it out of the file of sinks and start the audit sink again; lower `audit.min_sinks` at the gateway only if the audit may have fewer copies.",
                "It is too slow: let it take more at once, or name one that is near and passes on.",
            ],
        },
        labels: &[("sink", "siem")],
        examples: &[
            fires(
                "fires",
                &[("keywheel_audit_sink_lag_seconds{sink=\"siem\"}", "0+60x60")],
            ),
            quiet(
                "keeps quiet about one that keeps up",
                &[("keywheel_audit_sink_lag_seconds{sink=\"siem\"}", "2+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelAuditSinkDiffers",
        when: "max by (sink) (keywheel_audit_sink_differs) > 0",
        minutes: 2,
        severity: Critical,
        what: "a sink of the audit has other records than the copy: one of the two was changed, cut or put back",
        next: "Keep the sink's records, the copy and the journal as they are; `keywheel audit verify --against FILE` names the first record that differs.",
        runbook: Runbook {
            means: "The sink `sink` has records that the audit sink's copy has not, or another one in the place of its last. An audit only ever grows, so one of the two was changed.",
            affected: "The sink is told nothing more, so that nothing is written over.",
            look: &[
                "`keywheel status`: which record, and what differs.",
                "`keywheel audit verify --against FILE` with the sink's file: the first record that differs.",
                "`keywheel journal verify`: whether journal and copy agree.",
            ],
            act: &[
                "You put a backup of the journal back: the sink has what is missing; see [KeywheelAuditShrank](#keywheelauditshrank).",
                "Somebody wrote to the sink's file: move it elsewhere as evidence; it is written anew from the first record.",
                "Neither: stop the gateway (`keywheel-node stop gateway`), keep everything as it is, and treat it as an incident.",
            ],
        },
        labels: &[("sink", "archive")],
        examples: &[
            fires(
                "fires",
                &[("keywheel_audit_sink_differs{sink=\"archive\"}", "1+0x60")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_audit_sink_differs{sink=\"archive\"}", "0+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelRequestsDenied",
        when: "sum(increase(keywheel_requests_denied_total[10m])) > 20 or sum(keywheel_requests_denied_total unless keywheel_requests_denied_total offset 10m) > 20",
        minutes: 0,
        severity: Warning,
        what: "many requests of those who may not",
        next: "`keywheel audit list` names who asked for what: a program with a wrong user, or somebody who tries.",
        runbook: Runbook {
            means: "More than twenty requests within ten minutes, at the gateway's socket or ports, were of somebody who may not ask for that.",
            affected: "Nothing: they got nothing. Honest requests have places of their own and are not delayed.",
            look: &[
                "`keywheel audit list --limit 100`: who asked, for what, and why it was denied; a flood is counted into one record per window.",
                "`keywheel audit tail`: does it go on?",
            ],
            act: &[
                "A program of yours runs as the wrong user: let it run as one that may, or put its user into the group `keywheel`.",
                "A person's certificate ended: `keywheel credentials refresh DIR` at the gateway's machine.",
                "Nobody you know: find the process by the user that the record names; close the port of operators to networks that need it not.",
            ],
        },
        labels: &[],
        examples: &[
            fires("fires", &[("keywheel_requests_denied_total", "0+10x60")]),
            fires(
                "fires for a flood before the page was read once",
                &[("keywheel_requests_denied_total", "_x55 21+0x10")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_requests_denied_total", "0+1x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelLetters",
        when: "max by (kind) (keywheel_letters) > 0",
        minutes: 0,
        severity: Warning,
        what: "something was not told to a receiver, or not read of what came from outside",
        next: "`keywheel letter list` names each with why; retry it or throw it away.",
        runbook: Runbook {
            means: "A receiver refused a message, or did not answer for a day; or a sender that proved itself sent what its source's mapping does not read.",
            affected: "That receiver does not know of that event, or what that sender said led to nothing. Of each owner the newest 100 are kept, and of what came from outside for seven days.",
            look: &[
                "`keywheel letter list`: whose each is, when, and why.",
                "`keywheel notification list`: whether the receiver takes messages by now.",
                "The gateway's log: `too many letters of one owner` says that the oldest are gone.",
            ],
            act: &[
                "The receiver works again: `keywheel letter retry ID`, or `keywheel notification replay soc --after 4711` for all since an event.",
                "The mapping does not fit: correct the source's manifest, `keywheel apply -f FILE`, and have the sender send it again; with `letters: keep` `keywheel letter retry ID` reads it.",
                "It is of no use any more: `keywheel letter discard ID`.",
            ],
        },
        labels: &[("kind", "signal-source")],
        examples: &[
            fires(
                "fires",
                &[("keywheel_letters{kind=\"signal-source\"}", "1+0x60")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_letters{kind=\"notification\"}", "0+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelBreakGlass",
        when: "max(keywheel_break_glass_unreviewed) > 0",
        minutes: 0,
        severity: Critical,
        what: "somebody broke the glass: what takes several people went without the others, and nobody has reviewed it",
        next: "`keywheel approval list --unreviewed` says who, what and why. Somebody else looks, and says what they found.",
        runbook: Runbook {
            means: "The configuration says that this takes several people (`dual_control`). One person had it go at once, for a reason that is on record. It stays so until somebody who neither asked nor broke the glass has reviewed it.",
            affected: "What was asked for: a set of policies, an export of the audit, the audit's sinks, an unsealing by one person, or a machine that took an evicted host's name.",
            look: &[
                "`keywheel approval list --unreviewed`: who, what, when.",
                "`keywheel approval describe ID`: all that was done, and the reason.",
                "`keywheel events list --type dev.keywheel.approval.`: everybody's words in order.",
            ],
            act: &[
                "It was needed, and is right: `keywheel approval review ID --reason TEXT`.",
                "It was needed, and should not stay: undo it first (`keywheel policy apply DIR`, `keywheel host evict NAME --reason TEXT`), then `keywheel approval review ID --reason TEXT`.",
                "Nobody knows of it: treat it as an incident. `keywheel token revoke --owner PERSON --reason TEXT`, take their credentials, and look in `keywheel audit list` for what else they did.",
            ],
        },
        labels: &[],
        examples: &[
            fires(
                "fires at once",
                &[("keywheel_break_glass_unreviewed", "0+0x59 1+0x5")],
            ),
            quiet(
                "keeps quiet once it was reviewed",
                &[("keywheel_break_glass_unreviewed", "1+0x30 0+0x60")],
            ),
        ],
    },
    Alert {
        name: "KeywheelProblem",
        when: "max(keywheel_findings{severity=\"problem\"}) > 0",
        minutes: 5,
        severity: Warning,
        what: "`keywheel status` finds a problem",
        next: "`keywheel status`: problems come first, each with its next step.",
        runbook: Runbook {
            means: "For five minutes a gateway has found something that does not work and that a person has to act on.",
            affected: "What the finding says. Most problems have an alert of their own, which says more.",
            look: &[
                "`keywheel status`: problems come first, each with its next step.",
                "`keywheel status -o json`: the same for programs, under `findings`.",
                "`keywheel doctor --config /etc/keywheel/ROLE.toml` on the machine that the finding names.",
            ],
            act: &[
                "Do what the finding says as its next step.",
                "`keywheel status --check` ends with 0 when none is left, with 4 as long as there is one.",
            ],
        },
        labels: &[],
        examples: &[
            fires(
                "fires",
                &[("keywheel_findings{severity=\"problem\"}", "1+0x60")],
            ),
            quiet(
                "keeps quiet",
                &[("keywheel_findings{severity=\"warning\"}", "1+0x60")],
            ),
        ],
    },
];
