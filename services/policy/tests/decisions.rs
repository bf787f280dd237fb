//! What sets decide: default deny, forbids, paths, groups, how people came here, and what no set can say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use keywheel_policy::{
    Asked, DEFAULT_DENY, Fault, LOCAL_RECOVERY, MAX_GROUPS, MAX_MEMBERS, MAX_POLICIES,
    MAX_POLICY_NAME_BYTES, MAX_SET_BYTES, OIDC, Part, Principal, Resource, Set, Source, Verb,
    group_of_provider, parse_groups,
};
use proptest::prelude::*;

fn source(policies: &str) -> Source {
    let members = |all: &[&str]| {
        all.iter()
            .map(|one| (*one).to_owned())
            .collect::<BTreeSet<_>>()
    };
    Source {
        policies: policies.to_owned(),
        groups: BTreeMap::from([(
            "payments".to_owned(),
            members(&[
                "certificate:ada",
                "unix:1001",
                "service:prod/payments/api",
                "host:node-1",
            ]),
        )]),
    }
}

fn set(policies: &str) -> Set {
    Set::compile(&source(policies)).unwrap()
}

fn asked(principal: &str, verb: Verb, resource: &str) -> Asked {
    Asked {
        principal: Principal::parse(principal).unwrap(),
        verb,
        resource: Resource::parse(resource).unwrap(),
        now: 1_800_000_000,
    }
}

fn reason(set: &Set, principal: &str, verb: Verb, resource: &str) -> (bool, String) {
    let decision = set.decide(&asked(principal, verb, resource));
    (decision.allowed, decision.reason())
}

const TEAM: &str = r#"
@id("payments-team")
permit (principal in Group::"payments", action in [Action::"list", Action::"rotate"], resource in Path::"prod/payments");
@id("no-root-key")
forbid (principal, action, resource == Secret::"prod/payments/root-key");
"#;

#[test]
fn what_no_policy_permits_is_denied() {
    let empty = set("");
    let denied = (false, DEFAULT_DENY.to_owned());
    assert_eq!(
        reason(&empty, "certificate:ada", Verb::List, "secret/prod/db"),
        denied
    );
    assert_eq!(
        reason(&empty, "unix:0", Verb::Rotate, "secret/prod/db"),
        denied
    );
    let team = set(TEAM);
    for (principal, verb, resource) in [
        ("certificate:bob", Verb::Rotate, "secret/prod/payments/db"),
        ("certificate:ada", Verb::Write, "secret/prod/payments/db"),
        ("certificate:ada", Verb::Rotate, "secret/prod/paymentsx/db"),
        ("certificate:ada", Verb::Rotate, "secret/prod"),
        ("certificate:ada", Verb::Rotate, "store/prod"),
        ("certificate:ada", Verb::List, "environment"),
        // The same words, but another sort of principal.
        ("unix:1002", Verb::Rotate, "secret/prod/payments/db"),
    ] {
        assert_eq!(
            reason(&team, principal, verb, resource),
            denied,
            "{principal} {resource}"
        );
    }
}

#[test]
fn a_path_means_itself_and_what_is_below_it() {
    let team = set(TEAM);
    let by = (true, "payments-team".to_owned());
    for resource in [
        "secret/prod/payments",
        "secret/prod/payments/db",
        "secret/prod/payments/eu/db",
        "path/prod/payments",
        "path/prod/payments/eu",
    ] {
        assert_eq!(
            reason(&team, "certificate:ada", Verb::Rotate, resource),
            by,
            "{resource}"
        );
    }
    for member in ["unix:1001", "service:prod/payments/api", "host:node-1"] {
        assert_eq!(
            reason(&team, member, Verb::List, "secret/prod/payments/db"),
            by,
            "{member}"
        );
    }
}

