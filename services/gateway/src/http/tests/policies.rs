//! Policies over HTTP: every route asks them, what they deny is on record and does nothing, and lists show what is theirs.

use std::collections::BTreeMap;

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::HostId;
use keywheel_identity::name::OperatorName;

use super::*;

const OTHER: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: stage/db }\nspec: { store: local, generator: { length: 20 } }\n";
/// Of any form that a path takes.
const ID: &str = "0190c8f0-0000-7000-8000-000000000001";

fn person(name: &str) -> Peer {
    Peer::Operator(OperatorName::parse(name).unwrap())
}

/// What `ada` may: look at and rotate what is below `prod`.
fn team() -> Value {
    let policies = "@id(\"team\")\npermit (principal in Group::\"team\", action in [Action::\"list\", Action::\"rotate\", Action::\"write\"], resource in Path::\"prod\");\n@id(\"not-this-one\")\nforbid (principal, action, resource == Secret::\"prod/root\");\n";
    json!({ "policies": policies, "groups": { "team": ["certificate:ada"] } })
}

fn nothing() -> Value {
    json!({ "policies": "" })
}

impl Bench {
    /// Two secrets, a host, and then these policies.
    async fn with_policies(policies: Value) -> Self {
        let bench = Self::start().await;
        let host = Command::EnrolHost {
            host: HostId::from_bytes([8; 16]),
            name: HostName::parse("web-1").unwrap(),
            sealing_key: [1; 32],
        };
        bench.submit(Role::Injector, host).await;
        let (status, answer) = bench.apply(&format!("{MANIFEST}---\n{OTHER}")).await;
        assert_eq!(status, 200, "{answer}");
        bench.work().await;
        let (status, answer) = bench.post("policies", policies).await;
        assert_eq!((status, &answer["version"]), (200, &json!(1)), "{answer}");
        bench
    }

    async fn as_person(&self, name: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let (status, text) = self.ask_as(person(name), method, path, body).await;
        (
            status.as_u16(),
            serde_json::from_str(&text).unwrap_or_default(),
        )
    }
}

/// A body that its handler understands; a new verb has to be written here before the suite passes.
fn body_of(path: &str) -> Value {
    let reason = json!({ "reason": "a test" });
    match path {
        "/v1/apply" => json!({ "manifests": MANIFEST, "source": "t" }),
        "/v1/put" => json!({ "name": "prod/db" }),
        "/v1/rotate" => json!({ "secret": "prod/db" }),
        "/v1/revoke" => json!({ "secret": "prod/db", "reason": "a test" }),
        "/v1/revoke-by" => json!({ "scope": { "prefix": "prod" }, "reason": "a test" }),
        "/v1/refresh" => json!({}),
        "/v1/policies" => nothing(),
        "/v1/tokens" => super::tokens::wish("t"),
        "/v1/tokens/{name}/revoke" => reason,
        "/v1/revoke-tokens" => json!({ "owner": "certificate:ada", "reason": "a test" }),
        "/v1/playbooks/{name}/run" => json!({ "arguments": {}, "reason": "a test" }),
        "/v1/subscriptions" => json!({ "name": "siem" }),
        "/v1/subscriptions/{name}/acknowledge" => json!({ "id": ID, "number": 1 }),
        "/v1/notifications/{name}/replay" => json!({ "after": 0 }),
        "/v1/unseal" => json!({ "offer": "AAEC" }),
        "/v1/seal" | "/v1/rotate-kek" | "/v1/backup" | "/v1/logout" => json!({}),
        "/v1/login" => json!({ "by": "device", "device_code": "x" }),
        "/v1/login/device" => Value::Null,
        "/v1/notifications/{name}/test"
        | "/v1/letters/{id}/retry"
        | "/v1/approvals/{id}/withdraw"
        | "/v1/hosts/{name}/join-token" => Value::Null,
        "/v1/rotations/{id}/abort"
        | "/v1/rotations/{id}/retry"
        | "/v1/rotations/{id}/force"
        | "/v1/revocations/{id}/forget"
        | "/v1/hosts/{name}/evict"
        | "/v1/playbook-runs/{id}/approve"
        | "/v1/playbook-runs/{id}/pause"
        | "/v1/playbook-runs/{id}/resume"
        | "/v1/playbook-runs/{id}/cancel"
        | "/v1/approvals/{id}/approve"
        | "/v1/approvals/{id}/deny"
        | "/v1/approvals/{id}/break-glass"
        | "/v1/approvals/{id}/review"
        | "/v1/audit/confirm-sinks"
        | "/v1/quarantines/{name}/lift" => reason,
        other => panic!("{other} is in no row: who may ask for it?"),
    }
}

