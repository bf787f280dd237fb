//! What the wrapper asks of the kernel during a create, as strace sees it: no thread, no network socket, and the one
//! capability that it acts with; and that the real runtime behind it has what it would have without it.
//!
//! Needs root, runc, busybox and strace. Without them it says so and stops, except in CI, where it fails.
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

use std::process::{Command, Stdio};

use harness::{Scene, Script, ready};
use serde_json::json;

const DIR: &str = "/run/secrets";
const PLACEHOLDER: &str = "DB_PASSWORD={keywheel:prod/db}";
const VALUE: (&str, &str) = ("DB_PASSWORD", "czNjcmV0");
const TRACED: &str =
    "trace=capset,socket,socketpair,bind,listen,connect,clone,?clone3,?fork,?vfork";

fn has_strace() -> bool {
    let found = Command::new("strace").arg("-V").output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "CI needs strace");
        eprintln!("SKIPPED: needs strace");
    }
    found
}

#[test]
fn a_create_starts_no_thread_and_speaks_to_the_injector_alone() {
    if !ready() || !has_strace() {
        return;
    }
    let scene = Scene::new("true", |config| {
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.push(json!(PLACEHOLDER));
    });
    scene.inject(Script {
        resolve: scene.answer(&[VALUE], &[DIR]),
        file: Some(("db", b"x")),
        dir: DIR,
        ..Script::default()
    });
    let (bundle, pid) = (scene.dir.join("bundle"), scene.dir.join("pid"));
    let words = [
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "--pid-file",
        pid.to_str().unwrap(),
        &scene.id,
    ];
    let call = scene.wrapper(&[], &words);
    let log = scene.dir.join("strace");
    let of_container = |name| std::fs::File::create(scene.dir.join(name)).unwrap();
    let status = Command::new("strace")
        .args(["-qq", "-s", "256", "-o"])
        .arg(&log)
        .args(["-e", TRACED])
        .arg(call.get_program())
        .args(call.get_args())
        .stdin(Stdio::null())
        .stdout(of_container("out"))
        .stderr(of_container("err"))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("CLONE_THREAD"), "{text}");
    let of = |begin: &str| -> Vec<&str> {
        let lines = text.lines();
        lines.filter(|line| line.starts_with(begin)).collect()
    };
    // One socket for each of the two questions; nobody connects to this program.
    let sockets = of("socket(");
    assert_eq!(sockets.len(), 2, "{text}");
    assert!(
        sockets.iter().all(|line| line.contains("AF_UNIX")),
        "{text}"
    );
    for none in ["socketpair(", "bind(", "listen("] {
        assert!(of(none).is_empty(), "{text}");
    }
    let lowered = of("capset(");
    assert_eq!(lowered.len(), 1, "{text}");
    let effective = lowered[0].split("permitted=").next().unwrap();
    assert!(
        effective.contains("effective=1<<CAP_DAC_OVERRIDE,"),
        "{effective}"
    );
    scene.start_and_wait();
}

#[test]
fn the_real_runtime_has_what_it_would_have_without_the_wrapper() {
    if !ready() {
        return;
    }
    let scene = Scene::new("true", |_| ());
    scene.inject(Script {
        resolve: scene.answer(&[], &[DIR]),
        file: Some(("db", b"x")),
        dir: DIR,
        ..Script::default()
    });
    // Stands before runc, and says what it was started with.
    let seen = scene.dir.join("seen");
    let body = format!(
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status > {}; exec runc \"$@\"",
        seen.display()
    );
    let between = scene.hook("between", &body);
    let plain = Command::new("grep")
        .args(["-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"])
        .output()
        .unwrap();
    let expected = String::from_utf8(plain.stdout).unwrap();
    let (created, text) = scene.create(&["--keywheel-real-runtime", between.to_str().unwrap()]);
    assert!(created, "{text}");
    assert_eq!(
        std::fs::read_to_string(&seen).unwrap(),
        expected,
        "a create"
    );
    let state = scene.wrapper(&[], &["state", &scene.id]);
    let passed = Command::new(state.get_program())
        .args(state.get_args())
        .output()
        .unwrap();
    assert!(passed.status.success());
    scene.start_and_wait();
}
