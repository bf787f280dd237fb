//! Stores outside: tried before they are declared, shown, looked at, removed.

use keywheel_core::audit::Role;
use keywheel_core::command::{Command, Observation};
use keywheel_core::id::SecretId;
use keywheel_core::store::{Found, Looked, PlannedUse, RemoteVersion, Source};

use super::seal::command_of;
use super::*;
use crate::http::stores::MAX_TRIED_PLACES;

pub(super) const STORE: &str = "apiVersion: keywheel.dev/v1\nkind: Store\nmetadata: { name: bao }\nspec: { vault: { address: \"https://bao:8200\", auth: { token: { file: /etc/t } } } }\n";
const FAR: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: prod/far }\nspec: { store: bao, source: { path: db, field: password } }\n";

fn both() -> String {
    format!("{STORE}---\n{FAR}")
}

fn only_secret(bench: &Bench) -> SecretId {
    *bench.api.view.read().world.secrets.keys().next().unwrap()
}

#[tokio::test]
async fn a_store_is_tried_before_anything_is_applied_and_only_when_it_is_new() {
    let bench = Bench::start().await;
    let why = "no route to bao:8200; is it up?".to_owned();
    *bench.store.store_fault.lock().unwrap() = Some(why);
    for dry_run in [true, false] {
        let request = json!({ "manifests": both(), "source": "t", "dry_run": dry_run });
        let refused = bench.post("apply", request).await;
        assert_problem(&refused, 503, "unavailable", "no route to bao:8200");
        assert_problem(&refused, 503, "unavailable", "--no-check");
    }
    assert_eq!(bench.see("stores").await, (200, json!([])));
    assert_eq!(bench.see("secrets").await, (200, json!([])));
    // What was shown to whom is on record, also of a try that failed.
    let records = bench.audit().await.join("\n");
    assert!(records.contains("try-store"), "{records}");
    assert!(
        records.contains("at https://bao:8200 with file /etc/t"),
        "{records}"
    );
    let why = "reason: \"failed: no route to bao:8200";
    assert_eq!(records.matches(why).count(), 2, "{records}");
    let unchecked = json!({ "manifests": both(), "source": "t", "no_check": true });
    assert_eq!(bench.post("apply", unchecked).await.0, 200);
    assert_eq!(bench.store.tried.lock().unwrap().len(), 2);
    // What is as it is declared is not tried again, though it does not work.
    let (status, answer) = bench.apply(&both()).await;
    assert_eq!(
        (status, &answer["results"][0]["action"]),
        (200, &json!("unchanged"))
    );
    // A secret that is new there is tried, and that its store does not answer just now refuses nothing.
    let second = FAR
        .replace("prod/far", "prod/near")
        .replace("password", "user");
    let (status, answer) = bench.apply(&second).await;
    assert_eq!(status, 200);
    let note = answer["results"][0]["note"].as_str().unwrap();
    assert!(note.starts_with("no place was checked: "), "{note}");
    let tried = bench.store.tried.lock().unwrap().last().cloned().unwrap();
    let place = |field: &str| PlannedUse {
        source: Source {
            path: "db".to_owned(),
            field: field.to_owned(),
        },
        writes: false,
    };
    assert_eq!(tried.1, [place("user")]);
    *bench.store.store_fault.lock().unwrap() = None;
    *bench.store.untried.lock().unwrap() = vec!["a right".to_owned(), "another".to_owned()];
    let moved = STORE.replace("bao:8200", "other:8200");
    let (status, answer) = bench.apply(&moved).await;
    assert_eq!(
        (status, &answer["results"][0]["action"]),
        (200, &json!("changed"))
    );
    assert_eq!(answer["results"][0]["note"], "a right; another");
    let tried = bench.store.tried.lock().unwrap().clone();
    assert_eq!(tried.len(), 4);
    assert_eq!(tried[0].1, [place("password")]);
    assert_eq!(tried[3].1.len(), 2, "what lies there already: {tried:?}");
}

#[tokio::test]
async fn more_places_than_are_tried_in_one_apply_are_counted_and_told() {
    let bench = Bench::start().await;
    bench.apply(STORE).await;
    for (count, note) in [
        (MAX_TRIED_PLACES, None),
        (MAX_TRIED_PLACES + 2, Some("2 places")),
    ] {
        let secret = |n| {
            let name = format!("prod/{count}-{n}");
            FAR.replace("prod/far", &name)
                .replace("path: db", &format!("path: {name}"))
        };
        let secrets: Vec<_> = (0..count).map(secret).collect();
        let (status, answer) = bench.apply(&secrets.join("\n---\n")).await;
        assert_eq!(status, 200, "{answer}");
        let tried = bench.store.tried.lock().unwrap().last().cloned().unwrap();
        assert_eq!(tried.1.len(), MAX_TRIED_PLACES);
        let told = answer["results"][0]["note"].as_str();
        assert_eq!(told.is_some(), note.is_some(), "{answer}");
        assert!(
            told.unwrap_or_default()
                .starts_with(note.unwrap_or_default()),
            "{told:?}"
        );
        assert_eq!(answer["results"][1].get("note"), None, "told once");
    }
}

