//! Variables: a service of three replicas, each restarted in its turn for every new password, under constant
//! requests, the last time with a canary that runs well; and a canary that breaks on the new password.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::output::Output;
use keywheel_tests::stage::{PATIENCE, Stage};
use keywheel_tests::{docker, manifest, planted, wait};

use crate::app::{App, PROGRAM, SOCKET};
use crate::balancer::Balancer;
use crate::database::{self, Database, Login};
use crate::order;

const APP: &str = "service";
const USER: &str = "app";
const VARIABLE: &str = "CACHE_PASSWORD";
const REPLICAS: usize = 3;
const ROTATIONS: usize = 3;
/// The application does not work with a password that begins so.
const BAD: &str = "bad-";
const RELOAD: &str = "{ restart: { settle: 1s, rollout: { maxParallel: 1, maxUnavailable: 1 } } }";
/// Requests before and after each change, so that it happens under load.
const REQUESTS: u64 = 20;

/// Fields drop in order: containers go before their server.
struct Service {
    replicas: Vec<App>,
    stage: Stage,
    redis: Database,
}

impl Service {
    fn start() -> Result<Self> {
        let redis = Database::redis();
        let stage = Stage::set()?;
        let on = stage.on(APP);
        let binding = manifest::env_binding("service", redis.secret, &on, VARIABLE, RELOAD);
        redis.adopt(&stage, &binding)?;
        let replica = |number: usize| replica(&stage, &redis, number);
        let replicas: Vec<App> = (0..REPLICAS).map(replica).collect::<Result<_>>()?;
        for replica in &replicas {
            wait::until_true("a replica to be healthy", PATIENCE, || {
                let health = replica.container.field("{{.State.Health.Status}}")?;
                Ok(health == "healthy")
            })?;
        }
        Ok(Self {
            replicas,
            stage,
            redis,
        })
    }

    fn sockets(&self) -> Vec<PathBuf> {
        let sockets = self.replicas.iter().map(|one| one.socket().to_owned());
        sockets.collect()
    }

    /// The one password that all replicas were started with.
    fn login(&self) -> Result<Login> {
        let mut found: Option<String> = None;
        for replica in &self.replicas {
            let held = replica.container.variable(VARIABLE)?;
            let held = held.with_context(|| format!("{VARIABLE} is not set"))?;
            let name = replica.container.name();
            ensure!(!held.contains("{keywheel:"), "{name} has the placeholder");
            let is_same = found.as_ref().is_none_or(|one| *one == held);
            ensure!(is_same, "{name} holds another password");
            found = Some(held);
        }
        Ok(Login {
            user: USER.to_owned(),
            password: found.context("no replica")?,
        })
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let replicas = self.replicas.iter();
        replicas.map(|replica| replica.container.pid()).collect()
    }

    /// No two were down at the same time.
    fn check_turns(&self) -> Result<()> {
        let replicas = self.replicas.iter();
        let down = replicas.map(|replica| replica.container.downtime());
        let mut down: Vec<(String, String)> = down.collect::<Result<_>>()?;
        down.sort();
        for pair in down.windows(2) {
            let [(_, began), (ended, _)] = pair else {
                continue;
            };
            ensure!(began < ended, "two were down at once: {down:?}");
        }
        Ok(())
    }

    /// The canary of the last rotation ran with its password, and all others with the one before, until that
    /// was promoted: a process keeps the variable that it was started with.
    fn a_canary_had_it_alone_until_it_passed(&self) -> Result<()> {
        let (canary, instants) = order::check_canary(&self.stage.keywheel)?;
        let [passed, promoted] = instants.map(|text| instant(&text));
        for replica in &self.replicas {
            let (ended, began) = replica.container.downtime()?;
            let is_canary = replica.container.id() == canary;
            let is_good = match is_canary {
                true => began < passed,
                false => ended > promoted,
            };
            ensure!(
                is_good,
                "canary {is_canary}: ended {ended} and began {began}, passed {passed}, promoted {promoted}"
            );
        }
        Ok(())
    }

    /// Puts a value and waits for the rotation's end, whatever it is.
    fn put(&self, value: &str) -> Result<Output> {
        let keywheel = &self.stage.keywheel;
        let path = keywheel.scratch().write("value", value)?;
        let stdin = File::open(&path)?;
        fs::remove_file(path)?;
        let words = ["secret", "put", self.redis.secret];
        let words = [&words[..], &["--value-file", "-", "--wait", "-o", "json"]].concat();
        keywheel.hear(keywheel.client(&words)?.stdin(stdin))
    }

