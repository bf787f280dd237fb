//! Findings: what can never apply, and who may give themselves more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use keywheel_policy::{Estate, FindingKind, MAX_UNTIED, Resource, Set, Source};

fn found(policies: &str) -> Vec<(String, FindingKind)> {
    let groups = BTreeMap::from([
        (
            "team".to_owned(),
            BTreeSet::from(["certificate:ada".to_owned()]),
        ),
        ("empty".to_owned(), BTreeSet::new()),
    ]);
    let source = Source {
        policies: policies.to_owned(),
        groups,
    };
    let known = [
        "secret/prod/db",
        "store/aws",
        "host/node-1",
        "playbook/drill",
    ];
    let known = known
        .iter()
        .map(|text| Resource::parse(text).unwrap())
        .collect();
    let set = Set::compile(&source).unwrap();
    let told = set.lint(Some(&Estate { known }));
    told.into_iter().map(|one| (one.policy, one.kind)).collect()
}

fn only(policies: &str, kind: FindingKind) {
    assert_eq!(found(policies), [("x".to_owned(), kind)], "{policies}");
}

fn nothing(policies: &str) {
    assert_eq!(found(policies), [], "{policies}");
}

#[test]
fn whom_a_provider_names_and_puts_into_groups_is_not_known_here() {
    nothing(
        r#"@id("x") permit (principal in Group::"oidc:anything", action == Action::"rotate", resource in Path::"prod");"#,
    );
    nothing(
        r#"@id("x") permit (principal == User::"oidc:ada@example.org", action == Action::"rotate", resource in Path::"prod");"#,
    );
    only(
        r#"@id("x") permit (principal == User::"oidc:", action == Action::"rotate", resource in Path::"prod");"#,
        FindingKind::UnknownName,
    );
}

#[test]
fn names_that_there_are_not_are_found() {
    only(
        r#"@id("x") permit (principal in Group::"taem", action == Action::"rotate", resource);"#,
        FindingKind::UnknownName,
    );
    only(
        r#"@id("x") permit (principal == User::"ada", action == Action::"rotate", resource);"#,
        FindingKind::UnknownName,
    );
    only(
        r#"@id("x") permit (principal in Group::"team", action == Action::"rotate", resource == Secret::"prod/bd");"#,
        FindingKind::UnknownName,
    );
    only(
        r#"@id("x") permit (principal in Group::"team", action == Action::"list", resource == Store::"awz");"#,
        FindingKind::UnknownName,
    );
    nothing(
        r#"@id("x") permit (principal in Group::"team", action == Action::"rotate", resource == Secret::"prod/db");"#,
    );
    nothing(
        r#"@id("x") permit (principal in Group::"root", action == Action::"list", resource == Host::"node-1");"#,
    );
    nothing(
        r#"@id("x") permit (principal == User::"certificate:ada", action == Action::"list", resource == Store::"aws");"#,
    );
}

#[test]
fn a_path_where_nothing_lies_and_a_group_without_members_are_found() {
    only(
        r#"@id("x") permit (principal in Group::"team", action == Action::"rotate", resource in Path::"pord");"#,
        FindingKind::EmptyRange,
    );
    only(
        r#"@id("x") permit (principal in Group::"team", action == Action::"rotate", resource in Path::"pro");"#,
        FindingKind::EmptyRange,
    );
    only(
        r#"@id("x") permit (principal in Group::"empty", action == Action::"rotate", resource in Path::"prod");"#,
        FindingKind::EmptyRange,
    );
    nothing(
        r#"@id("x") permit (principal in Group::"team", action == Action::"rotate", resource in Path::"prod");"#,
    );
}

#[test]
fn a_condition_that_never_holds_is_found() {
    only(
        r#"@id("x") permit (principal in Group::"team", action == Action::"rotate", resource) when { false };"#,
        FindingKind::Impossible,
    );
    only(
        r#"@id("x") permit (principal is Host, action == Action::"grant", resource == Host::"node-1");"#,
        FindingKind::Impossible,
    );
}

