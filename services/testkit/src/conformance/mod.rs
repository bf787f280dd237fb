//! One suite per port: the port's laws as runs against whatever implements it.

pub mod accounts;
pub mod bus;
pub mod container_host;
pub mod deliveries;
pub mod gateways;
pub mod journal;
pub mod journal_shared;
pub mod key_service;
pub mod leases;
pub mod rotator;
pub mod store;
pub mod subscriptions;
pub mod vault;
pub mod vault_keys;
