//! Fakes of the ports: they keep the laws and forget everything when dropped.

mod clock;
mod ids;

pub use clock::FakeClock;
pub use ids::FakeIds;
