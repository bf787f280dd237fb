//! Random histories of one service on two hosts whose containers hold two secrets, each with a rollout: both together
//! never have more containers down or with leave than one of them may, and what changes together restarts once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::decision::{Context, Enrolment, decide};
use crate::plan::HostPlan;
use crate::testing::secret_name;
use crate::world::World;

const HOSTS: [HostId; 2] = [HOST, OTHER_HOST];
/// Containers per host.
const CONTAINERS: u8 = 3;
/// Both secrets, and under which bindings they are given.
const SECRETS: [(BindingId, SecretId); 2] = [(BINDING, SECRET), (OTHER_BINDING, OTHER_SECRET)];

/// A version of each secret.
type Pair = [u64; 2];

/// One thing that happens; `which` is one of the two secrets.
#[derive(Debug, Clone)]
enum Move {
    Rotate(usize),
    Step { which: usize, fails: bool },
    Fetch(usize),
    Begin(usize, u8),
    End { host: usize, n: u8, is_well: bool },
    Report { host: usize, is_complete: bool },
    Forgets(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let (host, which, n) = (0..HOSTS.len(), 0..SECRETS.len(), 1..=CONTAINERS);
    let one = prop_oneof![
        2 => which.clone().prop_map(Move::Rotate),
        6 => (which, prop::bool::weighted(0.1))
            .prop_map(|(which, fails)| Move::Step { which, fails }),
        6 => host.clone().prop_map(Move::Fetch),
        8 => (host.clone(), n.clone()).prop_map(|(host, n)| Move::Begin(host, n)),
        8 => (host.clone(), n, prop::bool::weighted(0.8))
            .prop_map(|(host, n, is_well)| Move::End { host, n, is_well }),
        8 => (host.clone(), prop::bool::weighted(0.8))
            .prop_map(|(host, is_complete)| Move::Report { host, is_complete }),
        1 => host.prop_map(Move::Forgets),
    ];
    prop::collection::vec(one, 0..200)
}

/// The same where nothing more is asked for and nothing goes wrong.
fn calm(step: Move) -> Option<Move> {
    match step {
        Move::Rotate(_) => None,
        Move::Step { which, .. } => Some(Move::Step {
            which,
            fails: false,
        }),
        Move::End { host, n, .. } => Some(Move::End {
            host,
            n,
            is_well: true,
        }),
        Move::Fetch(_) | Move::Begin(..) | Move::Report { .. } | Move::Forgets(_) => Some(step),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up(Pair),
    Restarting(Pair),
    Broken(Pair),
}

/// What a host knows.
#[derive(Default)]
struct Host {
    plan: Option<HostPlan>,
    used: BTreeSet<u64>,
    containers: BTreeMap<u8, State>,
    restarts: BTreeMap<u8, u32>,
}

impl Host {
    /// What its containers are to have, by the plan it has.
    fn wanted(&self) -> Option<Pair> {
        let plan = self.plan.as_ref()?;
        let current = |(binding, _): (BindingId, SecretId)| {
            let mut planned = plan.bindings.iter();
            let planned = planned.find(|planned| planned.binding == binding)?;
            Some(planned.current?.version)
        };
        let [first, second] = SECRETS.map(current);
        Some([first?, second?])
    }
}

/// What one has and another has not; all of it when there is no other.
fn news(wanted: Pair, held: Option<Pair>) -> Vec<Due> {
    let all = SECRETS.into_iter().zip(wanted).enumerate();
    let new = all.filter(|(which, (_, version))| held.is_none_or(|held| held[*which] != *version));
    new.map(|(_, ((binding, secret), version))| Due {
        binding,
        secret,
        version,
    })
    .collect()
}

fn runs_on(n: u8, held: Pair) -> impl Iterator<Item = Item> {
    let each = SECRETS.into_iter().zip(held);
    each.map(move |((binding, secret), version)| Item {
        binding,
        secret,
        ..reloaded(n, version)
    })
}

struct Model {
    given: Given,
    hosts: [Host; 2],
    policy: Policy,
    rotations: u8,
}

impl Model {
    fn new(policy: Policy) -> Self {
        let other = SecretName::parse("prod/other").unwrap();
        let secret = Command::Apply(vec![Declaration::Secret {
            id: OTHER_SECRET,
            rotation: FOURTH,
            name: other.clone(),
            spec: generated(),
        }]);
        let binding = Command::Apply(vec![Declaration::Binding {
            id: OTHER_BINDING,
            name: BindingName::parse("other").unwrap(),
            secret: other,
            also: BTreeSet::new(),
            previous: BTreeSet::new(),
            selector: anywhere(),
            target: binding::Target::Env {
                name: EnvName::parse("OTHER").unwrap(),
            },
            reload: rolling(policy),
            on_revoke: binding::OnRevoke::Remove,
        }]);
        let given = Given::first_version()
            .and(enrol(HOST))
            .and(enrol(OTHER_HOST))
            .and(apply_binding(anywhere(), env(), rolling(policy)))
            .and(secret)
            .finished(FOURTH)
            .and(binding);
        let mut model = Self {
            given,
            hosts: [Host::default(), Host::default()],
            policy,
            rotations: 0x40,
        };
        for host in 0..HOSTS.len() {
            model.fetch(host);
            let up = (1..=CONTAINERS).map(|n| (n, State::Up([1, 1])));
            model.hosts[host].containers = up.collect();
            model.report(host, true);
        }
        model
    }

    fn world(&self) -> &World {
        self.given.world()
    }

    /// What is refused does not happen.
    fn run(&mut self, command: Command) {
        let ctx = Context {
            now: NOW,
            seed: [self.rotations; 16],
            enrolment: Enrolment::Local,
        };
        if decide(self.world(), &command, &ctx).is_ok() {
            self.given = std::mem::take(&mut self.given).and(command);
        }
    }

    fn fetch(&mut self, host: usize) {
        self.hosts[host].plan = plan_host(self.world(), HOSTS[host]);
    }

    fn begin(&mut self, host: usize, n: u8) {
        let own = &mut self.hosts[host];
        let Some(wanted) = own.wanted() else {
            return;
        };
        let leave = own.plan.iter().flat_map(|plan| &plan.leaves);
        let leave = leave
            .filter(|leave| leave.container == container(n))
            .map(|leave| leave.number)
            .find(|number| !own.used.contains(number));
        let is_due = match own.containers[&n] {
            State::Up(held) | State::Broken(held) => held != wanted,
            State::Restarting(_) => false,
        };
        if let Some(number) = leave.filter(|_| is_due) {
            own.used.insert(number);
            own.containers.insert(n, State::Restarting(wanted));
            *own.restarts.entry(n).or_default() += 1;
        }
    }

    fn end(&mut self, host: usize, n: u8, is_well: bool) {
        let own = &mut self.hosts[host];
        if let State::Restarting(held) = own.containers[&n] {
            let state = match is_well {
                true => State::Up(held),
                false => State::Broken(held),
            };
            own.containers.insert(n, state);
        }
    }

    /// What a host says that knows no more than its plan.
    fn report(&mut self, host: usize, is_complete: bool) {
        let own = &self.hosts[host];
        let wanted = own.wanted();
        let (mut restarts, mut items) = (Vec::new(), Vec::new());
        let mut holds: BTreeSet<(SecretId, u64)> = BTreeSet::new();
        let mut may_hold = |held: Pair| {
            let each = SECRETS.into_iter().zip(held);
            holds.extend(each.map(|((_, secret), version)| (secret, version)));
        };
        for (n, state) in &own.containers {
            let n = *n;
            let (State::Up(held) | State::Restarting(held) | State::Broken(held)) = *state;
            may_hold(held);
            let due = wanted.map(|wanted| news(wanted, Some(held)));
            let due = due.unwrap_or_default();
            match *state {
                State::Restarting(_) => {
                    restarts.push(wish(n, news(held, None), RestartState::UnderWay));
                }
                State::Broken(_) if due.is_empty() => {
                    let reason = "its health check fails".to_owned();
                    let failed = RestartState::Failed { reason };
                    restarts.push(wish(n, news(held, None), failed));
                }
                State::Up(_) | State::Broken(_) => {
                    if matches!(*state, State::Up(_)) {
                        items.extend(runs_on(n, held));
                    }
                    if !due.is_empty() {
                        restarts.push(wish(n, due, RestartState::Due));
                    }
                }
            }
        }
        wanted.into_iter().for_each(may_hold);
        let report = HostReport {
            host: HOSTS[host],
            generation: own.plan.as_ref().map_or(0, |plan| plan.generation),
            restarts,
            holds: holds.into_iter().collect(),
            complete: is_complete,
            containers: if is_complete {
                (1..=CONTAINERS).map(container).collect()
            } else {
                Vec::new()
            },
            ..report(items, &[])
        };
        self.run(Command::Report(report));
    }

    fn step(&mut self, which: usize, fails: bool) {
        let (_, secret) = SECRETS[which];
        let open = self.world().open_rotation(secret);
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
        let open = self.world().open_rotation(secret);
        if let Some(rotation) = open.map(|open| open.id) {
            self.run(Command::RetryStep { rotation });
        }
    }

    fn rotate(&mut self, which: usize) {
        self.rotations = self.rotations.wrapping_add(1);
        let secret = match which {
            0 => secret_name(),
            _ => SecretName::parse("prod/other").unwrap(),
        };
        self.run(Command::Rotate {
            rotation: RotationId::from_bytes([self.rotations; 16]),
            secret,
        });
    }

    fn play(&mut self, step: &Move) {
        match *step {
            Move::Rotate(which) => self.rotate(which),
            Move::Step { which, fails } => self.step(which, fails),
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
        self.invariant_both_together_take_no_more_than_one_may();
    }

    fn invariant_both_together_take_no_more_than_one_may(&self) {
        let all = self.hosts.iter().flat_map(|host| host.containers.values());
        let is_down = |state: &&State| matches!(state, State::Restarting(_) | State::Broken(_));
        let down = u32::try_from(all.filter(is_down).count()).unwrap();
        assert!(down <= self.policy.max_unavailable, "{down} are down");
        let leaves = u32::try_from(members_with_leave(&self.given).len()).unwrap();
        assert!(leaves <= self.policy.max_parallel, "{leaves} have leave");
        // The service has one rollout, so no plan names a container for each secret.
        assert!(self.world().rollouts.len() <= 1);
        for host in HOSTS {
            let leaves = plan_host(self.world(), host).unwrap().leaves;
            let named: BTreeSet<_> = leaves.iter().map(|leave| &leave.container).collect();
            assert_eq!(named.len(), leaves.len(), "{leaves:?}");
        }
    }

    /// Everybody behaves from now on, and every restart ends well.
    fn heal(&mut self) {
        for _ in 0..36 {
            for which in [0, 1].repeat(8) {
                self.step(which, false);
            }
            for host in 0..HOSTS.len() {
                self.fetch(host);
                for n in 1..=CONTAINERS {
                    self.end(host, n, true);
                    self.begin(host, n);
                    self.invariant_both_together_take_no_more_than_one_may();
                    self.end(host, n, true);
                }
                self.report(host, true);
            }
        }
    }

    fn current(&self) -> Option<Pair> {
        let current = |(_, secret): (BindingId, SecretId)| self.world().secrets[&secret].current;
        let [first, second] = SECRETS.map(current);
        Some([first?, second?])
    }

    fn states(&self) -> Vec<State> {
        let all = self.hosts.iter().flat_map(|host| host.containers.values());
        all.copied().collect()
    }
}

/// As many may restart together, and be down.
fn policy(max_parallel: u32, max_unavailable: u32) -> Policy {
    Policy {
        max_parallel,
        max_unavailable,
        ..Policy::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn two_rollouts_of_one_service_take_no_more_than_one_may_and_everybody_ends_on_what_is_current(
        moves in moves(),
        max_parallel in 1_u32..=2,
        max_unavailable in 1_u32..=2,
    ) {
        let mut model = Model::new(policy(max_parallel, max_unavailable));
        for step in &moves {
            model.play(step);
        }
        model.heal();
        // What failed stays held back until something else is asked for.
        let has_failed = model.world().rollouts.values().any(|rollout| !rollout.failed.is_empty());
        if let Some(current) = model.current().filter(|_| !has_failed) {
            assert_eq!(model.states(), [State::Up(current); 6]);
            assert!(model.world().rollouts.is_empty());
        }
    }

    #[test]
    fn two_secrets_that_change_together_cost_each_container_one_restart(
        moves in moves(),
        max_parallel in 1_u32..=2,
        max_unavailable in 1_u32..=2,
    ) {
        let mut model = Model::new(policy(max_parallel, max_unavailable));
        model.rotate(0);
        model.rotate(1);
        assert_eq!(model.world().open_rotations().count(), 2);
        for step in moves.into_iter().filter_map(calm) {
            model.play(&step);
        }
        model.heal();
        assert_eq!(model.states(), [State::Up([2, 2]); 6]);
        for host in &model.hosts {
            let restarts: Vec<u32> = host.restarts.values().copied().collect();
            assert_eq!(restarts, [1; CONTAINERS as usize], "one for both");
        }
    }
}
