//! What takes several people over HTTP: it waits, others say their word, it is done once; and going without them is loud.

use std::collections::BTreeMap;

use keywheel_core::approval::{self, APPROVAL_LIFETIME, Operation};
use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::{HostId, RunId};
use keywheel_core::name::PlaybookName;
use keywheel_core::playbook_run::{Cause, Request as RunRequest};
use keywheel_engine::port::journal::MAX_READ;
use keywheel_engine::presence::{COPY_FACT, Fact, SINK_SET_FACT};
use keywheel_identity::name::OperatorName;

use super::*;

/// A set by which everybody may do everything.
pub(super) const ALL: &str = "@id(\"all\")\npermit (principal, action, resource);\n";
const MORE: &str = "@id(\"all\")\npermit (principal, action, resource);\n@id(\"but\")\nforbid (principal, action, resource == Secret::\"a\");\n";

const REVIEW: &str = include_str!("../../../../../deploy/playbooks/break-glass-review.yaml");

/// What an audit sink says of the sinks that it was given.
pub(super) fn hear(bench: &Bench, second: i64, set: &str) {
    let facts = vec![Fact::ok(COPY_FACT, "well"), Fact::ok(SINK_SET_FACT, set)];
    bench.hear_sink(second, 0, facts);
}

impl Bench {
    async fn says(&self, who: &str, (method, path): (&str, &str), body: Value) -> (u16, Value) {
        let peer = Peer::Operator(OperatorName::parse(who).unwrap());
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let path = format!("/v1/{path}");
        let (status, text) = self.ask_as(peer, method, &path, body).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap())
    }

    async fn applies(&self, who: &str, policies: &str) -> (u16, Value) {
        let body = json!({ "policies": policies });
        self.says(who, ("POST", "policies"), body).await
    }

    /// Asks, and gives the id of the request that waits.
    pub(super) async fn wants_policies(&self, who: &str, policies: &str) -> String {
        let answer = self.applies(who, policies).await;
        assert_problem(&answer, 202, "waiting", "waits for");
        self.newest().await
    }

    /// A request of somebody for the audit's first record, which no set of policies that comes meanwhile overtakes.
    pub(super) async fn wants_export(&self, who: &str) -> String {
        assert_eq!(self.see("secrets").await.0, 200);
        let first = ("GET", "audit/export?from=0&to=1");
        let answer = self.says(who, first, Value::Null).await;
        assert_problem(&answer, 202, "waiting", "audit-export");
        self.newest().await
    }

    async fn newest(&self) -> String {
        let (status, all) = self.see("approvals").await;
        assert_eq!(status, 200, "{all}");
        all[0]["approval_id"].as_str().unwrap().to_owned()
    }

    /// A word about a request.
    async fn word(&self, who: &str, id: &str, word: &str) -> (u16, Value) {
        let path = format!("approvals/{id}/{word}");
        let why = json!({ "reason": "seen the ticket" });
        self.says(who, ("POST", &path), why).await
    }

    /// The run that the scheduler begins with the event, told what the shipped playbook's trigger says.
    async fn review_of_broken_glass(&self) -> String {
        let events = self.journal.read(0, MAX_READ).await.unwrap();
        let broken = events.iter().find_map(|one| match &one.event {
            Event::Approval(_, approval::Event::GlassBroken { by, .. }) => {
                Some((one.number, by.clone()))
            }
            _ => None,
        });
        let (number, who) = broken.unwrap();
        let run = RunId::from_bytes([7; 16]);
        let start = Command::Playbook(RunRequest::Start {
            run,
            playbook: PlaybookName::parse("break-glass-review").unwrap(),
            arguments: BTreeMap::from([("who".to_owned(), who)]),
            by: "scheduler".to_owned(),
            reason: "an event".to_owned(),
            cause: Cause::Event { number },
        });
        self.submit(Role::Scheduler, start).await;
        run.to_string()
    }

    async fn version(&self) -> u64 {
        self.see("policies").await.1["version"].as_u64().unwrap()
    }

    async fn is_told(&self, words: &str) -> bool {
        self.finds("what", words).await
    }

    /// Whether it is the next step of a finding.
    async fn is_advised(&self, words: &str) -> bool {
        self.finds("next", words).await
    }

    /// Whether `keywheel status` says that requests wait for others.
    async fn is_advised_of_waiting(&self) -> bool {
        let (_, status) = self.see("status").await;
        status.to_string().contains("requests wait for others")
    }

    async fn finds(&self, field: &str, words: &str) -> bool {
        let (_, status) = self.see("status").await;
        let findings = status["findings"].as_array().unwrap().iter();
        let mut texts = findings.filter_map(|finding| finding[field].as_str());
        texts.any(|text| text.contains(words))
    }
}

