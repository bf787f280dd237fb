//! The engine restarted without live-restore: its containers end with it, and those that it starts again have
//! what the plan says. A service that was being restarted for a new value meanwhile is not restarted once more,
//! and a start that was refused before comes back after. Then with live-restore, where all of them run on, and
//! files change while there is no engine.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_tests::apart::Shape;
use keywheel_tests::audited::times;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::engine::Daemon;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::output::Output;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::{FILE, SECRET, find, wait_current};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

use super::{ALWAYS, PLACEHOLDER, TOKEN, bind, each_change_is_audited_once, values};

/// The secret of a service of three, and that of a container whose binding comes late.
const SERVED: &str = "test/served";
const LATE: &str = "test/late";
/// So many are of the service.
const MEMBERS: usize = 3;
/// Says when it begins and when it was told to end.
pub(crate) const PROGRAM: &str =
    "trap 'echo down; exit 0' TERM; echo up; while :; do sleep 3600 & wait $!; done";

/// When a program ended, and when the next one began, in an order that text has, too.
pub(crate) type Down = (String, String);

/// Every time that a container was down between two of its programs.
pub(crate) fn downs(container: &Container) -> Result<Vec<Down>> {
    let words = ["logs", "-t", container.id()];
    let said = container.engine().docker(&words)?.ok()?.stdout;
    let (mut all, mut ended, mut is_first) = (Vec::new(), None, true);
    for line in said.lines() {
        match line.split_once(' ') {
            Some((at, "down")) => ended = Some(at.to_owned()),
            Some((_, "up")) if is_first => is_first = false,
            Some((at, "up")) => {
                let ended = ended.take().context("it began without an end before")?;
                all.push((ended, at.to_owned()));
            }
            _ => bail!("its log says {line}"),
        }
    }
    Ok(all)
}

/// The time now, as the engine writes it.
fn time() -> Result<String> {
    let said = Output::of(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]))?;
    Ok(said.ok()?.stdout.trim().to_owned())
}

/// Three containers of one Compose service with a variable each.
fn serve(fleet: &Fleet) -> Result<Vec<Container>> {
    let machine = fleet.machine(0)?;
    let reload = "{ restart: { settle: 2s } }";
    let on = machine.on("served");
    let text = manifest::secret(SERVED, &[])
        + &manifest::secret(LATE, &[])
        + &manifest::env_binding("served", SERVED, &on, "API_TOKEN", reload);
    fleet.keywheel.apply(&text)?;
    for secret in [SERVED, LATE] {
        wait_current(&fleet.keywheel, secret, 1)?;
    }
    fleet.keywheel.wait_plans()?;
    let placeholder = format!("API_TOKEN={{keywheel:{SERVED}}}");
    let own = [
        "--runtime",
        &machine.runtime,
        "--label",
        "app=served",
        "--label",
        "com.docker.compose.service=served",
        "-e",
        &placeholder,
    ];
    let flags = [&own[..], &ALWAYS].concat();
    let run = |_| Container::run(&machine.image, &flags, &["/bin/sh", "-c", PROGRAM]);
    (0..MEMBERS).map(run).collect()
}

fn downs_of(served: &[Container]) -> Result<Vec<Vec<Down>>> {
    served.iter().map(downs).collect()
}

/// Begins a rotation; the one before may come to its end meanwhile.
fn rotate(fleet: &Fleet, secret: &str) -> Result<()> {
    wait::until_true("the rotation to begin", PATIENCE, || {
        Ok(fleet.keywheel.cli(&["rotate", secret])?.code == 0)
    })
}

/// Waits for the end of a secret's newest rotation.
fn rotated(fleet: &Fleet, secret: &str) -> Result<()> {
    wait::until_true("the rotation's end", PATIENCE, || {
        let said = fleet.keywheel.json(&["rotation", "describe", secret])?;
        Ok(find(&said, "state").and_then(Value::as_str) == Some("completed"))
    })
}

/// Begins a rotation, and returns when the first of the service was restarted for it.
fn begin_rotation(fleet: &Fleet, served: &[Container]) -> Result<()> {
    let before = downs_of(served)?.concat().len();
    rotate(fleet, SERVED)?;
    wait::until_true("a first restart", PATIENCE, || {
        Ok(downs_of(served)?.concat().len() > before)
    })
}

/// The value that all of the service have; an error while they do not.
fn held(served: &[Container]) -> Result<String> {
    let all = served.iter().map(|one| one.variable("API_TOKEN"));
    let mut all: Vec<Option<String>> = all.collect::<Result<_>>()?;
    all.dedup();
    let [Some(value)] = all.as_slice() else {
        bail!("the service has {} values", all.len());
    };
    Ok(value.clone())
}

