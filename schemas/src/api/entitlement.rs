//! Whether a container gets a secret, and which rule says so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a container gets a secret. Nothing is given to a container that no binding means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntitlementView {
    /// The secret's name.
    pub secret: String,
    /// The container's name.
    pub container: String,
    /// Its full id.
    pub id: String,
    /// Name of the host it is on.
    pub host: String,
    /// Whether it gets the secret.
    pub entitled: bool,
    /// The binding that decides: the one that gives it, or the one that comes nearest; absent where none gives the
    /// secret to anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// What to do so that it gets it; absent where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Every binding of the secret, the one that decides first.
    pub rules: Vec<RuleView>,
}

/// A binding, held against a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleView {
    /// Its name.
    pub binding: String,
    /// Whether it means the container: every part holds.
    pub holds: bool,
    /// File or env variable, in words.
    pub gives: String,
    /// Each part of its selector; no part means every container.
    pub parts: Vec<RulePart>,
    /// How far the container's host is with it, as of a consumer; absent where its host said nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why its host refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why it gives nothing to anybody, in words, where policies say that its service may not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// One part of a selector, held against a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RulePart {
    /// `host`, `image`, `name`, `user` or `label KEY`.
    pub field: String,
    /// What the binding asks for.
    pub wanted: String,
    /// What the container has.
    pub found: String,
    /// Whether that is it.
    pub holds: bool,
}

/// A start that was refused for want of a secret, as its host's audit record tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedStartView {
    /// The container's name.
    pub container: String,
    /// Its full id.
    pub id: String,
    /// Name of its host.
    pub host: String,
    /// When it was put on record, RFC 3339.
    pub at: String,
    /// Why: the rule that refused it, or the binding that comes nearest, and what of it means others.
    pub reason: String,
}
