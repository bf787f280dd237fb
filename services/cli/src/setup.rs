//! `setup docker`: our runtimes in Docker's `daemon.json`, and out of it again. `setup podman` is beside it.
//!
//! Invariants: nothing else in the file changes; the file is replaced as a whole or not at all; it was
//! shown before it is written; no container is touched, for dockerd takes runtimes over on SIGHUP.

mod daemon_json;
mod difference;
pub(crate) mod dockerd;
mod file;
pub(crate) mod podman;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::daemon_json::Runtime;
use self::dockerd::{Engine, Listed};
use self::file::ConfigFile;
use crate::address::Address;
use crate::args::SetupDockerArgs;
use crate::exit::{Exit, Failure};
use crate::output::Screen;

/// Our wrapper, beside this program.
pub(crate) const WRAPPER: &str = "keywheel-runtime";
/// Longest name of a runtime.
const MAX_NAME: usize = 64;

/// Registers or, with `--undo`, removes.
pub(crate) async fn docker(
    screen: Screen,
    address: &Address,
    args: &SetupDockerArgs,
) -> Result<(), Failure> {
    let names = names(&args.runtime_name)?;
    let engine = Engine::find().await?;
    let path = args
        .daemon_json
        .clone()
        .unwrap_or_else(|| engine.config_file());
    if !engine.is_here() && !path.parent().is_some_and(Path::is_dir) {
        return Err(Failure::new(
            Exit::Unavailable,
            format!(
                "Docker is not here: no dockerd runs, nothing answers on {}, and {} is no directory",
                engine.socket().display(),
                directory(&path).display()
            ),
            "install Docker (Debian: apt-get install docker.io), then repeat `keywheel setup docker`",
        ));
    }
    let file = ConfigFile::lock(path)?;
    if args.undo {
        undo(screen, args, &engine, &file, &names).await
    } else {
        let runtimes = runtimes(address, args.injector_socket.as_deref(), &names)?;
        register(screen, args, &engine, &file, &runtimes).await
    }
}

fn directory(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

/// The strict name and the permissive one.
fn names(name: &str) -> Result<[String; 2], Failure> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(ok);
    // The injector knows a container of ours by the name of its runtime.
    if !fits || !name.starts_with(keywheel_injector::RUNTIME_PREFIX) {
        return Err(Failure::new(
            Exit::Usage,
            format!("`{name}` cannot be the name of our runtime"),
            format!(
                "let it begin with `keywheel`, with up to {MAX_NAME} of a-z, A-Z, 0-9, `.`, `_`, `-`"
            ),
        ));
    }
    Ok([name.to_owned(), format!("{name}-default")])
}

/// What is registered: the wrapper beside this program, told the injector's socket.
fn runtimes(
    address: &Address,
    socket: Option<&Path>,
    names: &[String; 2],
) -> Result<Vec<Runtime>, Failure> {
    let unknown = |error: std::io::Error| {
        Failure::new(
            Exit::Unexpected,
            format!("this program does not know where it lies: {error}"),
            "call it by its full path",
        )
    };
    let own = std::env::current_exe()
        .and_then(|own| own.canonicalize())
        .map_err(unknown)?;
    let wrapper = own.with_file_name(WRAPPER);
    if !wrapper.is_file() {
        return Err(Failure::new(
            Exit::NoInput,
            format!(
                "{} is missing: it is installed beside this program",
                wrapper.display()
            ),
            "install it, or build all three programs with deploy/build.sh and use that directory",
        ));
    }
    let socket = socket.map_or_else(|| address.injector_socket(), Path::to_owned);
    if !socket.is_absolute() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} is not an absolute path", socket.display()),
            "give --injector-socket as /PATH",
        ));
    }
    let [strict, permissive] = names.clone();
    let arguments = vec!["--keywheel-socket".to_owned(), socket.display().to_string()];
    let lenient = [arguments.clone(), vec!["--keywheel-permissive".to_owned()]].concat();
    let path = wrapper.display().to_string();
    Ok(vec![
        Runtime {
            name: strict,
            path: path.clone(),
            arguments,
        },
        Runtime {
            name: permissive,
            path,
            arguments: lenient,
        },
    ])
}

