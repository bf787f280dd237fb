//! A leak that a scanner tells: the playbook as it is shipped replaces the password in every container under load, and
//! a login with the old one is refused. Nobody does anything, and no query fails. And the same while the server is
//! away: what can be done is done, and the rest when it is back.

use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context as _, Result, anyhow, ensure};
use keywheel_tests::incident::{self, Course, LEAK, LEAKED, Scanner};
use keywheel_tests::stage::{PATIENCE, Stage, items};
use keywheel_tests::{docker, manifest, wait};
use serde_json::{Value, json};

use crate::app::App;
use crate::database::{self, Database, Login};
use crate::order;

/// The shipped playbook, and one of this test that replaces nothing.
const ANSWER: &str = "leaked-credential";
const AT_ONCE: &str = "dies-at-once";
/// The type of the signal that begins the latter.
const GONE: &str = "gone";
const APP: &str = "leak";
const CONTAINERS: usize = 100;
/// Each of their pools has one connection, and another one while it moves to the other account.
const SESSIONS: u32 = 300;
/// One connection that rests for a quarter of a second: all together they ask four hundred times a second.
const LIGHT: &str = "1:250";
const FEW: usize = 3;
/// Connections of each of the few.
const SIZE: u64 = 2;
/// How many start, or are removed, at a time.
const LINES: usize = 8;
/// How many are searched for values, of those that have all been told the same.
const SEARCHED: usize = 3;
/// Where a login is in a container.
const FILE: &str = "login";
/// How often a step fails before its server comes back.
const FAILURES: usize = 2;

