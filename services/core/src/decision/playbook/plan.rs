//! What a run of a playbook would do on the estate as it is, and what stands in its way. Nothing is begun.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Context, Rejection, lease, rotate};
use super::{act, order};
use crate::id::RotationId;
use crate::name::PlaybookName;
use crate::playbook::{Deed, Playbook, Step};
use crate::playbook_run::{MAX_DEPTH, Target};
use crate::rotation::Trigger;
use crate::secret::Secret;
use crate::world::World;

/// One step as it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// The step, with its parameters put in.
    pub step: Step,
    /// What it would do something to now.
    pub targets: Vec<Target>,
    /// What would refuse or fail it, each with the next step.
    pub faults: Vec<String>,
}

/// Into how many playbooks below it a plan looks, each as often as it is told something else: whoever asks for one holds
/// the log up meanwhile.
pub const MAX_PLANNED_RUNS: usize = 16;

/// Says what a run would do, step by step.
///
/// # Errors
/// When no such playbook is there, or it has to be told something else.
pub fn plan_playbook(
    world: &World,
    name: &PlaybookName,
    told: &BTreeMap<String, String>,
    ctx: &Context,
) -> Result<Vec<PlannedStep>, Rejection> {
    let mut plan = Plan {
        world,
        ctx,
        below: BTreeMap::new(),
    };
    plan.steps(name, told)
}

/// A playbook that a step runs, and what it is told.
type Below = (PlaybookName, BTreeMap<String, String>);

/// A plan that is being made.
struct Plan<'w> {
    world: &'w World,
    ctx: &'w Context,
    /// What is wrong with those below that were looked into.
    below: BTreeMap<Below, Vec<String>>,
}

impl Plan<'_> {
    fn steps(
        &mut self,
        name: &PlaybookName,
        told: &BTreeMap<String, String>,
    ) -> Result<Vec<PlannedStep>, Rejection> {
        let known = super::named(self.world, name)?;
        let arguments = known.arguments(told)?;
        let mut planned = Vec::new();
        for step in known.steps(&arguments) {
            let (targets, mut faults) = match act::targets(self.world, &step.deed) {
                Ok(targets) => (targets, Vec::new()),
                Err(fault) => (Vec::new(), vec![fault]),
            };
            faults.extend(self.faults(known, (&step, &targets)));
            planned.push(PlannedStep {
                step,
                targets,
                faults,
            });
        }
        Ok(planned)
    }

    fn faults(&mut self, known: &Playbook, (step, targets): (&Step, &[Target])) -> Vec<String> {
        let world = self.world;
        match &step.deed {
            Deed::Rotate { .. } => targets
                .iter()
                .filter_map(|target| match target {
                    Target::Secret { secret, .. } => world.secrets.get(secret),
                    _ => None,
                })
                .filter_map(|secret| unrotatable(world, secret, self.ctx))
                .collect(),
            Deed::Run {
                playbook,
                arguments,
            } => self.run_faults(known, &(playbook.clone(), arguments.clone())),
            Deed::Restart { .. } | Deed::Quarantine { .. } => order::faults(world, step, targets),
            _ => Vec::new(),
        }
    }

    /// What is wrong with a playbook that a step runs: it is missing, told something else, or leads back.
    fn run_faults(&mut self, known: &Playbook, below: &Below) -> Vec<String> {
        let (name, arguments) = below;
        if leads_to(self.world, name, &known.name) {
            let fault = format!(
                "playbook `{name}` leads back to `{}`, so a run would never end; take one of the `run` steps out",
                known.name
            );
            return vec![fault];
        }
        if let Some(faults) = self.below.get(below) {
            return faults.clone();
        }
        if self.below.len() >= MAX_PLANNED_RUNS {
            let fault = format!(
                "playbook `{name}` is not looked into, for a plan looks into {MAX_PLANNED_RUNS} below it; plan it by itself"
            );
            return vec![fault];
        }
        // It counts before what is below it.
        self.below.insert(below.clone(), Vec::new());
        let faults = match self.steps(name, arguments) {
            Err(no) => vec![no.to_string()],
            Ok(steps) => steps
                .into_iter()
                .flat_map(|step| told(name, step))
                .collect(),
        };
        self.below.insert(below.clone(), faults.clone());
        faults
    }
}

/// The faults of a step of a playbook below, with where they are.
fn told(name: &PlaybookName, step: PlannedStep) -> Vec<String> {
    let at = format!("playbook `{name}`, step `{}`: ", step.step.name);
    let faults = step.faults.into_iter();
    faults.map(|fault| format!("{at}{fault}")).collect()
}

/// Why a secret could not rotate. One that rotates already is waited for.
fn unrotatable(world: &World, secret: &Secret, ctx: &Context) -> Option<String> {
    if world.open_rotation(secret.id).is_some() {
        return lease::refuse_host(world, secret)
            .err()
            .map(|no| no.to_string());
    }
    let rotation = RotationId::from_bytes(ctx.id(0));
    // Whose run it is changes nothing of whether it may begin.
    let decided = rotate::start(world, secret, rotation, Trigger::OnDemand, ctx);
    decided.err().map(|no| no.to_string())
}

/// Whether a playbook runs another one, itself or by those it runs; deeper than the limit counts as that. Each is looked
/// at once at each depth, however many run it.
fn leads_to(world: &World, from: &PlaybookName, to: &PlaybookName) -> bool {
    let mut level = BTreeSet::from([from]);
    for _ in 0..MAX_DEPTH {
        if level.is_empty() || level.contains(to) {
            return !level.is_empty();
        }
        let known = level.iter().filter_map(|name| world.playbook_named(name));
        level = known.flat_map(|known| known.spec.runs()).collect();
    }
    !level.is_empty()
}
