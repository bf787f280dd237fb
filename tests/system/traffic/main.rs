//! Suite traffic: see README.md beside this file.
#![forbid(unsafe_code)]

mod heard;
mod plan_first;
mod replay;
mod thief;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::canary::Canary;
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage};
use keywheel_tests::{docker, planted, wait};

use self::thief::Thief;

/// Gateway, store-sync, scheduler, audit sink, injector.
const PROCESSES: usize = 5;

fn stage() -> Result<Stage> {
    Stage::set_with(&Options {
        shape: Some(Shape {
            tap: true,
            ..Shape::default()
        }),
        ..Options::default()
    })
}

#[test]
fn values_pass_the_bus_as_ciphertext_only_and_no_file_of_it_has_an_envelope() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = stage()?;
    let port = stage.keywheel.apart()?.bus_port(0).context("no bus")?;
    let identity = stage.keywheel.apart()?.host_identity(0);
    let injector = Thief::begin(&identity, port)?;
    injector.listen()?;
    stage.apply_file("heard", "{ signal: HUP }")?;
    let container = stage.run("heard", &[], "/bin/app-idle")?;
    let first = stage.value_in(&container)?;
    stage.rotate(SECRET)?;
    let second = stage.value_in(&container)?;
    let put = planted::plant(&stage.keywheel, SECRET)?;
    wait::until_true("the value that was put", PATIENCE, || {
        Ok(stage.value_in(&container)? == put)
    })?;
    let words = ["revoke", SECRET, "--reason", "leaked", "--yes", "--wait"];
    stage.keywheel.json(&words)?;
    assert_eq!(container.read(FILE)?, None);
    let values = vec![first, second, put];
    let bytes = values.iter().map(|value| value.as_bytes().to_vec());
    let plain = Canary::new(&bytes.collect::<Vec<_>>())?;

    let root = stage.keywheel.scratch().path().to_owned();
    let tap = stage.keywheel.apart()?.tap()?;
    assert!(tap.connections() >= PROCESSES, "{}", tap.connections());
    assert_eq!(plain.search_tree(tap.folder())?, [], "rule C6");
    let sealed = heard::envelopes(tap.folder())?;
    // Three versions to the host, and the one that was put on its way to store-sync.
    assert!(sealed.len() > values.len(), "{} envelopes", sealed.len());
    streams_hold_none(&root.join("nats"), &plain, &Canary::new(&sealed)?)?;

    stolen_from_the_host(&injector, &sealed, &plain)?;
    for (role, word) in [(Role::AuditSink, SECRET), (Role::Scheduler, "promoted")] {
        let identity = root.join("deployment").join(role.word());
        stolen_from_a_reader(&identity, port, word, &plain)?;
    }
    let forged = stage.keywheel.stream("events")?;
    assert!(
        !forged
            .iter()
            .any(|event| event.to_string().contains(thief::FORGED))
    );
    let newest = replay::has_no_effect(&mut stage, &container)?;
    stage.finish(&[values, vec![newest]].concat(), &[&container])
}

/// The streams' files have events, and neither a value nor an envelope.
fn streams_hold_none(store: &Path, plain: &Canary, sealed: &Canary) -> Result<()> {
    let known = Canary::new(&[b"dev.keywheel.secret.version_promoted".to_vec()])?;
    assert!(!known.search_tree(store)?.is_empty(), "the search is blind");
    assert_eq!(plain.search_tree(store)?, [], "rule K7");
    assert_eq!(sealed.search_tree(store)?, [], "rule K7");
    Ok(())
}

/// With a host's credentials one hears what is sealed to it, and speaks for nobody.
fn stolen_from_the_host(thief: &Thief, sealed: &[Vec<u8>], plain: &Canary) -> Result<()> {
    let heard = thief.heard();
    assert!(!Canary::new(sealed)?.search("heard", &heard).is_empty());
    assert_eq!(plain.search("a thief", &heard), [], "row 71");
    thief.is_refused()
}

/// With a reader's credentials one reads its stream, which has metadata.
fn stolen_from_a_reader(identity: &Path, port: u16, word: &str, plain: &Canary) -> Result<()> {
    let thief = Thief::begin(identity, port)?;
    let read = thief.read_stream()?;
    assert!(String::from_utf8_lossy(&read).contains(word), "no {word}");
    assert_eq!(plain.search("a thief", &read), [], "row 71");
    let key = fs::read(identity.join("identity.json"))?;
    assert!(!read.windows(key.len()).any(|part| part == key));
    thief.is_refused()
}
