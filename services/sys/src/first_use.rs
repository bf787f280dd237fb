//! Tells that a secret file is opened for the first time since it was watched.
//!
//! By inotify on the file itself, reached by the host's own view: an open is the file's, whichever mount it comes by.
//! Invariants: one kernel queue for all files of a host; a watch tells once and is gone then. It tells our own opens,
//! too, so a file is watched after it was read back. Who opened it the kernel does not say.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::Error;
use crate::secretfs::SecretDir;

/// Bytes read at once: some hundred events without names.
const BUFFER: usize = 4096;

/// The queue.
#[derive(Debug)]
pub struct FirstUses {
    queue: OwnedFd,
}

/// What became of a watch, by the number that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The file was opened.
    Opened(i32),
    /// It tells no more: it told, or the file is gone.
    Over(i32),
}

impl FirstUses {
    /// An empty queue, whose reads never wait.
    pub fn new() -> Result<Self, Error> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(Error::os("make a queue of file events"))?;
        Ok(Self { queue })
    }

    /// Watches a file until it is opened once; the number by which it is told.
    pub fn watch(&self, dir: &SecretDir, name: &str) -> Result<i32, Error> {
        self.watch_pinned(&dir.pin(name)?)
    }

    /// Watches each file of a set until it is opened once; the numbers by which they are told.
    pub fn watch_set(&self, dir: &SecretDir, set: &str) -> Result<Vec<i32>, Error> {
        let files = dir.pin_set(set)?;
        files.iter().map(|file| self.watch_pinned(file)).collect()
    }

    fn watch_pinned(&self, file: &OwnedFd) -> Result<i32, Error> {
        let place = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(
            &self.queue,
            place.as_str(),
            WatchFlags::OPEN | WatchFlags::ONESHOT,
        )
        .map_err(Error::os("watch a secret file"))
    }

    /// What happened since the last time. What the kernel could not keep in its queue is not told.
    pub fn take(&self) -> Result<Vec<Seen>, Error> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        let mut seen = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(seen),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Error::os("read a queue of file events")(error)),
            };
            if event.events().contains(ReadFlags::OPEN) {
                seen.push(Seen::Opened(event.wd()));
            }
            if event.events().contains(ReadFlags::IGNORED) {
                seen.push(Seen::Over(event.wd()));
            }
        }
    }
}

impl AsRawFd for FirstUses {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secretfs::{FileAttr, FsKind, SecretFs, probe};

    const ATTR: FileAttr = FileAttr {
        uid: 0,
        gid: 0,
        mode: 0o400,
    };

    #[test]
    fn each_file_of_a_set_tells_its_first_open_and_the_set_beside_none() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for kind in [probe().best_kind(), FsKind::Ramfs] {
            let fs = SecretFs::create(kind, 1 << 20).unwrap();
            let dir = fs.dir();
            let uses = FirstUses::new().unwrap();
            assert!(uses.watch_set(dir, "absent").is_err());
            let files: [(&str, &[u8]); 2] = [("a", b"1"), ("b", b"2")];
            dir.replace_set("db", &files, ATTR, || ()).unwrap();
            assert_eq!(uses.watch_set(dir, "db").unwrap().len(), 2);
            // What is written beside it is no use of it.
            dir.replace_set("other", &files, ATTR, || ()).unwrap();
            dir.replace("file", b"x", ATTR).unwrap();
            assert_eq!(uses.take().unwrap(), []);
            assert!(dir.read_in_set("db", "b", 16, &mut Vec::new()).unwrap());
            let seen = uses.take().unwrap();
            assert!(
                matches!(seen[..], [Seen::Opened(_), Seen::Over(_)]),
                "{seen:?}"
            );
        }
    }

    #[test]
    fn the_first_open_is_told_once_and_a_replaced_file_is_another() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let fs = SecretFs::create(probe().best_kind(), 1 << 20).unwrap();
        let dir = fs.dir();
        let uses = FirstUses::new().unwrap();
        assert!(uses.watch(dir, "absent").is_err());
        dir.replace("db", b"one", ATTR).unwrap();
        let first = uses.watch(dir, "db").unwrap();
        assert_eq!(uses.take().unwrap(), []);
        let mut read = Vec::new();
        for _ in 0..3 {
            assert!(dir.read_into("db", 16, &mut read).unwrap());
        }
        let expected = [Seen::Opened(first), Seen::Over(first)];
        assert_eq!(uses.take().unwrap(), expected);

        let second = {
            dir.replace("db", b"two", ATTR).unwrap();
            uses.watch(dir, "db").unwrap()
        };
        // Replaced before anybody looked: nobody used it.
        dir.replace("db", b"three", ATTR).unwrap();
        let mut seen = uses.take().unwrap();
        // A program that a test beside this one just starts holds the replaced file until it runs.
        for _ in 0..500 {
            if !seen.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            seen = uses.take().unwrap();
        }
        assert_eq!(seen, [Seen::Over(second)]);
    }
}
