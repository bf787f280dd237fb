//! Who runs a program in a consumer is on record, and nothing of what was run; health checks and
//! containers without bindings are not.

use anyhow::{Context as _, Result};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::{FILE, PATIENCE, Stage};
use keywheel_tests::wait;
use serde_json::Value;

/// The records of execs into a container.
fn execs(keywheel: &Keywheel, container: &Container) -> Result<Vec<Value>> {
    let mut rows = keywheel.stream("audit")?;
    let is =
        |row: &Value, at: &str, word: &str| row.pointer(at).and_then(Value::as_str) == Some(word);
    rows.retain(|row| is(row, "/verb", "exec") && is(row, "/container/id", container.id()));
    Ok(rows)
}

#[test]
fn an_exec_into_a_consumer_is_on_record_without_what_was_run() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("looked", "none")?;
    let often = ["--health-cmd", "true", "--health-interval", "300ms"];
    let checked = stage.run("looked", &often, "/bin/app-idle")?;
    let other = Container::run(&stage.image, &["--label", "app=other"], &["/bin/app-idle"])?;
    let consumer = stage.run("looked", &[], "/bin/app-idle")?;
    wait::until_true("a health check", PATIENCE, || {
        Ok(checked.field("{{.State.Health.Status}}")? == "healthy")
    })?;
    other.exec(&["cat", "/etc/nothing"])?;
    let value = stage.value_in(&consumer)?;
    // The engine tells of execs in order: what came before is told when this one is.
    wait::until_true("the exec on record", PATIENCE, || {
        Ok(!execs(&stage.keywheel, &consumer)?.is_empty())
    })?;
    let rows = execs(&stage.keywheel, &consumer)?;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = rows.first().context("no record")?;
    let said = |at| row.pointer(at).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(said("/category"), "usage", "{row}");
    assert_eq!(
        said("/container/image_digest"),
        stage.image.digest(),
        "{row}"
    );
    let reason = said("/reason");
    let exec = reason
        .strip_prefix("exec ")
        .and_then(|rest| rest.split_once(','));
    assert!(exec.is_some_and(|(id, _)| id.len() == 64), "{row}");
    let text = row.to_string();
    assert!(!text.contains(FILE) && !text.contains("/bin"), "{row}");
    for quiet in [&checked, &other] {
        let rows = execs(&stage.keywheel, quiet)?;
        assert!(rows.is_empty(), "{rows:?}");
    }
    stage.finish(&[value], &[&consumer, &checked])
}
