//! The wire contract of Keywheel: events, bus messages, manifests, configuration and the HTTP API
//! as serde shapes beside the core's types, and the JSON Schemas made from them.
//!
//! Invariant: a shape that was released keeps its meaning; what changes gets a new version. Reading
//! bytes from outside never panics and is bounded. What it does not do: decide, store, send.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
pub mod asyncapi;
pub mod backup;
mod canonical;
pub mod catalogue;
pub mod condition;
pub mod config;
pub mod error;
pub mod event;
pub mod examples;
pub mod leaf;
pub mod manifest;
pub mod mirror;
mod near;
pub mod openapi;
pub mod seal_file;
mod span;
pub mod stale;
pub mod subject;
pub mod template;
pub mod texts;
pub mod webhook;
pub mod wire;
