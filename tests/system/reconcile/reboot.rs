//! A host that reboots: its engine and injector end at once, and what is kept in memory is gone, namely the run
//! directory with its file systems, the runtime's state and the key in the kernel's keyring. The engine is there
//! before the injector.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::output::Output;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::scratch::unmount_below;
use keywheel_tests::stage::SECRET;
use keywheel_tests::wait;
use serde_json::Value;

use super::{ALWAYS, PLACEHOLDER, TOKEN, bind, each_change_is_audited_once, values};

/// What an injector has in its run directory.
const OF_INJECTOR: [&str; 5] = [
    "bundles",
    "state",
    "injector.lock",
    "injector.sock",
    "injector-exec.sock",
];
/// How the key of a host's cache is called.
const KEY: &str = "keywheel:host-cache:";
/// Takes a key off the user's keyring: there is no command for it everywhere.
const UNLINK: &str = "import ctypes, os, sys\n\
    number = {'x86_64': 250, 'aarch64': 219}[os.uname().machine]\n\
    key, ring = ctypes.c_long(int(sys.argv[1], 16)), ctypes.c_long(-4)\n\
    sys.exit(1 if ctypes.CDLL(None).syscall(number, ctypes.c_long(9), key, ring) else 0)";

/// Whether the host had one; it is gone then.
fn forget_key(host: &str) -> Result<bool> {
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    let is_its = |line: &&str| line.contains(KEY) && line.contains(host);
    let Some(line) = keys.lines().find(is_its) else {
        return Ok(false);
    };
    let serial = line.split_whitespace().next().context("no serial")?;
    Output::of(Command::new("python3").args(["-c", UNLINK, serial]))?.ok()?;
    // The kernel collects it a moment later.
    wait::until_true("the key to go", PATIENCE, || {
        Ok(!fs::read_to_string("/proc/keys")?
            .lines()
            .any(|line| is_its(&line)))
    })?;
    Ok(true)
}

/// Everything of the host's that no disk keeps.
#[expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]
fn power_off(fleet: &mut Fleet) -> Result<()> {
    let host = fleet.host(&fleet.machine(0)?.name)?;
    let id = host.get("id").and_then(Value::as_str).context("no id")?;
    let id = id.to_owned();
    fleet.process(Role::Injector, 0)?.kill9()?;
    let run = fleet.apart()?.run_dir(0);
    let daemon = fleet.apart()?.daemon(0)?;
    daemon.process().stop()?;
    let exec = daemon.exec_root();
    for folder in [&run, &exec] {
        unmount_below(folder);
    }
    fs::remove_dir_all(&exec).with_context(|| format!("no {}", exec.display()))?;
    for name in OF_INJECTOR {
        let path = run.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if path.exists() {
            fs::remove_file(&path)?;
        }
    }
    if !forget_key(&id)? {
        eprintln!("this kernel has no keyring for us: the host cache was off before");
    }
    Ok(())
}

#[test]
fn after_a_reboot_everybody_has_what_the_plan_says() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = Fleet::set(Shape {
        own_engines: true,
        ..Shape::default()
    })?;
    let machine = fleet.machine(0)?;
    bind(&fleet, machine, "booted")?;
    let flags = [&["-e", PLACEHOLDER][..], &ALWAYS].concat();
    let containers = [
        machine.run("booted", &flags, "/bin/app-env")?,
        machine.run("booted", &flags, "/bin/app-env")?,
    ];
    let first = values(&containers[0])?;
    ensure!(values(&containers[1])? == first);

    power_off(&mut fleet)?;
    // Meanwhile the world went on.
    for secret in [SECRET, TOKEN] {
        fleet.keywheel.json(&["rotate", secret])?;
    }
    let daemon = fleet.apart()?.daemon(0)?;
    daemon.process().start()?;
    daemon.wait_ready()?;
    for container in &containers {
        wait::until_true("the engine's vain start", PATIENCE, || {
            let about = container.field("{{.State.Running}} {{.State.Error}}")?;
            Ok(about.starts_with("false ") && about.contains("keywheel"))
        })?;
    }
    fleet.process(Role::Injector, 0)?.start()?;
    for container in &containers {
        wait::until_true("the container with what is current", PATIENCE, || {
            let now = values(container)?;
            Ok(now[0] != first[0] && now[1] != first[1])
        })?;
    }
    let second = values(&containers[0])?;
    ensure!(values(&containers[1])? == second);
    for secret in [SECRET, TOKEN] {
        fleet.rotate(secret)?;
    }
    let third = values(&containers[0])?;
    ensure!(third[0] != second[0] && third[1] != second[1]);
    let all = containers.each_ref();
    let ids = all.map(|container| container.id());
    each_change_is_audited_once(&fleet.keywheel, &ids).context("after the reboot")?;
    fleet.finish(&[first, second, third].concat(), &all)
}
