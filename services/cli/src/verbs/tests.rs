//! Verbs against a daemon that answers what the test says: what they send, and how they end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser as _;
use keywheel_seal::OsEntropy;
use keywheel_seal::hpke::HostKeyPair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::*;

mod approvals;
mod audits;
mod backups;
mod online;
mod policies;
mod revocations;
mod seals;

/// Requests as they came: line and body.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

struct Daemon {
    path: PathBuf,
    seen: Seen,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Daemon {
    /// Serves; `answers` gives status and body for the beginning of a request line.
    fn serve(name: &str, answers: &'static [(&'static str, u16, &'static str)]) -> Self {
        let path =
            std::env::temp_dir().join(format!("keywheel-verbs-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, answers, &log).await;
            }
        });
        Self { path, seen }
    }

    async fn run(&self, words: &[&str]) -> Result<(), Failure> {
        let address = format!("unix://{}", self.path.display());
        let line = [&["keywheel", "--address", &address], words].concat();
        Box::pin(run(Cli::try_parse_from(line).unwrap())).await
    }

    fn bodies(&self, request: &str) -> Vec<serde_json::Value> {
        let seen = self.seen.lock().unwrap();
        let of = seen.iter().filter(|(line, _)| line.starts_with(request));
        of.map(|(_, body)| serde_json::from_str(body).unwrap_or_default())
            .collect()
    }
}

async fn answer(mut stream: UnixStream, answers: &[(&str, u16, &str)], log: &Seen) {
    let mut text = Vec::new();
    let (line, body) = loop {
        let mut piece = vec![0; 65536];
        let read = stream.read(&mut piece).await.unwrap();
        text.extend_from_slice(&piece[..read]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .to_lowercase()
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        if body.len() >= length {
            break (head.lines().next().unwrap().to_owned(), body.to_owned());
        }
    };
    let found = answers.iter().find(|(begin, ..)| line.starts_with(begin));
    let (status, body_out) = found.map_or((404, "{}"), |(_, status, body)| (*status, *body));
    log.lock().unwrap().push((line, body));
    let reply = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body_out}",
        body_out.len()
    );
    let _ = stream.write_all(reply.as_bytes()).await;
}

const ROTATION: &str = r#"{"rotation_id":"r1","secret":"a/b","version":2,"state":"distributing","trigger":"on_demand","waiting_for":[],"timings":{},"consumers":[]}"#;
const PARKED: &str = r#"{"rotation_id":"r1","secret":"a/b","version":2,"state":"parked","trigger":"on_demand","waiting_for":["container web: gone wrong"],"timings":{},"consumers":[]}"#;
const COMPLETED: &str = r#"{"rotation_id":"r1","secret":"a/b","version":2,"state":"completed","trigger":"on_demand","waiting_for":[],"timings":{},"consumers":[]}"#;
const REVOCATION: &str = r#"{"revocation_id":"v1","secret":"a/b","versions":[1],"state":"running","backend":"asked","waiting_hosts":[],"reason":"why","withdrawn_ms":null}"#;
const REVOCATIONS: &str = r#"[{"revocation_id":"v1","secret":"a/b","versions":[1],"state":"running","backend":"asked","waiting_hosts":[],"reason":"why","withdrawn_ms":null}]"#;
const CLOSED: &str = r#"{"revocation_id":"v1","secret":"a/b","versions":[1],"state":"closed","backend":"confirmed","waiting_hosts":[],"reason":"why","withdrawn_ms":1.0}"#;
const SECRETS: &str = r#"[{"name":"a/b","id":"i","store":"local","current":1,"pending":null,"last_version":1,"generated":true,"schedule":"on demand","next_fires":[],"consumers":0,"open_rotation":null}]"#;
const NOT_FOUND: &str = r#"{"type":"x","title":"t","status":404,"detail":"no secret is named `a/c`","code":"not_found"}"#;
const INVALID: &str = r#"{"type":"x","title":"t","status":400,"detail":"stdin:1:2: bad\nstdin:3:4: worse","code":"invalid"}"#;

