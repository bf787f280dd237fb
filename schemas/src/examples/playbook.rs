//! The examples of a playbook and of a run of it.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::id::{PlaybookId, RunId};
use keywheel_core::name::{NameError, NotificationName, PlaybookName};
use keywheel_core::playbook::{
    After, DEFAULT_HOLD_OFF, Deed, Event, Parameter, Selection, Spec, Step, Trigger, Which,
};
use keywheel_core::playbook_run::{self, Begun, Intervention, Outcome, Score, Target};

use super::{HOST, NIGHT, NOTIFICATION, REVOCATION, ROTATION, SECRET, id};

pub(super) const PLAYBOOK: PlaybookId = PlaybookId::from_bytes(id(0x0c));
pub(super) const RUN: RunId = RunId::from_bytes(id(0x0d));

fn step(name: &str, deed: Deed, after: &[(&str, bool)]) -> Step {
    let after = after.iter().map(|(step, failed)| After {
        step: (*step).to_owned(),
        failed: *failed,
    });
    Step {
        name: name.to_owned(),
        deed,
        after: after.collect(),
        deadline: Duration::from_secs(600),
        may_fail: false,
    }
}

fn secret() -> Selection {
    Selection::Secret {
        name: "${secret}".to_owned(),
    }
}

fn revoke() -> Deed {
    Deed::Revoke {
        secrets: vec![
            secret(),
            Selection::Prefix {
                path: "prod".to_owned(),
            },
            Selection::HeldBy {
                host: "web-1".to_owned(),
            },
            Selection::Store {
                name: "bao".to_owned(),
            },
            Selection::Container {
                name: "web-7".to_owned(),
            },
            Selection::Image {
                digest: "sha256:1".to_owned(),
            },
            Selection::Service {
                name: "shop/web".to_owned(),
            },
        ],
        which: Which::Old,
    }
}

fn steps() -> Result<Vec<Step>, NameError> {
    let mut evict = step(
        "evict",
        Deed::Evict {
            host: "web-1".to_owned(),
        },
        &[("revoke", false)],
    );
    evict.may_fail = true;
    let span = Some(Duration::from_secs(60));
    let arguments = BTreeMap::from([("secret".to_owned(), "${secret}".to_owned())]);
    let playbook = PlaybookName::parse("tell-everyone")?;
    let text = || "${secret} is replaced".to_owned();
    let notify = Deed::Notify {
        notifications: vec![NotificationName::parse("soc")?],
        text: text(),
    };
    let call = Deed::Call {
        notification: NotificationName::parse("pager")?,
        text: text(),
    };
    Ok(vec![
        step(
            "approve",
            Deed::Approve {
                count: 2,
                not: Vec::new(),
            },
            &[],
        ),
        step(
            "rotate",
            Deed::Rotate {
                secrets: vec![secret()],
            },
            &[("approve", false)],
        ),
        step("converge", Deed::Wait { span: None }, &[("rotate", false)]),
        step("revoke", revoke(), &[("converge", true)]),
        evict,
        step("pause", Deed::Wait { span }, &[("evict", false)]),
        step(
            "tell",
            Deed::Run {
                playbook,
                arguments,
            },
            &[("pause", false)],
        ),
        step("withdrawn", Deed::Withdrawn, &[("tell", false)]),
        step("prove", Deed::Prove, &[("withdrawn", false)]),
        step("notify", notify, &[("prove", false)]),
        step("call", call, &[("notify", false)]),
    ])
}

fn triggers() -> Vec<Trigger> {
    let told = |value: &str| BTreeMap::from([("secret".to_owned(), value.to_owned())]);
    vec![
        Trigger::Event {
            event: "dev.keywheel.secret.version_revoked.v1".to_owned(),
            when: Some("event.secret.startsWith(\"prod/\")".to_owned()),
            hold_off: DEFAULT_HOLD_OFF,
            arguments: told("${event.secret}"),
        },
        Trigger::Schedule {
            expression: "0 3 1 */3 *".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            arguments: told("drill/db"),
        },
    ]
}

pub(super) fn of_playbook() -> Result<Vec<Event>, NameError> {
    let secret = Parameter {
        name: "secret".to_owned(),
        default: None,
    };
    let region = Parameter {
        name: "region".to_owned(),
        default: Some("eu".to_owned()),
    };
    let spec = Spec {
        parameters: vec![secret, region],
        steps: steps()?,
        triggers: triggers(),
    };
    Ok(vec![
        Event::Declared {
            name: PlaybookName::parse("leaked-credential")?,
            spec: spec.clone(),
        },
        Event::Changed { spec },
        Event::Removed,
    ])
}

pub(super) fn of_run() -> Result<Vec<playbook_run::Event>, NameError> {
    use playbook_run::Event as E;
    let target = Target::Secret {
        secret: SECRET,
        version: Some(1),
    };
    let playbook = Target::Playbook {
        name: PlaybookName::parse("tell-everyone")?,
    };
    let mut events = vec![
        E::Triggered {
            playbook: PLAYBOOK,
            name: PlaybookName::parse("leaked-credential")?,
            arguments: BTreeMap::from([(word("region"), word("eu"))]),
            steps: steps()?,
            by: word("certificate:anna"),
            reason: word("leaked in a build log"),
            parent: Some(RUN),
            depth: 1,
            cause: playbook_run::Cause::Event { number: 7 },
        },
        E::StepStarted {
            step: word("revoke"),
            targets: vec![
                target,
                Target::Host { host: HOST },
                playbook,
                Target::Notification {
                    notification: NOTIFICATION,
                },
            ],
            until: NIGHT,
        },
        E::Acted {
            step: word("revoke"),
            place: 0,
            begun: Begun::Revocation {
                revocation: REVOCATION,
            },
        },
        E::ActRefused {
            step: word("revoke"),
            place: 1,
            reason: word("the secret has no such version"),
        },
        E::Approved {
            step: word("approve"),
            by: word("unix:1000"),
            reason: word("seen in the log"),
        },
    ];
    events.extend(of_ends());
    Ok(events)
}

/// How steps and a run end, and what a receiver answered.
fn of_ends() -> Vec<playbook_run::Event> {
    use playbook_run::Event as E;
    vec![
        E::StepCompleted {
            step: word("prove"),
            note: Some(word("1 proven dead")),
        },
        E::StepFailed {
            step: word("converge"),
            reason: format!("rotation {ROTATION} is parked"),
        },
        E::StepSkipped { step: word("tell") },
        E::Intervened {
            intervention: Intervention::Pause,
            by: word("unix:0"),
            reason: word("the store is being moved"),
        },
        E::Completed {
            outcome: Outcome::Failed,
            score: Score {
                targets: 4,
                through: 3,
            },
        },
        E::Notified {
            step: word("notify"),
            place: 0,
            notification: NOTIFICATION,
            text: word("prod/db is replaced"),
        },
        E::Answered {
            step: word("call"),
            place: 0,
            failure: Some(word("it answered 400")),
            at: None,
        },
    ]
}

fn word(word: &str) -> String {
    word.to_owned()
}
