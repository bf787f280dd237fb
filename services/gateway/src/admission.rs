//! Whether somebody may do what they ask: the policies in force, and the one function that asks them.
//!
//! Invariants: what is not permitted is denied; a set that cannot be read permits nothing but that root, or the daemon's
//! own user, replaces it; where nobody applied a set, the shipped one is in force. It asks the policies of the state
//! this gateway has folded: with several gateways another one's set counts here as soon as its event has come.

pub mod demands;
pub mod entitlement;
pub mod scope;
pub mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use keywheel_core::approval::Operation;
use keywheel_core::audit;
use keywheel_core::policy::{Applied, Policies};
use keywheel_policy::{
    Asked, Decision, Explanation, Fault, Many, Principal, Resource, Set, Source, TOKEN, Verb,
    group_of_provider,
};

/// Longest list of policies in a record's reason, in characters.
const MAX_REASON_CHARS: usize = 300;

/// A right that a request needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// What.
    pub verb: Verb,
    /// Of what.
    pub resource: Resource,
    /// Another verb that will do as well.
    pub or: Option<Verb>,
    /// Whether it was found by looking at what there is, and not named by who asks: nobody hears of it by a refusal who
    /// may not see it.
    pub is_found: bool,
}

impl Demand {
    /// One right.
    #[must_use]
    pub const fn new(verb: Verb, resource: Resource) -> Self {
        Self {
            verb,
            resource,
            or: None,
            is_found: false,
        }
    }

    /// The same, found by looking.
    #[must_use]
    pub fn as_found(self) -> Self {
        Self {
            is_found: true,
            ..self
        }
    }

    /// Of no single thing.
    #[must_use]
    pub const fn of_all(verb: Verb) -> Self {
        Self::new(verb, Resource::Environment)
    }
}

/// A demand that is not met, and what decided that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What was needed.
    pub demand: Demand,
    /// What decided.
    pub reason: String,
}

/// The set that is in force.
#[derive(Debug, Clone)]
pub struct InForce {
    /// Its version; `None` for the shipped one.
    pub version: Option<u64>,
    /// The set.
    pub set: Arc<Set>,
    /// Whether it could be read; if not, it permits nothing.
    pub is_read: bool,
}

/// Reads sets, once each.
pub struct Admission {
    shipped: Arc<Set>,
    /// What stands for a set that cannot be read.
    none: Arc<Set>,
    last: Mutex<Option<(u64, InForce)>>,
    /// The set of the state that is decided on.
    drafted: Mutex<Option<Drafted>>,
    /// How many people operations take, that take several.
    people: BTreeMap<Operation, u64>,
}

/// A set by what it says.
struct Drafted {
    policies: Policies,
    /// Where it was seen last.
    applied: Option<Arc<Applied>>,
    read: InForce,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

impl Admission {
    /// Reads the shipped set.
    ///
    /// # Errors
    /// When the policy engine does not work.
    pub fn new() -> Result<Self, Fault> {
        let compile = |source: &Source| {
            let set = Set::compile(source).map_err(|faults| {
                let first = faults.into_iter().next();
                first.unwrap_or_else(|| Fault::Engine("it says nothing".to_owned()))
            })?;
            Ok::<_, Fault>(Arc::new(set))
        };
        Ok(Self {
            shipped: compile(&Source::shipped())?,
            none: compile(&Source::default())?,
            last: Mutex::new(None),
            drafted: Mutex::new(None),
            people: BTreeMap::new(),
        })
    }

    /// Has these operations take so many people.
    #[must_use]
    pub fn with_people(self, people: BTreeMap<Operation, u64>) -> Self {
        Self { people, ..self }
    }

    /// How many people an operation takes; `None` for one.
    #[must_use]
    pub fn people(&self, operation: Operation) -> Option<u64> {
        self.people.get(&operation).copied()
    }

