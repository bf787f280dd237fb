//! Rotators of real credentials: one module per kind of server that checks passwords, each an adapter
//! of `port::accounts`.
//!
//! Invariants: no statement that is sent holds a password where the server takes what it keeps of one;
//! no error and no `Debug` holds a value; beyond this machine every connection is TLS with the server's
//! name checked. They decide nothing about when.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod address;
pub mod mariadb;
pub mod redis;

pub use mariadb::MariaDb;
pub use redis::Redis;
