//! Tells the world what was committed: plans to hosts, work to workers, events and audit records to
//! everyone. The log is the outbox: what a crash kept from being sent is sent after the next start.
//!
//! Plans go first: a container waits for them. Nothing here decides.
//!
//! Of several gateways over one log one tells at a time: whose turn it is, the journal says. A turn that
//! is not renewed ends by itself, and whoever takes it goes on from the mark of the one before. Invariant:
//! the mark never passes what was told, so a change of turns repeats messages and loses none; a repeated
//! event has the same message id, and whoever reads plans and work can take them twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::effect::{self, Effect};
use keywheel_core::id::HostId;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::command_bus::{Commit, HoldWork};
use crate::port::bus::{Body, Bus, HostKeys, Topic};
use crate::port::clock::Clock;
use crate::port::ids::Ids;
use crate::port::journal::{Journal, MAX_READ, Mark, OpenEffect, RecordedEvent, Turn};
use crate::port::{ErrorKind, PortError};
use crate::state::View;
use crate::trace::Context;

/// An effect that is open for one whole such span is sent again.
pub const RESEND_INTERVAL: Duration = Duration::from_secs(30);
/// How often work that waits for sinks of the audit is looked at.
pub const HOLD_LOOK: Duration = Duration::from_secs(1);
/// How long after it was sent a call may be begun for an effect. Work that waits longer in front of busy
/// workers is dropped there and sent again.
pub const WORK_SPAN: Duration = Duration::from_secs(45);

/// How long a turn to tell lasts when it is not renewed.
pub const TURN_SPAN: Duration = Duration::from_secs(6);
/// How often a turn is renewed, or asked for.
pub const TURN_INTERVAL: Duration = Duration::from_secs(2);

/// Commits that waited together are told together, at most so many: a plan that several of them changed
/// goes to its host once, as the newest has it.
pub const MAX_TOLD_TOGETHER: usize = 64;
/// No further commit joins those that have so many events: a turn is renewed in between.
pub const MAX_EVENTS_TOGETHER: usize = 256;

/// Ports of the publisher.
pub struct Publisher {
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Where to tell it.
    pub bus: Arc<dyn Bus>,
    /// Time, for the deadlines of effects.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Committed state.
    pub view: View,
    /// Called after a commit was told; names of failpoints.
    pub failpoint: fn(&'static str),
    /// Says which work waits; `None` where none ever does.
    pub hold: Option<HoldWork>,
}

impl Publisher {
    /// Tells every commit, and open effects again from time to time, until the command bus ends.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn run(self, mut commits: mpsc::Receiver<Commit>) -> Result<(), PortError> {
        let shared = self.journal.bell().is_some();
        let (mut told, mut open) = (None, BTreeSet::new());
        let mut resend = interval(RESEND_INTERVAL);
        resend.reset();
        let mut turn = interval(TURN_INTERVAL);
        let mut look = interval(HOLD_LOOK);
        loop {
            let done = tokio::select! {
                biased;
                _ = turn.tick(), if shared || told.is_none() => {
                    let taken = self.keep_turn(&mut told, shared).await;
                    taken.map(|sent| {
                        if let Some(sent) = sent {
                            open = sent;
                            resend.reset();
                        }
                    })
                }
                commit = commits.recv() => {
                    let Some(commit) = commit else { return Ok(()) };
                    let burst = with_waiting(commit, &mut commits);
                    self.pass_on(&burst, told.as_mut(), &open).await
                }
                _ = resend.tick(), if told.is_some() => {
                    self.resend(&open, false).await.map(|still| open = still)
                }
                _ = look.tick(), if told.is_some() && self.has_waiting() => self.release().await,
            };
            match done {
                // The server is away: the turn ends by itself, and its next holder goes on.
                Err(error) if shared && error.kind == ErrorKind::Unavailable => {
                    tracing::warn!(%error, "cannot tell what was appended now");
                    told = None;
                }
                done => done?,
            }
        }
    }

