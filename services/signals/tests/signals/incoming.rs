//! Senders that sign, forge, repeat, flood, and say what cannot be read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use keywheel_core::audit::Principal;
use keywheel_core::command::{Command, Outward};
use keywheel_core::event::Event;
use keywheel_core::id::LetterId;
use keywheel_core::name::SignalSourceName;
use keywheel_core::signal::{self, Format, Proof, Spec};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::deliveries::{Deliveries as _, Letter, MAX_LETTER_AGE};
use keywheel_engine::port::journal::Journal as _;
use keywheel_engine::port::outside::Outside as _;
use keywheel_rotators::webhook::Keys;
use keywheel_seal::SecretBytes;
use keywheel_signals::{
    BURST, Desk, Intake, MAX_READING_PER_SOURCE, MAX_SIGNAL_BODY_BYTES, Sweeper,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bench::{Bench, KEY};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const CANARY: &str = "ghp_canary0123456789";
/// How often something is looked at that has to come.
pub(crate) const MAX_TRIES: u32 = 3000;
const STRUCTURED: &str = "application/cloudevents+json";

pub(crate) struct Door {
    pub(crate) at: SocketAddr,
    _running: DropGuard,
}

pub(crate) async fn door(bench: &Bench) -> Door {
    door_of(&bench.desk()).await
}

pub(crate) async fn door_of(desk: &Desk) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(Intake::new(desk).run(listener, stop.clone()));
    Door {
        at,
        _running: stop.drop_guard(),
    }
}

impl Door {
    /// Sends a request; its status and its answer.
    pub(crate) async fn send(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, String) {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Who is refused before its body is read may close first.
        let _refused = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        (status.unwrap_or_default(), answer)
    }

    /// Sends a CloudEvent, signed now.
    async fn signed(&self, bench: &Bench, event: &Value) -> (u16, String) {
        self.signed_before(bench, event, 0).await
    }

    /// Sends one that was signed so many seconds ago.
    async fn signed_before(&self, bench: &Bench, event: &Value, ago: i64) -> (u16, String) {
        use keywheel_engine::port::clock::Clock as _;
        let body = event.to_string();
        let keys = Keys::parse(&SecretBytes::from(KEY.as_bytes().to_vec())).unwrap();
        let time = bench.clock.now().micros() / 1_000_000 - ago;
        let signature = keys.sign("m", time, body.as_bytes());
        let time = time.to_string();
        let headers = [
            ("content-type", STRUCTURED),
            ("webhook-id", "m"),
            ("webhook-timestamp", time.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        self.send("/signals/scanner", &headers, body.as_bytes())
            .await
    }
}

pub(crate) fn spec(bench: &Bench, format: Format, proof: Proof, map: &[(&str, &str)]) -> Spec {
    let name = match proof {
        Proof::StandardWebhooks => "key",
        _ => "token",
    };
    bench.write_key("token", TOKEN);
    let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Spec {
        format,
        proof,
        key_file: bench.key_path(name),
        map: map.iter().map(pair).collect(),
        keeps_letters: false,
    }
}

fn leak(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "https://scan.example", "type": "com.example.leak",
        "data": { "secret": "prod/db", "value": CANARY },
    })
}

/// Signals in the log: id, type, and what was kept.
pub(crate) async fn received(bench: &Bench) -> Vec<(String, String, BTreeMap<String, String>)> {
    let events = bench.events(0).await;
    let one = |event: &Event| match event {
        Event::Signal(
            _,
            signal::Event::Received {
                id, kind, fields, ..
            },
        ) => Some((id.clone(), kind.clone(), fields.clone())),
        _ => None,
    };
    events
        .iter()
        .filter_map(|event| one(&event.event))
        .collect()
}

async fn scanner(bench: &Bench) {
    let map = [("secret", "body.secret")];
    let spec = spec(bench, Format::CloudEvents, Proof::StandardWebhooks, &map);
    bench.hear("scanner", spec).await;
}

