//! Every way to tamper with a report is found and its record named; the page shows what the records say, as text.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::assignment::{self, Key};
use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::event::Event;
use keywheel_core::id::{
    BindingId, CommandId, ContainerId, EventId, HostId, RevocationId, RotationId, SecretId,
};
use keywheel_core::revocation::{self, Answer, Evidence};
use keywheel_core::secret;
use keywheel_core::time::Timestamp;
use keywheel_journal::checkpoint::Checkpoint;
use keywheel_journal::evidence::Seal;
use keywheel_journal::merkle::{self, Frontier, Hash};
use keywheel_schemas::api::{EvidenceReport, ProvenRecord, REPORT_FORMAT, SignedEvent};
use keywheel_schemas::event::{self, EventMeta};
use keywheel_schemas::examples;
use keywheel_schemas::wire::audit_record_to_json;
use keywheel_seal::digest::sha256;
use keywheel_seal::sign::SigningKey;
use keywheel_seal::{OsEntropy, SecretBytes};

use super::*;
mod confirmed;
mod playbook;

const ORIGIN: &str = "keywheel.test/reports";
const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const HOST: HostId = HostId::from_bytes([2; 16]);
const BINDING: BindingId = BindingId::from_bytes([3; 16]);
const RUN: RevocationId = RevocationId::from_bytes([4; 16]);
const COMMAND: CommandId = CommandId::from_bytes([5; 16]);
/// Number of the first event.
const FIRST: u64 = 10;
/// Leaves that stand before the first record.
const BEFORE: u64 = 5;
/// A reason that would like to be more than a reason.
const HOSTILE: &str = "</script><script>alert(1)</script> & \"leaked\" \u{202e}";

fn key() -> SigningKey {
    SigningKey::from_seed_bytes(&SecretBytes::from(vec![7; 32])).unwrap()
}

/// The time of an event: a millisecond behind the one before it.
fn time(number: u64) -> Timestamp {
    Timestamp::from_micros(1_795_300_994_000_000 + 1000 * i64::try_from(number).unwrap())
}

fn example(kind: &str) -> Event {
    let name = format!("dev.keywheel.{kind}.v1");
    let all = examples::events().unwrap();
    let found = all
        .into_iter()
        .find(|event| event::type_name(event) == name);
    found.unwrap()
}

/// Who is who.
fn named() -> [Event; 3] {
    let Event::Secret(_, registered) = example("secret.registered") else {
        panic!("no secret");
    };
    let Event::Host(_, enrolled) = example("host.enrolled") else {
        panic!("no host");
    };
    let Event::Binding(_, bound) = example("binding.bound") else {
        panic!("no binding");
    };
    [
        Event::Secret(SECRET, registered),
        Event::Host(HOST, enrolled),
        Event::Binding(BINDING, bound),
    ]
}

/// A revocation of a password, from the container that had it to the proof.
fn events() -> Vec<Event> {
    let consumer = Key {
        host: HOST,
        container: ContainerId::parse(&"c".repeat(64)).unwrap(),
        binding: BINDING,
        also: None,
    };
    let of = |fact| Event::Assignment(consumer.clone(), fact);
    let run = |fact| Event::Revocation(RUN, fact);
    let login = Evidence {
        version: 1,
        at: time(FIRST + 11),
        place: "app at db.example:5432".to_owned(),
        answer: Answer::WrongPassword,
    };
    let mut events = Vec::from(named());
    events.extend([
        of(assignment::Event::Assigned {
            secret: SECRET,
            version: 1,
            container_name: "<img src=x onerror=alert(1)>".to_owned(),
            image_digest: "sha256:1234".to_owned(),
        }),
        of(assignment::Event::Swapped {
            version: 1,
            at: time(FIRST),
        }),
        run(revocation::Event::Requested {
            secret: SECRET,
            versions: vec![1],
            hosts: vec![HOST],
            reason: HOSTILE.to_owned(),
            is_to_prove: true,
            is_emergency: false,
        }),
        Event::Secret(SECRET, secret::Event::VersionRevoked { version: 1 }),
        of(assignment::Event::Withdrawn),
        run(revocation::Event::WithdrawnOnHost { host: HOST }),
        run(revocation::Event::WithdrawnEverywhere),
        run(revocation::Event::BackendConfirmed),
        run(revocation::Event::ProvenDead {
            evidence: vec![login],
        }),
        run(revocation::Event::Destroyed),
        run(revocation::Event::Closed),
    ]);
    events
}

