//! Whether a report's records are proven: every event by its signature, every audit record by its way to the root of
//! the signed checkpoint, all together by their seal, and what is told of them by telling it anew.
//!
//! Every fault names its record. What a success shows: the journal whose key this is wrote each record as it stands
//! here, and sealed just these, in this order. What it cannot show: what was written after the seal, and what such a
//! key would sign for somebody who has it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::audit::{Category, Outcome, Record};
use keywheel_core::event::Event;
use keywheel_core::host;
use keywheel_journal::checkpoint::Checkpoint;
use keywheel_journal::evidence::{Seal, verify_event};
use keywheel_journal::merkle::{self, Hash};
use keywheel_schemas::api::{
    EvidenceReport, EvidenceSummary, ProvenRecord, REPORT_FORMAT, SignedEvent,
};
use keywheel_schemas::event::{self, EventMeta};
use keywheel_schemas::mirror::TextForm as _;
use keywheel_schemas::wire::audit_record_from_json;
use keywheel_seal::sign::VerifyingKey;
use serde::Serialize;

use super::parts::Parts;
use super::summary::TELLING;
use super::{Kind, Read, summarise, text};

/// Most faults that are listed; one more says that there are more.
const MAX_FAULTS: usize = 100;
/// The verb of the record that seals a report.
const SEALING: &str = "seal-report";

/// Something that is not as it is proven to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// Which record or part: `event 12`, `audit record 3`, `checkpoint`, `seal`, `public key`, `summary`,
    /// `page`, `file`.
    pub(crate) record: String,
    /// What is wrong with it.
    pub(crate) what: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whether nothing is wrong.
    pub(crate) verified: bool,
    /// What kind of run.
    pub(crate) kind: String,
    /// Its id.
    pub(crate) id: String,
    /// Name of what it is about; empty when it does not verify.
    pub(crate) name: String,
    /// How far it was; empty when it does not verify.
    pub(crate) state: String,
    /// When the report was made; empty when it does not verify.
    pub(crate) made: String,
    /// Events in it.
    pub(crate) events: usize,
    /// Audit records in it.
    pub(crate) records: usize,
    /// The log's name.
    pub(crate) origin: String,
    /// The key that was asked for, base64.
    pub(crate) public_key: String,
    /// What is wrong, first first.
    pub(crate) faults: Vec<Fault>,
}

/// Faults that are being found.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, record: impl Into<String>, what: impl Into<String>) {
        if self.0.len() > MAX_FAULTS {
            return;
        }
        let (record, what) = match self.0.len() == MAX_FAULTS {
            true => (
                "more".to_owned(),
                "further faults are not listed".to_owned(),
            ),
            false => (record.into(), what.into()),
        };
        self.0.push(Fault { record, what });
    }
}

/// Verifies a report against a key from elsewhere. `file` is the whole file that it came in, page or JSON.
pub(crate) fn verify(report: &EvidenceReport, key: &VerifyingKey, file: Option<&str>) -> Finding {
    let mut faults = Faults::default();
    let read = check(report, key, &mut faults);
    if faults.0.is_empty() {
        check_told(report, &read, &mut faults);
    }
    if let Some(file) = file.filter(|_| faults.0.is_empty())
        && let Err((part, what)) = text::check(report, file)
    {
        faults.add(part, what);
    }
    let faults = faults.0;
    let proven = report.summary.as_ref().filter(|_| faults.is_empty());
    let told = |of: fn(&EvidenceSummary) -> &String| proven.map(of).cloned().unwrap_or_default();
    Finding {
        verified: faults.is_empty(),
        kind: report.kind.clone(),
        id: report.id.clone(),
        name: told(|summary| &summary.name),
        state: told(|summary| &summary.state),
        made: told(|summary| &summary.made),
        events: report.events.len(),
        records: report.records.len(),
        origin: report.origin.clone(),
        public_key: STANDARD.encode(key.to_bytes()),
        faults,
    }
}

fn check(report: &EvidenceReport, key: &VerifyingKey, faults: &mut Faults) -> Read {
    if report.format != REPORT_FORMAT {
        let text = format!(
            "has format {}, this build reads {REPORT_FORMAT}",
            report.format
        );
        faults.add("report", text);
    }
    if Kind::of(&report.kind).is_none() {
        faults.add("report", "is about a kind of run that is not known here");
    }
    if signatures(&report.checkpoint) != 1 {
        let text = "has other signatures than its own, which nobody here can check";
        faults.add("checkpoint", text);
    }
    let signed = Checkpoint::verify(&report.checkpoint, &report.origin, key);
    let signed = signed
        .map_err(|error| faults.add("checkpoint", keywheel_daemon::chain(&error)))
        .ok();
    let mut seal = Seal::new(&report.kind, &report.id);
    let read = Read {
        events: check_events(report, key, &mut seal, faults),
        records: check_records(report, signed.as_ref(), &mut seal, faults),
    };
    check_seal(report, &read, seal, faults);
    // Nothing is signed over it, and the page shows it.
    if report.public_key != STANDARD.encode(key.to_bytes()) {
        faults.add("public key", "in it is not the key that was given");
    }
    check_whole(report, &read, faults);
    read
}

