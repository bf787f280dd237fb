//! Secret file systems: memory-only, never swapped, owned by the injector (rules J2 to J6, J14).
//!
//! A [`SecretFs`] is a detached mount in two views of one superblock: the visible one, read-only, which a container
//! gets, and a private writable clone behind [`SecretDir`], which never enters any mount table. This module attaches
//! nothing to a container (see [`crate::nsjoin`]) and knows nothing of what the files mean.

mod dir;
mod private;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

pub use dir::{FileAttr, MAX_NAME, MAX_SET_FILES, SecretDir, is_secret_name};
pub use private::{is_private, mount_private_tmpfs, unmount_private};

use crate::{Error, raw, wire};

/// `fstatfs` type of a tmpfs.
pub const TMPFS_MAGIC: i64 = 0x0102_1994;
/// `fstatfs` type of a ramfs.
pub const RAMFS_MAGIC: i64 = 0x8584_58f6;
/// Files one secret file system can hold, temporary ones included.
pub const MAX_INODES: u32 = 1024;
/// Mode of the directory that a container sees.
pub const ROOT_MODE: u32 = 0o755;

/// Which memory file system is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsKind {
    /// tmpfs with `noswap` (Linux 6.4): bounded by the kernel, never swapped.
    TmpfsNoswap,
    /// ramfs: never swapped, bounded only by [`SecretDir`], its sole writer.
    Ramfs,
}

/// What the running kernel can do, found by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// tmpfs knows `noswap`.
    pub noswap: bool,
    /// `mount_setattr` exists.
    pub mount_setattr: bool,
    /// `openat2` exists.
    pub openat2: bool,
    /// `fsopen` exists.
    pub fsopen: bool,
    /// `move_mount` exists.
    pub move_mount: bool,
    /// `open_tree` exists.
    pub open_tree: bool,
}

impl Features {
    /// The best memory file system for secrets here.
    #[must_use]
    pub fn best_kind(&self) -> FsKind {
        if self.noswap {
            FsKind::TmpfsNoswap
        } else {
            FsKind::Ramfs
        }
    }

    /// Calls that are missing and without which not even private memory can be mounted.
    #[must_use]
    pub fn missing_to_start(&self) -> Vec<&'static str> {
        missing(&[
            ("fsopen", self.fsopen),
            ("move_mount", self.move_mount),
            ("mount_setattr", self.mount_setattr),
        ])
    }

    /// Calls that are missing beside those, and without which no file gets into a container.
    #[must_use]
    pub fn missing_for_files(&self) -> Vec<&'static str> {
        missing(&[("openat2", self.openat2), ("open_tree", self.open_tree)])
    }

    /// Whether files can be put into containers at all.
    #[must_use]
    pub fn can_inject(&self) -> bool {
        self.missing_to_start().is_empty() && self.missing_for_files().is_empty()
    }
}

fn missing(calls: &[(&'static str, bool)]) -> Vec<&'static str> {
    let missing = calls.iter().filter(|(_, is_there)| !is_there);
    missing.map(|(name, _)| *name).collect()
}

/// Whether the kernel, or a system call filter in its place, knows the call that answered so.
fn exists<T>(answer: &rustix::io::Result<T>) -> bool {
    !matches!(answer, Err(Errno::NOSYS))
}

/// The same of a call that was tried with nothing that takes a right: only a filter says that it may not be made.
fn may_be_made<T>(answer: &rustix::io::Result<T>) -> bool {
    exists(answer) && !matches!(answer, Err(Errno::PERM))
}

/// Tries what the kernel can do, and changes nothing. Needs no privilege except for `noswap`, which reads as missing
/// without it.
#[must_use]
pub fn probe() -> Features {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC);
    let noswap = context
        .as_ref()
        .is_ok_and(|context| fsconfig_set_flag(context.as_fd(), "noswap").is_ok());
    let looked = openat2(
        CWD,
        "/",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    );
    // Without the flag for it no empty path leads anywhere: an existing call answers ENOENT or EPERM.
    let moved = move_mount(CWD, "", CWD, "", MoveMountFlags::empty());
    let opened = open_tree(CWD, "", OpenTreeFlags::OPEN_TREE_CLOEXEC);
    Features {
        noswap,
        mount_setattr: has_mount_setattr(),
        openat2: may_be_made(&looked),
        fsopen: exists(&context),
        move_mount: exists(&moved),
        open_tree: may_be_made(&opened),
    }
}

/// Asked to set every attribute there may be, on the root, an existing call answers EINVAL or EPERM.
fn has_mount_setattr() -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open("/", flags, Mode::empty()) else {
        return false;
    };
    raw::mount_setattr(root.as_fd(), u64::MAX, 0, 0)
        .err()
        .and_then(|error| error.raw_os_error())
        .is_none_or(|code| code != Errno::NOSYS.raw_os_error())
}

/// A secret file system that is not attached yet.
pub struct SecretFs {
    visible: OwnedFd,
    dir: SecretDir,
}

impl SecretFs {
    /// Makes an empty one. `size_bytes` bounds its content, old and new version of a file together.
    pub fn create(kind: FsKind, size_bytes: u64) -> Result<Self, Error> {
        let visible = detached_mount(
            kind,
            size_bytes,
            wire::SECRETS_SOURCE,
            "0755",
            MountAttrFlags::MOUNT_ATTR_RDONLY,
        )?;
        let (visible, writable) = split_views(visible)?;
        clear_read_only(writable.as_fd())?;
        let limit = (kind == FsKind::Ramfs).then_some(size_bytes);
        let dir = SecretDir::adopt(writable, limit)?;
        dir.verify()?;
        Ok(Self { visible, dir })
    }

    /// The private writable view.
    #[must_use]
    pub fn dir(&self) -> &SecretDir {
        &self.dir
    }

    /// Drops the visible view's handle (an attached mount stays) and keeps the writable one.
    #[must_use]
    pub fn into_dir(self) -> SecretDir {
        self.dir
    }

    /// Device number, by which a container's mount is recognised as this one.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.dir.device()
    }

    pub(crate) fn visible(&self) -> BorrowedFd<'_> {
        self.visible.as_fd()
    }
}

