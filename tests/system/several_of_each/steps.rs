//! What is asked of the deployment between kills, and what is true afterwards.

use std::collections::BTreeSet;
use std::fs::File;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use keywheel_tests::manifest;
use keywheel_tests::output::Output;
use keywheel_tests::stage::{find, items};
use keywheel_tests::wait;
use serde_json::Value;

use crate::deployment::{Deployment, PATIENCE};

/// Names that both gateways are asked to register at once.
const NAMES: usize = 30;
/// Secrets whose first steps are interrupted.
const LATE: usize = 10;
/// Provided values of one round.
const PROVIDED: usize = 4;
/// The secret with a schedule.
const CRON: &str = "test/cron";
/// How long a gateway sleeps; longer than its turn to tell lasts.
const SLEEP: Duration = Duration::from_secs(8);
/// Commands that come while a gateway sleeps, to each of them.
const LOAD: usize = 8;
/// A limit that no test reaches.
const ALL: &str = "1000000";

/// The number of the last event, as a gateway knows it.
pub(crate) fn head(all: &Deployment, gateway: usize) -> Result<u64> {
    let status = all.json(gateway, &["status"])?;
    let events = find(&status, "events").and_then(Value::as_u64);
    events.context("status names no events")
}

/// Both gateways know the same.
pub(crate) fn same_head(all: &Deployment) -> Result<()> {
    wait::until_true("both gateways at one head", PATIENCE, || {
        Ok(names(all, 0)? == names(all, 1)? && head(all, 0)? == head(all, 1)?)
    })
}

/// Nothing is under way any more.
pub(crate) fn wait_quiet(all: &Deployment) -> Result<()> {
    const ENDED: [&str; 4] = ["completed", "rolled_back", "parked", "cancelled"];
    let has_ended = |row: &&Value| {
        let state = row.get("state").and_then(Value::as_str);
        state.is_some_and(|state| ENDED.contains(&state))
    };
    wait::until_true("no rotation to be open", PATIENCE, || {
        let said = all.json(1, &["get", "rotations"])?;
        Ok(items(&said).iter().all(has_ended))
    })
}

fn secrets(all: &Deployment, gateway: usize) -> Result<Vec<(String, u64)>> {
    let said = all.json(gateway, &["secret", "list"])?;
    let row = |row: &&Value| {
        let current = row.get("current").and_then(Value::as_u64).unwrap_or(0);
        Some((row.get("name")?.as_str()?.to_owned(), current))
    };
    Ok(items(&said).iter().filter_map(row).collect())
}

fn names(all: &Deployment, gateway: usize) -> Result<BTreeSet<String>> {
    let secrets = secrets(all, gateway)?;
    Ok(secrets.into_iter().map(|(name, _)| name).collect())
}

/// Waits until a gateway knows of a version that is current.
pub(crate) fn wait_version(
    all: &Deployment,
    gateway: usize,
    secret: &str,
    version: u64,
) -> Result<()> {
    let what = format!("{secret} at version {version}");
    wait::until_true(&what, PATIENCE, || {
        let known = secrets(all, gateway)?;
        Ok(known.contains(&(secret.to_owned(), version)))
    })
}

/// The exit code that says to try again.
const UNAVAILABLE: i32 = 69;

/// Puts values through one gateway and the other; gives them.
pub(crate) fn provided_values(all: &Deployment, round: u32) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for number in 0..PROVIDED {
        let name = format!("put/{number}");
        let place = all.keywheel.scratch().path().display();
        let value = format!("provided-{round}-{number}-of-{place}");
        let path = all.keywheel.scratch().write("provided", &value)?;
        let words = ["secret", "put", &name, "--value-file", "-", "--wait"];
        // One that just went to sleep may have the question; then the answer says to repeat it.
        let said = wait::until("a store-sync to take a value", PATIENCE, || {
            let mut put = all.client(number % 2, &words)?;
            let said = all.keywheel.hear(put.stdin(File::open(&path)?))?;
            Ok((said.code != UNAVAILABLE).then_some(said))
        });
        std::fs::remove_file(&path)?;
        said?.ok()?;
        values.push(value);
    }
    Ok(values)
}

fn plain(name: &str) -> String {
    manifest::secret(name, &[])
}

