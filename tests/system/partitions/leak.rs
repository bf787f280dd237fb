//! A leak while one of two hosts is cut off midway; and then that host is in somebody else's hands. The playbooks as
//! they are shipped, at a real Redis, which the services reach over its socket.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::redis::{PASSWORD, RedisServer, USER};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::incident::{self, COMPROMISED, Course, LEAK, LEAKED, Scanner};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::lan::Drops;
use keywheel_tests::manifest;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::{FILE, items, wait_current};
use keywheel_tests::wait;
use serde_json::Value;

use super::{CUT, NEAR_HOST, served_after_restart, value};

const LEAKY: &str = "test/leaky";
const APP: &str = "leaky";
const ANSWER: &str = "leaked-credential";
const ADMIN_SECRET: &str = "test/leaky-admin";
const ADMIN_PASSWORD: &str = "pw-of-the-admin-2f71";
/// What a person makes at the server before there is an admin, and once there is one.
const MADE_BEFORE: &str = "ACL SETUSER app on resetchannels -@all +ping";
const MADE_AFTER: [&str; 2] = ["ACL SETUSER rotator >pw-of-the-admin-2f71", "ACL SAVE"];

/// Signs in and says commands; how the server answers the login and them.
fn said(server: &RedisServer, [user, password]: [&str; 2], commands: &[&str]) -> Result<String> {
    let mut text = String::new();
    let login = ["AUTH", user, password].map(str::to_owned).to_vec();
    let split = |line: &&str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let commands: Vec<Vec<String>> = commands.iter().map(split).collect();
    let all = [login].into_iter().chain(commands);
    for words in all.chain([vec!["QUIT".to_owned()]]) {
        text.push_str(&format!("*{}\r\n", words.len()));
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
    }
    let mut stream = UnixStream::connect(server.socket())?;
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// As the one who may do everything.
fn run(server: &RedisServer, commands: &[&str]) -> Result<()> {
    let answer = said(server, [USER, PASSWORD], commands)?;
    let is_well = answer.lines().all(|line| line == "+OK");
    ensure!(is_well, "Redis answers {answer}");
    Ok(())
}

fn admits(server: &RedisServer, password: &str) -> Result<bool> {
    let answer = said(server, ["app", password], &[])?;
    Ok(answer.starts_with("+OK"))
}

/// The admin's password is a secret of ours, for this server alone.
fn give_admin(keywheel: &Keywheel, place: &str) -> Result<()> {
    keywheel.apply(&format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {ADMIN_SECRET} }}\n\
         spec: {{ credentialFor: \"{place}\" }}\n"
    ))?;
    let path = keywheel.scratch().write("admin", ADMIN_PASSWORD)?;
    let stdin = File::open(&path)?;
    fs::remove_file(path)?;
    let words = ["secret", "put", ADMIN_SECRET, "--value-file", "-", "--wait"];
    keywheel.hear(keywheel.client(&words)?.stdin(stdin))?.ok()?;
    Ok(())
}

/// The secret over one account of two passwords, and a file of it on every host.
fn adopt(fleet: &Fleet, server: &RedisServer) -> Result<()> {
    let keywheel = &fleet.keywheel;
    let connection = server.socket_url("rotator");
    let place = connection.replacen("rotator@", "", 1);
    let secret = |more: &str| {
        format!(
            "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {LEAKY} }}\nspec:\n  \
             rotator:\n    type: redis\n    connection: \"{connection}\"\n    account: app\n    \
             adminSecret: {ADMIN_SECRET}\n{more}---\n"
        )
    };
    run(server, &[MADE_BEFORE])?;
    give_admin(keywheel, &place)?;
    keywheel.apply(&secret(""))?;
    let grants = keywheel.cli(&["rotator", "grants", LEAKY])?.ok()?.stdout;
    let grants = grants.lines().filter(|line| !line.starts_with('#'));
    let grants: Vec<&str> = grants.chain(MADE_AFTER).collect();
    run(server, &grants)?;
    let mut all = secret("  generator: {}\n");
    for machine in &fleet.machines {
        let (name, on) = (format!("leaky-{}", machine.name), machine.on(APP));
        let reload = "{ signal: HUP }";
        all += &manifest::file_binding(&name, LEAKY, &on, "db_password", reload);
    }
    keywheel.apply(&all)?;
    fleet.rotate(LEAKY)?;
    wait_current(keywheel, LEAKY, 1)?;
    keywheel.wait_plans()
}

/// A container on each host, both known to have the first version.
fn start(fleet: &Fleet) -> Result<[Container; 2]> {
    let run = |host: usize| fleet.machine(host)?.run(APP, &[], "/bin/app-file");
    let both = [run(NEAR_HOST)?, run(CUT)?];
    wait::until_true("both containers to be known", PATIENCE, || {
        let known = fleet.keywheel.json(&["consumers", "--secret", LEAKY])?;
        let has_first = |one: &&Value| one["version"] == 1;
        Ok(items(&known).into_iter().filter(has_first).count() == both.len())
    })?;
    Ok(both)
}

