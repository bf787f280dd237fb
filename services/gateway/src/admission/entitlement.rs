//! What services may have: each binding is held against the policies when it is declared and when they change, within
//! that decision, and from time to time, since some of them end by themselves.
//!
//! Invariants: without a set of one's own every binding grants what it says; a set that this gateway cannot read takes
//! nothing from anybody, and lets nobody have more.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::{self, Role};
use keywheel_core::binding::{Binding, Denial, Spec};
use keywheel_core::command::Command;
use keywheel_core::id::{CommandId, SecretId};
use keywheel_core::name::BindingName;
use keywheel_core::policy::Applied;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::command_bus::{Entitle, Handle, Submission};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::state::View;
use keywheel_policy::{Asked, Principal, Resource, Set, Verb};
use tokio_util::sync::CancellationToken;

use super::{Admission, MAX_REASON_CHARS};

/// How often bindings are held against policies that nobody changed.
pub const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// What decides where the policies cannot be read.
const UNREAD: &str = "the policies in force cannot be read by this gateway";

/// Answers the command bus.
#[must_use]
pub fn judge(admission: &Arc<Admission>) -> Entitle {
    let admission = Arc::clone(admission);
    Arc::new(
        move |world: &World, name: &BindingName, spec: &Spec, at: Timestamp| {
            let in_force = admission.of_draft(world.policies()?);
            match in_force.is_read {
                true => {
                    let names = names_in(world, spec);
                    denial(&in_force.set, (spec.service(name), spec), &names, at)
                }
                false => unread(world.binding_named(name), (name, spec)),
            }
        },
    )
}

/// Whatever was said of a binding as it is goes on to count; another one gets nothing.
fn unread(known: Option<&Binding>, (name, spec): (&BindingName, &Spec)) -> Option<Denial> {
    let same = known.filter(|known| known.declared() == Some(spec));
    let Some(same) = same else {
        return Some(Denial {
            service: spec.service(name),
            secret: spec.secret,
            reason: UNREAD.to_owned(),
        });
    };
    let withheld = same.withheld.as_ref();
    withheld.map(|withheld| withheld.denial.clone())
}

/// Names of the secrets of a binding.
type Names = BTreeMap<SecretId, String>;

fn names_in(world: &World, spec: &Spec) -> Names {
    let known = spec.secrets().filter_map(|id| world.secrets.get(&id));
    known
        .map(|secret| (secret.id, secret.name.to_string()))
        .collect()
}

/// The first of a binding's secrets that its service may not have, and what decided.
fn denial(
    set: &Set,
    (service, spec): (String, &Spec),
    names: &Names,
    at: Timestamp,
) -> Option<Denial> {
    let decided = spec.secrets().find_map(|id| {
        let asked = Asked {
            principal: Principal::Service {
                name: service.clone(),
                path: service.clone(),
            },
            verb: Verb::Read,
            resource: Resource::Secret(names.get(&id)?.clone()),
            now: at.micros().div_euclid(1_000_000),
        };
        let decision = set.decide(&asked);
        (!decision.allowed).then(|| (id, decision.reason()))
    });
    let (secret, reason) = decided?;
    Some(Denial {
        service,
        secret,
        reason: reason.chars().take(MAX_REASON_CHARS).collect(),
    })
}

/// A binding as it stands, apart from the state that it is in.
#[derive(Debug, Clone)]
struct Standing {
    name: BindingName,
    spec: Spec,
    names: Names,
    /// Why it is withheld.
    denial: Option<Denial>,
}

fn standing(world: &World) -> Vec<Standing> {
    let of = |binding: &Binding| {
        let spec = binding.declared()?.clone();
        let withheld = binding.withheld.as_ref();
        Some(Standing {
            name: binding.name.clone(),
            names: names_in(world, &spec),
            spec,
            denial: withheld.map(|withheld| withheld.denial.clone()),
        })
    };
    world.bindings.values().filter_map(of).collect()
}

/// What a set would take from a binding that grants now.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The binding.
    pub binding: BindingName,
    /// The first secret that its service could not have any more.
    pub secret: String,
    /// What would be against it.
    pub denial: Denial,
}

/// All that a set would take.
///
/// # Errors
/// When the work was cut off.
pub async fn taken_by(
    set: Arc<Set>,
    view: &View,
    at: Timestamp,
) -> Result<Vec<Taken>, tokio::task::JoinError> {
    let all = standing(&view.read().world);
    let judging = move || {
        let granting = all.into_iter().filter(|one| one.denial.is_none());
        let taken = granting.filter_map(|one| {
            let service = one.spec.service(&one.name);
            let denial = denial(&set, (service, &one.spec), &one.names, at)?;
            Some(Taken {
                binding: one.name,
                secret: one.names.get(&denial.secret).cloned().unwrap_or_default(),
                denial,
            })
        });
        taken.collect()
    };
    // As many decisions as there are bindings take a while; other requests go on meanwhile.
    tokio::task::spawn_blocking(judging).await
}

/// Holds bindings against policies that nobody changed.
pub struct Rights {
    /// Where it is decided.
    pub commands: Handle,
    /// Committed state.
    pub view: View,
    /// Reads sets.
    pub admission: Arc<Admission>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
}

impl Rights {
    /// Looks at the start, which an update of this program may have come with, and again and again until stopped.
    ///
    /// # Errors
    /// Never: what cannot be asked for now is asked for at the next look.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            if self.is_otherwise().await {
                self.have_judged().await;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Whether some binding would be judged otherwise than it was.
    async fn is_otherwise(&self) -> bool {
        let (applied, all): (Option<Arc<Applied>>, Vec<Standing>) = {
            let committed = self.view.read();
            let world = &committed.world;
            (world.policies().cloned(), standing(world))
        };
        let Some(applied) = applied else {
            return false;
        };
        let (admission, at) = (Arc::clone(&self.admission), self.clock.now());
        let looking = tokio::task::spawn_blocking(move || {
            let in_force = admission.in_force(Some(&applied));
            let is_other = |one: &Standing| {
                let of = (one.spec.service(&one.name), &one.spec);
                denial(&in_force.set, of, &one.names, at) != one.denial
            };
            in_force.is_read && all.iter().any(is_other)
        });
        looking.await.unwrap_or_else(|error| {
            let reason = keywheel_daemon::chain(&error);
            tracing::warn!(reason, "bindings were not held against the policies");
            false
        })
    }

    async fn have_judged(&self) {
        let submission = Submission {
            id: CommandId::from_bytes(self.ids.draw()),
            principal: audit::Principal::Service(Role::Gateway),
            traceparent: None,
            command: Command::JudgeBindings,
        };
        if let Err(error) = self.commands.submit(submission).await {
            let reason = keywheel_daemon::chain(&error);
            tracing::warn!(reason, "policies that ended still count for bindings");
        }
    }
}

#[cfg(test)]
mod tests;
