//! What has to hold of orders about containers (O1 to O6).
//!
//! O1 a step gives one order for each of its targets, with the fact that it did, and the engine does none twice. O2 a
//! restart is ordered while nothing else of its service restarts or is down, and no leave is given beside it. O3 an
//! order is over well only as its host told, and a step only when all of its orders are. O4 into a container in
//! quarantine nothing is put by a plan that is newer than that, and nobody makes a login for it. O5 the room of an
//! order that is taken back goes to who waits for it, at once. O6 no host counts as rid of what a program in quarantine
//! is known to have in a variable.
//!
//! Truth by the events in their order, and beside them what hosts have. Of the core's state who has leave is read, and
//! who waits.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::host::{self, Had, OrderKind, OrderOutcome, Origin};
use keywheel_core::id::{ContainerId, HostId, RunId};
use keywheel_core::playbook_run::{self, Begun};
use keywheel_core::report::OrderState;
use keywheel_core::rollout::{Instance, Member, Rollout, Stage};
use keywheel_core::rotation::{self, Phase, Rotation, Trigger};
use keywheel_core::world::World;
use keywheel_engine::port::journal::RecordedEvent;

use crate::host::Host;
use crate::invariants::{Broken, Now, hold};
use crate::revocations::Revocations;
use crate::store::Value;

/// The target of a step that gave an order.
type Place = (RunId, String, u32);

/// What the events say of orders.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Every order that was ever given, and what came of it first.
    given: BTreeMap<Place, Option<OrderOutcome>>,
    restarts: BTreeMap<(HostId, ContainerId), Open>,
    quarantines: BTreeMap<(HostId, ContainerId), Open>,
    /// Targets to which steps did it with what is being appended.
    acted: Vec<Place>,
    /// Whether an order was taken back with that.
    is_withdrawn: bool,
}

/// An order that is not over.
#[derive(Debug)]
struct Open {
    number: u64,
    place: Place,
    /// What its container is known to have in variables.
    had: BTreeSet<Value>,
}

fn place_of(origin: &Origin) -> Place {
    (origin.run, origin.step.clone(), origin.place)
}

