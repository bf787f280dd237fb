//! Incidents: somebody outside says that something leaked, a playbook answers, and a report shows what came of it.
//!
//! Invariants: playbooks are those of `deploy/playbooks` as they are shipped, with the trigger that they have as a
//! comment; a report counts once it was verified with nothing but itself and the log's key, where no server is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::port::held_port;
use serde_json::{Value, json};

use crate::keywheel::{Keywheel, Options};
use crate::scratch::{Scratch, unique};
use crate::stage::{find, items};
use crate::wait::{self, PATIENCE};

/// What is done after a leak; begun by a signal of the type [`LEAK`].
pub const LEAKED: &str = include_str!("../../deploy/playbooks/leaked-credential.yaml");
/// What is done with a host that somebody else has; a person begins it.
pub const COMPROMISED: &str = include_str!("../../deploy/playbooks/compromised-host.yaml");
/// A signal's type.
pub const LEAK: &str = "leak";
/// How the comment begins that is a trigger.
const TRIGGERS: &str = "  # triggers:";
/// What proves the sender.
const TOKEN: &str = "a-token-of-this-test-alone";
/// Where nobody answers.
const NOWHERE: &str = "unix:///nonexistent/keywheel.sock";
/// The type of what was heard.
const RECEIVED: &str = "dev.keywheel.signal.received.v1";

/// A scanner that tells of leaks, and the gateway's door for it.
#[derive(Debug)]
pub struct Scanner {
    keys: Scratch,
    door: SocketAddr,
    namespace: Option<String>,
}

impl Scanner {
    /// With a door of its own on this machine.
    pub fn make() -> Result<Self> {
        let keys = Scratch::make()?;
        keys.write("token", TOKEN)?;
        Ok(Self {
            keys,
            door: SocketAddr::from((Ipv4Addr::LOCALHOST, held_port())),
            namespace: None,
        })
    }

    /// From now on it stands in the network namespace of the gateway, whose loopback is another one.
    pub fn stand_in(&mut self, namespace: String) {
        self.namespace = Some(namespace);
    }

