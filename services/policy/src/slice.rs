//! Which policies of a set a request may be about at all, so that a decision asks few of a thousand.
//!
//! A policy is filed by what its scope, and the conditions that are asked first, say of principal, action and resource.
//! Invariant: a policy that is left out for a request would not have applied to it, and would not have failed in a way
//! that forbids. So whoever permits may be filed by any of their conditions, of which all have to hold; whoever forbids
//! by those alone before which nothing can fail.

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr as _;

use cedar_policy::{
    ActionConstraint, Effect, EntityId, EntityTypeName, EntityUid, Policy, PolicySet,
    PrincipalConstraint, ResourceConstraint,
};
use serde_json::Value;

use crate::scope::{self, Place};

/// A set of policies, filed.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    /// By the principal or group that they are tied to.
    tied: HashMap<Option<EntityUid>, Things>,
}

/// Policies about the same people, by what they are about.
#[derive(Debug, Default)]
struct Things {
    /// By the thing, or what it has to be in.
    tied: HashMap<Option<EntityUid>, Slice>,
    /// By how the secret's name has to begin.
    below: HashMap<String, Slice>,
    /// How long these beginnings are.
    lengths: BTreeSet<usize>,
}

/// Policies of one place, by what else their scope says.
type Slice = Vec<Filed>;

/// Policies that are asked together.
#[derive(Debug)]
pub(crate) struct Filed {
    sort: Sort,
    pub(crate) policies: PolicySet,
    /// Whether they say the same of all things of a kind for which they are asked: none looks at the thing itself.
    pub(crate) is_alike: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Sort {
    action: Option<EntityUid>,
    principal: Option<EntityTypeName>,
    resource: Option<EntityTypeName>,
}

/// What a request is about, as far as policies are filed by it.
pub(crate) struct Looked<'a> {
    pub(crate) who: &'a Place<'a>,
    pub(crate) action: &'a EntityUid,
    pub(crate) what: &'a Place<'a>,
    /// Of a secret.
    pub(crate) name: Option<&'a str>,
}

impl Slices {
    /// Files a policy.
    ///
    /// # Errors
    /// When the policy engine does not take it.
    pub(crate) fn add(&mut self, policy: &Policy) -> Result<(), String> {
        let wanted = Wanted::of(policy);
        let things = self.tied.entry(wanted.principal).or_default();
        let slice = match (wanted.resource, wanted.begin) {
            (None, Some(begin)) => {
                things.lengths.insert(begin.len());
                things.below.entry(begin).or_default()
            }
            (resource, _) => things.tied.entry(resource).or_default(),
        };
        for action in actions(policy) {
            let sort = Sort {
                action,
                principal: wanted.principal_kind.clone(),
                resource: wanted.resource_kind.clone(),
            };
            let found = slice.iter().position(|known| known.sort == sort);
            let place = found.unwrap_or(slice.len());
            if found.is_none() {
                slice.push(Filed {
                    sort,
                    policies: PolicySet::new(),
                    is_alike: true,
                });
            }
            if let Some(same) = slice.get_mut(place) {
                same.is_alike &= !wanted.looks;
                let added = same.policies.add(policy.clone());
                added.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Those that a request may be about, each once.
    pub(crate) fn of<'s>(&'s self, looked: &'s Looked<'s>) -> impl Iterator<Item = &'s Filed> {
        let things = ties(looked.who).filter_map(move |of| self.tied.get(&of));
        let slices = things.flat_map(move |things| things.of(looked));
        let all = slices.flat_map(|slice| slice.iter());
        all.filter(move |filed| filed.sort.means(looked))
    }

    /// Names of the policies that some requests have to ask though these policies are tied to nobody and nothing, sorted:
    /// of the sort of requests that asks most of them.
    pub(crate) fn untied(&self, environment: &EntityUid) -> Vec<String> {
        let all = [None, Some(environment.clone())];
        let things = self.tied.get(&None::<EntityUid>).into_iter();
        let slices = things.flat_map(|things| all.iter().filter_map(move |of| things.tied.get(of)));
        let filed: Vec<&Filed> = slices.flatten().collect();
        let most = sorts(&filed)
            .into_iter()
            .map(|sort| asked(&filed, &sort))
            .max_by_key(|asked| count(asked));
        let policies = most.unwrap_or_default().into_iter();
        let policies = policies.flat_map(|filed| filed.policies.policies());
        let mut names: Vec<String> = policies.map(|policy| policy.id().to_string()).collect();
        names.sort_unstable();
        names
    }
}

/// Each sort of request that there may be, as far as policies are told apart by it.
fn sorts(filed: &[&Filed]) -> Vec<Sort> {
    let actions = distinct(filed.iter().map(|one| &one.sort.action));
    let principals = distinct(filed.iter().map(|one| &one.sort.principal));
    let resources = distinct(filed.iter().map(|one| &one.sort.resource));
    let mut all = Vec::new();
    for action in actions {
        for principal in &principals {
            all.extend(resources.iter().map(|resource| Sort {
                action: action.clone(),
                principal: (*principal).clone(),
                resource: (*resource).clone(),
            }));
        }
    }
    all
}

fn distinct<'a, T: PartialEq + 'a>(all: impl Iterator<Item = &'a T>) -> Vec<&'a T> {
    let mut each: Vec<&T> = Vec::new();
    for one in all {
        if !each.contains(&one) {
            each.push(one);
        }
    }
    each
}

/// What a request of a sort asks. A policy stands there once, for a request has one action.
fn asked<'f>(filed: &[&'f Filed], sort: &Sort) -> Vec<&'f Filed> {
    let all = filed.iter().copied();
    all.filter(|one| one.sort.is_within(sort)).collect()
}

