//! Evidence of runs over a real journal: what is answered is signed, in the audit's tree, whole, and of that run alone.

use std::collections::BTreeSet;

use keywheel_core::audit::{Record, Role};
use keywheel_core::command::Command;
use keywheel_core::effect::Work;
use keywheel_core::id::{CommandId, ContainerId, HostId};
use keywheel_core::report::{Fact, HostReport, Item};
use keywheel_journal::checkpoint::Checkpoint;
use keywheel_journal::evidence::{Seal, verify_event};
use keywheel_journal::merkle;
use keywheel_schemas::api::EvidenceReport;
use keywheel_schemas::event;
use keywheel_schemas::leaf::Octets;
use keywheel_schemas::mirror::TextForm as _;
use keywheel_schemas::wire::audit_record_from_json;
use keywheel_seal::sign::VerifyingKey;
use tempfile::TempDir;

use super::*;
use crate::testing::journal_in;

const ORIGIN: &str = "keywheel.test/reports";
pub(super) const HOST: HostId = HostId::from_bytes([6; 16]);
const BINDING: &str = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: prod/db\n  containers: { labels: { app: web }, insecureSelector: true }\n  file: { name: db }\n  reload: none\n";

const REPLACE: &str = "apiVersion: keywheel.dev/v1\nkind: Playbook\nmetadata: { name: replace }\nspec:\n  parameters: [{ name: secret }]\n  steps:\n    - { name: replace, rotate: { secrets: [\"${secret}\"] } }\n    - { name: converge, wait: {} }\n    - { name: revoke, revoke: { secrets: [\"${secret}\"], versions: alive } }\n    - { name: prove, prove: {} }\n";

/// A gateway over a journal on disk.
pub(super) struct Real {
    pub(super) bench: Bench,
    key: VerifyingKey,
    _dir: TempDir,
}

