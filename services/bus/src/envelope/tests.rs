//! A message reads back as it was written, and nothing that differs in a byte is read at all.

use std::time::Duration;

use keywheel_core::binding::{Reload, Selector, Target};
use keywheel_core::effect::{Effect, StepWork, Work};
use keywheel_core::event::Event;
use keywheel_core::host;
use keywheel_core::id::{BindingId, CommandId, DeliveryId, HostId, RotationId, SecretId};
use keywheel_core::name::{BindingName, EnvName, HostName, SecretName};
use keywheel_core::plan::{Grant, HostPlan, PlannedBinding};
use keywheel_core::report::HostReport;
use keywheel_core::rotation::Step;
use keywheel_core::time::Timestamp;
use keywheel_core::{command::Command, decision::RejectionKind};
use keywheel_engine::port::bus::ValueRequest;
use keywheel_engine::port::journal::{AuditLeaf, RecordedEvent, Verdict};
use keywheel_schemas::event::{self, EventMeta};
use keywheel_seal::OsEntropy;
use proptest::prelude::{any, proptest};

use super::*;

const ID: [u8; 16] = [5; 16];
const HOST: HostId = HostId::from_bytes([7; 16]);
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn identity(role: Role) -> Identity {
    Identity::new(role, SigningKey::generate(&OsEntropy))
}

fn trust(identity: &Identity) -> Trust {
    Trust::new([(identity.role(), identity.verifying_key())])
}

pub(crate) fn recorded(number: u64) -> RecordedEvent {
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
        selector: Selector::default(),
        target: Target::Env {
            name: EnvName::parse("A").unwrap(),
        },
        reload: Reload::Restart {
            settle: Duration::from_secs(1),
            health_timeout: Duration::from_secs(2),
        },
        current: Some(Grant {
            version: 2,
            delivery: DeliveryId::from_bytes([3; 16]),
        }),
        floor: 1,
        dead: [5].into(),
    };
    HostPlan {
        host: HOST,
        host_name: HostName::parse("one").unwrap(),
        generation: 4,
        bindings: vec![binding],
    }
}

fn leaf(index: u64) -> AuditLeaf {
    AuditLeaf {
        index,
        bytes: Arc::from(b"{}".as_slice()),
    }
}

fn topic_rows() -> Vec<(Role, Topic, Body)> {
    let step = StepWork {
        rotation: RotationId::from_bytes([1; 16]),
        secret: SecretId::from_bytes([2; 16]),
        step: Step::RevokeOld,
        attempt: 3,
        versions: vec![1, 2],
        generator: Some(keywheel_core::secret::Generator::default()),
        provided: true,
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
            Body::Work(work),
        ),
        (Role::Gateway, Topic::Plan(HOST), Body::Plan(plan())),
    ]
}

