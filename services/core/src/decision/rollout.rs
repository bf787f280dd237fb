//! Decisions of rollouts: which container may restart, and what a failed restart means for a rotation.
//!
//! Invariants: leave is given only within the smallest room of the bindings concerned and within that of
//! the host (for a restart that may begin at once), and never for a
//! version that the service did not run well with; a repeated report gives no event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::report::Moved;
use super::{Context, Rejection};
use crate::assignment::{self, Assignment};
use crate::binding::{Reload, Rollout as Policy, Spec};
use crate::event::Event;
use crate::id::{BindingId, HostId, RotationId, SecretId};
use crate::report::{HostReport, MAX_REPORT_ITEMS, RestartState, RestartWish};
use crate::rollout::{self, Due, Instance, MAX_LEAVES_PER_HOST, Member, Rollout, Service, Stage};
use crate::rotation::{self, Phase, Rotation, Step};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::world::World;

mod back;
mod orders;
pub(super) mod waiting;

/// Ids that one rotation which is turned back may draw: more than hosts.
const DRAWN_PER_ROTATION: u32 = 1 << 16;

/// A restart that went wrong.
#[derive(Debug, Clone)]
struct Failure {
    instance: Instance,
    due: Vec<Due>,
    reason: String,
}

/// Rollouts as they are after what was decided so far.
pub(super) struct Draft<'w> {
    world: &'w World,
    now: Timestamp,
    changed: BTreeMap<Service, Rollout>,
    /// Services that may have room now.
    touched: BTreeSet<Service>,
    failures: Vec<Failure>,
    /// Ordered restarts that end with what is decided.
    ended: BTreeSet<Instance>,
    /// Rotations that hold up no restart and whose deadline stays: what becomes of them is decided here.
    decided: BTreeSet<RotationId>,
    deadlines: BTreeMap<RotationId, Timestamp>,
    events: Vec<Event>,
}

