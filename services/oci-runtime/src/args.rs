//! The command line: our own flags taken out, the real runtime's kept in order, `create` understood.
//!
//! Pure. It knows which flags of runc and crun take a value; an unknown flag is passed on untouched.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::refuse::Refusal;

/// The injector's socket unless `--keywheel-socket` names another.
const DEFAULT_SOCKET: &str = "/run/keywheel/injector.sock";
/// The real runtime unless `--keywheel-real-runtime` names another.
const DEFAULT_RUNTIME: &str = "runc";
/// Our own flags that take a value.
const OURS_WITH_VALUE: [&str; 3] = [
    "keywheel-socket",
    "keywheel-real-runtime",
    "keywheel-failpoints",
];
/// Longest container id.
const MAX_ID: usize = 128;

/// Global flags of runc and crun that take a value.
const GLOBAL_WITH_VALUE: [&str; 7] = [
    "log",
    "log-format",
    "log-level",
    "root",
    "criu",
    "rootless",
    "cgroup-manager",
];
/// Flags of `create` that take a value.
const CREATE_WITH_VALUE: [&str; 7] = [
    "bundle",
    "b",
    "console-socket",
    "pid-file",
    "preserve-fds",
    "config",
    "f",
];
/// Flags of `run` and `restore` that take a value.
const START_WITH_VALUE: [&str; 16] = [
    "bundle",
    "b",
    "console-socket",
    "pid-file",
    "preserve-fds",
    "config",
    "f",
    "image-path",
    "work-path",
    "parent-path",
    "page-server",
    "manage-cgroups-mode",
    "empty-ns",
    "status-fd",
    "lsm-profile",
    "lsm-mount-context",
];
/// Flags of `exec` that take a value.
const EXEC_WITH_VALUE: [&str; 18] = [
    "console-socket",
    "pidfd-socket",
    "cwd",
    "env",
    "e",
    "user",
    "u",
    "additional-gids",
    "g",
    "process",
    "p",
    "pid-file",
    "process-label",
    "apparmor",
    "cap",
    "c",
    "preserve-fds",
    "cgroup",
];
/// Commands of runc and crun: where the global flags end, even after a flag unknown here.
const COMMANDS: [&str; 17] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "help",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
];

/// One call of this program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) socket: PathBuf,
    pub(crate) real_runtime: OsString,
    pub(crate) permissive: bool,
    /// Where a test says at which step this program ends; see `failpoint`.
    pub(crate) failpoints: Option<PathBuf>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) log_json: bool,
    /// Where the real runtime keeps its state, when the engine says so.
    pub(crate) root: Option<PathBuf>,
    /// Global flags, then the command and its arguments, without our own.
    globals: Vec<OsString>,
    rest: Vec<OsString>,
}

/// What `create` was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Create {
    pub(crate) bundle: PathBuf,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) id: String,
    /// All arguments of `create` but `--bundle` and `--pid-file`.
    others: Vec<OsString>,
}

/// A program to be run in a container beside its first, by a file that says all of it, in the
/// background: the real runtime has read the file when it ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exec {
    pub(crate) process_file: PathBuf,
    pub(crate) id: String,
    /// All arguments of `exec` but `--process`.
    others: Vec<OsString>,
}

/// A command that makes and starts a container in one go, so that nothing can be put in between.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DirectStart {
    /// `run` or `restore`.
    pub(crate) command: &'static str,
    /// Where its configuration may lie.
    pub(crate) configs: Vec<PathBuf>,
}

/// A flag's name and, after `=`, its value.
fn flag(argument: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    let text = argument.as_bytes().strip_prefix(b"-")?;
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (name, value) = match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (text.get(..at)?, text.get(at + 1..).map(OsStr::from_bytes)),
        None => (text, None),
    };
    std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty())
        .map(|name| (name, value))
}

