//! What is odd about a set that is valid: policies that can never apply, and rights that lead to all others.
//!
//! Findings refuse nothing: a path may be written before its secrets are.

use std::collections::BTreeSet;
use std::fmt;

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};

use crate::scope::{self, Place};
use crate::set::Set;
use crate::words::{Principal, Resource, Verb, is_given};

/// So many policies that are tied to nobody and nothing are asked in a decision's 100 µs (`bench/README.md`).
pub const MAX_UNTIED: usize = 16;

/// Names that there are.
#[derive(Debug, Clone, Default)]
pub struct Estate {
    /// Everything that has a name: secrets, stores, hosts, playbooks, notifications, sources of signals.
    pub known: BTreeSet<Resource>,
}

impl Estate {
    fn has(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Environment => true,
            Resource::Path(path) => self.known.iter().any(|known| lies_at(known, path)),
            other => self.known.contains(other),
        }
    }
}

fn lies_at(known: &Resource, path: &str) -> bool {
    let Resource::Secret(name) = known else {
        return false;
    };
    name.strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What sort of oddity it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// It can never apply.
    Impossible,
    /// It names a group, person or thing that there is not.
    UnknownName,
    /// Its group has no members, or nothing lies at its path.
    EmptyRange,
    /// Whatever it permits another policy forbids.
    Shadowed,
    /// Whoever it is for may give themselves everything.
    SelfGrant,
    /// It has letters that look like others.
    Confusing,
    /// With many others it is asked about everything that anybody does.
    Costly,
}

impl FindingKind {
    /// One word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Impossible => "impossible",
            Self::UnknownName => "unknown-name",
            Self::EmptyRange => "empty-range",
            Self::Shadowed => "shadowed",
            Self::SelfGrant => "self-grant",
            Self::Confusing => "confusing",
            Self::Costly => "costly",
        }
    }
}

/// Something odd about a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The policy.
    pub policy: String,
    /// What sort.
    pub kind: FindingKind,
    /// What, and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "policy `{}`: {} ({})",
            self.policy,
            self.text,
            self.kind.word()
        )
    }
}

