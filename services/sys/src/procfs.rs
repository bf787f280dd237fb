//! A process, held so that its pid cannot come to mean another one (J1, J7).
//!
//! Order of [`PinnedPid::open`]: pidfd, then the `/proc/PID` directory through a checked procfs, then a liveness check
//! through the pidfd. All later reads go through that directory handle. Nothing here believes what a container wrote.

mod text;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fstat, fstatfs, major, minor, openat, readlinkat};
use rustix::io::{Errno, read};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::mountinfo::{Line, for_each_line};
use crate::{Error, raw};

/// `fstatfs` type of procfs.
pub const PROC_MAGIC: i64 = 0x9fa0;
/// `fstatfs` type of namespace handles.
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// Inode number of every procfs root.
const PROC_ROOT_INODE: u64 = 1;
/// Most bytes read of one procfs file.
const MAX_TEXT: usize = 64 * 1024;

/// What a process has at the directory of a secret file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The file system is mounted there, or wherever a rename took the directory.
    Seen,
    /// Another mount, made later, is at the directory or above it.
    Covered,
    /// The file system is mounted nowhere in the process's namespace.
    Unmounted,
    /// The process changed its root, so its mount table is not the whole one.
    Unknown,
}

/// A live process: its pidfd and its procfs directory.
pub struct PinnedPid {
    pid: i32,
    pidfd: OwnedFd,
    dir: OwnedFd,
    own_mounts: u64,
}

impl PinnedPid {
    /// Pins `pid`.
    pub fn open(pid: i32) -> Result<Self, Error> {
        let gone = |error: Errno, step| match error {
            Errno::SRCH | Errno::NOENT => Error::Gone { pid },
            other => Error::os(step)(other),
        };
        // rustix panics on a negative pid.
        let raw_pid = Pid::from_raw(pid.max(0)).ok_or(Error::Gone { pid })?;
        let pidfd = pidfd_open(raw_pid, PidfdFlags::empty())
            .map_err(|error| gone(error, "open a pidfd"))?;
        let root = open_procfs()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(&root, pid.to_string().as_str(), flags, Mode::empty())
            .map_err(|error| gone(error, "open the process in procfs"))?;
        let own = openat(
            &root,
            "self/ns/mnt",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(Error::os("open this program's mount namespace"))?;
        let own_mounts = fstat(&own)
            .map_err(Error::os("read this program's mount namespace"))?
            .st_ino;
        let pinned = Self {
            pid,
            pidfd,
            dir,
            own_mounts,
        };
        pinned.ensure_alive()?;
        Ok(pinned)
    }

    /// The pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the process has not ended yet (one that ended and was not reaped counts as ended).
    #[must_use]
    pub fn is_alive(&self) -> bool {
        raw::pidfd_send_signal(self.pidfd.as_fd(), 0).is_ok()
            && self.text("stat").is_ok_and(|stat| !text::is_zombie(&stat))
    }

    fn ensure_alive(&self) -> Result<(), Error> {
        if self.is_alive() {
            Ok(())
        } else {
            Err(Error::Gone { pid: self.pid })
        }
    }

    /// Whether the kernel accounts the process to the container with this full id.
    pub fn belongs_to(&self, container_id: &str) -> Result<bool, Error> {
        let found = text::cgroup_names(&self.text("cgroup")?, container_id);
        self.ensure_alive()?;
        Ok(found)
    }

    /// The mount namespace; refused when it is this program's own.
    pub fn mount_namespace(&self) -> Result<OwnedFd, Error> {
        let namespace = openat(
            &self.dir,
            "ns/mnt",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| self.gone_or("open the mount namespace", error))?;
        let kind = fstatfs(&namespace)
            .map_err(Error::os("read the mount namespace"))?
            .f_type;
        if kind != NSFS_MAGIC {
            return Err(Error::Procfs {
                file: "ns/mnt",
                pid: self.pid,
            });
        }
        if fstat(&namespace)
            .map_err(Error::os("read the mount namespace"))?
            .st_ino
            == self.own_mounts
        {
            return Err(Error::HostNamespace { pid: self.pid });
        }
        self.ensure_alive()?;
        Ok(namespace)
    }

    /// What the process has at `dir`, where the secret file system with this device was attached. To undo that
    /// takes the right to mount.
    pub fn sight(&self, dir: &str, device: u64) -> Result<Sight, Error> {
        let root = readlinkat(&self.dir, "root", Vec::<u8>::new())
            .map_err(|error| self.gone_or("read the root of the process", error))?;
        if root.as_bytes() != b"/" {
            return Ok(Sight::Unknown);
        }
        let table = self.open_file("mountinfo")?;
        let device = (major(device), minor(device));
        let mut sight = Sight::Unmounted;
        for_each_line::<Errno>(table.as_fd(), |line: Line<'_>| {
            if line.device == device {
                sight = Sight::Seen;
            } else if sight == Sight::Seen && line.covers(dir.as_bytes()) {
                sight = Sight::Covered;
            }
            Ok(())
        })
        .map_err(|error| self.gone_or("read the mount table of the process", error))?;
        Ok(sight)
    }

