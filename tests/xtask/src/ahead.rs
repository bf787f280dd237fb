//! Builds what the last suite needs while suites before it wait for containers.
//!
//! Owns one process in the background, with only the time that nobody else wants, so that it slows no
//! suite; its output goes to a file and is shown when it failed. The suite that needs the result builds
//! it itself when this has not: a failure here is never the reason of one there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Lines of a failed build that are shown.
const SHOWN_LINES: usize = 40;

/// A build under way.
pub(crate) struct Ahead {
    child: Child,
    log: PathBuf,
}

impl Ahead {
    /// Starts it, where that is possible.
    pub(crate) fn start(root: &Path) -> Option<Self> {
        match Self::spawn(root) {
            Ok(build) => {
                println!("xtask: the release is built in idle time from here on");
                Some(build)
            }
            Err(error) => {
                println!("xtask: the release is built later: {error:#}");
                None
            }
        }
    }

    fn spawn(root: &Path) -> Result<Self> {
        let log = root.join("target/release-build.log");
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = Command::new("chrt")
            .args(["--idle", "0", "./deploy/build.sh", "--without-injector"])
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start the release build by `chrt` of util-linux")?;
        Ok(Self { child, log })
    }

    /// Waits for its end, and says when it went wrong.
    pub(crate) fn finish(mut self) {
        match self.child.wait() {
            Ok(status) if status.success() => return,
            Ok(status) => println!("xtask: the release build ended with {status}:"),
            Err(error) => println!("xtask: the release build cannot be waited for: {error}"),
        }
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES)) {
            println!("  {line}");
        }
    }
}
