//! What the records of a report come to. Pure: the same records always give the same summary.

use std::collections::BTreeMap;

use keywheel_core::audit::{Category, Principal, Record};
use keywheel_core::effect::Part;
use keywheel_core::event::Event;
use keywheel_core::id::{RevocationId, SecretId};
use keywheel_core::revocation::{self, Evidence, NOTHING_TO_ASK, Proven, Revocation};
use keywheel_core::time::Timestamp;
use keywheel_core::{host, playbook_run, rotation};
use keywheel_schemas::api::{
    EvidenceReport, EvidenceSummary, ReportDeed, ReportEntry, ReportLogin,
};
use keywheel_schemas::event::{self, EventMeta};
use keywheel_schemas::mirror::TextForm as _;

use super::names::Names;
use super::parts::Parts;
use super::{Kind, Read, consumers, marks, playbook, words};

/// The rules by which records are told and laid out. Whoever changes a word or a tag of a summary or a page counts it
/// up: what older versions wrote is then not taken for tampered with.
pub(super) const TELLING: u32 = 3;

/// A run, with what its summary is made of.
pub(super) struct Case<'r> {
    pub(super) kind: Kind,
    pub(super) id: &'r str,
    pub(super) events: &'r [(EventMeta, Event)],
    pub(super) names: Names,
    /// Of what it consists.
    parts: Parts,
    /// Of which secret its rotations and revocations are, by their subjects.
    secrets: BTreeMap<String, SecretId>,
    /// Number of the event with which it began.
    pub(super) from: u64,
    /// When that was.
    pub(super) begun: Timestamp,
}

impl<'r> Case<'r> {
    /// Its own events.
    pub(super) fn own(&self) -> impl Iterator<Item = &'r (EventMeta, Event)> {
        let own = &self.parts.own;
        let is_own = move |(_, event): &&(EventMeta, Event)| event::subject(event) == *own;
        self.events.iter().filter(is_own)
    }

    /// Its own events, and those of what a playbook's run began.
    pub(super) fn parts(&self) -> impl Iterator<Item = &'r (EventMeta, Event)> {
        let parts = &self.parts;
        let is_of = move |(_, event): &&(EventMeta, Event)| parts.has(&event::subject(event));
        self.events.iter().filter(is_of)
    }

    /// The secret of a rotation or revocation, by the subject of its events.
    pub(super) fn secret_of(&self, subject: &str) -> Option<SecretId> {
        self.secrets.get(subject).copied()
    }

    /// What happened since it began.
    pub(super) fn since(&self) -> impl Iterator<Item = &'r (EventMeta, Event)> {
        let from = self.from;
        let is_since = move |(meta, _): &&(EventMeta, Event)| meta.number >= from;
        self.events.iter().filter(is_since)
    }

    /// From its beginning to an event, in microseconds.
    pub(super) fn after(&self, meta: &EventMeta) -> u64 {
        micros(meta.time, self.begun)
    }
}

/// Microseconds from one time to another; none when that is the later one.
pub(super) fn micros(until: Timestamp, since: Timestamp) -> u64 {
    u64::try_from(until.since(since).as_micros()).unwrap_or(u64::MAX)
}

/// Makes the summary.
///
/// # Errors
/// When the records are not of such a run.
pub(crate) fn summarise(report: &EvidenceReport, read: &Read) -> Result<EvidenceSummary, String> {
    let kind = Kind::of(&report.kind).ok_or("the kind of the run is not known here")?;
    let case = case(kind, report, read)?;
    let (seal, records) = read
        .records
        .split_last()
        .ok_or("the report has no audit record")?;
    let mut summary = EvidenceSummary {
        telling: TELLING,
        begun: case.begun.text(),
        made: seal.1.time.text(),
        made_for: words::who(&seal.1.principal),
        secrets: marks::secrets(&case),
        hosts: marks::hosts(&case),
        consumers: consumers::consumers(&case),
        people: people(records),
        timeline: timeline(&case),
        ..EvidenceSummary::default()
    };
    match kind {
        Kind::Revocation => revocation_summary(&case, &mut summary)?,
        Kind::Rotation => rotation_summary(&case, &mut summary),
        Kind::Host => host_summary(&case, &mut summary),
        Kind::PlaybookRun => playbook::summarise(&case, &mut summary),
    }
    Ok(summary)
}

