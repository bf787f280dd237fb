//! `exec`: the container's own health check gets the variables that its container was started with.
//!
//! Which exec that is the injector says by its arguments, from the engine's record; that nothing else about it is a
//! person's is told here, by the engine's own configuration of the container. Everything else goes through untouched,
//! and so does whatever cannot be done here: an exec is never refused, it runs with its placeholders at the worst.
//! Resolved values go through a pipe to the real runtime, and into no file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use keywheel_sys::scrub::Scrubbed;

use crate::args::{Exec, Invocation};
use crate::ask;
use crate::config::{Config, MAX_CONFIG};
use crate::failpoint;
use crate::halves::{Order, Outside};
use crate::real;
use crate::work::Outcome;

/// What Podman calls a container's bundle.
const PODMAN_BUNDLE: &str = "userdata";

/// Has the health check run with its variables, or lets the exec through as it is.
pub(crate) fn run(invocation: &Invocation, exec: &Exec, outside: &mut Outside) -> Outcome {
    let Some(process) = prepare(invocation, exec) else {
        return Outcome::PassThrough;
    };
    let ran = outside.run(Order::Exec, Some(process));
    ran.map_or(Outcome::PassThrough, |status| {
        Outcome::Done(real::exit_code(status))
    })
}

/// What a process file for the real runtime holds; `None` when there is nothing to resolve.
fn prepare(invocation: &Invocation, exec: &Exec) -> Option<Scrubbed> {
    let mut process = Config::of_process(&read(&exec.process_file)?).ok()?;
    let placeholders = process.placeholders();
    if placeholders.is_empty() {
        return None;
    }
    let place = bundle_of(invocation.log.as_deref(), &exec.process_file, &exec.id)?;
    let first = Config::parse(&read(&place.join("config.json"))?).ok()?;
    if !process.runs_like(&first) {
        return None;
    }
    failpoint::reach(invocation, "runtime.before_exec_answer");
    let answer = ask::exec(
        &invocation.socket,
        &exec.id,
        &placeholders,
        &process.args()?,
    );
    failpoint::reach(invocation, "runtime.after_exec_answer");
    let resolved = answer.ok().filter(|resolved| !resolved.env.is_empty())?;
    process.put_env(&resolved.env).ok()?;
    process.process_bytes().ok()
}

/// The engine's bundle of the container. Docker's is named after it, and the log of every call lies in it. Podman's is
/// `userdata` in a directory that is named after it, and in it each exec has a directory with its process file.
fn bundle_of<'a>(log: Option<&'a Path>, process_file: &'a Path, id: &str) -> Option<&'a Path> {
    let is_named = |path: &Path, name: &str| path.file_name().is_some_and(|found| found == name);
    let of_docker = log.and_then(Path::parent);
    if let Some(bundle) = of_docker.filter(|bundle| is_named(bundle, id)) {
        return Some(bundle);
    }
    let bundle = process_file.parent()?.parent()?;
    (is_named(bundle, PODMAN_BUNDLE) && is_named(bundle.parent()?, id)).then_some(bundle)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_CONFIG + 1).read_to_end(&mut bytes).ok()?;
    let count = u64::try_from(bytes.len()).ok()?;
    (count <= MAX_CONFIG).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_where_the_log_is_and_named_after_the_container() {
        let of = |log: &'static str| bundle_of(Some(Path::new(log)), Path::new("/tmp/p"), "abc");
        assert_eq!(
            of("/task/moby/abc/log.json"),
            Some(Path::new("/task/moby/abc"))
        );
        for other in ["/task/moby/abcd/log.json", "/abc", "log.json", "/"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn podmans_bundle_is_above_the_execs_directory() {
        let bundle = Path::new("/storage/vfs-containers/abc/userdata");
        let process = bundle.join("5d/exec-process-1");
        // Its log lies beside the process file, where there is one.
        for log in [None, Some(bundle.join("5d/oci-log"))] {
            assert_eq!(bundle_of(log.as_deref(), &process, "abc"), Some(bundle));
        }
        assert_eq!(bundle_of(None, &process, "abcd"), None);
        for other in [
            "/abc/other/5d/p",
            "/abc/userdata/p",
            "/userdata/5d/p",
            "p",
            "/",
        ] {
            assert_eq!(bundle_of(None, Path::new(other), "abc"), None, "{other}");
        }
    }

    #[test]
    fn a_process_file_is_read_up_to_the_limit() {
        let name = format!("keywheel-exec-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        assert!(read(&path).is_none());
        let file = File::create(&path).unwrap();
        file.set_len(MAX_CONFIG).unwrap();
        assert!(read(&path).is_some());
        file.set_len(MAX_CONFIG + 1).unwrap();
        let over = read(&path);
        std::fs::remove_file(path).unwrap();
        assert!(over.is_none());
    }
}
