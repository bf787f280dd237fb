//! One run from its begin to its end over as many lives of the gateway as it takes, and all of them.

use keywheel_core::playbook_run::Progress;
use keywheel_core::world::World;
use keywheel_engine::port::journal::{Journal as _, MAX_READ, RecordedEvent, Verdict};
use keywheel_testkit::fake::MemoryJournal;

use crate::cut::{Deaths, Log, Planted};
use crate::ending::Ending;
use crate::laws;
use crate::life::Life;
use crate::outside::{Outside, user};
use crate::scene::{Scenario, begun, estate};

/// More turns than any run takes, however often the gateway dies.
const MOST_TURNS: u32 = 5_000;

/// How a run ended.
pub(crate) struct Ran {
    pub(crate) ending: Ending,
    /// Places at which it could have died.
    pub(crate) places: u64,
    pub(crate) deaths: u64,
}

/// A scenario, and how it ends when nobody dies.
pub(crate) struct Sweep {
    scenario: &'static Scenario,
    planted: Option<Planted>,
    whole: Ran,
}

impl Sweep {
    pub(crate) async fn of(
        scenario: &'static Scenario,
        planted: Option<Planted>,
    ) -> Result<Self, String> {
        let whole = run(scenario, Deaths::Never, planted).await?;
        Ok(Self {
            scenario,
            planted,
            whole,
        })
    }

    pub(crate) const fn places(&self) -> u64 {
        self.whole.places
    }

    /// Kills it at each place in turn; the first place at which that shows, and how.
    pub(crate) async fn find(&self) -> Option<String> {
        for at in 0..self.places() {
            let fault = match run(self.scenario, Deaths::At(at), self.planted).await {
                Err(fault) => Some(fault),
                Ok(died) if died.deaths != 1 => Some(format!("{} deaths", died.deaths)),
                Ok(died) => died.ending.difference(&self.whole.ending),
            };
            if let Some(fault) = fault {
                return Some(format!("killed at place {at}: {fault}"));
            }
        }
        None
    }
}

/// One run; or what is wrong with it.
pub(crate) async fn run(
    scenario: &'static Scenario,
    deaths: Deaths,
    planted: Option<Planted>,
) -> Result<Ran, String> {
    let log = Log::new(planted);
    let mut play = Play {
        outside: Outside::new(scenario, planted),
        life: None,
        lives: 0,
        log: log.clone(),
    };
    for command in estate() {
        play.through(Some(command)).await?;
    }
    play.through(None).await?;
    log.killer.arm(deaths);
    let ended = play.play(scenario).await;
    let all = read_all(&log.journal).await;
    if let Some(broken) = laws::broken(&all, &play.outside) {
        return Err(broken);
    }
    let ending = ended?;
    let verified = log.journal.verify().await.unwrap();
    if !verified.faults.is_empty() {
        return Err(format!(
            "the journal does not verify: {:?}",
            verified.faults
        ));
    }
    let (places, deaths) = log.killer.told();
    Ok(Ran {
        ending,
        places,
        deaths,
    })
}

struct Play {
    outside: Outside,
    life: Option<Life>,
    lives: u64,
    log: Log,
}

impl Play {
    /// Begins a life where there is none, and lets it go on by itself; false when it died of that.
    async fn settle(&mut self) -> Result<bool, String> {
        if self.life.is_none() {
            self.lives += 1;
            let life = Life::begin(&self.log, &self.outside.clock, self.lives).await;
            self.life = Some(life);
        }
        let is_alive = self.life.as_mut().unwrap().settle().await?;
        if !is_alive {
            self.life = None;
            self.log.note_death().await;
        }
        Ok(is_alive)
    }

    /// Before anybody dies: a command, and what everybody does after it.
    async fn through(
        &mut self,
        command: Option<keywheel_core::command::Command>,
    ) -> Result<(), String> {
        let mut said = command.map(|command| self.outside.says(user(), command));
        loop {
            self.settle().await?;
            let life = self.life.as_mut().unwrap();
            if said.is_none() {
                said = self.outside.next(life, &self.log).await;
            }
            let Some(now) = said.take() else {
                return Ok(());
            };
            let command = now.command.clone();
            match life.submit(now).await? {
                Some(Verdict::Accepted { .. }) => self.outside.heard(&command),
                other => return Err(format!("{command:?}: {other:?}")),
            }
        }
    }

    async fn play(&mut self, scenario: &Scenario) -> Result<Ending, String> {
        let mut owed = Some(self.outside.start());
        for _ in 0..MOST_TURNS {
            if !self.settle().await? {
                self.outside.unheard(None);
                continue;
            }
            let life = self.life.as_mut().unwrap();
            if owed.is_none() {
                owed = self.outside.next(life, &self.log).await;
            }
            let Some(said) = owed.take() else {
                let committed = life.view.read();
                if is_over(&committed.world) {
                    check(&committed.world, scenario, &self.outside)?;
                    return Ok(Ending::of(&committed.world, &self.outside));
                }
                if !self.outside.wait(&committed.world) {
                    return Err(format!("it stands still: {:?}", committed.world.runs));
                }
                continue;
            };
            match life.submit(said.clone()).await? {
                Some(Verdict::Accepted { .. }) => self.outside.heard(&said.command),
                Some(refused) => return Err(format!("{:?}: {refused:?}", said.command)),
                None => {
                    self.life = None;
                    self.log.note_death().await;
                    owed = self.outside.unheard(Some(said));
                }
            }
        }
        Err(format!("it did not end within {MOST_TURNS} turns"))
    }
}

/// Whether everything that was begun has ended.
fn is_over(world: &World) -> bool {
    !world.runs.is_empty()
        && world.open_runs().next().is_none()
        && world.open_rotations().next().is_none()
        && world.revocations.values().all(|one| one.closed)
}

/// It took the path that the scenario is about.
fn check(world: &World, scenario: &Scenario, outside: &Outside) -> Result<(), String> {
    let run = begun(world).ok_or("there is no run")?;
    if run.outcome != Some(scenario.outcome) {
        return Err(format!("it ended as {:?}: {:?}", run.outcome, run.steps));
    }
    for state in &run.steps {
        let name = state.step.name.as_str();
        let expected = if scenario.done.contains(&name) {
            Progress::Done
        } else if scenario.failed.contains(&name) {
            Progress::Failed
        } else {
            Progress::Skipped
        };
        if state.progress != expected {
            return Err(format!(
                "step {name} is {:?}: {:?}",
                state.progress, state.failure
            ));
        }
    }
    let told = outside.messages.len();
    if told != scenario.messages {
        return Err(format!("{told} messages came"));
    }
    Ok(())
}

/// The whole log as it was written.
pub(crate) async fn read_all(journal: &MemoryJournal) -> Vec<RecordedEvent> {
    let mut all: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.number);
        let some = journal.read(after, MAX_READ).await.unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}
