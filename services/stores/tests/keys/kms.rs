//! AWS KMS: moto, and ministack, which knows the states of a key.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Credentials as Login, Region};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use keywheel_core::store::{AwsAuth, AwsSpec};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::key_service::KeyService as _;
use keywheel_stores::aws::AwsKey;
use keywheel_testkit::conformance::key_service;
use keywheel_testkit::conformance::store::{plenty, refused, value};
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::fault::{Fault, FaultProxy};

use crate::{Kept, is_refused, names, opens, wrapped};

const REGION: &str = "eu-central-1";
/// Long for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);
/// In the head of a request.
const DECRYPT: &str = "TrentService.Decrypt";
/// A credential that no error may tell.
const SECRET_KEY: &str = "secret-access-key-7c20";

/// A person's own client.
fn hand(server: &AwsServer) -> Client {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls);
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(server.url())
        .http_client(http.build_https())
        .credentials_provider(Login::new("AKIAOTHER", "other", None, None, "test"));
    Client::from_conf(config.build())
}

/// A fresh key's ARN.
async fn make(hand: &Client) -> String {
    let made = hand.create_key().send().await.unwrap();
    made.key_metadata.unwrap().arn.unwrap()
}

/// The key by way of this endpoint; its region is the ARN's.
fn key(arn: &str, endpoint: &str) -> AwsKey {
    key_within(arn, endpoint, TIMEOUT)
}

fn key_within(arn: &str, endpoint: &str, timeout: Duration) -> AwsKey {
    let kept = Kept::default();
    let spec = AwsSpec {
        region: String::new(),
        endpoint: endpoint.to_owned(),
        auth: AwsAuth::Keys {
            access_key_id: "AKIAEXAMPLE".to_owned(),
            secret_access_key: kept.put("/secret-key", SECRET_KEY),
            session_token: None,
        },
    };
    AwsKey::new(spec, arn, timeout, Arc::new(kept)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_at_moto_keeps_the_laws() {
    let server = AwsServer::start(Maker::Moto);
    let hand = hand(&server);
    let (own, other) = (make(&hand).await, make(&hand).await);
    let (own, other) = (key(&own, &server.url()), key(&other, &server.url()));
    key_service::check(&own, &other).await;
    let nobodys = key(
        "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
        &server.url(),
    );
    let refused = refused(
        nobodys
            .wrap(&value("root"), &crate::binding(), &plenty())
            .await,
    );
    let told = ["NotFoundException", "correct `key`, `region`"];
    names(&refused, &nobodys, ErrorKind::Denied, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_disabled_or_to_be_deleted_says_so_until_it_is_enabled_again() {
    let server = AwsServer::start(Maker::Ministack);
    let hand = hand(&server);
    let arn = make(&hand).await;
    let own = key(&arn, &server.url());
    let kept = wrapped(&own).await;
    hand.disable_key().key_id(&arn).send().await.unwrap();
    let told = ["DisabledException", "aws kms enable-key"];
    is_refused(&own, &kept, ErrorKind::Denied, &told).await;
    hand.enable_key().key_id(&arn).send().await.unwrap();
    opens(&own, &kept).await;
    let deletion = hand.schedule_key_deletion().key_id(&arn);
    deletion.pending_window_in_days(7).send().await.unwrap();
    let told = ["KMSInvalidStateException", "cancel-key-deletion"];
    is_refused(&own, &kept, ErrorKind::Denied, &told).await;
    let cancelled = hand.cancel_key_deletion().key_id(&arn).send().await;
    cancelled.unwrap();
    hand.enable_key().key_id(&arn).send().await.unwrap();
    opens(&own, &kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_and_who_is_away_are_told_apart_and_both_are_over_with_their_reason() {
    let server = AwsServer::start(Maker::Moto);
    let mut proxy = FaultProxy::before(server.address()).await;
    let own = key(&make(&hand(&server)).await, &proxy.url());
    let kept = wrapped(&own).await;
    let sentence = r#"{"__type":"AccessDeniedException","message":"User: arn:aws:iam::1:user/kw is not authorized to perform: kms:Decrypt"}"#;
    proxy.on(DECRYPT, Fault::Answer(400, sentence.to_owned()), 1);
    let told = ["user/kw is not authorized", "allow `kms:Encrypt`"];
    is_refused(&own, &kept, ErrorKind::Denied, &told).await;
    opens(&own, &kept).await;
    let ended = r#"{"__type":"ExpiredTokenException","message":"expired"}"#;
    proxy.on(DECRYPT, Fault::Answer(400, ended.to_owned()), 1);
    opens(&own, &kept).await;
    proxy.on(DECRYPT, Fault::Answer(400, ended.to_owned()), 2);
    let told = ["ExpiredTokenException", "the session has ended"];
    is_refused(&own, &kept, ErrorKind::Denied, &told).await;
    let incorrect = r#"{"__type":"IncorrectKeyException","message":"no"}"#;
    proxy.on(DECRYPT, Fault::Answer(400, incorrect.to_owned()), 1);
    let told = ["IncorrectKeyException", "name that one as `key`"];
    is_refused(&own, &kept, ErrorKind::Denied, &told).await;
    proxy.on(DECRYPT, Fault::Lie("{}".to_owned()), 1);
    is_refused(&own, &kept, ErrorKind::Unavailable, &["holds no key"]).await;
    let silent = Fault::Hang(Duration::from_secs(60));
    proxy.on(DECRYPT, silent, 1);
    let hasty = key_within(own.key(), &proxy.url(), Duration::from_millis(300));
    let told = ["no answer within 300ms"];
    is_refused(&hasty, &kept, ErrorKind::Unavailable, &told).await;
    proxy.heal();
    proxy.refuse().await;
    let told = ["check the endpoint, the network"];
    is_refused(&own, &kept, ErrorKind::Unavailable, &told).await;
    proxy.listen().await;
    opens(&own, &kept).await;
}

#[tokio::test]
async fn a_key_leaves_this_machine_only_encrypted_and_no_error_tells_a_credential() {
    let spec = AwsSpec {
        region: REGION.to_owned(),
        endpoint: "http://kms.example".to_owned(),
        auth: AwsAuth::Chain {
            profile: String::new(),
        },
    };
    let refused = AwsKey::new(spec, "alias/kw", TIMEOUT, Arc::new(Kept::default()));
    let refused = refused.map(drop).unwrap_err();
    assert!(refused.text.contains("neither https"), "{refused}");
    let own = key(
        "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
        "http://127.0.0.1:1",
    );
    let opened = own.unwrap(b"wrapped", &crate::binding(), &plenty()).await;
    let error = opened.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(!format!("{error:?}").contains(SECRET_KEY), "{error}");
}