fn count(filed: &[&Filed]) -> usize {
    let each = filed.iter();
    each.map(|one| one.policies.num_of_policies()).sum()
}

impl Things {
    fn of<'s>(&'s self, looked: &'s Looked<'s>) -> impl Iterator<Item = &'s Slice> {
        let tied = ties(looked.what).filter_map(move |on| self.tied.get(&on));
        let name = looked.name.unwrap_or_default();
        let lengths = self.lengths.iter();
        let lengths = lengths.take_while(move |length| **length <= name.len());
        let below = lengths.filter_map(move |length| self.below.get(name.get(..*length)?));
        tied.chain(below)
    }
}

impl Sort {
    /// Whether it says nothing that a sort of request does not.
    fn is_within(&self, request: &Self) -> bool {
        (self.action.is_none() || self.action == request.action)
            && (self.principal.is_none() || self.principal == request.principal)
            && (self.resource.is_none() || self.resource == request.resource)
    }

    fn means(&self, looked: &Looked<'_>) -> bool {
        let is = |wanted: &Option<EntityTypeName>, of: &EntityUid| {
            wanted.as_ref().is_none_or(|kind| kind == of.type_name())
        };
        self.action.as_ref().is_none_or(|own| own == looked.action)
            && is(&self.principal, looked.who.own)
            && is(&self.resource, looked.what.own)
    }
}

/// What policies about it may be tied to: nothing, itself, and all it is in.
fn ties<'a>(place: &'a Place<'a>) -> impl Iterator<Item = Option<EntityUid>> + 'a {
    let own = std::iter::once(place.own).chain(place.above);
    std::iter::once(None).chain(own.map(|of| Some(of.clone())))
}

/// The actions of a policy, each once; one without any is about all.
fn actions(policy: &Policy) -> Vec<Option<EntityUid>> {
    match policy.action_constraint() {
        ActionConstraint::Any => vec![None],
        ActionConstraint::Eq(one) => vec![Some(one)],
        ActionConstraint::In(all) => {
            let mut each: Vec<Option<EntityUid>> = Vec::new();
            for one in all.into_iter().map(Some) {
                if !each.contains(&one) {
                    each.push(one);
                }
            }
            each
        }
    }
}

/// What has to be so for a policy to apply, as far as it is filed by it.
#[derive(Debug, Default)]
struct Wanted {
    principal: Option<EntityUid>,
    resource: Option<EntityUid>,
    /// How the secret's name begins.
    begin: Option<String>,
    principal_kind: Option<EntityTypeName>,
    resource_kind: Option<EntityTypeName>,
    /// Whether more is asked of the thing than it is filed by.
    looks: bool,
}

/// What came of looking at a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noted {
    /// It says no more than the policy is filed by.
    Whole,
    /// It says more, and cannot fail.
    Part,
}

impl Wanted {
    fn of(policy: &Policy) -> Self {
        let mut wanted = Self {
            principal: scope::tied_principal(policy),
            resource: scope::tied_resource(policy),
            begin: None,
            principal_kind: match policy.principal_constraint() {
                PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => Some(kind),
                _ => None,
            },
            resource_kind: match policy.resource_constraint() {
                ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => Some(kind),
                _ => None,
            },
            looks: false,
        };
        let is_permit = policy.effect() == Effect::Permit;
        // Without its form nothing is known of its conditions, and it is asked more often.
        let form = policy.to_json().unwrap_or_default();
        let mut is_filed = true;
        for (part, has_to_hold) in conjuncts(&form) {
            let noted = match is_filed && has_to_hold {
                true => wanted.note(part),
                false => None,
            };
            is_filed &= noted.is_some() || is_permit;
            wanted.looks |= noted != Some(Noted::Whole) && looks_at_thing(part);
        }
        // What is filed by the thing is not by its name as well; and without its form nobody knows what a policy asks.
        let is_by_both = wanted.resource.is_some() && wanted.begin.is_some();
        wanted.looks |= is_by_both || form.is_null();
        wanted
    }

