//! The injector's writable view of one secret file system: atomic replace, remove, read back.
//!
//! Names are checked, never joined into paths; content is written to an exclusive temporary file and renamed, so a
//! reader sees the old or the new content and nothing else (I10). Several files that change together: `set`.

mod set;

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Uid, fchmod, fchown, fstat, openat, renameat,
    statat, unlinkat,
};
use rustix::io::{Errno, read, write};

pub use set::MAX_SET_FILES;

use crate::Error;

/// Longest name of a secret file.
pub const MAX_NAME: usize = 128;
/// Most entries that are listed; more cannot exist (see [`super::MAX_INODES`]).
const MAX_ENTRIES: usize = 4096;
/// First characters of temporary files; no secret file can begin like this.
const TEMP_PREFIX: &str = ".kw-";
/// Tries for a free temporary name before giving up.
const TEMP_TRIES: u32 = 64;

static NEXT_TEMP: AtomicU64 = AtomicU64::new(0);

/// Owner and mode of a file, in ids of the host (see `procfs::PinnedPid::map_uid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAttr {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The root of a private writable clone. Sole writer of its file system.
pub struct SecretDir {
    root: OwnedFd,
    device: u64,
    limit: Option<u64>,
}

impl SecretDir {
    /// Takes a clone's root; `limit` bounds the content where the kernel does not.
    pub(crate) fn adopt(root: OwnedFd, limit: Option<u64>) -> Result<Self, Error> {
        let device = fstat(&root)
            .map_err(Error::os("read the device of a secret file system"))?
            .st_dev;
        Ok(Self {
            root,
            device,
            limit,
        })
    }

    /// Bounds the content from now on, for a ramfs that was reacquired; a tmpfs knows its own bound.
    #[must_use]
    pub fn bounded(mut self, size_bytes: u64) -> Self {
        self.limit = Some(size_bytes);
        self
    }

    /// Device number of the file system.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Refuses unless this is a memory file system with the root directory as it was made (J4).
    pub fn verify(&self) -> Result<(), Error> {
        let refuse = |reason| Err(Error::NotSecretFs { reason });
        if !super::is_memory_fs(self.root.as_fd())? {
            return refuse("it is neither tmpfs nor ramfs");
        }
        let found = fstat(&self.root).map_err(Error::os("read a secret file system"))?;
        if found.st_dev != self.device {
            return refuse("its device changed");
        }
        if found.st_uid != 0 {
            return refuse("its root directory does not belong to root");
        }
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory
            || found.st_mode & 0o7777 != super::ROOT_MODE
        {
            return refuse("its root directory does not have mode 0755");
        }
        Ok(())
    }

    /// Puts `bytes` under `name`, atomically, also where a set stands. On any error the old file is intact and nothing
    /// is left behind.
    pub fn replace(&self, name: &str, bytes: &[u8], attr: FileAttr) -> Result<(), Error> {
        self.replace_pausing(name, bytes, attr, || ())
    }

    /// Like [`Self::replace`]; calls `written` when the new file is whole and not yet in place, where
    /// tests stop the process.
    pub fn replace_pausing(
        &self,
        name: &str,
        bytes: &[u8],
        attr: FileAttr,
        written: impl FnOnce(),
    ) -> Result<(), Error> {
        check_name(name)?;
        self.check_room(bytes.len(), 1)?;
        let (temp, file) = self.open_temp()?;
        let result = fill(&file, bytes, attr).and_then(|()| {
            written();
            renameat(&self.root, temp.as_str(), &self.root, name)
        });
        match result {
            Ok(()) => Ok(()),
            // A set stands there.
            Err(Errno::ISDIR) => self.exchange(&temp, name),
            Err(error) => {
                // The temporary file may stay only if the kernel refuses this too; the next sweep takes it.
                let _ = unlinkat(&self.root, temp.as_str(), AtFlags::empty());
                Err(full_or("replace a secret file", error))
            }
        }
    }