#[test]
fn a_leak_is_answered_by_a_host_that_was_cut_off_midway_and_a_stolen_host_keeps_nothing_alive()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let server = RedisServer::start();
    let mut scanner = Scanner::make()?;
    let shape = Shape {
        hosts: 2,
        own_engines: true,
        lan: true,
        ..Shape::default()
    };
    let mut fleet = Fleet::set_with(shape, &scanner.options())?;
    scanner.stand_in(fleet.apart()?.lan()?.services());
    adopt(&fleet, &server)?;
    scanner.declare(&fleet.keywheel, &[LEAKED, COMPROMISED])?;
    let [near, far] = start(&fleet)?;
    let first = value(&near)?;
    ensure!(value(&far)? == first && admits(&server, &first)?);
    let second = cut_off_midway(&mut fleet, &server, &scanner, [&near, &far])?;
    ensure!(!admits(&server, &first)?, "the first password is let in");
    ensure!(admits(&server, &second)?, "the second one is refused");
    let third = stolen(&fleet, &server, [&near, &far])?;
    let values = [first, second, third, ADMIN_PASSWORD.to_owned()];
    fleet.finish(&values, &[&near, &far])
}

/// One host has given its container the new value when the other one, which has heard nothing yet, is cut off. The old
/// password lives as long as that one has it, the run says so, and it dies once the host is back. Gives the new one.
fn cut_off_midway(
    fleet: &mut Fleet,
    server: &RedisServer,
    scanner: &Scanner,
    [near, far]: [&Container; 2],
) -> Result<String> {
    let first = value(near)?;
    fleet.process(Role::Injector, CUT)?.pause()?;
    scanner.tell(&fleet.keywheel, LEAK, LEAKY)?;
    wait::until_true("the new value on the other host", PATIENCE, || {
        Ok(value(near)? != first)
    })?;
    fleet.apart()?.lan()?.cut(CUT, Drops::All)?;
    fleet.process(Role::Injector, CUT)?.resume()?;
    wait::until_true("the one container to be waited for", PATIENCE, || {
        let open = fleet.keywheel.json(&["rotation", "describe", LEAKY])?;
        let waits = open["waiting_for"].to_string();
        Ok(waits.contains(far.name()) && !waits.contains(near.name()))
    })?;
    let run = incident::run_of(&fleet.keywheel, ANSWER, LEAKY)?;
    let run = run.context("no run")?;
    ensure!(
        run["state"] == "running" && incident::step(&run, "converge")?["state"] == "running",
        "{run}"
    );
    ensure!(
        value(far)? == first,
        "a host that hears nothing has the new value"
    );
    ensure!(admits(server, &first)?, "what a container has is refused");
    fleet.apart()?.lan()?.heal(CUT)?;
    let run = incident::ended(&fleet.keywheel, ANSWER, LEAKY)?;
    incident::check_run(&run, 1)?;
    let second = value(near)?;
    ensure!(
        value(far)? == second,
        "the host that is back has another value"
    );
    Course::of(&fleet.keywheel, LEAKY, (1, 2))?;
    let served = served_after_restart(far)?;
    ensure!(
        served.as_ref() == Some(&second),
        "another one after a restart"
    );
    Ok(second)
}

/// The same host is stolen: what it held is replaced and dead, and it gets nothing more. Gives the last value.
fn stolen(fleet: &Fleet, server: &RedisServer, [near, far]: [&Container; 2]) -> Result<String> {
    let second = value(near)?;
    let machine = fleet.machine(CUT)?;
    let host = fleet.host(&machine.name)?;
    let id = host["id"].as_str().context("no id")?;
    let told = format!("host={}", machine.name);
    let words = ["playbook", "run", "compromised-host", "--set", &told];
    let sure = ["--reason", "stolen", "--yes", "--wait"];
    let run = fleet.keywheel.json(&[&words[..], &sure].concat())?;
    incident::check_run(&run, 1)?;
    let third = value(near)?;
    ensure!(third != second, "what a stolen host held is not replaced");
    ensure!(!admits(server, &second)?, "what it held is let in");
    ensure!(admits(server, &third)?, "the new password is refused");
    ensure!(
        far.read(FILE)?.as_ref() != Some(&third),
        "it got the new one"
    );
    if let Ok(started) = machine.run(APP, &[], "/bin/app-file") {
        ensure!(
            started.read(FILE)?.as_ref() != Some(&third),
            "it was served"
        );
    }
    let told = incident::report(&fleet.keywheel, "host", id)?;
    ensure!(
        told["state"] == "evicted; nothing that it may hold is alive",
        "{told}"
    );
    incident::reached(&told, "all that it may hold is dead")?;
    Ok(third)
}
