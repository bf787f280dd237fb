//! What a provider answers, read. Only words of the standards are told to anybody.

use std::fmt;

use keywheel_engine::port::provider::Replied;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What a provider says of itself (OpenID Connect Discovery 1.0), as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Discovery {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) jwks_uri: String,
    pub(super) device_authorization_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
    pub(super) userinfo_endpoint: Option<String>,
}

/// A code for a browser anywhere (RFC 8628, 3.2).
#[derive(Deserialize)]
pub(super) struct Device {
    pub(super) device_code: String,
    pub(super) user_code: String,
    #[serde(alias = "verification_url")]
    pub(super) verification_uri: String,
    pub(super) verification_uri_complete: Option<String>,
    pub(super) expires_in: u64,
    pub(super) interval: Option<u64>,
}

/// What a grant brings.
pub(super) struct Tokens {
    pub(super) id_token: Option<SecretBytes>,
    pub(super) refresh_token: Option<SecretBytes>,
    /// Opens what the provider says of the person.
    pub(super) access_token: Option<SecretBytes>,
    /// How long that counts, in seconds.
    pub(super) expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct WrittenTokens {
    id_token: Option<String>,
    refresh_token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct WrittenRefusal {
    error: String,
}

/// A provider's "no", in the words of the standards (RFC 6749, 5.2; RFC 8628, 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// What was sent is not, or not any more, worth anything.
    InvalidGrant,
    /// The person said no.
    AccessDenied,
    /// The code was typed too late.
    ExpiredToken,
    /// Nobody typed the code yet.
    AuthorizationPending,
    /// It was asked too often.
    SlowDown,
    /// It does not know us, or what we show.
    InvalidClient,
    /// Another of its words.
    Other,
}

impl Refusal {
    fn parse(word: &str) -> Self {
        match word {
            "invalid_grant" => Self::InvalidGrant,
            "access_denied" => Self::AccessDenied,
            "expired_token" => Self::ExpiredToken,
            "authorization_pending" => Self::AuthorizationPending,
            "slow_down" => Self::SlowDown,
            "invalid_client" | "unauthorized_client" => Self::InvalidClient,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidGrant => "invalid_grant",
            Self::AccessDenied => "access_denied",
            Self::ExpiredToken => "expired_token",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::InvalidClient => "invalid_client",
            Self::Other => "another error",
        })
    }
}

/// The body of an answer that is a success.
pub(super) fn body<'a>(replied: &'a Replied, what: &str) -> Result<&'a SecretBytes, PortError> {
    match replied.status {
        200..300 => Ok(&replied.body),
        status => {
            let text = format!("the provider answers with status {status} when asked for {what}");
            Err(PortError::new(ErrorKind::Unavailable, text))
        }
    }
}

/// Reads a successful answer as JSON.
pub(super) fn read<T: DeserializeOwned>(replied: &Replied, what: &str) -> Result<T, PortError> {
    let body = body(replied, what)?;
    // EXPOSE: it is read into its parts.
    serde_json::from_slice(body.expose()).map_err(|_| unread(what))
}

/// Reads what a grant brought, or the provider's "no".
pub(super) fn tokens(replied: &Replied) -> Result<Result<Tokens, Refusal>, PortError> {
    const WHAT: &str = "a person's identity";
    if let 400 | 401 | 403 = replied.status {
        // EXPOSE: one word of it is compared with known ones.
        let read: Result<WrittenRefusal, _> = serde_json::from_slice(replied.body.expose());
        let word = read.map(|read| Refusal::parse(&read.error));
        return Ok(Err(word.unwrap_or(Refusal::Other)));
    }
    let written: WrittenTokens = read(replied, WHAT)?;
    let secret = |text: Option<String>| text.map(|text| SecretBytes::from(text.into_bytes()));
    Ok(Ok(Tokens {
        id_token: secret(written.id_token),
        refresh_token: secret(written.refresh_token),
        access_token: secret(written.access_token),
        expires_in: written.expires_in,
    }))
}

/// The cause would quote what was sent.
fn unread(what: &str) -> PortError {
    let text = format!("what the provider answers when asked for {what} cannot be read");
    PortError::new(ErrorKind::Unavailable, text)
}
