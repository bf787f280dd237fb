//! The transit engine of a real OpenBao.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::store::{OldVersions, VaultAuth, VaultSpec};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::key_service::KeyService as _;
use keywheel_seal::OsEntropy;
use keywheel_stores::vault::{Process, TransitKey};
use keywheel_testkit::conformance::key_service;
use keywheel_testkit::conformance::store::{plenty, refused, value};
use keywheel_testkit::fake::FakeClock;
use keywheel_testkit::server::openbao::{OpenBao, ROOT};

use crate::{Kept, binding, is_refused, names, opens, wrapped};

/// Long for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN: &str = "/token";
/// What the documentation says is enough.
const POLICY: &str = r#"path \"transit/encrypt/kw\" { capabilities = [\"update\"] }\npath \"transit/decrypt/kw\" { capabilities = [\"update\"] }"#;

struct Bench {
    server: OpenBao,
    kept: Arc<Kept>,
}

impl Bench {
    /// With a transit engine, and two keys in it.
    fn start() -> Self {
        Self::at(OpenBao::start(None))
    }

    fn at(server: OpenBao) -> Self {
        server.must("POST", "sys/mounts/transit", &[], r#"{"type":"transit"}"#);
        for key in ["kw", "other"] {
            server.must("POST", &format!("transit/keys/{key}"), &[], "{}");
        }
        let policy = format!("{{\"policy\":\"{POLICY}\"}}");
        server.must("PUT", "sys/policies/acl/kw", &[], &policy);
        let kept = Arc::new(Kept::default());
        kept.put(TOKEN, ROOT);
        Self { server, kept }
    }

    fn key_at(&self, mount: &str, key: &str, auth: VaultAuth) -> TransitKey {
        let spec = VaultSpec {
            address: format!("http://{}", self.server.address()),
            namespace: String::new(),
            mount: mount.to_owned(),
            ca_file: String::new(),
            old_versions: OldVersions::default(),
            auth,
        };
        let process = Process {
            clock: Arc::new(FakeClock::default()),
            entropy: Arc::new(OsEntropy),
            wrappings: Arc::default(),
        };
        TransitKey::new(&spec, key, (TIMEOUT, self.kept.clone()), process).unwrap()
    }

    /// By the token in its file.
    fn key(&self, key: &str) -> TransitKey {
        let token = keywheel_core::store::CredentialRef::File(TOKEN.to_owned());
        self.key_at("transit", key, VaultAuth::Token { token })
    }

    /// A token with these policies.
    fn token(&self, policies: &str) -> String {
        let body = format!("{{\"policies\":[\"default\",\"{policies}\"]}}");
        let made = self.server.must("POST", "auth/token/create", &[], &body);
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    fn revoke(&self, token: &str) {
        let body = format!("{{\"token\":\"{token}\"}}");
        self.server.must("POST", "auth/token/revoke", &[], &body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_at_openbao_keeps_the_laws() {
    let bench = Bench::start();
    key_service::check(&bench.key("kw"), &bench.key("other")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_two_rights_of_the_documentation_are_enough_and_make_no_key() {
    let bench = Bench::start();
    bench.kept.put(TOKEN, &bench.token("kw"));
    let own = bench.key("kw");
    let kept = wrapped(&own).await;
    opens(&own, &kept).await;
    let other = bench.key("other");
    let told = ["denies `update` on transit/decrypt/other", "capabilities"];
    is_refused(&other, &kept, ErrorKind::Denied, &told).await;
    let mistyped = bench.key("kv");
    let made = mistyped.wrap(&value("root"), &binding(), &plenty()).await;
    let told = ["denies `update`", "a key that is not there"];
    names(&refused(made), &mistyped, ErrorKind::Denied, &told);
    let there = bench.server.ask("GET", "transit/keys/kv", &[], "");
    assert_eq!(there.0, 404, "{}", there.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ended_is_told_and_another_one_in_its_file_works_at_once() {
    let bench = Bench::start();
    let token = bench.token("kw");
    bench.kept.put(TOKEN, &token);
    let own = bench.key("kw");
    let kept = wrapped(&own).await;
    bench.revoke(&token);
    let told = ["expired, was revoked", "make a new one"];
    is_refused(&own, &kept, ErrorKind::Denied, &told).await;
    // Not tried again and again, unless a person asks.
    let told = ["it is tried again in"];
    is_refused(&own, &kept, ErrorKind::Denied, &told).await;
    own.ask_anew();
    let again = own.unwrap(&kept, &binding(), &plenty()).await;
    let again = refused(again);
    assert!(!again.text.contains("it is tried again in"), "{again}");
    bench.kept.put(TOKEN, &bench.token("kw"));
    opens(&own, &kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_role_opens_it_too() {
    let bench = Bench::start();
    let must = |path: &str, body: &str| {
        let made = bench.server.must("POST", path, &[], body);
        serde_json::from_str::<serde_json::Value>(&made).unwrap_or_default()
    };
    must("sys/auth/approle", r#"{"type":"approle"}"#);
    let role = r#"{"token_policies":["kw"]}"#;
    must("auth/approle/role/sync", role);
    let read = bench
        .server
        .must("GET", "auth/approle/role/sync/role-id", &[], "");
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    let made = must("auth/approle/role/sync/secret-id", "{}");
    let secret_id = made["data"]["secret_id"].as_str().unwrap();
    let auth = VaultAuth::AppRole {
        mount: "approle".to_owned(),
        role_id: read["data"]["role_id"].as_str().unwrap().to_owned(),
        secret_id: bench.kept.put("/secret-id", secret_id),
        wrapped: false,
    };
    let own = bench.key_at("transit", "kw", auth);
    opens(&own, &wrapped(&own).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_mount_key_or_version_is_named() {
    let bench = Bench::start();
    let own = bench.key("kw");
    let kept = wrapped(&own).await;
    let token = bench.kept.put(TOKEN, ROOT);
    let elsewhere = bench.key_at("nowhere", "kw", VaultAuth::Token { token });
    let told = ["no transit engine at mount nowhere", "bao secrets enable"];
    is_refused(&elsewhere, &kept, ErrorKind::Denied, &told).await;
    let rsa = r#"{"type":"rsa-2048"}"#;
    bench.server.must("POST", "transit/keys/rsa", &[], rsa);
    let rsa = bench.key("rsa");
    let made = rsa.wrap(&value("root"), &binding(), &plenty()).await;
    let told = ["associated", "aes256-gcm96"];
    names(&refused(made), &rsa, ErrorKind::Denied, &told);
    // A key that was rotated opens what its earlier versions wrapped, until somebody ends those.
    bench
        .server
        .must("POST", "transit/keys/kw/rotate", &[], "{}");
    opens(&own, &kept).await;
    let ended = r#"{"min_decryption_version":2}"#;
    bench
        .server
        .must("POST", "transit/keys/kw/config", &[], ended);
    let told = ["too old", "min_decryption_version"];
    is_refused(&own, &kept, ErrorKind::Denied, &told).await;
    let garbage = own.unwrap(&[0xff, 0xfe], &binding(), &plenty()).await;
    names(&refused(garbage), &own, ErrorKind::Denied, &["seal.json"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_or_sealed_is_unavailable_and_opens_it_when_it_is_back() {
    let mut bench = Bench::at(OpenBao::start_kept());
    let own = bench.key("kw");
    let kept = wrapped(&own).await;
    bench.server.kill();
    is_refused(&own, &kept, ErrorKind::Unavailable, &["cannot be reached"]).await;
    bench.server.start_again();
    is_refused(&own, &kept, ErrorKind::Unavailable, &["unseal it"]).await;
    bench.server.unseal();
    opens(&own, &kept).await;
}
