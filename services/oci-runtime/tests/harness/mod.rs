//! A hand-made OCI bundle, a fake injector that really attaches, and calls of the wrapper with the real runtime.
//!
//! Nothing is registered with any engine. All state lies in one temporary directory per test and is removed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use keywheel_sys::nsjoin::Helper;
use keywheel_sys::procfs::PinnedPid;
use keywheel_sys::secretfs::{
    FileAttr, SecretDir, SecretFs, mount_private_tmpfs, probe, unmount_private,
};
use keywheel_testkit::executable;
use serde_json::{Value, json};

pub(crate) const RUNTIME: &str = env!("CARGO_BIN_EXE_keywheel-runtime");
const BUSYBOX: &str = "/bin/busybox";

/// Whether these tests can run here; says so aloud when not, and fails in CI.
pub(crate) fn ready() -> bool {
    let root = rustix::process::geteuid().is_root();
    let runc = Command::new("runc")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    let ready = root && runc && Path::new(BUSYBOX).exists();
    if !ready {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs root, runc and {BUSYBOX}"
        );
        eprintln!("SKIPPED: needs root, runc and {BUSYBOX}");
    }
    ready
}

/// The namespace helper, built on first use beside the wrapper.
pub(crate) fn helper() -> Helper {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "keywheel-sys",
            "--bin",
            "keywheel-nsjoin",
        ]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success());
        Path::new(RUNTIME).with_file_name("keywheel-nsjoin")
    });
    Helper::new(path.clone())
}

/// What the fake injector answers.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) resolve: Value,
    pub(crate) attach: Option<Value>,
    pub(crate) file: Option<(&'static str, &'static [u8])>,
    pub(crate) dir: &'static str,
}

/// One container to be.
pub(crate) struct Scene {
    pub(crate) dir: PathBuf,
    pub(crate) id: String,
    pub(crate) asked: Arc<Mutex<Vec<Value>>>,
    pub(crate) placed: Arc<Mutex<Option<SecretDir>>>,
    runtime: &'static str,
}

impl Scene {
    /// A bundle whose init runs `script`; `change` edits its configuration.
    pub(crate) fn new(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // As long as an engine's ids: 64 hexadecimal digits.
        let id = format!("{:032x}{number:032x}", std::process::id());
        let dir =
            std::env::temp_dir().join(format!("keywheel-test-{}-{number}", std::process::id()));
        let bin = dir.join("bundle/rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        for sub in ["proc", "sys", "dev", "tmp", "etc"] {
            std::fs::create_dir_all(dir.join("bundle/rootfs").join(sub)).unwrap();
        }
        executable::copy(Path::new(BUSYBOX), &bin.join("busybox"));
        for applet in [
            "sh", "cat", "env", "sleep", "ls", "mount", "umount", "rm", "ln", "grep",
        ] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let spec = Command::new("runc")
            .arg("spec")
            .current_dir(dir.join("bundle"))
            .status()
            .unwrap();
        assert!(spec.success());
        let path = dir.join("bundle/config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
        let bundles = dir.join("bundles");
        mount_private_tmpfs(&bundles, 1 << 20).unwrap();
        Self {
            dir,
            id,
            asked: Arc::default(),
            placed: Arc::default(),
            runtime: "runc",
        }
    }

    pub(crate) fn with_runtime(mut self, runtime: &'static str) -> Self {
        self.runtime = runtime;
        self
    }

    pub(crate) fn bundle_dir(&self) -> PathBuf {
        self.dir.join("bundles").join(&self.id)
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("bundle/config.json")).unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("injector.sock")
    }

    /// An answer with a value for each variable and the given directories.
    pub(crate) fn answer(&self, env: &[(&str, &str)], dirs: &[&str]) -> Value {
        let env: serde_json::Map<String, Value> =
            env.iter().map(|(k, v)| ((*k).into(), json!(v))).collect();
        json!({ "ok": true, "env": env, "dirs": dirs })
    }

