//! Evidence of one run: its events with their signatures, its audit records with their proofs, under one seal.
//!
//! What it comes to is made of these by whoever reads it, here nothing is told that is not signed. Invariant: the seal
//! is an audit record, durable before the answer, over exactly what is answered; so whoever keeps a report can show
//! that nothing was left out of it since, and that it was made is on record.

mod frame;
mod gather;

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::audit::{Category, Outcome, Record};
use keywheel_core::id::{CommandId, HostId, RevocationId, RotationId, RunId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::journal::{AuditLeaf, Head, MAX_READ, RecordedEvent};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_journal::evidence::Seal;
use keywheel_journal::merkle;
use keywheel_schemas::api::{
    EvidenceReport, MAX_REPORT_EVENTS, MAX_REPORT_RECORDS, ProvenRecord, REPORT_FORMAT, SignedEvent,
};
use keywheel_schemas::error::DecodeError;
use keywheel_schemas::event;
use keywheel_schemas::wire::{audit_record_from_json, audit_record_to_json};

use self::frame::{Frame, Outline, Run};
use self::gather::Gathering;
use super::stream::hexadecimal;
use super::{Api, Caller, Failure, Named, Route};

/// What the audit calls the making of a report.
const VERB: &str = "seal-report";
/// So often a record is searched for an object, all records together, until others have their turn: a host's report has
/// many objects, and a page many records.
const LOOKS_AT_ONCE: usize = 10_000;

/// What there is to ask here.
pub(super) fn routes() -> Vec<Route> {
    let look = |path, handler| (Method::GET, path, handler);
    vec![
        look("/v1/reports/revocations/{id}", get(of_revocation)),
        look("/v1/reports/rotations/{id}", get(of_rotation)),
        look("/v1/reports/hosts/{id}", get(of_host)),
        look("/v1/reports/playbook-runs/{id}", get(of_playbook_run)),
    ]
}

pub(super) async fn of_revocation(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Json<EvidenceReport>, Failure> {
    let id = RevocationId::parse(&id).map_err(|error| Failure::invalid(error.to_string()))?;
    report(&api, &caller, Run::Revocation(id)).await
}

pub(super) async fn of_rotation(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Json<EvidenceReport>, Failure> {
    let id = RotationId::parse(&id).map_err(|error| Failure::invalid(error.to_string()))?;
    report(&api, &caller, Run::Rotation(id)).await
}

pub(super) async fn of_host(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Json<EvidenceReport>, Failure> {
    let id = HostId::parse(&id).map_err(|error| Failure::invalid(error.to_string()))?;
    report(&api, &caller, Run::Host(id)).await
}

pub(super) async fn of_playbook_run(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Json<EvidenceReport>, Failure> {
    let id = RunId::parse(&id).map_err(|error| Failure::invalid(error.to_string()))?;
    report(&api, &caller, Run::Playbook(id)).await
}

/// The same for every kind of run.
async fn report(api: &Api, caller: &Caller, run: Run) -> Result<Json<EvidenceReport>, Failure> {
    let _place = api.scans.fold()?;
    let head = api.journal.head().await?;
    let mut outline = Outline::new(run);
    scan(api, head.number, |event| outline.note(event)).await?;
    let frame = outline.frame()?;
    let mut gathering = Gathering::new(frame.clone());
    scan(api, head.number, |event| gathering.note(event)).await?;
    let events = gathering.finish();
    bounded(events.len(), MAX_REPORT_EVENTS, "events")?;
    let wanted = Wanted::of(&frame, &events)?;
    refuse_incomplete(api, &wanted).await?;
    let leaves = leaves(api, head.audit_size, &wanted).await?;
    let (seal, head) = seal(api, caller, &frame, (events.as_slice(), leaves.as_slice())).await?;
    let mut records = Vec::with_capacity(leaves.len() + 1);
    for leaf in leaves.iter().chain([&seal]) {
        records.push(proven(api, &head, leaf).await?);
    }
    Ok(Json(EvidenceReport {
        format: REPORT_FORMAT,
        kind: run.kind().to_owned(),
        id: run.id(),
        origin: api.origin.clone(),
        public_key: STANDARD.encode(api.public_key),
        checkpoint: head.checkpoint,
        events: events.iter().map(signed).collect(),
        records,
        summary: None,
    }))
}

/// Refuses what some audit records may be gone of: a seal says that nothing was left out.
async fn refuse_incomplete(api: &Api, wanted: &Wanted) -> Result<(), Failure> {
    let begins = api.journal.audit_begins().await?;
    if begins == 0 {
        return Ok(());
    }
    let first = api.journal.read_audit(begins, 1).await?.into_iter().next();
    let first = first.and_then(|leaf| audit_record_from_json(&leaf.bytes).ok());
    match first.is_some_and(|first| first.time < wanted.begun) {
        true => Ok(()),
        false => Err(Failure::not_found(format!(
            "the run began before audit record {begins}, and those before it were removed from the journal by their age: a report would not have all of them; its events are in `keywheel events list`, its audit records at the sinks"
        ))),
    }
}

fn bounded(found: usize, most: usize, what: &str) -> Result<(), Failure> {
    if found <= most {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "the run has more {what} than the {most} that a report holds; `keywheel audit export` and `keywheel events list` have all of them"
    )))
}

/// Every event up to one, in order.
async fn scan(
    api: &Api,
    last: u64,
    mut note: impl FnMut(&RecordedEvent) + Send,
) -> Result<(), PortError> {
    let mut read = 0;
    while read < last {
        let page = api.journal.read(read, MAX_READ).await?;
        let Some(end) = page.last() else {
            return Ok(());
        };
        read = end.number;
        page.iter()
            .filter(|event| event.number <= last)
            .for_each(&mut note);
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn signed(event: &RecordedEvent) -> SignedEvent {
    SignedEvent {
        event: String::from_utf8_lossy(&event.bytes).into_owned(),
        signature: STANDARD.encode(event.signature),
    }
}

async fn proven(api: &Api, head: &Head, leaf: &AuditLeaf) -> Result<ProvenRecord, Failure> {
    let proof = api.journal.inclusion_proof(leaf.index, head.audit_size);
    Ok(ProvenRecord {
        index: leaf.index,
        record: String::from_utf8_lossy(&leaf.bytes).into_owned(),
        path: proof.await?.iter().map(hexadecimal).collect(),
    })
}

/// Which audit records belong to a run.
struct Wanted {
    /// What it is about: `secret/prod/db`, `host/web-1`.
    object: String,
    /// Secrets, hosts and playbooks that it concerns, in the same form.
    objects: BTreeSet<String>,
    /// Names of the hosts that it evicted.
    hosts: BTreeSet<String>,
    /// Every such record has one of these in it, as stored.
    marks: Vec<String>,
    /// Commands that led to its events.
    commands: BTreeSet<CommandId>,
    begun: Timestamp,
    ended: Option<Timestamp>,
    /// Whether others may run of the same object meanwhile, so that what was done to it need not be of this run.
    is_one_of_many: bool,
}

impl Wanted {
    fn of(frame: &Frame, events: &[RecordedEvent]) -> Result<Self, Failure> {
        let mut commands = BTreeSet::new();
        let mut begun = Timestamp::default();
        for event in events.iter().filter(|event| frame.is_within(event)) {
            let read = event::decode(&event.bytes);
            let (meta, _) =
                read.map_err(|error| unreadable(&format!("event {}", event.number), &error))?;
            commands.insert(meta.causation);
            if event.number == frame.from {
                begun = event.time;
            }
        }
        let (object, hosts) = (frame.object(events), frame.evicted_names(events));
        let mut objects: BTreeSet<String> =
            events.iter().filter_map(frame::secret_object).collect();
        let playbooks = events
            .iter()
            .filter_map(|event| frame.playbook_object(event));
        objects.extend(playbooks);
        objects.insert(object.clone());
        // Names need no escaping in JSON.
        let of_host = hosts.iter().map(|name| format!("\"host\":\"{name}\""));
        let marks = objects
            .iter()
            .map(|object| format!("\"object\":\"{object}\""));
        Ok(Self {
            marks: of_host.chain(marks).collect(),
            object,
            objects,
            hosts,
            commands,
            begun,
            ended: frame.ended,
            is_one_of_many: matches!(frame.run, Run::Playbook(_)),
        })
    }

    /// Whether a record is one of them. Most are told by what they lack, without being read.
    fn wants(&self, leaf: &AuditLeaf) -> Result<bool, Failure> {
        let text = String::from_utf8_lossy(&leaf.bytes);
        if !self.marks.iter().any(|mark| text.contains(mark.as_str())) {
            return Ok(false);
        }
        let read = audit_record_from_json(&leaf.bytes);
        let what = || format!("audit record {}", leaf.index);
        let record = read.map_err(|error| unreadable(&what(), &error))?;
        Ok(self.is_of_run(&record))
    }

    fn is_of_run(&self, record: &Record) -> bool {
        if self.commands.contains(&record.command) {
            let mut on = record.container.iter().map(|container| &container.host);
            let is_there = on.any(|host| self.hosts.contains(host));
            return is_there || self.objects.contains(&record.object);
        }
        // What people asked for meanwhile, and were refused, too.
        let is_meanwhile =
            record.time >= self.begun && self.ended.is_none_or(|ended| record.time <= ended);
        let may_be_of_run = !self.is_one_of_many || record.outcome != Outcome::Allowed;
        record.category == Category::Administration
            && record.object == self.object
            && may_be_of_run
            && is_meanwhile
    }
}

fn unreadable(what: &str, error: &DecodeError) -> Failure {
    let text =
        format!("{what} cannot be read: {error}; `keywheel journal verify` names what is damaged");
    PortError::new(ErrorKind::Corrupt, text).into()
}

async fn leaves(api: &Api, size: u64, wanted: &Wanted) -> Result<Vec<AuditLeaf>, Failure> {
    let (mut found, mut next, mut looks) = (Vec::new(), 0, 0);
    while next < size {
        let left = usize::try_from(size - next).unwrap_or(MAX_READ);
        let page = api.journal.read_audit(next, left.min(MAX_READ)).await?;
        let Some(last) = page.last() else {
            break;
        };
        next = last.index + 1;
        for leaf in page {
            if wanted.wants(&leaf)? {
                found.push(leaf);
            }
            looks += wanted.marks.len();
            if looks >= LOOKS_AT_ONCE {
                looks = 0;
                tokio::task::yield_now().await;
            }
        }
        bounded(found.len(), MAX_REPORT_RECORDS, "audit records")?;
        tokio::task::yield_now().await;
    }
    Ok(found)
}

/// Puts the seal on record, and finds it there; the head is one that has it.
async fn seal(
    api: &Api,
    caller: &Caller,
    frame: &Frame,
    (events, leaves): (&[RecordedEvent], &[AuditLeaf]),
) -> Result<(AuditLeaf, Head), Failure> {
    let (kind, id) = (frame.run.kind(), frame.run.id());
    let mut seal = Seal::new(kind, &id);
    for event in events {
        seal.event(event.number, &event.hash);
    }
    for leaf in leaves {
        seal.record(leaf.index, &merkle::leaf_hash(&leaf.bytes));
    }
    let object = format!("{kind}/{id}");
    let words = seal.words();
    let record = api.record(&caller.principal, VERB, &object, Outcome::Allowed, &words);
    let bytes = audit_record_to_json(&record);
    let mut next = api.journal.head().await?.audit_size;
    api.commands.record(record).await?;
    let head = api.journal.head().await?;
    while next < head.audit_size {
        let page = api.journal.read_audit(next, MAX_READ).await?;
        let Some(last) = page.last() else {
            break;
        };
        next = last.index + 1;
        if let Some(found) = page.into_iter().find(|leaf| *leaf.bytes == *bytes) {
            return Ok((found, head));
        }
    }
    let text = "the record that seals the report is not where it was put; `keywheel journal verify` names what is damaged";
    Err(PortError::new(ErrorKind::Corrupt, text).into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keywheel_core::event::Event;
    use keywheel_core::id::{EventId, SecretId};
    use keywheel_core::revocation;

    use super::*;

    #[test]
    fn a_report_is_bounded_and_names_the_bound() {
        assert!(bounded(MAX_REPORT_EVENTS, MAX_REPORT_EVENTS, "events").is_ok());
        let refused = bounded(MAX_REPORT_RECORDS + 1, MAX_REPORT_RECORDS, "audit records");
        let refused = refused.unwrap_err();
        let bound = MAX_REPORT_RECORDS.to_string();
        assert!(refused.detail().contains(&bound), "{}", refused.detail());
    }

    fn event(number: u64, fact: revocation::Event) -> RecordedEvent {
        RecordedEvent {
            number,
            id: EventId::default(),
            time: Timestamp::default(),
            traceparent: None,
            event: Event::Revocation(RevocationId::from_bytes([1; 16]), fact),
            bytes: Arc::from([]),
            hash: [0; 32],
            signature: [0; 64],
        }
    }

    #[test]
    fn of_a_run_with_more_events_than_a_report_holds_no_more_are_gathered() {
        let requested = revocation::Event::Requested {
            secret: SecretId::from_bytes([2; 16]),
            versions: vec![1],
            hosts: Vec::new(),
            reason: "leaked".to_owned(),
            is_to_prove: false,
            is_emergency: false,
        };
        let first = event(1, requested);
        let mut outline = Outline::new(Run::Revocation(RevocationId::from_bytes([1; 16])));
        outline.note(&first);
        let mut gathering = Gathering::new(outline.frame().unwrap());
        gathering.note(&first);
        let most = u64::try_from(MAX_REPORT_EVENTS).unwrap();
        for number in 2..=most + 10 {
            gathering.note(&event(number, revocation::Event::BackendConfirmed));
        }
        // One more than it holds: that is refused.
        assert_eq!(gathering.finish().len(), MAX_REPORT_EVENTS + 1);
    }
}
