//! Room kept for the day the disk is full (rule E9): an allocated file beside the journal, given back
//! so that a revocation and its audit records can still be made durable.
//!
//! Invariants: while the reserve is given back, new work is refused, so that it is not used up by
//! what filled the disk; it is whole again only when there is room for it and [`RESTORE_HEADROOM`]
//! more, so that the two states do not alternate. The file never holds anything but zeros.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::Class;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

use crate::fault;

/// Size of the reserve. Moving a whole write-ahead log into the file takes half of it at most; the
/// rest is for records, and for the cache and the audit's second copy on the same disk.
pub const RESERVE_BYTES: u64 = 32 << 20;
/// Room that must be left beside the reserve before it is taken again.
pub const RESTORE_HEADROOM: u64 = 8 << 20;
/// With less room than this a revocation gives the reserve back ahead of its append: the store and
/// the hosts that carry it out write to the same disk.
pub const REVOCATION_ROOM: u64 = 4 << 20;
/// With less room than this audit records of requests without a command are refused while the
/// reserve is in use.
pub const RECORD_FLOOR: u64 = 8 << 20;

/// Zeros written at once where the file system cannot allocate.
const CHUNK: usize = 1 << 20;

/// The reserve of one journal.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    given_back: Arc<AtomicBool>,
}

impl Reserve {
    /// Takes the reserve of a journal. A full disk does not stop the start.
    pub(crate) fn open(journal: &Path) -> Result<Self, PortError> {
        let reserve = Self {
            path: reserve_path(journal),
            given_back: Arc::default(),
        };
        match allocate(&reserve.path, 0) {
            Ok(()) => {}
            Err(error) if is_full(&error) => reserve.note_given_back(),
            Err(error) => {
                let what = "its reserve for a full disk cannot be made";
                return Err(fault::place(&reserve.path, what, error));
            }
        }
        Ok(reserve)
    }

    /// Whether the reserve is given back; clones follow it.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.given_back)
    }

    pub(crate) fn is_given_back(&self) -> bool {
        self.given_back.load(Ordering::Relaxed)
    }

    /// Whether a batch of this class may be appended now. A revocation makes room for itself first.
    pub(crate) fn admits(&self, class: Class) -> bool {
        if self.is_given_back() {
            self.restore();
        }
        match class {
            Class::Work => !self.is_given_back(),
            Class::Record => !self.is_given_back() || self.room() >= RECORD_FLOOR,
            Class::Fact => true,
            Class::Revocation => {
                if !self.is_given_back() && self.room() < REVOCATION_ROOM {
                    self.give_back();
                }
                true
            }
        }
    }

    /// Gives the room to a batch of this class that found none; `false` when that is not for it, or
    /// was done already.
    pub(crate) fn helps(&self, class: Class) -> bool {
        class > Class::Work && !self.is_given_back() && self.give_back()
    }

    /// Takes the reserve again, if there is room enough.
    pub(crate) fn restore(&self) {
        // Asked first: an attempt that fails half way takes the room from others for a moment.
        if self.room() < RESERVE_BYTES + RESTORE_HEADROOM {
            return;
        }
        match allocate(&self.path, RESTORE_HEADROOM) {
            Ok(()) => {
                self.given_back.store(false, Ordering::Relaxed);
                tracing::info!(path = %self.path.display(), "the reserve for a full disk is whole again");
            }
            Err(error) if is_full(&error) => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the reserve for a full disk cannot be taken again");
            }
        }
    }

    fn give_back(&self) -> bool {
        match release(&self.path) {
            Ok(()) => {
                self.note_given_back();
                true
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the reserve for a full disk cannot be given back");
                false
            }
        }
    }

    fn note_given_back(&self) {
        self.given_back.store(true, Ordering::Relaxed);
        tracing::warn!(path = %self.path.display(), "the disk is full: the reserve is in use, new work is refused until there is room");
    }

    /// Room on the disk, for us; all there is when the file system does not say.
    fn room(&self) -> u64 {
        let directory = self.path.parent().unwrap_or(&self.path);
        let asked = File::open(directory)
            .map_err(drop)
            .and_then(|directory| fstatvfs(directory).map_err(drop));
        let Ok(room) = asked else { return u64::MAX };
        let blocks = if rustix::process::geteuid().is_root() {
            room.f_bfree
        } else {
            room.f_bavail
        };
        blocks.saturating_mul(room.f_frsize)
    }
}

fn reserve_path(journal: &Path) -> PathBuf {
    let mut path = journal.as_os_str().to_owned();
    path.push(".reserve");
    PathBuf::from(path)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Allocates the file, when that leaves `headroom`; a part that was allocated goes back.
fn allocate(path: &Path, headroom: u64) -> io::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let taken = match fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES + headroom) {
        Err(Errno::OPNOTSUPP) => write_zeros(&file, RESERVE_BYTES + headroom),
        taken => taken.map_err(io::Error::from),
    };
    let left = if taken.is_ok() { RESERVE_BYTES } else { 0 };
    file.set_len(left)?;
    file.sync_all()?;
    taken
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK];
    for _ in 0..bytes.div_ceil(CHUNK as u64) {
        file.write_all(&zeros)?;
    }
    file.sync_data()
}

/// Frees the file's blocks; on the disk before anybody relies on it.
fn release(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(0)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
