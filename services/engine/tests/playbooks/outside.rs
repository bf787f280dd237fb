//! Everybody beside the gateway: store-sync with its store, the hosts, the receiver, people, and the scheduler's
//! timers. Each looks at what there is to do and does it; who gets no answer says the same again.

use std::collections::BTreeMap;
use std::sync::Arc;

use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::host::Host;
use keywheel_core::id::{CommandId, HostId};
use keywheel_core::plan::plan_host;
use keywheel_core::playbook::Deed;
use keywheel_core::playbook_run::{self, Progress, Request, Run, StepState};
use keywheel_core::report::{Fact, HostReport, Item};
use keywheel_core::rotation::{Phase, Rotation};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::command_bus::Submission;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::port::journal::{Journal as _, MAX_READ, RecordedEvent};
use keywheel_testkit::fake::{FakeClock, FakeIds};

use crate::cut::{Log, Planted};
use crate::life::Life;
use crate::scene::{PEOPLE, RUN, SOC, Scenario, begun, container};
use crate::store::Store;

/// Ids of nobody else begin so.
const SOURCE: u64 = 1 << 40;

pub(crate) struct Outside {
    pub(crate) store: Store,
    pub(crate) clock: Arc<FakeClock>,
    /// What the receiver was told, by the message's id; it keeps the first of two with one id.
    pub(crate) messages: BTreeMap<[u8; 16], String>,
    scenario: &'static Scenario,
    planted: Option<Planted>,
    ids: FakeIds,
    /// Plans that hosts reported on, and were heard.
    reported: BTreeMap<HostId, u64>,
    /// How far in the log the receiver was told, for sure and in this life of the gateway.
    told: (u64, u64),
}

pub(crate) fn user() -> Principal {
    Principal::User {
        uid: 0,
        name: "root".to_owned(),
    }
}

impl Outside {
    pub(crate) fn new(scenario: &'static Scenario, planted: Option<Planted>) -> Self {
        Self {
            store: Store::default(),
            clock: Arc::new(FakeClock::at(Timestamp::from_micros(1_000_000_000))),
            messages: BTreeMap::new(),
            scenario,
            planted,
            ids: FakeIds::of_source(SOURCE),
            reported: BTreeMap::new(),
            told: (0, 0),
        }
    }

    pub(crate) fn says(&self, principal: Principal, command: Command) -> Submission {
        Submission {
            id: CommandId::from_bytes(self.ids.draw()),
            principal,
            traceparent: None,
            command,
        }
    }

    /// A person begins the run.
    pub(crate) fn start(&self) -> Submission {
        self.says(user(), self.scenario.start(RUN))
    }

    /// The gateway died and said nothing: what is said again, under the same id. store-sync is asked again instead.
    pub(crate) fn unheard(&mut self, said: Option<Submission>) -> Option<Submission> {
        self.told.1 = self.told.0;
        let said = said?;
        match &said.command {
            Command::StepOutcome { .. }
            | Command::RevokeOutcome { .. }
            | Command::ProofOutcome(_) => None,
            Command::Playbook(Request::Start { .. })
                if self.planted == Some(Planted::CommandAnew) =>
            {
                let other = keywheel_core::id::RunId::from_bytes(self.ids.draw());
                Some(self.says(user(), self.scenario.start(other)))
            }
            _ => Some(said),
        }
    }

    /// The gateway answered.
    pub(crate) fn heard(&mut self, said: &Command) {
        if let Command::Report(report) = said {
            self.reported.insert(report.host, report.generation);
        }
    }

    /// What somebody says now; nothing when all wait.
    pub(crate) async fn next(&mut self, life: &Life, log: &Log) -> Option<Submission> {
        // Nobody died since.
        self.told.0 = self.told.1;
        let open = log.journal.open_effects().await.unwrap();
        let events = log.journal.read(self.told.1, MAX_READ).await.unwrap();
        if let Some(open) = open.first() {
            let looks = self.planted != Some(Planted::NoToken);
            let outcome = self.store.perform(&open.effect, self.clock.now(), looks);
            return Some(self.says(Principal::Service(Role::StoreSync), outcome));
        }
        let committed = life.view.read();
        let world = &committed.world;
        let said = self.tell(world, &events).or_else(|| self.report(world));
        let said = said.or_else(|| self.approve(world));
        said.or_else(|| self.due(world))
    }

    /// Lets time pass until the next timer; false when there is none.
    pub(crate) fn wait(&self, world: &World) -> bool {
        let now = self.clock.now();
        let steps = open_steps(world).filter_map(|(_, state)| state.until);
        let waits = world.open_rotations().filter(|open| is_waiting(open));
        let all = steps.chain(waits.filter_map(|open| open.deadline));
        let next = all.filter(|at| *at > now).min();
        if let Some(next) = next {
            self.clock.advance(next.since(now));
        }
        next.is_some()
    }