#[tokio::test]
async fn a_signal_is_taken_once_and_only_what_was_chosen_is_kept() {
    let bench = Bench::start(&[]).await;
    scanner(&bench).await;
    let door = door(&bench).await;
    let (status, answer) = door.signed(&bench, &leak("7")).await;
    assert_eq!(status, 202, "{answer}");
    assert!(answer.contains("\"taken\":1"), "{answer}");
    let (status, answer) = door.signed(&bench, &leak("7")).await;
    assert_eq!(status, 202);
    assert!(answer.contains("\"repeated\":1"), "{answer}");
    // Another process over the same log knows it, too.
    let other = self::door(&bench).await;
    let (_, answer) = other.signed(&bench, &leak("7")).await;
    assert!(answer.contains("\"taken\":0"), "{answer}");
    let kept = BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())]);
    let wanted = ("7".to_owned(), "com.example.leak".to_owned(), kept);
    assert_eq!(received(&bench).await, [wanted]);
    let log = format!("{:?}", bench.events(0).await);
    assert!(!log.contains(CANARY), "{log}");
}

#[tokio::test]
async fn who_is_not_the_sender_is_refused_and_on_record() {
    let bench = Bench::start(&[]).await;
    scanner(&bench).await;
    let door = door(&bench).await;
    let body = leak("7").to_string();
    let unsigned = [("content-type", STRUCTURED)];
    let (status, _) = door
        .send("/signals/scanner", &unsigned, body.as_bytes())
        .await;
    assert_eq!(status, 401);
    let (status, _) = door
        .send("/signals/nobody", &unsigned, body.as_bytes())
        .await;
    assert_eq!(status, 404);
    // A message of an hour ago is worth nothing, whoever kept it.
    assert_eq!(door.signed_before(&bench, &leak("8"), 3600).await.0, 401);
    assert_eq!(door.signed_before(&bench, &leak("8"), 60).await.0, 202);
    let leaves = bench.journal.read_audit(0, 1000).await.unwrap();
    let denied = leaves.iter().filter(|leaf| {
        let text = String::from_utf8_lossy(&leaf.bytes).into_owned();
        text.contains("take-signal") && text.to_lowercase().contains("denied")
    });
    assert_eq!(denied.count(), 3, "and who asked for a source that is none");
    assert_eq!(received(&bench).await.len(), 1);
    assert!(bench.journal.letters().await.unwrap().is_empty());
}

fn pager(bench: &Bench, id: &str, keeps_letters: bool) -> Spec {
    let map = [("id", id), ("type", "\"leak\"")];
    Spec {
        keeps_letters,
        ..spec(bench, Format::Webhook, Proof::Bearer, &map)
    }
}