    /// The set in force where this one was applied last. It may have to be read first, so no lock on the state is held
    /// meanwhile.
    #[must_use]
    pub fn in_force(&self, applied: Option<&Applied>) -> InForce {
        let Some(applied) = applied else {
            return InForce {
                version: None,
                set: self.shipped.clone(),
                is_read: true,
            };
        };
        // By its event's number: versions of two logs may be alike.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, known)) = &*last
            && *number == applied.number
        {
            return known.clone();
        }
        let read = self.read(applied);
        *last = Some((applied.number, read.clone()));
        read
    }

    /// Takes a set that was read already, by whoever had it applied: so that no request waits for that.
    pub fn take(&self, applied: &Applied, set: Arc<Set>) {
        let read = InForce {
            version: Some(applied.version),
            set,
            is_read: true,
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((applied.number, read));
    }

    /// The set of a state that is not committed: by what it says, for the number of its event may come to be another's.
    #[must_use]
    pub fn of_draft(&self, applied: &Arc<Applied>) -> InForce {
        let mut drafted = self.drafted.lock().unwrap_or_else(PoisonError::into_inner);
        let version = Some(applied.version);
        if let Some(known) = &mut *drafted {
            let seen = known.applied.as_ref();
            let is_seen = seen.is_some_and(|seen| Arc::ptr_eq(seen, applied));
            if is_seen || known.policies == applied.policies {
                known.applied = Some(applied.clone());
                return InForce {
                    version,
                    ..known.read.clone()
                };
            }
        }
        let read = self.read(applied);
        *drafted = Some(Drafted {
            policies: applied.policies.clone(),
            applied: Some(applied.clone()),
            read: read.clone(),
        });
        read
    }

    /// Takes a set that is about to be applied, so that whoever decides that does not have to read it.
    pub fn prepare(&self, policies: &Policies, set: Arc<Set>) {
        let read = InForce {
            version: None,
            set,
            is_read: true,
        };
        let mut drafted = self.drafted.lock().unwrap_or_else(PoisonError::into_inner);
        *drafted = Some(Drafted {
            policies: policies.clone(),
            applied: None,
            read,
        });
    }

    fn read(&self, applied: &Applied) -> InForce {
        let version = Some(applied.version);
        match Set::compile(&source_of(&applied.policies)) {
            Ok(set) => InForce {
                version,
                set: Arc::new(set),
                is_read: true,
            },
            Err(faults) => {
                let reason = faults.first().map(ToString::to_string).unwrap_or_default();
                tracing::error!(
                    version = applied.version,
                    reason,
                    "policies in force cannot be read, nobody may anything"
                );
                InForce {
                    version,
                    set: self.none.clone(),
                    is_read: false,
                }
            }
        }
    }
}

impl InForce {
    /// Whether somebody may do all of this, and by which policies; the one place where a verb is admitted.
    ///
    /// # Errors
    /// With the first demand that is not met.
    pub fn admit(
        &self,
        principal: &Principal,
        demands: &[Demand],
        now: i64,
    ) -> Result<String, Refused> {
        let mut by: BTreeSet<String> = BTreeSet::new();
        for demand in demands {
            let decision = self.decide(principal, demand, now);
            if !decision.allowed {
                return Err(Refused {
                    demand: demand.clone(),
                    reason: decision.reason(),
                });
            }
            by.extend(decision.policies);
        }
        let by: Vec<String> = by.into_iter().collect();
        Ok(by.join(", ").chars().take(MAX_REASON_CHARS).collect())
    }

    fn decide(&self, principal: &Principal, demand: &Demand, now: i64) -> Decision {
        let asked = |verb| Asked {
            principal: principal.clone(),
            verb,
            resource: demand.resource.clone(),
            now,
        };
        let decision = self.set.decide(&asked(demand.verb));
        let other = demand.or.filter(|_| !decision.allowed);
        let other = other.map(|verb| self.set.decide(&asked(verb)));
        other.filter(|other| other.allowed).unwrap_or(decision)
    }

