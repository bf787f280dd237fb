//! The port's suite against Podman's service, with a storage of its own. Needs Podman, runc, root and a static
//! busybox; without them it says so and stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_containers::DockerOptions;
use keywheel_core::id::ContainerId;
use keywheel_testkit::conformance::container_host::{BUSYBOX, Fixture, Given, run};

const IMAGE: &str = "localhost/keywheel-test-podman:busybox";
/// How long the service may take to answer.
const READY: Duration = Duration::from_secs(120);

/// A storage of its own and the service over it.
struct Podman {
    root: tempfile::TempDir,
    service: Option<Child>,
    made: Vec<String>,
}

impl Podman {
    fn start() -> Self {
        let mut podman = Self {
            root: tempfile::tempdir().unwrap(),
            service: None,
            made: Vec::new(),
        };
        let listen = podman.address();
        let mut service = podman.command(&["system", "service", "--time", "0", &listen]);
        let log = std::fs::File::create(podman.place("service.log")).unwrap();
        service
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        podman.service = Some(service.spawn().unwrap());
        podman
    }

    fn place(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn address(&self) -> String {
        format!("unix://{}", self.place("podman.sock").display())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        for (flag, place) in [
            ("--root", "storage"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ] {
            command.arg(flag).arg(self.place(place));
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        command.args(["--events-backend", "file", "--runtime", "runc"]);
        command.args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Whether an annotation is in the configuration that the OCI runtime was given.
    fn passes_annotations(&mut self) -> bool {
        let limits = [
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ];
        let start = [
            "run",
            "-d",
            "--network",
            "none",
            "--annotation",
            "org.example.a=b",
        ];
        let program = [IMAGE, BUSYBOX, "sleep", "600"];
        let ran = self.run(&[&start[..], &limits, &program].concat());
        assert!(ran.status.success(), "{}", said(&ran));
        let id = String::from_utf8(ran.stdout).unwrap().trim().to_owned();
        self.made.push(id.clone());
        let asked = self.run(&["inspect", "--format", "{{.OCIConfigPath}}", &id]);
        let path = String::from_utf8(asked.stdout).unwrap();
        let text = std::fs::read_to_string(path.trim()).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["annotations"]["org.example.a"] == "b"
    }

    fn build_image(&self) {
        let tree = self.place("tree");
        std::fs::create_dir_all(tree.join("bin")).unwrap();
        std::fs::copy(BUSYBOX, tree.join("bin/busybox")).unwrap();
        let archive = self.place("image.tar");
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".");
        assert!(pack.status().unwrap().success());
        let imported = self.run(&["import", archive.to_str().unwrap(), IMAGE]);
        assert!(imported.status.success(), "{}", said(&imported));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Drop for Podman {
    fn drop(&mut self) {
        for id in &self.made {
            self.run(&["rm", "-f", "-t", "0", id]);
        }
        if let Some(service) = &mut self.service {
            drop(service.kill());
            drop(service.wait());
        }
        // Podman keeps its storage mounted upon itself.
        drop(
            Command::new("umount")
                .args(["-l"])
                .arg(self.place("storage/vfs"))
                .output(),
        );
        drop(
            Command::new("umount")
                .args(["-l"])
                .arg(self.place("storage"))
                .output(),
        );
    }
}

#[async_trait]
impl Fixture for Podman {
    async fn start(&mut self, given: &Given) -> ContainerId {
        let mut words: Vec<String> = ["run", "-d", "--network", "none", "--stop-timeout", "1"]
            .map(str::to_owned)
            .to_vec();
        // Without the right to raise a limit, those of the machine are taken.
        words.extend(
            [
                "--ulimit",
                "nofile=1024:1024",
                "--ulimit",
                "nproc=1024:1024",
            ]
            .map(str::to_owned),
        );
        words.extend(["--name".to_owned(), given.name.clone()]);
        for (key, value) in &given.labels {
            words.extend(["--label".to_owned(), format!("{key}={value}")]);
        }
        for entry in &given.env {
            words.extend(["--env".to_owned(), entry.clone()]);
        }
        words.extend([IMAGE, BUSYBOX, "sleep", "600"].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = self.run(&words);
        assert!(output.status.success(), "{}", said(&output));
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        self.made.push(id.clone());
        ContainerId::parse(&id).unwrap()
    }

    async fn remove(&mut self, id: &ContainerId) {
        let removed = self.run(&["rm", "-f", "-t", "0", id.as_str()]);
        assert!(removed.status.success(), "{}", said(&removed));
    }
}

fn has_podman() -> bool {
    let answers = Command::new("podman").arg("--version").output();
    let is_root = rustix::process::geteuid().is_root();
    if answers.is_ok_and(|output| output.status.success()) && is_root && Path::new(BUSYBOX).exists()
    {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI needs Podman, root and {BUSYBOX}"
    );
    eprintln!("SKIPPED: needs Podman (tests/run.sh installs it), root and {BUSYBOX}");
    false
}

#[tokio::test]
async fn podman_keeps_the_ports_laws() {
    if !has_podman() {
        return;
    }
    let mut podman = Podman::start();
    podman.build_image();
    let host = Some(podman.address());
    let host = keywheel_containers::connect(&DockerOptions { host }).unwrap();
    let answers = async {
        while host.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(READY, answers).await.is_ok(),
        "no answer of Podman's service"
    );
    run(&*host, &mut podman).await;
    let facts = host.create_facts().await.unwrap().unwrap();
    assert_eq!(facts.lack, None, "its database is read at every create");
    assert!(facts.engine.starts_with("Podman "), "{}", facts.engine);
    assert_eq!(facts.passes_annotations, podman.passes_annotations());
}
