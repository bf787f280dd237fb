//! Spans as a collector gets them, and that nobody waits for one.

use std::io::Read as _;
use std::sync::Mutex;
use std::time::Duration;

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::wire::Any;
use super::*;
use crate::{Page, Source as _};

struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let tick = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_micros(i64::try_from(tick).unwrap())
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Default)]
struct Counting(AtomicU64);

impl Ids for Counting {
    fn draw(&self) -> [u8; 16] {
        let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        u128::from(n).to_be_bytes()
    }
}

/// A server that answers each request with the next status, and keeps what it was sent.
async fn collector(statuses: Vec<u16>) -> (String, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&taken);
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            loop {
                let head = all.windows(4).position(|part| part == b"\r\n\r\n");
                let text = String::from_utf8_lossy(&all[..head.unwrap_or(0)]).to_lowercase();
                let length = text.split("content-length: ").nth(1);
                let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
                if let (Some(head), Some(length)) = (head, length)
                    && all.len() == head + 4 + length
                {
                    assert!(text.starts_with("post /base/v1/traces http/1.1"), "{text}");
                    assert!(
                        text.contains("content-type: application/x-protobuf"),
                        "{text}"
                    );
                    assert!(text.contains("authorization: bearer t-1"), "{text}");
                    assert!(text.contains("content-encoding: gzip"), "{text}");
                    let mut whole = Vec::new();
                    let packed = all.split_off(head + 4);
                    let mut unpacking = flate2::read::GzDecoder::new(packed.as_slice());
                    unpacking.read_to_end(&mut whole).unwrap();
                    kept.lock().unwrap().push(whole);
                    break;
                }
                assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0);
            }
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (format!("{at}/base/"), taken)
}

/// With a header that is a credential, and compressed.
fn told_at(endpoint: &str) -> Collector {
    Collector {
        endpoint: endpoint.to_owned(),
        headers: Headers::parse("authorization=Bearer%20t-1").unwrap(),
        gzip: true,
    }
}

#[test]
fn headers_go_to_nobody_in_the_clear() {
    for (endpoint, is_safe) in [
        ("http://127.0.0.1:4318", true),
        ("http://[::1]:4318", true),
        ("http://localhost:4318", true),
        ("http://collector:4318", false),
        ("http://192.0.2.1:4318", false),
        ("http://127.0.0.1.example:4318", false),
    ] {
        let made = client::Client::new(told_at(endpoint)).map(drop);
        assert_eq!(made.is_ok(), is_safe, "{endpoint}");
        if let Err(error) = made {
            let text = format!("{error} {error:?}");
            assert!(text.contains("https") && !text.contains("t-1"), "{text}");
        }
        let without = Collector {
            headers: Headers::default(),
            ..told_at(endpoint)
        };
        assert!(client::Client::new(without).is_ok());
    }
}

fn above() -> Context {
    Context::new([7; 16], [8; 8])
}

/// What was told of a parent and its child, each of another service.
fn are_parent_and_child(body: &[u8]) {
    let told = wire::Export::decode(body).unwrap();
    let services: Vec<_> = told
        .resource_spans
        .iter()
        .map(|one| {
            let attributes = &one.resource.as_ref().unwrap().attributes;
            let of = |key: &str| {
                let found = attributes.iter().find(|one| one.key == key).unwrap();
                match found.value.as_ref().unwrap().value.as_ref().unwrap() {
                    Any::Text(text) => text.clone(),
                    Any::Number(number) => number.to_string(),
                }
            };
            assert_eq!(of("service.version"), "1.2.3");
            of("service.name")
        })
        .collect();
    assert_eq!(services, ["keywheel-gateway", "keywheel-injector"]);
    let span = |n: usize| &told.resource_spans[n].scope_spans[0].spans[0];
    let (parent, child) = (span(0), span(1));
    assert_eq!(parent.trace_id, [7; 16]);
    assert_eq!(parent.parent_span_id, [8; 8]);
    assert_eq!(child.parent_span_id, parent.span_id);
    assert_eq!(parent.attributes.len(), MAX_ATTRIBUTES);
    let Some(Any::Text(text)) = parent.attributes[0].value.clone().unwrap().value else {
        panic!("{:?}", parent.attributes[0])
    };
    assert_eq!(text.chars().count(), MAX_TEXT_CHARS);
}

fn nothing_is_made_without_an_exporter() {
    let off = Span::below("gateway", "x", Kind::Server, Some(above()));
    assert_eq!(
        off.context(),
        Some(above()),
        "nothing but what it was given"
    );
    drop(off);
    let ids = Counting::default();
    assert!(
        Span::root("gateway", "x", Kind::Server, &ids)
            .context()
            .is_some()
    );
    assert!(!is_on());
}

/// All in one test, because a process has one exporter.
#[tokio::test]
async fn spans_are_told_once_and_again_where_that_helps_and_never_wait() {
    nothing_is_made_without_an_exporter();
    let (at, taken) = collector(vec![503, 200, 400, 200]).await;
    let resource = Resource {
        machine: "one".to_owned(),
        version: "1.2.3",
    };
    let clock = Arc::new(Ticking(AtomicU64::new(5)));
    let collector = told_at(&at);
    let exporting = start(collector, resource, clock, Arc::new(Counting::default())).unwrap();
    assert!(is_on());
    let long = "é".repeat(MAX_TEXT_CHARS + 1);
    let mut parent = Span::below("gateway", "submit", Kind::Server, Some(above()));
    parent.set("text", long.as_str());
    for n in 0..MAX_ATTRIBUTES as u64 {
        parent.set("number", n);
    }
    parent.fail("store", "no");
    let child = Span::below("injector", "replace", Kind::Internal, parent.context());
    let unsampled = Context {
        is_sampled: false,
        ..above()
    };
    let unseen = Span::below("gateway", "x", Kind::Server, Some(unsampled));
    assert_ne!(unseen.context().unwrap().span, above().span);
    drop((child, parent, unseen));
    let until = |count: usize| {
        let taken = Arc::clone(&taken);
        async move {
            while taken.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    until(2).await;
    let bodies = std::mem::take(&mut *taken.lock().unwrap());
    assert_eq!(bodies[0], bodies[1], "told again after 503");
    are_parent_and_child(&bodies[0]);

    // What is refused for good is dropped, and counted; what does not fit is, too.
    drop(Span::below("gateway", "bad", Kind::Server, Some(above())));
    until(1).await;
    for _ in 0..=MAX_QUEUED {
        drop(Span::below("gateway", "more", Kind::Server, Some(above())));
    }
    exporting.finish().await;
    let mut page = Page::default();
    SpanCounts.read(&mut page).await;
    let page = page.text();
    let bodies = taken.lock().unwrap();
    let last = wire::Export::decode(bodies.last().unwrap().as_slice()).unwrap();
    assert_eq!(last.resource_spans[0].scope_spans[0].spans.len(), MAX_BATCH);
    assert!(page.contains("keywheel_spans_exported_total 514"), "{page}");
    let dropped = page
        .lines()
        .find_map(|line| line.strip_prefix("keywheel_spans_dropped_total "));
    // The refused one, the one beyond the queue, and what nobody was there to take at the stop.
    let untaken = MAX_QUEUED - MAX_BATCH;
    assert_eq!(dropped.unwrap().parse(), Ok(2 + untaken), "{page}");
}