    /// Start time in clock ticks since boot: with the pid, the identity of a process until reboot.
    pub fn start_ticks(&self) -> Result<u64, Error> {
        text::start_ticks(&self.text("stat")?).ok_or(Error::Procfs {
            file: "stat",
            pid: self.pid,
        })
    }

    /// Whether the process has a handler of its own for `signal`.
    pub fn catches(&self, signal: i32) -> Result<bool, Error> {
        let mask = text::caught_signals(&self.text("status")?).ok_or(Error::Procfs {
            file: "status",
            pid: self.pid,
        })?;
        let bit = u32::try_from(signal)
            .ok()
            .and_then(|signal| signal.checked_sub(1))
            .filter(|bit| *bit < 64);
        Ok(bit.is_some_and(|bit| mask >> bit & 1 == 1))
    }

    /// Sends `signal` to exactly this process.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        raw::pidfd_send_signal(self.pidfd.as_fd(), signal).map_err(|source| {
            if source.raw_os_error() == Some(Errno::SRCH.raw_os_error()) {
                Error::Gone { pid: self.pid }
            } else {
                Error::Os {
                    step: "signal the process",
                    source,
                }
            }
        })
    }

    /// The host's id for user `uid` of the container.
    pub fn map_uid(&self, uid: u32) -> Result<u32, Error> {
        text::map_id(&self.text("uid_map")?, uid).ok_or(Error::Unmapped { id: uid })
    }

    /// The host's id for group `gid` of the container.
    pub fn map_gid(&self, gid: u32) -> Result<u32, Error> {
        text::map_id(&self.text("gid_map")?, gid).ok_or(Error::Unmapped { id: gid })
    }

    fn gone_or(&self, step: &'static str, error: Errno) -> Error {
        match error {
            Errno::SRCH | Errno::NOENT => Error::Gone { pid: self.pid },
            other => Error::os(step)(other),
        }
    }

    fn bad(&self, file: &'static str) -> Error {
        Error::Procfs {
            file,
            pid: self.pid,
        }
    }

    fn open_file(&self, file: &'static str) -> Result<OwnedFd, Error> {
        let fd = openat(
            &self.dir,
            file,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| self.gone_or("open a file of procfs", error))?;
        if fstatfs(&fd).map_err(Error::os("read procfs"))?.f_type != PROC_MAGIC {
            return Err(self.bad(file));
        }
        Ok(fd)
    }

    fn text(&self, file: &'static str) -> Result<String, Error> {
        let bad = || self.bad(file);
        let fd = self.open_file(file)?;
        let mut bytes = vec![0; MAX_TEXT];
        let mut filled = 0;
        loop {
            let free = bytes
                .get_mut(filled..)
                .filter(|free| !free.is_empty())
                .ok_or_else(bad)?;
            match read(&fd, free) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.gone_or("read procfs", error)),
            }
        }
        bytes.truncate(filled);
        String::from_utf8(bytes).map_err(|_| bad())
    }
}

