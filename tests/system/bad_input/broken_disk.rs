//! A disk that breaks under the journal: nothing is acknowledged any more, the process ends, and the
//! next start finds all that was acknowledged.

use anyhow::Result;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::PATIENCE;

use crate::full_disk::SmallDisk;
use crate::refusal::{KEPT, assert_nothing_lost, keep_something};

#[test]
fn a_failed_write_ends_the_process_and_the_next_start_has_everything() -> Result<()> {
    let disk = SmallDisk::make()?;
    let options = disk.options();
    let mut keywheel = Keywheel::prepare()?;
    keywheel.up(&options)?;
    keep_something(&keywheel)?;
    disk.break_down()?;
    let said = keywheel.cli(&["rotate", KEPT])?;
    assert_ne!(
        said.code,
        0,
        "acknowledged on a broken disk: {}",
        said.said()
    );
    let ended = keywheel.wait_exit(PATIENCE)?;
    assert!(
        ended.contains("exit status: ") && ended != "exit status: 0",
        "it ended with {ended}"
    );
    let log = keywheel.log();
    let last = log.lines().rev().take(10).collect::<Vec<_>>().join("\n");
    for words in ["journal", "next: "] {
        assert!(
            last.contains(words),
            "the log does not end with `{words}`: {last}"
        );
    }
    disk.mend()?;
    keywheel.up(&options)?;
    assert_nothing_lost(&keywheel)?;
    keywheel.kill9()
}
