//! Suite http_api: see README.md beside this file.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::canary::Canary;
use keywheel_tests::keywheel::{Keywheel, Options, READY};
use keywheel_tests::manifest;
use keywheel_tests::ocsf;
use keywheel_tests::output::Output;
use keywheel_tests::planted;
use keywheel_tests::scratch::{Scratch, root};
use keywheel_tests::stage::wait_current;
use keywheel_tests::wait;
use serde_json::{Map, Value, json};

/// Examples per operation, beside those at every limit of the description.
const EXAMPLES: &str = "12";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance";
/// Secrets of the test: one to look at, one that is rotated, one that is revoked.
const SECRETS: [&str; 3] = ["prod/seen", "prod/rotated", "prod/revoked"];
/// A store that nobody answers for, and one that may be removed.
const STORES: [&str; 2] = ["away", "spare"];
/// Subscriptions: one that is read and moved, one that may be forgotten.
const SUBSCRIPTIONS: [&str; 2] = ["siem", "spare"];
/// What may be taken away, by operation: something else than what others look at.
const REMOVALS: [(&str, &str); 4] = [
    ("remove_store", STORES[1]),
    ("unsubscribe", SUBSCRIPTIONS[1]),
    ("remove_notification", NOTIFICATIONS[1]),
    ("remove_signal_source", SOURCE),
];
/// Notifications of which nothing is ever told: one that is read, one that may be removed.
const NOTIFICATIONS: [&str; 2] = ["soc", "spare"];
/// A source of signals that may be removed.
const SOURCE: &str = "scanner";
/// What is asked for by no run: sealed, it has no value for whoever asks after that, and under a set of policies that was
/// made up nobody may do anything.
const NEVER: [&str; 4] = [
    "--exclude-operation-id",
    "seal",
    "--exclude-operation-id",
    "apply_policies",
];
/// A time to fold the log up to; no text that is made up is one.
const LATER: &str = "2100-01-01T00:00:00Z";
/// Where the tool writes what it asked and was answered.
const EXCHANGES: &str = "exchanges.har";
const BINDING: &str = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: prod/seen\n  containers: { labels: { app: web }, insecureSelector: true }\n  file: { name: seen }\n  reload: none\n";

/// Has the tool ask a server by a description; everything it writes goes to the scratch directory.
fn ask(scratch: &Path, description: &Path, server: SocketAddr, more: &[&str]) -> Result<Output> {
    let url = format!("http://{server}");
    let mut command = Command::new(ocsf::python()?);
    command
        .current_dir(scratch)
        .args(["-m", "schemathesis.cli", "run"])
        .arg(description)
        .args([
            "--url",
            &url,
            "--checks",
            CHECKS,
            "--request-timeout",
            "120",
        ])
        .args(["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES])
        .args(["--generation-deterministic", "--report-har-path", EXCHANGES])
        .args([
            "--continue-on-failure",
            "--no-color",
            "--warnings",
            "off",
            "--suppress-health-check",
            "all",
        ])
        .args(more);
    Output::of(&mut command)
}

/// A port at which a socket's server is to be had: the tool speaks TCP only.
fn bridge(socket: PathBuf) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(server) = UnixStream::connect(&socket) {
                let _ = join(client, server);
            }
        }
    });
    Ok(address)
}

/// Passes bytes on both ways; each way ends with its source.
fn join(client: TcpStream, server: UnixStream) -> io::Result<()> {
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    Ok(())
}

/// No path has this: what an acknowledgement has to name besides.
const IDS: &str = "ids of subscriptions";