    /// Renews our turn, or takes it when it is free; a new one begins where the last one ended, and
    /// with all effects that are open: those.
    async fn keep_turn(
        &self,
        told: &mut Option<Mark>,
        shared: bool,
    ) -> Result<Option<BTreeSet<effect::Key>>, PortError> {
        let before = told.take();
        let Turn::Ours(mark) = self.turn(before, shared).await? else {
            return Ok(None);
        };
        *told = before.filter(|before| !is_behind(*before, mark));
        if told.is_some() {
            return Ok(None);
        }
        *told = match shared {
            true => self.begin_turn(mark).await?,
            // Every commit comes here, whatever the log held when we asked.
            false => Some(Mark { number: 0, ..mark }),
        };
        if told.is_none() {
            return Ok(None);
        }
        self.tell_hosts().await;
        self.resend(&BTreeSet::new(), true).await.map(Some)
    }

    /// Asks the journal whose turn it is, and has the bus know.
    async fn turn(&self, told: Option<Mark>, shared: bool) -> Result<Turn, PortError> {
        let asked = self.clock.monotonic();
        let turn = self.journal.turn(told, TURN_SPAN).await?;
        if shared {
            // Another had the turn meanwhile: what the bus keeps of ours is older than what it told.
            if matches!((told, turn), (Some(told), Turn::Ours(mark)) if is_behind(told, mark)) {
                self.bus.set_turn(Duration::ZERO);
            }
            self.bus.set_turn(match turn {
                Turn::Ours(_) => asked.saturating_add(TURN_SPAN),
                Turn::Theirs => Duration::ZERO,
            });
        }
        Ok(turn)
    }

    /// Tells what the last turn left; `None` when that took so long that the turn is another's.
    async fn begin_turn(&self, from: Mark) -> Result<Option<Mark>, PortError> {
        tracing::info!(
            number = from.number,
            "telling what is appended from here on"
        );
        let mut told = from;
        for host in self.hosts_after(from.number) {
            self.tell_plan(host).await;
        }
        loop {
            let events = self.journal.read(told.number, MAX_READ).await?;
            if events.is_empty() {
                break;
            }
            for event in events {
                told.number = event.number;
                self.tell_event(event).await;
            }
            if self.turn(Some(told), true).await? == Turn::Theirs {
                return Ok(None);
            }
        }
        told.audit_size = self.tell_audit(told.audit_size).await?;
        Ok(Some(told))
    }

    /// Hosts whose plans changed after an event.
    fn hosts_after(&self, number: u64) -> Vec<HostId> {
        let committed = self.view.read();
        let hosts = committed.world.hosts.keys().copied();
        hosts
            .filter(|host| committed.world.host_generation(*host) > number)
            .collect()
    }

    /// Tells commits when it is our turn: first the plans that they changed, each once, since what is told
    /// is the newest plan whichever commit it is told for; then each commit's work, events and records.
    async fn pass_on(
        &self,
        burst: &[Commit],
        told: Option<&mut Mark>,
        open: &BTreeSet<effect::Key>,
    ) -> Result<(), PortError> {
        let Some(told) = told else { return Ok(()) };
        let has_keys = |commit: &Commit| commit.events.iter().any(changes_keys);
        if burst.iter().any(has_keys) {
            self.tell_hosts().await;
        }
        for host in changed_hosts(burst) {
            self.tell_plan(host).await;
        }
        // A host's reader on this very thread goes first: what follows is read by nobody who is waited for.
        tokio::task::yield_now().await;
        for commit in burst {
            self.tell(commit, told.number, open).await;
            if let Some(last) = commit.events.last() {
                told.number = told.number.max(last.number);
            }
            if commit.audited {
                told.audit_size = self.tell_audit(told.audit_size).await?;
            }
            (self.failpoint)("gateway.after_publish");
        }
        Ok(())
    }

