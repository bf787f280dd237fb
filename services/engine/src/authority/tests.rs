//! The whole table: every command and every body against every role and destination.

mod commands;
mod recorded;

use std::collections::BTreeSet;
use std::sync::Arc;

use keywheel_core::effect::{Effect, Part, RevokeWork, Work};
use keywheel_core::id::{
    CommandId, DeliveryId, EventId, HostId, RevocationId, RotationId, SecretId,
};
use keywheel_core::name::{HostName, StoreName};
use keywheel_core::plan::HostPlan;
use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, DEFAULT_POLL, DEFAULT_TIMEOUT, NamedStore, StoreSpec,
};
use keywheel_core::time::Timestamp;
use keywheel_core::{event, host};

use commands::{all_commands, worker_commands};

use super::*;
use crate::port::ErrorKind;
use crate::port::bus::{Comparison, HostKeys, ValueRequest};
use crate::port::journal::{AuditLeaf, RecordedEvent, Verdict};
use crate::presence::{Presence, Seen};
use crate::unseal::SealState;

const HOST: HostId = HostId::from_bytes([7; 16]);
const OTHER_HOST: HostId = HostId::from_bytes([8; 16]);
const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const ROTATION: RotationId = RotationId::from_bytes([2; 16]);
const REVOCATION: RevocationId = RevocationId::from_bytes([3; 16]);

/// Every body with every (role, destination) that may carry it. A new variant does not compile here
/// until it has a row.
fn rows(body: &Body) -> Vec<(Role, &'static str)> {
    match body {
        Body::Event(_) => vec![(Role::Gateway, "topic events")],
        Body::Audit(_) => vec![(Role::Gateway, "topic audit")],
        Body::Work { .. } => vec![(Role::Gateway, "topic work store-sync")],
        Body::Plan(_) => vec![
            (Role::Gateway, "topic plan"),
            (Role::Gateway, "answer gateway"),
        ],
        Body::Submit { command, .. } => vec![(submitter_of(command), "request gateway")],
        Body::ReadEvents { .. } => vec![
            (Role::Scheduler, "request gateway"),
            (Role::StoreSync, "request gateway"),
            (Role::AuditSink, "request gateway"),
        ],
        Body::ReadAudit { .. } => vec![(Role::AuditSink, "request gateway")],
        Body::ReadPlan { .. } => vec![(Role::Injector, "request gateway")],
        Body::ReadHosts | Body::ReadStores { .. } => {
            vec![(Role::StoreSync, "request gateway")]
        }
        Body::Hosts(_) => vec![
            (Role::Gateway, "topic hosts"),
            (Role::Gateway, "answer gateway"),
        ],
        Body::Presence(said) => vec![(said.role, "topic presence")],
        Body::Renew(_) => vec![
            (Role::Scheduler, "request gateway"),
            (Role::StoreSync, "request gateway"),
            (Role::Injector, "request gateway"),
            (Role::AuditSink, "request gateway"),
        ],
        Body::OpenValue(_) => vec![
            (Role::StoreSync, "request gateway"),
            (Role::Injector, "request store-sync"),
        ],
        Body::Verdict(_)
        | Body::Events(_)
        | Body::AuditLeaves(_)
        | Body::Granted { .. }
        | Body::Stores(_)
        | Body::Renewed(_) => vec![(Role::Gateway, "answer gateway")],
        Body::SealedValue(_)
        | Body::StoreKey(_)
        | Body::Tried(_)
        | Body::Looked(_)
        | Body::Compared(_)
        | Body::SealState(_) => vec![(Role::StoreSync, "answer store-sync")],
        Body::ReadStoreKey
        | Body::Stash { .. }
        | Body::DropStash { .. }
        | Body::CheckStore { .. }
        | Body::LookNow { .. }
        | Body::Compare(_)
        | Body::ReadSeal
        | Body::Unseal { .. }
        | Body::Seal
        | Body::RotateKek => vec![(Role::Gateway, "request store-sync")],
        Body::Done | Body::Failed { .. } => vec![
            (Role::Gateway, "answer gateway"),
            (Role::StoreSync, "answer store-sync"),
        ],
    }
}

fn recorded() -> RecordedEvent {
    RecordedEvent {
        number: 1,
        id: EventId::default(),
        time: Timestamp::default(),
        traceparent: None,
        event: event::Event::Host(
            HOST,
            host::Event::Enrolled {
                name: HostName::parse("h").unwrap(),
                sealing_key: [0; 32],
                signing_key: None,
            },
        ),
        bytes: Arc::from([]),
        hash: [0; 32],
        signature: [0; 64],
    }
}

