//! Logging in at the provider of identities. What is proof of somebody is in no `Debug` text.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::token::TokenView;

/// Where and how people log in, `GET /v1/login`. Nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginSettings {
    /// The provider.
    pub issuer: String,
    /// What the provider calls this deployment.
    pub client_id: String,
    /// What is asked for, `openid` first.
    pub scopes: Vec<String>,
    /// Where a browser begins.
    pub authorization_endpoint: String,
    /// Whether the provider makes codes that are typed into a browser anywhere.
    pub device: bool,
}

/// A code for a browser anywhere, `POST /v1/login/device` (RFC 8628).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceLogin {
    /// What the login is asked for with; the sender's alone.
    pub device_code: String,
    /// What a person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verification_uri_complete: Option<String>,
    /// How long the code counts, in seconds.
    pub expires_in_seconds: u64,
    /// How long to wait between two questions, in seconds.
    pub interval_seconds: u64,
}

impl fmt::Debug for DeviceLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceLogin({}, …)", self.verification_uri)
    }
}

/// By what somebody proves at the provider who they are, `POST /v1/login`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum LoginRequest {
    /// By a code that a browser brought back.
    Code {
        /// The code.
        code: String,
        /// What its challenge was made of (RFC 7636).
        code_verifier: String,
        /// What the identity has to carry.
        nonce: String,
        /// Where the browser brought it.
        redirect_uri: String,
    },
    /// By a code that was typed into a browser anywhere.
    Device {
        /// The one that `POST /v1/login/device` gave.
        device_code: String,
    },
    /// By what the last login gave for it.
    Refresh {
        /// The refresh token.
        refresh_token: String,
    },
}

impl LoginRequest {
    /// By what.
    #[must_use]
    pub const fn way(&self) -> &'static str {
        match self {
            Self::Code { .. } => "code",
            Self::Device { .. } => "device",
            Self::Refresh { .. } => "refresh",
        }
    }
}

impl fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginRequest({}, …)", self.way())
    }
}

/// Answer to `POST /v1/login`. The login is shown this once; only a hash is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginAnswer {
    /// `done`, or `pending` while nobody typed the code yet.
    pub state: String,
    /// Of a pending one that is asked too often: how long to wait between two questions from then on, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interval_seconds: Option<u64>,
    /// The login: one line of text, brought as a token is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub login: Option<TokenView>,
    /// What the next login is asked for with; absent where the provider gives none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refresh_token: Option<String>,
}

impl fmt::Debug for LoginAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginAnswer({}, …)", self.state)
    }
}

/// `POST /v1/logout`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogoutRequest {
    /// What the next login would be asked for with: the provider is told that it counts no more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refresh_token: Option<String>,
}

impl fmt::Debug for LogoutRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogoutRequest(…)")
    }
}

/// Answer to `POST /v1/logout`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogoutAnswer {
    /// The login that opens nothing any more.
    pub revoked: String,
    /// Whether the provider took the refresh token back, where one was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub is_taken_back: Option<bool>,
}
