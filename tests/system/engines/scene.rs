//! A server that serves an engine of the test's own, and the questions of every test, asked without the engine's help.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::manifest::{self, Selector};
use keywheel_tests::output::Output;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, wait_current};
use keywheel_tests::{places, wait};
use serde_json::Value;

/// The secret of the variable.
pub(crate) const TOKEN: &str = "test/api-token";
/// The variable, as a container is made with it.
pub(crate) const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// The label of the container that is served.
pub(crate) const APP: &str = "served";
/// A health check that passes only with a value; it prints nothing, since the engine keeps what one prints.
pub(crate) const CHECK: &str = r#"case "$API_TOKEN" in ''|'{keywheel:'*) exit 1 ;; esac"#;

/// How a server is told of its engine.
pub(crate) fn options(address: &str) -> Options {
    Options {
        environment: vec![("DOCKER_HOST".to_owned(), address.to_owned())],
        ..Options::default()
    }
}

/// Binds a file and a variable for [`APP`].
pub(crate) fn bind(keywheel: &Keywheel, image: &str) -> Result<()> {
    let host = keywheel.host()?;
    let on = Selector {
        host: &host,
        image,
        app: APP,
    };
    let restart = "{ restart: { settle: 1s } }";
    let file = manifest::file_binding("test-file", SECRET, &on, "db_password", "none");
    let variable = manifest::env_binding("test-env", TOKEN, &on, "API_TOKEN", restart);
    let secrets = manifest::secret(SECRET, &[]) + &manifest::secret(TOKEN, &[]);
    keywheel.apply(&(secrets + &file + &variable))?;
    wait_current(keywheel, SECRET, 1)?;
    wait_current(keywheel, TOKEN, 1)
}

/// The file as the first process has it; none when it is not there.
pub(crate) fn file(pid: u32) -> Result<Option<String>> {
    let from = PathBuf::from(format!("/proc/{pid}/root{FILE}"));
    // A link would lead to the host's file.
    match fs::symlink_metadata(&from) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        about => ensure!(about?.is_file(), "{} is no regular file", from.display()),
    }
    Ok(Some(fs::read_to_string(from)?))
}

/// The variable as the first process has it.
pub(crate) fn variable(pid: u32) -> Result<String> {
    let environ = fs::read(format!("/proc/{pid}/environ"))?;
    let mut entries = environ
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy);
    let found = entries.find_map(|entry| entry.strip_prefix("API_TOKEN=").map(str::to_owned));
    found.context("API_TOKEN is not in the first process's environment")
}

/// Rotates and waits; the file of the process is another one then.
pub(crate) fn swaps(keywheel: &Keywheel, pid: u32, before: &str) -> Result<String> {
    keywheel_tests::stage::rotate(keywheel, SECRET)?;
    let after = file(pid)?.context("no file after the rotation")?;
    ensure!(
        before != after,
        "the file has the old value after the rotation"
    );
    Ok(after)
}

/// Waits until the start that was refused is on record.
pub(crate) fn wait_denied(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("the refused start in the audit", PATIENCE, || {
        let rows = keywheel.stream("audit")?;
        let mut rows = rows.iter().map(ToString::to_string);
        Ok(rows.any(|row| row.contains("denied") && row.contains(TOKEN)))
    })
}

/// Revokes both secrets: the file goes while its program runs on, and the program goes with its variable.
pub(crate) fn withdraws(keywheel: &Keywheel, pid: u32) -> Result<()> {
    revoke(keywheel, SECRET)?;
    wait::until_true("the file to go", PATIENCE, || Ok(file(pid)?.is_none()))?;
    let program = format!("/proc/{pid}");
    let program = Path::new(&program);
    ensure!(program.exists(), "it ended with its file");
    revoke(keywheel, TOKEN)?;
    wait::until_true("the end of its program", PATIENCE, || Ok(!program.exists()))
}

fn revoke(keywheel: &Keywheel, secret: &str) -> Result<()> {
    let words = ["revoke", secret, "--reason", "leaked", "--yes", "--wait"];
    keywheel.json(&words).map(drop)
}

/// The two verifications that end every test, and the canary of rule C1.
pub(crate) fn finish(
    keywheel: &Keywheel,
    values: &[String],
    said: &[Output],
    searched: &[PathBuf],
) -> Result<()> {
    keywheel.json(&["journal", "verify"])?;
    let audit = keywheel.json(&["audit", "verify"])?;
    ensure!(
        audit.get("verified") == Some(&Value::Bool(true)),
        "the audit does not verify: {audit}"
    );
    let values: Vec<Vec<u8>> = values
        .iter()
        .map(|text| text.clone().into_bytes())
        .collect();
    places::assert_clean_with(&values, keywheel, said, searched)
}
