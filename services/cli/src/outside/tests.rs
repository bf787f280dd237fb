//! Reports of what leaked, by each format, over a journal in a file: the token is in no byte of it nor of its log.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use keywheel_bus::{Identity, InProcess, Trust};
use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::{Command, Declaration};
use keywheel_core::id::{CommandId, SignalSourceId};
use keywheel_core::name::SignalSourceName;
use keywheel_core::signal::{Format, Proof, Spec};
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::command_bus::{CommandBus, Handle, Parts as BusParts, Started, Submission};
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::port::outside::Outside as _;
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_seal::digest;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::sign::SigningKey;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([9; 16]);
const CANARY: &str = "canary_b1946ac92492d2347c6235b4d2611184";
/// A bearer's token, and GitHub's secret.
const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
/// A key of a partner's reports; nobody has its private half any more. With it OpenSSL signed [`REPORTS`].
const PARTNER_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7sYI6hstEkOOqJ2K65uzF4AcRNIk\\n1YuKTYDQGNPISm/qGwDuOPc1GMsdsTz5FM8kyjTibBBEAKhLPcMRBQpX5g==";
/// One that can be read, and one that cannot, each with its signature.
const REPORTS: [(&str, &str); 2] = [
    (
        r#"[{"token":"canary_b1946ac92492d2347c6235b4d2611184","type":"my_token","url":"https://example.com/a","source":"content"}]"#,
        "MEUCIHTOWUi83xdD2BzWgu88oM4UyHMGWPN72ns5lDhM4jyqAiEA2TDExzTJCijFfDjWyVy35wX02wOmEMKjZCr0UQB9ArA=",
    ),
    (
        r#"{"token":"canary_b1946ac92492d2347c6235b4d2611184","type":"my_token"}"#,
        "MEQCIDQ277AP1FwJX666hU1Js3boPHj8cNBq11hYD5sPv0auAiAbciOrXG03i/juoxQNmuRQ8aSDeJzYGnSq2t770yDMJA==",
    ),
];

struct Bench {
    directory: tempfile::TempDir,
    journal: Arc<SqliteJournal>,
    handle: Handle,
    desk: Desk,
    at: SocketAddr,
    _running: DropGuard,
}

