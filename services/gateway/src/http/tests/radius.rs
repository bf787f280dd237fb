//! A revocation of many: its blast radius begins nothing and is on record, each secret dies by itself, and a repeat
//! is told what the first one began.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use keywheel_core::audit::Principal;
use keywheel_core::name::SecretName;

use super::*;
use crate::http::revocations::{How, One, revoke_in_turn};
use crate::http::standing::Standing;

const KEY: (&str, &str) = ("idempotency-key", "9f31");

impl Bench {
    /// `prod/db` in two containers, and another secret beside it that nobody has.
    async fn estate(&self) {
        self.serve_consumers(2).await;
        self.apply(&MANIFEST.replace("prod/db", "prod/api")).await;
        self.work().await;
    }

    async fn revoke_by(&self, body: &Value) -> (u16, Value) {
        let body = Body::from(body.to_string());
        let asked = ("POST", "/v1/revoke-by");
        let response = self.send(asked, &[KEY], body).await;
        let status = response.status().as_u16();
        let text = text_of(response).await;
        (status, serde_json::from_str(&text).unwrap())
    }
}

/// The ids of what began.
fn begun(answer: &Value) -> BTreeSet<String> {
    let all = answer["revocations"].as_array().unwrap().iter();
    let id = |one: &Value| one["revocation_id"].as_str().unwrap().to_owned();
    all.map(id).collect()
}

#[tokio::test]
async fn the_blast_radius_names_everybody_and_begins_nothing() {
    let bench = Bench::start().await;
    bench.estate().await;
    let before = bench.audit().await.len();
    let (status, plan) = bench.see("revoke-plan?prefix=prod").await;
    assert_eq!(status, 200, "{plan}");
    let names = plan["secrets"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|one| one["secret"].as_str().unwrap()).collect();
    assert_eq!(names, ["prod/api", "prod/db"]);
    let hit = &plan["secrets"][1];
    assert_eq!(
        (&hit["versions"], &hit["store"]),
        (&json!([1]), &json!("local"))
    );
    assert_eq!(hit["is_proven"], false);
    assert_eq!(hit["consumers"].as_array().unwrap().len(), 2);
    assert_eq!(hit["consumers"][0]["action"], "file removed");
    let counts = (&plan["containers"], &plan["stops"], &plan["hosts"]);
    assert_eq!(counts, (&json!(2), &json!(0), &json!(1)));
    assert_eq!(bench.see("revocations").await.1, json!([]), "nothing began");
    assert_eq!(
        bench.audit().await.len(),
        before + 2,
        "both looks are on record"
    );
}

#[tokio::test]
async fn who_gets_another_version_at_once_loses_nothing() {
    let bench = Bench::start().await;
    bench.estate().await;
    let rotated = bench.post("rotate", json!({ "secret": "prod/db" })).await;
    assert_eq!(rotated.0, 200, "{}", rotated.1);
    bench.work().await;
    let (_, one) = bench.see("revoke-plan?secret=prod/db&version=1").await;
    let action = |plan: &Value| plan["secrets"][0]["consumers"][0]["action"].clone();
    assert_eq!(action(&one), "file replaced by version 2", "{one}");
    assert_eq!(one["stops"], 0);
    let (_, all) = bench.see("revoke-plan?secret=prod/db").await;
    assert_eq!(action(&all), "file removed", "{all}");
}

