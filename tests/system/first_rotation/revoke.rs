//! Revocation: gone from every container, dead for ever, on the record.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use keywheel_tests::canary::Canary;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Options;
use keywheel_tests::planted::{PLANTED, plant};
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage, find};
use keywheel_tests::{manifest, memory, wait};
use serde_json::Value;

use crate::records::wait_refused;

#[test]
fn a_revoke_takes_the_file_out_of_every_container() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("gone", "none")?;
    let containers = (0..3)
        .map(|_| stage.run("gone", &[], "/bin/app-idle"))
        .collect::<Result<Vec<Container>>>()?;
    let value = containers
        .first()
        .map(|container| stage.value_in(container))
        .transpose()?
        .unwrap_or_default();
    let words = [
        "revoke",
        SECRET,
        "--reason",
        "leaked in a ticket",
        "--yes",
        "--wait",
    ];
    let answer = stage.keywheel.json(&words)?;
    for field in ["revocation_id", "secret", "versions", "state"] {
        assert!(
            answer.get(field).is_some(),
            "the answer lacks `{field}`: {answer}"
        );
    }
    assert!(
        find(&answer, "withdrawn_ms")
            .and_then(Value::as_f64)
            .is_some_and(|ms| ms < PATIENCE.as_secs_f64() * 1e3),
        "{answer}"
    );
    for container in &containers {
        assert_eq!(
            container.read(FILE)?,
            None,
            "the file is still in a container"
        );
        assert_eq!(container.field("{{.State.Running}}")?, "true");
    }
    let audit = Value::from(stage.keywheel.stream("audit")?).to_string();
    assert!(
        audit.contains("leaked in a ticket"),
        "the reason is not on the record"
    );
    let borrowed: Vec<&Container> = containers.iter().collect();
    stage.finish(&[value], &borrowed)
}

#[test]
fn a_revoked_version_is_never_served_again() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("dead", "none")?;
    let container = stage.run("dead", &[], "/bin/app-idle")?;
    let value = stage.value_in(&container)?;
    stage
        .keywheel
        .json(&["revoke", SECRET, "--reason", "test", "--yes", "--wait"])?;
    stage
        .keywheel
        .restart(&keywheel_tests::keywheel::Options::default())?;
    // Until it has its plan, the injector refuses for want of that.
    let label = ["--runtime", &stage.runtime, "--label", "app=dead"];
    let (started, said) = wait::until("the refusal by name", PATIENCE, || {
        let tried = Container::try_run(&stage.image, &label, &["/bin/app-idle"])?;
        let is_told = tried.0.is_some() || tried.1.stderr.contains(SECRET);
        Ok(is_told.then_some(tried))
    })?;
    assert!(started.is_none(), "it started without a version");
    assert!(said.stderr.contains("next: "), "{}", said.stderr);
    let restarted = docker::docker(&["restart", container.id()])?;
    assert_ne!(restarted.code, 0, "a dead version was served");
    for words in [SECRET, "next: "] {
        assert!(restarted.stderr.contains(words), "{}", restarted.stderr);
    }
    let why = "binding/test-file: secret `test/db-password` has no version";
    wait_refused(&stage, &container, (SECRET, why))?;
    stage.rotate(SECRET)?;
    wait::until_true("the refused start to come back", PATIENCE, || {
        Ok(container.field("{{.State.Running}}")? == "true")
    })?;
    let fresh = stage.value_in(&container)?;
    assert_ne!(fresh, value);
    stage.finish(&[value, fresh], &[&container])
}

/// What bindings say of who loses a revoked value, and how that is seen from outside.
const ON_REVOKE: [(&str, &str, &str); 5] = [
    ("stop", "{{.State.Running}}", "false"),
    ("pause", "{{.State.Paused}}", "true"),
    ("disconnect", "{{len .NetworkSettings.Networks}}", "0"),
    ("restart", "{{.State.Running}}", "true"),
    (
        "remove",
        "{{.State.Running}} {{.State.Paused}} {{len .NetworkSettings.Networks}}",
        "true false 1",
    ),
];

