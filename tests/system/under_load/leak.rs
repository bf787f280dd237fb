//! A leak that a scanner tells: the playbook as it is shipped replaces the password in every container under load, and
//! a login with the old one is refused. Nobody does anything, and no query fails.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::Options;
use keywheel_tests::scratch::Scratch;
use keywheel_tests::stage::{PATIENCE, Stage, items};
use keywheel_tests::{docker, manifest, wait};
use serde_json::{Value, json};

use crate::app::App;
use crate::database::{self, Database, Login};

const PLAYBOOK: &str = include_str!("../../../deploy/playbooks/leaked-credential.yaml");
const APP: &str = "leak";
/// Each has a pool of connections; the server takes a hundred.
const CONTAINERS: usize = 10;
const FILE: &str = "postgres";
const TOKEN: &str = "a-token-of-this-test-alone";

/// The playbook with the trigger that it has as a comment.
fn playbook() -> Result<String> {
    let (steps, trigger) = PLAYBOOK
        .split_once("  # triggers:")
        .context("no trigger in the shipped playbook")?;
    let lines = trigger.lines().skip(1);
    let lines: String = lines
        .map(|line| format!("{}\n", line.replacen("# ", "", 1)))
        .collect();
    Ok(format!("{steps}  triggers:\n{lines}"))
}

fn source(keys: &Scratch) -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: SignalSource\nmetadata: {{ name: scanner }}\nspec: {{ format: cloudEvents, proof: bearer, keyFile: {}, map: {{ secret: body.secret }} }}\n---\n",
        keys.join("token").display()
    )
}

/// Says that a secret leaked.
fn tell(at: SocketAddr, secret: &str) -> Result<()> {
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "https://scan.example", "type": "leak",
        "data": { "secret": secret },
    });
    let body = event.to_string();
    let head = format!(
        "POST /signals/scanner HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/cloudevents+json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(at)?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    Ok(())
}

fn binding(stage: &Stage, database: &Database) -> String {
    let secret = database.secret;
    let template = format!(
        "{{{{ secret(\"{secret}\").username }}}}\n{{{{ secret(\"{secret}\").password }}}}\n"
    );
    let (on, reload) = (stage.on(APP), "{ signal: HUP }");
    manifest::told_template_binding(FILE, secret, &on, FILE, &template, reload)
}

fn login(app: &App) -> Result<Login> {
    Login::of(&app.file(&format!("/run/secrets/{FILE}"))?)
}

/// The only run, once it has ended.
fn ended(stage: &Stage) -> Result<Value> {
    wait::until("the run to end", PATIENCE, || {
        let runs = stage.keywheel.json(&["playbook", "runs"])?;
        let run = items(&runs).into_iter().next().cloned();
        Ok(run.filter(|run| run["state"] != "running"))
    })
}

/// It was begun by the signal, replaced the password, and shows that the old one is dead.
fn check_run(stage: &Stage, secret: &str) -> Result<()> {
    let run = ended(stage)?;
    ensure!(
        run["state"] == "completed" && run["by"] == "scheduler",
        "{run}"
    );
    ensure!(run["score"]["percent"] == 100, "{run}");
    let steps = run["steps"].as_array().context("no steps")?;
    let proof = steps.iter().find(|step| step["name"] == "prove");
    let note = proof.and_then(|step| step["note"].as_str());
    ensure!(note == Some("1 proven dead"), "{run}");
    let revocation = stage.keywheel.json(&["describe", "revocation", secret])?;
    let states = &revocation["states"];
    ensure!(states["proof"] == "proven_dead", "{revocation}");
    ensure!(states["evidence"][0]["version"] == 1, "{revocation}");
    Ok(())
}

/// It came over, and none of its queries or logins failed.
fn check_app(app: &App, database: &Database) -> Result<()> {
    app.wait_generation(database.kind, 2)?;
    let stats = app.stats_of(database.kind)?;
    let queries = stats["queries"].as_u64().unwrap_or_default();
    ensure!(
        queries > 0 && stats["failed"] == 0 && stats["locked_out"] == 0,
        "{stats}"
    );
    Ok(())
}

#[test]
fn a_leak_that_a_scanner_tells_is_replaced_everywhere_and_proven_dead_and_no_query_fails()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let keys = Scratch::make()?;
    keys.write("token", TOKEN)?;
    // Free until somebody else takes it; then the start says so.
    let door = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let setting = |name: &str, text: String| (format!("KEYWHEEL_SIGNALS_{name}"), text);
    let stage = Stage::set_with(&Options {
        environment: vec![
            setting("LISTEN", door.to_string()),
            setting("CREDENTIALS_DIR", keys.path().display().to_string()),
        ],
        ..Options::default()
    })?;
    let database = Database::postgres();
    database.adopt(&stage, &binding(&stage, &database))?;
    stage.keywheel.apply(&(source(&keys) + &playbook()?))?;
    let word = database.word(&format!("file:/run/secrets/{FILE}"));
    let label = format!("app={APP}");
    let mut apps = Vec::new();
    for number in 0..CONTAINERS {
        let name = format!("{APP}-{number}");
        apps.push(App::run(
            &stage,
            &name,
            &["--label", &label],
            &["-", &word],
        )?);
    }
    for app in &apps {
        app.wait_generation(database.kind, 1)?;
    }
    let first = apps.first().context("no container")?;
    let before = login(first)?;
    ensure!(database.admits(&before)?, "the first login is refused");

    tell(door, database.secret)?;
    check_run(&stage, database.secret)?;

    for app in &apps {
        check_app(app, &database)?;
    }
    let after = login(first)?;
    ensure!(database.admits(&after)?, "the new login is refused");
    ensure!(!database.admits(&before)?, "the old login is let in");
    let passwords = [
        before.password.clone(),
        after.password.clone(),
        database::admin_password(),
    ];
    let containers: Vec<_> = apps.iter().map(|app| &app.container).collect();
    stage.finish(&passwords, &containers)
}
