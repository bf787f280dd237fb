//! How long a login by lease lives: renewed while its container runs, swapped for another one at its maximum
//! lifetime, where it lives on for a third of its time, kept for a while when its container does not run, and ended
//! then.
//!
//! Nothing here measures a span: the database's own log tells what became of a login, and what comes in the end
//! is waited for. A login whose renewal came too late on a busy machine ended by itself; then the next one is
//! looked at.

use anyhow::{Result, ensure};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::docker::{Container, docker};
use keywheel_tests::manifest;
use keywheel_tests::stage::PATIENCE;
use keywheel_tests::wait;

use crate::leases::{DATABASE, Login, dynamic};
use crate::scene::Scene;

/// A lease of the role `short`, and how long it can be renewed: it is renewed once at two thirds of its time,
/// and at two thirds of the next it gets less than that.
pub(crate) const SHORT_SPANS: [&str; 2] = ["15s", "26s"];
/// Further than this the ends of a login lie apart only when it was renewed after most of its time: it is
/// extended twice when it is made.
const APART: &str = "7s";
const SHORT: &str = "test/short";
const LONG: &str = "test/long";

/// A container that runs on, with short leases.
pub(crate) struct Living(Container);

/// One that does not run, with a lease that is far from its end.
pub(crate) struct Stopped {
    container: Container,
    kept: Login,
}

/// Both have a login; one is killed.
pub(crate) fn begin(scene: &Scene, server: &PostgresServer) -> Result<(Living, Stopped)> {
    let stage = &scene.stage;
    let declared = [
        dynamic(SHORT, "database/creds/short"),
        dynamic(LONG, "database/creds/long"),
        manifest::file_binding(
            "short-file",
            SHORT,
            &stage.on("short"),
            "db_password",
            "none",
        ),
        manifest::file_binding("long-file", LONG, &stage.on("long"), "db_password", "none"),
    ];
    stage.keywheel.apply(&declared.concat())?;
    stage.keywheel.wait_plans()?;
    let living = stage.run("short", &[], "/bin/app-file")?;
    let container = stage.run("long", &[], "/bin/app-file")?;
    let kept = Login::of(scene, &container)?;
    ensure!(kept.is_good(server), "{kept:?} is refused");
    docker(&["kill", container.id()])?.ok()?;
    Ok((Living(living), Stopped { container, kept }))
}

impl Living {
    /// One login was renewed before another one took its place, and is refused then. Gives the passwords; the
    /// container is removed.
    pub(crate) fn swapped(self, scene: &Scene, server: &PostgresServer) -> Result<Vec<String>> {
        let mut logins: Vec<Login> = Vec::new();
        let mut is_renewed = false;
        let what = "a login that is renewed, and another one in its place";
        wait::until_true(what, PATIENCE, || {
            let login = Login::of(scene, &self.0)?;
            if logins.last() != Some(&login) {
                is_renewed |= logins
                    .last()
                    .is_some_and(|before| was_renewed(server, before));
                logins.push(login.clone());
            }
            Ok(is_renewed && login.is_good(server))
        })?;
        // No container of ours had another lease before, but by a playbook, and what that replaces is not kept.
        wait::until_true("the one before to be kept for a while", PATIENCE, || {
            let events = scene.stage.keywheel.stream("events")?;
            let mut events = events.iter().map(ToString::to_string);
            Ok(events.any(|event| event.contains("rotation.sessions_untold")))
        })?;
        let before = logins.iter().rev().skip(1);
        for login in before {
            wait::until_true("the one before to be refused", PATIENCE, || {
                Ok(!login.is_good(server))
            })?;
        }
        Ok(logins.into_iter().map(|login| login.password).collect())
    }
}

/// Whether its last end at the database lies far behind its first one.
fn was_renewed(server: &PostgresServer, login: &Login) -> bool {
    let statement = format!("ALTER ROLE \"{}\" VALID UNTIL '", login.user);
    let log = server.log();
    let ends = log.split(&statement).skip(1);
    let ends: Vec<&str> = ends.filter_map(|rest| rest.split('\'').next()).collect();
    let [first, .., last] = ends.as_slice() else {
        return false;
    };
    let apart =
        format!("SELECT '{last}'::timestamptz - '{first}'::timestamptz > interval '{APART}'");
    server.psql(DATABASE, &apart) == "t"
}

impl Stopped {
    /// Its login ended, and it has another one when it runs again. Gives the passwords; the container is removed.
    pub(crate) fn ended(self, scene: &Scene, server: &PostgresServer) -> Result<Vec<String>> {
        wait::until_true("the dead one's login to be refused", PATIENCE, || {
            Ok(!self.kept.is_good(server))
        })?;
        // A start that is refused because its login takes long comes back by itself.
        let _started = docker(&["start", self.container.id()])?;
        let anew = wait::until("another login after it was ended", PATIENCE, || {
            let login = Login::of(scene, &self.container)?;
            Ok((login != self.kept && login.is_good(server)).then_some(login))
        })?;
        Ok(vec![self.kept.password, anew.password])
    }
}
