//! How the API says no: RFC 9457, with our next step and exit code.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Content type of a [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A refusal or failure. `detail` names the thing and the reason, `next` the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Address of the page about `code`, or `about:blank`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The sort of problem, the same words every time.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// The thing and the reason.
    pub detail: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// Stable word for programs: `secret-unknown`, `denied`, …
    pub code: String,
    /// What a client exits with.
    pub exit_code: u8,
    /// Every fault of a manifest, one a line, with its position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

impl Problem {
    /// Content type of a problem's body.
    pub const CONTENT_TYPE: &'static str = CONTENT_TYPE;

    /// A problem without faults of a manifest.
    #[must_use]
    pub fn new(
        status: u16,
        code: &str,
        title: &str,
        detail: String,
        next: String,
        exit_code: u8,
    ) -> Self {
        Self {
            type_uri: "about:blank".to_owned(),
            title: title.to_owned(),
            status,
            detail,
            next,
            code: code.to_owned(),
            exit_code,
            faults: Vec::new(),
        }
    }
}
