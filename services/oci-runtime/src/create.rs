//! `create`: ask, build the private bundle, run the real runtime, remove the bundle, attach. A runtime that keeps a
//! copy of its configuration gets it through a pipe. All of it is the filtered half's.
//!
//! Commands that create and start in one go are only looked at: with a placeholder they are refused.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use keywheel_sys::scrub::Scrubbed;

use crate::args::{Create, DirectStart, Invocation};
use crate::ask::{self, NoAnswer, Resolved};
use crate::bundle::{self, Bundle};
use crate::config::{Config, MAX_CONFIG};
use crate::failpoint;
use crate::halves::{Order, Outside};
use crate::kept::Kept;
use crate::real;
use crate::refuse::Refusal;
use crate::times::{self, Real};
use crate::work::Outcome;

/// Longest content of a pid file.
const MAX_PID_TEXT: u64 = 32;

/// Creates the container, or refuses.
pub(crate) fn run(
    invocation: &Invocation,
    create: &Create,
    runtime: &Result<PathBuf, Refusal>,
    begun: i64,
    outside: &mut Outside,
) -> Result<Outcome, Refusal> {
    failpoint::reach(invocation, "runtime.before_resolve");
    let mut config = read_config(&create.bundle.join("config.json"))?;
    let Some(mut resolved) = resolve(invocation, create, &config, begun)? else {
        return Ok(Outcome::PassThrough);
    };
    let line = resolved.line.take();
    failpoint::reach(invocation, "runtime.after_resolve");
    let runtime = runtime.as_ref().map_err(Refusal::clone)?;
    config.add_mount_points(&resolved.dirs)?;
    let engine_bundle =
        std::path::absolute(&create.bundle).map_err(|error| unreadable(&create.bundle, &error))?;
    config.anchor(&engine_bundle)?;
    let kept = kept(invocation, create, runtime, &config)?;
    config.put_env(&resolved.env)?;
    let bundle_dir = resolved.bundle_dir.as_deref().ok_or_else(|| {
        Refusal::new(
            "the injector named no private bundle",
            "install keywheel and keywheel-runtime of the same version",
        )
    })?;
    let bundle = Bundle::make(bundle_dir, &create.id)?;
    failpoint::reach(invocation, "runtime.after_bundle");
    let whole = config.bytes()?;
    drop(config);
    drop(resolved);
    let feed = match kept {
        Some(kept) => {
            // EXPOSE: placeholders alone; a hook looks for it here, and a crun that copies from its bundle.
            bundle.write_config(kept.text().expose())?;
            Some((whole, kept))
        }
        None => {
            // EXPOSE: written to the memory-only private bundle.
            bundle.write_config(whole.expose())?;
            None
        }
    };
    failpoint::reach(invocation, "runtime.after_config");
    run_real((invocation, create, runtime), (bundle, line), feed, outside)
}

/// What a runtime that keeps a copy of its configuration is to keep: while no value is in it.
fn kept(
    invocation: &Invocation,
    create: &Create,
    runtime: &Path,
    config: &Config,
) -> Result<Option<Kept>, Refusal> {
    if !real::keeps_copy(runtime) {
        return Ok(None);
    }
    let root = real::crun_root(invocation.root.as_deref());
    Ok(Some(Kept::new(&root, &create.id, config.bytes()?)))
}

/// Lets `run` and `restore` pass unless a variable holds a placeholder, which nobody would resolve.
pub(crate) fn check_direct(start: &DirectStart) -> Result<Outcome, Refusal> {
    // A file that is not there is the real runtime's to tell.
    for path in start.configs.iter().filter(|path| path.exists()) {
        let config = read_config(path)?;
        let Some(entry) = config.placeholders().first().copied() else {
            continue;
        };
        let name = entry.split_once('=').map_or(entry, |(name, _)| name);
        return Err(Refusal::new(
            format!(
                "the placeholder in variable {name} is resolved by create only, not by {}",
                start.command
            ),
            "start the container through its engine, or with create and start, or remove the placeholder",
        ));
    }
    Ok(Outcome::PassThrough)
}

/// The injector's answer; `None` when there is nothing to inject.
fn resolve(
    invocation: &Invocation,
    create: &Create,
    config: &Config,
    begun: i64,
) -> Result<Option<Resolved>, Refusal> {
    let placeholders = config.placeholders();
    let strict = !invocation.permissive;
    match ask::resolve(
        &invocation.socket,
        &create.id,
        &placeholders,
        &config.mount_destinations(),
        (strict, begun),
    ) {
        Ok(resolved) if resolved.is_empty() && placeholders.is_empty() => Ok(None),
        Ok(resolved) => Ok(Some(resolved)),
        Err(NoAnswer::Refused(refusal)) => Err(refusal),
        Err(NoAnswer::Away(_)) if invocation.permissive && placeholders.is_empty() => Ok(None),
        Err(NoAnswer::Away(text)) => Err(away(&text)),
    }
}

