//! The adapter for AWS Secrets Manager at two API servers that share no code: what holds at both does
//! not rest on a liberty of one of them.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests"
)]

mod chain;
mod crashes;
mod endpoint;
mod hand;
mod iam;
mod rights;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use hand::{AtAws, Key, SECRET_KEY, TIMEOUT, adapter, spec};
use keywheel_core::store::Source;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::store::{LoginRefused, Store as _};
use keywheel_testkit::conformance::store::faults::{self, Calls};
use keywheel_testkit::conformance::store::{self, kind, plenty, refused};
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::fault::{Fault, FaultProxy};

/// In the head of a request, which action it is.
const LOOK: &str = "secretsmanager.DescribeSecret";
const GET: &str = "secretsmanager.GetSecretValue";
const RELABEL: &str = "secretsmanager.UpdateSecretVersionStage";

const CALLS: Calls = Calls {
    look: LOOK,
    write: RELABEL,
    write_lie: "{}",
    revoke: RELABEL,
    revoke_lie: "{}",
    revoke_is_read_back: false,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moto_keeps_the_laws() {
    store::check(&AtAws::start(Maker::Moto)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ministack_keeps_the_laws() {
    store::check(&AtAws::start(Maker::Ministack)).await;
}

async fn meets_faults(maker: Maker) {
    let server = Arc::new(AwsServer::start(maker));
    let mut proxy = FaultProxy::before(server.address()).await;
    let at_aws = AtAws::by_way_of(server, &proxy.url());
    faults::check(&at_aws, &mut proxy, &CALLS).await;
    a_lying_revocation_is_found_out(&at_aws, &proxy).await;
    a_look_asks_for_no_value(&at_aws, &proxy).await;
    a_rotation_of_awss_own_is_left_to_its_end(&at_aws, &proxy).await;
    an_ended_session_is_renewed_once(&at_aws, &proxy).await;
    a_throttled_request_is_asked_again(&at_aws, &proxy).await;
    an_endless_answer_is_cut_off(&at_aws, &proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_before_moto_are_survived() {
    meets_faults(Maker::Moto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_before_ministack_are_survived() {
    meets_faults(Maker::Ministack).await;
}

async fn a_lying_revocation_is_found_out(at_aws: &AtAws, proxy: &FaultProxy) {
    let at = at_aws.place("");
    at_aws.put(&at.path, b"a").await;
    let first = store::current(at_aws, &at).await;
    at_aws.put(&at.path, b"b").await;
    proxy.on(RELABEL, Fault::Lie("{}".to_owned()), 1);
    let revoked = at_aws.store.revoke(&at, &first, &plenty()).await;
    assert_eq!(kind(revoked), ErrorKind::Unavailable);
    at_aws.store.revoke(&at, &first, &plenty()).await.unwrap();
    assert!(!at_aws.labels(&at.path).await.contains_key(&first.0));
}

async fn a_look_asks_for_no_value(at_aws: &AtAws, proxy: &FaultProxy) {
    let at = at_aws.place("");
    at_aws.put(&at.path, b"a").await;
    proxy.forget();
    let first = store::current(at_aws, &at).await;
    let asked = (proxy.asked(LOOK), proxy.asked("secretsmanager."));
    assert_eq!(
        asked,
        (1, 1),
        "one request, and it is no request for a value"
    );
    let mut page = None;
    loop {
        let until = plenty();
        let listed = at_aws
            .store
            .list("", page.as_deref(), &until)
            .await
            .unwrap();
        page = listed.next;
        if page.is_none() {
            break;
        }
    }
    assert!(proxy.asked("secretsmanager.ListSecrets") > 0);
    assert_eq!(proxy.asked(GET), 0, "a list asks for no value");
    at_aws.store.fetch(&at, &first, &plenty()).await.unwrap();
    assert_eq!(proxy.asked(GET), 1);
}

/// As AWS tells it: its own rotation has made the version that is pending.
async fn a_rotation_of_awss_own_is_left_to_its_end(at_aws: &AtAws, proxy: &FaultProxy) {
    let (store, at) = (&at_aws.store, at_aws.place(""));
    at_aws.put(&at.path, b"a").await;
    let first = store::current(at_aws, &at).await;
    let theirs = at_aws.client.put_secret_value().secret_id(&at.path);
    let theirs = theirs.secret_string("theirs").version_stages("AWSPENDING");
    let theirs = theirs.send().await.unwrap().version_id.unwrap();
    let described = serde_json::json!({
        "Name": at.path,
        "RotationEnabled": true,
        "VersionIdsToStages": { &first.0: ["AWSCURRENT"], &theirs: ["AWSPENDING"] },
    });
    proxy.forget();
    proxy.on(LOOK, Fault::Lie(described.to_string()), 2);
    let ours = store::value("ours");
    let staged = store.stage(&at, store::token(1), &ours, &plenty()).await;
    let made = store::promote(at_aws, &at, 1, "ours", Some(&first)).await;
    for told in [refused(staged), refused(made)] {
        assert_eq!(told.kind, ErrorKind::Conflict, "{told}");
        assert!(told.text.contains(&theirs), "{told}");
        assert!(told.text.contains("cancel-rotate-secret"), "{told}");
    }
    assert_eq!(
        (proxy.asked("PutSecretValue"), proxy.asked(RELABEL)),
        (0, 0)
    );
    assert_eq!(at_aws.labels(&at.path).await[&theirs], ["AWSPENDING"]);
}

async fn an_ended_session_is_renewed_once(at_aws: &AtAws, proxy: &FaultProxy) {
    let at = at_aws.place("");
    at_aws.put(&at.path, b"a").await;
    let ended = r#"{"__type":"ExpiredTokenException","message":"it has expired"}"#;
    proxy.on(LOOK, Fault::Answer(400, ended.to_owned()), 1);
    let first = store::current(at_aws, &at).await;
    proxy.forget();
    proxy.on(LOOK, Fault::Answer(400, ended.to_owned()), u32::MAX);
    let looked = refused(at_aws.store.look(&at, &plenty()).await);
    assert_eq!(looked.kind, ErrorKind::Denied);
    assert!(looked.text.contains("ExpiredTokenException") && looked.text.contains("renew"));
    assert!(LoginRefused::is_beneath(&looked), "{looked}");
    assert_eq!(proxy.asked(LOOK), 2);
    proxy.heal();
    assert_eq!(store::current(at_aws, &at).await, first);
}

async fn a_throttled_request_is_asked_again(at_aws: &AtAws, proxy: &FaultProxy) {
    let at = at_aws.place("");
    at_aws.put(&at.path, b"a").await;
    let slower = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
    proxy.on(LOOK, Fault::Answer(400, slower.to_owned()), 2);
    store::current(at_aws, &at).await;
    proxy.forget();
    proxy.on(LOOK, Fault::Answer(400, slower.to_owned()), u32::MAX);
    let looked = refused(at_aws.store.look(&at, &plenty()).await);
    assert_eq!(looked.kind, ErrorKind::Unavailable, "{looked}");
    assert!((2..=4).contains(&proxy.asked(LOOK)));
    proxy.heal();
}

async fn an_endless_answer_is_cut_off(at_aws: &AtAws, proxy: &FaultProxy) {
    let at = at_aws.place("");
    let padding = "x".repeat(keywheel_stores::aws::MAX_ANSWER_BYTES);
    let long = format!("{{\"Name\":\"{padding}\"}}");
    proxy.on(LOOK, Fault::Lie(long), u32::MAX);
    let looked = at_aws.store.look(&at, &plenty()).await;
    assert_eq!(kind(looked), ErrorKind::Unavailable);
    proxy.heal();
}

#[tokio::test]
async fn a_check_says_what_is_missing() {
    let server = AwsServer::start(Maker::Moto);
    let healthy = adapter(spec(&server.url()), Key(Ok(SECRET_KEY)), TIMEOUT);
    healthy.check(&plenty()).await.unwrap();
    let without = adapter(
        spec(&server.url()),
        Key(Err("file /key is missing")),
        TIMEOUT,
    );
    let told = refused(without.check(&plenty()).await);
    assert!(told.text.contains("file /key is missing"), "{told}");
    assert_eq!(
        told.kind,
        ErrorKind::Unavailable,
        "it is no word about what lies there"
    );
    let proxy = FaultProxy::before(server.address()).await;
    let store = adapter(spec(&proxy.url()), Key(Ok(SECRET_KEY)), TIMEOUT);
    for (error, said) in [
        (
            "UnrecognizedClientException",
            "does not know this access key",
        ),
        (
            "InvalidSignatureException",
            "does not fit the access key id",
        ),
    ] {
        let body = format!("{{\"__type\":\"{error}\",\"message\":\"m {SECRET_KEY}\"}}");
        proxy.on("ListSecrets", Fault::Answer(400, body), 1);
        let told = refused(store.check(&plenty()).await);
        assert_eq!(told.kind, ErrorKind::Denied);
        assert!(
            told.text.contains(error) && told.text.contains(said),
            "{told}"
        );
        assert!(!format!("{told:?}").contains(SECRET_KEY));
        assert!(LoginRefused::is_beneath(&told), "{told}");
    }
    // Who is told that one right is missing is known, and this right is for import only.
    let body =
        r#"{"__type":"AccessDeniedException","message":"User u is not authorized to perform: x"}"#;
    proxy.on("secretsmanager", Fault::Answer(400, body.to_owned()), 2);
    store.check(&plenty()).await.unwrap();
    let at = Source {
        path: "a".to_owned(),
        field: String::new(),
    };
    let told = refused(store.look(&at, &plenty()).await);
    assert_eq!(told.kind, ErrorKind::Denied);
    assert!(!LoginRefused::is_beneath(&told), "only a right is missing");
    assert!(
        told.text.contains("is not authorized to perform: x"),
        "{told}"
    );
    assert!(told.text.contains("keywheel store policy"), "{told}");
}

#[tokio::test]
async fn a_certificate_of_nobody_is_refused() {
    let port = keywheel_testkit::server::port::held_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key =
        tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .unwrap();
    let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let serving = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _refused = acceptor.accept(socket).await;
        }
    });
    let endpoint = format!("https://127.0.0.1:{port}");
    let store = adapter(
        spec(&endpoint),
        Key(Ok(SECRET_KEY)),
        Duration::from_secs(20),
    );
    let told = refused(store.check(&plenty()).await);
    assert_eq!(told.kind, ErrorKind::Unavailable);
    assert!(told.text.contains("certificate"), "{told}");
    serving.abort();
}