fn filled(path: &str) -> String {
    let name = if path.contains("/hosts/") {
        "web-1"
    } else {
        "x"
    };
    let query = match path {
        "/v1/policies/explain" => "?principal=unix:0&verb=rotate&resource=secret/prod/db",
        "/v1/revoke-plan" => "?secret=prod/db",
        _ => "",
    };
    let path = path.replace("{*name}", "prod/db").replace("{name}", name);
    format!(
        "{}{query}",
        path.replace("{id}", ID)
            .replace("{index}", "0")
            .replace("{size}", "0")
    )
}

#[tokio::test]
async fn every_route_asks_the_policies_and_nothing_is_done_for_whom_they_permit_nothing() {
    let bench = Bench::with_policies(nothing()).await;
    let before = bench.head().await;
    let mut sorts: BTreeMap<&str, usize> = BTreeMap::new();
    for (method, path, _) in routes() {
        let body = match method {
            Method::POST => body_of(path),
            _ => Value::Null,
        };
        let audited = bench.audit().await.len();
        let asks = filled(path);
        let (status, answer) = bench.as_person("eve", method.as_str(), &asks, body).await;
        let left = bench.audit().await.split_off(audited);
        // Each attempt is to have a record of its own.
        let _counted = bench.api.denials.turn();
        let is_of_seal = path == "/v1/seal" && status == 200;
        let sort = match (status, path) {
            _ if is_of_seal => "seal",
            // Nobody logs in here; who may is asked nothing else.
            (404 | 409, _) if super::looks::OF_LOGINS.contains(&path) => "login",
            (200, "/v1/status" | "/v1/openapi.json" | "/v1/store-key" | "/v1/whoami") => "open",
            (200, _) => {
                assert_eq!(answer, json!([]), "{method} {path}");
                "rows"
            }
            _ => {
                assert_problem(
                    &(status, answer),
                    403,
                    "denied",
                    "`certificate:eve` may not",
                );
                "denied"
            }
        };
        if sort == "denied" {
            assert_eq!(left.len(), 1, "{method} {path}: {left:?}");
            let is_said = left[0].contains("Denied") && left[0].contains("default deny: needs");
            assert!(
                is_said && left[0].contains("policies version 1"),
                "{left:?}"
            );
        }
        *sorts.entry(sort).or_default() += 1;
    }
    assert_eq!(bench.head().await, before, "something was decided");
    assert_eq!((sorts["open"], sorts["rows"]), (4, 14), "{sorts:?}");
    assert_eq!(sorts["login"], 4, "{sorts:?}");
    assert!(
        sorts["denied"] > 40,
        "the route table was not read: {sorts:?}"
    );
    let is_offered = !bench.store.offered.lock().unwrap().is_empty();
    assert!(sorts["seal"] == 1 && !is_offered, "{sorts:?}");
}

