//! Real servers for tests: each test starts its own, on a port of its own, and it ends with the test.

pub mod aws;
pub mod fault;
pub mod nats;
pub mod openbao;
pub mod port;
pub mod postgres;
