//! Our flags taken out, the real runtime's kept in order, and what `create` and `exec` are given instead.

use super::*;

fn parse(line: &str) -> Invocation {
    Invocation::parse(
        line.split(' ')
            .filter(|part| !part.is_empty())
            .map(OsString::from),
    )
}

fn unchanged(invocation: &Invocation) -> String {
    invocation
        .unchanged()
        .map(|part| part.to_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

const DOCKER: &str = "--root /run/rt --log /b/log.json --log-format json --systemd-cgroup create \
    --bundle /b --pid-file /b/init.pid --console-socket /tmp/pty.sock 0123abc";

#[test]
fn the_call_of_containerd_is_understood_and_kept() {
    let invocation = parse(DOCKER);
    assert_eq!(
        unchanged(&invocation),
        DOCKER.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    assert_eq!(invocation.log.as_deref(), Some("/b/log.json".as_ref()));
    assert!(invocation.log_json && !invocation.permissive);
    assert_eq!(invocation.socket, PathBuf::from(DEFAULT_SOCKET));
    let create = invocation.create().unwrap().unwrap();
    assert_eq!(
        (create.bundle, create.id.as_str()),
        (PathBuf::from("/b"), "0123abc")
    );
    assert_eq!(create.pid_file, Some(PathBuf::from("/b/init.pid")));
}

#[test]
fn our_flags_are_taken_out_in_both_spellings() {
    for ours in [
        "--keywheel-socket /s --keywheel-real-runtime /r --keywheel-permissive",
        "--keywheel-socket=/s -keywheel-real-runtime=/r --keywheel-permissive",
    ] {
        let invocation = parse(&format!("--debug {ours} --log=/l state abc"));
        assert_eq!(
            unchanged(&invocation),
            "--debug --log=/l state abc",
            "{ours}"
        );
        assert_eq!(invocation.socket, PathBuf::from("/s"));
        assert_eq!(invocation.real_runtime, "/r");
        assert!(invocation.permissive);
        assert!(invocation.create().is_none());
    }
}

#[test]
fn our_flags_after_the_command_belong_to_the_real_runtime() {
    let invocation = parse("exec --keywheel-permissive abc");
    assert_eq!(unchanged(&invocation), "exec --keywheel-permissive abc");
    assert!(!invocation.permissive);
}

#[test]
fn create_is_found_after_unknown_flags() {
    for line in [
        "--new-flag create --bundle /b id",
        "--new value create -b /b id",
        "--new=value create -b=/b id",
    ] {
        let invocation = parse(line);
        let create = invocation.create().unwrap().unwrap();
        assert_eq!(
            (create.bundle, create.id.as_str()),
            (PathBuf::from("/b"), "id"),
            "{line}"
        );
        assert_eq!(unchanged(&invocation), line);
    }
}

#[test]
fn the_changed_call_has_one_bundle_and_keeps_the_rest() {
    let invocation =
        parse("--log l create --no-pivot --bundle /b --preserve-fds 2 --pid-file=/p id");
    let create = invocation.create().unwrap().unwrap();
    let all = invocation
        .create_in(&create, "/private".as_ref(), "/pid".as_ref(), None)
        .join(OsStr::new(" "));
    assert_eq!(
        all,
        "--log l create --bundle /private --pid-file /pid --no-pivot --preserve-fds 2 id"
    );
    let fed = invocation.create_in(&create, "b".as_ref(), "p".as_ref(), Some("f".as_ref()));
    let flag = fed.iter().position(|one| one == "--config").unwrap();
    assert_eq!(fed[flag + 1], "f");
    assert_eq!(
        invocation.delete("id").join(OsStr::new(" ")),
        "--log l delete --force id"
    );
}

#[test]
fn help_and_missing_or_odd_ids() {
    assert!(parse("create --help").create().is_none());
    assert!(parse("").create().is_none());
    assert!(parse("--version").create().is_none());
    for line in [
        "create",
        "create --bundle /b",
        "create ../x",
        "create .x",
        "create a/b",
    ] {
        assert!(parse(line).create().unwrap().is_err(), "{line}");
    }
    assert!(
        parse(&format!("create {}", "a".repeat(MAX_ID)))
            .create()
            .unwrap()
            .is_ok()
    );
    assert!(
        parse(&format!("create {}", "a".repeat(MAX_ID + 1)))
            .create()
            .unwrap()
            .is_err()
    );
}

#[test]
fn the_exec_of_an_engine_is_understood_and_changed_only_in_its_file() {
    let call = "--root /r --log /l exec --process /tmp/runc-process1 --console-socket /c \
        --pid-file /p --detach 0123abc";
    let short = [
        call.to_owned(),
        call.replace("--process ", "-p="),
        call.replace("--detach", "-d"),
    ];
    for line in short {
        let invocation = parse(&line);
        let exec = invocation.exec().unwrap();
        assert_eq!(exec.process_file, PathBuf::from("/tmp/runc-process1"));
        assert_eq!(exec.id, "0123abc");
        let all = invocation.exec_in(&exec, "/private".as_ref());
        let all = all.join(OsStr::new(" ")).into_string().unwrap();
        let expected = call.replace("/tmp/runc-process1", "/private");
        let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(all.replace(" -d ", " --detach "), expected, "{line}");
    }
}

#[test]
fn an_exec_in_the_foreground_or_without_a_file_is_passed_on() {
    for line in [
        "exec --process /f abc",
        "exec --detach=false --process /f abc",
        "exec --detach abc",
        "exec --detach abc env",
        "exec --detach --process /f",
        "exec --detach --process /f abc more",
        "exec --detach --process /f ../abc",
        "exec --detach --process /f --help abc",
        "state --detach --process /f abc",
        "exec",
    ] {
        assert_eq!(parse(line).exec(), None, "{line}");
    }
}

#[test]
fn run_and_restore_are_found_with_their_configuration() {
    let one = |command, path: &str| {
        let configs = vec![path.into()];
        Some(DirectStart { command, configs })
    };
    for (line, expected) in [
        ("run id", one("run", "./config.json")),
        ("--debug run --bundle /b id", one("run", "/b/config.json")),
        ("run -b=/b --pid-file /p id", one("run", "/b/config.json")),
        ("run id --bundle /b", one("run", "/b/config.json")),
        (
            "restore --image-path /i --bundle /b id",
            one("restore", "/b/config.json"),
        ),
        ("create --bundle /b id", None),
        ("start run", None),
        ("run --help", None),
    ] {
        assert_eq!(parse(line).direct_start(), expected, "{line}");
    }
    let named = parse("run -b /b --config c.json id")
        .direct_start()
        .unwrap();
    assert_eq!(named.configs, ["/b/c.json", "c.json"].map(PathBuf::from));
}
