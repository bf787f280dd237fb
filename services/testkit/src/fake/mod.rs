//! Fakes of the ports: they keep the laws and forget everything when dropped.

mod accounts;
mod clock;
mod container_host;
mod cutting;
mod deliveries;
mod flood;
mod ids;
mod journal;
mod key_service;
mod leases;
mod store;
mod subscriptions;
mod trap;
mod vault;

pub use accounts::FakeAccounts;
pub use clock::FakeClock;
pub use container_host::FakeContainerHost;
pub use cutting::CuttingAccounts;
pub use flood::Flood;
pub use ids::FakeIds;
pub use journal::MemoryJournal;
pub use key_service::FakeKeyService;
pub use leases::FakeLeases;
pub use store::FakeStore;
pub use trap::{Child, Trap, TrapFault};
pub use vault::{Cut, FakeVault};
