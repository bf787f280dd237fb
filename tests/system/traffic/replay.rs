//! What the tap heard, said again with the gateway's own credentials: rows 12, 18 and 19.
//!
//! Copies come without the id by which a bus server drops repeats, as if long after its window.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::Role;
use keywheel_tests::docker::Container;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::{self, FILE, SECRET, Stage};
use keywheel_tests::{metrics, wait};

use crate::heard::all_at;
use crate::thief::Thief;

/// How long nothing is told where all was: what follows a start does so within a second.
const QUIET: Duration = Duration::from_secs(3);
/// How often each message comes again.
const REPEATS: usize = 100;
/// How a client publishes with headers.
const PUBLISH: &[u8] = b"HPUB ";
const SIGNATURE: &str = "Keywheel-Signature: ";
/// One message of each of these topics, the first that was heard: from before the revocation. What is
/// asked of a service has its role in the subject, too, and is none of them.
const TOPICS: [&str; 4] = ["work.store-sync", "plan.", "events", "audit"];
/// Who reads them and forgot all ids; plans replace each other in their stream.
const READERS: [Role; 3] = [Role::StoreSync, Role::Scheduler, Role::AuditSink];

/// A message as it was published.
pub(crate) struct Captured {
    pub(crate) subject: String,
    pub(crate) signature: String,
    pub(crate) payload: Vec<u8>,
}

/// Every message is done with, and every value revoked, when this begins. Gives the newest value.
pub(crate) fn has_no_effect(stage: &mut Stage, container: &Container) -> Result<String> {
    let root = stage.keywheel.scratch().path().to_owned();
    let port = stage.keywheel.apart()?.bus_port(0).context("no bus")?;
    let captured = captured(stage.keywheel.apart()?.tap()?.folder())?;
    let thief = Thief::begin(&root.join("deployment/gateway"), port)?;
    let first = |topic: &&str| {
        let subject = format!("{}.{topic}", thief.root());
        let is_of = |one: &&Captured| match topic.ends_with('.') {
            true => one.subject.starts_with(&subject),
            false => one.subject == subject,
        };
        let found = captured.iter().find(is_of);
        found.with_context(|| format!("nothing was heard at {subject}"))
    };
    let chosen: Vec<&Captured> = TOPICS.iter().map(first).collect::<Result<_>>()?;
    for role in READERS.into_iter().chain([Role::Injector]) {
        let process = stage.keywheel.apart()?.process(role, 0)?;
        process.kill9()?;
        process.start()?;
    }
    stage.keywheel.apart()?.wait_store_sync()?;
    stage.keywheel.wait_plans()?;
    let before = settled(stage)?;
    thief.repeat(&chosen, REPEATS)?;
    wait::until("every reader's alarm", PATIENCE, || {
        all_refused(stage, 1).map(Some)
    })?;
    let after = stage.keywheel.stream("events")?.len();
    ensure!(before == after, "{before} events, then {after}");
    ensure!(container.read(FILE)?.is_none(), "a revoked value came back");

    // Others are not delayed: a rotation behind the same copies again.
    let version = stage::current(&stage.keywheel, SECRET).unwrap_or_default();
    thief.repeat(&chosen, REPEATS)?;
    stage.rotate(SECRET)?;
    let value = stage.value_soon_in(container)?;
    let made = stage::current(&stage.keywheel, SECRET)?;
    ensure!(made > version, "version {made} after {version}");
    wait::until("every reader's alarm again", PATIENCE, || {
        all_refused(stage, 2).map(Some)
    })?;
    Ok(value)
}

/// How many events there are, once those that started anew have said all that they had to say.
fn settled(stage: &Stage) -> Result<usize> {
    let count = || Ok::<_, anyhow::Error>(stage.keywheel.stream("events")?.len());
    wait::until("an end of the events", PATIENCE, || {
        let before = count()?;
        std::thread::sleep(QUIET);
        Ok((count()? == before).then_some(before))
    })
}

/// Every reader refused all copies of so many rounds, but the first one of all; else who did not.
fn all_refused(stage: &Stage, rounds: usize) -> Result<()> {
    let pages = metrics::pages(&stage.keywheel)?;
    let wanted = u32::try_from(rounds * REPEATS - 1)?;
    for role in READERS {
        let name = format!(
            "keywheel_bus_refused_messages_total{{service=\"{}\"}}",
            role.word()
        );
        let refused: f64 = metrics::numbers(&pages, &name).iter().sum();
        ensure!(
            refused >= f64::from(wanted),
            "{}: {refused} of {wanted}",
            role.word()
        );
    }
    Ok(())
}

/// What was published with a signature, connection by connection.
fn captured(folder: &Path) -> Result<Vec<Captured>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "up") {
            let bytes = std::fs::read(path)?;
            let found = all_at(&bytes, PUBLISH).filter_map(|at| message(bytes.get(at..)?));
            all.extend(found);
        }
    }
    Ok(all)
}

/// The message that begins here: a line, headers, payload.
fn message(bytes: &[u8]) -> Option<Captured> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, subject, .., headers, total] = words[..] else {
        return None;
    };
    let (headers, total) = (headers.parse().ok()?, total.parse().ok()?);
    let whole = bytes.get(end + 2..)?;
    let text = std::str::from_utf8(whole.get(..headers)?).ok()?;
    let signature = text.lines().find_map(|line| line.strip_prefix(SIGNATURE))?;
    Some(Captured {
        subject: subject.to_owned(),
        signature: signature.to_owned(),
        payload: whole.get(headers..total)?.to_vec(),
    })
}
