//! The second question of a container's create: its files, before the first instruction.

use std::collections::BTreeMap;
use std::sync::Arc;

use keywheel_core::binding::Target;
use keywheel_core::id::ContainerId;
use keywheel_core::plan::Grant;
use keywheel_core::plan::HostPlan;
use keywheel_engine::trace::Context;
use keywheel_seal::SecretBytes;
use keywheel_sys::secretfs::FileAttr;
use keywheel_telemetry::traces::{Kind, Span, names as spans};

use crate::attach::{Attached, Tools, Wanted, attach};
use crate::form::Form;
use crate::granted::{further_of, grant_of, previous_of, seen_by};
use crate::model::Place;
use crate::origin::SERVICE;
use crate::runtime::answer::{Answer, Refused, key_of, no, open_all, parse_id, parts_of, refuse};
use crate::runtime::resolve::{Denied, choose};
use crate::runtime::wire::{Question, Refusal};
use crate::runtime::wrapper;
use crate::service::Event;
use crate::shared::{Given, Pending, Shared, VersionKey};
use crate::state::{Remembered, RememberedHolding, end, owed_to};
use keywheel_daemon::failpoint;

/// Puts files into a created container; the event tells the reconciler.
pub(crate) async fn place(
    shared: &Arc<Shared>,
    tools: &Tools,
    question: &Question,
) -> Answer<Event> {
    let id = parse_id(&question.id)?;
    failpoint::hit_async("injector.before_attach")
        .await
        .map_err(injected)?;
    let mut pending = shared.take_pending(&id).ok_or_else(|| {
        let error = format!(
            "nothing was resolved for container {}, or too long ago",
            id.short()
        );
        no(error, "start the container again")
    })?;
    // It ends here: what the runtime does with the answer is next to nothing.
    let mut create = std::mem::take(&mut pending.create);
    wrapper::tell_real(shared, question, pending.trace);
    let mut span = Span::below(SERVICE, spans::ATTACH, Kind::Server, pending.trace)
        .with(spans::RPC_SYSTEM, spans::SYSTEM)
        .with(spans::RPC_METHOD, spans::ATTACH)
        .with(spans::CONTAINER_ID, id.to_string())
        .with(spans::CONTAINER_NAME, pending.facts.name.clone());
    let placed = put(shared, tools, question, pending, span.context()).await;
    if let Err(refused) = &placed {
        for span in [&mut create, &mut span] {
            span.fail("refused", &refused.refusal.error);
        }
    }
    placed
}

async fn put(
    shared: &Arc<Shared>,
    tools: &Tools,
    question: &Question,
    pending: Pending,
    trace: Option<Context>,
) -> Answer<Event> {
    let id = pending.facts.id.clone();
    let (files, intent) = shared.intend(|plan| {
        let Some(plan) = plan else {
            return (Ok(Vec::new()), Vec::new());
        };
        let seen = seen_by(plan, &pending.facts.id);
        let dead = |given: &&Given| is_dead(&seen, given);
        if let Some(given) = pending.env.iter().find(dead) {
            return (Err(revoked(given)), Vec::new());
        }
        let files = choose(plan, &shared.options.host_name, &pending.facts, &[], &[])
            .map(|chosen| chosen.files);
        let parts = files.iter().flatten().flat_map(parts_of);
        let versions = parts.map(|(given, _)| key_of(&given)).collect();
        (files, versions)
    });
    let files = files.map_err(|denied| refuse(&pending.facts, *denied))?;
    let wanted = wanted(shared, &pending, &files, trace).await?;
    let mut base = remembered(&pending);
    let (tools, pid, target_id) = (tools.clone(), question.pid, id.clone());
    let work = move || {
        // What is owed to it the incarnation before did not take along.
        base.owed = owed_to(&tools.state, target_id.as_str());
        attach(&tools, &target_id, pid, base, wanted)
    };
    let attached = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err("the injector is stopping".to_owned()));
    let attached = attached.map_err(|reason| {
        let next = "check the injector's log, then start the container again";
        let secret = files
            .first()
            .map(|(given, _)| given.binding.secret_name.to_string());
        let denied = Denied {
            refusal: Refusal::new(reason, next),
            secret: secret.unwrap_or_default(),
            binding: files.first().map(|(given, _)| given.binding.name.clone()),
        };
        refuse(&pending.facts, denied)
    })?;
    if let Err(denied) = check_complete(&pending, &files, &attached) {
        // The wrapper deletes the container; of what is in place nothing is to be remembered.
        let (folder, ticks) = (shared.options.state(), attached.ticks);
        let _ = tokio::task::spawn_blocking(move || end(&folder, id.as_str(), ticks)).await;
        return Err(denied);
    }
    // What is in place now is remembered and found again; the container starts or is deleted.
    let _injected = failpoint::hit_async("injector.after_attach").await;
    Ok(Event::Placed {
        id,
        pid: question.pid,
        pending: Box::new(pending),
        attached: Box::new(attached),
        intent,
    })
}

