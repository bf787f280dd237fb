//! A journal in memory, by the laws of the port; for tests of whoever appends.
//!
//! Chain, signatures and tree are real; the stored bytes are the event's debug text instead of
//! CloudEvents, and the checkpoint is unsigned. It can be told to fail once. Several handles may share
//! one log, as several gateways do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::effect::{self, Effect};
use keywheel_core::id::{CommandId, EventId, LetterId, NotificationId};
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::deliveries::Letter;
use keywheel_engine::port::journal::{
    AuditLeaf, Class, Decision, Head, Journal, MAX_READ, Mark, OpenEffect, REMOVAL_UNIT,
    RecordedEvent, Turn, Verdict, Verification,
};
use keywheel_engine::port::subscriptions::Subscription;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_seal::digest::sha256;
use keywheel_seal::sign::{Signature, SigningKey};
use tokio::sync::watch;

use crate::conformance::journal::{EVENT_CONTEXT, tree_continuation, tree_path, tree_root};

#[derive(Default)]
pub(super) struct State {
    events: Vec<RecordedEvent>,
    /// Each event's command.
    ids: HashMap<EventId, CommandId>,
    verdicts: HashMap<CommandId, Verdict>,
    asked: HashSet<effect::Key>,
    effects: Vec<OpenEffect>,
    audit: Vec<Arc<[u8]>>,
    /// Transactions that changed something.
    appends: u64,
    /// Appends that failed as told.
    refused: u64,
    /// Who tells the world, and how far it is told.
    turn: Option<u64>,
    told: Mark,
    pub(super) subscriptions: BTreeMap<SubscriptionName, Subscription>,
    /// How far receivers came, and whose turn each is.
    pub(super) places: BTreeMap<NotificationId, (u64, Option<u64>)>,
    pub(super) letters: BTreeMap<LetterId, Letter>,
    /// How many audit records are not given out any more.
    removed: u64,
}

/// A journal in memory; one handle of possibly several.
pub struct MemoryJournal {
    key: SigningKey,
    state: Arc<Mutex<State>>,
    /// Rings at every append, when the log is shared.
    bell: Option<Arc<watch::Sender<Mark>>>,
    handle: u64,
    failure: Mutex<Option<ErrorKind>>,
    /// Set while every append fails.
    failing: Mutex<Option<ErrorKind>>,
    /// Set while the disk counts as full: the lowest class that still finds room.
    full_below: Mutex<Option<Class>>,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryJournal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        let key = SigningKey::from_seed_bytes(&SecretBytes::from(vec![7; 32])).unwrap();
        Self {
            key,
            state: Arc::default(),
            bell: None,
            handle: 0,
            failure: Mutex::new(None),
            failing: Mutex::new(None),
            full_below: Mutex::new(None),
        }
    }

    /// Handles of one empty journal, as many as asked for.
    #[must_use]
    pub fn shared(handles: u64) -> Vec<Self> {
        let first = Self::new();
        let bell = Arc::new(watch::channel(Mark::default()).0);
        let handle = |handle| Self {
            state: Arc::clone(&first.state),
            bell: Some(Arc::clone(&bell)),
            handle,
            ..Self::new()
        };
        (0..handles).map(handle).collect()
    }

    /// Ends whoever's turn it is, as if it had not been renewed in time.
    pub fn end_turn(&self) {
        let mut state = self.state();
        state.turn = None;
        for (_, holder) in state.places.values_mut() {
            *holder = None;
        }
    }

    /// How many transactions changed something.
    #[must_use]
    pub fn appends(&self) -> u64 {
        self.state().appends
    }

    /// The command that led to an event.
    #[must_use]
    pub fn command_of(&self, event: EventId) -> Option<CommandId> {
        self.state().ids.get(&event).copied()
    }

    /// How many appends failed as told.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state().refused
    }

    /// The next append fails with this kind and changes nothing.
    pub fn fail_next_append(&self, kind: ErrorKind) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
    }

    /// From now on every append fails with this kind and changes nothing; `None` ends it.
    pub fn fail_appends(&self, kind: Option<ErrorKind>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = kind;
    }

    /// From now on the disk is full for every batch with a decision below this class; `None` is room
    /// for all.
    pub fn fill_below(&self, class: Option<Class>) {
        *self
            .full_below
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = class;
    }

    /// Which handle of its log it is.
    pub(super) const fn handle(&self) -> u64 {
        self.handle
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, state: &mut State, decision: &Decision) {
        state
            .verdicts
            .insert(decision.command, decision.verdict.clone());
        for (id, event) in &decision.events {
            state.ids.insert(*id, decision.command);
            let previous = state.events.last().map_or([0; 32], |event| event.hash);
            let bytes: Arc<[u8]> = format!("{id} {} {event:?}", decision.time)
                .into_bytes()
                .into();
            let hash = sha256(&[&previous[..], &bytes].concat());
            state.events.push(RecordedEvent {
                number: state.events.len() as u64 + 1,
                id: *id,
                time: decision.time,
                traceparent: decision.traceparent.clone(),
                event: event.clone(),
                bytes,
                hash,
                signature: self.key.sign(EVENT_CONTEXT, &hash).to_bytes(),
            });
        }
        for effect in &decision.effects {
            state.asked.insert(effect.key());
            state.effects.push(OpenEffect {
                effect: effect.clone(),
                traceparent: decision.traceparent.clone(),
            });
        }
        state
            .effects
            .retain(|open| !decision.closes.contains(&open.effect.key()));
        state.audit.extend(
            decision
                .audit
                .iter()
                .map(|record| format!("{record:?}").into_bytes().into()),
        );
    }
}

