//! Where in the log a run lies: what it is about, its first event and its last. Pure.

mod facts;

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::event::Event;
use keywheel_core::id::{HostId, RevocationId, RotationId, RunId, SecretId};
use keywheel_core::playbook_run::Cause;
use keywheel_core::time::Timestamp;
use keywheel_core::{host, playbook_run, secret};
use keywheel_engine::port::journal::RecordedEvent;

use self::facts::{Facts, Part};
use super::super::Failure;

/// How far behind a run's last event the others of the same decision stand at most.
const SAME_DECISION: u64 = 1000;

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// A revocation.
    Revocation(RevocationId),
    /// A rotation.
    Rotation(RotationId),
    /// An eviction, by its host.
    Host(HostId),
    /// A run of a playbook, with all that its steps began.
    Playbook(RunId),
}

impl Run {
    /// As the report names it.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Revocation(_) => "revocation",
            Self::Rotation(_) => "rotation",
            Self::Host(_) => "host",
            Self::Playbook(_) => "playbook-run",
        }
    }

    /// Its id.
    pub(super) fn id(self) -> String {
        match self {
            Self::Revocation(id) => id.to_string(),
            Self::Rotation(id) => id.to_string(),
            Self::Host(id) => id.to_string(),
            Self::Playbook(id) => id.to_string(),
        }
    }

    /// Itself among the parts of which a run may consist; an eviction has none.
    const fn part(self) -> Option<Part> {
        match self {
            Self::Revocation(id) => Some(Part::Revocation(id)),
            Self::Rotation(id) => Some(Part::Rotation(id)),
            Self::Playbook(id) => Some(Part::Run(id)),
            Self::Host(_) => None,
        }
    }
}

/// A run in the log.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Which.
    pub(super) run: Run,
    /// The secrets; none for a host, which may hold many.
    pub(super) secrets: BTreeSet<SecretId>,
    /// Versions that it makes or that die with it.
    pub(super) versions: BTreeSet<(SecretId, u64)>,
    /// Hosts that are waited for.
    pub(super) hosts: BTreeSet<HostId>,
    /// Hosts that it evicted, with the numbers of these events.
    pub(super) evicted: BTreeMap<HostId, u64>,
    /// Whose events are its own.
    parts: BTreeSet<Part>,
    /// Number of the event of the log that led to it; it is before the first.
    pub(super) cause: Option<u64>,
    /// Number of its first event.
    pub(super) from: u64,
    /// Number of its last one, when it ended.
    pub(super) until: Option<u64>,
    /// When it ended.
    pub(super) ended: Option<Timestamp>,
}

impl Frame {
    /// Nothing yet.
    const fn new(run: Run) -> Self {
        Self {
            run,
            secrets: BTreeSet::new(),
            versions: BTreeSet::new(),
            hosts: BTreeSet::new(),
            evicted: BTreeMap::new(),
            parts: BTreeSet::new(),
            cause: None,
            from: 0,
            until: None,
            ended: None,
        }
    }

    /// Whether an event is of the run itself, or of what it began.
    pub(super) fn is_own(&self, event: &Event) -> bool {
        Part::of(event).is_some_and(|part| self.parts.contains(&part))
    }

    /// Whether an event is not before it and not behind it.
    pub(super) fn is_within(&self, event: &RecordedEvent) -> bool {
        event.number >= self.from && !self.is_behind(event)
    }

    /// Whether an event came when it had ended.
    pub(super) fn is_behind(&self, event: &RecordedEvent) -> bool {
        let Some(until) = self.until else {
            return false;
        };
        let is_same = Some(event.time) == self.ended && event.number <= until + SAME_DECISION;
        event.number > until && !is_same
    }

    /// What people's records on it are about.
    pub(super) fn object(&self, events: &[RecordedEvent]) -> String {
        let found = match self.run {
            Run::Revocation(_) | Run::Rotation(_) => events.iter().find_map(secret_object),
            Run::Host(_) => {
                let names = self.evicted_names(events);
                names.first().map(|name| format!("host/{name}"))
            }
            Run::Playbook(_) => events.iter().find_map(|event| self.playbook_object(event)),
        };
        found.unwrap_or_default()
    }

    /// What records call the playbook whose run, or one below it, an event begins.
    pub(super) fn playbook_object(&self, event: &RecordedEvent) -> Option<String> {
        match &event.event {
            Event::PlaybookRun(_, playbook_run::Event::Triggered { name, .. })
                if self.is_own(&event.event) =>
            {
                Some(format!("playbook/{name}"))
            }
            _ => None,
        }
    }

