//! Signals: telling others outside what happened, and hearing from them what did.
//!
//! Owns the way of an event to a receiver ([`Notifier`]), the door at which signals come ([`Intake`]), and what
//! the API asks of both ([`Desk`]). Invariants: the log is the outbox, so nothing is lost that was not delivered
//! yet, and each receiver has a place and a task of its own, so none delays another; what comes is believed only
//! with its sender's proof, taken once, and kept only as far as a person chose, sealed and for a while
//! ([`Sweeper`]); a token that is reported is compared by its digest, later where store-sync is away ([`Later`]), and
//! kept nowhere; no value goes out, for none is in an event, and no key or token is in a text. It decides nothing.
//!
//! ```text
//! Desk::new(Parts)                           // in an Arc as http::Api::outside
//! Notifier::new(desk.clone()).run(stop)
//! Intake::new(desk).run(TcpListener, stop)
//! Sweeper::new(desk).run(stop)
//! Later::new(desk).run(stop)
//! ProviderDoor::new(ProviderPlace, clock, entropy)   // where people log in, in http::Api::logins
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

mod desk;
mod incoming;
mod keys;
mod letters;
mod outgoing;
mod provider;

pub use desk::{Desk, Parts};
pub use incoming::compare::{COMPARE_TIMEOUT, MAX_COMPARED};
pub use incoming::later::{Later, MAX_LATER_TOKENS, MAX_LATER_TRIES};
pub use incoming::limit::{BURST, Bucket, PER_MINUTE};
pub use incoming::proof::{MAX_AGE, NoProof, verify};
pub use incoming::reading::{Arrived, Heard, MAX_BATCH, Unread, read};
pub use incoming::server::{
    Intake, MAX_CONNECTIONS, MAX_READING_PER_SOURCE, MAX_SIGNAL_BODY_BYTES,
};
pub use keys::MAX_KEY_FILE_BYTES;
pub use letters::{SWEEP_INTERVAL, Sweeper};
pub use outgoing::notifier::{
    GIVE_UP_AFTER, GIVE_UP_PATIENCE, LONGEST_PAUSE, Notifier, PAGE, TURN_SPAN,
};
pub use provider::{MAX_PROVIDER_ANSWER_BYTES, PROVIDER_TIMEOUT, ProviderDoor, ProviderPlace};

/// Where a test can end, delay or fail what is done: around a message to a receiver, and after a signal is durable.
pub const FAILPOINTS: &[&str] = &[
    BEFORE_SEND,
    AFTER_SEND,
    AFTER_KEEP,
    AFTER_ADVANCE,
    AFTER_TAKE,
];
const BEFORE_SEND: &str = "signals.before_send";
const AFTER_SEND: &str = "signals.after_send";
const AFTER_KEEP: &str = "signals.after_keep";
const AFTER_ADVANCE: &str = "signals.after_advance";
const AFTER_TAKE: &str = "signals.after_take";
