//! What only this transport can say: bounded queues, turns, answers that are refused.

use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_engine::port::bus::{Message, UNSENT};
use keywheel_engine::port::journal::AuditLeaf;
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::fake::{FakeClock, FakeIds};

use super::*;

const SOON: Duration = Duration::from_secs(120);
const HOST: HostId = HostId::from_bytes([1; 16]);
const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([2; 16]);
const ASK: Body = Body::ReadPlan { host: HOST };

fn identity(role: Role) -> Identity {
    let key = SigningKey::generate(&OsEntropy);
    match role {
        Role::Injector => Identity::injector(DEPLOYMENT, HOST, key),
        role => Identity::service(DEPLOYMENT, role, key),
    }
}

fn empty_frame() -> Arc<Frame> {
    Arc::new(Frame {
        document: Vec::new(),
        signature: [0; 64],
    })
}

fn hub_of(roles: &[Role]) -> (InProcess, Vec<Arc<dyn Bus>>) {
    let identities: Vec<_> = roles.iter().map(|role| identity(*role)).collect();
    let keys = identities
        .iter()
        .map(|one| (one.role(), one.verifying_key()));
    let trust = Trust::new(DEPLOYMENT, keys);
    let hosts = identities
        .iter()
        .filter_map(|one| Some((one.host()?, one.verifying_key())));
    trust.set_hosts(hosts.collect());
    let hub = InProcess::new(
        trust,
        Arc::new(FakeClock::default()),
        Arc::new(FakeIds::new()),
    );
    let ends = identities
        .into_iter()
        .map(|identity| hub.endpoint(identity))
        .collect();
    (hub, ends)
}

#[tokio::test]
async fn servers_of_one_address_take_turns() {
    let (_hub, ends) = hub_of(&[Role::Gateway, Role::Injector]);
    let mut one = ends[0].serve(Address::Gateway).await.unwrap();
    let mut two = ends[0].serve(Address::Gateway).await.unwrap();
    for _ in 0..3 {
        let ask = || ends[1].request(Address::Gateway, None, ASK, SOON);
        let answer = |requests: Option<Box<dyn keywheel_engine::port::bus::Request>>| {
            requests.unwrap().answer(Body::Done)
        };
        let served = async {
            answer(one.next().await).await.unwrap();
            answer(two.next().await).await.unwrap();
        };
        let (first, second, ()) = tokio::join!(ask(), ask(), served);
        assert!(first.is_ok() && second.is_ok());
    }
}

#[tokio::test]
async fn waiting_requests_are_bounded() {
    let (hub, ends) = hub_of(&[Role::Gateway]);
    let _requests = ends[0].serve(Address::Gateway).await.unwrap();
    for _ in 0..MAX_WAITING_REQUESTS {
        hub.inject_request(Address::Gateway, empty_frame()).unwrap();
    }
    let error = hub
        .inject_request(Address::Gateway, empty_frame())
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.text.contains("busy"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_a_failure_for_the_asker_at_once() {
    let (_hub, ends) = hub_of(&[Role::Gateway, Role::AuditSink]);
    let mut requests = ends[0].serve(Address::Gateway).await.unwrap();
    let leaf = AuditLeaf {
        index: 0,
        bytes: format!("\"{}\"", "a".repeat(envelope::MAX_MESSAGE_BYTES))
            .into_bytes()
            .into(),
    };
    let ask = Body::ReadAudit { from: 0, limit: 1 };
    let served = async {
        let request = requests.next().await.unwrap();
        request.answer(Body::AuditLeaves(vec![leaf])).await
    };
    let (answer, sent) = tokio::join!(ends[1].request(Address::Gateway, None, ask, SOON), served);
    assert!(matches!(
        answer.unwrap(),
        Body::Failed {
            kind: ErrorKind::Denied,
            text,
        } if text.starts_with(UNSENT)
    ));
    assert_eq!(sent.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn an_answer_of_an_untrusted_server_is_counted_and_not_handed_on() {
    let (hub, ends) = hub_of(&[Role::Gateway, Role::Injector]);
    let impostor = hub.endpoint(identity(Role::Gateway));
    let mut requests = impostor.serve(Address::Gateway).await.unwrap();
    let served = async { requests.next().await.unwrap().answer(Body::Done).await };
    let (answer, _) = tokio::join!(ends[1].request(Address::Gateway, None, ASK, SOON), served);
    assert_eq!(answer.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!((hub.refused().forged, hub.refused().total()), (1, 1));
}

#[tokio::test]
async fn topics_are_bounded() {
    let (hub, _) = hub_of(&[]);
    for number in 0..MAX_TOPICS {
        let host = HostId::from_bytes((number as u128).to_be_bytes());
        hub.shared.slot(&Topic::Plan(host)).unwrap();
    }
    assert!(hub.shared.slot(&Topic::Events).is_err());
}

#[tokio::test]
async fn a_waiting_reader_is_woken_and_a_cancelled_one_loses_nothing() {
    let (_hub, ends) = hub_of(&[Role::Gateway, Role::AuditSink]);
    let mut audit = ends[1].subscribe(Topic::Audit, "a").await.unwrap();
    let cancelled = tokio::time::timeout(Duration::from_millis(1), audit.next()).await;
    assert!(cancelled.is_err());
    let leaf = AuditLeaf {
        index: 3,
        bytes: Arc::from(b"{}".as_slice()),
    };
    let publish = async {
        tokio::task::yield_now().await;
        ends[0]
            .publish(Topic::Audit, [1; 16], None, Body::Audit(leaf))
            .await
    };
    let (woken, sent) = tokio::join!(tokio::time::timeout(SOON, audit.next()), publish);
    sent.unwrap();
    let Message { body, .. } = woken.unwrap().unwrap().message;
    assert!(matches!(body, Body::Audit(leaf) if leaf.index == 3));
}
