//! What requests of the API may be asked with, by the words of their addresses.

use super::route::{Parameter, flag, number, text};

pub(super) const LIMIT: Parameter = number(
    "limit",
    "At most so many; 1 to 1000, and 1000 without it. A `Link` header with `rel=\"next\"` says where the next page is.",
);
pub(super) const AFTER: Parameter = text(
    "after",
    "Where the page begins, as a `Link` header said it.",
);
pub(super) const PAGE: &[Parameter] = &[LIMIT, AFTER];
pub(super) const WAIT: &[Parameter] = &[number(
    "wait",
    "Answer when it has ended, or after so many seconds; 60 at most.",
)];
pub(super) const CONSUMERS: &[Parameter] =
    &[LIMIT, AFTER, text("secret", "Only those of this secret.")];
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
pub(super) const AUDIT: &[Parameter] = &[
    number("after", "Begin at this record; the first is 0."),
    number("limit", "At most so many; without it all there are."),
    flag("follow", "Stay, and send what comes."),
    flag(
        "numbered",
        "Send `{\"index\":N,\"record\":…}` for each, with the number by which it is proven.",
    ),
    text(
        "who",
        "Only of this name, user id, role or address, or of a person as policies name them, such as `certificate:ada`.",
    ),
    text("verb", "Only this verb."),
    text(
        "object",
        "Only on this object, or what begins so up to a slash.",
    ),
    text(
        "container",
        "Only of this one, by name or twelve digits of its id.",
    ),
    text("outcome", "`allowed`, `denied`, `rejected` or `malformed`."),
    text(
        "policy",
        "Only what this policy permitted or forbade, by its name.",
    ),
    text("since", "Only records from this time on, RFC 3339."),
    text("until", "Only records before this time, RFC 3339."),
    text("rotation", "Only of this rotation, by its id."),
    text("revocation", "Only of this revocation, by its id."),
    text("run", "Only of this run of a playbook, by its id."),
    text("trace", "Only of this trace: 32 hexadecimal digits."),
];
pub(super) const EXPORT: &[Parameter] = &[number("from", "Its first."), number("to", "Its end.")];
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

/// Which set of policies.
pub(super) const KEPT: &[Parameter] = &[number(
    "version",
    "That version; without it the one in force.",
)];

/// What is to be explained.
pub(super) const EXPLAINED: &[Parameter] = &[
    text(
        "principal",
        "Who: `certificate:NAME`, `unix:UID`, `oidc:NAME`, `service:NAME` or `host:NAME`.",
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
