//! How far a revocation is: what each half came to, and who would have it forgotten.

use keywheel_core::audit::Principal;
use keywheel_core::revocation::{Answer, Backend, Evidence, NOTHING_TO_ASK, Proven, Revocation};
use keywheel_core::secret::Secret;
use keywheel_core::world::World;
use keywheel_engine::state::RevocationTimes;
use keywheel_schemas::api::{EvidenceView, ForgetView, RevocationStates};
use keywheel_schemas::mirror::TextForm as _;

use super::{milliseconds, replacement};

/// Why nobody looks any more.
const FORGOTTEN: &str = "two principals had its store asked no more";

/// Why nobody looks yet.
const NOT_BEGUN: &str = "its versions were not revoked by it";

/// What each half of it came to.
pub(super) fn states(
    world: &World,
    revocation: &Revocation,
    times: RevocationTimes,
) -> RevocationStates {
    let (proof, because, evidence) = proof(revocation);
    let failure = match &revocation.backend {
        Backend::Failed { reason, .. } => Some(reason.clone()),
        Backend::Asked { .. } | Backend::Confirmed | Backend::NotAsked => None,
    };
    RevocationStates {
        withdrawn_everywhere: revocation.waiting.is_empty() && revocation.is_begun(),
        // What was heard of hosts is not in the log.
        away: Vec::new(),
        dead_at_backend: revocation.is_dead_at_backend,
        still_current_at: still_current_at(world, revocation),
        proof: proof.to_owned(),
        not_probed_because: because.map(ToOwned::to_owned),
        evidence: evidence.iter().map(evidence_view).collect(),
        destroyed: revocation.is_destroyed,
        failure,
        forget: revocation.forget.iter().map(forget_view).collect(),
        dead_ms: milliseconds(times.requested, times.dead).filter(|_| is_timed(revocation)),
        proven_ms: milliseconds(times.requested, times.proven),
        destroyed_ms: milliseconds(times.requested, times.destroyed),
        replacement: replacement::view(world, revocation),
    }
}

/// Whether the store's word was the end of it: what was left there ended with a later rotation.
fn is_timed(revocation: &Revocation) -> bool {
    let opens_accounts = revocation.proven != Proven::NotAsked;
    revocation.is_dead_at_backend && (opens_accounts || !revocation.stays_at_store)
}

fn still_current_at(world: &World, revocation: &Revocation) -> Option<String> {
    let secret = world.secrets.get(&revocation.secret);
    let place = secret.and_then(Secret::place);
    place
        .filter(|_| revocation.left_at_store.is_some())
        .map(|place| place.store.to_string())
}

fn proof(revocation: &Revocation) -> (&'static str, Option<&str>, &[Evidence]) {
    if !revocation.is_begun() {
        return ("not_probed", Some(NOT_BEGUN), &[]);
    }
    match &revocation.proven {
        Proven::Awaited if revocation.is_forgotten() => ("not_provable", Some(FORGOTTEN), &[]),
        Proven::NotAsked => ("not_probed", Some(NOTHING_TO_ASK), &[]),
        Proven::Awaited => ("awaited", None, &[]),
        Proven::Dead(evidence) => ("proven_dead", None, evidence.as_slice()),
        Proven::Unknown(evidence, reason) => {
            ("not_provable", Some(reason.as_str()), evidence.as_slice())
        }
        Proven::Alive(evidence) => ("still_accepted", None, evidence.as_slice()),
    }
}

fn evidence_view(evidence: &Evidence) -> EvidenceView {
    EvidenceView {
        version: evidence.version,
        at: evidence.at.text(),
        place: evidence.place.clone(),
        answer: match evidence.answer {
            Answer::WrongPassword => "wrong_password",
            Answer::NoLogin => "no_login",
            Answer::Refused => "refused",
            Answer::Accepted => "accepted",
            Answer::LeaseGone => "lease_gone",
            Answer::LeaseAlive => "lease_alive",
        }
        .to_owned(),
    }
}

fn forget_view((by, reason): &(Principal, String)) -> ForgetView {
    let by = match by {
        Principal::User { uid, name } => format!("user {name} (uid {uid})"),
        Principal::Operator { name } => format!("certificate {name}"),
        Principal::Stranger { address } => format!("stranger at {address}"),
        Principal::Service(_) => "a service".to_owned(),
        Principal::Token { name, owner } => format!("token {name} of {owner}"),
        Principal::Login { name } => format!("login {name}"),
    };
    ForgetView {
        by,
        reason: reason.clone(),
    }
}
