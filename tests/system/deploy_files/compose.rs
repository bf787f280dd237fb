//! `deploy/compose.yaml`: read by docker-compose, and brought up.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker;
use keywheel_tests::output::Output;
use keywheel_tests::scratch;
use keywheel_tests::wait;
use serde_json::Value;

use crate::stage::{DOMAIN, PATIENCE, Stage, commands};

/// Whom the containers run as.
const USER: &str = "65532:65532";
/// Prints YAML as JSON; the parser comes with docker-compose.
const AS_JSON: &str = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";

fn file() -> String {
    scratch::root()
        .join("deploy/compose.yaml")
        .display()
        .to_string()
}

fn configuration() -> Result<Value> {
    let mut shell = Command::new("bash");
    let script = format!(
        "docker-compose --file {} config | python3 -c '{AS_JSON}'",
        file()
    );
    shell.args(["-euo", "pipefail", "-c", &script]);
    shell
        .env("DOMAIN", DOMAIN)
        .env("DEPLOYMENT", "/deployment")
        .env("KEYS", "/keys");
    Output::of(&mut shell)?.ok()?.json()
}

#[test]
fn docker_compose_reads_it_and_every_container_is_confined() -> Result<()> {
    let read = configuration()?;
    let services = read
        .get("services")
        .and_then(Value::as_object)
        .context("no services")?;
    ensure!(services.len() == 8, "{:?}", services.keys());
    for (name, service) in services {
        let has = |key: &str, wanted: Value| {
            let found = service.get(key);
            ensure!(found == Some(&wanted), "{name}: {key} is {found:?}");
            Ok(())
        };
        has("read_only", Value::Bool(true))?;
        has("cap_drop", serde_json::json!(["ALL"]))?;
        has(
            "security_opt",
            serde_json::json!(["no-new-privileges:true"]),
        )?;
        has("user", USER.into())?;
        ensure!(
            service.get("privileged").is_none() && service.get("cap_add").is_none(),
            "{name}"
        );
        // Nothing secret is in a variable: what there is names files, how PostgreSQL is to be made, or the
        // collector, an address without a user.
        let variables = service.get("environment").and_then(Value::as_object);
        for (variable, value) in variables.into_iter().flatten() {
            let harmless = [
                "POSTGRES_INITDB_ARGS",
                "PGDATA",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "OTEL_EXPORTER_OTLP_COMPRESSION",
            ];
            let harmless = harmless.contains(&variable.as_str());
            let is_file = value
                .as_str()
                .is_some_and(|text| text.starts_with("/run/secrets/"));
            ensure!(harmless || is_file, "{name}: {variable}");
        }
        let ports = service.get("ports").is_some();
        ensure!(
            ports == (name == "gateway" || name.starts_with("bus-")),
            "{name}"
        );
    }
    let control = read.pointer("/networks/control/internal");
    ensure!(control == Some(&Value::Bool(true)), "{control:?}");
    // The database comes only when it is asked for.
    let profiles = read.pointer("/services/postgres/profiles");
    ensure!(
        profiles == Some(&serde_json::json!(["database"])),
        "{profiles:?}"
    );
    Ok(())
}

#[test]
fn it_asks_for_what_it_needs() -> Result<()> {
    let said = Output::of(
        Command::new("docker-compose")
            .args(["--file", &file(), "config"])
            .env_clear(),
    )?;
    ensure!(
        said.code != 0 && said.stderr.contains("keywheel init"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn the_control_plane_runs_in_containers() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::with_own_database()?;
    let [own, _] = commands()?;
    stage.bring_up(&own)?;
    stage.make_secret("test/one")?;
    stage.inside("rotate test/one --wait")?.ok()?;
    stage.inside("host join-token web-1")?.ok()?;
    let names = stage.containers()?;
    ensure!(names.matches("kwtest_").count() == 7, "{names}");
    ensure!(!names.contains("Restarting"), "{names}");
    let escape = stage.shell("docker exec --user 0 kwtest_gateway_1 /usr/local/bin/keywheel init --out /x --unseal-key-file /y")?;
    ensure!(escape.code != 0, "the root of a container can be written");
    Ok(())
}

#[test]
fn the_profile_brings_a_database_that_may_be_restarted() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::with_image_of_database()?;
    let [own, profile] = commands()?;
    let shared = own.len().checked_sub(2).context("the page lost commands")?;
    let all: Vec<String> = own.into_iter().take(shared).chain(profile).collect();
    stage.bring_up(&all)?;
    let names = stage.containers()?;
    ensure!(names.matches("kwtest_").count() == 8, "{names}");
    stage.make_secret("test/one")?;
    stage.inside("rotate test/one --wait")?.ok()?;
    ensure!(stage.version("test/one")? == Some(2));

    stage.shell("docker restart kwtest_postgres_1")?.ok()?;
    let rotated = wait::until_true("a rotation after the restart", PATIENCE, || {
        Ok(stage.inside("rotate test/one --wait")?.code == 0)
    });
    rotated.with_context(|| stage.logs())?;
    // What was there before is there, and nothing begins again.
    ensure!(stage.version("test/one")? >= Some(3));
    stage.inside("journal verify")?.ok()?;
    // Its superuser has the operator's password, and the socket lets nobody in without.
    let psql = "docker exec kwtest_postgres_1 psql --no-psqlrc --no-password --username postgres --command 'SELECT 1'";
    ensure!(stage.shell(psql)?.code != 0, "no password was asked for");
    let with = psql.replace(
        "exec",
        "exec --env PGPASSWORD=\"$(cat \"$KEYS/postgres-admin.password\")\"",
    );
    stage.shell(&with)?.ok()?;
    Ok(())
}
