//! The gateway: decides, appends, tells; serves people on a unix socket and a TCP
//! port, services on the bus, and machines that join.
//!
//! It alone opens the journal. It holds no secret value and no key that opens one. Where services run
//! apart, it is wired so:
//!
//! ```text
//! registry::Registry::open(Home, UnsealKey, registry::Told { trust, servers, join_address, lifetime },
//!                          Arc<dyn Entropy>) -> Result<Registry, InitError>        // one, in an Arc
//!   as http::Api::join_tokens (TokenMaker), as bus_server::BusServer::renewals (Renewals);
//!   .with_registrar(|registrar| refresh(…)), .refuse(keys, now), .refresh_own(dir, now)
//! evictions::keep(Arc<Registry>, watch::Receiver<Vec<RefusedKey>>, Arc<dyn Clock>, stop)
//! claims::Claims { registry, desk: BusDesk { directory, servers }, clock, connects, told }.run(stop)
//! join::JoinServer::new(Api, Arc<Registry>, &Arc<TlsIdentity>, door::Spans)?.run(TcpListener, stop)
//! remote::RemoteServer::new(Api, &Arc<TlsIdentity>, door::Spans)?.run(TcpListener, stop)
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

pub mod access;
pub mod admission;
pub mod at_machine;
pub mod bus_server;
pub mod claims;
pub mod deeds;
pub mod denials;
pub mod door;
pub mod dual;
pub mod evictions;
pub mod http;
pub mod join;
pub mod lifecycle;
pub mod login;
pub mod metrics;
pub mod places;
pub mod presence;
pub mod registry;
pub mod remote;
pub mod retention;
pub mod root_key;
pub mod server;
mod sinks;
pub mod socket;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod views;
