//! Events of a store outside, and the shapes of what a person declared about it. Credentials are
//! named here by where they are read, never by what they are.

use std::time::Duration;

use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mirror::{Mirror, Text, mirror_enum, mirror_struct, mirror_words};

/// Where a credential is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    /// A file on the machine of store-sync, absolute.
    File(String),
    /// The current version of a secret of the store `local`.
    Secret(Text<SecretName>),
}

impl Mirror for Credential {
    type Core = store::CredentialRef;
    fn of(core: &Self::Core) -> Self {
        match core {
            store::CredentialRef::File(path) => Self::File(path.clone()),
            store::CredentialRef::Secret(name) => Self::Secret(Text(name.clone())),
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::File(path) => store::CredentialRef::File(path),
            Self::Secret(name) => store::CredentialRef::Secret(name.0),
        }
    }
}

mirror_enum! {
    /// How Keywheel logs in at Vault or OpenBao.
    VaultAuth = store::VaultAuth {
        /// A token somebody made.
        Token {
            /// The token.
            token: Credential,
        },
        /// AppRole.
        AppRole {
            /// Mount of the auth method.
            mount: String,
            /// The role id.
            role_id: String,
            /// The secret id, or the wrapping token around it.
            secret_id: Credential,
            /// Whether it is a wrapping token.
            wrapped: bool,
        },
        /// TLS client certificate.
        Cert {
            /// Mount of the auth method.
            mount: String,
            /// The role; empty lets the server choose.
            role: String,
            /// PEM certificate chain.
            certificate: Credential,
            /// PEM private key.
            key: Credential,
        },
        /// A signed JSON Web Token.
        Jwt {
            /// Mount of the auth method.
            mount: String,
            /// The role.
            role: String,
            /// The token.
            token: Credential,
        },
    }
}

mirror_words! {
    /// What becomes at Vault of an old version that Keywheel wrote.
    #[derive(Default)]
    OldVersions = store::OldVersions {
        /// It is destroyed.
        #[default]
        Destroy,
        /// It is deleted, and can be brought back.
        SoftDelete,
    }
}

impl OldVersions {
    fn is_destroy(&self) -> bool {
        *self == Self::Destroy
    }
}

mirror_struct! {
    /// Vault or OpenBao, KV version 2.
    VaultSpec = store::VaultSpec {
        /// `https://host:port`.
        address: String,
        /// The namespace; empty for the root one.
        namespace: String,
        /// Where the engine is mounted.
        mount: String,
        /// PEM file with the authorities that sign the server's certificate; empty for the system's.
        ca_file: String,
        /// What becomes of an old version that Keywheel wrote.
        #[serde(default, skip_serializing_if = "OldVersions::is_destroy")]
        old_versions: OldVersions,
        /// How we log in.
        auth: VaultAuth,
    }
}

mirror_enum! {
    /// Where AWS credentials come from.
    AwsAuth = store::AwsAuth {
        /// The standard chain.
        Chain {
            /// The profile; empty for the default one.
            profile: String,
        },
        /// An access key somebody made.
        Keys {
            /// The access key id.
            access_key_id: String,
            /// The secret access key.
            secret_access_key: Credential,
            /// The token that belongs to a temporary key.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            session_token: Option<Credential>,
        },
    }
}

mirror_struct! {
    /// AWS Secrets Manager.
    AwsSpec = store::AwsSpec {
        /// The region; empty for the one of the standard chain.
        region: String,
        /// Another endpoint than the region's; empty for none.
        endpoint: String,
        /// Where credentials come from.
        auth: AwsAuth,
    }
}

/// The kinds of store outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Backend {
    /// HashiCorp Vault or OpenBao, KV version 2.
    Vault(VaultSpec),
    /// AWS Secrets Manager.
    Aws(AwsSpec),
}

impl Mirror for Backend {
    type Core = store::Backend;
    fn of(core: &Self::Core) -> Self {
        match core {
            store::Backend::Vault(spec) => Self::Vault(VaultSpec::of(spec)),
            store::Backend::Aws(spec) => Self::Aws(AwsSpec::of(spec)),
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::Vault(spec) => store::Backend::Vault(spec.into_core()),
            Self::Aws(spec) => store::Backend::Aws(spec.into_core()),
        }
    }
}

mirror_struct! {
    /// A store as it was declared.
    StoreSpec = store::StoreSpec {
        /// Which kind, with what only that kind has.
        backend: Backend,
        /// How often it is asked for outside changes.
        poll: Text<Duration>,
        /// How long one request may take.
        timeout: Text<Duration>,
    }
}

mirror_enum! {
    /// What happened to a store outside.
    StoreEvent = store::Event {
        /// Secrets may lie in it from now on.
        Declared {
            /// Its name, for ever.
            name: Text<StoreName>,
            /// What a person declared.
            spec: StoreSpec,
        },
        /// A later manifest says something else.
        Changed {
            /// The new declaration, whole.
            spec: StoreSpec,
        },
        /// It is asked nothing any more.
        Removed {},
        /// It does not answer: what is known of it gets old, and containers keep what they have.
        WentStale {
            /// Why, without a value.
            reason: String,
        },
        /// It answers again.
        Recovered {},
    }
}

mirror_struct! {
    /// A store with its name.
    NamedStore = store::NamedStore {
        /// Its name.
        name: Text<StoreName>,
        /// What was declared.
        spec: StoreSpec,
    }
}

mirror_struct! {
    /// Where in its store a secret's value lies.
    Source = store::Source {
        /// Path below the mount, or name or ARN.
        path: String,
        /// The field of a map of fields.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        field: String,
    }
}