    /// Work and events. What was found open before this commit came may have been sent by then.
    async fn tell(&self, commit: &Commit, told: u64, open: &BTreeSet<effect::Key>) {
        // A turn before this one may have told all of this commit, and its work be done by now.
        let is_told = (commit.events.last()).is_some_and(|last| last.number <= told);
        for effect in &commit.effects {
            let first = !is_told && !open.contains(&effect.key());
            self.tell_work(effect, None, first).await;
        }
        for event in commit.events.iter().filter(|event| event.number > told) {
            self.tell_event(event.clone()).await;
        }
    }

    async fn tell_event(&self, event: RecordedEvent) {
        let (id, trace) = (*event.id.bytes(), event.traceparent.clone());
        self.send(Topic::Events, id, trace, Body::Event(event))
            .await;
    }

    /// Whose key speaks for which host, as of now; readers never go back to an older list.
    async fn tell_hosts(&self) {
        let hosts = HostKeys::of_all(&self.view.read().world);
        self.send(Topic::Hosts, self.ids.draw(), None, Body::Hosts(hosts))
            .await;
    }

    /// A plan may come from several traces; each of its bindings names its own.
    async fn tell_plan(&self, host: HostId) {
        let plan = self.view.read().plan_of(host);
        if let Some(plan) = plan {
            let id = self.ids.draw();
            self.send(Topic::Plan(host), id, None, Body::Plan(plan))
                .await;
        }
    }

    /// Work stands below its rotation or revocation; `stored` counts where that is too old to be known.
    async fn tell_work(&self, effect: &Effect, stored: Option<String>, first: bool) {
        if self.holds(effect) {
            return;
        }
        let trace = self.view.read().effect_trace(&effect.key());
        let trace = trace.as_ref().map(Context::to_string).or(stored);
        let body = Body::Work {
            effect: effect.clone(),
            deadline: self.clock.now().plus(WORK_SPAN),
            first,
        };
        self.send(Topic::Work(Role::StoreSync), self.ids.draw(), trace, body)
            .await;
    }

    async fn tell_audit(&self, from: u64) -> Result<u64, PortError> {
        let mut next = from;
        loop {
            let leaves = self.journal.read_audit(next, MAX_READ).await?;
            if leaves.is_empty() {
                return Ok(next);
            }
            for leaf in leaves {
                next = leaf.index + 1;
                let trace = self.view.origin_of(&leaf.bytes);
                self.send(Topic::Audit, self.ids.draw(), trace, Body::Audit(leaf))
                    .await;
            }
        }
    }

    /// Sends effects that were open before and still are; at the start, all that are open.
    async fn resend(
        &self,
        before: &BTreeSet<effect::Key>,
        all: bool,
    ) -> Result<BTreeSet<effect::Key>, PortError> {
        let open = self.journal.open_effects().await?;
        for asked in open
            .iter()
            .filter(|asked| all || before.contains(&asked.effect.key()))
        {
            self.tell_work(&asked.effect, asked.traceparent.clone(), false)
                .await;
        }
        Ok(open.iter().map(|asked| asked.effect.key()).collect())
    }

    fn holds(&self, effect: &Effect) -> bool {
        let Some(hold) = &self.hold else {
            return false;
        };
        let may_wait = HoldWork::may_wait(&self.view.read().world, effect);
        may_wait && hold.waits(effect)
    }

    fn has_waiting(&self) -> bool {
        self.hold.as_ref().is_some_and(HoldWork::has_waiting)
    }

    /// Sends what waited and has to no more; what still has to is remembered anew.
    async fn release(&self) -> Result<(), PortError> {
        let Some(hold) = &self.hold else {
            return Ok(());
        };
        let waiting = hold.take();
        let open = match self.journal.open_effects().await {
            Ok(open) => open,
            Err(error) => {
                hold.put_back(waiting);
                return Err(error);
            }
        };
        let waited = |asked: &&OpenEffect| waiting.contains(&asked.effect.key());
        for asked in open.iter().filter(waited) {
            self.tell_work(&asked.effect, asked.traceparent.clone(), false)
                .await;
        }
        Ok(())
    }

