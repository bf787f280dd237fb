//! What the log says in numbers: events as they come, and the numbers after them.

use std::sync::Arc;

use keywheel_core::binding::{self, Target};
use keywheel_core::id::{BindingId, ContainerId, EventId, HostId};
use keywheel_core::name::{BindingName, EnvName, SecretName};
use keywheel_core::schedule::{Freeze, RotationPolicy};

use super::*;
use crate::state::Committed;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const BINDING: BindingId = BindingId::from_bytes([2; 16]);
const HOST: HostId = HostId::from_bytes([3; 16]);

fn rotation_of(n: u8) -> RotationId {
    RotationId::from_bytes([n; 16])
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().plus(Duration::from_secs(seconds))
}

fn consumer() -> assignment::Key {
    assignment::Key {
        host: HOST,
        container: ContainerId::parse(&"ab".repeat(32)).unwrap(),
        binding: BINDING,
        also: None,
    }
}

#[derive(Default)]
struct Log(Committed);

impl Log {
    fn add(&mut self, second: u64, event: Event) -> &mut Self {
        let recorded = RecordedEvent {
            number: self.0.number + 1,
            id: EventId::default(),
            time: at(second),
            traceparent: None,
            event,
            bytes: Arc::from(Vec::new()),
            hash: [0; 32],
            signature: [0; 64],
        };
        // When it was folded is another time, and says nothing.
        self.0.apply(&recorded, at(90_000));
        self
    }

    fn rotation(&mut self, second: u64, n: u8, event: rotation::Event) -> &mut Self {
        self.add(second, Event::Rotation(rotation_of(n), event))
    }

    fn consumer(&mut self, second: u64, event: assignment::Event) -> &mut Self {
        self.add(second, Event::Assignment(consumer(), event))
    }

    fn secret(&mut self, second: u64, event: secret::Event) -> &mut Self {
        self.add(second, Event::Secret(SECRET, event))
    }

    /// A secret, and a binding that restarts its consumers.
    fn begun() -> Self {
        let mut log = Self::default();
        let name = SecretName::parse("prod/db").unwrap();
        let spec = secret::Spec::default();
        log.secret(0, secret::Event::Registered { name, spec });
        let bound = binding::Event::Bound {
            name: BindingName::parse("payments").unwrap(),
            spec: binding::Spec {
                secret: SECRET,
                also: std::collections::BTreeSet::new(),
                previous: std::collections::BTreeSet::new(),
                selector: binding::Selector::default(),
                target: Target::Env {
                    name: EnvName::parse("TOKEN").unwrap(),
                },
                reload: Reload::Restart {
                    settle: Duration::from_secs(1),
                    health_timeout: Duration::from_secs(1),
                    rollout: None,
                },
                on_revoke: keywheel_core::binding::OnRevoke::Remove,
            },
        };
        log.add(0, Event::Binding(BINDING, bound));
        log
    }

    fn start(&mut self, second: u64, n: u8, version: u64) -> &mut Self {
        let started = rotation::Event::Started {
            secret: SECRET,
            version,
            trigger: Trigger::OnDemand,
        };
        self.rotation(second, n, started)
    }

    fn assign(&mut self, second: u64, version: u64) -> &mut Self {
        let assigned = assignment::Event::Assigned {
            secret: SECRET,
            version,
            container_name: "app".to_owned(),
            image_digest: String::new(),
        };
        self.consumer(second, assigned)
    }

    /// Its copy is replaced and it is well again.
    fn replace(&mut self, second: u64, version: u64) -> &mut Self {
        let at = at(second);
        self.consumer(second, assignment::Event::Swapped { version, at });
        self.consumer(second + 1, assignment::Event::Reloaded { version, at })
    }
}

fn step(step: Step, attempt: u32) -> rotation::Event {
    rotation::Event::StepStarted { step, attempt }
}