#[tokio::test]
async fn nobody_has_a_set_put_in_force_over_one_that_is_to_come() {
    let bench = Bench::taking(&[(Operation::PolicyChange, 2)]).await;
    let body = json!({ "policies": ALL, "expected": 1 });
    let answer = bench.says("ada", ("POST", "policies"), body).await;
    assert_problem(&answer, 409, "conflict", "version 0 of the policies");
    assert_eq!(bench.see("approvals").await.1, json!([]), "nothing waits");
    let id = bench.wants_policies("ada", ALL).await;
    assert_eq!(bench.word("bob", &id, "approve").await.0, 200);
    assert_eq!(bench.applies("ada", ALL).await.0, 200);
    // The same set again changes nothing now, and would once another one is in force.
    let body = json!({ "policies": ALL, "expected": 2 });
    let answer = bench.says("ada", ("POST", "policies"), body).await;
    assert_problem(&answer, 409, "conflict", "version 1 of the policies");
    assert_eq!(bench.version().await, 1);
}

#[tokio::test]
async fn a_set_of_policies_that_takes_two_waits_and_is_put_in_force_once() {
    let bench = Bench::taking(&[(Operation::PolicyChange, 2)]).await;
    let id = bench.wants_policies("ada", ALL).await;
    assert_eq!(bench.version().await, 0, "nothing was done");
    // What is printed works as it is printed.
    let next = format!("`keywheel approval approve {id} --reason TEXT`");
    assert_problem(&bench.applies("ada", ALL).await, 202, "waiting", &next);
    let again = bench.audit().await.pop().unwrap();
    for part in ["apply-policies", "Rejected", "answered with status 202"] {
        assert!(again.contains(part), "{part}: {again}");
    }
    let (_, all) = bench.see("approvals").await;
    assert_eq!(all.as_array().unwrap().len(), 1, "the same request");
    let (_, shown) = bench.see(&format!("approvals/{id}")).await;
    assert_eq!(
        (&shown["state"], &shown["missing"]),
        (&json!("waiting"), &json!(1))
    );
    let plan = shown["plan"].as_str().unwrap();
    assert!(
        plan.contains("+ permit (principal, action, resource);"),
        "{plan}"
    );
    let own = bench.word("ada", &id, "approve").await;
    let why = "one person is one word: somebody else has to";
    assert_problem(&own, 409, "conflict", why);
    let (status, approved) = bench.word("bob", &id, "approve").await;
    assert_eq!(
        (status, &approved["state"]),
        (200, &json!("approved")),
        "{approved}"
    );
    // It is good for what was asked for, and for who asked.
    assert_problem(
        &bench.applies("ada", MORE).await,
        202,
        "waiting",
        "waits for 1 more",
    );
    assert_problem(
        &bench.applies("bob", ALL).await,
        202,
        "waiting",
        "waits for 1 more",
    );
    let (status, answer) = bench.applies("ada", ALL).await;
    assert_eq!((status, &answer["version"]), (200, &json!(1)), "{answer}");
    let (_, used) = bench.see(&format!("approvals/{id}")).await;
    assert_eq!(used["state"], "used");
    let (status, same) = bench.applies("ada", ALL).await;
    assert_eq!(
        (status, &same["version"]),
        (200, &json!(1)),
        "what changes nothing takes nobody"
    );
    let records = bench.audit().await.join("\n");
    for part in [
        "ask-policy-change",
        "\"approve\"",
        &format!("approved: request {id}"),
    ] {
        assert!(records.contains(part), "{part}: {records}");
    }
}

#[tokio::test]
async fn what_was_approved_is_not_put_over_a_set_that_came_meanwhile() {
    let bench = Bench::taking(&[(Operation::PolicyChange, 2)]).await;
    let first = bench.wants_policies("ada", ALL).await;
    let other = bench.wants_policies("bob", MORE).await;
    for id in [&first, &other] {
        assert_eq!(bench.word("eve", id, "approve").await.0, 200);
    }
    assert_eq!(bench.applies("bob", MORE).await.0, 200);
    let answer = bench.applies("ada", ALL).await;
    assert_problem(&answer, 202, "waiting", "waits for 1 more");
    assert_eq!(bench.version().await, 1);
}

