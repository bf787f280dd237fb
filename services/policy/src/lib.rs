//! Who may do what: policies in Cedar, judged against the published schema (`schemas/policy.cedarschema`).
//!
//! Pure: a set of policies is text, a decision is a function of it and of what is asked. Invariants: what no policy
//! permits is denied; what one forbids is denied whatever permits it; a decision names the policies that made it; a
//! set that does not fit the schema is no set. It does not know who asks (that is the gateway's), keeps nothing and
//! reads no clock.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod cases;
mod decide;
mod explain;
mod lint;
mod many;
mod scope;
mod set;
mod slice;
mod words;

pub use cases::{Case, Failed, MAX_CASES, parse_cases};
pub use decide::{Asked, DEFAULT_DENY, Decision, LOCAL_RECOVERY};
pub use explain::{Explanation, MAX_NEAR, Near, Part};
pub use lint::{Estate, Finding, FindingKind, MAX_UNTIED};
pub use many::Many;
pub use set::{
    Fault, MAX_FAULTS, MAX_GROUPS, MAX_MEMBERS, MAX_POLICIES, MAX_POLICY_NAME_BYTES, MAX_SET_BYTES,
    Set, Source, check_syntax, parse_groups,
};
pub use words::{
    BUILT_IN_GROUPS, CLIENT_CERTIFICATE, DAEMON_USER, ENVIRONMENT, GROUP_KEYWHEEL, OIDC,
    PROVIDER_GROUP, Principal, ROOT, Resource, TOKEN, Verb, WordError, group_of_provider,
};

/// The published schema.
pub const SCHEMA: &str = include_str!("../../../schemas/policy.cedarschema");
/// The policies that hold where nobody applied any: whoever could do everything before there were policies still can.
pub const DEFAULT_POLICIES: &str = include_str!("default.cedar");