    /// Somebody who looks at lists.
    #[must_use]
    pub fn seer(&self, principal: Principal, now: i64) -> Seer<'_> {
        let all = self.decide(&principal, &Demand::of_all(Verb::List), now);
        Seer {
            sees_all: all.allowed,
            is_forbidden_some: self.set.has_forbid(),
            rows: self.set.many(principal, Verb::List, now),
        }
    }

    /// Why somebody may, or may not.
    #[must_use]
    pub fn explain(
        &self,
        principal: Principal,
        verb: Verb,
        resource: Resource,
        now: i64,
    ) -> Explanation {
        self.set.explain(&Asked {
            principal,
            verb,
            resource,
            now,
        })
    }

    /// Which policies decided, for a record: with their set, for names alone say nothing once it changed. `None` for the
    /// shipped ones.
    #[must_use]
    pub fn decided(&self, by: &str) -> Option<String> {
        self.version?;
        let set = self.words();
        Some(match by {
            "" => set,
            by => format!("{set}: {by}"),
        })
    }

    /// Which set it is, in words.
    #[must_use]
    pub fn words(&self) -> String {
        self.version.map_or_else(
            || "shipped policies".to_owned(),
            |version| format!("policies version {version}"),
        )
    }
}

/// Somebody who looks at lists.
#[derive(Debug)]
pub struct Seer<'s> {
    sees_all: bool,
    /// Whether some policy forbids.
    is_forbidden_some: bool,
    rows: Many<'s>,
}

impl Seer<'_> {
    /// Whether they see a row. Who may list all there is sees each that nothing forbids.
    pub fn sees(&mut self, resource: &Resource) -> bool {
        if self.sees_all && !self.is_forbidden_some {
            return true;
        }
        let decision = self.rows.decide(resource);
        decision.allowed || (self.sees_all && decision.policies.is_empty())
    }
}

/// Who somebody is for policies, and wherever approvals are counted: what the kernel or the certificate says, never a
/// login name that another user id may have, too.
#[must_use]
pub fn identity(principal: &audit::Principal) -> String {
    match principal {
        audit::Principal::User { uid, .. } => format!("unix:{uid}"),
        audit::Principal::Operator { name } => format!("certificate:{name}"),
        audit::Principal::Stranger { address } => format!("stranger:{address}"),
        audit::Principal::Service(role) => format!("service:{role:?}"),
        // One person is one, by whatever they come: no token makes two of them.
        audit::Principal::Token { owner, .. } => owner.clone(),
        audit::Principal::Login { name } => format!("oidc:{name}"),
    }
}

/// A person as policies know them; `rule` is how they came in.
#[must_use]
pub fn person(principal: &audit::Principal, rule: &str) -> Principal {
    let name = match principal {
        audit::Principal::User { name, .. }
        | audit::Principal::Operator { name }
        | audit::Principal::Login { name } => name.clone(),
        audit::Principal::Stranger { .. }
        | audit::Principal::Service(_)
        | audit::Principal::Token { .. } => String::new(),
    };
    Principal::User {
        id: identity(principal),
        name,
        groups: BTreeSet::from([rule.to_owned()]),
    }
}

/// Somebody who logged in, as policies know them: in the groups, too, that the provider says they are in.
#[must_use]
pub fn logged_in(principal: &audit::Principal, rule: &str, groups: &[String]) -> Principal {
    let mut of = person(principal, rule);
    if let Principal::User { groups: own, .. } = &mut of {
        own.extend(groups.iter().map(|group| group_of_provider(group)));
    }
    of
}

/// A program as policies know it: the person whose token it has, and in one group more.
#[must_use]
pub fn program(owner: &audit::Principal, rule: &str) -> Principal {
    let mut of = person(owner, rule);
    if let Principal::User { groups, .. } = &mut of {
        groups.insert(TOKEN.to_owned());
    }
    of
}

/// A set of the log as the policy engine reads it.
#[must_use]
pub fn source_of(policies: &Policies) -> Source {
    let groups = policies.groups.iter();
    Source {
        policies: policies.text.clone(),
        groups: groups
            .map(|group| (group.name.clone(), group.members.iter().cloned().collect()))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
