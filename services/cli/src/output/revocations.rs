//! One revocation as a person reads it: each half of it by itself, for none waits for another.

use keywheel_schemas::api::{EvidenceView, ReplacementView, RevocationView};

use super::radius;
use super::table::fields;
use super::views::{milliseconds, version_list};

/// One revocation.
pub(crate) fn revocation(revocation: &RevocationView) -> String {
    let states = &revocation.states;
    let done = |is_done: bool, ms: Option<f64>| match (is_done, ms) {
        (true, Some(_)) => format!("yes, within {}", milliseconds(ms)),
        (true, None) => "yes".to_owned(),
        (false, _) => "not yet".to_owned(),
    };
    let mut rows = vec![
        ("revocation", revocation.revocation_id.clone()),
        ("secret", revocation.secret.clone()),
        ("versions", version_list(&revocation.versions)),
        ("state", revocation.state.clone()),
        ("reason", revocation.reason.clone()),
        ("in the store", revocation.backend.clone()),
        (
            "dead there",
            match &states.still_current_at {
                Some(store) if !states.dead_at_backend => format!(
                    "NO: it is still what store {store} gives out; rotate the secret, or put another value there"
                ),
                _ => done(states.dead_at_backend, states.dead_ms),
            },
        ),
        ("may still be held by", revocation.waiting_hosts.join(", ")),
        (
            "gone from all containers within",
            milliseconds(revocation.withdrawn_ms),
        ),
        ("proven dead", proof(revocation)),
        (
            "data keys destroyed",
            done(states.destroyed, states.destroyed_ms),
        ),
    ];
    let replacement = states.replacement.iter();
    rows.extend(replacement.map(|one| ("replacement", replaced(one))));
    rows.extend(
        states
            .failure
            .iter()
            .map(|why| ("last failure", why.clone())),
    );
    if let Some(store) = &states.still_current_at
        && states.dead_at_backend
    {
        let left = format!(
            "store {store} gives it out still, and it opens nothing any more; rotate the secret, or put another value there"
        );
        rows.push(("left at", left));
    }
    rows.extend(states.away.iter().map(|host| ("away", radius::away(host))));
    rows.extend(
        states
            .evidence
            .iter()
            .map(|one| (asked(one), evidence(one))),
    );
    let said = states.forget.iter();
    rows.extend(said.map(|one| ("to be forgotten", format!("{}: {}", one.by, one.reason))));
    let next = revocation.next_step.iter();
    rows.extend(next.map(|next| ("next", next.clone())));
    fields(&rows)
}

fn replaced(one: &ReplacementView) -> String {
    let of = one.rotation_id.as_deref();
    let of = of.map_or_else(String::new, |id| format!(" (rotation {id})"));
    let because = one.because.as_deref();
    let because = because.map_or_else(String::new, |why| format!(": {why}"));
    format!("{}{of}{because}", one.state)
}

fn proof(revocation: &RevocationView) -> String {
    let states = &revocation.states;
    let because = states.not_probed_because.as_deref().unwrap_or_default();
    match states.proof.as_str() {
        "proven_dead" => match states.proven_ms {
            Some(_) => format!("yes, within {}", milliseconds(states.proven_ms)),
            None => "yes".to_owned(),
        },
        "awaited" => "not yet".to_owned(),
        "still_accepted" => "NO: a login with it is let in".to_owned(),
        "not_probed" | "not_provable" => format!("cannot be probed: {because}"),
        other => other.to_owned(),
    }
}

/// Who was asked: a server with a login, or the store that made a lease.
fn asked(one: &EvidenceView) -> &'static str {
    match one.answer.as_str() {
        "lease_gone" | "lease_alive" => "store's word",
        _ => "login",
    }
}

