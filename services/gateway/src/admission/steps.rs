//! The rights that a playbook's steps need of whoever runs it.
//!
//! A step's list is made when it begins, so what it means is asked for as it is written, and beside that all it would
//! hit now: who may do something at a path may begin a step about that path, as long as nothing below it is forbidden
//! to them. What a step names by host, store, container, image or service may be anybody's by then, so it takes the
//! right to all there is.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::decision::{Context, Enrolment, MAX_PLANNED_RUNS, plan_playbook};
use keywheel_core::id::{HostId, SecretId};
use keywheel_core::name::PlaybookName;
use keywheel_core::playbook::{Deed, Selection, Spec};
use keywheel_core::playbook_run::{Run, Target};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_policy::{Resource, Verb};

use super::Demand;
use super::demands::of_path;

/// How a text begins that a run puts something in.
const PARAMETER: &str = "${";

/// Of a run that is to begin, step by step; one that cannot be planned needs what it says of itself alone, and is
/// refused when it is decided. Each playbook below is looked into once for what it is told, and into so many as a plan
/// looks into: what is below others takes the right to all there is.
#[must_use]
pub fn of_start(
    world: &World,
    name: &PlaybookName,
    told: &BTreeMap<String, String>,
    now: Timestamp,
) -> BTreeMap<String, BTreeSet<Demand>> {
    let mut walk = Walk {
        world,
        ctx: Context {
            now,
            seed: [0; 16],
            enrolment: Enrolment::default(),
        },
        seen: BTreeSet::new(),
        all: BTreeMap::new(),
    };
    walk.enter((name, told), "");
    walk.all
}

/// A look into a playbook and those below it.
struct Walk<'w> {
    world: &'w World,
    ctx: Context,
    /// Playbooks that were looked into, with what they are told.
    seen: BTreeSet<(PlaybookName, BTreeMap<String, String>)>,
    all: BTreeMap<String, BTreeSet<Demand>>,
}

impl Walk<'_> {
    fn enter(&mut self, (name, told): (&PlaybookName, &BTreeMap<String, String>), at: &str) {
        let below = (name.clone(), told.clone());
        if self.seen.contains(&below) {
            return;
        }
        if self.seen.len() > MAX_PLANNED_RUNS {
            let needs = self.all.entry(at.to_owned()).or_default();
            needs.extend([Verb::Rotate, Verb::Revoke].map(Demand::of_all));
            return;
        }
        self.seen.insert(below);
        let Ok(steps) = plan_playbook(self.world, name, told, &self.ctx) else {
            return;
        };
        for planned in steps {
            let step = &planned.step;
            let place = match at {
                "" => step.name.clone(),
                at => format!("{at}/{}", step.name),
            };
            let needs = self.all.entry(place.clone()).or_default();
            needs.extend(of_deed(self.world, &step.deed));
            needs.extend(of_targets(self.world, &step.deed, &planned.targets));
            if let Deed::Run {
                playbook,
                arguments,
            } = &step.deed
            {
                self.enter((playbook, arguments), &place);
            }
        }
    }
}

/// Of a run that is there, and of what it runs: approving, pausing and ending what one could not begin is no lesser
/// thing.
#[must_use]
pub fn of_run(world: &World, run: &Run) -> BTreeSet<Demand> {
    let mut all = BTreeSet::new();
    for state in &run.steps {
        all.extend(of_deed(world, &state.step.deed));
        all.extend(of_targets(world, &state.step.deed, &state.targets));
    }
    let below = run.steps.iter().map(|state| &state.step.deed);
    all.extend(of_below(world, below));
    all
}

/// Of a playbook that is declared, and of what it runs: its triggers run both for nobody.
#[must_use]
pub fn of_spec(world: &World, spec: &Spec) -> BTreeSet<Demand> {
    let deeds = || spec.steps.iter().map(|step| &step.deed);
    let own = deeds().flat_map(|deed| of_deed(world, deed));
    own.chain(of_below(world, deeds())).collect()
}

