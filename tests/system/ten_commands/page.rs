//! The page `deploy/README.md` as a machine reads it.

use std::fs;

use anyhow::{Context as _, Result};
use keywheel_tests::scratch;

const SECTION: &str = "## From nothing to two hosts";

/// The section between its heading and the next.
pub(crate) fn section() -> Result<String> {
    let page = fs::read_to_string(scratch::root().join("deploy/README.md"))?;
    let (_, after) = page.split_once(SECTION).context("the section is gone")?;
    let end = after.find("\n## ").unwrap_or(after.len());
    Ok(after.get(..end).unwrap_or_default().to_owned())
}

/// Its commands: what stands between two empty lines of a block of shell.
pub(crate) fn commands(section: &str) -> Vec<String> {
    let blocks = section.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(|block| block.split("\n\n"));
    let lines = lines.map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// The variables of its table.
pub(crate) fn documented(section: &str) -> Vec<String> {
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

/// The variables that a command uses.
pub(crate) fn used(command: &str) -> Vec<String> {
    let after = command.split('$').skip(1);
    let names = after.map(|text| {
        let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.chars().take_while(|c| of_name(*c)).collect::<String>()
    });
    names.filter(|name| !name.is_empty()).collect()
}
