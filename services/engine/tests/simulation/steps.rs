//! What may happen next, and how a run goes: everybody begins well, then anything happens, then everybody
//! behaves again and all that was begun has to end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::{RevocationId, RotationId, SlotId};
use keywheel_core::report::HostReport;
use keywheel_core::revocation::Backend;
use keywheel_core::rotation::{ACK_DEADLINE, Phase, Rotation};
use keywheel_core::time::Timestamp;
use keywheel_engine::authority::may_submit;

use crate::invariants::{Broken, all_is_well};
use crate::planted::Planted;
use crate::scene::{
    BINDINGS, CONTAINERS, HOSTS, Reach, SECRETS, apply_binding, apply_leased, apply_leased_binding,
    apply_secret, binding_name, secret_id, secret_name,
};
use crate::sim::{Message, Sim};

/// Steps in which anything may happen.
const STEPS: usize = 80;
/// Rounds after which all must have ended when everybody behaves.
const HEALED_AFTER: usize = 100;
/// The same where runs of playbooks begin one rotation after the other.
const PLAYED_AFTER: usize = 250;
/// Rounds after each of which people go on with what waits for them.
const MENDED_EVERY: usize = 12;
/// Rounds after which every program catches its signal; until then rotations may wait for some.
const CATCH_AFTER: usize = 4;
/// Messages that one round may take when everybody behaves.
const MOST_MESSAGES: usize = 2000;
/// An hour, as a schedule has it.
const HOUR: i64 = 3_600_000_000;

/// What a run came to.
pub(crate) struct Run {
    pub(crate) broken: Option<Broken>,
    pub(crate) sim: Sim,
}

/// One run from its seed, as far as it comes.
pub(crate) fn run(seed: u64, reach: Reach, planted: Option<Planted>, is_traced: bool) -> Run {
    let mut sim = Sim::new(seed, reach, planted, is_traced);
    // What it panicked in is looked at no more; what it did up to there is.
    let lived = catch_unwind(AssertUnwindSafe(|| sim.live()));
    let panicked = || Broken::new("a panic", "its message is above".to_owned());
    let broken = lived.map_or_else(|_| Some(panicked()), Result::err);
    if let Some(broken) = &broken {
        let (rule, text) = (broken.rule, crate::words::short(&broken.text));
        sim.note(|| format!("BROKEN {rule}: {text}"));
    }
    Run { broken, sim }
}

impl Sim {
    fn live(&mut self) -> Result<(), Broken> {
        self.begin()?;
        // Some runs are quiet, in some much goes wrong.
        self.faults = [0, 50, 100, 200][self.random.below(4)];
        for _ in 0..STEPS {
            let pause = self.random.up_to(2000);
            self.now += Duration::from_millis(pause);
            self.some_come_back()?;
            self.step()?;
            self.runs_go_on()?;
            self.check()?;
        }
        self.heal()?;
        self.settle()?;
        // What the log says is what was known, and what is dead stays so.
        self.gateway.restart()?;
        self.nothing_is_back()?;
        let may_live = self.truth.may_live();
        all_is_well(self.gateway.world(), &self.hosts, (&self.store, &may_live))
    }

