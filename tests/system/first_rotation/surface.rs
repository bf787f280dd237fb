//! What a person sees: consumers, schedules, events, and who is let in.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, NOBODY};
use keywheel_tests::planted::{self, PLANTED};
use keywheel_tests::stage::{SECRET, Stage, current, items};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

use crate::page;

/// Exit code for a denied caller.
const DENIED: i32 = 77;

#[test]
fn consumers_tells_who_holds_which_version() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("who", "none")?;
    let container = stage.run("who", &[], "/bin/app-idle")?;
    stage.rotate(SECRET)?;
    let said = stage.keywheel.json(&["consumers"])?;
    let rows = items(&said);
    let row = rows
        .into_iter()
        .find(|row| row.to_string().contains(container.id()))
        .unwrap_or(&Value::Null);
    assert!(row.to_string().contains(SECRET), "{said}");
    assert_eq!(
        row.get("version").and_then(Value::as_u64),
        Some(2),
        "{said}"
    );
    let events = Value::from(stage.keywheel.stream("events")?).to_string();
    for kind in [
        "rotation.started",
        "version_promoted",
        "rotation.closed",
        "assignment.swapped",
    ] {
        assert!(events.contains(kind), "no event {kind}");
    }
    one_trace(&stage.keywheel.stream("events")?)?;
    page::says_what_the_log_says(&stage.keywheel, SECRET)?;
    let value = stage.value_in(&container)?;
    stage.finish(&[value], &[&container])
}

/// From the person's command over the effect, its outcome and the host's report, a rotation is one
/// trace: whatever span an event stands below.
fn one_trace(events: &[Value]) -> Result<()> {
    let text = |event: &Value, member: &str| {
        let found = event.get(member).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let kind = |event: &Value| text(event, "type");
    let started = events
        .iter()
        .rev()
        .find(|e| kind(e).contains("rotation.started"));
    let started = started.context("no rotation started")?;
    let trace_of = |event: &Value| {
        let text = text(event, "traceparent");
        text.split('-').nth(1).unwrap_or_default().to_owned()
    };
    let trace = trace_of(started);
    assert!(!trace.is_empty(), "no trace context: {started}");
    let rotation = text(started, "subject");
    let own: Vec<_> = events
        .iter()
        .filter(|e| text(e, "subject") == rotation)
        .collect();
    for event in &own {
        assert_eq!(trace_of(event), trace, "another trace: {event}");
    }
    let ended = own.last().context("a rotation without events")?;
    assert!(kind(ended).contains("rotation.closed"), "{ended}");
    let swapped = events
        .iter()
        .rev()
        .find(|e| kind(e).contains("assignment.swapped"));
    let swapped = swapped.context("nothing was swapped")?;
    assert_eq!(trace_of(swapped), trace, "{swapped}");
    Ok(())
}

/// Whether there are parts of a kind, and none has a problem.
fn is_well(status: &Value, kind: &str) -> bool {
    let parts = status.get("components").map(items).unwrap_or_default();
    let word =
        |part: &Value, member: &str| part.get(member).and_then(Value::as_str).map(str::to_owned);
    let mut states = parts
        .into_iter()
        .filter(|part| word(part, "kind").as_deref() == Some(kind))
        .map(|part| word(part, "state"))
        .peekable();
    states.peek().is_some() && states.all(|state| state.as_deref() != Some("problem"))
}

/// In one process or apart: every part of the deployment is heard, and well.
#[test]
fn status_shows_every_part() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let kinds = [
        "gateway",
        "scheduler",
        "store-sync",
        "audit-sink",
        "host",
        "store",
        "bus",
        "journal",
    ];
    let mut last = Value::Null;
    let heard = wait::until_true("every part", wait::PATIENCE, || {
        last = stage.keywheel.json(&["status"])?;
        Ok(kinds.iter().all(|kind| is_well(&last, kind)))
    });
    heard.with_context(|| format!("status said at last: {last}"))?;
    stage.keywheel.cli(&["status", "--check"])?.ok()?;
    planted::plant(&stage.keywheel, PLANTED)?;
    planted::assert_clean(&stage.keywheel, &[])
}

#[test]
fn a_schedule_with_seconds_fires() -> Result<()> {
    let keywheel = Keywheel::start()?;
    let rotation = "rotation: { schedule: \"*/2 * * * * *\", timezone: Europe/Berlin }";
    keywheel.apply(&manifest::secret("test/cron", &[rotation]))?;
    wait::until_true("two slots of the schedule", wait::PATIENCE, || {
        Ok(current(&keywheel, "test/cron")? >= 3)
    })?;
    let next = keywheel.json(&["schedule", "next", "test/cron", "--count", "3"])?;
    let fires = next["fires"].as_array().context("no fires")?;
    ensure!(fires.len() == 3, "{next}");
    for fire in fires {
        // By the clock of Berlin, one or two hours ahead.
        let local = fire["local"].as_str().unwrap_or_default();
        let ahead = local.ends_with("CET (+01:00)") || local.ends_with("CEST (+02:00)");
        ensure!(ahead && fire["cause"] == "schedule", "{next}");
    }
    planted::plant(&keywheel, "test/cron")?;
    planted::assert_clean(&keywheel, &[])
}

#[test]
fn a_stranger_is_denied_and_audited() -> Result<()> {
    let keywheel = Keywheel::start()?;
    planted::plant(&keywheel, PLANTED)?;
    let said = keywheel.hear(&mut keywheel.stranger(&["secret", "list"])?)?;
    assert_eq!(said.code, DENIED, "{}", said.said());
    let audit = Value::from(keywheel.stream("audit")?).to_string();
    assert!(
        audit.contains("denied") && audit.contains(NOBODY),
        "no record of the denial: {audit}"
    );
    planted::assert_clean(&keywheel, &[])
}

#[test]
fn stop_and_start_keeps_everything() -> Result<()> {
    let mut keywheel = Keywheel::start()?;
    keywheel.apply(&manifest::secret("test/kept", &[]))?;
    keywheel_tests::stage::wait_current(&keywheel, "test/kept", 1)?;
    planted::plant(&keywheel, PLANTED)?;
    let ended = keywheel.stop()?;
    assert!(ended.contains("exit status: 0"), "{ended}");
    assert!(
        !keywheel.socket().exists(),
        "the socket stays after a clean stop"
    );
    keywheel.up(&keywheel_tests::keywheel::Options::default())?;
    assert_eq!(current(&keywheel, "test/kept")?, 1);
    keywheel_tests::stage::rotate(&keywheel, "test/kept")?;
    assert_eq!(current(&keywheel, "test/kept")?, 2);
    planted::assert_clean(&keywheel, &[])
}