fn record(verb: &str, object: &str, principal: Principal, reason: &str) -> Record {
    let category = match principal {
        Principal::Service(_) => Category::System,
        _ => Category::Administration,
    };
    Record {
        time: time(FIRST + 5),
        category,
        principal,
        verb: verb.to_owned(),
        object: object.to_owned(),
        version: None,
        outcome: Outcome::Allowed,
        reason: reason.to_owned(),
        container: None,
        command: COMMAND,
        trace: String::new(),
    }
}

fn ann() -> Principal {
    Principal::Operator {
        name: "ann".to_owned(),
    }
}

/// Signs events as a journal does, and seals them.
fn signed(events: &[Event], key: &SigningKey, seal: &mut Seal) -> Vec<SignedEvent> {
    let (mut previous, mut sequences) = ([0; 32], BTreeMap::<String, u64>::new());
    let mut signed = Vec::new();
    for (number, event) in (FIRST..).zip(events) {
        let sequence = sequences.entry(event::subject(event)).or_default();
        *sequence += 1;
        let meta = EventMeta {
            id: EventId::from_bytes([u8::try_from(number).unwrap(); 16]),
            number,
            aggregate_sequence: *sequence,
            time: time(number),
            source: "keywheel/test/gateway".to_owned(),
            traceparent: None,
            causation: COMMAND,
            previous_hash: previous,
        };
        let bytes = event::encode(&meta, event);
        previous = sha256(&[previous.as_slice(), bytes.as_slice()].concat());
        seal.event(number, &previous);
        let signature = key.sign("keywheel/journal/event/v1", &previous);
        signed.push(SignedEvent {
            event: String::from_utf8(bytes).unwrap(),
            signature: STANDARD.encode(signature.to_bytes()),
        });
    }
    signed
}

fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Frontier::new();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// Records behind some that are others', with their proofs, and the checkpoint over all of them.
fn proven(records: &[Record], key: &SigningKey) -> (Vec<ProvenRecord>, String) {
    let mut leaves: Vec<Hash> = (0..BEFORE)
        .map(|n| merkle::leaf_hash(&n.to_be_bytes()))
        .collect();
    let bytes: Vec<Vec<u8>> = records.iter().map(audit_record_to_json).collect();
    leaves.extend(bytes.iter().map(|bytes| merkle::leaf_hash(bytes)));
    let size = u64::try_from(leaves.len()).unwrap();
    let part = |range: std::ops::Range<u64>| {
        let (start, end) = (range.start as usize, range.end as usize);
        hexadecimal(&root(&leaves[start..end]))
    };
    let of = |(index, bytes): (u64, &Vec<u8>)| ProvenRecord {
        index,
        record: String::from_utf8(bytes.clone()).unwrap(),
        path: merkle::inclusion_ranges(index, size)
            .unwrap()
            .into_iter()
            .map(part)
            .collect(),
    };
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root: root(&leaves),
    };
    let proven = (BEFORE..).zip(&bytes).map(of).collect();
    (proven, checkpoint.sign(key))
}

/// What a server answers of a revocation.
fn answered(events: &[Event], key: &SigningKey) -> EvidenceReport {
    answered_of("revocation", &RUN.to_string(), events, key)
}

fn answered_of(kind: &str, id: &str, events: &[Event], key: &SigningKey) -> EvidenceReport {
    let mut seal = Seal::new(kind, id);
    let events = signed(events, key, &mut seal);
    let store_sync = Principal::Service(Role::StoreSync);
    let mut records = vec![
        record("revoke", "secret/prod/db", ann(), HOSTILE),
        record("prove-dead", "secret/prod/db", store_sync, "role-table"),
    ];
    for (index, record) in (BEFORE..).zip(&records) {
        let leaf = merkle::leaf_hash(&audit_record_to_json(record));
        seal.record(index, &leaf);
    }
    let sealing = record("seal-report", &format!("{kind}/{id}"), ann(), &seal.words());
    records.push(sealing);
    let (records, checkpoint) = proven(&records, key);
    EvidenceReport {
        format: REPORT_FORMAT,
        kind: kind.to_owned(),
        id: id.to_owned(),
        origin: ORIGIN.to_owned(),
        public_key: STANDARD.encode(key.verifying_key().to_bytes()),
        checkpoint,
        events,
        records,
        summary: None,
    }
}

