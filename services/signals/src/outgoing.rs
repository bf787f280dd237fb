//! The way of an event to a receiver outside: what is said, how it is sent, and who goes through the log.

mod calls;
pub(crate) mod mail;
pub(crate) mod message;
pub(crate) mod notifier;
pub(crate) mod sender;
pub(crate) mod whose;
