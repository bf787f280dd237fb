//! Looks: every route answers and is on record, what is not there is named, and lists have their order.

use keywheel_core::approval;
use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::host;
use keywheel_core::id::{ApprovalId, HostId, RevocationId, SlotId};
use keywheel_core::schedule::RotationPolicy;
use keywheel_engine::command_bus::Submission;
use keywheel_schemas::api::FireView;
use keywheel_schemas::openapi::ROUTES;

use super::unanswered::{PATIENCE, leave};
use super::*;
use crate::views::Horizon;

const BINDING: &str = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: payments }\nspec:\n  secret: prod/db\n  containers: { host: web-1, image: i }\n  file: { name: f }\n";
const SCHEDULED: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: prod/db }\nspec: { store: local, generator: { length: 20 }, rotation: { interval: 1h } }\n";

/// Who logs in or out is somebody else afterwards, so these have a file of their own (`logins`). Spelt out, so that
/// a path below one of them is walked with all others.
pub(super) const OF_LOGINS: [&str; 3] = ["/v1/login", "/v1/login/device", "/v1/logout"];
/// A report leaves a second record, its seal, so these have a file of their own, too (`reports`).
const REPORTS: [&str; 4] = [
    "/v1/reports/revocations/{id}",
    "/v1/reports/rotations/{id}",
    "/v1/reports/hosts/{id}",
    "/v1/reports/playbook-runs/{id}",
];

/// A container that somebody asks about.
const EXPLAINED: &str = concat!(
    "?host=web-1&id=",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
);

impl Bench {
    pub(super) async fn submit(&self, role: Role, command: Command) {
        let submission = Submission {
            id: CommandId::from_bytes(self.api.ids.draw()),
            principal: Principal::Service(role),
            traceparent: None,
            command,
        };
        self.api.commands.submit(submission).await.unwrap();
    }

    /// A host, a secret with a binding, a rotation of it that is done and a revocation that runs.
    async fn with_one_of_each() -> (Self, RotationId, RevocationId) {
        let bench = Self::start().await;
        let host = Command::EnrolHost {
            host: HostId::from_bytes([8; 16]),
            name: HostName::parse("web-1").unwrap(),
            sealing_key: host::SealingKey::default(),
        };
        bench.submit(Role::Injector, host).await;
        bench.apply(&format!("{MANIFEST}---\n{BINDING}")).await;
        bench.work().await;
        let rotation = bench.api.view.read().rotations_newest_first()[0];
        let revoke = json!({ "secret": "prod/db", "reason": "leaked" });
        assert_eq!(bench.post("revoke", revoke).await.0, 200);
        let revocation = bench.api.view.read().revocations_newest_first()[0];
        (bench, rotation, revocation)
    }
}

impl Bench {
    /// What came since is one record of a look that ended so.
    async fn is_one_failed_look(&self, before: usize, (outcome, status): (&str, u16)) {
        let left = self.audit().await.split_off(before);
        let words = format!("answered with status {status}");
        assert!(
            left.len() == 1 && left[0].contains(outcome) && left[0].contains(&words),
            "{outcome}: {left:?}"
        );
        assert!(!left[0].contains("Allowed"), "{left:?}");
    }
}

/// A request that takes several people.
fn asks_others(id: ApprovalId) -> Command {
    Command::Approval(approval::Request::Ask(approval::Ask {
        id,
        operation: approval::Operation::PolicyChange,
        object: "policies".to_owned(),
        digest: [7; 32],
        plan: "one line more".to_owned(),
        by: "certificate:ada".to_owned(),
        reason: "bob joined".to_owned(),
        needed: 2,
    }))
}

#[tokio::test]
async fn every_look_of_the_route_table_answers_and_is_on_record() {
    every_look(None, "reason: \"root\"").await;
}

#[test]
fn whatever_is_walked_elsewhere_is_in_the_route_table() {
    for path in REPORTS.iter().chain(&OF_LOGINS) {
        let is_there = ROUTES.iter().any(|route| route.path == *path);
        assert!(is_there, "{path} is left out of the walks, and is no route");
    }
}

