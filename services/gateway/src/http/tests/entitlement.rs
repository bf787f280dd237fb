//! Whether a container gets a secret: by which rule, or what of each means others; and that nothing comes of asking.

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::HostId;
use keywheel_identity::name::OperatorName;

use super::*;

const BINDINGS: &str = "---\napiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: prod/db\n  containers: { host: web-1, image: shop/app, user: \"1000\", labels: { app: web } }\n  env: { name: DB }\n---\napiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: jobs }\nspec:\n  secret: prod/db\n  containers: { host: web-1, image: shop/jobs, name: job-*, user: \"0\" }\n  file: { name: db }\n";

/// A file of two secrets, of which the other one has no value.
const BESIDE: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: stage/key }\nspec: { store: local }\n---\napiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: both }\nspec:\n  secret: prod/db\n  containers: { host: web-1, image: shop/both }\n  file: { name: both, template: '{{ secret(\"prod/db\") }}{{ secret(\"stage/key\") }}' }\n";

impl Bench {
    /// A host, a secret that has a version, one that has none, and two bindings of the first.
    async fn entitled() -> Self {
        let bench = Self::start().await;
        let host = Command::EnrolHost {
            host: HostId::from_bytes([8; 16]),
            name: HostName::parse("web-1").unwrap(),
            sealing_key: [1; 32],
        };
        bench.submit(Role::Injector, host).await;
        let (status, answer) = bench.apply(&format!("{MANIFEST}{BINDINGS}")).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(bench.apply(PROVIDED).await.0, 200);
        bench.work().await;
        bench
    }

