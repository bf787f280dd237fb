//! Keys, clocks and forgeries for the bus under test, whatever its transport.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests; not every one uses all of it"
)]

pub mod nats;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keywheel_bus::envelope::{self, Frame, Heading, Receiver};
use keywheel_bus::{Identity, Trust};
use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_engine::authority::ROLES;
use keywheel_engine::port::bus::{Body, Topic};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_seal::sign::SigningKey;
use keywheel_seal::{Entropy as _, OsEntropy, SecretBytes};
use keywheel_testkit::conformance::bus::{Forgery, HOST};

/// After what time an unacknowledged message comes again. No test's machine should stand still so long
/// between taking a message and acknowledging it.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(4);
/// How long to wait for what is going to happen: far above every single timeout of the bus.
pub const SOON: Duration = Duration::from_secs(180);
pub const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([3; 16]);

pub struct RealClock(Instant);

impl RealClock {
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

pub struct RandomIds;

impl Ids for RandomIds {
    fn draw(&self) -> [u8; 16] {
        let mut id = [0; 16];
        OsEntropy.fill(&mut id);
        id
    }
}

pub fn identity(role: Role) -> Identity {
    let number = ROLES.iter().position(|other| *other == role).unwrap();
    let seed = SecretBytes::from(vec![u8::try_from(number).unwrap() + 1; 32]);
    let key = SigningKey::from_seed_bytes(&seed).unwrap();
    match role {
        Role::Injector => Identity::injector(DEPLOYMENT, HOST, key),
        role => Identity::service(DEPLOYMENT, role, key),
    }
}

pub fn trust() -> Trust {
    let keys = ROLES.map(|role| (role, identity(role).verifying_key()));
    let trust = Trust::new(DEPLOYMENT, keys);
    trust.set_hosts([(HOST, identity(Role::Injector).verifying_key())].into());
    trust
}

/// A frame that is wrong in one way; `sender` is who would be right.
pub fn forged(
    forgery: Forgery,
    sender: Role,
    to: Receiver<'_>,
    id: [u8; 16],
    body: &Body,
) -> Frame {
    let heading = Heading {
        id,
        time: RealClock::new().now(),
        traceparent: None,
    };
    let write = |who: &Identity, to| envelope::encode_unchecked(who, to, heading, body).unwrap();
    let stranger = || SigningKey::generate(&OsEntropy);
    let mut frame = write(&identity(sender), to);
    match forgery {
        Forgery::Unsigned => frame.signature.fill(0),
        Forgery::Stranger => {
            return match sender {
                Role::Injector => write(&Identity::injector(DEPLOYMENT, HOST, stranger()), to),
                role => write(&Identity::service(DEPLOYMENT, role, stranger()), to),
            };
        }
        Forgery::WrongRole => return write(&identity(Role::Scheduler), to),
        Forgery::OtherReceiver => return write(&identity(sender), Receiver::Topic(&Topic::Events)),
        Forgery::OtherHost => {
            let key = SigningKey::from_seed_bytes(&identity_seed(sender)).unwrap();
            let host = keywheel_core::id::HostId::from_bytes([77; 16]);
            return write(&Identity::injector(DEPLOYMENT, host, key), to);
        }
        Forgery::Changed => {
            let end = frame.document.len();
            frame.document[end - 3] ^= 1;
        }
        Forgery::Garbage => frame.document = b"{}".to_vec(),
        Forgery::TooLarge => frame
            .document
            .resize(keywheel_bus::MAX_MESSAGE_BYTES + 1, b' '),
        Forgery::Replay => {}
    }
    frame
}

fn identity_seed(role: Role) -> SecretBytes {
    let number = ROLES.iter().position(|other| *other == role).unwrap();
    SecretBytes::from(vec![u8::try_from(number).unwrap() + 1; 32])
}

/// An audit record of this number.
pub fn leaf(index: u64) -> Body {
    Body::Audit(keywheel_engine::port::journal::AuditLeaf {
        index,
        bytes: format!("{{\"n\":{index}}}").into_bytes().into(),
    })
}

pub fn index_of(incoming: &keywheel_engine::port::bus::Incoming) -> u64 {
    match &incoming.message.body {
        Body::Audit(leaf) => leaf.index,
        other => panic!("an audit record was expected, not {other:?}"),
    }
}

pub fn id(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

pub fn plan(host: keywheel_core::id::HostId, generation: u64) -> Body {
    Body::Plan(keywheel_core::plan::HostPlan {
        host,
        host_name: keywheel_core::name::HostName::parse("one").unwrap(),
        generation,
        bindings: Vec::new(),
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    })
}

pub fn attempt_of(incoming: &keywheel_engine::port::bus::Incoming) -> u64 {
    match &incoming.message.body {
        Body::Work { effect, .. } => match &effect.work {
            keywheel_core::effect::Work::Revoke(revoke) => u64::from(revoke.attempt),
            other => panic!("a revocation was expected, not {other:?}"),
        },
        other => panic!("an effect was expected, not {other:?}"),
    }
}
