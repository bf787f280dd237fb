//! The laws of the port, through a proxy that does wrong, in a namespace; and what a KV engine has
//! besides.

use std::time::Duration;

use keywheel_core::store::{OldVersions, RemoteVersion, VaultAuth, VaultSpec};
use keywheel_engine::port::ErrorKind;
use keywheel_testkit::conformance::store::faults::{self, Calls};
use keywheel_testkit::conformance::store::{
    self, FIELD, Outside, again, current, holds, kind, plenty, promote, reads, text, token,
};
use keywheel_testkit::server::fault::Fault;
use keywheel_testkit::server::openbao::{OpenBao, ROOT};

use crate::bench::{Bench, MOUNT, NESTED, encoded};

fn number(version: &RemoteVersion) -> u64 {
    let number = version.0.split('@').next().unwrap();
    number.parse().unwrap()
}

const CALLS: Calls = Calls {
    look: "GET /v1/team/kv/metadata/",
    write: "PATCH /v1/team/kv/data/",
    write_lie: r#"{"data":{"version":2,"created_time":"2026-11-28T00:00:00Z","destroyed":false}}"#,
    revoke: "PUT /v1/team/kv/destroy/",
    revoke_lie: "{}",
    revoke_is_read_back: true,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_laws_of_the_port_in_a_namespace() {
    let bench = Bench::of(OpenBao::start(None), NESTED).await;
    store::check(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_them_where_old_versions_are_deleted_and_what_is_revoked_never_comes_back() {
    let bench = Bench::start().await;
    let token = bench.kept.put("/root-token", ROOT);
    let spec = VaultSpec {
        old_versions: OldVersions::SoftDelete,
        ..bench.spec(VaultAuth::Token { token })
    };
    let store = bench.declare(&spec);
    store::check(&bench).await;
    let at = bench.fresh();
    let first = promote(&bench, &at, 1, "a", None).await.unwrap();
    let second = promote(&bench, &at, 2, "b", Some(&first)).await.unwrap();
    let third = promote(&bench, &at, 3, "c", Some(&second)).await.unwrap();
    store.retire(&at, &first, &plenty()).await.unwrap();
    store.retire(&at, &second, &plenty()).await.unwrap();
    store.revoke(&at, &second, &plenty()).await.unwrap();
    let undelete = format!("{MOUNT}/undelete/{}", encoded(&at.path));
    bench.must("POST", &undelete, r#"{"versions":[1,2]}"#);
    holds(&bench, &at, &first, "a").await;
    let gone = store.fetch(&at, &second, &plenty()).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
    holds(&bench, &at, &third, "c").await;
    // Deleted is what the server says it is, not what it answered.
    let lie = Fault::Lie("{}".to_owned());
    bench.proxy.on("PUT /v1/team/kv/delete/", lie, 1);
    let said = store.retire(&at, &first, &plenty()).await;
    assert_eq!(kind(said), ErrorKind::Unavailable);
    store.retire(&at, &first, &plenty()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_them_while_the_server_and_the_way_to_it_do_wrong() {
    let mut bench = Bench::start().await;
    let other = bench.server.address();
    let proxy = keywheel_testkit::server::fault::FaultProxy::before(other).await;
    let mut proxy = std::mem::replace(&mut bench.proxy, proxy);
    faults::check(&bench, &mut proxy, &CALLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_seen_by_metadata_and_a_value_is_asked_for_once() {
    let bench = Bench::start().await;
    let at = bench.fresh();
    bench.write(&at.path, &[(FIELD, &text("a"))]).await;
    bench.proxy.forget();
    let version = current(&bench, &at).await;
    current(&bench, &at).await;
    assert_eq!(bench.proxy.asked("/data/"), 0, "a look asks for no value");
    holds(&bench, &at, &version, "a").await;
    assert_eq!(bench.proxy.asked("/data/"), 1);
    // Other fields are kept by the server: they are not read.
    let seen = bench.store().look(&at, &plenty()).await.unwrap().unwrap();
    assert!(seen.created.is_some());
    let until = plenty();
    let listed = bench
        .store()
        .list("conformance/", None, &until)
        .await
        .unwrap();
    assert_eq!(listed.entries[0].fields, [FIELD]);
    assert_eq!(bench.proxy.asked("/data/"), 1, "a list asks for no value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_is_noted_and_others_notes_stay() {
    let bench = Bench::start().await;
    let at = bench.fresh();
    let path = format!("{MOUNT}/metadata/{}", encoded(&at.path));
    bench.must("POST", &path, r#"{"custom_metadata":{"owner":"payments"}}"#);
    assert_eq!(bench.store().look(&at, &plenty()).await.unwrap(), None);
    let made = promote(&bench, &at, 7, "a", None).await.unwrap();
    let noted = bench.must("GET", &path, "");
    let noted = &noted["data"]["custom_metadata"];
    assert_eq!(noted["owner"], "payments");
    assert_eq!(noted["keywheel-rotation"], token(7).to_string());
    assert_eq!(noted["keywheel-version"], "1");
    assert!(made.0.starts_with("1@"), "{made:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_path_is_written_anew_and_a_deletion_in_the_future_is_none_yet() {
    let bench = Bench::start().await;
    let at = bench.fresh();
    bench
        .write(&at.path, &[(FIELD, &text("a")), ("user", "u")])
        .await;
    let first = current(&bench, &at).await;
    bench.delete(&at.path).await;
    let made = promote(&bench, &at, 1, "b", Some(&first)).await.unwrap();
    assert_eq!(number(&made), 2);
    let repeat = again(&bench, &at, 1, "b", Some(&first)).await.unwrap();
    assert_eq!(repeat, made, "a repeat writes nothing");
    reads(&bench, &at, "b").await;
    bench.delete(&at.path).await;
    let made = promote(&bench, &at, 2, "c", None).await.unwrap();
    assert_eq!(again(&bench, &at, 2, "c", None).await.unwrap(), made);
    // Somebody's newer version was deleted: that is theirs to bring back.
    bench.write(&at.path, &[(FIELD, &text("theirs"))]).await;
    bench.delete(&at.path).await;
    let over = store::refused(promote(&bench, &at, 3, "d", Some(&made)).await);
    assert_eq!(over.kind, ErrorKind::Conflict);
    assert!(
        over.text
            .contains("version 4, which somebody made and deleted"),
        "{over}"
    );
    assert!(
        bench.fields(&at.path).await.is_empty(),
        "nothing was written over it"
    );
    let lasting = bench.fresh();
    let path = format!("{MOUNT}/metadata/{}", encoded(&lasting.path));
    // A hundred years; the clock of these tests stands in the year 2096.
    bench.must("POST", &path, r#"{"delete_version_after":"876000h"}"#);
    bench.write(&lasting.path, &[(FIELD, &text("a"))]).await;
    holds(&bench, &lasting, &current(&bench, &lasting).await, "a").await;
    bench.must("POST", &path, r#"{"delete_version_after":"1h"}"#);
    bench.write(&lasting.path, &[(FIELD, &text("b"))]).await;
    assert_eq!(bench.store().look(&lasting, &plenty()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_was_made_anew_has_other_versions_of_the_same_numbers() {
    let bench = Bench::start().await;
    let (store, at) = (bench.store(), bench.fresh());
    let path = format!("{MOUNT}/metadata/{}", encoded(&at.path));
    bench.write(&at.path, &[(FIELD, &text("a"))]).await;
    let first = current(&bench, &at).await;
    bench.must("DELETE", &path, "");
    bench.write(&at.path, &[(FIELD, &text("theirs"))]).await;
    let anew = current(&bench, &at).await;
    assert_eq!((number(&first), number(&anew)), (1, 1));
    assert_ne!(first, anew, "it is a change");
    assert!(!store.is_behind(&first, &anew) && store.is_behind(&anew, &first));
    let over = promote(&bench, &at, 1, "ours", Some(&first)).await;
    assert_eq!(kind(over), ErrorKind::Conflict);
    let gone = store.fetch(&at, &first, &plenty()).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
    store.revoke(&at, &first, &plenty()).await.unwrap();
    reads(&bench, &at, "theirs").await;
    // As versions were called before.
    let old = RemoteVersion("1".to_owned());
    holds(&bench, &at, &old, "theirs").await;
    let made = promote(&bench, &at, 2, "ours", Some(&old)).await.unwrap();
    assert_eq!(number(&made), 2);
    store.revoke(&at, &old, &plenty()).await.unwrap();
    assert_eq!(
        kind(store.fetch(&at, &old, &plenty()).await),
        ErrorKind::NotFound
    );
    // All of it was deleted: nothing of anybody's is written over.
    bench.must("DELETE", &path, "");
    let made = promote(&bench, &at, 3, "b", Some(&made)).await.unwrap();
    assert_eq!(number(&made), 1);
    reads(&bench, &at, "b").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lags_is_told_from_a_change() {
    let bench = Bench::start().await;
    let (store, at) = (bench.store(), bench.fresh());
    let path = format!("{MOUNT}/metadata/{}", encoded(&at.path));
    bench.write(&at.path, &[(FIELD, &text("a"))]).await;
    let first = current(&bench, &at).await;
    let lagging = bench.must("GET", &path, "").to_string();
    let made = promote(&bench, &at, 1, "b", Some(&first)).await.unwrap();
    bench.proxy.on("/metadata/", Fault::Answer(200, lagging), 1);
    let told = current(&bench, &at).await;
    assert_eq!(told, first);
    assert!(store.is_behind(&made, &told));
    assert!(!store.is_behind(&told, &made) && !store.is_behind(&made, &made));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_is_a_success_also_when_nobody_may_note_who_wrote() {
    let bench = Bench::start().await;
    let at = bench.fresh();
    let mut known = promote(&bench, &at, 1, "a", None).await.unwrap();
    let noting = "PATCH /v1/team/kv/metadata/";
    for (n, fault) in [
        (2, Fault::Status(403, None)),
        (3, Fault::Hang(Duration::from_secs(30))),
    ] {
        bench.proxy.on(noting, fault, u32::MAX);
        bench.proxy.forget();
        let next = format!("after {n}");
        known = promote(&bench, &at, n, &next, Some(&known)).await.unwrap();
        assert_eq!(current(&bench, &at).await, known);
        reads(&bench, &at, &next).await;
        assert!(bench.proxy.asked(noting) > 0);
        bench.proxy.heal();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_no_text_and_a_redirect_are_refused_with_the_next_step() {
    let bench = Bench::start().await;
    let at = bench.fresh();
    let path = encoded(&at.path);
    let number = r#"{"data":{"password":17,"user":"u"}}"#;
    bench.must("POST", &format!("{MOUNT}/data/{path}"), number);
    let version = current(&bench, &at).await;
    let refused = bench.store().fetch(&at, &version, &plenty()).await;
    let refused = store::refused(refused);
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert!(
        refused.text.contains("no text") && refused.text.contains("elsewhere"),
        "{refused}"
    );
    bench.proxy.on("/metadata/", Fault::Status(307, None), 1);
    bench.proxy.forget();
    let redirected = store::refused(bench.store().look(&at, &plenty()).await);
    assert!(redirected.text.contains("not followed"), "{redirected}");
    assert_eq!(bench.proxy.asked("/metadata/"), 1);
    // What repeats our value is not told on.
    let body = format!("{{\"errors\":[\"no such value: {}\"]}}", text("secret"));
    bench.proxy.on("PATCH ", Fault::Answer(400, body), 1);
    let echoed = promote(&bench, &at, 1, "secret", Some(&version)).await;
    let echoed = store::refused(echoed);
    assert!(echoed.text.contains("must not be told"), "{echoed}");
}
