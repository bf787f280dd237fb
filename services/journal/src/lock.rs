//! One owner per journal: a lock file beside it, held as long as the journal is open.
//!
//! Invariant: the kernel frees the lock when its holder ends, however that happens, so a killed
//! process leaves nothing to clean up. A child that the holder had just begun holds it, too, until it
//! runs its own program: that is waited for. The process id in the file is for people only.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_engine::port::{ErrorKind, PortError};

use crate::fault;

/// Longest process id that is read from a lock file.
const MAX_PID_BYTES: u64 = 20;
/// How often a journal that somebody has is asked for, and the time between.
const TRIES: usize = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Holds the lock until dropped.
#[derive(Debug)]
pub(crate) struct OwnerLock(#[expect(dead_code, reason = "held for its lock")] File);

impl OwnerLock {
    /// Takes the lock of a journal. Blocks, for a moment at most.
    pub(crate) fn take(journal: &Path) -> Result<Self, PortError> {
        let path = lock_path(journal);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| fault::place(&path, "its lock file cannot be opened", source))?;
        if !lock(&file).map_err(|source| fault::place(&path, "it cannot be locked", source))? {
            return Err(held(journal, &mut file));
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        // On a full disk the lock still holds; only its text for people is missing.
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot note the owner in the lock file");
        }
        Ok(Self(file))
    }
}

/// Whether it is ours; who is letting go is waited for.
fn lock(file: &File) -> io::Result<bool> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
            Err(TryLockError::Error(source)) => return Err(source),
        }
    }
    Ok(false)
}

fn lock_path(journal: &Path) -> PathBuf {
    let mut path = journal.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

fn held(journal: &Path, file: &mut File) -> PortError {
    let mut text = String::new();
    let read = file.take(MAX_PID_BYTES).read_to_string(&mut text);
    let pid = text.trim();
    let holder = match read {
        Ok(_) if !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) => {
            format!("process {pid}")
        }
        _ => "another process".to_owned(),
    };
    let text = format!(
        "the journal {} is held by {holder}; end it first",
        journal.display()
    );
    PortError::new(ErrorKind::Conflict, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_owner_is_told_who_is_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let first = OwnerLock::take(&path).unwrap();
        let error = OwnerLock::take(&path).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(
            error
                .text
                .contains(&format!("held by process {}", std::process::id())),
            "{}",
            error.text
        );
        drop(first);
        assert!(OwnerLock::take(&path).is_ok());
    }

    #[test]
    fn who_lets_go_of_a_journal_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let held = OwnerLock::take(&path).unwrap();
        let soon = std::thread::spawn(move || {
            std::thread::sleep(BETWEEN_TRIES * 3);
            drop(held);
        });
        assert!(OwnerLock::take(&path).is_ok());
        soon.join().unwrap();
    }

    #[test]
    fn what_a_killed_owner_left_behind_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        std::fs::write(lock_path(&path), "4194304999999999999999999\n").unwrap();
        let lock = OwnerLock::take(&path).unwrap();
        let text = std::fs::read_to_string(lock_path(&path)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        drop(lock);
    }
}