impl Bench {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = JournalOptions {
            deployment: DEPLOYMENT,
            source: "keywheel/test/gateway".to_owned(),
            signing_key: SigningKey::generate(&OsEntropy),
            origin: "keywheel.test/audit".to_owned(),
        };
        let path = directory.path().join("journal.db");
        let journal = Arc::new(SqliteJournal::open(&path, options).await.unwrap());
        let (clock, ids) = (Arc::new(SystemClock::new()), Arc::new(SystemIds));
        let Started {
            bus,
            handle,
            view,
            mut commits,
        } = CommandBus::start(BusParts {
            journal: journal.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            failpoint: |_| (),
        })
        .await
        .unwrap();
        tokio::spawn(bus.run());
        tokio::spawn(async move { while commits.recv().await.is_some() {} });
        let gateway =
            Identity::service(DEPLOYMENT, Role::Gateway, SigningKey::generate(&OsEntropy));
        let hub = InProcess::new(Trust::new(DEPLOYMENT, []), clock.clone(), ids.clone());
        let desk = Desk::new(Parts {
            journal: journal.clone(),
            deliveries: journal.clone(),
            view,
            commands: handle.clone(),
            clock,
            ids,
            entropy: Arc::new(OsEntropy),
            directory: directory.path().join("keys"),
            near: Vec::new(),
            points: Points::default(),
            deployment: DEPLOYMENT,
            bus: hub.endpoint(gateway),
            letter_key: Arc::new(LetterKey::of(&UnsealKey::generate(&OsEntropy))),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(Intake::new(&desk).run(listener, stop.clone()));
        let keys = directory.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        std::fs::write(keys.join("key"), KEY).unwrap();
        let partner = format!(
            "{{\"public_keys\":[{{\"key_identifier\":\"k1\",\"key\":\"-----BEGIN PUBLIC KEY-----\\n{PARTNER_KEY}\\n-----END PUBLIC KEY-----\\n\",\"is_current\":true}}]}}"
        );
        std::fs::write(keys.join("partner"), partner).unwrap();
        Self {
            directory,
            journal,
            handle,
            desk,
            at,
            _running: stop.drop_guard(),
        }
    }

    /// Declares a source, or changes it.
    async fn hear(&self, name: &str, (format, proof): (Format, Proof), id: &str, keeps: bool) {
        let key = match format {
            Format::GithubPartner => "partner",
            _ => "key",
        };
        // Of what names a token nothing is kept.
        let map: &[(&str, &str)] = match format {
            Format::Webhook if keeps => &[("id", id), ("type", "\"leak\"")],
            Format::Webhook => &[("id", id), ("type", "\"leak\""), ("token", "body.value")],
            Format::CloudEvents if !keeps => &[("token", "body.value")],
            Format::CloudEvents | Format::GithubAlert | Format::GithubPartner => &[],
        };
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let path = self.directory.path().join("keys").join(key);
        let declaration = Declaration::SignalSource {
            id: SignalSourceId::from_bytes(SystemIds.draw()),
            name: SignalSourceName::parse(name).unwrap(),
            spec: Spec {
                format,
                proof,
                key_file: path.display().to_string(),
                map: map.iter().map(pair).collect(),
                keeps_letters: keeps,
            },
        };
        let submission = Submission {
            id: CommandId::from_bytes(SystemIds.draw()),
            principal: root(),
            traceparent: None,
            command: Command::Apply(vec![declaration]),
        };
        let verdict = self.handle.submit(submission).await.unwrap();
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    }

    /// Sends a report; its status.
    async fn send(&self, name: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let mut head = format!(
            "POST /signals/{name} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.push_str(body);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(!answer.contains(CANARY), "{answer}");
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Reports what can be read, or not, by the two formats in which a person may have it kept.
    async fn report(&self, names: [&str; 2], wanted: u16) {
        let bearer = format!("Bearer {}", String::from_utf8(KEY.to_vec()).unwrap());
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/cloudevents+json"),
        ];
        let mut event = json!({
            "specversion": "1.0", "id": "7", "source": "s", "data": { "value": CANARY },
        });
        if wanted == 202 {
            event["type"] = "leak".into();
        }
        let status = self.send(names[0], &headers, &event.to_string()).await;
        assert_eq!(status, wanted, "{}", names[0]);
        let webhook = json!({ "incident": "7", "value": CANARY }).to_string();
        let status = self.send(names[1], &headers, &webhook).await;
        assert_eq!(status, wanted, "{}", names[1]);
    }

    async fn report_of_github(&self) {
        let alert = |alert: serde_json::Value| json!({ "action": "created", "alert": alert, "repository": { "full_name": "o/r" } });
        let read = alert(json!({ "number": 42, "secret": CANARY, "secret_type": "aws" }));
        let unread = alert(json!({ "secret": CANARY }));
        for (body, wanted) in [(read.to_string(), 202), (unread.to_string(), 422)] {
            let digest = digest::keyed(&KEY, body.as_bytes());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let signature = format!("sha256={digest}");
            let headers = [
                ("x-github-event", "secret_scanning_alert"),
                ("x-hub-signature-256", signature.as_str()),
            ];
            assert_eq!(self.send("alert", &headers, &body).await, wanted);
        }
        for ((body, signature), wanted) in REPORTS.into_iter().zip([202, 422]) {
            let headers = [
                ("github-public-key-identifier", "k1"),
                ("github-public-key-signature", signature),
            ];
            assert_eq!(self.send("partner", &headers, body).await, wanted);
        }
    }

    /// What is on the disk.
    fn bytes(&self) -> Vec<u8> {
        let read = |name| std::fs::read(self.directory.path().join(name)).unwrap();
        [read("journal.db"), read("journal.db-wal")].concat()
    }
}

fn root() -> Principal {
    Principal::User {
        uid: 0,
        name: "root".to_owned(),
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|one| one == part)
}

/// The canary in every way in which it may have been written.
fn forms() -> Vec<Vec<u8>> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![CANARY.as_bytes().to_vec(), hex.into_bytes()];
    // In base64 it depends on what stands before it.
    for (before, skipped) in [("", 0), ("x", 2), ("xx", 3)] {
        let written = STANDARD_NO_PAD.encode(format!("{before}{CANARY}"));
        forms.push(written.as_bytes()[skipped..written.len() - 2].to_vec());
    }
    forms
}

#[test]
fn the_canary_is_found_in_every_form() {
    for before in ["", "a", "ab", "abc"] {
        let written = STANDARD.encode(format!("{before}{CANARY}after"));
        let found = forms().iter().any(|one| holds(written.as_bytes(), one));
        assert!(found, "{before}");
    }
}

#[tokio::test]
async fn a_reported_token_is_in_no_byte_of_the_journal_whether_letters_are_kept_or_not() {
    let bench = Bench::start().await;
    let (cloud, webhook) = (
        (Format::CloudEvents, Proof::Bearer),
        (Format::Webhook, Proof::Bearer),
    );
    for (names, keeps) in [
        (["cloud", "hook"], false),
        (["cloud-kept", "hook-kept"], true),
    ] {
        bench.hear(names[0], cloud, "", keeps).await;
        bench.hear(names[1], webhook, "body.nothing", keeps).await;
        bench.report(names, 422).await;
    }
    // Nobody can say so of GitHub's; here somebody did.
    let alert = (Format::GithubAlert, Proof::HubSignature);
    let partner = (Format::GithubPartner, Proof::GithubPartner);
    bench.hear("alert", alert, "", true).await;
    bench.hear("partner", partner, "", true).await;
    bench.report_of_github().await;
    let letters = bench.journal.letters().await.unwrap();
    let mut kept = Vec::new();
    for one in &letters {
        let whole = bench.journal.letter(one.id).await.unwrap().unwrap();
        if !whole.body.is_empty() {
            kept.push(whole);
        }
    }
    assert_eq!((letters.len(), kept.len()), (6, 2));
    let bytes = bench.bytes();
    for one in &kept {
        assert!(
            holds(&bytes, one.owner.as_bytes()),
            "it is looked for there"
        );
        // A row is in one piece only where it is short; its beginning always is.
        assert!(holds(&bytes, &one.body[..32]), "{}", one.owner);
    }
    for form in forms() {
        assert!(!holds(&bytes, &form), "{}", String::from_utf8_lossy(&form));
    }
    // What a person reads anew is taken, and its token is still nowhere.
    bench
        .hear("hook-kept", webhook, "body.incident", true)
        .await;
    let of_hook = kept.iter().find(|one| one.owner.ends_with("/hook-kept"));
    bench.desk.retry(of_hook.unwrap(), &root()).await.unwrap();
    bench.hear("hook", webhook, "body.incident", false).await;
    bench.report(["cloud", "hook"], 202).await;
    let bytes = bench.bytes();
    for form in forms() {
        assert!(!holds(&bytes, &form), "{}", String::from_utf8_lossy(&form));
    }
}
