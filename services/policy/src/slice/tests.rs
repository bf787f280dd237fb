//! Filed or not, a set decides the same, and where it is filed a request asks few of many.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{Asked, Many, Principal, Resource, Set, Source, Verb};

fn compiled(policies: &str) -> Set {
    let members = ["certificate:ada", "service:prod/api", "host:node-1"];
    let members = BTreeSet::from(members.map(str::to_owned));
    let source = Source {
        policies: policies.to_owned(),
        groups: BTreeMap::from([("team".to_owned(), members)]),
    };
    Set::compile(&source).unwrap()
}

/// The same set, of which every request asks all.
fn unfiled(policies: &str) -> Set {
    let mut set = compiled(policies);
    let all = PolicySet::from_policies(set.policies.values().cloned()).unwrap();
    let mut slices = Slices::default();
    let things = slices.tied.entry(None).or_default();
    let filed = Filed {
        sort: Sort::default(),
        policies: all,
        is_alike: false,
    };
    things.tied.insert(None, vec![filed]);
    set.slices = slices;
    set
}

fn requests() -> Vec<Asked> {
    let mut all = Vec::new();
    for principal in [
        "certificate:ada",
        "certificate:bob",
        "unix:0",
        "service:prod/api",
        "service:stage/api",
        "host:node-1",
    ] {
        for (verb, now) in Verb::ALL
            .into_iter()
            .flat_map(|verb| [(verb, 0), (verb, 200)])
        {
            for resource in [
                "environment",
                "secret/prod/db",
                "secret/prod/api/key",
                "secret/prod/dc",
                "secret/production",
                "secret/stage/db",
                "path/prod",
                "path/prod/api",
                "store/prod",
                "host/node-1",
                "playbook/prod",
            ] {
                all.push(Asked {
                    principal: Principal::parse(principal).unwrap(),
                    verb,
                    resource: Resource::parse(resource).unwrap(),
                    now,
                });
            }
        }
    }
    all
}

/// Its sum is too large at any time but the first.
const FAILS: &str = "context.now + 9223372036854775807 > 0";

