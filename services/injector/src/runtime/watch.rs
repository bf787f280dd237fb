//! Sees to it that no private bundle outlives the runtime wrapper that made it.
//!
//! A wrapper keeps the connection of its first question until its bundle is gone, so its end is seen
//! however it comes. Invariants: what a wrapper left is removed when the last one of its container ends, so that one
//! that is refused takes nothing from another under way; a wrapper that stands still for longer than its container
//! would be let start is ended, with the real runtime that it waits for. Who asks is the wrapper's filtered half: its
//! parent, called by the same words, is the half that runs the real runtime.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywheel_core::id::ContainerId;
use keywheel_daemon::{chain, names};
use keywheel_sys::procfs::PinnedPid;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::shared::PENDING_LIMIT;

/// Longest time of a wrapper from its first question to its end: the second one is refused after
/// [`PENDING_LIMIT`], and it may take as long again to say so.
const LONGEST_CREATE: Duration = PENDING_LIMIT.saturating_mul(2);
/// How long a killed wrapper may take to be gone before that is told.
const KILLED_WITHIN: Duration = Duration::from_secs(10);
/// How often what a wrapper left is removed while files still come.
const REMOVALS: usize = 5;
const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;

/// How many creates of each container are under way.
#[derive(Debug, Default)]
pub(crate) struct Creates {
    of: Mutex<BTreeMap<ContainerId, usize>>,
}

/// One create; under way until it is swept or dropped.
#[derive(Debug)]
pub(crate) struct Create {
    creates: Arc<Creates>,
    id: ContainerId,
    bundle: PathBuf,
    is_over: bool,
}

impl Creates {
    /// A create begins.
    pub(crate) fn begin(self: &Arc<Self>, id: ContainerId, bundles: &Path) -> Create {
        *self.lock().entry(id.clone()).or_default() += 1;
        Create {
            creates: Arc::clone(self),
            bundle: bundles.join(id.as_str()),
            id,
            is_over: false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ContainerId, usize>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Create {
    /// Whoever was to watch is gone; nothing is left to tell.
    fn drop(&mut self) {
        let _ = self.sweep();
    }
}

impl Create {
    /// Watches until the wrapper at the other end of the connection has ended.
    pub(crate) async fn watch(self, stream: UnixStream) {
        self.watch_for(stream, LONGEST_CREATE).await;
    }

    async fn watch_for(mut self, mut stream: UnixStream, longest: Duration) {
        if is_late(longest, &mut stream).await {
            self.end_wrapper(&stream);
            // Its end, not the signal, is what nothing is written after.
            if is_late(KILLED_WITHIN, &mut stream).await {
                tracing::error!(
                    { names::CONTAINER } = self.id.short(),
                    "a killed runtime call does not end; its private bundle stays until it does"
                );
                ended(&mut stream).await;
            }
        }
        drop(stream);
        // A memory file system, and two files at most: no slower than handing it to another thread.
        match self.sweep() {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                { names::CONTAINER } = self.id.short(),
                "a runtime call ended before its time; its private bundle is removed"
            ),
            Err(error) => tracing::error!(
                { names::CONTAINER } = self.id.short(),
                { names::ERROR } = chain(&error),
                "private bundle not removed; restart the injector, which removes it"
            ),
        }
    }

    /// The kernel says who made the connection; as long as that is open its number means no other process.
    fn end_wrapper(&self, stream: &UnixStream) {
        let Some(pid) = stream.peer_cred().ok().and_then(|peer| peer.pid()) else {
            return;
        };
        let Ok(half) = PinnedPid::open(pid) else {
            return;
        };
        let mut byte = [0_u8; 1];
        let is_open = stream
            .try_read(&mut byte)
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if !is_open {
            return;
        }
        let _ = half.signal(SIGSTOP);
        let outer = outer_half(pid).and_then(|outer| PinnedPid::open(outer).ok());
        // While the half is there its parent is no other process.
        let outer = outer.filter(|outer| outer_half(pid) == Some(outer.pid()));
        let wrapper = outer.as_ref().unwrap_or(&half);
        // It starts nothing more, and nobody takes its children's numbers while it does not wait for them.
        let _ = wrapper.signal(SIGSTOP);
        for child in children(wrapper.pid()) {
            if let Ok(child) = PinnedPid::open(child) {
                let _ = child.signal(SIGKILL);
            }
        }
        let ended = wrapper.signal(SIGKILL);
        tracing::warn!(
            { names::CONTAINER } = self.id.short(),
            { names::OUTCOME } = ended.is_ok(),
            "a runtime call stood still and is ended; start the container again"
        );
    }

    /// Removes what is left, unless another create of it is under way; true when there was something.
    fn sweep(&mut self) -> io::Result<bool> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(false);
        }
        // Held until it is removed: a create that begins meanwhile makes its bundle after that.
        let mut of = self.creates.lock();
        if let Some(count) = of.get_mut(&self.id).filter(|count| **count > 1) {
            *count -= 1;
            return Ok(false);
        }
        of.remove(&self.id);
        match remove(&self.bundle) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Removes a directory, also one that gets a last file meanwhile: a real runtime whose wrapper is gone is being ended.
fn remove(bundle: &Path) -> io::Result<()> {
    let mut removed = std::fs::remove_dir_all(bundle);
    for _ in 1..REMOVALS {
        match &removed {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                removed = std::fs::remove_dir_all(bundle);
            }
            _ => break,
        }
    }
    removed
}

/// The process that started this one and was called by the same words.
fn outer_half(pid: i32) -> Option<i32> {
    let called = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).ok();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    let parent = parent.trim().parse().ok().filter(|parent| *parent > 1)?;
    let words = called(pid).filter(|words| !words.is_empty())?;
    (called(parent)? == words).then_some(parent)
}