const ROTATIONS: &str = r#"[{"rotation_id":"r1","secret":"a/b","version":2,"state":"parked","trigger":"on_demand","waiting_for":["container web: gone wrong"],"next_step":"retry it","timings":{},"consumers":[]}]"#;
const ROLLED_BACK: &str = r#"{"rotation_id":"r1","secret":"a/b","version":2,"state":"rolled_back","trigger":"on_demand","waiting_for":[],"timings":{},"consumers":[]}"#;
const SECRET: &str = r#"{"name":"a/b","id":"i","store":"local","current":1,"pending":null,"last_version":1,"generated":true,"schedule":"on demand","next_fires":[],"consumers":0,"open_rotation":null}"#;
const OUTSIDE: &str = r#"{"name":"a/b","id":"i","store":"bao","current":1,"pending":null,"last_version":1,"generated":true,"schedule":"on demand","next_fires":[],"consumers":0,"open_rotation":null}"#;
const FREE: &str = r#"{"secret":"a/b","version":2,"strategy":"overlap","consumers":[],"restarts":0,"expected_gap":"none","deadline_seconds":300,"on_deadline":"hold","blockers":[]}"#;
const BLOCKED: &str = r#"{"secret":"a/b","version":2,"strategy":"overlap","consumers":[],"restarts":0,"expected_gap":"none","deadline_seconds":300,"on_deadline":"hold","blockers":["store `bao` does not answer"]}"#;

#[tokio::test]
async fn a_dry_run_of_a_rotation_begins_nothing_and_fails_when_something_is_in_the_way() {
    let free = Daemon::serve("plan-free", &[("GET /v1/rotation-plan/", 200, FREE)]);
    assert!(free.run(&["rotate", "a/b", "--dry-run"]).await.is_ok());
    assert!(free.bodies("POST").is_empty());
    let blocked = Daemon::serve("plan-blocked", &[("GET /v1/rotation-plan/", 200, BLOCKED)]);
    let failure = blocked.run(&["rotate", "a/b", "--dry-run"]).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.exit, Exit::Partial);
    assert!(
        failure.what.contains("1 things are in the way"),
        "{failure}"
    );
    assert!(blocked.bodies("POST").is_empty());
}

