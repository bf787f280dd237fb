//! Events of a source of signals: what was declared of it, and what somebody outside said by it.
//!
//! Of a signal's content only what a person chose is here, so no value is.

use std::collections::BTreeMap;

use keywheel_core::id::SecretId;
use keywheel_core::name::SignalSourceName;
use keywheel_core::signal;

use crate::mirror::{Text, mirror_enum, mirror_struct, mirror_words};

mirror_words! {
    /// In what form signals come.
    Format = signal::Format {
        /// CloudEvents 1.0 over HTTP: binary, structured or batch.
        CloudEvents,
        /// GitHub's webhook `secret_scanning_alert`.
        GithubAlert,
        /// What GitHub sends to partners of its secret scanning.
        GithubPartner,
        /// JSON of any shape, which a mapping reads.
        Webhook,
    }
}

mirror_words! {
    /// How a sender proves that it is who it says.
    Proof = signal::Proof {
        /// Standard Webhooks: HMAC-SHA256 over id, time and body.
        StandardWebhooks,
        /// `X-Hub-Signature-256`: HMAC-SHA256 over the body.
        HubSignature,
        /// `Authorization: Bearer`.
        Bearer,
        /// GitHub's signature for partners: ECDSA P-256 over the body.
        GithubPartner,
    }
}

mirror_struct! {
    /// A source of signals as it was declared.
    SourceSpec = signal::Spec {
        /// In what form signals come.
        format: Format,
        /// How they are proven.
        proof: Proof,
        /// File with the key or token that proves them, on the gateway's machine.
        key_file: String,
        /// What is kept of a signal's content, by name: CEL over `body`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        map: BTreeMap<String, String>,
        /// Whether the content of what cannot be read is kept in its letter.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keeps_letters: bool,
    }
}

mirror_struct! {
    /// A version that holds the token that a signal reports.
    SignalMatch = signal::Match {
        /// The secret.
        secret: Text<SecretId>,
        /// Its version.
        version: u64,
    }
}

mirror_enum! {
    /// What happened to a source of signals.
    SignalEvent = signal::Event {
        /// Its signals are taken from now on.
        SourceDeclared {
            /// Its name, for ever.
            name: Text<SignalSourceName>,
            /// What was declared.
            spec: SourceSpec,
        },
        /// A later manifest says something else.
        SourceChanged {
            /// The new declaration, whole.
            spec: SourceSpec,
        },
        /// Its signals are refused.
        SourceRemoved {},
        /// Somebody outside said that something happened.
        Received {
            /// The declared source it came by.
            via: Text<SignalSourceName>,
            /// Its own source, as its sender writes it.
            source: String,
            /// Its id there.
            id: String,
            /// What happened, as its sender calls it.
            #[serde(rename = "type")]
            kind: String,
            /// What it happened to; empty when that is not said.
            subject: String,
            /// What was kept of its content.
            fields: BTreeMap<String, String>,
            /// Whether the token that it reports was compared with every value that is in use; absent where it
            /// reports none.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            compared: Option<bool>,
            /// The versions that hold that token; absent where that is not known.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            matched: Option<Vec<SignalMatch>>,
            /// The number of the event with which it was taken without that comparison: this one says what came of it
            /// later. Absent of one that was not taken before.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            first: Option<u64>,
        },
    }
}
