//! What a rotator's receiver (`type: webhook`) is asked and what it answers.
//!
//! The one place on the wire where a value stands in the clear: the receiver is the resource, so it has to
//! learn the value, over TLS, in the body of a signed request. Invariants: a request has no `Debug`;
//! a repeat of one step is the same request, byte for byte; members of an answer that are not known are
//! skipped. It signs and sends nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the receiver is to do: a step of a rotation, as `type` names it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Kind {
    /// Make a new value and answer it, or leave it to Keywheel to make one.
    #[serde(rename = "keywheel.rotator.create")]
    Create,
    /// Accept `value` from now on.
    #[serde(rename = "keywheel.rotator.set")]
    Set,
    /// Try `value` and answer whether it is accepted.
    #[serde(rename = "keywheel.rotator.test")]
    Test,
    /// The new value is the current one from now on.
    #[serde(rename = "keywheel.rotator.finish")]
    Finish,
    /// Refuse `value` from now on.
    #[serde(rename = "keywheel.rotator.revoke")]
    Revoke,
    /// Answer whether `value` is accepted now, and change nothing.
    #[serde(rename = "keywheel.rotator.probe")]
    Probe,
}

/// Why a value dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// Its rotation is over: all consumers have moved.
    Retired,
    /// Its rotation failed; with `singleUser` the value in `current` is to be accepted again.
    RolledBack,
    /// Somebody revoked it: end its sessions, too. A value in `current` is to be accepted again.
    Revoked,
}

/// What the receiver promises about the old value while the new one is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Overlap {
    /// Old and new are both accepted until the old one is revoked.
    DualPassword,
    /// `set` ends the old one.
    SingleUser,
}

/// A request, as Standard Webhooks has it: `type` and `data`.
#[derive(Serialize, JsonSchema)]
pub struct WebhookRequest<'a> {
    /// What to do.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// On what.
    pub data: WebhookTask<'a>,
}

/// On what it is to be done.
#[derive(Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTask<'a> {
    /// The secret's uuid.
    pub secret: String,
    /// The rotation's uuid; absent when a version ends outside one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
    /// The version; numbers are never used again.
    pub version: u64,
    /// `account` of the manifest; where that names none, the path of the URL.
    pub account: &'a str,
    /// What was promised about the old value.
    pub strategy: Overlap,
    /// The version's value: at `set`, `test` and `probe`; at `revoke` where it is still known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<&'a str>,
    /// Why the value dies: at `revoke`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The version that stays: at `revoke` with reason `rolledBack`, or `revoked` where what dies had taken
    /// its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<WebhookCurrent<'a>>,
}

/// A version that stays.
#[derive(Clone, Serialize, JsonSchema)]
pub struct WebhookCurrent<'a> {
    /// Its number.
    pub version: u64,
    /// Its value.
    pub value: &'a str,
}

/// An answer: of a success the first two members, of a refusal (status 4xx) the last.
#[derive(Default, Deserialize, JsonSchema)]
pub struct WebhookAnswer {
    /// The value that was made there: at `create`; absent, Keywheel makes one.
    #[serde(default)]
    pub value: Option<String>,
    /// Whether the value is accepted: required at `test` and `probe`.
    #[serde(default)]
    pub accepted: Option<bool>,
    /// Why not, for a person; never a value.
    #[serde(default)]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_without_what_is_absent() {
        let request = WebhookRequest {
            kind: Kind::Revoke,
            data: WebhookTask {
                secret: "s".to_owned(),
                rotation: None,
                version: 7,
                account: "app",
                strategy: Overlap::DualPassword,
                value: Some("old"),
                reason: Some(Reason::RolledBack),
                current: None,
            },
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            r#"{"type":"keywheel.rotator.revoke","data":{"secret":"s","version":7,"account":"app","strategy":"dualPassword","value":"old","reason":"rolledBack"}}"#
        );
    }

    #[test]
    fn an_answer_is_read_whatever_else_is_in_it() {
        let read = |text: &str| serde_json::from_str::<WebhookAnswer>(text);
        let answer = read(r#"{"accepted":true,"more":[1]}"#).unwrap();
        assert_eq!((answer.accepted, answer.value), (Some(true), None));
        assert_eq!(
            read(r#"{"value":"v"}"#).unwrap().value.as_deref(),
            Some("v")
        );
        assert!(read("{}").unwrap().reason.is_none());
        assert!(read(r#"{"accepted":"yes"}"#).is_err());
    }
}
