//! Every request that changes something, once where it may, once by a stranger, once not understood: each leaves its
//! record.
//!
//! A route that is in no row fails here before anything else: whoever adds one says how it is asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::approval::Operation;
use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::{HostId, LetterId, PolicySetId};
use keywheel_core::name::NotificationName;
use keywheel_core::policy::{self, Policies};
use keywheel_core::rotation::ACK_DEADLINE;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::deliveries::{Deliveries as _, Letter};
use keywheel_engine::port::journal::Journal as _;
use keywheel_identity::name::OperatorName;
use keywheel_schemas::openapi::{ROUTES, Route};

use super::backups::FakeMaker;
use super::seal::command_of;
use super::*;
use crate::deeds::Deed;
use crate::testing::FakeTokens;

const BINDING: &str = "---\napiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: prod/db\n  containers: { host: web-1, image: i }\n  file: { name: f }\n";
const SOURCE: &str = "apiVersion: keywheel.dev/v1\nkind: SignalSource\nmetadata: { name: pager }\nspec: { format: cloudEvents, keyFile: /etc/keywheel/signals/pager }\n";
const CUT: &str = "apiVersion: keywheel.dev/v1\nkind: Playbook\nmetadata: { name: cut }\nspec:\n  steps:\n    - { name: cut, quarantine: { consumersOf: [prod/db], action: pause } }\n";
/// Permits everything to everybody, and to every service.
pub(super) const EVERYTHING: &str = "@id(\"everything\")\npermit (principal, action, resource);\n";
/// Of any form that a path takes.
const ID: &str = "0190c8f0-0000-7000-8000-000000000001";

/// A request that is granted: who asks for what, at a gateway where there is what it is about.
struct Case {
    bench: Bench,
    peer: Peer,
    path: String,
    body: Value,
}

fn case(bench: Bench, path: impl Into<String>, body: Value) -> Option<Case> {
    Some(Case {
        bench,
        peer: OPERATOR,
        path: path.into(),
        body,
    })
}

impl Case {
    async fn ask(&self, route: &Route) -> (StatusCode, String) {
        let (method, path) = (route.method.to_uppercase(), format!("/v1/{}", self.path));
        let body = body(&self.body);
        let asked = self.bench.ask_as(self.peer.clone(), &method, &path, body);
        asked.await
    }

    /// What the request leaves on record.
    async fn asked(&self, route: &Route) -> Vec<String> {
        let before = self.bench.audit().await.len();
        let (status, answer) = self.ask(route).await;
        assert_eq!(status, StatusCode::OK, "{}: {answer}", route.operation);
        self.bench.left(before).await
    }

    /// How many events there are.
    async fn events(&self) -> u64 {
        self.bench.journal.head().await.unwrap().number
    }
}

fn why() -> Value {
    json!({ "reason": "a test" })
}

impl Bench {
    /// `prod/db` has a version.
    async fn made() -> Self {
        let bench = Self::start().await;
        assert_eq!(bench.apply(MANIFEST).await.0, 200);
        bench.work().await;
        bench
    }

    /// A gateway to which these manifests were applied.
    async fn declaring(manifests: &str) -> Self {
        let bench = Self::start().await;
        let (status, answer) = bench.apply(manifests).await;
        assert_eq!(status, 200, "{answer}");
        bench
    }
}

async fn of_secrets(operation: &str) -> Option<Case> {
    let secret = json!({ "secret": "prod/db", "reason": "leaked" });
    match operation {
        "apply" => {
            let body = json!({ "manifests": MANIFEST, "source": "t" });
            case(Bench::start().await, "apply", body)
        }
        "put" => {
            let token = PutToken::from_bytes([3; 16]).to_string();
            let body = json!({ "name": "prod/key", "token": token, "sealed": "AAAA" });
            case(Bench::declaring(PROVIDED).await, "put", body)
        }
        "rotate" => case(
            Bench::made().await,
            "rotate",
            json!({ "secret": "prod/db" }),
        ),
        "revoke" => case(Bench::made().await, "revoke", secret),
        "revoke_by" => {
            let body = json!({ "scope": { "prefix": "prod" }, "reason": "leaked" });
            case(Bench::made().await, "revoke-by", body)
        }
        "forget_revocation" => {
            let bench = Bench::made().await;
            let (_, begun) = bench.post("revoke", secret).await;
            let id = begun["revocation_id"].as_str().unwrap();
            case(bench, format!("revocations/{id}/forget"), why())
        }
        "unbind" => {
            let bench = Bench::declaring(&format!("{MANIFEST}{BINDING}")).await;
            case(bench, "bindings/web", Value::Null)
        }
        "remove_store" => case(
            Bench::declaring(super::stores::STORE).await,
            "stores/bao",
            Value::Null,
        ),
        "refresh" => case(
            Bench::declaring(super::stores::STORE).await,
            "refresh",
            json!({}),
        ),
        _ => None,
    }
}