fn at_once() -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Playbook\nmetadata: {{ name: {AT_ONCE} }}\nspec:\n  parameters:\n    \
         - {{ name: secret }}\n  steps:\n    \
         - {{ name: revoke, revoke: {{ secrets: [\"${{secret}}\"], versions: alive }} }}\n    \
         - {{ name: withdrawn, wait: {{ until: withdrawn }} }}\n    - {{ name: dead, wait: {{}} }}\n    \
         - {{ name: prove, prove: {{}} }}\n  triggers:\n    - event: dev.keywheel.signal.received.v1\n      \
         when: 'event.data.via == \"scanner\" && event.data.type == \"{GONE}\"'\n      \
         with: {{ secret: \"${{event.data.fields.secret}}\" }}\n"
    )
}

fn binding(stage: &Stage, database: &Database) -> String {
    let (on, template) = (stage.on(APP), database.template());
    let reload = "{ signal: HUP }";
    manifest::told_template_binding(FILE, database.secret, &on, FILE, &template, reload)
}

fn login(app: &App) -> Result<Login> {
    Login::of(&app.file(&format!("/run/secrets/{FILE}"))?)
}

/// A deployment that hears a scanner, and a database whose password it has.
struct Scene {
    stage: Stage,
    database: Database,
    scanner: Scanner,
}

impl Scene {
    fn set(database: Database) -> Result<Self> {
        let scanner = Scanner::make()?;
        let stage = Stage::set_with(&scanner.options())?;
        database.adopt(&stage, &binding(&stage, &database))?;
        scanner.declare(&stage.keywheel, &[LEAKED, &at_once()])?;
        Ok(Self {
            stage,
            database,
            scanner,
        })
    }

    /// Starts so many applications, several at a time; each is signed in, and known to have the first version.
    fn start(&self, count: usize, load: &str) -> Result<Vec<App>> {
        let word = self.database.word(&format!("file:/run/secrets/{FILE}"));
        let label = format!("app={APP}");
        let one = |number: usize| {
            let name = format!("{APP}-{number}");
            let flags = ["--label", &label];
            App::run_with(&self.stage, &name, &flags, (load, &["-", &word]))
        };
        let one = &one;
        let begun: Result<Vec<Vec<App>>> = thread::scope(|scope| {
            let line = |first: usize| {
                scope.spawn(move || {
                    (first..count)
                        .step_by(LINES)
                        .map(one)
                        .collect::<Result<Vec<App>>>()
                })
            };
            let lines: Vec<_> = (0..LINES).map(line).collect();
            let end = |line: ScopedJoinHandle<'_, Result<Vec<App>>>| {
                line.join().map_err(|_| anyhow!("a start panicked"))?
            };
            lines.into_iter().map(end).collect()
        });
        let apps: Vec<App> = begun?.into_iter().flatten().collect();
        for app in &apps {
            app.wait_generation(self.database.kind, 1)?;
        }
        wait::until_true("every container to be known", PATIENCE, || {
            let words = ["consumers", "--secret", self.database.secret];
            let known = self.stage.keywheel.json(&words)?;
            let has_first = |one: &&Value| one["version"] == 1;
            Ok(items(&known).into_iter().filter(has_first).count() == count)
        })?;
        Ok(apps)
    }

    /// The password that everybody had is replaced and dead, and the run says so. Gives all passwords.
    fn replaced(&self, apps: &[App], before: &Login, run: &Value) -> Result<Vec<String>> {
        ensure!(run["by"] == "scheduler", "{run}");
        incident::check_run(run, 1)?;
        for app in apps {
            app.wait_generation(self.database.kind, 2)?;
        }
        let after = login(apps.first().context("no container")?)?;
        let database = &self.database;
        ensure!(database.admits(&after)?, "the new login is refused");
        ensure!(!database.admits(before)?, "the old login is let in");
        let passwords = [before.password.clone(), after.password];
        let admin = database::admin_password();
        Ok(passwords.into_iter().chain([admin]).collect())
    }

    /// A scanner tells of a leak, and nobody does anything. Gives all passwords, and when what was reached.
    fn leak(&self, apps: &[App]) -> Result<(Vec<String>, Course)> {
        let (keywheel, secret) = (&self.stage.keywheel, self.database.secret);
        let before = login(apps.first().context("no container")?)?;
        ensure!(self.database.admits(&before)?, "the first login is refused");
        self.scanner.tell(keywheel, LEAK, secret)?;
        let run = incident::ended(keywheel, ANSWER, secret)?;
        let passwords = self.replaced(apps, &before, &run)?;
        let course = Course::of(keywheel, secret, (1, apps.len()))?;
        Ok((passwords, course))
    }

    /// None of its queries or logins failed; so many of its sessions were ended at most.
    fn check_counts(&self, app: &App, cut: u64) -> Result<()> {
        let stats = app.stats_of(self.database.kind)?;
        ensure!(stats["failed"] == 0 && stats["locked_out"] == 0, "{stats}");
        let count = |what: &str| stats[what].as_u64();
        ensure!(count("queries") > Some(0), "{stats}");
        ensure!(count("cut").is_some_and(|many| many <= cut), "{stats}");
        Ok(())
    }

    fn finish(self, passwords: &[String], apps: Vec<App>) -> Result<()> {
        let searched = apps.iter().take(SEARCHED);
        let searched: Vec<_> = searched.map(|app| &app.container).collect();
        self.stage.finish(passwords, &searched)?;
        remove(apps);
        Ok(())
    }
}

/// Removes them, several at a time.
fn remove(mut apps: Vec<App>) {
    let each = apps.len().div_ceil(LINES);
    thread::scope(|scope| {
        while !apps.is_empty() {
            let part = apps.split_off(apps.len().saturating_sub(each));
            scope.spawn(move || drop(part));
        }
    });
}

#[expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]
#[test]
fn a_leak_that_a_scanner_tells_is_replaced_in_a_hundred_containers_and_proven_dead_and_no_query_fails()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let scene = Scene::set(Database::postgres_for(SESSIONS))?;
    let apps = scene.start(CONTAINERS, LIGHT)?;
    let (passwords, course) = scene.leak(&apps)?;
    eprintln!("{course:?}");
    for app in &apps {
        // Every session of the old account was given up before that was locked.
        scene.check_counts(app, 0)?;
    }
    scene.finish(&passwords, apps)
}

#[test]
fn a_leaked_password_of_redis_is_replaced_and_proven_dead_and_no_query_fails() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let scene = Scene::set(Database::redis())?;
    let apps = scene.start(FEW, &SIZE.to_string())?;
    let (passwords, _) = scene.leak(&apps)?;
    for app in &apps {
        // Which sessions of the one account were opened with the old password, nobody can tell: all are ended.
        scene.check_counts(app, SIZE)?;
    }
    scene.finish(&passwords, apps)
}

