//! Which playbooks there are in a run: steps of all kinds beside and after each other, drawn by the seed.
//!
//! Three of them; one may have those run that come after it, so none leads back to itself. What becomes of their runs
//! is in `playbooks` and `runs`, and of what they order about containers in `orders`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel_core::command::{Command, Declaration};
use keywheel_core::event::Event;
use keywheel_core::host::{self, OrderOutcome};
use keywheel_core::id::{NotificationId, PlaybookId, SignalSourceId};
use keywheel_core::name::{NotificationName, PlaybookName, SignalSourceName};
use keywheel_core::notification::{self, Receiver};
use keywheel_core::playbook::{
    After, DEFAULT_HOLD_OFF, Deed, Parameter, QUARANTINE_ACTIONS, Selection, Spec, Step, Trigger,
    Which,
};
use keywheel_core::playbook_run::{self, Cause, Intervention, Outcome};
use keywheel_core::signal;

use crate::container::IMAGE;
use crate::scene::{FOLDER, HOSTS, Reach, SECRETS, host_name, secret_name, store_name};
use crate::sim::Sim;
use crate::steps::run;

/// Playbooks of a run.
pub(crate) const PLAYBOOKS: usize = 3;
/// Receivers of notifications.
pub(crate) const RECEIVERS: usize = 2;
/// Most steps of one of them, less two.
const MORE_STEPS: usize = 5;
/// How long steps may take.
const DEADLINES: [u64; 3] = [30, 120, 600];
/// How long some wait.
const SPANS: [u64; 2] = [5, 60];

pub(crate) fn playbook_name(n: usize) -> PlaybookName {
    PlaybookName::parse(&format!("playbook-{n}")).unwrap()
}

pub(crate) fn receiver_name(n: usize) -> NotificationName {
    NotificationName::parse(&format!("pager-{n}")).unwrap()
}

pub(crate) fn source_name() -> SignalSourceName {
    SignalSourceName::parse("scanner").unwrap()
}

fn byte(n: usize) -> u8 {
    u8::try_from(n + 1).unwrap()
}

pub(crate) fn declare_receiver(n: usize) -> Command {
    Command::Apply(vec![Declaration::Notification {
        id: NotificationId::from_bytes([byte(n); 16]),
        name: receiver_name(n),
        spec: notification::Spec {
            receiver: Receiver::Webhook {
                url: "https://pager.example/hook".to_owned(),
                key_file: "/etc/key".to_owned(),
                ca_file: String::new(),
            },
            when: "false".to_owned(),
        },
    }])
}

pub(crate) fn declare_source() -> Command {
    Command::Apply(vec![Declaration::SignalSource {
        id: SignalSourceId::from_bytes([0x55; 16]),
        name: source_name(),
        spec: signal::Spec {
            format: signal::Format::CloudEvents,
            proof: signal::Proof::Bearer,
            key_file: "/etc/key".to_owned(),
            map: BTreeMap::new(),
            keeps_letters: false,
        },
    }])
}

impl Sim {
    /// Declares a playbook, or changes it.
    pub(crate) fn some_playbook(&mut self, n: usize) -> Command {
        let count = 2 + self.random.below(MORE_STEPS);
        let steps = (0..count).map(|at| self.some_step(n, at)).collect();
        let parameter = Parameter {
            name: "secret".to_owned(),
            default: Some(secret_name(0).to_string()),
        };
        let by_event = Trigger::Event {
            event: "dev.keywheel.signal.received.v1".to_owned(),
            when: None,
            hold_off: DEFAULT_HOLD_OFF,
            arguments: BTreeMap::from([("secret".to_owned(), "${event.data.subject}".to_owned())]),
        };
        let by_slot = Trigger::Schedule {
            expression: "0 * * * *".to_owned(),
            timezone: "UTC".to_owned(),
            arguments: BTreeMap::new(),
        };
        let mut triggers = vec![by_event, by_slot];
        triggers.retain(|_| self.random.permille(500));
        Command::Apply(vec![Declaration::Playbook {
            id: PlaybookId::from_bytes([0x20 + byte(n); 16]),
            name: playbook_name(n),
            spec: Spec {
                parameters: vec![parameter],
                steps,
                triggers,
            },
        }])
    }