#[tokio::test]
async fn grants_are_those_of_a_secret_that_opens_accounts_or_lies_in_a_store() {
    use keywheel_schemas::mirror::Mirror as _;

    let local = Daemon::serve("grants-local", &[("GET /v1/secrets/", 200, SECRET)]);
    let failure = local.run(&["rotator", "grants", "a/b"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.what.contains("no rotator"), "{failure}");
    let page = serde_json::json!({
        "store": {
            "name": "bao", "kind": "vault", "address": "https://vault:8200/secret",
            "poll_seconds": 60, "secrets": 1, "health": "unknown", "note": "",
        },
        "spec": keywheel_schemas::event::store::StoreSpec::of(&vault()),
        "secrets": [{
            "name": "a/b", "source": { "path": "/db/static-creds/shop", "field": "password" },
            "written": false, "generated": true,
        }],
    });
    let page: &'static str = page.to_string().leak();
    let answers = vec![
        ("GET /v1/secrets/", 200, OUTSIDE),
        ("GET /v1/stores/bao ", 200, page),
    ];
    let outside = Daemon::serve("grants-outside", answers.leak());
    let told = outside.run(&["rotator", "grants", "a/b"]).await;
    assert!(told.is_ok(), "{told:?}");
    assert_eq!(outside.bodies("GET /v1/stores/bao ").len(), 1);
}

fn vault() -> keywheel_core::store::StoreSpec {
    use keywheel_core::store;
    let backend = store::Backend::Vault(store::VaultSpec {
        address: "https://vault:8200".to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        ca_file: String::new(),
        old_versions: store::OldVersions::Destroy,
        auth: store::VaultAuth::Token {
            token: store::CredentialRef::File("/etc/token".to_owned()),
        },
    });
    store::StoreSpec {
        backend,
        poll: store::DEFAULT_POLL,
        timeout: store::DEFAULT_TIMEOUT,
    }
}

#[tokio::test]
async fn a_person_steps_into_the_newest_rotation_of_a_secret_with_a_reason() {
    let daemon = Daemon::serve(
        "intervene",
        &[
            ("GET /v1/secrets/", 200, SECRET),
            ("GET /v1/rotations/r1?wait=", 200, ROLLED_BACK),
            ("GET /v1/rotations", 200, ROTATIONS),
            ("POST /v1/rotations/r1/abort ", 200, ROTATION),
            ("POST /v1/rotations/r1/retry ", 200, ROTATION),
            ("POST /v1/rotations/r1/force ", 200, ROTATION),
        ],
    );
    for verb in ["abort", "retry"] {
        let words = ["rotation", verb, "a/b", "--reason", "why"];
        assert!(daemon.run(&words).await.is_ok(), "{verb}");
    }
    let force = ["rotation", "force", "a/b", "--reason", "why"];
    assert!(daemon.run(&[&force[..], &["--yes"]].concat()).await.is_ok());
    for verb in ["abort", "retry", "force"] {
        let sent = daemon.bodies(&format!("POST /v1/rotations/r1/{verb} "));
        assert_eq!(sent, [serde_json::json!({ "reason": "why" })], "{verb}");
    }
    // An abort has succeeded when it is rolled back, and a retry has not.
    let abort = ["rotation", "abort", "a/b", "--reason", "why", "--wait"];
    assert!(daemon.run(&abort).await.is_ok());
    let retry = ["rotation", "retry", "a/b", "--reason", "why", "--wait"];
    let failure = daemon.run(&retry).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Partial);
    assert!(daemon.run(&["rotation", "list"]).await.is_ok());
    assert!(daemon.run(&["rotation", "describe", "a/b"]).await.is_ok());
}

