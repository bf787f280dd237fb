//! Suite outside_stores: see README.md beside this file.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::fault::FaultProxy;
use keywheel_testkit::server::openbao::{OpenBao, ROOT};
use keywheel_tests::docker;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage};
use keywheel_tests::{manifest, wait};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const STORE: &str = "openbao";
const PATH: &str = "app/db";
/// Presence is told every ten seconds.
const TOLD: Duration = Duration::from_secs(40);

/// A stage, and an OpenBao that can be made to refuse.
struct Outside {
    proxy: FaultProxy,
    runtime: Runtime,
    bao: OpenBao,
    stage: Stage,
}

impl Outside {
    fn set() -> Result<Self> {
        let bao = OpenBao::start(None);
        let runtime = Runtime::new()?;
        let proxy = runtime.block_on(FaultProxy::before(bao.address()));
        let stage = Stage::set()?;
        Ok(Self {
            proxy,
            runtime,
            bao,
            stage,
        })
    }

    /// Somebody else writes a value there; gives the version.
    fn write(&self, value: &str) -> Result<u64> {
        let body = json!({ "data": { "password": value, "user": "app" } }).to_string();
        let path = format!("secret/data/{PATH}");
        let answer: Value = serde_json::from_str(&self.bao.must("POST", &path, &[], &body))?;
        answer["data"]["version"].as_u64().context("no version")
    }

    /// What is there: the value, and the version.
    fn there(&self) -> Result<(String, u64)> {
        let path = format!("secret/data/{PATH}");
        let answer: Value = serde_json::from_str(&self.bao.must("GET", &path, &[], ""))?;
        let data = &answer["data"];
        let value = data["data"]["password"].as_str().context("no value")?;
        ensure!(data["data"]["user"] == "app", "the other field is gone");
        let version = data["metadata"]["version"].as_u64().context("no version")?;
        Ok((value.to_owned(), version))
    }

    fn store(&self) -> Result<String> {
        let token = self.stage.keywheel.scratch().join("openbao-token");
        fs::write(&token, ROOT)?;
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
        Ok(format!(
            "apiVersion: keywheel.dev/v1\nkind: Store\nmetadata: {{ name: {STORE} }}\nspec:\n  vault: {{ address: \"{}\", auth: {{ token: {{ file: \"{}\" }} }} }}\n  poll: 1s\n  timeout: 2s\n---\n",
            self.proxy.url(),
            token.display()
        ))
    }

    /// Declares the store, a secret there and a binding as a file.
    fn apply(&self, app: &str, generator: &str) -> Result<()> {
        let secret = format!(
            "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {SECRET} }}\nspec:\n  store: {STORE}\n  source: {{ path: {PATH}, field: password }}\n{generator}---\n"
        );
        let on = self.stage.on(app);
        let binding = manifest::file_binding("test-file", SECRET, &on, "db_password", "none");
        let keywheel = &self.stage.keywheel;
        keywheel.apply(&(self.store()? + &secret + &binding))?;
        self.stage.wait_current(SECRET, 1)
    }

    fn health(&self) -> Result<Value> {
        let stores = self.stage.keywheel.json(&["store", "list"])?;
        stores.get(0).cloned().context("no store is listed")
    }

    fn wait_health(&self, wanted: &[&str]) -> Result<Value> {
        wait::until(&format!("store health {wanted:?}"), TOLD, || {
            let health = self.health()?;
            let is = health["health"]
                .as_str()
                .is_some_and(|word| wanted.contains(&word));
            Ok(is.then_some(health))
        })
    }

    fn current(&self) -> Result<u64> {
        let secret = self.stage.keywheel.json(&["get", "secret", SECRET])?;
        secret["current"].as_u64().context("no current version")
    }
}

