//! Shapes of `kind: Notification` and `kind: SignalSource`.

use std::collections::BTreeMap;

use keywheel_core::notification::{MAX_MAIL_ADDRESS_BYTES, MAX_NOTIFICATION_TEXT_BYTES};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const _: () = assert!(
    MAX_NOTIFICATION_TEXT_BYTES == 2048 && MAX_MAIL_ADDRESS_BYTES == 254,
    "the shapes say it, too"
);

/// Who outside is told which events: give one of `webhook`, `slack`, `nats` and `email`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// An HTTP endpoint that checks signatures as Standard Webhooks has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookReceiver>,
    /// A channel of Slack, or of what takes the same messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackReceiver>,
    /// A subject of a NATS server, which a stream of JetStream there keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsReceiver>,
    /// A mailbox, by a mail server that takes what is sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailReceiver>,
    /// What has to hold for an event, in CEL over `event`; absent: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub when: Option<String>,
}

/// An HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookReceiver {
    /// `https://host/path`; `http` to this machine only.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// File with the key that signs: `whsec_` and the base64 of 24 to 64 bytes; two while it is changed.
    #[serde(rename = "keyFile")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub key_file: String,
    /// PEM file with the authorities of its certificate; absent for the system's.
    #[serde(default, rename = "caFile", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub ca_file: Option<String>,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackReceiver {
    /// File with the URL of the incoming webhook, which is a credential itself.
    #[serde(rename = "urlFile")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub url_file: String,
    /// PEM file with the authorities of its certificate; absent for the system's.
    #[serde(default, rename = "caFile", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub ca_file: Option<String>,
}

/// A subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsReceiver {
    /// `tls://host:port`; `nats://` to this machine only.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// The subject, without `*` and `>`.
    #[schemars(length(min = 1, max = 2048))]
    pub subject: String,
    /// File with credentials, as NATS writes them; absent for none.
    #[serde(
        default,
        rename = "credentialsFile",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub credentials_file: Option<String>,
    /// PEM file with the authorities of its certificate; absent for the system's.
    #[serde(default, rename = "caFile", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub ca_file: Option<String>,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailReceiver {
    /// The mail server: `smtps://host:port`; `smtp://` to this machine only.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// Address of the sender.
    #[schemars(length(max = 254))]
    pub from: String,
    /// Address that is told.
    #[schemars(length(max = 254))]
    pub to: String,
    /// File with login and password, a line each; absent for none.
    #[serde(
        default,
        rename = "credentialsFile",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub credentials_file: Option<String>,
    /// PEM file with the authorities of its certificate; absent for the system's.
    #[serde(default, rename = "caFile", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub ca_file: Option<String>,
}

/// Who outside may say that something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalSource {
    /// `cloudEvents`, `githubAlert`, `githubPartner`, or `webhook`: JSON of any shape, which `map` reads.
    #[schemars(regex(pattern = r"^(cloudEvents|githubAlert|githubPartner|webhook)$"))]
    pub format: String,
    /// How a sender proves itself: `standardWebhooks`, the default, `hubSignature` or `bearer`. GitHub's
    /// formats have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(standardWebhooks|hubSignature|bearer)$"))]
    pub proof: Option<String>,
    /// File with the key or token that proves it, on the gateway's machine.
    #[serde(rename = "keyFile")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub key_file: String,
    /// What is kept of a signal's content, by name: an expression in CEL over `body`. Of a `webhook` also
    /// what names the signal: `id`, `type`, and `source` and `subject` where it has them. What `token` names is
    /// compared with the values in use, and kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<BTreeMap<String, String>>,
    /// What a letter holds of a request that cannot be read: nothing of its content (`discard`, the default), or all
    /// of it (`keep`), sealed and for seven days, so that it can be read anew. It may hold what leaked. GitHub's
    /// formats keep nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(keep|discard)$"))]
    pub letters: Option<String>,
}
