//! Programs that a test builds to run inside a container, by `rustc` alone, and what they say in the end.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::output::Output;
use crate::scratch::{Scratch, root};

/// Builds `tests/programs/NAME.rs`, static, and returns where it is.
pub fn build(name: &str, scratch: &Scratch) -> Result<PathBuf> {
    let program = scratch.join(name);
    let mut build = Command::new("rustc");
    build.args(["--edition", "2024", "-O"]);
    build.args(["-C", "target-feature=+crt-static", "-o"]);
    build.arg(&program);
    build.arg(root().join("tests/programs").join(format!("{name}.rs")));
    Output::of(&mut build)?.ok()?;
    Ok(program)
}

/// The number behind `name=` in a line.
pub fn count(line: &str, name: &str) -> Result<u64> {
    let mut words = line.split_whitespace();
    let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let found = found.with_context(|| format!("no {name} in {line}"))?;
    Ok(found.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_by_its_whole_name() -> Result<()> {
        let line = "tries=12 strange=0";
        assert_eq!(count(line, "tries")?, 12);
        assert_eq!(count(line, "strange")?, 0);
        assert!(count(line, "range").is_err() && count(line, "try").is_err());
        Ok(())
    }
}
