//! Mutual TLS with the bus server: who has no certificate of our authority gets no connection, on
//! either side, and a certificate is renewed without ending the service.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};

use keywheel_bus::{ConnectError, Credentials, NatsOptions, Tls};
use keywheel_core::audit::Role;
use keywheel_engine::port::bus::Topic;
use keywheel_seal::SecretBytes;
use keywheel_testkit::server::nats::{NatsServer, Settings, TlsFiles, VERSIONS};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::support::nats::{settings, try_connect};
use crate::support::{DEPLOYMENT, id, leaf};

/// An authority of a test.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        Issued { certificate, key }
    }
}

struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory = format!("keywheel-bus-tls-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all::<&Path>(&self.0);
    }
}

fn server(files: &Files, authority: &Authority, shown: &Issued) -> NatsServer {
    NatsServer::start(Settings {
        tls: Some(TlsFiles {
            ca: files.put("ca.pem", &authority.pem),
            certificate: files.put("server.pem", &shown.certificate),
            key: files.put("server.key", &shown.key),
        }),
        ..settings(VERSIONS[2])
    })
}

fn tls(authority: &Authority, shown: &Issued) -> Tls {
    Tls {
        ca: authority.pem.clone().into_bytes(),
        certificate: shown.certificate.clone().into_bytes(),
        key: SecretBytes::from(shown.key.clone().into_bytes()),
    }
}

fn options(server: &NatsServer, tls: Option<Tls>) -> NatsOptions {
    NatsOptions {
        tls,
        ..crate::support::nats::options(server, Role::Gateway)
    }
}

async fn refused(server: &NatsServer, tls: Tls) -> String {
    let connected = try_connect(options(server, Some(tls)), Role::Gateway).await;
    match connected {
        Err(error @ ConnectError::Unreachable { .. }) => error.to_string(),
        Err(error) => panic!("another refusal was expected, not {error}"),
        Ok(_) => panic!("a refusal was expected"),
    }
}

#[tokio::test]
async fn both_sides_show_a_certificate_of_our_authority() {
    let files = Files::new("both");
    let (ours, theirs) = (Authority::new(), Authority::new());
    let shown = ours.issue("127.0.0.1", |_| {});
    let server = server(&files, &ours, &shown);
    let mine = ours.issue("gateway", |_| {});
    let gateway = try_connect(options(&server, Some(tls(&ours, &mine))), Role::Gateway).await;
    let gateway = gateway.unwrap();
    let bus = gateway.endpoint();
    bus.publish(Topic::Audit, id(1), None, leaf(1))
        .await
        .unwrap();

    let foreign = theirs.issue("gateway", |_| {});
    refused(&server, tls(&ours, &foreign)).await;
    let expired = ours.issue("gateway", |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    refused(&server, tls(&ours, &expired)).await;
    let early = ours.issue("gateway", |params| {
        params.not_before = date_time_ymd(4000, 1, 1)
    });
    refused(&server, tls(&ours, &early)).await;
    let reason = refused(&server, tls(&theirs, &foreign)).await;
    assert!(reason.to_lowercase().contains("certificate"), "{reason}");

    let plain = NatsOptions {
        servers: vec![server.url().replace("tls://", "nats://")],
        ..options(&server, None)
    };
    assert!(
        try_connect(plain, Role::Gateway).await.is_err(),
        "plaintext"
    );
}

#[tokio::test]
async fn a_server_with_another_name_or_an_old_certificate_is_refused() {
    let ours = Authority::new();
    let mine = ours.issue("gateway", |_| {});
    for (name, shown) in [
        ("name", ours.issue("127.0.0.9", |_| {})),
        (
            "expired",
            ours.issue("127.0.0.1", |params| {
                params.not_after = date_time_ymd(2002, 1, 1)
            }),
        ),
    ] {
        let files = Files::new(name);
        let server = server(&files, &ours, &shown);
        let reason = refused(&server, tls(&ours, &mine)).await;
        assert!(
            reason.to_lowercase().contains("certificate"),
            "{name}: {reason}"
        );
    }
}

#[tokio::test]
async fn certificates_and_credentials_that_are_none_are_named() {
    let server = vec!["tls://127.0.0.1:1".to_owned()];
    let ours = Authority::new();
    let mine = ours.issue("gateway", |_| {});
    let bad = NatsOptions {
        tls: Some(Tls {
            ca: b"none".to_vec(),
            ..tls(&ours, &mine)
        }),
        ..NatsOptions::new(server.clone(), DEPLOYMENT)
    };
    let error = try_connect(bad, Role::Gateway).await.err().unwrap();
    assert!(
        matches!(
            error,
            ConnectError::BadCertificate {
                what: "authority",
                ..
            }
        ),
        "{error}"
    );
    let bad = NatsOptions {
        tls: Some(tls(&ours, &mine)),
        credentials: Credentials::Creds(SecretBytes::from(b"none".to_vec())),
        ..NatsOptions::new(server, DEPLOYMENT)
    };
    let text = format!("{bad:?}");
    assert!(!text.contains("BEGIN") && !text.contains("none"), "{text}");
    let error = try_connect(bad, Role::Gateway).await.err().unwrap();
    assert!(matches!(error, ConnectError::BadCredentials(_)), "{error}");
}
