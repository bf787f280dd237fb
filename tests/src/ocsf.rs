//! Judges events of the Open Cybersecurity Schema Framework by its own schema, as `schemas/ocsf` has it, with the
//! library that schemathesis brings: the one that the audit sink's unit tests use, in another wrapping.
//!
//! Invariant: an event of a class that is not there is a fault, as is one that does not fit its class.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::output::Output;
use crate::scratch::{Scratch, root};

/// Where `tests/run.sh` installs schemathesis, and which version.
const DIRECTORY_VARIABLE: &str = "KEYWHEEL_SCHEMATHESIS_DIR";
const VERSION: &str = "4.32.5";
/// Arguments: the folder of schemas, and a file with an event a line.
const JUDGE: &str = r#"
import collections, glob, json, sys
import jsonschema_rs
schemas = [json.load(open(path)) for path in glob.glob(sys.argv[1] + "/*.json")]
judges = {one["properties"]["class_uid"]["const"]: jsonschema_rs.validator_for(one) for one in schemas}
seen, faults = collections.Counter(), []
for number, line in enumerate(open(sys.argv[2], encoding="utf-8"), 1):
    event = json.loads(line)
    uid = event.get("class_uid")
    if uid not in judges:
        faults.append(f"line {number}: no class {uid}")
        continue
    seen[uid] += 1
    for fault in judges[uid].iter_errors(event):
        faults.append(f"line {number}, {list(fault.instance_path)}: {fault.message}")
print(json.dumps({"seen": seen, "faults": faults}))
"#;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many events of each class.
    pub seen: BTreeMap<String, u64>,
    /// What does not fit, with its line; the first is 1.
    pub faults: Vec<String>,
}

/// The Python with schemathesis, as `tests/run.sh` installs it.
#[expect(clippy::disallowed_methods, reason = "where the installer put it")]
pub fn python() -> Result<PathBuf> {
    let directory = match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?)
            .join(".cache/keywheel/schemathesis"),
    };
    let python = directory.join(VERSION).join("bin/python3");
    ensure!(
        python.exists(),
        "{} is missing: ./tests/run.sh installs schemathesis",
        python.display()
    );
    Ok(python)
}

/// Judges events, one JSON object each.
pub fn judge(scratch: &Scratch, events: &[String]) -> Result<Judged> {
    let file = scratch.write("judged.jsonl", events.join("\n") + "\n")?;
    let mut command = Command::new(python()?);
    command.args(["-c", JUDGE]);
    command.arg(root().join("schemas/ocsf")).arg(&file);
    let said = Output::of(&mut command)?.ok()?.json()?;
    let seen = said["seen"].as_object().context("no classes")?;
    let of_class = |(class, count): (&String, &Value)| Some((class.clone(), count.as_u64()?));
    let faults = said["faults"].as_array().context("no faults")?;
    Ok(Judged {
        seen: seen.iter().filter_map(of_class).collect(),
        faults: faults.iter().map(ToString::to_string).collect(),
    })
}