fn presence(role: Role) -> Presence {
    Presence {
        role,
        host: host_of(role),
        instance: [1; 16],
        machine: "m".to_owned(),
        version: "1".to_owned(),
        started: Timestamp::default(),
        sent: Timestamp::default(),
        leaving: false,
        certificate_end: None,
        bus: None,
        seen: Seen::default(),
    }
}

#[test]
fn nobody_is_present_in_the_name_of_another() {
    let to = Destination::Topic(&Topic::Presence);
    let said = Body::Presence(Box::new(presence(Role::Injector)));
    assert!(may_send(Role::Injector, Some(HOST), &said, to));
    assert!(!may_send(Role::Injector, Some(OTHER_HOST), &said, to));
    assert!(!may_send(Role::Scheduler, None, &said, to));
}

fn plan() -> HostPlan {
    HostPlan {
        host: HOST,
        host_name: HostName::parse("h").unwrap(),
        generation: 1,
        bindings: Vec::new(),
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    }
}

fn store() -> NamedStore {
    let spec = AwsSpec {
        region: "eu-central-1".to_owned(),
        endpoint: String::new(),
        auth: AwsAuth::Chain {
            profile: String::new(),
        },
    };
    NamedStore {
        name: StoreName::parse("aws").unwrap(),
        spec: StoreSpec {
            backend: Backend::Aws(spec),
            poll: DEFAULT_POLL,
            timeout: DEFAULT_TIMEOUT,
        },
    }
}

/// About stores outside.
fn store_bodies() -> [Body; 13] {
    [
        Body::ReadStores {
            after: 1,
            wait: false,
        },
        Body::Stores(Box::default()),
        Body::CheckStore {
            store: Box::new(store()),
            credentials: Vec::new(),
            places: Vec::new(),
        },
        Body::Tried(Vec::new()),
        Body::LookNow { secret: None },
        Body::Looked(Vec::new()),
        Body::Compare(Comparison {
            sealed_key: vec![1; 32],
            digests: vec![[2; 32]],
            among: vec![(SECRET, 1)],
        }),
        Body::Compared(Vec::new()),
        Body::ReadSeal,
        Body::SealState(SealState {
            sealed: true,
            provider: "shamir".to_owned(),
            key: [1; 32],
            shares: None,
            kek_rows_left: None,
        }),
        Body::Unseal {
            offered: Vec::new(),
        },
        Body::Seal,
        Body::RotateKek,
    ]
}

fn revoke_work() -> Work {
    Work::Revoke(RevokeWork {
        revocation: REVOCATION,
        secret: SECRET,
        versions: vec![1],
        attempt: 1,
        outside: None,
        resource: None,
        part: Part::Whole,
        is_emergency: false,
    })
}

fn all_bodies() -> Vec<Body> {
    let value = ValueRequest {
        host: HOST,
        secret: SECRET,
        version: 1,
        delivery: DeliveryId::default(),
    };
    let leaf = AuditLeaf {
        index: 0,
        bytes: Arc::from([]),
    };
    let mut bodies = vec![
        Body::Event(recorded()),
        Body::Audit(leaf),
        Body::Work {
            effect: Effect {
                work: revoke_work(),
            },
            deadline: Timestamp::default(),
            first: true,
        },
        Body::Plan(plan()),
        Body::Verdict(Verdict::Accepted { number: 1 }),
        Body::ReadEvents { after: 0, limit: 1 },
        Body::Events(Vec::new()),
        Body::ReadAudit { from: 0, limit: 1 },
        Body::AuditLeaves(Vec::new()),
        Body::ReadPlan { host: HOST },
        Body::ReadHosts,
        Body::Hosts(vec![HostKeys {
            host: HOST,
            signing_key: [1; 32],
            generation: 1,
            evicted: false,
        }]),
        Body::Renew(Vec::new()),
        Body::Renewed(Vec::new()),
        Body::OpenValue(value),
        Body::Granted {
            sealing_key: [0; 32],
        },
        Body::SealedValue(Vec::new()),
        Body::ReadStoreKey,
        Body::StoreKey([0; 32]),
        Body::Stash {
            token: ROTATION,
            sealed: Vec::new(),
        },
        Body::DropStash { token: ROTATION },
        Body::Done,
        Body::Failed {
            kind: ErrorKind::Denied,
            text: String::new(),
        },
    ];
    bodies.extend(store_bodies());
    bodies.extend(ROLES.map(|role| Body::Presence(Box::new(presence(role)))));
    bodies.extend(all_commands().into_iter().map(|(_, command)| Body::Submit {
        id: CommandId::default(),
        command,
    }));
    bodies
}

/// The host of a sender of this role.
fn host_of(role: Role) -> Option<HostId> {
    (role == Role::Injector).then_some(HOST)
}

