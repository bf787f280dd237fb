//! What a good refusal looks like, and the proof that nothing was lost.

use anyhow::Result;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::manifest;
use keywheel_tests::output::Output;
use keywheel_tests::planted::{self, PLANTED};
use keywheel_tests::stage::{current, wait_current};

/// Wrong command line or configuration.
pub(crate) const USAGE: i32 = 64;
/// The input itself is wrong: manifest, name, value.
pub(crate) const BAD_INPUT: i32 = 65;
/// A named thing does not exist.
pub(crate) const NOT_FOUND: i32 = 3;
/// A file that was named is missing or unreadable.
pub(crate) const NO_INPUT: i32 = 66;
/// Something Keywheel needs does not answer, or the disk is full.
pub(crate) const UNAVAILABLE: i32 = 69;
/// A file or directory cannot be made or used.
pub(crate) const CANNOT_CREATE: i32 = 73;
/// Somebody else holds it now.
pub(crate) const BUSY: i32 = 75;
/// The configuration or a key does not fit what is there.
pub(crate) const CONFIG: i32 = 78;

/// How a refusal names the next step: ours, that of a wrong command line, and a command within what is told.
const NEXT_STEPS: [&str; 3] = ["\n  next: ", "--help", "`keywheel "];
/// The secret that must survive every test.
pub(crate) const KEPT: &str = "test/kept";

/// Asserts the code, that each word is there, that it is written for people, and that it ends with
/// what to do next.
pub(crate) fn assert_refused(said: &Output, code: i32, words: &[&str]) {
    let text = said.stderr.as_str();
    assert_eq!(said.code, code, "`{}` said: {}", said.line, said.said());
    for word in words {
        assert!(
            text.to_lowercase().contains(&word.to_lowercase()),
            "`{}` does not say `{word}`: {text}",
            said.line
        );
    }
    assert!(
        NEXT_STEPS.iter().any(|next| text.contains(next)),
        "`{}` tells no next step: {text}",
        said.line
    );
    for leak in ["panicked", "RUST_BACKTRACE", "Error {", "Some(", "Kind("] {
        assert!(
            !text.contains(leak),
            "`{}` shows its insides: {text}",
            said.line
        );
    }
    assert!(
        text.lines().count() <= 25,
        "`{}` is too long for a tired person: {text}",
        said.line
    );
}

/// A server that already holds something.
pub(crate) fn with_something() -> Result<Keywheel> {
    let keywheel = Keywheel::start()?;
    keep_something(&keywheel)?;
    Ok(keywheel)
}

/// Makes the secret that must survive, and one with a value to search for.
pub(crate) fn keep_something(keywheel: &Keywheel) -> Result<()> {
    keywheel.apply(&manifest::secret(KEPT, &[]))?;
    wait_current(keywheel, KEPT, 1)?;
    planted::plant(keywheel, PLANTED)?;
    Ok(())
}

/// What was there is there, whole, and still works; no place shows a value.
pub(crate) fn assert_nothing_lost(keywheel: &Keywheel) -> Result<()> {
    let before = current(keywheel, KEPT)?;
    assert!(before >= 1, "the secret from before is gone");
    keywheel.json(&["journal", "verify"])?;
    keywheel_tests::stage::rotate(keywheel, KEPT)?;
    assert_eq!(current(keywheel, KEPT)?, before + 1);
    assert_eq!(current(keywheel, PLANTED)?, 1, "the planted value is gone");
    planted::assert_clean(keywheel, &[])
}