async fn of_rotations(operation: &str) -> Option<Case> {
    let verb = operation.strip_suffix("_rotation")?;
    let bench = Bench::start().await;
    bench.serve_consumers(1).await;
    let (_, begun) = bench.post("rotate", json!({ "secret": "prod/db" })).await;
    let id = begun["rotation_id"].as_str().unwrap().to_owned();
    bench.work().await;
    if verb == "retry" {
        let rotation = RotationId::parse(&id).unwrap();
        bench.clock.advance(ACK_DEADLINE);
        let late = Command::DeadlinePassed { rotation };
        bench.submit(Role::Scheduler, late).await;
    }
    let is_known = ["abort", "retry", "force"].contains(&verb);
    case(bench, format!("rotations/{id}/{verb}"), why()).filter(|_| is_known)
}

async fn of_playbooks(operation: &str) -> Option<Case> {
    if operation == "lift_quarantine" {
        let bench = Bench::start().await;
        bench.serve_consumers(1).await;
        assert_eq!(bench.apply(CUT).await.0, 200);
        bench.knows_orders().await;
        bench.run("cut", json!({})).await;
        // A run goes on by itself.
        while bench.see("quarantines").await.1 == json!([]) {
            tokio::task::yield_now().await;
        }
        return case(bench, "quarantines/web/lift", why());
    }
    if !operation.contains("playbook") {
        return None;
    }
    let bench = Bench::made().await;
    let run = bench.with_a_run().await;
    let verb = operation.strip_suffix("_playbook_run");
    match (operation, verb) {
        ("run_playbook", _) => case(bench, "playbooks/ask/run", why()),
        ("remove_playbook", _) => case(bench, "playbooks/ask", Value::Null),
        (_, Some("approve")) => {
            // Who started it may not.
            let peer = Peer::Operator(OperatorName::parse("ann").unwrap());
            let case = case(bench, format!("playbook-runs/{run}/approve"), why());
            case.map(|case| Case { peer, ..case })
        }
        (_, Some("resume")) => {
            let (status, paused) = bench
                .post(&format!("playbook-runs/{run}/pause"), why())
                .await;
            assert_eq!(status, 200, "{paused}");
            case(bench, format!("playbook-runs/{run}/resume"), why())
        }
        (_, Some(verb @ ("pause" | "cancel"))) => {
            case(bench, format!("playbook-runs/{run}/{verb}"), why())
        }
        _ => None,
    }
}

async fn of_hosts(operation: &str) -> Option<Case> {
    let mut bench = Bench::start().await;
    let host = Command::EnrolHost {
        host: HostId::from_bytes([8; 16]),
        name: HostName::parse("web-1").unwrap(),
        sealing_key: [1; 32],
    };
    bench.submit(Role::Injector, host).await;
    match operation {
        "evict_host" => case(bench, "hosts/web-1/evict", why()),
        "make_join_token" => {
            bench.api.join_tokens = Some(Arc::new(FakeTokens));
            case(bench, "hosts/web-2/join-token", Value::Null)
        }
        _ => None,
    }
}

async fn of_subscriptions(operation: &str) -> Option<Case> {
    let bench = Bench::made().await;
    let (status, made) = bench.post("subscriptions", json!({ "name": "siem" })).await;
    assert_eq!(status, 200, "{made}");
    match operation {
        "subscribe" => case(bench, "subscriptions", json!({ "name": "other" })),
        "acknowledge" => {
            let body = json!({ "id": made["id"], "number": 1 });
            case(bench, "subscriptions/siem/acknowledge", body)
        }
        "unsubscribe" => case(bench, "subscriptions/siem", Value::Null),
        _ => None,
    }
}

