//! The policy that we print is enough and not too much, and `check` says exactly what is missing.

use keywheel_core::store::{
    Backend, DEFAULT_POLL, DEFAULT_TIMEOUT, OldVersions, Source, StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::store::LoginRefused;
use keywheel_stores::policy::{Access, Grant, policy};
use keywheel_testkit::conformance::store::{
    FIELD, Outside, current, holds, kind, plenty, promote, reads, refused, text,
};
use keywheel_testkit::server::openbao::OpenBao;

use crate::bench::{Bench, MOUNT, NESTED};

/// The server takes no empty policy.
const NOTHING: &str = "path \"nothing\" { capabilities = [\"read\"] }";

fn at(path: &str) -> Source {
    Source {
        path: path.to_owned(),
        field: FIELD.to_owned(),
    }
}

fn printed(bench: &Bench, auth: &VaultAuth, grants: &[(&str, Access)]) -> String {
    printed_for(bench.spec(auth.clone()), grants)
}

fn printed_for(spec: VaultSpec, grants: &[(&str, Access)]) -> String {
    let spec = StoreSpec {
        backend: Backend::Vault(spec),
        poll: DEFAULT_POLL,
        timeout: DEFAULT_TIMEOUT,
    };
    let grants = grants.iter().map(|(path, access)| Grant {
        source: at(path),
        access: *access,
    });
    policy(&spec, &grants.collect::<Vec<_>>())
}

/// A login that has this policy and no other, the default one neither.
fn log_in(bench: &Bench, text: &str) -> VaultAuth {
    bench.policy("printed", text);
    let body = r#"{"policies":["printed"],"no_default_policy":true}"#;
    let made = bench.must("POST", "auth/token/create", body);
    let token = made["auth"]["client_token"].as_str().unwrap();
    let auth = VaultAuth::Token {
        token: bench.kept.put("/token", token),
    };
    bench.log_in(auth.clone());
    auth
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_printed_policy_everything_works_and_nothing_besides() {
    for namespace in ["", NESTED] {
        with_the_printed_policy_everything_works_and_nothing_besides_in(namespace).await;
    }
}

async fn with_the_printed_policy_everything_works_and_nothing_besides_in(namespace: &str) {
    let bench = Bench::of(OpenBao::start(None), namespace).await;
    let auth = log_in(&bench, NOTHING);
    let (ours, theirs, other) = (at("app/db \"one\""), at("app/theirs"), at("app/other"));
    let grants = [
        (ours.path.as_str(), Access::Write),
        (theirs.path.as_str(), Access::Read),
    ];
    let text_of_policy = printed(&bench, &auth, &grants);
    log_in(&bench, &text_of_policy);
    let store = bench.store();
    store.check(&plenty()).await.unwrap();
    store.check_use(&ours, true, &plenty()).await.unwrap();
    store.check_use(&theirs, false, &plenty()).await.unwrap();
    let first = promote(&bench, &ours, 1, "a", None).await.unwrap();
    let second = promote(&bench, &ours, 2, "b", Some(&first)).await.unwrap();
    holds(&bench, &ours, &second, "b").await;
    store.revoke(&ours, &first, &plenty()).await.unwrap();
    bench.must("DELETE", &format!("{MOUNT}/data/app/db%20%22one%22"), "");
    let third = promote(&bench, &ours, 3, "c", None).await.unwrap();
    assert_eq!(current(&bench, &ours).await, third);
    bench.write(&theirs.path, &[(FIELD, &text("a"))]).await;
    let seen = current(&bench, &theirs).await;
    holds(&bench, &theirs, &seen, "a").await;
    let over = promote(&bench, &theirs, 4, "b", Some(&seen)).await;
    let over = refused(over);
    assert_eq!(over.kind, ErrorKind::Denied);
    assert!(!LoginRefused::is_beneath(&over), "only a right is missing");
    assert!(
        over.text
            .contains("denies `patch` on team/kv/data/app/theirs"),
        "{over}"
    );
    reads(&bench, &theirs, "a").await;
    let denied = refused(store.look(&other, &plenty()).await);
    assert!(
        denied
            .text
            .contains("denies `read` on team/kv/metadata/app/other"),
        "{denied}"
    );
    let until = plenty();
    assert_eq!(
        kind(store.list("app/", None, &until).await),
        ErrorKind::Denied
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_right_that_is_missing_is_named() {
    for namespace in ["", NESTED] {
        each_right_that_is_missing_is_named_in(namespace).await;
    }
}

async fn each_right_that_is_missing_is_named_in(namespace: &str) {
    let bench = Bench::of(OpenBao::start(None), namespace).await;
    let auth = log_in(&bench, NOTHING);
    let ours = at("app/db");
    let whole = printed(&bench, &auth, &[("app/db", Access::Write)]);
    let mut tried = 0;
    for (kind, rights) in [
        ("data", &["create", "patch", "read", "update"][..]),
        ("destroy", &["update"]),
        ("metadata", &["patch", "read"]),
    ] {
        let path = format!("team/kv/{kind}/app/db");
        let (before, block) = whole.split_once(&format!("path \"{path}\"")).unwrap();
        for right in rights {
            let lacking = block.replacen(&format!("\"{right}\""), "", 1);
            let lacking = lacking
                .replacen("[, ", "[", 1)
                .replacen(", , ", ", ", 1)
                .replacen(", ]", "]", 1);
            log_in(&bench, &format!("{before}path \"{path}\"{lacking}"));
            let store = bench.store();
            let named = refused(store.check_use(&ours, true, &plenty()).await);
            assert_eq!(named.kind, ErrorKind::Denied);
            let says = format!("lacks `{right}` on {path};");
            assert!(named.text.contains(&says), "{named}");
            tried += 1;
        }
    }
    assert_eq!(tried, 7);
    log_in(&bench, NOTHING);
    let denied = refused(bench.store().check(&plenty()).await);
    assert!(denied.text.contains("may not look itself up"), "{denied}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_old_versions_are_deleted_that_right_is_printed_needed_and_enough() {
    let bench = Bench::start().await;
    let auth = log_in(&bench, NOTHING);
    let ours = at("app/db");
    let grants = [("app/db", Access::Write)];
    log_in(&bench, &printed(&bench, &auth, &grants));
    let spec = VaultSpec {
        old_versions: OldVersions::SoftDelete,
        ..bench.spec(auth)
    };
    let named = bench.declare(&spec).check_use(&ours, true, &plenty()).await;
    let named = refused(named);
    let says = "lacks `update` on team/kv/delete/app/db;";
    assert!(named.text.contains(says), "{named}");
    log_in(&bench, &printed_for(spec.clone(), &grants));
    let store = bench.declare(&spec);
    store.check_use(&ours, true, &plenty()).await.unwrap();
    let first = promote(&bench, &ours, 1, "a", None).await.unwrap();
    promote(&bench, &ours, 2, "b", Some(&first)).await.unwrap();
    store.retire(&ours, &first, &plenty()).await.unwrap();
    store.revoke(&ours, &first, &plenty()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_with_address_mount_namespace_and_seal() {
    let bench = Bench::start().await;
    bench.must(
        "POST",
        "sys/mounts/old",
        r#"{"type":"kv","options":{"version":"1"}}"#,
    );
    bench.must("POST", "sys/mounts/cipher", r#"{"type":"transit"}"#);
    let auth = VaultAuth::Token {
        token: bench
            .kept
            .put("/root-token", keywheel_testkit::server::openbao::ROOT),
    };
    let spec = |change: &dyn Fn(&mut VaultSpec)| {
        let mut spec = bench.spec(auth.clone());
        change(&mut spec);
        spec
    };
    bench
        .adapter(&spec(&|_| {}))
        .check(&plenty())
        .await
        .unwrap();
    type Change<'a> = &'a dyn Fn(&mut VaultSpec);
    let cases: [(Change<'_>, &str); 5] = [
        (&|spec| spec.mount = "old".to_owned(), "type kv version 1"),
        (&|spec| spec.mount = "cipher".to_owned(), "type transit"),
        (
            &|spec| spec.mount = "nowhere".to_owned(),
            "no engine at mount nowhere",
        ),
        (
            &|spec| spec.namespace = "nowhere".to_owned(),
            "refuses the token",
        ),
        (
            &|spec| spec.address = "http://127.0.0.1:1".to_owned(),
            "cannot be reached",
        ),
    ];
    for (change, says) in cases {
        let said = refused(bench.adapter(&spec(change)).check(&plenty()).await);
        assert!(said.text.contains(says), "{said}");
        assert!(said.text.starts_with("store `elsewhere`: "), "{said}");
    }
    bench.must("PUT", "sys/seal", "");
    let sealed = refused(bench.store().check(&plenty()).await);
    assert_eq!(sealed.kind, ErrorKind::Unavailable);
    assert!(sealed.text.contains("is sealed; unseal it"), "{sealed}");
}
