//! Real sockets: slow, many, denied; and an operator among them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use keywheel_engine::port::journal::Journal as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixSocket;
use tokio::task::JoinHandle;

use super::*;
use crate::denials::RECORDED_PER_UID;
use crate::places::MAX_PER_STRANGER;
use crate::testing::{Bench, OPERATOR, STRANGER};

const PATIENCE: Duration = Duration::from_secs(120);
const SHORT: Spans = Spans {
    head: Duration::from_secs(3),
    stranger: Duration::from_secs(4),
    window: Duration::from_secs(3600),
};

/// Tests all run as one user: who binds the name of a stranger is taken for one.
fn by_name(stream: &UnixStream) -> Peer {
    let name = stream.peer_addr().unwrap();
    let is_stranger = name
        .as_pathname()
        .is_some_and(|path| path.to_string_lossy().contains("stranger"));
    if is_stranger { STRANGER } else { OPERATOR }
}

struct Rig {
    bench: Bench,
    dir: PathBuf,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    names: AtomicU32,
}

impl Rig {
    async fn start(name: &str, spans: Spans) -> Self {
        let bench = Bench::start().await;
        let dir =
            std::env::temp_dir().join(format!("keywheel-server-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let listener = crate::socket::bind(&dir.join("api.sock")).unwrap();
        let stop = CancellationToken::new();
        let mut server = Server::new(bench.api.clone(), spans);
        server.peer_of = by_name;
        let serving = tokio::spawn(server.run(listener, stop.clone()));
        Self {
            bench,
            dir,
            stop,
            serving,
            names: AtomicU32::new(0),
        }
    }

    async fn connect(&self, who: &str) -> UnixStream {
        let name = self.names.fetch_add(1, Ordering::Relaxed);
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(self.dir.join(format!("{who}-{name}"))).unwrap();
        socket.connect(path(&self.dir)).await.unwrap()
    }

    async fn get(&self, who: &str, verb: &str) -> String {
        let mut stream = self.connect(who).await;
        ask(&mut stream, verb).await;
        read(&mut stream).await
    }

    async fn end(self) -> Bench {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.serving)
            .await
            .unwrap()
            .unwrap();
        std::fs::remove_dir_all(&self.dir).unwrap();
        self.bench
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("api.sock")
}

async fn ask(stream: &mut UnixStream, verb: &str) {
    let request = format!("GET /v1/{verb} HTTP/1.1\r\nhost: k\r\nconnection: close\r\n\r\n");
    // Who finds no place may be cut off while it writes.
    let _cut = stream.write_all(request.as_bytes()).await;
}

/// All there is until the other side closes.
async fn read(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _reset = tokio::time::timeout(PATIENCE, reading).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_head_that_trickles_and_an_idle_connection_end_and_a_stream_does_not() {
    let rig = Rig::start("slow", SHORT).await;
    let mut tail = rig.connect("operator").await;
    let follow = b"GET /v1/events?follow=true HTTP/1.1\r\nhost: k\r\n\r\n";
    tail.write_all(follow).await.unwrap();
    let mut slow = rig.connect("operator").await;
    let begun = tokio::time::Instant::now();
    slow.write_all(b"GET /v1/status HTTP/1.1\r\nx: ")
        .await
        .unwrap();
    let trickle = async {
        while slow.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trickle).await.unwrap();
    assert!(begun.elapsed() >= SHORT.head);
    let mut idle = rig.connect("operator").await;
    idle.write_all(b"GET /v1/status HTTP/1.1\r\nhost: k\r\n\r\n")
        .await
        .unwrap();
    assert!(read(&mut idle).await.starts_with("HTTP/1.1 200"));
    // The stream is long past every span; an event still comes through it.
    tokio::time::sleep(SHORT.stranger).await;
    let mut operator = rig.connect("operator").await;
    let body = r#"{"manifests":"apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: prod/db }\nspec: { store: local }\n","source":"t"}"#;
    let head = format!(
        "POST /v1/apply HTTP/1.1\r\nhost: k\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    operator
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .unwrap();
    assert!(read(&mut operator).await.starts_with("HTTP/1.1 200"));
    let mut seen = String::new();
    while !seen.contains("prod/db") {
        let mut bytes = [0; 4096];
        let count = tokio::time::timeout(PATIENCE, tail.read(&mut bytes))
            .await
            .unwrap()
            .unwrap();
        assert_ne!(count, 0, "the stream was closed: {seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    // The head that did not end, and neither what idled after an answer nor what is cut off now.
    let mut silent = rig.connect("operator").await;
    assert_eq!(read(&mut silent).await, "");
    assert_one_misread(rig.end().await, "its head did not end in time").await;
}

/// One request was not understood, for this reason, and is on record with the window's count.
async fn assert_one_misread(bench: Bench, why: &str) {
    let mut audit = bench.audit().await;
    audit.retain(|record| record.contains("a request that is not understood"));
    assert!(
        audit.len() == 1
            && audit[0].contains("1 more requests denied")
            && audit[0].contains(why)
            && audit[0].contains("uid: 0"),
        "{audit:?}"
    );
}

#[tokio::test]
async fn what_is_no_http_is_counted_and_what_breaks_off_is_not() {
    let rig = Rig::start("garbage", Spans::default()).await;
    let mut stream = rig.connect("operator").await;
    stream
        .write_all(b"\x16\x03\x01 garbage\r\n\r\n")
        .await
        .unwrap();
    let said = read(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    let mut half = rig.connect("operator").await;
    half.write_all(b"GET /v1/status HT").await.unwrap();
    half.shutdown().await.unwrap();
    assert_eq!(read(&mut half).await, "");
    drop(rig.connect("operator").await);
    assert_one_misread(rig.end().await, "it is not HTTP").await;
}

#[tokio::test]
async fn strangers_that_hold_all_their_places_keep_no_operator_out() {
    // Long enough for all of them to come, and for one more to be turned away.
    let patient = Spans {
        head: PATIENCE,
        stranger: Duration::from_secs(15),
        ..SHORT
    };
    let rig = Rig::start("places", patient).await;
    let mut held = Vec::new();
    for _ in 0..MAX_PER_STRANGER {
        held.push(rig.connect("stranger").await);
    }
    assert!(
        rig.get("operator", "status")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let refused = rig.get("stranger", "status").await;
    assert!(
        refused.is_empty() || refused.starts_with("HTTP/1.1 503"),
        "{refused}"
    );
    // Silent or not, they are gone in time, and another stranger is told no on record.
    for stranger in &mut held {
        assert_eq!(read(stranger).await, "");
    }
    assert!(
        rig.get("stranger", "status")
            .await
            .starts_with("HTTP/1.1 403")
    );
    let audit = rig.end().await.audit().await;
    assert_eq!(audit.len(), 2, "{audit:?}");
    assert!(
        audit[1].contains("1 more requests denied") && audit[1].contains("connect"),
        "{audit:?}"
    );
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let rig = Rig::start("head", Spans::default()).await;
    let said = async |bytes: usize| {
        let mut stream = rig.connect("operator").await;
        let filler = "a".repeat(bytes);
        ask(
            &mut stream,
            &format!("status HTTP/1.1\r\nx: {filler}\r\ny:"),
        )
        .await;
        read(&mut stream).await
    };
    let fits = said(MAX_HEAD_BYTES / 2).await;
    assert!(fits.starts_with("HTTP/1.1 200"), "{fits}");
    // The limit is one of the buffer, which is read into before it is looked at.
    let refused = said(2 * MAX_HEAD_BYTES).await;
    assert!(
        refused.is_empty() || refused.starts_with("HTTP/1.1 431"),
        "{refused}"
    );
    assert_one_misread(rig.end().await, "its head is too large").await;
}

#[tokio::test]
async fn who_finds_no_place_is_told_in_whole() {
    let (head, body) = NO_PLACE.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}\r\n", body.len())),
        "{head}"
    );
    let problem: keywheel_schemas::api::Problem = serde_json::from_str(body).unwrap();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (503, "unavailable")
    );
}

#[tokio::test]
async fn a_flood_of_denials_is_one_record_per_window_and_another_at_the_stop() {
    // The window ends when the test says so.
    let patient = Spans {
        head: PATIENCE,
        stranger: PATIENCE,
        ..SHORT
    };
    let rig = Rig::start("flood", patient).await;
    let flood = async |count: u32| {
        for _ in 0..count {
            let said = rig.get("stranger", "secrets").await;
            assert!(
                said.starts_with("HTTP/1.1 403") || said.starts_with("HTTP/1.1 429"),
                "{said}"
            );
        }
    };
    flood(RECORDED_PER_UID + 40).await;
    assert!(
        rig.get("operator", "status")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let singly = RECORDED_PER_UID as usize;
    assert_eq!(rig.bench.audit().await.len(), singly);
    flush(&rig.bench.api).await;
    let audit = rig.bench.audit().await;
    assert_eq!(audit.len(), singly + 1, "{audit:?}");
    assert!(
        audit[singly].contains("40 more requests denied"),
        "{}",
        audit[singly]
    );
    assert!(audit[singly].contains("4242"), "{}", audit[singly]);
    flood(RECORDED_PER_UID + 3).await;
    let audit = rig.end().await.audit().await;
    let last = audit.last().unwrap();
    assert!(last.contains("3 more requests denied"), "{last}");
    assert!(
        last.contains("first at") && last.contains("last at"),
        "{last}"
    );
    assert_eq!(audit.len(), 2 * (singly + 1));
}

#[tokio::test]
async fn a_window_ends_by_itself() {
    let spans = Spans {
        window: Duration::from_millis(50),
        ..Spans::default()
    };
    let rig = Rig::start("window", spans).await;
    let api = &rig.bench.api;
    let attempt = Attempt::new(api.clock.now(), "connect");
    api.denials.count(&api.access.principal(&STRANGER), attempt);
    let written = async {
        while rig.bench.journal.head().await.unwrap().audit_size == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
    let audit = rig.end().await.audit().await;
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert!(audit[0].contains("1 more requests denied"), "{audit:?}");
}
