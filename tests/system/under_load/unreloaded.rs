//! A file that is only replaced: nobody knows when its program reads it again, so the old password is good until
//! no session of it from before is left, and dies then. Nothing is said of `ack`.

use anyhow::{Result, ensure};
use keywheel_tests::stage::{PATIENCE, Stage, find};
use keywheel_tests::wait;
use serde_json::Value;

use crate::app::App;
use crate::database::{Database, Login};

/// One rotation under a binding without reload, whose file lies at this path; gives the new password.
pub(crate) fn outlived(
    stage: &Stage,
    app: &App,
    database: &Database,
    (binding, path): (&str, &str),
) -> Result<String> {
    let (keywheel, secret) = (&stage.keywheel, database.secret);
    keywheel.apply(binding)?;
    keywheel.wait_plans()?;
    let plan = keywheel.json(&["rotate", secret, "--dry-run"])?;
    let sessions = find(&plan, "sessions").and_then(Value::as_str);
    let is_foretold = |said: &str| said.starts_with("waited for") && said.contains("no `reload`");
    ensure!(sessions.is_some_and(is_foretold), "{plan}");

    let before = Login::of(&app.file(path)?)?;
    let held = database.hold(&before)?;
    keywheel.cli(&["rotate", secret])?.ok()?;
    wait::until_true("the session to be waited for", PATIENCE, || {
        let said = keywheel.json(&["rotation", "describe", secret])?;
        let said = said.to_string();
        let is_open = |verb| said.contains(&format!("of the old credential {verb} open"));
        Ok(is_open("is") || is_open("are"))
    })?;
    let after = Login::of(&app.file(path)?)?;
    ensure!(after.password != before.password, "the file is the same");
    ensure!(
        database.admits(&after)? && database.admits(&before)?,
        "both passwords are to be let in while a session of the old one is open"
    );
    drop(held);
    wait::until_true("the rotation to end", PATIENCE, || {
        let said = keywheel.json(&["rotation", "describe", secret])?;
        Ok(find(&said, "state").and_then(Value::as_str) == Some("completed"))
    })?;
    ensure!(!database.admits(&before)?, "the old one is still let in");
    ensure!(database.admits(&after)?, "the new one is refused");
    Ok(after.password)
}
