//! What a token is good for: verbs of policies, and what they are about in the words of policies.
//!
//! A scope gives nothing. It is asked beside the policies, which are asked about the token's owner. Invariants: what is
//! in no scope is denied, whatever its owner may; no scope has the right to give rights to people; one that cannot be
//! read covers nothing.

use std::collections::BTreeSet;

use keywheel_core::token;
use keywheel_policy::{Resource, Verb, WordError};

use super::Demand;

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    verbs: BTreeSet<Verb>,
    resources: BTreeSet<Resource>,
}

/// Why a scope is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// A word is none of policies'.
    #[error(transparent)]
    Word(#[from] WordError),
    /// Nobody reads values.
    #[error("no token reads a value; leave out the verb `read`")]
    Read,
    /// It would give rights.
    #[error(
        "a token gives no rights to people, so `grant` is about hosts alone; name them as `host/NAME`, in a token of its own"
    )]
    Grant,
}

impl Scope {
    /// Reads the words of a scope.
    ///
    /// # Errors
    /// When a word is none, or no token may have the right.
    pub fn parse(words: &token::Scope) -> Result<Self, ScopeError> {
        let verbs = words.verbs.iter().map(|word| Verb::parse(word));
        let verbs = verbs.collect::<Result<BTreeSet<Verb>, WordError>>()?;
        let resources = words.resources.iter().map(|word| Resource::parse(word));
        let resources = resources.collect::<Result<BTreeSet<Resource>, WordError>>()?;
        if verbs.contains(&Verb::Read) {
            return Err(ScopeError::Read);
        }
        let are_hosts = || resources.iter().all(|one| matches!(one, Resource::Host(_)));
        if verbs.contains(&Verb::Grant) && !are_hosts() {
            return Err(ScopeError::Grant);
        }
        Ok(Self { verbs, resources })
    }

    /// A demand as far as it is covered; `None` where it is not.
    #[must_use]
    pub fn narrow(&self, demand: &Demand) -> Option<Demand> {
        let covers = |verb: &Verb| self.covers(*verb, &demand.resource);
        let other = demand.or.filter(covers);
        if covers(&demand.verb) {
            return Some(Demand {
                or: other,
                ..demand.clone()
            });
        }
        other.map(|verb| Demand {
            verb,
            or: None,
            ..demand.clone()
        })
    }

    /// Whether a right is in it.
    #[must_use]
    pub fn covers(&self, verb: Verb, wanted: &Resource) -> bool {
        self.verbs.contains(&verb) && self.resources.iter().any(|one| includes(one, wanted))
    }

    /// Every right that its words name, each by itself.
    pub fn demands(&self) -> impl Iterator<Item = Demand> + '_ {
        let of = |verb: Verb| {
            let each = self.resources.iter();
            each.map(move |resource| Demand::new(verb, resource.clone()))
        };
        self.verbs.iter().flat_map(move |verb| of(*verb))
    }
}

/// Whether a resource is, or holds, another one: as in policies, a path is itself and all below it.
fn includes(one: &Resource, wanted: &Resource) -> bool {
    match (one, wanted) {
        (Resource::Environment, _) => true,
        (Resource::Path(path), Resource::Path(name) | Resource::Secret(name)) => {
            let rest = name.strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        _ => one == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(verbs: &[&str], resources: &[&str]) -> Result<Scope, ScopeError> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Scope::parse(&token::Scope {
            verbs: owned(verbs),
            resources: owned(resources),
        })
    }

    fn resource(text: &str) -> Resource {
        Resource::parse(text).unwrap()
    }

    #[test]
    fn a_path_is_itself_and_what_is_below_it_and_nothing_beside() {
        let scope = scope(
            &["rotate"],
            &["path/prod/db", "secret/stage/x", "store/bao"],
        )
        .unwrap();
        for (wanted, is_covered) in [
            ("secret/prod/db", true),
            ("secret/prod/db/one", true),
            ("path/prod/db", true),
            ("path/prod/db/a/b", true),
            ("secret/prod/db2", false),
            ("path/prod", false),
            ("secret/prod", false),
            ("environment", false),
            ("secret/stage/x", true),
            ("secret/stage/x/y", false),
            ("path/stage/x", false),
            ("store/bao", true),
            ("store/bao2", false),
            ("host/bao", false),
            ("playbook/bao", false),
        ] {
            assert_eq!(
                scope.covers(Verb::Rotate, &resource(wanted)),
                is_covered,
                "{wanted}"
            );
            assert!(!scope.covers(Verb::Revoke, &resource(wanted)), "{wanted}");
        }
    }

    #[test]
    fn the_environment_is_everything_by_the_verbs_that_are_named() {
        let scope = scope(&["list", "audit"], &["environment"]).unwrap();
        for wanted in ["environment", "path/a", "secret/a", "host/a", "playbook/a"] {
            assert!(scope.covers(Verb::List, &resource(wanted)), "{wanted}");
            assert!(!scope.covers(Verb::Grant, &resource(wanted)), "{wanted}");
        }
    }

    #[test]
    fn no_scope_gives_rights_to_people_or_reads() {
        for resources in [
            &["environment"][..],
            &["path/prod"],
            &["host/a", "secret/b"],
        ] {
            assert_eq!(scope(&["list", "grant"], resources), Err(ScopeError::Grant));
        }
        let hosts = scope(&["grant"], &["host/a"]).unwrap();
        assert!(hosts.covers(Verb::Grant, &resource("host/a")));
        assert!(!hosts.covers(Verb::Grant, &resource("environment")));
        assert_eq!(scope(&["read"], &["path/a"]), Err(ScopeError::Read));
        assert!(matches!(
            scope(&["get"], &["path/a"]),
            Err(ScopeError::Word(_))
        ));
        assert!(matches!(
            scope(&["list"], &["value/a"]),
            Err(ScopeError::Word(_))
        ));
    }

    #[test]
    fn of_two_verbs_that_would_do_only_those_covered_are_left() {
        let either = Demand {
            or: Some(Verb::Audit),
            ..Demand::of_all(Verb::Grant)
        };
        let auditor = scope(&["audit"], &["environment"]).unwrap();
        // Its owner's right to grant does not stand in for the token's.
        assert_eq!(auditor.narrow(&either), Some(Demand::of_all(Verb::Audit)));
        // What was found by looking stays told to nobody who may not see it.
        let found = auditor.narrow(&either.clone().as_found()).unwrap();
        assert!(found.is_found && found.verb == Verb::Audit);
        let lister = scope(&["list"], &["environment"]).unwrap();
        assert_eq!(lister.narrow(&either), None);
        let both = Demand {
            or: Some(Verb::Audit),
            ..Demand::of_all(Verb::List)
        };
        assert_eq!(lister.narrow(&both), Some(Demand::of_all(Verb::List)));
    }

    #[test]
    fn every_named_right_is_asked_for_by_itself() {
        let scope = scope(&["list", "rotate"], &["secret/a", "store/b"]).unwrap();
        let all: Vec<String> = scope
            .demands()
            .map(|one| format!("{} {}", one.verb.word(), one.resource))
            .collect();
        let wanted = [
            "list secret/a",
            "list store/b",
            "rotate secret/a",
            "rotate store/b",
        ];
        assert_eq!(all, wanted);
    }
}
