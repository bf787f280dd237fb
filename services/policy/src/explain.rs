//! Why a decision is as it is: what decided, and which policies were near it.

use cedar_policy::{Effect, Policy};

use crate::decide::{Asked, Decision};
use crate::scope::{self, Place};
use crate::set::Set;

/// Most policies that are told to be near.
pub const MAX_NEAR: usize = 10;

/// The part of a policy that kept it from applying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// It is about others.
    Principal,
    /// It is about other verbs.
    Action,
    /// It is about other things.
    Resource,
    /// Its condition does not hold.
    Condition,
}

impl Part {
    /// What it says, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Principal => "is about other principals",
            Self::Action => "is about other verbs",
            Self::Resource => "is about other things",
            Self::Condition => "has a condition that does not hold",
        }
    }
}

/// A policy that would have applied but for one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The policy.
    pub policy: String,
    /// Whether it permits; else it forbids.
    pub permits: bool,
    /// What kept it.
    pub but: Part,
}

/// A decision, with what is near it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// Policies that one part kept from applying, permitting ones first.
    pub near: Vec<Near>,
}

impl Set {
    /// Decides, and says why.
    #[must_use]
    pub fn explain(&self, asked: &Asked) -> Explanation {
        let decision = self.decide(asked);
        let types = &self.types;
        let (principal, resource) = (
            types.principal(&asked.principal),
            types.resource(&asked.resource),
        );
        let (groups, above) = (self.groups_of(&asked.principal), self.above(&resource));
        let who = Place {
            own: &principal,
            above: &groups,
        };
        let what = Place {
            own: &resource,
            above: &above,
        };
        let action = types.action(asked.verb);
        let mut near = Vec::new();
        for (name, policy) in &self.policies {
            let missed = [
                (Part::Principal, scope::means_principal(policy, &who)),
                (Part::Action, scope::means_action(policy, &action)),
                (Part::Resource, scope::means_resource(policy, &what)),
            ];
            let mut missed = missed.into_iter().filter(|(_, means)| !means);
            let is_told = decision.allowed || decision.policies.is_empty() || !is_permit(policy);
            let but = match (missed.next(), missed.next()) {
                (Some((part, _)), None) => part,
                // Beside what forbids nobody can see whether a permit's condition holds.
                (None, _) if policy.has_non_scope_constraint() && is_told => Part::Condition,
                _ => continue,
            };
            if but == Part::Condition && decision.policies.contains(name) {
                continue;
            }
            near.push(Near {
                policy: name.clone(),
                permits: is_permit(policy),
                but,
            });
        }
        near.sort_by_key(|one| (!one.permits, one.but, one.policy.clone()));
        near.truncate(MAX_NEAR);
        Explanation { decision, near }
    }
}

fn is_permit(policy: &Policy) -> bool {
    policy.effect() == Effect::Permit
}
