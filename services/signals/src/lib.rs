//! Signals: telling others outside what happened, and hearing from them what did.
//!
//! Owns the way of an event to a receiver ([`Notifier`]), the door at which signals come ([`Intake`]), and what
//! the API asks of both ([`Desk`]). Invariants: the log is the outbox, so nothing is lost that was not delivered
//! yet, and each receiver has a place and a task of its own, so none delays another; what comes is believed only
//! with its sender's proof, taken once, and kept only as far as a person chose, sealed and for a while
//! ([`Sweeper`]); no value goes out, for none is
//! in an event, and no key or token is in a text. It decides nothing.
//!
//! ```text
//! Desk::new(Parts)                           // in an Arc as http::Api::outside
//! Notifier::new(desk.clone()).run(stop)
//! Intake::new(desk).run(TcpListener, stop)
//! Sweeper::new(desk).run(stop)
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

pub use desk::{Desk, Parts};
pub use incoming::compare::{COMPARE_TIMEOUT, MAX_COMPARED};
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
