//! Random histories of two hosts that restart only with leave, whatever is late, repeated or broken:
//! never are more containers of a service down by our doing than its policy says.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::decision::{Context, Enrolment, decide};
use crate::id::RevocationId;
use crate::plan::HostPlan;
use crate::report::HostReport;
use crate::testing::secret_name;
use crate::world::World;

const HOSTS: [HostId; 2] = [HOST, OTHER_HOST];
/// Containers per host.
const CONTAINERS: u8 = 3;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Move {
    Rotate,
    Step { fails: bool },
    Revoke { newest: bool },
    Fetch(usize),
    Begin(usize, u8),
    End { host: usize, n: u8, is_well: bool },
    Report { host: usize, is_complete: bool },
    Forgets(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let host = 0..HOSTS.len();
    let n = 1..=CONTAINERS;
    let one = prop_oneof![
        1 => Just(Move::Rotate),
        4 => prop::bool::weighted(0.1).prop_map(|fails| Move::Step { fails }),
        1 => prop::bool::weighted(0.3).prop_map(|newest| Move::Revoke { newest }),
        6 => host.clone().prop_map(Move::Fetch),
        8 => (host.clone(), n.clone()).prop_map(|(host, n)| Move::Begin(host, n)),
        8 => (host.clone(), n, prop::bool::weighted(0.8))
            .prop_map(|(host, n, is_well)| Move::End { host, n, is_well }),
        8 => (host.clone(), prop::bool::weighted(0.8))
            .prop_map(|(host, is_complete)| Move::Report { host, is_complete }),
        1 => host.prop_map(Move::Forgets),
    ];
    prop::collection::vec(one, 0..160)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up(u64),
    Restarting(u64),
    Broken(u64),
}

/// What a host knows.
#[derive(Default)]
struct Host {
    plan: Option<HostPlan>,
    used: BTreeSet<u64>,
    containers: BTreeMap<u8, State>,
}

struct Model {
    given: Given,
    hosts: [Host; 2],
    policy: Policy,
    rotations: u8,
}

impl Model {
    fn new(policy: Policy) -> Self {
        let given = Given::first_version()
            .and(enrol(HOST))
            .and(enrol(OTHER_HOST))
            .and(apply_binding(anywhere(), env(), rolling(policy)));
        let mut model = Self {
            given,
            hosts: [Host::default(), Host::default()],
            policy,
            rotations: 0x40,
        };
        for host in 0..HOSTS.len() {
            model.fetch(host);
            let up = (1..=CONTAINERS).map(|n| (n, State::Up(1)));
            model.hosts[host].containers = up.collect();
            model.report(host, true);
        }
        model
    }

    fn world(&self) -> &World {
        self.given.world()
    }

    fn run(&mut self, command: Command) {
        let ctx = Context {
            now: NOW,
            seed: [self.rotations; 16],
            enrolment: Enrolment::Local,
        };
        if decide(self.world(), &command, &ctx).is_err() {
            return;
        }
        self.given = std::mem::take(&mut self.given).and(command);
    }

    fn fetch(&mut self, host: usize) {
        self.hosts[host].plan = plan_host(self.world(), HOSTS[host]);
    }

    fn wanted(&self, host: usize) -> Option<u64> {
        let plan = self.hosts[host].plan.as_ref()?;
        Some(plan.bindings.first()?.current?.version)
    }

    fn begin(&mut self, host: usize, n: u8) {
        let Some(wanted) = self.wanted(host) else {
            return;
        };
        let own = &mut self.hosts[host];
        let leave = own.plan.iter().flat_map(|plan| &plan.leaves);
        let leave = leave
            .filter(|leave| leave.container == container(n))
            .map(|leave| leave.number)
            .find(|number| !own.used.contains(number));
        let is_due = match own.containers[&n] {
            State::Up(holds) | State::Broken(holds) => holds != wanted,
            State::Restarting(_) => false,
        };
        if let Some(number) = leave.filter(|_| is_due) {
            own.used.insert(number);
            own.containers.insert(n, State::Restarting(wanted));
        }
    }

    fn end(&mut self, host: usize, n: u8, is_well: bool) {
        let own = &mut self.hosts[host];
        if let State::Restarting(version) = own.containers[&n] {
            let state = if is_well {
                State::Up(version)
            } else {
                State::Broken(version)
            };
            own.containers.insert(n, state);
        }
    }

    /// What a host says that knows no more than its plan.
    fn report(&mut self, host: usize, is_complete: bool) {
        let wanted = self.wanted(host);
        let own = &self.hosts[host];
        let mut restarts = Vec::new();
        let (mut items, mut holds) = (Vec::new(), BTreeSet::new());
        for (n, state) in &own.containers {
            let n = *n;
            let (State::Up(version) | State::Restarting(version) | State::Broken(version)) = *state;
            holds.insert(version);
            match *state {
                State::Up(holds) => items.push(reloaded(n, holds)),
                State::Restarting(version) => {
                    restarts.push(wish(n, due(version), RestartState::UnderWay));
                    continue;
                }
                State::Broken(version) if wanted.is_none_or(|wanted| wanted == version) => {
                    restarts.push(broken(n, version));
                    continue;
                }
                State::Broken(_) => {}
            }
            if let Some(wanted) = wanted.filter(|wanted| *wanted != version) {
                restarts.push(waits(n, wanted));
            }
        }
        holds.extend(wanted);
        let report = HostReport {
            host: HOSTS[host],
            generation: own.plan.as_ref().map_or(0, |plan| plan.generation),
            restarts,
            complete: is_complete,
            containers: if is_complete {
                (1..=CONTAINERS).map(container).collect()
            } else {
                Vec::new()
            },
            ..report(items, &Vec::from_iter(holds))
        };
        self.run(Command::Report(report.clone()));
        // The same again says nothing new of restarts.
        let ctx = Context {
            now: NOW,
            seed: [0x77; 16],
            enrolment: Enrolment::Local,
        };
        let again = decide(self.world(), &Command::Report(report), &ctx).unwrap();
        assert!(
            !again.iter().any(|event| matches!(event, Any::Rollout(..))),
            "{again:?}"
        );
    }

    fn step(&mut self, fails: bool) {
        let open = self.world().open_rotations().next();
        let performing = open.and_then(|open| match open.phase {
            Phase::Performing { step, attempt } => Some((open.id, step, attempt)),
            _ => None,
        });
        if let Some((rotation, step, attempt)) = performing {
            self.run(Command::StepOutcome {
                rotation,
                step,
                attempt,
                failure: fails.then(|| "down".to_owned()),
                is_away: false,
                remote: None,
                sessions: None,
            });
        }
        let open = self.world().open_rotations().next();
        if let Some(rotation) = open.map(|open| open.id) {
            self.run(Command::RetryStep { rotation });
        }
    }

    fn play(&mut self, step: &Move) {
        match *step {
            Move::Rotate => {
                self.rotations = self.rotations.wrapping_add(1);
                self.run(rotate(RotationId::from_bytes([self.rotations; 16])));
            }
            Move::Step { fails } => self.step(fails),
            Move::Revoke { newest } => {
                let alive = self.given.secret().alive();
                let version = if newest { alive.last() } else { alive.first() };
                // One version stays to serve.
                if let Some(version) = version.copied().filter(|_| alive.len() > 1) {
                    self.rotations = self.rotations.wrapping_add(1);
                    self.run(Command::Revoke {
                        revocation: RevocationId::from_bytes([self.rotations; 16]),
                        secret: secret_name(),
                        version: Some(version),
                        reason: "leaked".to_owned(),
                        is_emergency: false,
                    });
                }
            }
            Move::Fetch(host) => self.fetch(host),
            Move::Begin(host, n) => self.begin(host, n),
            Move::End { host, n, is_well } => self.end(host, n, is_well),
            Move::Report { host, is_complete } => self.report(host, is_complete),
            // Its injector was killed: what is under way is found again as it is.
            Move::Forgets(host) => {
                self.fetch(host);
                self.report(host, false);
            }
        }
        self.invariant_no_more_are_down_than_the_policy_says();
    }

    fn invariant_no_more_are_down_than_the_policy_says(&self) {
        let all = self.hosts.iter().flat_map(|host| host.containers.values());
        let is_down = |state: &&State| matches!(state, State::Restarting(_) | State::Broken(_));
        let down = u32::try_from(all.filter(is_down).count()).unwrap();
        assert!(down <= self.policy.max_unavailable, "{down} are down");
        let leaves = u32::try_from(members_with_leave(&self.given).len()).unwrap();
        assert!(leaves <= self.policy.max_parallel, "{leaves} have leave");
    }

    /// Everybody behaves from now on, and every restart ends well.
    fn heal(&mut self) {
        for _ in 0..24 {
            for _ in 0..8 {
                self.step(false);
            }
            for host in 0..HOSTS.len() {
                self.fetch(host);
                for n in 1..=CONTAINERS {
                    self.end(host, n, true);
                    self.begin(host, n);
                    self.invariant_no_more_are_down_than_the_policy_says();
                    self.end(host, n, true);
                }
                self.report(host, true);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_more_are_down_than_the_policy_says_and_everybody_ends_on_what_is_current(
        moves in moves(),
        max_parallel in 1_u32..=2,
        max_unavailable in 1_u32..=2,
    ) {
        let policy = Policy { max_parallel, max_unavailable, ..Policy::default() };
        let mut model = Model::new(policy);
        for step in &moves {
            model.play(step);
        }
        model.heal();
        // What failed stays held back until something else is asked for.
        let has_failed = model.world().rollouts.values().any(|rollout| !rollout.failed.is_empty());
        if let Some(current) = model.given.secret().current.filter(|_| !has_failed) {
            for state in model.hosts.iter().flat_map(|host| host.containers.values()) {
                assert_eq!(*state, State::Up(current));
            }
            assert!(model.world().rollouts.is_empty());
        }
    }
}