impl Real {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, key) = journal_in(dir.path(), ORIGIN).await;
        let mut bench = Bench::start().await;
        bench.turn_to(journal, ORIGIN, &key).await;
        Self {
            bench,
            key,
            _dir: dir,
        }
    }

    /// Answers whatever waits with success, until nothing does.
    async fn work(&self) {
        let open = || self.bench.api.journal.open_effects();
        while let Some(open) = open().await.unwrap().into_iter().next() {
            self.bench.clock.advance(Duration::from_millis(10));
            let outcome = match open.effect.work {
                Work::Step(work) => Command::StepOutcome {
                    rotation: work.rotation,
                    step: work.step,
                    attempt: work.attempt,
                    failure: None,
                    is_away: false,
                    remote: None,
                    sessions: None,
                },
                Work::Revoke(work) => Command::RevokeOutcome {
                    revocation: work.revocation,
                    attempt: work.attempt,
                    failure: None,
                },
            };
            self.bench.submit(Role::StoreSync, outcome).await;
        }
    }

    /// The host says what became of its two containers, and what it holds.
    async fn tell(&self, fact: &Fact, held: Option<u64>) {
        self.bench.clock.advance(Duration::from_millis(10));
        let report = {
            let committed = self.bench.api.view.read();
            let world = &committed.world;
            let binding = world.bindings.values().next().unwrap();
            let secret = binding.spec.as_ref().unwrap().secret;
            let ids = ["c", "d"].map(|digit| ContainerId::parse(&digit.repeat(64)).unwrap());
            let item = |id: &ContainerId| Item {
                container: id.clone(),
                container_name: "<i>web</i>".to_owned(),
                image_digest: "sha256:1".to_owned(),
                binding: binding.id,
                secret,
                fact: fact.clone(),
                service: String::new(),
            };
            HostReport {
                generation: world.host_generation(HOST),
                items: ids.iter().map(item).collect(),
                holds: held.into_iter().map(|version| (secret, version)).collect(),
                complete: true,
                containers: ids.to_vec(),
                ..HostReport::empty(HOST)
            }
        };
        let told = Command::Report(report);
        self.bench.submit(Role::Injector, told).await;
    }

    /// Two containers that run on version 1, and a secret beside theirs.
    pub(super) async fn serve(&self) {
        let enrol = Command::EnrolHost {
            host: HOST,
            name: HostName::parse("web-1").unwrap(),
            sealing_key: [1; 32],
        };
        self.bench.submit(Role::Injector, enrol).await;
        let (status, said) = self.bench.apply(&format!("{MANIFEST}---\n{BINDING}")).await;
        assert_eq!(status, 200, "{said}");
        let other = MANIFEST.replace("prod/db", "prod/api");
        assert_eq!(self.bench.apply(&other).await.0, 200);
        self.work().await;
        let at = self.bench.api.clock.now();
        self.tell(&Fact::Swapped { version: 1, at }, Some(1)).await;
    }

    async fn revoke(&self, name: &str) -> String {
        self.bench.clock.advance(Duration::from_millis(10));
        let wish = json!({ "secret": name, "reason": "found on a wiki" });
        let (status, begun) = self.bench.post("revoke", wish).await;
        assert_eq!(status, 200, "{begun}");
        begun["revocation_id"].as_str().unwrap().to_owned()
    }

    async fn report(&self, of: &str) -> EvidenceReport {
        let (status, said) = self.bench.see(&format!("reports/{of}")).await;
        assert_eq!(status, 200, "{said}");
        serde_json::from_value(said).unwrap()
    }

    /// Everything in it is signed, in the tree, in order and under the seal; gives the types of its events.
    fn assert_proven(&self, report: &EvidenceReport) -> Vec<String> {
        let signed = Checkpoint::verify(&report.checkpoint, ORIGIN, &self.key).unwrap();
        let mut seal = Seal::new(&report.kind, &report.id);
        let (mut types, mut last) = (Vec::new(), 0);
        for one in &report.events {
            let (meta, event) = event::decode(one.event.as_bytes()).unwrap();
            let signature = Octets::<64>::parse_text(&one.signature).unwrap().0;
            let signature = signature.try_into().unwrap();
            let bytes = one.event.as_bytes();
            let hash = verify_event(&self.key, &meta.previous_hash, bytes, signature).unwrap();
            assert!(meta.number > last, "event {} is out of order", meta.number);
            last = meta.number;
            seal.event(meta.number, &hash);
            types.push(event::type_name(&event).to_owned());
        }
        let (sealing, records) = report.records.split_last().unwrap();
        for one in &report.records {
            let leaf = merkle::leaf_hash(one.record.as_bytes());
            let path: Vec<merkle::Hash> = one.path.iter().map(|hash| hash_of(hash)).collect();
            let (size, root) = (signed.size, &signed.root);
            let holds = merkle::verify_inclusion(&leaf, one.index, size, &path, root);
            assert!(holds, "record {} is not in the tree", one.index);
        }
        for one in records {
            seal.record(one.index, &merkle::leaf_hash(one.record.as_bytes()));
        }
        let sealed = audit_record_from_json(sealing.record.as_bytes()).unwrap();
        assert_eq!(
            (sealed.verb.as_str(), sealed.reason),
            ("seal-report", seal.words())
        );
        assert_eq!(sealed.object, format!("{}/{}", report.kind, report.id));
        types
    }
}

fn hash_of(text: &str) -> merkle::Hash {
    let digit = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    std::array::from_fn(digit)
}

fn count(types: &[String], kind: &str) -> usize {
    let name = format!("dev.keywheel.{kind}.v1");
    types.iter().filter(|one| **one == name).count()
}

/// Verbs of the audit records, but for the seal's.
fn verbs(report: &EvidenceReport) -> Vec<String> {
    let (_, records) = report.records.split_last().unwrap();
    let read = |one: &keywheel_schemas::api::ProvenRecord| {
        audit_record_from_json(one.record.as_bytes()).unwrap().verb
    };
    records.iter().map(read).collect()
}

