//! What the log says in numbers: events as they come, and the numbers after them.

use std::sync::Arc;

use keywheel_core::binding::{self, Target};
use keywheel_core::id::{BindingId, ContainerId, EventId, HostId};
use keywheel_core::name::{BindingName, EnvName, SecretName};

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
                selector: binding::Selector::default(),
                target: Target::Env {
                    name: EnvName::parse("TOKEN").unwrap(),
                },
                reload: Reload::Restart {
                    settle: Duration::from_secs(1),
                    health_timeout: Duration::from_secs(1),
                    rollout: None,
                },
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
