//! One wish under one `Idempotency-Key`: whatever verb, it is decided once, and what happened meanwhile
//! does not make a repeat do it again. What was refused first stays refused.

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::HostId;
use keywheel_engine::port::journal::Journal as _;

use super::stores::STORE;
use super::*;

const KEY: &str = "0d6a3f0e-one-wish";
const BINDING: &str = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: prod/db\n  containers: { labels: { app: web }, insecureSelector: true }\n  file: { name: db }\n  reload: none\n";
const FIRST: HostId = HostId::from_bytes([5; 16]);
const SECOND: HostId = HostId::from_bytes([6; 16]);

/// What is wished: method, path and body.
type Wish<'w> = (&'w str, &'w str, Value);

fn applying(manifests: &str) -> Value {
    json!({ "manifests": manifests, "source": "test.yaml" })
}

impl Bench {
    async fn wish(&self, key: &str, wish: &Wish<'_>) -> (u16, Value) {
        let (method, path, body) = wish;
        let headers = [("idempotency-key", key)];
        let sent = self.send((method, path), &headers, Body::from(body.to_string()));
        let response = sent.await;
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_str(&text_of(response).await).unwrap(),
        )
    }

    pub(super) async fn head(&self) -> u64 {
        self.journal.head().await.unwrap().number
    }

    /// A repeat succeeds like the first one, and leaves no event.
    async fn repeat(&self, wish: &Wish<'_>) -> Value {
        let before = self.head().await;
        let (status, answer) = self.wish(KEY, wish).await;
        assert_eq!(status, 200, "{wish:?}: {answer}");
        assert_eq!(self.head().await, before, "{wish:?} was done again");
        answer
    }

    async fn enrol(&self, host: HostId) {
        let command = Command::EnrolHost {
            host,
            name: HostName::parse("web-1").unwrap(),
            sealing_key: [1; 32],
        };
        self.submit(Role::Injector, command).await;
    }

    async fn first(&self, wish: &Wish<'_>) -> Value {
        let (status, answer) = self.wish(KEY, wish).await;
        assert_eq!(status, 200, "{wish:?}: {answer}");
        answer
    }
}

#[tokio::test]
async fn an_apply_that_comes_again_does_not_set_back_what_was_changed_since() {
    let bench = Bench::start().await;
    let wish: Wish<'_> = (
        "POST",
        "/v1/apply",
        applying(&format!("{MANIFEST}---\n{BINDING}")),
    );
    bench.first(&wish).await;
    bench.work().await;
    let longer = MANIFEST.replace("length: 20", "length: 24");
    assert_eq!(bench.apply(&longer).await.0, 200);
    let answer = bench.repeat(&wish).await;
    let names: Vec<&Value> = answer["results"].as_array().unwrap().iter().collect();
    assert!(
        names.len() == 2 && names[0]["name"] == "prod/db",
        "{answer}"
    );
    let (_, dry) = bench
        .post(
            "apply",
            json!({ "manifests": longer, "source": "t", "dry_run": true }),
        )
        .await;
    assert_eq!(dry["results"][0]["action"], "unchanged", "{dry}");
    // Under another key it is another wish.
    let before = bench.head().await;
    assert_eq!(bench.wish("another", &wish).await.0, 200);
    assert!(bench.head().await > before);
}

#[tokio::test]
async fn a_put_that_comes_again_is_its_first_rotation() {
    let bench = Bench::start().await;
    bench.apply(PROVIDED).await;
    let token = PutToken::from_bytes([3; 16]).to_string();
    let body = json!({ "name": "prod/key", "token": token, "sealed": "AAAA" });
    let wish: Wish<'_> = ("POST", "/v1/put", body);
    let first = bench.first(&wish).await;
    let again = bench.repeat(&wish).await;
    assert_eq!(again, first, "while it is under way");
    bench.work().await;
    let ended = bench.repeat(&wish).await;
    assert_eq!(ended["rotation_id"], first["rotation_id"]);
    assert_eq!(bench.see("rotations").await.1.as_array().unwrap().len(), 1);
    assert!(
        bench.store.dropped.lock().unwrap().is_empty(),
        "its value is in use"
    );
}

