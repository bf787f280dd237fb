//! The policy that we print is enough, each right that is missing is named before a secret needs it, and
//! asking changes nothing. Judged by two servers' own IAM: ministack's by action and resource, moto's by
//! action and signature.

use std::collections::BTreeMap;
use std::sync::Arc;

use keywheel_core::store::{Backend, DEFAULT_POLL, DEFAULT_TIMEOUT, Source, StoreSpec};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::store::Store as _;
use keywheel_stores::policy::{Access, Grant, policy};
use keywheel_testkit::conformance::store::{
    current, holds, plenty, promote, refused, text, token, value,
};
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::fault::{Fault, FaultProxy};
use serde_json::{Value, json};

use crate::hand::{AtAws, spec};
use crate::iam::Iam;

const ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
/// A right that nobody needs here; no server takes an empty policy.
const NOTHING: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"secretsmanager:GetRandomPassword","Resource":"*"}]}"#;
const READ: &str = "KeywheelRead";
const WRITE: &str = "KeywheelWrite";
/// What is asked for, and the statement that gives it.
const ASKED: [(&str, &str); 4] = [
    ("secretsmanager:DescribeSecret", READ),
    ("secretsmanager:GetSecretValue", READ),
    ("secretsmanager:PutSecretValue", WRITE),
    ("secretsmanager:UpdateSecretVersionStage", WRITE),
];
const GET: &str = "secretsmanager.GetSecretValue";
const PUT: &str = "secretsmanager.PutSecretValue";

fn printed(grants: &[(&Source, Access)]) -> Value {
    let spec = StoreSpec {
        backend: Backend::Aws(spec("")),
        poll: DEFAULT_POLL,
        timeout: DEFAULT_TIMEOUT,
    };
    let grants = grants.iter().map(|(source, access)| Grant {
        source: (*source).clone(),
        access: *access,
    });
    serde_json::from_str(&policy(&spec, &grants.collect::<Vec<_>>())).unwrap()
}

fn without(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().unwrap();
    // No server takes a statement without an action.
    statements.retain_mut(|statement| {
        let actions = statement["Action"].as_array_mut().unwrap();
        actions.retain(|one| one != action);
        !actions.is_empty()
    });
    policy
}

/// All that another hand sees there.
async fn seen(at_aws: &AtAws, at: &Source) -> (BTreeMap<String, Vec<String>>, Vec<u8>) {
    (at_aws.labels(&at.path).await, at_aws.whole(&at.path).await)
}

async fn is_nothing(at_aws: &AtAws, at: &Source) {
    let described = at_aws.client.describe_secret().secret_id(&at.path);
    let told = described.send().await.unwrap_err().into_service_error();
    assert!(told.is_resource_not_found_exception(), "{told}");
}