async fn of_others_outside(operation: &str) -> Option<Case> {
    let bench = Bench::declaring(&format!("{}---\n{SOURCE}", super::outward::NOTIFICATION)).await;
    let letter = Letter {
        id: LetterId::from_bytes([7; 16]),
        owner: "notification/soc".to_owned(),
        heading: "event 2".to_owned(),
        time: Timestamp::from_micros(0),
        reason: "refused".to_owned(),
        body: b"2".to_vec(),
    };
    bench.journal.keep(&letter).await.unwrap();
    let letter = letter.id;
    // What is told is told again from an earlier event only.
    let name = NotificationName::parse("soc").unwrap();
    let soc = {
        let committed = bench.api.view.read();
        committed.world.notification_named(&name).unwrap().id
    };
    let span = Duration::from_secs(60);
    bench.journal.claim(soc, 1, span).await.unwrap();
    assert!(bench.journal.advance(soc, 1, 2).await.unwrap());
    match operation {
        "remove_notification" => case(bench, "notifications/soc", Value::Null),
        "test_notification" => case(bench, "notifications/soc/test", Value::Null),
        "replay_notification" => case(bench, "notifications/soc/replay", json!({ "after": 0 })),
        "remove_signal_source" => case(bench, "signal-sources/pager", Value::Null),
        "retry_letter" => case(bench, format!("letters/{letter}/retry"), Value::Null),
        "discard_letter" => case(bench, format!("letters/{letter}"), Value::Null),
        _ => None,
    }
}

async fn of_the_seal(operation: &str) -> Option<Case> {
    let mut bench = Bench::made().await;
    bench.store_says(super::seal::sealed());
    let maker = FakeMaker::new(bench.api.journal.clone(), Arc::default());
    bench.api.backups = Some(Arc::new(maker));
    match operation {
        "unseal" => case(bench, "unseal", json!({ "offer": "AAEC" })),
        "seal" => case(bench, "seal", json!({})),
        "rotate_kek" => case(bench, "rotate-kek", json!({})),
        "backup" => case(bench, "backup", Value::Null),
        _ => None,
    }
}

async fn of_people(operation: &str) -> Option<Case> {
    let bench = Bench::made().await;
    let (status, issued) = bench.post("tokens", super::tokens::wish("ci")).await;
    assert_eq!(status, 200, "{issued}");
    match operation {
        "apply_policies" => case(bench, "policies", json!({ "policies": "" })),
        "issue_token" => case(bench, "tokens", super::tokens::wish("other")),
        "revoke_token" => case(bench, "tokens/ci/revoke", why()),
        "revoke_tokens" => {
            let body = json!({ "owner": issued["issued"]["owner"], "reason": "a test" });
            case(bench, "revoke-tokens", body)
        }
        _ => None,
    }
}

/// Ada asked, and somebody else says something of it.
async fn of_approvals(operation: &str) -> Option<Case> {
    let words = [
        ("approve", "approve"),
        ("deny", "deny"),
        ("withdraw_approval", "withdraw"),
        ("break_glass", "break-glass"),
        ("review_break_glass", "review"),
    ];
    if operation == "confirm_sinks" {
        let bench = Bench::taking(&[(Operation::SinkChange, 2)]).await;
        super::approvals::hear(&bench, 1, "sha256:aa of 1 sinks: siem");
        return case(bench, "audit/confirm-sinks", why());
    }
    let (_, word) = words.into_iter().find(|(name, _)| *name == operation)?;
    let bench = Bench::taking(&[(Operation::AuditExport, 2)]).await;
    let id = bench.wants_export("ada").await;
    let ada = Peer::Operator(OperatorName::parse("ada").unwrap());
    let path = format!("approvals/{id}/{word}");
    if word == "review" {
        let broken = format!("/v1/approvals/{id}/break-glass");
        let body = body(&why());
        let (status, answer) = bench.ask_as(ada, "POST", &broken, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        return case(bench, path, why());
    }
    let (peer, body) = match word {
        "withdraw" => (ada, Value::Null),
        _ => (OPERATOR, why()),
    };
    case(bench, path, body).map(|case| Case { peer, ..case })
}

/// The rows of some operations, not looked at yet.
type Rows<'a> = std::pin::Pin<Box<dyn Future<Output = Option<Case>> + 'a>>;

async fn granted(operation: &str) -> Case {
    // Each begins only where those before it have no row.
    let each: [Rows<'_>; 9] = [
        Box::pin(of_secrets(operation)),
        Box::pin(of_rotations(operation)),
        Box::pin(of_playbooks(operation)),
        Box::pin(of_hosts(operation)),
        Box::pin(of_subscriptions(operation)),
        Box::pin(of_the_seal(operation)),
        Box::pin(of_people(operation)),
        Box::pin(of_approvals(operation)),
        Box::pin(of_others_outside(operation)),
    ];
    for rows in each {
        if let Some(found) = rows.await {
            return found;
        }
    }
    panic!("`{operation}` is in no row: how is it asked, and by whom?")
}

/// All but who logs in or out, which `logins` walks.
fn changes() -> impl Iterator<Item = &'static Route> {
    let all = ROUTES.iter().filter(|route| route.method != "get");
    all.filter(|route| !super::looks::OF_LOGINS.contains(&route.path))
}

