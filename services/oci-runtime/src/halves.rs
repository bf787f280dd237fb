//! The two halves of a call that asks or reads. The filtered half, a process of its own, does all of that: it has the
//! one capability that it needs and no way to more, makes no system call but those of its list, and dies with the
//! other half. The outer half, which the engine knows, reads nothing and holds no value: it runs the real runtime when
//! it is told to, with arguments that it makes itself, because a filter would pass to the real runtime and to every
//! container.
//!
//! Invariants: what the filtered half can have done is a create of this call's container, this call's exec, or the
//! removal of this call's container; when it ends without a word, the real runtime of that moment is ended, too, and
//! the call is refused.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use keywheel_sys::scrub::Scrubbed;
use keywheel_sys::{filter, harden, raw};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, WaitOptions, getpid, pidfd_open, waitpid};

use crate::args::Invocation;
use crate::calls;
use crate::refuse::{self, Refusal};
use crate::work::{Outcome, Work};
use crate::{bundle, create, exec, real};

/// Longest message between the halves: a path and a word about it.
const MAX_MESSAGE: usize = 8 * 1024;
/// First bytes of what the filtered half says.
const CREATE: u8 = b'c';
const CREATE_FED: u8 = b'f';
const EXEC: u8 = b'x';
const DELETE: u8 = b'd';
const ENDED: u8 = b'e';
const PASS: u8 = b'p';
/// First bytes of the answers.
const STATUS: u8 = b's';
const NOT_RUN: u8 = b'n';

/// What the real runtime shall do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order<'a> {
    /// Create this call's container from the private bundle.
    Create {
        /// The private bundle.
        bundle: &'a Path,
        /// Whether the configuration comes through the pipe.
        is_fed: bool,
    },
    /// This call's exec, with a process file that comes through the pipe.
    Exec,
    /// Remove this call's container.
    Delete,
}

/// The filtered half's way to the real runtime.
pub(crate) struct Outside {
    socket: OwnedFd,
    feed: Option<OwnedFd>,
}

impl Outside {
    /// Has the real runtime run to its end. What it is fed goes through a pipe: what it reads is gone with it, and
    /// with this program, however either ends.
    pub(crate) fn run(
        &mut self,
        order: Order<'_>,
        bytes: Option<Scrubbed>,
    ) -> io::Result<ExitStatus> {
        let (kind, path) = match order {
            Order::Create { bundle, is_fed } if is_fed => (CREATE_FED, bundle.as_os_str()),
            Order::Create { bundle, .. } => (CREATE, bundle.as_os_str()),
            Order::Exec => (EXEC, OsStr::new("")),
            Order::Delete => (DELETE, OsStr::new("")),
        };
        tell(&self.socket, kind, path.as_bytes())?;
        if let (Some(bytes), Some(pipe)) = (bytes, self.feed.take()) {
            // EXPOSE: into the pipe to the real runtime, kernel memory that is never written out.
            let _ = File::from(pipe).write_all(bytes.expose());
        }
        let (kind, rest) = hear(&self.socket)?.ok_or(io::ErrorKind::BrokenPipe)?;
        match (kind, <[u8; 4]>::try_from(rest.as_slice())) {
            (STATUS, Ok(status)) => Ok(ExitStatus::from_raw(i32::from_le_bytes(status))),
            _ => Err(io::Error::other(
                String::from_utf8_lossy(&rest).into_owned(),
            )),
        }
    }
}

