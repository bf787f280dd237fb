//! The adapter for Vault and OpenBao at a real OpenBao, one server per test: the laws of the port,
//! the same through a proxy that does wrong, every way to log in, the policy that we print, what
//! `check` says, static roles and logins by lease at a real PostgreSQL, and all of it through traps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod crashes;
mod laws;
mod leases;
mod logins;
mod rights;
mod static_roles;
