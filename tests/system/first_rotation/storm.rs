//! A million reads of one file, by a program in the container, while its secret rotates without a pause.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, docker};
use keywheel_tests::output::Output;
use keywheel_tests::scratch::root;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage};
use keywheel_tests::wait;

/// Reads that the storm lasts for, at least …
const READS: &str = "1000000";
/// … and rotations.
const LEAST_ROTATIONS: u64 = 20;
/// More than fit into the time that a million reads take anywhere.
const MOST_ROTATIONS: u64 = 1000;
/// Length of a generated value in these tests.
const LENGTH: &str = "32";
/// Where the program is in the container, and what ends it.
const PROGRAM: &str = "/bin/hammer";
const END: &str = "/tmp/end";

/// The number behind `name=` in the program's last line.
fn count(line: &str, name: &str) -> Result<u64> {
    let mut words = line.split_whitespace();
    let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(found
        .with_context(|| format!("no {name} in {line}"))?
        .parse()?)
}

#[expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]
#[test]
fn of_a_million_reads_under_a_storm_of_rotations_none_is_torn_empty_or_mixed() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let program = stage.keywheel.scratch().join("hammer");
    let mut build = Command::new("rustc");
    build.args([
        "--edition",
        "2024",
        "-O",
        "-C",
        "target-feature=+crt-static",
        "-o",
    ]);
    build
        .arg(&program)
        .arg(root().join("tests/programs/hammer.rs"));
    Output::of(&mut build)?.ok()?;
    stage.apply_file("storm", "none")?;
    let mount = format!("{}:{PROGRAM}:ro", program.display());
    let flags = [
        "--runtime",
        &stage.runtime,
        "--label",
        "app=storm",
        "-v",
        &mount,
    ];
    let words = [PROGRAM, FILE, LENGTH, READS, END];
    let container = docker::Container::run(&stage.image, &flags, &words)?;
    let mut values = vec![stage.value_in(&container)?];
    let mut rotations = 0;
    while rotations < LEAST_ROTATIONS || !container.logs()?.contains("many") {
        ensure!(rotations < MOST_ROTATIONS, "it reads too slowly");
        stage.rotate(SECRET)?;
        rotations += 1;
    }
    values.push(stage.value_in(&container)?);
    container.exec(&["touch", END])?.ok()?;
    wait::until_true("the program's end", PATIENCE, || {
        Ok(container.field("{{.State.Running}}")? == "false")
    })?;
    let said = docker(&["logs", container.id()])?.ok()?.stdout;
    let line = said.lines().last().context("it said nothing")?;
    eprintln!("{rotations} rotations: {line}");
    ensure!(count(line, "reads")? >= 1_000_000, "{line}");
    for fault in ["missing", "empty", "torn", "back"] {
        ensure!(count(line, fault)? == 0, "{line}");
    }
    // A mixed content would be one more than there were versions.
    let contents = count(line, "contents")?;
    ensure!(
        contents > LEAST_ROTATIONS / 2 && contents <= rotations + 1,
        "{rotations} rotations: {line}"
    );
    stage.finish(&values, &[&container])
}
