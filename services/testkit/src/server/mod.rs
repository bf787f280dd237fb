//! Real servers for tests: each test starts its own, on a port of its own, and it ends with the test.

pub mod aws;
mod child;
mod directory;
pub mod fault;
pub mod glewlwyd;
pub mod mariadb;
pub mod mysql;
pub mod nats;
pub mod openbao;
pub mod port;
pub mod postgres;
pub mod redis;
pub mod rsyslog;
