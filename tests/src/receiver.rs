//! A receiver of `deploy/examples` for the rotator `webhook`, as a process of its own, and another hand that
//! looks at what it accepts.
//!
//! Invariants: the example runs as it stands there, but that it writes down what it accepts after each step,
//! before it answers; it ends with its value.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::scratch::{Scratch, root};

/// The key that signs.
pub const KEY: &str = concat!("whsec_", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
/// What store-sync is told of it.
const ALLOW: &str = "KEYWHEEL_ROTATORS_WEBHOOK_ALLOW";
const EXAMPLE: &str = "deploy/examples/webhook-rotator.py";
/// The file of what it accepts, by account.
const ACCEPTED: &str = "accepted.json";
/// Runs the example with its last lines, which serve, after the spy is in place.
const SPY: &str = r#"
import json, os, sys
example, accepted = sys.argv[1], sys.argv[2]
sys.argv = [example] + sys.argv[3:]
begin, serve = open(example, encoding="utf-8").read().rsplit("\nserver = ", 1)
space = {"__name__": "__main__", "__file__": example}
exec(compile(begin, example, "exec"), space)
perform = space["perform"]
def spied(step, data):
    answer = perform(step, data)
    with open(accepted + ".new", "w", encoding="utf-8") as file:
        json.dump(space["accepted"], file)
    os.replace(accepted + ".new", accepted)
    return answer
space["perform"] = spied
exec(compile("server = " + serve, example, "exec"), space)
"#;

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    child: Child,
    port: u16,
    files: Scratch,
}

impl Receiver {
    /// Starts it at a port of its own.
    pub fn start() -> Result<Self> {
        let files = Scratch::make()?;
        let key = files.write("key", KEY)?;
        let mut program = Command::new("python3");
        program.args(["-c", SPY]).arg(root().join(EXAMPLE));
        program.arg(files.join(ACCEPTED)).arg("0").arg(key);
        let program = program.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = program.spawn();
        let mut receiver = Self {
            child: child.context("cannot start python3: run tests/run.sh")?,
            port: 0,
            files,
        };
        receiver.port = receiver.listens()?;
        Ok(receiver)
    }

    fn listens(&mut self) -> Result<u16> {
        let told = self.child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line)?;
        let port = line.trim_end().rsplit(' ').next().unwrap_or_default();
        let port = port.parse();
        port.with_context(|| format!("it does not say where it listens, but: {line}"))
    }

    /// `IP:PORT`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The variable with which store-sync asks it, though it is on the same machine.
    #[must_use]
    pub fn allowed(&self) -> (String, String) {
        (ALLOW.to_owned(), self.place())
    }

    /// What an account accepts now.
    pub fn accepted(&self, account: &str) -> Result<Vec<String>> {
        let text = match fs::read(self.files.join(ACCEPTED)) {
            Ok(text) => text,
            // It was told nothing yet.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("cannot read what it accepts"),
        };
        let all: Value = serde_json::from_slice(&text)?;
        let values = all[account].as_array().into_iter().flatten();
        let values = values.map(|value| value.as_str().map(str::to_owned));
        values
            .collect::<Option<_>>()
            .context("it accepts what is no text")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