    /// A message that cannot be sent now is no loss: hosts read their plan, consumers the log, and
    /// effects are sent again.
    async fn send(&self, topic: Topic, id: [u8; 16], trace: Option<String>, body: Body) {
        if let Err(error) = self.bus.publish(topic.clone(), id, trace, body).await {
            tracing::warn!(?topic, error = %error, "message not sent");
        }
    }
}

/// A commit with those that wait behind it, in their order.
fn with_waiting(first: Commit, waiting: &mut mpsc::Receiver<Commit>) -> Vec<Commit> {
    let mut events = first.events.len();
    let mut burst = vec![first];
    while burst.len() < MAX_TOLD_TOGETHER
        && events < MAX_EVENTS_TOGETHER
        && let Ok(next) = waiting.try_recv()
    {
        events += next.events.len();
        burst.push(next);
    }
    burst
}

/// Hosts whose plans some of these changed.
fn changed_hosts(burst: &[Commit]) -> BTreeSet<HostId> {
    let hosts = burst.iter().flat_map(|commit| &commit.hosts);
    hosts.copied().collect()
}

/// Whether somebody told more than this.
fn is_behind(told: Mark, mark: Mark) -> bool {
    told.number < mark.number || told.audit_size < mark.audit_size
}

fn changes_keys(event: &RecordedEvent) -> bool {
    HostKeys::are_changed_by(&event.event)
}

fn interval(span: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(span);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use keywheel_core::event::Event;
    use keywheel_core::id::{EventId, RevocationId};
    use keywheel_core::revocation;
    use keywheel_core::time::Timestamp;

    use super::*;

    fn commit(hosts: &[u8]) -> Commit {
        Commit {
            events: Vec::new(),
            effects: Vec::new(),
            hosts: hosts.iter().map(|n| HostId::from_bytes([*n; 16])).collect(),
            audited: false,
        }
    }

    #[tokio::test]
    async fn what_waits_is_told_together_in_its_order_and_within_the_limit() {
        let (sender, mut waiting) = mpsc::channel(2 * MAX_TOLD_TOGETHER);
        for n in 1..=MAX_TOLD_TOGETHER {
            let n = u8::try_from(n).unwrap();
            sender.send(commit(&[n])).await.unwrap();
        }
        let burst = with_waiting(commit(&[0]), &mut waiting);
        assert_eq!(burst.len(), MAX_TOLD_TOGETHER);
        let order = burst.iter().map(|commit| commit.hosts[0].bytes()[0]);
        assert!(order.map(usize::from).eq(0..MAX_TOLD_TOGETHER));
        let rest = with_waiting(waiting.recv().await.unwrap(), &mut waiting);
        assert_eq!(rest.len(), 1);
    }

    #[tokio::test]
    async fn nothing_joins_a_commit_of_many_events() {
        let (sender, mut waiting) = mpsc::channel(2);
        sender.send(commit(&[2])).await.unwrap();
        let event = RecordedEvent {
            number: 1,
            id: EventId::default(),
            time: Timestamp::default(),
            traceparent: None,
            event: Event::Revocation(RevocationId::default(), revocation::Event::Closed),
            bytes: Arc::from(Vec::new()),
            hash: [0; 32],
            signature: [0; 64],
        };
        let large = Commit {
            events: vec![event; MAX_EVENTS_TOGETHER],
            ..commit(&[1])
        };
        assert_eq!(with_waiting(large, &mut waiting).len(), 1);
        assert!(waiting.recv().await.is_some());
    }

    #[test]
    fn a_plan_that_several_commits_changed_is_told_once() {
        let burst = [commit(&[1, 2]), commit(&[2]), commit(&[]), commit(&[1])];
        let hosts = [1, 2].map(|n| HostId::from_bytes([n; 16]));
        assert_eq!(changed_hosts(&burst), BTreeSet::from(hosts));
    }
}