/// The labels of a container of Compose's service `web` in the project `shop`.
const OF_SERVICE: [&str; 4] = [
    "--label",
    "com.docker.compose.project=shop",
    "--label",
    "com.docker.compose.service=web",
];

#[test]
fn who_loses_a_revoked_value_gets_what_its_binding_says() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let mut text = manifest::secret(SECRET, &[]);
    for (word, ..) in ON_REVOKE {
        let (name, on) = (format!("on-{word}"), stage.on(word));
        let binding = manifest::file_binding(&name, SECRET, &on, "db_password", "none");
        let said = format!("reload: none\n  onRevoke: {word}\n");
        text += &binding.replace("reload: none\n", &said);
    }
    stage.keywheel.apply(&text)?;
    stage.wait_current(SECRET, 1)?;
    let run = |(word, ..): &(&str, &str, &str)| {
        let label = format!("app={word}");
        let mut flags = vec!["--runtime", &stage.runtime, "--label", &label];
        flags.extend(OF_SERVICE);
        Container::run_with(&stage.image, &flags, &[], &["/bin/app-idle"])
    };
    let containers = ON_REVOKE
        .iter()
        .map(run)
        .collect::<Result<Vec<Container>>>()?;
    let [stopped, paused, _, restarted, _] = &containers[..] else {
        bail!("{} containers run", containers.len());
    };
    let (value, began) = (stage.value_in(restarted)?, restarted.downtime()?);
    let service = ["revoke", "--service", "shop/web"];
    let look = [&service[..], &["--dry-run", "-o", "json"]].concat();
    let plan = wait::until("the service", PATIENCE, || {
        let said = stage.keywheel.cli(&look)?;
        let plan = (said.code == 0).then(|| said.json()).transpose()?;
        Ok(plan.filter(|plan| plan["containers"] == ON_REVOKE.len()))
    })?;
    assert_eq!((&plan["stops"], &plan["restarts"]), (&1.into(), &1.into()));
    let sure = ["--reason", "test", "--yes", "--wait"];
    stage.keywheel.json(&[&service[..], &sure].concat())?;
    wait::until_true("the restart", PATIENCE, || {
        Ok(restarted.downtime()? != began && restarted.field("{{.State.Running}}")? == "true")
    })?;
    for (container, (word, field, wanted)) in containers.iter().zip(ON_REVOKE) {
        wait::until_true(word, PATIENCE, || Ok(container.field(field)? == wanted))?;
        let is_open = !["stop", "pause"].contains(&word);
        assert!(
            !is_open || container.read(FILE)?.is_none(),
            "{word}: it has the file"
        );
    }
    // What a person undoes is not done again, and a fresh value comes to everybody.
    docker::docker(&["unpause", paused.id()])?.ok()?;
    stage.rotate(SECRET)?;
    docker::docker(&["start", stopped.id()])?.ok()?;
    let fresh = stage.value_soon_in(stopped)?;
    for container in &containers {
        assert_eq!(stage.value_soon_in(container)?, fresh);
        assert_eq!(container.field("{{.State.Paused}}")?, "false");
    }
    let borrowed: Vec<&Container> = containers.iter().collect();
    stage.finish(&[value, fresh], &borrowed)
}

/// Somebody who reads a container's file again and again.
struct Reader {
    stop: Arc<AtomicBool>,
    reading: JoinHandle<Seen>,
}

/// What was read.
#[derive(Default)]
struct Seen {
    values: BTreeSet<String>,
    absent: usize,
}

impl Reader {
    fn begin(container: &Container) -> Result<Self> {
        let (pid, stop) = (container.pid()?, Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&stop);
        let reading = thread::spawn(move || {
            let mut seen = Seen::default();
            while !is_over.load(Ordering::Relaxed) {
                match docker::peek_in(pid, FILE) {
                    Ok(value) => _ = seen.values.insert(value),
                    Err(_) => seen.absent += 1,
                }
                thread::sleep(Duration::from_micros(200));
            }
            seen
        });
        Ok(Self { stop, reading })
    }