impl Set {
    /// All that is odd, by policy. Without an estate nothing is said of names of things.
    #[must_use]
    pub fn lint(&self, estate: Option<&Estate>) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.warnings.iter().cloned().collect();
        found.extend(self.costly());
        for (name, policy) in &self.policies {
            let said = |kind, text| finding(name, kind, text);
            found.extend(
                self.odd_principal(policy)
                    .map(|(kind, text)| said(kind, text)),
            );
            let odd = estate.and_then(|estate| self.odd_resource(policy, estate));
            found.extend(odd.map(|(kind, text)| said(kind, text)));
            found.extend(self.shadow_of(policy).map(|by| {
                let text = format!("`{by}` forbids all that it permits; take one of them out");
                said(FindingKind::Shadowed, text)
            }));
            if self.lets_grant(policy) {
                let text = "whoever it is for may replace the policies, and so give themselves everything; permit `grant` to those alone who may do everything anyway";
                found.push(said(FindingKind::SelfGrant, text.to_owned()));
            }
            if self.lets_join(policy) {
                let text = "whoever it is for may have a machine of theirs join as such a host, and gets there what bindings give it; permit `grant` of a host to those alone who may have all of that, and see `dual_control.host_return`";
                found.push(said(FindingKind::SelfGrant, text.to_owned()));
            }
        }
        found.sort();
        found
    }

    /// One for all of them: that many are asked about everything.
    fn costly(&self) -> Option<Finding> {
        let untied = self.slices.untied(&self.types.environment());
        let first = untied.first().filter(|_| untied.len() > MAX_UNTIED)?;
        let text = format!(
            "it and {} others are tied to nobody and nothing, so they are asked each time somebody does something, and more than {MAX_UNTIED} of them make every decision slow; tie them to a group, a person, a path or the beginning of a name, or say the same in fewer policies",
            untied.len() - 1
        );
        Some(finding(first, FindingKind::Costly, text))
    }

    /// Of a group that nobody is in, or a person that cannot be one.
    fn odd_principal(&self, policy: &Policy) -> Option<(FindingKind, String)> {
        let of = scope::tied_principal(policy)?;
        let id = of.id().unescaped().to_owned();
        if self.types.is_group(&of) {
            // Whom a provider puts where is not known here.
            let is_built_in = is_given(&id);
            return match self.groups.get(&id) {
                _ if is_built_in => None,
                None => Some((
                    FindingKind::UnknownName,
                    format!("no group is named `{id}`; declare it among the groups"),
                )),
                Some(members) if members.is_empty() => Some((
                    FindingKind::EmptyRange,
                    format!("nobody is in group `{id}`; give it members"),
                )),
                Some(_) => None,
            };
        }
        let is_user = of.type_name().basename() == "User";
        let is_person = matches!(Principal::parse(&id), Ok(Principal::User { .. }));
        (is_user && !is_person).then(|| {
            let text = format!(
                "nobody can be `{id}`; people are `certificate:NAME`, `unix:UID` or `oidc:NAME`"
            );
            (FindingKind::UnknownName, text)
        })
    }

    fn odd_resource(&self, policy: &Policy, estate: &Estate) -> Option<(FindingKind, String)> {
        let resource = self.types.resource_of(&scope::tied_resource(policy)?)?;
        if estate.has(&resource) {
            return None;
        }
        Some(match &resource {
            Resource::Path(path) => (
                FindingKind::EmptyRange,
                format!("no secret lies at `{path}` or below it now; look for a slip of the pen"),
            ),
            other => (
                FindingKind::UnknownName,
                format!("there is no `{other}` now; look for a slip of the pen"),
            ),
        })
    }

    /// A forbidding policy without a condition that means all that a permitting one does.
    fn shadow_of(&self, policy: &Policy) -> Option<&str> {
        if policy.effect() != Effect::Permit {
            return None;
        }
        let mut forbids = self.policies.iter().filter(|(_, other)| {
            other.effect() == Effect::Forbid && !other.has_non_scope_constraint()
        });
        let found = forbids.find(|(_, forbid)| {
            covers_action(forbid, policy)
                && self.covers_principal(forbid, policy)
                && self.covers_resource(forbid, policy)
        });
        found.map(|(name, _)| name.as_str())
    }

    fn covers_principal(&self, forbid: &Policy, permit: &Policy) -> bool {
        let (wide, narrow) = (forbid.principal_constraint(), permit.principal_constraint());
        if wide == PrincipalConstraint::Any || wide == narrow {
            return true;
        }
        match narrow {
            PrincipalConstraint::Eq(own) => {
                let above = self.groups_by_id(&own);
                scope::means_principal(
                    forbid,
                    &Place {
                        own: &own,
                        above: &above,
                    },
                )
            }
            PrincipalConstraint::IsIn(kind, of) => {
                wide == PrincipalConstraint::Is(kind) || wide == PrincipalConstraint::In(of)
            }
            _ => false,
        }
    }

    fn groups_by_id(&self, of: &EntityUid) -> Vec<EntityUid> {
        let id = match of.type_name().basename() {
            "Service" => format!("service:{}", of.id().unescaped()),
            "Host" => format!("host:{}", of.id().unescaped()),
            _ => of.id().unescaped().to_owned(),
        };
        let has = self
            .groups
            .iter()
            .filter(|(_, members)| members.contains(&id));
        has.map(|(name, _)| self.types.group(name)).collect()
    }

    fn covers_resource(&self, forbid: &Policy, permit: &Policy) -> bool {
        let (wide, narrow) = (forbid.resource_constraint(), permit.resource_constraint());
        if wide == ResourceConstraint::Any || wide == narrow {
            return true;
        }
        match narrow {
            ResourceConstraint::Eq(own) => {
                let above = self.above(&own);
                scope::means_resource(
                    forbid,
                    &Place {
                        own: &own,
                        above: &above,
                    },
                )
            }
            ResourceConstraint::In(of) => {
                let above = self.above(&of);
                matches!(&wide, ResourceConstraint::In(wider) if *wider == of || above.contains(wider))
            }
            ResourceConstraint::IsIn(kind, of) => {
                let above = self.above(&of);
                match wide {
                    ResourceConstraint::Is(wider) => wider == kind,
                    ResourceConstraint::In(wider) => wider == of || above.contains(&wider),
                    ResourceConstraint::IsIn(of_kind, wider) => {
                        of_kind == kind && (wider == of || above.contains(&wider))
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Whether it lets replace the policies whom it does not let do everything.
    fn lets_grant(&self, policy: &Policy) -> bool {
        let environment = self.types.environment();
        let place = Place {
            own: &environment,
            above: &[],
        };
        let grants = policy.effect() == Effect::Permit
            && scope::means_action(policy, &self.types.action(Verb::Grant))
            && scope::means_resource(policy, &place);
        let is_whole = policy.action_constraint() == ActionConstraint::Any
            && !policy.has_non_scope_constraint()
            && matches!(
                policy.resource_constraint(),
                ResourceConstraint::Any | ResourceConstraint::In(_)
            );
        grants && !is_whole && is_of_people(policy)
    }

    /// Whether it lets somebody make join tokens, and no more than that.
    fn lets_join(&self, policy: &Policy) -> bool {
        let is_host = match policy.resource_constraint() {
            ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => {
                kind.basename() == "Host"
            }
            ResourceConstraint::Eq(of) => of.type_name().basename() == "Host",
            // Of all there is, which is found as such; things in a group are hosts.
            ResourceConstraint::In(of) => self.types.is_group(&of),
            ResourceConstraint::Any => false,
        };
        policy.effect() == Effect::Permit
            && is_host
            && scope::means_action(policy, &self.types.action(Verb::Grant))
            && is_of_people(policy)
    }
}

fn is_of_people(policy: &Policy) -> bool {
    match policy.principal_constraint() {
        PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => {
            kind.basename() == "User"
        }
        PrincipalConstraint::Eq(of) => of.type_name().basename() == "User",
        _ => true,
    }
}

fn covers_action(forbid: &Policy, permit: &Policy) -> bool {
    let all = |policy: &Policy| match policy.action_constraint() {
        ActionConstraint::Any => None,
        ActionConstraint::Eq(one) => Some(vec![one]),
        ActionConstraint::In(all) => Some(all),
    };
    match (all(forbid), all(permit)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|one| wide.contains(one)),
    }
}

fn finding(policy: &str, kind: FindingKind, text: String) -> Finding {
    Finding {
        policy: policy.to_owned(),
        kind,
        text,
    }
}
