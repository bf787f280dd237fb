//! A reader that hammers a file inside a running container while secrets
//! rotate, and remembers everything it ever saw.
//!
//! It reads through the first process's root, so it is as fast as a process
//! inside. Values stay in this process's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::docker::Container;

/// Between two reads: short enough to fall between any two steps, long enough to leave the machine
/// to those it watches.
const PAUSE: Duration = Duration::from_micros(100);

/// What a reader saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Reads that found the file.
    pub reads: u64,
    /// Reads that found nothing, after the first success.
    pub missing: u64,
    /// Every different content, and the files it was in by their inode numbers: a content that was
    /// written again is in two.
    pub contents: BTreeMap<Vec<u8>, BTreeSet<u64>>,
}

impl Seen {
    /// The file was always there, always whole, held no more values than there were versions, and no
    /// value was written twice.
    pub fn check(&self, length: usize, versions: u64) -> Result<()> {
        ensure!(
            self.missing == 0,
            "the file was missing {} times",
            self.missing
        );
        for (content, files) in &self.contents {
            ensure!(content.len() == length, "a torn or empty value was read");
            ensure!(
                files.len() == 1,
                "a value was written {} times",
                files.len()
            );
        }
        let values = self.contents.len() as u64;
        ensure!(
            values <= versions,
            "{values} values were read of {versions} versions"
        );
        Ok(())
    }

    /// The values, for the canary.
    #[must_use]
    pub fn plaintexts(&self) -> Vec<String> {
        let values = self.contents.keys();
        values
            .map(|content| String::from_utf8_lossy(content).into_owned())
            .collect()
    }
}

/// A running reader.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Reader {
    /// Begins to read `path` as the container sees it.
    pub fn begin(container: &Container, path: &str) -> Result<Self> {
        let file = PathBuf::from(format!("/proc/{}/root{path}", container.pid()?));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::Relaxed) {
                match look(&file) {
                    Ok((content, inode)) => {
                        seen.reads += 1;
                        seen.contents.entry(content).or_default().insert(inode);
                    }
                    Err(_) if seen.reads > 0 => seen.missing += 1,
                    Err(_) => {}
                }
                thread::sleep(PAUSE);
            }
            seen
        });
        Ok(Self { stop, thread })
    }

    /// Ends it and tells what it saw.
    pub fn end(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the reader panicked"))
    }
}

/// The content of a file and its inode number, of one and the same file.
fn look(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let inode = file.metadata()?.ino();
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok((content, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(contents: &[(&str, &[u64])]) -> Seen {
        let contents = contents.iter().map(|(content, files)| {
            let files = files.iter().copied().collect();
            (content.as_bytes().to_vec(), files)
        });
        Seen {
            contents: contents.collect(),
            ..Seen::default()
        }
    }

    #[test]
    fn a_torn_a_repeated_and_a_surplus_value_are_told() {
        assert!(seen(&[("one", &[1]), ("two", &[2])]).check(3, 2).is_ok());
        assert!(seen(&[("one", &[1]), ("tw", &[2])]).check(3, 2).is_err());
        assert!(
            seen(&[("one", &[1, 3]), ("two", &[2])])
                .check(3, 2)
                .is_err()
        );
        assert!(seen(&[("one", &[1]), ("two", &[2])]).check(3, 1).is_err());
        let gone = Seen {
            missing: 1,
            ..Seen::default()
        };
        assert!(gone.check(3, 1).is_err());
    }
}
