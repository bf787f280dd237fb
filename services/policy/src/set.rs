//! A set of policies: read, held to the schema and to bounds, and laid out so that a decision asks few of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, ValidationWarning,
    Validator,
};

use crate::lint::{Finding, FindingKind};
use crate::scope::Types;
use crate::slice::Slices;
use crate::words::{BUILT_IN_GROUPS, Principal, is_given};
use crate::{DEFAULT_POLICIES, SCHEMA};

/// Largest text of a set, policies and groups together, in bytes.
pub const MAX_SET_BYTES: usize = 512 * 1024;
/// Most policies of a set.
pub const MAX_POLICIES: usize = 2000;
/// Most groups of a set.
pub const MAX_GROUPS: usize = 500;
/// Most members of one group.
pub const MAX_MEMBERS: usize = 1000;
/// Longest name of a policy or group, in bytes.
pub const MAX_POLICY_NAME_BYTES: usize = 64;
/// Most faults that are told at once.
pub const MAX_FAULTS: usize = 20;

/// Why a text is no set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is larger than a set may be.
    #[error(
        "the set has {0} bytes, and {MAX_SET_BYTES} are the most; leave policies out that groups can stand for"
    )]
    TooLarge(usize),
    /// It has more policies than a set may have.
    #[error(
        "the set has {0} policies, and {MAX_POLICIES} are the most; use groups and paths instead of one policy each"
    )]
    TooMany(usize),
    /// It is not Cedar.
    #[error("the policy that ends at line {line} is not Cedar: {reason}")]
    Syntax {
        /// The line at which the policy ends in which reading stopped.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// It has a hole to be filled, which nothing here fills.
    #[error(
        "there is a template (`?principal` or `?resource`); write out whom or what it is about"
    )]
    Template,
    /// A policy has no name.
    #[error(
        "the policy `{0}` has no name; write `@id(\"name\")` before it, by which the audit will name it"
    )]
    NoName(String),
    /// A name that is none.
    #[error(
        "`{0}` names no policy or group; use up to {MAX_POLICY_NAME_BYTES} lower-case letters, digits, `.`, `_` and `-`"
    )]
    BadName(String),
    /// Two policies have one name.
    #[error(
        "two policies are named `{0}`, and the audit could not tell them apart; give one of them another name"
    )]
    NameTaken(String),
    /// It does not fit the schema.
    #[error("policy `{policy}` does not fit the schema: {reason}")]
    Schema {
        /// The policy.
        policy: String,
        /// What does not fit.
        reason: String,
    },
    /// The file of groups is wrong.
    #[error("the groups are wrong: {0}")]
    Groups(String),
    /// Something of ours does not work.
    #[error("the policy engine does not work: {0}; report it")]
    Engine(String),
}

/// The text of a set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Policies, in Cedar.
    pub policies: String,
    /// Who is in which group, by principals' ids.
    pub groups: BTreeMap<String, BTreeSet<String>>,
}

impl Source {
    /// What is in force where nothing was applied.
    #[must_use]
    pub fn shipped() -> Self {
        Self {
            policies: DEFAULT_POLICIES.to_owned(),
            groups: BTreeMap::new(),
        }
    }

    /// Its size, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let members = |all: &BTreeSet<String>| all.iter().map(String::len).sum::<usize>();
        let groups = self.groups.iter();
        self.policies.len()
            + groups
                .map(|(name, all)| name.len() + members(all))
                .sum::<usize>()
    }
}

/// A set that can decide.
#[derive(Debug)]
pub struct Set {
    pub(crate) types: Types,
    pub(crate) authorizer: Authorizer,
    /// What may be asked at all: no person for a value, whatever a policy about every action says.
    pub(crate) schema: Schema,
    /// By name.
    pub(crate) policies: BTreeMap<String, Policy>,
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    /// The same, filed by what requests they may be about.
    pub(crate) slices: Slices,
    groups_of: HashMap<String, Vec<String>>,
    /// What the schema's own judge finds odd.
    pub(crate) warnings: BTreeSet<Finding>,
    has_forbid: bool,
}