fn case<'r>(kind: Kind, report: &'r EvidenceReport, read: &'r Read) -> Result<Case<'r>, String> {
    let mut case = Case {
        kind,
        id: &report.id,
        events: &read.events,
        names: Names::of(read.events.iter().map(|(_, event)| event)),
        parts: Parts::of(kind, &report.id, &read.events),
        secrets: read.events.iter().filter_map(secret_said).collect(),
        from: 0,
        begun: Timestamp::default(),
    };
    let is_first = |(_, event): &&(EventMeta, Event)| match event {
        Event::Revocation(_, fact) => matches!(
            fact,
            revocation::Event::Requested { .. } | revocation::Event::ReplacementAwaited { .. }
        ),
        Event::Rotation(_, fact) => matches!(fact, rotation::Event::Started { .. }),
        Event::Host(_, fact) => matches!(fact, host::Event::Evicted { .. }),
        Event::PlaybookRun(_, fact) => matches!(fact, playbook_run::Event::Triggered { .. }),
        _ => false,
    };
    let first = case.own().find(is_first);
    let (meta, _) = first.ok_or("no event begins the run")?;
    (case.from, case.begun) = (meta.number, meta.time);
    Ok(case)
}

fn secret_said((_, event): &(EventMeta, Event)) -> Option<(String, SecretId)> {
    playbook::words::secret_in(event).map(|secret| (event::subject(event), secret))
}

/// Who asked, and who was refused.
fn people(records: &[(u64, Record)]) -> Vec<ReportDeed> {
    let is_person = |(_, record): &&(u64, Record)| {
        record.category == Category::Administration
            && !matches!(record.principal, Principal::Service(_))
    };
    let deed = |(index, record): &(u64, Record)| ReportDeed {
        at: record.time.text(),
        who: words::who(&record.principal),
        verb: record.verb.clone(),
        object: record.object.clone(),
        outcome: words::ended(record.outcome).to_owned(),
        reason: record.reason.clone(),
        record: *index,
    };
    records.iter().filter(is_person).map(deed).collect()
}

fn timeline(case: &Case<'_>) -> Vec<ReportEntry> {
    let entry = |(meta, event): &(EventMeta, Event)| {
        let line = words::line(event, &case.names)?;
        let what = match case.kind {
            Kind::PlaybookRun | Kind::Host => playbook::words::in_run(case, event, line),
            Kind::Revocation | Kind::Rotation => line,
        };
        Some(ReportEntry {
            at: meta.time.text(),
            what,
            event: meta.number,
        })
    };
    case.since().filter_map(entry).collect()
}

fn revocation_summary(case: &Case<'_>, summary: &mut EvidenceSummary) -> Result<(), String> {
    let id = RevocationId::parse(case.id).map_err(|error| error.to_string())?;
    let mut run = Revocation::new(id);
    for (meta, event) in case.own() {
        let Event::Revocation(_, fact) = event else {
            continue;
        };
        run.evolve(fact);
        match fact {
            revocation::Event::Requested { secret, reason, .. }
            | revocation::Event::ReplacementAwaited { secret, reason, .. } => {
                summary.name = case.names.secret(*secret);
                summary.reason.clone_from(reason);
            }
            revocation::Event::ProvenDead { evidence }
            | revocation::Event::NotProvable { evidence, .. }
            | revocation::Event::StillAccepted { evidence, .. } => {
                let logins = evidence.iter().map(|one| login(one, meta.number, ""));
                summary.logins.extend(logins);
            }
            _ => {}
        }
    }
    summary.proof = proof(&run);
    summary.state = revocation_state(case, &run);
    summary.marks = marks::revocation(case);
    Ok(())
}