fn filled(route: &Route) -> String {
    let path = route.path.replace("{name}", "x").replace("{id}", ID);
    path.replace("{index}", "0").replace("{size}", "0")
}

fn body(value: &Value) -> Body {
    match value {
        Value::Null => Body::empty(),
        value => Body::from(value.to_string()),
    }
}

#[tokio::test]
async fn every_change_that_is_made_is_on_record_with_who_asked_for_it() {
    for route in changes() {
        let case = granted(route.operation).await;
        let left = case.asked(route).await;
        let who = format!("{:?}", case.bench.api.access.principal(&case.peer));
        let is_its = |record: &&String| record.contains("Allowed") && record.contains(&who);
        let own = left.iter().filter(is_its).count();
        assert!(own > 0, "{} left no record: {left:?}", route.operation);
    }
    assert!(changes().count() > 25, "the route table was not read");
}

#[tokio::test]
async fn every_change_is_one_command_or_has_its_intent_and_its_outcome() {
    let mut deeds = BTreeSet::new();
    for route in changes() {
        let case = granted(route.operation).await;
        let events = case.events().await;
        let left = case.asked(route).await;
        let is_intent = |record: &&String| record.contains("reason: \"asked for");
        let intents: Vec<&String> = left.iter().filter(is_intent).collect();
        let has_events = case.events().await > events;
        // What is an event is on record in its transaction; what is none has both records.
        assert!(
            has_events || intents.len() == 1,
            "{}: {left:?}",
            route.operation
        );
        for intent in intents {
            let command = command_of(intent);
            let own: Vec<&String> = left
                .iter()
                .filter(|record| command_of(record) == command)
                .collect();
            assert_eq!(own.len(), 2, "{}: {own:?}", route.operation);
            assert!(own[1].contains("reason: \"done"), "{own:?}");
            let verb = own[1].split("verb: ").nth(1).unwrap();
            deeds.insert(verb.split(',').next().unwrap().trim_matches('"').to_owned());
        }
    }
    let all = Deed::ALL.map(|deed| deed.word().to_owned());
    let met: BTreeSet<String> = all
        .into_iter()
        // An apply tries stores; `stores` shows its records.
        .filter(|word| word != Deed::TryStore.word())
        .collect();
    assert_eq!(deeds, met);
}

#[tokio::test]
async fn with_too_few_sinks_no_deed_is_begun_that_is_new_work() {
    // What an apply tries is `stores`' to show.
    let deeds = || Deed::ALL.into_iter().filter(|deed| *deed != Deed::TryStore);
    for deed in deeds() {
        let operation = deed.word().replace('-', "_");
        let route = changes().find(|route| route.operation == operation);
        let route = route.unwrap_or_else(|| panic!("`{operation}` is no route"));
        let mut case = granted(route.operation).await;
        case.bench.api.presences = case.bench.api.presences.clone().with_min_sinks(2);
        let before = case.bench.audit().await.len();
        let (status, answer) = case.ask(route).await;
        let left = case.bench.left(before).await;
        if deed.goes_on_without_sinks() {
            assert_eq!(status, StatusCode::OK, "{operation}: {answer}");
            continue;
        }
        assert_eq!(
            status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{operation}: {answer}"
        );
        assert!(answer.contains("only 0 of the 2"), "{answer}");
        let is_refusal = left.len() == 1 && left[0].contains("status 503");
        assert!(is_refusal, "{operation}: {left:?}");
    }
    let going_on = deeds().filter(|deed| deed.goes_on_without_sinks());
    assert_eq!(going_on.count(), 4);
}