impl<'w> Draft<'w> {
    pub(super) fn of(world: &'w World, now: Timestamp) -> Self {
        Self {
            world,
            now,
            changed: BTreeMap::new(),
            touched: BTreeSet::new(),
            failures: Vec::new(),
            ended: BTreeSet::new(),
            decided: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    fn state(&self, service: &Service) -> Option<&Rollout> {
        let known = || self.world.rollouts.get(service);
        self.changed.get(service).or_else(known)
    }

    fn push(&mut self, service: &Service, event: rollout::Event) {
        let world = self.world;
        let known = || world.rollouts.get(service).cloned().unwrap_or_default();
        let rollout = self.changed.entry(service.clone()).or_insert_with(known);
        rollout.evolve(0, &event);
        self.touched.insert(service.clone());
        self.events.push(Event::Rollout(service.clone(), event));
    }

    /// Takes what a host says about restarts.
    pub(super) fn take(&mut self, report: &HostReport) {
        let mut named = BTreeSet::new();
        let mut room = MAX_REPORT_ITEMS.saturating_sub(self.members_of(report.host));
        let wishes = report.restarts.iter().take(MAX_REPORT_ITEMS);
        // Who started on its own matters once somebody waits.
        let (own, asking): (Vec<_>, Vec<_>) =
            wishes.partition(|wish| wish.state == RestartState::UnderWay);
        for wish in asking.into_iter().chain(own) {
            named.insert(&wish.container);
            self.take_wish(report.host, wish, &mut room);
        }
        let world = self.world;
        for (service, rollout) in &world.rollouts {
            let own = |instance: &&Instance| instance.host == report.host;
            let mut members = rollout.members.keys().filter(own).peekable();
            if members.peek().is_some() {
                self.touched.insert(service.clone());
            }
            for instance in members {
                if report.complete && !named.contains(&instance.container) {
                    self.settle(service, instance);
                }
            }
        }
    }

    fn settle(&mut self, service: &Service, instance: &Instance) {
        let settled = rollout::Event::Settled {
            instance: instance.clone(),
            at: self.now,
        };
        self.push(service, settled);
    }

    /// How many members of a host are known, over all services.
    fn members_of(&self, host: HostId) -> usize {
        let rollouts = self.world.rollouts.values();
        let members = rollouts.flat_map(|rollout| rollout.members.keys());
        members.filter(|instance| instance.host == host).count()
    }

    /// A host's new member takes room; without any it is passed over.
    fn take_wish(&mut self, host: HostId, wish: &RestartWish, room: &mut usize) {
        let service = Service::of(&wish.image_digest, &wish.service);
        let Some(event) = self.news_of(host, &service, wish) else {
            return;
        };
        let known = self.state(&service);
        let member = known.and_then(|rollout| rollout.members.get(event.instance()));
        let has_leave = member.is_some_and(Member::has_leave);
        if member.is_none() {
            let Some(left) = room.checked_sub(1) else {
                return;
            };
            *room = left;
        }
        if let rollout::Event::Failed {
            instance,
            due,
            reason,
            ..
        } = &event
        {
            self.failures.push(Failure {
                instance: instance.clone(),
                due: due.clone(),
                reason: reason.clone(),
            });
        }
        let is_asked_anew = has_leave && matches!(event, rollout::Event::Asked { .. });
        self.push(&service, event.clone());
        // The leave it has may be used up, and its room is taken either way.
        if let rollout::Event::Asked { instance, due, .. } = event
            && is_asked_anew
            && !self
                .state(&service)
                .is_some_and(|rollout| rollout.has_failed(&due))
        {
            let policy = smallest(self.world, due.iter());
            self.give_one(&service, &instance, &due, policy);
        }
    }

    /// What a wish means for its service's rollout, if it is news.
    fn news_of(
        &self,
        host: HostId,
        service: &Service,
        wish: &RestartWish,
    ) -> Option<rollout::Event> {
        let instance = Instance {
            host,
            container: wish.container.clone(),
        };
        let container_name = wish.container_name.clone();
        let granted = |due: &&Due| self.is_granted(host, due);
        let due: Vec<Due> = wish.due.iter().filter(granted).copied().collect();
        let known = self.state(service);
        let member = known.and_then(|rollout| rollout.members.get(&instance));
        let is_rolling = known.is_some_and(|rollout| !rollout.members.is_empty());
        match &wish.state {
            RestartState::Due => {
                // With what it failed for it does not ask again.
                let is_new = |member: &Member| {
                    member.due != due || member.stage == Stage::Unwell || member.may_ask_again
                };
                let is_news = member.is_none_or(is_new);
                (is_news && !due.is_empty()).then_some(rollout::Event::Asked {
                    instance,
                    container_name,
                    due,
                })
            }
            RestartState::UnderWay => {
                let is_news = match member {
                    None => is_rolling,
                    Some(member) => member.stage == Stage::Waiting,
                };
                is_news.then_some(rollout::Event::Unwell {
                    instance,
                    container_name,
                })
            }
            RestartState::Failed { reason } => {
                let due = self.brought(member, &instance, &due);
                if due.is_empty() {
                    let is_news = member.map_or(is_rolling, |member| !member.is_down);
                    return is_news.then_some(rollout::Event::Unwell {
                        instance,
                        container_name,
                    });
                }
                let is_known = member.is_some_and(|member| {
                    member.due == due && matches!(member.stage, Stage::Failed(_))
                });
                (!is_known).then(|| rollout::Event::Failed {
                    instance,
                    container_name,
                    due,
                    reason: reason.clone(),
                })
            }
        }
    }

    /// What was new with the restart that went wrong: what else the container holds is not to blame.
    fn brought(&self, member: Option<&Member>, instance: &Instance, due: &[Due]) -> Vec<Due> {
        let is_asked = |due: &&Due| member.is_some_and(|member| member.due.contains(due));
        let asked: Vec<Due> = due.iter().filter(is_asked).copied().collect();
        if !asked.is_empty() {
            return asked;
        }
        let is_awaited = |due: &&Due| {
            let open = self.world.open_rotation(due.secret);
            open.is_some_and(|open| {
                open.wanted() == due.version
                    && open.waiting.contains(&key_of(self.world, instance, due))
            })
        };
        due.iter().filter(is_awaited).copied().collect()
    }

    /// Gives leave; `true` when it counts at once.
    fn give_one(
        &mut self,
        service: &Service,
        instance: &Instance,
        due: &[Due],
        policy: Policy,
    ) -> bool {
        let rested = self.state(service).and_then(|rollout| rollout.rested_at);
        let rests_until = rested.map(|at| at.plus(policy.delay));
        let not_before = rests_until.filter(|at| *at > self.now);
        let given = rollout::Event::LeaveGiven {
            instance: instance.clone(),
            not_before,
        };
        self.push(service, given);
        self.move_deadlines(instance, due, not_before.unwrap_or(self.now));
        not_before.is_none()
    }

    /// A restart is asked for by a binding that says so, for a host and a secret that it means.
    fn is_granted(&self, host: HostId, due: &Due) -> bool {
        let named = self.world.live_host(host).map(|host| &host.name);
        let spec = spec_of(self.world, due.binding);
        spec.zip(named).is_some_and(|(spec, name)| {
            self.world.gives(spec, due.secret)
                && spec.selector.means_host(name)
                && policy_of(spec).is_some()
        })
    }

    /// The restart that went wrong with what a rotation brings, in a container that it waits for.
    pub(super) fn failure_of(&self, open: &Rotation) -> Option<(assignment::Key, String)> {
        self.failures.iter().find_map(|failure| {
            let is_brought = |due: &&Due| due.secret == open.secret && due.version == open.wanted();
            let brought = failure.due.iter().filter(is_brought);
            let mut keys = brought.map(|due| key_of(self.world, &failure.instance, due));
            let key = keys.find(|key| open.waiting.contains(key))?;
            Some((key, failure.reason.clone()))
        })
    }

    /// Whether a container restarts for the secret of a rotation that goes back, or is down since: no version dies
    /// that it may need. What only canaries had nobody else needs.
    pub(super) fn is_moving(&self, open: &Rotation) -> bool {
        let services: BTreeSet<&Service> = self
            .world
            .rollouts
            .keys()
            .chain(self.changed.keys())
            .collect();
        let rollouts = services.into_iter().filter_map(|one| self.state(one));
        let mut members = rollouts.flat_map(|rollout| &rollout.members);
        members.any(|(instance, member)| {
            let is_about = member.due.iter().any(|due| due.secret == open.secret);
            is_about && member.is_unavailable() && open.may_have(instance)
        })
    }

    /// What becomes of a rotation is decided elsewhere in this command.
    pub(super) fn pass_over(&mut self, rotation: RotationId) {
        self.decided.insert(rotation);
    }

    /// A host is trusted with nothing any more.
    pub(super) fn forget_host(&mut self, host: HostId) {
        let world = self.world;
        for (service, rollout) in &world.rollouts {
            for instance in rollout.members.keys().filter(|one| one.host == host) {
                self.settle(service, instance);
            }
        }
    }

    /// Every service may have room now.
    pub(super) fn touch_all(&mut self) {
        self.touched.extend(self.world.rollouts.keys().cloned());
    }

    /// Gives leave where there is room, and says all that was decided.
    pub(super) fn give(mut self) -> Vec<Event> {
        if self.touched.is_empty() {
            return self.events;
        }
        let mut leaves = self.leaves_by_host();
        for service in std::mem::take(&mut self.touched) {
            while let Some((instance, due, policy)) = self.next_in(&service, &leaves) {
                if self.give_one(&service, &instance, &due, policy) {
                    *leaves.entry(instance.host).or_default() += 1;
                }
            }
        }
        self.events
    }

    /// How many containers of each host may restart now, over all services. Whose time is yet to come
    /// takes no place from another meanwhile.
    fn leaves_by_host(&self) -> BTreeMap<HostId, usize> {
        let known = self.world.rollouts.keys().chain(self.changed.keys());
        let services: BTreeSet<&Service> = known.collect();
        let rollouts = services.into_iter().filter_map(|one| self.state(one));
        let members = rollouts.flat_map(|rollout| &rollout.members);
        let mut leaves = self.ordered_by_host();
        let may_restart = |member: &Member| match &member.stage {
            Stage::Leave { not_before, .. } => not_before.is_none_or(|at| at <= self.now),
            _ => false,
        };
        for (instance, _) in members.filter(|(_, member)| may_restart(member)) {
            *leaves.entry(instance.host).or_default() += 1;
        }
        leaves
    }

    /// Who gets the next leave of a service, and within which policy.
    fn next_in(
        &self,
        service: &Service,
        on_hosts: &BTreeMap<HostId, usize>,
    ) -> Option<(Instance, Vec<Due>, Policy)> {
        let rollout = self.state(service)?;
        let ordered = self.ordered_in(service);
        let (leaves, unavailable) = (rollout.leaves() + ordered, rollout.unavailable() + ordered);
        let open = rollout.members.values().filter(|member| member.has_leave());
        let open: Vec<&Due> = open.flat_map(|member| &member.due).collect();
        let is_ready = |(instance, member): &(&Instance, &Member)| {
            member.stage == Stage::Waiting
                && !rollout.has_failed(&member.due)
                && !self.is_about_to_change(instance)
        };
        let mut waiting: Vec<(&Instance, &Member)> =
            rollout.members.iter().filter(is_ready).collect();
        // Who is down already comes first, and takes no room.
        waiting.sort_by_key(|(_, member)| !member.is_down);
        waiting.into_iter().find_map(|(instance, member)| {
            let on_host = on_hosts.get(&instance.host).copied().unwrap_or(0);
            if on_host >= MAX_LEAVES_PER_HOST {
                return None;
            }
            let concerned = open.iter().copied().chain(&member.due);
            let policy = smallest(self.world, concerned);
            let has_room = fits(leaves, policy.max_parallel)
                && (member.is_down || fits(unavailable, policy.max_unavailable));
            has_room.then(|| (instance.clone(), member.due.clone(), policy))
        })
    }

    /// Whether another secret of the container is about to change: then one restart serves both.
    fn is_about_to_change(&self, instance: &Instance) -> bool {
        let key = |binding, also| assignment::Key {
            host: instance.host,
            container: instance.container.clone(),
            binding,
            also,
        };
        let first = key(BindingId::from_bytes([0; 16]), None);
        let last = SecretId::from_bytes([0xff; 16]);
        let last = key(BindingId::from_bytes([0xff; 16]), Some(last));
        let mut held = self.world.assignments.range(first..=last);
        held.any(|(key, held)| {
            let spec = spec_of(self.world, key.binding);
            let open = self.world.open_rotation(held.secret);
            spec.is_some_and(|spec| matches!(spec.reload, Reload::Restart { .. }))
                && open.is_some_and(|open| {
                    !self.decided.contains(&open.id) && is_before_promotion(&open.phase)
                })
        })
    }

    /// Whoever has leave is given time: the wait for consumers ends later.
    fn move_deadlines(&mut self, instance: &Instance, due: &[Due], begins: Timestamp) {
        for due in due {
            let Some(open) = self.world.open_rotation(due.secret) else {
                continue;
            };
            let key = key_of(self.world, instance, due);
            let moves = matches!(open.phase, Phase::Distributing | Phase::Canary);
            let waits = moves && open.waiting.contains(&key);
            if !waits || self.decided.contains(&open.id) {
                continue;
            }
            let deadline = waiting::ends_at(self.world, open.secret, due.binding, begins);
            let known = self.deadlines.get(&open.id).copied().or(open.deadline);
            if known.is_some_and(|known| known >= deadline) {
                continue;
            }
            self.deadlines.insert(open.id, deadline);
            let moved = rotation::Event::DeadlineMoved { deadline };
            self.events.push(Event::Rotation(open.id, moved));
        }
    }
}

fn key_of(world: &World, instance: &Instance, due: &Due) -> assignment::Key {
    let container = (instance.host, &instance.container);
    world.consumer_key(container, due.binding, due.secret)
}

fn spec_of(world: &World, binding: BindingId) -> Option<&Spec> {
    world.bindings.get(&binding)?.spec.as_ref()
}

fn policy_of(spec: &Spec) -> Option<Policy> {
    match &spec.reload {
        Reload::Restart { rollout, .. } => *rollout,
        _ => None,
    }
}

pub(super) fn longest_restart(spec: &Spec) -> Duration {
    match &spec.reload {
        Reload::Restart {
            settle,
            health_timeout,
            rollout,
        } => {
            let monitor = rollout.map_or(Duration::ZERO, |policy| policy.monitor);
            settle.max(health_timeout).saturating_add(monitor)
        }
        _ => Duration::ZERO,
    }
}

/// The strictest of what the bindings of these ask for.
fn smallest<'d>(world: &World, concerned: impl Iterator<Item = &'d Due>) -> Policy {
    let policies = concerned.filter_map(|due| policy_of(spec_of(world, due.binding)?));
    policies.reduce(Policy::stricter).unwrap_or_default()
}

fn fits(taken: usize, most: u32) -> bool {
    u32::try_from(taken).is_ok_and(|taken| taken < most)
}

const fn is_before_promotion(phase: &Phase) -> bool {
    match phase {
        Phase::Performing { step, .. } => {
            matches!(step, Step::Create | Step::Set | Step::Test | Step::Finish)
        }
        Phase::Staging => true,
        // A canary restarts for it, and nobody else's restart waits for so long.
        Phase::Canary => false,
        Phase::Retrying { .. }
        | Phase::Distributing
        | Phase::Draining { .. }
        | Phase::Closed(_) => false,
    }
}

/// Leave that waited for a rotation which waits for its promotion no more.
pub(super) fn released(world: &World, rotation: RotationId, ctx: &Context) -> Vec<Event> {
    let mut draft = Draft::of(world, ctx.now);
    draft.pass_over(rotation);
    draft.touch_all();
    draft.give()
}

/// Halts a rotation whose version a consumer did not run well with; the version before is assigned
/// again everywhere, if it lives and was not what failed.
pub(super) fn turn_back(
    world: &World,
    open: &Rotation,
    (consumer, reason): (assignment::Key, String),
    moved: &Moved,
    (ctx, nth): (&Context, u32),
) -> Result<Vec<Event>, Rejection> {
    let halted = rotation::Event::Halted { consumer, reason };
    let mut events = vec![Event::Rotation(open.id, halted)];
    events.extend(
        move_back(world, open, moved, (ctx, nth))?
            .into_iter()
            .flatten(),
    );
    Ok(events)
}

/// Makes the version before current again and assigns it everywhere; `None` when there is none alive.
pub(super) fn move_back(
    world: &World,
    open: &Rotation,
    moved: &Moved,
    (ctx, nth): (&Context, u32),
) -> Result<Option<Vec<Event>>, Rejection> {
    let Some(secret) = world.secrets.get(&open.secret) else {
        return Ok(None);
    };
    // After a cut-over the version before opens nothing any more.
    let is_way_back = |back: &u64| {
        open.returning.is_none()
            && *back < open.version
            && secret.is_deliverable(*back)
            && secret.has_way_back()
    };
    let Some(back) = secret.previous.filter(is_way_back) else {
        return Ok(None);
    };
    let mut events = vec![Event::Secret(secret.id, secret.decide_return(back)?)];
    let first = nth.saturating_mul(DRAWN_PER_ROTATION).saturating_add(1);
    events.extend(back::grants(world, secret, back, (ctx, first))?);
    let mut consumers = Vec::new();
    for (key, state) in consumers_of(world, secret, moved) {
        let assigned = assignment::Event::Assigned {
            secret: secret.id,
            version: back,
            container_name: state.container_name.clone(),
            image_digest: state.image_digest.clone(),
        };
        let mut after = state.clone();
        after.evolve(&assigned);
        let level = spec_of(world, key.binding)
            .filter(|spec| world.gives(spec, secret.id))
            .map(Spec::ack_level);
        if level.is_some_and(|level| !after.has_reached(back, level)) {
            consumers.push(key.clone());
        }
        events.push(Event::Assignment(key.clone(), assigned));
    }
    let specs = world.bindings.values().filter_map(|one| one.spec.as_ref());
    let own = specs.filter(|spec| world.gives(spec, secret.id));
    let takes = own.map(longest_restart).max().unwrap_or_default();
    let granted = |(host, version): &(HostId, u64)| (*version == open.version).then_some(*host);
    let turned = rotation::Event::TurnedBack {
        version: back,
        consumers,
        hosts: secret.delivered.keys().filter_map(granted).collect(),
        deadline: ctx
            .now
            .plus(secret.spec.rotation.ack_deadline().saturating_add(takes)),
    };
    events.push(Event::Rotation(open.id, turned));
    Ok(Some(events))
}

/// Everybody who is served the secret, as they are after the report.
fn consumers_of<'a>(
    world: &'a World,
    secret: &Secret,
    moved: &'a Moved,
) -> BTreeMap<&'a assignment::Key, &'a Assignment> {
    let known = world.consumers(secret.id).chain(moved.iter());
    let mut all: BTreeMap<&assignment::Key, &Assignment> = BTreeMap::new();
    for (key, state) in known {
        all.insert(key, moved.get(key).unwrap_or(state));
    }
    all.retain(|_, state| state.secret == secret.id && state.is_live() && !state.is_unserved());
    all
}