/// The processes that a process started and still waits for.
fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Whether the other end is still open after that time.
async fn is_late(longest: Duration, stream: &mut UnixStream) -> bool {
    tokio::time::timeout(longest, ended(stream)).await.is_err()
}

/// Whatever a wrapper sends here means nothing; its end does.
async fn ended(stream: &mut UnixStream) {
    let mut chunk = [0_u8; 64];
    while let Ok(count) = stream.read(&mut chunk).await {
        if count == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn id() -> ContainerId {
        ContainerId::parse(&"a".repeat(64)).unwrap()
    }

    fn leave_bundle(bundles: &Path) -> PathBuf {
        let bundle = bundles.join(id().as_str());
        std::fs::create_dir(&bundle).unwrap();
        std::fs::write(bundle.join("config.json"), "values").unwrap();
        bundle
    }

    #[tokio::test]
    async fn what_a_wrapper_left_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let creates = Arc::new(Creates::default());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let create = creates.begin(id(), folder.path());
        let bundle = leave_bundle(folder.path());
        let watching = tokio::spawn(create.watch(ours));
        drop(theirs);
        watching.await.unwrap();
        assert!(!bundle.exists());
        assert!(creates.lock().is_empty());
    }

    #[tokio::test]
    async fn the_bundle_of_a_later_create_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let creates = Arc::new(Creates::default());
        let (first, first_end) = UnixStream::pair().unwrap();
        let (second, second_end) = UnixStream::pair().unwrap();
        let before = creates.begin(id(), folder.path());
        let after = creates.begin(id(), folder.path());
        let bundle = leave_bundle(folder.path());
        drop(first_end);
        before.watch(first).await;
        assert!(bundle.exists());
        drop(second_end);
        after.watch(second).await;
        assert!(!bundle.exists());
    }

    #[tokio::test]
    async fn one_that_is_refused_takes_nothing_from_another_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let creates = Arc::new(Creates::default());
        let (first, first_end) = UnixStream::pair().unwrap();
        let before = creates.begin(id(), folder.path());
        let bundle = leave_bundle(folder.path());
        let (second, second_end) = UnixStream::pair().unwrap();
        let refused = creates.begin(id(), folder.path());
        drop(second_end);
        refused.watch(second).await;
        // And one whose watch never began.
        drop(creates.begin(id(), folder.path()));
        assert!(bundle.exists());
        drop(first_end);
        before.watch(first).await;
        assert!(!bundle.exists());
        assert!(creates.lock().is_empty());
    }

    #[tokio::test]
    async fn one_that_stands_still_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let creates = Arc::new(Creates::default());
        let path = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let mut standing = Command::new("python3")
            .args(["-c", "import socket,sys,time; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); time.sleep(600)"])
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let bundle = leave_bundle(folder.path());
        let create = creates.begin(id(), folder.path());
        create.watch_for(stream, Duration::from_millis(1)).await;
        assert!(!bundle.exists());
        let status = tokio::task::spawn_blocking(move || standing.wait()).await;
        assert_eq!(status.unwrap().unwrap().signal(), Some(SIGKILL));
    }

    /// Two processes of the same words and a third as the real runtime; `stopped` says that the outer one stops itself.
    const HALVES: &str = "
import os, socket, subprocess, sys, time, signal
if os.fork() == 0:
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    time.sleep(600)
runtime = subprocess.Popen(['sleep', '600'])
open(sys.argv[2] + '.new', 'w').write(str(runtime.pid))
os.rename(sys.argv[2] + '.new', sys.argv[2])
if sys.argv[3] == 'stopped':
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(600)
";

    #[tokio::test]
    async fn both_halves_of_one_that_stands_still_are_ended_with_their_runtime() {
        for state in ["waiting", "stopped"] {
            let folder = tempfile::tempdir().unwrap();
            let creates = Arc::new(Creates::default());
            let (path, runtime) = (folder.path().join("socket"), folder.path().join("runtime"));
            let listener = tokio::net::UnixListener::bind(&path).unwrap();
            let mut outer = Command::new("python3")
                .args(["-c", HALVES])
                .args([&path, &runtime])
                .arg(state)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            while !runtime.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let runtime: i32 = std::fs::read_to_string(&runtime).unwrap().parse().unwrap();
            let runtime = PinnedPid::open(runtime).unwrap();
            let create = creates.begin(id(), folder.path());
            create.watch_for(stream, Duration::from_millis(1)).await;
            let status = tokio::task::spawn_blocking(move || outer.wait()).await;
            assert_eq!(status.unwrap().unwrap().signal(), Some(SIGKILL), "{state}");
            while runtime.is_alive() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
}
