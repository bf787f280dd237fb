//! The engine on this machine: where it is, how it was started, what it lists, and how it takes over
//! its configuration. It is asked over its socket and told by SIGHUP; no container is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::exit::{Exit, Failure};
use crate::http::{self, Ask};

/// Docker's socket unless `DOCKER_HOST` names another.
const SOCKET: &str = "/var/run/docker.sock";
/// Docker's configuration unless it was started with another.
const CONFIG_FILE: &str = "/etc/docker/daemon.json";
/// Where dockerd writes its process id.
const PID_FILE: &str = "/var/run/docker.pid";
/// How long one answer of the engine may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the engine may take to take its configuration over.
pub(crate) const RELOAD: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Which of our runtimes the engine lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// All of them.
    All,
    /// None of them.
    None,
    /// Some, or it does not answer.
    Unclear,
}

/// The engine, running or not.
#[derive(Debug)]
pub(super) struct Engine {
    socket: PathBuf,
    /// The process and its arguments.
    daemon: Option<(Pid, Vec<String>)>,
    answers: bool,
}

impl Engine {
    /// Looks for it. One that was named in `DOCKER_HOST` has to answer.
    pub(super) async fn find() -> Result<Self, Failure> {
        let named = named()?;
        let socket = socket()?;
        let answers = runtimes(&socket).await.is_ok();
        if named.is_some() && !answers {
            return Err(Failure::new(
                Exit::Unavailable,
                format!(
                    "Docker does not answer on {}, which DOCKER_HOST names",
                    socket.display()
                ),
                "start Docker, or unset DOCKER_HOST to use the one on this machine",
            ));
        }
        Ok(Self {
            daemon: find_daemon(&socket).await,
            socket,
            answers,
        })
    }

    /// Whether there is any sign of life.
    pub(super) fn is_here(&self) -> bool {
        self.answers || self.daemon.is_some()
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The configuration it was started with.
    pub(super) fn config_file(&self) -> PathBuf {
        let arguments = self
            .daemon
            .as_ref()
            .map(|(_, arguments)| arguments.as_slice())
            .unwrap_or_default();
        flag_value(arguments, "--config-file")
            .map_or_else(|| PathBuf::from(CONFIG_FILE), PathBuf::from)
    }

    /// dockerd refuses a setting that is both a flag and in the file.
    pub(super) fn refuse_conflicting_flags(&self) -> Result<(), Failure> {
        let Some((pid, arguments)) = &self.daemon else {
            return Ok(());
        };
        if flag_value(arguments, "--add-runtime").is_none() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Conflict,
            format!(
                "dockerd (pid {}) was started with --add-runtime, and then it takes no runtimes from its file",
                pid.as_raw_nonzero()
            ),
            "move those runtimes into the file's `runtimes`, restart dockerd without the flag, then repeat the command",
        ))
    }

    /// What it lists of ours.
    pub(super) async fn lists(&self, names: &[&str]) -> Listed {
        let Ok(runtimes) = runtimes(&self.socket).await else {
            return Listed::Unclear;
        };
        match names
            .iter()
            .filter(|name| runtimes.contains_key(**name))
            .count()
        {
            0 => Listed::None,
            all if all == names.len() => Listed::All,
            _ => Listed::Unclear,
        }
    }

    /// Has it take its file over and waits until it lists what it should; `false` when it is not running.
    pub(super) async fn reload(&self, names: &[&str], wanted: Listed) -> Result<bool, Failure> {
        let Some((pid, _)) = &self.daemon else {
            if self.answers {
                return Err(Failure::new(
                    Exit::Unavailable,
                    format!(
                        "Docker answers on {}, but its process is not visible from here",
                        self.socket.display()
                    ),
                    "reload it yourself where it runs: kill -HUP of dockerd, or restart it",
                ));
            }
            return Ok(false);
        };
        kill_process(*pid, Signal::HUP).map_err(|error| {
            Failure::new(
                Exit::Denied,
                format!(
                    "cannot tell dockerd (pid {}) to reload: {error}",
                    pid.as_raw_nonzero()
                ),
                "use sudo",
            )
        })?;
        if !self.answers {
            return Ok(true);
        }
        let clock = SystemClock::new();
        while self.lists(names).await != wanted {
            if clock.monotonic() > RELOAD {
                return Err(Failure::new(
                    Exit::Unavailable,
                    format!(
                        "dockerd did not take over the change within {} s; the file is written",
                        RELOAD.as_secs()
                    ),
                    "look into dockerd's log (journalctl -u docker), or restart it when that suits you",
                ));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(true)
    }
}

fn named() -> Result<Option<String>, Failure> {
    keywheel_daemon::env::read("DOCKER_HOST")
        .map_err(|error| Failure::new(Exit::Usage, error.to_string(), "unset DOCKER_HOST"))
}

/// Where the engine of this machine listens.
pub(crate) fn socket() -> Result<PathBuf, Failure> {
    match named()? {
        None => Ok(PathBuf::from(SOCKET)),
        Some(host) => local_socket(&host),
    }
}

fn local_socket(host: &str) -> Result<PathBuf, Failure> {
    match host.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("DOCKER_HOST is `{host}`, and only this machine's Docker is meant here"),
            "unset DOCKER_HOST, or name a unix:///PATH",
        )),
    }
}

