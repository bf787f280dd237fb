//! Messages, letter by letter, and a receiver that this test writes.

use std::sync::Arc;

use keywheel_core::audit::Principal;
use keywheel_testkit::server::rsyslog::{Driver, RsyslogServer};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::line::tests::lines;
use super::*;

#[test]
fn a_message_is_as_the_rfc_has_it() {
    let line = &lines(41, 1)[0];
    let wanted = format!(
        "<109>1 2026-11-29T10:00:00.000001Z web-1 keywheel - audit [meta sequenceId=\"42\"] {}",
        line.text
    );
    assert_eq!(message(line, "web-1"), wanted);
    assert!(message(line, " ").contains("Z - keywheel"));
    assert!(message(line, "a b\n").contains("Z ab keywheel"));
}

#[test]
fn what_was_refused_is_a_warning_and_what_a_container_did_is_informational() {
    let mut record = super::super::line::tests::record();
    assert_eq!(severity(Some(&record)), 5);
    record.category = Category::Usage;
    record.principal = Principal::Service(keywheel_core::audit::Role::Injector);
    assert_eq!(severity(Some(&record)), 6);
    record.outcome = Outcome::Denied;
    assert_eq!(severity(Some(&record)), 4);
    assert_eq!(severity(None), 5);
}

#[test]
fn a_sequence_begins_anew_at_its_end() {
    let mut line = lines(0, 1).remove(0);
    for (sequence, told) in [
        (0, 1),
        (MAX_SEQUENCE_ID - 1, MAX_SEQUENCE_ID),
        (MAX_SEQUENCE_ID, 1),
    ] {
        line.sequence = sequence;
        let said = format!("sequenceId=\"{told}\"");
        assert!(message(&line, "m").contains(&said), "{sequence}");
    }
}

/// A server's side of TLS with a certificate of its own, and that certificate (PEM).
fn authority() -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// Reads frames until the sender closes; answers its close only if it `is_whole`.
async fn receive(listener: &TcpListener, acceptor: &TlsAcceptor, is_whole: bool) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = acceptor.accept(stream).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    if is_whole {
        stream.shutdown().await.unwrap();
    }
    let mut messages = Vec::new();
    let mut rest = String::from_utf8(bytes).unwrap();
    while !rest.is_empty() {
        let (length, after) = rest.split_once(' ').unwrap();
        let (message, after) = after.split_at(length.parse().unwrap());
        messages.push(message.to_owned());
        rest = after.to_owned();
    }
    messages
}

#[tokio::test]
async fn a_receiver_has_every_message_before_they_count_as_told() {
    let (pem, acceptor) = authority();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = |ca_file: Option<String>| Syslog {
        address: listener.local_addr().unwrap().to_string(),
        ca_file,
        own: None,
        machine: "m".to_owned(),
    };
    let mut good = sink(Some(ca_file.display().to_string()));
    let lines = lines(0, 300);
    let (told, heard) = tokio::join!(good.tell(&lines), receive(&listener, &acceptor, true));
    told.unwrap();
    assert_eq!(heard.len(), 300);
    for (line, heard) in lines.iter().zip(&heard) {
        assert_eq!(*heard, message(line, "m"));
    }
    // One that breaks off without its word has perhaps not read them.
    let (told, _) = tokio::join!(good.tell(&lines), receive(&listener, &acceptor, false));
    let wordless = told.unwrap_err();
    assert_eq!(wordless.kind, ErrorKind::Unavailable);
    assert!(wordless.text.contains("close_notify"), "{wordless}");
    // One that nobody we trust vouches for is told nothing.
    let mut strange = sink(None);
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop)
    };
    let (told, accepted) = tokio::join!(strange.tell(&lines), accept);
    assert!(told.is_err() && accepted.is_err());
}

/// A rsyslog server and the sink that tells it.
fn rsyslog(driver: Driver) -> (RsyslogServer, Syslog, tempfile::TempDir) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, &certificate).unwrap();
    let server = RsyslogServer::start(driver, &certificate, &key);
    let sink = Syslog {
        address: server.address(),
        ca_file: Some(ca_file.display().to_string()),
        own: None,
        machine: "m".to_owned(),
    };
    (server, sink, directory)
}

fn texts(records: &[Line]) -> Vec<String> {
    records.iter().map(|line| line.text.clone()).collect()
}

#[tokio::test]
async fn what_rsyslog_was_told_is_on_its_disk_whatever_becomes_of_it() {
    let (mut server, mut sink, _directory) = rsyslog(Driver::Ossl);
    let mut wanted = Vec::new();
    for round in 0..4 {
        let records = lines(round * 50, 50);
        sink.tell(&records).await.unwrap();
        // Not a moment is given to it.
        server.kill();
        wanted.extend(texts(&records));
        assert_eq!(server.received(), wanted, "{}", server.log());
        assert!(sink.tell(&records).await.is_err(), "nobody is there");
        server.restart();
    }
}

#[tokio::test]
async fn a_receiver_that_never_says_that_it_has_read_is_told_apart_with_what_to_do() {
    let (server, mut sink, _directory) = rsyslog(Driver::Gtls);
    let records = lines(0, 3);
    let wordless = sink.tell(&records).await.unwrap_err();
    assert!(wordless.text.contains("rsyslog-openssl"), "{wordless}");
    let received = server.received();
    assert!(
        received.iter().all(|line| texts(&records).contains(line)),
        "{received:?}"
    );
}
