//! The questions to the injector, two for a create and one for an exec: one JSON line each way, one question per
//! connection, bounded in size and time, the connecting too. That of an exec has a socket of its own, so that no
//! number of health checks keeps a create waiting. The first connection of a create stays open until its private bundle
//! is gone: however this program ends, the injector sees it by that, and removes what was left.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keywheel_sys::scrub::{self, Scrubbed};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use crate::base64;
use crate::refuse::Refusal;
use crate::times::Real;

/// The injector has this long for one answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// And this long for an exec, which then goes on as it is.
pub(crate) const EXEC_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest line in either direction.
pub(crate) const MAX_LINE: usize = 4 * 1024 * 1024;
/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Why there is no usable answer.
pub(crate) enum NoAnswer {
    /// Nobody answers. The permissive runtime may go on without.
    Away(String),
    /// The injector said no, or something that makes no sense.
    Refused(Refusal),
}

/// What to put into the container.
pub(crate) struct Resolved {
    /// Variables and their values.
    pub(crate) env: Vec<(String, Scrubbed)>,
    /// Directories that get a secret file system.
    pub(crate) dirs: Vec<String>,
    /// Where the private bundle shall be.
    pub(crate) bundle_dir: Option<PathBuf>,
    /// By this connection the injector knows that the create is under way.
    pub(crate) line: Option<UnixStream>,
}

impl Resolved {
    pub(crate) fn is_empty(&self) -> bool {
        self.env.is_empty() && self.dirs.is_empty()
    }
}

/// First question, before any process exists; with when this program began.
pub(crate) fn resolve(
    socket: &Path,
    id: &str,
    env: &[&str],
    mounts: &[&str],
    (strict, begun): (bool, i64),
) -> Result<Resolved, NoAnswer> {
    let question = json!({ "v": 1, "op": "resolve", "id": id, "env": env, "mounts": mounts, "strict": strict, "begun": begun, "holds": true });
    let (answer, line) = ask(socket, &question, ANSWER_TIMEOUT)?;
    let resolved = read_resolved(answer).ok_or_else(garbled)?;
    Ok(Resolved {
        line: Some(line),
        ..resolved
    })
}

/// The variables of an exec, if it is the container's own health check; else none.
pub(crate) fn exec(
    socket: &Path,
    id: &str,
    env: &[&str],
    args: &[&str],
) -> Result<Resolved, NoAnswer> {
    let question = json!({ "v": 1, "op": "exec", "id": id, "env": env, "args": args });
    let (answer, _) = ask(&exec_socket(socket), &question, EXEC_TIMEOUT)?;
    read_resolved(answer).ok_or_else(garbled)
}

/// Where an injector answers for execs, beside where it answers for creates: `injector-exec.sock` beside
/// `injector.sock`.
fn exec_socket(socket: &Path) -> PathBuf {
    let mut name = socket.file_stem().unwrap_or_default().to_owned();
    name.push("-exec");
    if let Some(extension) = socket.extension() {
        name.push(".");
        name.push(extension);
    }
    socket.with_file_name(name)
}

/// Second question, when the process exists and has not run an instruction of the image.
pub(crate) fn attach(socket: &Path, id: &str, pid: i32, real: Real) -> Result<(), NoAnswer> {
    let Real { called, returned } = real;
    let question = json!({ "v": 1, "op": "attach", "id": id, "pid": pid, "called": called, "returned": returned });
    ask(socket, &question, ANSWER_TIMEOUT).map(drop)
}

fn garbled() -> NoAnswer {
    NoAnswer::Refused(Refusal::new(
        "the injector's answer cannot be understood",
        "install keywheel and keywheel-runtime of the same version",
    ))
}

