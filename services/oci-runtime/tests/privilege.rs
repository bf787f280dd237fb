//! What the wrapper asks of the kernel during a create: no thread, no network socket, one capability to act with, and a
//! filter for the half of it that reads and asks; what becomes of a create whose halves end; and that the real runtime
//! behind it has what it would have without it.
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

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Scene, Script, ready};
use serde_json::json;

const DIR: &str = "/run/secrets";
const PLACEHOLDER: &str = "DB_PASSWORD={keywheel:prod/db}";
const VALUE: (&str, &str) = ("DB_PASSWORD", "czNjcmV0");
const TRACED: &str =
    "trace=capset,socket,socketpair,bind,listen,connect,clone,?clone3,?fork,?vfork";
/// How a status of procfs names the one capability.
const DAC_OVERRIDE: &str = "0000000000000002";
const PATIENCE: Duration = Duration::from_secs(180);

fn has_strace() -> bool {
    let found = Command::new("strace").arg("-V").output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "CI needs strace");
        eprintln!("SKIPPED: needs strace");
    }
    found
}

/// A container with a file and a variable, and an injector that serves both.
fn served() -> Scene {
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
    scene
}

/// A create that is to be started with whatever the test puts before it.
fn create_of(scene: &Scene, extra: &[&str]) -> Command {
    let (bundle, pid) = (scene.dir.join("bundle"), scene.dir.join("pid"));
    let words = [
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "--pid-file",
        pid.to_str().unwrap(),
        &scene.id,
    ];
    scene.wrapper(extra, &words)
}

/// Runs it in the background with files for its output, which the container keeps.
fn start(scene: &Scene, mut call: Command) -> Child {
    let of_container = |name| fs::File::create(scene.dir.join(name)).unwrap();
    call.stdin(Stdio::null())
        .stdout(of_container("out"))
        .stderr(of_container("err"))
        .spawn()
        .unwrap()
}

#[test]
fn a_create_starts_no_thread_and_the_half_that_stays_unfiltered_connects_to_nobody() {
    if !ready() || !has_strace() {
        return;
    }
    let scene = served();
    let call = create_of(&scene, &[]);
    let log = scene.dir.join("strace");
    let mut traced = Command::new("strace");
    traced
        .args(["-qq", "-s", "256", "-o"])
        .arg(&log)
        .args(["-e", TRACED])
        .arg(call.get_program())
        .args(call.get_args());
    let status = start(&scene, traced).wait().unwrap();
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.contains("CLONE_THREAD"), "{text}");
    let of = |begin: &str| -> Vec<&str> {
        let lines = text.lines();
        lines.filter(|line| line.starts_with(begin)).collect()
    };
    // The way to the other half is all there is.
    let pair = of("socketpair(");
    assert!(pair.len() == 1 && pair[0].contains("AF_UNIX"), "{text}");
    for none in ["socket(", "bind(", "listen(", "connect("] {
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

/// A create whose filtered half stands still at a step.
struct Standing {
    scene: Scene,
    outer: Child,
    filtered: String,
}

impl Standing {
    fn at(step: &str) -> Self {
        let scene = served();
        let armed = scene.dir.join("failpoint");
        fs::write(&armed, format!("{step}=stop\n")).unwrap();
        let flags = ["--keywheel-failpoints", armed.to_str().unwrap()];
        let outer = start(&scene, create_of(&scene, &flags));
        let pid = outer.id();
        let mut filtered = String::new();
        until(|| {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            filtered = children.unwrap_or_default().trim().to_owned();
            !filtered.is_empty() && field(&filtered, "State").starts_with('T')
        });
        Self {
            scene,
            outer,
            filtered,
        }
    }

    fn signal(&self, names: &[&str]) {
        for name in names {
            let words = [name, self.filtered.as_str()];
            assert!(Command::new("kill").args(words).status().unwrap().success());
        }
    }
}

/// Waits for what will happen.
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A line of a process's status; empty once there is none.
fn field(pid: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default()
        .trim_start_matches(':')
        .trim()
        .to_owned()
}

#[test]
fn the_half_that_reads_and_asks_has_a_filter_and_one_capability_for_good() {
    if !ready() {
        return;
    }
    let mut standing = Standing::at("runtime.after_resolve");
    let (outer, filtered) = (standing.outer.id().to_string(), &standing.filtered);
    for (name, expected) in [
        ("Seccomp", "2"),
        ("NoNewPrivs", "1"),
        ("CapPrm", DAC_OVERRIDE),
        ("CapEff", DAC_OVERRIDE),
        ("CapInh", "0000000000000000"),
        ("Threads", "1"),
    ] {
        assert_eq!(field(filtered, name), expected, "{name}");
    }
    // What the real runtime will be started by.
    for (name, expected) in [
        ("Seccomp", field("self", "Seccomp")),
        ("NoNewPrivs", field("self", "NoNewPrivs")),
        ("CapPrm", field("self", "CapPrm")),
        ("CapEff", DAC_OVERRIDE.to_owned()),
        ("Threads", "1".to_owned()),
    ] {
        assert_eq!(field(&outer, name), expected, "{name}");
    }
    standing.signal(&["-CONT"]);
    assert!(standing.outer.wait().unwrap().success());
    standing.scene.start_and_wait();
}

#[test]
fn a_create_whose_filtered_half_ends_is_refused_with_its_reason() {
    if !ready() {
        return;
    }
    for (step, signals, words) in [
        (
            "runtime.after_resolve",
            &["-KILL"][..],
            "was ended by signal 9",
        ),
        (
            "runtime.after_config",
            &["-SYS", "-CONT"],
            "made a system call that is not on its list",
        ),
    ] {
        let mut standing = Standing::at(step);
        standing.signal(signals);
        assert_eq!(standing.outer.wait().unwrap().code(), Some(1), "{words}");
        let log = fs::read_to_string(standing.scene.log()).unwrap();
        let said = format!("the filtered half of keywheel-runtime {words}; next: ");
        assert!(log.contains(&said), "{log}");
        assert!(!standing.scene.exists(), "{words}");
    }
}

#[test]
fn a_real_runtime_whose_filtered_half_ends_is_ended_and_the_create_refused() {
    if !ready() {
        return;
    }
    let scene = served();
    let started = scene.dir.join("started");
    let body = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600",
        started.display()
    );
    let sleeps = scene.hook("sleeps", &body);
    let flags = ["--keywheel-real-runtime", sleeps.to_str().unwrap()];
    let mut outer = start(&scene, create_of(&scene, &flags));
    until(|| started.exists());
    let runtime = fs::read_to_string(&started).unwrap().trim().to_owned();
    let pid = outer.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let half = children.split_whitespace().find(|child| **child != runtime);
    let killed = Command::new("kill").args(["-KILL", half.unwrap()]).status();
    assert!(killed.unwrap().success());
    assert_eq!(outer.wait().unwrap().code(), Some(1));
    until(|| field(&runtime, "State").is_empty());
    let log = fs::read_to_string(scene.log()).unwrap();
    assert!(log.contains("was ended by signal 9"), "{log}");
}