#[tokio::test]
async fn every_change_that_policies_permit_names_them_and_their_version() {
    // Until sinks are confirmed no set may be applied.
    let changes = changes().filter(|route| route.operation != "confirm_sinks");
    for route in changes {
        let case = granted(route.operation).await;
        let set = policy::Request {
            id: PolicySetId::from_bytes([4; 16]),
            expected: None,
            policies: Policies {
                text: EVERYTHING.to_owned(),
                groups: Vec::new(),
            },
            by: "unix:0".to_owned(),
        };
        let applies = Command::ApplyPolicies(set);
        case.bench.submit(Role::Gateway, applies).await;
        let left = case.asked(route).await;
        let who = format!("{:?}", case.bench.api.access.principal(&case.peer));
        let is_own =
            |record: &&String| record.contains("category: Administration") && record.contains(&who);
        let said = match route.operation {
            "revoke_token" | "revoke_tokens" => "one's own",
            _ => "everything",
        };
        let own: Vec<&String> = left.iter().filter(is_own).collect();
        // Root on the gateway's machine may replace policies whatever a set says.
        let is_named = own.iter().all(|record| {
            record.contains("policies version 1: ")
                && (record.contains(said) || record.contains("local-recovery"))
        });
        assert!(!own.is_empty() && is_named, "{}: {own:?}", route.operation);
    }
}

#[tokio::test]
async fn every_request_of_a_stranger_is_denied_on_record_and_does_nothing() {
    let bench = Bench::made().await;
    let before = bench.journal.head().await.unwrap().number;
    for route in ROUTES {
        // Each attempt is to have a record of its own.
        drop(bench.api.denials.turn());
        let records = bench.audit().await.len();
        let method = route.method.to_uppercase();
        let path = filled(route);
        let asked = bench.ask_as(STRANGER, &method, &path, Body::from("{}"));
        let (status, answer) = asked.await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{}: {answer}", route.path);
        let left = bench.audit().await.split_off(records);
        assert!(
            left.len() == 1 && left[0].contains("Denied"),
            "{}: {left:?}",
            route.path
        );
    }
    assert_eq!(bench.journal.head().await.unwrap().number, before);
}

#[tokio::test]
async fn every_change_that_is_not_understood_is_on_record_and_does_nothing() {
    let bench = Bench::made().await;
    let before = bench.journal.head().await.unwrap().number;
    let mut asked = 0;
    let with_body = || changes().filter(|route| route.body.is_some());
    // What is cut, and what a shape alone would be read from where each member has a default.
    let each = ["{\"reason\":", "[]"];
    for (route, sent) in with_body().flat_map(|route| each.map(|sent| (route, sent))) {
        let records = bench.audit().await.len();
        let (status, answer) = bench
            .ask_as(OPERATOR, "POST", &filled(route), Body::from(sent))
            .await;
        assert!(status.is_client_error(), "{} {sent}: {answer}", route.path);
        let left = bench.audit().await.split_off(records);
        let is_told = |record: &String| record.contains("Malformed") || record.contains("Rejected");
        assert!(
            left.len() == 1 && left.iter().all(is_told),
            "{} {sent}: {left:?}",
            route.path
        );
        asked += 1;
    }
    assert!(asked > 15, "the route table was not read");
    assert_eq!(bench.journal.head().await.unwrap().number, before);
}

#[tokio::test]
async fn every_change_without_a_body_whose_path_is_not_understood_is_on_record_and_does_nothing() {
    let bench = Bench::made().await;
    let before = bench.journal.head().await.unwrap().number;
    let bare = changes().filter(|route| route.body.is_none() && route.path.contains('{'));
    let mut asked = 0;
    for route in bare {
        for no_name in ["not%20a%20name", "%FF"] {
            let path = route.path.replace("{name}", no_name);
            let path = path.replace("{id}", no_name);
            let records = bench.audit().await.len();
            let method = route.method.to_uppercase();
            let asks = bench.ask_as(OPERATOR, &method, &path, Body::empty());
            let (status, answer) = asks.await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {answer}");
            let left = bench.audit().await.split_off(records);
            assert!(
                left.len() == 1 && left[0].contains("Malformed"),
                "{path}: {left:?}"
            );
            asked += 1;
        }
    }
    assert!(asked > 10, "the route table was not read");
    assert_eq!(bench.journal.head().await.unwrap().number, before);
}
