//! A host whose packets are dropped: what it does alone, that it says so, and its return.

use std::time::Duration;

use anyhow::{Context as _, Result};
use keywheel_tests::apart::Role;
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::FILE;
use keywheel_tests::wait;
use serde_json::Value;

use super::{CUT, FAR, LATE, revoke, served_after_restart, value, wait_current_plan};

/// When a host says that nobody answers it, and how long a busy machine may take beyond it.
const ALARM: Duration = Duration::from_secs(120).saturating_add(PATIENCE);
const SILENCE: &str = "has not answered this host for more than";

/// The verb of a start that was served while the gateway did not answer.
const ALONE: &str = "serve-from-cache";

/// Characters of a time up to its second.
const SECOND: usize = "2000-01-01T00:00:00".len();

/// What was true while the host was away.
#[derive(Debug)]
pub(crate) struct Away {
    before: String,
    records: usize,
    /// When the start of [`alone`] was asked for.
    alone: String,
}

/// Directly after the cut.
pub(crate) fn begin(fleet: &Fleet, [far, dead, late]: [&Container; 3]) -> Result<Away> {
    let before = value(far)?;
    let records = records(fleet, far)?.len();
    let served = served_after_restart(far)?;
    assert_eq!(served.as_ref(), Some(&before), "not from the host cache");
    assert_eq!(
        served_after_restart(dead)?,
        None,
        "a dead version was served"
    );
    assert!(
        late.read(FILE)?.is_some(),
        "a running container lost its file"
    );
    fleet.keywheel.json(&["rotate", FAR])?;
    revoke(fleet, LATE, &[])?;
    Ok(Away {
        before,
        records,
        alone: String::new(),
    })
}

/// Once the host has said that it is on its own: a start that nobody but the host itself can serve.
pub(crate) fn alone(away: &mut Away, far: &Container) -> Result<()> {
    let served = served_after_restart(far)?;
    assert_eq!(served.as_ref(), Some(&away.before), "after the alarm");
    (away.alone, _) = far.downtime()?;
    Ok(())
}

/// Waits until a host says that it is on its own.
pub(crate) fn wait_alarm(fleet: &mut Fleet, host: usize) -> Result<()> {
    wait::until_true("the alarm of silence", ALARM, || is_alarmed(fleet, host))
}

/// Whether a host ever said so.
pub(crate) fn is_alarmed(fleet: &mut Fleet, host: usize) -> Result<bool> {
    let injector = fleet.process(Role::Injector, host)?;
    Ok(injector.log().contains(SILENCE))
}

/// The host is back: waits until all is as it should be, and gives the new value.
pub(crate) fn end(
    fleet: &Fleet,
    away: &Away,
    [far, dead, late]: [&Container; 3],
) -> Result<String> {
    wait::until_true("what was revoked meanwhile to go", PATIENCE, || {
        Ok(late.read(FILE)?.is_none())
    })?;
    assert_eq!(
        served_after_restart(late)?,
        None,
        "it was served after the return"
    );
    wait::until_true("the new value", PATIENCE, || Ok(value(far)? != away.before))?;
    wait_current_plan(fleet, CUT)?;
    // A restart in the moment of the swap is not what is looked at here.
    wait::until_true("the swap to be on record", PATIENCE, || {
        let found = records(fleet, far)?;
        Ok(found
            .iter()
            .any(|record| used(record) == ("replace", Some(2))))
    })?;
    let after = value(far)?;
    assert_eq!(served_after_restart(far)?.as_ref(), Some(&after));
    assert_eq!(served_after_restart(dead)?, None);
    assert_eq!(late.read(FILE)?, None);
    wait::until_true("rotation and revocations to close", PATIENCE, || {
        let events = fleet.keywheel.stream("events")?;
        let count = |what: &str| {
            events
                .iter()
                .filter(|e| e.to_string().contains(what))
                .count()
        };
        Ok(count("rotation.closed") >= 2 && count("revocation.closed") >= 2)
    })?;
    once_each(fleet, far, away.records)?;
    is_alone_on_record(fleet, far, &away.alone)?;
    Ok(after)
}

/// Audit records that name a container, but for the test's own looks into it by execs, and whether a start
/// right after the cut is on record as served alone: that depends on what was asked of the gateway by then. Of a
/// later one it does not: [`is_alone_on_record`].
fn records(fleet: &Fleet, container: &Container) -> Result<Vec<Value>> {
    let audit = fleet.keywheel.stream("audit")?;
    let names = |record: &Value| record.to_string().contains(container.id());
    let is_other = |record: &Value| !["exec", ALONE].contains(&used(record).0);
    let of_it = audit.into_iter().filter(names);
    Ok(of_it.filter(is_other).collect())
}

/// What happened to a container while its host was away, and what since: each once.
const FAR_USE: [(&str, u64); 7] = [
    ("vanish", 1),
    ("inject", 1),
    ("vanish", 1),
    ("inject", 1),
    ("replace", 2),
    ("vanish", 2),
    ("inject", 2),
];

fn once_each(fleet: &Fleet, far: &Container, before: usize) -> Result<()> {
    let all_there = wait::until_true("what waited in the spool", PATIENCE, || {
        Ok(records(fleet, far)?.len() >= before + FAR_USE.len())
    });
    let found = records(fleet, far)?;
    all_there.with_context(|| format!("after {before} there are {found:?}"))?;
    let used: Vec<_> = found.iter().skip(before).map(used).collect();
    assert_eq!(used, FAR_USE.map(|(verb, version)| (verb, Some(version))));
    Ok(())
}

/// A start long after the cut is on record as served alone, once, beside its `inject`, with container, image and binding.
fn is_alone_on_record(fleet: &Fleet, far: &Container, since: &str) -> Result<()> {
    let since = since.get(..SECOND).context("no time of the start")?;
    let image = far.field("{{.Image}}")?;
    let reasons = || -> Result<Vec<String>> {
        let audit = fleet.keywheel.stream("audit")?;
        let is_one = |row: &&Value| {
            let said = |at: &str| row.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let is_its = said("/container/id") == far.id()
                && said("/container/image_digest") == image
                && said("/reason").starts_with("binding/");
            is_its && used(row) == (ALONE, Some(1))
        };
        let reasons = audit.iter().filter(is_one);
        let reasons = reasons.filter_map(|row| row.get("reason")?.as_str());
        Ok(reasons.map(str::to_owned).collect())
    };
    // Its words end with the second; the one right after the cut was minutes before.
    let is_later = |reason: &&String| {
        let at = reason
            .rsplit_once(" at ")
            .and_then(|(_, at)| at.get(..SECOND));
        at.is_some_and(|at| at >= since)
    };
    wait::until_true("the start alone on record", PATIENCE, || {
        Ok(reasons()?.iter().any(|reason| is_later(&reason)))
    })?;
    let found = reasons()?;
    let later = found.iter().filter(is_later).count();
    assert_eq!(later, 1, "since {since}: {found:?}");
    Ok(())
}

fn used(record: &Value) -> (&str, Option<u64>) {
    let verb = record.get("verb").and_then(Value::as_str);
    let version = record.get("version").and_then(Value::as_u64);
    (verb.unwrap_or_default(), version)
}