#[tokio::test]
async fn what_the_rules_refuse_is_not_tried() {
    let bench = Bench::start().await;
    let by_secret = STORE.replace("file: /etc/t", "secret: no/such");
    let refused = bench.apply(&by_secret).await;
    assert_problem(&refused, 400, "invalid", "keywheel secret put no/such");
    bench.apply(MANIFEST).await;
    let by_other = STORE.replace("file: /etc/t", "secret: prod/db");
    for dry_run in [true, false] {
        let request = json!({ "manifests": by_other, "source": "t", "dry_run": dry_run });
        let refused = bench.post("apply", request).await;
        assert!(
            refused.1.to_string().contains("credentialFor"),
            "{refused:?}"
        );
    }
    assert!(bench.store.tried.lock().unwrap().is_empty());
    let records = bench.audit().await.join("\n");
    assert!(!records.contains("try-store"), "{records}");
}

#[tokio::test]
async fn a_store_is_shown_with_what_lies_in_it_and_goes_when_nothing_does() {
    let bench = Bench::start().await;
    bench.apply(&both()).await;
    let (_, stores) = bench.see("stores").await;
    assert_eq!(
        (&stores[0]["name"], &stores[0]["kind"]),
        (&json!("bao"), &json!("vault"))
    );
    assert_eq!(stores[0]["health"], "unknown", "no store-sync was heard");
    let (_, page) = bench.see("stores/bao").await;
    assert_eq!(
        page["secrets"][0]["source"],
        json!({ "path": "db", "field": "password" })
    );
    let token = &page["spec"]["backend"]["vault"]["auth"]["token"]["token"];
    assert_eq!(token, &json!({ "file": "/etc/t" }));
    assert_problem(&bench.see("stores/none").await, 404, "not_found", "none");
    let (_, secrets) = bench.see("secrets").await;
    assert_eq!(secrets[0]["store"], "bao");
    let remove = || bench.ask_as(OPERATOR, "DELETE", "/v1/stores/bao", Body::empty());
    let (status, text) = remove().await;
    assert_eq!(status.as_u16(), 409, "{text}");
    assert!(text.contains("prod/far"), "{text}");
    bench
        .apply(&FAR.replace(
            "store: bao, source: { path: db, field: password }",
            "store: local",
        ))
        .await;
    assert_eq!(remove().await.0, StatusCode::OK);
    assert_eq!(bench.see("stores").await, (200, json!([])));
    let records = bench.audit().await.join("\n");
    assert!(
        records.contains("remove-store") && records.contains("store/bao"),
        "{records}"
    );
}

#[tokio::test]
async fn a_look_now_says_what_was_found_and_which_rotation_takes_it_over() {
    let bench = Bench::start().await;
    bench.apply(&both()).await;
    let secret = only_secret(&bench);
    let rotation = RotationId::from_bytes([9; 16]);
    let seen = Observation {
        secret,
        rotation,
        known: None,
        found: Some(RemoteVersion("1".to_owned())),
        is_unchanged: false,
        is_gone: false,
    };
    let observed = Command::Observed(seen);
    bench.submit(Role::StoreSync, observed).await;
    let found = Found::Changed;
    *bench.store.looks.lock().unwrap() = vec![Looked { secret, found }];
    let (status, answer) = bench.post("refresh", json!({ "secret": "prod/far" })).await;
    assert_eq!(status, 200, "{answer}");
    let first = &answer["results"][0];
    assert_eq!(
        (&first["secret"], &first["found"]),
        (&json!("prod/far"), &json!("changed"))
    );
    assert_eq!(first["rotation"], rotation.to_string());
    let audit = bench.audit().await;
    let [intent, outcome] = &audit[audit.len() - 2..] else {
        panic!("{audit:?}");
    };
    assert!(
        intent.contains("\"refresh\"") && intent.contains("\"asked for"),
        "{intent}"
    );
    assert!(outcome.contains("reason: \"done: 1 changed"), "{outcome}");
    assert_eq!(command_of(intent), command_of(outcome));
    bench.apply(MANIFEST).await;
    for (name, status, code, part) in [
        ("no/such", 404, "not_found", "get secrets"),
        ("UPPER", 400, "invalid", "lower-case"),
        ("prod/db", 400, "invalid", "nothing to look at"),
    ] {
        let refused = bench.post("refresh", json!({ "secret": name })).await;
        assert_problem(&refused, status, code, part);
    }
    *bench.store.is_away.lock().unwrap() = true;
    let away = bench.post("refresh", json!({})).await;
    assert_problem(&away, 503, "unavailable", "store-sync is away");
    let last = bench.audit().await.pop().unwrap();
    let words = "not known whether it was done: store-sync is away";
    assert!(last.contains(words) && last.contains("Rejected"), "{last}");
}
