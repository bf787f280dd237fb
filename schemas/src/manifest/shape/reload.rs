//! Shapes of what happens on change: a signal, a restart in place with its rollout, a command.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens on change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Reload {
    /// `none`, `restart` or `label`.
    Word(#[schemars(regex(pattern = r"^(none|restart|label)$"))] String),
    /// A signal to the first program.
    Signal(SignalReload),
    /// A restart in place, gated on health.
    Restart(RestartReload),
    /// A command in the container.
    Command(CommandReload),
}

/// A signal to the container's first program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalReload {
    /// A name like `HUP`, or a number.
    pub signal: Signal,
}

/// A signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Signal {
    /// By name, with or without `SIG`.
    Name(String),
    /// By number.
    Number(#[schemars(range(min = 1, max = 64))] i32),
}

/// A restart in place, gated on health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartReload {
    /// How it is gated; `{}` for the defaults.
    pub restart: Restart,
}

/// How a restart is gated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// How long it must run when it has no health check, `10s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub settle: Option<String>,
    /// How long its health check may take, `120s` by default.
    #[serde(
        default,
        rename = "healthTimeout",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub health_timeout: Option<String>,
    /// Restart the containers of one service as one rollout over all hosts; `{}` for the defaults. Without it
    /// each host restarts one container of a service at a time by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// How the restarts of one service go, over all hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Containers that may restart at the same time, 1 by default.
    #[serde(
        default,
        rename = "maxParallel",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 1000))]
    pub max_parallel: Option<u32>,
    /// Containers that may be unavailable at the same time, 1 by default.
    #[serde(
        default,
        rename = "maxUnavailable",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 1000))]
    pub max_unavailable: Option<u32>,
    /// Pause after one is through, `0s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub delay: Option<String>,
    /// How long a healthy one is watched before it counts as running well, `0s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub monitor: Option<String>,
}

/// A command in the container, as `docker exec` runs one; exit code 0 acknowledges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandReload {
    /// The program and its arguments, without a shell.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// How long it may take, `30s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub timeout: Option<String>,
}
