//! What has to hold of every revocation that began (X1 to X5).
//!
//! Truth by the events in their order, and beside them what hosts hold and what the server lets in. The core's own
//! state of a revocation is compared with it where one may not be lost, and asked for nothing else.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::assignment;
use keywheel_core::audit::Principal;
use keywheel_core::command::Command;
use keywheel_core::effect::{Effect, Part, StepWork, Work};
use keywheel_core::event::Event;
use keywheel_core::id::{HostId, RevocationId, SecretId};
use keywheel_core::plan::HostPlan;
use keywheel_core::revocation;
use keywheel_core::rotation::{Rotation, Step};
use keywheel_core::secret;
use keywheel_core::world::World;
use keywheel_engine::port::journal::RecordedEvent;

use crate::host::Host;
use crate::invariants::{Broken, Now, hold};
use crate::scene::{Form, Reach, form_of};
use crate::steps::run;
use crate::store::Value;

/// What the events say of revocations.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// Highest version of a secret.
    staged: BTreeMap<SecretId, u64>,
    /// Since which number of the log a version is dead.
    died: BTreeMap<Value, u64>,
    /// What hosts were granted while it was alive.
    granted: BTreeSet<(HostId, Value)>,
    /// What hosts showed to hold no more.
    withdrawn: BTreeSet<(HostId, Value)>,
    /// What was ever to be made unusable.
    revoked: BTreeSet<Value>,
    courses: BTreeMap<RevocationId, Course>,
}

/// How far one revocation is.
#[derive(Debug, Default)]
struct Course {
    values: Vec<Value>,
    /// Whether a login has to show it.
    is_to_prove: bool,
    /// Hosts that may hold one of them.
    waiting: BTreeSet<HostId>,
    /// Whether the server said that it made them unusable, and no login showed otherwise since.
    is_confirmed: bool,
    /// Whether a login was refused with each, or none can tell.
    is_judged: bool,
    /// Whether none could tell.
    is_unknown: bool,
    /// Whoever would have it given up, as things are.
    first: Option<Principal>,
    /// Whether two did.
    is_forgotten: bool,
    is_destroyed: bool,
    is_closed: bool,
}