#[tokio::test]
async fn a_revocation_s_evidence_is_signed_proven_whole_and_of_nothing_else() {
    let real = Real::start().await;
    real.serve().await;
    let other = real.revoke("prod/api").await;
    let id = real.revoke("prod/db").await;
    real.tell(&Fact::Withdrawn, None).await;
    real.work().await;
    let of = format!("revocations/{id}");
    let (_, view) = real.bench.see(&of).await;
    assert_eq!(view["state"], "closed", "{view}");
    let report = real.report(&of).await;
    let types = real.assert_proven(&report);
    for (kind, many) in [
        ("revocation.requested", 1),
        ("revocation.withdrawn_everywhere", 1),
        ("revocation.closed", 1),
        ("secret.registered", 1),
        ("secret.version_revoked", 1),
        ("assignment.assigned", 2),
        ("assignment.swapped", 2),
        ("assignment.withdrawn", 2),
        ("host.enrolled", 1),
        ("binding.bound", 1),
    ] {
        assert_eq!(count(&types, kind), many, "{kind}: {types:#?}");
    }
    assert!(report.events.iter().all(|one| !one.event.contains(&other)));
    let said = verbs(&report);
    assert_eq!(
        said.iter().filter(|verb| *verb == "revoke").count(),
        1,
        "{said:?}"
    );
    assert_eq!(
        said.iter().filter(|verb| *verb == "remove").count(),
        2,
        "{said:?}"
    );
    assert!(
        report
            .records
            .iter()
            .any(|one| one.record.contains("found on a wiki"))
    );
    let again = real.report(&of).await;
    real.assert_proven(&again);
    assert_eq!(again.events, report.events, "the run had ended");
    assert_eq!(again.records.len(), report.records.len());
}

#[tokio::test]
async fn who_was_refused_meanwhile_is_in_it() {
    let real = Real::start().await;
    real.serve().await;
    let id = real.revoke("prod/db").await;
    for status in [200, 409] {
        // The same principal twice: the second word is none.
        let path = format!("revocations/{id}/forget");
        let said = real
            .bench
            .post(&path, json!({ "reason": "switched off" }))
            .await;
        assert_eq!(said.0, status, "{}", said.1);
    }
    let report = real.report(&format!("revocations/{id}")).await;
    let types = real.assert_proven(&report);
    assert_eq!(count(&types, "revocation.forget_asked"), 1);
    let words = verbs(&report);
    let forgets = words.iter().filter(|verb| *verb == "forget-revocation");
    assert_eq!(forgets.count(), 2, "{words:?}");
    let refused = |one: &keywheel_schemas::api::ProvenRecord| one.record.contains("\"rejected\"");
    assert_eq!(report.records.iter().filter(|one| refused(one)).count(), 1);
}

#[tokio::test]
async fn a_rotation_and_an_eviction_have_theirs() {
    let real = Real::start().await;
    real.serve().await;
    let (status, begun) = real
        .bench
        .post("rotate", json!({ "secret": "prod/db" }))
        .await;
    assert_eq!(status, 200, "{begun}");
    real.work().await;
    let at = real.bench.api.clock.now();
    real.tell(&Fact::Swapped { version: 2, at }, Some(2)).await;
    real.work().await;
    let id = begun["rotation_id"].as_str().unwrap();
    let report = real.report(&format!("rotations/{id}")).await;
    let types = real.assert_proven(&report);
    for (kind, many) in [
        ("rotation.started", 1),
        ("rotation.consumer_acknowledged", 2),
        ("rotation.closed", 1),
        ("assignment.swapped", 4),
        // The one before it, too: that dies.
        ("secret.version_promoted", 2),
        ("secret.version_revoked", 1),
    ] {
        assert_eq!(count(&types, kind), many, "{kind}: {types:#?}");
    }
    assert!(verbs(&report).contains(&"rotate".to_owned()));
    let missing = real.bench.see(&format!("reports/hosts/{HOST}")).await;
    assert_problem(&missing, 404, "not_found", "was ever evicted");
    let wish = json!({ "reason": "stolen" });
    let (status, said) = real.bench.post("hosts/web-1/evict", wish).await;
    assert_eq!(status, 200, "{said}");
    let report = real.report(&format!("hosts/{HOST}")).await;
    let types = real.assert_proven(&report);
    for (kind, many) in [
        ("host.enrolled", 1),
        ("host.evicted", 1),
        ("secret.delivered", 1),
        ("assignment.vanished", 2),
    ] {
        assert_eq!(count(&types, kind), many, "{kind}: {types:#?}");
    }
    assert!(verbs(&report).contains(&"evict".to_owned()));
    // What it held dies by a revocation: whether its store said so is in it, too, and of another secret's nothing.
    real.revoke("prod/api").await;
    real.revoke("prod/db").await;
    real.work().await;
    let report = real.report(&format!("hosts/{HOST}")).await;
    let types = real.assert_proven(&report);
    for kind in ["revocation.requested", "revocation.backend_confirmed"] {
        assert_eq!(count(&types, kind), 1, "{kind}: {types:#?}");
    }
}

