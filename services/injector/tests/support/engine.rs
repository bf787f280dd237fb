//! A Docker engine of the test's own, with `keywheel` registered as a runtime, so that the shared
//! one is left as it is.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::{BUSYBOX, IMAGE};

/// The engine; ends with all its containers when dropped.
pub struct Engine {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl Engine {
    /// Starts it; `None` (said aloud) where that is not possible.
    pub fn start(injector_socket: &Path) -> Option<Self> {
        let runtime = binary("keywheel-runtime");
        if !runtime.exists() || !Path::new("/usr/sbin/dockerd").exists() {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI needs dockerd and a built keywheel-runtime"
            );
            eprintln!("SKIPPED: needs dockerd and a built keywheel-runtime");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("daemon.json");
        let socket = injector_socket.display();
        let text = format!(
            r#"{{"runtimes":{{"keywheel":{{"path":"{}","runtimeArgs":["--keywheel-socket={socket}"]}}}}}}"#,
            runtime.display()
        );
        std::fs::write(&config, text).unwrap();
        let daemon = spawn(folder.path());
        let engine = Self { folder, daemon };
        engine.wait();
        engine.build_image();
        Some(engine)
    }

    /// Stops the daemon; its containers live on.
    pub fn stop(&mut self) {
        self.terminate();
    }

    /// Starts it again, with what it had.
    pub fn start_again(&mut self) {
        self.daemon = spawn(self.folder.path());
        self.wait();
    }

    fn wait(&self) {
        for _ in 0..1800 {
            if self.run(&["version"]).status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "{}",
            std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
        );
    }

    fn terminate(&mut self) {
        if let Some(pid) = i32::try_from(self.daemon.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.daemon.wait();
    }

    pub fn host(&self) -> String {
        format!(
            "unix://{}",
            self.folder.path().join("docker.sock").display()
        )
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new("docker")
            .arg("--host")
            .arg(self.host())
            .args(arguments)
            .output()
            .unwrap()
    }

    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs a container under the wrapper.
    pub fn container(&self, label: &str, extra: &[&str], script: &str) -> Output {
        let label = format!("keywheel-test={label}");
        let mut arguments = vec![
            "run",
            "-d",
            "--runtime",
            "keywheel",
            "--network",
            "none",
            "--stop-timeout",
            "1",
            "--label",
            &label,
        ];
        arguments.extend(extra);
        arguments.extend([IMAGE, BUSYBOX, "sh", "-c", script]);
        self.run(&arguments)
    }

    fn build_image(&self) {
        let mut save = Command::new("docker")
            .args(["save", IMAGE])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let status = Command::new("docker")
            .args(["--host", &self.host(), "load"])
            .stdin(save.stdout.take().unwrap())
            .stdout(Stdio::null())
            .status();
        assert!(save.wait().unwrap().success() && status.unwrap().success());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let all = self.run(&["ps", "-aq"]);
        for id in String::from_utf8_lossy(&all.stdout).split_whitespace() {
            self.run(&["rm", "-f", "-v", id]);
        }
        self.terminate();
    }
}

/// Starts the daemon on its folder.
fn spawn(folder: &Path) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let arg = |name: &str, file: &str| format!("{name}={}", folder.join(file).display());
    // A network namespace of its own: `--bridge=none` makes dockerd delete the machine's docker0.
    Command::new("unshare")
        .args(["--net", "--", "/usr/sbin/dockerd"])
        .args([
            arg("--config-file", "daemon.json"),
            arg("--data-root", "data"),
            arg("--exec-root", "exec"),
            arg("--pidfile", "pid"),
            format!("--host=unix://{}", folder.join("docker.sock").display()),
        ])
        .args([
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--storage-driver=vfs",
            "--live-restore",
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join(name)
}