/// A whole report, and the key that signed it.
pub(crate) fn evidence() -> (EvidenceReport, SigningKey) {
    let report = complete(answered(&events(), &key())).unwrap();
    (report, key())
}

fn found(report: &EvidenceReport) -> Finding {
    verify(report, &key().verifying_key(), None)
}

/// Which record is named first after a change.
fn named_after(change: impl FnOnce(&mut EvidenceReport)) -> String {
    let (mut report, _) = evidence();
    change(&mut report);
    let found = found(&report);
    assert!(!found.verified && found.state.is_empty(), "{found:?}");
    found.faults[0].record.clone()
}

#[test]
fn an_honest_report_verifies_and_tells_what_its_records_say() {
    let (report, _) = evidence();
    let found = found(&report);
    assert!(found.verified, "{found:?}");
    assert_eq!(
        (found.state.as_str(), found.events, found.records),
        ("closed", 14, 3)
    );
    let told = report.summary.unwrap();
    assert_eq!(told.reason, HOSTILE);
    assert_eq!(told.made_for, "certificate ann");
    let [consumer] = told.consumers.as_slice() else {
        panic!("{:?}", told.consumers);
    };
    assert_eq!(
        (
            consumer.version,
            consumer.outcome.as_str(),
            consumer.after_us,
            consumer.event
        ),
        (Some(1), "withdrawn", Some(2000), Some(17))
    );
    let after = |what: &str| {
        let mark = told.marks.iter().find(|mark| mark.what.starts_with(what));
        mark.unwrap().after_us
    };
    assert_eq!(after("gone from every host"), Some(4000));
    assert_eq!(after("the store confirmed"), Some(5000));
    assert_eq!(after("proven dead"), Some(6000));
    assert_eq!(after("closed"), Some(8000));
    assert!(told.proof.starts_with("proven dead"), "{}", told.proof);
    assert_eq!(told.logins.len(), 1);
    assert_eq!(
        (told.logins[0].answer.as_str(), told.logins[0].event),
        ("wrong_password", 21)
    );
    assert_eq!(
        (told.hosts[0].outcome.as_str(), told.hosts[0].event),
        ("gone", Some(18))
    );
    assert_eq!(
        (told.secrets[0].version, told.secrets[0].outcome.as_str()),
        (1, "revoked")
    );
    let [deed] = told.people.as_slice() else {
        panic!("{:?}", told.people);
    };
    assert_eq!(
        (deed.who.as_str(), deed.verb.as_str(), deed.record),
        ("certificate ann", "revoke", BEFORE)
    );
}

#[test]
fn a_run_that_goes_on_says_what_it_waits_for() {
    let open = events().into_iter().take(8).collect::<Vec<_>>();
    let told = complete(answered(&open, &key())).unwrap().summary.unwrap();
    assert!(
        told.state.starts_with("open: waits for hosts "),
        "{}",
        told.state
    );
    assert!(
        told.state.ends_with("the store has not confirmed"),
        "{}",
        told.state
    );
    assert_eq!((told.proof.as_str(), told.logins.len()), ("not yet", 0));
    assert_eq!(told.hosts[0].outcome, "not told");
    let closed = told.marks.iter().find(|mark| mark.what == "closed");
    assert_eq!(closed.unwrap().at, None);
}

#[test]
fn one_that_waits_for_its_replacement_is_told_from_its_wish_on() {
    let mut events = events();
    let wish = revocation::Event::ReplacementAwaited {
        secret: SECRET,
        versions: vec![1],
        reason: HOSTILE.to_owned(),
        rotation: RotationId::from_bytes([6; 16]),
        is_emergency: true,
    };
    events.insert(5, Event::Revocation(RUN, wish));
    let told = |events: &[Event]| complete(answered(events, &key())).unwrap().summary.unwrap();
    let waiting = told(&events[..6]);
    assert!(
        waiting.state.contains("waits for a replacement"),
        "{waiting:?}"
    );
    assert!(waiting.proof.contains("nothing was revoked"), "{waiting:?}");
    assert_eq!(waiting.secrets[0].outcome, "alive");
    let begun = told(&events);
    assert_eq!(
        (begun.state.as_str(), &begun.begun),
        ("closed", &waiting.begun)
    );
    let wished = &begun.marks[0];
    assert_eq!((wished.event, wished.after_us), (Some(FIRST + 5), Some(0)));
    let requested = &begun.marks[1];
    assert_eq!(
        (requested.event, requested.after_us),
        (Some(FIRST + 6), Some(1000))
    );
}

