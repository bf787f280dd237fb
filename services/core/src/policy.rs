//! The policies in force, as a whole: their text, who is in which group, and which version it is. Facts, refusals and
//! the fold.
//!
//! What a policy means is not known here: whoever submits a set has read it and held it to the schema. Every set that
//! was applied stays in the log.

use crate::id::PolicySetId;

/// Largest set, policies and groups together, in bytes: it is one event.
pub const MAX_POLICY_SET_BYTES: usize = 512 * 1024;
/// Sets before the one in force that are kept for people; older ones are in the log only.
pub const KEPT_POLICY_SETS: usize = 16;

/// Who is in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its members, as the audit names them.
    pub members: Vec<String>,
}

/// A set of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    /// Policies, in Cedar.
    pub text: String,
    /// Groups, by name.
    pub groups: Vec<Group>,
}

impl Policies {
    /// Its size, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let of_group = |group: &Group| {
            let members = group.members.iter().map(String::len);
            group.name.len() + members.sum::<usize>()
        };
        self.text.len() + self.groups.iter().map(of_group).sum::<usize>()
    }
}

/// What happened to the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A set is in force from here on, and the one before it no more.
    Applied {
        /// Counted from 1.
        version: u64,
        /// The set, whole.
        policies: Policies,
        /// Who applied it.
        by: String,
    },
}

/// A wish to have a set in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Id of the aggregate if nobody applied a set yet.
    pub id: PolicySetId,
    /// The version that is in force as far as its sender knows, 0 for none; `None` to replace whatever is.
    pub expected: Option<u64>,
    /// The set, which its sender has held to the schema.
    pub policies: Policies,
    /// Who applies it.
    pub by: String,
}

/// A normal "no" about policies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Somebody applied a set meanwhile.
    #[error(
        "version {found} of the policies is in force, and not {expected}: somebody applied a set meanwhile; look at it with `keywheel policy show`, and apply yours again"
    )]
    Moved {
        /// What its sender took for the version in force.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// It is larger than a set may be.
    #[error(
        "the set has {0} bytes, and {MAX_POLICY_SET_BYTES} are the most; use groups and paths instead of one policy each"
    )]
    TooLarge(usize),
}

/// A set that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The aggregate.
    pub id: PolicySetId,
    /// Counted from 1.
    pub version: u64,
    /// The set.
    pub policies: Policies,
    /// Who applied it.
    pub by: String,
    /// Number of its event in the log.
    pub number: u64,
}
