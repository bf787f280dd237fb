//! A reader that hammers a file inside a running container while secrets
//! rotate, and remembers everything it ever saw.
//!
//! It reads through the first process's root, so it is as fast as a process
//! inside. Values stay in this process's memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};

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
    /// Every different content.
    pub contents: BTreeSet<Vec<u8>>,
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
                match fs::read(&file) {
                    Ok(content) => {
                        seen.reads += 1;
                        seen.contents.insert(content);
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
