//! What cannot be done is refused before anything is touched, with the next step.

use anyhow::{Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::planted::plant;
use keywheel_tests::stage::Stage;
use serde_json::Value;

use crate::scene::{Left, SECRET, migrate, run, value};

/// A refusal: what is migrated, flags, exit code, what is told.
type Row<'a> = (&'a str, Vec<&'a str>, i32, &'a str);

/// Migrates with each row's words in place of the usual wish.
fn refuse(stage: &Stage, rows: &[Row<'_>]) -> Result<()> {
    for (container, flags, code, told) in rows {
        let words = [&["migrate", *container, "--yes"][..], flags.as_slice()].concat();
        let said = stage.keywheel.cli(&words)?;
        ensure!(
            said.code == *code,
            "{words:?}: {}: {}",
            said.code,
            said.said()
        );
        ensure!(said.stderr.contains(*told), "{words:?}: {}", said.stderr);
        ensure!(said.stderr.contains("next:"), "{words:?}: {}", said.stderr);
    }
    Ok(())
}

fn untouched(container: &Container) -> Result<()> {
    let state = container.field("{{.State.Running}} {{.Name}} {{.HostConfig.Runtime}}")?;
    assert_eq!(state, format!("true /{} runc", container.name()));
    Ok(())
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let (runtime, none) = (stage.runtime.as_str(), ["--network", "none"]);
    let labelled = [&none[..], &["--label", "app=refused"]].concat();
    let old = run(&stage, &labelled, &["/bin/app-env"])?;
    let left = Left::of(&old);
    let name = old.name();
    let with = |flags: &[&'static str]| [&["--runtime", runtime][..], flags].concat();
    let wish = || with(&["--env", "API_TOKEN=test/api-token"]);
    let gone = run(&stage, &[&none[..], &["--rm"]].concat(), &["/bin/app-env"])?;
    let stopped = run(&stage, &none, &["/bin/app-env"])?;
    docker::docker(&["stop", "-t", "1", stopped.id()])?.ok()?;
    let wrote = run(&stage, &none, &["/bin/app-env"])?;
    wrote.exec(&["touch", "/etc/kept"])?.ok()?;
    let other = format!("container:{name}");
    let shares = Container::run_with(&stage.image, &["--network", &other], &[], &[])?;
    refuse(
        &stage,
        &[
            ("no-such-container", wish(), 3, "no container"),
            ("not a name", wish(), 64, "docker ps"),
            (name, with(&["--env", "MISSING=test/a"]), 3, "LEVEL"),
            (
                name,
                with(&["--env", "API_TOKEN=Bad Name"]),
                64,
                "API_TOKEN",
            ),
            (name, with(&["--env", "API_TOKEN"]), 64, "VARIABLE=SECRET"),
            (
                name,
                vec!["--env", "API_TOKEN=a", "--runtime", "keywheel-none"],
                3,
                "keywheel setup docker",
            ),
            (name, wish(), 2, shares.name()),
            (gone.name(), wish(), 2, "--rm"),
            (stopped.name(), wish(), 2, "docker start"),
            (wrote.name(), wish(), 2, "/etc/kept"),
        ],
    )?;
    drop(shares);
    let use_current = [&wish()[..], &["--use-current", SECRET]].concat();
    refuse(
        &stage,
        &[(name, use_current, 3, "no secret test/api-token")],
    )?;
    let planted = plant(&stage.keywheel, SECRET)?;
    refuse(&stage, &[(name, wish(), 2, "--use-current test/api-token")])?;
    untouched(&old)?;
    assert_eq!(left.beside()?, "", "something is left");
    let said: Vec<String> = stage
        .keywheel
        .heard()
        .iter()
        .map(|said| said.said())
        .collect();
    assert_eq!(planted, value(&stage.keywheel));
    ensure!(!said.concat().contains(&planted), "the value was shown");
    Ok(())
}

#[test]
fn a_dry_run_shows_the_binding_and_does_nothing() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let flags = ["--network", "none", "--label", "app=dry"];
    let old = run(&stage, &flags, &["/bin/app-env"])?;
    let left = Left::of(&old);
    let answer = migrate(&stage, old.name(), &["--dry-run"])?.ok()?.json()?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(text("result"), "nothing was changed");
    for part in [
        "kind: Binding",
        stage.image.digest(),
        &stage.host,
        "\"app\": \"dry\"",
    ] {
        ensure!(text("manifests").contains(part), "{part}: {answer}");
    }
    assert_eq!(
        stage.keywheel.json(&["get", "secrets"])?,
        serde_json::json!([])
    );
    assert_eq!(
        stage.keywheel.json(&["get", "bindings"])?,
        serde_json::json!([])
    );
    assert_eq!(left.beside()?, "", "something is left");
    untouched(&old)
}
