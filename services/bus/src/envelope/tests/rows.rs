//! One of every body, with who sends it where.

mod stores;

use std::time::Duration;

use keywheel_core::binding::{Reload, Selector, Target};
use keywheel_core::effect::{Effect, StepWork, Work};
use keywheel_core::event::Event;
use keywheel_core::host;
use keywheel_core::id::{BindingId, CommandId, DeliveryId, RotationId, SecretId};
use keywheel_core::name::{BindingName, EnvName, HostName, SecretName};
use keywheel_core::plan::{Grant, HostPlan, PlannedBinding};
use keywheel_core::report::HostReport;
use keywheel_core::rotation::Step;
use keywheel_core::{command::Command, decision::RejectionKind};
use std::sync::Arc;

use keywheel_core::time::Timestamp;
use keywheel_engine::port::bus::{HostKeys, ValueRequest};
use keywheel_engine::port::journal::{AuditLeaf, RecordedEvent, Verdict};
use keywheel_engine::presence::{BusEnd, Fact, Presence, Reached, Seen};
use keywheel_engine::unseal::Shares;
use keywheel_schemas::event::{self, EventMeta};

use super::super::*;
use super::{HOST, NOW, TRACE};

pub(super) fn recorded(number: u64) -> RecordedEvent {
    let event = Event::Host(
        HOST,
        host::Event::Enrolled {
            name: HostName::parse("one").unwrap(),
            sealing_key: [3; 32],
            signing_key: None,
        },
    );
    let meta = EventMeta {
        id: EventId::from_bytes([1; 16]),
        number,
        aggregate_sequence: 1,
        time: Timestamp::from_micros(1_795_300_994_000_001),
        source: "keywheel/01010101-0101-0101-0101-010101010101/gateway".to_owned(),
        traceparent: Some(TRACE.to_owned()),
        causation: CommandId::from_bytes([2; 16]),
        previous_hash: [4; 32],
    };
    RecordedEvent {
        number,
        id: meta.id,
        time: meta.time,
        traceparent: meta.traceparent.clone(),
        bytes: event::encode(&meta, &event).into(),
        event,
        hash: [8; 32],
        signature: [9; 64],
    }
}

fn plan() -> HostPlan {
    let binding = PlannedBinding {
        binding: BindingId::from_bytes([1; 16]),
        name: BindingName::parse("b").unwrap(),
        secret: SecretId::from_bytes([2; 16]),
        secret_name: SecretName::parse("prod/db").unwrap(),
        also: Vec::new(),
        previous: Vec::new(),
        selector: Selector::default(),
        target: Target::Env {
            name: EnvName::parse("A").unwrap(),
        },
        reload: Reload::Restart {
            settle: Duration::from_secs(1),
            health_timeout: Duration::from_secs(2),
            rollout: None,
        },
        current: Some(Grant {
            version: 2,
            delivery: DeliveryId::from_bytes([3; 16]),
        }),
        floor: 1,
        dead: [5].into(),
        traceparent: Some(TRACE.to_owned()),
        leases: false,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    };
    HostPlan {
        host: HOST,
        host_name: HostName::parse("one").unwrap(),
        generation: 4,
        bindings: vec![binding],
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    }
}

pub(super) fn leaf(index: u64) -> AuditLeaf {
    AuditLeaf {
        index,
        bytes: Arc::from(b"{}".as_slice()),
    }
}

fn hosts() -> Body {
    Body::Hosts(vec![HostKeys {
        host: HOST,
        signing_key: [4; 32],
        generation: 2,
        evicted: true,
    }])
}

fn presence(role: Role) -> Body {
    let facts = vec![
        Fact::ok("a", "fine"),
        Fact::unknown("b", "?", "look"),
        Fact::warning("c", "soon", "do"),
        Fact::problem("d", "now", "do"),
    ];
    Body::Presence(Box::new(Presence {
        role,
        host: (role == Role::Injector).then_some(HOST),
        instance: [6; 16],
        machine: "web-1".to_owned(),
        version: "0.1.0".to_owned(),
        started: NOW,
        sent: NOW,
        leaving: true,
        certificate_end: Some(NOW),
        bus: Some(BusEnd {
            connected: true,
            server_version: "2.15.1".to_owned(),
            connects: 3,
            refused: 1,
            problem: Some("slow".to_owned()),
        }),
        seen: Seen {
            reached: Some(Reached::Plan(7)),
            facts,
        },
    }))
}

/// At least one body of each kind, and of what several roles say one of each.
pub(super) fn one_of_each() -> Vec<Body> {
    let topics = topic_rows().into_iter().map(|(_, _, body)| body);
    let requests = request_rows().into_iter().map(|(_, _, body)| body);
    let answers = answer_rows().into_iter().map(|(_, _, body)| body);
    let mut bodies: Vec<Body> = topics.chain(requests).chain(answers).collect();
    bodies.extend(keywheel_engine::authority::ROLES.map(presence));
    let rotation = RotationId::from_bytes([1; 16]);
    let outcome = Command::StepOutcome {
        rotation,
        step: Step::Create,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    };
    let mut commands = vec![Command::DeadlinePassed { rotation }, outcome];
    commands.extend(stores::commands());
    for command in commands {
        let id = CommandId::from_bytes([6; 16]);
        bodies.push(Body::Submit { id, command });
    }
    bodies
}

