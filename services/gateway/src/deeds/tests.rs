//! What is open after some records, and what a start makes of it.

use keywheel_schemas::wire::audit_record_to_json;
use tempfile::TempDir;

use super::*;
use crate::testing::{Bench, journal_in};

/// The end of a gateway's run, and the start of the next one, over a journal on disk.
struct Real {
    deeds: Deeds,
    _dir: TempDir,
}

impl Real {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let origin = "keywheel.test/audit";
        let (journal, key) = journal_in(dir.path(), origin).await;
        let mut bench = Bench::start().await;
        bench.turn_to(journal.clone(), origin, &key).await;
        let deeds = Deeds {
            journal,
            commands: bench.api.commands.clone(),
            clock: bench.clock.clone(),
            ids: bench.api.ids.clone(),
        };
        Self { deeds, _dir: dir }
    }

    async fn note(&self, record: Record) {
        let own = CommandId::from_bytes(self.deeds.ids.draw());
        self.deeds.commands.record_as(own, record).await.unwrap();
    }

    async fn records(&self, from: u64) -> Vec<Record> {
        let leaves = self.deeds.journal.read_audit(from, MAX_READ).await.unwrap();
        let read = leaves
            .iter()
            .map(|leaf| audit_record_from_json(&leaf.bytes).unwrap());
        read.collect()
    }
}

fn record(command: u8, verb: &str, (outcome, reason): (Outcome, &str)) -> Record {
    Record {
        time: keywheel_core::time::Timestamp::from_micros(1),
        category: Category::Administration,
        principal: Principal::Operator {
            name: "ada".to_owned(),
        },
        verb: verb.to_owned(),
        object: "store-sync".to_owned(),
        version: None,
        outcome,
        reason: reason.to_owned(),
        container: None,
        command: CommandId::from_bytes([command; 16]),
        trace: String::new(),
    }
}

fn intent(command: u8, verb: &str) -> Record {
    record(command, verb, (Outcome::Allowed, "asked for because: x"))
}

/// Commands of what is open after these records, of which so many were there at the start.
fn open_of(start: u64, records: &[Record]) -> Vec<u8> {
    let mut open = Open::new(start);
    for (index, record) in (0..).zip(records) {
        open.read(&AuditLeaf {
            index,
            bytes: audit_record_to_json(record).into(),
        });
    }
    open.begun
        .keys()
        .map(|command| command.bytes()[0])
        .collect()
}

#[test]
fn what_has_an_outcome_is_closed_and_what_came_since_is_somebody_s_who_runs() {
    let done = (Outcome::Allowed, "done: sealed");
    let failed = (Outcome::Rejected, "failed: x");
    let all = [
        intent(1, "seal"),
        intent(2, "unseal"),
        record(1, "seal", done),
        intent(3, "rotate-kek"),
        record(2, "unseal", failed),
        record(4, "seal", done),
        record(5, "seal", (Outcome::Denied, "asked for")),
        intent(6, "rotate"),
        // At the gateway's machine nobody asks store-sync; those have an end of their own.
        intent(8, "begin-ca-rollover"),
        record(1, "seal", done),
        intent(7, "seal"),
    ];
    assert_eq!(open_of(9, &all), [3]);
    assert_eq!(open_of(11, &all), [3, 7]);
    assert_eq!(open_of(1, &all[..1]), [1]);
    // Its outcome may have come after the start.
    let late = [intent(1, "seal"), record(1, "seal", done)];
    assert_eq!(open_of(1, &late), [0_u8; 0]);
}

#[tokio::test]
async fn what_a_killed_gateway_left_open_is_closed_once_by_the_next_start() {
    let real = Real::start().await;
    for record in [
        intent(1, "seal"),
        intent(2, "rotate-kek"),
        record(2, "rotate-kek", (Outcome::Allowed, "done: open")),
    ] {
        real.note(record).await;
    }
    let start = real.deeds.size().await.unwrap();
    real.note(intent(3, "seal")).await;
    real.deeds.close(start).await.unwrap();
    let closed = real.records(start + 1).await;
    assert_eq!(closed.len(), 1, "{closed:?}");
    let Record {
        principal,
        category,
        verb,
        outcome,
        reason,
        command,
        ..
    } = &closed[0];
    assert_eq!((verb.as_str(), reason.as_str()), ("seal", UNKNOWN));
    assert_eq!(*principal, Principal::Service(Role::Gateway));
    assert_eq!((*category, *outcome), (Category::System, Outcome::Rejected));
    assert_eq!(*command, CommandId::from_bytes([1; 16]));
    // The start after that finds what was somebody's then, and nothing twice.
    let start = real.deeds.size().await.unwrap();
    real.deeds.close(start).await.unwrap();
    let closed = real.records(start).await;
    let commands: Vec<CommandId> = closed.iter().map(|record| record.command).collect();
    assert_eq!(commands, [CommandId::from_bytes([3; 16])]);
}
