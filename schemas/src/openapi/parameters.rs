//! Longer lists of query parameters.

use super::route::{Parameter, flag, number, text};

/// What a revocation is about.
pub(super) const SCOPE: &[Parameter] = &[
    text("secret", "One secret; exactly one of these is given."),
    number("version", "With `secret`: only this version."),
    text("prefix", "Every secret at this path or below it."),
    text("store", "Every secret that lies in this store."),
    text(
        "container",
        "Whatever this container has: its name, its id, or at least twelve digits of that.",
    ),
    text(
        "image",
        "Whatever the containers of this image have: its config digest.",
    ),
    text(
        "service",
        "Whatever the containers of this service have: `PROJECT/SERVICE` or `SERVICE` of Compose, or Swarm's name.",
    ),
    flag(
        "emergency",
        "Whether all that is alive of every secret that is hit would die.",
    ),
    flag(
        "replace",
        "Whether another version of each would be made first.",
    ),
    text(
        "principal",
        "Whatever policies let this service have: `service:NAME`.",
    ),
];

/// Which set of policies.
pub(super) const KEPT: &[Parameter] = &[number(
    "version",
    "That version; without it the one in force.",
)];

/// What is to be explained.
pub(super) const EXPLAINED: &[Parameter] = &[
    text(
        "principal",
        "Who: `certificate:NAME`, `unix:UID`, `service:NAME` or `host:NAME`.",
    ),
    text(
        "verb",
        "`list`, `write`, `delete`, `rotate`, `revoke`, `bind`, `grant`, `audit` or `read`.",
    ),
    text(
        "resource",
        "Of what: `environment`, or `secret/NAME`, `path/NAME`, `store/NAME`, `host/NAME`, `playbook/NAME`, `notification/NAME`, `signal-source/NAME`.",
    ),
];

/// Which records.
pub(super) const AUDIT: &[Parameter] = &[
    number("after", "Begin at this record; the first is 0."),
    number("limit", "At most so many; without it all there are."),
    flag("follow", "Stay, and send what comes."),
];

/// Which events.
pub(super) const EVENTS: &[Parameter] = &[
    number(
        "after",
        "Begin after the event with this number, which has to be there; 0 for the first.",
    ),
    number("limit", "At most so many; without it all there are."),
    flag("follow", "Stay, and send what comes."),
    text(
        "type",
        "Only events whose type is this, or begins with it when it ends with a dot.",
    ),
    text("subject", "Only events with this subject."),
    text(
        "secret",
        "Only events of this secret, and of rotations and revocations of it.",
    ),
    text(
        "subscription",
        "Begin after what this subscription acknowledged, unless `after` is later.",
    ),
    text("since", "Only events from this time on, RFC 3339."),
];
