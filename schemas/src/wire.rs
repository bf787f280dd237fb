//! Bus messages as canonical JSON: host plans and reports, effects, workers' commands, audit records.
//!
//! Every message carries its schema number as `v`. One pair of functions per type; reading is
//! bounded and never panics. No message here holds a value in the clear.

pub mod audit;
pub mod command;
pub mod effect;
pub mod message;
pub mod plan;
pub mod presence;
pub mod report;
pub mod route;
pub mod sealed;
pub mod store;

#[cfg(test)]
mod tests;

pub use crate::error::DecodeError;
pub use command::NotAWorkersCommand;
pub use effect::{effect_key_from_string, effect_key_to_string};

use keywheel_core::audit::Record;
use keywheel_core::command::Command;
use keywheel_core::effect::Effect;
use keywheel_core::plan::HostPlan;
use keywheel_core::report::HostReport;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical;
use crate::mirror::Mirror;

/// Largest message, in bytes: a full report of ten thousand items.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// The schema number written and read here.
pub const SCHEMA_NUMBER: u64 = 1;

/// Writes a host plan.
#[must_use]
pub fn plan_to_json(plan: &HostPlan) -> Vec<u8> {
    write(&plan::Plan::of(plan))
}

/// Reads a host plan.
///
/// # Errors
/// When the bytes are too long or of another shape.
pub fn plan_from_json(bytes: &[u8]) -> Result<HostPlan, DecodeError> {
    read::<plan::Plan>("host plan", bytes).map(Mirror::into_core)
}

/// Writes a host report.
#[must_use]
pub fn report_to_json(report: &HostReport) -> Vec<u8> {
    write(&report::Report::of(report))
}

/// Reads a host report.
///
/// # Errors
/// When the bytes are too long or of another shape.
pub fn report_from_json(bytes: &[u8]) -> Result<HostReport, DecodeError> {
    read::<report::Report>("host report", bytes).map(Mirror::into_core)
}

/// Writes an effect.
#[must_use]
pub fn effect_to_json(effect: &Effect) -> Vec<u8> {
    write(&effect::Work::of(&effect.work))
}

/// Reads an effect.
///
/// # Errors
/// When the bytes are too long or of another shape.
pub fn effect_from_json(bytes: &[u8]) -> Result<Effect, DecodeError> {
    read::<effect::Work>("effect", bytes).map(|work| Effect {
        work: work.into_core(),
    })
}

/// Writes an effect as it is stored: with the W3C trace context of the command that asked for it.
#[must_use]
pub fn stored_effect_to_json(effect: &Effect, traceparent: Option<&str>) -> Vec<u8> {
    write(&Stored {
        traceparent: traceparent.map(str::to_owned),
        work: canonical::value(&effect::Work::of(&effect.work)),
    })
}

/// Reads a stored effect and its trace context; before there was one, the effect stood by itself.
///
/// # Errors
/// When the bytes are too long or of another shape.
pub fn stored_effect_from_json(bytes: &[u8]) -> Result<(Effect, Option<String>), DecodeError> {
    let what = "stored effect";
    let stored = match read::<Stored>(what, bytes) {
        Ok(stored) => stored,
        Err(error) => {
            let alone = effect_from_json(bytes).map(|effect| (effect, None));
            return alone.map_err(|_| error);
        }
    };
    let work = effect::Work::deserialize(stored.work);
    let work = work.map_err(|source| DecodeError::Shape { what, source })?;
    let work = work.into_core();
    Ok((Effect { work }, stored.traceparent))
}

/// An effect in the journal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    work: Value,
}

/// Writes a worker's command.
///
/// # Errors
/// When only people and tools may ask for it; those come through the API.
pub fn command_to_json(command: &Command) -> Result<Vec<u8>, NotAWorkersCommand> {
    command::WorkerCommand::of(command).map(|command| write(&command))
}

/// Reads a worker's command.
///
/// # Errors
/// When the bytes are too long or of another shape.
pub fn command_from_json(bytes: &[u8]) -> Result<Command, DecodeError> {
    read::<command::WorkerCommand>("command", bytes).map(command::WorkerCommand::into_core)
}

/// Writes an audit record: the bytes that are hashed as a leaf of the audit tree.
#[must_use]
pub fn audit_record_to_json(record: &Record) -> Vec<u8> {
    write(&audit::AuditRecord::of(record))
}

/// Reads an audit record.
///
/// # Errors
/// When the bytes are too long or of another shape.
pub fn audit_record_from_json(bytes: &[u8]) -> Result<Record, DecodeError> {
    read::<audit::AuditRecord>("audit record", bytes).map(Mirror::into_core)
}

fn write<T: Serialize>(dto: &T) -> Vec<u8> {
    let mut value = canonical::value(dto);
    if let Value::Object(members) = &mut value {
        members.insert("v".to_owned(), SCHEMA_NUMBER.into());
    }
    canonical::bytes(&value)
}

fn read<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLarge {
            what,
            bytes: bytes.len(),
            limit: MAX_MESSAGE_BYTES,
        });
    }
    let shape = |source| DecodeError::Shape { what, source };
    let mut value: Value = serde_json::from_slice(bytes).map_err(shape)?;
    let number = value
        .as_object_mut()
        .and_then(|members| members.remove("v"));
    if number.as_ref().and_then(Value::as_u64) != Some(SCHEMA_NUMBER) {
        let found = number.map_or_else(
            || "none".to_owned(),
            |n| crate::leaf::shorten(&n.to_string()),
        );
        return Err(DecodeError::SchemaNumber {
            what,
            found,
            known: SCHEMA_NUMBER,
        });
    }
    T::deserialize(value).map_err(shape)
}
