//! Whom a verified identity token names, for whom, and until when (OpenID Connect Core 1.0, 3.1.3.7).
//!
//! Invariants: every claim that tells one token from another is looked at, one by one; a name or group that cannot be
//! written down as it is refuses the whole, for dropping a group could drop what forbids something.

use keywheel_core::time::Timestamp;
use keywheel_core::token::{MAX_LOGIN_GROUP_BYTES, MAX_LOGIN_GROUPS};
use keywheel_schemas::config::login::ProviderFile;
use serde_json::{Map, Value};

/// Longest name of a person, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 128;
/// By how much the provider's clock may be ahead of ours, in seconds.
pub(super) const CLOCK_SKEW_SECONDS: i64 = 60;
/// Times that a claim may be, in seconds since 1970.
const TIMES: std::ops::Range<i64> = 0..4_000_000_000;
/// Longest claim that tells people apart, in bytes (OpenID Connect Core 1.0, 2).
const MAX_SUBJECT_BYTES: usize = 255;

/// Somebody, by the provider's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// How the provider tells people apart.
    pub subject: String,
    /// Groups they are in.
    pub groups: Vec<String>,
    /// Until when the provider's word counts.
    pub ends_at: Timestamp,
}

/// What is wrong with what a token claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Of another provider.
    #[error("the identity is of another issuer")]
    Issuer,
    /// For somebody else.
    #[error("the identity is for another client")]
    Audience,
    /// Of another login.
    #[error("the identity has another nonce: it is of another login")]
    Nonce,
    /// It counts no more.
    #[error("the identity is over")]
    Over,
    /// It says no end, or no beginning.
    #[error("the identity has no `{0}`, or one that is no time")]
    Time(&'static str),
    /// It begins later.
    #[error("the identity is of a time to come; compare the clocks")]
    Early,
    /// It names nobody.
    #[error("the identity has no `{0}`, or one that cannot be a name")]
    Name(String),
    /// An address that nobody verified.
    #[error("the identity's `email` is not verified")]
    Unverified,
    /// Its groups cannot be written down.
    #[error("the identity's `{0}` is no list of at most {MAX_LOGIN_GROUPS} groups")]
    Groups(String),
}

/// What a token has to be.
pub(super) struct Expected<'a> {
    pub(super) file: &'a ProviderFile,
    pub(super) nonce: Option<&'a str>,
    pub(super) now: Timestamp,
}

/// Whom it names.
pub(super) fn read(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
) -> Result<Identity, ClaimError> {
    let file = expected.file;
    if text(claims, "iss") != Some(file.issuer.as_str()) {
        return Err(ClaimError::Issuer);
    }
    check_audience(claims, &file.client_id)?;
    let is_of_this_login = expected
        .nonce
        .is_none_or(|nonce| text(claims, "nonce") == Some(nonce));
    if !is_of_this_login {
        return Err(ClaimError::Nonce);
    }
    let ends_at = check_times(claims, expected.now)?;
    told(claims, file, ends_at)
}

/// Whom claims name that the provider told us itself, or signed, for so long.
pub(super) fn told(
    claims: &Map<String, Value>,
    file: &ProviderFile,
    ends_at: Timestamp,
) -> Result<Identity, ClaimError> {
    let is_subject = |subject: &&str| {
        (1..=MAX_SUBJECT_BYTES).contains(&subject.len()) && !subject.chars().any(char::is_control)
    };
    let subject = text(claims, "sub").filter(is_subject);
    let subject = subject.ok_or_else(|| ClaimError::Name("sub".to_owned()))?;
    Ok(Identity {
        name: name(claims, file)?,
        subject: subject.to_owned(),
        groups: groups(claims, file)?,
        ends_at,
    })
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

fn check_audience(claims: &Map<String, Value>, client: &str) -> Result<(), ClaimError> {
    let all: Vec<Option<&str>> = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().map(Value::as_str).collect(),
        Some(one) => vec![one.as_str()],
        None => Vec::new(),
    };
    let party = claims.get("azp").map(Value::as_str);
    let is_ours = match party {
        // Of several it has to say for whom it was made.
        None => all == [Some(client)],
        Some(party) => party == Some(client) && all.contains(&Some(client)),
    };
    match is_ours {
        true => Ok(()),
        false => Err(ClaimError::Audience),
    }
}

/// When it ends.
fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, ClaimError> {
    let now = now.micros().div_euclid(1_000_000);
    let soon = now.saturating_add(CLOCK_SKEW_SECONDS);
    let end = seconds(claims, "exp")?.ok_or(ClaimError::Time("exp"))?;
    // No leave for clocks here: it never counts longer than the provider said.
    if end <= now {
        return Err(ClaimError::Over);
    }
    if seconds(claims, "iat")?.ok_or(ClaimError::Time("iat"))? > soon {
        return Err(ClaimError::Early);
    }
    if seconds(claims, "nbf")?.is_some_and(|begin| begin > soon) {
        return Err(ClaimError::Early);
    }
    Ok(Timestamp::from_micros(end.saturating_mul(1_000_000)))
}

fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, ClaimError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    // Some providers write fractions; their whole part ends no later.
    let whole = |number: f64| {
        let is_time = (0.0..4.0e9).contains(&number);
        is_time.then(|| std::time::Duration::from_secs_f64(number).as_secs())
    };
    let read = value.as_i64();
    let read = read.or_else(|| i64::try_from(whole(value.as_f64()?)?).ok());
    // Milliseconds, as some write them, are of a time that no log can hold.
    let read = read.filter(|seconds| TIMES.contains(seconds));
    read.map(Some).ok_or(ClaimError::Time(name))
}

fn name(claims: &Map<String, Value>, file: &ProviderFile) -> Result<String, ClaimError> {
    let claim = &file.name_claim;
    let name = text(claims, claim).filter(|name| is_name(name));
    let name = name.ok_or_else(|| ClaimError::Name(claim.clone()))?;
    let is_verified = || claims.get("email_verified") == Some(&Value::Bool(true));
    match claim == "email" && !is_verified() {
        true => Err(ClaimError::Unverified),
        false => Ok(name.to_owned()),
    }
}

/// What can stand behind `oidc:` in a policy, a record and a list without being taken for something else.
fn is_name(text: &str) -> bool {
    let fits =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@' | b'+' | b'|');
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

fn groups(claims: &Map<String, Value>, file: &ProviderFile) -> Result<Vec<String>, ClaimError> {
    let Some(claim) = &file.groups_claim else {
        return Ok(Vec::new());
    };
    let wrong = || ClaimError::Groups(claim.clone());
    let all = match claims.get(claim) {
        // Of many groups some providers say only where they can be asked for (OpenID Connect Core 1.0, 5.6.2).
        None | Some(Value::Null) if is_elsewhere(claims, claim) => return Err(wrong()),
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(all)) => all,
        Some(_) => return Err(wrong()),
    };
    let group = |one: &Value| {
        let group = one.as_str()?;
        let is_group = (1..=MAX_LOGIN_GROUP_BYTES).contains(&group.len())
            && !group.chars().any(char::is_control);
        is_group.then(|| group.to_owned())
    };
    let read: Option<Vec<String>> = all.iter().map(group).collect();
    let mut read = read.ok_or_else(wrong)?;
    read.sort();
    read.dedup();
    match read.len() <= MAX_LOGIN_GROUPS {
        true => Ok(read),
        false => Err(wrong()),
    }
}

fn is_elsewhere(claims: &Map<String, Value>, claim: &str) -> bool {
    let names = claims.get("_claim_names");
    names.is_some_and(|names| names.get(claim).is_some())
}

#[cfg(test)]
mod tests;