async fn the_printed_policy_is_enough_and_each_missing_right_is_named(maker: Maker) {
    let server = Arc::new(AwsServer::with_rights(maker));
    let iam = Iam::at(&server, maker);
    let other = iam.user("other", ALL);
    let ours = iam.user("keywheel", NOTHING);
    let at_aws = AtAws::between(Arc::clone(&server), &server.url(), &other, ours);
    let (store, ours) = (&at_aws.store, at_aws.place(""));
    let (theirs, fresh) = (at_aws.place(""), at_aws.place(""));
    at_aws.put(&ours.path, text("a").as_bytes()).await;
    at_aws.put(&theirs.path, text("a").as_bytes()).await;
    let before = seen(&at_aws, &ours).await;

    let whole = printed(&[
        (&ours, Access::Write),
        (&theirs, Access::Read),
        (&fresh, Access::Write),
    ]);
    let resource = format!(
        "arn:aws:secretsmanager:eu-central-1:*:secret:{}-??????",
        ours.path
    );
    for (action, statement) in ASKED {
        iam.grant("keywheel", &without(&whole, action).to_string());
        let told = refused(store.check_use(&ours, true, &plenty()).await);
        assert_eq!(told.kind, ErrorKind::Denied, "{told}");
        let says = format!("lacks `{action}` (statement {statement}) on {resource};");
        assert!(told.text.contains(&says), "{told}");
    }
    let nothing = without(
        &without(&without(&whole, ASKED[0].0), ASKED[1].0),
        ASKED[3].0,
    );
    iam.grant("keywheel", &without(&nothing, ASKED[2].0).to_string());
    let told = refused(store.check_use(&ours, true, &plenty()).await);
    for (action, _) in ASKED {
        assert!(told.text.contains(action), "{told}");
    }

    iam.grant("keywheel", &whole.to_string());
    if maker == Maker::Ministack {
        // moto tells a login that it knows and one that it does not in the same words.
        store.check(&plenty()).await.unwrap();
        let told = refused(store.check_use(&theirs, true, &plenty()).await);
        assert!(
            told.text.contains(ASKED[2].0) && told.text.contains(ASKED[3].0),
            "{told}"
        );
        assert!(!told.text.contains(ASKED[1].0), "{told}");
    }
    let untried = store.check_use(&ours, true, &plenty()).await.unwrap();
    assert_eq!(untried, Vec::<String>::new());
    store.check_use(&theirs, false, &plenty()).await.unwrap();
    let untried = store.check_use(&fresh, true, &plenty()).await.unwrap();
    assert!(
        untried.len() == 1 && untried[0].contains("CreateSecret"),
        "{untried:?}"
    );
    assert_eq!(seen(&at_aws, &ours).await, before, "asking changes nothing");
    is_nothing(&at_aws, &fresh).await;

    let first = current(&at_aws, &ours).await;
    let staged = store.stage(&ours, token(1), &value("b"), &plenty()).await;
    staged.unwrap();
    let second = promote(&at_aws, &ours, 1, "b", Some(&first)).await.unwrap();
    holds(&at_aws, &ours, &second, "b").await;
    store.revoke(&ours, &first, &plenty()).await.unwrap();
    let made = promote(&at_aws, &fresh, 2, "a", None).await.unwrap();
    holds(&at_aws, &fresh, &made, "a").await;
    holds(&at_aws, &theirs, &current(&at_aws, &theirs).await, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_moto_s_iam_the_printed_policy_is_enough_and_each_missing_right_is_named() {
    the_printed_policy_is_enough_and_each_missing_right_is_named(Maker::Moto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_ministack_s_iam_the_printed_policy_is_enough_and_each_missing_right_is_named() {
    the_printed_policy_is_enough_and_each_missing_right_is_named(Maker::Ministack).await;
}

fn denied(why: &str) -> Fault {
    let body = json!({ "__type": "AccessDeniedException", "message": why });
    Fault::Answer(400, body.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_at_a_key_of_ones_own_and_policies_that_name_one_secret() {
    let server = Arc::new(AwsServer::start(Maker::Moto));
    let proxy = FaultProxy::before(server.address()).await;
    let at_aws = AtAws::by_way_of(server, &proxy.url());
    let (store, at) = (&at_aws.store, at_aws.place(""));
    at_aws.put(&at.path, b"a").await;
    // Whoever may put at this very secret is denied at one of the same name that nobody has.
    proxy.on(PUT, denied("not authorized"), 1);
    store.check_use(&at, true, &plenty()).await.unwrap();
    assert_eq!((proxy.asked(PUT), proxy.asked(GET)), (2, 1));
    proxy.on(PUT, denied("not authorized"), 2);
    let told = refused(store.check_use(&at, true, &plenty()).await);
    assert!(
        told.text.contains("lacks `secretsmanager:PutSecretValue`"),
        "{told}"
    );

    let key = "arn:aws:kms:eu-central-1:123456789012:key/1";
    let encrypted = at_aws.place("");
    let made = at_aws.client.create_secret().name(&encrypted.path);
    let made = made.secret_string("a").kms_key_id(key).send().await;
    made.unwrap();
    proxy.forget();
    let untried = store.check_use(&encrypted, true, &plenty()).await.unwrap();
    assert_eq!(
        proxy.asked(GET),
        2,
        "what is current is asked for: the key is tried"
    );
    let says = format!("`kms:GenerateDataKey` is allowed on {key} cannot be tried");
    assert!(
        untried.len() == 1 && untried[0].contains(&says),
        "{untried:?}"
    );
    store.check_use(&encrypted, false, &plenty()).await.unwrap();
    proxy.on(GET, denied("Access to KMS is not allowed"), 2);
    let told = refused(store.check_use(&encrypted, true, &plenty()).await);
    assert!(
        told.text.contains("kms:Decrypt") && told.text.contains(key),
        "{told}"
    );

    let gone = Source {
        path: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:none-AbCdEf".to_owned(),
        field: String::new(),
    };
    let told = refused(store.check_use(&gone, true, &plenty()).await);
    assert!(told.text.contains("makes no secret by ARN"), "{told}");
    proxy.on(GET, Fault::Reset, u32::MAX);
    let told = refused(store.check_use(&at, false, &plenty()).await);
    assert_eq!(told.kind, ErrorKind::Unavailable, "{told}");
}