/// Sends a report to `pager` that its mapping does not read; the letter.
async fn unread(bench: &Bench, door: &Door) -> Letter {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let body = json!({ "incident": { "id": 4711 }, "value": CANARY }).to_string();
    let (status, answer) = door.send("/signals/pager", &headers, body.as_bytes()).await;
    assert_eq!(status, 422, "{answer}");
    let letters = bench.journal.letters().await.unwrap();
    let newest = letters.last().unwrap();
    assert_eq!(newest.owner, "signal-source/pager");
    bench.journal.letter(newest.id).await.unwrap().unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn ann() -> Principal {
    Principal::Operator {
        name: "ann".to_owned(),
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_a_letter_until_the_mapping_is_mended() {
    let bench = Bench::start(&[]).await;
    bench
        .hear("pager", pager(&bench, "body.nothing", true))
        .await;
    let door = door(&bench).await;
    let letter = unread(&bench, &door).await;
    assert!(!letter.body.is_empty());
    for part in [CANARY, "content_type"] {
        assert!(!holds(&letter.body, part), "{part} is there unsealed");
    }
    let desk = bench.desk();
    let early = desk.retry(&letter, &ann()).await;
    assert!(early.is_err(), "the mapping is as it was");
    let right = || pager(&bench, "body.incident.id", true);
    // Whose token has proven nothing of it reads nothing of it.
    let proven = Spec {
        proof: Proof::HubSignature,
        ..right()
    };
    bench.hear("pager", proven).await;
    let other = desk.retry(&letter, &ann()).await.unwrap_err();
    assert!(other.text.contains("declared anew"), "{other}");
    bench.hear("pager", right()).await;
    desk.retry(&letter, &ann()).await.unwrap();
    assert_eq!(received(&bench).await[0].0, "4711");
    let leaves = bench.journal.read_audit(0, 1000).await.unwrap();
    let leaves = leaves
        .iter()
        .map(|leaf| String::from_utf8_lossy(&leaf.bytes).into_owned());
    let taken: Vec<String> = leaves.filter(|text| text.contains("take-signal")).collect();
    assert!(
        taken
            .iter()
            .any(|text| text.contains("ann") && text.contains("was retried")),
        "{taken:?}"
    );
    // Another source of that name is another sender's.
    let name = SignalSourceName::parse("pager").unwrap();
    let removed = Outward::RemoveSignalSource(name);
    bench.submit(Command::Outward(removed)).await;
    bench.hear("pager", right()).await;
    assert!(desk.retry(&letter, &ann()).await.is_err());
}

#[tokio::test]
async fn what_is_kept_opens_only_where_it_was_sealed_and_only_as_what_it_is() {
    let mut bench = Bench::start(&[]).await;
    bench
        .hear("pager", pager(&bench, "body.nothing", true))
        .await;
    let door = door(&bench).await;
    let letter = unread(&bench, &door).await;
    bench
        .hear("pager", pager(&bench, "body.incident.id", true))
        .await;
    let retried = |desk: Desk, letter: Letter| async move { desk.retry(&letter, &ann()).await };
    let mut changed = letter.clone();
    *changed.body.last_mut().unwrap() ^= 1;
    let refused = retried(bench.desk(), changed).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Corrupt, "{refused}");
    let moved = Letter {
        id: LetterId::from_bytes([1; 16]),
        ..letter.clone()
    };
    assert!(retried(bench.desk(), moved).await.is_err());
    bench.unseal = [8; 32];
    let refused = retried(bench.desk(), letter.clone()).await.unwrap_err();
    assert!(refused.text.contains("another unseal key"), "{refused}");
    assert!(!format!("{refused:?}").contains(CANARY));
    bench.unseal = [7; 32];
    retried(bench.desk(), letter).await.unwrap();
    assert_eq!(received(&bench).await[0].0, "4711");
}

#[tokio::test]
async fn letters_end_after_a_week_and_with_their_source() {
    let bench = Bench::start(&[]).await;
    bench
        .hear("pager", pager(&bench, "body.nothing", true))
        .await;
    let door = door(&bench).await;
    unread(&bench, &door).await;
    let desk = bench.desk();
    let sweeper = Sweeper::new(&desk);
    let sweep = || sweeper.sweep();
    bench.clock.advance(MAX_LETTER_AGE);
    assert_eq!(sweep().await.unwrap(), 0, "it is not older than that");
    // The same again is a letter of now.
    unread(&bench, &door).await;
    bench.clock.advance(Duration::from_micros(1));
    assert_eq!(sweep().await.unwrap(), 0, "it came again");
    bench.clock.advance(MAX_LETTER_AGE);
    assert_eq!(sweep().await.unwrap(), 1);
    assert!(bench.journal.letters().await.unwrap().is_empty());
    unread(&bench, &door).await;
    let stop = CancellationToken::new();
    let _running = stop.clone().drop_guard();
    tokio::spawn(Sweeper::new(&desk).run(stop));
    let name = SignalSourceName::parse("pager").unwrap();
    let removed = Outward::RemoveSignalSource(name);
    bench.submit(Command::Outward(removed)).await;
    for _ in 0..MAX_TRIES {
        if bench.journal.letters().await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the letter outlives its source");
}

#[tokio::test]
async fn of_what_cannot_be_read_nothing_is_kept_unless_a_person_says_so() {
    let bench = Bench::start(&[]).await;
    bench
        .hear("pager", pager(&bench, "body.nothing", false))
        .await;
    let door = door(&bench).await;
    let letter = unread(&bench, &door).await;
    assert!(letter.body.is_empty());
    assert!(!format!("{letter:?}").contains(CANARY));
    bench
        .hear("pager", pager(&bench, "body.incident.id", false))
        .await;
    let refused = bench.desk().retry(&letter, &ann()).await.unwrap_err();
    assert!(refused.text.contains("letters: keep"), "{refused}");
}

/// `X-Hub-Signature-256` of a body under [`TOKEN`].
pub(crate) fn hub_signature(body: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(TOKEN.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let digest = mac.finalize().into_bytes();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digest}")
}

#[tokio::test]
async fn a_report_of_github_leaves_no_token_anywhere() {
    let bench = Bench::start(&[]).await;
    bench
        .hear(
            "github",
            spec(&bench, Format::GithubAlert, Proof::HubSignature, &[]),
        )
        .await;
    let door = door(&bench).await;
    let alert = json!({
        "action": "created",
        "alert": { "number": 42, "secret": CANARY, "secret_type": "postgres", "validity": "active" },
        "repository": { "full_name": "o/r" },
    });
    let unreadable = json!({ "action": "created", "alert": { "secret": CANARY } });
    for (body, wanted) in [(alert.to_string(), 202), (unreadable.to_string(), 422)] {
        let signature = hub_signature(&body);
        let headers = [
            ("x-github-event", "secret_scanning_alert"),
            ("x-github-delivery", "d1"),
            ("x-hub-signature-256", signature.as_str()),
        ];
        let (status, answer) = door
            .send("/signals/github", &headers, body.as_bytes())
            .await;
        assert_eq!(status, wanted, "{answer}");
        assert!(!answer.contains(CANARY), "{answer}");
    }
    let signals = received(&bench).await;
    assert_eq!(signals[0].1, "com.github.secret_scanning_alert.created");
    let letters = bench.journal.letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = bench.journal.letter(letters[0].id).await.unwrap().unwrap();
    assert!(letter.body.is_empty());
    let refused = bench.desk().retry(&letter, &ann()).await.unwrap_err();
    assert!(
        refused.text.contains("have its sender send it again"),
        "{refused}"
    );
    let (log, audit) = (
        bench.events(0).await,
        bench.journal.read_audit(0, 1000).await.unwrap(),
    );
    let all = format!("{log:?}{letter:?}");
    assert!(!all.contains(CANARY), "{all}");
    for leaf in audit {
        assert!(!String::from_utf8_lossy(&leaf.bytes).contains(CANARY));
    }
}

#[tokio::test]
async fn a_flood_of_one_source_is_told_when_to_come_again_and_delays_no_other() {
    let bench = Bench::start(&[]).await;
    scanner(&bench).await;
    let token = spec(&bench, Format::CloudEvents, Proof::Bearer, &[]);
    bench.hear("other", token).await;
    let door = door(&bench).await;
    for n in 0..BURST {
        let (status, answer) = door.signed(&bench, &leak(&n.to_string())).await;
        assert_eq!(status, 202, "{answer}");
    }
    let (status, answer) = door.signed(&bench, &leak("one-more")).await;
    assert_eq!(status, 429, "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
    let authorization = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", STRUCTURED),
    ];
    let body = leak("7").to_string();
    let (status, answer) = door.send("/signals/other", &headers, body.as_bytes()).await;
    assert_eq!(status, 202, "{answer}");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(door.signed(&bench, &leak("one-more")).await.0, 202);
    let body = leak("8").to_string();
    let (status, answer) = door.send("/signals/other", &headers, body.as_bytes()).await;
    assert_eq!(status, 202, "{answer}");
    let batch: Vec<Value> = (0..BURST).map(|n| leak(&format!("b{n}"))).collect();
    let batch = Value::from(batch).to_string();
    let batched = [
        headers[0],
        ("content-type", "application/cloudevents-batch+json"),
    ];
    let (status, answer) = door
        .send("/signals/other", &batched, batch.as_bytes())
        .await;
    assert_eq!(status, 429, "a batch has a place for each: {answer}");
    bench.clock.advance(Duration::from_secs(60));
    let (status, answer) = door
        .send("/signals/other", &batched, batch.as_bytes())
        .await;
    assert_eq!(status, 202, "{answer}");
    assert!(answer.contains(&format!("\"taken\":{BURST}")), "{answer}");
    let large = vec![b' '; MAX_SIGNAL_BODY_BYTES + 1];
    let (status, answer) = door.send("/signals/other", &headers, &large).await;
    assert_eq!(status, 413, "{answer}");
}

/// Sends the same until it is answered so.
async fn until_answered(door: &Door, path: &str, wanted: u16) {
    for _ in 0..MAX_TRIES {
        if door.send(path, &[], b"{}").await.0 == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{path} never answered {wanted}");
}

/// Whether a record of the audit says one of these.
async fn is_on_record(bench: &Bench, words: &[&str]) -> bool {
    let leaves = bench.journal.read_audit(0, 1000).await.unwrap();
    leaves.iter().any(|leaf| {
        let text = String::from_utf8_lossy(&leaf.bytes).into_owned();
        words.iter().any(|word| text.contains(word))
    })
}

#[tokio::test]
async fn bodies_that_never_come_whole_leave_places_to_other_sources_and_are_on_record() {
    let bench = Bench::start(&[]).await;
    scanner(&bench).await;
    let token = spec(&bench, Format::CloudEvents, Proof::Bearer, &[]);
    bench.hear("other", token).await;
    let door = door(&bench).await;
    let mut slow = Vec::new();
    for _ in 0..MAX_READING_PER_SOURCE {
        let mut stream = TcpStream::connect(door.at).await.unwrap();
        let half = b"POST /signals/scanner HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
        stream.write_all(half).await.unwrap();
        slow.push(stream);
    }
    until_answered(&door, "/signals/scanner", 429).await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", STRUCTURED),
    ];
    let body = leak("7").to_string();
    let (status, answer) = door.send("/signals/other", &headers, body.as_bytes()).await;
    assert_eq!(status, 202, "{answer}");
    drop(slow);
    until_answered(&door, "/signals/scanner", 401).await;
    // By itself, or counted and told of when the door closes.
    drop(door);
    let words = ["broke off", "cut before the body was whole"];
    for _ in 0..MAX_TRIES {
        if is_on_record(&bench, &words).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody is told of them");
}

/// Reasons of records about refused signals.
pub(crate) async fn refused(bench: &Bench) -> Vec<String> {
    let leaves = bench.journal.read_audit(0, 1000).await.unwrap();
    let text = leaves
        .iter()
        .map(|leaf| String::from_utf8_lossy(&leaf.bytes).into_owned());
    let of_signals = |text: &String| text.contains("take-signal");
    text.filter(of_signals).collect()
}

#[tokio::test]
async fn a_refusal_that_could_not_be_recorded_is_on_record_later() {
    let bench = Bench::start(&[]).await;
    scanner(&bench).await;
    let door = door(&bench).await;
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    let (status, answer) = door.send("/signals/scanner", &[], b"{}").await;
    assert_eq!(status, 503, "{answer}");
    assert!(refused(&bench).await.is_empty());
    drop(door);
    for _ in 0..MAX_TRIES {
        if let [record] = &refused(&bench).await[..] {
            assert!(record.contains("1 more signals were refused"), "{record}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the refusal is lost");
}

#[tokio::test]
async fn a_flood_at_names_that_nobody_declared_hides_no_refusal_of_a_source() {
    let bench = Bench::start(&[]).await;
    scanner(&bench).await;
    let door = door(&bench).await;
    for n in 0..BURST {
        let path = format!("/signals/nobody-{n}");
        assert_eq!(door.send(&path, &[], b"{}").await.0, 404);
    }
    let before = refused(&bench).await;
    assert!(before.len() < BURST as usize, "the rest is only counted");
    assert_eq!(door.send("/signals/scanner", &[], b"{}").await.0, 401);
    let after = refused(&bench).await;
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.last().unwrap().contains("signal-source/scanner"));
}