#[test]
fn a_leak_while_the_server_is_away_is_answered_when_it_is_back_and_files_are_gone_before_that()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut scene = Scene::set(Database::postgres())?;
    let apps = scene.start(FEW, &SIZE.to_string())?;
    let secret = scene.database.secret;
    let before = login(apps.first().context("no container")?)?;
    scene.database.kill();
    scene.scanner.tell(&scene.stage.keywheel, LEAK, secret)?;
    wait::until_true("steps to fail again and again", PATIENCE, || {
        let failed = order::count(&scene.stage.keywheel, "rotation.step_failed")?;
        Ok(failed >= FAILURES)
    })?;
    let run = incident::run_of(&scene.stage.keywheel, ANSWER, secret)?;
    let run = run.context("no run")?;
    ensure!(
        run["state"] == "running" && incident::step(&run, "converge")?["state"] == "running",
        "{run}"
    );
    scene.database.restart();
    let run = incident::ended(&scene.stage.keywheel, ANSWER, secret)?;
    let passwords = scene.replaced(&apps, &before, &run)?;
    Course::of(&scene.stage.keywheel, secret, (1, FEW))?;

    let held = login(apps.first().context("no container")?)?;
    scene.database.kill();
    scene.scanner.tell(&scene.stage.keywheel, GONE, secret)?;
    gone_and_not_dead(&scene, &apps)?;
    scene.database.restart();
    let run = incident::ended(&scene.stage.keywheel, AT_ONCE, secret)?;
    incident::check_run(&run, 1)?;
    ensure!(!scene.database.admits(&held)?, "it is let in");
    let told = incident::report(&scene.stage.keywheel, "revocation", secret)?;
    let gone = incident::reached(&told, "gone from every host that might hold it")?;
    let dead = incident::reached(&told, "the store confirmed")?;
    let proven = incident::reached(&told, "proven dead by a login")?;
    ensure!(
        gone < dead && dead <= proven,
        "gone {gone}, dead {dead}, proven {proven}"
    );
    scene.finish(&passwords, apps)
}

/// No container has the second version, the server was asked in vain, and the run says where it stands.
fn gone_and_not_dead(scene: &Scene, apps: &[App]) -> Result<()> {
    let (keywheel, secret) = (&scene.stage.keywheel, scene.database.secret);
    let states = wait::until("what is gone and was asked for in vain", PATIENCE, || {
        let known = keywheel.json(&["describe", "revocation", secret])?;
        let states = &known["states"];
        let is_gone = states["withdrawn_everywhere"] == true && states["failure"].is_string();
        let is_it = known["versions"] == json!([2]) && is_gone;
        Ok(is_it.then(|| states.clone()))
    })?;
    ensure!(
        states["dead_at_backend"] == false && states["proof"] == "awaited",
        "{states}"
    );
    for app in apps {
        let has_file = app.file(&format!("/run/secrets/{FILE}")).is_ok();
        ensure!(!has_file, "{} has the file", app.container.name());
    }
    wait::until_true("the run to wait for the server alone", PATIENCE, || {
        let run = incident::run_of(keywheel, AT_ONCE, secret)?.context("no run")?;
        let is =
            |name: &str, state: &str| anyhow::Ok(incident::step(&run, name)?["state"] == state);
        Ok(run["state"] == "running" && is("withdrawn", "completed")? && is("dead", "running")?)
    })
}
