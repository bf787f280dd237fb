//! Kills within the rotation of accounts at real servers, at every failpoint of their rotators: in the end
//! one new credential is good and nobody else's, and what a container holds is good at every moment.
//!
//! One deployment and one container with a login to each of three servers. In a round one rotation at each
//! of them stands still at another failpoint; then the process is killed, and started again.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::database::{self, Database, Login};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::stage::{PATIENCE, Stage, current};
use keywheel_tests::wait;
use serde_json::Value;

use crate::order;
use crate::revokes::is_revoking;
use crate::rotations::wait_closed;
use crate::servers;
use crate::walk::{ROTATORS, count_no_more, is_elsewhere, registered};

const APP: &str = "accounts";
/// Longer than anything here: who is delayed stands still until the kill.
const STILL: &str = "delay:60000";

/// What a round asks of each server, and where each stands still then; nothing where none is left.
struct Round<'a> {
    is_revocation: bool,
    points: Vec<Option<&'a str>>,
}

impl Round<'_> {
    /// A start that stands still at the first hit of each, once they count.
    fn armed(&self, keywheel: &Keywheel) -> Options {
        let points = self.points.iter().flatten();
        let mut failpoints: Vec<String> = points.map(|name| format!("{name}={STILL}")).collect();
        failpoints.push(format!("when={}", gate(keywheel).display()));
        Options {
            failpoints: Some(failpoints.join(";")),
            ..Options::default()
        }
    }
}

/// The rounds: every failpoint of each server once, those of sessions' ends in a revocation.
fn rounds<'a>(names: &'a [String], servers: &[Database]) -> Vec<Round<'a>> {
    let mut rounds = Vec::new();
    for is_revocation in [false, true] {
        let of = |server: &Database| {
            let prefix = format!("{ROTATORS}{}.", server.kind);
            let own = names.iter().filter(move |name| name.starts_with(&prefix));
            let own = own.filter(|name| name.ends_with("_end") == is_revocation);
            own.map(String::as_str).collect::<Vec<_>>()
        };
        let points: Vec<Vec<&str>> = servers.iter().map(of).collect();
        let most = points.iter().map(Vec::len).max().unwrap_or_default();
        rounds.extend((0..most).map(|at| Round {
            is_revocation,
            points: points.iter().map(|own| own.get(at).copied()).collect(),
        }));
    }
    rounds
}

fn gate(keywheel: &Keywheel) -> PathBuf {
    keywheel.scratch().join("accounts-count")
}

/// Whether the process said that this failpoint fired; another's name may begin like it.
fn has_fired(log: &str, name: &str) -> bool {
    let mut lines = log.lines().filter(|line| line.contains("failpoint fired"));
    lines.any(|line| {
        let mut ends = line.match_indices(name).map(|(at, _)| at + name.len());
        ends.any(|end| {
            let next = line.get(end..).and_then(|rest| rest.chars().next());
            !next.is_some_and(|next| next == '_' || next.is_ascii_alphanumeric())
        })
    })
}

/// One container with a login to each server. Fields drop in order: the container first.
struct Scene {
    container: Container,
    stage: Stage,
    servers: Vec<Database>,
    /// Every password that there was.
    passwords: Vec<String>,
}

impl Scene {
    fn set() -> Result<Self> {
        let servers = vec![
            Database::postgres(),
            Database::mariadb_alternating(),
            Database::redis(),
        ];
        let stage = Stage::set()?;
        for server in &servers {
            servers::adopt(server, &stage, APP)?;
        }
        let container = stage.run(APP, &[], "/bin/app-idle")?;
        Ok(Self {
            container,
            stage,
            servers,
            passwords: vec![database::admin_password()],
        })
    }

    /// What the container holds of a server, as soon as it holds something.
    fn held(&self, server: &Database) -> Result<Login> {
        let what = format!("a login to {}", server.kind);
        wait::until(&what, PATIENCE, || {
            servers::held_by(server, &self.container)
        })
    }

    /// Everybody stands still where the round says, and then the process is killed; the start after it is
    /// armed for the next round.
    fn kill(&mut self, round: &Round<'_>, next: &Options) -> Result<()> {
        let keywheel = &mut self.stage.keywheel;
        fs::write(gate(keywheel), "")?;
        for (server, point) in self.servers.iter().zip(&round.points) {
            if point.is_some() && round.is_revocation {
                let words = ["revoke", server.secret, "--reason", "crash test", "--yes"];
                keywheel.cli(&words)?.ok()?;
            } else if point.is_some() {
                keywheel.cli(&["rotate", server.secret])?.ok()?;
            }
        }
        for point in round.points.iter().flatten() {
            wait::until_true(&format!("{point} to be reached"), PATIENCE, || {
                Ok(has_fired(&keywheel.log(), point))
            })?;
        }
        keywheel.kill9()?;
        count_no_more(&gate(keywheel))?;
        if !round.is_revocation {
            // Nobody is there who could mend it: what a container holds is good.
            for server in &self.servers {
                let login = servers::held_by(server, &self.container)?.context("no login")?;
                ensure!(server.admits(&login)?, "{}: refused early", server.kind);
            }
        }
        self.stage.keywheel.up(next)
    }

