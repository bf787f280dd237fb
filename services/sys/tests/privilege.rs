//! What the namespace helper asks of the kernel, as strace sees it: which capabilities it has when, and that it
//! neither starts a thread nor opens a network socket.
//!
//! Needs root and strace. Without them it says so and stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use keywheel_sys::wire::{Fault, Op, REPLY_LEN, Reply, Request};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair,
};

const HELPER: &str = env!("CARGO_BIN_EXE_keywheel-nsjoin");
const TRACED: &str = "trace=capset,setns,prctl,seccomp,socket,socketpair,clone,?clone3,?fork,?vfork,execve,openat,openat2,recvmsg,sendmsg";

fn ready() -> bool {
    let root = rustix::process::geteuid().is_root();
    let strace = Command::new("strace").arg("-V").output();
    let ready = root && strace.is_ok_and(|output| output.status.success());
    if !ready {
        assert!(std::env::var_os("CI").is_none(), "CI needs root and strace");
        eprintln!("SKIPPED: needs root and strace");
    }
    ready
}

/// The calls of one helper that looks for secrets in this program's own namespace, where there are none.
fn calls(of: &str) -> Vec<String> {
    let log = std::env::temp_dir().join(format!("keywheel-strace-{of}-{}", std::process::id()));
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let mut traced = Command::new("strace")
        .args(["-qq", "-s", "256", "-o"])
        .arg(&log)
        .args(["-e", TRACED, HELPER])
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let request = Request::new(Op::Reacquire, false, 5, 0, b"/run/keywheel-no-such").unwrap();
    let namespace = File::open("/proc/self/ns/mnt").unwrap();
    let fds = [namespace.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    let bytes = request.encode();
    let parts = [IoSlice::new(&bytes)];
    sendmsg(&ours, &parts, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    let mut answer = [0; REPLY_LEN];
    let (count, _) = recv(&ours, &mut answer, RecvFlags::empty()).unwrap();
    traced.wait().unwrap();
    let reply = Reply::decode(&answer[..count]).unwrap();
    assert_eq!(reply.fault, Fault::Absent, "it did not look");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Where the first call that begins so is, from a place on.
fn at(calls: &[String], from: usize, words: &[&str]) -> usize {
    let has_all = |call: &String| words.iter().all(|word| call.contains(word));
    let found = calls.iter().skip(from).position(has_all);
    from + found.unwrap_or_else(|| panic!("no {words:?} after {from} in {calls:#?}"))
}

#[test]
fn the_helper_gives_up_capabilities_before_it_reads_and_before_it_looks() {
    if !ready() {
        return;
    }
    let calls = calls("capabilities");
    let first = at(&calls, 0, &["capset("]);
    let read = at(&calls, 0, &["recvmsg("]);
    let joined = at(&calls, read, &["setns(", "= 0"]);
    let second = at(&calls, joined, &["capset("]);
    let filtered = at(&calls, joined, &["PR_SET_SECCOMP"]);
    let root = at(&calls, joined, &["openat(AT_FDCWD, \"/\""]);
    let looked = at(&calls, joined, &["self/mountinfo"]);
    assert!(first < read, "{calls:#?}");
    assert!(
        second < filtered && filtered < root && root < looked,
        "{calls:#?}"
    );
    for (call, kept, gone) in [
        (
            first,
            ["SYS_ADMIN", "SYS_CHROOT"],
            ["SYS_PTRACE", "CAP_KILL"],
        ),
        (
            second,
            ["SYS_ADMIN", "DAC_OVERRIDE"],
            ["SYS_CHROOT", "CAP_CHOWN"],
        ),
    ] {
        let call = &calls[call];
        assert!(kept.iter().all(|name| call.contains(name)), "{call}");
        assert!(!gone.iter().any(|name| call.contains(name)), "{call}");
    }
}

#[test]
fn the_helper_starts_nothing_and_opens_no_socket() {
    if !ready() {
        return;
    }
    let calls = calls("sockets");
    for begin in ["socket(", "socketpair(", "clone", "fork", "vfork"] {
        let found: Vec<_> = calls
            .iter()
            .filter(|call| call.starts_with(begin))
            .collect();
        assert!(found.is_empty(), "{found:?}");
    }
    let started = calls
        .iter()
        .filter(|call| call.starts_with("execve("))
        .count();
    assert_eq!(started, 1, "{calls:#?}");
}
