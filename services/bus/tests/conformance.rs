//! The in-process bus keeps the port's laws.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use keywheel_bus::envelope::{self, Receiver};
use keywheel_bus::{Identity, InProcess, Trust};
use keywheel_core::audit::Role;
use keywheel_core::time::Timestamp;
use keywheel_engine::authority::ROLES;
use keywheel_engine::port::bus::{Address, Body, Bus, Topic};
use keywheel_engine::port::clock::Clock;
use keywheel_seal::sign::SigningKey;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::bus::{self, BusUnderTest, Forgery};
use keywheel_testkit::fake::FakeIds;

const ACK_TIMEOUT: Duration = Duration::from_millis(400);

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn identity(role: Role) -> Identity {
    let number = ROLES.iter().position(|other| *other == role).unwrap();
    let seed = SecretBytes::from(vec![u8::try_from(number).unwrap() + 1; 32]);
    Identity::new(role, SigningKey::from_seed_bytes(&seed).unwrap())
}

fn hub() -> InProcess {
    let trust: Trust = ROLES
        .into_iter()
        .map(|role| (role, identity(role).verifying_key()))
        .collect();
    let clock = Arc::new(RealClock(Instant::now()));
    InProcess::with_ack_timeout(trust, clock, Arc::new(FakeIds::new()), ACK_TIMEOUT)
}

/// A frame that is wrong in one way; `sender` is who would be right.
fn forged(
    forgery: Forgery,
    sender: Role,
    to: Receiver<'_>,
    id: [u8; 16],
    body: &Body,
) -> Arc<[u8]> {
    let write = |who: &Identity, to| envelope::encode_unchecked(who, to, id, None, body).unwrap();
    let mut frame = write(&identity(sender), to).to_vec();
    let end = frame.len();
    match forgery {
        Forgery::Unsigned => frame[end - 64..].fill(0),
        Forgery::Stranger => {
            let stranger = Identity::new(sender, SigningKey::generate(&OsEntropy));
            return write(&stranger, to);
        }
        Forgery::WrongRole => return write(&identity(Role::Scheduler), to),
        Forgery::OtherReceiver => return write(&identity(sender), Receiver::Topic(&Topic::Events)),
        Forgery::Changed => frame[end - 65] ^= 1,
        Forgery::Garbage => frame = b"{}".to_vec(),
        Forgery::TooLarge => frame.resize(keywheel_bus::MAX_MESSAGE_BYTES + 1, 0),
        Forgery::Replay => {}
    }
    frame.into()
}

struct UnderTest(InProcess);

#[async_trait]
impl BusUnderTest for UnderTest {
    fn endpoint(&self, role: Role) -> Arc<dyn Bus> {
        self.0.endpoint(identity(role))
    }
    async fn forge(&self, forgery: Forgery, topic: &Topic, id: [u8; 16], body: Body) {
        let frame = forged(forgery, Role::Gateway, Receiver::Topic(topic), id, &body);
        self.0.inject(topic, frame).unwrap();
    }
    async fn forge_request(&self, forgery: Forgery, to: Address, body: Body) {
        let frame = forged(
            forgery,
            Role::Injector,
            Receiver::Request(to),
            [1; 16],
            &body,
        );
        self.0.inject_request(to, frame).unwrap();
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
    bus::run(|| async { UnderTest(hub()) }).await;
}
