//! The decision: what is permitted and not forbidden is allowed, and nothing else is. A policy that cannot be judged, for
//! its numbers are too large, permits nothing, and forbids where it would forbid.

use cedar_policy::{
    AuthorizationError, Context, Decision as Said, Effect, Entities, Request, RestrictedExpression,
};

use crate::scope::Place;
use crate::set::Set;
use crate::slice::{Filed, Looked};
use crate::words::{DAEMON_USER, Principal, ROOT, Resource, Verb};

/// What the audit says of what no policy permits.
pub const DEFAULT_DENY: &str = "default deny";
/// The rule that no set takes away: root and the daemon's own user on the gateway's machine may read and replace the
/// policies. They can change the daemon's files anyway, and without it one wrong set would lock everybody out.
pub const LOCAL_RECOVERY: &str = "local-recovery";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who.
    pub principal: Principal,
    /// What.
    pub verb: Verb,
    /// Of what.
    pub resource: Resource,
    /// When, in seconds since 1970.
    pub now: i64,
}

/// Whether it is allowed, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is.
    pub allowed: bool,
    /// The policies that decided, by name and sorted; none where nothing permits.
    pub policies: Vec<String>,
}

impl Decision {
    /// What decided, in words for the audit.
    #[must_use]
    pub fn reason(&self) -> String {
        match (self.allowed, self.policies.is_empty()) {
            (true, _) => self.policies.join(", "),
            (false, true) => DEFAULT_DENY.to_owned(),
            (false, false) => format!("forbidden by {}", self.policies.join(", ")),
        }
    }

    pub(crate) const fn denied() -> Self {
        Self {
            allowed: false,
            policies: Vec::new(),
        }
    }
}

impl Set {
    /// Decides. What cannot be judged is denied.
    #[must_use]
    pub fn decide(&self, asked: &Asked) -> Decision {
        if is_recovery(asked) {
            return Decision {
                allowed: true,
                policies: vec![LOCAL_RECOVERY.to_owned()],
            };
        }
        self.judge(asked).unwrap_or_else(|_| Decision::denied())
    }

    fn judge(&self, asked: &Asked) -> Result<Decision, String> {
        let types = &self.types;
        let principal = types.principal(&asked.principal);
        let resource = types.resource(&asked.resource);
        let groups = self.groups_of(&asked.principal);
        let above = self.above(&resource);
        let mut entities = vec![types.principal_entity(&asked.principal, &groups)?];
        // A host may ask about itself, and is in all there is either way.
        if principal != resource {
            entities.push(types.resource_entity(&asked.resource, &above)?);
        }
        let entities = Entities::from_entities(entities, None).map_err(|e| e.to_string())?;
        let now = RestrictedExpression::new_long(asked.now);
        let context =
            Context::from_pairs([("now".to_owned(), now)]).map_err(|error| error.to_string())?;
        let (of, on) = (principal.clone(), resource.clone());
        let action = types.action(asked.verb);
        let request = Request::new(of, action.clone(), on, context, Some(&self.schema))
            .map_err(|error| error.to_string())?;
        let who = Place {
            own: &principal,
            above: &groups,
        };
        let what = Place {
            own: &resource,
            above: &above,
        };
        let looked = Looked {
            who: &who,
            action: &action,
            what: &what,
            name: match &asked.resource {
                Resource::Secret(name) => Some(name.as_str()),
                _ => None,
            },
        };
        Ok(self.ask(&request, &entities, self.slices.of(&looked)))
    }

    /// Asks those policies that may be about it: a forbidding one of any of them is the last word.
    fn ask<'s>(
        &self,
        request: &Request,
        entities: &Entities,
        all: impl Iterator<Item = &'s Filed>,
    ) -> Decision {
        let (mut permits, mut forbids) = (Vec::new(), Vec::new());
        for Filed { policies, .. } in all {
            let response = self.authorizer.is_authorized(request, policies, entities);
            let errors = response.diagnostics().errors();
            forbids.extend(errors.filter_map(|error| self.unjudged_forbid(error)));
            let said = response.diagnostics().reason().map(ToString::to_string);
            match response.decision() {
                Said::Allow => permits.extend(said),
                // Without a reason nothing of them applies.
                Said::Deny => forbids.extend(said),
            }
        }
        let allowed = forbids.is_empty() && !permits.is_empty();
        let mut policies = if forbids.is_empty() { permits } else { forbids };
        policies.sort_unstable();
        Decision { allowed, policies }
    }

    /// The name of a forbidding policy that could not be judged: the engine leaves it out.
    fn unjudged_forbid(&self, error: &AuthorizationError) -> Option<String> {
        let AuthorizationError::PolicyEvaluationError(error) = error;
        let name = error.policy_id().to_string();
        let policy = self.policies.get(&name)?;
        (policy.effect() == Effect::Forbid).then_some(name)
    }
}

fn is_recovery(asked: &Asked) -> bool {
    let Principal::User { groups, .. } = &asked.principal else {
        return false;
    };
    let is_local = groups.contains(ROOT) || groups.contains(DAEMON_USER);
    is_local && asked.verb == Verb::Grant && asked.resource == Resource::Environment
}
