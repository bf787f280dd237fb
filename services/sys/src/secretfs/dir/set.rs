//! Several files that change in one step: a directory in a secret file system, replaced whole.
//!
//! Owns how a set is made beside the old one, exchanged with it by one rename, and taken away. Invariants: a set is
//! complete before it can be seen under its name; no symbolic link is made, and none is followed; a directory belongs
//! to root with mode 0755, so only its files say who reads them; nothing lies deeper than one level.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, fchmod, mkdirat, openat, openat2,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{
    FileAttr, SecretDir, TEMP_TRIES, check_name, fill, full_or, list, next_temp, pin_file,
    read_file,
};
use crate::Error;
use crate::secretfs::ROOT_MODE;

/// Most files of one set.
pub const MAX_SET_FILES: usize = 32;

impl SecretDir {
    /// Puts a directory with exactly these files under `name`, all in one step; calls `written` when the set is whole
    /// and not yet in place. Whoever opened the directory before keeps the old one, which loses its files next.
    ///
    /// On any error the old set is intact, or the new one is in place and the old one could not be taken away.
    pub fn replace_set(
        &self,
        name: &str,
        files: &[(&str, &[u8])],
        attr: FileAttr,
        written: impl FnOnce(),
    ) -> Result<(), Error> {
        check_name(name)?;
        files.iter().try_for_each(|(file, _)| check_name(file))?;
        if files.len() > MAX_SET_FILES {
            return Err(Error::Full);
        }
        let bytes = files.iter().map(|(_, bytes)| bytes.len());
        self.check_room(
            bytes.fold(0, usize::saturating_add),
            files.len().saturating_add(1),
        )?;
        let (temp, dir) = self.open_temp_dir()?;
        // Better no set than one that can never change. A tmpfs without swap always can.
        let can_change = match self.limit {
            Some(_) => try_exchange(&dir),
            None => Ok(()),
        };
        let filled = can_change.and_then(|()| {
            let mut each = files.iter();
            each.try_for_each(|(file, bytes)| put(&dir, file, bytes, attr))
                .map_err(|error| full_or("write a set of secret files", error))
        });
        if let Err(error) = filled {
            // It may stay only if the kernel refuses this too; the next sweep takes it.
            let _ = self.discard(&temp);
            return Err(error);
        }
        written();
        let first = renameat_with(
            &self.root,
            temp.as_str(),
            &self.root,
            name,
            RenameFlags::NOREPLACE,
        );
        match first {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => self.exchange(&temp, name),
            Err(error) => {
                let _ = self.discard(&temp);
                Err(full_or("put a set of secret files in place", error))
            }
        }
    }

    /// The names of a set's files, in no order; `None` when no set is there.
    pub fn set_names(&self, set: &str) -> Result<Option<Vec<String>>, Error> {
        check_name(set)?;
        let dir = self.open_set(set)?;
        dir.map(|dir| list(dir.as_fd())).transpose()
    }

    /// Appends the content of a set's file to `sink`; `false` when it is not there. The caller zeroes `sink`.
    pub fn read_in_set(
        &self,
        set: &str,
        name: &str,
        limit: usize,
        sink: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        check_name(set)?;
        match self.open_set(set)? {
            Some(dir) => read_file(dir.as_fd(), name, limit, sink),
            None => Ok(false),
        }
    }

    /// Handles of a set's files, without opening them.
    pub(crate) fn pin_set(&self, set: &str) -> Result<Vec<OwnedFd>, Error> {
        check_name(set)?;
        let dir = self.open_set(set)?.ok_or(Error::NotSecretFs {
            reason: "a set of files is not there",
        })?;
        let names = list(dir.as_fd())?;
        let files = names.iter().map(|name| pin_file(dir.as_fd(), name));
        files.collect()
    }

