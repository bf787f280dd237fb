//! What a decision of the policies costs with 1,000 of them.
//!
//! As teams write them, each policy tied to a group and a path; each about everybody, with the thing in a condition;
//! at worst, each about everybody and everything, so that all are asked, and all apply; and a list of 10,000 secrets as
//! a team's member sees it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow, ensure};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_policy::{Asked, MAX_UNTIED, Principal, Resource, Set, Source, Verb};

use crate::Line;

/// Policies of a set.
const POLICIES: usize = 1000;
/// Decisions measured.
const DECISIONS: usize = 5000;
/// Secrets of a list.
const ROWS: usize = 10_000;
/// Lists measured.
const LISTS: usize = 20;

fn tied(n: usize) -> String {
    format!(
        "@id(\"team-{n}\") permit (principal in Group::\"team-{n}\", action in [Action::\"list\", Action::\"rotate\"], resource in Path::\"prod/team-{n}\");\n"
    )
}

fn untied(n: usize) -> String {
    format!(
        "@id(\"rule-{n}\") permit (principal, action, resource is Secret) when {{ resource.name like \"prod/team-{n}/*\" && context.now > 0 }};\n"
    )
}

/// Nothing files it, and it applies.
fn unfiled(n: usize) -> String {
    format!(
        "@id(\"always-{n}\") permit (principal, action, resource) when {{ context.now > {n} }};\n"
    )
}

fn compiled(policy: fn(usize) -> String, count: usize) -> Result<Set> {
    let group = |n: usize| {
        let members = BTreeSet::from([format!("certificate:person-{n}")]);
        (format!("team-{n}"), members)
    };
    let source = Source {
        policies: (0..count).map(policy).collect(),
        // As many groups as a set may have; policies of the others are about nobody.
        groups: (0..keywheel_policy::MAX_GROUPS)
            .map(group)
            .collect::<BTreeMap<_, _>>(),
    };
    Set::compile(&source).map_err(|faults| anyhow!("{faults:?}"))
}

fn measure(policy: fn(usize) -> String, count: usize) -> Result<Samples> {
    let set = compiled(policy, count)?;
    let mut samples = Samples::new();
    for turn in 0..DECISIONS {
        let n = turn * 7 % keywheel_policy::MAX_GROUPS;
        let asked = Asked {
            principal: Principal::parse(&format!("certificate:person-{n}"))?,
            verb: Verb::Rotate,
            resource: Resource::Secret(format!("prod/team-{n}/eu/db-password")),
            now: 1_800_000_000,
        };
        let begin = now();
        let decision = set.decide(&asked);
        samples.add_span(begin.elapsed());
        ensure!(decision.allowed, "person {n} may not rotate their own");
    }
    Ok(samples)
}

/// What one member of one team sees of all there is.
fn measure_list() -> Result<Samples> {
    let set = compiled(tied, POLICIES)?;
    let name = |n: usize| format!("prod/team-{}/eu/db-{n}", n % keywheel_policy::MAX_GROUPS);
    let rows: Vec<Resource> = (0..ROWS).map(|n| Resource::Secret(name(n))).collect();
    let mut samples = Samples::new();
    for _ in 0..LISTS {
        let principal = Principal::parse("certificate:person-7")?;
        let begin = now();
        let mut many = set.many(principal, Verb::List, 1_800_000_000);
        let seen = rows.iter().filter(|row| many.decide(row).allowed).count();
        samples.add_span(begin.elapsed());
        ensure!(seen == ROWS / keywheel_policy::MAX_GROUPS, "{seen} rows");
    }
    Ok(samples)
}

/// Measures all of them.
pub(crate) fn policies() -> Result<Vec<Line>> {
    let line = |key: &str, what: &str, samples, budget| Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget,
    };
    Ok(vec![
        line(
            "policy_decision_tied",
            "a decision, 1,000 policies tied to groups and paths",
            measure(tied, POLICIES)?,
            "p99 <= 0.1",
        ),
        line(
            "policy_decision_untied",
            "the same, none tied to anybody, each to a name in a condition",
            measure(untied, POLICIES)?,
            "p99 <= 0.1",
        ),
        line(
            "policy_decision_most_unfiled",
            "the same, as many about everything as no finding is for",
            measure(unfiled, MAX_UNTIED)?,
            "p99 <= 0.1",
        ),
        line(
            "policy_decision_all_unfiled",
            "the same, 1,000 about everything, all of which apply",
            measure(unfiled, POLICIES)?,
            "-",
        ),
        line(
            "policy_list",
            "a list of 10,000 secrets, 1,000 policies tied to groups and paths",
            measure_list()?,
            "p99 <= 100",
        ),
    ])
}
