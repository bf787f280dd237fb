//! Commands that come again, ids that were used before, and others that are always first.

use super::*;

#[tokio::test]
async fn a_repeated_command_gets_the_first_answer_and_changes_nothing() {
    let bench = start(Arc::default(), 1).await;
    let first = bench.submit(1, user(), apply()).await;
    let events = bench.view.read().number;
    assert_eq!(bench.submit(1, user(), apply()).await, first);
    assert_eq!(bench.view.read().number, events);
}

fn submission(id: u8, principal: Principal, command: Command) -> Submission {
    Submission {
        id: CommandId::from_bytes([id; 16]),
        principal,
        traceparent: None,
        command,
    }
}

#[tokio::test]
async fn a_persons_repeat_is_told_as_one_and_on_record_and_a_services_is_not() {
    let mut bench = start(Arc::default(), 1).await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    let operator = Principal::Operator {
        name: "ann".to_owned(),
    };
    for (id, principal) in [(100, user()), (120, operator)] {
        let rotate = || submission(id, principal.clone(), rotate(id));
        let first = bench.handle.decide(rotate()).await.unwrap();
        assert!(!first.is_repeat);
        let before = bench.audit().await;
        // Both in one batch, and long after.
        let (a, b) = tokio::join!(bench.handle.decide(rotate()), bench.handle.decide(rotate()));
        for again in [a.unwrap(), b.unwrap()] {
            assert!(again.is_repeat);
            assert_eq!(again.verdict, first.verdict);
        }
        assert_eq!(bench.audit().await, before + 2);
        let records = bench.journal.read_audit(before as u64, 2).await.unwrap();
        for record in records {
            let record = String::from_utf8_lossy(&record.bytes).into_owned();
            for part in ["rotate", "secret/prod/db", "a repeat"] {
                assert!(record.contains(part), "{record}");
            }
        }
        bench.work(id + 1).await;
    }
    let store = || {
        let outcome = Command::DeadlinePassed {
            rotation: RotationId::from_bytes([100; 16]),
        };
        submission(200, Principal::Service(Role::Scheduler), outcome)
    };
    bench.handle.decide(store()).await.unwrap();
    let before = bench.audit().await;
    bench.handle.decide(store()).await.unwrap();
    assert_eq!(bench.audit().await, before);
}

#[tokio::test]
async fn a_repeat_on_a_full_disk_holds_no_revocation_up() {
    let mut bench = start(Arc::default(), 1).await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    let rotate = || submission(100, user(), rotate(100));
    bench.handle.submit(rotate()).await.unwrap();
    let revoke = || {
        let command = Command::Revoke {
            revocation: RevocationId::from_bytes([3; 16]),
            secret: name(),
            version: None,
            reason: "leaked".to_owned(),
            is_emergency: false,
        };
        submission(101, user(), command)
    };
    bench.journal.fill_below(Some(Class::Revocation));
    let (repeat, revoked) =
        tokio::join!(bench.handle.decide(rotate()), bench.handle.decide(revoke()),);
    assert_eq!(repeat.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(!revoked.unwrap().is_repeat);
    assert!(bench.handle.decide(revoke()).await.unwrap().is_repeat);
}

#[tokio::test]
async fn who_is_always_overtaken_is_told_so_after_some_rounds_and_may_try_again() {
    let journal = MemoryJournal::shared(1).remove(0);
    let bench = start(Arc::new(journal), 1).await;
    bench.journal.fail_appends(Some(ErrorKind::Conflict));
    let submission = Submission {
        id: CommandId::from_bytes([1; 16]),
        principal: user(),
        traceparent: None,
        command: apply(),
    };
    let before = bench.journal.refused();
    let refused = bench.handle.submit(submission.clone()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert!(refused.text.contains("always first"), "{refused}");
    let rounds = bench.journal.refused() - before;
    assert!(rounds >= u64::from(MAX_ROUNDS), "{rounds}");
    assert!(bench.view.read().world.secrets.is_empty());
    bench.journal.fail_appends(None);
    let verdict = bench.handle.submit(submission).await.unwrap();
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
}

#[tokio::test]
async fn a_repeat_in_the_same_batch_is_not_answered_before_the_batch_is_durable() {
    let bench = start(Arc::default(), 1).await;
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    let submission = Submission {
        id: CommandId::from_bytes([1; 16]),
        principal: user(),
        traceparent: None,
        command: apply(),
    };
    // Both wait in the queue before the bus wakes: one thread, so they are one batch.
    let (first, second) = tokio::join!(
        bench.handle.submit(submission.clone()),
        bench.handle.submit(submission)
    );
    assert!(first.is_err() && second.is_err(), "{first:?} {second:?}");
    assert!(bench.view.read().world.secrets.is_empty());
}

fn rotate(rotation: u8) -> Command {
    Command::Rotate {
        rotation: RotationId::from_bytes([rotation; 16]),
        secret: name(),
    }
}

#[tokio::test]
async fn an_id_that_was_used_long_ago_is_refused_and_nothing_else_is() {
    let mut bench = start(Arc::default(), 1).await;
    bench.submit(1, user(), apply()).await;
    bench.work(2).await;
    // So many that the first ones are in the log only.
    for n in 0..=KEPT_CLOSED as u8 {
        let id = 20 + 8 * n;
        bench.submit(id, user(), rotate(id)).await;
        assert_eq!(bench.work(id + 1).await.len(), 5);
    }
    let first = RotationId::from_bytes([20; 16]);
    assert!(!bench.view.read().world.rotations.contains_key(&first));
    let submission = |id, command| Submission {
        id: CommandId::from_bytes([id; 16]),
        principal: user(),
        traceparent: None,
        command,
    };
    let other = HostName::parse("other").unwrap();
    let enrolled = Command::EnrolHost {
        host: HostId::from_bytes([9; 16]),
        name: other.clone(),
        sealing_key: [9; 32],
    };
    let (taken, beside) = tokio::join!(
        bench.handle.submit(submission(200, rotate(20))),
        bench.handle.submit(Submission {
            principal: Principal::Service(Role::Injector),
            ..submission(201, enrolled)
        }),
    );
    let told = taken.unwrap_err();
    assert_eq!(told.kind, ErrorKind::Conflict);
    assert!(told.text.contains("fresh ids"), "{}", told.text);
    assert!(matches!(beside, Ok(Verdict::Accepted { .. })));
    assert!(bench.view.read().world.host_named(&other).is_some());
    bench.submit(202, user(), rotate(203)).await;
    assert_eq!(bench.work(204).await.len(), 5);
}
