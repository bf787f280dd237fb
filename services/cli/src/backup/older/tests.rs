//! What records of a lost time mean for versions.

use keywheel_core::audit::{Category, Principal, Role};
use keywheel_core::id::CommandId;
use keywheel_core::time::Timestamp;
use keywheel_schemas::wire::audit_record_to_json;

use super::*;

fn record(verb: &str, object: &str, version: Option<u64>) -> Record {
    Record {
        time: Timestamp::default(),
        category: Category::Administration,
        principal: Principal::Service(Role::Gateway),
        verb: verb.to_owned(),
        object: object.to_owned(),
        version,
        outcome: Outcome::Allowed,
        reason: String::new(),
        container: None,
        command: CommandId::default(),
        trace: String::new(),
    }
}

fn of(records: &[(&str, Option<u64>)]) -> Lost {
    let mut lost = LostTime::default();
    for (verb, version) in records {
        lost.note(&audit_record_to_json(&record(verb, "secret/a/b", *version)));
    }
    assert_eq!((lost.records, lost.unread), (records.len() as u64, 0));
    lost.secrets.into_values().next().unwrap()
}

/// Those of 1 to 4 that died.
fn dead(lost: &Lost) -> Vec<u64> {
    (1..=4)
        .filter(|version| lost.died(*version, false))
        .collect()
}

#[test]
fn a_rotation_that_came_to_its_end_killed_what_was_before_it() {
    let rotation = [
        ("rotate", None),
        ("promote-version", Some(3)),
        ("inject", Some(3)),
        ("revoke-old-version", Some(3)),
    ];
    let ended = of(&rotation);
    assert_eq!((ended.highest, dead(&ended)), (3, vec![1, 2]));
    assert_eq!(ended.current, Some(3));
    // Before its end the old one was alive.
    let begun = of(&rotation[..3]);
    assert_eq!((begun.highest, dead(&begun)), (3, vec![]));
    let back = of(&[("create-version", Some(3)), ("roll-back-version", Some(3))]);
    assert_eq!((back.highest, dead(&back)), (3, vec![3]));
}

#[test]
fn tokens_that_were_revoked_are_known_by_name_and_by_owner() {
    let mut lost = LostTime::default();
    for (verb, object) in [
        ("revoke-token", "token/ci"),
        ("issue-token", "token/other"),
        ("revoke-tokens", "owner/certificate:ada"),
    ] {
        lost.note(&audit_record_to_json(&record(verb, object, None)));
    }
    let mut refused = record("revoke-token", "token/other", None);
    refused.outcome = Outcome::Denied;
    lost.note(&audit_record_to_json(&refused));
    let tokens: Vec<&str> = lost.tokens.iter().map(TokenName::as_str).collect();
    assert_eq!(tokens, ["ci"]);
    assert!(lost.owners.iter().eq(["certificate:ada"]));
}

#[test]
fn hosts_that_were_evicted_and_uses_that_were_taken_are_known() {
    let mut lost = LostTime::default();
    let used = TokenId::from_bytes([7; 16]);
    let object = format!("token/{used}");
    for (verb, object) in [
        ("evict", "host/web-1"),
        ("count-token-uses", object.as_str()),
        ("count-token-uses", object.as_str()),
        ("count-token-uses", "token/ci"),
        ("issue-join-token", "host/web-2"),
    ] {
        lost.note(&audit_record_to_json(&record(verb, object, None)));
    }
    for outcome in [Outcome::Denied, Outcome::Rejected, Outcome::Malformed] {
        let refused = Record {
            outcome,
            ..record("evict", "host/web-3", None)
        };
        lost.note(&audit_record_to_json(&refused));
    }
    let hosts: Vec<&str> = lost.hosts.iter().map(HostName::as_str).collect();
    assert_eq!(hosts, ["web-1"]);
    assert_eq!(lost.taken, BTreeMap::from([(used, 2)]));
    assert!(lost.secrets.is_empty() && lost.tokens.is_empty());
}

#[test]
fn broken_glass_is_known_until_somebody_reviewed_it() {
    let id = |n: u8| ApprovalId::from_bytes([n; 16]);
    let object = |n: u8| format!("approval/{} policy-change policies", id(n));
    let mut lost = LostTime::default();
    for (verb, n) in [
        ("break-glass", 1),
        ("break-glass", 2),
        ("approve", 3),
        ("review-break-glass", 1),
        // Of one that was broken before.
        ("review-break-glass", 4),
    ] {
        let said = Record {
            principal: Principal::Operator {
                name: "ada".to_owned(),
            },
            ..record(verb, &object(n), None)
        };
        lost.note(&audit_record_to_json(&said));
    }
    for outcome in [Outcome::Denied, Outcome::Rejected, Outcome::Malformed] {
        for (verb, n) in [("break-glass", 5), ("review-break-glass", 2)] {
            let refused = Record {
                outcome,
                ..record(verb, &object(n), None)
            };
            lost.note(&audit_record_to_json(&refused));
        }
    }
    lost.note(&audit_record_to_json(&record(
        "break-glass",
        "approval/none",
        None,
    )));
    let said = format!("{} policy-change policies (certificate:ada)", id(2));
    assert_eq!(lost.glass, BTreeMap::from([(id(2), said)]));
    let long = format!("approval/{} {}", id(6), "ä".repeat(2 * MAX_GLASS_CHARS));
    lost.note(&audit_record_to_json(&record("break-glass", &long, None)));
    let said = lost.glass.get(&id(6)).unwrap();
    let most = MAX_GLASS_CHARS + " (service:Gateway)".len();
    assert_eq!(said.chars().count(), most, "{said}");
}

#[test]
fn what_was_revoked_is_dead_by_its_number_or_with_all_that_were_there() {
    for verb in ["revoke", "revoke-in-emergency", "revoke-and-replace"] {
        assert_eq!(dead(&of(&[(verb, Some(2))])), [2], "{verb}");
        let ended = of(&[("promote-version", Some(2)), (verb, Some(2))]);
        assert_eq!(ended.current, None, "{verb}");
        let all = of(&[
            ("promote-version", Some(2)),
            (verb, None),
            ("inject", Some(3)),
        ]);
        assert!(all.all_died && all.dead_below == 3, "{verb}");
    }
    // A playbook names no version, and what this log revokes by itself needs no second word.
    let said = of(&[("revoke-at-store", None)]);
    assert!(said.died(1, false) && !said.died(1, true));
    let named = of(&[("revoke", Some(2)), ("revoke-at-store", None)]);
    assert_eq!(dead(&named), [2]);
}

#[test]
fn what_was_refused_is_about_no_secret_or_cannot_be_read_kills_nothing() {
    let mut lost = LostTime::default();
    for outcome in [Outcome::Denied, Outcome::Rejected, Outcome::Malformed] {
        let refused = Record {
            outcome,
            ..record("revoke", "secret/a/b", None)
        };
        lost.note(&audit_record_to_json(&refused));
    }
    lost.note(&audit_record_to_json(&record("evict", "host/web-1", None)));
    lost.note(b"{}");
    assert!(lost.secrets.is_empty());
    assert_eq!((lost.records, lost.unread), (5, 1));
}

#[test]
fn what_a_copy_that_began_later_never_had_is_missing_of_the_lost_time() {
    assert_eq!(LostTime::of_copy(700, 768).missing, 700..768);
    for begins in [0, 512, 700] {
        assert!(
            LostTime::of_copy(700, begins).missing.is_empty(),
            "{begins}"
        );
    }
}
