//! The client against a server that answers what the test says, over a real unix socket.

use std::path::PathBuf;
use std::sync::Mutex;

use keywheel_schemas::api::StoreKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;

struct Fake {
    path: PathBuf,
    client: Client,
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn place(name: &str) -> (PathBuf, Client) {
    let path = std::env::temp_dir().join(format!("keywheel-client-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let address = Address::parse(&format!("unix://{}", path.display())).unwrap();
    (path, Client::new(address, None).unwrap())
}

/// Serves one connection: reads a head, writes the bytes, closes.
fn serve(name: &str, answer: Vec<u8>) -> Fake {
    let (path, client) = place(name);
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; 4096];
        let _ = stream.read(&mut seen).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    });
    Fake { path, client }
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn problem(code: &str) -> String {
    format!(
        "{{\"type\":\"about:blank#{code}\",\"title\":\"t\",\"status\":400,\"detail\":\"why {code}\",\"code\":\"{code}\"}}"
    )
}

#[tokio::test]
async fn an_answer_is_read_into_its_type() {
    let fake = serve(
        "good",
        http("200 OK", r#"{"public_key":"k","deployment":"d"}"#),
    );
    let key: StoreKey = fake.client.read("/v1/store-key").await.unwrap();
    assert_eq!(
        (key.public_key.as_str(), key.deployment.as_str()),
        ("k", "d")
    );
}

#[tokio::test]
async fn a_problem_keeps_its_text_and_gets_its_code() {
    for (code, exit) in [
        ("not_found", Exit::NotFound),
        ("denied", Exit::Denied),
        ("unavailable", Exit::Unavailable),
    ] {
        let fake = serve(code, http("400 Bad Request", &problem(code)));
        let failure = fake.client.read::<StoreKey>("/x").await.unwrap_err();
        assert_eq!((failure.exit, failure.what), (exit, format!("why {code}")));
    }
    let fake = serve("input", http("400 Bad Request", &problem("invalid")));
    let failure = fake
        .client
        .change_by_input::<StoreKey>("/x", &1)
        .await
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Input);
}

/// Serves one connection after the other; what was asked.
fn serve_all(name: &str, answers: Vec<Vec<u8>>) -> (Fake, Arc<Mutex<Vec<String>>>) {
    let (path, client) = place(name);
    let listener = UnixListener::bind(&path).unwrap();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..read]);
            let line = asked.lines().next().unwrap_or_default().to_owned();
            log.lock().unwrap().push(line);
            stream.write_all(&answer).await.unwrap();
        }
    });
    (Fake { path, client }, seen)
}

fn waiting() -> Vec<u8> {
    let body = problem("waiting");
    let head = "HTTP/1.1 202 Accepted\r\nLocation: /v1/approvals/a1";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn what_waits_for_others_is_no_success_and_has_a_code_of_its_own() {
    let (fake, seen) = serve_all("waits", vec![waiting()]);
    let failure = fake.client.read::<StoreKey>("/v1/x").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Waiting);
    assert_eq!(failure.what, "why waiting");
    assert!(failure.to_string().contains("--break-glass"), "{failure}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn broken_glass_goes_on_with_the_same_request_once() {
    let good = http("200 OK", r#"{"public_key":"k","deployment":"d"}"#);
    let (fake, seen) = serve_all("glass", vec![waiting(), http("200 OK", "{}"), good]);
    let client = fake.client.clone().breaking_glass(Some("fire".to_owned()));
    client.read::<StoreKey>("/v1/x").await.unwrap();
    let asked = seen.lock().unwrap().clone();
    let lines = [
        "GET /v1/x HTTP/1.1",
        "POST /v1/approvals/a1/break-glass HTTP/1.1",
        "GET /v1/x HTTP/1.1",
    ];
    assert_eq!(asked, lines);
    let no = http("403 Forbidden", &problem("denied"));
    let (fake, seen) = serve_all("no-glass", vec![waiting(), no]);
    let client = fake.client.clone().breaking_glass(Some("fire".to_owned()));
    let failure = client.read::<StoreKey>("/v1/x").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Denied);
    assert_eq!(seen.lock().unwrap().len(), 2, "it is not asked again");
    let still = vec![waiting(), http("200 OK", "{}"), waiting()];
    let (fake, _) = serve_all("glass-again", still);
    let client = fake.client.clone().breaking_glass(Some("fire".to_owned()));
    let failure = client.read::<StoreKey>("/v1/x").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Waiting);
}