#[test]
fn what_another_policy_forbids_altogether_is_found() {
    let beside = |permit: &str, forbid: &str| {
        format!("@id(\"x\") permit ({permit});\n@id(\"no\") forbid ({forbid});")
    };
    let permit =
        r#"principal in Group::"team", action == Action::"rotate", resource in Path::"prod""#;
    for forbid in [
        "principal, action, resource",
        r#"principal in Group::"team", action, resource"#,
        r#"principal, action in [Action::"rotate", Action::"list"], resource in Path::"prod""#,
        r#"principal, action, resource in Environment::"installation""#,
    ] {
        only(&beside(permit, forbid), FindingKind::Shadowed);
    }
    let ada = r#"principal == User::"certificate:ada", action == Action::"rotate", resource == Secret::"prod/db""#;
    only(
        &beside(
            ada,
            r#"principal in Group::"team", action, resource in Path::"prod""#,
        ),
        FindingKind::Shadowed,
    );
    for forbid in [
        r#"principal, action, resource == Secret::"prod/db""#,
        r#"principal in Group::"root", action, resource"#,
        r#"principal, action == Action::"list", resource"#,
        r#"principal, action, resource is Store"#,
    ] {
        nothing(&beside(permit, forbid));
    }
    let with_condition = format!(
        "{}\n@id(\"no\") forbid (principal, action, resource) when {{ context.now < 5 }};",
        format_args!("@id(\"x\") permit ({permit});")
    );
    nothing(&with_condition);
}

#[test]
fn who_may_replace_the_policies_and_not_do_everything_anyway_is_found() {
    only(
        r#"@id("x") permit (principal in Group::"team", action == Action::"grant", resource);"#,
        FindingKind::SelfGrant,
    );
    only(
        r#"@id("x") permit (principal == User::"certificate:ada", action in [Action::"list", Action::"grant"], resource == Environment::"installation");"#,
        FindingKind::SelfGrant,
    );
    only(
        r#"@id("x") permit (principal in Group::"team", action, resource) when { context.now < 5 };"#,
        FindingKind::SelfGrant,
    );
    nothing(r#"@id("x") permit (principal in Group::"team", action, resource);"#);
    nothing(r#"@id("x") permit (principal in Group::"team", action, resource in Path::"prod");"#);
}

#[test]
fn who_may_have_machines_of_their_own_join_as_a_host_is_found() {
    for of in [
        r#"resource == Host::"node-1""#,
        "resource is Host",
        r#"resource is Host in Environment::"installation""#,
        r#"resource in Group::"team""#,
    ] {
        let policy = format!(
            r#"@id("x") permit (principal in Group::"team", action in [Action::"list", Action::"grant"], {of});"#
        );
        only(&policy, FindingKind::SelfGrant);
    }
    // Looking at hosts gives nobody anything, and neither does what forbids it.
    nothing(
        r#"@id("x") permit (principal in Group::"team", action == Action::"list", resource is Host);"#,
    );
    nothing(
        r#"@id("x") forbid (principal in Group::"team", action == Action::"grant", resource is Host);"#,
    );
}

#[test]
fn many_policies_that_are_asked_about_everything_are_found_once() {
    let costly = |policies: &str| {
        let found = found(policies).into_iter();
        let found = found.filter(|(_, kind)| *kind == FindingKind::Costly);
        found.map(|(policy, _)| policy).collect::<Vec<_>>()
    };
    let many = |name: &str, count: usize, scope: &str| {
        let one = |n: usize| {
            format!("@id(\"{name}{n:03}\") permit ({scope}) when {{ context.now > {n} }};\n")
        };
        (0..count).map(one).collect::<String>()
    };
    let anybody = "principal, action, resource is Secret";
    assert!(costly(&many("a", MAX_UNTIED, anybody)).is_empty());
    assert_eq!(costly(&many("a", MAX_UNTIED + 1, anybody)), ["a000"]);
    let whole = "principal, action == Action::\"list\", resource in Environment::\"installation\"";
    assert_eq!(costly(&many("a", MAX_UNTIED + 1, whole)), ["a000"]);
    // No request asks them all.
    let half = MAX_UNTIED / 2 + 1;
    let of =
        |action: &str| format!("principal, action == Action::\"{action}\", resource is Secret");
    let apart = many("a", half, &of("list")) + &many("b", half, &of("rotate"));
    assert!(costly(&apart).is_empty());
    // A person who lists secrets asks all of these.
    let people = "principal is User, action, resource";
    let together = many("a", half, &of("list")) + &many("b", half, people);
    assert_eq!(costly(&together), ["a000"]);
    for tied in [
        "principal in Group::\"team\", action, resource is Secret",
        "principal, action, resource in Path::\"prod\"",
    ] {
        assert!(costly(&many("a", MAX_UNTIED + 1, tied)).is_empty());
    }
}

#[test]
fn the_shipped_set_has_nothing_odd() {
    let set = Set::compile(&Source::shipped()).unwrap();
    assert_eq!(set.lint(None), []);
}
