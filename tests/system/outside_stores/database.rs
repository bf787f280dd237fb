//! A secret whose versions open accounts at a real PostgreSQL, all the way from a manifest to a container.

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::postgres::{HELD, PostgresServer};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::receiver::Receiver;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage, find, items};
use keywheel_tests::{manifest, metrics, wait};
use serde_json::Value;

use crate::scene::give;
use crate::webhook;

const DATABASE: &str = "shop";
const ADMIN: &str = "rotator";
const ADMIN_SECRET: &str = "test/admin";
const ADMIN_PASSWORD: &str = "pw-of-the-admin-2f71";
const ROTATIONS: u64 = 4;
const SINGLE: &str = "test/single";

/// What a container has to sign in with.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    user: String,
    password: String,
}

impl Login {
    fn of(value: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(value)?;
        let field = |name: &str| value[name].as_str().map(str::to_owned);
        Ok(Self {
            user: field("username").context("no username")?,
            password: field("password").context("no password")?,
        })
    }

    fn is_good(&self, server: &PostgresServer) -> bool {
        server.signs_in(DATABASE, &self.user, &self.password)
    }
}

fn secret(server: &PostgresServer, name: &str, generator: &str) -> String {
    over(server, name, "account: [app, app_b]", generator)
}

fn over(server: &PostgresServer, name: &str, account: &str, generator: &str) -> String {
    let place = server.place();
    let host = place.trim_start_matches("postgres://");
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n  \
         rotator:\n    type: postgres\n    connection: \"postgres://{ADMIN}@{host}/{DATABASE}\"\n    \
         {account}\n    adminSecret: {ADMIN_SECRET}\n{generator}---\n"
    )
}

/// A session of the old account outlives every acknowledgement: its login lives as long, and no longer.
fn outlived(
    stage: &Stage,
    server: &PostgresServer,
    container: &Container,
    before: &Login,
) -> Result<Login> {
    let keywheel = &stage.keywheel;
    let held = server.hold(DATABASE, &before.user, &before.password);
    let open = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{HELD}'");
    wait::until_true("the session to be open", wait::PATIENCE, || {
        Ok(server.psql(DATABASE, &open) == "1")
    })?;
    keywheel.cli(&["rotate", SECRET])?.ok()?;
    wait::until_true("the session to be waited for", wait::PATIENCE, || {
        let said = keywheel.json(&["rotation", "describe", SECRET])?;
        Ok(said.to_string().contains("of the old credential"))
    })?;
    let after = Login::of(&stage.value_in(container)?)?;
    ensure!(
        after.is_good(server) && before.is_good(server),
        "{after:?} and {before:?} are both to be let in"
    );
    drop(held);
    wait::until_true("the rotation to end", wait::PATIENCE, || {
        let said = keywheel.json(&["rotation", "describe", SECRET])?;
        Ok(find(&said, "state").and_then(Value::as_str) == Some("completed"))
    })?;
    ensure!(!before.is_good(server), "{before:?} is still let in");
    Ok(after)
}

/// How often an injector had to ask for a value.
fn asked(keywheel: &Keywheel) -> Result<f64> {
    let pages = metrics::pages(keywheel)?;
    let lines = pages.iter().flat_map(|(_, page)| page.lines());
    let reads = lines.filter(|line| line.starts_with("keywheel_host_cache_reads_total{"));
    let missed = reads.filter(|line| line.contains("\"miss\""));
    let numbers = missed.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(numbers.sum())
}

/// The types of a rotation's events from its staging on, in their order.
fn course(keywheel: &Keywheel) -> Result<Vec<String>> {
    const KINDS: [&str; 6] = [
        "staging_started",
        "host_staged",
        "staging_ended",
        "cut_over",
        "version_promoted",
        "gap_measured",
    ];
    let all = keywheel.stream("events")?;
    let kinds = all.iter().filter_map(|event| {
        let event = event.to_string();
        let is_it = |kind: &&str| event.contains(&format!(".{kind}.v1\""));
        KINDS.into_iter().find(is_it)
    });
    let kinds = kinds.skip_while(|kind| *kind != "staging_started");
    Ok(kinds.map(str::to_owned).collect())
}

/// One account of one password: its host has the version before the server is told, asks for nothing more, and
/// how long the container was behind is told. Gives the container and its passwords.
fn one_account(stage: &Stage, server: &PostgresServer) -> Result<(Container, Vec<String>)> {
    let keywheel = &stage.keywheel;
    let _made = server.psql(DATABASE, "CREATE ROLE solo LOGIN PASSWORD 'made-by-hand'");
    let account = "account: solo\n    strategy: singleUser";
    keywheel.apply(&over(server, SINGLE, account, ""))?;
    let grants = keywheel.cli(&["rotator", "grants", SINGLE])?.ok()?.stdout;
    let grants = grants.lines().filter(|line| !line.starts_with("CREATE"));
    let _done = server.psql(DATABASE, &grants.collect::<Vec<_>>().join("\n"));
    let on = stage.on("solo");
    let file = manifest::file_binding("solo-file", SINGLE, &on, "db_password", "none");
    keywheel.apply(&(over(server, SINGLE, account, "  generator: {}\n") + &file))?;
    stage.rotate(SINGLE)?;
    stage.wait_current(SINGLE, 1)?;
    let container = stage.run("solo", &[], "/bin/app-file")?;
    let before = stage.value_soon_in(&container)?;
    ensure!(server.signs_in(DATABASE, "solo", &before));
    wait::until_true("the container to be known", PATIENCE, || {
        let known = keywheel.json(&["consumers", "--secret", SINGLE])?;
        Ok(items(&known).len() == 1)
    })?;
    let plan = keywheel.json(&["rotate", SINGLE, "--dry-run"])?;
    let gap = find(&plan, "expected_gap").and_then(Value::as_str);
    ensure!(
        gap.is_some_and(|gap| gap.contains("not known yet, no way back")),
        "{plan}"
    );

    let reads = asked(keywheel)?;
    let answer = stage.rotate(SINGLE)?;
    let after = stage.value_in(&container)?;
    ensure!(server.signs_in(DATABASE, "solo", &after));
    ensure!(!server.signs_in(DATABASE, "solo", &before));
    let gap = find(&answer, "gap_ms").and_then(Value::as_f64);
    ensure!(gap.is_some_and(|gap| gap > 0.0), "no gap is told: {answer}");
    // It had the version before the server was told, and asked for it once in all.
    let course = course(keywheel)?;
    ensure!(
        course
            == [
                "staging_started",
                "host_staged",
                "staging_ended",
                "cut_over",
                "version_promoted",
                "gap_measured",
            ],
        "{course:?}"
    );
    let reads = asked(keywheel)? - reads;
    ensure!((0.5..1.5).contains(&reads), "{reads} values were asked for");
    let plan = keywheel.json(&["rotate", SINGLE, "--dry-run"])?;
    let gap = find(&plan, "expected_gap").and_then(Value::as_str);
    ensure!(
        gap.is_some_and(|gap| gap.starts_with("a gap of about")),
        "{plan}"
    );
    Ok((container, vec![before, after]))
}

