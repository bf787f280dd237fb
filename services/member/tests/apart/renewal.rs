//! Credentials that live for seconds, and traffic that does not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keywheel_bus::Nats;
use keywheel_core::audit::Role;
use keywheel_engine::port::bus::{Address, Body, Bus, Topic};

use crate::deployment::{Deployment, LOOK, PATIENCE, now, publish, until};

/// Life of the credentials; renewed about twice in it.
const LIFE: Duration = Duration::from_secs(20);

/// Traffic in both directions, which must not fail.
pub struct Traffic {
    sent: u64,
    seen: Arc<AtomicU64>,
    gateway: Arc<dyn Bus>,
    sink: Arc<dyn Bus>,
}

impl Traffic {
    pub async fn start(gateway: &Nats, sink: &Nats) -> Self {
        let (gateway, sink) = (gateway.endpoint(), sink.endpoint());
        let mut records = sink.subscribe(Topic::Audit, "audit-sink").await.unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let counted = seen.clone();
        tokio::spawn(async move {
            while let Some(incoming) = records.next().await {
                let Body::Audit(leaf) = &incoming.message.body else {
                    panic!("{:?}", incoming.message.body);
                };
                let next = counted.load(Ordering::SeqCst);
                assert!(leaf.index <= next, "{} came before {next}", leaf.index);
                counted.store(next.max(leaf.index + 1), Ordering::SeqCst);
                let _again = records.ack(incoming.sequence).await;
            }
        });
        Self {
            sent: 0,
            seen,
            gateway,
            sink,
        }
    }

    /// One message and one request.
    pub async fn step(&mut self) {
        publish(&self.gateway, self.sent).await;
        self.sent += 1;
        let question = Body::ReadAudit { from: 0, limit: 1 };
        let asked = self
            .sink
            .request(Address::Gateway, None, question, PATIENCE);
        let answer = asked.await.unwrap();
        assert!(matches!(answer, Body::AuditLeaves(_)), "{answer:?}");
        tokio::time::sleep(LOOK).await;
    }

    /// Every message arrived, in order.
    pub async fn finish(self) {
        until("every message to arrive", || {
            self.seen.load(Ordering::SeqCst) == self.sent
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_lose_no_message_and_fail_no_request() {
    let mut deployment = Deployment::start(LIFE);
    let gateway = deployment.gateway().await;
    let sink = deployment.member(Role::AuditSink).await;
    let first_end = deployment.ends(Role::AuditSink);
    let mut traffic = Traffic::start(&gateway, &sink).await;
    let renewals = |nats: &Nats| nats.health().connects - 1;
    while now() < first_end.plus(LIFE / 5) || renewals(&gateway) < 2 || renewals(&sink) < 2 {
        traffic.step().await;
    }
    traffic.finish().await;
    assert_eq!(sink.health().last_refusal, None);
    assert_eq!(gateway.health().last_refusal, None);
    assert!(deployment.ends(Role::AuditSink) > first_end);

    // The first permits are dead: whoever comes back comes with the newest.
    let before = sink.health().connects;
    deployment.server.restart();
    until("the members to come back", || {
        sink.health().connects > before && sink.health().connected && gateway.health().connected
    })
    .await;
}
