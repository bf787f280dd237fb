//! Notifications: who outside is told which events, and how. Facts, refusals, state and the fold.
//!
//! It knows where a key lies, never the key. What a condition means, and how a message is made and sent, is
//! for others; how far a receiver came is no event.

use crate::id::NotificationId;
use crate::name::NotificationName;

/// Most notifications of one installation: each reads the log for itself.
pub const MAX_NOTIFICATIONS: usize = 32;
/// Longest URL, path or subject, in bytes.
pub const MAX_NOTIFICATION_TEXT_BYTES: usize = 2048;
/// Longest address of mail, in bytes.
pub const MAX_MAIL_ADDRESS_BYTES: usize = 254;

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// An HTTP endpoint that checks signatures as Standard Webhooks has them.
    Webhook {
        /// `https://host/path`.
        url: String,
        /// File with the key that signs.
        key_file: String,
        /// PEM file with the authorities of its certificate; empty for the system's.
        ca_file: String,
    },
    /// A channel of Slack, or of what takes the same messages.
    Slack {
        /// File with the URL, which is a credential itself.
        url_file: String,
        /// PEM file with the authorities of its certificate; empty for the system's.
        ca_file: String,
    },
    /// A subject of a NATS server.
    Nats {
        /// `tls://host:port`.
        url: String,
        /// The subject.
        subject: String,
        /// File with the credentials, as NATS writes them; empty for none.
        credentials_file: String,
        /// PEM file with the authorities of its certificate; empty for the system's.
        ca_file: String,
    },
    /// A mailbox, by a mail server that takes what is sent there.
    Email {
        /// `smtps://host:port`.
        url: String,
        /// Address of the sender.
        from: String,
        /// Address that is told.
        to: String,
        /// File with login and password, a line each; empty for none.
        credentials_file: String,
        /// PEM file with the authorities of its certificate; empty for the system's.
        ca_file: String,
    },
}

impl Receiver {
    /// Its kind, in one word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Nats { .. } => "nats",
            Self::Email { .. } => "email",
        }
    }

    /// Where it is, for people: never a URL that is a credential.
    #[must_use]
    pub fn place(&self) -> &str {
        match self {
            Self::Webhook { url, .. } | Self::Nats { url, .. } => url,
            Self::Slack { url_file, .. } => url_file,
            Self::Email { to, .. } => to,
        }
    }
}

/// What a person declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Who is told.
    pub receiver: Receiver,
    /// What has to hold for an event, in CEL over `event`; empty for every one.
    pub when: String,
}

/// What happened to a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// From the next event on its receiver is told.
    Declared {
        /// Its name, for ever.
        name: NotificationName,
        /// What was declared.
        spec: Spec,
    },
    /// A later manifest says something else.
    Changed {
        /// The new declaration, whole.
        spec: Spec,
    },
    /// Nobody is told any more.
    Removed,
}

/// A normal "no" about a notification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// None has that name.
    #[error("no notification is named `{0}`; `keywheel notification list` lists them")]
    Unknown(NotificationName),
    /// There are as many as there may be.
    #[error(
        "there are {MAX_NOTIFICATIONS} notifications already, so `{0}` is not made; remove one with `keywheel notification remove`"
    )]
    TooMany(NotificationName),
}

/// A declared notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its id.
    pub id: NotificationId,
    /// Its name.
    pub name: NotificationName,
    /// What was declared.
    pub spec: Spec,
    /// Number in the log of the event that declared it: its receiver is told what comes after.
    pub since: u64,
}
