//! The first use of a file is on record where a person asked for it, once a version, and nowhere else. That nothing
//! is by default, a test of files says, whose program opens many versions.

use anyhow::Result;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage};
use keywheel_tests::wait;
use serde_json::Value;

/// Switches it on, as a person would for a service.
const SETTING: &str = "KEYWHEEL_INJECTOR_FIRST_USE";

/// Versions whose first use by a container is on record, in order.
pub(crate) fn used(stage: &Stage, container: &Container) -> Result<Vec<u64>> {
    let rows = stage.keywheel.stream("audit")?;
    let is_use = |row: &&Value| {
        let verb = row.get("verb").and_then(Value::as_str);
        verb == Some("use") && row.to_string().contains(container.id())
    };
    let of = |row: &Value| {
        assert!(row.to_string().contains("binding/test-file"), "{row}");
        row.get("version").and_then(Value::as_u64).unwrap_or(0)
    };
    Ok(rows.iter().filter(is_use).map(of).collect())
}

#[test]
fn the_first_use_of_each_version_is_on_record_where_it_is_wanted() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set_with(&Options {
        environment: vec![(SETTING.to_owned(), "on".to_owned())],
        ..Options::default()
    })?;
    stage.apply_file("used", "none")?;
    let reader = stage.run("used", &[], "/bin/app-idle")?;
    let unused = stage.run("used", &[], "/bin/app-idle")?;
    let mut values = Vec::new();
    for version in 1..=2 {
        for _ in 0..2 {
            values.push(stage.value_in(&reader)?);
        }
        wait::until_true("the record of the first use", PATIENCE, || {
            Ok(used(&stage, &reader)?.contains(&version))
        })?;
        if version == 1 {
            stage.rotate(SECRET)?;
        }
    }
    assert_eq!(used(&stage, &reader)?, [1, 2], "once a version");
    assert!(used(&stage, &unused)?.is_empty(), "nobody opened it");
    stage.finish(&values, &[&reader, &unused])
}