/// Waits for the rotation's end, after which everybody has another value.
fn followed(fleet: &Fleet, served: &[Container], before: &str) -> Result<String> {
    let value = wait::until("the new value in all of the service", PATIENCE, || {
        let value = held(served)?;
        Ok((value != before).then_some(value))
    })?;
    rotated(fleet, SERVED)?;
    ensure!(held(served)? == value);
    Ok(value)
}

/// No two of these were at once.
pub(crate) fn one_after_the_other(mut ours: Vec<&Down>) -> Result<()> {
    ours.sort();
    for pair in ours.windows(2) {
        let [(_, began), (ended, _)] = pair else {
            continue;
        };
        ensure!(began < ended, "two were down at once: {ours:?}");
    }
    Ok(())
}

/// Everybody was restarted for the new value once at most, beside the engine's own start; `away` is a time at
/// which no engine was.
fn restarted_once_at_most(served: &[Container], away: &str) -> Result<()> {
    let all = downs_of(served)?;
    let mut ours: Vec<&Down> = Vec::new();
    for downs in &all {
        let is_engines = |(ended, began): &&Down| ended.as_str() <= away && away < began.as_str();
        let (engines, own): (Vec<&Down>, Vec<&Down>) = downs.iter().partition(is_engines);
        ensure!(
            engines.len() == 1 && own.len() <= 1,
            "restarted more than once, away at {away}: {all:?}"
        );
        ours.extend(own);
    }
    let done = ours.iter().filter(|(ended, _)| ended.as_str() < away);
    ensure!(
        done.count() < MEMBERS,
        "all were through before the engine ended, which proves nothing: {all:?}"
    );
    one_after_the_other(ours)
}

/// From now on containers outlive their engine.
fn keep_alive(daemon: &mut Daemon) -> Result<()> {
    let file = daemon.config_file();
    let text = fs::read_to_string(&file)?;
    fs::write(file, text.replacen('{', "{\"live-restore\":true,", 1))?;
    let pid = daemon.process().pid().context("it does not run")?;
    Output::of(Command::new("kill").args(["-HUP", &pid.to_string()]))?.ok()?;
    let engine = daemon.engine();
    wait::until_true("live-restore", PATIENCE, || {
        let said = engine.docker(&["info", "-f", "{{.LiveRestoreEnabled}}"])?;
        Ok(said.stdout.trim() == "true")
    })
}

/// A file changes in both processes while there is no engine.
fn file_changes(fleet: &Fleet, pids: [u32; 2]) -> Result<String> {
    let file = || -> Result<[String; 2]> {
        let [one, other] = pids;
        Ok([docker::peek_in(one, FILE)?, docker::peek_in(other, FILE)?])
    };
    let before = file()?;
    rotate(fleet, SECRET)?;
    wait::until("the new file in both", PATIENCE, || {
        let [one, other] = file()?;
        Ok((one == other && !before.contains(&one)).then_some(one))
    })
}

/// How often each of the service got a value at a start, and how often the file of each other one was changed, as
/// the audit has it.
fn uses(fleet: &Fleet, served: &[Container], files: [&Container; 2]) -> Result<Vec<usize>> {
    let keywheel = &fleet.keywheel;
    // A restart of ours is no end: what it brings replaces what was there.
    let at_start = served.iter().map(|one| -> Result<usize> {
        let began = times(keywheel, one.id(), "inject")?;
        Ok(began + times(keywheel, one.id(), "replace")?)
    });
    let files = files.into_iter();
    let at_once = files.map(|one| times(keywheel, one.id(), "replace"));
    at_start.chain(at_once).collect()
}

/// With live-restore everybody runs on while the engine is away. A file changes meanwhile, and who has only that
/// is not restarted; of the service, whoever was not restarted before is after, one at a time, and nobody is once
/// more. Each change is on record once. The new file and the new value of the service.
fn goes_on_with_live_restore(
    fleet: &mut Fleet,
    served: &[Container],
    files: [&Container; 2],
    before: &str,
) -> Result<[String; 2]> {
    keep_alive(fleet.apart()?.daemon(0)?)?;
    let known: Vec<usize> = downs_of(served)?.iter().map(Vec::len).collect();
    let [one, other] = files;
    let pids = [one.pid()?, other.pid()?];
    let counted = uses(fleet, served, files)?;
    begin_rotation(fleet, served)?;
    let (away, file) = restart_engine(fleet, |fleet| file_changes(fleet, pids))?;
    let value = followed(fleet, served, before)?;
    rotated(fleet, SECRET)?;
    ensure!([one.pid()?, other.pid()?] == pids, "one was restarted");
    ensure!(one.peek(FILE)? == file && other.peek(FILE)? == file);
    let all = downs_of(served)?;
    let mut ours: Vec<&Down> = Vec::new();
    for (downs, known) in all.iter().zip(known) {
        let new = downs.get(known..).unwrap_or_default();
        ensure!(new.len() == 1, "restarted more than once: {all:?}");
        ours.extend(new);
    }
    ensure!(
        ours.iter().any(|(ended, _)| *ended > away),
        "all were through before the engine ended, which proves nothing: {all:?}"
    );
    one_after_the_other(ours)?;
    let after = uses(fleet, served, files)?;
    ensure!(
        counted.iter().zip(&after).all(|(old, new)| old + 1 == *new),
        "a change is not on record once: {counted:?}, then {after:?}"
    );
    Ok([file, value])
}

