//! Runs a suite that mostly waits beside others, so that its minutes are nobody's.
//!
//! Owns one process in the background, this very tool with that suite alone; what it says goes to a file, and is
//! printed and counted where the suite has its place. A suite chosen by hand runs as every other one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::count::{self, Tally};
use crate::program::Ran;
use crate::suites::Suite;
use crate::why::Why;

/// A suite under way.
pub(crate) struct Beside {
    child: Child,
    log: PathBuf,
}

impl Beside {
    /// Starts it.
    pub(crate) fn start(root: &Path, name: &str) -> Result<Self> {
        let log = root.join(format!("target/{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["ci", "--only", name])
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start suite {name} beside the others"))?;
        println!("xtask: suite {name} runs beside the next ones from here on");
        Ok(Self { child, log })
    }

    /// Waits for its end, prints what it said, and counts it. It ends itself when it hangs.
    pub(crate) fn finish(mut self, suite: &Suite) -> Result<Ran> {
        let status = self.child.wait()?;
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        println!(
            "{text}\nxtask: so far suite {}, which ran beside",
            suite.name
        );
        Ok(read(&text, status.success()))
    }
}

/// What the output of a suite says.
fn read(text: &str, is_good: bool) -> Ran {
    let (mut tally, mut why) = (Tally::default(), Why::default());
    for line in text.lines() {
        why.take(line);
        if let Some(more) = count::parse_line(line) {
            tally = tally.plus(more);
        }
    }
    Ran {
        tally,
        is_good,
        why: why.into_lines(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_said_is_counted_and_its_reasons_are_kept() {
        let text = "test a ... FAILED\nError: no value\n\ntest result: FAILED. 2 passed; 1 failed; 0 ignored\n";
        let ran = read(text, false);
        assert_eq!((ran.tally.passed, ran.tally.failed), (2, 1));
        assert_eq!(ran.why, ["Error: no value"]);
        assert!(!ran.is_good && read("", true).tally == Tally::default());
    }
}