    /// The step that stands at a place, after some before it.
    fn some_step(&mut self, n: usize, at: usize) -> Step {
        let mut after: Vec<usize> = Vec::new();
        if at > 0 && self.random.permille(800) {
            after.push(at - 1 - self.random.below(at.min(2)));
        }
        if at > 1 && self.random.permille(250) {
            after.push(self.random.below(at));
        }
        after.sort_unstable();
        after.dedup();
        let after = after.into_iter().map(|before| After {
            step: format!("step-{before}"),
            failed: self.random.permille(120),
        });
        let after = after.collect();
        Step {
            name: format!("step-{at}"),
            deed: self.some_deed(n),
            after,
            deadline: Duration::from_secs(DEADLINES[self.random.below(DEADLINES.len())]),
            may_fail: self.random.permille(200),
        }
    }

    fn some_deed(&mut self, n: usize) -> Deed {
        let text = "see to ${secret}".to_owned();
        let often = match self.reach {
            Reach::Whole => &[22, 18, 12, 5, 14, 9, 5, 18, 8, 10, 1, 22, 12][..],
            _ => &[22, 18, 12, 5, 14, 9, 5, 18, 8, 10, 1],
        };
        match self.random.weighted(often) {
            0 => Deed::Revoke {
                secrets: self.some_secrets(),
                which: match self.random.permille(500) {
                    true => Which::Alive,
                    false => Which::Old,
                },
            },
            1 => Deed::Rotate {
                secrets: self.some_secrets(),
            },
            2 => Deed::Wait { span: None },
            3 => {
                let span = Duration::from_secs(SPANS[self.random.below(SPANS.len())]);
                Deed::Wait { span: Some(span) }
            }
            4 => Deed::Approve {
                count: [1, 1, 2, 3][self.random.below(4)],
                not: Vec::new(),
            },
            5 if n + 1 < PLAYBOOKS => {
                let below = n + 1 + self.random.below(PLAYBOOKS - n - 1);
                let told = self.random.permille(500);
                let told = told.then(|| ("secret".to_owned(), "${secret}".to_owned()));
                Deed::Run {
                    playbook: playbook_name(below),
                    arguments: told.into_iter().collect(),
                }
            }
            6 => Deed::Withdrawn,
            8 => Deed::Notify {
                notifications: (0..=self.random.below(RECEIVERS))
                    .map(receiver_name)
                    .collect(),
                text,
            },
            9 => Deed::Call {
                notification: receiver_name(self.random.below(RECEIVERS)),
                text,
            },
            10 => Deed::Evict {
                host: host_name(self.random.below(HOSTS)).to_string(),
            },
            11 => Deed::Restart {
                containers: vec![self.some_containers(&[20, 20, 15, 15, 30])],
            },
            12 => Deed::Quarantine {
                containers: vec![self.some_containers(&[75, 10, 2, 3, 10])],
                action: QUARANTINE_ACTIONS[self.random.below(QUARANTINE_ACTIONS.len())],
            },
            _ => Deed::Prove,
        }
    }

    /// One of those there are, all of a host, all, those of an image, or of a secret.
    fn some_containers(&mut self, often: &[usize]) -> Selection {
        let known = self.gateway.world().assignments.keys();
        let known: Vec<String> = known.map(|key| key.container.to_string()).collect();
        match self.random.weighted(often) {
            0 if !known.is_empty() => Selection::Container {
                name: known[self.random.below(known.len())].clone(),
            },
            1 => Selection::HeldBy {
                host: host_name(self.random.below(HOSTS)).to_string(),
            },
            2 => Selection::Container {
                name: "c".to_owned(),
            },
            3 => Selection::Image {
                digest: IMAGE.to_owned(),
            },
            _ => Selection::Secret {
                name: "${secret}".to_owned(),
            },
        }
    }

