//! A root-only memory mount on the host, for the OCI runtime wrapper's short-lived private bundles.
//!
//! Unlike a secret file system it is visible in the host's mount table (the real runtime must find it by path), with
//! mode 0700. Made and removed idempotently; it never touches a mount that is not its own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount, unmount};

use super::{detached_mount, is_memory_fs, probe};
use crate::{Error, mountinfo, raw};

/// Source name by which such a mount is recognised.
const SOURCE: &[u8] = b"keywheel-private";

fn unfit(path: &Path, reason: &'static str) -> Error {
    Error::BadMountPoint {
        path: PathBuf::from(path),
        reason,
    }
}

/// Mounts a memory file system of `size_bytes` at `path`, mode 0700; does nothing when it is already there.
pub fn mount_private_tmpfs(path: &Path, size_bytes: u64) -> Result<(), Error> {
    let target = open_mount_point(path)?;
    if is_ours(&target)? {
        return Ok(());
    }
    let mount = detached_mount(
        probe().best_kind(),
        size_bytes,
        SOURCE,
        "0700",
        MountAttrFlags::empty(),
    )?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), "", target.as_fd(), "", flags)
        .map_err(Error::os("mount the private directory"))?;
    raw::mount_setattr(mount.as_fd(), 0, 0, raw::PROPAGATION_PRIVATE)
        .map_err(Error::os("make the private directory's mount private"))
}

/// Whether a private memory file system of ours is mounted at `path`.
pub fn is_private(path: &Path) -> Result<bool, Error> {
    match openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(fd) => is_ours(&fd),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::os("open the private directory")(error)),
    }
}

/// Undoes [`mount_private_tmpfs`]; does nothing when nothing of ours is mounted there.
pub fn unmount_private(path: &Path) -> Result<(), Error> {
    if !is_private(path)? {
        return Ok(());
    }
    unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(Error::os("unmount the private directory"))
}

/// Opens the directory, which is made 0700 if missing and must belong to root.
fn open_mount_point(path: &Path) -> Result<OwnedFd, Error> {
    match mkdirat(CWD, path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(Error::os("make the private directory")(error)),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target =
        openat(CWD, path, flags, Mode::empty()).map_err(Error::os("open the private directory"))?;
    let found = fstat(&target).map_err(Error::os("read the private directory"))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(unfit(path, "not a directory"));
    }
    if found.st_uid != 0 || found.st_mode & 0o022 != 0 {
        return Err(unfit(
            path,
            "must belong to root and be writable by root alone",
        ));
    }
    Ok(target)
}

/// Ours = the top mount at the directory is a memory file system with our source name.
fn is_ours(target: &OwnedFd) -> Result<bool, Error> {
    if !is_memory_fs(target.as_fd())? {
        return Ok(false);
    }
    let id = mountinfo::mount_id(target.as_fd())
        .map_err(Error::os("read the mount of the private directory"))?;
    let table = rustix::fs::open(
        "/proc/self/mountinfo",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(Error::os("open the mount table"))?;
    let mut ours = false;
    mountinfo::for_each_line::<Errno>(table.as_fd(), |line| {
        ours |= line.id == id && line.source == SOURCE;
        Ok(())
    })
    .map_err(Error::os("read the mount table"))?;
    // The parent directory of a mount's root may lie on the same mount: then this is a directory inside it.
    let parent = openat(target, "..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::os("open the private directory's parent"))?;
    let parent =
        mountinfo::mount_id(parent.as_fd()).map_err(Error::os("read the parent's mount"))?;
    Ok(ours && parent != id)
}