/// The server's own administrator runs what is printed, and nothing else; an account belongs to one secret.
fn granted(keywheel: &Keywheel, server: &PostgresServer) -> Result<()> {
    give(keywheel, ADMIN_SECRET, &server.place(), ADMIN_PASSWORD)?;
    keywheel.apply(&secret(server, SECRET, ""))?;
    let grants = keywheel.cli(&["rotator", "grants", SECRET])?.ok()?.stdout;
    let _done = server.psql(DATABASE, &grants);
    let _done = server.psql(
        DATABASE,
        &format!("ALTER ROLE {ADMIN} PASSWORD '{ADMIN_PASSWORD}'"),
    );
    let taken = keywheel.try_apply(&secret(server, "test/second", ""))?;
    ensure!(
        taken.code != 0 && taken.stderr.contains("belongs to one secret"),
        "{taken:?}"
    );
    Ok(())
}

#[test]
fn two_accounts_take_turns_and_the_server_refuses_what_no_container_has() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let server = PostgresServer::logging_statements();
    let _url = server.database(DATABASE);
    let _made = server.psql(DATABASE, "CREATE ROLE app LOGIN PASSWORD 'made-by-hand'");
    let receiver = Receiver::start()?;
    let stage = Stage::set_with(&webhook::options(&receiver))?;
    let keywheel = &stage.keywheel;
    granted(keywheel, &server)?;

    let file = manifest::file_binding(
        "test-file",
        SECRET,
        &stage.on("shop"),
        "db_password",
        "none",
    );
    keywheel.apply(&(secret(&server, SECRET, "  generator: {}\n") + &file))?;
    stage.rotate(SECRET)?;
    stage.wait_current(SECRET, 1)?;
    let container = stage.run("shop", &[], "/bin/app-file")?;
    let mut before = Login::of(&stage.value_soon_in(&container)?)?;
    ensure!(before.is_good(&server));
    ensure!(!server.signs_in(DATABASE, "app", "made-by-hand"));
    let mut values = vec![ADMIN_PASSWORD.to_owned(), before.password.clone()];
    for _ in 0..ROTATIONS {
        stage.rotate(SECRET)?;
        let after = Login::of(&stage.value_in(&container)?)?;
        ensure!(after.user != before.user, "{after:?} after {before:?}");
        ensure!(after.is_good(&server), "{after:?} is not let in");
        ensure!(!before.is_good(&server), "{before:?} is still let in");
        values.push(after.password.clone());
        before = after;
    }
    before = outlived(&stage, &server, &container, &before)?;
    values.push(before.password.clone());

    let (solo, passwords) = one_account(&stage, &server)?;
    values.extend(passwords);
    let (hooked, told) = webhook::check(&stage, &receiver)?;
    values.extend(told);

    // An incident: refused at once, and what was open ends.
    let revoked = ["revoke", SECRET, "--reason", "drill", "--yes", "--wait"];
    keywheel.cli(&revoked)?.ok()?;
    ensure!(!before.is_good(&server), "{before:?} is still let in");
    proven(&keywheel.json(&["describe", "revocation", SECRET])?)?;
    let log = server.log();
    ensure!(log.contains("ALTER ROLE "), "the server logs statements");
    for value in &values {
        ensure!(
            !log.contains(value.as_str()),
            "a password is in the server's log"
        );
    }
    stage.finish(&values, &[&container, &solo, &hooked])
}

/// Keywheel itself tried the login, was refused, and says where; only then the value went.
fn proven(revocation: &Value) -> Result<()> {
    let states = revocation.get("states").context("no states")?;
    let is = |state: &str| states.get(state) == Some(&Value::Bool(true));
    ensure!(is("dead_at_backend") && is("destroyed"), "{revocation}");
    ensure!(is("withdrawn_everywhere"), "{revocation}");
    let word = |path: &str| states.pointer(path).and_then(Value::as_str);
    ensure!(word("/proof") == Some("proven_dead"), "{revocation}");
    let place = word("/evidence/0/place").unwrap_or_default();
    ensure!(place.contains("of postgres at "), "{revocation}");
    let answer = word("/evidence/0/answer").unwrap_or_default();
    ensure!(
        ["wrong_password", "no_login"].contains(&answer),
        "{revocation}"
    );
    Ok(())
}
