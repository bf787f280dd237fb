//! What the events of one part of a run say of what it is about: a rotation, a revocation, a run of a playbook. Pure.

use std::collections::BTreeSet;

use keywheel_core::event::Event;
use keywheel_core::id::{HostId, RevocationId, RotationId, RunId, SecretId};
use keywheel_core::playbook_run::{Begun, Cause, Target};
use keywheel_core::time::Timestamp;
use keywheel_core::{lease, playbook_run, revocation, rotation};
use keywheel_engine::port::journal::RecordedEvent;

use super::Frame;

/// What a run consists of: itself, and what the steps of a playbook's began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Run(RunId),
    Rotation(RotationId),
    Revocation(RevocationId),
}

impl Part {
    /// Whose event it is.
    pub(super) const fn of(event: &Event) -> Option<Self> {
        match event {
            Event::PlaybookRun(id, _) => Some(Self::Run(*id)),
            Event::Rotation(id, _) => Some(Self::Rotation(*id)),
            Event::Revocation(id, _) => Some(Self::Revocation(*id)),
            _ => None,
        }
    }

    /// The revocation by which what a rotation replaced dies, where there is one.
    pub(super) fn end(self) -> Option<Self> {
        match self {
            Self::Rotation(id) => Some(Self::Revocation(lease::end_of(id))),
            Self::Run(_) | Self::Revocation(_) => None,
        }
    }
}

/// What is known of one.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Number of its first event.
    pub(super) from: Option<u64>,
    /// Its last event, when it ended.
    pub(super) end: Option<(u64, Timestamp)>,
    /// Why a run began.
    pub(super) cause: Option<Cause>,
    /// Hosts that a run evicted.
    pub(super) evicted: BTreeSet<HostId>,
    secrets: BTreeSet<SecretId>,
    versions: BTreeSet<u64>,
    hosts: BTreeSet<HostId>,
    begun: Vec<Begun>,
}

impl Facts {
    /// Takes the next event of it.
    pub(super) fn note(&mut self, event: &RecordedEvent) {
        match &event.event {
            Event::Revocation(_, fact) => self.revocation(event, fact),
            Event::Rotation(_, fact) => self.rotation(event, fact),
            Event::PlaybookRun(_, fact) => self.run(event, fact),
            _ => {}
        }
    }

    /// It begins once: a revocation that waited for a replacement with the wish.
    fn begin(&mut self, event: &RecordedEvent) {
        self.from.get_or_insert(event.number);
    }

    const fn end(&mut self, event: &RecordedEvent) {
        self.end = Some((event.number, event.time));
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
                self.secrets.insert(*secret);
                self.versions.extend(versions);
                self.hosts.extend(hosts);
            }
            revocation::Event::ReplacementAwaited {
                secret, versions, ..
            } => {
                self.begin(event);
                self.secrets.insert(*secret);
                self.versions.extend(versions);
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
                self.secrets.insert(*secret);
                self.versions.insert(*version);
            }
            rotation::Event::DistributionStarted { old, hosts, .. } => {
                self.versions.extend(old);
                self.hosts.extend(hosts);
            }
            rotation::Event::TurnedBack { hosts, .. }
            | rotation::Event::StagingStarted { hosts, .. }
            | rotation::Event::CanaryStarted { hosts, .. } => self.hosts.extend(hosts),
            rotation::Event::Reopened { hosts, .. } => {
                self.hosts.extend(hosts);
                self.end = None;
            }
            rotation::Event::Closed { .. } => self.end(event),
            _ => {}
        }
    }

    fn run(&mut self, event: &RecordedEvent, fact: &playbook_run::Event) {
        match fact {
            playbook_run::Event::Triggered { cause, .. } => {
                self.begin(event);
                self.cause = Some(*cause);
            }
            playbook_run::Event::StepStarted { targets, .. } => {
                let secret = |target: &Target| match target {
                    Target::Secret { secret, .. } => Some(*secret),
                    _ => None,
                };
                self.secrets.extend(targets.iter().filter_map(secret));
            }
            playbook_run::Event::Acted { begun, .. } => {
                if let Begun::Eviction { host } = begun {
                    self.evicted.insert(*host);
                }
                self.begun.push(*begun);
            }
            playbook_run::Event::Completed { .. } => self.end(event),
            _ => {}
        }
    }

    /// What it began.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        self.begun.iter().filter_map(|begun| match begun {
            Begun::Rotation { rotation } => Some(Part::Rotation(*rotation)),
            Begun::Revocation { revocation } => Some(Part::Revocation(*revocation)),
            Begun::Run { run } => Some(Part::Run(*run)),
            Begun::Eviction { .. }
            | Begun::Nothing
            | Begun::Message { .. }
            | Begun::Restart { .. }
            | Begun::Quarantine { .. } => None,
        })
    }

    /// Says what it is about.
    pub(super) fn add_to(&self, frame: &mut Frame) {
        frame.secrets.extend(&self.secrets);
        frame.hosts.extend(&self.hosts);
        for secret in &self.secrets {
            let versions = self.versions.iter().map(|version| (*secret, *version));
            frame.versions.extend(versions);
        }
    }
}
