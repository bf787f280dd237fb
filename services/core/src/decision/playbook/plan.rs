//! What a run of a playbook would do on the estate as it is, and what stands in its way. Nothing is begun.

use std::collections::BTreeMap;

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
    let known = super::named(world, name)?;
    let arguments = known.arguments(told)?;
    let planned = |step: Step| {
        let (targets, mut faults) = match act::targets(world, &step.deed) {
            Ok(targets) => (targets, Vec::new()),
            Err(fault) => (Vec::new(), vec![fault]),
        };
        faults.extend(faults_of(world, known, (&step, &targets), ctx));
        PlannedStep {
            step,
            targets,
            faults,
        }
    };
    Ok(known.steps(&arguments).into_iter().map(planned).collect())
}

fn faults_of(
    world: &World,
    known: &Playbook,
    (step, targets): (&Step, &[Target]),
    ctx: &Context,
) -> Vec<String> {
    match &step.deed {
        Deed::Rotate { .. } => targets
            .iter()
            .filter_map(|target| match target {
                Target::Secret { secret, .. } => world.secrets.get(secret),
                _ => None,
            })
            .filter_map(|secret| unrotatable(world, secret, ctx))
            .collect(),
        Deed::Run {
            playbook,
            arguments,
        } => run_faults(world, known, (playbook, arguments), ctx),
        Deed::Restart { .. } | Deed::Quarantine { .. } => order::faults(world, step, targets),
        _ => Vec::new(),
    }
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

/// What is wrong with a playbook that a step runs: it is missing, told something else, or leads back.
fn run_faults(
    world: &World,
    known: &Playbook,
    (name, arguments): (&PlaybookName, &BTreeMap<String, String>),
    ctx: &Context,
) -> Vec<String> {
    if leads_to(world, name, &known.name, MAX_DEPTH) {
        let fault = format!(
            "playbook `{name}` leads back to `{}`, so a run would never end; take one of the `run` steps out",
            known.name
        );
        return vec![fault];
    }
    match plan_playbook(world, name, arguments, ctx) {
        Err(no) => vec![no.to_string()],
        Ok(steps) => steps
            .into_iter()
            .flat_map(|below| {
                let at = format!("playbook `{name}`, step `{}`: ", below.step.name);
                let faults = below.faults.into_iter();
                faults.map(move |fault| format!("{at}{fault}"))
            })
            .collect(),
    }
}

/// Whether a playbook runs another one, itself or by those it runs; deeper than the limit counts as that.
fn leads_to(world: &World, from: &PlaybookName, to: &PlaybookName, depth: u32) -> bool {
    if from == to || depth == 0 {
        return true;
    }
    let known = world.playbook_named(from).into_iter();
    let mut runs = known.flat_map(|known| known.spec.runs());
    runs.any(|below| leads_to(world, below, to, depth - 1))
}
