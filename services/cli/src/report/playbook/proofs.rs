//! Of each version that died with a playbook's run, whether a login with it was refused, when, and where. Pure.

use std::collections::BTreeMap;

use keywheel_core::event::Event;
use keywheel_core::id::{RevocationId, SecretId};
use keywheel_core::revocation::{self, Evidence, NOTHING_TO_ASK, Proven, Revocation};
use keywheel_core::secret;
use keywheel_schemas::api::{ReportLogin, ReportProof};
use keywheel_schemas::event::EventMeta;
use keywheel_schemas::mirror::TextForm as _;

use super::super::consumers::dying;
use super::super::marks::unusable;
use super::super::summary::{Case, login, proof};

/// What a proof says that shows nothing to be alive or dead yet.
const NOT_YET: &str = "not yet: it is alive";

/// Revocations of the run, folded, each with the event that says what its proof came to.
fn revocations<'r>(case: &Case<'r>) -> BTreeMap<RevocationId, (Revocation, Option<&'r EventMeta>)> {
    let mut all = BTreeMap::new();
    for (meta, event) in case.parts() {
        let Event::Revocation(id, fact) = event else {
            continue;
        };
        let (run, shown) = all
            .entry(*id)
            .or_insert_with(|| (Revocation::new(*id), None));
        run.evolve(fact);
        match fact {
            revocation::Event::ProvenDead { .. }
            | revocation::Event::NotProvable { .. }
            | revocation::Event::Forgotten { .. } => *shown = Some(meta),
            revocation::Event::BackendConfirmed if run.proven == Proven::NotAsked => {
                *shown = Some(meta);
            }
            revocation::Event::StillAccepted { .. } => *shown = None,
            _ => {}
        }
    }
    all
}

/// One for each version that dies, by secret and version.
pub(super) fn proofs(case: &Case<'_>) -> Vec<ReportProof> {
    let mut told: BTreeMap<(SecretId, u64), (String, Option<&EventMeta>)> = BTreeMap::new();
    for (run, shown) in revocations(case).values().filter(|(run, _)| run.is_begun()) {
        for version in &run.versions {
            told.insert((run.secret, *version), (proof(run), *shown));
        }
    }
    let died = died(case);
    for dying in dying(case) {
        let replaced = || match died.get(&dying) {
            // A rotation makes nothing die by a revocation where no login could show it.
            Some(meta) => (format!("cannot be probed: {NOTHING_TO_ASK}"), Some(*meta)),
            None => (NOT_YET.to_owned(), None),
        };
        told.entry(dying).or_insert_with(replaced);
    }
    let view =
        |((secret, version), (verdict, shown)): ((SecretId, u64), (String, Option<&EventMeta>))| {
            ReportProof {
                secret: case.names.secret(secret),
                version,
                verdict,
                at: shown.map(|meta| meta.time.text()),
                after_us: shown.map(|meta| case.after(meta)),
                event: shown.map(|meta| meta.number),
            }
        };
    let mut all: Vec<ReportProof> = told.into_iter().map(view).collect();
    all.sort_by(|one, other| (&one.secret, one.version).cmp(&(&other.secret, other.version)));
    all
}

/// Of each version that dies, the event that says that its store, or the end of the rotation that replaced it, made it
/// unusable there.
pub(super) fn confirmed(case: &Case<'_>) -> Vec<Option<u64>> {
    let unusable = unusable(case);
    let dying = dying(case).into_iter();
    dying
        .map(|version| unusable.get(&version).copied())
        .collect()
}

/// When versions died, by their own word.
fn died<'r>(case: &Case<'r>) -> BTreeMap<(SecretId, u64), &'r EventMeta> {
    let dies = |(meta, event): &'r (EventMeta, Event)| match event {
        Event::Secret(
            id,
            secret::Event::VersionRevoked { version } | secret::Event::VersionDestroyed { version },
        ) => Some(((*id, *version), meta)),
        _ => None,
    };
    case.since().filter_map(dies).collect()
}

/// Every login, in order.
pub(super) fn logins(case: &Case<'_>) -> Vec<ReportLogin> {
    let mut secrets: BTreeMap<RevocationId, String> = BTreeMap::new();
    let mut logins = Vec::new();
    for (meta, event) in case.parts() {
        let Event::Revocation(id, fact) = event else {
            continue;
        };
        match fact {
            revocation::Event::Requested { secret, .. }
            | revocation::Event::ReplacementAwaited { secret, .. } => {
                secrets.insert(*id, case.names.secret(*secret));
            }
            revocation::Event::ProvenDead { evidence }
            | revocation::Event::NotProvable { evidence, .. }
            | revocation::Event::StillAccepted { evidence, .. } => {
                let secret = secrets.get(id).map_or("", String::as_str);
                let view = |one: &Evidence| login(one, meta.number, secret);
                logins.extend(evidence.iter().map(view));
            }
            _ => {}
        }
    }
    logins
}

/// All of them in one line.
pub(super) fn in_all(proofs: &[ReportProof]) -> String {
    let count = |is_so: fn(&ReportProof) -> bool| proofs.iter().filter(|one| is_so(one)).count();
    let dead = count(|one| one.verdict.starts_with("proven dead"));
    let unknown = count(|one| one.verdict.starts_with("cannot be probed"));
    let open = proofs.len() - dead - unknown;
    match proofs.len() {
        0 => "none asked for: the run made no version die".to_owned(),
        1 => proofs.iter().map(|one| one.verdict.clone()).collect(),
        all => {
            let parts = [
                (dead, "proven dead"),
                (unknown, "cannot be probed"),
                (open, "NOT shown to be dead"),
            ];
            let parts = parts.iter().filter(|(count, _)| *count > 0);
            let parts: Vec<String> = parts
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            format!("of {all} versions {}", parts.join(", "))
        }
    }
}