#[test]
fn filed_or_not_a_set_decides_the_same() {
    let sets = [
        "@id(\"a\") permit (principal, action, resource);".to_owned(),
        "@id(\"a\") permit (principal, action, resource is Secret) when { resource.name like \"prod/*\" && context.now > 100 };\n@id(\"b\") permit (principal, action, resource is Secret) when { resource.name like \"*\" && principal in Group::\"team\" };\n@id(\"c\") permit (principal, action, resource is Secret) when { resource.name like \"prod*b\" };".to_owned(),
        "@id(\"a\") permit (principal, action in [Action::\"list\", Action::\"rotate\", Action::\"list\"], resource) when { resource in Path::\"prod\" } when { principal == User::\"unix:0\" };\n@id(\"b\") permit (principal, action == Action::\"list\", resource) unless { resource in Path::\"prod\" };".to_owned(),
        "@id(\"all\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource) when { resource in Path::\"prod\" && principal in Group::\"team\" };\n@id(\"b\") forbid (principal, action, resource) when { resource is Secret && resource.name like \"stage/*\" };\n@id(\"c\") forbid (principal is Host, action, resource) unless { context.now < 100 };".to_owned(),
        // What fails forbids, whatever comes behind it, and does not where it is not come to.
        format!("@id(\"all\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource) when {{ {FAILS} && resource in Path::\"prod\" }};"),
        format!("@id(\"all\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource) when {{ resource in Path::\"prod\" && {FAILS} }};"),
        format!("@id(\"all\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource) unless {{ {FAILS} }} when {{ principal is Service }};"),
        format!("@id(\"a\") permit (principal, action, resource) when {{ {FAILS} && resource in Path::\"prod\" }};\n@id(\"b\") permit (principal, action, resource) when {{ resource in Path::\"stage\" || {FAILS} }};"),
        "@id(\"own\") permit (principal is Service, action == Action::\"read\", resource is Secret) when { resource in principal.path };\n@id(\"kind\") permit (principal, action, resource) when { principal is User && resource is Secret in Path::\"prod\" };".to_owned(),
    ];
    let mut seen = [0_usize; 2];
    for text in sets {
        let (filed, unfiled) = (compiled(&text), unfiled(&text));
        let mut many: Option<(Asked, Many<'_>)> = None;
        for asked in requests() {
            let decision = filed.decide(&asked);
            assert_eq!(decision, unfiled.decide(&asked), "{asked:?} under {text}");
            seen[usize::from(decision.allowed)] += 1;
            let (of, at_once) = many.get_or_insert_with(|| begin(&filed, &asked));
            if !is_like(of, &asked) {
                (*of, *at_once) = begin(&filed, &asked);
            }
            assert_eq!(
                at_once.decide(&asked.resource),
                decision,
                "{asked:?} under {text}"
            );
        }
    }
    // One that always says the same would be alike, too.
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

fn begin<'s>(set: &'s Set, asked: &Asked) -> (Asked, Many<'s>) {
    let many = set.many(asked.principal.clone(), asked.verb, asked.now);
    (asked.clone(), many)
}

/// Whether two are of the same principal, verb and time.
fn is_like(one: &Asked, other: &Asked) -> bool {
    (&one.principal, one.verb, one.now) == (&other.principal, other.verb, other.now)
}

/// How many policies are asked about this.
fn asked_of(set: &Set, principal: &str, verb: Verb, resource: &str) -> usize {
    let principal = Principal::parse(principal).unwrap();
    let named = Resource::parse(resource).unwrap();
    let (own, what) = (set.types.principal(&principal), set.types.resource(&named));
    let (groups, above) = (set.groups_of(&principal), set.above(&what));
    let who = Place {
        own: &own,
        above: &groups,
    };
    let place = Place {
        own: &what,
        above: &above,
    };
    let looked = Looked {
        who: &who,
        action: &set.types.action(verb),
        what: &place,
        name: resource.strip_prefix("secret/"),
    };
    let all = set.slices.of(&looked);
    all.map(|filed| filed.policies.policies().count()).sum()
}

#[test]
fn of_a_thousand_policies_that_nobody_is_tied_to_a_request_asks_few() {
    let thousand = |policy: &dyn Fn(usize) -> String| {
        let all: String = (0..1000).map(policy).collect();
        compiled(&all)
    };
    let by_name = thousand(&|n| {
        format!(
            "@id(\"r-{n}\") permit (principal, action, resource is Secret) when {{ resource.name like \"prod/team-{n}/*\" && context.now > 0 }};\n"
        )
    });
    let by_path = thousand(&|n| {
        format!(
            "@id(\"r-{n}\") permit (principal, action, resource) when {{ resource in Path::\"prod/team-{n}\" }};\n"
        )
    });
    let by_person = thousand(&|n| {
        format!(
            "@id(\"r-{n}\") forbid (principal, action, resource) when {{ principal == User::\"certificate:p-{n}\" }};\n"
        )
    });
    let (person, secret) = ("certificate:p-7", "secret/prod/team-7/db");
    for set in [&by_name, &by_path, &by_person] {
        assert_eq!(asked_of(set, person, Verb::Rotate, secret), 1);
    }
    // By verb and kind, where nothing else is said.
    let by_verb = thousand(&|n| {
        let verb = Verb::ALL[n % 8].word();
        format!(
            "@id(\"r-{n}\") permit (principal is User, action == Action::\"{verb}\", resource) when {{ context.now > {n} }};\n"
        )
    });
    assert_eq!(asked_of(&by_verb, person, Verb::Rotate, secret), 125);
    assert_eq!(asked_of(&by_verb, "host:a", Verb::Rotate, secret), 0);
    assert_eq!(asked_of(&by_verb, person, Verb::Read, secret), 0);
}

#[test]
fn of_ten_thousand_secrets_a_team_s_policies_are_asked_once_for_each_path() {
    let all: String = (0..1000)
        .map(|n| format!("@id(\"r-{n}\") permit (principal in Group::\"team\", action, resource in Path::\"prod/team-{n}\");\n"))
        .collect();
    let set = compiled(&all);
    let ada = Principal::parse("certificate:ada").unwrap();
    let mut many = set.many(ada, Verb::List, 0);
    let seen = (0..10_000).filter(|n| {
        let name = format!("prod/team-{}/db-{n}", n % 20);
        many.decide(&Resource::Secret(name)).allowed
    });
    assert_eq!(seen.count(), 10_000);
    assert_eq!(many.known(), 20);
}

/// Of the requests of a principal, verb and time each such part is asked once for each set: all take too long.
const PARTS: usize = 9;

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(texts)
}

