//! Both transports keep the port's laws: the one inside a process, and NATS on every server version
//! with the permissions that each role has there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_bus::InProcess;
use keywheel_bus::envelope::Receiver;
use keywheel_core::audit::Role;
use keywheel_engine::port::bus::{Address, Body, Bus, Topic};
use keywheel_testkit::conformance::bus::{self, BusUnderTest, Forgery};
use keywheel_testkit::fake::FakeIds;

use crate::support::nats::NatsUnderTest;
use crate::support::{ACK_TIMEOUT, RealClock, forged, identity, trust};

struct InProcessUnderTest(InProcess);

#[async_trait]
impl BusUnderTest for InProcessUnderTest {
    fn endpoint(&self, role: Role) -> Arc<dyn Bus> {
        self.0.endpoint(identity(role))
    }
    async fn forge(&self, forgery: Forgery, topic: &Topic, id: [u8; 16], body: Body) {
        let frame = forged(forgery, Role::Gateway, Receiver::Topic(topic), id, &body);
        self.0.inject(topic, frame.into()).unwrap();
    }
    async fn forge_request(&self, forgery: Forgery, to: Address, body: Body) {
        let receiver = Receiver::Request(to);
        let frame = forged(forgery, Role::Injector, receiver, [1; 16], &body);
        self.0.inject_request(to, frame.into()).unwrap();
    }
    fn refused(&self) -> u64 {
        self.0.refused().total()
    }
    fn ack_timeout(&self) -> Duration {
        ACK_TIMEOUT
    }
    async fn shutdown(&self) {
        self.0.shutdown();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_in_process_bus_keeps_the_laws() {
    bus::run(|| async {
        let clock = Arc::new(RealClock::new());
        let ids = Arc::new(FakeIds::new());
        InProcessUnderTest(InProcess::with_ack_timeout(
            trust(),
            clock,
            ids,
            ACK_TIMEOUT,
        ))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_2_12_keeps_the_laws() {
    bus::run(|| NatsUnderTest::start("2.12.8")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_2_14_keeps_the_laws() {
    bus::run(|| NatsUnderTest::start("2.14.6")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_2_15_keeps_the_laws() {
    bus::run(|| NatsUnderTest::start("2.15.1")).await;
}
