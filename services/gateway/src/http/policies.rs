//! Policies over HTTP: showing the set in force, applying one, explaining a decision.
//!
//! Invariant: a set is held to the schema before it is a command, so none that cannot be read gets into the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::Method;
use axum::routing::{get, post};
use keywheel_core::audit::Outcome;
use keywheel_core::command::Command;
use keywheel_core::id::PolicySetId;
use keywheel_core::policy::{Applied, Group, Policies, Request};
use keywheel_core::world::World;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_policy::{Estate, Fault, Finding, Principal, Resource, Set, Source, Verb, WordError};
use keywheel_schemas::api::{
    ApplyPoliciesRequest, NearPolicy, PoliciesInForce, PoliciesView, PolicyExplanation,
    PolicyFinding,
};
use serde::Deserialize;

use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, Route, unanswered};
use crate::admission::entitlement::{Taken, taken_by};
use crate::admission::{Demand, identity, source_of};

/// What a set does to a binding whose service may not have what it gives.
const WITHHOLDS: &str = "withholds";
/// Most bindings that a refusal names.
const MAX_NAMED: usize = 10;

/// What there is to ask here.
pub(super) fn routes() -> Vec<Route> {
    vec![
        (Method::GET, "/v1/policies", get(show)),
        (Method::GET, "/v1/policies/explain", get(explain)),
        (Method::POST, "/v1/policies", post(apply)),
    ]
}

/// Which set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptQuery {
    version: Option<u64>,
}

async fn show(
    State(api): State<Api>,
    query: Result<Query<KeptQuery>, QueryRejection>,
) -> Result<Json<PoliciesView>, Failure> {
    let version = query?.0.version;
    api.commands.look_at_head().await?;
    let (set, kept) = {
        let committed = api.view.read();
        let world = &committed.world;
        let in_force = world.policies().map_or(0, |applied| applied.version);
        (find(world, version.unwrap_or(in_force))?, kept(world))
    };
    Ok(Json(view(&api, set.as_deref(), kept).await))
}

/// A set by its version; `None` for the shipped one.
fn find(world: &World, version: u64) -> Result<Option<Arc<Applied>>, Failure> {
    if version == 0 {
        return Ok(None);
    }
    let mut kept = world.policies_kept();
    let found = kept.find(|applied| applied.version == version);
    found.cloned().map(Some).ok_or_else(|| {
        Failure::not_found(format!(
            "version {version} of the policies is not at hand; `keywheel events list --type dev.keywheel.policy.` shows every set that was applied"
        ))
    })
}

fn kept(world: &World) -> Vec<u64> {
    world
        .policies_kept()
        .map(|applied| applied.version)
        .collect()
}

/// Reading a large set takes a while; other requests go on meanwhile.
async fn compile(source: Source) -> Result<Set, Vec<Fault>> {
    let reading = tokio::task::spawn_blocking(move || Set::compile(&source)).await;
    reading.unwrap_or_else(|_| {
        let text = "reading the set broke off";
        Err(vec![Fault::Engine(text.to_owned())])
    })
}

/// A set as it is shown.
async fn view(api: &Api, applied: Option<&Applied>, kept: Vec<u64>) -> PoliciesView {
    let source = applied.map_or_else(Source::shipped, |known| source_of(&known.policies));
    let in_force = kept.last().copied().unwrap_or(0);
    let version = applied.map_or(0, |known| known.version);
    let (findings, faults) = match compile(source.clone()).await {
        Ok(set) => (findings(api, &set), Vec::new()),
        Err(faults) => (Vec::new(), faults.iter().map(ToString::to_string).collect()),
    };
    PoliciesView {
        version,
        in_force: version == in_force,
        by: applied.map(|known| known.by.clone()),
        number: applied.map(|known| known.number),
        policies: source.policies,
        groups: source.groups,
        findings,
        faults,
        kept,
    }
}

fn findings(api: &Api, set: &Set) -> Vec<PolicyFinding> {
    let estate = estate(&api.view.read().world);
    let told = |finding: Finding| PolicyFinding {
        policy: finding.policy,
        kind: finding.kind.word().to_owned(),
        text: finding.text,
    };
    set.lint(Some(&estate)).into_iter().map(told).collect()
}

/// Everything that has a name now.
pub(super) fn estate(world: &World) -> Estate {
    let secrets = world.declared_secrets();
    let secrets = secrets.map(|known| Resource::Secret(known.name.to_string()));
    let stores = world.stores.values();
    let stores = stores.map(|known| Resource::Store(known.store.name.to_string()));
    let hosts = world
        .live_hosts()
        .map(|known| Resource::Host(known.name.to_string()));
    let playbooks = world.playbooks.values();
    let playbooks = playbooks.map(|known| Resource::Playbook(known.name.to_string()));
    let told = world.notifications.values();
    let told = told.map(|known| Resource::Notification(known.name.to_string()));
    let sources = world.signal_sources.values();
    let sources = sources.map(|known| Resource::SignalSource(known.name.to_string()));
    let all = secrets.chain(stores).chain(hosts).chain(playbooks);
    let known: BTreeSet<Resource> = all.chain(told).chain(sources).collect();
    Estate { known }
}

