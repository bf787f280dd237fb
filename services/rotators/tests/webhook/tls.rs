//! Over TLS the receiver has to prove its name, by an authority that was named.

use std::net::SocketAddr;
use std::sync::Arc;

use keywheel_core::resource::Strategy;
use keywheel_core::rotation::Step;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::rotator::Rotator as _;
use keywheel_testkit::conformance::store::{plenty, refused};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::bench::{Bench, EXAMPLES, work};

/// Takes TLS before a server that has none, and gives the port.
async fn before(server: SocketAddr, made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> u16 {
    let key = made.signing_key.serialize_pem();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not trust the certificate ends here.
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_receiver_has_to_prove_its_name() {
    let bench = Bench::start(EXAMPLES[1], Strategy::SingleUser).await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let port = before(bench.server, &made).await;
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let named = bench.at(&format!("https://localhost:{port}/stripe"), Some(&ca));
    for step in [Step::Create, Step::Set, Step::Test] {
        bench.perform(&named, step, 1).await;
    }
    for (host, ca) in [("127.0.0.1", Some(ca.as_path())), ("localhost", None)] {
        let other = bench.at(&format!("https://{host}:{port}/stripe"), ca);
        let error = refused(other.set(&work(Step::Set, 1), &plenty()).await);
        assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
        assert!(error.to_string().contains("caFile"), "{error}");
    }
}