/// Of the playbooks that deeds run, and of those below these, as they are written; what they are told is not put in.
/// One that is not there yet is asked for by whoever declares it.
fn of_below<'w>(world: &'w World, deeds: impl Iterator<Item = &'w Deed>) -> BTreeSet<Demand> {
    let run = |deed: &'w Deed| match deed {
        Deed::Run { playbook, .. } => Some(playbook),
        _ => None,
    };
    let mut open: Vec<&PlaybookName> = deeds.filter_map(run).collect();
    let (mut seen, mut all) = (BTreeSet::new(), BTreeSet::new());
    while let Some(name) = open.pop() {
        let Some(known) = world.playbook_named(name).filter(|_| seen.insert(name)) else {
            continue;
        };
        for step in &known.spec.steps {
            all.extend(of_deed(world, &step.deed));
        }
        open.extend(known.spec.runs());
    }
    all
}

/// As it is written.
fn of_deed(world: &World, deed: &Deed) -> Vec<Demand> {
    let selected = |verb, all: &[Selection]| {
        let each = all.iter().flat_map(|one| of_selection(world, verb, one));
        each.collect::<Vec<_>>()
    };
    let named = |resource: fn(String) -> Resource, name: String| {
        vec![Demand::new(Verb::List, resource(name))]
    };
    match deed {
        Deed::Rotate { secrets } => selected(Verb::Rotate, secrets),
        Deed::Restart { containers } => selected(Verb::Rotate, containers),
        Deed::Revoke { secrets, .. } => selected(Verb::Revoke, secrets),
        Deed::Quarantine { containers, .. } => selected(Verb::Revoke, containers),
        Deed::Evict { host } => vec![of_host(world, host)],
        Deed::Run { playbook, .. } => named(Resource::Playbook, playbook.to_string()),
        Deed::Call { notification, .. } => named(Resource::Notification, notification.to_string()),
        Deed::Notify { notifications, .. } => {
            let names = notifications.iter().map(ToString::to_string);
            let names = names.map(Resource::Notification);
            names.map(|one| Demand::new(Verb::List, one)).collect()
        }
        Deed::Wait { .. } | Deed::Approve { .. } | Deed::Withdrawn | Deed::Prove => Vec::new(),
    }
}

fn of_selection(world: &World, verb: Verb, selection: &Selection) -> Vec<Demand> {
    let text = selection.text();
    if text.contains(PARAMETER) {
        return vec![Demand::of_all(verb)];
    }
    match selection {
        Selection::Secret { name } => vec![Demand::new(verb, Resource::Secret(name.clone()))],
        Selection::Prefix { path } => of_path(world, verb, path),
        Selection::HeldBy { .. }
        | Selection::Store { .. }
        | Selection::Container { .. }
        | Selection::Image { .. }
        | Selection::Service { .. } => vec![Demand::of_all(verb)],
    }
}

fn of_host(world: &World, host: &str) -> Demand {
    if host.contains(PARAMETER) {
        return Demand::of_all(Verb::Revoke);
    }
    let known = HostId::parse(host).ok();
    let known = known.and_then(|id| world.hosts.get(&id));
    let name = known.map_or_else(|| host.to_owned(), |known| known.name.to_string());
    Demand::new(Verb::Revoke, Resource::Host(name))
}

/// As it would be now.
fn of_targets(world: &World, deed: &Deed, targets: &[Target]) -> Vec<Demand> {
    let verb = match deed {
        Deed::Rotate { .. } => Verb::Rotate,
        Deed::Revoke { .. } => Verb::Revoke,
        _ => return Vec::new(),
    };
    let secret = |id: &SecretId| world.secrets.get(id).map(|known| known.name.to_string());
    let each = targets.iter().filter_map(|target| match target {
        Target::Secret { secret: id, .. } => {
            Some(Demand::new(verb, Resource::Secret(secret(id)?)).as_found())
        }
        _ => None,
    });
    each.collect()
}