/// How many signatures a note has: anybody can add one under a name of his own, and the page shows it.
fn signatures(note: &str) -> usize {
    let lines = note.rsplit_once("\n\n").map_or("", |(_, lines)| lines);
    lines.lines().count()
}

fn check_events(
    report: &EvidenceReport,
    key: &VerifyingKey,
    seal: &mut Seal,
    faults: &mut Faults,
) -> Vec<(EventMeta, Event)> {
    let mut read: Vec<(EventMeta, Event)> = Vec::with_capacity(report.events.len());
    for (place, signed) in (1_usize..).zip(&report.events) {
        let (meta, event) = match event::decode(signed.event.as_bytes()) {
            Ok(read) => read,
            Err(error) => {
                faults.add(named(&signed.event, place), keywheel_daemon::chain(&error));
                continue;
            }
        };
        let name = format!("event {} ({})", meta.number, place_of(place));
        match proven(key, &meta, signed) {
            Ok(hash) => seal.event(meta.number, &hash),
            Err(what) => faults.add(name.clone(), what),
        }
        let last = read.last().map(|(last, _)| last.number);
        if let Some(last) = last.filter(|last| *last >= meta.number) {
            faults.add(
                name,
                format!("stands behind event {last}, which it came before"),
            );
        }
        read.push((meta, event));
    }
    read
}

fn place_of(place: usize) -> String {
    format!("number {place} in the file")
}

/// An event that cannot be read, by the number that it claims.
fn named(event: &str, place: usize) -> String {
    match crate::output::records::number(event.as_bytes()) {
        Some(number) => format!("event {number} ({})", place_of(place)),
        None => format!("the event that is {}", place_of(place)),
    }
}

fn proven(key: &VerifyingKey, meta: &EventMeta, signed: &SignedEvent) -> Result<Hash, String> {
    let signature = STANDARD.decode(&signed.signature).ok();
    let signature = signature.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
    let signature = signature.ok_or("its signature is not base64 of 64 bytes")?;
    let bytes = signed.event.as_bytes();
    verify_event(key, &meta.previous_hash, bytes, signature)
        .map_err(|_| "is not the event that the key signed".to_owned())
}

fn check_records(
    report: &EvidenceReport,
    signed: Option<&Checkpoint>,
    seal: &mut Seal,
    faults: &mut Faults,
) -> Vec<(u64, Record)> {
    let mut read: Vec<(u64, Record)> = Vec::with_capacity(report.records.len());
    let sealed = report.records.len().saturating_sub(1);
    for (place, given) in report.records.iter().enumerate() {
        let name = || format!("audit record {}", given.index);
        let leaf = merkle::leaf_hash(given.record.as_bytes());
        if place < sealed {
            seal.record(given.index, &leaf);
        }
        if signed.is_some_and(|signed| !leads_to(signed, given, &leaf)) {
            faults.add(name(), "is not the record at this place of the signed tree");
        }
        if let Some((last, _)) = read.last().filter(|(last, _)| *last >= given.index) {
            faults.add(
                name(),
                format!("stands behind record {last}, which it came before"),
            );
        }
        match audit_record_from_json(given.record.as_bytes()) {
            Ok(record) => read.push((given.index, record)),
            Err(error) => faults.add(name(), keywheel_daemon::chain(&error)),
        }
    }
    read
}

fn leads_to(signed: &Checkpoint, given: &ProvenRecord, leaf: &Hash) -> bool {
    let path: Option<Vec<Hash>> = given.path.iter().map(|hash| hexadecimal(hash)).collect();
    path.is_some_and(|path| {
        merkle::verify_inclusion(leaf, given.index, signed.size, &path, &signed.root)
    })
}

/// A hash out of its 64 small hexadecimal digits.
fn hexadecimal(text: &str) -> Option<Hash> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    let bytes: Option<Vec<u8>> = bytes.collect();
    let hash = bytes.and_then(|bytes| Hash::try_from(bytes).ok());
    hash.filter(|_| rest.is_empty())
}

/// The last record says what the report has.
fn check_seal(report: &EvidenceReport, read: &Read, seal: Seal, faults: &mut Faults) {
    let Some((index, record)) = read.records.last() else {
        faults.add("seal", "the report has no audit record");
        return;
    };
    let object = format!("{}/{}", report.kind, report.id);
    let is_seal = record.verb == SEALING
        && record.object == object
        && record.outcome == Outcome::Allowed
        && record.category == Category::Administration;
    if !is_seal {
        let text = format!("the last audit record, {index}, is not the seal of {object}");
        return faults.add("seal", text);
    }
    let found = seal.words();
    if record.reason != found {
        let text = format!(
            "sealed were {}; here are {found}: a record was taken out, put in, moved or changed",
            record.reason
        );
        faults.add("seal", text);
    }
}