fn request_rows() -> Vec<(Role, Address, Body)> {
    let value = ValueRequest {
        host: HOST,
        secret: SecretId::from_bytes([2; 16]),
        version: u64::MAX,
        delivery: DeliveryId::from_bytes([3; 16]),
    };
    let report = HostReport {
        host: HOST,
        generation: 4,
        items: Vec::new(),
        holds: vec![(SecretId::from_bytes([2; 16]), 2)],
        complete: true,
        containers: Vec::new(),
        denied: Vec::new(),
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

fn answer_rows() -> Vec<(Role, Address, Body)> {
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
        (
            Role::Gateway,
            gateway,
            Body::Granted {
                sealing_key: [1; 32],
            },
        ),
        (Role::StoreSync, store, Body::SealedValue(vec![0, 1, 255])),
        (Role::StoreSync, store, Body::StoreKey([2; 32])),
        (Role::StoreSync, store, Body::Done),
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

fn assert_reads_back(role: Role, to: Receiver<'_>, body: &Body) {
    let sender = identity(role);
    let frame = encode(&sender, to, ID, Some(TRACE), body).unwrap();
    let message = decode(&trust(&sender), to, &frame).unwrap();
    assert_eq!(message.id, ID);
    assert_eq!(message.sender, role);
    assert_eq!(message.traceparent.as_deref(), Some(TRACE));
    assert_eq!(format!("{:?}", message.body), format!("{body:?}"));
}

#[test]
fn every_body_reads_back_as_it_was_written() {
    for (role, topic, body) in topic_rows() {
        assert_reads_back(role, Receiver::Topic(&topic), &body);
    }
    for (role, address, body) in request_rows() {
        assert_reads_back(role, Receiver::Request(address), &body);
    }
    for (role, address, body) in answer_rows() {
        assert_reads_back(role, Receiver::Answer(address, ID), &body);
    }
}

#[test]
fn a_change_of_any_byte_is_refused() {
    let sender = identity(Role::Gateway);
    let to = Receiver::Topic(&Topic::Audit);
    let frame = encode(&sender, to, ID, None, &Body::Audit(leaf(1))).unwrap();
    for at in 0..frame.len() {
        let mut changed = frame.to_vec();
        changed[at] ^= 1;
        assert!(decode(&trust(&sender), to, &changed).is_err(), "byte {at}");
    }
    for end in 0..frame.len() {
        assert!(
            decode(&trust(&sender), to, &frame[..end]).is_err(),
            "cut at {end}"
        );
    }
}

#[test]
fn each_refusal_has_its_type() {
    let gateway = identity(Role::Gateway);
    let sink = identity(Role::AuditSink);
    let both = Trust::new([gateway.verifying_key(), sink.verifying_key()].map(|key| {
        let role = if key == sink.verifying_key() {
            Role::AuditSink
        } else {
            Role::Gateway
        };
        (role, key)
    }));
    let to = Receiver::Topic(&Topic::Audit);
    let body = Body::Audit(leaf(1));
    let frame = encode(&gateway, to, ID, None, &body).unwrap();

    let impostor = identity(Role::Gateway);
    let forged = encode(&impostor, to, ID, None, &body).unwrap();
    assert!(matches!(
        decode(&both, to, &forged),
        Err(Refusal::Forged("gateway"))
    ));
    assert!(matches!(
        decode(&Trust::default(), to, &frame),
        Err(Refusal::UnknownSender("gateway"))
    ));
    let events = Receiver::Topic(&Topic::Events);
    assert!(matches!(
        decode(&both, events, &frame),
        Err(Refusal::WrongReceiver)
    ));
    let wrong_role = encode_unchecked(&sink, to, ID, None, &body).unwrap();
    assert!(matches!(
        decode(&both, to, &wrong_role),
        Err(Refusal::NotPermitted("audit-sink"))
    ));
    let unread = encode_unchecked(
        &gateway,
        to,
        ID,
        None,
        &Body::Event(RecordedEvent {
            number: 8,
            ..recorded(7)
        }),
    );
    assert!(matches!(
        decode(&both, to, &unread.unwrap()),
        Err(Refusal::Malformed(_))
    ));
    assert!(matches!(
        decode(&both, to, b"{}"),
        Err(Refusal::Malformed(_))
    ));
}

#[test]
fn an_answer_fits_no_other_question() {
    let gateway = identity(Role::Gateway);
    let frame = encode(
        &gateway,
        Receiver::Answer(Address::Gateway, ID),
        ID,
        None,
        &Body::Done,
    )
    .unwrap();
    let other = Receiver::Answer(Address::Gateway, [6; 16]);
    assert!(matches!(
        decode(&trust(&gateway), other, &frame),
        Err(Refusal::WrongReceiver)
    ));
}

#[test]
fn the_size_limit_itself_is_allowed_and_one_more_is_not() {
    let sender = identity(Role::StoreSync);
    let to = Receiver::Answer(Address::StoreSync, ID);
    let empty = encode(&sender, to, ID, None, &Body::SealedValue(Vec::new()))
        .unwrap()
        .len();
    let largest = Body::SealedValue(vec![0; MAX_MESSAGE_BYTES - empty]);
    let frame = encode(&sender, to, ID, None, &largest).unwrap();
    assert_eq!(frame.len(), MAX_MESSAGE_BYTES);
    assert!(decode(&trust(&sender), to, &frame).is_ok());
    let too_large = Body::SealedValue(vec![0; MAX_MESSAGE_BYTES - empty + 1]);
    let error = encode(&sender, to, ID, None, &too_large).unwrap_err();
    assert!(matches!(error, EncodeError::TooLarge { bytes } if bytes == MAX_MESSAGE_BYTES + 1));
    let arrived = vec![0; MAX_MESSAGE_BYTES + 1];
    assert!(matches!(
        decode(&trust(&sender), to, &arrived),
        Err(Refusal::TooLarge { .. })
    ));
}

#[test]
fn a_trace_context_over_the_limit_is_not_sent() {
    let sender = identity(Role::Gateway);
    let to = Receiver::Topic(&Topic::Audit);
    let body = Body::Audit(leaf(1));
    let trace = |bytes| "a".repeat(bytes);
    assert!(encode(&sender, to, ID, Some(&trace(MAX_TRACEPARENT_BYTES)), &body).is_ok());
    let error = encode(
        &sender,
        to,
        ID,
        Some(&trace(MAX_TRACEPARENT_BYTES + 1)),
        &body,
    );
    assert!(matches!(error, Err(EncodeError::TraceTooLong)));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, header in "[ -~]{0,200}") {
        let sender = identity(Role::Gateway);
        let to = Receiver::Topic(&Topic::Audit);
        let length = u32::try_from(header.len()).unwrap().to_be_bytes();
        let framed = [MAGIC.as_slice(), &length, header.as_bytes(), &bytes].concat();
        for frame in [&bytes, &framed] {
            assert!(decode(&trust(&sender), to, frame).is_err());
        }
    }

    #[test]
    fn no_signed_body_makes_the_reader_panic(bytes: Vec<u8>, number in any::<u8>()) {
        let kinds = [Kind::Event, Kind::Audit, Kind::Work, Kind::Plan, Kind::Submit, Kind::Verdict,
            Kind::ReadEvents, Kind::Events, Kind::ReadAudit, Kind::AuditLeaves, Kind::ReadPlan,
            Kind::OpenValue, Kind::Granted, Kind::StoreKey, Kind::Stash, Kind::DropStash, Kind::Failed];
        let kind = kinds[usize::from(number) % kinds.len()];
        // Reading may succeed (an audit leaf is any bytes); it must only come back.
        let read = body::from_bytes(kind, &bytes);
        assert!(read.is_err() || bytes.len() >= 8 || kind == Kind::Events || kind == Kind::AuditLeaves);
    }
}
