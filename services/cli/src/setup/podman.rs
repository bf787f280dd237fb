//! `setup podman`: our runtimes in a file of our own in Podman's configuration, and out of it again.
//!
//! Podman names of a runtime its program and no arguments, so each of ours has a program of one line. Invariants: no
//! file of anybody else is changed or removed; what is written was shown before; each file is replaced as a whole; no
//! container and no process is touched.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::daemon_json::Runtime;
use super::file::ConfigFile;
use super::{agree, names, runtimes, show, told};
use crate::address::Address;
use crate::args::SetupPodmanArgs;
use crate::exit::{Exit, Failure};
use crate::output::Screen;

/// What each file of ours has.
const MARK: &str =
    "# Written by `keywheel setup podman`; `keywheel setup podman --undo` removes it.";
/// Mode of a program.
const PROGRAM: u32 = 0o755;
/// Mode of the configuration.
const CONFIGURATION: u32 = 0o644;
/// What a running service of Podman does not know by itself.
const SERVICE: &str = "a running service of Podman knows it after its next start (`systemctl try-restart podman.service`)";

/// A file to be written.
#[derive(Debug)]
struct Ours {
    path: PathBuf,
    text: String,
    mode: u32,
}

/// Registers or, with `--undo`, removes.
pub(crate) fn podman(
    screen: Screen,
    address: &Address,
    args: &SetupPodmanArgs,
) -> Result<(), Failure> {
    let names = names(&args.runtime_name)?;
    if !args.configuration.is_dir() {
        return Err(Failure::new(
            Exit::Unavailable,
            format!(
                "Podman is not here: {} is no directory",
                args.configuration.display()
            ),
            "install Podman (Debian: apt-get install podman), then repeat `keywheel setup podman`",
        ));
    }
    let conf = args.configuration.join("containers.conf.d");
    let conf = conf.join(format!("{}.conf", args.runtime_name));
    if args.undo {
        return undo(screen, args, &conf, &names);
    }
    let mut runtimes = runtimes(address, args.injector_socket.as_deref(), &names)?;
    for runtime in &mut runtimes {
        let real = [
            "--keywheel-real-runtime".to_owned(),
            args.real_runtime.clone(),
        ];
        runtime.arguments.extend(real);
    }
    refuse_taken(&args.configuration.join("containers.conf"), &names)?;
    let [_, permissive] = &names;
    let default = args.make_default.then_some(permissive);
    let mut files = Vec::new();
    for runtime in &runtimes {
        files.push(Ours {
            path: args.programs.join(&runtime.name),
            text: program(runtime)?,
            mode: PROGRAM,
        });
    }
    // Last, so that what it names is there.
    files.push(Ours {
        text: configuration(&args.programs, &names, default)?,
        path: conf.clone(),
        mode: CONFIGURATION,
    });
    register(screen, args, &conf, &files, &names)
}

fn register(
    screen: Screen,
    args: &SetupPodmanArgs,
    conf: &Path,
    files: &[Ours],
    names: &[String; 2],
) -> Result<(), Failure> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut is_new = false;
    for file in files {
        let before = found(file)?.unwrap_or_default();
        if before != file.text {
            show(screen, &file.path, &before, &file.text);
            is_new = true;
        }
    }
    if !is_new {
        return told(screen, conf, &names, "nothing to do: registered already");
    }
    agree(screen, args.yes, "Write this? [y/N]")?;
    for file in files {
        ConfigFile::lock_with(file.path.clone(), file.mode)?.write(&file.text)?;
    }
    let what = format!("registered; running containers were not touched; {SERVICE}");
    told(screen, conf, &names, &what)
}