#[tokio::test]
async fn every_look_that_policies_permit_names_them_and_their_version() {
    let set = json!({ "policies": super::walked::EVERYTHING });
    every_look(Some(set), "policies version 1: ").await;
}

/// Asks for all there is, once this set is in force; each leaves one record that says so.
async fn every_look(set: Option<Value>, said: &str) {
    let (bench, rotation, revocation) = Bench::with_one_of_each().await;
    bench.apply(super::stores::STORE).await;
    bench.apply(&MANIFEST.replace("prod/db", "prod/api")).await;
    bench.apply(super::outward::NOTIFICATION).await;
    let siem = json!({ "name": "siem" });
    assert_eq!(bench.post("subscriptions", siem).await.0, 200);
    let run = bench.with_a_run().await;
    let approval = ApprovalId::from_bytes([6; 16]);
    bench.submit(Role::Gateway, asks_others(approval)).await;
    if let Some(set) = set {
        assert_eq!(bench.post("policies", set).await.0, 200);
    }
    let mut asked = 0;
    for (method, path, _) in routes() {
        let is_elsewhere = REPORTS.contains(&path) || OF_LOGINS.contains(&path);
        if method != Method::GET || is_elsewhere {
            continue;
        }
        let object = match path {
            "/v1/rotations/{id}" => rotation.to_string(),
            "/v1/revocations/{id}" => revocation.to_string(),
            "/v1/bindings/{*name}" => "payments".to_owned(),
            "/v1/hosts/{name}" => "web-1".to_owned(),
            "/v1/stores/{name}" => "bao".to_owned(),
            "/v1/subscriptions/{name}" => "siem".to_owned(),
            "/v1/notifications/{name}" => "soc".to_owned(),
            "/v1/audit/proofs/{index}" => "0".to_owned(),
            "/v1/audit/consistency/{size}" => "1".to_owned(),
            "/v1/playbooks/{name}" | "/v1/playbook-plan/{name}" => "ask".to_owned(),
            "/v1/playbook-runs/{id}" => run.clone(),
            "/v1/approvals/{id}" => approval.to_string(),
            _ => "prod/db".to_owned(),
        };
        let filled = path.split_once('{');
        let filled =
            filled.map_or_else(|| path.to_owned(), |(begin, _)| format!("{begin}{object}"));
        let before = bench.audit().await.len();
        let query = match path {
            "/v1/revoke-plan" => "?secret=prod/api",
            "/v1/policies/explain" => "?principal=unix:0&verb=rotate&resource=secret/prod/db",
            "/v1/explain/{*name}" => EXPLAINED,
            _ => "",
        };
        let asks = format!("{filled}{query}");
        let (status, text) = bench.ask_as(OPERATOR, "GET", &asks, Body::empty()).await;
        assert_eq!(status, StatusCode::OK, "{filled}: {text}");
        let left = bench.audit().await.split_off(before);
        let is_quiet = ["/v1/status", "/v1/store-key", "/v1/openapi.json"].contains(&path);
        assert_eq!(left.len(), usize::from(!is_quiet), "{filled}: {left:?}");
        let object = filled.strip_prefix("/v1/").unwrap();
        // Whoever came in may see these, so no policy is asked.
        let is_open = ["/v1/whoami", "/v1/seal"].contains(&path);
        let is_its = |record: &String| {
            record.contains(object)
                && (is_open || record.contains(said))
                && record.contains("Allowed")
        };
        assert!(left.iter().all(is_its), "{left:?}");
        asked += 1;
    }
    assert!(asked > 15, "the route table was not read");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_understood_is_named_and_on_record_as_that() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    for (path, part) in [
        ("secrets/no/such", "no"),
        ("schedules/no", "no"),
        ("bindings/none", "no"),
        ("nonsense", "no"),
        ("audit/proofs/99", "99"),
        ("audit/consistency/99", "cut or put back"),
        (
            "rotations/00000000-0000-0000-0000-000000000001?wait=1",
            "no",
        ),
    ] {
        let before = bench.audit().await.len();
        assert_problem(&bench.see(path).await, 404, "not_found", part);
        bench.is_one_failed_look(before, ("Rejected", 404)).await;
    }
    let wrong = [
        "secrets/UPPER",
        "rotations/x",
        "rotations/x?wait=1",
        "revocations/x",
        "approvals/x",
        "secrets/%ff",
        "consumers?nonsense=1",
        "events?limit=x",
        "audit?limit=x",
        "audit/proofs/x",
        "audit/consistency/x",
        "policies?version=x",
    ];
    for path in wrong {
        let before = bench.audit().await.len();
        assert_problem(&bench.see(path).await, 400, "invalid", "");
        bench.is_one_failed_look(before, ("Malformed", 400)).await;
    }
}

