//! Compose leaves a migrated container alone; the file that says the same has it made anew once.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::output::Output;
use keywheel_tests::scratch::unique;
use keywheel_tests::stage::Stage;

use crate::scene::{Left, PLACEHOLDER, finish, migrated, value, variable};

/// A project; all of it goes with the value.
struct Project<'a> {
    folder: &'a Path,
    name: String,
    value: String,
}

impl Project<'_> {
    fn compose(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("docker-compose");
        command
            .args(["--project-name", &self.name])
            .args(words)
            .current_dir(self.folder)
            .env("TOKEN", &self.value);
        Output::of(&mut command)
    }

    /// The container's id after `up`.
    fn up(&self) -> Result<String> {
        self.compose(&["up", "--detach"])?.ok()?;
        let said = self.compose(&["ps", "--quiet"])?.ok()?;
        Ok(said.stdout.trim().to_owned())
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        let _ = self.compose(&["down", "--volumes", "--timeout", "1"]);
    }
}

/// The file; what a migration asks a person to write is the part that changes.
fn file(image: &str, changing: &str) -> String {
    format!(
        "services:\n  web:\n    image: {image}\n    command: [/bin/app-env]\n    volumes: [kept:/kept]\n    networks: {{ default: {{ aliases: [shop] }} }}\n{changing}volumes: {{ kept: {{}} }}\n"
    )
}

#[test]
fn compose_leaves_it_alone_and_follows_its_file_once() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let scratch = stage.keywheel.scratch();
    let project = Project {
        folder: scratch.path(),
        name: unique("kwt"),
        value: value(&stage.keywheel),
    };
    let plain = "    environment: { API_TOKEN: \"${TOKEN}\" }\n";
    scratch.write("docker-compose.yml", file(stage.image.tag(), plain))?;
    let first = project.up()?;
    let name = docker::docker(&["inspect", "-f", "{{.Name}}", &first])?.ok()?;
    let name = name.stdout.trim().trim_start_matches('/');
    let old = Container::named(&stage.image, name)?;
    let _left = Left::of(&old);
    let new = migrated(&stage, &old, &[])?;
    assert_eq!(variable(&new)?, project.value);
    assert_eq!(project.up()?, new.id(), "Compose made it anew");
    assert_eq!(variable(&new)?, project.value);

    // As deploy/docs/migrate.md says.
    let (runtime, placeholder) = (&stage.runtime, PLACEHOLDER);
    let told = format!("    runtime: {runtime}\n    environment: [\"{placeholder}\"]\n");
    scratch.write("docker-compose.yml", file(stage.image.tag(), &told))?;
    let followed = project.up()?;
    ensure!(followed != new.id(), "Compose did not follow its file");
    let followed = Container::named(&stage.image, name)?;
    assert_eq!(variable(&followed)?, project.value);
    assert_eq!(project.up()?, followed.id(), "Compose made it anew again");
    let value = project.value.clone();
    finish(&stage, &[value], &followed)
}
