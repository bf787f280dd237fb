//! The port's suite against the local Docker engine. Needs Docker and a static busybox; without
//! them it says so and stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use async_trait::async_trait;
use keywheel_containers::{DockerHost, DockerOptions};
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::ContainerHost as _;
use keywheel_testkit::conformance::container_host::{BUSYBOX, Fixture, Given, run};

const IMAGE: &str = "keywheel-test-containers:busybox";

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().unwrap()
}

fn has_docker() -> bool {
    let answers = Command::new("docker")
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success());
    if answers && Path::new(BUSYBOX).exists() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI needs Docker and {BUSYBOX}"
    );
    eprintln!("SKIPPED: needs Docker and {BUSYBOX}");
    false
}

fn build_image() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("bin")).unwrap();
    std::fs::copy(BUSYBOX, root.path().join("bin/busybox")).unwrap();
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(root.path())
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = Command::new("docker")
        .args(["import", "-", IMAGE])
        .stdin(tar.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(tar.wait().unwrap().success() && status.success());
}

struct Real(Vec<String>);

#[async_trait]
impl Fixture for Real {
    async fn start(&mut self, given: &Given) -> ContainerId {
        let mut arguments = vec![
            "run".to_owned(),
            "-d".into(),
            "--network".into(),
            "none".into(),
        ];
        arguments.extend([
            "--stop-timeout".into(),
            "1".into(),
            "--name".into(),
            given.name.clone(),
        ]);
        for (key, value) in &given.labels {
            arguments.extend(["--label".into(), format!("{key}={value}")]);
        }
        for entry in &given.env {
            arguments.extend(["--env".into(), entry.clone()]);
        }
        arguments.extend([IMAGE.into(), BUSYBOX.into(), "sleep".into(), "600".into()]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = docker(&arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        self.0.push(id.clone());
        ContainerId::parse(&id).unwrap()
    }

    async fn remove(&mut self, id: &ContainerId) {
        assert!(docker(&["rm", "-f", "-v", id.as_str()]).status.success());
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for id in &self.0 {
            docker(&["rm", "-f", "-v", id]);
        }
    }
}

#[tokio::test]
async fn docker_keeps_the_ports_laws() {
    if !has_docker() {
        return;
    }
    build_image();
    let host = DockerHost::new(&DockerOptions::default()).unwrap();
    run(&host, &mut Real(Vec::new())).await;
    assert!(
        host.runtimes()
            .await
            .unwrap()
            .iter()
            .any(|name| name == "runc")
    );
    let facts = host.create_facts().await.unwrap().unwrap();
    assert_eq!(facts.lack, None, "Docker's own files are here");
    let said = docker(&["version", "--format", "{{.Server.Version}}"]).stdout;
    let version = String::from_utf8(said).unwrap().trim().to_owned();
    assert_eq!(facts.engine, format!("Docker {version}"));
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    assert_eq!(facts.passes_annotations, major >= 24, "{version}");
}