#[tokio::test]
async fn a_look_that_fails_with_us_is_on_record_as_that() {
    let bench = Bench::start().await;
    *bench.store.is_away.lock().unwrap() = true;
    assert_eq!(bench.see("seal").await.0, 503);
    bench.is_one_failed_look(0, ("Rejected", 503)).await;
}

#[tokio::test]
async fn a_look_whose_answer_nobody_waits_for_is_on_record() {
    let bench = Bench::start().await;
    bench.apply(SCHEDULED).await;
    let rotation = *bench.api.view.read().world.rotations.keys().next().unwrap();
    let before = bench.audit().await.len();
    let path = format!("rotations/{rotation}?wait=25");
    leave(bench.see(&path)).await;
    let told = async {
        while bench.audit().await.len() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    let left = bench.audit().await.split_off(before);
    assert!(
        left.len() == 1 && left[0].contains("no answer was given"),
        "{left:?}"
    );
}

/// Stands for the scheduler: says from when it counts, and as many fires as were asked for.
fn told(policy: &RotationPolicy, horizon: Horizon) -> (Vec<String>, Vec<FireView>) {
    let fire = FireView {
        at: "2026-03-29T01:00:00Z".to_owned(),
        local: "03:00".to_owned(),
        cause: "schedule".to_owned(),
        notes: Vec::new(),
    };
    let fires = match policy.is_automatic() {
        true => vec![fire; horizon.count],
        false => Vec::new(),
    };
    (vec![horizon.anchor.micros().to_string()], fires)
}

#[tokio::test]
async fn a_schedule_is_told_from_the_last_promotion_on() {
    let mut bench = Bench::start().await;
    bench.api.outlook = told;
    bench.apply(SCHEDULED).await;
    let registered = bench.api.clock.now().micros().to_string();
    let (status, first) = bench.see("schedules/prod/db").await;
    assert_eq!((status, first["secret"].as_str()), (200, Some("prod/db")));
    assert_eq!(first["rules"], json!([registered]));
    let note = first["note"].as_str().unwrap();
    assert!(note.contains("holds them back until it ends"), "{note}");
    bench.clock.advance(Duration::from_secs(60));
    bench.work().await;
    let (_, later) = bench.see("schedules/prod/db?count=100").await;
    assert_ne!(later["rules"], first["rules"]);
    assert_eq!(later["note"], Value::Null);
    let count = |answer: &Value| answer["fires"].as_array().unwrap().len();
    assert_eq!((count(&first), count(&later)), (5, 100));
    for wrong in ["count=0", "count=101", "count=x", "counts=1"] {
        let answer = bench.see(&format!("schedules/prod/db?{wrong}")).await;
        assert_problem(&answer, 400, "invalid", "");
    }
    bench.apply(MANIFEST).await;
    let (_, on_demand) = bench.see("schedules/prod/db").await;
    let note = on_demand["note"].as_str().unwrap();
    assert!(note.contains("keywheel rotate prod/db"), "{note}");
}

/// Stands for the scheduler: says what slots are served, and what now is.
fn served(_: &RotationPolicy, horizon: Horizon) -> (Vec<String>, Vec<FireView>) {
    let Horizon { after, now, .. } = horizon;
    (
        vec![after.micros().to_string(), now.micros().to_string()],
        Vec::new(),
    )
}

#[tokio::test]
async fn a_schedule_is_told_from_the_last_slot_that_was_served() {
    let mut bench = Bench::start().await;
    bench.api.outlook = served;
    bench.apply(SCHEDULED).await;
    bench.work().await;
    let ended = bench.api.clock.now().micros().to_string();
    bench.clock.advance(Duration::from_secs(7_200));
    let now = bench.api.clock.now().micros().to_string();
    let (_, told) = bench.see("schedules/prod/db").await;
    assert_eq!(told["rules"], json!([ended, now]));
}

#[tokio::test]
async fn one_wait_is_one_record_though_it_is_asked_for_again() {
    let (bench, rotation, _) = Bench::with_one_of_each().await;
    let path = format!("rotations/{rotation}?wait=1");
    let before = bench.audit().await.len();
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    assert_eq!(
        bench.see(&path).await.0,
        503,
        "it is on record or not given"
    );
    for _ in 0..3 {
        assert_eq!(bench.see(&path).await.0, 200);
    }
    assert_eq!(bench.audit().await.len(), before + 1);
    bench.see(&format!("rotations/{rotation}")).await;
    assert_eq!(bench.audit().await.len(), before + 2);
}

#[tokio::test]
async fn a_wait_ends_with_its_rotation_and_shows_how() {
    let bench = Bench::start().await;
    bench.apply(SCHEDULED).await;
    let rotation = *bench.api.view.read().world.rotations.keys().next().unwrap();
    let path = format!("rotations/{rotation}?wait=25");
    assert_ne!(
        bench.see(&format!("rotations/{rotation}")).await.1["state"],
        "completed"
    );
    let ((status, shown), ()) = tokio::join!(bench.see(&path), bench.work());
    assert_eq!(status, 200);
    assert_eq!(shown["state"], "completed");
}

/// The id of a slot's rotation is a hash: it may be lower or higher than any other.
#[tokio::test]
async fn the_newest_rotation_is_first_whatever_its_id() {
    let bench = Bench::start().await;
    bench.apply(SCHEDULED).await;
    bench.work().await;
    let secret = *bench.api.view.read().world.secrets.keys().next().unwrap();
    for (hour, byte) in [(1, 0xff), (2, 0), (3, 0x80)] {
        bench.clock.advance(Duration::from_secs(3600));
        let rotation = RotationId::from_bytes([byte; 16]);
        let due = Command::Due {
            rotation,
            secret,
            slot: SlotId::from_bytes([hour; 16]),
            scheduled: bench.api.clock.now(),
            after: None,
            tzdata: None,
        };
        bench.submit(Role::Scheduler, due).await;
        bench.work().await;
        let (_, rotations) = bench.see("rotations").await;
        assert_eq!(rotations[0]["rotation_id"], rotation.to_string());
        assert_eq!(rotations.as_array().unwrap().len(), usize::from(hour) + 1);
    }
}

#[tokio::test]
async fn verify_finds_a_state_that_is_not_what_the_log_says() {
    let mut bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    let (_, report) = bench.see("journal/verify").await;
    assert_eq!(report["verified"], true, "{report}");
    assert_eq!(report["replayed"], report["events"]);
    // Logs that are whole in themselves, and of which the state is not the fold.
    let (other, empty) = (Bench::start().await, Bench::start().await);
    other.apply(&MANIFEST.replace("prod/db", "prod/web")).await;
    let secret = *bench.api.view.read().world.secrets.keys().next().unwrap();
    for (log, words) in [
        (
            &other,
            format!("replay: secret {secret} is not what the log says"),
        ),
        (&empty, "replay: the log ends at event 0".to_owned()),
    ] {
        bench.api.journal = log.journal.clone();
        let request = bench.ask_as(OPERATOR, "GET", "/v1/journal/verify", Body::empty());
        let report: Value = serde_json::from_str(&request.await.1).unwrap();
        let fault = report["faults"][0].as_str().unwrap();
        assert!(fault.contains(&words), "{fault}");
        assert_eq!(report["verified"], false);
    }
}