    /// Takes a condition that has to hold; nothing where it is of no form that is known, and may fail for all we know.
    fn note(&mut self, part: &Value) -> Option<Noted> {
        let noted = self.note_entity(part).or_else(|| self.note_kind(part));
        noted.or_else(|| self.note_name(part))
    }

    /// `resource in Path::"prod"`, `principal == User::"unix:0"`.
    fn note_entity(&mut self, part: &Value) -> Option<Noted> {
        let sides = part.get("in").or_else(|| part.get("=="))?;
        let of = entity(sides.get("right")?)?;
        let slot = match variable(sides.get("left")?)? {
            "principal" => &mut self.principal,
            "resource" => &mut self.resource,
            _ => return None,
        };
        Some(filed(slot, of))
    }

    /// `resource is Secret`; with what it may be in beside that it is of no form that is known.
    fn note_kind(&mut self, part: &Value) -> Option<Noted> {
        let is = part.get("is").filter(|is| is.get("in").is_none())?;
        let kind = EntityTypeName::from_str(is.get("entity_type")?.as_str()?).ok()?;
        let slot = match variable(is.get("left")?)? {
            "principal" => &mut self.principal_kind,
            "resource" => &mut self.resource_kind,
            _ => return None,
        };
        Some(filed(slot, kind))
    }

    /// `resource.name like "prod/*"`. That secrets have a name, and nothing else is asked for one, the schema says.
    fn note_name(&mut self, part: &Value) -> Option<Noted> {
        let like = part.get("like")?;
        let of = like.get("left")?.get(".")?;
        if variable(of.get("left")?)? != "resource" || of.get("attr")?.as_str()? != "name" {
            return None;
        }
        let pattern = like.get("pattern")?.as_array()?;
        let letters = pattern.iter();
        let letters = letters.map_while(|one| one.get("Literal")?.as_str());
        let begin: String = letters.collect();
        if begin.is_empty() || self.resource.is_some() {
            return Some(Noted::Part);
        }
        // Letters, and then whatever comes.
        let is_begin = pattern.last().and_then(Value::as_str) == Some("Wildcard")
            && pattern.iter().filter(|one| one.is_string()).count() == 1;
        let noted = filed(&mut self.begin, begin);
        Some(if is_begin { noted } else { Noted::Part })
    }
}

/// Files by the first that is found.
fn filed<T>(slot: &mut Option<T>, of: T) -> Noted {
    match slot {
        Some(_) => Noted::Part,
        None => {
            *slot = Some(of);
            Noted::Whole
        }
    }
}

/// Whether a condition asks anything of what a request is about.
fn looks_at_thing(part: &Value) -> bool {
    let mut open = vec![part];
    while let Some(part) = open.pop() {
        if variable(part) == Some("resource") {
            return true;
        }
        match part {
            Value::Array(all) => open.extend(all),
            Value::Object(all) => open.extend(all.values()),
            _ => {}
        }
    }
    false
}

/// Conditions in the order in which they are asked, and whether each has to hold for the policy to apply.
fn conjuncts(form: &Value) -> Vec<(&Value, bool)> {
    let conditions = form.get("conditions").and_then(Value::as_array);
    let mut all = Vec::new();
    for condition in conditions.into_iter().flatten() {
        let is_when = condition.get("kind").and_then(Value::as_str) == Some("when");
        match condition.get("body") {
            Some(body) if is_when => split(body, &mut all),
            _ => all.push((condition, false)),
        }
    }
    all
}

/// Taken apart without recursion: how deep a condition is, its writer says.
fn split<'v>(body: &'v Value, into: &mut Vec<(&'v Value, bool)>) {
    let mut open = vec![body];
    while let Some(part) = open.pop() {
        let both = part.get("&&");
        let sides = both.and_then(|both| Some((both.get("left")?, both.get("right")?)));
        match sides {
            // The left one is asked first.
            Some((left, right)) => open.extend([right, left]),
            None => into.push((part, true)),
        }
    }
}

fn variable(of: &Value) -> Option<&str> {
    of.get("Var")?.as_str()
}

fn entity(of: &Value) -> Option<EntityUid> {
    let of = of.get("Value")?.get("__entity")?;
    let kind = EntityTypeName::from_str(of.get("type")?.as_str()?).ok()?;
    let id = EntityId::new(of.get("id")?.as_str()?);
    Some(EntityUid::from_type_name_and_id(kind, id))
}

#[cfg(test)]
mod tests;