    /// Starts the fake injector; it ends with the test program.
    pub(crate) fn inject(&self, script: Script) {
        let helper = helper();
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (asked, placed) = (self.asked.clone(), self.placed.clone());
        let bundles = self.dir.join("bundles");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let question: Value = serde_json::from_str(&line).unwrap();
                asked.lock().unwrap().push(question.clone());
                let mut answer = match question["op"].as_str() {
                    Some("resolve") => script.resolve.clone(),
                    _ => script
                        .attach
                        .clone()
                        .unwrap_or_else(|| attach(&helper, &script, &question, &placed)),
                };
                answer["bundle_dir"] = json!(bundles.join(question["id"].as_str().unwrap()));
                // The wrapper may have been told to hang up.
                let _ = writeln!(stream, "{answer}");
            }
        });
    }

    /// The wrapper with this scene's socket, state directory and log.
    pub(crate) fn wrapper(&self, extra: &[&str], command: &[&str]) -> Command {
        let mut call = Command::new(RUNTIME);
        call.arg("--keywheel-socket")
            .arg(self.socket())
            .args(["--keywheel-real-runtime", self.runtime]);
        call.args(extra).arg("--root").arg(self.dir.join("state"));
        if self.runtime == "runc" {
            call.arg("--log")
                .arg(self.log())
                .args(["--log-format", "json"]);
        } else {
            // crun refuses hosts that mix both versions of cgroups.
            call.arg("--cgroup-manager=disabled");
        }
        call.args(command);
        call
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log.json")
    }

    /// `create`, with the container's stdout and stderr in one file.
    pub(crate) fn create(&self, extra: &[&str]) -> (bool, String) {
        let out = std::fs::File::create(self.dir.join("out")).unwrap();
        let error = std::fs::File::create(self.dir.join("err")).unwrap();
        let pid_file = self.dir.join("pid");
        let bundle = self.dir.join("bundle");
        let command = [
            "create",
            "--bundle",
            bundle.to_str().unwrap(),
            "--pid-file",
            pid_file.to_str().unwrap(),
            &self.id,
        ];
        let status = self
            .wrapper(extra, &command)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(error)
            .status()
            .unwrap();
        (
            status.success(),
            std::fs::read_to_string(self.dir.join("err")).unwrap(),
        )
    }

    pub(crate) fn call(&self, command: &[&str]) -> Output {
        self.wrapper(&[], command).output().unwrap()
    }

    pub(crate) fn pid(&self) -> PinnedPid {
        let text = std::fs::read_to_string(self.dir.join("pid")).unwrap();
        PinnedPid::open(text.trim().parse().unwrap()).unwrap()
    }

    /// Starts the container, waits for its end and returns what it wrote.
    pub(crate) fn start_and_wait(&self) -> String {
        let pinned = self.pid();
        let started = self.call(&["start", &self.id]);
        assert!(
            started.status.success(),
            "{}",
            String::from_utf8_lossy(&started.stderr)
        );
        let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while pinned.is_alive() {
            assert!(
                std::time::Instant::now() < until,
                "the container does not end"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let read = |name| std::fs::read_to_string(self.dir.join(name)).unwrap();
        read("out") + &read("err")
    }

    pub(crate) fn exists(&self) -> bool {
        let mut state = Command::new(self.runtime);
        state
            .arg("--root")
            .arg(self.dir.join("state"))
            .args(["state", &self.id]);
        state.output().unwrap().status.success()
    }

    /// A hook script on the host, which may be run at once.
    pub(crate) fn hook(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.join(name);
        executable::write(&path, &format!("#!/bin/sh\n{body}\n"));
        path
    }
}

fn attach(
    helper: &Helper,
    script: &Script,
    question: &Value,
    placed: &Mutex<Option<SecretDir>>,
) -> Value {
    let work = || -> Result<SecretDir, keywheel_sys::Error> {
        let pid = i32::try_from(question["pid"].as_i64().unwrap()).unwrap();
        let target = PinnedPid::open(pid)?;
        assert!(
            target.belongs_to(question["id"].as_str().unwrap())?,
            "another container's process"
        );
        let fs = SecretFs::create(probe().best_kind(), 1 << 20)?;
        if let Some((name, bytes)) = script.file {
            fs.dir().replace(
                name,
                bytes,
                FileAttr {
                    uid: target.map_uid(0)?,
                    gid: target.map_gid(0)?,
                    mode: 0o400,
                },
            )?;
            helper.attach(&target, &fs, script.dir, false)?;
        }
        Ok(fs.into_dir())
    };
    match work() {
        Ok(dir) => {
            *placed.lock().unwrap() = Some(dir);
            json!({ "ok": true })
        }
        Err(error) => json!({ "ok": false, "error": error.to_string(), "next": "see the test" }),
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let mut delete = Command::new(self.runtime);
        delete
            .arg("--root")
            .arg(self.dir.join("state"))
            .args(["delete", "--force", &self.id]);
        let _ = delete.output();
        unmount_private(&self.dir.join("bundles")).unwrap();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}