/// Whom, what and which verbs the scope of a policy means.
fn scopes() -> impl Strategy<Value = String> {
    let principal = one_of(&[
        "principal",
        "principal",
        "principal is User",
        "principal is Service",
        "principal is Host",
        "principal == User::\"certificate:ada\"",
        "principal in Group::\"team\"",
        "principal is User in Group::\"team\"",
    ]);
    let action = one_of(&[
        "action",
        "action",
        "action == Action::\"list\"",
        "action == Action::\"read\"",
        "action in [Action::\"list\", Action::\"rotate\", Action::\"list\"]",
        "action in [Action::\"grant\", Action::\"revoke\"]",
    ]);
    let resource = one_of(&[
        "resource",
        "resource",
        "resource is Secret",
        "resource is Host",
        "resource is Secret in Path::\"prod\"",
        "resource in Path::\"prod\"",
        "resource in Environment::\"installation\"",
        "resource == Secret::\"prod/db\"",
        "resource == Path::\"prod\"",
        "resource in Group::\"team\"",
    ]);
    (principal, action, resource).prop_map(|(who, verb, what)| format!("({who}, {verb}, {what})"))
}

/// A condition, of those that policies are filed by and of others.
fn conditions() -> impl Strategy<Value = &'static str> {
    one_of(&[
        "resource in Path::\"prod\"",
        "resource in Path::\"prod/api\"",
        "resource == Secret::\"stage/db\"",
        "resource in Group::\"team\"",
        "resource is Secret",
        "resource is Secret in Path::\"prod\"",
        "resource is Secret && resource.name like \"prod/*\"",
        "resource is Secret && resource.name like \"prod/d*b\"",
        "resource is Secret && resource.name like \"*b\"",
        "resource is Secret && !(resource.name like \"prod/*\")",
        "principal == User::\"unix:0\"",
        "principal in Group::\"team\"",
        "principal is Service",
        "principal is Service && resource in principal.path",
        "!(resource in Path::\"prod\")",
        "(resource in Path::\"prod\" || principal is Host)",
        "context.now < 100",
        FAILS,
    ])
}

/// A policy without its name. Failing ones, and those that ask in several clauses, are among them.
fn random_policies() -> impl Strategy<Value = String> {
    let clause = (any::<bool>(), prop::collection::vec(conditions(), 1..4));
    let clauses = prop::collection::vec(clause, 0..3);
    let effect = one_of(&["permit", "forbid"]);
    (effect, scopes(), clauses).prop_map(|(effect, scope, clauses)| {
        let clauses = clauses.into_iter().map(|(is_when, all)| {
            let word = if is_when { "when" } else { "unless" };
            format!(" {word} {{ {} }}", all.join(" && "))
        });
        format!("{effect} {scope}{};", clauses.collect::<String>())
    })
}

/// Whether it fits the schema, by which some of what is drawn at random means nothing.
fn fits(policy: &str) -> bool {
    let source = Source {
        policies: format!("@id(\"a\") {policy}"),
        groups: BTreeMap::new(),
    };
    Set::compile(&source).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Where too few of what is drawn fits the schema, it fails for having drawn too often.
    #[test]
    fn whatever_a_set_says_it_decides_the_same_filed_or_not(
        drawn in prop::collection::vec(random_policies(), 1..8),
        place in 0..PARTS,
    ) {
        let fitting: Vec<&String> = drawn.iter().filter(|policy| fits(policy)).collect();
        prop_assume!(2 * fitting.len() >= drawn.len());
        let named = fitting.iter().enumerate();
        let named: String = named.map(|(n, policy)| format!("@id(\"p{n}\") {policy}\n")).collect();
        // Without it most would be denied whatever is left out.
        let text = format!("@id(\"all\") permit (principal is User, action, resource);\n{named}");
        let (filed, unfiled) = (compiled(&text), unfiled(&text));
        let mut many: Option<(Asked, Many<'_>)> = None;
        let all = requests();
        let together: Vec<&[Asked]> = all.chunk_by(is_like).collect();
        for asked in together.into_iter().skip(place).step_by(PARTS).flatten() {
            let decision = filed.decide(asked);
            prop_assert_eq!(&decision, &unfiled.decide(asked), "{:?} under {}", asked, text);
            let (of, at_once) = many.get_or_insert_with(|| begin(&filed, asked));
            if !is_like(of, asked) {
                (*of, *at_once) = begin(&filed, asked);
            }
            let said = at_once.decide(&asked.resource);
            prop_assert_eq!(said, decision, "{:?} at once under {}", asked, text);
        }
    }
}