impl Invocation {
    /// Reads the arguments (without the program's name).
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut found = Self {
            socket: DEFAULT_SOCKET.into(),
            real_runtime: DEFAULT_RUNTIME.into(),
            permissive: false,
            failpoints: None,
            log: None,
            log_json: false,
            root: None,
            globals: Vec::new(),
            rest: Vec::new(),
        };
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            let Some((name, inline)) = flag(&argument) else {
                found.rest.push(argument);
                found.rest.extend(arguments);
                break;
            };
            let ours = OURS_WITH_VALUE.contains(&name);
            let is_command =
                |next: &OsString| next.to_str().is_some_and(|next| COMMANDS.contains(&next));
            let known = GLOBAL_WITH_VALUE.contains(&name) || ours;
            let unknown_with_value = !["debug", "systemd-cgroup", "help", "h", "version", "v"]
                .contains(&name)
                && name != "keywheel-permissive"
                && arguments
                    .peek()
                    .is_some_and(|next| flag(next).is_none() && !is_command(next));
            let separate = (inline.is_none() && (known || unknown_with_value))
                .then(|| arguments.next())
                .flatten();
            let value = inline.or(separate.as_deref());
            let keep = !found.take_ours(name, value);
            found.note(name, value);
            if keep {
                found.globals.push(argument.clone());
                found.globals.extend(separate);
            }
        }
        found
    }

    /// Whether the flag is one of ours; if so it is stored.
    fn take_ours(&mut self, name: &str, value: Option<&OsStr>) -> bool {
        match (name, value) {
            ("keywheel-socket", Some(value)) => self.socket = value.into(),
            ("keywheel-real-runtime", Some(value)) => self.real_runtime = value.into(),
            ("keywheel-failpoints", Some(value)) => self.failpoints = Some(value.into()),
            ("keywheel-permissive", _) => self.permissive = true,
            (name, None) if OURS_WITH_VALUE.contains(&name) => {}
            _ => return false,
        }
        true
    }

    fn note(&mut self, name: &str, value: Option<&OsStr>) {
        match (name, value) {
            ("log", Some(value)) => self.log = Some(value.into()),
            ("log-format", Some(value)) => self.log_json = value == "json",
            ("root", Some(value)) => self.root = Some(value.into()),
            _ => {}
        }
    }

    /// The real runtime's arguments, as the engine meant them.
    pub(crate) fn unchanged(&self) -> impl Iterator<Item = &OsStr> {
        self.globals
            .iter()
            .chain(&self.rest)
            .map(OsString::as_os_str)
    }

    /// The arguments of `create`; `None` for every other command.
    pub(crate) fn create(&self) -> Option<Result<Create, Refusal>> {
        let (command, arguments) = self.rest.split_first()?;
        if command != "create"
            || arguments
                .iter()
                .any(|one| matches!(flag(one), Some(("help" | "h", _))))
        {
            return None;
        }
        Some(Create::parse(arguments))
    }

    /// `run` or `restore`; `None` for every other command.
    pub(crate) fn direct_start(&self) -> Option<DirectStart> {
        let (command, arguments) = self.rest.split_first()?;
        let command = ["run", "restore"]
            .into_iter()
            .find(|name| command == name)?;
        let mut bundle = PathBuf::from(".");
        let mut named = None;
        let mut arguments = arguments.iter();
        // crun reads flags also behind the id.
        while let Some(argument) = arguments.next() {
            let Some((name, inline)) = flag(argument) else {
                continue;
            };
            let takes_value = inline.is_none() && START_WITH_VALUE.contains(&name);
            let separate = if takes_value { arguments.next() } else { None };
            match (name, inline.or(separate.map(OsString::as_os_str))) {
                ("help" | "h", _) => return None,
                ("bundle" | "b", Some(value)) => bundle = value.into(),
                ("config" | "f", Some(value)) => named = Some(PathBuf::from(value)),
                _ => {}
            }
        }
        let configs = match named {
            Some(named) => vec![bundle.join(&named), named],
            None => vec![bundle.join("config.json")],
        };
        Some(DirectStart { command, configs })
    }

    /// `exec` by a process file and detached, as engines call it; `None` for every other command.
    pub(crate) fn exec(&self) -> Option<Exec> {
        let (command, arguments) = self.rest.split_first()?;
        (command == "exec")
            .then(|| Exec::parse(arguments))
            .flatten()
    }

    /// `exec` with another process file.
    pub(crate) fn exec_in(&self, exec: &Exec, process_file: &OsStr) -> Vec<OsString> {
        let mut all = self.globals.clone();
        all.extend(["exec".into(), "--process".into(), process_file.to_owned()]);
        all.extend(exec.others.iter().cloned());
        all
    }

    /// `create` with another bundle and pid file, and a configuration elsewhere.
    pub(crate) fn create_in(
        &self,
        create: &Create,
        bundle: &OsStr,
        pid_file: &OsStr,
        config: Option<&OsStr>,
    ) -> Vec<OsString> {
        let mut all = self.globals.clone();
        all.push("create".into());
        for (name, value) in [("--bundle", bundle), ("--pid-file", pid_file)] {
            all.extend([name.into(), value.to_owned()]);
        }
        if let Some(config) = config {
            all.extend(["--config".into(), config.to_owned()]);
        }
        all.extend(create.others.iter().cloned());
        all
    }

    /// The container that a call about its end is about: `delete`, `kill` or `state`.
    pub(crate) fn about_end(&self) -> Option<&str> {
        let (command, arguments) = self.rest.split_first()?;
        let is_end = ["delete", "kill", "state"]
            .iter()
            .any(|name| command == name);
        let mut named = arguments.iter().filter(|argument| flag(argument).is_none());
        let id = named.next().filter(|_| is_end)?.to_str()?;
        is_id(id).then_some(id)
    }

    /// Forced removal of a container.
    pub(crate) fn delete(&self, id: &str) -> Vec<OsString> {
        let mut all = self.globals.clone();
        all.extend(["delete", "--force", id].map(OsString::from));
        all
    }
}

