//! What the gateway knows, as committed: the world at the log's head, and when things happened.
//!
//! Readers see committed state only. The draft that decisions are made on is the command bus's own.

mod runs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use keywheel_core::command::Command;
use keywheel_core::effect;
use keywheel_core::event::Event;
use keywheel_core::id::{HostId, RevocationId, RotationId, RunId, SecretId};
use keywheel_core::plan::{HostPlan, plan_host};
use keywheel_core::report::HostReport;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_core::{revocation, rotation, secret};
use tokio::sync::watch;

use crate::port::journal::RecordedEvent;
use crate::tally::Tally;
use crate::trace::{Context, Origins, span_of};
use runs::Runs;
pub use runs::{RunTimes, Span};

/// Rotations and revocations whose instants are kept.
pub const KEPT_TIMINGS: usize = 4096;

/// When the steps of a rotation were durable, by the gateway's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RotationTimes {
    /// The trace of the command that started it, and the span that stands above its own.
    pub trace: Option<Context>,
    /// Started.
    pub requested: Option<Timestamp>,
    /// Promotion committed.
    pub promoted: Option<Timestamp>,
    /// Last consumer acknowledged.
    pub acknowledged: Option<Timestamp>,
    /// Closed.
    pub closed: Option<Timestamp>,
}

/// When the steps of a revocation were durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RevocationTimes {
    /// The trace of the command that asked for it, and the span that stands above its own.
    pub trace: Option<Context>,
    /// Requested.
    pub requested: Option<Timestamp>,
    /// Last host withdrew.
    pub withdrawn: Option<Timestamp>,
    /// Dead at the backend.
    pub dead: Option<Timestamp>,
    /// Its login was refused.
    pub proven: Option<Timestamp>,
    /// Data keys gone.
    pub destroyed: Option<Timestamp>,
    /// Closed.
    pub closed: Option<Timestamp>,
}

/// Committed state.
#[derive(Debug, Default)]
pub struct Committed {
    /// Every aggregate.
    pub world: World,
    /// Number of the last event.
    pub number: u64,
    /// What the log says in numbers.
    pub tally: Tally,
    rotations: BTreeMap<RotationId, RotationTimes>,
    rotation_order: VecDeque<RotationId>,
    revocations: BTreeMap<RevocationId, RevocationTimes>,
    revocation_order: VecDeque<RevocationId>,
    /// What last changed what a secret gives out.
    changed: BTreeMap<SecretId, Context>,
    /// Runs of playbooks.
    runs: Runs,
}

impl Committed {
    /// When a rotation's steps were durable.
    #[must_use]
    pub fn rotation_times(&self, id: RotationId) -> RotationTimes {
        self.rotations.get(&id).copied().unwrap_or_default()
    }
    /// When a revocation's steps were durable.
    #[must_use]
    pub fn revocation_times(&self, id: RevocationId) -> RevocationTimes {
        self.revocations.get(&id).copied().unwrap_or_default()
    }

    /// The rotations the world has, newest request first. Ids do not tell: a slot's is a hash.
    #[must_use]
    pub fn rotations_newest_first(&self) -> Vec<RotationId> {
        newest_first(&self.rotation_order, &self.world.rotations)
    }
    /// The revocations the world has, newest request first.
    #[must_use]
    pub fn revocations_newest_first(&self) -> Vec<RevocationId> {
        newest_first(&self.revocation_order, &self.world.revocations)
    }
    /// The runs of playbooks the world has, the last one that began first. Of those that a trigger began ids do not tell
    /// either.
    #[must_use]
    pub fn runs_newest_first(&self) -> Vec<RunId> {
        newest_first(self.runs.order(), &self.world.runs)
    }