fn tell(socket: &OwnedFd, kind: u8, rest: &[u8]) -> io::Result<()> {
    let message = [&[kind][..], rest].concat();
    send(socket, &message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message; `None` when the other half is gone.
fn hear(socket: &OwnedFd) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let hearing = || recv(socket, bytes.as_mut_slice(), RecvFlags::empty());
    let (count, _) = rustix::io::retry_on_intr(hearing)?;
    bytes.truncate(count);
    Ok(bytes
        .split_first()
        .map(|(kind, rest)| (*kind, rest.to_vec())))
}

/// Does the work of a call in two halves, and returns in the outer one alone.
pub(crate) fn run(invocation: &Invocation, work: &Work) -> Result<Outcome, Refusal> {
    seclude().map_err(|error| Refusal::new(error.to_string(), "run the engine as root"))?;
    let runtime = real::find(&invocation.real_runtime);
    match part(invocation, work, &runtime) {
        Ok((socket, feed, pid)) => {
            let outer = Outer {
                invocation,
                work,
                runtime: runtime.ok(),
                socket,
                feed: Some(feed),
                filtered: pid,
            };
            outer.serve()
        }
        Err(error) => Err(Refusal::new(
            format!("keywheel-runtime cannot start its filtered half: {error}"),
            "let the engine start more processes (its TasksMax, the kernel's pid_max) and try again",
        )),
    }
}

/// What this program reads and holds is for nobody else, and it acts with the one capability that it needs for itself.
fn seclude() -> Result<(), keywheel_sys::Error> {
    harden::transient().and_then(|()| harden::act_with(harden::OF_WRAPPER))
}

/// Starts the filtered half, and returns in the outer one.
fn part(
    invocation: &Invocation,
    work: &Work,
    runtime: &Result<PathBuf, Refusal>,
) -> io::Result<(OwnedFd, OwnedFd, Pid)> {
    let flags = SocketFlags::CLOEXEC;
    let (outer, inner) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let this = getpid();
    if let Some(pid) = raw::fork()? {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        return Ok((outer, read, pid));
    }
    drop((outer, read));
    let mut outside = Outside {
        socket: inner,
        feed: Some(write),
    };
    let outcome = confine(this, invocation)
        .map_err(|text| Refusal::new(text, "use a kernel that knows seccomp filters"))
        .and_then(|()| match work {
            Work::Create { create, begun } => {
                create::run(invocation, create, runtime, *begun, &mut outside)
            }
            Work::Direct(start) => create::check_direct(start),
            Work::Exec(exec) => Ok(exec::run(invocation, exec, &mut outside)),
        });
    let (kind, code) = match outcome {
        Ok(Outcome::PassThrough) => (PASS, 0),
        Ok(Outcome::Done(code)) => (ENDED, code),
        Err(refusal) => {
            refuse::report(invocation, &refusal);
            (ENDED, 1)
        }
    };
    // Where nobody hears it this program is about to be killed.
    let _ = tell(&outside.socket, kind, &[code]);
    std::process::exit(0)
}

/// From here on: one capability, the list of calls, and an end with the other half.
fn confine(outer: Pid, invocation: &Invocation) -> Result<(), String> {
    harden::keep_only(harden::OF_WRAPPER).map_err(|error| error.to_string())?;
    harden::end_with(outer).map_err(|error| error.to_string())?;
    filter::install(&calls::allowed(invocation.failpoints.is_some()))
        .map_err(|error| format!("keywheel-runtime cannot install its filter: {error}"))
}

/// The outer half.
struct Outer<'a> {
    invocation: &'a Invocation,
    work: &'a Work,
    /// Only what was found is run; the filtered half says why nothing was.
    runtime: Option<PathBuf>,
    socket: OwnedFd,
    feed: Option<OwnedFd>,
    filtered: Pid,
}