#[tokio::test]
async fn each_secret_below_a_path_is_revoked_by_itself_and_a_repeat_begins_nothing_more() {
    let bench = Bench::start().await;
    bench.estate().await;
    let wish = json!({ "scope": { "prefix": "prod" }, "reason": "leaked" });
    let (status, first) = bench.revoke_by(&wish).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(first["refused"], json!([]));
    let ids = begun(&first);
    assert_eq!(ids.len(), 2, "{first}");
    let before = bench.audit().await.len();
    let (status, again) = bench.revoke_by(&wish).await;
    assert_eq!(
        (status, begun(&again)),
        (200, ids.clone()),
        "its answer was lost"
    );
    let left = bench.audit().await.split_off(before);
    assert_eq!(left.len(), 1, "{left:?}");
    for part in ["revoke-by", "Allowed", "a repeat"] {
        assert!(left[0].contains(part), "{part}: {}", left[0]);
    }
    // Also when there is a new value by then: that one lives.
    let rotated = bench.post("rotate", json!({ "secret": "prod/api" })).await;
    assert_eq!(rotated.0, 200, "{}", rotated.1);
    let (status, again) = bench.revoke_by(&wish).await;
    assert_eq!((status, begun(&again)), (200, ids));
    let (_, all) = bench.see("revocations").await;
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    let other = json!({ "scope": { "prefix": "prod/db" }, "reason": "again" });
    let nothing = bench.revoke_by(&other).await;
    let named = "nothing that is alive is meant by path `prod/db`;";
    assert_problem(&nothing, 404, "not_found", named);
}

#[tokio::test]
async fn what_a_container_has_dies_and_nothing_beside_it() {
    let bench = Bench::start().await;
    bench.estate().await;
    let id = "a".repeat(64);
    let wish =
        json!({ "scope": { "container": id }, "reason": "a shell in it", "emergency": true });
    let (status, answer) = bench.revoke_by(&wish).await;
    assert_eq!(status, 200, "{answer}");
    let names = answer["revocations"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|one| one["secret"].as_str().unwrap()).collect();
    assert_eq!(names, ["prod/db"]);
}

#[tokio::test]
async fn where_a_version_lives_on_the_older_ones_are_left_to_the_repeat() {
    let bench = Bench::start().await;
    bench.estate().await;
    let rotated = bench.post("rotate", json!({ "secret": "prod/api" })).await;
    assert_eq!(rotated.0, 200, "{}", rotated.1);
    bench.work().await;
    let asked = (&Method::POST, &Uri::from_static("/"), &HeaderMap::new());
    let ann = Principal::Operator {
        name: "ann".to_owned(),
    };
    let mut caller = Caller::of(ann, asked, &Bytes::new()).unwrap();
    caller.standing = Arc::new(Standing::new("client-certificate", "revoke-by".to_owned()));
    let of = |version| One {
        name: SecretName::parse("prod/api").unwrap(),
        version: Some(version),
    };
    let because = |reason| How {
        reason,
        is_emergency: false,
        replace: false,
    };
    // Without a reason each is refused.
    let refused = revoke_in_turn(&bench.api, &caller, vec![of(2), of(1)], because("")).await;
    let [Err(refused)] = refused.as_slice() else {
        panic!("{refused:?}");
    };
    assert!(
        refused.reason.contains("older versions were not"),
        "{refused:?}"
    );
    // One that is dead holds up nothing.
    let begun = revoke_in_turn(&bench.api, &caller, vec![of(1), of(2)], because("leaked")).await;
    assert_eq!(begun.len(), 2, "{begun:?}");
    assert!(begun[1].is_ok(), "{begun:?}");
}

#[tokio::test]
async fn a_scope_names_one_thing() {
    let bench = Bench::start().await;
    bench.estate().await;
    for (query, part) in [
        ("", "exactly one"),
        ("?prefix=prod&store=bao", "exactly one"),
        ("?image=sha256:1&service=web", "exactly one"),
        ("?prefix=/", "no path"),
        ("?prefix=prod&version=1", "of one secret"),
        ("?secret=PROD", "secret"),
    ] {
        let answer = bench.see(&format!("revoke-plan{query}")).await;
        assert_problem(&answer, 400, "invalid", part);
    }
    for (query, meant) in [
        ("store=bao", "store `bao`;"),
        ("service=shop/web", "service `shop/web`,"),
        ("secret=prod/nope", "secret `prod/nope`;"),
        (
            "secret=prod/nope&version=99",
            "version 99 of secret `prod/nope`;",
        ),
        (
            "principal=service:shop/api",
            "principal `service:shop/api`;",
        ),
    ] {
        let none = bench.see(&format!("revoke-plan?{query}")).await;
        let told = format!("nothing that is alive is meant by {meant}");
        assert_problem(&none, 404, "not_found", &told);
    }
}

