//! The rights that a command needs: a command that is in no row here does not compile.

use std::collections::BTreeSet;

use keywheel_core::approval::{self, Approval, Operation};
use keywheel_core::binding::{Binding, Reload, Selector};
use keywheel_core::command::{Command, Declaration, Outward, Replacing};
use keywheel_core::decision::scope::Hit;
use keywheel_core::id::{ApprovalId, HostId, RevocationId, RotationId, RunId, SecretId};
use keywheel_core::name::{BindingName, SecretName, StoreName};
use keywheel_core::playbook_run::Request;
use keywheel_core::secret;
use keywheel_core::store::{CredentialRef, StoreSpec};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_policy::{Resource, Verb};

use super::{Demand, steps};

/// What whoever submits a command for themselves has to be permitted, all of it.
#[must_use]
pub fn of_command(world: &World, command: &Command, now: Timestamp) -> Vec<Demand> {
    match command {
        Command::Apply(declarations) => of_declarations(world, declarations),
        Command::Unbind { name } => of_binding(world, name),
        Command::RemoveStore { name } => one(Verb::Delete, Resource::Store(name.to_string())),
        Command::Put { name, .. } => one(Verb::Write, of_name(name)),
        Command::Rotate { secret, .. } => one(Verb::Rotate, of_name(secret)),
        Command::Intervene { rotation, .. } => of_rotation(world, Verb::Rotate, *rotation),
        Command::Revoke { secret, .. } | Command::Replace(Replacing { secret, .. }) => {
            one(Verb::Revoke, of_name(secret))
        }
        Command::ForgetRevocation { revocation, .. } => {
            of_revocation(world, Verb::Revoke, *revocation)
        }
        Command::IssueJoinToken(wish) => one(Verb::Grant, Resource::Host(wish.name.to_string())),
        Command::EvictHost { host, .. } => vec![of_host(world, Verb::Revoke, *host)],
        Command::Outward(wish) => of_outward(wish),
        Command::Playbook(request) => of_request(world, request, now),
        // Whoever has tokens of their own made or revoked is asked for by the handler.
        Command::ApplyPolicies(_) | Command::Token(_) => vec![Demand::of_all(Verb::Grant)],
        Command::Approval(request) => about(world, request, now),
        // Nobody submits these for themselves; who may give themselves every right may as well.
        Command::Observed(_)
        | Command::StoreContact { .. }
        | Command::Due { .. }
        | Command::EnrolHost { .. }
        | Command::JoinHost(_)
        | Command::RotateHostKey(_)
        | Command::NotePermit(_)
        | Command::StepOutcome { .. }
        | Command::RevokeOutcome { .. }
        | Command::RetryStep { .. }
        | Command::RetryRevoke { .. }
        | Command::DeadlinePassed { .. }
        | Command::Report(_)
        | Command::LingerEnded { .. }
        | Command::ProofOutcome(_)
        | Command::BuryLost(_)
        | Command::JudgeBindings => vec![Demand::of_all(Verb::Grant)],
    }
}

/// Whoever says a word about a request may do themselves what it is for.
fn about(world: &World, request: &approval::Request, now: Timestamp) -> Vec<Demand> {
    match request {
        approval::Request::Ask(wish) => vec![of_operation(Some(wish.operation), &wish.object)],
        approval::Request::Perform(wish) => of_command(world, &wish.command, now),
        approval::Request::Approve { approval, .. }
        | approval::Request::Deny { approval, .. }
        | approval::Request::Withdraw { approval, .. }
        | approval::Request::BreakGlass { approval, .. }
        | approval::Request::Review { approval, .. } => of_approval_id(world, *approval),
    }
}

/// What a request is about, by its id; of one that is not there, all there is.
#[must_use]
pub fn of_approval_id(world: &World, id: ApprovalId) -> Vec<Demand> {
    let known = world.approvals.by_id(id);
    known.map_or_else(|| vec![Demand::of_all(Verb::Grant)], of_approval)
}

/// What a request is about.
#[must_use]
pub fn of_approval(known: &Approval) -> Vec<Demand> {
    vec![of_operation(known.operation, &known.object).as_found()]
}

fn of_operation(operation: Option<Operation>, object: &str) -> Demand {
    match operation {
        // As the route of shares has it.
        Some(Operation::Unseal) => Demand {
            or: Some(Verb::Grant),
            ..Demand::of_all(Verb::Write)
        },
        Some(Operation::AuditExport) => Demand::of_all(Verb::Audit),
        Some(Operation::HostReturn) => {
            let name = object.strip_prefix("host/").unwrap_or(object);
            Demand::new(Verb::Grant, Resource::Host(name.to_owned()))
        }
        Some(Operation::SinkChange | Operation::PolicyChange) | None => Demand::of_all(Verb::Grant),
    }
}

