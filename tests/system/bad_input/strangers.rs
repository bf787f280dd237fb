//! A user who may nothing and asks all the time: on record in a few lines, and in nobody's way.

use std::thread;

use anyhow::{Context as _, Result};
use keywheel_tests::keywheel::{Keywheel, NOBODY, Options};
use serde_json::Value;

use crate::refusal::{assert_nothing_lost, keep_something};

/// Requests of the flood.
const FLOOD: usize = 60;
/// Of these at once.
const AT_ONCE: usize = 6;
/// Denials that get a record of their own (the gateway's `RECORDED_PER_UID`).
const SINGLE: usize = 10;
/// The exit code of a denied request.
const DENIED: i32 = 77;

fn flood(keywheel: &Keywheel) -> Result<()> {
    keywheel.hear(&mut keywheel.stranger(&["version"])?)?.ok()?;
    thread::scope(|scope| {
        let knockers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    for _ in 0..FLOOD / AT_ONCE {
                        let mut client = keywheel.stranger(&["secret", "list"])?;
                        let said = keywheel.hear(&mut client)?;
                        anyhow::ensure!(said.code == DENIED, "not denied: {}", said.said());
                    }
                    Ok(())
                })
            })
            .collect();
        keep_something(keywheel)?;
        for knocker in knockers {
            knocker.join().ok().context("a client panicked")??;
        }
        Ok(())
    })
}

/// The reasons of the stranger's denied requests, from the audit.
fn denials(keywheel: &Keywheel) -> Result<Vec<String>> {
    let records = keywheel.stream("audit")?;
    let of_stranger = records.iter().map(Value::to_string);
    Ok(of_stranger
        .filter(|record| record.contains("denied") && record.contains(NOBODY))
        .collect())
}

#[test]
fn a_flood_of_a_stranger_is_counted_and_hinders_nobody() -> Result<()> {
    let mut keywheel = Keywheel::start()?;
    flood(&keywheel)?;
    assert_eq!(denials(&keywheel)?.len(), SINGLE, "single records");
    keywheel.stop()?;
    keywheel.up(&Options::default())?;
    let records = denials(&keywheel)?;
    assert_eq!(records.len(), SINGLE + 1, "{records:#?}");
    let counted = records.last().context("no record")?;
    let rest = format!("{} more requests denied; first at ", FLOOD - SINGLE);
    assert!(
        counted.contains(&rest) && counted.contains("; last at "),
        "{counted}"
    );
    assert_nothing_lost(&keywheel)
}
