//! A server that keeps what it has on disk, so that it can be killed and comes back sealed with all of it.

use std::fs;
use std::process::Command;

use super::super::port::held_port;
use super::{OpenBao, POLL, READY_POLLS, ROOT, begin, fresh_directory, program};

/// What it keeps things in.
const DATA: &str = "data";
const CONFIGURATION: &str = "server.hcl";

impl OpenBao {
    /// Starts one that keeps what it has: initialised, unsealed, with a KV engine of version 2 at
    /// `secret` and the root token of the others.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    #[must_use]
    pub fn start_kept() -> Self {
        let (port, cluster) = (held_port(), held_port());
        let directory = fresh_directory();
        let data = directory.join(DATA);
        fs::create_dir(&data).unwrap();
        let configuration = format!(
            "storage \"raft\" {{\n  path = {data:?}\n  node_id = \"one\"\n  performance_multiplier = \"1\"\n}}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:{cluster}\"\n  tls_disable = true\n}}\n\
             api_addr = \"http://127.0.0.1:{port}\"\ncluster_addr = \"https://127.0.0.1:{cluster}\"\n"
        );
        fs::write(directory.join(CONFIGURATION), configuration).unwrap();
        let child = begin(&mut kept(&directory), &directory);
        let mut server = Self {
            child,
            directory,
            port,
            tls_port: port,
            unseal_key: String::new(),
        };
        server.wait_for("sys/seal-status", 200);
        let shares = r#"{"secret_shares":1,"secret_threshold":1}"#;
        let made = server.must("PUT", "sys/init", &[], shares);
        server.unseal_key = word(&made, "\"keys\":[\"");
        server.unseal();
        let first = word(&made, "\"root_token\":\"");
        for (path, body) in [
            (
                "sys/mounts/secret",
                r#"{"type":"kv","options":{"version":"2"}}"#.to_owned(),
            ),
            (
                "auth/token/create",
                format!(r#"{{"id":"{ROOT}","policies":["root"],"no_parent":true}}"#),
            ),
        ] {
            let (status, answer) = server.try_ask_as(&first, "POST", path, &[], &body).unwrap();
            assert!((200..300).contains(&status), "{path}: {status} {answer}");
        }
        // A new engine answers only when it has made itself ready.
        server.wait_for("secret/metadata/none", 404);
        server
    }

    /// Kills it, as a power cut would.
    ///
    /// # Panics
    /// When the system does not let it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it kept: it answers, and is sealed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.child = begin(&mut kept(&self.directory), &self.directory);
        self.wait_for("sys/seal-status", 200);
    }

    /// Unseals it, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn unseal(&self) {
        let body = format!(r#"{{"key":"{}"}}"#, self.unseal_key);
        self.must("PUT", "sys/unseal", &[], &body);
        self.wait_for("sys/health", 200);
    }

    fn wait_for(&self, path: &str, wanted: u16) {
        for _ in 0..READY_POLLS {
            let answer = self.try_ask("GET", path, &[], "");
            if answer.is_ok_and(|(status, _)| status == wanted) {
                return;
            }
            std::thread::sleep(POLL);
        }
        panic!("{path} is never {wanted}:\n{}", self.log());
    }
}

fn kept(directory: &std::path::Path) -> Command {
    let mut program = Command::new(program());
    program.args(["server", "-log-level=warn"]);
    program.arg(format!(
        "-config={}",
        directory.join(CONFIGURATION).display()
    ));
    program
}

/// What stands between this and the next quote.
fn word(text: &str, before: &str) -> String {
    let rest = text.split_once(before).map_or("", |(_, rest)| rest);
    let word = rest.split('"').next().unwrap_or_default();
    assert!(!word.is_empty(), "{before} is missing");
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_sealed_with_what_it_had() {
        let mut server = OpenBao::start_kept();
        server.must("POST", "secret/data/a", &[], r#"{"data":{"x":"y"}}"#);
        server.kill();
        assert!(server.try_ask("GET", "sys/seal-status", &[], "").is_err());
        server.start_again();
        assert_eq!(server.ask("GET", "secret/data/a", &[], "").0, 503);
        server.unseal();
        let read = server.must("GET", "secret/data/a", &[], "");
        assert!(read.contains(r#""x":"y""#), "{read}");
    }
}
