//! The laws of requests: their own answers, silence, copies, forgeries.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Address, Body, Requests};
use keywheel_engine::port::journal::AuditLeaf;

use super::{BusUnderTest, FORGERIES, Forgery, HOST, QUIET, SOON};

/// Questions after which a transport knows that nobody serves an address any more.
const LEARNING_TRIES: u32 = 24;
/// How long each of them waits: one that was sent in between is never answered.
const LEARNING: Duration = Duration::from_secs(5);

async fn counted(under: &dyn BusUnderTest, refused: u64) {
    while under.refused() < refused {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn a_forged_request_is_counted_and_never_handed_on(under: &dyn BusUnderTest) {
    let gateway = under.endpoint(Role::Gateway);
    let mut requests = gateway.serve(Address::Gateway).await.unwrap();
    let ask = Body::ReadPlan { host: HOST };
    for forgery in FORGERIES.into_iter().filter(|f| *f != Forgery::Replay) {
        let before = under.refused();
        under
            .forge_request(forgery, Address::Gateway, ask.clone())
            .await;
        tokio::select! {
            handed = requests.next() => panic!("{forgery:?} was handed on: {}", handed.is_some()),
            counted = tokio::time::timeout(SOON, counted(under, before + 1)) => {
                counted.unwrap_or_else(|_| panic!("{forgery:?} was not counted"));
            }
        }
        let waited = tokio::time::timeout(QUIET, requests.next()).await;
        assert!(waited.is_err(), "{forgery:?} was handed on");
        assert_eq!(under.refused(), before + 1, "{forgery:?} was counted twice");
    }
}

pub(super) async fn a_request_is_handed_on_once(under: &dyn BusUnderTest) {
    let gateway = under.endpoint(Role::Gateway);
    let mut requests = gateway.serve(Address::Gateway).await.unwrap();
    let ask = Body::ReadPlan { host: HOST };
    let copy = || under.forge_request(Forgery::Replay, Address::Gateway, ask.clone());
    copy().await;
    let first = tokio::time::timeout(SOON, requests.next()).await;
    let first = first.expect("a request in time").expect("a bus that runs");
    assert_eq!(first.message().sender, Role::Injector);
    assert_eq!(first.message().host, Some(HOST));
    for copies in 1..4 {
        copy().await;
        tokio::select! {
            _ = requests.next() => panic!("a copy was handed on"),
            counted = tokio::time::timeout(SOON, counted(under, copies)) => {
                counted.expect("a copy that is counted");
            }
        }
    }
}

/// Answers the two requests it gets in turn, the later one first, each with its own generation.
async fn answer_two(mut requests: Box<dyn Requests>) {
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(requests.next().await.expect("a request"));
    }
    while let Some(request) = waiting.pop() {
        let Body::ReadAudit { from, .. } = request.message().body else {
            panic!("wrong request")
        };
        assert_eq!(request.message().sender, Role::AuditSink);
        let leaf = AuditLeaf {
            index: from,
            bytes: Arc::from(b"{}".as_slice()),
        };
        request.answer(Body::AuditLeaves(vec![leaf])).await.unwrap();
    }
}

pub(super) async fn requests_get_their_own_answers(under: &dyn BusUnderTest) {
    let sink = under.endpoint(Role::AuditSink);
    let requests = under
        .endpoint(Role::Gateway)
        .serve(Address::Gateway)
        .await
        .unwrap();
    let ask = |from| {
        let sink = Arc::clone(&sink);
        async move {
            let body = Body::ReadAudit { from, limit: 1 };
            match sink
                .request(Address::Gateway, None, body, SOON)
                .await
                .unwrap()
            {
                Body::AuditLeaves(leaves) => leaves[0].index,
                other => panic!("leaves were expected, not {other:?}"),
            }
        }
    };
    let (one, two, ()) = tokio::join!(ask(1), ask(2), answer_two(requests));
    assert_eq!((one, two), (1, 2));
}

pub(super) async fn silence_is_unavailable(under: &dyn BusUnderTest) {
    let sink = under.endpoint(Role::AuditSink);
    let ask = |timeout| {
        sink.request(
            Address::Gateway,
            None,
            Body::ReadAudit { from: 0, limit: 1 },
            timeout,
        )
    };
    let nobody = tokio::time::timeout(SOON / 2, ask(SOON)).await;
    let nobody = nobody.expect("known at once").unwrap_err();
    assert_eq!(nobody.kind, ErrorKind::Unavailable);
    assert!(nobody.text.contains("gateway"), "{nobody}");

    let mut requests = under
        .endpoint(Role::Gateway)
        .serve(Address::Gateway)
        .await
        .unwrap();
    let silent = async {
        let held = requests.next().await.expect("a request");
        tokio::time::sleep(QUIET * 3).await;
        // The asker is gone by now; answering it may fail, and must not do more than that.
        let _ = held.answer(Body::AuditLeaves(Vec::new())).await;
    };
    let (waited, ()) = tokio::join!(ask(QUIET), silent);
    assert_eq!(waited.unwrap_err().kind, ErrorKind::Unavailable);

    let dropped = async { drop(requests.next().await) };
    let (waited, ()) = tokio::join!(ask(QUIET), dropped);
    assert_eq!(waited.unwrap_err().kind, ErrorKind::Unavailable);

    drop(requests);
    // A transport may learn of it a moment later: a question in between finds nobody who answers.
    let mut known_at_once = None;
    for _ in 0..LEARNING_TRIES {
        let asked = tokio::time::timeout(LEARNING, ask(SOON)).await;
        known_at_once = asked.ok();
        if known_at_once.is_some() {
            break;
        }
    }
    let gone = known_at_once.expect("known at once").unwrap_err();
    assert_eq!(gone.kind, ErrorKind::Unavailable);
}
