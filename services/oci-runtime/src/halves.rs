//! The two halves of a call that asks or reads. The filtered half, a process of its own, does all of that: it has the
//! one capability that it needs and no way to more, makes no system call but those of its list, and dies with the
//! other half. The outer half, which the engine knows, reads nothing and holds no value: it runs the real runtime when
//! it is told to, with arguments that it makes itself, because a filter would pass to the real runtime and to every
//! container.
//!
//! What the filter takes from somebody who took the filtered half over is the kernel behind all other calls. Files and
//! local sockets it still reaches as root does, and what the real runtime makes of a bundle is that bundle's word.
//!
//! Invariants: the outer half runs one create of this call's container, or this call's exec, and after a create its
//! removal, and nothing else; when the filtered half ends without a word during a create, so does the real runtime,
//! the call is refused, and a container that was made by then is removed; an exec is never refused by us, and never
//! runs twice.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use keywheel_sys::scrub::Scrubbed;
use keywheel_sys::{harden, raw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::pipe::PipeFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, waitpid,
};

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

/// How long a filtered half that ends may take for it.
const LAST_MOMENT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// How often the real runtime is looked at where the kernel does not tell its end.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
/// Exit code 1 as `wait` tells it.
const FAILED: i32 = 1 << 8;

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
    let runtime = real::find(&invocation.real_runtime);
    let parted = seclude()
        .map_err(|error| Refusal::new(error.to_string(), "run the engine as root"))
        .and_then(|()| part(invocation, work, &runtime).map_err(|error| no_half(&error)));
    match parted {
        Ok((socket, feed, filtered)) => Outer {
            invocation,
            work,
            runtime: runtime.ok(),
            socket,
            feed: Some(feed),
            filtered,
            ran: None,
        }
        .serve(),
        Err(_) if matches!(work, Work::Exec(_)) => Ok(Outcome::PassThrough),
        Err(refusal) => Err(refusal),
    }
}