fn undo(
    screen: Screen,
    args: &SetupPodmanArgs,
    conf: &Path,
    names: &[String; 2],
) -> Result<(), Failure> {
    // First, so that nothing names what is gone.
    let programs = names.iter().map(|name| args.programs.join(name));
    let paths = std::iter::once(conf.to_owned()).chain(programs);
    let mut there = Vec::new();
    for path in paths.filter(|path| path.exists()) {
        let file = Ours {
            path,
            text: String::new(),
            mode: CONFIGURATION,
        };
        let text = found(&file)?.unwrap_or_default();
        show(screen, &file.path, &text, "");
        there.push(file.path);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if there.is_empty() {
        return told(screen, conf, &names, "nothing to do: not registered");
    }
    agree(screen, args.yes, "Remove this? [y/N]")?;
    for path in there {
        ConfigFile::lock(path)?.remove()?;
    }
    let what = format!(
        "removed; containers that were made with it cannot start until it is registered again; {SERVICE}"
    );
    told(screen, conf, &names, &what)
}

/// The text that is there, which has to be ours; none when nothing is there.
fn found(file: &Ours) -> Result<Option<String>, Failure> {
    if !file.path.exists() {
        return Ok(None);
    }
    // A link would lead to somebody else's.
    let about = std::fs::symlink_metadata(&file.path);
    let is_file = about.is_ok_and(|about| about.is_file());
    let text = match is_file {
        true => ConfigFile::lock_with(file.path.clone(), file.mode)?.read()?,
        false => None,
    };
    match text {
        Some(text) if text.lines().any(|line| line == MARK) => Ok(Some(text)),
        _ => Err(Failure::new(
            Exit::Conflict,
            format!(
                "{} is there already, and it is not keywheel's",
                file.path.display()
            ),
            "choose another name with --runtime-name, or another directory",
        )),
    }
}

/// Podman's own file may have runtimes of these names, which ours would take the place of.
fn refuse_taken(path: &Path, names: &[String; 2]) -> Result<(), Failure> {
    let text = match path.exists() {
        true => ConfigFile::lock(path.to_owned())?.read()?,
        false => None,
    };
    let Some(text) = text else { return Ok(()) };
    let broken = |error: toml::de::Error| {
        Failure::new(
            Exit::Input,
            format!(
                "{}: not TOML, so nothing was changed: {}",
                path.display(),
                error.message()
            ),
            "correct the file, then repeat the command",
        )
    };
    let file: toml::Table = toml::from_str(&text).map_err(broken)?;
    let runtimes = file.get("engine").and_then(|engine| engine.get("runtimes"));
    match names
        .iter()
        .find(|name| runtimes.is_some_and(|runtimes| runtimes.get(name.as_str()).is_some()))
    {
        None => Ok(()),
        Some(name) => Err(Failure::new(
            Exit::Conflict,
            format!("{} has a runtime `{name}` already", path.display()),
            "choose another name with --runtime-name, or take that one out",
        )),
    }
}

/// A program that calls the wrapper with its arguments.
fn program(runtime: &Runtime) -> Result<String, Failure> {
    let mut line = format!("exec {}", quoted(&runtime.path)?);
    for argument in &runtime.arguments {
        line.push(' ');
        line.push_str(&quoted(argument)?);
    }
    Ok(format!("#!/bin/sh\n{MARK}\n{line} \"$@\"\n"))
}

/// As one word of a shell.
fn quoted(text: &str) -> Result<String, Failure> {
    if text.contains(['\'', '\n', '\0']) {
        return Err(Failure::new(
            Exit::Usage,
            format!("a path with a quote or a line's end cannot be registered: {text:?}"),
            "install it, or put the socket, below another directory",
        ));
    }
    Ok(format!("'{text}'"))
}

/// The file that names the programs, and the one that is taken when none is named.
fn configuration(
    programs: &Path,
    names: &[String; 2],
    default: Option<&String>,
) -> Result<String, Failure> {
    let mut text = format!("{MARK}\n");
    if let Some(name) = default {
        let _ = writeln!(text, "[engine]\nruntime = \"{name}\"\n");
    }
    text.push_str("[engine.runtimes]\n");
    for name in names {
        let path = programs.join(name);
        let path = path.to_str().filter(|path| path.starts_with('/'));
        // TOML's literal strings have the same limits.
        let path = quoted(path.ok_or_else(|| {
            let what = format!("{} is no absolute path of UTF-8", programs.display());
            Failure::new(Exit::Usage, what, "give --programs as /PATH")
        })?)?;
        let _ = writeln!(text, "{name} = [{path}]");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [String; 2] {
        ["keywheel".to_owned(), "keywheel-default".to_owned()]
    }

    #[test]
    fn the_configuration_is_toml_that_names_both_programs() {
        let programs = Path::new("/usr/local/libexec/keywheel");
        let names = both();
        let text = configuration(programs, &names, Some(&names[1])).unwrap();
        let file: toml::Table = toml::from_str(&text).unwrap();
        let engine = file["engine"].as_table().unwrap();
        assert_eq!(engine["runtime"].as_str(), Some("keywheel-default"));
        let strict = engine["runtimes"]["keywheel"].as_array().unwrap();
        assert_eq!(
            strict[0].as_str(),
            Some("/usr/local/libexec/keywheel/keywheel")
        );
        let plain = configuration(programs, &names, None).unwrap();
        assert!(!plain.contains("runtime =") && plain.starts_with(MARK));
        assert!(configuration(Path::new("relative"), &names, None).is_err());
    }

    #[test]
    fn a_program_calls_the_wrapper_with_its_arguments_and_odd_paths_are_refused() {
        let runtime = |path: &str| Runtime {
            name: "keywheel".to_owned(),
            path: path.to_owned(),
            arguments: vec!["--keywheel-socket".to_owned(), "/run/a b/i.sock".to_owned()],
        };
        let text = program(&runtime("/bin/keywheel-runtime")).unwrap();
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "exec '/bin/keywheel-runtime' '--keywheel-socket' '/run/a b/i.sock' \"$@\""
        );
        assert!(text.starts_with("#!/bin/sh\n"));
        assert_eq!(program(&runtime("/a'b")).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        let place = std::env::temp_dir().join(format!("keywheel-podman-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).unwrap();
        let file = Ours {
            path: place.join("keywheel"),
            text: String::new(),
            mode: PROGRAM,
        };
        assert!(found(&file).unwrap().is_none());
        std::fs::write(&file.path, "#!/bin/sh\n").unwrap();
        assert_eq!(found(&file).unwrap_err().exit, Exit::Conflict);
        std::fs::write(&file.path, format!("{MARK}\n")).unwrap();
        assert!(found(&file).unwrap().is_some());
        let link = Ours {
            path: place.join("link"),
            text: String::new(),
            mode: PROGRAM,
        };
        std::os::unix::fs::symlink(&file.path, &link.path).unwrap();
        assert_eq!(found(&link).unwrap_err().exit, Exit::Conflict);
        let conf = place.join("containers.conf");
        assert!(refuse_taken(&conf, &both()).is_ok());
        std::fs::write(&conf, "[engine.runtimes]\nother = ['/x']\n").unwrap();
        assert!(refuse_taken(&conf, &both()).is_ok());
        std::fs::write(&conf, "[engine.runtimes]\nkeywheel-default = ['/x']\n").unwrap();
        let taken = refuse_taken(&conf, &both()).unwrap_err();
        std::fs::remove_dir_all(&place).unwrap();
        assert_eq!(taken.exit, Exit::Conflict);
    }
}
