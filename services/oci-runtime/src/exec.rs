//! `exec`: the container's own health check gets the variables that its container was started with.
//!
//! Which exec that is the injector says, from the engine's record. Everything else goes through untouched, and so
//! does whatever cannot be done here: an exec is never refused, it runs with its placeholders at the worst.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use keywheel_sys::harden;

use crate::args::{Exec, Invocation};
use crate::ask;
use crate::bundle::Bundle;
use crate::config::{Config, MAX_CONFIG};
use crate::create::Outcome;
use crate::{real, refuse};

/// Runs the health check with its variables, or lets the exec through as it is.
pub(crate) fn run(invocation: &Invocation, exec: &Exec) -> Outcome {
    let Some((runtime, bundle)) = prepare(invocation, exec) else {
        return Outcome::PassThrough;
    };
    let process_file = bundle.process_file();
    let arguments = invocation.exec_in(exec, process_file.as_os_str());
    let ran = real::run(&runtime, &arguments);
    if let Err(refusal) = bundle.remove() {
        // It ran; the injector's sweep is what remains.
        refuse::report(invocation, &refusal);
    }
    // Detached, the real runtime ends once the program runs, and has read the file.
    ran.map_or(Outcome::PassThrough, |status| {
        Outcome::Done(real::exit_code(status))
    })
}

/// The real runtime, and a private process file for it; `None` when there is nothing to resolve.
fn prepare(invocation: &Invocation, exec: &Exec) -> Option<(PathBuf, Bundle)> {
    let mut process = Config::of_process(&read(&exec.process_file)?).ok()?;
    let placeholders = process.placeholders();
    if placeholders.is_empty() {
        return None;
    }
    harden::transient().ok()?;
    let answer = ask::exec(
        &invocation.socket,
        &exec.id,
        &placeholders,
        &process.args()?,
    );
    let resolved = answer.ok().filter(|resolved| !resolved.env.is_empty())?;
    let runtime = real::find(&invocation.real_runtime).ok()?;
    if real::keeps_env(&runtime) {
        return None;
    }
    process.put_env(&resolved.env).ok()?;
    let (place, name) = place_of(resolved.bundle_dir.as_deref()?, &exec.id)?;
    let bundle = Bundle::make(&place, &name).ok()?;
    // EXPOSE: written to the memory-only private bundle.
    bundle
        .write_process(process.process_bytes().ok()?.expose())
        .ok()?;
    Some((runtime, bundle))
}

/// A place of this exec's own beside what the injector named, which is named after the container.
fn place_of(named: &Path, id: &str) -> Option<(PathBuf, String)> {
    let stem = format!("{id}.exec");
    let is_its = named.file_name().is_some_and(|name| *name == *stem);
    let name = format!("{stem}.{}", std::process::id());
    is_its.then(|| (named.with_file_name(&name), name))
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
    fn execs_of_one_container_have_places_of_their_own_named_after_it() {
        let (place, name) = place_of(Path::new("/b/abc.exec"), "abc").unwrap();
        assert_eq!(name, format!("abc.exec.{}", std::process::id()));
        assert_eq!(place, Path::new("/b").join(name));
        for other in ["/b/abc", "/b/abcd.exec", "/b/abc.exec/..", "/"] {
            assert_eq!(place_of(Path::new(other), "abc"), None, "{other}");
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