    /// What the clients were told is at the server, and the canary.
    fn finish(self, balancer: Balancer, mut passwords: Vec<String>) -> Result<()> {
        balancer.wait_more(REQUESTS)?;
        let tally = balancer.end()?;
        for replica in &self.replicas {
            let counts = || replica.stats_of(self.redis.kind).map(Some);
            let stats = wait::until("a replica's counts", PATIENCE, counts)?;
            ensure!(stats["cut"] == 0, "a session was ended: {stats}");
        }
        let written = self.redis.written()?;
        ensure!(written >= tally.done, "{written} were written: {tally:?}");
        passwords.push(database::admin_password());
        let containers: Vec<_> = self.replicas.iter().map(|one| &one.container).collect();
        self.stage.finish(&passwords, &containers)
    }
}

/// An instant of an event, as [`docker::Container::downtime`] has it.
fn instant(text: &str) -> String {
    let text = text.trim_end_matches('Z');
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{seconds}.{fraction:0<9}")
}

fn replica(stage: &Stage, redis: &Database, number: usize) -> Result<App> {
    let placeholder = format!("{VARIABLE}={{keywheel:{}}}", redis.secret);
    let label = format!("app={APP}");
    let check = format!("{PROGRAM} health {SOCKET}");
    let flags = [
        "--label",
        &label,
        "--label",
        "com.docker.compose.service=shop",
        "-e",
        &placeholder,
        "--health-cmd",
        &check,
        "--health-interval",
        "300ms",
        "--health-retries",
        "3",
    ];
    let word = redis.word(&format!("env:{USER}:{VARIABLE}"));
    App::run(stage, &format!("replica-{number}"), &flags, &[BAD, &word])
}

#[test]
fn three_replicas_restart_in_turn_and_no_request_fails() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let service = Service::start()?;
    let balancer = Balancer::begin(&service.sockets());
    let mut before = service.login()?;
    let mut passwords = vec![before.password.clone()];
    for turn in 1..=ROTATIONS {
        if turn == ROTATIONS {
            service.redis.have_canary(&service.stage.keywheel)?;
        }
        balancer.wait_more(REQUESTS)?;
        let old = service.pids()?;
        let said = service.stage.rotate(service.redis.secret)?;
        ensure!(said["state"] == "completed", "turn {turn}: {said}");
        let after = service.login()?;
        ensure!(
            after.password != before.password,
            "turn {turn}: the password is the same"
        );
        let new = service.pids()?;
        ensure!(
            old.iter().zip(&new).all(|(old, new)| old != new),
            "turn {turn}: one was not restarted"
        );
        service.check_turns()?;
        ensure!(
            service.redis.admits(&after)?,
            "turn {turn}: the new password is refused"
        );
        ensure!(
            !service.redis.admits(&before)?,
            "turn {turn}: the old password is still let in"
        );
        passwords.push(after.password.clone());
        before = after;
    }
    service.a_canary_had_it_alone_until_it_passed()?;
    let keywheel = &service.stage.keywheel;
    let checked = order::check(keywheel)?;
    ensure!(checked == ROTATIONS, "{checked} of {ROTATIONS} rotations");
    let leaves = order::count(keywheel, "rollout.leave_given")?;
    ensure!(leaves == REPLICAS * ROTATIONS, "{leaves} leaves");
    service.finish(balancer, passwords)
}

#[test]
fn a_canary_that_breaks_on_the_new_password_keeps_it_from_all_others_and_no_request_fails()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let service = Service::start()?;
    service.redis.have_canary(&service.stage.keywheel)?;
    let promoted = order::count(&service.stage.keywheel, "secret.version_promoted")?;
    let balancer = Balancer::begin(&service.sockets());
    balancer.wait_more(REQUESTS)?;
    let good = service.login()?;
    let old = service.pids()?;
    let bad = Login {
        user: USER.to_owned(),
        password: format!("{BAD}{}", planted::value(&service.stage.keywheel)),
    };
    let said = service.put(&bad.password)?;
    ensure!(said.code != 0, "{}", said.stdout);
    let state = said.json()?["state"].clone();
    ensure!(state == "rolled_back", "{}", said.stdout);

    // It ended at the canary, which has the password before again.
    ensure!(
        service.login()?.password == good.password,
        "another password came back"
    );
    let new = service.pids()?;
    let restarted = old.iter().zip(&new).filter(|(old, new)| old != new);
    ensure!(
        restarted.count() == 1,
        "more than the canary were restarted: {old:?}, {new:?}"
    );
    ensure!(
        service.redis.admits(&good)?,
        "the password before is refused"
    );
    ensure!(
        !service.redis.admits(&bad)?,
        "the password that broke it is still let in"
    );
    let keywheel = &service.stage.keywheel;
    for (kind, wanted) in [
        ("rotation.canary_started", 1),
        ("rotation.canary_passed", 0),
        ("secret.version_promoted", promoted),
        ("rotation.halted", 1),
        ("rotation.turned_back", 1),
        // One forth, and one back.
        ("rollout.leave_given", 2),
    ] {
        let count = order::count(keywheel, kind)?;
        ensure!(count == wanted, "{count} events {kind}");
    }
    service.finish(balancer, vec![good.password, bad.password])
}