#[tokio::test]
async fn every_route_asks_the_scope_of_a_token_and_nothing_is_done_outside_it() {
    let all = json!({ "policies": "@id(\"all\") permit (principal, action, resource);" });
    let bench = Bench::with_policies(all).await;
    let elsewhere = json!({
        "name": "ci",
        "verbs": ["list", "write", "delete", "rotate", "revoke", "bind", "audit"],
        "resources": ["path/elsewhere"],
        "lifetime_seconds": 3600,
    });
    let (status, issued) = bench.post("tokens", elsewhere).await;
    assert_eq!(status, 200, "{issued}");
    let bearer = format!("Bearer {}", issued["token"].as_str().unwrap());
    let before = bench.head().await;
    let mut denied = 0;
    for (method, path, _) in routes() {
        let body = match method {
            Method::POST => body_of(path),
            _ => Value::Null,
        };
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let asks = filled(path);
        let shown = [("authorization", bearer.as_str())];
        let response = bench.send((method.as_str(), &asks), &shown, body).await;
        let status = response.status().as_u16();
        let text = text_of(response).await;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let _counted = bench.api.denials.turn();
        match (status, path) {
            (200, "/v1/status" | "/v1/openapi.json" | "/v1/store-key" | "/v1/whoami") => {}
            (200, "/v1/seal") if method == Method::GET => {}
            // Nobody logs in here.
            (404 | 409, _) if super::looks::OF_LOGINS.contains(&path) => {}
            // The one that it came with.
            (200, "/v1/tokens") => assert_eq!(answer.as_array().unwrap().len(), 1, "{answer}"),
            (200, _) => assert_eq!(answer, json!([]), "{method} {path}"),
            _ => {
                let out = "outside the scope of the token";
                assert_problem(&(status, answer), 403, "denied", out);
                denied += 1;
            }
        }
    }
    assert_eq!(bench.head().await, before, "something was decided");
    assert!(denied > 40, "the route table was not read: {denied}");
}

