//! What a full or broken disk does.

use super::*;

#[tokio::test]
async fn a_full_disk_rejects_and_loses_nothing_and_later_commands_work() {
    let bench = start(Arc::default(), 1).await;
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    let submission = Submission {
        id: CommandId::from_bytes([1; 16]),
        principal: user(),
        traceparent: None,
        command: apply(),
    };
    let error = bench.handle.submit(submission.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(bench.view.read().world.secrets.is_empty());
    // The same command again is decided as if nothing had been.
    assert!(matches!(
        bench.handle.submit(submission).await.unwrap(),
        Verdict::Accepted { .. }
    ));
    assert_eq!(bench.view.read().world.secrets.len(), 1);
}

#[tokio::test]
async fn a_broken_append_ends_the_bus_and_answers_nobody_with_success() {
    let bench = start(Arc::default(), 1).await;
    bench.journal.fail_next_append(ErrorKind::Corrupt);
    let submission = Submission {
        id: CommandId::from_bytes([1; 16]),
        principal: user(),
        traceparent: None,
        command: apply(),
    };
    assert!(bench.handle.submit(submission.clone()).await.is_err());
    assert!(
        bench.handle.submit(submission).await.is_err(),
        "the bus must not go on"
    );
}

/// One batch with new work, a denial and a revocation, on a disk with room for some.
async fn together(bench: &Bench, round: u8) -> [bool; 3] {
    let submission = |n: u8, principal: Principal, command: Command| Submission {
        id: CommandId::from_bytes([round * 10 + n; 16]),
        principal,
        traceparent: None,
        command,
    };
    let rotate = Command::Rotate {
        rotation: RotationId::from_bytes([round * 10; 16]),
        secret: name(),
    };
    let revoke = Command::Revoke {
        revocation: RevocationId::from_bytes([round; 16]),
        secret: name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    let (work, record, revocation) = tokio::join!(
        bench.handle.submit(submission(1, user(), rotate)),
        bench.handle.record(denial(round * 10 + 2)),
        bench.handle.submit(submission(4, user(), revoke)),
    );
    for error in [work.as_ref().err(), record.as_ref().err()]
        .into_iter()
        .flatten()
    {
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.text.contains("full"), "{}", error.text);
    }
    [work.is_ok(), record.is_ok(), revocation.is_ok()]
}

#[tokio::test]
async fn on_a_full_disk_each_class_gets_what_the_reserve_has_for_it() {
    let mut bench = start(Arc::default(), 1).await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    let cases = [
        (Some(Class::Revocation), [false, false, true]),
        (Some(Class::Record), [false, true, true]),
        (None, [true, true, true]),
    ];
    for (round, (room, expected)) in (2..).zip(cases) {
        bench.journal.fill_below(room);
        let before = bench.audit().await;
        assert_eq!(together(&bench, round).await, expected, "{room:?}");
        let kept = expected.iter().filter(|kept| **kept).count();
        assert_eq!(bench.audit().await - before, kept, "{room:?}");
        let world = bench.view.read().world.clone();
        let revoked = world
            .revocations
            .contains_key(&RevocationId::from_bytes([2; 16]));
        assert!(revoked, "the revocation is not in the log: {room:?}");
    }
}