/// What a plan or an answer is about.
fn secrets_in(all: &Value) -> BTreeSet<String> {
    let all = all.as_array().unwrap().iter();
    all.map(|one| one["secret"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_bindings_give_a_service_dies_though_no_policy_names_it() {
    let bench = Bench::start().await;
    bench.estate().await;
    bench.apply(&MANIFEST.replace("prod/db", "web/key")).await;
    bench.work().await;
    // Nobody applied a set; the binding is called `web`, and `prod/db` lies on no path of that name.
    let wanted = ["prod/db", "web/key"].map(str::to_owned);
    let wanted = BTreeSet::from(wanted);
    let (status, plan) = bench.see("revoke-plan?principal=service:web").await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!(secrets_in(&plan["secrets"]), wanted);
    assert_eq!(plan["containers"], 2, "{plan}");
    // Its host tells whose containers they are: that service has it, whatever the binding is called.
    let none = bench.see("revoke-plan?principal=service:shop/api").await;
    assert_problem(&none, 404, "not_found", "nothing that is alive");
    bench.run_as("shop/api", 1, &["a".to_owned()]).await;
    let (status, plan) = bench.see("revoke-plan?principal=service:shop/api").await;
    assert_eq!(status, 200, "{plan}");
    let had = BTreeSet::from(["prod/db".to_owned()]);
    assert_eq!(secrets_in(&plan["secrets"]), had);
    let scope = json!({ "scope": { "principal": "service:web" }, "reason": "taken over" });
    let (status, answer) = bench.revoke_by(&scope).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["refused"], json!([]));
    assert_eq!(secrets_in(&answer["revocations"]), wanted);
}

#[tokio::test]
async fn under_a_set_of_ones_own_what_is_bound_and_what_was_given_before_it_die_too() {
    let bench = Bench::start().await;
    bench.estate().await;
    bench.run_as("shop/api", 1, &["a".to_owned()]).await;
    bench.apply(&MANIFEST.replace("prod/db", "prod/far")).await;
    bench.work().await;
    let (_, shipped) = bench.see("policies").await;
    let shipped = shipped["policies"].as_str().unwrap();
    let permit = |id: &str, service: &str, secret: &str| {
        format!(
            "@id(\"{id}\") permit (principal == Service::\"{service}\", action == Action::\"read\", resource == Secret::\"{secret}\");"
        )
    };
    let far = permit("far", "shop/api", "prod/far");
    let bound = permit("bound", "web", "prod/db");
    let principals = [
        ("shop/api", &["prod/db", "prod/far"][..]),
        ("web", &["prod/db"][..]),
    ];
    let policies = format!("{shipped}\n{far}\n{bound}");
    let applied = bench
        .post("policies", json!({ "policies": policies }))
        .await;
    assert_eq!(applied.0, 200, "{}", applied.1);
    for (service, wanted) in principals {
        let path = format!("revoke-plan?principal=service:{service}");
        let (status, plan) = bench.see(&path).await;
        assert_eq!(status, 200, "{plan}");
        let wanted = wanted.iter().map(|name| (*name).to_owned());
        let wanted: BTreeSet<String> = wanted.collect();
        assert_eq!(secrets_in(&plan["secrets"]), wanted, "{service}");
    }
    // This one takes `prod/db` from the binding, and what it gave lies in its containers still.
    let policies = format!("{shipped}\n{far}");
    let applied = bench
        .post(
            "policies",
            json!({ "policies": policies, "withhold": true }),
        )
        .await;
    assert_eq!(applied.0, 200, "{}", applied.1);
    let (status, plan) = bench.see("revoke-plan?principal=service:web").await;
    assert_eq!(status, 200, "{plan}");
    let had = BTreeSet::from(["prod/db".to_owned()]);
    assert_eq!(secrets_in(&plan["secrets"]), had);
    let scope = json!({ "scope": { "principal": "service:shop/api" }, "reason": "taken over" });
    let (status, answer) = bench.revoke_by(&scope).await;
    assert_eq!(status, 200, "{answer}");
    let wanted = ["prod/db", "prod/far"].map(str::to_owned);
    assert_eq!(
        secrets_in(&answer["revocations"]),
        BTreeSet::from(wanted),
        "{answer}"
    );
}

#[tokio::test]
async fn what_policies_let_a_service_have_dies_and_people_have_no_values() {
    let bench = Bench::start().await;
    for name in ["prod/shop/db", "prod/shop", "prod/shop2", "prod/far"] {
        bench.apply(&MANIFEST.replace("prod/db", name)).await;
    }
    bench.work().await;
    // Its own path is the shipped policy's; one secret more is this one's.
    let (_, shipped) = bench.see("policies").await;
    let more = "@id(\"far\") permit (principal == Service::\"prod/shop\", action == Action::\"read\", resource == Secret::\"prod/far\");";
    let policies = format!("{}\n{more}", shipped["policies"].as_str().unwrap());
    let applied = bench
        .post("policies", json!({ "policies": policies }))
        .await;
    assert_eq!(applied.0, 200, "{}", applied.1);
    let (status, plan) = bench.see("revoke-plan?principal=service:prod/shop").await;
    assert_eq!(status, 200, "{plan}");
    let wanted = ["prod/far", "prod/shop", "prod/shop/db"].map(str::to_owned);
    let wanted = BTreeSet::from(wanted);
    assert_eq!(secrets_in(&plan["secrets"]), wanted);
    let scope = json!({ "scope": { "principal": "service:prod/shop" }, "reason": "taken over" });
    let (status, answer) = bench.revoke_by(&scope).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(secrets_in(&answer["revocations"]), wanted);
    for (asked, status, code, part) in [
        (
            "certificate:ada",
            400,
            "invalid",
            "keywheel token revoke --owner",
        ),
        ("nobody", 400, "invalid", "is no principal"),
        ("service:stage/x", 404, "not_found", "nothing that is alive"),
    ] {
        let path = format!("revoke-plan?principal={asked}");
        assert_problem(&bench.see(&path).await, status, code, part);
    }
}

#[tokio::test]
async fn a_service_that_nothing_here_knows_is_told_so_before_what_every_service_has_dies() {
    let bench = Bench::start().await;
    bench.estate().await;
    bench.run_as("shop/api", 1, &["a".to_owned()]).await;
    let note = async |service: &str| {
        let path = format!("revoke-plan?principal=service:{service}");
        let (status, plan) = bench.see(&path).await;
        assert_eq!(status, 200, "{plan}");
        plan["note"].clone()
    };
    // What lies on its own path no other service has.
    assert_eq!(note("prod").await, Value::Null);
    let (_, shipped) = bench.see("policies").await;
    let every = "@id(\"every\") permit (principal is Service, action == Action::\"read\", resource is Secret);";
    let policies = format!("{}\n{every}", shipped["policies"].as_str().unwrap());
    let applied = bench
        .post("policies", json!({ "policies": policies }))
        .await;
    assert_eq!(applied.0, 200, "{}", applied.1);
    for known in ["web", "shop/api"] {
        assert_eq!(note(known).await, Value::Null, "{known}");
    }
    let mistyped = note("shop/aip").await;
    let mistyped = mistyped.as_str().unwrap();
    assert!(
        mistyped.starts_with("no binding names `service:shop/aip`"),
        "{mistyped}"
    );
    let scope = json!({ "scope": { "principal": "service:shop/aip" }, "reason": "taken over" });
    let (status, answer) = bench.revoke_by(&scope).await;
    assert_eq!(
        (status, &answer["note"]),
        (200, &json!(mistyped)),
        "{answer}"
    );
}