impl Set {
    /// Reads a set and holds it to schema and bounds.
    ///
    /// # Errors
    /// With all that is wrong with it, at most [`MAX_FAULTS`].
    pub fn compile(source: &Source) -> Result<Self, Vec<Fault>> {
        check_bounds(source)?;
        let types = Types::read().map_err(|reason| vec![Fault::Engine(reason)])?;
        let policies = named(&parse(&source.policies)?)?;
        let whole = PolicySet::from_policies(policies.values().cloned())
            .map_err(|error| vec![Fault::Engine(error.to_string())])?;
        let schema =
            Schema::from_str(SCHEMA).map_err(|error| vec![Fault::Engine(error.to_string())])?;
        let warnings = validate(&schema, &whole)?;
        let mut slices = Slices::default();
        for policy in policies.values() {
            let filed = slices.add(policy);
            filed.map_err(|reason| vec![Fault::Engine(reason)])?;
        }
        let mut groups_of: HashMap<String, Vec<String>> = HashMap::new();
        for (group, members) in &source.groups {
            for member in members {
                groups_of
                    .entry(member.clone())
                    .or_default()
                    .push(group.clone());
            }
        }
        let forbids = |policy: &Policy| policy.effect() == cedar_policy::Effect::Forbid;
        Ok(Self {
            types,
            authorizer: Authorizer::new(),
            schema,
            has_forbid: policies.values().any(forbids),
            policies,
            groups: source.groups.clone(),
            slices,
            groups_of,
            warnings,
        })
    }

    /// How many policies it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether it has none, so that it denies everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Whether some policy forbids: then what is permitted of the whole may still be forbidden of a part.
    #[must_use]
    pub const fn has_forbid(&self) -> bool {
        self.has_forbid
    }

    /// Names of the policies.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// What somebody is in: groups of the set, how they came here, and for a host all there is.
    pub(crate) fn groups_of(&self, principal: &Principal) -> Vec<EntityUid> {
        let declared = self.groups_of.get(&principal.id()).into_iter().flatten();
        let mut all: Vec<EntityUid> = declared.map(|name| self.types.group(name)).collect();
        match principal {
            Principal::User { groups, .. } => {
                let ours = groups.iter();
                let ours = ours.filter(|name| is_given(name));
                all.extend(ours.map(|name| self.types.group(name)));
            }
            Principal::Host { .. } => all.push(self.types.environment()),
            Principal::Service { .. } => {}
        }
        all
    }

    /// All that a resource of this uid is in, without itself: a host is in the groups that name it, too.
    pub(crate) fn above(&self, of: &EntityUid) -> Vec<EntityUid> {
        let mut all = self.types.above(of);
        if let Some(name) = self.types.host_of(of) {
            let host = Principal::Host {
                name: name.to_owned(),
            };
            let declared = self.groups_of.get(&host.id()).into_iter().flatten();
            all.extend(declared.map(|group| self.types.group(group)));
        }
        all
    }
}

fn check_bounds(source: &Source) -> Result<(), Vec<Fault>> {
    let size = source.size();
    if size > MAX_SET_BYTES {
        return Err(vec![Fault::TooLarge(size)]);
    }
    let mut faults = Vec::new();
    if source.groups.len() > MAX_GROUPS {
        let text = format!(
            "there are {}, and {MAX_GROUPS} are the most",
            source.groups.len()
        );
        faults.push(Fault::Groups(text));
    }
    for (name, members) in &source.groups {
        if !is_name(name) {
            faults.push(Fault::BadName(shorten(name)));
        } else if BUILT_IN_GROUPS.contains(&name.as_str()) {
            let text = format!(
                "`{name}` says how somebody came here and cannot be given members; take another name"
            );
            faults.push(Fault::Groups(text));
        }
        if members.len() > MAX_MEMBERS {
            let text = format!(
                "`{name}` has {} members, and {MAX_MEMBERS} are the most",
                members.len()
            );
            faults.push(Fault::Groups(text));
        }
        let unread = members
            .iter()
            .filter_map(|member| Principal::parse(member).err());
        faults.extend(unread.map(|error| Fault::Groups(format!("in `{name}`: {error}"))));
    }
    told(faults)
}

fn told(mut faults: Vec<Fault>) -> Result<(), Vec<Fault>> {
    faults.truncate(MAX_FAULTS);
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults),
    }
}