#[tokio::test]
async fn a_request_over_a_set_that_is_gone_is_over_and_says_so() {
    let bench = Bench::taking(&[(Operation::PolicyChange, 2)]).await;
    let approved = bench.wants_policies("ada", ALL).await;
    let waiting = bench.wants_policies("eve", ALL).await;
    let done = bench.wants_policies("bob", MORE).await;
    for id in [&approved, &done] {
        assert_eq!(bench.word("eve", id, "approve").await.0, 200);
    }
    assert!(bench.is_advised_of_waiting().await);
    assert_eq!(bench.applies("bob", MORE).await.0, 200);
    for id in [&approved, &waiting] {
        let (_, shown) = bench.see(&format!("approvals/{id}")).await;
        assert_eq!(shown["state"], "overtaken", "{shown}");
        let why = shown["over"].as_str().unwrap();
        assert!(why.contains("version 1 of the policies"), "{why}");
    }
    let (_, all) = bench.see("approvals").await;
    let states = all.as_array().unwrap().iter();
    let states: Vec<&str> = states.map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["used", "overtaken", "overtaken"]);
    assert!(!bench.is_advised_of_waiting().await);
    // Nobody says yes to it any more; who is against it, or takes it back, may say so.
    for word in ["approve", "break-glass"] {
        let refused = bench.word("bob", &waiting, word).await;
        assert_problem(&refused, 409, "conflict", "ask anew");
    }
    let (status, denied) = bench.word("bob", &waiting, "deny").await;
    assert_eq!((status, &denied["state"]), (200, &json!("denied")));
    assert_eq!(denied["over"], Value::Null);
    // Asked anew it is over the set in force.
    let anew = bench.wants_policies("ada", ALL).await;
    let (_, shown) = bench.see(&format!("approvals/{anew}")).await;
    assert_eq!(shown["state"], "waiting", "{shown}");
}

