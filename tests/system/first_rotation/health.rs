//! The container's configured health check sees resolved variables; no other exec does.

use anyhow::{Context as _, Result};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{PATIENCE, Stage};
use keywheel_tests::{manifest, wait};

const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// Passes only with a value; prints nothing, since the engine keeps what a health check prints.
const CHECK: &str = r#"case "$API_TOKEN" in ''|'{keywheel:'*) exit 1 ;; esac"#;

fn wait_health(container: &Container, wanted: &str) -> Result<()> {
    wait::until_true(&format!("the container to be {wanted}"), PATIENCE, || {
        Ok(container.field("{{.State.Health.Status}}")? == wanted)
    })
}

fn variable(container: &Container) -> Result<String> {
    container
        .variable("API_TOKEN")?
        .context("API_TOKEN is not in the first process's environment")
}

#[test]
fn the_health_check_sees_the_value_and_no_other_exec_does() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    let reload = "{ restart: { settle: 1s } }";
    let on = stage.on("checked");
    let binding = manifest::env_binding("test-env", TOKEN, &on, "API_TOKEN", reload);
    let secret = manifest::secret(TOKEN, &[]);
    stage.keywheel.apply(&(secret + &binding))?;
    stage.wait_current(TOKEN, 1)?;
    let flags = ["-e", PLACEHOLDER, "--health-cmd", CHECK];
    let often = ["--health-interval", "500ms", "--health-retries", "3"];
    let flags = [&flags[..], &often].concat();
    let container = stage.run("checked", &flags, "/bin/app-env")?;
    wait_health(&container, "healthy")?;
    let first = variable(&container)?;

    // A person's exec has the placeholder, also when it runs the same shell with other words.
    let env = container.exec(&["env"])?.ok()?;
    assert!(env.stdout.contains(PLACEHOLDER), "{}", env.stdout);
    let other = container
        .exec(&["/bin/sh", "-c", "echo \"$API_TOKEN\""])?
        .ok()?;
    assert!(other.stdout.contains("{keywheel:"), "{}", other.stdout);

    // The rotation is gated on the health check, which needs the new value.
    stage.rotate(TOKEN)?;
    let second = variable(&container)?;
    assert_ne!(first, second);
    wait_health(&container, "healthy")?;

    // Without the injector it runs with the placeholder.
    stage.keywheel.kill9()?;
    wait_health(&container, "unhealthy")?;
    stage.keywheel.up(&Options::default())?;
    wait_health(&container, "healthy")?;

    // Its health checks go on meanwhile: no file has the values, however short.
    stage.finish(&[first, second], &[&container])
}