fn evidence(one: &EvidenceView) -> String {
    let EvidenceView {
        version,
        at,
        place,
        answer,
    } = one;
    format!("version {version}, {at}, {place}: {answer}")
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::api::{AwayHost, ForgetView, RevocationStates};

    use super::*;

    fn view(states: RevocationStates) -> RevocationView {
        RevocationView {
            revocation_id: "v1".to_owned(),
            secret: "a/b".to_owned(),
            versions: vec![3],
            state: "running".to_owned(),
            backend: "confirmed".to_owned(),
            waiting_hosts: vec!["web-2".to_owned()],
            reason: "leaked".to_owned(),
            withdrawn_ms: None,
            states,
            next_step: None,
        }
    }

    #[test]
    fn what_a_store_still_gives_out_is_not_said_to_be_dead_there() {
        let text = revocation(&view(RevocationStates {
            still_current_at: Some("bao".to_owned()),
            ..RevocationStates::default()
        }));
        assert!(
            text.contains("NO: it is still what store bao gives out"),
            "{text}"
        );
    }

    #[test]
    fn the_next_step_is_told_where_there_is_one() {
        let mut waits = view(RevocationStates::default());
        assert!(!revocation(&waits).contains("next:"));
        waits.next_step = Some("`keywheel unseal`\nopens it".to_owned());
        let text = revocation(&waits);
        let last = text.lines().last().unwrap_or_default();
        assert!(last.starts_with("next:"), "{text}");
        assert!(last.contains("`keywheel unseal`"), "{text}");
    }

    #[test]
    fn what_is_dead_at_its_server_and_lies_at_a_store_still_is_told_as_both() {
        let text = revocation(&view(RevocationStates {
            dead_at_backend: true,
            dead_ms: Some(12.0),
            still_current_at: Some("aws".to_owned()),
            evidence: vec![EvidenceView {
                version: 3,
                at: "2026-01-04T02:00:00Z".to_owned(),
                place: "a lease of database/creds/app at store bao".to_owned(),
                answer: "lease_gone".to_owned(),
            }],
            ..RevocationStates::default()
        }));
        for words in [
            "yes, within",
            "store aws gives it out still, and it opens nothing",
            "store's word",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(!text.contains("NO:") && !text.contains("login"), "{text}");
    }

    #[test]
    fn each_half_is_told_by_itself_and_the_evidence_with_it() {
        let text = revocation(&view(RevocationStates {
            dead_at_backend: true,
            proof: "proven_dead".to_owned(),
            proven_ms: Some(12.0),
            evidence: vec![EvidenceView {
                version: 3,
                at: "2026-01-04T02:00:00Z".to_owned(),
                place: "account app of postgres at db:5432".to_owned(),
                answer: "wrong_password".to_owned(),
            }],
            ..RevocationStates::default()
        }));
        for words in [
            "web-2",
            "yes, within",
            "not yet",
            "version 3, 2026-01-04T02:00:00Z, account app of postgres at db:5432: wrong_password",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn what_a_revocation_waits_for_before_it_begins_is_told() {
        let text = revocation(&view(RevocationStates {
            replacement: Some(ReplacementView {
                rotation_id: Some("r1".to_owned()),
                state: "awaited".to_owned(),
                because: Some("rotation r1 makes version 4".to_owned()),
            }),
            ..RevocationStates::default()
        }));
        let words = "awaited (rotation r1): rotation r1 makes version 4";
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn what_cannot_be_probed_and_who_would_forget_it_is_told() {
        let text = revocation(&view(RevocationStates {
            proof: "not_probed".to_owned(),
            not_probed_because: Some("it opens nothing".to_owned()),
            failure: Some("the store is away".to_owned()),
            away: vec![AwayHost {
                host: "web-2".to_owned(),
                last_seen: None,
                starts_until: None,
            }],
            forget: vec![ForgetView {
                by: "user ann (uid 1000)".to_owned(),
                reason: "switched off".to_owned(),
            }],
            ..RevocationStates::default()
        }));
        for words in [
            "cannot be probed: it opens nothing",
            "the store is away",
            "web-2 is away: not heard since this gateway started",
            "user ann (uid 1000): switched off",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }
}