/// A detached memory file system; `attributes` come on top of nosuid, nodev, noexec.
fn detached_mount(
    kind: FsKind,
    size_bytes: u64,
    source: &[u8],
    mode: &str,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Error> {
    let configure = |context: BorrowedFd<'_>| -> rustix::io::Result<()> {
        fsconfig_set_string(context, "source", source)?;
        fsconfig_set_string(context, "mode", mode)?;
        if kind == FsKind::TmpfsNoswap {
            fsconfig_set_string(context, "size", size_bytes.to_string().as_str())?;
            fsconfig_set_string(context, "nr_inodes", MAX_INODES.to_string().as_str())?;
            fsconfig_set_string(context, "uid", "0")?;
            fsconfig_set_string(context, "gid", "0")?;
            fsconfig_set_flag(context, "noswap")?;
        }
        fsconfig_create(context)
    };
    let name = match kind {
        FsKind::TmpfsNoswap => "tmpfs",
        FsKind::Ramfs => "ramfs",
    };
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(Error::os("open a memory file system"))?;
    configure(context.as_fd()).map_err(Error::os("configure a memory file system"))?;
    let attributes = attributes
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(Error::os("mount a memory file system"))
}

fn clone_tree(mount: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(mount, "", flags)
}

/// Two detached views of one mount. Kernels before 6.15 clone only what is attached somewhere.
fn split_views(mount: OwnedFd) -> Result<(OwnedFd, OwnedFd), Error> {
    match clone_tree(mount.as_fd()) {
        Ok(clone) => Ok((mount, clone)),
        Err(Errno::INVAL) => split_in_private_namespace(mount),
        Err(error) => Err(Error::os("clone a memory file system")(error)),
    }
}

/// Attaches the mount in a short-lived thread's own mount namespace, clones it twice there, and lets it go.
fn split_in_private_namespace(mount: OwnedFd) -> Result<(OwnedFd, OwnedFd), Error> {
    let work = move || -> Result<(OwnedFd, OwnedFd), Error> {
        raw::unshare_thread_mounts().map_err(Error::os("make a private mount namespace"))?;
        let here = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::os("open the root of the private namespace"))?;
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::PRIVATE
                | rustix::mount::MountPropagationFlags::REC,
        )
        .map_err(Error::os("detach the private namespace from the host"))?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(mount.as_fd(), "", here.as_fd(), "", flags).map_err(Error::os(
            "attach a memory file system in the private namespace",
        ))?;
        let clone = || clone_tree(mount.as_fd()).map_err(Error::os("clone a memory file system"));
        Ok((clone()?, clone()?))
    };
    let failed = || Error::Os {
        step: "run the cloning thread",
        source: std::io::ErrorKind::Other.into(),
    };
    std::thread::Builder::new()
        .name("keywheel-clone".into())
        .spawn(work)
        .map_err(Error::os("start the cloning thread"))?
        .join()
        .map_err(|_| failed())?
}

fn clear_read_only(mount: BorrowedFd<'_>) -> Result<(), Error> {
    raw::mount_setattr(
        mount,
        0,
        u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()),
        0,
    )
    .map_err(Error::os("make the private view writable"))
}

/// Whether the file system behind `fd` is a memory file system.
pub(crate) fn is_memory_fs(fd: BorrowedFd<'_>) -> Result<bool, Error> {
    let found = fstatfs(fd).map_err(Error::os("read the file system type"))?;
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].contains(&found.f_type))
}

/// Whether the file system that `path` lies on is memory only (a last check before plaintext is written there).
pub fn lies_in_memory(path: &std::path::Path) -> Result<bool, Error> {
    let fd = rustix::fs::open(
        path,
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .map_err(Error::os("open a directory"))?;
    is_memory_fs(fd.as_fd())
}

#[cfg(test)]
mod tests;