    /// Puts `temp` where something else stands, in one step, and takes that away.
    pub(super) fn exchange(&self, temp: &str, name: &str) -> Result<(), Error> {
        let exchanged = renameat_with(&self.root, temp, &self.root, name, RenameFlags::EXCHANGE);
        // Under `temp` is what stood there before, or, after a failure, what was to come.
        let discarded = self.discard(temp);
        exchanged.map_err(|error| full_or("exchange secret files", error))?;
        discarded
    }

    /// Takes a set from its name in one step, then away. The caller saw a directory there.
    pub(super) fn remove_set(&self, name: &str) -> Result<bool, Error> {
        for _ in 0..TEMP_TRIES {
            let temp = next_temp();
            let moved = renameat_with(
                &self.root,
                name,
                &self.root,
                temp.as_str(),
                RenameFlags::NOREPLACE,
            );
            match moved {
                Ok(()) => return self.discard(&temp).map(|()| true),
                Err(Errno::NOENT) => return Ok(false),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::os("remove a set of secret files")(error)),
            }
        }
        Err(Error::os("remove a set of secret files")(Errno::EXIST))
    }

    /// Takes away a file, or a directory with its files.
    pub(super) fn discard(&self, name: &str) -> Result<(), Error> {
        match unlinkat(&self.root, name, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(Error::os("remove an old secret file")(error)),
        }
        if let Some(dir) = self.open_set(name)? {
            for file in list(dir.as_fd())? {
                unlinkat(&dir, file.as_str(), AtFlags::empty())
                    .map_err(Error::os("remove a file of an old set"))?;
            }
        }
        unlinkat(&self.root, name, AtFlags::REMOVEDIR)
            .map_err(Error::os("remove the directory of an old set"))
    }

    /// Bytes and entries in a set.
    pub(super) fn set_size(&self, name: &str) -> Result<(u64, usize), Error> {
        let Some(dir) = self.open_set(name)? else {
            return Ok((0, 0));
        };
        let names = list(dir.as_fd())?;
        let sizes = names.iter().filter_map(|file| {
            let found = statat(&dir, file.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            u64::try_from(found.st_size).ok()
        });
        Ok((sizes.fold(0, u64::saturating_add), names.len()))
    }

    /// A directory right below the root, on the same mount; `None` when there is none.
    fn open_set(&self, name: &str) -> Result<Option<OwnedFd>, Error> {
        let opened = openat2(
            &self.root,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        );
        match opened {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(Error::os("open a set of secret files")(error)),
        }
    }

    fn open_temp_dir(&self) -> Result<(String, OwnedFd), Error> {
        for _ in 0..TEMP_TRIES {
            let temp = next_temp();
            match mkdirat(&self.root, temp.as_str(), Mode::RWXU) {
                Ok(()) => {
                    let dir = self.open_set(&temp)?.ok_or(Error::NotSecretFs {
                        reason: "a directory made in it is gone",
                    })?;
                    fchmod(&dir, Mode::from_raw_mode(ROOT_MODE))
                        .map_err(Error::os("open a set of secret files to its readers"))?;
                    return Ok((temp, dir));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(full_or("make a directory for a set", error)),
            }
        }
        Err(Error::os("make a directory for a set")(Errno::EXIST))
    }
}

/// Refuses a ramfs that cannot exchange two entries: before Linux 5.17 none could.
fn try_exchange(dir: &OwnedFd) -> Result<(), Error> {
    let names = ["one", "other"];
    let mut each = names.iter();
    let tried = each
        .try_for_each(|name| mkdirat(dir, *name, Mode::RWXU))
        .and_then(|()| renameat_with(dir, "one", dir, "other", RenameFlags::EXCHANGE));
    let mut each = names.iter();
    each.try_for_each(|name| match unlinkat(dir, *name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    })
    .and(tried)
    .map_err(Error::os(
        "exchange two directories of a ramfs, which Linux can since 5.17",
    ))
}

fn put(dir: &OwnedFd, name: &str, bytes: &[u8], attr: FileAttr) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    fill(&file, bytes, attr)
}
