//! Why bytes from outside were refused. Never quotes the bytes themselves: a message on its way may
//! carry a sealed value.

/// Bytes that are not what they claim to be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Over the limit.
    #[error("{what} has {bytes} bytes; at most {limit} are allowed")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Not JSON, or not the shape asked for.
    #[error("cannot read {what}")]
    Shape {
        /// What was read.
        what: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// JSON, but not in the one form that is hashed.
    #[error("the event is not in canonical form: keys sorted, no whitespace, no key twice")]
    NotCanonical,
    /// A CloudEvents attribute is missing or wrong.
    #[error("attribute `{name}` {fault}")]
    Attribute {
        /// The attribute.
        name: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// A type this build does not know; a newer one may.
    #[error("event type `{0}` is not known here; it may come from a newer version of Keywheel")]
    UnknownType(String),
    /// A message of another schema number.
    #[error("{what} carries schema number {found}; this build reads {known}")]
    SchemaNumber {
        /// What was read.
        what: &'static str,
        /// The number it carries; `none` when there is none.
        found: String,
        /// The number that is read here.
        known: u64,
    },
    /// Text that is not an effect's key.
    #[error(
        "`{0}` is not an effect's key: expected `step/<rotation>/<step>/<attempt>` or `revoke/<revocation>/<attempt>`"
    )]
    EffectKey(String),
}