/// A procfs that nothing can be mounted over: a fresh detached one, else the checked `/proc`.
fn open_procfs() -> Result<OwnedFd, Error> {
    let root = match fresh_procfs() {
        Ok(fd) => fd,
        Err(_) => openat(
            CWD,
            "/proc",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(Error::os("open /proc"))?,
    };
    check_procfs(root.as_fd())?;
    Ok(root)
}

fn fresh_procfs() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Refuses what is not the root of a procfs (J5: a fake one could redirect every read).
pub(crate) fn check_procfs(root: BorrowedFd<'_>) -> Result<(), Error> {
    let kind = fstatfs(root)
        .map_err(Error::os("read the type of /proc"))?
        .f_type;
    let inode = fstat(root).map_err(Error::os("read /proc"))?.st_ino;
    if kind == PROC_MAGIC && inode == PROC_ROOT_INODE {
        Ok(())
    } else {
        Err(Error::NotSecretFs {
            reason: "/proc is not procfs",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> Child {
        Command::new("sleep")
            .arg("60")
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn pin(child: &Child) -> PinnedPid {
        PinnedPid::open(i32::try_from(child.id()).unwrap()).unwrap()
    }

    /// Not HUP, which whoever runs the tests under `nohup` ignores, and with it all that they start.
    const USR1: i32 = 10;

    #[test]
    fn a_pin_outlives_its_process_and_says_so() {
        let mut child = sleeper();
        let pinned = pin(&child);
        assert!(pinned.is_alive());
        assert!(pinned.start_ticks().unwrap() > 0);
        child.kill().unwrap();
        while pinned.is_alive() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(matches!(pinned.signal(15), Err(Error::Gone { .. })));
        assert!(matches!(pinned.belongs_to("x"), Err(Error::Gone { .. })));
        assert!(matches!(
            PinnedPid::open(pinned.pid()),
            Err(Error::Gone { .. })
        ));
    }

    const REUSED: &str = "procfs::tests::a_number_that_means_another_process_reaches_neither";
    const CHILD: &str = "KEYWHEEL_TEST_PID_NAMESPACE";

    /// Starts itself again where it may say which number the next process gets.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the child is told by a variable, which libtest leaves alone"
    )]
    fn a_number_that_means_another_process_reaches_neither() {
        if std::env::var_os(CHILD).is_some() {
            return reuse_a_number();
        }
        if !rustix::process::geteuid().is_root() {
            assert!(
                std::env::var_os("CI").is_none(),
                "this test needs root in CI"
            );
            return;
        }
        let output = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", REUSED, "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }

    fn reuse_a_number() {
        let mut first = sleeper();
        let pinned = pin(&first);
        first.kill().unwrap();
        first.wait().unwrap();
        let last = (first.id() - 1).to_string();
        std::fs::write("/proc/sys/kernel/ns_last_pid", last).unwrap();
        let mut second = sleeper();
        assert_eq!(first.id(), second.id(), "the number was not used again");
        // The handle says that its process is gone, also through the directory of the same name.
        assert!(!pinned.is_alive());
        assert!(matches!(pinned.signal(9), Err(Error::Gone { .. })));
        assert!(matches!(pinned.start_ticks(), Err(Error::Gone { .. })));
        assert!(matches!(pinned.belongs_to("x"), Err(Error::Gone { .. })));
        assert!(matches!(pinned.mount_namespace(), Err(Error::Gone { .. })));
        assert!(matches!(pinned.sight("/proc", 1), Err(Error::Gone { .. })));
        assert!(
            second.try_wait().unwrap().is_none(),
            "the other one was hit"
        );
        assert!(pin(&second).is_alive());
        second.kill().unwrap();
        second.wait().unwrap();
    }

    #[test]
    fn no_process_has_pid_zero_or_less() {
        for pid in [0, -1, i32::MIN] {
            assert!(
                matches!(PinnedPid::open(pid), Err(Error::Gone { .. })),
                "{pid}"
            );
        }
    }

    #[test]
    fn signals_reach_exactly_the_pinned_process() {
        use std::os::unix::process::ExitStatusExt;
        let mut child = sleeper();
        let pinned = pin(&child);
        assert!(!pinned.catches(USR1).unwrap());
        assert!(!pinned.catches(0).unwrap());
        assert!(!pinned.catches(65).unwrap());
        pinned.signal(USR1).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(USR1));
    }

    #[test]
    fn a_caught_signal_is_seen() {
        use std::os::unix::process::CommandExt;
        let mut child = Command::new("sh")
            .args(["-c", "trap : USR1; echo ready; sleep 60 & wait"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let pinned = pin(&child);
        assert!(pinned.catches(USR1).unwrap());
        assert!(!pinned.catches(12).unwrap());
        rustix::process::kill_process_group(Pid::from_child(&child), rustix::process::Signal::KILL)
            .unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_mount_namespace_of_this_program_is_refused() {
        let mut child = sleeper();
        assert!(matches!(
            pin(&child).mount_namespace(),
            Err(Error::HostNamespace { .. })
        ));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_sees_what_is_mounted_in_its_namespace_and_nothing_else() {
        let mut child = sleeper();
        let pinned = pin(&child);
        let root = fstat(
            rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap(),
        );
        let device = root.unwrap().st_dev;
        assert_eq!(pinned.sight("/proc", device).unwrap(), Sight::Seen);
        assert_eq!(pinned.sight("/proc", u64::MAX).unwrap(), Sight::Unmounted);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(pinned.sight("/proc", device).is_err());
    }

    #[test]
    fn ids_of_the_host_map_to_themselves() {
        let mut child = sleeper();
        assert_eq!(pin(&child).map_uid(1000).unwrap(), 1000);
        assert_eq!(pin(&child).map_gid(65534).unwrap(), 65534);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_directory_that_is_not_procfs_is_refused() {
        let other = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(check_procfs(other.as_fd()).is_err());
        let below =
            rustix::fs::open("/proc/self", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(check_procfs(below.as_fd()).is_err());
    }
}