fn no_half(error: &io::Error) -> Refusal {
    Refusal::new(
        format!("keywheel-runtime cannot start its filtered half: {error}"),
        "let the engine start more processes (its TasksMax, the kernel's pid_max) and try again",
    )
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
    let confined = confine(this, invocation, &outside);
    let outcome = match (confined, work) {
        (Ok(()), Work::Create { create, begun }) => {
            create::run(invocation, create, runtime, *begun, &mut outside)
        }
        (Ok(()), Work::Direct(start)) => create::check_direct(start),
        (Ok(()), Work::Exec(exec)) if runtime.is_ok() => {
            Ok(exec::run(invocation, exec, &mut outside))
        }
        (_, Work::Exec(_)) => Ok(Outcome::PassThrough),
        (Err(text), _) => {
            let next = "use a kernel that knows seccomp filters";
            Err(Refusal::new(text, next))
        }
    };
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

/// From here on: no descriptor of the engine's, one capability, the list of calls, and an end with the other half.
fn confine(outer: Pid, invocation: &Invocation, outside: &Outside) -> Result<(), String> {
    let feed = outside.feed.as_ref().unwrap_or(&outside.socket);
    raw::close_all_but([outside.socket.as_fd(), feed.as_fd()])
        .map_err(|error| format!("keywheel-runtime cannot close what it was given: {error}"))?;
    harden::keep_only(harden::OF_WRAPPER).map_err(|error| error.to_string())?;
    harden::end_with(outer).map_err(|error| error.to_string())?;
    calls::install(outer, invocation.failpoints.is_some())
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
    /// How the create or exec ended that was run.
    ran: Option<ExitStatus>,
}

impl Outer<'_> {
    fn serve(mut self) -> Result<Outcome, Refusal> {
        let mut is_removed = false;
        while let Ok(Some((kind, rest))) = hear(&self.socket) {
            let is_create = matches!(self.work, Work::Create { .. });
            let is_made = is_create && self.ran.is_some_and(|status| status.success());
            let answer = match (kind, rest.as_slice()) {
                (PASS, _) if self.ran.is_none() => {
                    self.reap();
                    return Ok(Outcome::PassThrough);
                }
                (ENDED, [code]) => {
                    self.reap();
                    return Ok(Outcome::Done(*code));
                }
                (CREATE | CREATE_FED | EXEC, _) if self.ran.is_none() => self.run(kind, &rest),
                (DELETE, []) if is_made && !is_removed => {
                    is_removed = true;
                    Some(self.delete())
                }
                _ => None,
            };
            let Some(answer) = answer else { break };
            // One that is gone meanwhile is found gone by the next look.
            let _ = match answer {
                Ok(status) => tell(&self.socket, STATUS, &status.into_raw().to_le_bytes()),
                Err(error) => tell(&self.socket, NOT_RUN, error.to_string().as_bytes()),
            };
        }
        self.died(is_removed)
    }

    /// Takes the filtered half's end. It has said its last word, so it has nothing left to do; one that ends by itself
    /// has a moment for it, because how it ended is told.
    fn reap(&self) -> Option<i32> {
        let mut status = None;
        let pidfd = pidfd_open(self.filtered, PidfdFlags::empty()).ok();
        if let Some(pidfd) = pidfd {
            let mut end = [PollFd::new(&pidfd, PollFlags::IN)];
            let _ = rustix::io::retry_on_intr(|| poll(&mut end, Some(&LAST_MOMENT)));
        }
        let _ = kill_process(self.filtered, Signal::KILL);
        let waiting = || waitpid(Some(self.filtered), WaitOptions::empty());
        if let Ok(Some((_, ended))) = rustix::io::retry_on_intr(waiting) {
            status = ended.terminating_signal();
        }
        status
    }

    /// The filtered half ended without a word, or said what it may not.
    fn died(self, is_removed: bool) -> Result<Outcome, Refusal> {
        let how = match self.reap() {
            Some(signal) if signal == Signal::SYS.as_raw() => {
                "made a system call that is not on its list".to_owned()
            }
            Some(signal) => format!("was ended by signal {signal}"),
            None => "ended without a word".to_owned(),
        };
        let refusal = Refusal::new(
            format!("the filtered half of keywheel-runtime {how}"),
            "start the container again; if it happens again, report it with the output of `uname -rm`",
        );
        match (self.work, self.ran) {
            (Work::Exec(_), ran) => {
                refuse::log(self.invocation, &refusal);
                Ok(ran.map_or(Outcome::PassThrough, |status| {
                    Outcome::Done(real::exit_code(status))
                }))
            }
            (_, Some(status)) if status.success() && !is_removed => match self.delete() {
                Ok(status) if status.success() => Err(refusal),
                _ => Err(refusal.with("its half-made container could not be removed")),
            },
            _ => Err(refusal),
        }
    }

    /// Runs a create or an exec as it was told; `None` when the filtered half is gone, or asked for something else.
    fn run(&mut self, kind: u8, rest: &[u8]) -> Option<io::Result<ExitStatus>> {
        // Whatever becomes of it, nobody else holds the pipe's end: who writes there is not left waiting.
        let feed = self.feed.take().filter(|_| kind != CREATE);
        let arguments = self.arguments(kind, rest, feed.as_ref())?;
        let Some(runtime) = &self.runtime else {
            return Some(Err(io::ErrorKind::NotFound.into()));
        };
        let mut child = match real::start(runtime, &arguments, feed) {
            Ok(child) => child,
            Err(error) => return Some(Err(error)),
        };
        if matches!(self.work, Work::Create { .. }) && self.is_left_alone(&mut child) {
            // Nobody would go on with what it makes; what it had made by then is removed, and what a killed one left is
            // the engine's to remove.
            let _ = child.kill();
            self.ran = child.wait().ok().filter(ExitStatus::success);
            return None;
        }
        // It ran: an error would let somebody run it once more.
        let status = child
            .wait()
            .unwrap_or_else(|_| ExitStatus::from_raw(FAILED));
        self.ran = Some(status);
        Some(Ok(status))
    }

    fn delete(&self) -> io::Result<ExitStatus> {
        let (Work::Create { create, .. }, Some(runtime)) = (self.work, &self.runtime) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        real::start(runtime, &self.invocation.delete(&create.id), None)?.wait()
    }

    /// Of the filtered half's word only the bundle's parent directory is in them.
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
            (Work::Exec(exec), EXEC) => Some(self.invocation.exec_in(exec, place?.as_os_str())),
            _ => None,
        }
    }

    /// Waits for the real runtime; whether the filtered half ends before it does.
    fn is_left_alone(&self, child: &mut Child) -> bool {
        let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = number.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Where there is no such descriptor, it is looked at now and then.
        let pause = ended.is_none().then_some(LOOK);
        while matches!(child.try_wait(), Ok(None)) {
            let mut fds = vec![PollFd::new(&self.socket, PollFlags::RDHUP)];
            fds.extend(ended.as_ref().map(|end| PollFd::new(end, PollFlags::IN)));
            let polled = rustix::io::retry_on_intr(|| poll(&mut fds, pause.as_ref()));
            let is_gone = fds
                .first()
                .is_some_and(|socket| !socket.revents().is_empty());
            if polled.is_err() {
                return false;
            }
            if is_gone {
                return matches!(child.try_wait(), Ok(None));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
