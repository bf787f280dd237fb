//! A million reads of files by a program in the container while their secret rotates without a pause: of one
//! file, and of several that change together.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container, docker};
use keywheel_tests::manifest;
use keywheel_tests::programs::{self, count};
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage};
use keywheel_tests::wait;

/// Where the files are that change together, and their names; each holds its name, `=` and the value.
const SET: &str = "/run/secrets/db";
const FILES: [&str; 3] = ["first", "second", "third"];
/// Reads that the storm lasts for, at least: of the one file, and of the whole set, each of them of every file …
const READS: u64 = 400_000;
const SET_READS: u64 = 200_000;
/// … and rotations, for each of the two.
const LEAST_ROTATIONS: u64 = 15;
/// More than fit into the time that so many reads take anywhere.
const MOST_ROTATIONS: u64 = 1000;
/// Length of a generated value in these tests.
const LENGTH: &str = "32";
/// Where the program is in the container, and what ends it.
const PROGRAM: &str = "/bin/hammer";
const END: &str = "/tmp/end";

/// What a program in a container saw.
struct Storm {
    container: Container,
    rotations: u64,
    line: String,
    values: [String; 2],
}

/// Both bindings, for the same containers.
fn bind(stage: &Stage) -> Result<()> {
    stage.apply_file("storm", "none")?;
    let templates = FILES.map(|name| (name, format!("{name}={{{{ secret(\"{SECRET}\") }}}}")));
    let templates = templates.each_ref();
    let templates = templates.map(|(name, template)| (*name, template.as_str()));
    let on = stage.on("storm");
    let set = manifest::files_binding("test-set", SECRET, &on, "db", &templates);
    stage.keywheel.apply(&set)?;
    stage.keywheel.wait_plans()
}

/// The program reads so often at least, and meanwhile the secret rotates.
fn storm(
    stage: &Stage,
    program: &Path,
    place: &str,
    (reads, names): (u64, &[&str]),
) -> Result<Storm> {
    let mount = format!("{}:{PROGRAM}:ro", program.display());
    let flags = [
        "--runtime",
        &stage.runtime,
        "--label",
        "app=storm",
        "-v",
        &mount,
    ];
    let many = reads.to_string();
    let words = [&[PROGRAM, place, LENGTH, &many, END][..], names].concat();
    let container = Container::run(&stage.image, &flags, &words)?;
    let first = stage.value_in(&container)?;
    let mut rotations = 0;
    while rotations < LEAST_ROTATIONS || !container.logs()?.contains("many") {
        ensure!(rotations < MOST_ROTATIONS, "it reads too slowly");
        stage.rotate(SECRET)?;
        rotations += 1;
    }
    let last = stage.value_in(&container)?;
    let touched = container.exec(&["touch", END])?;
    // The program ends as soon as the file is there, and may take the one that made it with it.
    ensure!([0, 137].contains(&touched.code), "{}", touched.said());
    wait::until_true("the program's end", PATIENCE, || {
        Ok(container.field("{{.State.Running}}")? == "false")
    })?;
    let said = docker(&["logs", container.id()])?.ok()?.stdout;
    let line = said.lines().last().context("it said nothing")?.to_owned();
    Ok(Storm {
        container,
        rotations,
        line,
        values: [first, last],
    })
}

#[expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]
fn judge(storm: &Storm, reads: u64) -> Result<()> {
    let Storm {
        rotations, line, ..
    } = storm;
    eprintln!("{rotations} rotations: {line}");
    ensure!(count(line, "reads")? >= reads, "{line}");
    for fault in ["missing", "empty", "torn", "mixed", "back"] {
        ensure!(count(line, fault)? == 0, "{line}");
    }
    // A content of two values would be one more than there were versions.
    let contents = count(line, "contents")?;
    ensure!(
        contents > LEAST_ROTATIONS / 2 && contents <= rotations + 1,
        "{rotations} rotations: {line}"
    );
    Ok(())
}

#[test]
fn of_a_million_reads_under_a_storm_of_rotations_none_is_torn_empty_or_mixed() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let program = programs::build("hammer", stage.keywheel.scratch())?;
    bind(&stage)?;
    let one = storm(&stage, &program, FILE, (READS, &[]))?;
    judge(&one, READS)?;
    let set = storm(&stage, &program, SET, (SET_READS, &FILES))?;
    judge(&set, SET_READS)?;
    let of_files = count(&set.line, "reads")? * u64::try_from(FILES.len())?;
    ensure!(count(&one.line, "reads")? + of_files >= 1_000_000);
    let values = [one.values, set.values].concat();
    stage.finish(&values, &[&one.container, &set.container])
}