/// What whoever declares this has to be permitted.
#[must_use]
pub fn of_declarations(world: &World, declarations: &[Declaration]) -> Vec<Demand> {
    let each = declarations.iter().flat_map(|one| declared(world, one));
    // Sorted, and each asked once: a file may name one secret a thousand times.
    let each: BTreeSet<Demand> = each.collect();
    each.into_iter().collect()
}

fn declared(world: &World, declaration: &Declaration) -> Vec<Demand> {
    match declaration {
        Declaration::Secret { name, spec, .. } => of_secret(name, spec),
        Declaration::Binding {
            name,
            secret,
            also,
            previous,
            selector,
            reload,
            ..
        } => {
            let names = std::iter::once(secret).chain(also).chain(previous);
            let new = names.map(|name| Demand::new(Verb::Bind, of_name(name)));
            // Whoever changes a binding takes something away from what it gave, too.
            let known = world
                .binding_named(name)
                .is_some_and(|known| known.declared().is_some());
            let old = known.then(|| of_binding(world, name));
            let old = old.into_iter().flatten();
            new.chain(old).chain(of_reload(selector, reload)).collect()
        }
        Declaration::Store { name, spec, .. } => of_store(name, spec),
        // Its receiver is told the log.
        Declaration::Notification { name, .. } => vec![
            Demand::new(Verb::Write, Resource::Notification(name.to_string())),
            Demand::of_all(Verb::Audit),
        ],
        Declaration::SignalSource { name, .. } => {
            one(Verb::Write, Resource::SignalSource(name.to_string()))
        }
        Declaration::Playbook { name, spec, .. } => {
            let own = Demand::new(Verb::Write, Resource::Playbook(name.to_string()));
            let steps = steps::of_spec(world, spec);
            std::iter::once(own).chain(steps).collect()
        }
    }
}

/// Its rotator signs in with another secret and changes accounts by it, so that one has to be theirs to rotate. And
/// what lies at a store becomes the secret's value, so the store has to be theirs to use.
fn of_secret(name: &SecretName, spec: &secret::Spec) -> Vec<Demand> {
    let own = Demand::new(Verb::Write, of_name(name));
    let admin = spec.rotator.as_ref().map(|resource| &resource.admin);
    let admin = admin.map(|admin| Demand::new(Verb::Rotate, of_name(admin)));
    let store = match &spec.store {
        secret::Store::Outside(place) => Some(place.store.to_string()),
        secret::Store::Local => None,
    };
    let store = store.map(|store| Demand::new(Verb::Bind, Resource::Store(store)));
    std::iter::once(own).chain(admin).chain(store).collect()
}

/// A command is run in whatever containers a selector means, where it can read what they have, whoever gave it to them.
fn of_reload(selector: &Selector, reload: &Reload) -> Option<Demand> {
    let host = selector.host.as_ref();
    matches!(reload, Reload::Command { .. }).then(|| {
        host.map_or_else(
            || Demand::of_all(Verb::Bind),
            |host| Demand::new(Verb::Bind, Resource::Host(host.to_string())),
        )
    })
}

/// It signs in with secrets of ours, which have to be theirs to rotate; a file at store-sync may be anybody's.
fn of_store(name: &StoreName, spec: &StoreSpec) -> Vec<Demand> {
    let own = Demand::new(Verb::Write, Resource::Store(name.to_string()));
    let read = spec.backend.credentials().into_iter();
    let read = read.map(|credential| match credential {
        CredentialRef::Secret(name) => Demand::new(Verb::Rotate, of_name(name)),
        CredentialRef::File(_) => Demand::of_all(Verb::Rotate),
    });
    std::iter::once(own).chain(read).collect()
}

fn of_outward(wish: &Outward) -> Vec<Demand> {
    match wish {
        Outward::RemoveNotification(name) => {
            one(Verb::Delete, Resource::Notification(name.to_string()))
        }
        Outward::RemoveSignalSource(name) => {
            one(Verb::Delete, Resource::SignalSource(name.to_string()))
        }
        Outward::TakeSignal(signal) => {
            one(Verb::Write, Resource::SignalSource(signal.via.to_string()))
        }
    }
}

