//! A lock file, by which one process at a time works in a directory.
//!
//! Invariant: the kernel lets go of it with its holder, however that ends. A child that the holder had just begun has
//! it, too, until it runs its own program, also where the holder was killed: that is waited for.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

/// How often a lock that somebody has is asked for, and the time between.
const TRIES: usize = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Whether the lock is this process's now, until the file is closed. Who is letting go is waited for; blocks for a
/// second at most.
///
/// # Errors
/// When the file cannot be locked at all.
pub fn take_lock(file: &File) -> io::Result<bool> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
            Err(TryLockError::Error(source)) => return Err(source),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lets_go_is_waited_for_and_who_does_not_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let (held, other) = (open(), open());
        assert!(take_lock(&held).unwrap());
        assert!(!take_lock(&other).unwrap());
        let soon = std::thread::spawn(move || {
            std::thread::sleep(BETWEEN_TRIES * 3);
            drop(held);
        });
        assert!(take_lock(&other).unwrap());
        soon.join().unwrap();
    }
}