/// Refuses a batch that repeats a command, an event or an effect.
fn check(state: &State, decisions: &[Decision]) -> Result<(), PortError> {
    let (mut commands, mut ids, mut keys) = (HashSet::new(), HashSet::new(), HashSet::new());
    for decision in decisions {
        if state.verdicts.contains_key(&decision.command) || !commands.insert(decision.command) {
            return Err(conflict(format!(
                "command {} was answered already",
                decision.command
            )));
        }
        for (id, _) in &decision.events {
            if state.ids.contains_key(id) || !ids.insert(*id) {
                return Err(conflict(format!("event {id} is in the log already")));
            }
        }
        for key in decision.effects.iter().map(Effect::key) {
            if state.asked.contains(&key) || !keys.insert(key.clone()) {
                return Err(conflict(format!("effect {key:?} was asked for already")));
            }
        }
    }
    Ok(())
}

fn conflict(text: String) -> PortError {
    PortError::new(ErrorKind::Conflict, text)
}

fn root(state: &State) -> [u8; 32] {
    tree_root(
        &state
            .audit
            .iter()
            .map(|leaf| leaf.to_vec())
            .collect::<Vec<_>>(),
    )
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(
        &self,
        first: u64,
        decisions: &[Decision],
    ) -> Result<Vec<RecordedEvent>, PortError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = *self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = failure.take().or(failing) {
            self.state().refused += 1;
            return Err(PortError::new(kind, "the fake journal was told to fail"));
        }
        let full_below = *self
            .full_below
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if full_below.is_some_and(|class| decisions.iter().any(|d| d.class < class)) {
            return Err(PortError::new(
                ErrorKind::Unavailable,
                "the disk of the fake journal is full",
            ));
        }
        let mut state = self.state();
        let last = state.events.len();
        if first != last as u64 + 1 {
            return Err(conflict(format!(
                "the next event is number {}, not {first}",
                last + 1
            )));
        }
        check(&state, decisions)?;
        state.appends += u64::from(!decisions.is_empty());
        decisions
            .iter()
            .for_each(|decision| self.apply(&mut state, decision));
        if let Some(bell) = &self.bell {
            bell.send_replace(Mark {
                number: state.events.len() as u64,
                audit_size: state.audit.len() as u64,
            });
        }
        Ok(state.events[last..].to_vec())
    }

    async fn verdict(&self, command: CommandId) -> Result<Option<Verdict>, PortError> {
        Ok(self.state().verdicts.get(&command).cloned())
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, PortError> {
        let state = self.state();
        let rest = state.events.iter().filter(|event| event.number > after);
        Ok(rest.take(limit.min(MAX_READ)).cloned().collect())
    }

    async fn open_effects(&self) -> Result<Vec<OpenEffect>, PortError> {
        Ok(self.state().effects.clone())
    }

    async fn read_audit(&self, from: u64, limit: usize) -> Result<Vec<AuditLeaf>, PortError> {
        let state = self.state();
        let leaves = (0_u64..)
            .zip(&state.audit)
            .filter(|(index, _)| *index >= from.max(state.removed));
        let leaves = leaves.take(limit.min(MAX_READ));
        Ok(leaves
            .map(|(index, bytes)| AuditLeaf {
                index,
                bytes: Arc::clone(bytes),
            })
            .collect())
    }

    async fn head(&self) -> Result<Head, PortError> {
        let state = self.state();
        let audit_root = root(&state);
        Ok(Head {
            number: state.events.len() as u64,
            hash: state.events.last().map_or([0; 32], |event| event.hash),
            audit_size: state.audit.len() as u64,
            audit_root,
            checkpoint: format!(
                "fake\n{}\n{audit_root:02x?}\n\nunsigned\n",
                state.audit.len()
            ),
        })
    }

    async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<[u8; 32]>, PortError> {
        let state = self.state();
        if index >= size || size > state.audit.len() as u64 {
            return Err(PortError::new(
                ErrorKind::NotFound,
                format!(
                    "no audit record {index} in a tree of {size}; the tree has {}",
                    state.audit.len()
                ),
            ));
        }
        let leaves: Vec<Vec<u8>> = state
            .audit
            .iter()
            .take(size as usize)
            .map(|leaf| leaf.to_vec())
            .collect();
        Ok(tree_path(index as usize, &leaves))
    }

    async fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, PortError> {
        let state = self.state();
        let there = state.audit.len() as u64;
        if old > new || new > there {
            let text = format!("no trees of {old} and then {new} audit records; there are {there}");
            return Err(PortError::new(ErrorKind::NotFound, text));
        }
        let leaves = state.audit.iter().take(new as usize);
        let leaves: Vec<Vec<u8>> = leaves.map(|leaf| leaf.to_vec()).collect();
        Ok(tree_continuation(old as usize, &leaves))
    }

    async fn verify(&self) -> Result<Verification, PortError> {
        let state = self.state();
        let mut faults = Vec::new();
        let mut previous = [0; 32];
        for event in &state.events {
            let hash = sha256(&[&previous[..], &event.bytes].concat());
            let signature = Signature::from_bytes(event.signature);
            if hash != event.hash {
                faults.push(format!("event {}: its hash does not follow", event.number));
            }
            if self
                .key
                .verifying_key()
                .verify(EVENT_CONTEXT, &event.hash, &signature)
                .is_err()
            {
                faults.push(format!(
                    "event {}: its signature does not match",
                    event.number
                ));
            }
            previous = event.hash;
        }
        let (events, audit_records) = (state.events.len() as u64, state.audit.len() as u64);
        Ok(Verification {
            events,
            audit_records,
            faults,
            removed_records: state.removed,
        })
    }

    async fn audit_begins(&self) -> Result<u64, PortError> {
        Ok(self.state().removed)
    }

    async fn removed_hashes(&self, from: u64, limit: usize) -> Result<Vec<[u8; 32]>, PortError> {
        let state = self.state();
        let removed = (0..state.removed).zip(&state.audit);
        let asked = removed.filter(|(index, _)| *index >= from);
        let leaf = |(_, bytes): (u64, &Arc<[u8]>)| sha256(&[&[0_u8][..], &bytes[..]].concat());
        Ok(asked.take(limit.min(MAX_READ)).map(leaf).collect())
    }

    async fn remove_audit(&self, before: u64) -> Result<u64, PortError> {
        let mut state = self.state();
        let next = state.removed.saturating_add(REMOVAL_UNIT);
        if next <= before.min(state.audit.len() as u64) {
            state.removed = next;
        }
        Ok(state.removed)
    }

    fn bell(&self) -> Option<watch::Receiver<Mark>> {
        self.bell.as_ref().map(|bell| bell.subscribe())
    }

    async fn turn(&self, told: Option<Mark>, _span: Duration) -> Result<Turn, PortError> {
        if self.bell.is_none() {
            return Ok(Turn::Ours(match told {
                Some(told) => told,
                None => self.head().await?.mark(),
            }));
        }
        let mut state = self.state();
        let holder = *state.turn.get_or_insert(self.handle);
        if holder != self.handle {
            return Ok(Turn::Theirs);
        }
        if let Some(told) = told {
            state.told.number = state.told.number.max(told.number);
            state.told.audit_size = state.told.audit_size.max(told.audit_size);
        }
        Ok(Turn::Ours(state.told))
    }
}

