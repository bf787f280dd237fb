//! A user who may nothing and asks all the time: on record in a few lines, and in nobody's way.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::{Keywheel, NOBODY, Options};

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
                        ensure!(said.code == DENIED, "not denied: {}", said.said());
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

/// What the audit says of the stranger.
#[derive(Debug, Default)]
struct Denials {
    /// Requests with a record of their own.
    single: usize,
    /// Requests counted in each window that had some.
    counted: Vec<usize>,
}

/// The stranger's denied requests, from the audit.
fn denials(keywheel: &Keywheel) -> Result<Denials> {
    let mut denials = Denials::default();
    for record in keywheel.stream("audit")? {
        let text = record.to_string();
        if !text.contains("denied") || !text.contains(NOBODY) {
            continue;
        }
        let Some((before, after)) = text.split_once(" more requests denied; first at ") else {
            denials.single += 1;
            continue;
        };
        ensure!(after.contains("; last at "), "{text}");
        let digits = before
            .rsplit(|letter: char| !letter.is_ascii_digit())
            .next();
        denials.counted.push(digits.unwrap_or_default().parse()?);
    }
    Ok(denials)
}

#[test]
fn a_flood_of_a_stranger_is_counted_and_hinders_nobody() -> Result<()> {
    let mut keywheel = Keywheel::start()?;
    flood(&keywheel)?;
    let said = denials(&keywheel)?;
    assert!(said.single >= SINGLE, "{said:?}");
    keywheel.stop()?;
    keywheel.up(&Options::default())?;
    // A slow machine lets a window end meanwhile: then there are some more records, and none is lost.
    let said = denials(&keywheel)?;
    assert_eq!(said.single + said.counted.iter().sum::<usize>(), FLOOD);
    assert!(!said.counted.is_empty(), "{said:?}");
    assert!(said.single <= SINGLE * (said.counted.len() + 1), "{said:?}");
    assert_nothing_lost(&keywheel)
}