#[test]
fn an_injector_speaks_for_its_own_host_only() {
    for (role, command) in worker_commands() {
        let ours = role == Role::Injector;
        assert!(may_submit(role, host_of(role), &command), "{command:?}");
        if ours {
            assert!(!may_submit(role, Some(OTHER_HOST), &command), "{command:?}");
            assert!(!may_submit(role, None, &command), "{command:?}");
        }
    }
    let to = [Address::Gateway, Address::StoreSync].map(Destination::Request);
    for body in all_bodies() {
        // A renewal names nobody: it is for whoever signed it.
        let names_a_host = !matches!(body, Body::Renew(_));
        for to in to {
            assert!(
                !(names_a_host && may_send(Role::Injector, Some(OTHER_HOST), &body, to)),
                "{body:?}"
            );
            assert!(!may_send(Role::Injector, None, &body, to), "{body:?}");
        }
    }
}

#[test]
fn a_service_with_a_host_is_nobody() {
    for body in all_bodies() {
        for role in ROLES.into_iter().filter(|role| *role != Role::Injector) {
            for address in [Address::Gateway, Address::StoreSync] {
                for to in [Destination::Request(address), Destination::Answer(address)] {
                    assert!(!may_send(role, Some(HOST), &body, to), "{role:?} {body:?}");
                }
            }
        }
    }
}

#[test]
fn every_topic_has_its_readers() {
    let rows = [
        (Topic::Events, Role::Scheduler),
        (Topic::Audit, Role::AuditSink),
        (Topic::Work(Role::StoreSync), Role::StoreSync),
        (Topic::Plan(HOST), Role::Injector),
        (Topic::Hosts, Role::StoreSync),
        (Topic::Presence, Role::Gateway),
    ];
    for (topic, reader) in rows {
        for role in ROLES {
            let wanted = role == reader;
            assert_eq!(
                may_read(role, host_of(role), &topic),
                wanted,
                "{role:?} {topic:?}"
            );
        }
    }
    assert!(!may_read(
        Role::Injector,
        Some(HOST),
        &Topic::Plan(OTHER_HOST)
    ));
    assert!(!may_read(Role::Injector, None, &Topic::Plan(HOST)));
}

#[test]
fn every_command_has_exactly_one_submitter() {
    let commands = all_commands();
    let kinds: BTreeSet<_> = commands
        .iter()
        .map(|(_, command)| {
            format!("{command:?}")
                .split([' ', '('])
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(kinds.len(), 28, "one of each command");
    for (wanted, command) in &commands {
        for role in ROLES {
            assert_eq!(
                may_submit(role, host_of(role), command),
                role == *wanted,
                "{role:?} {command:?}"
            );
        }
    }
}

#[test]
fn every_body_goes_where_its_row_says_and_nowhere_else() {
    let topics = [
        ("topic events", Topic::Events),
        ("topic audit", Topic::Audit),
        ("topic work gateway", Topic::Work(Role::Gateway)),
        ("topic work scheduler", Topic::Work(Role::Scheduler)),
        ("topic work store-sync", Topic::Work(Role::StoreSync)),
        ("topic work injector", Topic::Work(Role::Injector)),
        ("topic work audit-sink", Topic::Work(Role::AuditSink)),
        ("topic plan", Topic::Plan(HOST)),
        ("topic plan of another host", Topic::Plan(OTHER_HOST)),
        ("topic hosts", Topic::Hosts),
        ("topic presence", Topic::Presence),
    ];
    let mut destinations: Vec<_> = topics
        .iter()
        .map(|(name, topic)| (*name, Destination::Topic(topic)))
        .collect();
    destinations.extend([
        ("request gateway", Destination::Request(Address::Gateway)),
        (
            "request store-sync",
            Destination::Request(Address::StoreSync),
        ),
        ("answer gateway", Destination::Answer(Address::Gateway)),
        ("answer store-sync", Destination::Answer(Address::StoreSync)),
    ]);
    for body in all_bodies() {
        let rows = rows(&body);
        for role in ROLES {
            for (name, to) in &destinations {
                let wanted = rows.contains(&(role, name));
                assert_eq!(
                    may_send(role, host_of(role), &body, *to),
                    wanted,
                    "{role:?} {name} {body:?}"
                );
            }
        }
    }
}

#[test]
fn a_forged_answer_of_a_role_that_does_not_serve_is_refused() {
    for role in [Role::Scheduler, Role::Injector, Role::AuditSink] {
        for address in [Address::Gateway, Address::StoreSync] {
            assert!(
                !may_send(
                    role,
                    host_of(role),
                    &Body::Done,
                    Destination::Answer(address)
                ),
                "{role:?}"
            );
        }
    }
}
