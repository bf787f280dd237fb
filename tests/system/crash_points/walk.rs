//! What every scenario of this suite does: arm a failpoint, see the process die of it, start it
//! again plainly, and count deliveries.
//!
//! Owns the table of which scenario reaches which failpoint. Invariant: a registered failpoint that
//! no list names belongs to the rotation, which fails when it is not reached.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_tests::docker::Container;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::stage::{Stage, current, find, items};
use keywheel_tests::wait;
use serde_json::Value;

/// Reached where a container is restarted for its variable.
pub(crate) const RESTART: [&str; 2] = ["injector.before_restart", "injector.after_restart"];
/// Reached where a container is stopped for its variable.
pub(crate) const STOP: [&str; 2] = ["injector.before_stop", "injector.after_stop"];
/// Reached where a file is taken back.
pub(crate) const WITHDRAW: [&str; 2] = ["injector.before_withdraw", "injector.after_withdraw"];
/// Reached where a container is removed. Its file system goes with it, by the kernel.
pub(crate) const FORGET: [&str; 2] = ["injector.before_forget", "injector.after_forget"];
/// Reached where a container is created under the runtime.
pub(crate) const CREATE: [&str; 5] = [
    "injector.after_resolve",
    "injector.before_attach",
    "injector.after_state_write",
    "injector.after_attach",
    "injector.after_attach_answer",
];
/// Reached where a container that runs already gets its first file.
pub(crate) const ATTACH: [&str; 3] = [
    "injector.before_swap",
    "injector.after_state_write",
    "injector.after_swap",
];
/// Reached where a file is revoked: by the append, at the store, on the host, and on the way back.
pub(crate) const REVOKE: [&str; 11] = [
    "gateway.before_commit",
    "gateway.after_commit",
    "gateway.after_publish",
    "storesync.before_destroy",
    "storesync.after_destroy",
    "injector.before_withdraw",
    "injector.after_withdraw",
    "injector.before_spool",
    "injector.before_report",
    "injector.after_report",
    "injector.after_unspool",
];
/// Reached by every start: the host enrols anew.
pub(crate) const START: [&str; 3] = [
    "gateway.before_commit",
    "gateway.after_commit",
    "gateway.after_publish",
];
/// Reached where a playbook runs: before and after each of its moves.
pub(crate) const MOVE: [&str; 2] = ["gateway.before_move", "gateway.after_move"];
/// Reached where a request does something outside the log: before it is done, and when it is.
pub(crate) const DEED: [&str; 2] = ["gateway.before_deed", "gateway.after_deed"];
/// Reached where the key that wraps data keys is replaced: before and after each of its steps.
pub(crate) const REKEY: [&str; 2] = ["storesync.before_rekey", "storesync.after_rekey"];
/// How the names of the rotators' failpoints begin: reached where accounts at servers rotate.
pub(crate) const ROTATORS: &str = "rotator.";
/// How those begin that no scenario here reaches: of receivers and of stores outside. Their own crates' suites
/// kill a program at each of them (`services/rotators/tests/webhook`, `services/stores/tests`).
const ELSEWHERE: [&str; 2] = ["rotator.webhook.", "store."];
/// Hits of one failpoint that are tried: more than anything here has. A walk that does not end by
/// itself before has left the rest untried, and fails.
pub(crate) const MOST_HITS: u32 = 40;
/// What has not died by then did not reach the failpoint, and is not done either.
pub(crate) const SETTLED: Duration = wait::PATIENCE;
/// How long a process may take to die of what a test asked of it.
const DEATH: Duration = wait::PATIENCE;

/// Every registered failpoint.
pub(crate) fn registered() -> Result<Vec<String>> {
    let keywheel = Keywheel::prepare()?;
    let said = keywheel.cli(&["internal", "failpoints"])?.ok()?;
    let names: Vec<String> = said.stdout.split_whitespace().map(str::to_owned).collect();
    for name in elsewhere().chain(ATTACH).chain(REVOKE).chain(START) {
        ensure!(
            names.iter().any(|known| known == name),
            "{name} is no failpoint any more: {names:?}"
        );
    }
    Ok(names)
}

/// Whether another suite kills there.
pub(crate) fn is_elsewhere(name: &str) -> bool {
    ELSEWHERE.iter().any(|begin| name.starts_with(begin))
}

fn elsewhere() -> impl Iterator<Item = &'static str> {
    let lists: [&[&'static str]; 8] = [
        &RESTART, &STOP, &WITHDRAW, &FORGET, &CREATE, &MOVE, &REKEY, &DEED,
    ];
    lists.into_iter().flatten().copied()
}

/// The failpoints that a rotation of a file reaches: all but those that are named above.
pub(crate) fn of_rotation() -> Result<Vec<String>> {
    let mut names = registered()?;
    names.retain(|name| !name.starts_with(ROTATORS) && !is_elsewhere(name));
    names.retain(|name| !elsewhere().any(|other| other == name));
    Ok(names)
}

/// The file that makes hits count.
fn gate(keywheel: &Keywheel) -> PathBuf {
    keywheel.scratch().join("hits-count")
}

