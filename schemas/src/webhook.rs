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

    fn published(name: &str) -> jsonschema::Validator {
        jsonschema::validator_for(&crate::catalogue::published(name)).unwrap()
    }

    #[test]
    fn every_request_fits_the_published_schema_and_a_broken_one_does_not() {
        let schema = published(crate::catalogue::WEBHOOK_SCHEMAS[0]);
        let kinds = [
            Kind::Create,
            Kind::Set,
            Kind::Test,
            Kind::Finish,
            Kind::Revoke,
            Kind::Probe,
        ];
        let reasons = [
            None,
            Some(Reason::Retired),
            Some(Reason::RolledBack),
            Some(Reason::Revoked),
        ];
        for kind in kinds {
            for reason in reasons {
                for strategy in [Overlap::DualPassword, Overlap::SingleUser] {
                    let is_whole = reason.is_some();
                    let current = WebhookCurrent {
                        version: 6,
                        value: "old",
                    };
                    let data = WebhookTask {
                        secret: "s".to_owned(),
                        rotation: is_whole.then(|| "r".to_owned()),
                        version: 7,
                        account: "app",
                        strategy,
                        value: is_whole.then_some("new"),
                        reason,
                        current: is_whole.then_some(current),
                    };
                    let sent = serde_json::to_value(WebhookRequest { kind, data }).unwrap();
                    assert!(schema.is_valid(&sent), "{sent}");
                    for (at, wrong) in [
                        ("/type", "keywheel.rotator.drop"),
                        ("/data/version", "7"),
                        ("/data/strategy", "both"),
                    ] {
                        let mut broken = sent.clone();
                        *broken.pointer_mut(at).unwrap() = wrong.into();
                        assert!(!schema.is_valid(&broken), "{broken}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_answer_fits_the_published_schema_and_a_broken_one_does_not() {
        let schema = published(crate::catalogue::WEBHOOK_SCHEMAS[1]);
        for (text, is_good) in [
            ("{}", true),
            (r#"{"value":"v"}"#, true),
            (r#"{"accepted":false}"#, true),
            (r#"{"reason":"not now"}"#, true),
            (r#"{"accepted":"yes"}"#, false),
            (r#"{"value":7}"#, false),
        ] {
            let answer = serde_json::from_str(text).unwrap();
            assert_eq!(schema.is_valid(&answer), is_good, "{text}");
        }
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
