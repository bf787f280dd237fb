//! Signals: what somebody outside says that happened, and who may say it. Facts, refusals and bounds.
//!
//! Invariant: of a signal only bounded texts are kept that a person chose, so no value has a place here; of a token
//! that it reports, only which versions hold it. How
//! a signal is proven and read is for others; that it is taken once, its command's id sees to.

use std::collections::BTreeMap;

use crate::id::{SecretId, SignalSourceId};
use crate::name::SignalSourceName;

/// Most declared sources of signals.
pub const MAX_SIGNAL_SOURCES: usize = 32;
/// Longest text of a signal, in bytes.
pub const MAX_SIGNAL_TEXT_BYTES: usize = 256;
/// Most texts that are kept of a signal beside what names it.
pub const MAX_SIGNAL_FIELDS: usize = 16;

/// Most versions that are named because they hold what a signal reports.
pub const MAX_SIGNAL_MATCHES: usize = 16;

/// A version that holds the token that a signal reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// The secret.
    pub secret: SecretId,
    /// Its version.
    pub version: u64,
}

/// In what form signals come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// CloudEvents 1.0 over HTTP: binary, structured or batch.
    CloudEvents,
    /// GitHub's webhook `secret_scanning_alert`.
    GithubAlert,
    /// What GitHub sends to partners of its secret scanning.
    GithubPartner,
    /// JSON of any shape, which a mapping reads.
    Webhook,
}

/// How a sender proves that it is who it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Standard Webhooks: HMAC-SHA256 over id, time and body.
    StandardWebhooks,
    /// `X-Hub-Signature-256`: HMAC-SHA256 over the body, as GitHub and many others send it.
    HubSignature,
    /// `Authorization: Bearer`: a token that both know.
    Bearer,
    /// GitHub's signature for partners: ECDSA P-256 over the body.
    GithubPartner,
}

/// What a person declared of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// In what form signals come.
    pub format: Format,
    /// How they are proven.
    pub proof: Proof,
    /// File with the key or token that proves them.
    pub key_file: String,
    /// What is kept of a signal's content, by name: CEL over `body`. `id` and `type` name the signal.
    pub map: BTreeMap<String, String>,
    /// Whether the content of what cannot be read is kept in its letter: it may hold what leaked.
    pub keeps_letters: bool,
}

/// A signal that was proven and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The declared source it came by.
    pub via: SignalSourceName,
    /// Its own source, as its sender writes it.
    pub source: String,
    /// Its id there.
    pub id: String,
    /// What happened, as its sender calls it.
    pub kind: String,
    /// What it happened to; empty when that is not said.
    pub subject: String,
    /// What was kept of its content.
    pub fields: BTreeMap<String, String>,
    /// Whether the token that it reports was compared with every value that is in use; `None` where it reports none.
    pub compared: Option<bool>,
    /// The versions that hold it; `None` where that is not known.
    pub matched: Option<Vec<Match>>,
    /// The number of the event with which it was taken without that comparison; `None` of one that was not taken yet.
    pub first: Option<u64>,
}

/// What happened to a source of signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its signals are taken from now on.
    SourceDeclared {
        /// Its name, for ever.
        name: SignalSourceName,
        /// What was declared.
        spec: Spec,
    },
    /// A later manifest says something else.
    SourceChanged {
        /// The new declaration, whole.
        spec: Spec,
    },
    /// Its signals are refused.
    SourceRemoved,
    /// Somebody outside said that something happened.
    Received {
        /// The declared source it came by.
        via: SignalSourceName,
        /// Its own source.
        source: String,
        /// Its id there.
        id: String,
        /// What happened.
        kind: String,
        /// What it happened to; empty when that is not said.
        subject: String,
        /// What was kept of its content.
        fields: BTreeMap<String, String>,
        /// Whether the token that it reports was compared with every value that is in use; `None` where it reports
        /// none.
        compared: Option<bool>,
        /// The versions that hold it; `None` where that is not known.
        matched: Option<Vec<Match>>,
        /// The number of the event with which it was taken without that comparison: this one says what came of it
        /// later.
        first: Option<u64>,
    },
}

impl Event {
    /// The one secret that a signal is about, since it alone holds what the signal reports.
    #[must_use]
    pub fn secret(&self) -> Option<SecretId> {
        let Self::Received {
            matched: Some(matched),
            ..
        } = self
        else {
            return None;
        };
        let first = matched.first()?.secret;
        let is_first = |one: &Match| one.secret == first;
        matched.iter().all(is_first).then_some(first)
    }

    /// Of what came of a comparison later, the same signal as it was taken first; `None` of everything else.
    #[must_use]
    pub fn as_first(&self) -> Option<Self> {
        let mut taken = self.clone();
        let Self::Received {
            compared,
            matched,
            first,
            ..
        } = &mut taken
        else {
            return None;
        };
        first.take()?;
        (*compared, *matched) = (Some(false), None);
        Some(taken)
    }
}

/// A normal "no" about a signal or its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No source has that name.
    #[error("no source of signals is named `{0}`; `keywheel signal sources` lists them")]
    Unknown(SignalSourceName),
    /// There are as many as there may be.
    #[error(
        "there are {MAX_SIGNAL_SOURCES} sources of signals already, so `{0}` is not made; remove one with `keywheel signal remove-source`"
    )]
    TooMany(SignalSourceName),
    /// A text is longer than may be kept, or there are too many.
    #[error(
        "the signal has more than {MAX_SIGNAL_FIELDS} fields, or a text of more than {MAX_SIGNAL_TEXT_BYTES} bytes, or none where it has to be named; map shorter parts of it"
    )]
    OutOfBounds,
    /// A text is none that people are shown.
    #[error(
        "a text of the signal holds control characters; map another part of it, or one line of it"
    )]
    NoText,
}

/// A declared source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its id.
    pub id: SignalSourceId,
    /// Its name.
    pub name: SignalSourceName,
    /// What was declared.
    pub spec: Spec,
}

impl Signal {
    /// Whether it is within bounds and named.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let fits = |text: &String| text.len() <= MAX_SIGNAL_TEXT_BYTES;
        let names = [&self.source, &self.id, &self.kind];
        names.iter().all(|text| !text.is_empty() && fits(text))
            && fits(&self.subject)
            && self.fields.len() <= MAX_SIGNAL_FIELDS
            && self
                .matched
                .iter()
                .all(|all| all.len() <= MAX_SIGNAL_MATCHES)
            && self
                .fields
                .iter()
                .all(|(name, text)| fits(name) && fits(text))
    }

    /// Whether its texts are text: what people are shown of it begins no line of its own and controls no terminal.
    #[must_use]
    pub fn is_text(&self) -> bool {
        let is_text = |text: &String| !text.chars().any(char::is_control);
        let names = [&self.source, &self.id, &self.kind, &self.subject];
        let mut fields = self.fields.iter();
        names.into_iter().all(is_text) && fields.all(|(name, text)| is_text(name) && is_text(text))
    }
}
