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
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let arg = |name: &str, file: &str| format!("{name}={}", folder.path().join(file).display());
        // A network namespace of its own: `--bridge=none` makes dockerd delete the machine's docker0.
        let daemon = Command::new("unshare")
            .args(["--net", "--", "/usr/sbin/dockerd"])
            .args([
                arg("--config-file", "daemon.json"),
                arg("--data-root", "data"),
                arg("--exec-root", "exec"),
            ])
            .args([
                arg("--pidfile", "pid"),
                format!(
                    "--host=unix://{}",
                    folder.path().join("docker.sock").display()
                ),
            ])
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--storage-driver=vfs",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self { folder, daemon };
        for _ in 0..200 {
            if engine.run(&["version"]).status.success() {
                engine.build_image();
                return Some(engine);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "{}",
            std::fs::read_to_string(engine.folder.path().join("log")).unwrap_or_default()
        );
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
        if let Some(pid) = i32::try_from(self.daemon.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.daemon.wait();
    }
}

fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join(name)
}