#[tokio::test]
async fn who_holds_a_share_offers_it_by_one_right_and_root_by_any_set() {
    let custodian = "@id(\"custodian\")\npermit (principal == User::\"certificate:ada\", action == Action::\"write\", resource == Environment::\"installation\");";
    let bench = Bench::with_policies(json!({ "policies": custodian })).await;
    let offer = || json!({ "offer": "AAEC" });
    let taken = bench.as_person("ada", "POST", "/v1/unseal", offer()).await;
    assert_eq!(taken.0, 200, "{taken:?}");
    let last = bench.audit().await.pop().unwrap();
    assert!(
        last.contains("unseal") && last.contains("custodian"),
        "{last}"
    );
    for (path, verb) in [("/v1/seal", "revoke"), ("/v1/rotate-kek", "rotate")] {
        let denied = bench.as_person("ada", "POST", path, json!({})).await;
        let what = format!("may not {verb} `environment`");
        assert_problem(&denied, 403, "denied", &what);
    }
    let denied = bench.as_person("eve", "POST", "/v1/unseal", offer()).await;
    assert_problem(&denied, 403, "denied", "may not write `environment`");
    assert_eq!(bench.post("unseal", offer()).await.0, 200, "root");
    assert_eq!(bench.store.offered.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_team_does_what_it_may_and_the_record_names_the_policy() {
    let bench = Bench::with_policies(team()).await;
    let rotate = |name: &str| json!({ "secret": name });
    let (status, answer) = bench
        .as_person("ada", "POST", "/v1/rotate", rotate("prod/db"))
        .await;
    assert_eq!(status, 200, "{answer}");
    let last = bench.audit().await.pop().unwrap();
    assert!(
        last.contains("\"rotate\"") && last.contains("\"policies version 1: team\""),
        "{last}"
    );
    for (name, what) in [
        ("stage/db", "default deny"),
        ("prod/root", "forbidden by not-this-one"),
    ] {
        let denied = bench
            .as_person("ada", "POST", "/v1/rotate", rotate(name))
            .await;
        assert_problem(&denied, 403, "denied", what);
        let last = bench.audit().await.pop().unwrap();
        assert!(last.contains(what) && last.contains(name), "{last}");
    }
    let looked = bench
        .as_person("ada", "GET", "/v1/secrets/prod/db", Value::Null)
        .await;
    assert_eq!(looked.0, 200);
    let last = bench.audit().await.pop().unwrap();
    assert!(
        last.contains("\"describe\"") && last.contains("\"policies version 1: team\""),
        "{last}"
    );
    // Their words stay beside the policy.
    let id = bench.api.view.read().rotations_newest_first()[0];
    let abort = json!({ "reason": "a mistake" });
    let path = format!("/v1/rotations/{id}/abort");
    assert_eq!(bench.as_person("ada", "POST", &path, abort).await.0, 200);
    let audit = bench.audit().await;
    assert!(
        audit
            .iter()
            .any(|one| one.contains("a mistake (policies version 1: team)")),
        "{audit:?}"
    );
}

#[tokio::test]
async fn nobody_s_own_words_pass_for_policies_where_none_were_applied() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    bench.store_says(super::seal::sealed());
    let forged = "policies version 7: root";
    for (path, body) in [
        ("revoke", json!({ "secret": "prod/db", "reason": forged })),
        ("seal", json!({ "reason": forged })),
    ] {
        let before = bench.audit().await.len();
        let (status, answer) = bench.post(path, body).await;
        assert_eq!(status, 200, "{answer}");
        let left = bench.audit().await.split_off(before);
        let said = format!("{forged} (in their own words)");
        assert!(left.iter().any(|one| one.contains(&said)), "{left:?}");
    }
}

#[tokio::test]
async fn lists_show_a_team_what_is_theirs_and_an_auditor_all_that_nothing_forbids() {
    let bench = Bench::with_policies(team()).await;
    let names = |rows: &Value| {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let (_, rows) = bench
        .as_person("ada", "GET", "/v1/secrets", Value::Null)
        .await;
    assert_eq!(names(&rows), ["prod/db"]);
    let (_, rows) = bench
        .as_person("ada", "GET", "/v1/rotations", Value::Null)
        .await;
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    let (_, rows) = bench
        .as_person("eve", "GET", "/v1/secrets", Value::Null)
        .await;
    assert_eq!(rows, json!([]));
    let auditor = "@id(\"auditor\") permit (principal == User::\"certificate:vera\", action == Action::\"list\", resource);\n@id(\"hidden\") forbid (principal, action, resource in Path::\"stage\");";
    let (status, _) = bench.post("policies", json!({ "policies": auditor })).await;
    assert_eq!(status, 200);
    let (_, rows) = bench
        .as_person("vera", "GET", "/v1/secrets", Value::Null)
        .await;
    assert_eq!(names(&rows), ["prod/db"]);
}

#[tokio::test]
async fn a_refusal_tells_nobody_what_a_binding_gives_who_may_not_see_that() {
    let bench = Bench::with_policies(nothing()).await;
    let all = json!({ "policies": "@id(\"all\") permit (principal in Group::\"root\", action, resource);" });
    assert_eq!(bench.post("policies", all).await.0, 200);
    let binding = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: stage/db\n  containers: { host: web-1, image: i }\n  file: { name: f }\n";
    let (status, answer) = bench.apply(binding).await;
    assert_eq!(status, 200, "{answer}");
    let blind = team()["policies"].as_str().unwrap().to_owned();
    let seeing = "@id(\"look\") permit (principal, action == Action::\"list\", resource in Path::\"stage\");";
    for (more, is_told) in [("", false), (seeing, true)] {
        let mut set = team();
        set["policies"] = json!(format!("{blind}{more}"));
        assert_eq!(bench.post("policies", set).await.0, 200);
        let asked = bench.as_person("ada", "DELETE", "/v1/bindings/web", Value::Null);
        let (status, answer) = asked.await;
        assert_eq!(status, 403, "{answer}");
        assert_eq!(answer.to_string().contains("stage/db"), is_told, "{answer}");
        let last = bench.audit().await.pop().unwrap();
        assert!(
            last.contains("secret/stage/db"),
            "the audit is told: {last}"
        );
    }
}

#[tokio::test]
async fn what_is_denied_goes_nowhere_not_even_to_a_store() {
    let bench = Bench::with_policies(team()).await;
    let put = json!({ "name": "stage/db", "token": "11111111-1111-1111-1111-111111111111", "sealed": "AAAA" });
    let denied = bench.as_person("ada", "POST", "/v1/put", put).await;
    assert_problem(&denied, 403, "denied", "may not write `secret/stage/db`");
    assert!(bench.store.kept.lock().unwrap().is_empty());
    for dry_run in [true, false] {
        let store = json!({ "manifests": super::stores::STORE, "source": "t", "dry_run": dry_run });
        let denied = bench.as_person("ada", "POST", "/v1/apply", store).await;
        assert_problem(&denied, 403, "denied", "may not write `store/bao`");
    }
    assert!(bench.store.tried.lock().unwrap().is_empty());
    // One document that is not theirs, and none of the others holds.
    let both = json!({ "manifests": format!("{MANIFEST}---\n{OTHER}"), "source": "t" });
    let denied = bench.as_person("ada", "POST", "/v1/apply", both).await;
    assert_problem(&denied, 403, "denied", "may not write `secret/stage/db`");
}

#[tokio::test]
async fn sets_are_counted_shown_and_never_put_over_one_that_was_not_seen() {
    let bench = Bench::start().await;
    let (status, shipped) = bench.see("policies").await;
    assert_eq!((status, &shipped["version"]), (200, &json!(0)));
    assert!(
        shipped["policies"]
            .as_str()
            .unwrap()
            .contains("client-certificate")
    );
    assert_eq!(bench.post("policies", team()).await.1["version"], 1);
    assert_eq!(
        bench.post("policies", team()).await.1["version"],
        1,
        "the same again"
    );
    let mut next = nothing();
    next["expected"] = json!(0);
    assert_problem(
        &bench.post("policies", next.clone()).await,
        409,
        "conflict",
        "version 1",
    );
    let last = bench.audit().await.pop().unwrap();
    for part in ["apply-policies", "Rejected", "policies version 1: "] {
        assert!(last.contains(part), "{part}: {last}");
    }
    next["expected"] = json!(1);
    let (status, answer) = bench.post("policies", next).await;
    assert_eq!(
        (status, &answer["version"], &answer["by"]),
        (200, &json!(2), &json!("unix:0"))
    );
    // Root may show and replace what shuts everybody out.
    let (status, old) = bench.see("policies?version=1").await;
    assert_eq!(
        (status, &old["in_force"], &old["policies"]),
        (200, &json!(false), &team()["policies"])
    );
    assert_problem(
        &bench.see("policies?version=9").await,
        404,
        "not_found",
        "version 9",
    );
    assert_problem(
        &bench.see("secrets/prod/db").await,
        403,
        "denied",
        "default deny",
    );
    assert_eq!(bench.post("policies", team()).await.1["version"], 3);
    let record = bench.audit().await.pop().unwrap();
    assert!(
        record.contains("apply-policies") && record.contains("local-recovery"),
        "{record}"
    );
}

#[tokio::test]
async fn a_set_that_does_not_fit_never_gets_into_the_log() {
    let bench = Bench::start().await;
    let before = bench.head().await;
    for (policies, part) in [
        ("permit (principal, action, resource);", "has no name"),
        (
            "@id(\"a\") permit (principal, action == Action::\"steal\", resource);",
            "does not fit the schema",
        ),
        ("@id(\"a\") permit (principal, action", "is not Cedar"),
    ] {
        let records = bench.audit().await.len();
        let refused = bench
            .post("policies", json!({ "policies": policies }))
            .await;
        assert_problem(&refused, 400, "invalid", part);
        let left = bench.audit().await.split_off(records);
        assert_eq!(left.len(), 1, "{left:?}");
        for part in ["apply-policies", "Malformed", "status 400"] {
            assert!(left[0].contains(part), "{part}: {left:?}");
        }
    }
    let groups = json!({ "policies": "", "groups": { "root": ["certificate:eve"] } });
    assert_problem(
        &bench.post("policies", groups).await,
        400,
        "invalid",
        "`root`",
    );
    let last = bench.audit().await.pop().unwrap();
    assert!(
        last.contains("apply-policies") && last.contains("Malformed"),
        "{last}"
    );
    let mut dry = team();
    dry["dry_run"] = json!(true);
    let (status, told) = bench.post("policies", dry).await;
    // Nothing is at `prod` yet, and there is no `prod/root`.
    assert_eq!(
        (status, told["findings"].as_array().unwrap().len()),
        (200, 2),
        "{told}"
    );
    assert_eq!(bench.head().await, before);
}

#[tokio::test]
async fn an_explanation_says_what_decides_and_the_status_what_is_in_force() {
    let bench = Bench::start().await;
    let note = |status: &Value| status["policies"]["note"].as_str().unwrap().to_owned();
    assert!(note(&bench.see("status").await.1).contains("nobody applied a set"));
    let bench = Bench::with_policies(team()).await;
    assert!(note(&bench.see("status").await.1).contains("version 1, 2 policies"));
    let why = |who: &str, verb: &str, what: &str| {
        format!("/v1/policies/explain?principal={who}&verb={verb}&resource={what}")
    };
    let (status, told) = bench
        .ask_as(
            OPERATOR,
            "GET",
            &why("certificate:ada", "rotate", "secret/stage/db"),
            Body::empty(),
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["allowed"], &told["reason"]),
        (&json!(false), &json!("default deny"))
    );
    assert_eq!(
        told["near"][0],
        json!({ "policy": "team", "permits": true, "but": "is about other things" })
    );
    let (status, text) = bench
        .ask_as(
            OPERATOR,
            "GET",
            &why("ada", "rotate", "secret/a"),
            Body::empty(),
        )
        .await;
    assert!(
        status == StatusCode::BAD_REQUEST && text.contains("certificate:NAME"),
        "{text}"
    );
}

const PLAYBOOK: &str = "apiVersion: keywheel.dev/v1\nkind: Playbook\nmetadata: { name: leak }\nspec:\n  steps:\n    - { name: renew, rotate: { secrets: [prod/db] } }\n    - { name: kill, revoke: { secrets: [stage/db], versions: alive } }\n";

#[tokio::test]
async fn a_playbook_is_run_by_who_may_do_all_its_steps_and_its_plan_says_what_lacks() {
    let bench = Bench::with_policies(nothing()).await;
    let grants = |more: &str| {
        let text = format!(
            "@id(\"look\") permit (principal == User::\"certificate:ada\", action == Action::\"list\", resource is Playbook);\n@id(\"renew\") permit (principal == User::\"certificate:ada\", action == Action::\"rotate\", resource in Path::\"prod\");\n{more}"
        );
        json!({ "policies": text })
    };
    let all = "@id(\"all\") permit (principal in Group::\"root\", action, resource);";
    assert_eq!(bench.post("policies", grants(all)).await.0, 200);
    let (status, answer) = bench.apply(PLAYBOOK).await;
    assert_eq!(status, 200, "{answer}");
    let plan = || bench.as_person("ada", "GET", "/v1/playbook-plan/leak", Value::Null);
    let (status, told) = plan().await;
    assert_eq!(status, 200, "{told}");
    let blockers = told["blockers"].as_array().unwrap();
    let lacks: Vec<&str> = blockers.iter().filter_map(|one| one.as_str()).collect();
    assert!(
        matches!(lacks.as_slice(), [one] if one.contains("step `kill`") && one.contains("may not revoke `secret/stage/db`")),
        "{lacks:?}"
    );
    let run = || {
        let wish = json!({ "arguments": {}, "reason": "leaked" });
        bench.as_person("ada", "POST", "/v1/playbooks/leak/run", wish)
    };
    assert_problem(
        &run().await,
        403,
        "denied",
        "may not revoke `secret/stage/db`",
    );
    let kill = "@id(\"kill\") permit (principal == User::\"certificate:ada\", action == Action::\"revoke\", resource == Secret::\"stage/db\");";
    assert_eq!(bench.post("policies", grants(kill)).await.0, 200);
    assert_eq!(plan().await.1["blockers"], json!([]));
    assert_eq!(run().await.0, 200);
}

#[tokio::test]
async fn a_set_that_one_gateway_takes_in_is_in_force_at_the_other() {
    let [one, other] = Bench::pair().await;
    assert_eq!(one.post("policies", team()).await.0, 200);
    other.api.commands.look_at_head().await.unwrap();
    let rotate = json!({ "secret": "stage/db" });
    let denied = other.as_person("ada", "POST", "/v1/rotate", rotate).await;
    assert_problem(&denied, 403, "denied", "default deny");
}