#[test]
fn what_changes_outside_reaches_a_running_container_and_an_outage_stops_nothing() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut outside = Outside::set()?;
    let values = [
        "outside-first-4be1",
        "outside-second-77c0",
        "outside-third-9d2a",
    ];
    outside.write(values[0])?;
    outside.apply("follower", "")?;
    let container = outside.stage.run("follower", &[], "/bin/app-file")?;
    let has = |outside: &Outside, value: &str| {
        wait::until_true("the value in the container", PATIENCE, || {
            Ok(outside.stage.value_in(&container)? == value)
        })
    };
    has(&outside, values[0])?;
    // The poll finds it.
    outside.write(values[1])?;
    has(&outside, values[1])?;
    outside.wait_health(&["ok"])?;

    outside.runtime.block_on(outside.proxy.refuse());
    let away = outside.wait_health(&["warning", "problem"])?;
    let note = away["note"].as_str().context("no note")?;
    ensure!(note.contains("stale since"), "{note}");
    ensure!(
        away["next"]
            .as_str()
            .is_some_and(|next| next.contains("keywheel refresh"))
    );
    ensure!(outside.stage.value_in(&container)? == values[1]);
    let started = outside.stage.run("follower", &[], "/bin/app-file")?;
    ensure!(
        outside.stage.value_in(&started)? == values[1],
        "a start is served"
    );
    let refused = outside.stage.keywheel.cli(&["refresh", SECRET])?;
    ensure!(refused.code == 4, "{refused:?}");

    let before = outside.current()?;
    outside.runtime.block_on(outside.proxy.listen());
    outside.wait_health(&["ok"])?;
    ensure!(
        outside.current()? == before,
        "nothing changed, so nothing rotates"
    );
    outside.write(values[2])?;
    outside
        .stage
        .keywheel
        .json(&["refresh", SECRET, "--wait"])?;
    has(&outside, values[2])?;
    ensure!(outside.stage.value_in(&started)? == values[2]);
    outside
        .stage
        .finish(&values.map(str::to_owned), &[&container, &started])
}

#[test]
fn a_rotation_writes_there_and_destroys_what_it_wrote_before() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let outside = Outside::set()?;
    let taken_over = "outside-before-us-3f6c";
    outside.write(taken_over)?;
    outside.apply("writer", "  generator: { length: 32 }\n")?;
    let container = outside.stage.run("writer", &[], "/bin/app-file")?;
    ensure!(
        outside.stage.value_in(&container)? == taken_over,
        "what is there is taken over"
    );
    let mut values = vec![taken_over.to_owned()];
    for version in [2, 3] {
        outside.stage.rotate(SECRET)?;
        let (value, there) = outside.there()?;
        ensure!(there == version, "{there}");
        ensure!(outside.stage.value_in(&container)? == value);
        values.push(value);
    }
    let path = format!("secret/metadata/{PATH}");
    let metadata: Value = serde_json::from_str(&outside.bao.must("GET", &path, &[], ""))?;
    let destroyed = |version: &str| &metadata["data"]["versions"][version]["destroyed"];
    ensure!(
        destroyed("2") == &json!(true),
        "ours is destroyed: {metadata}"
    );
    ensure!(
        destroyed("1") == &json!(false),
        "somebody else's stays: {metadata}"
    );
    let page = outside.stage.keywheel.json(&["store", "describe", STORE])?;
    ensure!(page["secrets"][0]["written"] == json!(true), "{page}");
    ensure!(outside.current()? == 3);
    outside.stage.finish(&values, &[&container])
}

#[test]
fn a_store_that_does_not_work_is_refused_with_what_is_missing() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut outside = Outside::set()?;
    let store = outside.store()?;
    let token = outside.stage.keywheel.scratch().join("openbao-token");
    fs::write(&token, "no-such-token")?;
    let refused = outside.stage.keywheel.try_apply(&store)?;
    ensure!(refused.code != 0, "{refused:?}");
    ensure!(refused.stderr.contains("--no-check"), "{}", refused.stderr);
    ensure!(!refused.stderr.contains("no-such-token"));
    fs::write(&token, ROOT)?;
    outside.runtime.block_on(outside.proxy.refuse());
    ensure!(outside.stage.keywheel.try_apply(&store)?.code != 0);
    ensure!(outside.stage.keywheel.json(&["get", "stores"])? == json!([]));
    Ok(())
}
