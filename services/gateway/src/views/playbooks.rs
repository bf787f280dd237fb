//! Playbooks and their runs as people and tools see them. Pure.

use keywheel_core::decision::PlannedStep;
use keywheel_core::host::{Host, Quarantine, Standing};
use keywheel_core::name::PlaybookName;
use keywheel_core::playbook::{After, Deed, Playbook, Which, approval_words};
use keywheel_core::playbook_run::{
    self, Act, Begun, Lack, Progress, Run, Score, StepState, Target,
};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::state::Committed;
use keywheel_schemas::api::{
    PlannedPlaybookStep, PlaybookPlan, PlaybookRunView, PlaybookView, QuarantineView, RunScore,
    RunStepView, RunTargetView,
};
use keywheel_schemas::event::playbook::PlaybookSpec;
use keywheel_schemas::mirror::{Mirror as _, TextForm as _};

use super::{count, milliseconds};

/// Every playbook, by name.
#[must_use]
pub fn list(world: &World) -> Vec<PlaybookView> {
    let playbooks = world.playbooks.values();
    let mut views: Vec<PlaybookView> = playbooks.map(|known| view(world, known)).collect();
    views.sort_by(|one, other| one.name.cmp(&other.name));
    views
}

/// One playbook.
#[must_use]
pub fn one(world: &World, name: &PlaybookName) -> Option<PlaybookView> {
    Some(view(world, world.playbook_named(name)?))
}

fn view(world: &World, known: &Playbook) -> PlaybookView {
    let spec = PlaybookSpec::of(&known.spec);
    let open = world.open_runs().filter(|run| run.playbook == known.id);
    PlaybookView {
        name: known.name.to_string(),
        parameters: spec.parameters,
        steps: spec.steps,
        triggers: spec.triggers,
        open_runs: count(open.count()),
    }
}

/// What a run would do.
#[must_use]
pub fn plan(world: &World, name: &PlaybookName, steps: &[PlannedStep]) -> PlaybookPlan {
    let blockers = steps.iter().flat_map(|planned| {
        let step = &planned.step.name;
        let faults = planned.faults.iter();
        faults.map(move |fault| format!("step `{step}`: {fault}"))
    });
    let step = |planned: &PlannedStep| PlannedPlaybookStep {
        name: planned.step.name.clone(),
        action: action(&planned.step.deed),
        after: planned.step.after.iter().map(after).collect(),
        targets: planned
            .targets
            .iter()
            .map(|one| target(world, one))
            .collect(),
        deadline_seconds: planned.step.deadline.as_secs(),
    };
    PlaybookPlan {
        playbook: name.to_string(),
        steps: steps.iter().map(step).collect(),
        blockers: blockers.collect(),
    }
}

fn after(after: &After) -> String {
    match after.failed {
        true => format!("{} failed", after.step),
        false => after.step.clone(),
    }
}

/// Runs, open ones first and of each sort the newest first.
#[must_use]
pub fn runs(committed: &Committed, now: Timestamp) -> Vec<PlaybookRunView> {
    let world = &committed.world;
    let newest = committed.runs_newest_first().into_iter();
    let known = newest.filter_map(|id| world.runs.get(&id));
    let (open, ended): (Vec<&Run>, Vec<&Run>) = known.partition(|run| run.is_open());
    let all = open.into_iter().chain(ended);
    all.map(|known| run(committed, known, now)).collect()
}

/// One run at this time.
#[must_use]
pub fn run(committed: &Committed, run: &Run, now: Timestamp) -> PlaybookRunView {
    let world = &committed.world;
    let times = committed.run_times(run.id);
    let step_view = |state: &StepState| {
        let span = times.and_then(|times| times.steps.get(&state.step.name));
        let took_ms = span.and_then(|span| milliseconds(span.begun, span.ended));
        RunStepView {
            took_ms,
            ..step(world, state)
        }
    };
    let whole = times.map(|times| times.whole);
    let took_ms = whole.and_then(|whole| {
        let until = whole.ended.or_else(|| run.is_open().then_some(now));
        milliseconds(whole.begun, until)
    });
    let state = match run.outcome {
        Some(outcome) => outcome.word(),
        None if run.paused => "paused",
        None => "running",
    };
    PlaybookRunView {
        run_id: run.id.to_string(),
        playbook: run.name.to_string(),
        state: state.to_owned(),
        arguments: run.arguments.clone(),
        by: run.by.clone(),
        reason: run.reason.clone(),
        parent: run.parent.map(|parent| parent.to_string()),
        steps: run.steps.iter().map(step_view).collect(),
        took_ms,
        score: score(world, run),
        begun: whole.and_then(|whole| whole.begun).map(|at| at.text()),
    }
}

