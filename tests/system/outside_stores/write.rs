//! Keywheel makes the values and writes them to the store, with no more rights than it prints.

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_tests::stage::{SECRET, Stage, current};
use keywheel_tests::{docker, manifest};
use serde_json::{Value, json};

use crate::scene::{PATH, STORE, Scene, credential, secret, vault};

#[test]
fn a_rotation_writes_there_with_the_printed_rights_and_a_wrapped_secret_id() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let scene = Scene::set(OpenBao::start(None))?;
    let keywheel = &scene.stage.keywheel;
    let [taken_over, token] = ["before-us-3f6c", "beside-us-90ab"];
    scene.write(taken_over, token)?;
    let role = role(&scene)?;
    let file = credential(keywheel, "secret-id", &wrapped(&scene)?)?;
    let auth = format!(
        "appRole: {{ roleId: {role}, secretId: {{ file: \"{}\" }}, wrapped: true }}",
        file.display()
    );
    let store = vault(STORE, &scene.address(), &auth, "1h");
    let made = secret(
        SECRET,
        STORE,
        PATH,
        "password",
        "  generator: { length: 32 }\n",
    );
    let on = scene.stage.on("writer");
    let binding = manifest::file_binding("test-file", SECRET, &on, "db_password", "none");
    // The login has no rights yet: exactly those are named, and nothing is applied.
    let all = store.clone() + &made + &binding;
    let refused = keywheel.try_apply(&all)?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("store policy"),
        "{refused:?}"
    );
    ensure!(keywheel.json(&["get", "stores"])? == json!([]));
    let manifests = keywheel.scratch().write("all.yaml", &all)?;
    let manifests = manifests.display().to_string();
    keywheel
        .cli(&["apply", "-f", &manifests, "--no-check"])?
        .ok()?;
    let policy = keywheel.cli(&["store", "policy", STORE])?.ok()?.stdout;
    grant(&scene, &policy);
    // The secret id was unwrapped by the trial: the declared store goes on with what that got.
    keywheel.json(&["refresh", SECRET, "--wait"])?;
    scene.stage.wait_current(SECRET, 1)?;
    let container = scene.stage.run("writer", &[], "/bin/app-file")?;
    ensure!(
        scene.stage.value_in(&container)? == taken_over,
        "what is there is taken over"
    );

    let mut values = vec![taken_over.to_owned(), token.to_owned()];
    for version in [2, 3] {
        scene.stage.rotate(SECRET)?;
        let (password, beside, there) = scene.there()?;
        ensure!(there == version && beside == token, "version {there}");
        ensure!(scene.stage.value_in(&container)? == password);
        values.push(password);
    }
    is_destroyed(&scene)?;
    somebody_else_was_first(&scene.stage, &scene, &mut values)?;
    let page = keywheel.json(&["store", "describe", STORE])?;
    ensure!(page["secrets"][0]["written"] == json!(true), "{page}");
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    scene.finish(&values, &[&container])
}

/// What we wrote before is destroyed; what somebody else wrote is not.
fn is_destroyed(scene: &Scene) -> Result<()> {
    let path = format!("secret/metadata/{PATH}");
    let metadata: Value = serde_json::from_str(&scene.bao.must("GET", &path, &[], ""))?;
    for (version, is) in [("1", false), ("2", true), ("3", false)] {
        let found = &metadata["data"]["versions"][version]["destroyed"];
        ensure!(found == &json!(is), "version {version}: {metadata}");
    }
    Ok(())
}

/// What somebody else wrote meanwhile is not written over: it is taken over first.
fn somebody_else_was_first(stage: &Stage, scene: &Scene, values: &mut Vec<String>) -> Result<()> {
    let theirs = "somebody-was-first-17d4";
    scene.write(theirs, &values[1])?;
    let lost = stage.keywheel.cli(&["rotate", SECRET, "--wait"])?;
    ensure!(
        lost.code != 0,
        "a rotation over somebody's version succeeded: {lost:?}"
    );
    ensure!(scene.there()?.0 == theirs, "their version is still there");
    let before = current(&stage.keywheel, SECRET)?;
    stage.keywheel.json(&["refresh", SECRET, "--wait"])?;
    ensure!(
        current(&stage.keywheel, SECRET)? > before,
        "theirs is taken over"
    );
    values.push(theirs.to_owned());
    stage.rotate(SECRET)?;
    values.push(scene.there()?.0);
    Ok(())
}

/// An AppRole of the policy `keywheel`, which has no rights yet; gives its id.
fn role(scene: &Scene) -> Result<String> {
    let bao = &scene.bao;
    bao.must("POST", "sys/auth/approle", &[], r#"{"type":"approle"}"#);
    let role = "auth/approle/role/keywheel";
    bao.must("POST", role, &[], r#"{"token_policies":["keywheel"]}"#);
    let read: Value = serde_json::from_str(&bao.must("GET", &format!("{role}/role-id"), &[], ""))?;
    let id = read["data"]["role_id"].as_str().context("no role id")?;
    Ok(id.to_owned())
}

fn wrapped(scene: &Scene) -> Result<String> {
    let headers = ["X-Vault-Wrap-TTL: 600"];
    let path = "auth/approle/role/keywheel/secret-id";
    let made: Value = serde_json::from_str(&scene.bao.must("POST", path, &headers, "{}"))?;
    let token = made["wrap_info"]["token"].as_str();
    Ok(token.context("no wrapping token")?.to_owned())
}

fn grant(scene: &Scene, policy: &str) {
    let body = json!({ "policy": policy }).to_string();
    scene
        .bao
        .must("PUT", "sys/policies/acl/keywheel", &[], &body);
}
