//! Sealing: every place where a plaintext or a key meets a cipher, and nothing else.
//!
//! Owns the secret types, the signatures, the envelopes to hosts (HPKE) and the envelopes at rest
//! (KEK over DEK over value). Invariants: one DEK seals one message; a ciphertext opens only under
//! its own (deployment, secret, version, purpose); an unknown suite is refused, never guessed; no
//! type that holds a secret can be cloned, printed or serialised. It does no IO: randomness comes
//! in through [`Entropy`], and storage, sockets and clocks live elsewhere. Raw ciphers are
//! crate-private (`hazmat`); only paths that are hard to misuse are public. What only store-sync and the
//! command line need (`unseal`: Argon2id, splitting into shares) is behind the feature of that name.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backup;
pub mod digest;
mod entropy;
pub mod envelope;
mod hazmat;
pub mod hpke;
pub mod kept;
pub mod letters;
pub mod memory;
mod padding;
mod secret;
pub mod sign;
#[cfg(feature = "unseal")]
pub mod unseal;

pub use entropy::{Entropy, OsEntropy};
pub use padding::{PADDING_CLASSES, padding_class};
pub use secret::{MAX_VALUE_BYTES, SecretBytes, TooLarge};
