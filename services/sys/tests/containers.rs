//! The namespace helper against real containers of the local Docker engine, without the OCI runtime wrapper.
//!
//! Needs root, Docker and a static busybox. Without them it says so and stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use keywheel_sys::Error;
use keywheel_sys::nsjoin::Helper;
use keywheel_sys::procfs::{PinnedPid, Sight};
use keywheel_sys::secretfs::{FileAttr, SecretFs, probe};

const DIR: &str = "/run/secrets";
const ATTR: FileAttr = FileAttr {
    uid: 0,
    gid: 0,
    mode: 0o440,
};
const BUSYBOX: &str = "/bin/busybox";

fn helper() -> Helper {
    Helper::new(PathBuf::from(env!("CARGO_BIN_EXE_keywheel-nsjoin")))
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn docker(arguments: &[&str]) -> String {
    let output = run("docker", arguments);
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The image's name, or `None` (said aloud) where these tests cannot run.
fn image() -> Option<&'static str> {
    static IMAGE: OnceLock<Option<String>> = OnceLock::new();
    IMAGE
        .get_or_init(|| {
            let root = rustix::process::geteuid().is_root();
            let engine = Command::new("docker")
                .arg("version")
                .output()
                .is_ok_and(|output| output.status.success());
            if !(root && engine && std::path::Path::new(BUSYBOX).exists()) {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "CI needs root, Docker and {BUSYBOX}"
                );
                eprintln!("SKIPPED: needs root, Docker and {BUSYBOX}");
                return None;
            }
            let tag = "keywheel-test-sys:busybox".to_owned();
            // Kept between runs: importing anew would leave a nameless image each time.
            if !run("docker", &["image", "inspect", &tag]).status.success() {
                import_busybox(&tag);
            }
            Some(tag)
        })
        .as_deref()
}

fn import_busybox(tag: &str) {
    let root = std::env::temp_dir().join(format!("keywheel-image-{}", std::process::id()));
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("linked")).unwrap();
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = Command::new("docker")
        .args(["import", "-", tag])
        .stdin(tar.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(tar.wait().unwrap().success() && status.success());
    std::fs::remove_dir_all(root).unwrap();
}

struct Container(String);

impl Container {
    fn start(extra: &[&str], script: &str) -> Option<Self> {
        let mut arguments = vec!["run", "-d", "--network", "none"];
        arguments.extend(extra);
        arguments.extend([image()?, "/bin/busybox", "sh", "-c", script]);
        Some(Self(docker(&arguments)))
    }

    fn idle(extra: &[&str]) -> Option<Self> {
        Self::start(extra, "exec /bin/busybox sleep 600")
    }

    fn pin(&self) -> PinnedPid {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &self.0]);
        let pinned = PinnedPid::open(pid.parse().unwrap()).unwrap();
        assert!(pinned.belongs_to(&self.0).unwrap());
        assert!(!pinned.belongs_to(&"0".repeat(64)).unwrap());
        pinned
    }

    fn exec(&self, script: &str) -> (bool, String) {
        let output = run(
            "docker",
            &["exec", &self.0, "/bin/busybox", "sh", "-c", script],
        );
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).trim().to_owned(),
        )
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        run("docker", &["rm", "-f", "-v", &self.0]);
    }
}

fn secrets() -> SecretFs {
    SecretFs::create(probe().best_kind(), 1 << 20).unwrap()
}

