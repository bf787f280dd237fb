//! Secrets, versions, bindings and hosts as clients see them. Never a value.

use keywheel_core::id::{BindingId, HostId, SecretId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::binding::{Reload, Selector, Target};
use crate::event::secret::SecretSpec;
use crate::mirror::Text;

/// Label on a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionStage {
    /// Made, not yet current.
    Pending,
    /// What consumers have to hold.
    Current,
    /// What was current before.
    Previous,
}

/// Whether a version can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// It can.
    Alive,
    /// It is dead; its data key may still exist.
    Revoked,
    /// Its data key is gone.
    Destroyed,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    /// Its number.
    pub version: u64,
    /// Its label, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<VersionStage>,
    /// Whether it can be used.
    pub state: VersionState,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretView {
    /// Its id.
    pub id: Text<SecretId>,
    /// Its name.
    pub name: String,
    /// What a person asked for.
    pub spec: SecretSpec,
    /// The version consumers have to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Its versions, newest first.
    pub versions: Vec<VersionView>,
    /// The rotation that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
    /// When it rotates next by itself, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<String>,
    /// Names of the bindings that grant it.
    pub bindings: Vec<String>,
    /// Containers that take part.
    pub consumers: u64,
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BindingView {
    /// Its id.
    pub id: Text<BindingId>,
    /// Its name.
    pub name: String,
    /// Name of the secret.
    pub secret: String,
    /// Which containers.
    pub selector: Selector,
    /// In what form.
    pub target: Target,
    /// What happens on change.
    pub reload: Reload,
    /// Containers it serves.
    pub consumers: u64,
    /// What a person should know, for example that a repository name is weaker than a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostView {
    /// Its id.
    pub id: Text<HostId>,
    /// Its name.
    pub name: String,
    /// Plan generation it has to reach.
    pub generation: u64,
    /// Bindings that mean it.
    pub bindings: u64,
    /// Containers it serves.
    pub consumers: u64,
}