#[tokio::test]
async fn a_revocation_that_comes_again_leaves_the_next_version_alive() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    let body = json!({ "secret": "prod/db", "reason": "leaked" });
    let wish: Wish<'_> = ("POST", "/v1/revoke", body);
    let first = bench.first(&wish).await;
    bench.work().await;
    assert_eq!(
        bench.post("rotate", json!({ "secret": "prod/db" })).await.0,
        200
    );
    bench.work().await;
    let again = bench.repeat(&wish).await;
    assert_eq!(again["revocation_id"], first["revocation_id"]);
    let (_, secret) = bench.see("secrets/prod/db").await;
    assert_eq!(secret["current"], 2, "{secret}");
    assert_eq!(
        bench.see("revocations").await.1.as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn an_eviction_that_comes_again_lets_the_next_machine_of_the_name_be() {
    let bench = Bench::start().await;
    bench.enrol(FIRST).await;
    let wish: Wish<'_> = (
        "POST",
        "/v1/hosts/web-1/evict",
        json!({ "reason": "stolen" }),
    );
    let first = bench.first(&wish).await;
    assert_eq!(first["host"]["state"], "evicted");
    assert_eq!(bench.repeat(&wish).await, first);
    bench.enrol(SECOND).await;
    bench.repeat(&wish).await;
    let (_, page) = bench.see(&format!("hosts/{SECOND}")).await;
    assert_ne!(page["state"], "evicted", "{page}");
}

#[tokio::test]
async fn what_was_removed_once_and_made_again_stays() {
    let bench = Bench::start().await;
    let all = [MANIFEST, STORE, BINDING].join("---\n");
    bench.apply(&all).await;
    for (path, list) in [("stores/bao", "stores"), ("bindings/web", "bindings")] {
        let path = format!("/v1/{path}");
        let wish: Wish<'_> = ("DELETE", &path, Value::Null);
        let first = bench.first(&wish).await;
        assert_eq!(bench.see(list).await.1, json!([]), "{path}");
        assert_eq!(bench.repeat(&wish).await, first);
        assert_eq!(bench.apply(&all).await.0, 200);
        assert_eq!(bench.repeat(&wish).await, first);
        assert_eq!(
            bench.see(list).await.1.as_array().unwrap().len(),
            1,
            "{path}"
        );
        // And another wish is another one.
        assert_eq!(bench.wish("another", &wish).await.0, 200);
        assert_eq!(bench.see(list).await.1, json!([]), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_stays_the_answer_when_nothing_would_be_refused_any_more() {
    let bench = Bench::start().await;
    let put = |byte: u8| {
        let token = PutToken::from_bytes([byte; 16]).to_string();
        json!({ "name": "prod/key", "token": token, "sealed": "AAAA" })
    };
    bench.apply(PROVIDED).await;
    assert_eq!(bench.post("put", put(1)).await.0, 200);
    let wishes: [Wish<'_>; 6] = [
        ("POST", "/v1/apply", applying(BINDING)),
        ("POST", "/v1/rotate", json!({ "secret": "prod/db" })),
        (
            "POST",
            "/v1/revoke",
            json!({ "secret": "prod/db", "reason": "leaked" }),
        ),
        ("POST", "/v1/put", put(2)),
        ("DELETE", "/v1/stores/bao", Value::Null),
        ("DELETE", "/v1/bindings/web", Value::Null),
    ];
    let mut refused = Vec::new();
    for wish in &wishes {
        let answer = bench.wish(KEY, wish).await;
        let is_refused = [404, 409].contains(&answer.0);
        assert!(is_refused, "{wish:?}: {answer:?}");
        refused.push(answer);
    }
    bench.work().await;
    let all = [MANIFEST, STORE].join("---\n");
    assert_eq!(bench.apply(&all).await.0, 200);
    bench.work().await;
    let before = bench.head().await;
    for (wish, first) in wishes.iter().zip(&refused) {
        let again = bench.wish(KEY, wish).await;
        assert_eq!(&again, first, "{wish:?}");
    }
    assert_eq!(bench.head().await, before);
    // Each of them is possible by now.
    for wish in &wishes {
        let answer = bench.wish("another", wish).await;
        assert_eq!(answer.0, 200, "{wish:?}: {answer:?}");
        bench.work().await;
    }
}
