//! Rotators of real credentials: accounts at a database or a cache, one module per kind of server.
//!
//! Owns how a secret's value and an account belong together ([`form`]), the steps of a rotation over
//! the engine's port `Accounts` ([`AccountRotator`]), those that a receiver of a person's own performs
//! ([`WebhookRotator`]), and the logins with what a store lends ([`ProbedRotator`]). Invariants: a password is at rest only in the
//! vault, sealed, before any server hears of it; an account is never given a new password while a
//! version that opens it is kept; no text of an error holds a password. It keeps nothing itself and
//! decides nothing: the core says which step comes when.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod account;
mod address;
mod barring;
mod connector;
pub mod endpoint;
mod failpoint;
pub mod form;
pub mod mariadb;
mod password;
pub mod postgres;
mod probed;
pub mod redis;
mod trust;
pub mod webhook;

pub use account::AccountRotator;
pub use connector::{Connector, grants};
pub use failpoint::FAILPOINTS;
pub use probed::ProbedRotator;
pub use webhook::WebhookRotator;
