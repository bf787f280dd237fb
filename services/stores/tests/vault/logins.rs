//! Every way to log in, at a real server: what it needs, how long it lasts, what a refusal says.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_core::store::{VaultAuth, VaultSpec};
use keywheel_engine::port::store::LoginRefused;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_stores::vault::MAX_CA_FILE_BYTES;
use keywheel_testkit::conformance::store::{
    FIELD, Outside, current, plenty, promote, reads, refused, text,
};
use keywheel_testkit::server::fault::Fault;
use keywheel_testkit::server::nats::TlsFiles;
use keywheel_testkit::server::openbao::OpenBao;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ED25519, SigningKey as _,
};

use crate::bench::{Bench, NESTED};

const LOGIN: &str = "/login";
const RENEWAL: &str = "/renew-self";
/// How often a renewal is looked for.
const POLLS: u32 = 2400;
const POLL: Duration = Duration::from_millis(25);

/// An AppRole with these settings; gives its role id.
fn app_role(bench: &Bench, settings: &str) -> String {
    bench.all_rights("all");
    bench.must("POST", "sys/auth/approle", r#"{"type":"approle"}"#);
    let body = format!("{{\"token_policies\":[\"all\"]{settings}}}");
    bench.must("POST", "auth/approle/role/sync", &body);
    let read = bench.must("GET", "auth/approle/role/sync/role-id", "");
    read["data"]["role_id"].as_str().unwrap().to_owned()
}

fn secret_id(bench: &Bench) -> String {
    let made = bench.must("POST", "auth/approle/role/sync/secret-id", "{}");
    made["data"]["secret_id"].as_str().unwrap().to_owned()
}

fn wrapped(bench: &Bench, path: &str) -> String {
    let mut headers = bench.headers();
    headers.push("X-Vault-Wrap-TTL: 600");
    let method = if path.ends_with("secret-id") {
        "POST"
    } else {
        "GET"
    };
    let made = bench.server.must(method, path, &headers, "{}");
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    made["wrap_info"]["token"].as_str().unwrap().to_owned()
}

fn by_app_role(bench: &Bench, role_id: &str, secret_id: &str, wrapped: bool) -> VaultAuth {
    VaultAuth::AppRole {
        mount: "approle".to_owned(),
        role_id: role_id.to_owned(),
        secret_id: bench.kept.put("/secret-id", secret_id),
        wrapped,
    }
}

async fn works(bench: &Bench) {
    let at = bench.fresh();
    let made = promote(bench, &at, 1, "a", None).await.unwrap();
    assert_eq!(current(bench, &at).await, made);
    reads(bench, &at, "a").await;
}

/// Looks at nothing in particular, which needs a token.
async fn look(bench: &Bench) -> Result<(), PortError> {
    let (at, until) = (bench.fresh(), plenty());
    bench.store().look(&at, &until).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_app_role_and_again_when_the_token_ends_midway() {
    for namespace in ["", NESTED] {
        by_app_role_and_again_when_the_token_ends_midway_in(namespace).await;
    }
}

async fn by_app_role_and_again_when_the_token_ends_midway_in(namespace: &str) {
    let bench = Bench::of(OpenBao::start(None), namespace).await;
    let role_id = app_role(&bench, "");
    bench.log_in(by_app_role(&bench, &role_id, &secret_id(&bench), false));
    let at = bench.fresh();
    bench.write(&at.path, &[(FIELD, &text("a"))]).await;
    let known = current(&bench, &at).await;
    assert_eq!(bench.proxy.asked(LOGIN), 1);
    // In the middle of a rotation the token is gone.
    bench.revoke_tokens();
    let made = promote(&bench, &at, 1, "b", Some(&known)).await.unwrap();
    assert_eq!(bench.proxy.asked(LOGIN), 2);
    bench.revoke_tokens();
    bench.store().revoke(&at, &known, &plenty()).await.unwrap();
    assert_eq!(current(&bench, &at).await, made);
    assert_eq!(bench.proxy.asked(LOGIN), 3);
    // A login whose answer is lost is tried again by whoever asks next.
    bench.revoke_tokens();
    bench.proxy.on(LOGIN, Fault::DropAnswer, 1);
    assert_eq!(refused(look(&bench).await).kind, ErrorKind::Unavailable);
    look(&bench).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_app_role_says_so_without_the_secret_id_and_a_new_one_is_taken_up() {
    let bench = Bench::start().await;
    let role_id = app_role(&bench, ",\"secret_id_num_uses\":1");
    let wrong = "canary-5d0e-no-secret-id";
    bench.log_in(by_app_role(&bench, &role_id, wrong, false));
    let denied = refused(look(&bench).await);
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(denied.text.contains("auth/approle/login"), "{denied}");
    for _ in 0..2 {
        // Also while the refused one is not shown again.
        let denied = refused(look(&bench).await);
        assert!(LoginRefused::is_beneath(&denied), "{denied}");
    }
    bench.kept.put("/secret-id", secret_id(&bench));
    look(&bench).await.unwrap();
    // It was good for one login.
    bench.revoke_tokens();
    assert_eq!(refused(look(&bench).await).kind, ErrorKind::Denied);
    bench.kept.put("/secret-id", secret_id(&bench));
    look(&bench).await.unwrap();
    bench.log_in(VaultAuth::AppRole {
        mount: "elsewhere".to_owned(),
        role_id,
        secret_id: bench.kept.put("/secret-id", secret_id(&bench)),
        wrapped: false,
    });
    let denied = refused(look(&bench).await);
    assert!(denied.text.contains("auth/elsewhere/login"), "{denied}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrapped_secret_id_is_unwrapped_once_and_a_swapped_one_is_refused() {
    for namespace in ["", NESTED] {
        a_wrapped_secret_id_is_unwrapped_once_and_a_swapped_one_is_refused_in(namespace).await;
    }
}

async fn a_wrapped_secret_id_is_unwrapped_once_and_a_swapped_one_is_refused_in(namespace: &str) {
    let bench = Bench::of(OpenBao::start(None), namespace).await;
    let role_id = app_role(&bench, "");
    let wrapping = wrapped(&bench, "auth/approle/role/sync/secret-id");
    bench.log_in(by_app_role(&bench, &role_id, &wrapping, true));
    works(&bench).await;
    for _ in 0..2 {
        bench.revoke_tokens();
        works(&bench).await;
    }
    assert_eq!(bench.proxy.asked("/sys/wrapping/unwrap"), 1);
    // Another process with the same wrapping token is told that it is spent.
    bench.log_in(by_app_role(&bench, &role_id, &wrapping, true));
    let spent = refused(look(&bench).await);
    assert_eq!(spent.kind, ErrorKind::Denied);
    assert!(spent.text.contains("wrap a new secret id"), "{spent}");
    let wrapping = wrapped(&bench, "auth/approle/role/sync/secret-id");
    bench.kept.put("/secret-id", wrapping);
    works(&bench).await;
    let swapped = wrapped(&bench, "auth/approle/role/sync/role-id");
    bench.log_in(by_app_role(&bench, &role_id, &swapped, true));
    let swapped = refused(look(&bench).await);
    assert!(swapped.text.contains("wraps something else"), "{swapped}");
    assert_eq!(
        bench.proxy.asked("/sys/wrapping/unwrap"),
        2,
        "it was not opened"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_unwrapped_serves_every_store_of_the_process_at_that_server() {
    let bench = Bench::start().await;
    let role_id = app_role(&bench, "");
    let wrapping = wrapped(&bench, "auth/approle/role/sync/secret-id");
    let spec = bench.spec(by_app_role(&bench, &role_id, &wrapping, true));
    let process = Arc::default();
    let unwraps = || bench.proxy.asked("/sys/wrapping/unwrap");
    // A trial, then the declared store, then one whose declaration changed.
    for _ in 0..3 {
        let store = bench.adapter_in(&process, &spec);
        store.check(&plenty()).await.unwrap();
    }
    assert_eq!(unwraps(), 1);
    // Whoever declares another server with the same credential is told nothing.
    let elsewhere = VaultSpec {
        address: format!("http://{}", bench.server.address()),
        ..spec.clone()
    };
    let spent = bench
        .adapter_in(&process, &elsewhere)
        .check(&plenty())
        .await;
    assert!(refused(spent).text.contains("wrap a new secret id"));
    let wrapping = wrapped(&bench, "auth/approle/role/sync/secret-id");
    bench.kept.put("/secret-id", wrapping);
    let [one, two] = [(); 2].map(|()| bench.adapter_in(&process, &spec));
    let until = plenty();
    let (one, two) = tokio::join!(one.check(&until), two.check(&until));
    one.unwrap();
    two.unwrap();
    assert_eq!(unwraps(), 2, "one of two opened it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_login_is_tried_again_later_and_later_or_with_another_credential() {
    let bench = Bench::start().await;
    let role_id = app_role(&bench, "");
    bench.log_in(by_app_role(&bench, &role_id, "no-secret-id", false));
    let asked = || bench.proxy.asked(LOGIN);
    let denied = || async { assert_eq!(refused(look(&bench).await).kind, ErrorKind::Denied) };
    for _ in 0..10 {
        denied().await;
    }
    assert_eq!(asked(), 1);
    for (seconds, logins) in [(5, 2), (9, 2), (1, 3)] {
        bench.clock.advance(Duration::from_secs(seconds));
        denied().await;
        assert_eq!(asked(), logins, "after {seconds} s");
    }
    // A person who asks waits for nothing, and a mended credential neither.
    assert_eq!(
        refused(bench.store().check(&plenty()).await).kind,
        ErrorKind::Denied
    );
    assert_eq!(asked(), 4);
    bench.kept.put("/secret-id", secret_id(&bench));
    look(&bench).await.unwrap();
    assert_eq!(asked(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_the_server_fails_is_no_refusal_of_the_credential() {
    let bench = Bench::start().await;
    let role_id = app_role(&bench, "");
    bench.log_in(by_app_role(&bench, &role_id, &secret_id(&bench), false));
    for status in [500, 502, 504, 307] {
        bench.proxy.on(LOGIN, Fault::Status(status, None), 1);
        let told = refused(look(&bench).await);
        assert_eq!(told.kind, ErrorKind::Unavailable, "{status}: {told}");
        assert_eq!(bench.proxy.left(), 0, "{status}");
    }
    // Nothing is waited for.
    look(&bench).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_at_two_thirds_of_its_life_and_replaced_after_it() {
    for namespace in ["", NESTED] {
        a_token_is_renewed_at_two_thirds_of_its_life_and_replaced_after_it_in(namespace).await;
    }
}

async fn a_token_is_renewed_at_two_thirds_of_its_life_and_replaced_after_it_in(namespace: &str) {
    let bench = Bench::of(OpenBao::start(None), namespace).await;
    let role_id = app_role(&bench, ",\"token_ttl\":3600");
    bench.log_in(by_app_role(&bench, &role_id, &secret_id(&bench), false));
    let asked = || (bench.proxy.asked(LOGIN), bench.proxy.asked(RENEWAL));
    look(&bench).await.unwrap();
    bench.clock.advance(Duration::from_secs(2399));
    look(&bench).await.unwrap();
    assert_eq!(asked(), (1, 0));
    bench.clock.advance(Duration::from_secs(2));
    look(&bench).await.unwrap();
    look(&bench).await.unwrap();
    assert_eq!(asked(), (1, 1));
    bench.clock.advance(Duration::from_secs(3600));
    look(&bench).await.unwrap();
    assert_eq!(asked(), (2, 1), "an ended token is not renewed");
    // A renewal that fails is a login, and a login that fails does no harm while the token lives.
    bench.clock.advance(Duration::from_secs(2401));
    bench.proxy.on(RENEWAL, Fault::Status(400, None), 1);
    look(&bench).await.unwrap();
    assert_eq!(asked(), (3, 2));
    bench.clock.advance(Duration::from_secs(2401));
    bench.proxy.on("/auth/", Fault::Status(400, None), 2);
    look(&bench).await.unwrap();
    assert_eq!(asked(), (4, 3));
    bench.must(
        "POST",
        "auth/approle/role/sync",
        r#"{"token_type":"batch"}"#,
    );
    bench.clock.advance(Duration::from_secs(3600));
    look(&bench).await.unwrap();
    assert_eq!(asked(), (5, 3));
    bench.clock.advance(Duration::from_secs(2401));
    look(&bench).await.unwrap();
    assert_eq!(
        asked(),
        (6, 3),
        "what cannot be renewed is replaced as early"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_while_nobody_asks_anything() {
    let bench = Bench::start().await;
    let role_id = app_role(&bench, ",\"token_ttl\":3");
    bench.log_in(by_app_role(&bench, &role_id, &secret_id(&bench), false));
    look(&bench).await.unwrap();
    // By the clock of the adapter it is time; nobody asks.
    bench.clock.advance(Duration::from_secs(2));
    for _ in 0..POLLS {
        if bench.proxy.asked(RENEWAL) > 0 {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
    panic!("it was not renewed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_token_that_is_read_anew_when_it_is_refused() {
    for namespace in ["", NESTED] {
        by_a_token_that_is_read_anew_when_it_is_refused_in(namespace).await;
    }
}

async fn by_a_token_that_is_read_anew_when_it_is_refused_in(namespace: &str) {
    let bench = Bench::of(OpenBao::start(None), namespace).await;
    bench.all_rights("all");
    let make = || {
        let made = bench.must("POST", "auth/token/create", r#"{"policies":["all"]}"#);
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    };
    let token = bench.kept.put("/token", make());
    bench.log_in(VaultAuth::Token { token });
    works(&bench).await;
    bench.revoke_tokens();
    let denied = refused(look(&bench).await);
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(denied.text.contains("make a new one"), "{denied}");
    bench.kept.put("/token", make());
    works(&bench).await;
    bench.kept.put("/token", "");
    bench.revoke_tokens();
    let empty = refused(look(&bench).await);
    assert!(empty.text.contains("the token is empty"), "{empty}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_signed_token_that_is_read_for_each_login() {
    for namespace in ["", NESTED] {
        by_a_signed_token_that_is_read_for_each_login_in(namespace).await;
    }
}

async fn by_a_signed_token_that_is_read_for_each_login_in(namespace: &str) {
    let bench = Bench::of(OpenBao::start(None), namespace).await;
    bench.all_rights("all");
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    bench.must("POST", "sys/auth/jwt", r#"{"type":"jwt"}"#);
    let config = serde_json::json!({
        "jwt_validation_pubkeys": [key.public_key_pem()],
        "jwt_supported_algs": ["EdDSA"],
    });
    bench.must("POST", "auth/jwt/config", &config.to_string());
    let role = r#"{"role_type":"jwt","user_claim":"sub","bound_audiences":["keywheel"],"token_policies":["all"]}"#;
    bench.must("POST", "auth/jwt/role/sync", role);
    let signed = |audience: &str| {
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"JWT"}"#);
        // Until the year 2100.
        let claims = format!(
            "{{\"sub\":\"sync\",\"aud\":\"{audience}\",\"iat\":1700000000,\"nbf\":1700000000,\"exp\":4102444800}}"
        );
        let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).unwrap());
        format!("{text}.{signature}")
    };
    let token = bench.kept.put("/jwt", signed("keywheel"));
    bench.log_in(VaultAuth::Jwt {
        mount: "jwt".to_owned(),
        role: "sync".to_owned(),
        token,
    });
    works(&bench).await;
    bench.revoke_tokens();
    bench.kept.put("/jwt", signed("somebody-else"));
    let denied = refused(look(&bench).await);
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(denied.text.contains("auth/jwt/login"), "{denied}");
    bench.kept.put("/jwt", signed("keywheel"));
    works(&bench).await;
}

struct Issued {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Issued {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            ca: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn leaf(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.ca).unwrap();
        (made.pem(), key.serialize_pem())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_an_authority_of_its_own_and_by_a_client_certificate() {
    for namespace in ["", NESTED] {
        over_tls_with_an_authority_of_its_own_and_by_a_client_certificate_in(namespace).await;
    }
}

async fn over_tls_with_an_authority_of_its_own_and_by_a_client_certificate_in(namespace: &str) {
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name);
    let (ours, other) = (Issued::new(), Issued::new());
    let longest = usize::try_from(MAX_CA_FILE_BYTES).unwrap();
    let (certificate, key) = ours.leaf("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    for (name, pem) in [
        ("ca.pem", ours.ca.pem()),
        ("other.pem", other.ca.pem()),
        ("server.pem", certificate),
        ("server.key", key),
        ("empty.pem", String::new()),
        ("full.pem", "x".repeat(longest)),
        ("long.pem", "x".repeat(longest + 1)),
    ] {
        std::fs::write(at(name), pem).unwrap();
    }
    let tls = TlsFiles {
        ca: at("ca.pem"),
        certificate: at("server.pem"),
        key: at("server.key"),
    };
    let bench = Bench::of(OpenBao::start(Some(&tls)), namespace).await;
    bench.all_rights("all");
    bench.must("POST", "sys/auth/cert", r#"{"type":"cert"}"#);
    let role = serde_json::json!({ "certificate": ours.ca.pem(), "token_policies": ["all"] });
    bench.must("POST", "auth/cert/certs/sync", &role.to_string());
    let (certificate, key) = ours.leaf("sync", ExtendedKeyUsagePurpose::ClientAuth);
    let auth = VaultAuth::Cert {
        mount: "cert".to_owned(),
        role: "sync".to_owned(),
        certificate: bench.kept.put("/client.pem", certificate),
        key: bench.kept.put("/client.key", key),
    };
    let spec = |ca: &str| VaultSpec {
        address: bench.server.tls_url(),
        ca_file: match ca {
            "" => String::new(),
            name => at(name).display().to_string(),
        },
        ..bench.spec(auth.clone())
    };
    let store = bench.adapter(&spec("ca.pem"));
    store.check(&plenty()).await.unwrap();
    let place = bench.fresh();
    bench.write(&place.path, &[(FIELD, &text("a"))]).await;
    assert!(store.look(&place, &plenty()).await.unwrap().is_some());
    bench.revoke_tokens();
    assert!(store.look(&place, &plenty()).await.unwrap().is_some());
    for (ca, says) in [
        ("", "is not trusted"),
        ("other.pem", "other.pem"),
        ("empty.pem", "no certificate"),
        ("missing.pem", "cannot be read"),
        ("long.pem", "cannot be read"),
        ("full.pem", "no certificate"),
    ] {
        let denied = refused(bench.adapter(&spec(ca)).check(&plenty()).await);
        assert_eq!(denied.kind, ErrorKind::Denied, "{denied}");
        assert!(denied.text.contains(says), "{denied}");
    }
    // A certificate of somebody else, taken up at the next login.
    let (certificate, key) = other.leaf("sync", ExtendedKeyUsagePurpose::ClientAuth);
    bench.kept.put("/client.pem", certificate);
    bench.kept.put("/client.key", key);
    bench.revoke_tokens();
    let denied = refused(store.look(&place, &plenty()).await);
    assert_eq!(denied.kind, ErrorKind::Denied, "{denied}");
    assert!(denied.text.contains("auth/cert/login"), "{denied}");
}
