//! Files that a template makes of a value: filled in before the first instruction, again at every
//! rotation, and when the template changes.

use std::fs::{self, File};

use anyhow::{Context as _, Result};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage, find};
use keywheel_tests::{manifest, planted, wait};
use serde_json::{Value, json};

const URL: (&str, &str) = ("postgres://app:", "@db/app\n");
const LINE: (&str, &str) = ("# made by keywheel\npassword=", "\n");

fn apply(stage: &Stage, (before, after): (&str, &str)) -> Result<()> {
    let template = format!("{before}{{{{ secret(\"{SECRET}\") }}}}{after}");
    let on = stage.on("template");
    let binding = manifest::template_binding("test-file", SECRET, &on, "db_password", &template);
    stage
        .keywheel
        .apply(&(manifest::secret(SECRET, &[]) + &binding))?;
    stage.wait_current(SECRET, 1)
}

/// The value, when the file is of this form.
fn value_in(container: &Container, (before, after): (&str, &str)) -> Result<Option<String>> {
    let whole = container.read(FILE)?;
    let value = whole
        .as_deref()
        .and_then(|whole| whole.strip_prefix(before)?.strip_suffix(after));
    Ok(value.map(str::to_owned))
}

/// Puts an object with a password in it, and waits until the container has it.
fn put_object(stage: &Stage, password: &str) -> Result<()> {
    let object = json!({ "user": "app", "login": { "pass word": password } });
    let path = stage
        .keywheel
        .scratch()
        .write("object", object.to_string())?;
    let stdin = File::open(&path)?;
    fs::remove_file(path)?;
    let words = ["secret", "put", SECRET, "--value-file", "-", "--wait"];
    let mut client = stage.keywheel.client(&words)?;
    stage.keywheel.hear(client.stdin(stdin))?.ok()?;
    Ok(())
}

/// Fields of an object are filled in, and again when the next one is put; gives both passwords.
fn fields_follow(stage: &Stage, container: &Container) -> Result<[String; 2]> {
    let first = planted::value(&stage.keywheel);
    let second: String = first.chars().rev().collect();
    let secret = format!("secret(\"{SECRET}\")");
    let template = format!("{{{{ {secret}.user }}}}:{{{{ {secret}.login[\"pass word\"] }}}}\n");
    let on = stage.on("template");
    let binding = manifest::template_binding("test-file", SECRET, &on, "db_password", &template);
    let filled = |password: &str| Some(format!("app:{password}\n"));
    put_object(stage, &first)?;
    stage.keywheel.apply(&binding)?;
    wait::until_true("the fields", PATIENCE, || {
        Ok(container.read(FILE)? == filled(&first))
    })?;
    put_object(stage, &second)?;
    assert_eq!(container.read(FILE)?, filled(&second));
    Ok([first, second])
}

/// Another secret that a template names.
const OTHER: &str = "test/api-key";

/// The values of both, when the file is of this form.
fn both_in(container: &Container) -> Result<Option<(String, String)>> {
    let whole = container.read(FILE)?;
    let both = whole.as_deref().and_then(|whole| whole.split_once('\n'));
    Ok(both.map(|(own, other)| (own.to_owned(), other.to_owned())))
}

