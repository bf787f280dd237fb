//! How long a login by lease lives: renewed while its container runs, swapped for another one at its maximum
//! lifetime, kept for a while when its container does not run, and ended then.
//!
//! Nothing here measures a span: the database's own log tells each renewal, and what comes in the end is
//! waited for.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::docker::{Container, docker};
use keywheel_tests::manifest;
use keywheel_tests::stage::PATIENCE;
use keywheel_tests::wait;

use crate::leases::{Login, dynamic};
use crate::scene::Scene;

/// A lease of the role `short`, and how long it can be renewed: it is renewed once at two thirds of its time,
/// and at two thirds of the next it gets less than that.
pub(crate) const SHORT_SPANS: [&str; 2] = ["30s", "60s"];
const SHORT: &str = "test/short";

/// Two containers: one that runs on, with short leases, and one that does not, with a lease that is far from
/// its end.
pub(crate) struct Lifetimes {
    living: Container,
    stopped: Container,
    first: Login,
    kept: Login,
}

impl Lifetimes {
    /// Both have a login; one is killed.
    pub(crate) fn begin(scene: &Scene, server: &PostgresServer) -> Result<Self> {
        let stage = &scene.stage;
        let on = stage.on("short");
        let file = manifest::file_binding("short-file", SHORT, &on, "db_password", "none");
        let declared = dynamic(SHORT, "database/creds/short") + &file;
        stage.keywheel.apply(&declared)?;
        stage.keywheel.wait_plans()?;
        let stopped = stage.run("shop", &[], "/bin/app-file")?;
        let living = stage.run("short", &[], "/bin/app-file")?;
        let (first, kept) = (Login::of(scene, &living)?, Login::of(scene, &stopped)?);
        ensure!(first.is_good(server) && kept.is_good(server));
        docker(&["kill", stopped.id()])?.ok()?;
        Ok(Self {
            living,
            stopped,
            first,
            kept,
        })
    }

    /// The one that runs got another login, after the first one was renewed; the login of the other one ended,
    /// and it has another one when it runs again. Gives the passwords; both containers are removed.
    pub(crate) fn end(self, scene: &Scene, server: &PostgresServer) -> Result<Vec<String>> {
        let second = wait::until("another login of the role `short`", PATIENCE, || {
            let login = Login::of(scene, &self.living)?;
            Ok((login != self.first).then_some(login))
        })?;
        ensure!(second.is_good(server), "the login that it has is refused");
        // Once when it was on record, and once when two thirds of its time were over.
        let statement = format!("ALTER ROLE \"{}\" VALID UNTIL '", self.first.user);
        let log = server.log();
        let ends = log.split(&statement).skip(1);
        let ends: BTreeSet<&str> = ends.filter_map(|rest| rest.split('\'').next()).collect();
        ensure!(ends.len() >= 2, "its ends before the swap: {ends:?}");
        for (whose, login) in [
            ("the one before", &self.first),
            ("the dead one", &self.kept),
        ] {
            wait::until_true(&format!("{whose}'s login to be refused"), PATIENCE, || {
                Ok(!login.is_good(server))
            })?;
        }
        // A start that is refused because its login takes long comes back by itself.
        let _started = docker(&["start", self.stopped.id()])?;
        let anew = wait::until("another login after it was ended", PATIENCE, || {
            let login = Login::of(scene, &self.stopped)?;
            Ok((login != self.kept && login.is_good(server)).then_some(login))
        })?;
        let passwords = [self.first, self.kept, second, anew].map(|login| login.password);
        Ok(passwords.to_vec())
    }
}