/// Containers in quarantine, by host and id.
#[must_use]
pub fn quarantines(world: &World) -> Vec<QuarantineView> {
    let view = |(host, one): (&Host, &Quarantine)| {
        let (state, failure) = match &one.standing {
            Standing::Ordered => ("ordered", None),
            Standing::Done => ("done", None),
            Standing::Failed(reason) => ("failed", Some(reason.clone())),
        };
        QuarantineView {
            container: one.subject.name.clone(),
            id: one.subject.container.to_string(),
            host: host.name.to_string(),
            action: one.action.word().to_owned(),
            state: state.to_owned(),
            failure,
            run_id: one.origin.run.to_string(),
            reason: one.reason.clone(),
        }
    };
    world.quarantines().map(view).collect()
}

fn step(world: &World, state: &StepState) -> RunStepView {
    let word = match state.progress {
        Progress::Pending => "pending",
        Progress::Open => "running",
        Progress::Done => "completed",
        Progress::Failed => "failed",
        Progress::Skipped => "skipped",
    };
    let targets = (0_u32..).zip(&state.targets).map(|(place, one)| {
        let act = state.acts.get(&place);
        RunTargetView {
            target: target(world, one),
            begun: act.and_then(|act| match act {
                Act::Begun(begun) => Some(begun_words(begun)),
                Act::Refused(_) => None,
            }),
            refused: act.and_then(|act| match act {
                Act::Begun(_) => None,
                Act::Refused(reason) => Some(reason.clone()),
            }),
        }
    });
    RunStepView {
        name: state.step.name.clone(),
        action: action(&state.step.deed),
        state: word.to_owned(),
        until: state.until.map(|until| until.text()),
        failure: state.failure.clone(),
        note: state.note.clone(),
        took_ms: None,
        approvals: state.approvals.iter().cloned().collect(),
        targets: targets.collect(),
    }
}

/// How many of what its steps rotate or revoke came to a good end: of a run that ended, by then.
fn score(world: &World, run: &Run) -> RunScore {
    let (now, lacking) = playbook_run::score(world, run);
    let Score { targets, through } = run.score.unwrap_or(now);
    let not_through = lacking.into_iter().filter_map(|(one, lack)| {
        let lack = match lack {
            Lack::NotBegun => "not begun".to_owned(),
            Lack::UnderWay => "under way".to_owned(),
            Lack::Failed(reason) => reason,
            Lack::Forgotten => return None,
        };
        Some(format!("{}: {lack}", target(world, one)))
    });
    RunScore {
        targets,
        through,
        percent: (through * 100).checked_div(targets).unwrap_or(100),
        not_through: not_through.collect(),
    }
}

fn begun_words(begun: &Begun) -> String {
    match begun {
        Begun::Rotation { rotation } => format!("rotation {rotation}"),
        Begun::Revocation { revocation } => format!("revocation {revocation}"),
        Begun::Eviction { .. } => "eviction".to_owned(),
        Begun::Run { run } => format!("run {run}"),
        Begun::Nothing => "nothing".to_owned(),
        Begun::Message { .. } => "told".to_owned(),
        Begun::Restart { .. } => "restart".to_owned(),
        Begun::Quarantine { .. } => "quarantine".to_owned(),
    }
}

fn target(world: &World, target: &Target) -> String {
    match target {
        Target::Secret { secret, version } => {
            let known = world.secrets.get(secret);
            let name = known.map_or_else(|| secret.to_string(), |known| known.name.to_string());
            match version {
                Some(version) => format!("{name} version {version}"),
                None => name,
            }
        }
        Target::Host { host } => {
            let known = world.hosts.get(host);
            known.map_or_else(|| host.to_string(), |known| known.name.to_string())
        }
        Target::Playbook { name } => name.to_string(),
        Target::Notification { notification } => {
            let known = world.notifications.get(notification);
            known.map_or_else(|| notification.to_string(), |known| known.name.to_string())
        }
        Target::Container {
            host,
            container,
            name,
        } => {
            let known = world.hosts.get(host);
            let host = known.map_or_else(|| host.to_string(), |known| known.name.to_string());
            format!("{name} ({}) on {host}", container.short())
        }
    }
}

fn action(deed: &Deed) -> String {
    match deed {
        Deed::Rotate { .. } => "rotate".to_owned(),
        Deed::Revoke { which, .. } => match which {
            Which::Alive => "revoke every version".to_owned(),
            Which::Old => "revoke versions before the current one".to_owned(),
        },
        Deed::Evict { .. } => "evict".to_owned(),
        Deed::Wait { span: None } => "wait for what began".to_owned(),
        Deed::Wait { span: Some(span) } => format!("wait {} s", span.as_secs()),
        Deed::Approve { count, not } => approval_words(*count, not),
        Deed::Run { .. } => "run".to_owned(),
        Deed::Withdrawn => "wait until no host has it".to_owned(),
        Deed::Prove => "prove dead".to_owned(),
        Deed::Notify { .. } => "notify".to_owned(),
        Deed::Call { .. } => "call and wait for the receiver".to_owned(),
        Deed::Restart { .. } => "restart, one after the other".to_owned(),
        Deed::Quarantine { action, .. } => format!("quarantine: {}", action.word()),
    }
}
