//! The lines that one rotation and one revocation leave in the log, as JSON: those that `deploy/docs/logs.md` lists, no more.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::stage::{PATIENCE, SECRET, Stage};
use keywheel_tests::wait;
use serde_json::Value;

/// How often each is said of a rotation with a version before it and one consumer that is signalled.
const EXPECTED: [(&str, usize); 10] = [
    ("assignment.reloaded", 1),
    ("assignment.swapped", 1),
    ("file.replaced", 1),
    ("rotation.closed", 1),
    ("rotation.distribution_started", 1),
    ("rotation.host_barrier_acknowledged", 1),
    ("rotation.started", 1),
    ("rotation.step_completed", 5),
    ("secret.version_promoted", 1),
    ("step.performed", 5),
];

/// How often each is said of a revocation of what one consumer has.
const OF_REVOCATION: [(&str, usize); 7] = [
    ("assignment.withdrawn", 1),
    ("file.removed", 1),
    ("revocation.backend_confirmed", 1),
    ("revocation.closed", 1),
    ("revocation.requested", 1),
    ("revocation.withdrawn_on_host", 1),
    ("step.performed", 1),
];

/// What every line has.
const OF_EVERY_LINE: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Every line with a field `event`, of all processes. Lines without it are JSON all the same, all of
/// them, since whoever reads them for a machine knows nothing else; only the bus server writes its own.
fn said(keywheel: &Keywheel) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(keywheel.scratch().path())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".log") || name.starts_with("nats") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        // The last one may be under way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let read: Value =
                serde_json::from_str(line).with_context(|| format!("{name}: {line}"))?;
            for field in OF_EVERY_LINE {
                anyhow::ensure!(read.get(field).is_some(), "{name}: no {field}: {line}");
            }
            lines.extend(Some(read).filter(|line| line.get("event").is_some()));
        }
    }
    Ok(lines)
}

/// Waits until a trace has left exactly these lines.
fn wait_said(keywheel: &Keywheel, trace: &str, expected: &[(&str, usize)]) -> Result<()> {
    let expected = expected
        .iter()
        .map(|(event, count)| ((*event).to_owned(), *count));
    let expected = BTreeMap::from_iter(expected);
    wait::until_true("the lines of a trace", PATIENCE, || {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for line in said(keywheel)? {
            if text(&line, "trace_id") == trace {
                *counts.entry(text(&line, "event").to_owned()).or_default() += 1;
            }
        }
        anyhow::ensure!(counts == expected, "{counts:#?}");
        Ok(true)
    })
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_rotation_and_a_revocation_leave_the_documented_lines_as_json_and_no_others() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set_with(&Options {
        environment: vec![("KEYWHEEL_LOG_FORMAT".to_owned(), "json".to_owned())],
        ..Options::default()
    })?;
    stage.apply_file("said", "{ signal: HUP }")?;
    let container = stage.run("said", &[], "/bin/app-file")?;
    let before = stage.value_in(&container)?;
    stage.rotate(SECRET)?;
    let all = said(&stage.keywheel)?;
    let is_start = |line: &&Value| {
        let version = line.get("version").and_then(Value::as_u64);
        text(line, "event") == "rotation.started" && version == Some(2)
    };
    let started = all.iter().find(is_start).context("no start of it")?;
    assert_eq!(text(started, "secret_name"), SECRET);
    assert_eq!(text(started, "level"), "INFO");
    let trace = text(started, "trace_id").to_owned();
    assert_eq!(trace.len(), 32, "{started}");
    wait_said(&stage.keywheel, &trace, &EXPECTED)?;
    let after = stage.value_in(&container)?;
    let revoke = ["revoke", SECRET, "--reason", "leaked", "--yes", "--wait"];
    stage.keywheel.json(&revoke)?;
    let all = said(&stage.keywheel)?;
    let is_request = |line: &&Value| text(line, "event") == "revocation.requested";
    let requested = all.iter().find(is_request).context("no request")?;
    wait_said(&stage.keywheel, text(requested, "trace_id"), &OF_REVOCATION)?;
    documented(&said(&stage.keywheel)?)?;
    stage.finish(&[before, after], &[&container])
}

/// Every line and every field that is said is in the documentation.
fn documented(lines: &[Value]) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docs/logs.md");
    let page = fs::read_to_string(page)?;
    for line in lines {
        let event = text(line, "event");
        assert!(page.contains(&format!("| `{event}` |")), "{line}");
        for field in line.as_object().into_iter().flat_map(|line| line.keys()) {
            assert!(page.contains(&format!("`{field}`")), "{field} of {line}");
        }
    }
    Ok(())
}