fn away(text: &str) -> Refusal {
    Refusal::new(
        format!("{text}, so this container would start without its secrets"),
        "start it with `keywheel up` and start the container again",
    )
}

/// Has the real runtime run with the bundle, or, where it keeps a copy, with a configuration that is in no file.
fn run_real(
    (invocation, create, runtime): (&Invocation, &Create, &Path),
    (bundle, line): (Bundle, Option<UnixStream>),
    feed: Option<(Scrubbed, Kept)>,
    outside: &mut Outside,
) -> Result<Outcome, Refusal> {
    let (whole, kept) = feed.unzip();
    let order = Order::Create {
        bundle: bundle.path(),
        is_fed: kept.is_some(),
    };
    let called = times::now();
    let ran = outside.run(order, whole);
    let status = ran.map_err(|error| real::cannot_start(runtime, &error))?;
    let real = Real {
        called,
        returned: times::now(),
    };
    // At once: until then the container cannot be deleted.
    let replaced = kept.as_ref().map_or(Ok(()), Kept::replace);
    failpoint::reach(invocation, "runtime.after_create");
    let pid_file = create.pid_file.clone();
    let pid = read_pid(&pid_file.unwrap_or_else(|| bundle::pid_file(bundle.path())));
    let removed = bundle.remove();
    if removed.is_ok() {
        // Nothing is left that somebody else would have to remove.
        drop(line);
    }
    failpoint::reach(invocation, "runtime.after_remove");
    if !status.success() {
        // Its own words are in the log already. The bundle's are lost only if both failed.
        return removed.map(|()| Outcome::Done(real::exit_code(status)));
    }
    let placed = removed
        .and(replaced)
        .and(pid)
        .and_then(|pid| attach(invocation, create, pid, real));
    failpoint::reach(invocation, "runtime.after_attach");
    match placed {
        Ok(()) => Ok(Outcome::Done(0)),
        Err(refusal) => Err(undo(outside, create, refusal)),
    }
}

fn attach(invocation: &Invocation, create: &Create, pid: i32, real: Real) -> Result<(), Refusal> {
    ask::attach(&invocation.socket, &create.id, pid, real).map_err(|error| match error {
        NoAnswer::Refused(refusal) => refusal,
        NoAnswer::Away(text) => away(&text),
    })
}

/// Removes the container that may not start. If even that fails the engine's own cleanup is what remains.
fn undo(outside: &mut Outside, create: &Create, refusal: Refusal) -> Refusal {
    match outside.run(Order::Delete, None) {
        Ok(status) if status.success() => refusal,
        _ => Refusal::new(
            format!(
                "{}; and its half-made container could not be removed",
                refusal.text()
            ),
            format!("remove it with the engine, id {}", create.id),
        ),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(
        format!("cannot read {}: {error}", path.display()),
        "check the engine's log",
    )
}

fn read_config(path: &Path) -> Result<Config, Refusal> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CONFIG + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_CONFIG {
        return Err(Refusal::new(
            format!("{} is larger than {MAX_CONFIG} bytes", path.display()),
            "create the container with fewer variables and mounts",
        ));
    }
    Config::parse(&bytes)
}

fn read_pid(path: &Path) -> Result<i32, Refusal> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PID_TEXT).read_to_string(&mut text))
        .map_err(|error| unreadable(path, &error))?;
    text.trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or_else(|| {
            Refusal::new(
                format!("{} holds no process number", path.display()),
                "check the engine's log",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("keywheel-create-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn pid_files_hold_one_positive_number() {
        let dir = scratch("pid");
        let path = dir.join("pid");
        for (text, expected) in [
            ("42", Some(42)),
            ("42\n", Some(42)),
            ("", None),
            ("0", None),
            ("-1", None),
            ("x", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_pid(&path).ok(), expected, "{text:?}");
        }
        std::fs::remove_dir_all(dir).unwrap();
        assert!(read_pid(&path).is_err());
    }

    #[test]
    fn a_configuration_over_the_limit_is_refused() {
        let dir = scratch("limit");
        let file = File::create(dir.join("config.json")).unwrap();
        file.set_len(MAX_CONFIG + 1).unwrap();
        let text = read_config(&dir.join("config.json")).err().unwrap().text();
        std::fs::remove_dir_all(dir).unwrap();
        assert!(text.contains("larger than"), "{text}");
    }
}
