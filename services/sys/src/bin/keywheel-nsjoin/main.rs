//! The namespace helper: does one attach or reacquire in a container's mount namespace and ends.
//!
//! Single-threaded and static. It reads one request with its descriptors from the socket on stdin, joins only the
//! mount namespace, and from then on makes nothing but the system calls of module `join`: no file of the container is
//! executed, loaded or parsed, nothing is allocated, and an alarm ends it. It holds no secret. Of root's capabilities
//! it has three until it joined, and two before it looks at anything that is the container's.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod filter;
mod join;

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use keywheel_sys::wire::{Detail, Fault, REQUEST_LEN, Reply, Request};
use keywheel_sys::{harden, raw};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Seconds the request may take to arrive.
const REQUEST_SECONDS: u32 = 2;
/// Most seconds a request may ask for.
const MAX_SECONDS: u32 = 60;

fn main() -> ExitCode {
    raw::alarm(REQUEST_SECONDS);
    if harden::daemon().is_err()
        || raw::close_inherited().is_err()
        || harden::keep_only(harden::TO_JOIN).is_err()
    {
        return ExitCode::from(3);
    }
    let stdin = std::io::stdin();
    match serve(stdin.as_fd()) {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::from(1),
        None => ExitCode::from(2),
    }
}

/// Answers one request; `None` when there was no usable one to answer.
fn serve(socket: BorrowedFd<'_>) -> Option<bool> {
    let (request, first, second) = receive(socket)?;
    raw::alarm(request.alarm_seconds.clamp(1, MAX_SECONDS));
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut detail = Detail::default();
    let outcome = join::perform(&request, first, second, &mut detail);
    let (fault, errno, fd) = match outcome {
        Ok(fd) => (Fault::None, 0, fd),
        Err(failure) => (failure.fault, failure.errno, None),
    };
    send(
        socket,
        &Reply {
            fault,
            errno,
            detail,
        },
        fd.as_ref(),
    )?;
    Some(fault == Fault::None)
}

fn receive(socket: BorrowedFd<'_>) -> Option<(Request, OwnedFd, Option<OwnedFd>)> {
    let mut bytes = [0; REQUEST_LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let count = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .ok()?
        .bytes;
    let mut passed = [None, None];
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            for (slot, fd) in passed.iter_mut().zip(fds) {
                *slot = Some(fd);
            }
        }
    }
    let [first, second] = passed;
    Some((Request::decode(bytes.get(..count)?)?, first?, second))
}

fn send(socket: BorrowedFd<'_>, reply: &Reply, fd: Option<&OwnedFd>) -> Option<()> {
    let bytes = reply.encode();
    let borrowed = fd.map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = &borrowed {
        ancillary
            .push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)))
            .then_some(())?;
    }
    sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .ok()
    .map(|_| ())
}
