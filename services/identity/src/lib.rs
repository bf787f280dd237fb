//! Who may speak: the deployment's certificate authority, host and service credentials, join tokens,
//! and the bus server's users. Holds no transport and no journal.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod authority;
mod hex;
pub mod name;
pub mod tls;
