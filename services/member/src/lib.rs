//! One member of a deployment whose services run apart, a service or a host: from its directory of
//! credentials to its connection with the bus, and those credentials fresh as long as it runs.
//!
//! Invariants: who it is on the bus is what its certificate says; the directory holds either all old
//! files or all new ones; nothing that is under way is lost when credentials change. What a member
//! does on the bus is not decided here, nor who may renew.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod connection;
mod keeper;

pub use connection::{MemberError, check_permit, connect, files, signing_key, speaker, trust};
pub use keeper::{
    Begin, JoinPort, Keeper, OverBus, RENEWAL_TIMEOUT, RenewalFault, Sealing, SealingKeys, Source,
    Taken, ends,
};