#[test]
fn the_filtered_half_asks_the_injector_and_nobody_else() {
    if !ready() || !has_strace() {
        return;
    }
    let scene = Scene::new("true", |_| ());
    scene.inject(Script {
        resolve: json!({ "ok": false, "error": "no", "next": "see the test" }),
        dir: DIR,
        ..Script::default()
    });
    let log = scene.dir.join("strace");
    let call = create_of(&scene, &[]);
    let mut traced = Command::new("strace");
    traced
        .args(["-ff", "-qq", "-s", "256", "-o"])
        .arg(&log)
        .args(["-e", &format!("{TRACED},prctl,seccomp,execve")])
        .arg(call.get_program())
        .args(call.get_args());
    assert!(!start(&scene, traced).wait().unwrap().success());
    let texts = fs::read_dir(&scene.dir).unwrap().flatten();
    let texts = texts.filter(|entry| entry.file_name().to_string_lossy().starts_with("strace."));
    let texts: Vec<String> = texts
        .map(|entry| fs::read_to_string(entry.path()).unwrap())
        .collect();
    assert_eq!(texts.len(), 2, "{texts:#?}");
    let half = texts.iter().find(|text| text.contains("PR_SET_SECCOMP"));
    let half: Vec<&str> = half.expect("no filter").lines().collect();
    let filtered = half
        .iter()
        .position(|line| line.contains("PR_SET_SECCOMP"))
        .unwrap();
    let calls = |begin: &str| -> Vec<usize> {
        let lines = half.iter().enumerate();
        let those = lines.filter(|(_, line)| line.starts_with(begin));
        those.map(|(at, _)| at).collect()
    };
    for none in [
        "clone",
        "fork",
        "vfork",
        "execve(",
        "socketpair(",
        "bind(",
        "listen(",
    ] {
        assert!(calls(none).is_empty(), "{half:#?}");
    }
    let (sockets, connects) = (calls("socket("), calls("connect("));
    let (&[socket], &[connect]) = (&sockets[..], &connects[..]) else {
        panic!("more than one question: {half:#?}");
    };
    assert!(filtered < socket && socket < connect, "{half:#?}");
    let path = scene.socket();
    assert!(half[connect].contains(path.to_str().unwrap()), "{half:#?}");
}

#[test]
fn the_filtered_half_ends_with_the_other() {
    if !ready() {
        return;
    }
    let mut standing = Standing::at("runtime.after_config");
    standing.outer.kill().unwrap();
    standing.outer.wait().unwrap();
    until(|| {
        let state = field(&standing.filtered, "State");
        state.is_empty() || state.starts_with('Z')
    });
    assert!(!standing.scene.exists());
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
    assert_eq!(fs::read_to_string(&seen).unwrap(), expected, "a create");
    let state = scene.wrapper(&[], &["state", &scene.id]);
    let passed = Command::new(state.get_program())
        .args(state.get_args())
        .output()
        .unwrap();
    assert!(passed.status.success());
    scene.start_and_wait();
}

#[test]
fn a_create_with_nothing_to_inject_leaves_nothing_to_the_real_runtime() {
    if !ready() {
        return;
    }
    let scene = Scene::new("true", |_| ());
    scene.inject(Script {
        resolve: json!({ "ok": true }),
        dir: DIR,
        ..Script::default()
    });
    let seen = scene.dir.join("seen");
    let body = format!(
        "{{ read -r all </proc/$$/task/$$/children; echo children: $all; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; }} > {}; ls /proc/$$/fd >> {}; exec runc \"$@\"",
        seen.display(),
        seen.display()
    );
    let between = scene.hook("between", &body);
    let by = |wrapped: bool| {
        let mut call = create_of(
            &scene,
            &["--keywheel-real-runtime", between.to_str().unwrap()],
        );
        if !wrapped {
            // As the wrapper would call it, without the wrapper.
            let words: Vec<_> = call
                .get_args()
                .skip(4)
                .map(std::ffi::OsStr::to_owned)
                .collect();
            call = Command::new(&between);
            call.args(words.into_iter().skip(2));
        }
        assert!(
            start(&scene, call).wait().unwrap().success(),
            "wrapped: {wrapped}"
        );
        let text = fs::read_to_string(&seen).unwrap();
        assert!(
            scene
                .call(&["delete", "--force", &scene.id])
                .status
                .success()
        );
        text
    };
    assert_eq!(by(true), by(false));
}