/// Takes the values out of the answer; the base64 texts are overwritten.
fn read_resolved(mut answer: Value) -> Option<Resolved> {
    let mut env = Vec::new();
    let mut sound = true;
    if let Some(Value::Object(values)) = answer.get_mut("env").map(Value::take) {
        for (name, value) in values {
            let Value::String(text) = value else {
                sound = false;
                continue;
            };
            match base64::decode(&text) {
                Some(value) => env.push((name, value)),
                None => sound = false,
            }
            scrub::text(text);
        }
    }
    let dirs = match answer.get("dirs") {
        None | Some(Value::Null) => Vec::new(),
        Some(dirs) => dirs
            .as_array()?
            .iter()
            .map(|dir| dir.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()?,
    };
    let bundle_dir = answer
        .get("bundle_dir")
        .and_then(Value::as_str)
        .map(PathBuf::from);
    sound.then_some(Resolved {
        env,
        dirs,
        bundle_dir,
        line: None,
    })
}

/// The answer, and the connection that it came by.
fn ask(socket: &Path, question: &Value, within: Duration) -> Result<(Value, UnixStream), NoAnswer> {
    let (line, stream) =
        exchange(socket, question, within).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => NoAnswer::Refused(Refusal::new(
                format!(
                    "the injector's socket {} does not belong to root",
                    socket.display()
                ),
                "let root own the socket's directory and start the injector as root",
            )),
            io::ErrorKind::FileTooLarge => garbled(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NoAnswer::Away(format!(
                "the injector at {} did not answer within {} s",
                socket.display(),
                within.as_secs()
            )),
            _ => NoAnswer::Away(format!(
                "the injector at {} cannot be reached ({error})",
                socket.display()
            )),
        })?;
    // EXPOSE: parsed, and its values moved into buffers that are zeroed.
    let answer: Value = serde_json::from_slice(line.expose()).map_err(|_| garbled())?;
    if answer.get("ok") == Some(&Value::Bool(true)) {
        return Ok((answer, stream));
    }
    let text = |key| answer.get(key).and_then(Value::as_str);
    let Some(error) = text("error") else {
        return Err(garbled());
    };
    Err(NoAnswer::Refused(Refusal::new(
        error,
        text("next").unwrap_or("see `keywheel status`"),
    )))
}

/// Connects within that time: where the injector does not take connections any more, the kernel would
/// let a plain connect wait for ever.
fn connect(socket: &Path, within: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&fd, Timeout::Send, Some(within))?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&fd, &address))?;
    Ok(UnixStream::from(fd))
}