/// Asks both gateways at once for the same names; each name is registered once.
pub(crate) fn many_commands_at_once(all: &Deployment) -> Result<()> {
    let answers: Result<Vec<Output>> = thread::scope(|scope| {
        let ask = |number: usize| {
            let name = format!("race/{}", number / 2);
            scope.spawn(move || all.apply(number % 2, &plain(&name)))
        };
        let asked: Vec<_> = (0..2 * NAMES).map(ask).collect();
        let answer = |asked: thread::ScopedJoinHandle<'_, Result<Output>>| {
            asked.join().map_err(|_| anyhow!("a client panicked"))?
        };
        asked.into_iter().map(answer).collect()
    });
    for answer in answers? {
        answer.ok()?;
    }
    let wanted: BTreeSet<String> = (0..NAMES).map(|n| format!("race/{n}")).collect();
    wait::until_true("a version of every name", PATIENCE, || {
        let known = secrets(all, 0)?;
        let made = known
            .iter()
            .filter(|(name, current)| wanted.contains(name) && *current == 1);
        Ok(made.count() == NAMES)
    })?;
    registered_once(all)
}

/// No name was given out twice.
fn registered_once(all: &Deployment) -> Result<()> {
    let mut seen = BTreeSet::new();
    for event in events(all)? {
        if kind(&event) != "dev.keywheel.secret.registered.v1" {
            continue;
        }
        let name = find(&event, "name").and_then(Value::as_str);
        let name = name.context("no name")?.to_owned();
        ensure!(seen.insert(name.clone()), "{name} was registered twice");
    }
    Ok(())
}

fn events(all: &Deployment) -> Result<Vec<Value>> {
    let said = all.json(1, &["events", "list", "--after", "0", "--limit", ALL])?;
    Ok(items(&said).into_iter().cloned().collect())
}

fn kind(event: &Value) -> &str {
    let kind = event.get("type").and_then(Value::as_str);
    kind.unwrap_or_default()
}

/// Gives the secret its schedule, or takes it.
pub(crate) fn schedule(all: &Deployment, line: Option<&str>) -> Result<()> {
    let rotation = line.map(|line| format!("rotation: {{ schedule: \"{line}\", timezone: UTC }}"));
    let more: Vec<&str> = rotation.iter().map(String::as_str).collect();
    all.apply(1, &manifest::secret(CRON, &more))?.ok().map(drop)
}

/// Every slot led to one rotation, and there were some.
pub(crate) fn slots_fired_once(all: &Deployment) -> Result<()> {
    wait::until_true("three slots", PATIENCE, || Ok(slots(all)?.len() >= 3))?;
    let slots = slots(all)?;
    let distinct: BTreeSet<&String> = slots.iter().collect();
    ensure!(
        distinct.len() == slots.len(),
        "a slot fired twice: {slots:?}"
    );
    Ok(())
}

fn slots(all: &Deployment) -> Result<Vec<String>> {
    let slot = |event: &Value| {
        let trigger = find(event, "trigger")?;
        Some(trigger.get("slot")?.as_str()?.to_owned())
    };
    Ok(events(all)?.iter().filter_map(slot).collect())
}

/// Secrets whose first versions are made by whoever gets their steps.
pub(crate) fn late_secrets(all: &Deployment) -> Result<()> {
    let manifests: String = (0..LATE).map(|n| plain(&format!("late/{n}"))).collect();
    all.apply(1, &manifests)?.ok().map(drop)
}

/// All of them were finished by whoever was left.
pub(crate) fn late_secrets_have_a_version(all: &Deployment) -> Result<()> {
    (0..LATE).try_for_each(|n| wait_version(all, 1, &format!("late/{n}"), 1))
}

/// The first gateway is stopped under load: what it was asked before is decided once, what the other
/// one is asked meanwhile is done, and afterwards both know the same.
pub(crate) fn gateway_sleeps(all: &Deployment) -> Result<()> {
    let shared = all;
    let put = |gateway: usize, number: usize| {
        let name = format!("load/{gateway}/{number}");
        let said = shared.cli(gateway, &["secret", "put", &name])?;
        Ok::<_, anyhow::Error>((said.code == 0).then_some(name))
    };
    let acknowledged: Result<Vec<Option<String>>> = thread::scope(|scope| {
        let asked = (0..2 * LOAD).map(|n| scope.spawn(move || put(n % 2, n / 2)));
        let asked: Vec<_> = asked.collect();
        shared.signal_gateway("-STOP")?;
        let meanwhile = put(1, LOAD)?;
        ensure!(meanwhile.is_some(), "the other gateway does not answer");
        thread::sleep(SLEEP);
        shared.signal_gateway("-CONT")?;
        let join = |asked: thread::ScopedJoinHandle<'_, Result<Option<String>>>| {
            asked.join().map_err(|_| anyhow!("a client panicked"))?
        };
        asked.into_iter().map(join).collect()
    });
    let acknowledged: Vec<String> = acknowledged?.into_iter().flatten().collect();
    ensure!(acknowledged.len() >= LOAD, "{acknowledged:?}");
    same_head(all)?;
    let known = names(all, 0)?;
    let lost: Vec<&String> = acknowledged
        .iter()
        .filter(|name| !known.contains(*name))
        .collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    registered_once(all)
}