#[tokio::test]
async fn a_playbook_run_s_evidence_is_all_that_its_steps_began_and_of_no_other_run() {
    let real = Real::start().await;
    real.serve().await;
    let (status, said) = real.bench.apply(REPLACE).await;
    assert_eq!(status, 200, "{said}");
    // Another run of the same playbook at the same time, on another secret.
    let other = real
        .bench
        .run("replace", json!({ "secret": "prod/api" }))
        .await;
    let id = real
        .bench
        .run("replace", json!({ "secret": "prod/db" }))
        .await;
    real.bench.until_step(&id, "replace", "completed").await;
    real.work().await;
    let at = real.bench.api.clock.now();
    real.tell(&Fact::Swapped { version: 2, at }, Some(2)).await;
    real.work().await;
    real.bench.until_step(&id, "revoke", "completed").await;
    let of = format!("playbook-runs/{id}");
    let begun = real.report(&of).await;
    let types = real.assert_proven(&begun);
    assert_eq!(count(&types, "revocation.requested"), 1, "{types:#?}");
    assert_eq!(count(&types, "revocation.closed"), 0, "{types:#?}");
    real.tell(&Fact::Withdrawn, None).await;
    real.work().await;
    let ended = real.bench.until_end(&id).await;
    assert_eq!(ended["state"], "completed", "{ended}");
    let report = real.report(&of).await;
    assert_eq!((report.kind.as_str(), &report.id), ("playbook-run", &id));
    let types = real.assert_proven(&report);
    for (kind, many) in [
        ("playbook_run.triggered", 1),
        ("playbook_run.acted", 2),
        ("playbook_run.completed", 1),
        ("rotation.started", 1),
        ("rotation.consumer_acknowledged", 2),
        ("rotation.closed", 1),
        ("revocation.requested", 1),
        ("revocation.closed", 1),
        ("secret.registered", 1),
        ("secret.version_revoked", 2),
        ("assignment.swapped", 4),
        ("assignment.withdrawn", 2),
        ("host.enrolled", 1),
        ("binding.bound", 1),
    ] {
        assert_eq!(count(&types, kind), many, "{kind}: {types:#?}");
    }
    let said = verbs(&report);
    assert_eq!(
        said.iter().filter(|verb| *verb == "run-playbook").count(),
        1,
        "{said:?}"
    );
    assert!(said.contains(&"advance-playbook".to_owned()), "{said:?}");
    assert!(!report.events.iter().any(|one| one.event.contains(&other)));
    let foreign = |one: &keywheel_schemas::api::ProvenRecord| one.record.contains(&other);
    assert!(!report.records.iter().any(foreign));
    let missing = "00000000-0000-0000-0000-000000000001";
    let answer = real
        .bench
        .see(&format!("reports/playbook-runs/{missing}"))
        .await;
    assert_problem(&answer, 404, "not_found", "keywheel playbook runs");
}