/// Names that are there, by kind.
type Known = [(&'static str, Vec<String>)];

/// One of these, or whatever the description says.
fn or_known(schema: &mut Value, known: impl Into<Value>) {
    *schema = json!({ "anyOf": [{ "enum": known.into() }, schema.take()] });
}

/// What a path's parameter may name in an operation: what is there to look at, and for a change only
/// what it does not take away from those who look.
fn known_of(path: &str, operation: &Value, known: &Known) -> Vec<String> {
    let operation = operation["operationId"].as_str().unwrap_or_default();
    if let Some((_, name)) = REMOVALS.iter().find(|(remove, _)| *remove == operation) {
        return vec![(*name).to_owned()];
    }
    // These would take away what others look at, or ask receivers that are not there.
    let others = [
        "unbind",
        "evict_host",
        "make_join_token",
        "test_notification",
    ];
    let looks = !others.contains(&operation);
    let about = path.split('/').nth(2).filter(|_| looks);
    let found = known.iter().find(|(name, _)| about == Some(*name));
    found.map(|(_, names)| names.clone()).unwrap_or_default()
}

/// The published description without what has no end, and with what is there.
fn description(known: &Known) -> Result<Value> {
    let text = fs::read_to_string(root().join("schemas/generated/openapi.v1.json"))?;
    let mut document: Value = serde_json::from_str(&text)?;
    let paths = document["paths"].as_object_mut().context("no paths")?;
    for (path, item) in paths {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            let names = known_of(path, operation, known);
            let parameters = operation
                .get_mut("parameters")
                .and_then(Value::as_array_mut);
            let Some(parameters) = parameters else {
                continue;
            };
            parameters.retain(|parameter| parameter["name"] != "follow");
            for parameter in parameters {
                if parameter["name"] == "at" {
                    or_known(&mut parameter["schema"], vec![LATER]);
                }
                if parameter["in"] == "path" && !names.is_empty() {
                    or_known(&mut parameter["schema"], names.clone());
                }
            }
        }
    }
    let numbers = &mut document["components"]["schemas"]["AcknowledgeRequest"]["properties"];
    or_known(&mut numbers["number"], vec![1, 2, 3]);
    if let Some((_, ids)) = known.iter().find(|(about, _)| *about == IDS) {
        or_known(&mut numbers["id"], ids.clone());
    }
    let secrets = SECRETS.map(str::to_owned);
    for (shape, member) in [
        ("RotateRequest", "secret"),
        ("RevokeRequest", "secret"),
        ("PutRequest", "name"),
    ] {
        let properties = &mut document["components"]["schemas"][shape]["properties"];
        ensure!(properties.get(member).is_some(), "no {shape}.{member}");
        or_known(&mut properties[member], secrets.to_vec());
    }
    Ok(document)
}

fn text_of(answer: &Value, member: &str) -> Result<String> {
    let text = answer.get(member).and_then(Value::as_str);
    Ok(text
        .with_context(|| format!("no `{member}` in {answer}"))?
        .to_owned())
}

/// `kind: Store` where nobody listens.
fn store(name: &str) -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Store\nmetadata: {{ name: {name} }}\nspec: {{ vault: {{ address: \"http://127.0.0.1:9\", auth: {{ token: {{ file: /etc/none }} }} }} }}\n---\n"
    )
}

/// `kind: Notification` for no event, and a source of signals.
fn outward() -> String {
    let told = NOTIFICATIONS.map(|name| {
        format!(
            "---\napiVersion: keywheel.dev/v1\nkind: Notification\nmetadata: {{ name: {name} }}\nspec: {{ slack: {{ urlFile: /etc/none }}, when: 'false' }}\n"
        )
    });
    let heard = format!(
        "---\napiVersion: keywheel.dev/v1\nkind: SignalSource\nmetadata: {{ name: {SOURCE} }}\nspec: {{ format: cloudEvents, keyFile: /etc/none }}\n"
    );
    told.concat() + &heard
}

/// A server that did a little of everything, and what is there to ask about.
fn busy() -> Result<(Keywheel, Box<Known>)> {
    // No container is wanted here, so no engine is either.
    let nowhere = (
        "DOCKER_HOST".to_owned(),
        "unix:///nonexistent.sock".to_owned(),
    );
    let keywheel = Keywheel::start_with(&Options {
        environment: vec![nowhere],
        ..Options::default()
    })?;
    let manifests: String = SECRETS
        .iter()
        .map(|name| manifest::secret(name, &[]))
        .collect();
    let stores = STORES.map(store).concat();
    let far = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: prod/far }\nspec: { store: away, source: { path: db, field: password } }\n---\n";
    let all = format!("{manifests}{stores}{far}{BINDING}{}", outward());
    let all = keywheel
        .scratch()
        .write("all.yaml", all)?
        .display()
        .to_string();
    keywheel.cli(&["apply", "-f", &all, "--no-check"])?.ok()?;
    for name in SECRETS {
        wait_current(&keywheel, name, 1)?;
    }
    let rotation = keywheel.json(&["rotate", SECRETS[1], "--wait"])?;
    let revoke = ["revoke", SECRETS[2], "--reason", "a test", "--yes"];
    let revocation = keywheel.json(&revoke)?;
    let mut subscriptions = Vec::new();
    for name in SUBSCRIPTIONS {
        subscriptions.push(keywheel.json(&["events", "subscribe", name, "--after", "0"])?);
    }
    let host = wait::until("the host", READY, || {
        let hosts = keywheel.json(&["host", "list"])?;
        Ok(hosts[0]["name"].as_str().map(str::to_owned))
    })?;
    let secrets: Vec<String> = SECRETS.map(str::to_owned).to_vec();
    let known = vec![
        ("stores", vec![STORES[0].to_owned()]),
        ("notifications", vec![NOTIFICATIONS[0].to_owned()]),
        ("hosts", vec![host]),
        ("subscriptions", vec![SUBSCRIPTIONS[0].to_owned()]),
        (IDS, vec![text_of(&subscriptions[0], "id")?]),
        ("secrets", secrets.clone()),
        ("versions", secrets.clone()),
        ("rotation-plan", secrets.clone()),
        ("history", secrets),
        ("bindings", vec!["web".to_owned()]),
        ("rotations", vec![text_of(&rotation, "rotation_id")?]),
        ("revocations", vec![text_of(&revocation, "revocation_id")?]),
    ];
    Ok((keywheel, known.into_boxed_slice()))
}

#[test]
fn whoever_knows_only_the_description_is_answered_as_it_says() -> Result<()> {
    let (keywheel, known) = busy()?;
    let file = keywheel
        .scratch()
        .write("described.json", description(&known)?.to_string())?;
    // A value that is known, of a secret that is looked at in every way.
    let value = planted::put_for_nobody(&keywheel, SECRETS[0])?;
    let server = bridge(keywheel.socket())?;
    let said = ask(keywheel.scratch().path(), &file, server, &NEVER)?.ok()?;
    let routes = description(&known)?["paths"]
        .as_object()
        .map_or(0, serde_json::Map::len);
    ensure!(routes > 20, "{routes} paths");
    ensure!(said.stdout.contains(" passed"), "{}", said.stdout);
    were_compared(&keywheel.scratch().join(EXCHANGES), &known)?;
    let canary = Canary::new(&[value.into_bytes()])?;
    let hits = canary.search_tree(&keywheel.scratch().join(EXCHANGES))?;
    ensure!(hits.is_empty(), "an answer has a value: {hits:?}");
    let verified = keywheel.json(&["journal", "verify"])?;
    ensure!(verified["verified"] == true, "{verified}");
    Ok(())
}

/// Everything that is there was looked at and answered with 200, so that was compared with its shape;
/// so was what moves a subscription and what takes something away.
fn were_compared(exchanges: &Path, known: &Known) -> Result<()> {
    let har: Value = serde_json::from_str(&fs::read_to_string(exchanges)?)?;
    let entries = har["log"]["entries"].as_array().context("no exchanges")?;
    let answered: BTreeSet<String> = entries
        .iter()
        .filter(|entry| entry["response"]["status"] == 200)
        .filter_map(|entry| {
            let url = entry["request"]["url"].as_str()?.split('?').next()?;
            let path = url.split_once("/v1/")?.1.replace("%2F", "/");
            Some(format!("{} {path}", entry["request"]["method"].as_str()?))
        })
        .collect();
    let named = known.iter().filter(|(about, _)| *about != IDS);
    let looks = named
        .flat_map(|(about, names)| names.iter().map(move |name| format!("GET {about}/{name}")));
    let changes = [
        format!("DELETE notifications/{}", NOTIFICATIONS[1]),
        format!("DELETE signal-sources/{SOURCE}"),
        format!("POST subscriptions/{}/acknowledge", SUBSCRIPTIONS[0]),
        format!("DELETE subscriptions/{}", SUBSCRIPTIONS[1]),
        format!("DELETE stores/{}", STORES[1]),
    ];
    let wanted: BTreeSet<String> = looks.chain(changes).collect();
    let missing: Vec<&String> = wanted.difference(&answered).collect();
    ensure!(
        missing.is_empty(),
        "never answered with 200: {missing:?} of {answered:?}"
    );
    Ok(())
}

/// Answers every request with an empty object.
fn stranger() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = [0; 8192];
            let _ = client.read(&mut head);
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            let _ = client.write_all(answer.as_bytes());
        }
    });
    Ok(address)
}

#[test]
fn a_server_that_answers_something_else_is_found_out() -> Result<()> {
    let scratch = Scratch::make()?;
    let file = scratch.write("described.json", description(&[])?.to_string())?;
    let only = ["--include-operation-id", "status"];
    let said = ask(scratch.path(), &file, stranger()?, &only)?;
    ensure!(
        said.code == 1 && said.stdout.contains("Response violates schema"),
        "{} {}",
        said.code,
        said.stdout
    );
    Ok(())
}