/// What the engine at a socket lists; an error when it does not answer.
pub(crate) async fn runtimes(socket: &Path) -> Result<serde_json::Map<String, Value>, ()> {
    let (status, body) = http::exchange(socket, Ask::look("/info"), ANSWER)
        .await
        .map_err(drop)?;
    let info: Value = serde_json::from_slice(&body).map_err(drop)?;
    let runtimes = info.get("Runtimes").and_then(Value::as_object).cloned();
    runtimes.filter(|_| status.is_success()).ok_or(())
}

/// The value of `--flag value` or `--flag=value`.
fn flag_value<'a>(arguments: &'a [String], flag: &str) -> Option<&'a str> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == flag {
            return arguments.next().map(String::as_str);
        }
        let value = argument
            .strip_prefix(flag)
            .and_then(|rest| rest.strip_prefix('='));
        if value.is_some() {
            return value;
        }
    }
    None
}

/// dockerd's process: who listens at the socket, else by its own file or by looking at all.
async fn find_daemon(socket: &Path) -> Option<(Pid, Vec<String>)> {
    // A machine may run several; behind a socket that a service manager opened is that manager.
    let listens = listener(socket).await.filter(|pid| is_dockerd(*pid));
    let raw = listens.or_else(any_daemon)?;
    let line = fs::read(format!("/proc/{raw}/cmdline")).unwrap_or_default();
    let words = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    let arguments = words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    Pid::from_raw(raw).map(|pid| (pid, arguments))
}

/// The process that opened a socket to listen there.
async fn listener(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).await.ok()?;
    stream.peer_cred().ok()?.pid()
}

fn any_daemon() -> Option<i32> {
    let written = fs::read_to_string(PID_FILE)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let all = fs::read_dir("/proc").ok().into_iter().flatten().flatten();
    let all = all.filter_map(|entry| {
        entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
    });
    written
        .filter(|pid| is_dockerd(*pid))
        .or_else(|| all.into_iter().find(|pid| is_dockerd(*pid)))
}

fn is_dockerd(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dockerd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_in_both_forms() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            flag_value(&words("dockerd --config-file /a -D"), "--config-file"),
            Some("/a")
        );
        assert_eq!(
            flag_value(&words("dockerd --config-file=/b"), "--config-file"),
            Some("/b")
        );
        assert_eq!(
            flag_value(&words("dockerd --config-files=/b"), "--config-file"),
            None
        );
        assert_eq!(flag_value(&words("dockerd"), "--config-file"), None);
    }

    #[test]
    fn only_the_engine_of_this_machine_is_set_up() {
        assert_eq!(
            local_socket("unix:///x/docker.sock").unwrap(),
            PathBuf::from("/x/docker.sock")
        );
        for host in ["tcp://10.0.0.1:2375", "ssh://host", "unix://relative"] {
            assert_eq!(local_socket(host).unwrap_err().exit, Exit::Usage, "{host}");
        }
    }

    #[tokio::test]
    async fn of_several_daemons_the_one_behind_the_socket_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        assert_eq!(listener(&path).await, None);
        let _listening = tokio::net::UnixListener::bind(&path).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(listener(&path).await, Some(own));
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_lists_nothing() {
        let engine = Engine {
            socket: PathBuf::from("/nonexistent/docker.sock"),
            daemon: None,
            answers: false,
        };
        assert!(!engine.is_here());
        assert_eq!(engine.lists(&["keywheel"]).await, Listed::Unclear);
        assert_eq!(engine.reload(&["keywheel"], Listed::All).await, Ok(false));
        assert_eq!(engine.config_file(), PathBuf::from(CONFIG_FILE));
    }
}