pub(super) fn topic_rows() -> Vec<(Role, Topic, Body)> {
    let step = StepWork {
        rotation: RotationId::from_bytes([1; 16]),
        secret: SecretId::from_bytes([2; 16]),
        step: Step::RevokeOld,
        attempt: 3,
        versions: vec![1, 2],
        generator: Some(keywheel_core::secret::Generator::default()),
        provided: true,
        outside: Some(Box::new(stores::outside())),
        resource: None,
        mark: None,
    };
    let work = Effect {
        work: Work::Step(step),
    };
    vec![
        (Role::Gateway, Topic::Events, Body::Event(recorded(7))),
        (Role::Gateway, Topic::Audit, Body::Audit(leaf(9))),
        (
            Role::Gateway,
            Topic::Work(Role::StoreSync),
            Body::Work {
                effect: work,
                deadline: Timestamp::from_micros(1_800_000_000_000_000),
                first: true,
            },
        ),
        (Role::Gateway, Topic::Plan(HOST), Body::Plan(plan())),
        (Role::Gateway, Topic::Hosts, hosts()),
        (Role::Scheduler, Topic::Presence, presence(Role::Scheduler)),
        (Role::Injector, Topic::Presence, presence(Role::Injector)),
    ]
}

pub(super) fn request_rows() -> Vec<(Role, Address, Body)> {
    [common_request_rows(), stores::requests()].concat()
}

fn common_request_rows() -> Vec<(Role, Address, Body)> {
    let value = ValueRequest {
        host: HOST,
        secret: SecretId::from_bytes([2; 16]),
        version: u64::MAX,
        delivery: DeliveryId::from_bytes([3; 16]),
    };
    let report = HostReport {
        generation: 4,
        holds: vec![(SecretId::from_bytes([2; 16]), 2)],
        complete: true,
        ..HostReport::empty(HOST)
    };
    let submit = Body::Submit {
        id: CommandId::from_bytes([6; 16]),
        command: Command::Report(report),
    };
    let stash = Body::Stash {
        token: RotationId::from_bytes([1; 16]),
        sealed: vec![1, 2, 3],
    };
    let gateway = Address::Gateway;
    vec![
        (Role::Injector, gateway, submit),
        (
            Role::Scheduler,
            gateway,
            Body::ReadEvents { after: 3, limit: 9 },
        ),
        (
            Role::AuditSink,
            gateway,
            Body::ReadAudit { from: 0, limit: 1 },
        ),
        (Role::Injector, gateway, Body::ReadPlan { host: HOST }),
        (Role::StoreSync, gateway, Body::ReadHosts),
        (Role::Injector, gateway, Body::Renew(b"{}".to_vec())),
        (Role::Scheduler, gateway, Body::Renew(vec![0, 1])),
        (Role::StoreSync, gateway, Body::OpenValue(value)),
        (Role::Injector, Address::StoreSync, Body::OpenValue(value)),
        (Role::Gateway, Address::StoreSync, Body::ReadStoreKey),
        (Role::Gateway, Address::StoreSync, stash),
        (
            Role::Gateway,
            Address::StoreSync,
            Body::DropStash {
                token: RotationId::from_bytes([1; 16]),
            },
        ),
    ]
}

pub(super) fn answer_rows() -> Vec<(Role, Address, Body)> {
    let (gateway, store) = (Address::Gateway, Address::StoreSync);
    let mut rows = vec![
        (
            Role::Gateway,
            gateway,
            Body::Verdict(Verdict::Accepted { number: 4 }),
        ),
        (
            Role::Gateway,
            gateway,
            Body::Events(vec![recorded(1), recorded(2)]),
        ),
        (Role::Gateway, gateway, Body::Events(Vec::new())),
        (
            Role::Gateway,
            gateway,
            Body::AuditLeaves(vec![leaf(0), leaf(1)]),
        ),
        (Role::Gateway, gateway, Body::Plan(plan())),
        (Role::Gateway, gateway, hosts()),
        (
            Role::Gateway,
            gateway,
            Body::Granted {
                sealing_key: [1; 32],
            },
        ),
        (Role::Gateway, gateway, Body::Renewed(b"{}".to_vec())),
        (Role::StoreSync, store, Body::SealedValue(vec![0, 1, 255])),
        (Role::StoreSync, store, Body::StoreKey([2; 32])),
        (Role::StoreSync, store, Body::Done),
        (Role::StoreSync, store, Body::Tried(Vec::new())),
        (Role::StoreSync, store, stores::tried()),
        (Role::StoreSync, store, stores::looked()),
        (Role::StoreSync, store, stores::compared()),
        (Role::StoreSync, store, Body::Compared(Vec::new())),
        (Role::StoreSync, store, stores::seal_state(None)),
        (
            Role::StoreSync,
            store,
            stores::seal_state(Some(Shares { have: 1, need: 3 })),
        ),
        (Role::Gateway, gateway, stores::news()),
    ];
    for kind in [
        RejectionKind::NotFound,
        RejectionKind::Conflict,
        RejectionKind::Invalid,
    ] {
        let text = "no \"such\" thing; ü".to_owned();
        let verdict = Verdict::Rejected { kind, text };
        rows.push((Role::Gateway, gateway, Body::Verdict(verdict)));
    }
    for kind in [
        ErrorKind::Conflict,
        ErrorKind::NotFound,
        ErrorKind::Denied,
        ErrorKind::Unavailable,
        ErrorKind::Corrupt,
    ] {
        let text = "it did not work".to_owned();
        rows.push((Role::StoreSync, store, Body::Failed { kind, text }));
    }
    rows
}