    /// One new credential is good, and nobody else's.
    fn check_rotated(&self, server: &Database, before: &Login) -> Result<Login> {
        let after = self.held(server)?;
        ensure!(after.password != before.password, "the old login is in use");
        ensure!(server.admits(&after)?, "the new login is refused");
        ensure!(!server.admits(before)?, "the old login is let in");
        let accepted = server.accepted()?;
        ensure!(accepted == [after.user.as_str()], "let in: {accepted:?}");
        wait::until_true("no session and no lock", PATIENCE, || server.is_quiet())?;
        Ok(after)
    }

    /// Nobody is let in; the next rotation gives the container a login again.
    fn check_revoked(&self, server: &Database, before: &Login) -> Result<()> {
        ensure!(!server.admits(before)?, "the revoked login is let in");
        let accepted = server.accepted()?;
        ensure!(accepted.is_empty(), "let in: {accepted:?}");
        let words = ["describe", "revocation", server.secret];
        let told = self.stage.keywheel.json(&words)?;
        let proof = told.pointer("/states/proof").and_then(Value::as_str);
        ensure!(proof == Some("proven_dead"), "{told}");
        wait::until_true("no session and no lock", PATIENCE, || server.is_quiet())?;
        self.stage.rotate(server.secret)?;
        let after = self.held(server)?;
        ensure!(server.admits(&after)?, "the new login is refused");
        Ok(())
    }

    /// One round; how many rotations were killed in it.
    fn live_through(&mut self, round: &Round<'_>, next: &Options) -> Result<usize> {
        let mut before = Vec::new();
        for (server, point) in self.servers.iter().zip(&round.points) {
            let login = self.held(server)?;
            let makes = ["_make", "_grant", "_default_role"];
            if point.is_some_and(|point| makes.iter().any(|end| point.ends_with(end))) {
                server.drop_standby(&login.user)?;
            }
            let version = current(&self.stage.keywheel, server.secret)?;
            self.passwords.push(login.password.clone());
            before.push((login, version));
        }
        self.kill(round, next)?;
        let keywheel = &self.stage.keywheel;
        wait_closed(keywheel)?;
        wait::until_true("no open revocation", PATIENCE, || {
            Ok(!is_revoking(keywheel)?)
        })?;
        let mut killed = 0;
        let each = self.servers.iter().zip(&round.points).zip(&before);
        for ((server, point), (login, version)) in each {
            let Some(point) = point else {
                continue;
            };
            if round.is_revocation {
                let checked = self.check_revoked(server, login);
                checked.with_context(|| (*point).to_owned())?;
                continue;
            }
            let now = current(keywheel, server.secret)?;
            ensure!(now == version + 1, "{point}: {version} became {now}");
            let after = self.check_rotated(server, login);
            let after = after.with_context(|| (*point).to_owned())?;
            let alternates = after.user != login.user;
            ensure!(alternates == (server.kind != "redis"), "{point}: its user");
            killed += 1;
        }
        Ok(killed)
    }
}

#[test]
fn accounts_survive_a_kill_at_every_failpoint_of_their_rotators() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let names = registered()?;
    let mut scene = Scene::set()?;
    let rounds = rounds(&names, &scene.servers);
    let all: usize = rounds
        .iter()
        .map(|r| r.points.iter().flatten().count())
        .sum();
    let is_rotators = |name: &&String| name.starts_with(ROTATORS) && !is_elsewhere(name);
    let known = names.iter().filter(is_rotators).count();
    ensure!(all > 0 && all == known, "{all} of {known} are tried");
    let keywheel = &mut scene.stage.keywheel;
    let first = rounds.first().context("no round")?.armed(keywheel);
    keywheel.restart(&first)?;
    let mut killed = 0;
    for (at, round) in rounds.iter().enumerate() {
        let next = rounds.get(at + 1);
        let next = next.map_or_else(Options::default, |next| next.armed(&scene.stage.keywheel));
        killed += scene.live_through(round, &next)?;
    }
    for server in &scene.servers {
        let login = scene.held(server)?;
        scene.passwords.push(login.password);
    }
    // Whatever was killed: everybody acknowledged before an old login was refused.
    let checked = order::check(&scene.stage.keywheel)?;
    ensure!(checked >= killed, "{checked} of {killed} rotations");
    scene.stage.finish(&scene.passwords, &[&scene.container])
}