    async fn explained(&self, secret: &str, facts: &str) -> Value {
        let id = "a".repeat(64);
        let path = format!("explain/{secret}?id={id}&{facts}");
        let (status, answer) = self.see(&path).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

const WEB: &str =
    "name=shop-web-1&image=shop/app:1&user=1000:1000&labels=%7B%22app%22:%22web%22%7D";

#[tokio::test]
async fn who_is_meant_gets_it_and_the_rule_is_named() {
    let bench = Bench::entitled().await;
    let answer = bench
        .explained("prod/db", &format!("host=web-1&{WEB}"))
        .await;
    assert_eq!(
        (&answer["entitled"], &answer["binding"]),
        (&json!(true), &json!("web")),
        "{answer}"
    );
    assert_eq!(answer["reason"], "binding `web` gives it as env DB");
    assert_eq!(answer.get("next"), None);
    let parts = answer["rules"][0]["parts"].as_array().unwrap();
    let fields: Vec<&str> = parts
        .iter()
        .map(|part| part["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["host", "image", "user", "label app"]);
    assert!(parts.iter().all(|part| part["holds"] == true));
    assert_eq!(
        answer["rules"][1]["holds"], false,
        "the other one is told too"
    );
}

#[tokio::test]
async fn who_is_not_meant_gets_nothing_and_is_told_what_comes_nearest_and_why() {
    let bench = Bench::entitled().await;
    for (facts, reason) in [
        (
            "host=web-1&name=shop-web-1&image=shop/app:1&user=1000&labels=%7B%22app%22:%22api%22%7D",
            "`web` comes nearest: label app is not `web`",
        ),
        (
            "host=web-1&name=shop-web-1&image=shop/app:1&labels=%7B%22app%22:%22web%22%7D",
            "`web` comes nearest: user is not `1000`",
        ),
        (
            "host=web-1&name=web&image=shop/jobs&user=root",
            "`jobs` comes nearest: name is not `job-*`",
        ),
        (
            "host=web-2&name=x&image=shop/app",
            "no host is named `web-2`",
        ),
    ] {
        let answer = bench.explained("prod/db", facts).await;
        assert_eq!(answer["entitled"], false, "{facts}: {answer}");
        let told = answer["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
        assert!(answer["next"].is_string(), "{answer}");
    }
    // Default deny: without a binding nobody is meant.
    let answer = bench
        .explained("prod/key", &format!("host=web-1&{WEB}"))
        .await;
    assert_eq!(answer["entitled"], false);
    assert_eq!(answer["rules"], json!([]));
    let next = answer["next"].as_str().unwrap();
    assert!(next.contains("apply a Binding"), "{next}");
}

#[tokio::test]
async fn what_was_revoked_is_given_by_no_rule() {
    let bench = Bench::entitled().await;
    let revoke = json!({ "secret": "prod/db", "reason": "leaked" });
    assert_eq!(bench.post("revoke", revoke).await.0, 200);
    let answer = bench
        .explained("prod/db", &format!("host=web-1&{WEB}"))
        .await;
    assert_eq!(answer["entitled"], false, "{answer}");
    let told = answer["reason"].as_str().unwrap();
    assert!(
        told.contains("`web` gives it, but secret `prod/db` has no version"),
        "{told}"
    );
}

#[tokio::test]
async fn another_secret_of_a_binding_is_named_only_to_who_may_list_it() {
    let bench = Bench::entitled().await;
    let (status, answer) = bench.apply(BESIDE).await;
    assert_eq!(status, 200, "{answer}");
    let facts = "host=web-1&name=x&image=shop/both";
    let answer = bench.explained("prod/db", facts).await;
    let told = answer["reason"].as_str().unwrap();
    assert!(
        told.contains("secret `stage/key` has no version"),
        "{answer}"
    );
    let policies = "@id(\"a\") permit (principal, action == Action::\"list\", resource in Path::\"prod\");\n@id(\"b\") permit (principal is Service, action == Action::\"read\", resource is Secret);";
    let (status, answer) = bench
        .post("policies", json!({ "policies": policies }))
        .await;
    assert_eq!(status, 200, "{answer}");
    let ada = Peer::Operator(OperatorName::parse("ada").unwrap());
    let path = format!("/v1/explain/prod/db?id={}&{facts}", "a".repeat(64));
    let (status, answer) = bench.ask_as(ada, "GET", &path, Body::empty()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(
        answer.contains("that you may not list") && !answer.contains("stage/key"),
        "{answer}"
    );
}

#[tokio::test]
async fn asking_changes_nothing_is_on_record_and_repeats_no_label_that_no_rule_asks_for() {
    let bench = Bench::entitled().await;
    let before = bench.journal.head().await.unwrap().number;
    let records = bench.audit().await.len();
    let facts = "host=web-1&name=x&image=shop/app&labels=%7B%22token%22:%22canary-in-a-label%22%7D";
    let answer = bench.explained("prod/db", facts).await;
    assert!(
        !answer.to_string().contains("canary-in-a-label"),
        "{answer}"
    );
    assert_eq!(bench.journal.head().await.unwrap().number, before);
    let left = bench.audit().await.split_off(records);
    assert!(
        left.len() == 1 && left[0].contains("explain/prod/db"),
        "{left:?}"
    );
    assert!(!left[0].contains("canary"), "{left:?}");
}

#[tokio::test]
async fn a_question_without_its_parts_is_refused() {
    let bench = Bench::entitled().await;
    let id = "a".repeat(64);
    for (query, part) in [
        (String::new(), "`host` is not given"),
        ("host=web-1".to_owned(), "`id` is not given"),
        ("host=web-1&id=abc".to_owned(), "abc"),
        (format!("host=web-1&id={id}&labels=x"), "an object of texts"),
        (format!("host=web-1&id={id}&nonsense=1"), "nonsense"),
    ] {
        let answer = bench.see(&format!("explain/prod/db?{query}")).await;
        assert_problem(&answer, 400, "invalid", part);
    }
    let unknown = bench
        .see(&format!("explain/no/such?host=web-1&id={id}"))
        .await;
    assert_problem(&unknown, 404, "not_found", "no/such");
}

/// Root may everything, and services what else is said.
fn set(services: &str, withhold: bool) -> Value {
    let policies = format!(
        "@id(\"root\")\npermit (principal in Group::\"root\", action, resource);\n{services}"
    );
    json!({ "policies": policies, "withhold": withhold })
}

const WEB_HAS_IT: &str = "@id(\"web-has-it\")\npermit (principal == Service::\"web\", action == Action::\"read\", resource in Path::\"prod\");\n";

impl Bench {
    async fn withheld(&self, binding: &str) -> Value {
        let (status, answer) = self.see(&format!("bindings/{binding}")).await;
        assert_eq!(status, 200, "{answer}");
        answer["withheld"].clone()
    }
}

#[tokio::test]
async fn a_set_takes_no_secrets_from_containers_unless_it_is_said_that_it_may() {
    let bench = Bench::entitled().await;
    let refused = bench.post("policies", set(WEB_HAS_IT, false)).await;
    let part = "binding `jobs` gives nothing any more, for service `jobs` may not read `secret/prod/db` (default deny)";
    assert_problem(&refused, 409, "conflict", part);
    assert_problem(&refused, 409, "conflict", "--withhold");
    let last = bench.audit().await.pop().unwrap();
    for part in ["apply-policies", "Rejected", "status 409"] {
        assert!(last.contains(part), "{part}: {last}");
    }
    assert_eq!(bench.withheld("jobs").await, Value::Null);
    let mut dry = set(WEB_HAS_IT, false);
    dry["dry_run"] = json!(true);
    let (status, answer) = bench.post("policies", dry).await;
    assert_eq!(status, 200, "{answer}");
    let found = answer["findings"].as_array().unwrap();
    let taken: Vec<&Value> = found
        .iter()
        .filter(|one| one["kind"] == "withholds")
        .collect();
    assert_eq!(taken.len(), 1, "{answer}");
    let (status, answer) = bench.post("policies", set(WEB_HAS_IT, true)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(bench.withheld("web").await, Value::Null);
    let told = bench.withheld("jobs").await;
    assert!(told.as_str().unwrap().contains("default deny"), "{told}");
    let plan = {
        let host = HostId::from_bytes([8; 16]);
        bench.api.view.read().plan_of(host).unwrap()
    };
    let names: Vec<String> = plan.bindings.iter().map(|b| b.name.to_string()).collect();
    assert_eq!(names, ["web"], "its host is to withdraw the other one");
}

#[tokio::test]
async fn a_binding_alone_does_not_suffice_where_a_policy_forbids_and_explain_names_it() {
    let bench = Bench::entitled().await;
    let forbids = "@id(\"not-web\")\nforbid (principal == Service::\"web\", action == Action::\"read\", resource);\n@id(\"as-bound\")\npermit (principal is Service, action == Action::\"read\", resource is Secret);\n";
    assert_eq!(bench.post("policies", set(forbids, true)).await.0, 200);
    let answer = bench
        .explained("prod/db", &format!("host=web-1&{WEB}"))
        .await;
    assert_eq!(answer["entitled"], false, "{answer}");
    let reason = answer["reason"].as_str().unwrap();
    assert!(reason.contains("forbidden by not-web"), "{reason}");
    let next = answer["next"].as_str().unwrap();
    assert!(next.contains("policy explain service:web read"), "{next}");
    let said = bench.audit().await;
    let is_said = |words: &str| said.iter().any(|record| record.contains(words));
    assert!(is_said("withhold"), "{said:?}");
    // Permitted again it is given again, without that anybody binds anew.
    let permits = "@id(\"as-bound\")\npermit (principal is Service, action == Action::\"read\", resource is Secret);\n";
    assert_eq!(bench.post("policies", set(permits, false)).await.0, 200);
    let answer = bench
        .explained("prod/db", &format!("host=web-1&{WEB}"))
        .await;
    assert_eq!(answer["entitled"], true, "{answer}");
    let said = bench.audit().await;
    let is_named = |verb: &str, set: &str| {
        let mut own = said.iter().filter(|record| record.contains(verb));
        own.any(|record| record.contains(set))
    };
    assert!(is_named("withhold", "(policies version 1)"), "{said:?}");
    assert!(is_named("give-back", "(policies version 2)"), "{said:?}");
}

#[tokio::test]
async fn a_binding_that_comes_later_gives_nothing_before_its_service_may_have_it() {
    let bench = Bench::entitled().await;
    assert_eq!(bench.post("policies", set(WEB_HAS_IT, true)).await.0, 200);
    let more = BINDINGS
        .replace("name: web }", "name: late }")
        .replace("name: DB }", "name: LATE }");
    let late = more.split("---\n").nth(1).unwrap();
    let (status, answer) = bench.apply(late).await;
    assert_eq!(status, 200, "{answer}");
    let note = answer["results"][0]["note"].as_str().unwrap();
    assert!(note.contains("policies withhold it"), "{note}");
    let told = bench.withheld("late").await;
    assert!(told.as_str().unwrap().contains("service `late`"), "{told}");
    assert_eq!(bench.withheld("web").await, Value::Null);
}
