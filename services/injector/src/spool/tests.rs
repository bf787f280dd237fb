//! A report reads back as it was spooled, and files of earlier versions are read.

use keywheel_core::report::{RestartState, RestartWish};
use keywheel_core::rollout::Due;

use super::*;

fn item(fact: Fact) -> Item {
    Item {
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        binding: BindingId::from_bytes([1; 16]),
        secret: SecretId::from_bytes([2; 16]),
        fact,
        service: "shop/web".to_owned(),
    }
}

pub(crate) fn denied() -> DeniedStart {
    DeniedStart {
        container: ContainerId::parse(&"c".repeat(64)).unwrap(),
        container_name: "job".to_owned(),
        image_digest: "sha256:2".to_owned(),
        secret: "prod/db".to_owned(),
        reason: "no binding".to_owned(),
    }
}

pub(crate) fn executed() -> Executed {
    Executed {
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        exec: "5d5d".to_owned(),
        at: Timestamp::from_micros(4),
        count: 2,
    }
}

pub(crate) fn note() -> UsageNote {
    UsageNote {
        kind: UsageKind::FirstUse,
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        binding: BindingId::from_bytes([1; 16]),
        secret: SecretId::from_bytes([2; 16]),
        version: 7,
        at: Timestamp::from_micros(5),
    }
}

pub(crate) fn restart() -> RestartWish {
    RestartWish {
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        service: "payments".to_owned(),
        due: vec![Due {
            binding: BindingId::from_bytes([1; 16]),
            secret: SecretId::from_bytes([2; 16]),
            version: 7,
        }],
        state: RestartState::Failed {
            reason: "its health check fails".to_owned(),
        },
    }
}

pub(crate) fn report(generation: u64, facts: Vec<Fact>) -> HostReport {
    HostReport {
        host: HostId::from_bytes([3; 16]),
        generation,
        items: facts.into_iter().map(item).collect(),
        holds: vec![(SecretId::from_bytes([2; 16]), 7)],
        complete: true,
        containers: vec![ContainerId::parse(&"b".repeat(64)).unwrap()],
        denied: vec![denied()],
        stale: vec![StalePlan {
            generation: 1,
            held: 7,
            at: Timestamp::from_micros(-3),
            count: u64::MAX,
        }],
        executed: vec![executed()],
        notes: vec![note()],
        restarts: vec![restart()],
        staged: vec![(SecretId::from_bytes([5; 16]), 7)],
        knows_staged: true,
        orders: None,
    }
}

#[test]
fn every_fact_survives_and_order_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let at = Timestamp::from_micros(5);
    let facts = vec![
        Fact::Swapped { version: 1, at },
        Fact::Reloaded { version: 1, at },
        Fact::Withdrawn,
        Fact::Vanished,
        Fact::Refused {
            version: 2,
            reason: "why".to_owned(),
        },
    ];
    for number in [10, 9] {
        let command = CommandId::from_bytes([4; 16]);
        spool
            .write(&Spooled {
                number,
                command,
                report: report(number, facts.clone()),
            })
            .unwrap();
    }
    assert_eq!(spool.waiting().unwrap(), [9, 10]);
    let read = spool.read(10).unwrap();
    assert_eq!(read.report, report(10, facts));
    assert_eq!(read.command, CommandId::from_bytes([4; 16]));
    spool.remove(9).unwrap();
    spool.remove(9).unwrap();
    assert_eq!(spool.waiting().unwrap(), [10]);
}

/// One that comes with facts is written beside the one that is about to be sent.
#[test]
fn reports_that_are_written_at_the_same_time_are_both_whole() {
    const EACH: u64 = 50;
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let of = |number: u64| Spooled {
        number,
        command: CommandId::from_bytes([4; 16]),
        report: report(number, vec![Fact::Withdrawn; 20]),
    };
    std::thread::scope(|scope| {
        for first in [0, EACH] {
            let (spool, of) = (spool.clone(), &of);
            scope.spawn(move || (first..first + EACH).for_each(|n| spool.write(&of(n)).unwrap()));
        }
    });
    assert_eq!(spool.waiting().unwrap().len(), 100);
    for number in 0..2 * EACH {
        assert_eq!(spool.read(number).unwrap().report, of(number).report);
    }
}

#[test]
fn no_file_in_the_spool_keeps_the_others_from_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let good = Spooled {
        number: 2,
        command: CommandId::from_bytes([4; 16]),
        report: report(1, Vec::new()),
    };
    spool.write(&good).unwrap();
    let bytes = std::fs::read(spool.path(2)).unwrap();
    let (mut turn, others) = (0, spool.path(1));
    keywheel_testkit::hostile(&bytes, |bytes| {
        drop(serde_json::from_slice::<Stored>(bytes).map(|one| load(1, one)));
        turn += 1;
        if turn % 64 == 0 {
            std::fs::write(&others, bytes).unwrap();
            drop(spool.read(1));
            assert!(spool.read(2).is_some());
        }
    });
}

#[test]
fn a_file_of_an_earlier_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let command = CommandId::from_bytes([4; 16]);
    let (number, mut report) = (1, report(1, Vec::new()));
    report.stale.clear();
    report.executed.clear();
    report.notes.clear();
    let one = Spooled {
        number,
        command,
        report: report.clone(),
    };
    spool.write(&one).unwrap();
    let text = std::fs::read_to_string(spool.path(1)).unwrap();
    let earlier = text.replace(r#","stale":[],"executed":[],"notes":[]"#, "");
    assert_ne!(earlier, text);
    std::fs::write(spool.path(1), earlier).unwrap();
    assert_eq!(spool.read(1).unwrap().report, report);
}

#[test]
fn what_is_not_understood_is_passed_over_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    std::fs::write(spool.path(1), "{").unwrap();
    assert!(spool.read(1).is_none());
    // No later run sends it after what is sent meanwhile.
    assert!(spool.waiting().unwrap().is_empty());
    let kept = folder.path().read_dir().unwrap().flatten();
    let kept: Vec<_> = kept
        .map(|entry| std::fs::read(entry.path()).unwrap())
        .collect();
    assert_eq!(kept, [b"{"]);
    assert!(spool.read(2).is_none(), "there is none");
}

#[test]
fn a_report_is_read_up_to_the_limit_and_kept_beyond_it() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let command = CommandId::from_bytes([4; 16]);
    let (number, report) = (1, report(1, Vec::new()));
    let good = Spooled {
        number,
        command,
        report,
    };
    spool.write(&good).unwrap();
    let mut bytes = std::fs::read(spool.path(1)).unwrap();
    bytes.resize(usize::try_from(MAX_FILE_BYTES).unwrap(), b' ');
    std::fs::write(spool.path(1), &bytes).unwrap();
    assert_eq!(spool.read(1).unwrap().report, good.report);
    bytes.push(b' ');
    std::fs::write(spool.path(1), &bytes).unwrap();
    assert!(spool.read(1).is_none());
    assert!(spool.waiting().unwrap().is_empty());
    let kept = folder.path().read_dir().unwrap().flatten();
    let kept: Vec<_> = kept.map(|entry| entry.metadata().unwrap().len()).collect();
    assert_eq!(kept, [MAX_FILE_BYTES + 1]);
}