    /// The receiver is told what is for it; a run that waits for that is answered.
    fn tell(&mut self, world: &World, events: &[RecordedEvent]) -> Option<Submission> {
        for recorded in events {
            self.told.1 = recorded.number;
            let Event::PlaybookRun(
                run,
                playbook_run::Event::Notified {
                    step,
                    place,
                    notification,
                    text,
                },
            ) = &recorded.event
            else {
                continue;
            };
            assert_eq!(*notification, SOC);
            let id = match self.planted {
                Some(Planted::MessageAnew) => self.ids.draw(),
                _ => *recorded.id.bytes(),
            };
            let message = format!("{step}: {text}");
            self.messages.entry(id).or_insert(message);
            let known = world.runs.get(run).filter(|run| run.is_open());
            let state = known.and_then(|run| run.step(step));
            if state.is_some_and(|state| matches!(state.step.deed, Deed::Call { .. })) {
                let answer = Command::Playbook(Request::Answer {
                    run: *run,
                    step: step.clone(),
                    place: *place,
                    failure: None,
                });
                // Whoever tells it again answers the same again.
                let id = CommandId::from_bytes(*recorded.id.bytes());
                let said = self.says(Principal::Service(Role::Gateway), answer);
                return Some(Submission { id, ..said });
            }
        }
        None
    }

    /// A host does what its plan asks, and says so.
    fn report(&self, world: &World) -> Option<Submission> {
        let mut hosts = world
            .live_hosts()
            .filter(|host| !self.is_silent(world, host));
        let host = hosts.find(|host| {
            let generation = world.host_generation(host.id);
            self.reported.get(&host.id) != Some(&generation)
        })?;
        let report = honest_report(world, host.id, self.clock.now());
        let report = Command::Report(report);
        Some(self.says(Principal::Service(Role::Injector), report))
    }

    fn is_silent(&self, world: &World, host: &Host) -> bool {
        let Some((name, until)) = self.scenario.silent else {
            return false;
        };
        let Some(run) = begun(world) else {
            return false;
        };
        let is_back = run.step(until).is_some_and(StepState::is_over);
        host.name.as_str() == name && !is_back
    }

    /// Somebody who did not yet approves what waits for it.
    fn approve(&self, world: &World) -> Option<Submission> {
        let mut waits = open_steps(world);
        let (run, state) =
            waits.find(|(_, state)| matches!(state.step.deed, Deed::Approve { .. }))?;
        let by = PEOPLE
            .iter()
            .find(|name| !state.approvals.contains(**name))?;
        let approve = Command::Playbook(Request::Approve {
            run: run.id,
            step: Some(state.step.name.clone()),
            by: (*by).to_owned(),
            is_person: true,
            reason: "agreed".to_owned(),
        });
        Some(self.says(user(), approve))
    }

    /// A timer that is due.
    fn due(&self, world: &World) -> Option<Submission> {
        let now = self.clock.now();
        let mut steps = open_steps(world);
        let step = steps.find(|(_, state)| state.until.is_some_and(|until| until <= now));
        let step = step.map(|(run, state)| {
            Command::Playbook(Request::Due {
                run: run.id,
                step: state.step.name.clone(),
            })
        });
        let mut waits = world.open_rotations().filter(|open| is_waiting(open));
        let late = waits.find(|open| open.deadline.is_some_and(|at| at <= now));
        let rotation = late.map(|open| Command::DeadlinePassed { rotation: open.id });
        let due = step.or(rotation)?;
        Some(self.says(Principal::Service(Role::Scheduler), due))
    }
}

fn open_steps(world: &World) -> impl Iterator<Item = (&Run, &StepState)> {
    let open = world.runs.values().filter(|run| run.is_open());
    let steps = open.flat_map(|run| run.steps.iter().map(move |state| (run, state)));
    steps.filter(|(_, state)| state.progress == Progress::Open)
}

fn is_waiting(open: &Rotation) -> bool {
    open.phase == Phase::Distributing || open.is_draining()
}

/// The only container of a host runs on what the plan gives, and has nothing else.
fn honest_report(world: &World, host: HostId, at: Timestamp) -> HostReport {
    let container = container(host);
    let plan = plan_host(world, host);
    let mut items = Vec::new();
    let mut holds = Vec::new();
    for planned in plan.iter().flat_map(|plan| &plan.bindings) {
        let mut own = world.assignments_at(host);
        let had = own.any(|(key, _)| key.binding == planned.binding);
        let fact = match planned.current {
            Some(grant) => {
                holds.push((planned.secret, grant.version));
                let version = grant.version;
                Fact::Reloaded { version, at }
            }
            None if had => Fact::Withdrawn,
            None => continue,
        };
        items.push(Item {
            container: container.clone(),
            container_name: "shop".to_owned(),
            image_digest: "sha256:1".to_owned(),
            binding: planned.binding,
            secret: planned.secret,
            fact,
            service: String::new(),
        });
    }
    HostReport {
        generation: world.host_generation(host),
        items,
        holds,
        complete: true,
        containers: vec![container],
        knows_staged: true,
        ..HostReport::empty(host)
    }
}
