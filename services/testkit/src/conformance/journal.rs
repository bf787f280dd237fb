//! What every journal has to keep: the laws of `port::journal`, one function each.
//!
//! Owns the sample decisions and a tree by the recursive definition of RFC 9162, as an oracle for
//! the adapters' own. What a fake cannot show (durability, damage, full disks) each adapter's tests do.

use std::future::Future;
use std::sync::Arc;

use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::decision::RejectionKind;
use keywheel_core::effect::{Effect, Part, RevokeWork, StepWork, Work};
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, EventId, RevocationId, RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::rotation::Step;
use keywheel_core::secret;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::journal::{
    AuditLeaf, Class, Decision, Journal, MAX_READ, REMOVAL_UNIT, RecordedEvent, Verdict,
};
use keywheel_seal::digest::sha256;

/// Context of the signature over an event's chain hash.
pub const EVENT_CONTEXT: &str = "keywheel/journal/event/v1";

/// Runs every case, each on a journal that `fresh` opens empty.
///
/// # Panics
/// When a law is broken.
pub async fn check<F, R>(fresh: F)
where
    F: Fn() -> R,
    R: Future<Output = Arc<dyn Journal>>,
{
    an_empty_log_says_so(&*fresh().await).await;
    appended_events_are_read_back(&*fresh().await).await;
    the_chain_hash_covers_every_byte(&*fresh().await).await;
    a_wrong_first_number_changes_nothing(&*fresh().await).await;
    a_command_is_answered_once(&*fresh().await).await;
    a_batch_is_all_or_nothing(&*fresh().await).await;
    every_verdict_is_kept(&*fresh().await).await;
    effects_stay_open_until_closed(&*fresh().await).await;
    an_open_effect_keeps_the_trace_it_was_asked_in(&*fresh().await).await;
    an_effect_is_asked_for_once(&*fresh().await).await;
    audit_records_are_leaves_of_the_tree(&*fresh().await).await;
    proofs_outside_the_tree_are_not_found(&*fresh().await).await;
    reads_are_bounded(&*fresh().await).await;
    old_records_leave_and_every_proof_stays(&*fresh().await).await;
    of_two_writers_one_wins(fresh().await).await;
    a_large_batch_is_one_append(&*fresh().await).await;
}

/// The n-th sample decision: one event, one audit record. Its ids are derived from `n`.
#[must_use]
pub fn decision(n: u64) -> Decision {
    let event = Event::Secret(
        SecretId::from_bytes(id(1, n % 7)),
        secret::Event::VersionPromoted { version: n },
    );
    Decision {
        command: CommandId::from_bytes(id(2, n)),
        class: Class::Work,
        time: Timestamp::from_micros(1_800_000_000_000_000 + i64::try_from(n).unwrap()),
        traceparent: None,
        events: vec![(EventId::from_bytes(id(3, n)), event)],
        effects: Vec::new(),
        closes: Vec::new(),
        audit: vec![record(n)],
        verdict: Verdict::Accepted { number: n },
    }
}

/// The n-th sample effect.
#[must_use]
pub fn effect(n: u64) -> Effect {
    let secret = SecretId::from_bytes(id(1, n));
    let work = if n.is_multiple_of(2) {
        Work::Step(StepWork {
            rotation: RotationId::from_bytes(id(4, n)),
            secret,
            step: Step::Create,
            attempt: 1,
            versions: vec![n],
            generator: Some(secret::Generator::default()),
            provided: false,
            outside: None,
            resource: None,
            mark: None,
        })
    } else {
        Work::Revoke(RevokeWork {
            revocation: RevocationId::from_bytes(id(5, n)),
            secret,
            versions: vec![1, n],
            attempt: 2,
            outside: None,
            resource: None,
            part: Part::Whole,
            is_emergency: false,
        })
    };
    Effect { work }
}

/// Sixteen bytes of an id: its sort, and a number.
#[must_use]
pub fn id(sort: u8, n: u64) -> [u8; 16] {
    let mut bytes = [sort; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// Root of a tree over leaves, by the recursive definition.
#[must_use]
pub fn tree_root(leaves: &[Vec<u8>]) -> [u8; 32] {
    match leaves {
        [] => sha256(b""),
        [leaf] => sha256(&[&[0], leaf.as_slice()].concat()),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            sha256(&[&[1][..], &tree_root(left), &tree_root(right)].concat())
        }
    }
}

/// Inclusion proof of a leaf, by the recursive definition.
#[must_use]
pub fn tree_path(index: usize, leaves: &[Vec<u8>]) -> Vec<[u8; 32]> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if index < middle {
        (tree_path(index, left), tree_root(right))
    } else {
        (tree_path(index - middle, right), tree_root(left))
    };
    path.push(sibling);
    path
}