    /// Names of the hosts that it evicted.
    pub(super) fn evicted_names(&self, events: &[RecordedEvent]) -> BTreeSet<String> {
        let name = |event: &RecordedEvent| match &event.event {
            Event::Host(id, host::Event::Enrolled { name, .. })
                if self.evicted.contains_key(id) =>
            {
                Some(name.to_string())
            }
            _ => None,
        };
        events.iter().filter_map(name).collect()
    }
}

/// What records call the secret that an event registers.
pub(super) fn secret_object(event: &RecordedEvent) -> Option<String> {
    match &event.event {
        Event::Secret(_, secret::Event::Registered { name, .. }) => Some(format!("secret/{name}")),
        _ => None,
    }
}

/// A frame that is being found, event by event.
#[derive(Debug)]
pub(super) struct Outline {
    run: Run,
    /// What may be of the run: what it begins stands before the event that says so.
    seen: BTreeMap<Part, Facts>,
    evictions: BTreeMap<HostId, u64>,
}

impl Outline {
    /// Of a run that was not seen yet.
    pub(super) const fn new(run: Run) -> Self {
        Self {
            run,
            seen: BTreeMap::new(),
            evictions: BTreeMap::new(),
        }
    }

    /// Takes the next event.
    pub(super) fn note(&mut self, event: &RecordedEvent) {
        if let Event::Host(id, host::Event::Evicted { .. }) = &event.event {
            self.evictions.insert(*id, event.number);
        }
        let Some(part) = Part::of(&event.event) else {
            return;
        };
        if !self.may_be_of_run(part) {
            return;
        }
        self.seen.entry(part).or_default().note(event);
    }

    fn may_be_of_run(&self, part: Part) -> bool {
        let own = self.run.part();
        let is_playbook = matches!(self.run, Run::Playbook(_));
        own == Some(part) || (is_playbook && own.is_some_and(|own| self.seen.contains_key(&own)))
    }

    /// What was found.
    pub(super) fn frame(self) -> Result<Frame, Failure> {
        let mut frame = Frame::new(self.run);
        let from = match self.run {
            Run::Host(host) => {
                let evicted = self.evictions.get(&host).copied();
                frame.evicted.extend(evicted.map(|number| (host, number)));
                frame.hosts.insert(host);
                evicted
            }
            Run::Revocation(_) | Run::Rotation(_) | Run::Playbook(_) => self.gather(&mut frame),
        };
        let Some(from) = from else {
            return Err(unknown(self.run));
        };
        frame.from = from;
        Ok(frame)
    }

    /// Puts together what the parts of a run are about; gives the number of its first event.
    fn gather(&self, frame: &mut Frame) -> Option<u64> {
        let own = self.run.part()?;
        let from = self.seen.get(&own)?.from?;
        let (mut next, mut ends) = (vec![own], Vec::new());
        while let Some(part) = next.pop() {
            let Some(facts) = self.seen.get(&part) else {
                continue;
            };
            if !frame.parts.insert(part) {
                continue;
            }
            ends.push(facts.end);
            facts.add_to(frame);
            next.extend(facts.parts());
            next.extend(part.end().filter(|_| matches!(self.run, Run::Playbook(_))));
            for host in &facts.evicted {
                let number = self.evictions.get(host).filter(|number| **number >= from);
                frame.evicted.extend(number.map(|number| (*host, *number)));
                frame.hosts.insert(*host);
            }
        }
        if let Some(Facts {
            cause: Some(Cause::Event { number }),
            ..
        }) = self.seen.get(&own)
        {
            frame.cause = Some(*number);
        }
        // It is over when all that it began is.
        let ends: Option<Vec<(u64, Timestamp)>> = ends.into_iter().collect();
        if let Some((number, time)) = ends.and_then(|ends| ends.into_iter().max()) {
            (frame.until, frame.ended) = (Some(number), Some(time));
        }
        Some(from)
    }
}

fn unknown(run: Run) -> Failure {
    let id = run.id();
    Failure::not_found(match run {
        Run::Host(_) => format!(
            "no host {id} was ever evicted, so there is nothing to report; `keywheel host list` lists the hosts"
        ),
        Run::Revocation(_) | Run::Rotation(_) => format!(
            "no {kind} {id} is in the log; `keywheel get {kind}s` lists them",
            kind = run.kind()
        ),
        Run::Playbook(_) => {
            format!("no playbook run {id} is in the log; `keywheel playbook runs` lists them")
        }
    })
}