#[tokio::test]
async fn the_answer_names_its_request_and_a_repeat_under_one_key_gets_the_first_answer() {
    let bench = Bench::taking(&[(Operation::PolicyChange, 2)]).await;
    let body = || Body::from(json!({ "policies": ALL }).to_string());
    let key = [("idempotency-key", "7a0c")];
    let waits = bench.send(("POST", "/v1/policies"), &key, body()).await;
    assert_eq!(waits.status(), StatusCode::ACCEPTED);
    let location = waits.headers()["location"].to_str().unwrap().to_owned();
    let id = location.strip_prefix("/v1/approvals/").unwrap();
    assert_eq!(bench.word("bob", id, "approve").await.0, 200);
    for _ in 0..2 {
        let answer = bench.send(("POST", "/v1/policies"), &key, body()).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(bench.version().await, 1);
    let (_, all) = bench.see("approvals").await;
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
}

#[tokio::test]
async fn a_request_that_is_denied_withdrawn_or_late_does_nothing() {
    let bench = Bench::taking(&[(Operation::PolicyChange, 2)]).await;
    let denied = bench.wants_policies("ada", ALL).await;
    assert_eq!(bench.word("bob", &denied, "deny").await.0, 200);
    let withdrawn = bench.wants_policies("ada", ALL).await;
    assert_ne!(denied, withdrawn);
    let path = format!("approvals/{withdrawn}/withdraw");
    assert_eq!(bench.says("ada", ("POST", &path), Value::Null).await.0, 200);
    let late = bench.wants_policies("ada", ALL).await;
    // The newest first, in pages.
    for (after, next) in [(&late, &withdrawn), (&withdrawn, &denied)] {
        let (_, page) = bench.see(&format!("approvals?limit=1&after={after}")).await;
        assert_eq!(page.as_array().unwrap().len(), 1, "{page}");
        assert_eq!(page[0]["approval_id"].as_str(), Some(next.as_str()));
    }
    assert_eq!(bench.word("bob", &late, "approve").await.0, 200);
    bench.clock.advance(APPROVAL_LIFETIME);
    for (id, state) in [
        (&denied, "denied"),
        (&withdrawn, "withdrawn"),
        (&late, "expired"),
    ] {
        let (_, shown) = bench.see(&format!("approvals/{id}")).await;
        assert_eq!(shown["state"], state);
        let refused = bench.word("eve", id, "approve").await;
        assert_problem(&refused, 409, "conflict", "ask anew");
    }
    let answer = bench.applies("ada", ALL).await;
    assert_problem(&answer, 202, "waiting", "waits for 1 more");
    assert_eq!(bench.version().await, 0);
}

#[tokio::test]
async fn broken_glass_is_a_problem_until_somebody_else_has_reviewed_it() {
    let bench = Bench::taking(&[(Operation::PolicyChange, 3)]).await;
    let id = bench.wants_policies("ada", ALL).await;
    assert!(!bench.is_told("broke the glass").await);
    let (status, broken) = bench.word("ada", &id, "break-glass").await;
    assert_eq!(
        (status, &broken["state"]),
        (200, &json!("approved")),
        "{broken}"
    );
    assert!(
        bench
            .is_told("certificate:ada broke the glass for `policy-change`")
            .await
    );
    let next = format!("`keywheel approval review {id} --reason TEXT`");
    assert!(bench.is_advised(&next).await);
    assert_eq!(bench.applies("ada", ALL).await.0, 200);
    let own = bench.word("ada", &id, "review").await;
    assert_problem(&own, 409, "conflict", "somebody else has to review it");
    assert!(bench.is_told("broke the glass").await);
    let (status, reviewed) = bench.word("bob", &id, "review").await;
    assert_eq!(status, 200, "{reviewed}");
    assert_eq!(reviewed["broken_glass"]["reviewed_by"], "certificate:bob");
    assert!(!bench.is_told("broke the glass").await);
    let records = bench.audit().await.join("\n");
    for part in ["break-glass", "review-break-glass"] {
        assert!(records.contains(part), "{part}: {records}");
    }
}

#[tokio::test]
async fn who_broke_the_glass_is_not_whom_the_shipped_playbook_takes_for_its_review() {
    let bench = Bench::taking(&[(Operation::PolicyChange, 2)]).await;
    let (status, answer) = bench.apply(REVIEW).await;
    assert_eq!(status, 200, "{answer}");
    let mut wish = super::tokens::wish("ci");
    wish["resources"] = json!(["environment"]);
    let token = bench.issue(wish).await;
    let id = bench.wants_policies("ada", ALL).await;
    assert_eq!(bench.word("ada", &id, "break-glass").await.0, 200);
    let id = bench.review_of_broken_glass().await;
    let run = bench.until_step(&id, "reviewed", "running").await;
    let action = "wait for an approval, not by certificate:ada";
    assert_eq!(run["steps"][0]["action"], action, "{run}");

    let (path, why) = (
        format!("playbook-runs/{id}/approve"),
        || json!({ "reason": "looked at the set" }),
    );
    let own = bench.says("ada", ("POST", &path), why()).await;
    assert_problem(
        &own,
        409,
        "conflict",
        "`certificate:ada` to approve, whom it leaves out",
    );
    let last = bench.audit().await.pop().unwrap();
    for part in ["approve-playbook", "Rejected", "whom it leaves out"] {
        assert!(last.contains(part), "{part}: {last}");
    }
    let whole = format!("/v1/{path}");
    let hers = bench.with(&token, ("POST", &whole), why()).await;
    assert_problem(&hers, 409, "conflict", "takes people");
    let (_, run) = bench.see(&format!("playbook-runs/{id}")).await;
    assert!(run["steps"][0]["approvals"].is_null(), "{run}");
    let (status, said) = bench.says("bob", ("POST", &path), why()).await;
    assert_eq!(status, 200, "{said}");
    let run = bench.until_end(&id).await;
    assert_eq!(run["state"], "completed", "{run}");
}

#[tokio::test]
async fn an_export_of_the_audit_waits_and_says_by_which_request_it_was_made() {
    let bench = Bench::taking(&[(Operation::AuditExport, 2)]).await;
    let of = ("GET", "audit/export?from=0&to=1");
    bench.applies("ada", ALL).await;
    assert_problem(
        &bench.says("ada", of, Value::Null).await,
        202,
        "waiting",
        "audit-export",
    );
    let looked = bench.audit().await.pop().unwrap();
    assert!(
        looked.contains("Rejected") && looked.contains("answered with status 202"),
        "{looked}"
    );
    let id = bench.newest().await;
    assert_eq!(bench.word("bob", &id, "approve").await.0, 200);
    let whole = bench
        .says("ada", ("GET", "audit/export"), Value::Null)
        .await;
    assert_problem(&whole, 202, "waiting", "audit-export");
    for _ in 0..2 {
        let (status, export) = bench.says("ada", of, Value::Null).await;
        assert_eq!(status, 200, "{export}");
        assert_eq!(export["records"].as_array().unwrap().len(), 1);
    }
    let records = bench.audit().await.join("\n");
    let named = format!("approved: request {id}");
    assert_eq!(records.matches(&named).count(), 2, "{records}");
}

#[tokio::test]
async fn an_export_that_cannot_be_made_is_put_to_nobody() {
    let bench = Bench::taking(&[(Operation::AuditExport, 2)]).await;
    assert_eq!(bench.see("secrets").await.0, 200);
    for range in [
        "from=1&to=0",
        "from=0&to=0",
        "from=7&to=7",
        "from=0&to=4000",
        "from=4000",
    ] {
        let path = format!("audit/export?{range}");
        let answer = bench.says("ada", ("GET", &path), Value::Null).await;
        assert_problem(&answer, 400, "invalid", "there are no audit records");
        assert_eq!(bench.see("approvals").await.1, json!([]), "{range}");
    }
    // Its places are free again.
    bench.wants_export("ada").await;
}

#[tokio::test]
async fn each_share_of_an_unsealing_is_somebody_else_s() {
    let bench = Bench::taking(&[(Operation::Unseal, 2)]).await;
    bench.store_says(super::seal::sealed());
    let share = |offer: &str| json!({ "offer": offer });
    let unseal = ("POST", "unseal");
    *bench.store.is_wrong.lock().unwrap() = true;
    let wrong = bench.says("ada", unseal, share("AAAA")).await;
    assert_problem(&wrong, 403, "denied", "it was not taken");
    assert_eq!(
        bench.says("ada", unseal, share("AAEC")).await.0,
        200,
        "hers again"
    );
    let second = bench.says("ada", unseal, share("AAED")).await;
    assert_problem(&second, 409, "conflict", "has to come from somebody else");
    assert_eq!(bench.says("bob", unseal, share("AAED")).await.0, 200);
    assert_eq!(
        bench.store.offered.lock().unwrap().len(),
        3,
        "one did not pass"
    );
    let id = bench.newest().await;
    let next = format!("`keywheel approval break-glass {id} --reason TEXT`");
    assert_problem(&second, 409, "conflict", &next);
    for (who, word) in [("eve", "approve"), ("eve", "deny")] {
        let refused = bench.word(who, &id, word).await;
        assert_problem(&refused, 409, "conflict", "takes shares and no words");
    }
    let path = format!("approvals/{id}/withdraw");
    let refused = bench.says("ada", ("POST", &path), Value::Null).await;
    assert_problem(&refused, 409, "conflict", "takes shares and no words");
    assert_eq!(bench.word("ada", &id, "break-glass").await.0, 200);
    assert_eq!(bench.says("ada", unseal, share("AAEE")).await.0, 200);
    assert!(bench.is_told("broke the glass for `unseal`").await);
}

#[tokio::test]
async fn the_name_of_an_evicted_host_comes_back_once_others_are_for_it() {
    let mut bench = Bench::taking(&[(Operation::HostReturn, 2)]).await;
    bench.api.join_tokens = Some(Arc::new(crate::testing::FakeTokens));
    let host = Command::EnrolHost {
        host: HostId::from_bytes([8; 16]),
        name: HostName::parse("web-1").unwrap(),
        sealing_key: [1; 32],
    };
    bench.submit(Role::Injector, host).await;
    let join = |name: &str| format!("hosts/{name}/join-token");
    let (back, new) = (join("web-1"), join("web-2"));
    let (status, given) = bench.says("ada", ("POST", &new), Value::Null).await;
    assert_eq!(status, 200, "a new name takes nobody else: {given}");
    let why = json!({ "reason": "stolen" });
    let evict = ("POST", "hosts/web-1/evict");
    assert_eq!(bench.says("ada", evict, why).await.0, 200);
    let waits = bench.says("ada", ("POST", &back), Value::Null).await;
    assert_problem(&waits, 202, "waiting", "host-return");
    let id = bench.newest().await;
    let (_, shown) = bench.see(&format!("approvals/{id}")).await;
    assert_eq!(shown["object"], "host/web-1");
    assert!(
        shown["plan"].as_str().unwrap().contains("stolen"),
        "{shown}"
    );
    assert_eq!(bench.word("bob", &id, "approve").await.0, 200);
    let (status, given) = bench.says("ada", ("POST", &back), Value::Null).await;
    assert_eq!((status, &given["name"]), (200, &json!("web-1")), "{given}");
    let again = bench.says("ada", ("POST", &back), Value::Null).await;
    assert_problem(&again, 202, "waiting", "waits for 1 more");
    assert_ne!(bench.newest().await, id);
}

#[tokio::test]
async fn other_sinks_hold_new_work_until_they_are_confirmed() {
    let bench = Bench::taking(&[(Operation::SinkChange, 2)]).await;
    let confirm = ("POST", "audit/confirm-sinks");
    let why = || json!({ "reason": "the new SIEM" });
    let unheard = bench.says("ada", confirm, why()).await;
    assert_problem(&unheard, 409, "conflict", "no audit sink is heard");
    hear(&bench, 1, "sha256:aa of 1 sinks: siem");
    assert_problem(
        &bench.apply(MANIFEST).await,
        503,
        "unavailable",
        "other sinks",
    );
    let looked = bench.post("refresh", json!({})).await;
    assert_problem(&looked, 503, "unavailable", "other sinks");
    assert!(
        bench
            .is_told("other sinks than those that were confirmed")
            .await
    );
    assert!(
        bench
            .is_advised("`keywheel approval confirm-sinks --reason TEXT`")
            .await
    );
    let (status, asked) = bench.says("ada", confirm, why()).await;
    assert_eq!(
        (status, &asked["state"]),
        (200, &json!("waiting")),
        "{asked}"
    );
    assert!(asked["plan"].as_str().unwrap().contains("siem"), "{asked}");
    assert_eq!(bench.apply(MANIFEST).await.0, 503);
    let (status, done) = bench.says("bob", confirm, why()).await;
    assert_eq!((status, &done["state"]), (200, &json!("used")), "{done}");
    let (status, answer) = bench.apply(MANIFEST).await;
    assert_eq!(status, 200, "{answer}");
    bench.work().await;
    let again = bench.says("ada", confirm, why()).await;
    assert_problem(&again, 409, "conflict", "confirmed already");
    hear(&bench, 2, "sha256:bb of 2 sinks: lake, siem");
    assert_problem(
        &bench.apply(PROVIDED).await,
        503,
        "unavailable",
        "other sinks",
    );
    let revoke = json!({ "secret": "prod/db", "reason": "leaked" });
    let (status, answer) = bench.post("revoke", revoke).await;
    assert_eq!(status, 200, "revocations go on: {answer}");
    hear(&bench, 3, "sha256:aa of 1 sinks: siem");
    assert_eq!(bench.apply(PROVIDED).await.0, 200, "put back");
}

#[tokio::test]
async fn what_was_asked_for_while_sinks_took_fewer_confirms_none_under_a_stricter_configuration() {
    let mut bench = Bench::taking(&[(Operation::SinkChange, 2)]).await;
    let confirm = ("POST", "audit/confirm-sinks");
    let why = || json!({ "reason": "the new SIEM" });
    hear(&bench, 1, "sha256:aa of 1 sinks: siem");
    assert_eq!(bench.says("ada", confirm, why()).await.0, 200);
    let first = bench.newest().await;
    let people = BTreeMap::from([(Operation::SinkChange, 3)]);
    let stricter = Admission::new().unwrap().with_people(people);
    bench.api.admission = Arc::new(stricter);
    let late = bench.word("bob", &first, "approve").await;
    assert_problem(&late, 409, "conflict", "more people by now");
    assert_problem(&late, 409, "conflict", "confirm-sinks --reason TEXT`");
    for (who, state) in [("bob", "waiting"), ("ada", "waiting"), ("eve", "used")] {
        let (status, said) = bench.says(who, confirm, why()).await;
        assert_eq!((status, &said["state"]), (200, &json!(state)), "{said}");
    }
}

#[tokio::test]
async fn nothing_takes_others_that_the_configuration_does_not_name() {
    let bench = Bench::start().await;
    hear(&bench, 1, "sha256:aa of 1 sinks: siem");
    assert_eq!(bench.applies("ada", ALL).await.0, 200);
    assert_eq!(bench.see("audit/export").await.0, 200);
    assert_eq!(bench.see("approvals").await.1, json!([]));
    let why = json!({ "reason": "a test" });
    let refused = bench.post("audit/confirm-sinks", why).await;
    assert_problem(&refused, 409, "conflict", "dual_control.sink_change");
}