    /// Removes `name`, a file or a set; `false` when it was not there.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        check_name(name)?;
        match unlinkat(&self.root, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(Errno::ISDIR) => self.remove_set(name),
            Err(error) => Err(Error::os("remove a secret file")(error)),
        }
    }

    /// Appends the content of `name` to `sink`; `false` when no file is there. The caller zeroes `sink`.
    pub fn read_into(&self, name: &str, limit: usize, sink: &mut Vec<u8>) -> Result<bool, Error> {
        check_name(name)?;
        read_file(self.root.as_fd(), name, limit, sink)
    }

    /// The secret files and sets, in no order. Temporary ones are left out.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = self.entries()?;
        names.retain(|name| !name.starts_with(TEMP_PREFIX));
        Ok(names)
    }

    /// Removes temporary files and sets that an interrupted write left; call it when no write is under way.
    pub fn sweep_temps(&self) -> Result<usize, Error> {
        let mut swept = 0;
        for name in self
            .entries()?
            .iter()
            .filter(|name| name.starts_with(TEMP_PREFIX))
        {
            self.discard(name)?;
            swept += 1;
        }
        Ok(swept)
    }

    /// A handle of a regular file, without opening it.
    pub(crate) fn pin(&self, name: &str) -> Result<OwnedFd, Error> {
        pin_file(self.root.as_fd(), name)
    }

    fn entries(&self) -> Result<Vec<String>, Error> {
        list(self.root.as_fd())
    }

    #[cfg(test)]
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Error> {
        self.root
            .try_clone()
            .map_err(Error::os("duplicate a handle"))
    }

    fn open_temp(&self) -> Result<(String, OwnedFd), Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TEMP_TRIES {
            let temp = next_temp();
            match openat(&self.root, temp.as_str(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((temp, file)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(full_or("make a temporary file", error)),
            }
        }
        Err(Error::os("make a temporary file")(Errno::EXIST))
    }

    /// ramfs has no limit of its own.
    fn check_room(&self, more: usize, inodes: usize) -> Result<(), Error> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let mut used = u64::try_from(more).unwrap_or(u64::MAX);
        let names = self.entries()?;
        let mut entries = names.len().saturating_add(inodes);
        for name in &names {
            let Ok(found) = statat(&self.root, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let (bytes, files) = match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => self.set_size(name)?,
                _ => (u64::try_from(found.st_size).unwrap_or(0), 0),
            };
            used = used.saturating_add(bytes);
            entries = entries.saturating_add(files);
        }
        if used > limit || entries > super::MAX_INODES as usize {
            Err(Error::Full)
        } else {
            Ok(())
        }
    }
}

/// What a directory holds, in no order.
fn list(dir: BorrowedFd<'_>) -> Result<Vec<String>, Error> {
    let listing = openat(
        dir,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(Error::os("list a secret file system"))?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(listing, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(Error::os("list a secret file system"))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && names.len() < MAX_ENTRIES {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

fn pin_file(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Error> {
    check_name(name)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty()).map_err(Error::os("find a secret file"))?;
    let found = fstat(&file).map_err(Error::os("read a secret file"))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Error::NotSecretFs {
            reason: "it holds something that is not a file",
        });
    }
    Ok(file)
}

/// Appends the content of a file to `sink`; `false` when there is none, or a set.
fn read_file(
    dir: BorrowedFd<'_>,
    name: &str,
    limit: usize,
    sink: &mut Vec<u8>,
) -> Result<bool, Error> {
    check_name(name)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(Error::os("open a secret file")(error)),
    };
    let found = fstat(&file).map_err(Error::os("read a secret file"))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Ok(false),
        _ => {
            return Err(Error::NotSecretFs {
                reason: "it holds something that is not a file",
            });
        }
    }
    let size = usize::try_from(found.st_size).unwrap_or(usize::MAX);
    if size > limit {
        return Err(Error::TooLarge {
            name: name.into(),
            limit,
        });
    }
    // One allocation, so that no copy stays behind in freed memory.
    sink.reserve_exact(size);
    let start = sink.len();
    sink.resize(start + size, 0);
    let mut filled = start;
    while let Some(rest) = sink.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match read(&file, rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::os("read a secret file")(error)),
        }
    }
    sink.truncate(filled);
    Ok(true)
}

/// Whether `name` may name a secret file (J5).
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn check_name(name: &str) -> Result<(), Error> {
    if is_secret_name(name) {
        Ok(())
    } else {
        Err(Error::BadName {
            name: name.chars().take(MAX_NAME).collect(),
        })
    }
}

fn next_temp() -> String {
    format!("{TEMP_PREFIX}{}", NEXT_TEMP.fetch_add(1, Ordering::Relaxed))
}

fn full_or(step: &'static str, error: Errno) -> Error {
    if error == Errno::NOSPC {
        Error::Full
    } else {
        Error::os(step)(error)
    }
}

fn fill(file: &OwnedFd, bytes: &[u8], attr: FileAttr) -> rustix::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match write(file, rest) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    // `from_raw` takes u32::MAX as "leave as it is", which would keep root: refuse it.
    if attr.uid == u32::MAX || attr.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    fchown(
        file,
        Some(Uid::from_raw(attr.uid)),
        Some(Gid::from_raw(attr.gid)),
    )?;
    fchmod(file, Mode::from_raw_mode(attr.mode & 0o777))
}