#[tokio::test]
async fn what_is_not_there_is_named_and_leaves_no_seal() {
    let real = Real::start().await;
    let unknown = "00000000-0000-0000-0000-000000000001";
    for kind in ["revocation", "rotation"] {
        let answer = real.bench.see(&format!("reports/{kind}s/{unknown}")).await;
        assert_problem(&answer, 404, "not_found", kind);
        let answer = real.bench.see(&format!("reports/{kind}s/x")).await;
        assert_problem(&answer, 400, "invalid", "is not an id");
    }
    let leaves = real.bench.api.journal.read_audit(0, 100).await.unwrap();
    let sealed = |leaf: &keywheel_engine::port::journal::AuditLeaf| {
        String::from_utf8_lossy(&leaf.bytes).contains("\"verb\":\"seal-report\"")
    };
    assert!(!leaves.iter().any(sealed));
}

/// Verbs of the records that a query finds, which are all of one trace.
async fn found_by(real: &Real, query: &str) -> Vec<String> {
    let path = format!("/v1/audit?{query}");
    let listed = real.bench.send(("GET", &path), &[], Body::empty()).await;
    assert_eq!(listed.status(), 200, "{query}");
    let text = text_of(listed).await;
    let records = text
        .lines()
        .map(|line| audit_record_from_json(line.as_bytes()).unwrap());
    let (traces, verbs): (BTreeSet<String>, Vec<String>) =
        records.map(|record| (record.trace, record.verb)).unzip();
    assert_eq!(traces.len(), 1, "{query}: {text}");
    verbs
}

#[tokio::test]
async fn the_records_of_a_rotation_a_revocation_and_a_run_are_found_by_its_id() {
    let real = Real::start().await;
    real.serve().await;
    assert_eq!(real.bench.apply(REPLACE).await.0, 200);
    let run = real
        .bench
        .run("replace", json!({ "secret": "prod/api" }))
        .await;
    let wish = json!({ "secret": "prod/db" });
    let (status, begun) = real.bench.post("rotate", wish).await;
    assert_eq!(status, 200, "{begun}");
    let rotation = begun["rotation_id"].as_str().unwrap().to_owned();
    real.work().await;
    let revocation = real.revoke("prod/db").await;
    real.work().await;
    for (query, own) in [
        (format!("rotation={rotation}"), "rotate"),
        (format!("revocation={revocation}"), "revoke"),
        (format!("run={run}"), "run-playbook"),
    ] {
        let verbs = found_by(&real, &query).await;
        let asked = ["rotate", "revoke", "run-playbook"];
        let of_people: Vec<&String> = verbs
            .iter()
            .filter(|verb| asked.contains(&verb.as_str()))
            .collect();
        assert_eq!(of_people, [own], "{query}: {verbs:?}");
    }
    // All that is asked for has to fit.
    let both = format!("/v1/audit?rotation={rotation}&revocation={revocation}");
    let listed = real.bench.send(("GET", &both), &[], Body::empty()).await;
    assert_eq!(text_of(listed).await, "");
}

#[tokio::test]
async fn a_run_whose_records_were_removed_has_no_report_and_a_later_one_has() {
    let real = Real::start().await;
    real.serve().await;
    let old = real.revoke("prod/api").await;
    real.work().await;
    let journal = &real.bench.api.journal;
    let first = journal.read_audit(0, 1).await.unwrap().remove(0);
    let like = audit_record_from_json(&first.bytes).unwrap();
    while journal.head().await.unwrap().audit_size <= 256 {
        let record = Record {
            time: real.bench.api.clock.now(),
            command: CommandId::from_bytes(real.bench.api.ids.draw()),
            ..like.clone()
        };
        real.bench.api.commands.record(record).await.unwrap();
    }
    assert_eq!(journal.remove_audit(256).await.unwrap(), 256);
    let refused = real.bench.see(&format!("reports/revocations/{old}")).await;
    assert_problem(&refused, 404, "not_found", "before audit record 256");
    real.bench.clock.advance(Duration::from_millis(10));
    let new = real.revoke("prod/db").await;
    let report = real.report(&format!("revocations/{new}")).await;
    real.assert_proven(&report);
}
