//! Events of the engine that never arrive, while the connection is up and nothing seems to be wrong: the next
//! look at everything makes up for them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::stage::{FILE, SECRET, Stage, items};
use keywheel_tests::wait;
use serde_json::Value;

use super::each_change_is_audited_once;

/// The injector looks at everything each half minute, and later on a busy machine. The bound itself is in
/// `everything_is_looked_at_again_each_half_minute_by_default`.
const NEXT_LOOK: Duration = wait::PATIENCE;

/// Without the runtime: only an event, or a look, tells of it.
fn run_plain(stage: &Stage) -> Result<Container> {
    let flags = ["--label", "app=missed"];
    Container::run(&stage.image, &flags, &["/bin/app-idle"])
}

fn wait_value(container: &Container, value: &str) -> Result<()> {
    wait::until_true("what the plan says", NEXT_LOOK, || {
        Ok(container.peek(FILE)? == value)
    })
}

/// Whether a container is on the list of consumers.
pub(crate) fn is_known(stage: &Stage, id: &str) -> Result<bool> {
    let rows = stage.keywheel.json(&["consumers"])?;
    let mut ids = items(&rows)
        .into_iter()
        .filter_map(|row| row.get("container").and_then(Value::as_str));
    Ok(ids.any(|known| known == id))
}

#[test]
fn missed_events_are_made_up_for_by_the_next_look() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("missed", "none")?;
    let tap = stage.keywheel.engine_tap().context("no tap")?;
    let (seen, restarted, gone) = (run_plain(&stage)?, run_plain(&stage)?, run_plain(&stage)?);
    let first = stage.value_soon_in(&seen)?;
    for container in [&restarted, &gone] {
        wait_value(container, &first)?;
    }

    tap.drop_events(true);
    let started = run_plain(&stage)?;
    restarted.restart()?.ok()?;
    let gone_id = gone.id().to_owned();
    drop(gone);
    for container in [&started, &restarted] {
        wait_value(container, &first)?;
    }
    wait::until_true("the one that went to be forgotten", NEXT_LOOK, || {
        Ok(!is_known(&stage, &gone_id)?)
    })?;
    ensure!(tap.dropped() > 0, "no event was dropped: it proves nothing");
    stage.rotate(SECRET)?;
    let second = stage.value_in(&seen)?;
    ensure!(first != second);
    for container in [&started, &restarted] {
        wait_value(container, &second)?;
    }

    tap.drop_events(false);
    stage.rotate(SECRET)?;
    let third = stage.value_in(&seen)?;
    let all = [&seen, &restarted, &started];
    for container in all {
        wait_value(container, &third)?;
    }
    let ids = all.map(Container::id);
    each_change_is_audited_once(&stage.keywheel, &ids)?;
    stage.finish(&[first, second, third], &all)
}