    /// What a gateway is started with.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let setting = |name: &str, text: String| (format!("KEYWHEEL_SIGNALS_{name}"), text);
        vec![
            setting("LISTEN", self.door.to_string()),
            setting("CREDENTIALS_DIR", self.keys.path().display().to_string()),
        ]
    }

    /// The same as options, and nothing else.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            environment: self.environment(),
            ..Options::default()
        }
    }

    /// Its signals are heard, and answered by these playbooks.
    pub fn declare(&self, keywheel: &Keywheel, playbooks: &[&str]) -> Result<()> {
        let mut text = format!(
            "apiVersion: keywheel.dev/v1\nkind: SignalSource\nmetadata: {{ name: scanner }}\nspec: {{ \
             format: cloudEvents, proof: bearer, keyFile: {}, map: {{ secret: body.secret }} }}\n",
            self.keys.join("token").display()
        );
        for playbook in playbooks {
            text.push_str("---\n");
            text.push_str(&triggered(playbook));
        }
        keywheel.apply(&text)?;
        Ok(())
    }

    /// Says something about a secret; what it is answered is kept for the canary.
    pub fn tell(&self, keywheel: &Keywheel, kind: &str, secret: &str) -> Result<()> {
        let event = json!({
            "specversion": "1.0", "id": unique("signal"), "source": "https://scan.example", "type": kind,
            "data": { "secret": secret },
        });
        let body = event.to_string();
        let request = format!(
            "POST /signals/scanner HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/cloudevents+json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = match &self.namespace {
            None => self.send(&request),
            Some(namespace) => self.send_from(namespace, &request),
        }?;
        keywheel.hear_answer("a signal", &answer);
        ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        ensure!(answer.contains("\"taken\":1"), "{answer}");
        Ok(())
    }

    fn send(&self, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.door)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Its input stays open until the answer is there: half a connection counts as one that was given up.
    fn send_from(&self, namespace: &str, request: &str) -> Result<String> {
        let (host, port) = (self.door.ip().to_string(), self.door.port().to_string());
        let mut child = Command::new("nsenter")
            .arg(format!("--net={namespace}"))
            .args(["busybox", "nc", &host, &port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start nsenter")?;
        let mut input = child.stdin.take().context("no input")?;
        input.write_all(request.as_bytes())?;
        let mut answer = String::new();
        let mut output = child.stdout.take().context("no output")?;
        output.read_to_string(&mut answer)?;
        drop(input);
        child.wait()?;
        Ok(answer)
    }
}

/// A playbook with the trigger that it has as a comment; one without is what it was.
fn triggered(playbook: &str) -> String {
    let Some((steps, trigger)) = playbook.split_once(TRIGGERS) else {
        return playbook.to_owned();
    };
    let lines = trigger.lines().skip(1);
    let lines = lines.map(|line| format!("{}\n", line.replacen("# ", "", 1)));
    format!("{steps}  triggers:\n{}", lines.collect::<String>())
}

/// The run of a playbook that was told this, whatever became of it; `None` while there is none.
pub fn run_of(keywheel: &Keywheel, playbook: &str, told: &str) -> Result<Option<Value>> {
    let runs = keywheel.json(&["playbook", "runs"])?;
    let is_it = |run: &&Value| {
        let arguments = run["arguments"].as_object();
        let mut told_it = arguments.into_iter().flat_map(|all| all.values());
        run["playbook"] == playbook && told_it.any(|word| word == told)
    };
    Ok(items(&runs).into_iter().find(is_it).cloned())
}

/// The same once it has ended.
pub fn ended(keywheel: &Keywheel, playbook: &str, told: &str) -> Result<Value> {
    let begun = wait::until("the run to begin", PATIENCE, || {
        run_of(keywheel, playbook, told)
    })?;
    let id = begun["run_id"].as_str().context("a run without an id")?;
    let span = format!("{}s", PATIENCE.as_secs());
    let words = ["playbook", "describe-run", id];
    // One that failed, or is not through, is told all the same, and is looked at below.
    let waiting = [&words[..], &["--wait", "--timeout", &span]].concat();
    let _waited = keywheel.cli(&waiting)?;
    keywheel.json(&words)
}

/// A step of a run.
pub fn step<'r>(run: &'r Value, name: &str) -> Result<&'r Value> {
    let mut steps = run["steps"].as_array().into_iter().flatten();
    let found = steps.find(|step| step["name"] == name);
    found.with_context(|| format!("no step {name}: {run}"))
}

/// It did all of what it was to do, and so many credentials are proven dead by a login.
pub fn check_run(run: &Value, proven: usize) -> Result<()> {
    ensure!(run["state"] == "completed", "{run}");
    ensure!(run["score"]["percent"] == 100, "{run}");
    let note = step(run, "prove")?["note"].as_str();
    let wanted = format!("{proven} proven dead");
    ensure!(note == Some(wanted.as_str()), "{run}");
    Ok(())
}

/// The report on the newest rotation, revocation (by its secret) or eviction (by its host), or on one by its id; gives
/// what it comes to. It was verified with nothing but itself and the key.
pub fn report(keywheel: &Keywheel, kind: &str, name: &str) -> Result<Value> {
    let audit = keywheel.json(&["audit", "verify"])?;
    let key = find(&audit, "public_key").and_then(Value::as_str);
    let key = key.context("the audit has no key")?;
    let file = format!("{}.json", unique("report"));
    let file = keywheel.scratch().join(&file);
    let path = file.display().to_string();
    keywheel
        .cli(&["report", kind, name, "--out", &path])?
        .ok()?;
    let mut verify = keywheel.client(&["report", "verify", &path, "--key", key])?;
    verify.env("KEYWHEEL_ADDRESS", NOWHERE);
    keywheel.hear(&mut verify)?.ok()?;
    let whole: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let summary = whole.get("summary").cloned();
    summary.with_context(|| format!("the report in {path} has no summary"))
}