fn of_request(world: &World, request: &Request, now: Timestamp) -> Vec<Demand> {
    match request {
        Request::Start {
            playbook,
            arguments,
            ..
        } => {
            let own = Demand::new(Verb::List, Resource::Playbook(playbook.to_string()));
            let steps = steps::of_start(world, playbook, arguments, now);
            let steps: BTreeSet<Demand> = steps.into_values().flatten().collect();
            std::iter::once(own).chain(steps).collect()
        }
        Request::Approve { run, .. } | Request::Intervene { run, .. } => of_run(world, *run),
        Request::Lift { container, .. } => vec![of_container(world, container)],
        Request::Remove { name } => one(Verb::Delete, Resource::Playbook(name.to_string())),
        Request::Advance { .. } | Request::Due { .. } | Request::Answer { .. } => {
            vec![Demand::of_all(Verb::Grant)]
        }
    }
}

fn of_run(world: &World, run: RunId) -> Vec<Demand> {
    let Some(known) = world.runs.get(&run) else {
        return vec![Demand::of_all(Verb::List)];
    };
    let own = Demand::new(Verb::List, Resource::Playbook(known.name.to_string()));
    std::iter::once(own)
        .chain(steps::of_run(world, known))
        .collect()
}

/// What a quarantine keeps from a container is given to it again, by whatever bindings there are.
fn of_container(world: &World, container: &str) -> Demand {
    let mut meant = world.quarantines().filter(|(_, one)| {
        let subject = &one.subject;
        subject.name == container || subject.container.to_string().starts_with(container)
    });
    match (meant.next(), meant.next()) {
        (Some((host, _)), None) => {
            Demand::new(Verb::Bind, Resource::Host(host.name.to_string())).as_found()
        }
        _ => Demand::of_all(Verb::Bind),
    }
}

/// Of all secrets that a binding gives; of one that is not there, of all there is.
#[must_use]
pub fn of_binding(world: &World, name: &BindingName) -> Vec<Demand> {
    let known = world.binding_named(name);
    let spec = known.and_then(Binding::declared);
    let Some(spec) = spec else {
        return vec![Demand::of_all(Verb::Bind)];
    };
    spec.secrets()
        .map(|id| of_id(world, Verb::Bind, id))
        .collect()
}

/// Of the secret of a rotation.
#[must_use]
pub fn of_rotation(world: &World, verb: Verb, id: RotationId) -> Vec<Demand> {
    let known = world.rotations.get(&id);
    vec![known.map_or_else(
        || Demand::of_all(verb),
        |known| of_id(world, verb, known.secret),
    )]
}

/// Of the secret of a revocation.
#[must_use]
pub fn of_revocation(world: &World, verb: Verb, id: RevocationId) -> Vec<Demand> {
    let known = world.revocations.get(&id);
    vec![known.map_or_else(
        || Demand::of_all(verb),
        |known| of_id(world, verb, known.secret),
    )]
}

/// Of a host by its id.
#[must_use]
pub fn of_host(world: &World, verb: Verb, id: HostId) -> Demand {
    let known = world.hosts.get(&id);
    known.map_or_else(
        || Demand::of_all(verb),
        |known| Demand::new(verb, Resource::Host(known.name.to_string())).as_found(),
    )
}

fn of_id(world: &World, verb: Verb, id: SecretId) -> Demand {
    let known = world.secrets.get(&id);
    known.map_or_else(
        || Demand::of_all(verb),
        |known| Demand::new(verb, of_name(&known.name)).as_found(),
    )
}

fn of_name(name: &SecretName) -> Resource {
    Resource::Secret(name.to_string())
}

fn one(verb: Verb, resource: Resource) -> Vec<Demand> {
    vec![Demand::new(verb, resource)]
}

/// Of all that lies at a path and below it, and of the path itself: what comes to lie there, too.
#[must_use]
pub fn of_path(world: &World, verb: Verb, path: &str) -> Vec<Demand> {
    let own = Demand::new(verb, Resource::Path(path.to_owned()));
    let each = below(world, path);
    let each = each.map(|name| Demand::new(verb, Resource::Secret(name)).as_found());
    std::iter::once(own).chain(each).collect()
}

/// Of each secret that is hit.
#[must_use]
pub fn of_hits(world: &World, verb: Verb, hits: &[Hit]) -> Vec<Demand> {
    hits.iter()
        .map(|hit| of_id(world, verb, hit.secret))
        .collect()
}

/// Names of the secrets at a path and below it.
fn below<'w>(world: &'w World, path: &'w str) -> impl Iterator<Item = String> + 'w {
    let names = world.declared_secrets().map(|secret| secret.name.as_str());
    let lies = move |name: &&str| {
        let rest = name.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    names.filter(lies).map(str::to_owned)
}