#[tokio::test]
async fn rotate_ends_by_how_the_rotation_ended() {
    let parked = Daemon::serve(
        "parked",
        &[
            ("POST /v1/rotate ", 200, ROTATION),
            ("GET /v1/rotations/r1?wait=", 200, PARKED),
        ],
    );
    assert!(
        parked.run(&["rotate", "a/b"]).await.is_ok(),
        "without --wait it has begun, and that is all"
    );
    let failure = parked.run(&["rotate", "a/b", "--wait"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Partial);
    assert!(failure.what.contains("ended as parked"), "{failure}");
    assert_eq!(
        parked.bodies("POST /v1/rotate ")[0],
        serde_json::json!({ "secret": "a/b" })
    );
    let done = Daemon::serve(
        "done",
        &[
            ("POST /v1/rotate ", 200, ROTATION),
            ("GET /v1/rotations/r1?wait=", 200, COMPLETED),
        ],
    );
    assert!(
        done.run(&["rotate", "a/b", "--wait", "-o", "json"])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_timeout_is_partial_and_names_what_goes_on() {
    let slow = Daemon::serve(
        "slow",
        &[
            ("POST /v1/rotate ", 200, ROTATION),
            ("GET /v1/rotations/r1?wait=", 200, ROTATION),
        ],
    );
    let failure = slow
        .run(&["rotate", "a/b", "--wait", "--timeout", "50ms"])
        .await
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Partial);
    assert!(
        failure
            .to_string()
            .contains("keywheel describe rotation r1"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_unknown_secret_gets_the_nearest_name() {
    let daemon = Daemon::serve(
        "unknown",
        &[
            ("POST /v1/rotate ", 404, NOT_FOUND),
            ("POST /v1/revoke ", 404, NOT_FOUND),
            ("GET /v1/secrets/", 404, NOT_FOUND),
            ("GET /v1/versions/", 404, NOT_FOUND),
            ("GET /v1/schedules/", 404, NOT_FOUND),
            ("GET /v1/consumers?secret=a/c", 404, NOT_FOUND),
            ("GET /v1/secrets ", 200, SECRETS),
        ],
    );
    let lines: [&[&str]; 7] = [
        &["rotate", "a/c"],
        &["revoke", "a/c", "--reason", "r", "--yes"],
        &["get", "secret", "a/c"],
        &["describe", "secret", "a/c"],
        &["secret", "versions", "a/c"],
        &["schedule", "next", "a/c"],
        &["consumers", "--secret", "a/c"],
    ];
    for words in lines {
        let failure = daemon.run(words).await.unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound, "{words:?}");
        assert!(
            failure.to_string().contains("did you mean `a/b`"),
            "{words:?}: {failure}"
        );
    }
}

#[tokio::test]
async fn a_value_leaves_sealed_only() {
    let pair = HostKeyPair::generate(&OsEntropy);
    let key = format!(
        r#"{{"public_key":"{}","deployment":"01010101-0101-0101-0101-010101010101"}}"#,
        STANDARD.encode(pair.public().to_bytes())
    );
    let answers: Vec<(&'static str, u16, &'static str)> = vec![
        ("GET /v1/store-key", 200, key.leak()),
        ("POST /v1/put ", 200, ROTATION),
    ];
    let daemon = Daemon::serve("put", answers.leak());
    let file = daemon.path.with_extension("value");
    std::fs::write(&file, "hunter2-canary").unwrap();
    let put = daemon
        .run(&[
            "secret",
            "put",
            "a/b",
            "--value-file",
            &file.display().to_string(),
        ])
        .await;
    std::fs::remove_file(&file).unwrap();
    put.unwrap();
    let sent = daemon.bodies("POST /v1/put ").remove(0);
    assert!(sent["sealed"].as_str().unwrap().len() > 100, "{sent}");
    assert_eq!(sent["token"].as_str().unwrap().len(), 36);
    let seen = format!("{:?}", daemon.seen.lock().unwrap());
    assert!(!seen.contains("canary") && !seen.contains(&STANDARD.encode("hunter2-canary")));
    daemon.run(&["secret", "put", "a/b"]).await.unwrap();
    let generated = serde_json::json!({ "name": "a/b" });
    assert_eq!(daemon.bodies("POST /v1/put ")[1], generated);
    let refused = daemon.run(&["secret", "put", "A b"]).await.unwrap_err();
    assert_eq!(refused.exit, Exit::Input);
}

#[tokio::test]
async fn a_bad_manifest_is_bad_input_with_every_fault() {
    let daemon = Daemon::serve("apply", &[("POST /v1/apply ", 400, INVALID)]);
    let file = daemon.path.with_extension("yaml");
    std::fs::write(&file, "kind: Scret").unwrap();
    let failure = daemon
        .run(&["apply", "--dry-run", "-f", &file.display().to_string()])
        .await
        .unwrap_err();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(failure.exit, Exit::Input);
    assert!(
        failure
            .to_string()
            .contains("\n  stdin:1:2: bad\n  stdin:3:4: worse\n"),
        "{failure}"
    );
    let sent = daemon.bodies("POST /v1/apply ").remove(0);
    assert_eq!(
        (&sent["dry_run"], &sent["manifests"]),
        (&true.into(), &"kind: Scret".into())
    );
}

#[tokio::test]
async fn streams_begin_where_asked_and_a_tail_that_ends_is_a_failure() {
    let daemon = Daemon::serve(
        "streams",
        &[
            (
                "GET /v1/events?after=5&limit=2 ",
                200,
                "{\"a\":1}\n{\"a\":2}\n",
            ),
            ("GET /v1/audit?after=7&follow=true ", 200, "{}\n"),
            (
                "GET /v1/audit?after=7&follow=true&numbered=true ",
                200,
                "{\"index\":40,\"record\":{}}\n",
            ),
        ],
    );
    daemon
        .run(&[
            "events", "list", "--after", "5", "--limit", "2", "-o", "json",
        ])
        .await
        .unwrap();
    // A program gets no numbers with the records, a person does.
    for (format, next) in [("json", "--after 8"), ("table", "--after 41")] {
        let tail = ["audit", "tail", "--after", "7", "-o", format];
        let failure = daemon.run(&tail).await.unwrap_err();
        assert!(
            failure.exit == Exit::Unavailable && failure.to_string().contains(next),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn filters_go_to_the_server_and_a_filtered_tail_goes_on_after_what_it_saw() {
    const EVENT: &str = "{\"sequence\":\"40\",\"type\":\"t\"}\n";
    let daemon = Daemon::serve(
        "filters",
        &[
            (
                "GET /v1/events?after=0&type=a.b.&secret=a/b&since=2026-01-04T00%3A00%3A00.000000Z ",
                200,
                EVENT,
            ),
            (
                "GET /v1/events?after=3&follow=true&subject=secret/x ",
                200,
                EVENT,
            ),
        ],
    );
    let line = "events list --type a.b. --secret a/b --since 2026-01-04T00:00:00Z";
    let words: Vec<&str> = line.split(' ').collect();
    daemon.run(&words).await.unwrap();
    let tail = ["events", "tail", "--after", "3", "--subject", "secret/x"];
    let failure = daemon.run(&tail).await.unwrap_err();
    assert!(failure.to_string().contains("--after 40"), "{failure}");
    let failure = daemon.run(&["events", "list", "--since", "noon"]).await;
    let failure = failure.unwrap_err();
    assert!(
        failure.exit == Exit::Usage && failure.to_string().contains("24h"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_subscription_is_acknowledged_after_what_was_shown() {
    const SIEM: &str = r#"{"name":"siem","id":"i1","acknowledged":40,"behind":0}"#;
    const NONE: &str = r#"{"name":"none","id":"i2","acknowledged":0,"behind":0}"#;
    const EVENTS: &str = "{\"sequence\":\"39\"}\n{\"sequence\":\"40\"}\n";
    let daemon = Daemon::serve(
        "subscriptions",
        &[
            ("GET /v1/events?after=0&subscription=siem ", 200, EVENTS),
            ("GET /v1/events?after=0&subscription=none ", 200, ""),
            ("GET /v1/subscriptions/siem ", 200, SIEM),
            ("GET /v1/subscriptions/none ", 200, NONE),
            ("POST /v1/subscriptions/siem/acknowledge ", 200, SIEM),
            ("POST /v1/subscriptions ", 200, SIEM),
            ("GET /v1/subscriptions ", 200, "[]"),
            ("DELETE /v1/subscriptions/siem ", 200, SIEM),
        ],
    );
    for line in [
        "events subscribe siem --after 0",
        "events list --subscription siem",
        "events list --subscription siem --acknowledge -o json",
        "events list --subscription none --acknowledge",
        "events acknowledge siem 7",
        "events subscriptions",
        "events unsubscribe siem",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(daemon.run(&words).await, Ok(()), "{line}");
    }
    let numbers = daemon.bodies("POST /v1/subscriptions/siem/acknowledge ");
    let expected = [40, 7].map(|number| serde_json::json!({ "id": "i1", "number": number }));
    assert_eq!(numbers, expected);
    let made = daemon.bodies("POST /v1/subscriptions ");
    assert_eq!(made, [serde_json::json!({ "name": "siem", "after": 0 })]);
}

#[tokio::test]
async fn history_asks_for_a_time_or_for_now() {
    const THEN: &str = r#"{"secret":"a/b","at":"2026-01-04T00:00:00.000000Z","number":7,"versions":[{"version":1,"stage":"current","state":"alive","hosts":[]}],"consumers":[]}"#;
    let daemon = Daemon::serve(
        "history",
        &[
            (
                "GET /v1/history/a/b?at=2026-01-04T00%3A00%3A00.000000Z ",
                200,
                THEN,
            ),
            ("GET /v1/history/a/b ", 200, THEN),
            ("GET /v1/history/a/c ", 404, NOT_FOUND),
            ("GET /v1/secrets ", 200, SECRETS),
        ],
    );
    for line in [
        "history a/b --at 2026-01-04T00:00:00Z",
        "history a/b",
        "history a/b -o json",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        daemon.run(&words).await.unwrap();
    }
    let failure = daemon.run(&["history", "a/c"]).await.unwrap_err();
    assert!(
        failure.to_string().contains("did you mean `a/b`"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_journal_that_does_not_verify_has_its_own_code() {
    let bad =
        r#"{"verified":false,"events":3,"audit_records":2,"faults":["event 2: hash differs"]}"#;
    let answers: &'static [_] = vec![("GET /v1/journal/verify ", 200, bad)].leak();
    let daemon = Daemon::serve("journal", answers);
    let failure = daemon.run(&["journal", "verify"]).await.unwrap_err();
    assert!(
        failure.exit == Exit::Unverified && failure.what.contains("event 2"),
        "{failure}"
    );
}

const PAGE: &str = r#"{"name":"web-1","id":"i","state":"joined","generation":3,"consumers":0,"sealing_key":"k","key_generation":1,"held":[]}"#;
const EVICTED: &str = r#"{"host":{"name":"web-1","id":"i","state":"evicted","generation":3,"consumers":0},"held":[{"secret":"a/b","versions":[1],"current":true}]}"#;
const TOKEN: &str =
    r#"{"name":"web-2","host":"i","token":"kwjoin1.x","expires_at":"2026-01-04T02:10:00.000000Z"}"#;
const ONE_PROCESS: &str = r#"{"type":"x","title":"t","status":409,"detail":"no TCP port; run the services apart","code":"conflict"}"#;
const NO_HOST: &str = r#"{"type":"x","title":"t","status":404,"detail":"no host is named `web-9`; `keywheel host list` lists them","code":"not_found"}"#;

#[tokio::test]
async fn hosts_are_shown_evicted_and_let_in() {
    let daemon = Daemon::serve(
        "hosts",
        &[
            ("GET /v1/hosts ", 200, "[]"),
            ("GET /v1/hosts/web-1 ", 200, PAGE),
            ("GET /v1/hosts/web-9 ", 404, NO_HOST),
            ("POST /v1/hosts/web-1/evict ", 200, EVICTED),
            ("POST /v1/rotate ", 200, ROTATION),
            ("POST /v1/hosts/web-2/join-token ", 200, TOKEN),
            ("POST /v1/hosts/web-3/join-token ", 409, ONE_PROCESS),
        ],
    );
    for verb in [
        &["host", "list"][..],
        &["get", "hosts"],
        &["get", "host", "web-1"],
        &["host", "describe", "web-1", "-o", "json"],
        &["describe", "host", "web-1"],
        &["host", "join-token", "web-2"],
        &["host", "evict", "web-1", "--reason", "stolen", "--yes"],
    ] {
        assert_eq!(daemon.run(verb).await, Ok(()), "{verb:?}");
    }
    let sent = daemon.bodies("POST /v1/hosts/web-1/evict ");
    assert_eq!(sent, [serde_json::json!({ "reason": "stolen" })]);
    assert!(
        daemon.bodies("POST /v1/rotate ").is_empty(),
        "not asked for"
    );
    let words = ["host", "evict", "web-1", "--reason", "stolen", "--yes"];
    let words = [&words[..], &["--rotate"]].concat();
    assert_eq!(daemon.run(&words).await, Ok(()));
    let sent = daemon.bodies("POST /v1/rotate ");
    assert_eq!(sent, [serde_json::json!({ "secret": "a/b" })]);
    let unknown = daemon.run(&["host", "describe", "web-9"]).await;
    assert_eq!(unknown.unwrap_err().exit, Exit::NotFound);
    let refused = daemon.run(&["host", "join-token", "web-3"]).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.exit, Exit::Conflict);
    assert!(refused.what.contains("no TCP port"), "{refused}");
}
