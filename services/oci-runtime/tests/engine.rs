//! The wrapper as a runtime of a Docker engine of its own: what `docker run`, `inspect` and `restart` show.
//!
//! Starts a private dockerd with its own directories and no network; the machine's engine is not touched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code
)]

mod harness;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{RUNTIME, Scene, Script, ready};
use serde_json::json;

const VALUE: (&str, &str) = ("DB_PASSWORD", "Y2FuYXJ5LTc3NDE=");
const PLAIN: &str = "canary-7741";
const IMAGE: &str = "keywheel-test:busybox";

struct Engine {
    dir: PathBuf,
    dockerd: Child,
}

impl Engine {
    fn start(scene: &Scene) -> Option<Self> {
        let have = Command::new("dockerd")
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success());
        if !have {
            assert!(std::env::var_os("CI").is_none(), "CI needs dockerd");
            eprintln!("SKIPPED: needs dockerd");
            return None;
        }
        let dir = scene.dir.join("engine");
        std::fs::create_dir_all(&dir).unwrap();
        let runtimes = json!({ "runtimes": { "keywheel": {
            "path": RUNTIME, "runtimeArgs": ["--keywheel-socket", scene.socket()] } } });
        std::fs::write(dir.join("daemon.json"), runtimes.to_string()).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        // A network namespace of its own: `--bridge none` makes dockerd delete the machine's docker0.
        let dockerd = Command::new("unshare")
            .args(["--net", "--", "dockerd"])
            .args([
                "--config-file",
                &path("daemon.json"),
                "--host",
                &format!("unix://{}", path("sock")),
            ])
            .args([
                "--data-root",
                &path("data"),
                "--exec-root",
                &path("exec"),
                "--pidfile",
                &path("pid"),
            ])
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self { dir, dockerd };
        let until = Instant::now() + Duration::from_secs(120);
        while !engine.docker(&["version"]).status.success() {
            let log = || std::fs::read_to_string(engine.dir.join("log")).unwrap();
            assert!(Instant::now() < until, "dockerd does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        let rootfs = scene.dir.join("bundle/rootfs");
        let import = format!(
            "tar -C {} -c . | docker -H unix://{} import - {IMAGE}",
            rootfs.display(),
            engine.dir.join("sock").display()
        );
        assert!(
            Command::new("sh")
                .args(["-c", &import])
                .output()
                .unwrap()
                .status
                .success()
        );
        Some(engine)
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        let host = format!("unix://{}", self.dir.join("sock").display());
        Command::new("docker")
            .args(["-H", &host])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn files_with(&self, needle: &str) -> String {
        // Not the containers' mounted file systems, which are gone or the entitled container's own.
        let found = Command::new("grep")
            .args(["-rlsD", "skip", needle])
            .arg(&self.dir)
            .output()
            .unwrap();
        String::from_utf8_lossy(&found.stdout).into_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let ids = self.text(&["ps", "-aq"]);
        for id in ids.split_whitespace() {
            self.docker(&["rm", "-f", id]);
        }
        let pid = rustix::process::Pid::from_child(&self.dockerd);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.dockerd.wait().unwrap();
    }
}

#[test]
fn docker_run_restart_and_inspect() {
    if !ready() {
        return;
    }
    let scene = Scene::new("true", |_| ());
    scene.inject(Script {
        resolve: scene.answer(&[VALUE], &["/run/secrets"]),
        file: Some(("db", b"file-5512")),
        dir: "/run/secrets",
        ..Script::default()
    });
    let Some(engine) = Engine::start(&scene) else {
        return;
    };
    let run = [
        "run",
        "--name",
        "web",
        "--runtime",
        "keywheel",
        "--network",
        "none",
    ];
    let rest = [
        "-e",
        "DB_PASSWORD={keywheel:prod/db}",
        IMAGE,
        "/bin/sh",
        "-c",
    ];
    let script = "echo \"$DB_PASSWORD\" | cat - /run/secrets/db | /bin/busybox md5sum";
    let first = engine.text(&[&run[..], &rest, &[script]].concat());
    let expected = Command::new("sh")
        .args(["-c", &format!("printf '{PLAIN}\\nfile-5512' | md5sum")])
        .output()
        .unwrap()
        .stdout;
    assert_eq!(first.trim(), String::from_utf8(expected).unwrap().trim());
    let again = engine.text(&["start", "-a", "web"]);
    assert_eq!(again, first, "a restart resolves anew");
    assert_eq!(scene.asked.lock().unwrap().len(), 4);
    let inspect = engine.text(&["inspect", "web"]);
    assert!(inspect.contains("{keywheel:prod/db}") && !inspect.contains(PLAIN));
    for needle in [PLAIN, VALUE.1, "file-5512"] {
        assert_eq!(engine.files_with(needle), "", "{needle}");
    }
    assert!(
        std::fs::read_dir(scene.dir.join("bundles"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn docker_run_shows_the_refusal() {
    if !ready() {
        return;
    }
    let scene = Scene::new("true", |_| ());
    let Some(engine) = Engine::start(&scene) else {
        return;
    };
    let run = [
        "run",
        "--rm",
        "--runtime",
        "keywheel",
        "--network",
        "none",
        IMAGE,
        "/bin/sh",
        "-c",
        "true",
    ];
    let away = engine.text(&run);
    assert!(
        away.contains("keywheel: the injector at") && away.contains("`keywheel up`"),
        "{away}"
    );
    scene.inject(Script {
        resolve: json!({ "ok": false, "error": "no binding grants prod/db", "next": "apply a binding" }),
        ..Script::default()
    });
    let refused = engine.text(&run);
    assert!(
        refused.contains("keywheel: no binding grants prod/db; next: apply a binding"),
        "{refused}"
    );
    assert_eq!(engine.text(&["ps", "-aq"]), "");
}
