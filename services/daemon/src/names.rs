//! Keys of log fields, each spelled once: `info!({ names::SECRET } = %id, "rotation started")`.
//!
//! There is no key for a value, its length or its digest, because those are never logged.

/// The service that speaks.
pub const SERVICE: &str = "service";
/// A secret's id.
pub const SECRET: &str = "secret";
/// What happened, as `lines` lists it.
pub const EVENT: &str = "event";
/// The trace it belongs to.
pub const TRACE: &str = "trace_id";
/// A secret's name.
pub const SECRET_NAME: &str = "secret_name";
/// How something ended, in one word.
pub const OUTCOME: &str = "outcome";
/// A version's number.
pub const VERSION: &str = "version";
/// A binding's id.
pub const BINDING: &str = "binding";
/// A host's name.
pub const HOST: &str = "host";
/// A container's short id.
pub const CONTAINER: &str = "container";
/// A rotation's id.
pub const ROTATION: &str = "rotation";
/// A revocation's id.
pub const REVOCATION: &str = "revocation";
/// A playbook's name.
pub const PLAYBOOK: &str = "playbook";
/// Id of a run of a playbook.
pub const RUN: &str = "run";
/// A rotation's step.
pub const STEP: &str = "step";
/// Which attempt, first is 1.
pub const ATTEMPT: &str = "attempt";
/// A command's id.
pub const COMMAND: &str = "command";
/// Name of a command, effect or request.
pub const KIND: &str = "kind";
/// A journal number.
pub const NUMBER: &str = "number";
/// A plan's generation.
pub const GENERATION: &str = "generation";
/// A schedule's slot.
pub const SLOT: &str = "slot";
/// An instant a timer is set for.
pub const DUE: &str = "due";
/// A count of things.
pub const COUNT: &str = "count";
/// How long something took, in milliseconds.
pub const MILLIS: &str = "ms";
/// A path in the file system.
pub const PATH: &str = "path";
/// A subject on the bus.
pub const SUBJECT: &str = "subject";
/// An error with all its sources.
pub const ERROR: &str = "error";
/// Why, in words.
pub const REASON: &str = "reason";
/// Name of a sink of the audit.
pub const SINK: &str = "sink";
/// Name of a failpoint.
pub const FAILPOINT: &str = "failpoint";
/// Name of a signal.
pub const SIGNAL: &str = "signal";
