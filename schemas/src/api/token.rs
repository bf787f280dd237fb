//! Tokens, and who somebody is taken for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A token, `GET /v1/tokens`. What it opens with is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// The person it stands for, as policies name them.
    pub owner: String,
    /// What it may do, if its owner may.
    pub verbs: Vec<String>,
    /// Of what.
    pub resources: Vec<String>,
    /// When it was issued, RFC 3339.
    pub issued_at: String,
    /// From then on it opens nothing, RFC 3339.
    pub expires_at: String,
    /// How often it may be used; absent when nothing limits that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u64>,
    /// Uses that no gateway took yet; absent when nothing limits them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub left: Option<u64>,
    /// `alive`, `expired` or `used-up`.
    pub state: String,
    /// Of a person's login: the provider that named them; absent for a program's token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub issuer: Option<String>,
    /// Of a person's login: groups that the provider says they are in.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub groups: Vec<String>,
}

/// `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueTokenRequest {
    /// Its name, which no other token has.
    pub name: String,
    /// What it may do: verbs of policies.
    pub verbs: Vec<String>,
    /// Of what: resources of policies, such as `path/prod/payments` or `secret/prod/db`.
    pub resources: Vec<String>,
    /// How long it lives, in seconds.
    pub lifetime_seconds: u64,
    /// How often it may be used; absent for as often as it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u64>,
}

/// Answer to `POST /v1/tokens`. The token is shown this once; only a hash is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssueTokenAnswer {
    /// The token: one line of text.
    pub token: String,
    /// What it is.
    pub issued: TokenView,
}

impl fmt::Debug for IssueTokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssueTokenAnswer({}, …)", self.issued.name)
    }
}

/// `POST /v1/tokens/{name}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeTokenRequest {
    /// Why, for the record.
    pub reason: String,
}

/// `POST /v1/revoke-tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeTokensRequest {
    /// Whose: a person as policies name them, such as `certificate:ada`.
    pub owner: String,
    /// Why, for the record.
    pub reason: String,
}

/// Tokens that open nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokeTokensAnswer {
    /// Their names.
    pub revoked: Vec<String>,
}

/// Who somebody is taken for, `GET /v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoamiView {
    /// Who, as policies and approvals name them; of a token, its owner.
    pub principal: String,
    /// The login name, or what the certificate says.
    pub name: String,
    /// By which proof: `root`, `daemon-user`, `group-keywheel`, `client-certificate`, `oidc` or `token`.
    pub proof: String,
    /// How the person came in whose token it is; of others, the same as `proof`.
    pub came_by: String,
    /// Until when that proof counts, RFC 3339; absent when it has no end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<String>,
    /// The token, or the login.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<TokenView>,
    /// Version of the policies in force; 0 for the shipped ones.
    pub policies: u64,
    /// What they may do, verb by verb.
    pub may: Vec<MayView>,
}

/// What somebody may do with one verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MayView {
    /// The verb.
    pub verb: String,
    /// Of what there is now; `environment` for what is about no single thing.
    pub of: Vec<String>,
    /// Whether more was there than was looked at.
    pub is_cut: bool,
}