    /// Most often the one that the run is told.
    fn some_secrets(&mut self) -> Vec<Selection> {
        let count = 1 + self.random.below(2);
        (0..count).map(|_| self.some_selection()).collect()
    }

    fn some_selection(&mut self) -> Selection {
        match self.random.weighted(&[50, 20, 8, 8, 6, 4]) {
            0 => Selection::Secret {
                name: "${secret}".to_owned(),
            },
            1 => Selection::Secret {
                name: secret_name(self.random.below(SECRETS)).to_string(),
            },
            2 => Selection::Prefix {
                path: FOLDER.to_owned(),
            },
            3 => Selection::HeldBy {
                host: host_name(self.random.below(HOSTS)).to_string(),
            },
            4 => Selection::Image {
                digest: IMAGE.to_owned(),
            },
            _ => Selection::Store {
                name: store_name().to_string(),
            },
        }
    }
}

/// Runs in which everything that `runs` holds them to has to happen.
const LOOKED_AT: u64 = 400;

/// What a run came to, where runs have to come to it.
fn turn_of(event: &Event) -> Option<&'static str> {
    use playbook_run::Event as Of;
    let event = match event {
        Event::PlaybookRun(_, event) => event,
        Event::Host(_, event) => return turn_of_order(event),
        _ => return None,
    };
    Some(match event {
        Of::Triggered {
            parent: Some(_), ..
        } => "begun by a step",
        Of::Triggered { cause, .. } => match cause {
            Cause::Person => "begun by a person",
            Cause::Event { .. } => "begun by a signal",
            Cause::Slot { .. } => "begun by a slot",
        },
        Of::ActRefused { .. } => "refused",
        Of::Approved { .. } => "approved",
        Of::StepCompleted {
            note: Some(note), ..
        } => match note.as_str() {
            "0 proven dead" => "nothing to prove",
            note if note.contains("not probed") => "not probed",
            note if note.contains("proven dead") => "proven",
            note if note.contains("restarted") => "restarted",
            _ => "put into quarantine",
        },
        Of::StepFailed { .. } => "failed",
        Of::StepSkipped { .. } => "passed over",
        Of::Answered { failure, .. } => match failure {
            None => "taken",
            Some(_) => "not taken",
        },
        Of::Intervened { intervention, .. } => match intervention {
            Intervention::Pause => "paused",
            Intervention::Resume => "resumed",
            Intervention::Cancel => "cancelled",
        },
        Of::Completed { outcome, .. } => match outcome {
            Outcome::Completed => "ended well",
            Outcome::Failed => "ended badly",
            Outcome::Cancelled => "ended by a person",
        },
        _ => return None,
    })
}

/// What came of an order.
const fn turn_of_order(event: &host::Event) -> Option<&'static str> {
    match event {
        host::Event::QuarantineLifted { .. } => Some("order: lifted"),
        host::Event::OrderEnded { outcome, .. } => Some(match outcome {
            OrderOutcome::Done => "order: done",
            OrderOutcome::Gone => "order: gone",
            OrderOutcome::Failed { .. } => "order: failed",
            OrderOutcome::Withdrawn => "order: taken back",
        }),
        _ => None,
    }
}

/// A rule about what never happens would hold of itself.
#[test]
fn runs_take_every_turn_that_there_is() {
    let mut seen = BTreeSet::new();
    for seed in 0..LOOKED_AT {
        let run = run(seed, Reach::Whole, None, false);
        let log = run.sim.gateway.log.iter();
        seen.extend(log.filter_map(|recorded| turn_of(&recorded.event)));
    }
    let all = [
        "approved",
        "begun by a person",
        "begun by a signal",
        "begun by a slot",
        "begun by a step",
        "cancelled",
        "ended badly",
        "ended by a person",
        "ended well",
        "failed",
        "not probed",
        "not taken",
        "nothing to prove",
        "order: done",
        "order: failed",
        "order: gone",
        "order: lifted",
        "order: taken back",
        "passed over",
        "paused",
        "proven",
        "put into quarantine",
        "refused",
        "restarted",
        "resumed",
        "taken",
    ];
    assert!(seen.iter().eq(&all), "{seen:?}");
}
