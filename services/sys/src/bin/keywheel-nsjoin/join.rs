//! The steps inside the foreign mount namespace. Descriptors only; every refusal is a fault number and an errno.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keywheel_sys::harden;
use keywheel_sys::mountinfo::{Line, Relation, for_each_line, mount_id, unescape};
use keywheel_sys::procfs::PROC_MAGIC;
use keywheel_sys::raw;
use keywheel_sys::secretfs::{RAMFS_MAGIC, TMPFS_MAGIC};
use keywheel_sys::wire::{Detail, Fault, Op, PLACEHOLDER_SOURCE, Request, SECRETS_SOURCE};
use rustix::fs::{
    CWD, Mode, OFlags, RawDir, ResolveFlags, StatVfsMountFlags, fstat, fstatfs, fstatvfs, mkdirat,
    openat, openat2,
};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::{LinkNameSpaceType, Timespec, move_into_link_name_space, nanosleep};

use crate::filter;

/// Tries of one lookup that the kernel answers with "again" (J11) …
const LOOKUP_TRIES: u32 = 100;
/// … with this pause in nanoseconds, so at most about 5 ms.
const LOOKUP_PAUSE: i64 = 50_000;
const DIR_FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const STRICT: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// A refusal.
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) errno: i32,
}

impl From<Errno> for Failure {
    /// Errors without a fault of their own come from reading the mount table.
    fn from(error: Errno) -> Self {
        Self::at(Fault::Table)(error)
    }
}

impl Failure {
    fn at(fault: Fault) -> impl FnOnce(Errno) -> Self {
        move |error| Self {
            fault,
            errno: error.raw_os_error(),
        }
    }

    fn refuse<T>(fault: Fault, error: Errno) -> Result<T, Self> {
        Err(Self::at(fault)(error))
    }
}

/// Joins the namespace and does what the request says.
pub(crate) fn perform(
    request: &Request,
    namespace: OwnedFd,
    tree: Option<OwnedFd>,
    detail: &mut Detail,
) -> Result<Option<OwnedFd>, Failure> {
    let procfs =
        openat(CWD, "/proc", DIR_FLAGS, Mode::empty()).map_err(Failure::at(Fault::Procfs))?;
    if fstatfs(&procfs).map_err(Failure::at(Fault::Procfs))?.f_type != PROC_MAGIC {
        return Failure::refuse(Fault::Procfs, Errno::INVAL);
    }
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(Failure::at(Fault::Join))?;
    narrow().map_err(|_| Failure {
        fault: Fault::Filter,
        errno: Errno::INVAL.raw_os_error(),
    })?;
    let root = openat(CWD, "/", DIR_FLAGS, Mode::empty()).map_err(Failure::at(Fault::Root))?;
    match (request.op, tree) {
        (Op::Attach, Some(tree)) => attach(request, &procfs, &root, &tree, detail).map(|()| None),
        (Op::Reacquire, None) => reacquire(request, &procfs, &root, detail).map(Some),
        _ => Failure::refuse(Fault::Request, Errno::INVAL),
    }
}

/// What holds from before the first look at anything of the container: two capabilities, and the list of calls.
fn narrow() -> Result<(), ()> {
    harden::keep_only(harden::INSIDE).map_err(drop)?;
    filter::install().map_err(drop)
}

fn attach(
    request: &Request,
    procfs: &OwnedFd,
    root: &OwnedFd,
    tree: &OwnedFd,
    detail: &mut Detail,
) -> Result<(), Failure> {
    let dir = request.dir();
    let placeholder = match survey(procfs, dir, detail)? {
        Found::Nothing => None,
        Found::Placeholder(id) => Some(id),
        Found::Secrets(_) => return Failure::refuse(Fault::Already, Errno::BUSY),
    };
    let target = match lookup(root, dir, ResolveFlags::IN_ROOT) {
        Err(Errno::NOENT) if request.create_dir => {
            create(root, dir)?;
            lookup(root, dir, ResolveFlags::IN_ROOT)
        }
        other => other,
    }
    .map_err(Failure::at(Fault::Open))?;
    let id = mount_id(target.as_fd())?;
    match placeholder {
        Some(expected) if expected != id => {
            return Failure::refuse(Fault::Placeholder, Errno::STALE);
        }
        Some(_) => check_placeholder(&target)?,
        None => refuse_shared(procfs, id, detail)?,
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", &target, "", flags).map_err(Failure::at(Fault::Move))?;
    let seen = lookup(root, dir, ResolveFlags::IN_ROOT).map_err(Failure::at(Fault::Device))?;
    check_device(&seen, request.device)
}

fn reacquire(
    request: &Request,
    procfs: &OwnedFd,
    root: &OwnedFd,
    detail: &mut Detail,
) -> Result<OwnedFd, Failure> {
    let dir = request.dir();
    let Found::Secrets(expected) = survey(procfs, dir, detail)? else {
        return Failure::refuse(Fault::Absent, Errno::NOENT);
    };
    let target = lookup(root, dir, ResolveFlags::IN_ROOT).map_err(Failure::at(Fault::Open))?;
    if mount_id(target.as_fd())? != expected {
        return Failure::refuse(Fault::Device, Errno::STALE);
    }
    check_device(&target, request.device)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = open_tree(&target, "", flags).map_err(Failure::at(Fault::Clone))?;
    raw::mount_setattr(
        clone.as_fd(),
        0,
        u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()),
        0,
    )
    .map_err(|error| Failure {
        fault: Fault::Writable,
        errno: error.raw_os_error().unwrap_or(0),
    })?;
    Ok(clone)
}