impl Rules {
    /// Looks at one event that was appended; the world is the one after all of its append.
    pub(crate) fn see(
        &mut self,
        recorded: &RecordedEvent,
        (command, now): (&Command, &Now<'_>),
    ) -> Result<(), Broken> {
        match &recorded.event {
            Event::Host(id, event) => self.see_host((*id, recorded.number), event, (command, now)),
            Event::Rotation(_, event) => self.nobody_makes_a_login(event, now),
            Event::PlaybookRun(run, event) => self.see_run(*run, event),
            _ => Ok(()),
        }
    }

    fn see_host(
        &mut self,
        (id, number): (HostId, u64),
        event: &host::Event,
        (command, now): (&Command, &Now<'_>),
    ) -> Result<(), Broken> {
        match event {
            host::Event::RestartOrdered {
                subject, origin, ..
            } => {
                let container = subject.container.clone();
                self.has_room((id, &container), now.world)?;
                let open = self.give(number, origin, &[])?;
                self.restarts.insert((id, container), open);
                Ok(())
            }
            host::Event::QuarantineOrdered {
                subject,
                origin,
                had,
                ..
            } => {
                let open = self.give(number, origin, had)?;
                self.quarantines
                    .insert((id, subject.container.clone()), open);
                Ok(())
            }
            host::Event::OrderEnded {
                container,
                order,
                outcome,
                ..
            } => self.end((id, container), (*order, outcome), command),
            host::Event::QuarantineLifted { container, .. } => {
                self.quarantines.remove(&(id, container.clone()));
                Ok(())
            }
            host::Event::Evicted { .. } => {
                self.restarts.retain(|(host, _), _| *host != id);
                self.quarantines.retain(|(host, _), _| *host != id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// O1.
    fn give(&mut self, number: u64, origin: &Origin, had: &[Had]) -> Result<Open, Broken> {
        let place = place_of(origin);
        let before = self.given.insert(place.clone(), None);
        hold(before.is_none(), "O1", || {
            format!("{place:?} gives another order: before {before:?}")
        })?;
        let had = had.iter().filter(|one| one.in_variable);
        let had = had.map(|one| (one.secret, one.version)).collect();
        Ok(Open { number, place, had })
    }

    /// O2: one restarts at a time (no binding lets more), and only while all others run well.
    fn has_room(&self, own: (HostId, &ContainerId), world: &World) -> Result<(), Broken> {
        let open = self.restarts.iter().next();
        hold(open.is_none(), "O2", || {
            format!("a restart of {own:?} is ordered beside {open:?}")
        })?;
        let members = world.rollouts.values().flat_map(|one| &one.members);
        let mut others = members.filter(|(instance, member)| {
            let is_own = (instance.host, &instance.container) == own;
            member.has_leave() || (member.is_unavailable() && !is_own)
        });
        let other = others.next();
        hold(other.is_none(), "O2", || {
            format!("a restart of {own:?} is ordered beside {other:?}")
        })
    }

    /// O3: it ended as its host told.
    fn end(
        &mut self,
        (host, container): (HostId, &ContainerId),
        (kind, outcome): (OrderKind, &OrderOutcome),
        command: &Command,
    ) -> Result<(), Broken> {
        let key = (host, container.clone());
        let (open, is_over) = match kind {
            OrderKind::Restart => (&mut self.restarts, true),
            OrderKind::Quarantine => {
                let is_over = matches!(outcome, OrderOutcome::Gone | OrderOutcome::Withdrawn);
                (&mut self.quarantines, is_over)
            }
        };
        let Some(known) = open.get(&key) else {
            // With its host's eviction it is gone already.
            let is_failed = matches!(outcome, OrderOutcome::Failed { .. });
            return hold(is_failed, "O3", || {
                format!("an order of {key:?} is {outcome:?}, and there is none")
            });
        };
        hold(is_told(known, container, outcome, command), "O3", || {
            format!("nobody told that {known:?} is {outcome:?}: {command:?}")
        })?;
        if let Some(first) = self.given.get_mut(&known.place) {
            first.get_or_insert_with(|| outcome.clone());
        }
        if is_over {
            open.remove(&key);
        }
        self.is_withdrawn |= *outcome == OrderOutcome::Withdrawn;
        Ok(())
    }

    fn see_run(&mut self, run: RunId, event: &playbook_run::Event) -> Result<(), Broken> {
        match event {
            playbook_run::Event::Acted {
                step,
                place,
                begun: Begun::Restart { .. } | Begun::Quarantine { .. },
            } => {
                self.acted.push((run, step.clone(), *place));
                Ok(())
            }
            playbook_run::Event::StepCompleted { step, .. } => {
                let own = (run, step.clone(), 0)..=(run, step.clone(), u32::MAX);
                let is_well = |first: &Option<OrderOutcome>| {
                    matches!(first, Some(OrderOutcome::Done | OrderOutcome::Gone))
                };
                let mut own = self.given.range(own);
                let bad = own.find(|(_, first)| !is_well(first));
                hold(bad.is_none(), "O3", || {
                    format!("step `{step}` of run {run} is done, and of {bad:?} that is not known")
                })
            }
            _ => Ok(()),
        }
    }

    /// O4, by the log.
    fn nobody_makes_a_login(&self, event: &rotation::Event, now: &Now<'_>) -> Result<(), Broken> {
        let rotation::Event::Started {
            secret,
            trigger: Trigger::Initial,
            ..
        } = event
        else {
            return Ok(());
        };
        let lease = now.world.secrets.get(secret);
        let Some(of) = lease.and_then(|lease| lease.lease_of()) else {
            return Ok(());
        };
        let apart = self.quarantines.get(&(of.host, of.container.clone()));
        hold(apart.is_none(), "O4", || {
            format!("a login is made for {of:?}, which is in quarantine: {apart:?}")
        })
    }

    /// After an append: facts of runs and of hosts agree (O1), and who may restart (O2, O5).
    pub(crate) fn are_kept(&mut self, world: &World) -> Result<(), Broken> {
        let acted = std::mem::take(&mut self.acted);
        let lost = acted.iter().find(|place| !self.given.contains_key(*place));
        hold(lost.is_none(), "O1", || format!("{lost:?} gave no order"))?;
        let members = world.rollouts.values().flat_map(|one| &one.members);
        let leaves = members.filter(|(_, member)| member.has_leave()).count();
        let all = self.restarts.len() + leaves;
        hold(self.restarts.is_empty() || all <= 1, "O2", || {
            format!("{leaves} have leave beside {:?}", self.restarts)
        })?;
        match std::mem::take(&mut self.is_withdrawn) {
            true => self.room_is_given(world),
            false => Ok(()),
        }
    }

    /// O5.
    fn room_is_given(&self, world: &World) -> Result<(), Broken> {
        // Who is about to get another version waits for that, too.
        let changes =
            |open: &Rotation| matches!(open.phase, Phase::Performing { .. } | Phase::Staging);
        if !self.restarts.is_empty() || world.open_rotations().any(changes) {
            return Ok(());
        }
        for rollout in world.rollouts.values() {
            let waiting = first_waiting(rollout);
            hold(waiting.is_none(), "O5", || {
                format!("{waiting:?} has no leave, and nothing restarts")
            })?;
        }
        Ok(())
    }

    /// After every step: what hosts did of all that (O1, O4, O6).
    pub(crate) fn hosts_heed_them(
        &self,
        hosts: &[Host],
        revocations: &Revocations,
    ) -> Result<(), Broken> {
        for host in hosts {
            let twice = host.orders.twice;
            hold(twice.is_none(), "O1", || {
                format!("host {}: the engine did order {twice:?} twice", host.n)
            })?;
            for container in host.containers.values() {
                let key = (host.id, container.id.clone());
                let Some(apart) = self.quarantines.get(&key) else {
                    continue;
                };
                let (given, number) = (container.given, apart.number);
                hold(given < number, "O4", || {
                    format!(
                        "{key:?} is in quarantine by {number}, and was given something by {given}"
                    )
                })?;
                let lost = container.lost.values().map(|copy| copy.there);
                let mut known = lost.filter(|value| apart.had.contains(value));
                let gone = known.find(|value| revocations.is_withdrawn(host.id, *value));
                hold(gone.is_none(), "O6", || {
                    format!("{key:?} has {gone:?} in a variable, and its host counts as rid of it")
                })?;
            }
        }
        Ok(())
    }
}

/// Whether a host's report says so; how else an order fails, or is taken back, the core says.
fn is_told(
    known: &Open,
    container: &ContainerId,
    outcome: &OrderOutcome,
    command: &Command,
) -> bool {
    let is_state = |state: &OrderState| match outcome {
        OrderOutcome::Done => *state == OrderState::Done,
        OrderOutcome::Gone => *state == OrderState::Gone,
        OrderOutcome::Failed { .. } | OrderOutcome::Withdrawn => true,
    };
    if matches!(
        outcome,
        OrderOutcome::Failed { .. } | OrderOutcome::Withdrawn
    ) {
        return true;
    }
    let Command::Report(report) = command else {
        return false;
    };
    let mut told = report.orders.iter().flatten();
    told.any(|told| {
        let is_it = told.number == known.number && told.container == *container;
        is_it && is_state(&told.state)
    })
}

/// Who waits and could have leave, while nobody has any and nobody else is down.
fn first_waiting(rollout: &Rollout) -> Option<(&Instance, &Member)> {
    let is_free = rollout.leaves() == 0;
    let unavailable = rollout.unavailable();
    let mut members = rollout.members.iter().filter(|_| is_free);
    members.find(|(_, member)| {
        let may = member.stage == Stage::Waiting && !rollout.has_failed(&member.due);
        may && (member.is_down || unavailable == 0)
    })
}
