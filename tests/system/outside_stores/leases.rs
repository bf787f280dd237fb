//! Logins by lease: a real OpenBao makes one at a real PostgreSQL for each container.

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_testkit::server::postgres::{PASSWORD, PostgresServer, USER};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::incident::Scanner;
use keywheel_tests::stage::{PATIENCE, SECRET, items};
use keywheel_tests::{manifest, wait};
use serde_json::{Value, json};

use crate::crash;
use crate::leak;
use crate::lifetimes::{self, SHORT_SPANS};
use crate::role;
use crate::scene::{STORE, Scene};

pub(crate) const DATABASE: &str = "shop";
const ROLE: &str = "database/creds/app";

/// What a container has to sign in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Login {
    pub(crate) fn of(scene: &Scene, container: &Container) -> Result<Self> {
        Self::read(&scene.stage.value_soon_in(container)?)
    }

    /// Out of the object that it is.
    pub(crate) fn read(value: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(value)?;
        let field = |name: &str| value[name].as_str().map(str::to_owned);
        Ok(Self {
            user: field("username").context("no username")?,
            password: field("password").context("no password")?,
        })
    }

    pub(crate) fn is_good(&self, server: &PostgresServer) -> bool {
        server.signs_in(DATABASE, &self.user, &self.password)
    }
}

/// Users that OpenBao made at the role [`ROLE`].
fn made(server: &PostgresServer) -> String {
    server.psql(
        DATABASE,
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%-app-%'",
    )
}

/// A login of a role for each container.
pub(crate) fn dynamic(name: &str, role: &str) -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n  \
         rotator: {{ type: dynamic, store: {STORE}, role: {role}, linger: 30s }}\n---\n"
    )
}

/// The same, each of which is tried at the server that it is for.
fn probed(name: &str, role: &str, server: &PostgresServer) -> String {
    let place = format!("{}/{DATABASE}", server.place());
    let probe = format!("linger: 30s, probe: {{ type: postgres, connection: \"{place}\" }} }}");
    dynamic(name, role).replace("linger: 30s }", &probe)
}

fn set_up(scene: &Scene, server: &PostgresServer) {
    let place = server.place();
    let host = place.trim_start_matches("postgres://");
    let must = |path: &str, body: &Value| {
        let _answer = scene.bao.must("POST", path, &[], &body.to_string());
    };
    must("sys/mounts/database", &json!({ "type": "database" }));
    let url =
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@{host}/{DATABASE}?sslmode=disable");
    must(
        "database/config/shop",
        &json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*",
            "connection_url": url, "username": USER, "password": PASSWORD,
        }),
    );
    let creation =
        "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
    let long = ["1h", "24h"];
    for (name, [whole, most]) in [("app", long), ("long", long), ("short", SHORT_SPANS)] {
        let role = json!({
            "db_name": "shop", "creation_statements": [creation],
            "default_ttl": whole, "max_ttl": most,
        });
        must(&format!("database/roles/{name}"), &role);
    }
}

/// The store, and a login of [`ROLE`] for each container, which is tried.
fn declare(scene: &Scene, server: &PostgresServer) -> Result<()> {
    let (keywheel, on) = (&scene.stage.keywheel, scene.stage.on("shop"));
    let file = manifest::file_binding("test-file", SECRET, &on, "db_password", "none");
    keywheel.apply(&(scene.store("1s")? + &probed(SECRET, ROLE, server) + &file))?;
    keywheel.wait_plans()
}

/// A database that tells its statements, and a deployment that hears a scanner and whose OpenBao makes logins there.
fn set() -> Result<(PostgresServer, Scanner, Scene)> {
    let server = PostgresServer::logging_statements();
    let _url = server.database(DATABASE);
    let scanner = Scanner::make()?;
    let scene = Scene::set_with(OpenBao::start_kept(), &scanner.options())?;
    set_up(&scene, &server);
    declare(&scene, &server)?;
    Ok((server, scanner, scene))
}

#[test]
fn each_container_has_a_login_of_its_own_that_ends_when_it_is_gone() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let (server, scanner, mut scene) = set()?;
    // Meanwhile one login of another role is renewed and swapped, and another one ends.
    let (living, stopped) = lifetimes::begin(&scene, &server)?;

    // Each start waits for its login, and has it before its first instruction.
    let one = scene.stage.run("shop", &[], "/bin/app-file")?;
    let other = scene.stage.run("shop", &[], "/bin/app-file")?;
    let (first, second) = (Login::of(&scene, &one)?, Login::of(&scene, &other)?);
    ensure!(first.user != second.user, "{first:?} is shared");
    ensure!(first.is_good(&server) && second.is_good(&server));

    // A container that starts again and again mints none.
    for _ in 0..3 {
        one.restart()?.ok()?;
    }
    ensure!(
        Login::of(&scene, &one)? == first,
        "another one after a restart"
    );
    ensure!(made(&server) == "2", "{} were made", made(&server));
    let consumers = scene
        .stage
        .keywheel
        .json(&["consumers", "--secret", SECRET])?;
    ensure!(items(&consumers).len() == 2, "{consumers}");

    // A leak: each has another one before its own is refused.
    let leaked = [first, second];
    let [first, second] = leak::of_leases(&scene, &server, &scanner, ([&one, &other], &leaked))?;
    let leaked = leaked.map(|login| login.password);

    let (fixed, mut passwords) = role::check(&scene, &server, DATABASE)?;
    passwords.extend(leaked);
    // Before the crash, which no other login is to meet.
    passwords.extend(living.swapped(&scene, &server)?);
    let swapped = crash::check(&mut scene, &server, &other, &fixed)?;
    passwords.extend(stopped.ended(&scene, &server)?);

    // OpenBao is away: what is there goes on, and a start is served; back, it ends what is to end.
    scene.bao.kill();
    one.restart()?.ok()?;
    ensure!(Login::of(&scene, &one)? == first && first.is_good(&server));
    scene.bao.start_again();
    scene.bao.unseal();

    // One is removed: its login goes, and nobody else's.
    drop(one);
    wait::until_true("the removed one's login to be refused", PATIENCE, || {
        Ok(!first.is_good(&server))
    })?;
    ensure!(swapped.login.is_good(&server), "the other one's went, too");

    // An incident ends all of them; the container that runs gets another one.
    let revoked = ["revoke", SECRET, "--reason", "drill", "--yes", "--wait"];
    scene.stage.keywheel.cli(&revoked)?.ok()?;
    ensure!(!swapped.login.is_good(&server), "the other is let in");
    let third = wait::until("another login", PATIENCE, || {
        let login = Login::of(&scene, &other)?;
        Ok((login != swapped.login && login.is_good(&server)).then_some(login))
    })?;
    let logins = [first, second, swapped.login, third].map(|login| login.password);
    let each = logins.iter().chain(&passwords);
    let mut values: Vec<&str> = each.map(String::as_str).collect();
    values.push(&swapped.password);
    scene.finish(&values, &[&other, &fixed])
}