/// Looks whether a part of a set's text is Cedar by itself, such as one file of several; at nothing else.
///
/// # Errors
/// With where it is not, by the lines of that text.
pub fn check_syntax(text: &str) -> Result<(), Fault> {
    let is_syntax = |fault: &Fault| matches!(fault, Fault::Syntax { .. });
    let faults = parse(text).err().unwrap_or_default();
    faults.into_iter().find(is_syntax).map_or(Ok(()), Err)
}

fn parse(text: &str) -> Result<PolicySet, Vec<Fault>> {
    let set = PolicySet::from_str(text).map_err(|errors| {
        let reason = errors
            .iter()
            .next()
            .map_or_else(|| errors.to_string(), ToString::to_string);
        let line = faulty_line(text);
        vec![Fault::Syntax { line, reason }]
    })?;
    if set.num_of_templates() > 0 {
        return Err(vec![Fault::Template]);
    }
    if set.num_of_policies() > MAX_POLICIES {
        return Err(vec![Fault::TooMany(set.num_of_policies())]);
    }
    Ok(set)
}

/// The end of the first policy that cannot be read: the shortest text up to the end of a policy that cannot.
fn faulty_line(text: &str) -> usize {
    let mut ends = Vec::new();
    let mut length = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        length += line.len();
        if line.trim_end().ends_with(';') {
            ends.push((number, length));
        }
    }
    let last = text.lines().count().max(1);
    let is_read = |(_, end): &(usize, usize)| {
        text.get(..*end)
            .is_some_and(|part| PolicySet::from_str(part).is_ok())
    };
    let first = ends.partition_point(is_read);
    ends.get(first).map_or(last, |(number, _)| *number)
}

fn named(set: &PolicySet) -> Result<BTreeMap<String, Policy>, Vec<Fault>> {
    let mut all = BTreeMap::new();
    let mut faults = Vec::new();
    for policy in set.policies() {
        let Some(name) = policy.annotation("id") else {
            faults.push(Fault::NoName(shorten(&policy.to_string())));
            continue;
        };
        if !is_name(name) {
            faults.push(Fault::BadName(shorten(name)));
        }
        let own = policy.new_id(PolicyId::new(name));
        if all.insert(name.to_owned(), own).is_some() {
            faults.push(Fault::NameTaken(shorten(name)));
        }
    }
    told(faults)?;
    Ok(all)
}

fn is_name(text: &str) -> bool {
    let byte =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_POLICY_NAME_BYTES).contains(&text.len()) && text.bytes().all(byte)
}

fn shorten(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(120).collect()
}

fn validate(schema: &Schema, set: &PolicySet) -> Result<BTreeSet<Finding>, Vec<Fault>> {
    let result = Validator::new(schema.clone()).validate(set, ValidationMode::Strict);
    let mut faults: Vec<Fault> = result
        .validation_errors()
        .map(|error| Fault::Schema {
            policy: error.policy_id().to_string(),
            reason: error.to_string(),
        })
        .collect();
    faults.sort_by_key(ToString::to_string);
    // The same fault is found once for each sort of principal and thing.
    faults.dedup();
    told(faults)?;
    Ok(result.validation_warnings().map(odd).collect())
}

/// What the schema's judge finds odd: in its own words where it is about how something is written.
fn odd(warning: &ValidationWarning) -> Finding {
    let policy = warning.policy_id().to_string();
    match warning {
        ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
            Finding {
                policy,
                kind: FindingKind::Impossible,
                text: "no request can be one that it is about: its condition never holds, or its verbs are not for its principals and things"
                    .to_owned(),
            }
        }
        other => Finding {
            policy,
            kind: FindingKind::Confusing,
            text: other.to_string(),
        },
    }
}

/// Reads a file of groups: one JSON object, `{"payments": ["certificate:ada"]}`.
///
/// # Errors
/// When it is no such object.
pub fn parse_groups(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>, Fault> {
    if text.len() > MAX_SET_BYTES {
        return Err(Fault::TooLarge(text.len()));
    }
    serde_json::from_str(text).map_err(|error| {
        Fault::Groups(format!(
            "{error}; write {{\"payments\": [\"certificate:ada\"]}}"
        ))
    })
}
