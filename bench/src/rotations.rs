//! Rotations a second, from the request to the end, with a container that has to acknowledge each: one after
//! the other by a person's command, and many that are due in the same second. Values of the store `local`, and
//! accounts at a real PostgreSQL where two users take turns.
//!
//! Invariant: a rotation counts when it was completed, which for an account is when its old user is locked.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context as _, Result};
use keywheel_bench::deployment::clock;
use keywheel_bench::due::{self, Shape, Slot};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::docker::Container;
use keywheel_tests::manifest;
use keywheel_tests::stage::Stage;

use crate::Line;

/// Secrets that are due at once, and containers that use them.
const LOCAL: Shape = Shape {
    secrets: 100,
    containers: 10,
    groups: 10,
};
pub(crate) const POSTGRES: Shape = Shape {
    secrets: 20,
    containers: 10,
    groups: 10,
};
/// One after the other: rounds, and rotations in each.
const ROUNDS: usize = 5;
const IN_TURN: usize = 20;
/// Slots in which all are due.
const SLOTS: usize = 3;
/// Applying all takes less.
const LEAD: Duration = Duration::from_secs(10);
/// The account that changes the others, and its password at a server that dies with the benchmark.
const ADMIN: &str = "rotator";
const ADMIN_PASSWORD: &str = "pw-of-the-admin-2f71";
const ADMIN_SECRET: &str = "due/admin";
const DATABASE: &str = "shop";

/// Both, each alone and many at once.
pub(crate) fn rotations() -> Result<Vec<Line>> {
    let mut lines = local()?;
    lines.extend(postgres()?);
    Ok(lines)
}

fn local() -> Result<Vec<Line>> {
    let stage = Stage::set()?;
    LOCAL.declare(&stage)?;
    let secret = |number: usize, more: &[&str]| manifest::secret(&LOCAL.secret(number), more);
    measure(&stage, &LOCAL, "local", secret)
}

fn postgres() -> Result<Vec<Line>> {
    let server = PostgresServer::start();
    let stage = with_accounts(&server)?;
    let secret = |number: usize, more: &[&str]| account(&server, number, more);
    measure(&stage, &POSTGRES, "postgres", secret)
}

/// A stage whose secrets open accounts of a server, each with its first version.
pub(crate) fn with_accounts(server: &PostgresServer) -> Result<Stage> {
    let _url = server.database(DATABASE);
    let _said = server.psql(DATABASE, &roles(POSTGRES.secrets));
    let stage = Stage::set()?;
    put_admin(&stage, server)?;
    let before = due::completed(&stage.keywheel)?;
    POSTGRES.apply(&stage, |number| account(server, number, &[]))?;
    due::wait_completed(&stage.keywheel, before + POSTGRES.secrets)?;
    stage.keywheel.wait_plans()?;
    Ok(stage)
}

/// What a superuser gives the admin, for each of these accounts: as `rotator grants` prints it.
fn roles(accounts: usize) -> String {
    let mut text = format!("CREATE ROLE {ADMIN} LOGIN CREATEROLE PASSWORD '{ADMIN_PASSWORD}';\n");
    for number in 0..accounts {
        let (account, owner) = (format!("app{number}"), format!("app{number}_owner"));
        text += &format!(
            "CREATE ROLE {account} LOGIN;\nCREATE ROLE {owner} NOLOGIN;\nGRANT {owner} TO {account};\n\
             ALTER ROLE {account} SET role TO {owner};\nGRANT {owner} TO {ADMIN} WITH ADMIN OPTION;\n\
             GRANT {account} TO {ADMIN} WITH ADMIN OPTION;\n"
        );
    }
    text
}

fn account(server: &PostgresServer, number: usize, more: &[&str]) -> String {
    let (name, place) = (POSTGRES.secret(number), server.place());
    let address = place.trim_start_matches("postgres://");
    let mut text = format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n  generator: {{ length: 32 }}\n  \
         rotator:\n    type: postgres\n    connection: \"postgres://{ADMIN}@{address}/{DATABASE}\"\n    \
         account: [app{number}, app{number}_b]\n    adminSecret: {ADMIN_SECRET}\n"
    );
    for line in more {
        text += &format!("  {line}\n");
    }
    text + "---\n"
}

fn put_admin(stage: &Stage, server: &PostgresServer) -> Result<()> {
    let keywheel = &stage.keywheel;
    keywheel.apply(&format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {ADMIN_SECRET} }}\n\
         spec: {{ credentialFor: \"{}\" }}\n",
        server.place()
    ))?;
    let path = keywheel.scratch().write("admin", ADMIN_PASSWORD)?;
    let stdin = File::open(&path)?;
    fs::remove_file(path)?;
    let words = ["secret", "put", ADMIN_SECRET, "--value-file", "-", "--wait"];
    keywheel.hear(keywheel.client(&words)?.stdin(stdin))?.ok()?;
    Ok(())
}

/// One after the other, then in slots.
fn measure(
    stage: &Stage,
    shape: &Shape,
    kind: &str,
    secret: impl Fn(usize, &[&str]) -> String,
) -> Result<Vec<Line>> {
    let containers = (0..shape.containers)
        .map(|number| stage.run(&shape.group(number), &[], "/bin/app-idle"))
        .collect::<Result<Vec<Container>>>()?;
    let mut alone = Samples::new();
    for _ in 0..ROUNDS {
        let begun = now();
        for _ in 0..IN_TURN {
            stage.rotate(&shape.secret(0))?;
        }
        alone.add(IN_TURN as f64 / begun.elapsed().as_secs_f64());
    }
    let mut together = Samples::new();
    for _ in 0..SLOTS {
        due::wait_rest(&stage.keywheel)?;
        together.add(in_a_slot(stage, shape, &secret)?);
    }
    drop(containers);
    let line = |key: String, what: String, samples| Line {
        key,
        what,
        samples,
        budget: "-",
    };
    let many = shape.secrets;
    Ok(vec![
        line(
            format!("rotations_{kind}_1"),
            format!("{kind}: rotations a second, one after the other"),
            alone,
        ),
        line(
            format!("rotations_{kind}_{many}"),
            format!("{kind}: rotations a second, {many} due at once"),
            together,
        ),
    ])
}

/// Rotations a second when all are due.
fn in_a_slot(
    stage: &Stage,
    shape: &Shape,
    secret: &impl Fn(usize, &[&str]) -> String,
) -> Result<f64> {
    let keywheel = &stage.keywheel;
    let (completed, head) = (due::completed(keywheel)?, due::head(keywheel)?);
    let slot = Slot::after(clock().now(), LEAD);
    let line = due::rotation(&slot);
    shape.apply(stage, |number| secret(number, &[line.as_str()]))?;
    due::wait_completed(keywheel, completed + shape.secrets)?;
    due::wait_rest(keywheel)?;
    let (_, ended) = due::ends(keywheel, &head, &slot, shape.secrets)?;
    let last = ended.into_iter().reduce(f64::max).context("none ended")?;
    Ok(shape.secrets as f64 / (last / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_has_an_owner_role_and_the_admin_may_give_both() {
        let text = roles(2);
        for line in [
            "CREATE ROLE app1_owner NOLOGIN;",
            "GRANT app1_owner TO rotator WITH ADMIN OPTION;",
            "GRANT app1 TO rotator WITH ADMIN OPTION;",
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1);
        }
    }
}
