//! What tests of several rotators share: who is rotated, and deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::until::Until;

pub(crate) const SECRET: SecretId = SecretId::from_bytes([1; 16]);
pub(crate) const TOKEN: RotationId = RotationId::from_bytes([2; 16]);
pub(crate) const VERSION: u64 = 4;

/// A clock that goes on by a microsecond at every look.
#[derive(Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// In time for so many calls.
pub(crate) fn for_calls(calls: i64) -> Until {
    let deadline = Timestamp::from_micros(calls);
    Until::new(deadline, Arc::<Ticking>::default())
}

pub(crate) fn always() -> Until {
    for_calls(i64::MAX)
}