#[cfg(test)]
mod tests {
    use keywheel_engine::port::deliveries::Deliveries;

    use super::*;
    use crate::conformance;
    use crate::conformance::journal_shared::Pair;

    #[tokio::test]
    async fn the_fake_keeps_the_laws_of_the_port() {
        conformance::journal::check(|| async {
            Arc::new(MemoryJournal::new()) as Arc<dyn Journal>
        })
        .await;
    }

    async fn pair() -> Pair {
        let mut handles = MemoryJournal::shared(2).into_iter();
        let mut handle = || Arc::new(handles.next().unwrap());
        let (one, other) = (handle(), handle());
        let ended = one.clone();
        Pair {
            one,
            other,
            end_turns: Box::new(move |_span| ended.end_turn()),
        }
    }

    #[tokio::test]
    async fn its_handles_keep_the_laws_of_a_shared_log() {
        conformance::journal_shared::check(pair).await;
    }

    #[tokio::test]
    async fn two_gateways_decide_over_its_handles() {
        conformance::gateways::check(pair).await;
    }

    #[tokio::test]
    async fn its_handles_keep_the_laws_of_subscriptions() {
        conformance::subscriptions::check(|| async {
            let mut handles = MemoryJournal::shared(2).into_iter();
            let mut handle = || Arc::new(handles.next().unwrap()) as Arc<dyn Journal>;
            [handle(), handle()]
        })
        .await;
    }