    /// Where what belongs to a rotation stands: its trace, below its own span.
    #[must_use]
    pub fn rotation_trace(&self, id: RotationId) -> Option<Context> {
        let above = self.rotations.get(&id)?.trace?;
        Some(above.at(span_of(id.bytes())))
    }
    /// Where what belongs to a revocation stands.
    #[must_use]
    pub fn revocation_trace(&self, id: RevocationId) -> Option<Context> {
        let above = self.revocations.get(&id)?.trace?;
        Some(above.at(span_of(id.bytes())))
    }
    /// Where what a run of a playbook begins stands: with the command that started it.
    #[must_use]
    pub fn run_trace(&self, id: RunId) -> Option<Context> {
        self.runs.trace(id)
    }
    /// When a run's steps were durable.
    #[must_use]
    pub fn run_times(&self, id: RunId) -> Option<&RunTimes> {
        self.runs.times(id)
    }
    /// Where the work of an effect stands.
    #[must_use]
    pub fn effect_trace(&self, key: &effect::Key) -> Option<Context> {
        match key {
            effect::Key::Step(rotation, ..) => self.rotation_trace(*rotation),
            effect::Key::Revoke(revocation, ..) => self.revocation_trace(*revocation),
        }
    }
    /// Where a command stands that a timer leads to: it brings no trace of its own.
    #[must_use]
    pub fn command_trace(&self, command: &Command) -> Option<Context> {
        match command {
            Command::RetryStep { rotation } | Command::DeadlinePassed { rotation } => {
                self.rotation_trace(*rotation)
            }
            Command::RetryRevoke { revocation } => self.revocation_trace(*revocation),
            _ => None,
        }
    }
    /// One host's plan, each binding with the trace of what last changed what it gives out.
    #[must_use]
    pub fn plan_of(&self, host: HostId) -> Option<HostPlan> {
        let mut plan = plan_host(&self.world, host)?;
        let trace = |secret: &SecretId| self.changed.get(secret).map(Context::to_string);
        for binding in &mut plan.bindings {
            binding.traceparent = trace(&binding.secret);
            for further in &mut binding.also {
                further.traceparent = trace(&further.secret);
            }
        }
        Some(plan)
    }

    /// Folds an event that was committed at `at`.
    pub fn apply(&mut self, recorded: &RecordedEvent, at: Timestamp) {
        self.note_times(recorded, at);
        self.tally.note(&self.world, recorded);
        self.world.note_time(recorded.time);
        self.world.apply(recorded.number, &recorded.event);
        self.number = recorded.number;
        self.note_settled(&recorded.event, at);
    }

    fn note_times(&mut self, recorded: &RecordedEvent, at: Timestamp) {
        let trace = recorded.traceparent.as_deref().and_then(Context::parse);
        match &recorded.event {
            Event::Rotation(id, rotation::Event::Started { .. }) => {
                self.rotations.insert(
                    *id,
                    RotationTimes {
                        trace,
                        requested: Some(at),
                        ..RotationTimes::default()
                    },
                );
                self.rotation_order.push_back(*id);
                if self.rotation_order.len() > KEPT_TIMINGS
                    && let Some(oldest) = self.rotation_order.pop_front()
                {
                    self.rotations.remove(&oldest);
                }
            }
            Event::Secret(secret, secret::Event::VersionPromoted { .. }) => {
                let open = self
                    .world
                    .open_rotation(*secret)
                    .map(|rotation| rotation.id);
                if let Some(times) = open.and_then(|id| self.rotations.get_mut(&id)) {
                    // A rotation that is turned back keeps its first.
                    times.promoted = times.promoted.or(Some(at));
                }
                let trace = open.and_then(|id| self.rotation_trace(id));
                self.note_change(*secret, trace);
            }
            Event::Revocation(id, revocation::Event::ReplacementAwaited { .. }) => {
                self.note_revocation(*id, trace, at);
            }
            Event::Revocation(id, revocation::Event::Requested { secret, .. }) => {
                // One that waited for a replacement is as old as its wish.
                if !self.world.revocations.contains_key(id) {
                    self.note_revocation(*id, trace, at);
                }
                self.note_change(*secret, self.revocation_trace(*id));
            }
            Event::PlaybookRun(id, event) => {
                self.runs.note(&self.world, (*id, event), (at, trace));
            }
            _ => {}
        }
    }

    fn note_revocation(&mut self, id: RevocationId, trace: Option<Context>, at: Timestamp) {
        let times = RevocationTimes {
            trace,
            requested: Some(at),
            ..RevocationTimes::default()
        };
        self.revocations.insert(id, times);
        self.revocation_order.push_back(id);
        if self.revocation_order.len() > KEPT_TIMINGS
            && let Some(oldest) = self.revocation_order.pop_front()
        {
            self.revocations.remove(&oldest);
        }
    }

    fn note_change(&mut self, secret: SecretId, trace: Option<Context>) {
        match trace {
            Some(trace) => self.changed.insert(secret, trace),
            None => self.changed.remove(&secret),
        };
    }

