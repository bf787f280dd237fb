//! Editing the text of `daemon.json`: our runtimes in, our runtimes out, every other byte as it was.
//!
//! Pure. It works on the text, not on a parsed copy, so that order, spacing and unknown fields stay.

mod text;

use std::path::Path;

use serde_json::Value;

use self::text::{Member, insert, members, remove, replace};
use super::WRAPPER;

/// Where Docker lists runtimes.
const RUNTIMES: &str = "runtimes";

/// A runtime to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runtime {
    /// Its name in `docker run --runtime`.
    pub(super) name: String,
    /// Its program.
    pub(super) path: String,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
}

/// Why the file is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not JSON.
    Broken {
        /// Line of the fault.
        line: usize,
        /// Column of the fault.
        column: usize,
        /// What the parser says.
        why: String,
    },
    /// JSON, but not of the form Docker takes.
    Form(&'static str),
    /// A runtime of somebody else has the name.
    Taken(String),
}

/// The file with the runtimes in it; unchanged when they are there already.
pub(super) fn register(file: &str, runtimes: &[Runtime]) -> Result<String, Fault> {
    let blank = file.trim().is_empty();
    let mut file = if blank {
        "{}\n".to_owned()
    } else {
        file.to_owned()
    };
    let value = parse(&file)?;
    if value.get(RUNTIMES).is_none() {
        file = insert(&file, 0, RUNTIMES, &Value::Object(serde_json::Map::new()));
    }
    for runtime in runtimes {
        let wanted = runtime_value(runtime);
        let list = list_of(&file)?;
        match list.iter().find(|member| member.key == runtime.name) {
            None => file = insert(&file, list_start(&file)?, &runtime.name, &wanted),
            Some(member) => {
                let found: Value = serde_json::from_str(member.text(&file)).unwrap_or_default();
                if !is_ours(&found) {
                    return Err(Fault::Taken(runtime.name.clone()));
                }
                if found != wanted {
                    file = replace(&file, member, &wanted);
                }
            }
        }
    }
    Ok(file)
}

/// The file without those of the named runtimes that are ours; the list itself stays.
pub(super) fn unregister(file: &str, names: &[&str]) -> Result<String, Fault> {
    if file.trim().is_empty() {
        return Ok(file.to_owned());
    }
    let mut file = file.to_owned();
    if parse(&file)?.get(RUNTIMES).is_none() {
        return Ok(file);
    }
    for name in names {
        let list = list_of(&file)?;
        let ours = |member: &&Member| {
            member.key == *name
                && serde_json::from_str(member.text(&file)).is_ok_and(|value| is_ours(&value))
        };
        let place = list.iter().position(|member| ours(&member));
        if let Some(place) = place {
            file = remove(&file, list_start(&file)?, place);
        }
    }
    Ok(file)
}

/// What is left after the last of ours: the file from before when nothing else changed, no list when
/// we made it, no file (`None`) when we made that.
pub(super) fn tidy(file: &str, backup: Option<&str>) -> Option<String> {
    let value = read(file);
    let before = backup.map(read);
    let had_list = before
        .as_ref()
        .is_some_and(|before| before.get(RUNTIMES).is_some());
    let list_is_empty = value
        .get(RUNTIMES)
        .and_then(Value::as_object)
        .is_some_and(serde_json::Map::is_empty);
    let mut rest = file.to_owned();
    if list_is_empty && !had_list {
        let place = members(file, 0)
            .iter()
            .position(|member| member.key == RUNTIMES);
        rest = place.map_or(rest, |place| remove(file, 0, place));
    }
    match (backup, before) {
        (Some(backup), Some(before)) if read(&rest) == before => Some(backup.to_owned()),
        (None, _) if read(&rest) == Value::Object(serde_json::Map::new()) => None,
        _ => Some(rest),
    }
}

/// Whether a runtime in the file is ours, under whatever name.
pub(super) fn has_ours(file: &str) -> bool {
    let value = read(file);
    let runtimes = value.get(RUNTIMES).and_then(Value::as_object);
    runtimes.is_some_and(|runtimes| runtimes.values().any(is_ours))
}

fn is_ours(runtime: &Value) -> bool {
    let path = runtime.get("path").and_then(Value::as_str);
    path.is_some_and(|path| {
        Path::new(path)
            .file_name()
            .is_some_and(|name| name == WRAPPER)
    })
}

/// A file that was parsed before; blank means empty.
fn read(file: &str) -> Value {
    serde_json::from_str(file).unwrap_or_else(|_| Value::Object(serde_json::Map::new()))
}

fn parse(file: &str) -> Result<Value, Fault> {
    let value: Value = serde_json::from_str(file).map_err(|error| Fault::Broken {
        line: error.line(),
        column: error.column(),
        why: error.to_string(),
    })?;
    if !value.is_object() {
        return Err(Fault::Form("it is not a JSON object"));
    }
    if value
        .get(RUNTIMES)
        .is_some_and(|runtimes| !runtimes.is_object())
    {
        return Err(Fault::Form("its field `runtimes` is not an object"));
    }
    Ok(value)
}

fn runtime_value(runtime: &Runtime) -> Value {
    serde_json::json!({ "path": runtime.path, "runtimeArgs": runtime.arguments })
}

/// Where the list of runtimes begins in the text.
fn list_start(file: &str) -> Result<usize, Fault> {
    let found = members(file, 0)
        .into_iter()
        .rfind(|member| member.key == RUNTIMES);
    found
        .map(|member| member.value.start)
        .ok_or(Fault::Form("its field `runtimes` is not found"))
}

fn list_of(file: &str) -> Result<Vec<Member>, Fault> {
    Ok(members(file, list_start(file)?))
}

#[cfg(test)]
mod tests;