impl Outer<'_> {
    fn serve(mut self) -> Result<Outcome, Refusal> {
        while let Ok(Some((kind, rest))) = hear(&self.socket) {
            match (kind, rest.as_slice()) {
                (PASS, _) => {
                    let _ = self.reap();
                    return Ok(Outcome::PassThrough);
                }
                (ENDED, [code]) => {
                    let _ = self.reap();
                    return Ok(Outcome::Done(*code));
                }
                _ => match self.run(kind, &rest) {
                    Some(answer) => self.answer(answer),
                    None => break,
                },
            }
        }
        self.died()
    }

    /// Ends with it in any case, so its status is the last that there is to say.
    fn reap(&self) -> Option<rustix::process::WaitStatus> {
        let waiting = || waitpid(Some(self.filtered), WaitOptions::empty());
        let ended = rustix::io::retry_on_intr(waiting).ok()??;
        Some(ended.1)
    }

    fn died(&self) -> Result<Outcome, Refusal> {
        if matches!(self.work, Work::Exec(_)) && self.feed.is_some() {
            // An exec is never refused: it runs with its placeholders.
            let _ = self.reap();
            return Ok(Outcome::PassThrough);
        }
        let signal = self
            .reap()
            .and_then(rustix::process::WaitStatus::terminating_signal);
        let how = match signal {
            Some(signal) if signal == rustix::process::Signal::SYS.as_raw() => {
                "made a system call that is not on its list".to_owned()
            }
            Some(signal) => format!("was ended by signal {signal}"),
            None => "ended without a word".to_owned(),
        };
        Err(Refusal::new(
            format!("the filtered half of keywheel-runtime {how}"),
            "start the container again; if it happens again, report it with the output of `uname -rm`",
        ))
    }

    fn answer(&self, answer: io::Result<ExitStatus>) {
        // One that is gone meanwhile is found gone by the next look.
        let _ = match answer {
            Ok(status) => tell(&self.socket, STATUS, &status.into_raw().to_le_bytes()),
            Err(error) => tell(&self.socket, NOT_RUN, error.to_string().as_bytes()),
        };
    }

    /// Runs the real runtime as it was told; `None` when the filtered half is gone.
    fn run(&mut self, kind: u8, rest: &[u8]) -> Option<io::Result<ExitStatus>> {
        let Some(runtime) = self.runtime.clone() else {
            return Some(Err(io::ErrorKind::NotFound.into()));
        };
        let is_fed = matches!(kind, CREATE_FED | EXEC);
        let feed = if is_fed { self.feed.take() } else { None };
        let Some(arguments) = self.arguments(kind, rest, feed.as_ref()) else {
            return Some(Err(io::ErrorKind::InvalidInput.into()));
        };
        match real::start(&runtime, &arguments, feed) {
            Ok(child) => self.wait(child).transpose(),
            Err(error) => Some(Err(error)),
        }
    }

    /// Nothing of them is the filtered half's word but the bundle's parent directory.
    fn arguments(&self, kind: u8, rest: &[u8], feed: Option<&OwnedFd>) -> Option<Vec<OsString>> {
        let place = feed.map(|feed| OsString::from(format!("/proc/self/fd/{}", feed.as_raw_fd())));
        match (self.work, kind) {
            (Work::Create { create, .. }, CREATE | CREATE_FED) => {
                let path = Path::new(OsStr::from_bytes(rest));
                let is_its = path.is_absolute() && path.file_name() == Some(OsStr::new(&create.id));
                let pid_file = create.pid_file.clone();
                let pid_file = pid_file.unwrap_or_else(|| bundle::pid_file(path));
                is_its.then(|| {
                    let (path, pid_file) = (path.as_os_str(), pid_file.as_os_str());
                    self.invocation
                        .create_in(create, path, pid_file, place.as_deref())
                })
            }
            (Work::Create { create, .. }, DELETE) => Some(self.invocation.delete(&create.id)),
            (Work::Exec(exec), EXEC) => Some(self.invocation.exec_in(exec, place?.as_os_str())),
            _ => None,
        }
    }

    /// Waits for the real runtime, or ends it when the filtered half is gone: then nobody would go on with what it made.
    fn wait(&self, mut child: Child) -> io::Result<Option<ExitStatus>> {
        if self.is_left_alone(&child) {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        child.wait().map(Some)
    }

    /// Whether the filtered half ends before the real runtime does. A kernel that cannot say is not asked again.
    fn is_left_alone(&self, child: &Child) -> bool {
        let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let Some(ended) = number.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return false;
        };
        let mut both = [
            PollFd::new(&ended, PollFlags::IN),
            PollFd::new(&self.socket, PollFlags::RDHUP),
        ];
        if rustix::io::retry_on_intr(|| poll(&mut both, None)).is_err() {
            return false;
        }
        let [of_child, of_socket] = both.map(|one| one.revents());
        of_child.is_empty() && !of_socket.is_empty()
    }
}
