//! Usage records of one container: whatever happened to it, each says which container, image and version, and by
//! which binding; a refused start, why.

use anyhow::{Context as _, Result};
use keywheel_tests::docker::Container;
use keywheel_tests::stage::{PATIENCE, Stage};
use keywheel_tests::wait;
use serde_json::Value;

/// What happened: verb, secret, binding, version.
pub(crate) type Use = (&'static str, &'static str, &'static str, u64);

fn said<'a>(row: &'a Value, at: &str) -> &'a str {
    row.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// All records of its use.
fn records(stage: &Stage, container: &Container) -> Result<Vec<Value>> {
    let mut rows = stage.keywheel.stream("audit")?;
    rows.retain(|row| {
        said(row, "/category") == "usage" && said(row, "/container/id") == container.id()
    });
    Ok(rows)
}

/// Waits until a refused start is on record: whose, of which image, on which host, of which secret and why, the binding
/// first where one grants it.
pub(crate) fn wait_refused(
    stage: &Stage,
    container: &Container,
    (secret, reason): (&str, &str),
) -> Result<()> {
    let is_one = |row: &&Value| {
        said(row, "/verb") == "refuse"
            && said(row, "/object") == format!("secret/{secret}")
            && said(row, "/reason").starts_with(reason)
    };
    let found = wait::until("the refused start on record", PATIENCE, || {
        let rows = records(stage, container)?;
        Ok(rows.iter().find(is_one).cloned())
    });
    let row = found.with_context(|| format!("of {secret}: {reason}"))?;
    assert_eq!(said(&row, "/outcome"), "denied", "{row}");
    let image = said(&row, "/container/image_digest");
    assert_eq!(image, stage.image.digest(), "{row}");
    assert_eq!(said(&row, "/container/host"), stage.host, "{row}");
    assert!(said(&row, "/reason").contains("; next: "), "{row}");
    Ok(())
}

fn is_of(row: &Value, (verb, secret, binding, version): Use) -> bool {
    said(row, "/verb") == verb
        && said(row, "/object") == format!("secret/{secret}")
        && said(row, "/reason") == format!("binding/{binding}")
        && row.get("version").and_then(Value::as_u64) == Some(version)
}

/// Waits until each use is on record; all records of the container name its image and its host, too.
pub(crate) fn wait_uses(stage: &Stage, container: &Container, uses: &[Use]) -> Result<()> {
    let all = wait::until_true("each use on record", PATIENCE, || {
        let rows = records(stage, container)?;
        let is_there = |one: &Use| rows.iter().any(|row| is_of(row, *one));
        Ok(uses.iter().all(is_there))
    });
    let rows = records(stage, container)?;
    all.with_context(|| format!("{uses:?} among {rows:#?}"))?;
    for row in &rows {
        let image = said(row, "/container/image_digest");
        assert_eq!(image, stage.image.digest(), "{row}");
        assert_eq!(said(row, "/container/host"), stage.host, "{row}");
    }
    Ok(())
}