/// Sends the question, returns the answer's line and the connection.
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline on one exchange; this program has no clock port"
)]
fn exchange(
    socket: &Path,
    question: &Value,
    within: Duration,
) -> io::Result<(Scrubbed, UnixStream)> {
    let deadline = Instant::now() + within;
    let mut stream = connect(socket, within)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)?.uid;
    if !peer.is_root() && peer != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_write_timeout(Some(left))?;
    let mut line = question.to_string();
    line.push('\n');
    if line.len() > MAX_LINE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    stream.write_all(line.as_bytes())?;
    let mut chunk = Scrubbed::new(vec![0; CHUNK]);
    // Reserved at once: growing would leave copies of values in freed memory. Untouched pages cost nothing.
    let mut answer = Scrubbed::with_capacity(MAX_LINE + CHUNK);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(chunk.expose_mut()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        // EXPOSE: moved from one zeroed buffer to another.
        let part = chunk.expose().get(..count).unwrap_or_default();
        let end = part.iter().position(|byte| *byte == b'\n');
        answer
            .expose_mut()
            .extend_from_slice(part.get(..end.unwrap_or(count)).unwrap_or_default());
        // EXPOSE: only the length of the whole line, against its limit.
        if answer.expose().len() > MAX_LINE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if end.is_some() {
            return Ok((answer, stream));
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// An injector that answers one question with fixed bytes; returns its socket and what it was asked.
    fn injector(answer: Vec<u8>) -> (PathBuf, std::thread::JoinHandle<Value>) {
        let path = fresh();
        let thread = answering(&path, answer);
        (path, thread)
    }

    fn fresh() -> PathBuf {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::env::temp_dir().join(format!("keywheel-ask-{}-{number}", std::process::id()))
    }

    fn answering(path: &Path, answer: Vec<u8>) -> std::thread::JoinHandle<Value> {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            io::BufRead::read_line(&mut io::BufReader::new(&stream), &mut asked).unwrap();
            // The wrapper may hang up on an answer that is too long.
            let _ = stream.write_all(&answer);
            serde_json::from_str(&asked).unwrap()
        })
    }

    fn refusal(answer: &[u8]) -> String {
        let (path, thread) = injector(answer.to_vec());
        let result = resolve(&path, "id", &[], &[], (true, 1));
        thread.join().unwrap();
        std::fs::remove_file(path).unwrap();
        match result {
            Err(NoAnswer::Refused(refusal)) => refusal.text(),
            Err(NoAnswer::Away(text)) => format!("away: {text}"),
            Ok(_) => "ok".into(),
        }
    }

    #[test]
    fn values_directories_and_the_bundle_are_read() {
        let answer =
            br#"{"ok":true,"env":{"A":"Zm9v"},"dirs":["/run/secrets"],"bundle_dir":"/b/id"}"#;
        let (path, thread) = injector([&answer[..], b"\n"].concat());
        let Ok(resolved) = resolve(&path, "id", &["A={keywheel:x}"], &["/proc"], (false, 7)) else {
            panic!("no answer")
        };
        let asked = thread.join().unwrap();
        std::fs::remove_file(path).unwrap();
        let expected = json!({ "v": 1, "op": "resolve", "id": "id", "env": ["A={keywheel:x}"], "mounts": ["/proc"], "strict": false, "begun": 7, "holds": true });
        assert_eq!(asked, expected);
        assert_eq!(
            (resolved.env[0].0.as_str(), resolved.env[0].1.expose()),
            ("A", &b"foo"[..])
        );
        assert_eq!(resolved.dirs, ["/run/secrets"]);
        assert_eq!(resolved.bundle_dir, Some("/b/id".into()));
        assert!(!resolved.is_empty());
    }

    #[test]
    fn an_exec_asks_with_its_arguments_and_an_answer_without_variables_is_empty() {
        let path = fresh();
        let own = exec_socket(&path);
        let thread = answering(&own, b"{\"ok\":true}\n".to_vec());
        let Ok(resolved) = exec(&path, "id", &["A={keywheel:x}"], &["/bin/sh", "-c", "y"]) else {
            panic!("no answer")
        };
        let asked = thread.join().unwrap();
        std::fs::remove_file(own).unwrap();
        let expected = json!({ "v": 1, "op": "exec", "id": "id", "env": ["A={keywheel:x}"], "args": ["/bin/sh", "-c", "y"] });
        assert_eq!(asked, expected);
        assert!(resolved.is_empty() && resolved.bundle_dir.is_none());
    }

    #[test]
    fn execs_have_a_socket_of_their_own() {
        let of = |path: &str| exec_socket(Path::new(path));
        assert_eq!(of("/r/injector.sock"), Path::new("/r/injector-exec.sock"));
        assert_eq!(of("/r.d/injector"), Path::new("/r.d/injector-exec"));
    }

    #[test]
    fn an_injector_that_takes_no_connections_is_away_in_time() {
        let path = fresh();
        let family = (AddressFamily::UNIX, SocketType::STREAM);
        let full = rustix::net::socket_with(family.0, family.1, SocketFlags::CLOEXEC, None);
        let full = full.unwrap();
        rustix::net::bind(&full, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        // One fits in; the next waits for its turn.
        let waiting = UnixStream::connect(&path).unwrap();
        let error = connect(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop((waiting, full));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn no_answer_makes_it_panic() {
        let good = br#"{"v":1,"env":{"A":"eA=="},"dirs":["/run/secrets"],"bundle_dir":"/b"}"#;
        keywheel_testkit::hostile(good, |bytes| {
            let answer = serde_json::from_slice::<Value>(bytes);
            drop(answer.ok().and_then(read_resolved));
        });
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let text = refusal(b"{\"ok\":false,\"error\":\"no binding\",\"next\":\"bind it\"}\n");
        assert_eq!(text, "keywheel: no binding; next: bind it");
    }

    #[test]
    fn nonsense_is_a_refusal_and_silence_is_not() {
        for answer in [
            &b"nonsense\n"[..],
            b"{}\n",
            b"{\"ok\":\"true\"}\n",
            b"{\"ok\":true,\"env\":{\"A\":1}}\n",
            b"{\"ok\":true,\"env\":{\"A\":\"?\"}}\n",
            b"{\"ok\":true,\"dirs\":[1]}\n",
        ] {
            assert!(
                refusal(answer).contains("cannot be understood"),
                "{answer:?}"
            );
        }
        assert!(refusal(b"").starts_with("away: "));
        assert!(refusal(b"{\"ok\":true").starts_with("away: "));
    }

    #[test]
    fn an_answer_over_the_limit_is_refused() {
        let mut answer = vec![b' '; MAX_LINE - 11];
        answer.extend_from_slice(b"{\"ok\":true}\n");
        assert_eq!(refusal(&answer), "ok");
        answer.insert(0, b' ');
        assert!(refusal(&answer).contains("cannot be understood"));
    }

    #[test]
    fn nobody_there_is_away() {
        match resolve(
            Path::new("/nonexistent/injector.sock"),
            "id",
            &[],
            &[],
            (true, 1),
        ) {
            Err(NoAnswer::Away(text)) => {
                // The injector reads these words in what the engine keeps of the refusal.
                let words = "the injector at /nonexistent/injector.sock cannot be reached";
                assert!(text.starts_with(words), "{text}");
            }
            _ => panic!("expected nobody"),
        }
    }
}
