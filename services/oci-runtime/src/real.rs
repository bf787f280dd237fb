//! The real runtime: where it is, whether it keeps env on disk, how it is run.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use crate::args::Invocation;
use crate::refuse::Refusal;

/// Searched after PATH, which engines sometimes leave empty.
const USUAL_PLACES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

/// Whether the runtime keeps a copy of its configuration, env included, in its state directory on disk.
pub(crate) fn keeps_env(path: &Path) -> bool {
    let is_crun = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"crun"))
    };
    is_crun(path) || std::fs::canonicalize(path).is_ok_and(|path| is_crun(&path))
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

fn cannot_start(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(
        format!("cannot start {}: {error}", path.display()),
        "check that it is an executable of this machine",
    )
}

/// Runs the real runtime as a child with this program's stdin, stdout and stderr.
pub(crate) fn run(path: &Path, arguments: &[OsString]) -> Result<ExitStatus, Refusal> {
    Command::new(path)
        .args(arguments)
        .status()
        .map_err(|error| cannot_start(path, &error))
}

/// The child's end as this program's own.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_never_its_own_real_runtime() {
        let own = std::env::current_exe().unwrap();
        assert!(find(own.as_os_str()).is_err());
        assert!(find("/nonexistent/runc".as_ref()).is_err());
        assert!(find("keywheel-no-such-runtime".as_ref()).is_err());
        assert!(find("sh".as_ref()).unwrap().is_absolute());
    }

    #[test]
    fn crun_is_known_also_behind_a_link() {
        assert!(keeps_env(Path::new("/usr/bin/crun")));
        assert!(!keeps_env(Path::new("/usr/sbin/runc")));
        let dir = std::env::temp_dir().join(format!("keywheel-real-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("crun-1.8"), "").unwrap();
        std::os::unix::fs::symlink(dir.join("crun-1.8"), dir.join("runc")).unwrap();
        let found = keeps_env(&dir.join("runc"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(found);
    }
}