/// Whether none of the run's own events is missing: they are numbered among themselves. Of a playbook's run, none of
/// what its steps began either.
fn check_whole(report: &EvidenceReport, read: &Read, faults: &mut Faults) {
    let Some(kind) = Kind::of(&report.kind) else {
        return;
    };
    let parts = Parts::of(kind, &report.id, &read.events);
    if kind == Kind::Host {
        // What else a host's events tell is none of the eviction's.
        let is_evicted = |(_, event): &(EventMeta, Event)| {
            matches!(event, Event::Host(_, host::Event::Evicted { .. }))
                && event::subject(event) == parts.own
        };
        if !read.events.iter().any(is_evicted) {
            faults.add(parts.own, "has no event of its eviction");
        }
        return;
    }
    // The number that each one's next event has to have; none where one was missing.
    let mut wanted: BTreeMap<String, Option<u64>> = parts
        .begun
        .iter()
        .map(|part| (part.clone(), Some(1)))
        .collect();
    for (meta, event) in &read.events {
        let subject = event::subject(event);
        if !parts.has(&subject) {
            continue;
        }
        let next = wanted.entry(subject.clone()).or_insert(Some(1));
        match *next {
            Some(number) if number == meta.aggregate_sequence => *next = Some(number + 1),
            Some(number) => {
                *next = None;
                let text = format!(
                    "its own event {number} is missing before event {}",
                    meta.number
                );
                faults.add(subject, text);
            }
            None => {}
        }
    }
    for (subject, next) in wanted {
        if next == Some(1) {
            faults.add(subject, "has no event of its own");
        }
    }
}

/// Whether what is told of the records is what they tell.
fn check_told(report: &EvidenceReport, read: &Read, faults: &mut Faults) {
    let anew = match summarise(report, read) {
        Ok(anew) => anew,
        Err(what) => return faults.add("summary", what),
    };
    let Some(told) = &report.summary else {
        return faults.add("summary", "is missing");
    };
    if told.telling != TELLING {
        let text = format!(
            "is told by rules {} of another version of Keywheel, this one has {TELLING}; the records are proven, verify the rest with that version",
            told.telling
        );
        return faults.add("summary", text);
    }
    let parts = [
        ("marks", told.marks == anew.marks),
        ("secrets", told.secrets == anew.secrets),
        ("hosts", told.hosts == anew.hosts),
        ("consumers", told.consumers == anew.consumers),
        ("logins", told.logins == anew.logins),
        ("people", told.people == anew.people),
        ("timeline", told.timeline == anew.timeline),
        ("steps", told.steps == anew.steps),
        ("approvals", told.approvals == anew.approvals),
        ("proofs", told.proofs == anew.proofs),
        ("score", told.score == anew.score),
    ];
    for (part, _) in parts.iter().filter(|(_, is_same)| !is_same) {
        let text = format!("its part `{part}` is not what the records say");
        faults.add("summary", text);
    }
    if faults.0.is_empty() && *told != anew {
        faults.add("summary", "is not what the records say");
    }
}

/// Completes what a server answered: its records have to be proven by the key that it names before they are told.
pub(crate) fn complete(mut report: EvidenceReport) -> Result<EvidenceReport, Fault> {
    let of = |record: &str, what: String| Fault {
        record: record.to_owned(),
        what,
    };
    let key = <[u8; 32]>::parse_text(&report.public_key).map_err(|what| of("public key", what))?;
    let key = VerifyingKey::from_bytes(key).map_err(|error| of("public key", error.to_string()))?;
    let mut faults = Faults::default();
    let read = check(&report, &key, &mut faults);
    if let Some(first) = faults.0.into_iter().next() {
        return Err(first);
    }
    let summary = summarise(&report, &read).map_err(|what| of("summary", what))?;
    report.summary = Some(summary);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::tests::evidence;
    use super::*;

    #[test]
    fn another_key_in_the_file_and_another_signature_below_its_checkpoint_are_found() {
        let (report, key) = evidence();
        let named = |report: &EvidenceReport| {
            let found = verify(report, &key.verifying_key(), None);
            let records = found.faults.into_iter().map(|fault| fault.record);
            records.collect::<Vec<_>>()
        };
        assert_eq!(named(&report), [""; 0]);
        let mut other = report.clone();
        other.public_key = STANDARD.encode([7; 32]);
        assert_eq!(named(&other), ["public key"]);
        let mut more = report;
        more.checkpoint
            .push_str("\u{2014} checked-by-nobody AAAAAAAA\n");
        assert_eq!(named(&more), ["checkpoint"]);
    }
}