#[test]
fn what_an_evicted_host_s_container_had_is_not_said_to_be_gone() {
    let key = key();
    let mut events: Vec<Event> = events().into_iter().take(5).collect();
    let Event::Assignment(consumer, _) = events[3].clone() else {
        panic!("no assignment");
    };
    let reason = "stolen".to_owned();
    events.extend([
        Event::Host(HOST, keywheel_core::host::Event::Evicted { reason }),
        Event::Assignment(consumer, assignment::Event::Vanished),
    ]);
    let id = HOST.to_string();
    let told = complete(answered_of("host", &id, &events, &key))
        .unwrap()
        .summary
        .unwrap();
    assert_eq!((told.reason.as_str(), told.consumers.len()), ("stolen", 1));
    let lost = &told.consumers[0];
    assert!(
        lost.outcome.contains("may still have it"),
        "{}",
        lost.outcome
    );
    assert_eq!((lost.version, lost.at.as_ref()), (Some(1), None));
}

#[test]
fn a_changed_event_is_named_by_its_number() {
    let count = evidence().0.events.len();
    for place in 0..count {
        let number = FIRST + u64::try_from(place).unwrap();
        let wanted = format!("event {number} (number {} in the file)", place + 1);
        let changed = named_after(|report| {
            let event = &mut report.events[place].event;
            *event = event.replace("keywheel/test/gateway", "keywheel/rest/gateway");
        });
        assert_eq!(changed, wanted);
        let unsigned = named_after(|report| {
            let other = report.events[(place + 1) % count].signature.clone();
            report.events[place].signature = other;
        });
        assert_eq!(unsigned, wanted);
        let broken = named_after(|report| report.events[place].event.push(' '));
        assert_eq!(broken, wanted);
    }
}

#[test]
fn a_changed_audit_record_is_named_by_its_place() {
    let count = evidence().0.records.len();
    for place in 0..count {
        let wanted = format!("audit record {}", BEFORE + u64::try_from(place).unwrap());
        let changed = named_after(|report| {
            let record = &mut report.records[place].record;
            *record = record.replace("allowed", "rejected");
        });
        assert_eq!(changed, wanted);
        let astray = named_after(|report| report.records[place].path[0] = "00".repeat(32));
        assert_eq!(astray, wanted);
        let short = named_after(|report| report.records[place].path[0].truncate(62));
        assert_eq!(short, wanted);
    }
    let moved = named_after(|report| report.records[0].index = 0);
    assert_eq!(moved, "audit record 0");
}

#[test]
fn what_is_moved_taken_out_or_put_in_is_found() {
    let swapped = named_after(|report| report.events.swap(3, 4));
    assert_eq!(swapped, "event 13 (number 5 in the file)");
    let swapped = named_after(|report| report.records.swap(0, 1));
    assert_eq!(swapped, format!("audit record {BEFORE}"));
    // One that is none of the run's own: only the seal knows of it.
    assert_eq!(named_after(|report| drop(report.events.remove(1))), "seal");
    assert_eq!(named_after(|report| drop(report.records.remove(0))), "seal");
    assert_eq!(named_after(|report| drop(report.records.pop())), "seal");
    assert_eq!(named_after(|report| report.records.clear()), "seal");
    let twice = named_after(|report| report.events.push(report.events[13].clone()));
    assert_eq!(twice, "event 23 (number 15 in the file)");
}

#[test]
fn an_event_of_the_run_that_is_missing_is_named_besides() {
    let (mut report, _) = evidence();
    report.events.remove(11);
    let found = found(&report);
    let named = found
        .faults
        .iter()
        .find(|fault| fault.record == format!("revocation/{RUN}"));
    let what = &named.unwrap().what;
    assert_eq!(what, "its own event 5 is missing before event 22");
    report
        .events
        .retain(|one| !one.event.contains("revocation"));
    assert!(!super::verify(&report, &key().verifying_key(), None).verified);
}

