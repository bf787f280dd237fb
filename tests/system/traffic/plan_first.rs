//! Who comes back asks for its plan before it asks or tells anything else, seen on the wire.

use std::fs;

use anyhow::{Context as _, Result};
use keywheel_tests::apart::Role;
use keywheel_tests::docker;
use keywheel_tests::keywheel::Options;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::{FILE, SECRET};
use keywheel_tests::tap::Tap;
use keywheel_tests::wait;

use crate::heard::all_at;
use crate::stage;

/// How a message says of what kind it is.
const KIND: &[u8] = b"dev.keywheel.bus.";
/// A host's message to a service has this in its subject.
const ASKS: &[u8] = b".ask.gateway.injector.";

#[test]
fn a_host_that_returns_hears_its_plan_first() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = stage()?;
    stage.apply_file("back", "none")?;
    let container = stage.run("back", &[], "/bin/app-idle")?;
    let value = stage.value_in(&container)?;
    stage.keywheel.apart()?.process(Role::Bus, 0)?.kill9()?;
    // A fact for the spool, then the injector is gone too; what it held is revoked meanwhile.
    container.restart()?.ok()?;
    assert_eq!(stage.value_in(&container)?, value);
    let injector = stage.keywheel.apart()?.process(Role::Injector, 0)?;
    injector.kill9()?;
    let words = ["revoke", SECRET, "--reason", "leaked", "--yes"];
    stage.keywheel.json(&words)?;
    let before = stage.keywheel.apart()?.tap()?.connections();
    stage.keywheel.apart()?.up(&Options::default())?;
    wait::until_true("the file to go", PATIENCE, || {
        Ok(container.read(FILE)?.is_none())
    })?;
    let tap = stage.keywheel.apart()?.tap()?;
    wait::until_true("what waited in the spool", PATIENCE, || {
        Ok(said_by_host(tap, before)?.contains(&"submit".to_owned()))
    })?;
    let said = said_by_host(tap, before)?;
    let mut asked = said.iter().filter(|kind| *kind != "renew");
    let first = asked.next().map(String::as_str);
    assert_eq!(first, Some("read-plan"), "{said:?}");
    assert!(!said.contains(&"open-value".to_owned()), "{said:?}");
    stage.finish(&[value], &[&container])
}

/// The kinds of all that the host said on connections from this one on, in order.
fn said_by_host(tap: &Tap, from: usize) -> Result<Vec<String>> {
    let mut kinds = Vec::new();
    for number in from..tap.connections() {
        // One that found no bus server has no file.
        let file = tap.folder().join(format!("{number}.up"));
        let bytes = fs::read(file).unwrap_or_default();
        if all_at(&bytes, ASKS).next().is_none() {
            continue;
        }
        for at in all_at(&bytes, KIND) {
            let word = bytes.get(at + KIND.len()..).unwrap_or_default();
            let end = word.iter().position(|byte| *byte == b'.');
            let word = word.get(..end.unwrap_or(0)).context("no word")?;
            kinds.push(String::from_utf8_lossy(word).into_owned());
        }
    }
    Ok(kinds)
}