    /// Two secrets with a version each, served on both hosts.
    fn begin(&mut self) -> Result<(), Broken> {
        self.draw_wishes();
        let wishes = self.wishes;
        for n in 0..SECRETS {
            let rotation = RotationId::from_bytes(self.fresh(0xa0));
            self.person(apply_secret(n, rotation, &wishes));
        }
        for n in 0..BINDINGS {
            self.person(apply_binding(n, n % SECRETS, None, &wishes));
        }
        if wishes.leases {
            self.person(apply_leased());
            self.person(apply_leased_binding(None));
        }
        self.settle()?;
        for n in 0..HOSTS {
            self.start(n, 0);
            self.start(n, 1);
        }
        self.settle()?;
        self.begin_playbooks()?;
        self.rotate_all();
        if self.wishes.plays {
            self.somebody_runs(0)?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Broken> {
        let host = self.random.below(HOSTS);
        let place = self.random.below(CONTAINERS);
        // How often what happens, and how many messages come in a row.
        let (often, at_once) = match self.reach {
            Reach::First => (&[45, 14, 9, 3, 4, 4, 9, 7, 5, 1][..], 1),
            Reach::People => (&[60, 22, 9, 3, 4, 4, 12, 11, 5, 1][..], 3),
            Reach::Logins | Reach::Incidents | Reach::Defaults => {
                (&[60, 22, 9, 3, 4, 4, 12, 11, 5, 1, 3][..], 3)
            }
            Reach::Playbooks | Reach::Whole => {
                (&[60, 22, 9, 3, 4, 4, 12, 11, 5, 1, 3, 14, 12][..], 3)
            }
        };
        match self.random.weighted(often) {
            0 => {
                for _ in 0..at_once {
                    self.deliver_any()?;
                }
            }
            1 => {
                if self.random.permille(200) {
                    self.hosts[host].give_up_asking();
                }
                self.pass(host)?;
            }
            2 => self.start(host, place),
            3 => self.remove(host, place),
            4 => self.ask_plan(host),
            5 => self.tell_work(),
            6 => self.somebody_asks()?,
            7 => self.timer_fires()?,
            8 => self.something_breaks(host)?,
            9 => self.somebody_lies(host)?,
            10 => self.stop(host, place),
            11 => self.somebody_plays()?,
            _ => self.playbooks_go_on()?,
        }
        Ok(())
    }

    pub(crate) fn deliver_any(&mut self) -> Result<(), Broken> {
        if self.net.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.net.len());
        self.deliver(at)
    }

    fn remove(&mut self, n: usize, place: usize) {
        let id = self.command_id();
        if self.hosts[n].remove(place, id) {
            self.note(|| format!("host {n}: container {place} is removed"));
            self.report(n);
        }
    }

    fn stop(&mut self, n: usize, place: usize) {
        let id = self.command_id();
        if self.hosts[n].stop(place, id) {
            self.note(|| format!("host {n}: container {place} ends"));
            self.report(n);
        }
    }

    pub(crate) fn person(&mut self, command: Command) {
        let command = self.of_person(command);
        self.send(Message::Command(command));
    }

    pub(crate) fn timer(&mut self, command: Command) {
        let command = self.of_service(Role::Scheduler, command);
        self.send(Message::Command(command));
    }

    fn somebody_asks(&mut self) -> Result<(), Broken> {
        let n = self.random.below(SECRETS);
        let rotation = RotationId::from_bytes(self.fresh(0xa0));
        let often = match self.reach {
            Reach::First => &[40, 18, 10, 16, 8, 5][..],
            Reach::People => &[40, 18, 10, 16, 8, 5, 40, 8],
            Reach::Logins => &[40, 18, 10, 16, 8, 5, 40, 12, 15],
            Reach::Incidents | Reach::Defaults | Reach::Playbooks | Reach::Whole => {
                &[40, 18, 10, 16, 8, 5, 40, 12, 15, 14, 20]
            }
        };
        let command = match self.random.weighted(often) {
            0 => Command::Rotate {
                rotation,
                secret: secret_name(n),
            },
            1 => Command::Revoke {
                revocation: RevocationId::from_bytes(self.fresh(0xb0)),
                secret: secret_name(n),
                version: self.some_version(n),
                reason: "leaked".to_owned(),
                is_emergency: false,
            },
            2 => Command::Put {
                id: secret_id(n),
                rotation,
                name: secret_name(n),
                provided: self.random.permille(500),
            },
            3 => {
                let host = self.random.below(HOSTS * 3);
                let host = (host < HOSTS).then_some(host);
                let binding = self.random.below(BINDINGS);
                apply_binding(binding, n, host, &self.wishes)
            }
            4 => Command::Unbind {
                name: binding_name(self.random.below(BINDINGS)),
            },
            5 => Command::EvictHost {
                host: self.hosts[self.random.below(HOSTS)].id,
                reason: "stolen".to_owned(),
            },
            6 => match self.intervention() {
                Some(command) => command,
                None => return Ok(()),
            },
            7 => self.another_wish(n, rotation),
            9 => return self.incident(),
            10 => return self.give_up(),
            _ => {
                let revocation = RevocationId::from_bytes(self.fresh(0xb0));
                match self.wish_about_logins(rotation, revocation) {
                    Some(command) => command,
                    None => return Ok(()),
                }
            }
        };
        let command = self.of_person(command);
        self.say(command)
    }

    /// One of a secret's newest versions, or all that are alive.
    fn some_version(&mut self, n: usize) -> Option<u64> {
        let known = self.gateway.world().secrets.get(&secret_id(n));
        let last = known.map_or(0, |known| known.last_version);
        let back = self.random.up_to(3);
        (back < 3).then(|| last.saturating_sub(back))
    }

    fn timer_fires(&mut self) -> Result<(), Broken> {
        let often = match self.reach {
            Reach::First => &[40, 20, 15, 25][..],
            Reach::People => &[40, 15, 30, 20],
            _ => &[40, 15, 30, 20, 15, 15, 20],
        };
        match self.random.weighted(often) {
            0 => self.retry_steps(),
            1 => self.retry_revocations(),
            2 => self.deadlines_pass()?,
            3 => self.slot_is_due(),
            4 => self.lingers_end(),
            5 => self.look_at_logins(),
            _ => self.watches_end(),
        }
        Ok(())
    }

    fn retry_steps(&mut self) {
        let open = self.gateway.world().open_rotations();
        let waits =
            |phase: &Phase| matches!(phase, Phase::Retrying { .. } | Phase::Draining { .. });
        let failed = open.filter(|open| waits(&open.phase));
        let failed: Vec<RotationId> = failed.map(|open| open.id).collect();
        for rotation in failed {
            self.timer(Command::RetryStep { rotation });
        }
    }

    fn retry_revocations(&mut self) {
        let all = self.gateway.world().revocations.values();
        let failed = all.filter(|one| !one.closed && matches!(one.backend, Backend::Failed { .. }));
        let failed: Vec<RevocationId> = failed.map(|one| one.id).collect();
        for revocation in failed {
            self.timer(Command::RetryRevoke { revocation });
        }
    }

    fn deadlines_pass(&mut self) -> Result<(), Broken> {
        self.now += ACK_DEADLINE;
        let open = self.gateway.world().open_rotations();
        let waiting = open.filter(|open| {
            let waits = matches!(
                open.phase,
                Phase::Distributing | Phase::Staging | Phase::Canary
            );
            waits || open.is_draining()
        });
        let waiting: Vec<RotationId> = waiting.map(|open| open.id).collect();
        for rotation in waiting {
            let passed = Command::DeadlinePassed { rotation };
            let passed = self.of_service(Role::Scheduler, passed);
            self.say(passed)?;
        }
        Ok(())
    }

    /// Hosts are waited for before a cut-over only so long.
    fn staging_ends(&mut self) {
        let (open, now) = (self.gateway.world().open_rotations(), self.time());
        let late = |open: &&Rotation| open.deadline.is_some_and(|deadline| now >= deadline);
        let waiting = open.filter(|open| open.phase == Phase::Staging);
        let waiting: Vec<RotationId> = waiting.filter(late).map(|open| open.id).collect();
        for rotation in waiting {
            self.timer(Command::DeadlinePassed { rotation });
        }
    }

    /// Canaries are watched only so long.
    fn watches_end(&mut self) {
        let (open, now) = (self.gateway.world().open_rotations(), self.gateway_time());
        let late = |open: &&Rotation| open.deadline.is_some_and(|deadline| now >= deadline);
        let waiting = open.filter(|open| open.phase == Phase::Canary);
        let waiting: Vec<RotationId> = waiting.filter(late).map(|open| open.id).collect();
        for rotation in waiting {
            self.timer(Command::DeadlinePassed { rotation });
        }
    }

    /// Two schedulers see the same slot.
    fn slot_is_due(&mut self) {
        let n = self.random.below(SECRETS);
        let hour = self.time().micros() / HOUR;
        let mut slot = [0x51; 16];
        slot[0] = u8::try_from(n).unwrap();
        slot[8..].copy_from_slice(&hour.to_be_bytes());
        for _ in 0..2 {
            self.timer(Command::Due {
                rotation: RotationId::from_bytes(slot),
                secret: secret_id(n),
                slot: SlotId::from_bytes(slot),
                scheduled: Timestamp::from_micros(hour * HOUR),
                after: None,
                tzdata: None,
            });
        }
    }

    fn something_breaks(&mut self, n: usize) -> Result<(), Broken> {
        if !self.fails(400) {
            return self.deliver_any();
        }
        let often = match self.reach {
            Reach::Incidents | Reach::Defaults | Reach::Playbooks | Reach::Whole => {
                &[10, 25, 10, 25, 10, 10, 10, 16][..]
            }
            _ => &[10, 25, 10, 25, 10, 10, 10],
        };
        match self.random.weighted(often) {
            0 => {
                self.gateway.is_up = false;
                self.note(|| "the gateway is killed".to_owned());
            }
            1 => {
                self.hosts[n].kill();
                self.note(|| format!("host {n}: the injector is killed"));
            }
            2 => {
                let stays = self.reach >= Reach::Logins;
                self.hosts[n].lose_power(stays);
                self.note(|| format!("host {n} loses its power"));
            }
            3 => {
                self.hosts[n].is_cut = true;
                self.note(|| format!("host {n} is cut off"));
            }
            4 => {
                let day = 86_400_000_000;
                self.ahead = [-day, -60_000_000, 0, 60_000_000, day][self.random.below(5)];
                self.note(|| "the gateway's clock jumps".to_owned());
            }
            5 => {
                self.store.is_away = true;
                self.note(|| "the store is away".to_owned());
            }
            6 => {
                self.now += Duration::from_secs(13 * 3600);
                self.note(|| "thirteen hours pass".to_owned());
            }
            _ => {
                (self.store.is_away, self.store.is_away_long) = (true, true);
                self.note(|| "the store is away for long".to_owned());
            }
        }
        Ok(())
    }

    /// Whoever is away comes back after a while.
    fn some_come_back(&mut self) -> Result<(), Broken> {
        if !self.gateway.is_up && self.random.permille(250) {
            self.gateway.restart()?;
            self.note(|| "the gateway is back".to_owned());
            self.tell_work();
        }
        let often = if self.store.is_away_long { 10 } else { 150 };
        if self.store.is_away && self.random.permille(often) {
            (self.store.is_away, self.store.is_away_long) = (false, false);
            self.note(|| "the store is back".to_owned());
        }
        for n in 0..HOSTS {
            let (is_up, is_cut) = (self.hosts[n].is_up, self.hosts[n].is_cut);
            if (is_up && !is_cut) || !self.random.permille(150) {
                continue;
            }
            self.hosts[n].is_cut = false;
            self.hosts[n].come_back();
            self.note(|| format!("host {n} is back"));
            self.ask_plan(n);
        }
        Ok(())
    }

    /// A host speaks for another one; whoever receives that refuses it.
    fn somebody_lies(&self, n: usize) -> Result<(), Broken> {
        let other = self.hosts[(n + 1) % HOSTS].id;
        let lie = Command::Report(HostReport::empty(self.hosts[n].id));
        match may_submit(Role::Injector, Some(other), &lie) {
            false => Ok(()),
            true => Err(Broken::new("roles", format!("{other} speaks for host {n}"))),
        }
    }

    /// Everybody is there and behaves from now on.
    fn heal(&mut self) -> Result<(), Broken> {
        self.faults = 0;
        (self.store.is_away, self.store.is_away_long) = (false, false);
        self.note(|| "everybody behaves from now on".to_owned());
        if !self.gateway.is_up {
            self.gateway.restart()?;
        }
        for host in &mut self.hosts {
            host.is_cut = false;
            host.come_back();
        }
        if self.wishes.plays {
            self.people_care()?;
        }
        Ok(())
    }

    /// Goes on until nothing is left to be done (I7).
    pub(crate) fn settle(&mut self) -> Result<(), Broken> {
        let most = match self.wishes.plays {
            true => PLAYED_AFTER,
            false => HEALED_AFTER,
        };
        for round in 0..most {
            // With playbooks rotations begin later than that, and so may containers that were refused.
            if round == CATCH_AFTER || (self.wishes.plays && round > CATCH_AFTER) {
                self.all_catch();
            }
            self.now += Duration::from_secs(5);
            self.retry_steps();
            self.staging_ends();
            self.watches_end();
            self.lingers_end();
            self.look_at_logins();
            self.retry_revocations();
            if round > 0 && round.is_multiple_of(MENDED_EVERY) {
                self.mend();
                self.wait_out();
            }
            self.care_for_runs()?;
            self.tell_work();
            for n in 0..HOSTS {
                self.hosts[n].give_up_asking();
                self.ask_plan(n);
            }
            self.deliver_all()?;
            for n in 0..HOSTS {
                self.pass(n)?;
            }
            self.deliver_all()?;
            self.check()?;
            if self.is_calm() {
                if self.runs_are_over() {
                    return Ok(());
                }
                // Nothing but time ends what they wait for.
                self.wait_for_a_step();
            }
        }
        let world = self.gateway.world();
        let open: Vec<_> = world.open_rotations().collect();
        let revocations = world.revocations.values();
        let revocations: Vec<_> = revocations.filter(|one| !one.closed).collect();
        let runs: Vec<_> = world.open_runs().filter(|run| !run.paused).collect();
        let rule = if self.is_calm() { "P8" } else { "I7" };
        let open_effects = &self.gateway.open;
        let text = format!("open: {open:?} {revocations:?} {open_effects:?} {runs:?}");
        Err(Broken::new(rule, text))
    }

    /// Programs that did not catch their signal do from now on, and run well with whatever they get.
    fn all_catch(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.weak = 0);
        let containers = self
            .hosts
            .iter_mut()
            .flat_map(|host| host.containers.values_mut());
        containers.for_each(|container| container.catches = true);
    }

    fn deliver_all(&mut self) -> Result<(), Broken> {
        for _ in 0..MOST_MESSAGES {
            if self.net.is_empty() {
                return Ok(());
            }
            self.deliver(0)?;
        }
        Err(Broken::new("I7", "messages without end".to_owned()))
    }
}