async fn register(
    screen: Screen,
    args: &SetupDockerArgs,
    engine: &Engine,
    file: &ConfigFile,
    runtimes: &[Runtime],
) -> Result<(), Failure> {
    let before = file.read()?;
    let text = before.clone().unwrap_or_default();
    let after = daemon_json::register(&text, runtimes).map_err(|fault| file.refuse(&fault))?;
    let names: Vec<&str> = runtimes
        .iter()
        .map(|runtime| runtime.name.as_str())
        .collect();
    if after == text && engine.lists(&names).await == Listed::All {
        return told(
            screen,
            file.path(),
            &names,
            "nothing to do: registered already",
        );
    }
    if after != text {
        engine.refuse_conflicting_flags()?;
        show(screen, file.path(), &text, &after);
        agree(screen, args.yes, "Write this and reload Docker? [y/N]")?;
        if let Some(before) = &before
            && !daemon_json::has_ours(before)
        {
            file.back_up(before)?;
        }
        file.write(&after)?;
    }
    if engine.reload(&names, Listed::All).await? {
        told(
            screen,
            file.path(),
            &names,
            "registered; running containers were not touched",
        )
    } else {
        told(
            screen,
            file.path(),
            &names,
            "written; Docker is not running and takes it over at its next start",
        )
    }
}

async fn undo(
    screen: Screen,
    args: &SetupDockerArgs,
    engine: &Engine,
    file: &ConfigFile,
    names: &[String; 2],
) -> Result<(), Failure> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(text) = file.read()? else {
        return told(screen, file.path(), &names, "nothing to do: not registered");
    };
    let without = daemon_json::unregister(&text, &names).map_err(|fault| file.refuse(&fault))?;
    if without == text {
        return told(screen, file.path(), &names, "nothing to do: not registered");
    }
    let backup = file.backup()?;
    let rest = daemon_json::tidy(&without, backup.as_deref());
    show(
        screen,
        file.path(),
        &text,
        rest.as_deref().unwrap_or_default(),
    );
    agree(screen, args.yes, "Write this and reload Docker? [y/N]")?;
    // dockerd forgets runtimes only when the file still has the list, so the list goes last.
    file.write(&without)?;
    let reloaded = engine.reload(&names, Listed::None).await;
    match &rest {
        Some(rest) => file.write(rest)?,
        None => file.remove()?,
    }
    if rest == backup {
        file.drop_backup()?;
    }
    reloaded?;
    told(
        screen,
        file.path(),
        &names,
        "removed; containers that were made with it cannot start until it is registered again",
    )
}

fn show(screen: Screen, file: &Path, before: &str, after: &str) {
    let change = difference::lines(before, after);
    screen.note(&format!("{}:\n{}", file.display(), change.trim_end()));
}

fn agree(screen: Screen, is_agreed: bool, question: &str) -> Result<(), Failure> {
    if is_agreed {
        return Ok(());
    }
    if !screen.interactive {
        return Err(Failure::new(
            Exit::Usage,
            "setup asks before it writes, and there is no terminal to ask on",
            "add --yes when you are sure",
        ));
    }
    match screen.ask(question)?.as_str() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(
            Exit::Usage,
            "nothing was done",
            "answer `y` to go on",
        )),
    }
}

fn told(screen: Screen, file: &Path, names: &[&str], what: &str) -> Result<(), Failure> {
    let answer = json!({ "file": file.display().to_string(), "runtimes": names, "result": what });
    screen.show(&answer, |_| {
        format!(
            "runtimes {} in {}: {what}",
            names.join(" and "),
            file.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_injector_would_not_know_are_refused() {
        assert_eq!(
            names("keywheel").unwrap(),
            ["keywheel".to_owned(), "keywheel-default".to_owned()]
        );
        for bad in [
            "",
            "runc",
            "io.containerd.runc.v2",
            "other",
            "keywheel a",
            "keywheel/a",
            "keywheelä",
            &format!("keywheel{}", "a".repeat(MAX_NAME)),
        ] {
            assert_eq!(names(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
        assert!(names(&format!("keywheel{}", "a".repeat(MAX_NAME - 8))).is_ok());
    }
}
