//! Where everything stands in the end, without ids that are drawn and times: what has to be the same, whoever died
//! on the way.

use keywheel_core::playbook_run::{Act, Begun, Run, StepState};
use keywheel_core::secret::Secret;
use keywheel_core::world::World;

use crate::outside::Outside;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Runs with their steps, secrets, hosts.
    world: Vec<String>,
    /// What the server accepts, what can be opened, what the receiver was told.
    outside: Vec<String>,
}

impl Ending {
    pub(crate) fn of(world: &World, outside: &Outside) -> Self {
        let mut runs: Vec<&Run> = world.runs.values().collect();
        runs.sort_by_key(|run| (run.depth, &run.name));
        let mut lines: Vec<String> = runs.into_iter().flat_map(run_lines).collect();
        lines.extend(world.secrets.values().map(secret_line));
        let hosts = world.hosts.values();
        lines.extend(hosts.map(|host| format!("{}: evicted {}", host.name, host.is_evicted())));
        let assigned = world.assignments.iter();
        lines.extend(assigned.map(|(key, one)| format!("{key:?} holds {}", one.holds)));
        let store = &outside.store;
        let mut beside: Vec<String> = outside.messages.values().cloned().collect();
        beside.sort();
        beside.push(format!("accepted {:?}", store.accepted));
        beside.push(format!("values {:?}", store.values));
        beside.push(format!("credentials {}", store.made.values().sum::<u64>()));
        Self {
            world: lines,
            outside: beside,
        }
    }

    /// What another one has instead; nothing when they are the same.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let own = self.world.iter().chain(&self.outside);
        let mut both = own.zip(other.world.iter().chain(&other.outside));
        let differs = both.find(|(one, other)| one != other);
        let text = differs.map(|(one, other)| format!("{one}\ninstead of\n{other}"));
        text.or_else(|| (self != other).then(|| "there is more, or less".to_owned()))
    }
}

fn run_lines(run: &Run) -> Vec<String> {
    let head = format!(
        "run of {} at {}: {:?}, {:?}, begun by {} below a run {}",
        run.name,
        run.depth,
        run.outcome,
        run.score,
        run.by,
        run.parent.is_some(),
    );
    let mut lines = vec![head];
    lines.extend(run.steps.iter().map(step_line));
    lines
}

fn step_line(state: &StepState) -> String {
    let acts: Vec<String> = state
        .acts
        .iter()
        .map(|(place, act)| format!("{place} {}", act_word(act)))
        .collect();
    format!(
        "step {}: {:?}, to {:?}: {acts:?}, approved by {:?}, answers {:?}, note {:?}",
        state.step.name, state.progress, state.targets, state.approvals, state.answers, state.note,
    )
}

fn act_word(act: &Act) -> String {
    let word = match act {
        Act::Refused(reason) => return format!("refused: {reason}"),
        Act::Begun(Begun::Rotation { .. }) => "rotation",
        Act::Begun(Begun::Revocation { .. }) => "revocation",
        Act::Begun(Begun::Eviction { .. }) => "eviction",
        Act::Begun(Begun::Run { .. }) => "run",
        Act::Begun(Begun::Nothing) => "nothing",
        Act::Begun(Begun::Message { .. }) => "message",
        Act::Begun(Begun::Restart { .. }) => "restart",
        Act::Begun(Begun::Quarantine { .. }) => "quarantine",
    };
    word.to_owned()
}

fn secret_line(secret: &Secret) -> String {
    format!(
        "{}: last {}, current {:?}, pending {:?}, alive {:?}",
        secret.name,
        secret.last_version,
        secret.current,
        secret.pending,
        secret.alive(),
    )
}