    fn note_settled(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Rotation(id, event) => {
                let Some(times) = self.rotations.get_mut(id) else {
                    return;
                };
                let waits =
                    self.world.rotations.get(id).is_some_and(|r| {
                        !r.waiting.is_empty() || r.phase == rotation::Phase::Canary
                    });
                let distributes = matches!(
                    event,
                    rotation::Event::DistributionStarted { .. }
                        | rotation::Event::ConsumerAcknowledged { .. }
                );
                if distributes && !waits {
                    times.acknowledged = Some(at);
                }
                match event {
                    rotation::Event::Closed { .. } => times.closed = Some(at),
                    rotation::Event::Reopened { .. } => times.closed = None,
                    _ => {}
                }
            }
            Event::Revocation(id, event) => {
                let Some(times) = self.revocations.get_mut(id) else {
                    return;
                };
                let waits = self
                    .world
                    .revocations
                    .get(id)
                    .is_some_and(|r| !r.waiting.is_empty() || !r.is_begun());
                if times.withdrawn.is_none() && !waits {
                    times.withdrawn = Some(at);
                }
                match event {
                    revocation::Event::BackendConfirmed => times.dead = Some(at),
                    revocation::Event::StillAccepted { .. } => times.dead = None,
                    revocation::Event::ProvenDead { .. } => times.proven = Some(at),
                    revocation::Event::Destroyed => times.destroyed = Some(at),
                    revocation::Event::Closed => times.closed = Some(at),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// What is known, by the order of requests; what is older than that order goes back comes last.
fn newest_first<K: Ord + Copy, V>(order: &VecDeque<K>, known: &BTreeMap<K, V>) -> Vec<K> {
    let ordered: BTreeSet<&K> = order.iter().collect();
    let older = known.keys().rev().filter(|id| !ordered.contains(id));
    let newer = order.iter().rev().filter(|id| known.contains_key(id));
    newer.chain(older).copied().collect()
}

/// When a host was last heard of by this gateway. Not in the log: a sign of life is no fact worth
/// keeping, and after a restart the next one comes within seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// When.
    pub at: Timestamp,
    /// The newest plan generation it reported about as a whole.
    pub acknowledged: Option<u64>,
}

type Contacts = Arc<RwLock<BTreeMap<HostId, Contact>>>;

/// Shared, read-only view of the committed state, with a bell that rings on change.
#[derive(Clone)]
pub struct View {
    committed: Arc<RwLock<Committed>>,
    contacts: Contacts,
    origins: Arc<Origins>,
    changed: watch::Receiver<u64>,
}

/// The writing half; the command bus owns it.
pub(crate) struct ViewWriter {
    committed: Arc<RwLock<Committed>>,
    contacts: Contacts,
    pub(crate) origins: Arc<Origins>,
    changed: watch::Sender<u64>,
}

/// Makes the two halves.
pub(crate) fn view() -> (ViewWriter, View) {
    let committed = Arc::new(RwLock::new(Committed::default()));
    let contacts = Contacts::default();
    let origins = Arc::<Origins>::default();
    let (sender, changed) = watch::channel(0);
    let writer = ViewWriter {
        committed: Arc::clone(&committed),
        contacts: Arc::clone(&contacts),
        origins: Arc::clone(&origins),
        changed: sender,
    };
    let view = View {
        committed,
        contacts,
        origins,
        changed,
    };
    (writer, view)
}

impl View {
    /// Reads; hold it briefly and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Committed> {
        self.committed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
    /// The `traceparent` of the command that a stored audit record names, if it came to this process.
    #[must_use]
    pub fn origin_of(&self, record: &[u8]) -> Option<String> {
        self.origins.of_record(record)
    }
    /// When a host was last heard of, since this gateway started.
    #[must_use]
    pub fn contact(&self, host: HostId) -> Option<Contact> {
        let contacts = self.contacts.read();
        let contacts = contacts.unwrap_or_else(PoisonError::into_inner);
        contacts.get(&host).copied()
    }
    /// Notes that a host was heard of; one that is unknown or evicted is passed over.
    pub fn note_contact(&self, host: HostId, at: Timestamp) {
        if self.read().world.live_host(host).is_some() {
            note_contact(&self.contacts, host, at, None);
        }
    }
    /// A bell that rings with the number of the last event, after every commit.
    #[must_use]
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }
}

/// Only hosts that are known get here, so that strangers take no room.
fn note_contact(contacts: &Contacts, host: HostId, at: Timestamp, acknowledged: Option<u64>) {
    let mut contacts = contacts.write().unwrap_or_else(PoisonError::into_inner);
    let noted = contacts.entry(host).or_insert(Contact { at, acknowledged });
    noted.at = noted.at.max(at);
    noted.acknowledged = noted.acknowledged.max(acknowledged);
}

impl ViewWriter {
    /// Notes a report that was accepted.
    pub(crate) fn note_report(&self, report: &HostReport, at: Timestamp) {
        let acknowledged = report.complete.then_some(report.generation);
        note_contact(&self.contacts, report.host, at, acknowledged);
    }
    /// Folds events of a log that is read anew, each as of its own time.
    pub(crate) fn replay(&self, recorded: &[RecordedEvent]) {
        let committed = self.committed.write();
        let mut committed = committed.unwrap_or_else(PoisonError::into_inner);
        for event in recorded {
            committed.apply(event, event.time);
        }
    }
    /// Folds committed events; returns the hosts whose plans they changed.
    pub(crate) fn apply(&self, recorded: &[RecordedEvent], at: Timestamp) -> Vec<HostId> {
        let Some(first) = recorded.first() else {
            return Vec::new();
        };
        let mut committed = self
            .committed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for event in recorded {
            committed.apply(event, at);
        }
        let world = &committed.world;
        let changed = |host: &HostId| world.host_generation(*host) >= first.number;
        world.hosts.keys().copied().filter(changed).collect()
    }
    /// Shows the committed world.
    pub(crate) fn show(&self, to: &dyn Fn(&World)) {
        let committed = self.committed.read();
        to(&committed.unwrap_or_else(PoisonError::into_inner).world);
    }
    /// Shows all that is committed.
    pub(crate) fn show_all(&self, to: &dyn Fn(&Committed)) {
        to(&self
            .committed
            .read()
            .unwrap_or_else(PoisonError::into_inner));
    }
    /// A copy of the committed world, to decide on.
    pub(crate) fn draft(&self) -> World {
        self.committed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .world
            .clone()
    }
    /// Number of the last event.
    pub(crate) fn number(&self) -> u64 {
        self.committed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .number
    }
    /// Rings the bell.
    pub(crate) fn ring(&self) {
        self.changed.send_replace(self.number());
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{EventId, SecretId};

    use super::*;

    fn apply(committed: &mut Committed, number: u64, event: Event) {
        let recorded = RecordedEvent {
            number,
            id: EventId::default(),
            time: Timestamp::default(),
            traceparent: None,
            event,
            bytes: Arc::from(Vec::new()),
            hash: [0; 32],
            signature: [0; 64],
        };
        committed.apply(&recorded, Timestamp::from_micros(1));
    }

    fn numbered(number: u64) -> [u8; 16] {
        let mut id = [1; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        id
    }

    #[test]
    fn instants_of_the_newest_rotations_and_revocations_are_kept() {
        let mut committed = Committed::default();
        let most = KEPT_TIMINGS as u64;
        for number in 0..=most {
            let started = rotation::Event::Started {
                secret: SecretId::default(),
                version: number,
                trigger: rotation::Trigger::OnDemand,
            };
            let rotation = RotationId::from_bytes(numbered(number));
            apply(&mut committed, number, Event::Rotation(rotation, started));
            let requested = revocation::Event::Requested {
                secret: SecretId::default(),
                versions: vec![number],
                hosts: Vec::new(),
                reason: String::new(),
                is_to_prove: false,
                is_emergency: false,
            };
            let revocation = RevocationId::from_bytes(numbered(number));
            apply(
                &mut committed,
                number,
                Event::Revocation(revocation, requested),
            );
        }
        for (number, is_kept) in [(0, false), (1, true), (most, true)] {
            let rotation = committed.rotation_times(RotationId::from_bytes(numbered(number)));
            assert_eq!(rotation.requested.is_some(), is_kept, "{number}");
            let revocation = RevocationId::from_bytes(numbered(number));
            let revocation = committed.revocation_times(revocation);
            assert_eq!(revocation.requested.is_some(), is_kept, "{number}");
        }
        assert_eq!(committed.rotations.len(), KEPT_TIMINGS);
        assert_eq!(committed.revocations.len(), KEPT_TIMINGS);
    }
}