/// Starts a server anew that dies at the failpoint's hit of this number after [`count_hits`], and is a
/// plain one until then: what the start reaches, or what it finishes of the life before, is not counted.
pub(crate) fn start_armed(keywheel: &mut Keywheel, name: &str, hit: u32) -> Result<()> {
    keywheel.kill9()?;
    let file = gate(keywheel);
    count_no_more(&file)?;
    let failpoints = format!("{name}=kill@{hit};when={}", file.display());
    keywheel.up(&Options {
        failpoints: Some(failpoints),
        ..Options::default()
    })
}

/// From now on hits count.
pub(crate) fn count_hits(keywheel: &Keywheel) -> Result<()> {
    Ok(fs::write(gate(keywheel), "")?)
}

/// Hits count no more.
pub(crate) fn count_no_more(gate: &Path) -> Result<()> {
    match fs::remove_file(gate) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits until the process died, or until what was asked of it is done; true when it died. Then it
/// runs again, armed for the hit after. The first hit is waited for whatever is done, because some
/// failpoints come after the end of what is asked.
pub(crate) fn died(
    keywheel: &mut Keywheel,
    (name, hit): (&str, u32),
    is_done: impl Fn(&Keywheel) -> Result<bool>,
) -> Result<bool> {
    let died = wait::until("death or the end of it", SETTLED, || {
        if keywheel.exited()?.is_some() {
            return Ok(Some(true));
        }
        if hit == 1 || !is_done(keywheel)? {
            return Ok(None);
        }
        // What comes after the end may still reach it: from here on it does not, and one more look
        // gives a death time that had begun before.
        count_no_more(&gate(keywheel))?;
        let _ = is_done(keywheel);
        Ok(Some(keywheel.exited()?.is_some()))
    })?;
    if died {
        start_armed(keywheel, name, hit + 1)?;
    }
    Ok(died)
}

/// Walks a failpoint hit by hit, `kill` being one try that says whether the process died; returns
/// how many hits there were, and fails when there was none or no end.
pub(crate) fn walk(name: &str, mut kill: impl FnMut(u32) -> Result<bool>) -> Result<u32> {
    for hit in 1..=MOST_HITS {
        if !kill(hit).with_context(|| format!("{name}@{hit}"))? {
            eprintln!("{name}: reached {} times", hit - 1);
            return Ok(hit - 1);
        }
    }
    bail!("{name} was reached {MOST_HITS} times: what comes after is not tried");
}

/// Options that kill at the failpoint's hit of this number, counted from the start.
pub(crate) fn armed(name: &str, hit: u32) -> Options {
    Options {
        failpoints: Some(format!("{name}=kill@{hit}")),
        ..Options::default()
    }
}

/// Lives through one death: armed before, plain after. `act` leads to it.
pub(crate) fn die_of<T>(
    stage: &mut Stage,
    name: &str,
    act: impl FnOnce(&Stage) -> Result<T>,
) -> Result<T> {
    stage.keywheel.kill9()?;
    stage.keywheel.up(&armed(name, 1))?;
    let acted = act(stage).with_context(|| format!("under {name}"))?;
    let status = stage
        .keywheel
        .wait_exit(DEATH)
        .with_context(|| format!("nothing reached {name}: it proves nothing"))?;
    ensure!(status.contains('9'), "{name}: ended otherwise: {status}");
    stage
        .keywheel
        .up(&Options::default())
        .with_context(|| format!("restart after {name}"))?;
    Ok(acted)
}

/// A version, and the binding under which it came.
type Delivery = (u64, String);

/// How often each version was reported to have come to the container.
fn deliveries(stage: &Stage, container: &str, kind: &str) -> Result<BTreeMap<Delivery, u32>> {
    let said = Value::from(stage.keywheel.stream("events")?);
    let mut counted = BTreeMap::new();
    for event in items(&said) {
        let text = event.to_string();
        if text.contains(kind) && text.contains(container) {
            let version = find(event, "version").and_then(Value::as_u64);
            let version = version.context("a delivery without a version")?;
            let binding = find(event, "binding").context("a delivery without a binding")?;
            *counted.entry((version, binding.to_string())).or_insert(0) += 1;
        }
    }
    Ok(counted)
}

/// The secret's current version came to the container, and every one that came did so once.
pub(crate) fn check_deliveries(
    stage: &Stage,
    container: &Container,
    secret: &str,
    kind: &str,
) -> Result<()> {
    let now = current(&stage.keywheel, secret)?;
    let counted = wait::until(&format!("version {now}"), DEATH, || {
        let counted = deliveries(stage, container.id(), kind)?;
        Ok(last(&counted)
            .is_some_and(|last| last >= now)
            .then_some(counted))
    })?;
    ensure!(
        last(&counted) == Some(now),
        "version {now} is not the last: {counted:?}"
    );
    for ((version, _), times) in &counted {
        ensure!(*times == 1, "version {version} was delivered {times} times");
    }
    Ok(())
}

fn last(counted: &BTreeMap<Delivery, u32>) -> Option<u64> {
    counted.keys().next_back().map(|(version, _)| *version)
}

/// How many events of a kind speak of the container.
pub(crate) fn count(stage: &Stage, kind: &str, container: &Container) -> Result<usize> {
    let said = Value::from(stage.keywheel.stream("events")?);
    let speaks = |event: &&Value| {
        let text = event.to_string();
        text.contains(kind) && text.contains(container.id())
    };
    Ok(items(&said).into_iter().filter(speaks).count())
}