impl Revocations {
    /// Looks at one event that was appended; an end is what a rotation leaves, which nobody holds any more.
    pub(crate) fn see(
        &mut self,
        recorded: &RecordedEvent,
        is_end: bool,
        (command, now): (&Command, &Now<'_>),
    ) -> Result<(), Broken> {
        match &recorded.event {
            Event::Secret(id, event) => self.see_secret(*id, event, recorded.number),
            Event::Revocation(id, event) => {
                self.is_whole(event, command)?;
                self.see_revocation(*id, event, (is_end, now))
            }
            Event::Assignment(key, event) => self.see_assignment(key, event, command),
            _ => Ok(()),
        }
    }

    /// X2: a data key goes only once its version's revocation is that far.
    fn see_secret(
        &mut self,
        id: SecretId,
        event: &secret::Event,
        number: u64,
    ) -> Result<(), Broken> {
        match event {
            secret::Event::VersionStaged { version, .. } => {
                self.staged.insert(id, *version);
                Ok(())
            }
            secret::Event::VersionRevoked { version } => {
                self.died.entry((id, *version)).or_insert(number);
                Ok(())
            }
            secret::Event::Delivered { host, version, .. } => {
                self.granted.insert((*host, (id, *version)));
                Ok(())
            }
            secret::Event::VersionDestroyed { version } => {
                let value = (id, *version);
                let courses = self.courses.values();
                let mut own = courses.filter(|course| course.values.contains(&value));
                // Else a rotation ended it, and had its server's word.
                let may_go = own.all(|course| course.may_destroy() || !course.is_to_prove);
                hold(may_go, "X2", || {
                    format!("{value:?} is destroyed before its proof")
                })
            }
            _ => Ok(()),
        }
    }

    /// X4: a container is given nothing dead; what it had when that died may be told late.
    fn see_assignment(
        &self,
        key: &assignment::Key,
        event: &assignment::Event,
        command: &Command,
    ) -> Result<(), Broken> {
        let assignment::Event::Assigned {
            secret, version, ..
        } = event
        else {
            return Ok(());
        };
        let value = (*secret, *version);
        if !self.died.contains_key(&value) {
            return Ok(());
        }
        let is_told = matches!(command, Command::Report(_));
        let was_granted = self.granted.contains(&(key.host, value));
        hold(is_told && was_granted, "X4", || {
            format!("dead {value:?} is assigned to {key:?}")
        })
    }

    /// X1: who revokes all of a secret leaves nothing of it, also what a rotation is making.
    fn is_whole(&self, event: &revocation::Event, command: &Command) -> Result<(), Broken> {
        let is_all = matches!(command, Command::Revoke { version: None, .. });
        let revocation::Event::Requested { secret, .. } = event else {
            return Ok(());
        };
        let last = self.staged.get(secret).copied().filter(|_| is_all);
        let mut versions = 1..=last.unwrap_or(0);
        let alive = versions.find(|version| !self.died.contains_key(&(*secret, *version)));
        hold(alive.is_none(), "X1", || {
            format!("all of {secret} is revoked, and {alive:?} lives on")
        })
    }

    fn see_revocation(
        &mut self,
        id: RevocationId,
        event: &revocation::Event,
        (is_end, now): (bool, &Now<'_>),
    ) -> Result<(), Broken> {
        if let revocation::Event::Requested {
            secret,
            versions,
            hosts,
            is_to_prove,
            ..
        } = event
        {
            let values = versions.iter().map(|version| (*secret, *version));
            let course = Course {
                values: values.collect(),
                is_to_prove: *is_to_prove,
                waiting: hosts.iter().copied().collect(),
                ..Course::default()
            };
            return self.begin(id, course, (is_end, now));
        }
        let Some(course) = self.courses.get_mut(&id) else {
            let text = format!("{event:?} of {id}, which nobody requested");
            return Err(Broken::new("X3", text));
        };
        course.see(event, now)?;
        if let revocation::Event::WithdrawnOnHost { host } = event {
            let values = course.values.iter().map(|value| (*host, *value));
            self.withdrawn.extend(values);
        }
        Ok(())
    }

    /// X2: what is to be made unusable is dead before all else, and every host is waited for that has it.
    fn begin(
        &mut self,
        id: RevocationId,
        course: Course,
        (is_end, now): (bool, &Now<'_>),
    ) -> Result<(), Broken> {
        let alive = course.values.iter();
        let alive = alive.copied().find(|value| !self.died.contains_key(value));
        hold(alive.is_none(), "X2", || {
            format!("revocation {id} is about {alive:?}, which is delivered on")
        })?;
        let live = now.hosts.iter();
        let live = live.filter(|host| now.world.live_host(host.id).is_some());
        for host in live.filter(|_| !is_end) {
            let is_told = course.waiting.contains(&host.id);
            let has = held(host).find(|value| course.values.contains(value));
            hold(is_told || has.is_none(), "X2", || {
                format!("revocation {id} does not wait for host {}: {has:?}", host.n)
            })?;
        }
        self.revoked.extend(&course.values);
        let before = self.courses.insert(id, course);
        hold(before.is_none(), "X3", || {
            format!("revocation {id} begins twice")
        })
    }

    /// X2: store-sync is asked to destroy only what may go.
    pub(crate) fn may_perform(&self, effect: &Effect) -> Result<(), Broken> {
        let Work::Revoke(work) = &effect.work else {
            return Ok(());
        };
        let course = self.courses.get(&work.revocation);
        let may_go = |course: &Course| match work.part {
            Part::Disable | Part::Prove => course.is_to_prove,
            Part::Whole => !course.is_to_prove,
            Part::Destroy => course.may_destroy(),
        };
        hold(course.is_some_and(may_go), "X2", || {
            format!("{work:?} is asked for, and stands as {course:?}")
        })
    }

    /// After an append: no rotation brings what was revoked (X1), and no revocation is lost or ends by itself (X3).
    pub(crate) fn are_kept(&self, world: &World) -> Result<(), Broken> {
        for open in world.open_rotations() {
            let brings = (open.secret, open.version);
            hold(!self.revoked.contains(&brings), "X1", || {
                format!("rotation {} brings {brings:?}, which was revoked", open.id)
            })?;
        }
        let open = self.courses.iter();
        for (id, course) in open.filter(|(_, course)| !course.is_closed) {
            let known = world.revocations.get(id);
            hold(known.is_some_and(|known| !known.closed), "X3", || {
                format!("revocation {id} is open, and the core has {known:?} of {course:?}")
            })?;
        }
        Ok(())
    }

    /// X2: no rotation that runs has a value destroyed that a revocation needs for its proof.
    pub(crate) fn are_left_alone<'e>(
        &self,
        world: &World,
        open: impl Iterator<Item = &'e Effect>,
    ) -> Result<(), Broken> {
        let steps = open.filter_map(|effect| match &effect.work {
            Work::Step(work) if work.step == Step::RevokeOld => Some(work),
            _ => None,
        });
        let runs = |work: &&StepWork| {
            let rotation = world.rotations.get(&work.rotation);
            rotation.is_some_and(Rotation::is_open)
        };
        for work in steps.filter(runs) {
            let needs = |course: &&Course| {
                let mut own = course.values.iter();
                let is_hit = own.any(|(id, one)| *id == work.secret && work.versions.contains(one));
                is_hit && course.is_to_prove && !course.may_destroy()
            };
            let needed = self.courses.values().find(needs);
            hold(needed.is_none(), "X2", || {
                format!("rotation {} is to end what {needed:?} needs", work.rotation)
            })?;
        }
        Ok(())
    }

    /// Whether a host showed that it holds a revoked version no more.
    pub(crate) fn is_withdrawn(&self, host: HostId, value: Value) -> bool {
        self.withdrawn.contains(&(host, value))
    }

    /// After every step: what a host showed to hold no more does not come back, and what its plan was made after is
    /// the first that it heeds: it has nothing at hand that was dead by then (X5).
    pub(crate) fn hosts_heed_them(&self, hosts: &[Host]) -> Result<(), Broken> {
        for host in hosts {
            let mut had = held(host).map(|value| (host.id, value));
            let back = had.find(|one| self.withdrawn.contains(one));
            hold(back.is_none(), "X4", || {
                format!("host {} has {back:?} again", host.n)
            })?;
            let plan = host.plan.as_ref();
            let Some(plan) = plan.filter(|_| host.is_up && !host.needs_plan) else {
                continue;
            };
            let mut cached = host.cache.iter();
            let kept = cached.find(|value| self.was_dead(**value, plan));
            hold(kept.is_none(), "X5", || {
                let generation = plan.generation;
                format!(
                    "host {} has plan {generation}, and keeps dead {kept:?}",
                    host.n
                )
            })?;
        }
        Ok(())
    }

    /// After a host did what its plan says: no file of its containers has what was dead by then (X2).
    pub(crate) fn no_file_is_dead(&self, host: &Host) -> Result<(), Broken> {
        let Some(plan) = &host.plan else {
            return Ok(());
        };
        for container in host.containers.values() {
            for (binding, copy) in &container.copies {
                let mut planned = plan.bindings.iter();
                let planned = planned.find(|one| one.binding == *binding);
                let is_file = planned.is_some_and(|one| {
                    one.secret == copy.there.0 && form_of(&one.reload) != Form::Restart
                });
                let is_left = is_file && self.was_dead(copy.there, plan);
                hold(!is_left, "X2", || {
                    format!("host {} leaves dead {copy:?} where it is", host.n)
                })?;
            }
        }
        Ok(())
    }

    /// Whether a version was dead when a plan was made.
    fn was_dead(&self, value: Value, plan: &HostPlan) -> bool {
        let died = self.died.get(&value);
        died.is_some_and(|number| *number <= plan.generation)
    }

    /// What a server may let in all the same: two gave it up, or no login could tell.
    pub(crate) fn may_live(&self) -> BTreeSet<Value> {
        let courses = self.courses.values();
        let open = courses.filter(|course| course.is_forgotten || course.is_unknown);
        open.flat_map(|course| course.values.clone()).collect()
    }
}

impl Course {
    /// Its proof, or its server's word where none is to be had; or two principals gave it up.
    const fn may_destroy(&self) -> bool {
        self.is_forgotten || (self.is_confirmed && (self.is_judged || !self.is_to_prove))
    }

    fn see(&mut self, event: &revocation::Event, now: &Now<'_>) -> Result<(), Broken> {
        use revocation::Event as Of;
        match event {
            Of::Requested { .. } | Of::BackendFailed { .. } | Of::BackendRetried { .. } => {
                hold(!self.is_closed, "X3", || format!("{event:?} of {self:?}"))
            }
            Of::WithdrawnOnHost { host } => {
                self.is_clear(*host, now)?;
                self.release(*host)
            }
            Of::HostReleased { host } => {
                let is_live = now.world.live_host(*host).is_some();
                hold(!is_live, "X3", || {
                    format!("{host} is let go and was not evicted")
                })?;
                self.release(*host)
            }
            Of::WithdrawnEverywhere => hold(self.waiting.is_empty(), "X3", || {
                format!("{:?} are waited for still", self.waiting)
            }),
            Of::BackendConfirmed
            | Of::StillAccepted { .. }
            | Of::ProvenDead { .. }
            | Of::NotProvable { .. }
            | Of::Destroyed => self.see_server(event, now),
            Of::ForgetAsked { by, .. } => {
                self.first = Some(by.clone());
                Ok(())
            }
            Of::Forgotten { by, .. } => {
                let first = self.first.as_ref();
                let is_other = first.is_some_and(|first| uid_of(first) != uid_of(by));
                hold(is_other, "X3", || {
                    format!("{by:?} agrees with {first:?}, and nobody else does")
                })?;
                self.is_forgotten = true;
                Ok(())
            }
            Of::Closed => {
                let is_done = self.waiting.is_empty() && self.is_destroyed && self.may_destroy();
                hold(is_done, "X3", || format!("it is closed as {self:?}"))?;
                self.is_closed = true;
                Ok(())
            }
            // Nobody here asks for one.
            Of::ReplacementAwaited { .. } | Of::ReplacementGivenUp { .. } => Ok(()),
        }
    }

    /// What is told of the server's half; it makes the first word of two void.
    fn see_server(&mut self, event: &revocation::Event, now: &Now<'_>) -> Result<(), Broken> {
        use revocation::Event as Of;
        self.first = None;
        match event {
            Of::BackendConfirmed => self.is_confirmed = true,
            Of::StillAccepted { .. } => self.is_confirmed = false,
            Of::ProvenDead { evidence } => {
                let secret = self.values.first().map(|value| value.0);
                let let_in = evidence.iter().find(|one| {
                    secret.is_some_and(|secret| now.store.accepted.contains(&(secret, one.version)))
                });
                let is_shown = self.is_to_prove && self.is_confirmed && !evidence.is_empty();
                hold(is_shown && let_in.is_none(), "X3", || {
                    format!("{self:?} is said to be dead, and the server lets {let_in:?} in")
                })?;
                self.is_judged = true;
            }
            Of::NotProvable { .. } => {
                hold(self.is_to_prove && self.is_confirmed, "X3", || {
                    format!("nobody looked yet at {self:?}")
                })?;
                (self.is_judged, self.is_unknown) = (true, true);
            }
            _ => {
                hold(self.may_destroy(), "X2", || {
                    format!("destroyed before its proof: {self:?}")
                })?;
                self.is_destroyed = true;
            }
        }
        Ok(())
    }

    fn release(&mut self, host: HostId) -> Result<(), Broken> {
        hold(self.waiting.remove(&host), "X3", || {
            format!("{host} is let go twice")
        })
    }

    /// X2: what is said of a host is so.
    fn is_clear(&self, host: HostId, now: &Now<'_>) -> Result<(), Broken> {
        let mut hosts = now.hosts.iter();
        let known = hosts.find(|known| known.id == host);
        let mut had = known.into_iter().flat_map(held);
        let has = had.find(|value| self.values.contains(value));
        hold(has.is_none(), "X2", || {
            format!("{host} is said to hold none, and has {has:?}")
        })
    }
}

/// What lies on a host, sealed or not.
fn held(host: &Host) -> impl Iterator<Item = Value> {
    let containers = host.containers.values();
    let copies = containers.flat_map(|one| one.copies.values());
    // What is found again was nobody's to tell of: `orders` holds that to what is known.
    let told = copies.filter(|copy| !copy.is_found);
    let there = told.map(|copy| copy.there);
    there.chain(host.cache.iter().copied())
}

/// Whom the kernel takes a user for, whatever its name was then.
const fn uid_of(principal: &Principal) -> Option<u32> {
    match principal {
        Principal::User { uid, .. } => Some(*uid),
        _ => None,
    }
}

/// Runs in which everything that is held here has to happen.
const LOOKED_AT: u64 = 200;

/// What a revocation came to, where runs have to come to it.
const fn turn_of(event: &Event) -> Option<&'static str> {
    use revocation::Event as Of;
    let Event::Revocation(_, event) = event else {
        return None;
    };
    match event {
        Of::ProvenDead { .. } => Some("proven dead"),
        Of::StillAccepted { .. } => Some("let in after all"),
        Of::NotProvable { .. } => Some("not provable"),
        Of::ForgetAsked { .. } => Some("given up by one"),
        Of::Forgotten { .. } => Some("given up by two"),
        Of::HostReleased { .. } => Some("a host was evicted"),
        Of::WithdrawnEverywhere => Some("withdrawn everywhere"),
        Of::BackendRetried { .. } => Some("tried again"),
        Of::Requested { .. }
        | Of::WithdrawnOnHost { .. }
        | Of::BackendConfirmed
        | Of::BackendFailed { .. }
        | Of::Destroyed
        | Of::ReplacementAwaited { .. }
        | Of::ReplacementGivenUp { .. }
        | Of::Closed => None,
    }
}

/// A rule about what never happens would hold of itself.
#[test]
fn revocations_take_every_turn_that_there_is() {
    let mut seen = BTreeSet::new();
    for seed in 0..LOOKED_AT {
        let run = run(seed, Reach::Whole, None, false);
        let log = run.sim.gateway.log.iter();
        seen.extend(log.filter_map(|recorded| turn_of(&recorded.event)));
    }
    let all = [
        "a host was evicted",
        "given up by one",
        "given up by two",
        "let in after all",
        "not provable",
        "proven dead",
        "tried again",
        "withdrawn everywhere",
    ];
    assert!(seen.iter().eq(&all), "{seen:?}");
}