async fn apply(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<ApplyPoliciesRequest>,
) -> Result<Json<PoliciesView>, Failure> {
    // Before the set is read: reading takes a while, and is nobody else's to ask for.
    let by = api
        .admit_caller(&caller, &[Demand::of_all(Verb::Grant)])
        .await?;
    let Object(request) = body?;
    let source = Source {
        policies: request.policies,
        groups: request.groups,
    };
    let set = compile(source.clone())
        .await
        .map_err(|faults| told(&faults))?;
    let set = Arc::new(set);
    let taken = taken_from(&api, &set).await?;
    if request.dry_run {
        let by = by.unwrap_or_default();
        let object = "policies";
        let record = api.record(
            &caller.principal,
            "apply-policies-dry-run",
            object,
            Outcome::Allowed,
            &by,
        );
        unanswered::by(api.commands.record(record)).await?;
        return Ok(Json(PoliciesView {
            version: 0,
            in_force: false,
            by: None,
            number: None,
            findings: findings(&api, &set)
                .into_iter()
                .chain(taken.iter().map(withholding))
                .collect(),
            policies: source.policies,
            groups: source.groups,
            faults: Vec::new(),
            kept: kept(&api.view.read().world),
        }));
    }
    if !request.withhold && !taken.is_empty() {
        return Err(takes_from(&taken));
    }
    let wanted = policies(&source);
    api.admission.prepare(&wanted, set.clone());
    let command = Command::ApplyPolicies(Request {
        id: PolicySetId::from_bytes(caller.draw(&api, "policies")),
        expected: request.expected,
        policies: wanted.clone(),
        by: identity(&caller.principal),
    });
    api.submit(&caller, command).await?;
    let (in_force, kept) = {
        let committed = api.view.read();
        (committed.world.policies().cloned(), kept(&committed.world))
    };
    // Somebody may have applied another one since.
    if let Some(applied) = in_force.as_ref().filter(|one| one.policies == wanted) {
        api.admission.take(applied, set);
    }
    Ok(Json(view(&api, in_force.as_deref(), kept).await))
}

/// What a set takes from bindings that grant now.
async fn taken_from(api: &Api, set: &Arc<Set>) -> Result<Vec<Taken>, Failure> {
    let taken = taken_by(set.clone(), &api.view, api.clock.now()).await;
    taken.map_err(|_| {
        let text = "the bindings were not held against the set to the end; try again";
        PortError::new(ErrorKind::Unavailable, text).into()
    })
}

fn withholding(taken: &Taken) -> PolicyFinding {
    PolicyFinding {
        policy: taken.denial.reason.clone(),
        kind: WITHHOLDS.to_owned(),
        text: words(taken),
    }
}

fn words(taken: &Taken) -> String {
    let Taken {
        binding,
        secret,
        denial,
    } = taken;
    format!(
        "binding `{binding}` gives nothing any more, for service `{}` may not read `secret/{secret}` ({})",
        denial.service, denial.reason
    )
}

/// Nobody takes secrets from running containers by leaving a policy out.
fn takes_from(taken: &[Taken]) -> Failure {
    let mut lines: Vec<String> = taken.iter().take(MAX_NAMED).map(words).collect();
    let left = taken.len().saturating_sub(lines.len());
    if left > 0 {
        lines.push(format!("and {left} more; `--dry-run` names them all"));
    }
    lines.push(
        "containers would lose what they have: permit `read` to these services, or apply it with `--withhold` (`withhold` of the request)"
            .to_owned(),
    );
    Failure::conflict(lines.join("\n"))
}

fn policies(source: &Source) -> Policies {
    let groups = source.groups.iter().map(|(name, members)| Group {
        name: name.clone(),
        members: members.iter().cloned().collect(),
    });
    Policies {
        text: source.policies.clone(),
        groups: groups.collect(),
    }
}

fn told(faults: &[Fault]) -> Failure {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Failure::invalid(lines.join("\n"))
}

/// What is to be explained.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    principal: String,
    verb: String,
    resource: String,
}

async fn explain(
    State(api): State<Api>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<PolicyExplanation>, Failure> {
    let Query(asked) = query?;
    let wrong = |error: WordError| Failure::invalid(error.to_string());
    let principal = Principal::parse(&asked.principal).map_err(wrong)?;
    let verb = Verb::parse(&asked.verb).map_err(wrong)?;
    let resource = Resource::parse(&asked.resource).map_err(wrong)?;
    api.commands.look_at_head().await?;
    let in_force = api.in_force();
    let told = in_force.explain(
        principal,
        verb,
        resource,
        super::gates::seconds(api.clock.now()),
    );
    let near = told.near.into_iter().map(|one| NearPolicy {
        policy: one.policy,
        permits: one.permits,
        but: one.but.words().to_owned(),
    });
    Ok(Json(PolicyExplanation {
        allowed: told.decision.allowed,
        reason: told.decision.reason(),
        policies: told.decision.policies,
        near: near.collect(),
        version: in_force.version.unwrap_or(0),
    }))
}

/// Which policies are in force, for the status.
pub(super) fn in_force(api: &Api) -> PoliciesInForce {
    let in_force = api.in_force();
    let count = u64::try_from(in_force.set.len()).unwrap_or(u64::MAX);
    let note = match in_force.version {
        None => "shipped: nobody applied a set, so whoever may come in may do everything; `keywheel policy apply` changes that".to_owned(),
        Some(version) if !in_force.is_read => format!(
            "version {version} cannot be read by this gateway, so nobody may anything but root, or the daemon's own user, who may apply another set; its log says why"
        ),
        Some(version) => format!("version {version}, {count} policies; what none permits is denied"),
    };
    PoliciesInForce {
        version: in_force.version.unwrap_or(0),
        count,
        note,
    }
}