#[test]
fn a_changed_checkpoint_run_or_key_is_found() {
    let changed = named_after(|report| {
        report.checkpoint = report.checkpoint.replacen("\n8\n", "\n9\n", 1);
    });
    assert_eq!(changed, "checkpoint");
    assert_eq!(named_after(|report| report.origin.push('x')), "checkpoint");
    assert_eq!(named_after(|report| report.format = 2), "report");
    assert_eq!(
        named_after(|report| report.kind = "party".to_owned()),
        "report"
    );
    let other = RevocationId::from_bytes([9; 16]).to_string();
    assert_eq!(named_after(|report| report.id = other), "seal");
    let (report, _) = evidence();
    let forger = SigningKey::generate(&OsEntropy);
    let forged = complete(answered(&events(), &forger)).unwrap();
    assert!(!found(&forged).verified, "it is consistent in itself");
    let found = verify(&report, &forger.verifying_key(), None);
    assert_eq!(found.faults[0].record, "checkpoint");
}

#[test]
fn what_is_told_otherwise_than_the_records_say_is_found() {
    let tampering: [fn(&mut keywheel_schemas::api::EvidenceSummary); 8] = [
        |told| told.people[0].who = "certificate bob".to_owned(),
        |told| told.marks[0].after_us = Some(1),
        |told| told.secrets[0].outcome = "destroyed".to_owned(),
        |told| told.hosts.clear(),
        |told| told.consumers.clear(),
        |told| told.logins[0].answer = "refused".to_owned(),
        |told| drop(told.timeline.pop()),
        |told| told.reason = "a drill".to_owned(),
    ];
    for tamper in tampering {
        let named = named_after(|report| tamper(report.summary.as_mut().unwrap()));
        assert_eq!(named, "summary");
    }
    assert_eq!(named_after(|report| report.summary = None), "summary");
    let (mut report, _) = evidence();
    report.summary.as_mut().unwrap().telling += 1;
    let what = &found(&report).faults[0].what;
    assert!(what.contains("another version of Keywheel"), "{what}");
}

#[test]
fn a_server_s_answer_that_does_not_prove_itself_is_not_told() {
    let mut answer = answered(&events(), &key());
    answer.events[6].signature = answer.events[5].signature.clone();
    let fault = complete(answer).unwrap_err();
    assert_eq!(fault.record, "event 16 (number 7 in the file)");
}

#[test]
fn a_page_shows_hostile_words_as_text_and_needs_nothing_else() {
    let (report, _) = evidence();
    let page = page(&report).unwrap();
    assert_eq!(page.matches("<script").count(), 1, "the report itself");
    assert_eq!(page.matches("</script").count(), 1);
    assert!(page.contains("default-src 'none'"));
    for outside in [
        "<img",
        "<link",
        "<iframe",
        "<a ",
        "http://",
        "@import",
        "url(",
        "\u{202e}</",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    for shown in [
        "&lt;/script&gt;&lt;script&gt;alert(1)",
        "&lt;img src=x onerror=alert(1)&gt; (cccccccccccc)",
        "app at db.example:5432",
        "wrong_password",
        "certificate ann",
        "1 container is through with it, within 2.0 ms.",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn a_page_and_its_json_are_one_report_and_a_changed_page_is_found() {
    let (report, _) = evidence();
    let public = key().verifying_key();
    let made = page(&report).unwrap();
    let inside = read(&made).unwrap();
    assert_eq!(inside, report);
    assert!(verify(&inside, &public, Some(&made)).verified);
    let text = json(&report).unwrap();
    assert_eq!(read(&text).unwrap(), report);
    assert!(verify(&report, &public, Some(&text)).verified);
    let longer = verify(&report, &public, Some(&format!("{text}\n")));
    assert_eq!(longer.faults[0].record, "file", "{longer:?}");
    let shown = made.replacen("<td>wrong_password:", "<td>accepted:", 1);
    assert_ne!(shown, made);
    let added = made.replace("</body>", "<p>All is well.</p></body>");
    for changed in [shown, added] {
        let inside = read(&changed).unwrap();
        let found = verify(&inside, &public, Some(&changed));
        assert_eq!(found.faults[0].record, "page", "{found:?}");
        assert!(found.faults[0].what.contains("from line "), "{found:?}");
    }
    for no_report in ["", "{}", "<!doctype html>\n<html></html>", "[]"] {
        assert!(read(no_report).is_err(), "{no_report}");
    }
    let unknown = json(&report)
        .unwrap()
        .replacen('{', "{\"verdict\": \"all is well\",", 1);
    assert!(
        read(&unknown).is_err(),
        "nothing stands in it that is not looked at"
    );
}