#[test]
fn a_running_container_gets_a_read_only_directory_that_changes_live() {
    let Some(container) = Container::idle(&[]) else {
        return;
    };
    let fs = secrets();
    fs.dir().replace("db", b"one", ATTR).unwrap();
    let target = container.pin();
    helper().attach(&target, &fs, DIR, true).unwrap();
    let device = fs.device();
    let dir = fs.into_dir();
    assert_eq!(
        container.exec("/bin/busybox cat /run/secrets/db"),
        (true, "one".into())
    );

    dir.replace("db", b"two", ATTR).unwrap();
    assert_eq!(
        container.exec("/bin/busybox cat /run/secrets/db"),
        (true, "two".into())
    );
    for attack in [
        "echo x > /run/secrets/db",
        "echo x > /run/secrets/new",
        "/bin/busybox ln -s /etc/passwd /run/secrets/link",
        "/bin/busybox rm /run/secrets/db",
        "/bin/busybox chmod 777 /run/secrets/db",
        "/bin/busybox mount -o remount,rw /run/secrets",
        "/bin/busybox umount /run/secrets",
    ] {
        let (worked, text) = container.exec(attack);
        assert!(!worked, "{attack}: {text}");
    }
    let (_, table) = container.exec("/bin/busybox grep secrets /proc/mounts");
    assert!(table.contains("ro,nosuid,nodev,noexec"), "{table}");
    assert!(
        !std::fs::read_to_string("/proc/mounts")
            .unwrap()
            .contains("keywheel-secrets")
    );

    drop(dir);
    let again = helper().reacquire(&target, DIR, device).unwrap();
    again.replace("db", b"three", ATTR).unwrap();
    assert_eq!(
        container.exec("/bin/busybox cat /run/secrets/db"),
        (true, "three".into())
    );
    assert!(matches!(
        helper().reacquire(&target, DIR, device + 1),
        Err(Error::Helper { .. })
    ));
    assert!(matches!(
        helper().attach(&target, &secrets(), DIR, true),
        Err(Error::AlreadyAttached { .. })
    ));
    assert!(again.remove("db").unwrap());
    assert!(!container.exec("/bin/busybox cat /run/secrets/db").0);
}

#[test]
fn what_a_privileged_container_hides_from_itself_is_told() {
    // The right to mount. Not all of `--privileged`: that wants rights which a machine may not have.
    let rights = [
        "--cap-add=SYS_ADMIN",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
    ];
    let Some(container) = Container::idle(&rights) else {
        return;
    };
    let target = container.pin();
    let fs = secrets();
    helper().attach(&target, &fs, DIR, true).unwrap();
    let sight = || target.sight(DIR, fs.device()).unwrap();
    assert_eq!(sight(), Sight::Seen);
    for (script, expected) in [
        ("mount -t tmpfs cover /run/secrets", Sight::Covered),
        ("umount /run/secrets", Sight::Seen),
        ("mount -t tmpfs cover /run", Sight::Covered),
        ("umount /run", Sight::Seen),
        ("mount --bind /run/secrets /run/secrets", Sight::Seen),
        ("umount /run/secrets", Sight::Seen),
        ("mv /run /moved", Sight::Seen),
        ("umount -l /moved/secrets", Sight::Unmounted),
    ] {
        let (worked, text) = container.exec(&format!("/bin/busybox {script}"));
        assert!(worked, "{script}: {text}");
        assert_eq!(sight(), expected, "{script}");
    }
}

#[test]
fn mounts_of_others_at_or_below_are_named_and_kept() {
    let Some(container) =
        Container::idle(&["--tmpfs", "/run/secrets", "--tmpfs", "/opt/app/inner"])
    else {
        return;
    };
    for (dir, expected) in [(DIR, DIR), ("/opt/app", "/opt/app/inner")] {
        match helper().attach(&container.pin(), &secrets(), dir, true) {
            Err(Error::ForeignMount { mount, .. }) => assert_eq!(mount, expected),
            other => panic!("{dir}: {other:?}"),
        }
    }
    assert!(matches!(
        helper().reacquire(&container.pin(), DIR, 1),
        Err(Error::ForeignMount { .. })
    ));
}

#[test]
fn symlinks_on_the_way_and_missing_directories_are_refused() {
    let Some(container) = Container::idle(&[]) else {
        return;
    };
    let target = container.pin();
    for (dir, create) in [("/linked/secrets", true), ("/nowhere/at/all", false)] {
        assert!(
            matches!(
                helper().attach(&target, &secrets(), dir, create),
                Err(Error::Helper { .. })
            ),
            "{dir}"
        );
    }
    assert!(!container.exec("/bin/busybox ls /etc/secrets").0);
    assert!(!std::path::Path::new("/etc/secrets").exists());
    assert!(matches!(
        helper().attach(&target, &secrets(), "/run/../etc", true),
        Err(Error::BadDirectory { .. })
    ));
}

#[test]
fn a_container_that_turned_its_directory_into_a_symlink_gains_nothing() {
    let Some(container) = Container::idle(&[]) else {
        return;
    };
    container.exec("/bin/busybox mkdir -p /run; /bin/busybox ln -s /tmp /run/secrets");
    let fs = secrets();
    fs.dir().replace("db", b"x", ATTR).unwrap();
    assert!(matches!(
        helper().attach(&container.pin(), &fs, DIR, true),
        Err(Error::Helper { .. })
    ));
    assert!(!container.exec("/bin/busybox cat /tmp/db").0);
}

