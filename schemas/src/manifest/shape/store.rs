//! Shapes of `kind: Store`.

use keywheel_core::store::MAX_STORE_TEXT_BYTES;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const _: () = assert!(MAX_STORE_TEXT_BYTES == 2048, "the shapes say it, too");

/// A store outside: give `vault` or `aws`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// HashiCorp Vault or OpenBao, KV version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<Vault>,
    /// AWS Secrets Manager; `{}` for the standard chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<Aws>,
    /// How often it is asked for outside changes, `60s` by default; `1s` to `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub poll: Option<String>,
    /// How long one request may take, `10s` by default; at most `14s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub timeout: Option<String>,
}

/// HashiCorp Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// `https://host:port`; `http` to a loopback address only.
    #[schemars(length(max = 2048))]
    pub address: String,
    /// The namespace; absent for the root one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub namespace: Option<String>,
    /// Where the KV version 2 engine is mounted, `secret` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub mount: Option<String>,
    /// PEM file with the authorities that sign the server's certificate; absent for the system's.
    #[serde(default, rename = "caFile", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub ca_file: Option<String>,
    /// What becomes of a version that Keywheel wrote once no container holds it: `destroy` by default.
    /// A revocation destroys always.
    #[serde(
        default,
        rename = "oldVersions",
        skip_serializing_if = "Option::is_none"
    )]
    pub old_versions: Option<OldVersions>,
    /// How Keywheel logs in.
    pub auth: VaultAuth,
}

/// What becomes of an old version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OldVersions {
    /// It is destroyed.
    Destroy,
    /// It is deleted; who may `undelete` there can bring it back.
    SoftDelete,
}

/// How Keywheel logs in at Vault or OpenBao: give one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultAuth {
    /// A token somebody made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Credential>,
    /// AppRole.
    #[serde(default, rename = "appRole", skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRole>,
    /// TLS client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<Cert>,
    /// A signed JSON Web Token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
}

/// Login by AppRole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// Mount of the auth method, `approle` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub mount: Option<String>,
    /// The role id: a name, no secret.
    #[serde(rename = "roleId")]
    #[schemars(length(max = 2048))]
    pub role_id: String,
    /// The secret id, or the wrapping token around it.
    #[serde(rename = "secretId")]
    pub secret_id: Credential,
    /// Whether it is a wrapping token; `false` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped: Option<bool>,
}

/// Login by a TLS client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cert {
    /// Mount of the auth method, `cert` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub mount: Option<String>,
    /// The role; absent lets the server choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub role: Option<String>,
    /// PEM certificate chain.
    pub certificate: Credential,
    /// PEM private key.
    pub key: Credential,
}

/// Login by a signed JSON Web Token, read anew for each login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Mount of the auth method, `jwt` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub mount: Option<String>,
    /// The role.
    #[schemars(length(max = 2048))]
    pub role: String,
    /// The token.
    pub token: Credential,
}

/// AWS Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aws {
    /// The region; absent for the one of the standard chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub region: Option<String>,
    /// Another endpoint than the region's; `http` to a loopback address only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint: Option<String>,
    /// Where credentials come from; absent for the standard chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AwsAuth>,
}

/// Where AWS credentials come from: give one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsAuth {
    /// A profile of the standard chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub profile: Option<String>,
    /// An access key somebody made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
}

/// An access key somebody made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The access key id: a name, no secret.
    #[serde(rename = "accessKeyId")]
    #[schemars(length(max = 2048))]
    pub access_key_id: String,
    /// The secret access key.
    #[serde(rename = "secretAccessKey")]
    pub secret_access_key: Credential,
    /// The session token that belongs to a temporary key.
    #[serde(
        default,
        rename = "sessionToken",
        skip_serializing_if = "Option::is_none"
    )]
    pub session_token: Option<Credential>,
}

/// Where a credential is read, never the credential itself: give `file` or `secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// An absolute path on the machine where store-sync runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/"))]
    pub file: Option<String>,
    /// Name of a secret of the store `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[a-z0-9._-]+(/[a-z0-9._-]+)*$")
    )]
    pub secret: Option<String>,
}

/// Where in its store a secret's value lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Path below the mount (Vault), or name or ARN (AWS); `/MOUNT/static-creds/ROLE` is a static role of a
    /// database engine (Vault).
    #[schemars(length(min = 1, max = 2048))]
    pub path: String,
    /// The field of a map of fields; Vault needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub field: Option<String>,
}