#[tokio::test]
async fn without_a_server_the_next_step_is_told() {
    let (path, client) = place("nobody");
    let failure = client.read::<StoreKey>("/x").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    let text = failure.to_string();
    assert!(
        text.contains(&path.display().to_string()) && text.contains("`keywheel up`"),
        "{text}"
    );
    let listener = UnixListener::bind(&path).unwrap();
    // Not by closing: what a test beside this one just starts has it, too, until it runs.
    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
    let stale = client.read::<StoreKey>("/x").await.unwrap_err();
    assert_eq!(stale, failure, "a socket that nobody serves is as none");
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn a_server_that_breaks_off_or_speaks_something_else_is_told_apart() {
    let cut = serve(
        "cut",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec(),
    );
    assert_eq!(
        cut.client.read::<StoreKey>("/x").await.unwrap_err().exit,
        Exit::Unavailable
    );
    let other = serve("other", b"SSH-2.0-x\r\n".to_vec());
    assert_eq!(
        other.client.read::<StoreKey>("/x").await.unwrap_err().exit,
        Exit::Unavailable
    );
    let page = serve("page", http("502 Bad Gateway", "<html>"));
    let failure = page.client.read::<StoreKey>("/x").await.unwrap_err();
    assert!(
        failure.what.contains("does not speak keywheel's protocol"),
        "{failure}"
    );
    let shape = serve("shape", http("200 OK", "[]"));
    let failure = shape.client.read::<StoreKey>("/x").await.unwrap_err();
    assert!(
        failure.to_string().contains("keywheel version"),
        "{failure}"
    );
}

#[tokio::test]
async fn lines_come_one_by_one_and_the_last_needs_no_end() {
    let fake = serve("lines", http("200 OK", "{\"a\":1}\n\n{\"b\":2}\nend"));
    let mut lines = fake.client.lines("/x").await.unwrap();
    let mut seen = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        seen.push(String::from_utf8(line).unwrap());
    }
    assert_eq!(seen, ["{\"a\":1}", "", "{\"b\":2}", "end"]);
    let refused = serve("refused", http("403 Forbidden", &problem("denied")));
    assert_eq!(
        refused.client.lines("/x").await.unwrap_err().exit,
        Exit::Denied
    );
}

#[tokio::test]
async fn a_list_is_read_to_its_end() {
    let (path, client) = place("pages");
    let listener = UnixListener::bind(&path).unwrap();
    let serving = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (link, body) in [
            ("Link: </v1/x?after=a%2Fb>; rel=\"next\"\r\n", "[1,2]"),
            ("", "[3]"),
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let read = stream.read(&mut seen).await.unwrap();
            let head = String::from_utf8_lossy(&seen[..read]).into_owned();
            asked.push(head.lines().next().unwrap_or_default().to_owned());
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\n{link}Content-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    let all: Vec<u64> = client.read_all("/v1/x").await.unwrap();
    assert_eq!(all, [1, 2, 3]);
    let asked = serving.await.unwrap();
    assert_eq!(
        asked,
        ["GET /v1/x HTTP/1.1", "GET /v1/x?after=a%2Fb HTTP/1.1"]
    );
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_link_leads_to_the_same_server_only() {
    for (link, next) in [
        ("</v1/x?after=1>; rel=\"next\"", Some("/v1/x?after=1")),
        ("</v1/x>; rel=\"prev\"", None),
        ("<https://elsewhere.example/v1/x>; rel=\"next\"", None),
        ("/v1/x", None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::LINK, link.parse().unwrap());
        assert_eq!(next_page(&headers).as_deref(), next, "{link}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_a_failure_and_no_end() {
    let fake = serve(
        "broken",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\none\ntwo".to_vec(),
    );
    let mut lines = fake.client.lines("/x").await.unwrap();
    assert_eq!(
        lines.next().await.unwrap().as_deref(),
        Some(b"one".as_slice())
    );
    assert_eq!(lines.next().await.unwrap_err().exit, Exit::Unavailable);
}

#[tokio::test]
async fn a_line_may_be_as_long_as_an_event_and_no_longer() {
    for (length, is_read) in [(MAX_LINE_BYTES, true), (MAX_LINE_BYTES + 1, false)] {
        let body = format!("{}\n{{}}\n", "x".repeat(length));
        let fake = serve("long", http("200 OK", &body));
        let mut lines = fake.client.lines("/x").await.unwrap();
        let line = lines.next().await;
        if is_read {
            assert_eq!(line.unwrap().unwrap().len(), length);
            assert_eq!(lines.next().await.unwrap().unwrap(), b"{}");
        } else {
            assert!(line.unwrap_err().what.contains("more than"));
        }
    }
}

#[test]
fn the_last_line_of_a_stream_whose_right_ended_is_a_refusal_and_no_row() {
    let problem = r#"{"type":"about:blank#denied","title":"denied","status":403,"detail":"this stream ends: `certificate:ada` may not audit `environment` any more","code":"denied"}"#;
    let ended = format!("{{\"ended\":{problem}}}");
    let failure = refuse_ended(ended.as_bytes()).unwrap_err();
    assert_eq!(failure.exit, Exit::Denied);
    assert!(failure.what.contains("may not audit"), "{}", failure.what);
    for row in [
        "{\"aggregatesequence\":\"1\",\"data\":{\"ended\":true}}",
        "{}",
        "",
        "{\"ended\":\"no problem\"}",
    ] {
        assert!(refuse_ended(row.as_bytes()).is_ok(), "{row}");
    }
}