impl Create {
    fn parse(arguments: &[OsString]) -> Result<Self, Refusal> {
        let mut found = Self {
            bundle: ".".into(),
            pid_file: None,
            id: String::new(),
            others: Vec::new(),
        };
        let mut positional = None;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some((name, inline)) = flag(argument).filter(|_| positional.is_none()) else {
                positional = Some(argument);
                found.others.push(argument.clone());
                continue;
            };
            let takes_value = inline.is_none() && CREATE_WITH_VALUE.contains(&name);
            let separate = if takes_value { arguments.next() } else { None };
            match (name, inline.or(separate.map(OsString::as_os_str))) {
                ("bundle" | "b", Some(value)) => found.bundle = value.into(),
                ("pid-file", Some(value)) => found.pid_file = Some(value.into()),
                ("config" | "f", _) => {
                    return Err(Refusal::new(
                        "create was called with a configuration outside its bundle",
                        "let the engine call it with --bundle alone",
                    ));
                }
                _ => {
                    found.others.push(argument.clone());
                    found.others.extend(separate.cloned());
                }
            }
        }
        let id = positional.and_then(|id| id.to_str()).unwrap_or_default();
        if !is_id(id) {
            return Err(Refusal::new(
                "create was called without a usable container id",
                "check how the engine calls this runtime",
            ));
        }
        id.clone_into(&mut found.id);
        Ok(found)
    }
}

impl Exec {
    fn parse(arguments: &[OsString]) -> Option<Self> {
        let (mut process_file, mut is_detached) = (None, false);
        let (mut positional, mut others) = (Vec::new(), Vec::new());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some((name, inline)) = flag(argument) else {
                positional.push(argument);
                others.push(argument.clone());
                continue;
            };
            let takes_value = inline.is_none() && EXEC_WITH_VALUE.contains(&name);
            let separate = if takes_value { arguments.next() } else { None };
            match (name, inline.or(separate.map(OsString::as_os_str))) {
                ("process" | "p", Some(value)) => {
                    process_file = Some(PathBuf::from(value));
                    continue;
                }
                ("detach" | "d", None) => is_detached = true,
                // A process file of ours takes a descriptor's place.
                ("help" | "h" | "preserve-fds", _) => return None,
                _ => {}
            }
            others.push(argument.clone());
            others.extend(separate.cloned());
        }
        let [id] = positional.as_slice() else {
            return None;
        };
        let id = id.to_str().filter(|id| is_id(id) && is_detached)?;
        Some(Self {
            process_file: process_file?,
            id: id.to_owned(),
            others,
        })
    }
}

fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    !id.is_empty() && id.len() <= MAX_ID && !id.starts_with('.') && id.bytes().all(plain)
}

#[cfg(test)]
mod tests;
