//! Starts the static namespace helper for one attach or reacquire, and bounds it in time (J8, J9).
//!
//! This program never joins a foreign namespace and never forks by itself: the helper is exec'ed from a sealed
//! in-memory copy of its binary, gets its file descriptors over a socketpair, and is always reaped.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::Error;
use crate::procfs::PinnedPid;
use crate::secretfs::{SecretDir, SecretFs};
use crate::wire::{Fault, Op, REPLY_LEN, Reply, Request};

/// File name of the helper binary.
pub const HELPER_NAME: &str = "keywheel-nsjoin";
/// Limit for one call unless the caller chooses another.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest helper binary that is loaded.
const MAX_BINARY: u64 = 64 * 1024 * 1024;

/// How to run the helper.
#[derive(Clone, Debug)]
pub struct Helper {
    /// The static binary `keywheel-nsjoin`.
    pub path: PathBuf,
    /// After this time the helper is killed and the call fails.
    pub timeout: Duration,
}

impl Helper {
    /// A helper with the default time limit.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Mounts the read-only view of `fs` at `dir` inside the target's mount namespace.
    ///
    /// Refuses, naming it, when another mount is at or below `dir`; only the OCI runtime wrapper's empty read-only
    /// placeholder is accepted there. The caller has compared the target with its container before
    /// ([`PinnedPid::belongs_to`]); that the target still lives is checked again afterwards.
    pub fn attach(
        &self,
        target: &PinnedPid,
        fs: &SecretFs,
        dir: &str,
        create_dir: bool,
    ) -> Result<(), Error> {
        let request = self.request(Op::Attach, create_dir, fs.device(), dir)?;
        let namespace = target.mount_namespace()?;
        self.call(&request, &[namespace.as_fd(), fs.visible()], dir)?;
        if target.is_alive() {
            Ok(())
        } else {
            Err(Error::Gone { pid: target.pid() })
        }
    }

    /// Gets the writable view of a secret file system back that an earlier run attached at `dir`.
    pub fn reacquire(
        &self,
        target: &PinnedPid,
        dir: &str,
        expected_device: u64,
    ) -> Result<SecretDir, Error> {
        let request = self.request(Op::Reacquire, false, expected_device, dir)?;
        let namespace = target.mount_namespace()?;
        let clone = self
            .call(&request, &[namespace.as_fd()], dir)?
            .ok_or_else(|| Error::HelperDied {
                status: "no file descriptor in its answer".into(),
            })?;
        let found = SecretDir::adopt(clone, None)?;
        if found.device() != expected_device {
            return Err(Error::NotSecretFs {
                reason: "its device is not the expected one",
            });
        }
        found.verify()?;
        if target.is_alive() {
            Ok(found)
        } else {
            Err(Error::Gone { pid: target.pid() })
        }
    }

    fn request(&self, op: Op, create_dir: bool, device: u64, dir: &str) -> Result<Request, Error> {
        let seconds = u32::try_from(self.timeout.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        Request::new(op, create_dir, seconds, device, dir.as_bytes()).ok_or_else(|| {
            Error::BadDirectory {
                dir: dir.chars().take(256).collect(),
            }
        })
    }

    /// One helper from start to reaping.
    fn call(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
        dir: &str,
    ) -> Result<Option<OwnedFd>, Error> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(Error::os("make a socket pair"))?;
        let mut child = self.spawn(theirs)?;
        let result = send(&ours, request, fds).and_then(|()| receive(&ours, self.timeout));
        if !matches!(result, Ok(Some(_))) {
            // It may have ended already; then there is nothing to kill.
            let _ = child.kill();
        }
        let status = child
            .wait()
            .map_err(Error::os("wait for the namespace helper"))?;
        match result {
            Ok(Some((reply, fd))) => judge(&reply, fd, dir),
            Ok(None) => Err(Error::HelperDied {
                status: status.to_string(),
            }),
            Err(Errno::TIME) => Err(Error::HelperTimeout {
                timeout: self.timeout,
            }),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(Error::HelperDied {
                status: status.to_string(),
            }),
            Err(error) => Err(Error::os("talk to the namespace helper")(error)),
        }
    }

    fn spawn(&self, socket: OwnedFd) -> Result<Child, Error> {
        let failed = |source| Error::HelperStart {
            path: self.path.clone(),
            source,
        };
        let image = self.sealed_copy().map_err(failed)?;
        Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)
    }

    /// The binary in memory, immutable: what runs near a container is never a file on the host (CVE-2019-5736).
    fn sealed_copy(&self) -> io::Result<OwnedFd> {
        let mut source = File::open(&self.path)?;
        if source.metadata()?.len() > MAX_BINARY {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "not the namespace helper: too large",
            ));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag for an executable one and refuse it.
        let image = memfd_create(HELPER_NAME, flags | MemfdFlags::EXEC)
            .or_else(|_| memfd_create(HELPER_NAME, flags))?;
        let mut copy = File::from(image);
        io::copy(&mut source, &mut copy)?;
        let image = OwnedFd::from(copy);
        fcntl_add_seals(
            &image,
            SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )?;
        Ok(image)
    }
}

fn send(socket: &OwnedFd, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = request.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .map(|_| ())
}

/// The answer; `None` when the helper ended without one.
fn receive(socket: &OwnedFd, timeout: Duration) -> Result<Option<(Reply, Option<OwnedFd>)>, Errno> {
    let limit = Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
    let mut ready = [PollFd::new(socket, PollFlags::IN)];
    loop {
        match poll(&mut ready, Some(&limit)) {
            Ok(0) => return Err(Errno::TIME),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    let mut bytes = [0; REPLY_LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let count = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut passed = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            passed = fds.next();
        }
    }
    match bytes.get(..count).unwrap_or_default() {
        [] => Ok(None),
        message => Reply::decode(message)
            .map(|reply| Some((reply, passed)))
            .ok_or(Errno::PROTO),
    }
}

fn judge(reply: &Reply, fd: Option<OwnedFd>, dir: &str) -> Result<Option<OwnedFd>, Error> {
    let dir = dir.to_owned();
    Err(match reply.fault {
        Fault::None => return Ok(fd),
        Fault::Foreign => Error::ForeignMount {
            dir,
            mount: reply.detail.text(),
        },
        Fault::Shared => Error::SharedMount {
            dir,
            mount: reply.detail.text(),
        },
        Fault::Already => Error::AlreadyAttached { dir },
        fault => Error::Helper {
            dir,
            reason: fault.text(),
            source: io::Error::from_raw_os_error(reply.errno),
        },
    })
}