#[test]
fn a_group_of_hosts_means_them_also_as_what_a_request_is_about() {
    let members = BTreeSet::from(["host:vault-1".to_owned()]);
    let source = Source {
        policies: "@id(\"all\") permit (principal is User, action, resource);\n@id(\"kept\") forbid (principal, action in [Action::\"revoke\", Action::\"grant\"], resource in Group::\"kept\");".to_owned(),
        groups: BTreeMap::from([("kept".to_owned(), members)]),
    };
    let set = Set::compile(&source).unwrap();
    let of = |verb, host| set.decide(&asked("certificate:ada", verb, host)).reason();
    for verb in [Verb::Revoke, Verb::Grant] {
        assert_eq!(of(verb, "host/vault-1"), "forbidden by kept");
        assert_eq!(of(verb, "host/web-1"), "all");
    }
    assert_eq!(of(Verb::List, "host/vault-1"), "all");
}

#[test]
fn what_is_forbidden_is_denied_whatever_permits_it_and_the_forbidding_policy_is_named() {
    let team = set(TEAM);
    let decision = team.decide(&asked(
        "certificate:ada",
        Verb::Rotate,
        "secret/prod/payments/root-key",
    ));
    assert!(!decision.allowed);
    assert_eq!(decision.policies, ["no-root-key"]);
    assert_eq!(decision.reason(), "forbidden by no-root-key");
    assert!(team.has_forbid() && !set("").has_forbid());
}

#[test]
fn a_policy_that_cannot_be_judged_permits_nothing_and_forbids_all_the_same() {
    let broken = |effect: &str| {
        format!(
            "@id(\"broken\") {effect} (principal, action, resource in Path::\"prod\") when {{ context.now * 9223372036854775807 > 0 }};"
        )
    };
    let all = "@id(\"all\") permit (principal, action, resource);";
    let forbids = set(&format!("{all}\n{}", broken("forbid")));
    let of = |set: &Set, secret: &str| reason(set, "certificate:ada", Verb::List, secret);
    let forbidden = (false, "forbidden by broken".to_owned());
    assert_eq!(of(&forbids, "secret/prod/db"), forbidden);
    assert_eq!(of(&forbids, "secret/stage/db"), (true, "all".to_owned()));
    let permits = set(&broken("permit"));
    let denied = (false, DEFAULT_DENY.to_owned());
    assert_eq!(of(&permits, "secret/prod/db"), denied);
}

#[test]
fn without_a_set_of_ones_own_whoever_may_come_in_may_do_everything() {
    let shipped = Set::compile(&Source::shipped()).unwrap();
    let people = [
        Verb::List,
        Verb::Write,
        Verb::Delete,
        Verb::Rotate,
        Verb::Revoke,
        Verb::Bind,
        Verb::Audit,
    ];
    let things = [
        "environment",
        "secret/a",
        "store/s",
        "host/h",
        "playbook/p",
        "notification/n",
        "signal-source/g",
        "path/a",
    ];
    for verb in people {
        for thing in things {
            assert_eq!(
                reason(&shipped, "unix:0", verb, thing),
                (true, "root".to_owned())
            );
            assert_eq!(
                reason(&shipped, "unix:1001", verb, thing),
                (true, "group-keywheel".to_owned())
            );
            assert_eq!(
                reason(&shipped, "certificate:ada", verb, thing),
                (true, "client-certificate".to_owned())
            );
            assert!(!reason(&shipped, "host:node-1", verb, thing).0);
        }
    }
    assert!(reason(&shipped, "certificate:ada", Verb::Grant, "environment").0);
    let stranger = Principal::User {
        id: "unix:7".to_owned(),
        name: "x".to_owned(),
        groups: BTreeSet::new(),
    };
    let asked = Asked {
        principal: stranger,
        ..asked("unix:7", Verb::List, "secret/a")
    };
    assert!(!shipped.decide(&asked).allowed);
}

#[test]
fn a_service_may_have_what_lies_on_its_own_path_and_nothing_else() {
    let shipped = Set::compile(&Source::shipped()).unwrap();
    let by = (true, "own-path".to_owned());
    for secret in [
        "secret/prod/api",
        "secret/prod/api/db",
        "secret/prod/api/eu/db",
    ] {
        assert_eq!(
            reason(&shipped, "service:prod/api", Verb::Read, secret),
            by,
            "{secret}"
        );
    }
    for secret in [
        "secret/prod/apis/db",
        "secret/prod",
        "secret/prod/web/db",
        "secret/api",
    ] {
        assert!(
            !reason(&shipped, "service:prod/api", Verb::Read, secret).0,
            "{secret}"
        );
    }
    assert!(
        !reason(
            &shipped,
            "service:prod/api",
            Verb::Rotate,
            "secret/prod/api/db"
        )
        .0
    );
}

