//! The real runtime: where it is, whether and where it keeps a copy of env, how it is run.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::io::FdFlags;

use crate::args::Invocation;
use crate::refuse::Refusal;

/// Searched after PATH, which engines sometimes leave empty.
const USUAL_PLACES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where crun keeps its state unless told otherwise.
const CRUN_ROOT: &str = "/run/crun";

/// The real runtime's file. Never this program itself, under whatever name it is installed.
#[expect(
    clippy::disallowed_methods,
    reason = "PATH names the real runtime, as it would for the engine"
)]
pub(crate) fn find(name: &OsStr) -> Result<PathBuf, Refusal> {
    let own = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let usable = |path: &Path| path.is_file() && std::fs::canonicalize(path).ok() != own;
    let missing = || {
        Refusal::new(
            format!("the real runtime {} is not there", name.display()),
            "install runc, or name the runtime by --keywheel-real-runtime in the engine's runtime arguments",
        )
    };
    if Path::new(name).components().count() > 1 {
        return Some(PathBuf::from(name))
            .filter(|path| usable(path))
            .ok_or_else(missing);
    }
    let mut places = std::env::var_os("PATH").unwrap_or_default();
    places.push(":");
    places.push(USUAL_PLACES);
    std::env::split_paths(&places)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| usable(path))
        .ok_or_else(missing)
}

/// Whether the runtime keeps a copy of its configuration, env included, in its state directory.
pub(crate) fn keeps_copy(path: &Path) -> bool {
    let is_crun = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"crun"))
    };
    is_crun(path) || std::fs::canonicalize(path).is_ok_and(|path| is_crun(&path))
}

/// Where crun keeps its state: where the engine says, else where the environment does.
#[expect(
    clippy::disallowed_methods,
    reason = "the variable is crun's own, and decides where it writes"
)]
pub(crate) fn crun_root(named: Option<&Path>) -> PathBuf {
    let of_user = || {
        let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        dir.map(|dir| Path::new(&dir).join("crun"))
    };
    let named = named.map(Path::to_owned).or_else(of_user);
    named.unwrap_or_else(|| PathBuf::from(CRUN_ROOT))
}

/// Becomes the real runtime with the engine's arguments. Returns only if that fails.
pub(crate) fn replace_self(invocation: &Invocation) -> Refusal {
    match find(&invocation.real_runtime) {
        Ok(path) => {
            let error = Command::new(&path).args(invocation.unchanged()).exec();
            cannot_start(&path, &error)
        }
        Err(refusal) => refusal,
    }
}

/// Why the real runtime did not run.
pub(crate) fn cannot_start(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(
        format!("cannot start {}: {error}", path.display()),
        "check that it is an executable of this machine",
    )
}

/// Starts the real runtime as a child with this program's stdin, stdout and stderr, and with one more file that it may
/// read: a pipe's end, by the path that its arguments name.
pub(crate) fn start(
    path: &Path,
    arguments: &[OsString],
    feed: Option<OwnedFd>,
) -> io::Result<Child> {
    if let Some(feed) = &feed {
        // The child's too. runc and crun mark it to be closed before they start anything themselves, and close
        // whatever is left in the container before the program begins.
        rustix::io::fcntl_setfd(feed, FdFlags::empty())?;
    }
    let child = Command::new(path).args(arguments).spawn();
    // From here on the child's end is the only one: when it is gone, writing fails instead of waiting.
    drop(feed);
    child
}

/// The child's end as this program's own.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use rustix::pipe::PipeFlags;

    use super::*;

    #[test]
    fn this_program_is_never_its_own_real_runtime() {
        let own = std::env::current_exe().unwrap();
        assert!(find(own.as_os_str()).is_err());
        assert!(find("/nonexistent/runc".as_ref()).is_err());
        assert!(find("keywheel-no-such-runtime".as_ref()).is_err());
        assert!(find("sh".as_ref()).unwrap().is_absolute());
    }

    /// How a script ends that is fed more than a pipe holds; `FED` is the path it is fed by.
    fn fed(script: &str) -> ExitStatus {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let place = format!("/proc/self/fd/{}", read.as_raw_fd());
        let script = script.replace("FED", &place);
        let sh = find("sh".as_ref()).unwrap();
        let arguments = ["-c".into(), script.into()];
        let mut child = start(&sh, &arguments, Some(read)).unwrap();
        let _ = File::from(write).write_all(&[b'x'; 300_000]);
        child.wait().unwrap()
    }

    #[test]
    fn a_child_reads_more_than_a_pipe_holds_from_the_file_that_is_a_pipe() {
        let out = std::env::temp_dir().join(format!("keywheel-fed-{}", std::process::id()));
        let status = fed(&format!("cat FED > {}", out.display()));
        let read = std::fs::read(&out);
        std::fs::remove_file(&out).unwrap();
        assert!(status.success() && read.unwrap() == [b'x'; 300_000]);
    }

    #[test]
    fn a_child_that_reads_nothing_ends_it() {
        assert_eq!(fed("exit 3").code(), Some(3));
    }

    #[test]
    fn crun_keeps_its_state_where_the_engine_says() {
        let named = Path::new("/run/x");
        assert_eq!(crun_root(Some(named)), named);
        assert!(crun_root(None).ends_with("crun"));
    }

    #[test]
    fn crun_is_known_also_behind_a_link() {
        assert!(keeps_copy(Path::new("/usr/bin/crun")));
        assert!(!keeps_copy(Path::new("/usr/sbin/runc")));
        let dir = std::env::temp_dir().join(format!("keywheel-real-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("crun-1.8"), "").unwrap();
        std::os::unix::fs::symlink(dir.join("crun-1.8"), dir.join("runc")).unwrap();
        let found = keeps_copy(&dir.join("runc"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(found);
    }
}