/// When a report says that something was reached; texts in which later is larger.
pub fn reached(summary: &Value, what: &str) -> Result<String> {
    let mut marks = summary["marks"].as_array().into_iter().flatten();
    let mark = marks.find(|mark| mark["what"].as_str().is_some_and(|word| word == what));
    let at = mark.and_then(|mark| mark["at"].as_str());
    let at = at.with_context(|| format!("`{what}` was not reached: {}", summary["marks"]))?;
    Ok(at.to_owned())
}

/// What the reports say of one answer to a leak, all of it as instants in the log's order.
#[derive(Debug)]
pub struct Course {
    /// The first signal was durable.
    pub told: String,
    /// The last container ran on the new version.
    pub moved: String,
    /// The server refused the old one.
    pub dead: String,
    /// A login with it had been refused.
    pub proven: String,
}

impl Course {
    /// Reads the reports on a secret's newest rotation and on the revocation of what it replaced: every container is in
    /// them with its time, and a login with this version is what proved it.
    pub fn of(
        keywheel: &Keywheel,
        secret: &str,
        (version, containers): (u64, usize),
    ) -> Result<Self> {
        let rotation = report(keywheel, "rotation", secret)?;
        let consumers = rotation["consumers"].as_array();
        let consumers = consumers.context("no consumers")?;
        let is_through = |one: &&Value| {
            let outcome = one["outcome"].as_str().unwrap_or_default();
            let is_new = outcome.ends_with(&format!("version {}", version + 1));
            is_new && one["after_us"].is_u64() && one["version"] == version
        };
        let through = consumers.iter().filter(is_through).count();
        ensure!(
            through == containers && consumers.len() == containers,
            "{through} of {containers} containers are through by the report: {consumers:?}"
        );
        let revocation = report(keywheel, "revocation", secret)?;
        let proof = revocation["proof"].as_str().unwrap_or_default();
        ensure!(proof.starts_with("proven dead"), "{revocation}");
        let login = &revocation["logins"][0];
        ensure!(login["version"] == version, "{revocation}");
        let answer = login["answer"].as_str().unwrap_or_default();
        ensure!(
            ["wrong_password", "no_login", "refused"].contains(&answer),
            "{revocation}"
        );
        let course = Self {
            told: first_signal(keywheel)?,
            moved: reached(&rotation, "last container on it")?,
            dead: reached(&revocation, "the store confirmed")?,
            proven: reached(&revocation, "proven dead by a login")?,
        };
        course.check(&rotation)?;
        Ok(course)
    }

    /// Nothing happened before what it follows from.
    fn check(&self, rotation: &Value) -> Result<()> {
        let current = reached(rotation, "the new version is current")?;
        let begun = reached(rotation, "begun")?;
        let order = [
            &self.told,
            &begun,
            &current,
            &self.moved,
            &self.dead,
            &self.proven,
        ];
        ensure!(order.is_sorted(), "{order:?}");
        Ok(())
    }
}

/// When the first signal was in the log.
fn first_signal(keywheel: &Keywheel) -> Result<String> {
    let events = keywheel.stream("events")?;
    let first = events.iter().find(|event| event["type"] == RECEIVED);
    let at = first.and_then(|event| event["time"].as_str());
    Ok(at.context("no signal is in the log")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trigger_of_a_shipped_playbook_is_what_stands_in_its_comment() {
        let text = triggered(LEAKED);
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| *line == "  triggers:");
        let rest = at.and_then(|at| lines.get(at + 1..)).unwrap_or_default();
        assert_eq!(rest.len(), 3, "{text}");
        assert!(rest[0].starts_with("    - event: dev.keywheel.signal.received.v1"));
        assert!(rest[1].starts_with("      when: "));
        assert!(rest[2].starts_with("      with: { secret: "));
        assert_eq!(triggered(COMPROMISED), COMPROMISED);
    }
}