pub(super) fn login(evidence: &Evidence, event: u64, secret: &str) -> ReportLogin {
    ReportLogin {
        version: evidence.version,
        at: evidence.at.text(),
        place: evidence.place.clone(),
        answer: words::answer(evidence.answer).to_owned(),
        event,
        secret: secret.to_owned(),
    }
}

pub(super) fn proof(run: &Revocation) -> String {
    if !run.is_begun() {
        return "not asked for: nothing was revoked by it".to_owned();
    }
    match &run.proven {
        Proven::Awaited if run.is_forgotten() => {
            "not proven: two principals had its store asked no more".to_owned()
        }
        Proven::NotAsked => format!("cannot be probed: {NOTHING_TO_ASK}"),
        Proven::Awaited => "not yet".to_owned(),
        Proven::Dead(_) => "proven dead: a login with each was refused".to_owned(),
        Proven::Unknown(_, why) => format!("cannot be probed: {why}"),
        Proven::Alive(_) => {
            "NOT dead: a login with one was let in, or its store has its lease still".to_owned()
        }
    }
}

fn revocation_state(case: &Case<'_>, run: &Revocation) -> String {
    if run.closed {
        return match run.is_begun() {
            true => "closed",
            false => "closed: nothing was left for it to revoke",
        }
        .to_owned();
    }
    if run.is_awaiting() {
        return "open: waits for a replacement, its versions are alive".to_owned();
    }
    let mut open = Vec::new();
    if !run.waiting.is_empty() {
        let hosts: Vec<String> = run.waiting.iter().map(|id| case.names.host(*id)).collect();
        open.push(format!("waits for hosts {}", hosts.join(", ")));
    }
    if !run.is_destroyed {
        open.push(
            match run.part {
                Part::Whole | Part::Disable => "the store has not confirmed",
                Part::Prove => "not proven yet",
                Part::Destroy => "data keys are not destroyed yet",
            }
            .to_owned(),
        );
    }
    match open.is_empty() {
        true => "open".to_owned(),
        false => format!("open: {}", open.join("; ")),
    }
}

fn rotation_summary(case: &Case<'_>, summary: &mut EvidenceSummary) {
    "open".clone_into(&mut summary.state);
    for (_, event) in case.own() {
        let Event::Rotation(_, fact) = event else {
            continue;
        };
        match fact {
            rotation::Event::Started {
                secret, trigger, ..
            } => {
                summary.name = case.names.secret(*secret);
                summary.reason = words::trigger_words(trigger);
            }
            rotation::Event::Closed { outcome } => {
                words::outcome_word(outcome).clone_into(&mut summary.state);
            }
            rotation::Event::Reopened { .. } => "open".clone_into(&mut summary.state),
            _ => {}
        }
    }
    if marks::dies_by_revocation(case) {
        "by a revocation of its own, whose report has it".clone_into(&mut summary.proof);
    }
    summary.marks = marks::rotation(case);
}

fn host_summary(case: &Case<'_>, summary: &mut EvidenceSummary) {
    for (_, event) in case.own() {
        if let Event::Host(id, host::Event::Evicted { reason }) = event {
            summary.name = case.names.host(*id);
            summary.reason.clone_from(reason);
        }
    }
    let alive = summary
        .secrets
        .iter()
        .filter(|one| one.outcome == marks::ALIVE);
    let unusable = marks::unusable(case);
    let held = marks::versions(case).into_iter();
    let unconfirmed = held.filter(|version| !unusable.contains_key(version));
    summary.state = match (alive.count(), unconfirmed.count()) {
        (0, 0) => "evicted; nothing that it may hold is alive".to_owned(),
        (0, left) => format!(
            "evicted; {left} versions that it may hold are given to nobody any more, and NOT confirmed dead at their store"
        ),
        (left, _) => format!("evicted; {left} versions that it may hold are alive"),
    };
    summary.marks = marks::host(case);
}