/// What the mount table shows at the directory. The last line wins: it is the uppermost mount.
#[derive(Clone, Copy)]
enum Found {
    Nothing,
    Placeholder(u64),
    Secrets(u64),
}

/// Walks the mount table; a mount at or below the directory that is not ours is a refusal that names it.
fn survey(procfs: &OwnedFd, dir: &[u8], detail: &mut Detail) -> Result<Found, Failure> {
    let mut found = Found::Nothing;
    for_each_line(table(procfs)?.as_fd(), |line: Line<'_>| {
        let memory = line.fs_type == b"tmpfs" || line.fs_type == b"ramfs";
        found = match line.relation(dir) {
            Relation::Elsewhere => found,
            Relation::At if memory && line.source == PLACEHOLDER_SOURCE => {
                Found::Placeholder(line.id)
            }
            Relation::At if memory && line.source == SECRETS_SOURCE => Found::Secrets(line.id),
            Relation::At | Relation::Below => {
                detail.set(unescape(line.mount_point));
                return Failure::refuse(Fault::Foreign, Errno::BUSY);
            }
        };
        Ok(())
    })?;
    Ok(found)
}

fn table(procfs: &OwnedFd) -> Result<OwnedFd, Failure> {
    Ok(openat(
        procfs,
        "self/mountinfo",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A mount made on a shared mount would appear in the host's table, and in other containers.
fn refuse_shared(procfs: &OwnedFd, id: u64, detail: &mut Detail) -> Result<(), Failure> {
    for_each_line(table(procfs)?.as_fd(), |line: Line<'_>| {
        if line.id == id && line.shared {
            detail.set(unescape(line.mount_point));
            return Failure::refuse(Fault::Shared, Errno::PERM);
        }
        Ok(())
    })
}

fn lookup(from: &OwnedFd, path: &[u8], scope: ResolveFlags) -> Result<OwnedFd, Errno> {
    for _ in 0..LOOKUP_TRIES {
        match openat2(from, path, DIR_FLAGS, Mode::empty(), STRICT | scope) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
        // An interrupted pause is a shorter one.
        let _ = nanosleep(&Timespec {
            tv_sec: 0,
            tv_nsec: LOOKUP_PAUSE,
        });
    }
    Err(Errno::AGAIN)
}

/// Makes the directory and its parents, one pinned component after the other.
fn create(root: &OwnedFd, dir: &[u8]) -> Result<(), Failure> {
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    let mut here: Option<OwnedFd> = None;
    for part in dir
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
    {
        let from = here.as_ref().unwrap_or(root);
        let next = match lookup(from, part, ResolveFlags::BENEATH) {
            Err(Errno::NOENT) => {
                match mkdirat(from, part, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Failure::refuse(Fault::Create, error),
                }
                lookup(from, part, ResolveFlags::BENEATH)
            }
            other => other,
        };
        here = Some(next.map_err(Failure::at(Fault::Open))?);
    }
    Ok(())
}

/// The wrapper's mount point: a memory file system, read-only, empty.
fn check_placeholder(target: &OwnedFd) -> Result<(), Failure> {
    let fail = || Failure::at(Fault::Placeholder);
    let read_only = fstatvfs(target)
        .map_err(fail())?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY);
    if !read_only || !is_memory(target.as_fd()).map_err(fail())? {
        return Failure::refuse(Fault::Placeholder, Errno::PERM);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listing = openat(target, ".", flags, Mode::empty()).map_err(fail())?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(listing, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(fail())?;
        if ![c".", c".."].contains(&entry.file_name()) {
            return Failure::refuse(Fault::Placeholder, Errno::NOTEMPTY);
        }
    }
    Ok(())
}

fn is_memory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].contains(&fstatfs(fd)?.f_type))
}

fn check_device(seen: &OwnedFd, expected: u64) -> Result<(), Failure> {
    let fail = || Failure::at(Fault::Device);
    let same = fstat(seen).map_err(fail())?.st_dev == expected;
    if same && is_memory(seen.as_fd()).map_err(fail())? {
        Ok(())
    } else {
        Failure::refuse(Fault::Device, Errno::STALE)
    }
}

#[cfg(test)]
mod tests;
