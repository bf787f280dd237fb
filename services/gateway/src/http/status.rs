//! `GET /v1/status`: answers also when the journal does not.

use axum::Json;
use axum::extract::{Extension, State};
use keywheel_core::approval::Approval;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::Head;
use keywheel_engine::presence::{COPY_FACT, Fact, Health, Row};
use keywheel_policy::Verb;
use keywheel_schemas::api::{
    Component, ComponentKind, FactView, Feature, Finding, HealthWord, Status,
};
use keywheel_schemas::mirror::TextForm as _;

use super::{Api, Caller, policies};
use crate::admission::Demand;
use crate::dual;
use crate::views::status::{Part, Sources, is_sealed, overview, worst};

/// Broken glass that the status names one by one.
const MAX_UNREVIEWED: usize = 8;
/// What who logged in hears of findings that they may not see.
const WITHHELD: &str =
    "not everything is as it should be; who may `list` or `audit` the environment is told what";

/// What the journal said.
struct Asked {
    head: Head,
    last_event: Option<Timestamp>,
    open_effects: usize,
    fault: Option<Fact>,
}

pub(super) async fn status(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Json<Status> {
    let status = look(&api).await.0;
    let status = match is_told_place(&api, &caller) {
        true => status,
        false => placeless(status),
    };
    Json(match is_told_all(&api, &caller) {
        true => status,
        false => outline(status),
    })
}

/// Where this gateway lies on its machine helps who is there and could look for themselves, as root or as its own user,
/// and who answers for the whole. A token is no person at a machine.
fn is_told_place(api: &Api, caller: &Caller) -> bool {
    let standing = &caller.standing;
    let is_there = standing.held().is_none() && ["root", "daemon-user"].contains(&standing.rule());
    let answers = Demand {
        or: Some(Verb::Audit),
        ..Demand::of_all(Verb::Grant)
    };
    is_there || api.may(caller, &[answers])
}

/// Without what is of use on this machine alone.
fn placeless(status: Status) -> Status {
    Status {
        data_dir: None,
        pid: None,
        ..status
    }
}

/// Whoever has an account at the provider can log in: of them those alone are told all, who may look at all.
fn is_told_all(api: &Api, caller: &Caller) -> bool {
    let looks = Demand {
        or: Some(Verb::Audit),
        ..Demand::of_all(Verb::List)
    };
    caller.standing.login().is_none() || api.may(caller, &[looks])
}

/// How it is on the whole, with nothing that is there by its name but this machine.
fn outline(status: Status) -> Status {
    let withheld = Finding {
        state: status.state,
        kind: ComponentKind::Gateway,
        name: status.host.clone(),
        what: WITHHELD.to_owned(),
        next: None,
    };
    let findings: Vec<Finding> = match status.state {
        HealthWord::Ok => Vec::new(),
        _ => vec![withheld],
    };
    Status {
        warnings: findings.iter().filter_map(warning).collect(),
        findings,
        components: Vec::new(),
        features: Vec::new(),
        ..status
    }
}

/// The status now, and whether the journal answered.
pub(crate) async fn look(api: &Api) -> (Status, bool) {
    let asked = match read_journal(api).await {
        Ok(asked) => asked,
        Err(error) => silent_journal(api, &error),
    };
    let rows = api.presences.rows();
    let mut parts = (api.parts)();
    if let Some(fault) = asked.fault.clone() {
        let journal = parts.iter_mut().find(|p| p.kind == ComponentKind::Journal);
        match journal {
            Some(journal) => journal.facts.push(fault),
            None => parts.push(journal_part(fault)),
        }
    }
    for fault in held_back(api).into_iter().chain(approvals(api)) {
        let journal = parts.iter_mut().find(|p| p.kind == ComponentKind::Journal);
        match journal {
            Some(journal) => journal.facts.push(fault),
            None => parts.push(journal_part(fault)),
        }
    }
    let answered = asked.fault.is_none();
    (compose(api, &asked, &rows, parts), answered)
}

/// Why no new work begins.
fn held_back(api: &Api) -> Vec<Fact> {
    let few = api.presences.held_back().map(|why| {
        let next = "mend a sink that `status` names as a problem, or the way to it; lower `audit.min_sinks` only if the audit may have fewer copies";
        Fact::problem("sinks", why, next)
    });
    let others = dual::unconfirmed(&api.admission, &api.view, &api.presences);
    let others = others.map(|why| Fact::problem("sinks", why, dual::CONFIRM_SINKS));
    few.into_iter().chain(others).collect()
}

/// What went without the others and was not reviewed, and what waits for them.
fn approvals(api: &Api) -> Vec<Fact> {
    let now = api.clock.now();
    let committed = api.view.read();
    let world = &committed.world;
    let all = &world.approvals;
    let unreviewed = all.iter().filter(|known| known.is_unreviewed());
    let unreviewed = unreviewed.filter_map(|known| {
        let glass = known.glass.as_ref()?;
        let why = format!(
            "{} broke the glass for `{}` of {} without the others ({}), and nobody has reviewed it",
            glass.by, known.word, known.object, glass.reason
        );
        let next = format!(
            "somebody else looks with `keywheel approval describe {0}` and at the audit, and says what they found: `keywheel approval review {0} --reason TEXT`",
            known.id
        );
        Some(Fact::problem("break-glass", why, next))
    });
    let unreviewed: Vec<Fact> = unreviewed.take(MAX_UNREVIEWED).collect();
    let waits =
        |known: &&Approval| known.is_open(now) && known.missing() > 0 && !world.is_overtaken(known);
    let waiting = all.iter().filter(waits).count();
    let waiting = (waiting > 0).then(|| {
        let note =
            format!("{waiting} requests wait for others; `keywheel approval list` shows them");
        Fact::ok("approvals", note)
    });
    unreviewed.into_iter().chain(waiting).collect()
}

fn journal_part(fault: Fact) -> Part {
    Part {
        kind: ComponentKind::Journal,
        name: "journal".to_owned(),
        version: None,
        facts: vec![fault],
    }
}

/// What the audit's second copies say against the journal.
pub(super) fn copy_faults(api: &Api) -> Vec<String> {
    let parts = (api.parts)();
    let rows = api.presences.rows();
    let of_parts = parts.iter().flat_map(|part| &part.facts);
    let of_sinks = rows.iter().flat_map(|row| &row.presence.seen.facts);
    let is_fault = |fact: &&Fact| fact.name == COPY_FACT && fact.health == Health::Problem;
    let faults = of_parts.chain(of_sinks).filter(is_fault);
    faults.map(|fact| fact.note.clone()).collect()
}

fn silent_journal(api: &Api, error: &PortError) -> Asked {
    let note = format!("the journal does not answer: {error}");
    let next = "look at the database and at the gateway's log; nothing is decided meanwhile";
    Asked {
        head: Head {
            number: api.view.read().number,
            hash: [0; 32],
            audit_size: 0,
            audit_root: [0; 32],
            checkpoint: String::new(),
        },
        last_event: None,
        open_effects: 0,
        fault: Some(Fact::problem("answers", note, next)),
    }
}

async fn read_journal(api: &Api) -> Result<Asked, PortError> {
    let head = api.journal.head().await?;
    let last = match head.number.checked_sub(1) {
        Some(before) => api.journal.read(before, 1).await?,
        None => Vec::new(),
    };
    Ok(Asked {
        last_event: last.first().map(|event| event.time),
        open_effects: api.journal.open_effects().await?.len(),
        head,
        fault: None,
    })
}

fn compose(api: &Api, asked: &Asked, rows: &[Row], parts: Vec<Part>) -> Status {
    let now = api.clock.now();
    let in_force = policies::in_force(api);
    let committed = api.view.read();
    let world = &committed.world;
    let (components, findings) = overview(Sources {
        rows,
        parts,
        world,
        head: &asked.head,
        last_event: asked.last_event,
        version: env!("CARGO_PKG_VERSION"),
        listening: api.presences.listening(),
        now,
        steady: api.clock.monotonic(),
    });
    let own = api.host.to_string();
    Status {
        state: worst(components.iter().map(|component| component.state)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir: Some(api.data_dir.clone()),
        pid: Some(std::process::id()),
        time: now.text(),
        sealed: is_sealed(rows, api.clock.monotonic()),
        secrets: count(world.declared_secrets().count()),
        bindings: count(world.bindings.values().filter(|b| b.spec.is_some()).count()),
        consumers: count(world.assignments.len()),
        open_rotations: count(world.open_rotations().count()),
        open_revocations: count(world.revocations.values().filter(|r| !r.closed).count()),
        open_effects: count(asked.open_effects),
        events: asked.head.number,
        audit_records: asked.head.audit_size,
        features: features(&components, &own),
        warnings: findings.iter().filter_map(warning).collect(),
        components,
        findings,
        host: own,
        policies: Some(in_force),
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// What this machine offers: its host, and what this gateway works with.
fn features(components: &[Component], own: &str) -> Vec<Feature> {
    let is_here = |component: &&Component| match component.kind {
        ComponentKind::Host => component.name == own,
        kind => matches!(kind, ComponentKind::Bus | ComponentKind::Journal),
    };
    let feature = |fact: &FactView| Feature {
        name: fact.name.clone(),
        state: match fact.state {
            HealthWord::Problem => "missing",
            HealthWord::Unknown => "unknown",
            HealthWord::Ok | HealthWord::Warning => "ok",
        }
        .to_owned(),
        note: fact.note.clone(),
    };
    let facts = components.iter().filter(is_here).flat_map(|c| &c.facts);
    facts.map(feature).collect()
}

fn warning(finding: &Finding) -> Option<String> {
    (finding.state >= HealthWord::Warning).then(|| match &finding.next {
        Some(next) => format!("{}; next: {next}", finding.what),
        None => finding.what.clone(),
    })
}
