//! A declared store as a `kind: Store` document: the way back from what the reader reads.
//!
//! What has its default value is left out, as a person would.

use std::time::Duration;

use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, NamedStore,
    OldVersions, VaultAuth, VaultSpec,
};
use serde_json::{Map, Value, json};

use super::API_VERSION;
use super::quoted;

/// The document, without a mark before it. Texts are quoted as in JSON.
pub(super) fn document(declared: &NamedStore) -> String {
    let spec = &declared.spec;
    let mut fields = Map::new();
    let (word, backend) = match &spec.backend {
        Backend::Vault(vault) => ("vault", of_vault(vault)),
        Backend::Aws(aws) => ("aws", of_aws(aws)),
    };
    fields.insert(word.to_owned(), Value::Object(backend));
    for (name, span, default) in [
        ("poll", spec.poll, DEFAULT_POLL),
        ("timeout", spec.timeout, DEFAULT_TIMEOUT),
    ] {
        if span != default {
            fields.insert(name.to_owned(), span_text(span).into());
        }
    }
    format!(
        "apiVersion: {API_VERSION}\nkind: Store\nmetadata: {{ name: {} }}\nspec: {}\n",
        quoted(declared.name.as_str()),
        flow(&Value::Object(fields))
    )
}

/// As people write it in one line; names of fields are ours and need no quotes.
fn flow(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return value.to_string();
    };
    if fields.is_empty() {
        return "{}".to_owned();
    }
    let field = |(name, value): (&String, &Value)| format!("{name}: {}", flow(value));
    let fields: Vec<_> = fields.iter().map(field).collect();
    format!("{{ {} }}", fields.join(", "))
}

fn span_text(span: Duration) -> String {
    match span.subsec_millis() {
        0 => crate::span::span_words(span),
        _ => format!("{}ms", span.as_millis()),
    }
}

/// Puts in what is not empty.
fn put(fields: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        fields.insert(name.to_owned(), text.into());
    }
}

fn of_aws(aws: &AwsSpec) -> Map<String, Value> {
    let mut fields = Map::new();
    put(&mut fields, "region", &aws.region);
    put(&mut fields, "endpoint", &aws.endpoint);
    match &aws.auth {
        AwsAuth::Chain { profile } if profile.is_empty() => {}
        AwsAuth::Chain { profile } => {
            fields.insert("auth".to_owned(), json!({ "profile": profile }));
        }
        AwsAuth::Keys {
            access_key_id,
            secret_access_key,
            session_token,
        } => {
            let secret = credential(secret_access_key);
            let mut keys = json!({ "accessKeyId": access_key_id, "secretAccessKey": secret });
            if let Some(token) = session_token {
                keys["sessionToken"] = credential(token);
            }
            fields.insert("auth".to_owned(), json!({ "keys": keys }));
        }
    }
    fields
}

fn of_vault(vault: &VaultSpec) -> Map<String, Value> {
    let mut fields = Map::new();
    put(&mut fields, "address", &vault.address);
    put(&mut fields, "namespace", &vault.namespace);
    put(&mut fields, "mount", &vault.mount);
    put(&mut fields, "caFile", &vault.ca_file);
    if vault.old_versions == OldVersions::SoftDelete {
        put(&mut fields, "oldVersions", "softDelete");
    }
    fields.insert("auth".to_owned(), vault_auth(&vault.auth));
    fields
}

fn vault_auth(auth: &VaultAuth) -> Value {
    match auth {
        VaultAuth::Token { token } => json!({ "token": credential(token) }),
        VaultAuth::AppRole {
            mount,
            role_id,
            secret_id,
            wrapped,
        } => {
            let secret_id = credential(secret_id);
            json!({ "appRole": {
                "mount": mount, "roleId": role_id, "secretId": secret_id, "wrapped": wrapped
            } })
        }
        VaultAuth::Cert {
            mount,
            role,
            certificate,
            key,
        } => {
            let (certificate, key) = (credential(certificate), credential(key));
            let mut fields = Map::new();
            put(&mut fields, "mount", mount);
            put(&mut fields, "role", role);
            fields.insert("certificate".to_owned(), certificate);
            fields.insert("key".to_owned(), key);
            json!({ "cert": fields })
        }
        VaultAuth::Jwt { mount, role, token } => {
            let token = credential(token);
            json!({ "jwt": { "mount": mount, "role": role, "token": token } })
        }
    }
}

fn credential(credential: &CredentialRef) -> Value {
    match credential {
        CredentialRef::File(path) => json!({ "file": path }),
        CredentialRef::Secret(name) => json!({ "secret": name.as_str() }),
    }
}