#[test]
fn a_directory_on_a_shared_host_mount_is_refused() {
    if image().is_none() {
        return;
    }
    let source = std::env::temp_dir().join(format!("keywheel-shared-{}", std::process::id()));
    std::fs::create_dir_all(&source).unwrap();
    let path = source.to_str().unwrap();
    assert!(
        run("mount", &["-t", "tmpfs", "shared-test", path])
            .status
            .success()
    );
    assert!(run("mount", &["--make-shared", path]).status.success());
    let volume = format!("type=bind,source={path},target=/data,bind-propagation=shared");
    let container = Container::idle(&["--mount", &volume]).unwrap();
    let result = helper().attach(&container.pin(), &secrets(), "/data/secrets", true);
    drop(container);
    let seen = std::fs::read_to_string("/proc/mounts").unwrap();
    run("umount", &["-l", path]);
    std::fs::remove_dir(&source).unwrap();
    assert!(
        matches!(result, Err(Error::SharedMount { .. })),
        "{result:?}"
    );
    assert!(!seen.contains("keywheel-secrets"));
}

#[test]
fn paused_scratch_like_and_read_only_containers_are_served() {
    let Some(container) =
        Container::idle(&["--read-only", "--user", "1234:1234", "--tmpfs", "/run"])
    else {
        return;
    };
    docker(&["pause", &container.0]);
    let fs = secrets();
    fs.dir()
        .replace(
            "db",
            b"paused",
            FileAttr {
                uid: 1234,
                gid: 1234,
                mode: 0o400,
            },
        )
        .unwrap();
    let result = helper().attach(&container.pin(), &fs, DIR, true);
    docker(&["unpause", &container.0]);
    result.unwrap();
    assert_eq!(
        container.exec("/bin/busybox cat /run/secrets/db"),
        (true, "paused".into())
    );
}

#[test]
fn a_reader_inside_never_sees_a_torn_file() {
    let script = "while :; do [ -e /run/secrets/db ] && break; done; \
        while :; do v=$(/bin/busybox cat /run/secrets/db) || { echo gone; exit 9; }; \
        case $v in stop) exit 0;; aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb) ;; *) exit 8;; esac; done";
    let Some(container) = Container::start(&[], script) else {
        return;
    };
    let fs = secrets();
    fs.dir().replace("db", &[b'a'; 32], ATTR).unwrap();
    helper().attach(&container.pin(), &fs, DIR, true).unwrap();
    let dir = fs.into_dir();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        dir.replace("db", &[b'b'; 32], ATTR).unwrap();
        dir.replace("db", &[b'a'; 32], ATTR).unwrap();
    }
    dir.replace("db", b"stop", ATTR).unwrap();
    assert_eq!(docker(&["wait", &container.0]), "0");
}

#[test]
fn an_ended_process_is_gone_and_the_host_is_refused() {
    let Some(container) = Container::idle(&[]) else {
        return;
    };
    let target = container.pin();
    docker(&["kill", &container.0]);
    assert!(matches!(
        helper().attach(&target, &secrets(), DIR, true),
        Err(Error::Gone { .. })
    ));
    let own = PinnedPid::open(i32::try_from(std::process::id()).unwrap()).unwrap();
    assert!(matches!(
        helper().attach(&own, &secrets(), DIR, true),
        Err(Error::HostNamespace { .. })
    ));
}

#[test]
fn a_helper_that_hangs_is_killed_and_one_that_dies_is_reported() {
    let Some(container) = Container::idle(&[]) else {
        return;
    };
    let target = container.pin();
    let hanging = Helper {
        path: "/bin/cat".into(),
        timeout: Duration::from_millis(200),
    };
    let begun = Instant::now();
    assert!(matches!(
        hanging.attach(&target, &secrets(), DIR, true),
        Err(Error::HelperTimeout { .. })
    ));
    assert!(begun.elapsed() < Duration::from_secs(120));
    let dying = Helper::new("/bin/false".into());
    assert!(matches!(
        dying.attach(&target, &secrets(), DIR, true),
        Err(Error::HelperDied { .. })
    ));
    let missing = Helper::new("/nonexistent/keywheel-nsjoin".into());
    assert!(matches!(
        missing.attach(&target, &secrets(), DIR, true),
        Err(Error::HelperStart { .. })
    ));
}

#[test]
fn a_helper_without_a_request_ends_itself() {
    use std::os::unix::process::ExitStatusExt;
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_keywheel-nsjoin"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(14));
}