    fn end(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.reading.join();
        seen.map_err(|_| anyhow!("the reader panicked"))
    }
}

#[test]
fn a_revoke_that_replaces_first_takes_no_file_away_and_restarts_with_the_new_value() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set_with(&memory::unlocked(&Options::default()))?;
    let file = manifest::file_binding("kept", SECRET, &stage.on("kept"), "db_password", "none");
    let restart = "{ restart: { settle: 1s } }";
    let on = stage.on("env");
    let variable = manifest::env_binding("env", SECRET, &on, "DB_PASSWORD", restart);
    let text = manifest::secret(SECRET, &[]) + &file + &variable;
    stage.keywheel.apply(&text)?;
    stage.wait_current(SECRET, 1)?;
    let kept = stage.run("kept", &[], "/bin/app-idle")?;
    let placeholder = format!("DB_PASSWORD={{keywheel:{SECRET}}}");
    let env = stage.run("env", &["-e", &placeholder], "/bin/app-idle")?;
    let (value, began) = (stage.value_in(&kept)?, env.downtime()?);
    assert_eq!(env.variable("DB_PASSWORD")?.as_ref(), Some(&value));
    let sure = ["revoke", SECRET, "--reason", "leaked", "--yes", "--wait"];
    let reader = Reader::begin(&kept)?;
    let answer = stage.keywheel.json(&[&sure[..], &["--replace"]].concat())?;
    let fresh = stage.value_in(&kept)?;
    let seen = reader.end()?;
    assert_eq!(answer["state"], "closed", "{answer}");
    assert_eq!(answer["versions"], serde_json::json!([1]), "{answer}");
    let replacement = &answer["states"]["replacement"];
    assert_eq!(replacement["state"], "made", "{answer}");
    assert_eq!(seen.absent, 0, "the file was absent");
    assert_eq!(seen.values, BTreeSet::from([value.clone(), fresh.clone()]));
    assert_ne!(value, fresh);
    assert_eq!(env.field("{{.State.Running}}")?, "true");
    assert_ne!(env.downtime()?, began, "it was not restarted");
    assert_eq!(env.variable("DB_PASSWORD")?.as_ref(), Some(&fresh));
    // The program that has it in a variable has it in its memory, and there alone it is.
    let canary = Canary::new(&[fresh.clone().into_bytes()])?;
    let has_it = memory::search(&canary, env.pid()?)?;
    assert!(!has_it.is_empty(), "memory is not searched");
    let below = stage.keywheel.scratch().path();
    memory::assert_forgotten(below, &[&value, &fresh])?;
    // Without a replacement the same reader finds no file, and the container stops.
    let reader = Reader::begin(&kept)?;
    stage.keywheel.json(&sure)?;
    assert_eq!(kept.read(FILE)?, None);
    wait::until_true("the stop", PATIENCE, || {
        Ok(env.field("{{.State.Running}}")? == "false")
    })?;
    assert!(
        reader.end()?.absent > 0,
        "it cannot see that a file is absent"
    );
    memory::assert_forgotten(below, &[&value, &fresh])?;
    memory::assert_coreless(below)?;
    stage.finish(&[value, fresh], &[&kept])
}

#[test]
fn a_revoke_needs_a_reason_and_a_yes() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("x", "none")?;
    for words in [
        vec!["revoke", SECRET, "--yes"],
        vec!["revoke", SECRET, "--reason", "r"],
    ] {
        let said = stage.keywheel.cli(&words)?;
        assert_ne!(said.code, 0, "`{}` went through", said.line);
    }
    assert_eq!(keywheel_tests::stage::current(&stage.keywheel, SECRET)?, 1);
    let value = plant(&stage.keywheel, PLANTED)?;
    stage.finish(&[value], &[])
}
