//! The list of our variables is whole: whatever name the sources, scripts and pages use is in it, and each that is in it
//! for the command line or for scripts is used.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keywheel_schemas::config::variables::{OF_SCRIPTS, OF_THE_COMMAND_LINE, PREFIX, is_known};

/// Where names may stand.
const PLACES: [&str; 7] = [
    "README.md",
    "bench",
    "deploy",
    "schemas/src",
    "services",
    "tests",
    ".ci",
];
/// Files of text, by how their names end.
const ENDINGS: [&str; 9] = [
    "cjs", "md", "py", "rs", "service", "sh", "toml", "txt", "yaml",
];
/// Fields of systemd's journal begin with the same letters, and are no variables.
const JOURNAL: &str = "services/daemon/src/journald.rs";
/// Those of them that are named elsewhere.
const JOURNAL_FIELDS: [&str; 2] = ["KEYWHEEL_EVENT", "KEYWHEEL_TRACE_ID"];
/// The list itself.
const LIST: &str = "schemas/src/config/variables.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn files_below(place: &Path, found: &mut Vec<PathBuf>) {
    if place.is_file() {
        let ending = place.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            found.push(place.to_owned());
        }
        return;
    }
    let is_made = place.file_name().is_some_and(|name| name == "target");
    if is_made || place.is_symlink() {
        return;
    }
    for entry in fs::read_dir(place).into_iter().flatten() {
        files_below(&entry.unwrap().path(), found);
    }
}

/// Each name that begins like ours, without those that are put together from parts.
fn names_in(text: &str) -> BTreeSet<String> {
    let rests = text.split(PREFIX).skip(1);
    let is_part = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_';
    let endings = rests.map(|rest| rest.chars().take_while(is_part).collect::<String>());
    let whole = endings.filter(|ending| !ending.is_empty() && !ending.ends_with('_'));
    whole.map(|ending| format!("{PREFIX}{ending}")).collect()
}

/// Files that use names, and which.
fn used() -> Vec<(String, BTreeSet<String>)> {
    let (root, mut files) = (root(), Vec::new());
    for place in PLACES {
        files_below(&root.join(place), &mut files);
    }
    assert!(files.len() > 500, "only {} files", files.len());
    let of = |file: PathBuf| {
        let text = fs::read(&file).unwrap();
        let names = names_in(&String::from_utf8_lossy(&text));
        let file = file.strip_prefix(&root).unwrap();
        (file.display().to_string(), names)
    };
    let all = files.into_iter().map(of);
    all.filter(|(file, _)| file != JOURNAL && file != LIST)
        .collect()
}

#[test]
fn every_variable_that_is_named_anywhere_is_in_the_list() {
    let used = used();
    let mut strange = Vec::new();
    for (file, names) in &used {
        let fields = |name: &&String| JOURNAL_FIELDS.contains(&name.as_str());
        let names = names.iter().filter(|name| !fields(name));
        let unknown = names.filter(|name| !is_known(name));
        strange.extend(unknown.map(|name| format!("{file}: {name}")));
    }
    assert!(
        strange.is_empty(),
        "add them to {LIST}, or correct them: {strange:#?}"
    );
    let all: BTreeSet<&str> = used
        .iter()
        .flat_map(|(_, names)| names.iter().map(String::as_str))
        .collect();
    for name in OF_THE_COMMAND_LINE.iter().chain(&OF_SCRIPTS) {
        assert!(all.contains(name), "nothing uses {name}; take it out");
    }
}

#[test]
fn a_name_is_found_wherever_it_stands_and_a_part_of_one_is_none() {
    let text = ["\"", "DATA_DIR\", $", "ROOT/x ", "FIELD_{name} ", "<FIELD>"].join(PREFIX);
    let found: Vec<String> = names_in(&text).into_iter().collect();
    assert_eq!(found, ["KEYWHEEL_DATA_DIR", "KEYWHEEL_ROOT"]);
}
