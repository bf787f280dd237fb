//! Where in the log a run lies: what it is about, its first event and its last. Pure.

use std::collections::BTreeSet;

use keywheel_core::event::Event;
use keywheel_core::id::{HostId, RevocationId, RotationId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_core::{host, revocation, rotation, secret};
use keywheel_engine::port::journal::RecordedEvent;

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
}

impl Run {
    /// As the report names it.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Revocation(_) => "revocation",
            Self::Rotation(_) => "rotation",
            Self::Host(_) => "host",
        }
    }

    /// Its id.
    pub(super) fn id(self) -> String {
        match self {
            Self::Revocation(id) => id.to_string(),
            Self::Rotation(id) => id.to_string(),
            Self::Host(id) => id.to_string(),
        }
    }
}

/// A run in the log.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Which.
    pub(super) run: Run,
    /// The secret; none for a host, which may hold many.
    pub(super) secret: Option<SecretId>,
    /// Versions that it makes or that die with it.
    pub(super) versions: BTreeSet<u64>,
    /// Hosts that are waited for.
    pub(super) hosts: BTreeSet<HostId>,
    /// Number of its first event.
    pub(super) from: u64,
    /// Number of its last one, when it ended.
    pub(super) until: Option<u64>,
    /// When it ended.
    pub(super) ended: Option<Timestamp>,
}

impl Frame {
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
        let host = self.host_name(events).map(|name| format!("host/{name}"));
        host.or_else(|| events.iter().find_map(secret_object))
            .unwrap_or_default()
    }

    /// Name of the host that the run is about.
    pub(super) fn host_name(&self, events: &[RecordedEvent]) -> Option<String> {
        let Run::Host(wanted) = self.run else {
            return None;
        };
        events.iter().find_map(|event| match &event.event {
            Event::Host(id, host::Event::Enrolled { name, .. }) if *id == wanted => {
                Some(name.to_string())
            }
            _ => None,
        })
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
    frame: Frame,
    is_known: bool,
}

impl Outline {
    /// Of a run that was not seen yet.
    pub(super) fn new(run: Run) -> Self {
        let frame = Frame {
            run,
            secret: None,
            versions: BTreeSet::new(),
            hosts: BTreeSet::new(),
            from: 0,
            until: None,
            ended: None,
        };
        Self {
            frame,
            is_known: false,
        }
    }

    /// Takes the next event.
    pub(super) fn note(&mut self, event: &RecordedEvent) {
        match (&event.event, self.frame.run) {
            (Event::Revocation(id, fact), Run::Revocation(run)) if *id == run => {
                self.revocation(event, fact);
            }
            (Event::Rotation(id, fact), Run::Rotation(run)) if *id == run => {
                self.rotation(event, fact);
            }
            (Event::Host(id, host::Event::Evicted { .. }), Run::Host(run)) if *id == run => {
                self.begin(event);
                self.frame.hosts.insert(run);
            }
            _ => {}
        }
    }

    /// A run begins once: a revocation that waited for a replacement with the wish.
    fn begin(&mut self, event: &RecordedEvent) {
        if !self.is_known {
            self.is_known = true;
            self.frame.from = event.number;
        }
    }

    fn end(&mut self, event: &RecordedEvent) {
        self.frame.until = Some(event.number);
        self.frame.ended = Some(event.time);
    }

    fn revocation(&mut self, event: &RecordedEvent, fact: &revocation::Event) {
        match fact {
            revocation::Event::Requested {
                secret,
                versions,
                hosts,
                ..
            } => {
                self.begin(event);
                self.frame.secret = Some(*secret);
                self.frame.versions.extend(versions);
                self.frame.hosts.extend(hosts);
            }
            revocation::Event::ReplacementAwaited {
                secret, versions, ..
            } => {
                self.begin(event);
                self.frame.secret = Some(*secret);
                self.frame.versions.extend(versions);
            }
            revocation::Event::Closed => self.end(event),
            _ => {}
        }
    }

    fn rotation(&mut self, event: &RecordedEvent, fact: &rotation::Event) {
        match fact {
            rotation::Event::Started {
                secret, version, ..
            } => {
                self.begin(event);
                self.frame.secret = Some(*secret);
                self.frame.versions.insert(*version);
            }
            rotation::Event::DistributionStarted { old, hosts, .. } => {
                self.frame.versions.extend(old);
                self.frame.hosts.extend(hosts);
            }
            rotation::Event::TurnedBack { hosts, .. }
            | rotation::Event::StagingStarted { hosts, .. }
            | rotation::Event::CanaryStarted { hosts, .. } => self.frame.hosts.extend(hosts),
            rotation::Event::Reopened { hosts, .. } => {
                self.frame.hosts.extend(hosts);
                (self.frame.until, self.frame.ended) = (None, None);
            }
            rotation::Event::Closed { .. } => self.end(event),
            _ => {}
        }
    }

    /// What was found.
    pub(super) fn frame(self) -> Result<Frame, Failure> {
        let Self { frame, is_known } = self;
        if is_known {
            return Ok(frame);
        }
        let id = frame.run.id();
        Err(Failure::not_found(match frame.run {
            Run::Host(_) => format!(
                "no host {id} was ever evicted, so there is nothing to report; `keywheel host list` lists the hosts"
            ),
            Run::Revocation(_) | Run::Rotation(_) => format!(
                "no {kind} {id} is in the log; `keywheel get {kind}s` lists them",
                kind = frame.run.kind()
            ),
        }))
    }
}