#[test]
fn no_set_lets_a_person_read_a_value() {
    let wide =
        set(r#"@id("all") permit (principal is Service, action == Action::"read", resource);"#);
    for person in ["certificate:ada", "unix:0", "unix:1001"] {
        assert!(!reason(&wide, person, Verb::Read, "secret/a").0, "{person}");
    }
    let everything = set(r#"@id("all") permit (principal, action, resource);"#);
    assert!(!reason(&everything, "certificate:ada", Verb::Read, "secret/a").0);
    assert!(reason(&everything, "certificate:ada", Verb::Rotate, "secret/a").0);
    let of_person = r#"@id("x") permit (principal is User, action == Action::"read", resource);"#;
    let odd = set(of_person).lint(None);
    assert_eq!(odd.len(), 1, "{odd:?}");
    assert!(!reason(&set(of_person), "certificate:ada", Verb::Read, "secret/a").0);
}

#[test]
fn root_and_the_daemons_user_can_always_replace_a_set_and_do_nothing_else_by_that() {
    let shut = set(r#"@id("nobody") forbid (principal, action, resource);"#);
    assert_eq!(
        reason(&shut, "unix:0", Verb::Grant, "environment"),
        (true, LOCAL_RECOVERY.to_owned())
    );
    for (principal, verb, resource) in [
        ("unix:0", Verb::Grant, "host/a"),
        ("unix:0", Verb::Write, "environment"),
        ("unix:1001", Verb::Grant, "environment"),
        ("certificate:ada", Verb::Grant, "environment"),
    ] {
        assert!(!reason(&shut, principal, verb, resource).0, "{principal}");
    }
}

#[test]
fn a_condition_may_ask_for_the_time() {
    let timed = set(
        r#"@id("until") permit (principal in Group::"payments", action, resource) when { context.now < 1800000001 };"#,
    );
    let early = asked("certificate:ada", Verb::Rotate, "secret/a");
    assert!(timed.decide(&early).allowed);
    let late = Asked {
        now: 1_800_000_001,
        ..early
    };
    assert!(!timed.decide(&late).allowed);
    assert_eq!(timed.explain(&late).near[0].but, Part::Condition);
}

#[test]
fn an_explanation_names_what_was_near_and_what_kept_it() {
    let team = set(TEAM);
    let near = |principal: &str, verb, resource: &str| {
        let told = team.explain(&asked(principal, verb, resource));
        let near: Vec<(String, Part)> = told
            .near
            .into_iter()
            .map(|one| (one.policy, one.but))
            .collect();
        (told.decision.allowed, near)
    };
    let of_team = |part| {
        vec![
            ("payments-team".to_owned(), part),
            ("no-root-key".to_owned(), Part::Resource),
        ]
    };
    assert_eq!(
        near("certificate:bob", Verb::Rotate, "secret/prod/payments/db"),
        (false, of_team(Part::Principal))
    );
    assert_eq!(
        near("certificate:ada", Verb::Write, "secret/prod/payments/db"),
        (false, of_team(Part::Action))
    );
    assert_eq!(
        near("certificate:ada", Verb::Rotate, "secret/prod/db"),
        (false, of_team(Part::Resource))
    );
    let (allowed, left) = near("certificate:ada", Verb::Rotate, "secret/prod/payments/db");
    assert!(
        allowed && left == [("no-root-key".to_owned(), Part::Resource)],
        "{left:?}"
    );
}

fn faults(policies: &str) -> Vec<Fault> {
    Set::compile(&source(policies)).unwrap_err()
}

#[test]
fn what_does_not_fit_is_refused_with_the_policy_and_the_reason() {
    let unnamed = faults("permit (principal, action, resource);");
    assert!(
        matches!(unnamed.as_slice(), [Fault::NoName(text)] if text.contains("permit")),
        "{unnamed:?}"
    );
    let twice = r#"@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);"#;
    assert_eq!(faults(twice), [Fault::NameTaken("a".to_owned())]);
    let bad = faults(r#"@id("A b") permit (principal, action, resource);"#);
    assert_eq!(bad, [Fault::BadName("A b".to_owned())]);
    let hole = r#"@id("a") permit (principal == ?principal, action, resource);"#;
    assert_eq!(faults(hole), [Fault::Template]);
    for unknown in [
        r#"@id("a") permit (principal, action == Action::"steal", resource);"#,
        r#"@id("a") permit (principal in Team::"x", action, resource);"#,
        r#"@id("a") permit (principal, action, resource) when { context.weather == "fine" };"#,
        r#"@id("a") permit (principal, action == Action::"rotate", resource) when { resource.value == "x" };"#,
    ] {
        let told = faults(unknown);
        let is_of_it =
            |fault: &Fault| matches!(fault, Fault::Schema { policy, .. } if policy == "a");
        assert!(!told.is_empty() && told.iter().all(is_of_it), "{told:?}");
    }
}

#[test]
fn what_is_not_cedar_is_told_with_its_line() {
    let text = "@id(\"a\")\npermit (principal, action, resource);\n\n@id(\"b\")\npermit (principal, action;\n\n@id(\"c\")\npermit (principal, action, resource);\n";
    let told = faults(text);
    assert!(
        matches!(told.as_slice(), [Fault::Syntax { line: 5, .. }]),
        "{told:?}"
    );
}

#[test]
fn every_bound_of_a_set_is_kept() {
    let policy = |n: usize| {
        format!("@id(\"p{n}\") permit (principal, action, resource in Path::\"a/{n}\");\n")
    };
    let many = |count: usize| (0..count).map(policy).collect::<String>();
    assert_eq!(
        Set::compile(&source(&many(MAX_POLICIES))).unwrap().len(),
        MAX_POLICIES
    );
    assert_eq!(
        faults(&many(MAX_POLICIES + 1)),
        [Fault::TooMany(MAX_POLICIES + 1)]
    );
    let large = format!("// {}\n", "x".repeat(MAX_SET_BYTES));
    assert!(matches!(faults(&large).as_slice(), [Fault::TooLarge(_)]));
    let named = |length: usize| {
        format!(
            "@id(\"{}\") permit (principal, action, resource);",
            "n".repeat(length)
        )
    };
    assert!(Set::compile(&source(&named(MAX_POLICY_NAME_BYTES))).is_ok());
    assert!(matches!(
        faults(&named(MAX_POLICY_NAME_BYTES + 1)).as_slice(),
        [Fault::BadName(_)]
    ));
    let groups = |groups: usize, members: usize| {
        let members: BTreeSet<String> = (0..members).map(|n| format!("unix:{n}")).collect();
        let groups = (0..groups)
            .map(|n| (format!("g{n}"), members.clone()))
            .collect();
        Set::compile(&Source {
            policies: String::new(),
            groups,
        })
    };
    assert!(groups(MAX_GROUPS, 1).is_ok() && groups(1, MAX_MEMBERS).is_ok());
    assert!(matches!(
        groups(MAX_GROUPS + 1, 1).unwrap_err().as_slice(),
        [Fault::Groups(_)]
    ));
    assert!(matches!(
        groups(1, MAX_MEMBERS + 1).unwrap_err().as_slice(),
        [Fault::Groups(_)]
    ));
}

#[test]
fn groups_that_say_how_somebody_came_here_take_no_members() {
    for group in [
        "root",
        "daemon-user",
        "group-keywheel",
        "client-certificate",
        "token",
        "oidc",
    ] {
        let groups = parse_groups(&format!(r#"{{"{group}": ["certificate:eve"]}}"#)).unwrap();
        let refused = Set::compile(&Source {
            policies: String::new(),
            groups,
        })
        .unwrap_err();
        assert!(matches!(refused.as_slice(), [Fault::Groups(text)] if text.contains(group)));
    }
    let nobody = parse_groups(r#"{"a": ["eve"]}"#).unwrap();
    let refused = Set::compile(&Source {
        policies: String::new(),
        groups: nobody,
    })
    .unwrap_err();
    assert!(
        matches!(refused.as_slice(), [Fault::Groups(text)] if text.contains("certificate:NAME"))
    );
    assert!(parse_groups("[]").is_err());
}

#[test]
fn a_provider_s_groups_are_its_own_and_lead_into_no_other() {
    let set = set(r#"
@id("theirs") permit (principal in Group::"oidc:payments", action == Action::"list", resource);
@id("ours") permit (principal in Group::"payments", action == Action::"rotate", resource);
@id("root") permit (principal in Group::"root", action == Action::"revoke", resource);
@id("anybody") permit (principal in Group::"oidc", action == Action::"audit", resource);
"#);
    let may = |groups: &[&str], verb: Verb| {
        let given = groups.iter().map(|group| group_of_provider(group));
        let decision = set.decide(&Asked {
            principal: Principal::User {
                id: "oidc:ada".to_owned(),
                name: "ada".to_owned(),
                groups: given.chain([OIDC.to_owned()]).collect(),
            },
            verb,
            resource: Resource::Secret("prod/db".to_owned()),
            now: 0,
        });
        decision.allowed
    };
    assert!(may(&["payments"], Verb::List) && !may(&["sales"], Verb::List));
    // What a provider calls `payments` or `root` is neither the set's group nor ours.
    assert!(!may(&["payments"], Verb::Rotate) && !may(&["root"], Verb::Revoke));
    assert!(may(&[], Verb::Audit));
    let refused = |groups: &str| {
        let groups = parse_groups(groups).unwrap();
        let source = Source {
            policies: String::new(),
            groups,
        };
        Set::compile(&source).is_err()
    };
    assert!(refused(r#"{"oidc:payments": ["certificate:eve"]}"#));
    assert!(!refused(r#"{"payments": ["oidc:ada"]}"#));
}

/// What the set above means, said again without Cedar.
fn model(principal: &str, verb: Verb, secret: &str) -> bool {
    let is_team = ["certificate:ada", "unix:1001"].contains(&principal);
    let is_verb = [Verb::List, Verb::Rotate].contains(&verb);
    let rest = secret.strip_prefix("prod/payments");
    let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_team && is_verb && is_below && secret != "prod/payments/root-key"
}

/// Read once: a set is held to the schema each time.
fn team() -> &'static Set {
    static TEAM_SET: OnceLock<Set> = OnceLock::new();
    TEAM_SET.get_or_init(|| set(TEAM))
}

const TEAMS: usize = 12;

fn of_one(n: usize) -> String {
    format!(
        "@id(\"p{n}\") permit (principal in Group::\"payments\", action, resource in Path::\"t/{n}\");"
    )
}

proptest! {
    #[test]
    fn the_set_decides_as_its_model_does(
        principal in prop::sample::select(vec!["certificate:ada", "certificate:bob", "unix:1001", "unix:1002"]),
        verb in prop::sample::select(vec![Verb::List, Verb::Write, Verb::Rotate, Verb::Revoke]),
        parts in prop::collection::vec(prop::sample::select(vec!["prod", "payments", "paymentsx", "root-key", "db"]), 1..5),
    ) {
        let secret = parts.join("/");
        let decision = team().decide(&asked(principal, verb, &format!("secret/{secret}")));
        prop_assert_eq!(decision.allowed, model(principal, verb, &secret));
        prop_assert!(!decision.allowed || decision.policies == ["payments-team"]);
    }
}

/// Laying policies out by what they are tied to changes no decision.
#[test]
fn a_policy_that_permits_alone_permits_beside_others_that_forbid_nothing() {
    let all = set(&(0..TEAMS).map(of_one).collect::<String>());
    for place in 0..TEAMS {
        let alone = set(&of_one(place));
        for other in [place, (place + 1) % TEAMS] {
            let asked = asked(
                "certificate:ada",
                Verb::Rotate,
                &format!("secret/t/{other}/x"),
            );
            assert_eq!(alone.decide(&asked).allowed, place == other);
            assert_eq!(all.decide(&asked).policies, [format!("p{other}")]);
        }
    }
}
