//! Who is taken when, and who is refused when the queues are full.

use futures_util::FutureExt as _;
use keywheel_core::audit::{Category, Outcome, Principal, Record};
use keywheel_core::id::{CommandId, RevocationId, RotationId};
use keywheel_core::name::SecretName;
use keywheel_core::time::Timestamp;

use super::*;

fn principal() -> Principal {
    Principal::User {
        uid: 1000,
        name: "eve".to_owned(),
    }
}

fn submission(command: Command) -> Submission {
    Submission {
        id: CommandId::default(),
        principal: principal(),
        traceparent: None,
        command,
    }
}

fn secret() -> SecretName {
    SecretName::parse("prod/db").unwrap()
}

fn rotate() -> Submission {
    submission(Command::Rotate {
        rotation: RotationId::default(),
        secret: secret(),
    })
}

fn revoke() -> Submission {
    submission(Command::Revoke {
        revocation: RevocationId::default(),
        secret: secret(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    })
}

fn denial() -> Record {
    Record {
        time: Timestamp::default(),
        category: Category::Administration,
        principal: principal(),
        verb: "list".to_owned(),
        object: String::new(),
        version: None,
        outcome: Outcome::Denied,
        reason: String::new(),
        container: None,
        command: CommandId::default(),
        trace: String::new(),
    }
}

type Waiting = std::pin::Pin<Box<dyn Future<Output = Result<(), PortError>>>>;

/// Asks until refused; gives what waits.
fn fill(ask: impl Fn() -> Waiting) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    loop {
        let mut asked = ask();
        match asked.as_mut().now_or_never() {
            None => waiting.push(asked),
            Some(refused) => {
                assert_eq!(refused.unwrap_err().kind, ErrorKind::Unavailable);
                return waiting;
            }
        }
    }
}

fn submitting(handle: &Handle, submission: Submission) -> Waiting {
    let handle = handle.clone();
    Box::pin(async move { handle.submit(submission).await.map(|_| ()) })
}

fn recording(handle: &Handle) -> Waiting {
    let handle = handle.clone();
    Box::pin(async move { handle.record(denial()).await })
}

fn sort(request: &Request) -> &'static str {
    match request {
        Request::Submit(submission, ..) => match submission.command {
            Command::Revoke { .. } => "revoke",
            _ => "command",
        },
        Request::Record(..) => "record",
        Request::Look(_) => "look",
    }
}

#[tokio::test]
async fn a_revoke_has_a_place_when_all_others_are_taken_and_is_decided_first() {
    let (handle, mut inbox) = inbox(false);
    let commands = fill(|| submitting(&handle, rotate()));
    let records = fill(|| recording(&handle));
    assert_eq!((commands.len(), records.len()), (MAX_WAITING, MAX_RECORDS));
    let mut revoking = submitting(&handle, revoke());
    assert!(revoking.as_mut().now_or_never().is_none(), "it waits");
    let batch = inbox.next_batch().await.unwrap();
    let sorts: Vec<_> = batch.iter().map(sort).collect();
    assert_eq!(sorts[0], "revoke");
    assert_eq!(sorts.len(), MAX_BATCH);
    let records = sorts.iter().filter(|sort| **sort == "record").count();
    assert_eq!(records, RECORDS_SHARE, "records wait, but not for ever");
}

#[tokio::test]
async fn records_take_no_place_of_a_command() {
    let (handle, mut inbox) = inbox(false);
    let _records = fill(|| recording(&handle));
    let mut rotating = submitting(&handle, rotate());
    assert!(rotating.as_mut().now_or_never().is_none(), "it waits");
    let batch = inbox.next_batch().await.unwrap();
    assert_eq!(sort(&batch[0]), "command");
}

#[tokio::test]
async fn revocations_are_bounded_and_leave_room_in_a_batch() {
    let (handle, mut inbox) = inbox(false);
    let urgent = fill(|| submitting(&handle, revoke()));
    assert_eq!(urgent.len(), MAX_URGENT);
    let _commands = fill(|| submitting(&handle, rotate()));
    let batch = inbox.next_batch().await.unwrap();
    let commands = batch.iter().filter(|r| sort(r) == "command").count();
    let left = OTHERS_SHARE - RECORDS_SHARE;
    assert_eq!((commands, batch.len()), (left, MAX_BATCH));
}

#[tokio::test]
async fn without_handles_the_rest_is_taken_and_then_nothing() {
    let (handle, mut inbox) = inbox(false);
    let mut last = recording(&handle);
    assert!(last.as_mut().now_or_never().is_none());
    drop((handle, last));
    assert_eq!(inbox.next_batch().await.map(|batch| batch.len()), Some(1));
    assert!(inbox.next_batch().await.is_none());
}