fn injected(error: failpoint::Injected) -> Box<Refused> {
    no(error.to_string(), "start the container again")
}

/// Whether what was resolved may not be used any more, by the plan of now.
fn is_dead(plan: &HostPlan, given: &Given) -> bool {
    let mut bindings = plan.bindings.iter();
    let now = bindings.find(|binding| binding.binding == given.binding.binding);
    now.is_none_or(|now| {
        grant_of(now).is_none() || given.version <= now.floor || now.dead.contains(&given.version)
    })
}

fn revoked(given: &Given) -> Box<Denied> {
    let error = format!(
        "secret `{}` was revoked while the container was created",
        given.binding.secret_name
    );
    let next = format!(
        "make a new version with `keywheel rotate {}`, then start the container again",
        given.binding.secret_name
    );
    Box::new(Denied {
        refusal: Refusal::new(error, next),
        secret: given.binding.secret_name.to_string(),
        binding: Some(given.binding.name.clone()),
    })
}

async fn wanted(
    shared: &Arc<Shared>,
    pending: &Pending,
    files: &[(Given, Grant)],
    trace: Option<Context>,
) -> Answer<Vec<Wanted>> {
    let parts: Vec<(Given, Grant)> = files.iter().flat_map(parts_of).collect();
    let values = open_all(shared, &pending.facts, parts.iter(), trace).await?;
    let values = values.into_iter();
    let values: BTreeMap<VersionKey, Arc<SecretBytes>> = values
        .map(|(key, opened)| (key, Arc::new(opened.value)))
        .collect();
    let want = |(given, _): &(Given, Grant)| {
        let (Target::File {
            directory,
            name,
            uid,
            gid,
            mode,
            ..
        }
        | Target::Files {
            directory,
            name,
            uid,
            gid,
            mode,
            ..
        }) = &given.binding.target
        else {
            return None;
        };
        Some(Wanted {
            binding: given.binding.binding,
            secret: given.binding.secret,
            version: given.version,
            directory: directory.clone(),
            name: name.clone(),
            attr: FileAttr {
                uid: *uid,
                gid: *gid,
                mode: *mode,
            },
            form: Form::of(&given.binding),
            value: Arc::clone(values.get(&key_of(given))?),
            further: further_of(&given.binding)
                .map(|(one, grant)| (one.secret, grant.version))
                .chain(previous_of(&given.binding).map(|(secret, grant)| (secret, grant.version)))
                .map(|key| Some((key, Arc::clone(values.get(&key)?))))
                .collect::<Option<_>>()?,
        })
    };
    Ok(files.iter().filter_map(want).collect())
}

/// What is remembered of the container before its file systems are attached: its variables.
fn remembered(pending: &Pending) -> Remembered {
    let holding = |given: &Given| match &given.place {
        Place::Env { name } => Some(RememberedHolding {
            binding: given.binding.binding.to_string(),
            secret: given.binding.secret.to_string(),
            version: given.version,
            acked: false,
            began: true,
            dir: String::new(),
            name: name.to_string(),
            attr: None,
            further: Vec::new(),
            previous: Vec::new(),
        }),
        Place::File { .. } => None,
    };
    let id: &ContainerId = &pending.facts.id;
    Remembered {
        container: id.to_string(),
        name: pending.facts.name.clone(),
        image: pending.facts.image_digest.clone(),
        ticks: 0,
        dirs: Vec::new(),
        holdings: pending.env.iter().filter_map(holding).collect(),
        owed: String::new(),
        lost: Vec::new(),
    }
}

/// A container under the wrapper gets all its files or does not start.
fn check_complete(pending: &Pending, files: &[(Given, Grant)], attached: &Attached) -> Answer<()> {
    let refused = attached.refused.iter();
    let mut refused = refused.map(|(binding, _, _, reason)| (binding, reason));
    let unformed = attached.unformed.iter();
    let mut unformed = unformed.map(|(binding, one)| (binding, &one.reason));
    let Some((binding, reason)) = unformed.next().or_else(|| refused.next()) else {
        return Ok(());
    };
    let about = files
        .iter()
        .map(|(given, _)| &given.binding)
        .find(|planned| planned.binding == *binding);
    let refusal = Refusal::new(
        format!(
            "the secret files of container {} cannot be put in place: {reason}",
            pending.facts.name
        ),
        "solve that, then start the container again",
    );
    Err(refuse(
        &pending.facts,
        Denied {
            refusal,
            secret: about
                .map(|planned| planned.secret_name.to_string())
                .unwrap_or_default(),
            binding: about.map(|planned| planned.name.clone()),
        },
    ))
}
