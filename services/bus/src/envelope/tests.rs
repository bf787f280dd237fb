//! A message reads back as it was written, and nothing that differs in a byte is read at all.

mod properties;
mod rows;

use cloudevents::AttributesReader as _;
use keywheel_core::id::DeploymentId;
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;
use rows::{answer_rows, leaf, one_of_each, recorded, request_rows, topic_rows};

use super::*;

const ID: [u8; 16] = [5; 16];
const HOST: HostId = HostId::from_bytes([7; 16]);
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([1; 16]);
const NOW: Timestamp = Timestamp::from_micros(1_795_300_994_000_001);
const HEADING: Heading<'_> = Heading {
    id: ID,
    time: NOW,
    traceparent: None,
};

fn identity(role: Role) -> Identity {
    let key = SigningKey::generate(&OsEntropy);
    match role {
        Role::Injector => Identity::injector(DEPLOYMENT, HOST, key),
        role => Identity::service(DEPLOYMENT, role, key),
    }
}

fn trust(identity: &Identity) -> Trust {
    let trust = Trust::new(DEPLOYMENT, [(identity.role(), identity.verifying_key())]);
    let host = identity.host().map(|host| (host, identity.verifying_key()));
    trust.set_hosts(host.into_iter().collect());
    trust
}

/// Every row: who, where, what.
fn for_each_row(mut visit: impl FnMut(Role, Receiver<'_>, &Body)) {
    for (role, topic, body) in topic_rows() {
        visit(role, Receiver::Topic(&topic), &body);
    }
    for (role, address, body) in request_rows() {
        visit(role, Receiver::Request(address), &body);
    }
    for (role, address, body) in answer_rows() {
        visit(role, Receiver::Answer(address, ID), &body);
    }
}

fn write(sender: &Identity, to: Receiver<'_>, body: &Body) -> Frame {
    encode(sender, to, HEADING, body).unwrap()
}

#[test]
fn every_body_reads_back_as_it_was_written() {
    let mut kinds = std::collections::BTreeSet::new();
    for_each_row(|role, to, body| {
        let sender = identity(role);
        let heading = Heading {
            traceparent: Some(TRACE),
            ..HEADING
        };
        let frame = encode(&sender, to, heading, body).unwrap();
        let message = decode(&trust(&sender), to, NOW, &frame).unwrap();
        assert_eq!(message.id, ID);
        assert_eq!((message.sender, message.host), (role, sender.host()));
        assert_eq!(message.traceparent.as_deref(), Some(TRACE));
        assert_eq!(format!("{:?}", message.body), format!("{body:?}"));
        kinds.insert(body::to_json(body).unwrap().0.word());
    });
    assert_eq!(kinds.len(), Kind::ALL.len(), "a row for every kind");
}

#[test]
fn the_cloudevents_sdk_reads_every_message_with_all_attributes() {
    for_each_row(|role, to, body| {
        let sender = identity(role);
        let heading = Heading {
            traceparent: Some(TRACE),
            ..HEADING
        };
        let frame = encode(&sender, to, heading, body).unwrap();
        let event: cloudevents::Event = serde_json::from_slice(&frame.document).unwrap();
        assert_eq!(event.id(), EventId::from_bytes(ID).to_string());
        assert!(
            event
                .source()
                .starts_with(&format!("keywheel/{DEPLOYMENT}/"))
        );
        assert!(
            event.ty().starts_with("dev.keywheel.bus."),
            "{}",
            event.ty()
        );
        assert_eq!(event.datacontenttype(), Some(DATA_TYPE));
        assert_eq!(event.time().unwrap().timestamp_micros(), NOW.micros());
        let word = event.extension("receiver").map(ToString::to_string);
        assert_eq!(word, Some(to.word()));
        assert!(event.extension("traceparent").is_some());
        assert!(matches!(event.data(), Some(cloudevents::Data::Json(_))));
    });
}

#[test]
fn a_change_of_any_byte_is_refused() {
    let sender = identity(Role::Gateway);
    let trust = trust(&sender);
    let to = Receiver::Topic(&Topic::Audit);
    let frame = write(&sender, to, &Body::Audit(leaf(1)));
    for at in 0..frame.document.len() {
        let mut changed = frame.clone();
        changed.document[at] ^= 1;
        assert!(decode(&trust, to, NOW, &changed).is_err(), "byte {at}");
        changed.document.truncate(at);
        assert!(decode(&trust, to, NOW, &changed).is_err(), "cut at {at}");
    }
    for at in 0..frame.signature.len() {
        let mut changed = frame.clone();
        changed.signature[at] ^= 1;
        assert!(decode(&trust, to, NOW, &changed).is_err(), "byte {at}");
    }
}

#[test]
fn each_refusal_has_its_type() {
    let gateway = identity(Role::Gateway);
    let sink = identity(Role::AuditSink);
    let keys = [&gateway, &sink].map(|one| (one.role(), one.verifying_key()));
    let both = Trust::new(DEPLOYMENT, keys.clone());
    let to = Receiver::Topic(&Topic::Audit);
    let body = Body::Audit(leaf(1));
    let frame = write(&gateway, to, &body);
    let refused = |trust: &Trust, to, frame: &Frame| decode(trust, to, NOW, frame).unwrap_err();

    let forged = write(&identity(Role::Gateway), to, &body);
    assert!(matches!(
        refused(&both, to, &forged),
        Refusal::Forged("gateway")
    ));
    let nobody = Trust::new(DEPLOYMENT, []);
    assert!(matches!(
        refused(&nobody, to, &frame),
        Refusal::UnknownSender("gateway")
    ));
    let elsewhere = Trust::new(DeploymentId::from_bytes([9; 16]), keys);
    assert!(matches!(
        refused(&elsewhere, to, &frame),
        Refusal::WrongReceiver
    ));
    let events = Receiver::Topic(&Topic::Events);
    assert!(matches!(
        refused(&both, events, &frame),
        Refusal::WrongReceiver
    ));
    let wrong_role = encode_unchecked(&sink, to, HEADING, &body).unwrap();
    assert!(matches!(
        refused(&both, to, &wrong_role),
        Refusal::NotPermitted("audit-sink")
    ));
    let other_number = Body::Event(RecordedEvent {
        number: 8,
        ..recorded(7)
    });
    let unread = write(&gateway, events, &other_number);
    assert!(matches!(
        refused(&both, events, &unread),
        Refusal::Malformed(_)
    ));
    let garbage = Frame {
        document: b"{}".to_vec(),
        signature: [0; 64],
    };
    assert!(matches!(
        refused(&both, to, &garbage),
        Refusal::Malformed(_)
    ));
}

#[test]
fn a_host_speaks_with_its_own_key_only() {
    let mine = identity(Role::Injector);
    let trust = trust(&mine);
    let to = Receiver::Request(Address::Gateway);
    let ask = Body::ReadPlan { host: HOST };
    assert!(decode(&trust, to, NOW, &write(&mine, to, &ask)).is_ok());

    let other = HostId::from_bytes([8; 16]);
    let thief = Identity::injector(DEPLOYMENT, other, SigningKey::generate(&OsEntropy));
    trust.set_hosts(
        [&mine, &thief]
            .map(|one| (one.host().unwrap(), one.verifying_key()))
            .into(),
    );
    let refused = |sender: &Identity| {
        let frame = encode_unchecked(sender, to, HEADING, &ask).unwrap();
        decode(&trust, to, NOW, &frame).unwrap_err()
    };
    assert!(matches!(refused(&thief), Refusal::NotPermitted("injector")));
    let stolen = Identity::injector(DEPLOYMENT, HOST, SigningKey::generate(&OsEntropy));
    assert!(matches!(refused(&stolen), Refusal::Forged("injector")));
    let hostless = Identity::service(DEPLOYMENT, Role::Injector, SigningKey::generate(&OsEntropy));
    assert!(matches!(
        refused(&hostless),
        Refusal::UnknownSender("injector")
    ));
    trust.set_hosts(std::collections::BTreeMap::new());
    assert!(matches!(refused(&mine), Refusal::UnknownSender("injector")));
}

#[test]
fn a_request_of_another_time_is_refused_and_a_kept_event_is_not() {
    let sender = identity(Role::AuditSink);
    let request = Receiver::Request(Address::Gateway);
    let frame = write(&sender, request, &Body::ReadAudit { from: 0, limit: 1 });
    let read = |now| decode(&trust(&sender), request, now, &frame);
    let step = std::time::Duration::from_micros(1);
    let before = Timestamp::from_micros(NOW.micros() - 120_000_000);
    assert!(read(NOW.plus(FRESHNESS)).is_ok() && read(before).is_ok());
    assert!(matches!(
        read(NOW.plus(FRESHNESS + step)),
        Err(Refusal::Stale(_))
    ));
    let earlier = Timestamp::from_micros(before.micros() - 1);
    assert!(matches!(read(earlier), Err(Refusal::Stale(_))));

    let (_, _, present) = topic_rows().pop().unwrap();
    let host = identity(Role::Injector);
    let presence = Receiver::Topic(&Topic::Presence);
    let kept = write(&host, presence, &present);
    let read = |now| decode(&trust(&host), presence, now, &kept);
    assert!(read(NOW.plus(FRESHNESS)).is_ok());
    assert!(matches!(
        read(NOW.plus(FRESHNESS + step)),
        Err(Refusal::Stale(_))
    ));

    let gateway = identity(Role::Gateway);
    let audit = Receiver::Topic(&Topic::Audit);
    let kept = write(&gateway, audit, &Body::Audit(leaf(1)));
    let much_later = NOW.plus(FRESHNESS * 1000);
    assert!(decode(&trust(&gateway), audit, much_later, &kept).is_ok());
}

/// The published table of who says what where is the one that receivers go by.
#[test]
fn the_published_routes_are_what_is_permitted() {
    use keywheel_schemas::wire::route::{Place, ROUTES};
    let topics = [
        (Place::Events, Topic::Events),
        (Place::Audit, Topic::Audit),
        (Place::Work, Topic::Work(Role::StoreSync)),
        (Place::Plan, Topic::Plan(HOST)),
        (Place::Hosts, Topic::Hosts),
        (Place::Presence, Topic::Presence),
    ];
    let mut places: Vec<(Place, Destination<'_>)> = topics
        .iter()
        .map(|(place, topic)| (*place, Destination::Topic(topic)))
        .collect();
    for address in [Address::Gateway, Address::StoreSync] {
        let server = authority::server_of(address);
        places.push((Place::Ask(server), Destination::Request(address)));
        places.push((Place::Answer(server), Destination::Answer(address)));
    }
    let row = |kind: Kind, place: Place, role| format!("{role:?} {kind:?} {place:?}");
    let mut permitted = std::collections::BTreeSet::new();
    for body in one_of_each() {
        let kind = body::to_json(&body).unwrap().0;
        for role in authority::ROLES {
            let host = (role == Role::Injector).then_some(HOST);
            for (place, to) in &places {
                if authority::may_send(role, host, &body, *to) {
                    permitted.insert(row(kind, *place, role));
                }
            }
        }
    }
    let published = ROUTES.iter().flat_map(|route| {
        let rows = route.from.iter();
        rows.map(|role| row(route.kind, route.place, *role))
    });
    assert_eq!(permitted, published.collect());
}

#[test]
fn an_answer_fits_no_other_question() {
    let gateway = identity(Role::Gateway);
    let frame = write(
        &gateway,
        Receiver::Answer(Address::Gateway, ID),
        &Body::Done,
    );
    let other = Receiver::Answer(Address::Gateway, [6; 16]);
    let read = decode(&trust(&gateway), other, NOW, &frame);
    assert!(matches!(read, Err(Refusal::WrongReceiver)));
}

#[test]
fn the_size_limit_itself_is_allowed_and_one_more_is_not() {
    let sender = identity(Role::Gateway);
    let to = Receiver::Topic(&Topic::Audit);
    let sized = |bytes: usize| {
        let text = format!("\"{}\"", "a".repeat(bytes));
        let bytes = std::sync::Arc::from(text.as_bytes());
        Body::Audit(keywheel_engine::port::journal::AuditLeaf { index: 1, bytes })
    };
    let empty = write(&sender, to, &sized(0)).document.len();
    let room = MAX_MESSAGE_BYTES - empty;
    let frame = write(&sender, to, &sized(room));
    assert_eq!(frame.document.len(), MAX_MESSAGE_BYTES);
    assert!(decode(&trust(&sender), to, NOW, &frame).is_ok());
    let error = encode(&sender, to, HEADING, &sized(room + 1)).unwrap_err();
    assert!(matches!(error, EncodeError::TooLarge { bytes } if bytes == MAX_MESSAGE_BYTES + 1));
    let arrived = Frame {
        document: vec![b' '; MAX_MESSAGE_BYTES + 1],
        signature: [0; 64],
    };
    let read = decode(&trust(&sender), to, NOW, &arrived);
    assert!(matches!(read, Err(Refusal::TooLarge { .. })));
}

#[test]
fn presence_over_its_bounds_is_refused() {
    use keywheel_engine::presence::MAX_FACTS;
    let (_, _, present) = topic_rows().pop().unwrap();
    let (kind, data) = body::to_json(&present).unwrap();
    let sender = (Role::Injector, Some(HOST));
    let read = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::from_str(data.get()).unwrap();
        change(&mut value);
        let data = serde_json::value::to_raw_value(&value).unwrap();
        body::from_json(kind, sender, &data)
    };
    assert!(read(&|_| {}).is_ok());
    let long = "a".repeat(501);
    assert!(read(&|value| value["facts"][0]["note"] = long.clone().into()).is_err());
    assert!(read(&|value| value["machine"] = "m".repeat(256).into()).is_err());
    assert!(read(&|value| value["bus"]["problem"] = long.clone().into()).is_err());
    let fill = |value: &mut serde_json::Value, count| {
        value["facts"] = vec![value["facts"][0].clone(); count].into();
    };
    assert!(read(&|value| fill(value, MAX_FACTS)).is_ok());
    assert!(read(&|value| fill(value, MAX_FACTS + 1)).is_err());
}

#[test]
fn a_trace_context_over_the_limit_is_not_sent() {
    let sender = identity(Role::Gateway);
    let to = Receiver::Topic(&Topic::Audit);
    let sent = |bytes| {
        let trace = "a".repeat(bytes);
        let heading = Heading {
            traceparent: Some(&trace),
            ..HEADING
        };
        encode(&sender, to, heading, &Body::Audit(leaf(1)))
    };
    assert!(sent(MAX_TRACEPARENT_BYTES).is_ok());
    assert!(matches!(
        sent(MAX_TRACEPARENT_BYTES + 1),
        Err(EncodeError::TraceTooLong)
    ));
}

#[test]
fn a_record_that_would_not_arrive_bit_for_bit_is_not_sent() {
    let sender = identity(Role::Gateway);
    let to = Receiver::Topic(&Topic::Audit);
    for bytes in [b" {}".as_slice(), b"{}\n", b"", b"{", b"\xff"] {
        let leaf = keywheel_engine::port::journal::AuditLeaf {
            index: 1,
            bytes: bytes.into(),
        };
        let sent = encode(&sender, to, HEADING, &Body::Audit(leaf));
        assert!(sent.is_err(), "{bytes:?}");
    }
}