#[test]
fn a_file_of_two_secrets_follows_each_of_them_and_goes_with_either() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let template = format!("{{{{ secret(\"{SECRET}\") }}}}\n{{{{ secret(\"{OTHER}\") }}}}");
    let on = stage.on("two");
    let binding = manifest::template_binding("test-two", SECRET, &on, "db_password", &template);
    let missing = stage
        .keywheel
        .try_apply(&(manifest::secret(SECRET, &[]) + &binding))?;
    assert!(
        missing.code != 0 && missing.said().contains(OTHER),
        "{}",
        missing.said()
    );
    let secrets = manifest::secret(SECRET, &[]) + &manifest::secret(OTHER, &[]);
    stage.keywheel.apply(&(secrets + &binding))?;
    stage.wait_current(SECRET, 1)?;
    stage.wait_current(OTHER, 1)?;
    let container = stage.run("two", &[], "/bin/app-idle")?;
    let (own, other) = both_in(&container)?.context("not both are in the file")?;
    // Each rotation waits for the file with its own new version in it.
    stage.rotate(OTHER)?;
    let (same, newer) = both_in(&container)?.context("the file lost its form")?;
    assert!(same == own && newer != other);
    stage.rotate(SECRET)?;
    let (fresh, kept) = both_in(&container)?.context("the file lost its form")?;
    assert!(fresh != own && kept == newer);
    stage
        .keywheel
        .json(&["revoke", OTHER, "--reason", "test", "--yes", "--wait"])?;
    assert_eq!(container.read(FILE)?, None, "one of its values is dead");
    stage.rotate(OTHER)?;
    let back = wait::until("the file", PATIENCE, || both_in(&container))?;
    assert!(back.0 == fresh && back.1 != newer);
    stage.finish(&[own, other, newer, fresh, back.1], &[&container])
}

#[test]
fn the_version_before_stands_beside_the_current_one_until_the_next_rotation_or_a_revocation()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let previous = format!("{{{{ secret(\"{SECRET}\", version=\"previous\") }}}}");
    let template = format!("{{{{ secret(\"{SECRET}\") }}}}\n{previous}");
    let on = stage.on("previous");
    let binding =
        manifest::template_binding("test-previous", SECRET, &on, "db_password", &template);
    let none_kept = manifest::secret(SECRET, &[]) + &binding;
    let refused = stage.keywheel.try_apply(&none_kept)?;
    assert!(
        refused.code != 0 && refused.said().contains("previous: keep"),
        "{}",
        refused.said()
    );
    let keeping = manifest::secret(SECRET, &["rotation: { previous: keep }"]);
    stage.keywheel.apply(&(keeping + &binding))?;
    stage.wait_current(SECRET, 1)?;
    let container = stage.run("previous", &[], "/bin/app-idle")?;
    let read = || both_in(&container)?.context("the file is not of the template's form");
    let (first, none) = read()?;
    assert!(none.is_empty(), "there is no version before");
    stage.rotate(SECRET)?;
    let (second, before) = read()?;
    assert!(second != first && before == first);
    stage.rotate(SECRET)?;
    let (third, before) = read()?;
    assert!(third != second && before == second);
    let said = stage.keywheel.json(&["consumers", "--secret", SECRET])?;
    let said = ["version", "previous"].map(|name| find(&said, name).and_then(Value::as_u64));
    assert_eq!(said, [Some(3), Some(2)]);
    // It ends when the host has acknowledged that no file holds it: then it is in none.
    let version = ["revoke", SECRET, "--version", "2", "--reason", "test"];
    let version = [&version[..], &["--yes", "--wait"]].concat();
    stage.keywheel.json(&version)?;
    assert!(read()? == (third.clone(), String::new()));
    stage.finish(&[first, second, third], &[&container])
}

#[test]
fn a_template_is_filled_in_before_the_start_at_a_rotation_and_when_it_changes() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    apply(&stage, URL)?;
    let container = stage.run("template", &[], "/bin/app-idle")?;
    let first = value_in(&container, URL)?.context("the file is not of the template's form")?;
    stage.rotate(SECRET)?;
    let second = value_in(&container, URL)?.context("the file lost its form")?;
    assert_ne!(first, second);
    apply(&stage, LINE)?;
    let same = wait::until("the other template", PATIENCE, || {
        value_in(&container, LINE)
    })?;
    assert_eq!(same, second, "another template is not another version");
    let refused = stage.keywheel.try_apply(&manifest::template_binding(
        "test-file",
        SECRET,
        &stage.on("template"),
        "db_password",
        "a\n{{ secret(test/other) }}",
    ))?;
    assert!(
        refused.code != 0 && refused.said().contains("line 2 of the template"),
        "{}",
        refused.said()
    );
    let fields = fields_follow(&stage, &container)?;
    let values = [&[first, second][..], &fields].concat();
    stage.finish(&values, &[&container])
}
