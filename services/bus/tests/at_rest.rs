//! With TLS off on loopback: whoever reads all traffic finds no value, and whoever reads all files of
//! the bus server finds neither a value nor an envelope that could be opened later (rules C6, K7).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_bus::{Nats, NatsOptions};
use keywheel_core::audit::Role;
use keywheel_core::id::{DeliveryId, RotationId, SecretId};
use keywheel_engine::port::bus::{Address, Body, Requests, Topic, ValueRequest};
use keywheel_seal::hpke::{self, HostKeyPair};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::bus::HOST;
use keywheel_testkit::server::nats::{NatsServer, VERSIONS};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::nats::{options, settings, try_connect};
use crate::support::{SOON, id, leaf, plan};

const CANARY: &[u8] = b"canary-7f3a9c1e5b2d-of-the-bus";

/// Everything that went over the wire, both ways.
type Capture = Arc<Mutex<Vec<u8>>>;

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, all: Capture) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        all.lock().unwrap().extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// A listener before the server that keeps all that passes.
async fn listen_in(server: SocketAddr, all: Capture) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.unwrap();
            let (client_in, client_out) = client.into_split();
            let (server_in, server_out) = server.into_split();
            tokio::spawn(copy(client_in, server_out, Arc::clone(&all)));
            tokio::spawn(copy(server_in, client_out, Arc::clone(&all)));
        }
    });
    address
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

/// Every file below a directory that holds one of these.
fn files_with(directory: &Path, needles: &[Vec<u8>]) -> (usize, Vec<String>) {
    let (mut files, mut found) = (0, Vec::new());
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let (more, below) = files_with(&path, needles);
            files += more;
            found.extend(below);
        } else {
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            if needles.iter().any(|needle| holds(&bytes, needle)) {
                found.push(path.display().to_string());
            }
        }
    }
    (files, found)
}

/// Bytes as a reader may meet them.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Base64 of the middle, at each of the three offsets it may have in a longer text.
    let shifted = (0..3).map(|shift| STANDARD.encode(&bytes[shift..]));
    let cut = shifted.map(|text| text[4..text.len() - 8].to_owned().into_bytes());
    [bytes.to_vec(), hex.into_bytes()]
        .into_iter()
        .chain(cut)
        .collect()
}

fn sealed_to(host: &HostKeyPair) -> Vec<u8> {
    let value = SecretBytes::from(CANARY.to_vec());
    let envelope = hpke::seal(host.public(), b"info", b"aad", &value, &OsEntropy);
    envelope.unwrap().to_bytes()
}

async fn end(server: &NatsServer, wire: SocketAddr, role: Role) -> Nats {
    let through = NatsOptions {
        servers: vec![format!("nats://{wire}")],
        ..options(server, role)
    };
    try_connect(through, role).await.unwrap()
}

async fn answer(requests: &mut Box<dyn Requests>, body: Body) -> Body {
    let request = requests.next().await.unwrap();
    let asked = request.message().body.clone();
    request.answer(body).await.unwrap();
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_wire_nor_store_holds_what_could_be_read() {
    let server = NatsServer::start(settings(VERSIONS[2]));
    let capture = Capture::default();
    let address = server.url().trim_start_matches("nats://").parse().unwrap();
    let wire = listen_in(address, Arc::clone(&capture)).await;
    let gateway = end(&server, wire, Role::Gateway).await;
    let store_sync = end(&server, wire, Role::StoreSync).await;
    let injector = end(&server, wire, Role::Injector).await;

    let host = HostKeyPair::generate(&OsEntropy);
    let (delivered, stashed) = (sealed_to(&host), sealed_to(&host));
    let mut requests = store_sync
        .endpoint()
        .serve(Address::StoreSync)
        .await
        .unwrap();
    let wanted = ValueRequest {
        host: HOST,
        secret: SecretId::from_bytes([2; 16]),
        version: 1,
        delivery: DeliveryId::from_bytes([3; 16]),
    };
    let open = Body::OpenValue(wanted);
    let injector_end = injector.endpoint();
    let (got, asked) = tokio::join!(
        injector_end.request(Address::StoreSync, None, open, SOON),
        answer(&mut requests, Body::SealedValue(delivered.clone())),
    );
    assert!(matches!(asked, Body::OpenValue(asked) if asked == wanted));
    let Body::SealedValue(sealed) = got.unwrap() else {
        panic!("a sealed value was expected")
    };
    let envelope = hpke::Envelope::from_bytes(&sealed).unwrap();
    let opened = host.open(b"info", b"aad", &envelope).unwrap();
    assert_eq!(opened.expose(), CANARY, "it opens at the host");

    let stash = Body::Stash {
        token: RotationId::from_bytes([4; 16]),
        sealed: stashed.clone(),
    };
    let gateway_end = gateway.endpoint();
    let (kept, _) = tokio::join!(
        gateway_end.request(Address::StoreSync, None, stash, SOON),
        answer(&mut requests, Body::Done),
    );
    assert!(matches!(kept.unwrap(), Body::Done));
    for (topic, body) in [(Topic::Audit, leaf(1)), (Topic::Plan(HOST), plan(HOST, 1))] {
        gateway_end.publish(topic, id(1), None, body).await.unwrap();
    }

    assert_unreadable_on_the_wire(&capture, &[&delivered, &stashed]);
    drop((gateway, store_sync, injector));
    assert_unreadable_at_rest(&server.store(), &[&delivered, &stashed]);
}

fn assert_unreadable_on_the_wire(capture: &Capture, envelopes: &[&[u8]]) {
    let all = capture.lock().unwrap().clone();
    for envelope in envelopes {
        let text = STANDARD.encode(envelope).into_bytes();
        assert!(holds(&all, &text), "the capture sees what passes");
    }
    for form in forms(CANARY) {
        assert!(!holds(&all, &form), "a value on the wire");
    }
}

fn assert_unreadable_at_rest(store: &Path, envelopes: &[&[u8]]) {
    let mut needles = forms(CANARY);
    needles.extend(envelopes.iter().flat_map(|envelope| forms(envelope)));
    let (files, found) = files_with(store, &needles);
    assert!(found.is_empty(), "{found:?}");
    assert!(files > 10, "five streams have files: {files}");
    let (_, written) = files_with(store, &[b"{\"n\":1}".to_vec()]);
    assert!(
        !written.is_empty(),
        "what was published is on disk and would be found"
    );
}
