//! OpenBao's own agent beside us: one for the whole host, with a template for each file, at its shortest
//! interval. That is the best it can do there; people run one in each container.
//!
//! Invariant: server, agent and files are this value's own, and gone when it is dropped.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use keywheel_bench::due::PATIENCE;
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_testkit::server::openbao::{self, OpenBao};
use keywheel_tests::scratch::Scratch;
use keywheel_tests::wait;
use serde_json::{Value, json};

/// How often it looks: whole seconds, so this is the shortest.
const INTERVAL: &str = "1s";
const ROLE: &str = "auth/approle/role/bench";

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    bao: OpenBao,
    scratch: Scratch,
    files: usize,
}

impl Agent {
    /// Starts a server with so many secrets and an agent that writes each into a file; all files are there.
    pub(crate) fn start(files: usize) -> Result<Self> {
        let (bao, scratch) = (OpenBao::start(None), Scratch::make()?);
        let settings = settings(&bao, &scratch, files)?;
        write_all(&bao, files, 0);
        let path = scratch.write("agent.hcl", settings)?;
        let child = Command::new(openbao::program())
            .args(["agent", "-log-level=error"])
            .arg(format!("-config={}", path.display()))
            .env_clear()
            .env("HOME", scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start OpenBao's agent")?;
        let agent = Self {
            child,
            bao,
            scratch,
            files,
        };
        agent.seen(0)?;
        Ok(agent)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a new value of every secret; from the first write until each file has it.
    pub(crate) fn change(&self, turn: u32) -> Result<Samples> {
        let begun = now();
        write_all(&self.bao, self.files, turn);
        let mut samples = Samples::new();
        self.watch(turn, || samples.add_span(begun.elapsed()))?;
        Ok(samples)
    }

    fn seen(&self, turn: u32) -> Result<()> {
        self.watch(turn, || ())
    }

    fn watch(&self, turn: u32, mut seen: impl FnMut()) -> Result<()> {
        let mut pending: Vec<usize> = (0..self.files).collect();
        wait::until_true("the agent to write every file", PATIENCE, || {
            pending.retain(|number| {
                let said = fs::read_to_string(file(&self.scratch, *number));
                let is_new = said.is_ok_and(|said| said == value(*number, turn));
                if is_new {
                    seen();
                }
                !is_new
            });
            Ok(pending.is_empty())
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn file(scratch: &Scratch, number: usize) -> PathBuf {
    scratch.join(&format!("s{number}"))
}

/// As long as ours are.
fn value(number: usize, turn: u32) -> String {
    format!("value{turn:07}of{number:018}")
}

fn write_all(bao: &OpenBao, files: usize, turn: u32) {
    for number in 0..files {
        let body = json!({ "data": { "value": value(number, turn) } }).to_string();
        bao.must("POST", &format!("secret/data/due/s{number}"), &[], &body);
    }
}

/// A login by AppRole, as the tests of ours have it, and a template for each file.
fn settings(bao: &OpenBao, scratch: &Scratch, files: usize) -> Result<String> {
    let policy = json!({ "policy": "path \"secret/*\" { capabilities = [\"read\"] }" });
    let role = json!({ "token_policies": "bench", "token_ttl": "24h" });
    for (path, body) in [
        ("sys/policies/acl/bench", policy),
        ("sys/auth/approle", json!({ "type": "approle" })),
        (ROLE, role),
    ] {
        bao.must("POST", path, &[], &body.to_string());
    }
    let role_id = bao.must("GET", &format!("{ROLE}/role-id"), &[], "");
    let secret_id = bao.must("POST", &format!("{ROLE}/secret-id"), &[], "{}");
    let role_id = scratch.write("role-id", field(&role_id, "role_id")?)?;
    let secret_id = scratch.write("secret-id", field(&secret_id, "secret_id")?)?;
    let address = bao.address().to_string();
    Ok(configuration(
        &address,
        [&role_id, &secret_id],
        files,
        |number| file(scratch, number),
    ))
}

/// What the agent is told: where it signs in, and where each file is to be.
fn configuration(
    address: &str,
    [role_id, secret_id]: [&Path; 2],
    files: usize,
    file: impl Fn(usize) -> PathBuf,
) -> String {
    let mut text = format!(
        "vault {{ address = \"http://{address}\" }}\ntemplate_config {{ static_secret_render_interval = \"{INTERVAL}\" }}\n\
         auto_auth {{ method \"approle\" {{ config = {{\n  role_id_file_path = \"{}\"\n  secret_id_file_path = \"{}\"\n  \
         remove_secret_id_file_after_reading = false\n}} }} }}\n",
        role_id.display(),
        secret_id.display(),
    );
    for number in 0..files {
        let to = file(number);
        let _ = writeln!(
            text,
            "template {{\n  contents = \"{{{{ with secret \\\"secret/data/due/s{number}\\\" }}}}\
             {{{{ .Data.data.value }}}}{{{{ end }}}}\"\n  destination = \"{}\"\n  perms = \"0400\"\n}}",
            to.display(),
        );
    }
    text
}

fn field(answer: &str, name: &str) -> Result<String> {
    let answer: Value = serde_json::from_str(answer)?;
    let found = answer["data"][name].as_str().map(str::to_owned);
    found.with_context(|| format!("no {name} in OpenBao's answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_told_every_file_and_the_shortest_interval() {
        let logins = [Path::new("/x/role-id"), Path::new("/x/secret-id")];
        let to = |number: usize| PathBuf::from(format!("/x/s{number}"));
        let text = configuration("127.0.0.1:1", logins, 3, to);
        assert_eq!(text.matches("template {").count(), 3);
        let contents = r#"contents = "{{ with secret \"secret/data/due/s2\" }}{{ .Data.data.value }}{{ end }}""#;
        for part in [
            r#"vault { address = "http://127.0.0.1:1" }"#,
            r#"static_secret_render_interval = "1s""#,
            r#"secret_id_file_path = "/x/secret-id""#,
            r#"destination = "/x/s2""#,
            contents,
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn a_value_is_as_long_as_ours_and_another_one_each_time() {
        assert_eq!(value(999, 3).len(), 32);
        assert_ne!(value(1, 1), value(1, 2));
    }
}