/// Ends the engine, does something, and starts it again; a time at which there was none, and what was done.
fn restart_engine<T>(
    fleet: &mut Fleet,
    meanwhile: impl FnOnce(&Fleet) -> Result<T>,
) -> Result<(String, T)> {
    fleet.apart()?.daemon(0)?.process().stop()?;
    let away = time();
    let done = meanwhile(fleet);
    // Also after a failure: without it nobody takes the containers away that outlive it.
    let daemon = fleet.apart()?.daemon(0)?;
    daemon.process().start()?;
    daemon.wait_ready()?;
    Ok((away?, done?))
}

/// A start that is refused, for no binding grants what it asks for.
fn refused(fleet: &Fleet) -> Result<Container> {
    let machine = fleet.machine(0)?;
    let placeholder = format!("API_TOKEN={{keywheel:{LATE}}}");
    let flags = [
        "--runtime",
        &machine.runtime,
        "--label",
        "app=late",
        "-e",
        &placeholder,
    ];
    let container = Container::create(&machine.image, &flags, &["/bin/app-env"])?;
    let said = container.engine().docker(&["start", container.id()])?;
    ensure!(
        said.code != 0 && said.stderr.contains("no binding grants secret"),
        "{}",
        said.said()
    );
    Ok(container)
}

/// With its binding it comes back, though another engine refused it than the one that runs.
fn comes_back(fleet: &Fleet, late: &Container) -> Result<String> {
    ensure!(late.field("{{.State.Running}}")? == "false");
    let on = fleet.machine(0)?.on("late");
    let reload = "{ restart: { settle: 1s } }";
    let binding = manifest::env_binding("late", LATE, &on, "API_TOKEN", reload);
    fleet.keywheel.apply(&binding)?;
    let value = wait::until("the refused start to come back", PATIENCE, || {
        late.variable("API_TOKEN")
    })?;
    ensure!(!value.contains("keywheel:"), "it started unresolved");
    Ok(value)
}

#[test]
fn after_a_restart_of_the_engine_everybody_has_what_the_plan_says() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = Fleet::set(Shape {
        own_engines: true,
        ..Shape::default()
    })?;
    let machine = fleet.machine(0)?;
    bind(&fleet, machine, "again")?;
    let flags = [&["-e", PLACEHOLDER][..], &ALWAYS].concat();
    let both = machine.run("again", &flags, "/bin/app-env")?;
    let first = values(&both)?;
    // Without the runtime it has the file alone.
    let label = [&["--label", "app=again"][..], &ALWAYS].concat();
    let plain = Container::run(&machine.image, &label, &["/bin/app-idle"])?;
    wait::until_true("the file", PATIENCE, || Ok(plain.peek(FILE)? == first[0]))?;
    let pids = [both.pid()?, plain.pid()?];
    let (served, late) = (serve(&fleet)?, refused(&fleet)?);
    let mut more = vec![held(&served)?];

    begin_rotation(&fleet, &served)?;
    let (away, ()) = restart_engine(&mut fleet, |_| Ok(()))?;
    wait::until_true("both to be there again", PATIENCE, || {
        let now = [both.pid()?, plain.pid()?];
        let is_new = now.iter().zip(&pids).all(|(now, before)| now != before);
        Ok(is_new && values(&both)? == first && plain.peek(FILE)? == first[0])
    })?;
    more.push(followed(&fleet, &served, &more[0])?);
    restarted_once_at_most(&served, &away)?;
    more.push(comes_back(&fleet, &late)?);
    let files = [&both, &plain];
    more.extend(goes_on_with_live_restore(
        &mut fleet, &served, files, &more[1],
    )?);
    for secret in [SECRET, TOKEN] {
        fleet.rotate(secret)?;
    }
    let second = values(&both)?;
    ensure!(first[0] != second[0] && first[1] != second[1]);
    wait::until_true("the new file", PATIENCE, || {
        Ok(plain.peek(FILE)? == second[0])
    })?;
    each_change_is_audited_once(&fleet.keywheel, &[both.id(), plain.id()])
        .context("after the restarts")?;
    let plaintexts = [&first[..], &second[..], &more[..]].concat();
    let containers: Vec<&Container> = [&both, &plain, &late].into_iter().chain(&served).collect();
    fleet.finish(&plaintexts, &containers)
}