    #[tokio::test]
    async fn its_handles_keep_the_laws_of_deliveries() {
        conformance::deliveries::check(|| async {
            let mut handles = MemoryJournal::shared(2).into_iter();
            let mut handle = || Arc::new(handles.next().unwrap()) as Arc<dyn Deliveries>;
            [handle(), handle()]
        })
        .await;
    }

    #[tokio::test]
    async fn one_handle_at_a_time_has_a_receiver_s_turn() {
        let mut handles = MemoryJournal::shared(2).into_iter();
        let (one, other) = (handles.next().unwrap(), handles.next().unwrap());
        let ended = Arc::new(one);
        let ends: [Arc<dyn Deliveries>; 2] = [ended.clone(), Arc::new(other)];
        conformance::deliveries::check_turns(&ends, |_| ended.end_turn()).await;
    }

    #[tokio::test]
    async fn it_fails_once_when_told_to() {
        let journal = MemoryJournal::new();
        journal.fail_next_append(ErrorKind::Unavailable);
        let decision = conformance::journal::decision(1);
        let failed = journal.append(1, std::slice::from_ref(&decision)).await;
        assert!(failed.is_err_and(|error| error.kind == ErrorKind::Unavailable));
        assert_eq!(journal.append(1, &[decision]).await.unwrap().len(), 1);
    }
}
