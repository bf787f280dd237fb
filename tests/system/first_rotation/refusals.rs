//! Starts that must not happen, and whose reason reaches `docker run`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::Result;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::planted::{self, PLANTED, plant};
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage};
use keywheel_tests::{manifest, wait};
use serde_json::{Value, json};

#[test]
fn a_placeholder_without_a_binding_is_refused_by_name() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage
        .keywheel
        .apply(&manifest::secret("test/api-token", &[]))?;
    stage.wait_current("test/api-token", 1)?;
    let value = plant(&stage.keywheel, "test/api-token")?;
    let flags = [
        "--runtime",
        &stage.runtime,
        "-e",
        "API_TOKEN={keywheel:test/api-token}",
    ];
    let (container, said) = Container::try_run(&stage.image, &flags, &["/bin/app-env"])?;
    assert!(
        container.is_none(),
        "a placeholder is a request, not a grant"
    );
    assert!(
        said.stderr.contains("test/api-token") && said.stderr.contains("next: apply a Binding"),
        "{}",
        said.stderr
    );
    assert!(!said.said().contains(&value), "the refusal shows the value");
    // It is no consumer, and is described all the same, with why.
    wait::until_true("the refused start", PATIENCE, || {
        let page = stage
            .keywheel
            .json(&["describe", "secret", "test/api-token"])?;
        let why = page["refused_starts"][0]["reason"].as_str();
        Ok(why.is_some_and(|why| why.contains("no binding grants secret `test/api-token`")))
    })?;
    stage.finish(&[value], &[])
}

#[test]
fn a_placeholder_of_an_unknown_secret_is_refused_by_name() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let value = plant(&stage.keywheel, PLANTED)?;
    let flags = ["--runtime", &stage.runtime, "-e", "X={keywheel:no/such}"];
    let (container, said) = Container::try_run(&stage.image, &flags, &["/bin/app-env"])?;
    assert!(container.is_none());
    for words in ["no/such", "next: apply a Binding"] {
        assert!(said.stderr.contains(words), "{}", said.stderr);
    }
    stage.finish(&[value], &[])
}

#[test]
fn without_the_injector_the_strict_runtime_refuses_with_the_next_step() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("strict", "none")?;
    let value = plant(&stage.keywheel, SECRET)?;
    stage.keywheel.kill9()?;
    let flags = ["--runtime", &stage.runtime, "--label", "app=strict"];
    let (container, said) = Container::try_run(&stage.image, &flags, &["/bin/app-idle"])?;
    assert!(
        container.is_none(),
        "the strict runtime started a container without its injector"
    );
    assert!(
        said.stderr.contains("keywheel up"),
        "no next step: {}",
        said.stderr
    );
    stage
        .keywheel
        .up(&keywheel_tests::keywheel::Options::default())?;
    stage.finish(&[value], &[])
}

#[test]
fn another_image_with_the_same_labels_gets_nothing() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("app", "none")?;
    let value = plant(&stage.keywheel, SECRET)?;
    let other = docker::Image::build()?;
    let flags = ["--runtime", &stage.runtime, "--label", "app=app"];
    let container = Container::run(&other, &flags, &["/bin/app-idle"])?;
    assert_eq!(container.read(FILE)?, None, "labels alone granted a secret");
    let own = stage.run("app", &[], "/bin/app-idle")?;
    assert_eq!(own.read(FILE)?.as_ref(), Some(&value));
    let explain = |one: &Container| {
        let words = ["explain", one.id(), SECRET, "--host", &stage.host];
        stage.keywheel.json(&words)
    };
    let (no, yes) = (explain(&container)?, explain(&own)?);
    assert_eq!(
        (&no["entitled"], &yes["entitled"]),
        (&json!(false), &json!(true))
    );
    let told = no["reason"].as_str().unwrap_or_default();
    assert!(
        told.contains("`test-file` comes nearest: image is not"),
        "{no}"
    );
    assert_eq!(yes["binding"], "test-file", "{yes}");
    stage.finish(&[value], &[&container, &own])
}

/// Asks the injector as the runtime does, without an engine's create around it.
fn ask(keywheel: &Keywheel, id: &str) -> Result<String> {
    let mut socket = UnixStream::connect(keywheel.run_dir().join("injector.sock"))?;
    let question = json!({
        "v": 1, "op": "resolve", "id": id, "env": ["X={keywheel:test/unknown-start}"],
    });
    socket.write_all(format!("{question}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    Ok(line)
}

/// The audit records of the start that was refused.
fn records(keywheel: &Keywheel, id: &str) -> Result<Vec<Value>> {
    let mut rows = keywheel.stream("audit")?;
    rows.retain(|row| row.to_string().contains(id));
    Ok(rows)
}

/// A start of a container nobody knows is denied, and is on record once, also over a `kill -9`.
fn is_on_record(keywheel: &mut Keywheel, id: &str) -> Result<()> {
    plant(keywheel, PLANTED)?;
    let said = ask(keywheel, id)?;
    assert!(said.contains("\"ok\":false"), "{said}");
    // Whoever was told "no" finds it in the audit, whatever happens next.
    keywheel.kill9()?;
    keywheel.up(&Options::default())?;
    wait::until_true("the refused start in the audit", PATIENCE, || {
        Ok(!records(keywheel, id)?.is_empty())
    })?;
    let rows = records(keywheel, id)?;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let text = rows.first().map(Value::to_string).unwrap_or_default();
    for word in ["refuse", "denied", "usage", "secret/test/unknown-start"] {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
    keywheel.json(&["journal", "verify"])?;
    keywheel.json(&["audit", "verify"])?;
    planted::assert_clean(keywheel, &[])
}

#[test]
fn a_container_the_engine_does_not_know_is_refused_on_record() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut keywheel = Keywheel::start()?;
    is_on_record(&mut keywheel, &"c".repeat(64))
}

#[test]
fn while_the_engine_does_not_answer_a_start_is_refused_on_record() -> Result<()> {
    let nowhere = Options {
        environment: vec![(
            "DOCKER_HOST".to_owned(),
            "unix:///nonexistent/docker.sock".to_owned(),
        )],
        ..Options::default()
    };
    let mut keywheel = Keywheel::start_with(&nowhere)?;
    is_on_record(&mut keywheel, &"d".repeat(64))
}
