//! Policies: the set in force, applying one, and why somebody may or may not.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A set of policies, `GET /v1/policies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoliciesView {
    /// Counted from 1; 0 for the shipped set, which is in force until one is applied.
    pub version: u64,
    /// Whether it is in force.
    pub in_force: bool,
    /// Who applied it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// Number of its event in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub number: Option<u64>,
    /// Policies, in Cedar.
    pub policies: String,
    /// Who is in which group.
    pub groups: BTreeMap<String, BTreeSet<String>>,
    /// What is odd about it.
    pub findings: Vec<PolicyFinding>,
    /// Why it cannot be read by this gateway, so that nobody may anything; else empty.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub faults: Vec<String>,
    /// Versions that are kept at hand; older ones are in the log.
    pub kept: Vec<u64>,
}

/// Something odd about a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyFinding {
    /// The policy.
    pub policy: String,
    /// `impossible`, `unknown-name`, `empty-range`, `shadowed`, `self-grant`, `confusing` or `costly`; `withholds` for
    /// what it takes from a binding.
    pub kind: String,
    /// What, and what to do.
    pub text: String,
}

/// `POST /v1/policies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyPoliciesRequest {
    /// Policies, in Cedar; they replace all there are.
    pub policies: String,
    /// Who is in which group.
    #[serde(default)]
    pub groups: BTreeMap<String, BTreeSet<String>>,
    /// The version that is in force as far as the sender knows; another one refuses it. Absent to replace whatever is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected: Option<u64>,
    /// Only say what is wrong with it.
    #[serde(default)]
    pub dry_run: bool,
    /// Apply it also where it takes secrets from containers that have them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withhold: bool,
}

/// Why somebody may do something, or may not, `GET /v1/policies/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyExplanation {
    /// Whether they may.
    pub allowed: bool,
    /// What decided, in words.
    pub reason: String,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// Policies that one part kept from applying.
    pub near: Vec<NearPolicy>,
    /// Version of the policies; 0 for the shipped set.
    pub version: u64,
}

/// A policy that one part kept from applying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NearPolicy {
    /// The policy.
    pub policy: String,
    /// Whether it permits; else it forbids.
    pub permits: bool,
    /// What kept it, in words.
    pub but: String,
}

/// Which policies are in force, as `GET /v1/status` tells everybody who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoliciesInForce {
    /// Counted from 1; 0 for the shipped set.
    pub version: u64,
    /// How many policies.
    pub count: u64,
    /// In words.
    pub note: String,
}