#[test]
fn a_step_counts_from_its_first_attempt_and_consumers_are_a_step_of_their_own() {
    let mut log = Log::begun();
    log.start(10, 1, 2)
        .rotation(10, 1, step(Step::Create, 1))
        .rotation(
            11,
            1,
            rotation::Event::StepFailed {
                step: Step::Create,
                attempt: 1,
                reason: "down".to_owned(),
            },
        )
        .rotation(14, 1, step(Step::Create, 2))
        .rotation(15, 1, rotation::Event::StepCompleted { step: Step::Create })
        .rotation(15, 1, step(Step::Finish, 1))
        .rotation(16, 1, rotation::Event::StepCompleted { step: Step::Finish })
        .rotation(
            16,
            1,
            rotation::Event::DistributionStarted {
                consumers: Vec::new(),
                hosts: Vec::new(),
                old: vec![1],
                deadline: at(300),
            },
        )
        .rotation(18, 1, step(Step::RevokeOld, 1))
        .rotation(
            19,
            1,
            rotation::Event::StepCompleted {
                step: Step::RevokeOld,
            },
        )
        .rotation(
            19,
            1,
            rotation::Event::Closed {
                outcome: Outcome::Completed,
            },
        );
    let tally = &log.0.tally;
    let took = |word: &str| {
        tally
            .steps
            .get(word)
            .map(|s| (s.count(), s.sum().as_secs()))
    };
    assert_eq!(took("create"), Some((1, 5)));
    assert_eq!(took("finish"), Some((1, 1)));
    assert_eq!(took(DISTRIBUTE), Some((1, 2)));
    assert_eq!(took("revoke_old"), Some((1, 1)));
    assert_eq!(tally.failures.get("create"), Some(&1));
    assert_eq!(tally.started.get("on_demand"), Some(&1));
    let whole = tally.closed.get("completed").unwrap();
    assert_eq!((whole.count(), whole.sum().as_secs()), (1, 9));
    assert!(tally.open.is_empty(), "what is over is not kept");
}

#[test]
fn a_first_start_is_no_restart_and_no_propagation() {
    let mut log = Log::begun();
    log.assign(5, 1).replace(6, 1);
    assert_eq!(log.0.tally.propagation.count(), 0);
    assert!(log.0.tally.restarts.is_empty());
}

#[test]
fn a_restart_has_the_cause_of_its_rotation_and_a_late_one_says_so() {
    let mut log = Log::begun();
    log.assign(5, 1).replace(6, 1);
    log.start(10, 1, 2)
        .secret(12, secret::Event::VersionPromoted { version: 2 })
        .assign(12, 2)
        .replace(15, 2);
    let tally = &log.0.tally;
    assert_eq!(tally.propagation.count(), 1);
    assert_eq!(tally.propagation.sum(), Duration::from_secs(3));
    assert_eq!(tally.restarts.get("on_demand"), Some(&1));
    assert_eq!(tally.promoted(SECRET), Some(at(12)));
    let parked = Outcome::Parked;
    log.start(20, 2, 3)
        .secret(21, secret::Event::VersionPromoted { version: 3 })
        .assign(21, 3)
        .rotation(400, 2, rotation::Event::Closed { outcome: parked })
        .replace(500, 3);
    assert_eq!(log.0.tally.restarts.get(LATE), Some(&1));
    log.consumer(501, assignment::Event::Vanished);
    assert!(log.0.tally.replaced.is_empty(), "who is gone is not kept");
}

#[test]
fn what_a_canary_has_before_the_promotion_is_a_restart_and_no_propagation() {
    let mut log = Log::begun();
    log.secret(4, secret::Event::VersionPromoted { version: 1 })
        .assign(5, 1)
        .replace(6, 1);
    let staged = secret::Event::VersionStaged {
        version: 2,
        rotation: rotation_of(1),
    };
    log.start(5000, 1, 2)
        .secret(5000, staged)
        .assign(5002, 2)
        .replace(5003, 2);
    assert_eq!(log.0.tally.propagation.count(), 0);
    assert_eq!(log.0.tally.restarts.get("on_demand"), Some(&1));
}

#[test]
fn a_parked_rotation_that_goes_on_ends_again_and_counts_from_its_request() {
    let ended = |outcome| rotation::Event::Closed { outcome };
    let reopened = || rotation::Event::Reopened {
        secret: SECRET,
        consumers: Vec::new(),
        hosts: Vec::new(),
        deadline: at(900),
    };
    let mut log = Log::begun();
    log.start(10, 1, 2)
        .rotation(310, 1, ended(Outcome::Parked))
        .rotation(400, 1, reopened())
        .rotation(403, 1, step(Step::RevokeOld, 1))
        .rotation(405, 1, ended(Outcome::Completed));
    let tally = &log.0.tally;
    let whole = tally.closed.get("completed").unwrap();
    assert_eq!((whole.count(), whole.sum().as_secs()), (1, 395));
    let moved = tally.steps.get(DISTRIBUTE).unwrap();
    assert_eq!((moved.count(), moved.sum().as_secs()), (1, 3));
    assert!(tally.open.is_empty() && tally.parked.is_empty());
    log.start(500, 2, 3)
        .rotation(600, 2, ended(Outcome::Parked))
        .start(700, 3, 4);
    assert!(log.0.tally.parked.is_empty(), "another one came after it");
}