/// Consistency proof between the first leaves and all of them, by the recursive definition (RFC 9162 §2.1.4.1).
#[must_use]
pub fn tree_continuation(old: usize, leaves: &[Vec<u8>]) -> Vec<[u8; 32]> {
    match old {
        0 => Vec::new(),
        _ => continuation(old, leaves, true),
    }
}

fn continuation(old: usize, leaves: &[Vec<u8>], is_known: bool) -> Vec<[u8; 32]> {
    if old == leaves.len() {
        return match is_known {
            true => Vec::new(),
            false => vec![tree_root(leaves)],
        };
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if old <= middle {
        (continuation(old, left, is_known), tree_root(right))
    } else {
        (continuation(old - middle, right, false), tree_root(left))
    };
    path.push(sibling);
    path
}

/// The largest power of two below a length of at least 2.
fn split(length: usize) -> usize {
    length.next_power_of_two() / 2
}

fn record(n: u64) -> Record {
    Record {
        time: Timestamp::from_micros(1_800_000_000_000_000),
        category: Category::Administration,
        principal: Principal::Service(Role::Scheduler),
        verb: "rotate".to_owned(),
        object: format!("secret/sample-{n}"),
        version: Some(n),
        outcome: Outcome::Allowed,
        reason: "sample".to_owned(),
        container: None,
        command: CommandId::from_bytes(id(2, n)),
        trace: String::new(),
    }
}

/// What a reader sees, to be compared before and after something that must change nothing.
async fn picture(journal: &dyn Journal) -> String {
    let head = journal.head().await.unwrap();
    let events = journal.read(0, MAX_READ).await.unwrap();
    let effects = journal.open_effects().await.unwrap();
    let audit = journal.read_audit(0, MAX_READ).await.unwrap();
    format!("{head:?} {events:?} {effects:?} {audit:?}")
}

async fn refused_as(journal: &dyn Journal, kind: ErrorKind, first: u64, decisions: &[Decision]) {
    let before = picture(journal).await;
    let error = journal
        .append(first, decisions)
        .await
        .err()
        .map(|error| error.kind);
    assert_eq!(error, Some(kind));
    assert_eq!(
        picture(journal).await,
        before,
        "a refused append changed something"
    );
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}

async fn an_empty_log_says_so(journal: &dyn Journal) {
    let head = journal.head().await.unwrap();
    assert_eq!((head.number, head.hash, head.audit_size), (0, [0; 32], 0));
    assert_eq!(head.audit_root, sha256(b""));
    assert_eq!(head.checkpoint.lines().nth(1), Some("0"));
    assert!(journal.read(0, 10).await.unwrap().is_empty());
    assert!(journal.read_audit(0, 10).await.unwrap().is_empty());
    assert!(journal.open_effects().await.unwrap().is_empty());
    assert_eq!(
        journal
            .verdict(CommandId::from_bytes(id(2, 1)))
            .await
            .unwrap(),
        None
    );
    assert!(journal.append(1, &[]).await.unwrap().is_empty());
    let verification = journal.verify().await.unwrap();
    assert_eq!(
        (
            verification.events,
            verification.audit_records,
            verification.faults.len()
        ),
        (0, 0, 0)
    );
}

async fn appended_events_are_read_back(journal: &dyn Journal) {
    let mut wanted: Vec<RecordedEvent> = Vec::new();
    for n in 1..=5 {
        let mut decision = decision(n);
        let name = SecretName::parse("prod/db").unwrap();
        let registered = secret::Event::Registered {
            name,
            spec: secret::Spec::default(),
        };
        let event = Event::Secret(SecretId::from_bytes(id(1, 100 + n)), registered);
        decision
            .events
            .push((EventId::from_bytes(id(3, 100 + n)), event));
        decision.traceparent =
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        let recorded = journal
            .append(2 * n - 1, std::slice::from_ref(&decision))
            .await
            .unwrap();
        for (stored, (id, event)) in recorded.iter().zip(&decision.events) {
            assert_eq!(
                (stored.id, &stored.event, stored.time),
                (*id, event, decision.time)
            );
        }
        wanted.extend(recorded);
    }
    let numbers: Vec<u64> = wanted.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    assert_eq!(journal.read(0, MAX_READ).await.unwrap(), wanted);
    assert_eq!(journal.read(3, 4).await.unwrap(), wanted[3..7]);
    assert!(journal.read(10, 4).await.unwrap().is_empty());
    assert!(journal.read(u64::MAX, 4).await.unwrap().is_empty());
    let head = journal.head().await.unwrap();
    assert_eq!((head.number, head.hash), (10, wanted[9].hash));
}

async fn the_chain_hash_covers_every_byte(journal: &dyn Journal) {
    journal
        .append(1, &[decision(1), decision(2), decision(3)])
        .await
        .unwrap();
    let mut previous = [0; 32];
    for event in journal.read(0, 10).await.unwrap() {
        assert_eq!(
            event.hash,
            sha256(&[&previous[..], &event.bytes].concat()),
            "event {}",
            event.number
        );
        previous = event.hash;
    }
    assert_eq!(journal.head().await.unwrap().hash, previous);
}

async fn a_wrong_first_number_changes_nothing(journal: &dyn Journal) {
    refused_as(journal, ErrorKind::Conflict, 2, &[decision(1)]).await;
    journal
        .append(1, &[decision(1), decision(2)])
        .await
        .unwrap();
    for first in [0, 1, 2, 4, u64::MAX] {
        refused_as(journal, ErrorKind::Conflict, first, &[decision(9)]).await;
    }
    assert_eq!(
        journal.append(3, &[decision(3)]).await.unwrap()[0].number,
        3
    );
}

async fn a_command_is_answered_once(journal: &dyn Journal) {
    journal.append(1, &[decision(1)]).await.unwrap();
    let mut again = decision(2);
    again.command = decision(1).command;
    refused_as(
        journal,
        ErrorKind::Conflict,
        2,
        std::slice::from_ref(&again),
    )
    .await;
    let mut twin = decision(3);
    twin.command = decision(4).command;
    refused_as(journal, ErrorKind::Conflict, 2, &[decision(4), twin]).await;
    assert_eq!(journal.verdict(decision(4).command).await.unwrap(), None);
    assert_eq!(
        journal.verdict(decision(1).command).await.unwrap(),
        Some(Verdict::Accepted { number: 1 })
    );
}

async fn a_batch_is_all_or_nothing(journal: &dyn Journal) {
    journal.append(1, &[decision(1)]).await.unwrap();
    let mut first = decision(2);
    first.effects.push(effect(2));
    let mut broken = decision(3);
    broken.events[0].0 = decision(1).events[0].0;
    refused_as(journal, ErrorKind::Conflict, 2, &[first.clone(), broken]).await;
    assert_eq!(journal.verdict(first.command).await.unwrap(), None);
    assert_eq!(
        journal
            .append(2, &[first, decision(3)])
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(journal.head().await.unwrap().audit_size, 3);
}

async fn every_verdict_is_kept(journal: &dyn Journal) {
    let rejected = |kind| Verdict::Rejected {
        kind,
        text: format!("no: {kind:?} \"quoted\" ü"),
    };
    let verdicts = [
        Verdict::Accepted { number: 0 },
        rejected(RejectionKind::NotFound),
        rejected(RejectionKind::Conflict),
        rejected(RejectionKind::Invalid),
    ];
    for (n, verdict) in (1..).zip(&verdicts) {
        let answer = Decision {
            events: Vec::new(),
            verdict: verdict.clone(),
            ..decision(n)
        };
        assert!(journal.append(1, &[answer]).await.unwrap().is_empty());
    }
    for (n, verdict) in (1..).zip(&verdicts) {
        assert_eq!(
            journal.verdict(decision(n).command).await.unwrap().as_ref(),
            Some(verdict)
        );
    }
    let head = journal.head().await.unwrap();
    assert_eq!((head.number, head.audit_size), (0, 4));
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}

/// Effects that wait for an answer.
pub async fn waiting(journal: &dyn Journal) -> Vec<Effect> {
    let open = journal.open_effects().await.unwrap();
    open.into_iter().map(|open| open.effect).collect()
}

async fn an_open_effect_keeps_the_trace_it_was_asked_in(journal: &dyn Journal) {
    let trace = |n: u64| format!("00-{n:032x}-{n:016x}-01");
    let asked = |n: u64, traceparent| {
        let mut asking = decision(n);
        asking.effects = vec![effect(n)];
        asking.traceparent = traceparent;
        asking
    };
    let batch = [asked(1, Some(trace(1))), asked(2, None)];
    journal.append(1, &batch).await.unwrap();
    journal
        .append(3, &[asked(3, Some(trace(3)))])
        .await
        .unwrap();
    let open = journal.open_effects().await.unwrap();
    let traces: Vec<_> = open.into_iter().map(|open| open.traceparent).collect();
    assert_eq!(traces, [Some(trace(1)), None, Some(trace(3))]);
}

async fn effects_stay_open_until_closed(journal: &dyn Journal) {
    let mut asking = decision(1);
    asking.effects = vec![effect(4), effect(3), effect(2)];
    journal.append(1, &[asking]).await.unwrap();
    assert_eq!(waiting(journal).await, [effect(4), effect(3), effect(2)]);
    let mut closing = decision(2);
    closing.closes = vec![effect(3).key()];
    closing.effects = vec![effect(9)];
    let mut same_batch = decision(3);
    same_batch.closes = vec![effect(9).key()];
    journal.append(2, &[closing, same_batch]).await.unwrap();
    assert_eq!(waiting(journal).await, [effect(4), effect(2)]);
    let mut repeat = decision(4);
    repeat.closes = vec![effect(3).key(), effect(77).key()];
    journal.append(4, &[repeat]).await.unwrap();
    assert_eq!(waiting(journal).await, [effect(4), effect(2)]);
}

async fn an_effect_is_asked_for_once(journal: &dyn Journal) {
    let mut asking = decision(1);
    asking.effects = vec![effect(2)];
    journal.append(1, &[asking]).await.unwrap();
    let mut again = decision(2);
    again.effects = vec![effect(2)];
    refused_as(journal, ErrorKind::Conflict, 2, &[again]).await;
}

async fn audit_records_are_leaves_of_the_tree(journal: &dyn Journal) {
    let mut leaves = Vec::new();
    for n in 1..=9 {
        journal.append(n, &[decision(n)]).await.unwrap();
        let read = journal.read_audit(0, MAX_READ).await.unwrap();
        let indices: Vec<u64> = read.iter().map(|leaf| leaf.index).collect();
        assert_eq!(indices, (0..n).collect::<Vec<_>>());
        leaves = read.iter().map(|leaf| leaf.bytes.to_vec()).collect();
        let head = journal.head().await.unwrap();
        assert_eq!((head.audit_size, head.audit_root), (n, tree_root(&leaves)));
        assert_eq!(head.checkpoint.lines().nth(1), Some(n.to_string().as_str()));
    }
    for size in 1..=leaves.len() {
        for index in 0..size {
            let proof = journal
                .inclusion_proof(index as u64, size as u64)
                .await
                .unwrap();
            assert_eq!(
                proof,
                tree_path(index, &leaves[..size]),
                "leaf {index} of {size}"
            );
        }
        for old in 0..=size {
            let proof = journal.consistency_proof(old as u64, size as u64).await;
            assert_eq!(
                proof.unwrap(),
                tree_continuation(old, &leaves[..size]),
                "{old} and then {size}"
            );
        }
    }
    let from: Vec<u64> = journal
        .read_audit(4, 3)
        .await
        .unwrap()
        .iter()
        .map(|leaf| leaf.index)
        .collect();
    assert_eq!(from, [4, 5, 6]);
}

async fn proofs_outside_the_tree_are_not_found(journal: &dyn Journal) {
    journal
        .append(1, &[decision(1), decision(2)])
        .await
        .unwrap();
    for (index, size) in [(0, 0), (2, 2), (0, 3), (u64::MAX, u64::MAX)] {
        let proof = journal.inclusion_proof(index, size).await;
        assert!(
            proof.is_err_and(|error| error.kind == ErrorKind::NotFound),
            "{index} of {size}"
        );
    }
    for (old, new) in [(2, 1), (1, 3), (3, 3), (u64::MAX, u64::MAX)] {
        let proof = journal.consistency_proof(old, new).await;
        assert!(
            proof.is_err_and(|error| error.kind == ErrorKind::NotFound),
            "{old} and then {new}"
        );
    }
}

async fn reads_are_bounded(journal: &dyn Journal) {
    let count = MAX_READ as u64 + 1;
    let decisions: Vec<Decision> = (1..=count).map(decision).collect();
    journal.append(1, &decisions).await.unwrap();
    assert_eq!(journal.read(0, usize::MAX).await.unwrap().len(), MAX_READ);
    assert_eq!(
        journal.read_audit(0, usize::MAX).await.unwrap().len(),
        MAX_READ
    );
    assert_eq!(journal.read(count - 1, usize::MAX).await.unwrap().len(), 1);
    assert!(journal.read(0, 0).await.unwrap().is_empty());
}

async fn old_records_leave_and_every_proof_stays(journal: &dyn Journal) {
    let (count, gone) = (3 * REMOVAL_UNIT + 40, 2 * REMOVAL_UNIT);
    let decisions: Vec<Decision> = (1..=count).map(decision).collect();
    journal.append(1, &decisions).await.unwrap();
    let all = journal.read_audit(0, MAX_READ).await.unwrap();
    let leaf = |leaf: &AuditLeaf| sha256(&[&[0_u8][..], &leaf.bytes[..]].concat());
    let hashes: Vec<[u8; 32]> = all.iter().map(leaf).collect();
    assert_eq!(journal.audit_begins().await.unwrap(), 0);
    assert!(journal.removed_hashes(0, 10).await.unwrap().is_empty());
    let proofs = async || {
        let mut proofs = Vec::new();
        for (index, size) in [
            (0, count),
            (255, 300),
            (300, count),
            (511, 513),
            (count - 1, count),
        ] {
            proofs.push(journal.inclusion_proof(index, size).await.unwrap());
        }
        proofs
    };
    let before = proofs().await;
    // Only whole units leave.
    let nothing = journal.remove_audit(REMOVAL_UNIT - 1).await.unwrap();
    assert_eq!(nothing, 0);
    let mut first = nothing;
    loop {
        let left = journal.remove_audit(gone + 9).await.unwrap();
        if left == first {
            break;
        }
        first = left;
    }
    assert_eq!((first, journal.audit_begins().await.unwrap()), (gone, gone));
    let at = usize::try_from(gone).unwrap();
    let left = journal.read_audit(0, MAX_READ).await.unwrap();
    assert_eq!(left, all[at..]);
    assert_eq!(
        journal.read_audit(gone + 3, 1).await.unwrap(),
        all[at + 3..=at + 3]
    );
    let kept = journal.removed_hashes(0, MAX_READ).await.unwrap();
    assert_eq!(kept, hashes[..at]);
    let some = journal.removed_hashes(250, 20).await.unwrap();
    assert_eq!(some, hashes[250..270]);
    assert!(journal.removed_hashes(gone, 20).await.unwrap().is_empty());
    assert_eq!(proofs().await, before);
    // The log goes on as the same tree.
    let next = decision(count + 1);
    journal.append(count + 1, &[next]).await.unwrap();
    let newest = journal.read_audit(count, 1).await.unwrap();
    let leaves: Vec<Vec<u8>> = all
        .iter()
        .chain(&newest)
        .map(|leaf| leaf.bytes.to_vec())
        .collect();
    assert_eq!(journal.head().await.unwrap().audit_root, tree_root(&leaves));
}

async fn of_two_writers_one_wins(journal: Arc<dyn Journal>) {
    let (a, b) = ([decision(1)], [decision(2)]);
    let (a, b) = tokio::join!(journal.append(1, &a), journal.append(1, &b));
    let lost = [a.err(), b.err()].into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].kind, ErrorKind::Conflict);
    assert_eq!(journal.head().await.unwrap().number, 1);
}

async fn a_large_batch_is_one_append(journal: &dyn Journal) {
    let mut decisions: Vec<Decision> = (1..=300).map(decision).collect();
    for (decision, n) in decisions.iter_mut().zip(1..) {
        decision.effects = vec![effect(n)];
    }
    assert_eq!(journal.append(1, &decisions).await.unwrap().len(), 300);
    assert_eq!(journal.open_effects().await.unwrap().len(), 300);
    let verification = journal.verify().await.unwrap();
    assert_eq!(
        (verification.events, verification.audit_records),
        (300, 300)
    );
    assert_eq!(verification.faults, Vec::<String>::new());
}
