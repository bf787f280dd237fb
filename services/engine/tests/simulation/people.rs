//! What people do about a run beyond asking for it: they step into rotations, change their mind about how
//! they go, and mend what no machine goes on with by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use keywheel_core::command::Command;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::rotation::{Intervention, Outcome, Phase, Rotation};
use keywheel_engine::command_bus::Submission;

use crate::invariants::Broken;
use crate::scene::{
    BINDINGS, DRAINED, HOSTS, Reach, SECRETS, apply_binding, apply_secret, secret_id, secret_name,
};
use crate::sim::{Message, Sim};

/// So many runs of a thousand have playbooks.
const PLAYS: u64 = 450;

impl Sim {
    /// How a run begins.
    pub(crate) fn draw_wishes(&mut self) {
        if self.reach == Reach::First {
            return;
        }
        for n in 0..SECRETS {
            self.wishes.forces[n] = self.random.permille(300);
        }
        self.wishes.rolls = self.random.permille(600);
        let weak = [0, 0, 3, 4][self.random.below(4)];
        for n in 0..HOSTS {
            self.hosts[n].weak = weak;
        }
        if self.reach >= Reach::Logins {
            self.wishes.canaries = [0, 0, 1, 2][self.random.below(4)];
            self.wishes.leases = self.random.permille(250);
            self.wishes.drains_all = self.reach >= Reach::Incidents && self.wishes.canaries == 1;
            self.wishes.unsaid = self.reach >= Reach::Defaults && self.wishes.canaries == 2;
        }
        if self.reach >= Reach::Playbooks {
            self.wishes.plays = self.random.permille(PLAYS);
            self.wishes.is_eager = self.random.permille(400);
        }
    }

    /// So that rotations run while things go wrong.
    pub(crate) fn rotate_all(&mut self) {
        if self.reach == Reach::First {
            return;
        }
        for n in 0..SECRETS {
            let rotation = RotationId::from_bytes(self.fresh(0xa0));
            let secret = secret_name(n);
            self.person(Command::Rotate { rotation, secret });
        }
    }

    /// A command that is given at once, or is under way for a while.
    pub(crate) fn say(&mut self, command: Submission) -> Result<(), Broken> {
        if self.reach != Reach::First && self.random.permille(600) {
            return self.submit(&command).map(|_| ());
        }
        self.send(Message::Command(command));
        Ok(())
    }

    /// Somebody steps into a rotation: most often into one that runs or was parked.
    pub(crate) fn intervention(&mut self) -> Option<Command> {
        let is_any = self.random.permille(100);
        let waits = |one: &&Rotation| {
            is_any || one.is_open() || one.phase == Phase::Closed(Outcome::Parked)
        };
        let known = self.gateway.world().rotations.values().filter(waits);
        let known: Vec<RotationId> = known.map(|one| one.id).collect();
        let kinds = [
            Intervention::Abort,
            Intervention::Retry,
            Intervention::Force,
        ];
        let intervention = kinds[self.random.weighted(&[40, 30, 30])];
        let rotation = *known.get(self.random.below(known.len()))?;
        Some(Command::Intervene {
            rotation,
            intervention,
            reason: "it has to be".to_owned(),
        })
    }

    /// Somebody wants it otherwise from now on.
    pub(crate) fn another_wish(&mut self, n: usize, rotation: RotationId) -> Command {
        if self.reach >= Reach::Logins && self.random.permille(300) {
            self.wishes.canaries = [1, 2, 0][self.random.below(3)];
            return apply_secret(DRAINED, rotation, &self.wishes);
        }
        if self.random.permille(500) {
            self.wishes.forces[n] = !self.wishes.forces[n];
            return apply_secret(n, rotation, &self.wishes);
        }
        self.wishes.rolls = !self.wishes.rolls;
        apply_binding(BINDINGS - 1, n, None, &self.wishes)
    }

    /// Clocks were set back, and what waits for one of them waits long: nobody stops it from going on.
    pub(crate) fn wait_out(&mut self) {
        let world = self.gateway.world();
        let watched = world.open_rotations();
        let watched = watched.filter(|open| open.phase == Phase::Canary);
        let watched = watched.filter_map(|open| open.deadline);
        let secrets = world.secrets.values();
        let all = watched.chain(secrets.filter_map(|secret| secret.lingers_until));
        if let Some(first) = all.min() {
            let left = first.micros().saturating_sub(self.gateway_time().micros());
            self.now += Duration::from_micros(u64::try_from(left).unwrap_or(0));
        }
    }

    /// A service that did not run well with what is current gets no other try by itself: a deadline ends the
    /// wait for it, then people have another version made.
    pub(crate) fn mend(&mut self) {
        let world = self.gateway.world();
        let failed = world.rollouts.values().flat_map(|rollout| &rollout.failed);
        let is_current = |(secret, version): &&(SecretId, u64)| {
            let known = world.secrets.get(secret);
            known.is_some_and(|known| known.current == Some(*version))
        };
        let failed: BTreeSet<SecretId> = failed.filter(is_current).map(|(id, _)| *id).collect();
        for n in (0..SECRETS).filter(|n| failed.contains(&secret_id(*n))) {
            let open = self.gateway.world().open_rotation(secret_id(n));
            let waiting = open.filter(|open| open.phase == Phase::Distributing);
            if let Some((rotation, deadline)) =
                waiting.and_then(|one| Some((one.id, one.deadline?)))
            {
                let left = deadline
                    .micros()
                    .saturating_sub(self.gateway_time().micros());
                self.now += Duration::from_micros(u64::try_from(left).unwrap_or(0));
                self.timer(Command::DeadlinePassed { rotation });
            }
            let mut rotations = self.gateway.world().rotations.values();
            let is_halted = rotations.any(|one| {
                one.secret == secret_id(n) && one.has_canaries() && one.halted.is_some()
            });
            if is_halted && self.wishes.canaries > 0 {
                // Who is down needs the next version, and is in a canary's way.
                self.wishes.canaries = 0;
                let rotation = RotationId::from_bytes(self.fresh(0xa0));
                self.person(apply_secret(n, rotation, &self.wishes));
            }
            let rotation = RotationId::from_bytes(self.fresh(0xa0));
            let secret = secret_name(n);
            self.person(Command::Rotate { rotation, secret });
        }
    }
}