#[test]
fn a_return_to_the_version_before_makes_it_no_younger() {
    let promoted = |version| secret::Event::VersionPromoted { version };
    let mut log = Log::begun();
    log.start(5, 1, 1).secret(6, promoted(1));
    log.start(60, 2, 2)
        .secret(61, promoted(2))
        .secret(62, promoted(1));
    assert_eq!(log.0.tally.promoted(SECRET), Some(at(6)));
    let anchors = log.0.tally.anchors(SECRET).unwrap();
    assert_eq!((anchors.moved(), anchors.stopped()), (at(62), Some(at(62))));
}

#[test]
fn slots_are_served_by_every_rotation_and_by_a_policy_that_wants_others() {
    let served = |log: &Log| log.0.tally.anchors(SECRET).unwrap().served();
    let changed = |rotation| secret::Event::SpecChanged {
        spec: secret::Spec {
            rotation,
            ..secret::Spec::default()
        },
    };
    let frozen = RotationPolicy {
        freezes: vec![Freeze {
            from: at(1),
            until: at(2),
            reason: String::new(),
        }],
        ..RotationPolicy::default()
    };
    let daily = RotationPolicy {
        max_age: Some(Duration::from_secs(86_400)),
        ..RotationPolicy::default()
    };
    let mut log = Log::begun();
    log.secret(5, changed(frozen));
    assert_eq!(served(&log), at(0), "a freeze only holds back");
    log.secret(6, changed(daily));
    assert_eq!(served(&log), at(6));
    log.start(10, 1, 1);
    assert_eq!(served(&log), at(10));
    let abort = rotation::Event::Intervened {
        intervention: Intervention::Abort,
        reason: "not today".to_owned(),
    };
    log.rotation(11, 1, abort);
    let outcome = Outcome::RolledBack;
    log.rotation(12, 1, rotation::Event::Closed { outcome });
    let anchors = log.0.tally.anchors(SECRET).unwrap();
    assert_eq!(
        (anchors.served(), anchors.stopped()),
        (at(12), Some(at(11)))
    );
    // Canaries went back: the version before never ceased to be current.
    let back = rotation::Event::TurnedBack {
        version: 1,
        consumers: Vec::new(),
        hosts: Vec::new(),
        deadline: at(90),
    };
    log.start(20, 2, 2).rotation(21, 2, back);
    let anchors = log.0.tally.anchors(SECRET).unwrap();
    assert_eq!(anchors.stopped(), Some(at(21)));
}

#[test]
fn a_gap_counts_as_it_was_measured() {
    let mut log = Log::begun();
    let (since, until) = (at(3), at(5));
    log.rotation(9, 1, rotation::Event::GapMeasured { since, until });
    let gaps = &log.0.tally.gaps;
    assert_eq!((gaps.count(), gaps.sum()), (1, Duration::from_secs(2)));
}

#[test]
fn a_spread_counts_what_is_not_above_a_bound_and_what_is_above_all() {
    let mut spread = Spread::default();
    for millis in [0, 5, 6, 1_800_000, 1_800_001] {
        spread.add(Duration::from_millis(millis));
    }
    let cumulative: Vec<(f64, u64)> = spread.cumulative().collect();
    assert_eq!(cumulative.len(), BOUNDS.len());
    assert_eq!(cumulative.first(), Some(&(0.005, 2)));
    assert_eq!(cumulative.get(1), Some(&(0.01, 3)));
    assert_eq!(cumulative.last(), Some(&(1800.0, 4)));
    assert_eq!(spread.count(), 5);
}

#[test]
fn runs_of_playbooks_are_counted_by_how_they_ended() {
    use keywheel_core::id::RunId;
    use keywheel_core::playbook_run::{Event as Fact, Outcome as Ended, Score};
    let mut log = Log::begun();
    for (n, outcome) in [
        (1, Ended::Failed),
        (2, Ended::Completed),
        (3, Ended::Failed),
    ] {
        let score = Score::default();
        let ended = Fact::Completed { outcome, score };
        log.add(n, Event::PlaybookRun(RunId::from_bytes([7; 16]), ended));
    }
    let counted = [("completed", 1), ("failed", 2)];
    assert_eq!(log.0.tally.runs, BTreeMap::from(counted));
}
