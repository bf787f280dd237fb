//! `identity.json`: its shape and its checks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::id::DeploymentId;
use keywheel_core::name::HostName;
use keywheel_core::time::Timestamp;
use keywheel_schemas::subject::role_word;
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::HostKeyPair;
use keywheel_seal::sign::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Identity, SealingKey};
use crate::name::{PeerName, role_of};

const VERSION: u32 = 1;

/// The file; overwritten in memory when it is dropped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    deployment: String,
    /// The name as it stands in the certificate.
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_name: Option<String>,
    signing_seed: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sealing: Vec<StoredKey>,
    trust: BTreeMap<String, String>,
    servers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gateways: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    generation: u64,
    made_micros: i64,
    private: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.signing_seed.zeroize();
        for key in &mut self.sealing {
            key.private.zeroize();
        }
    }
}

pub(super) fn encode(identity: &Identity) -> SecretBytes {
    let stored = Stored {
        version: VERSION,
        deployment: identity.deployment.to_string(),
        name: identity.name.uri(identity.deployment),
        host_name: identity.host_name.as_ref().map(ToString::to_string),
        // EXPOSE: the seed's home is this file.
        signing_seed: STANDARD.encode(identity.signing.seed().expose()),
        sealing: identity.sealing.iter().map(stored_key).collect(),
        trust: trust_words(&identity.trust),
        servers: identity.servers.clone(),
        gateways: identity.gateways.clone(),
    };
    // A struct of strings and numbers always has a JSON form.
    SecretBytes::from(serde_json::to_vec_pretty(&stored).unwrap_or_default())
}

fn stored_key(key: &SealingKey) -> StoredKey {
    StoredKey {
        generation: key.generation,
        made_micros: key.made.micros(),
        // EXPOSE: the key's home is this file.
        private: STANDARD.encode(key.pair.private_bytes().expose()),
    }
}

pub(super) fn decode(bytes: &SecretBytes) -> Result<Identity, String> {
    // EXPOSE: parsed into the key types; serde's error would quote the file, so it is not told.
    let stored: Stored = serde_json::from_slice(bytes.expose())
        .map_err(|error| format!("line {} is not as expected", error.line()))?;
    if stored.version != VERSION {
        return Err(format!(
            "it has version {}, this build knows {VERSION}",
            stored.version
        ));
    }
    let deployment = DeploymentId::parse(&stored.deployment).map_err(|error| error.to_string())?;
    let name = PeerName::parse(&stored.name, deployment).map_err(|error| error.to_string())?;
    let host_name = stored.host_name.as_deref().map(HostName::parse).transpose();
    let sealing = stored.sealing.iter().map(|key| {
        let pair = HostKeyPair::from_private_bytes(&secret(&key.private, "a sealing key")?)
            .map_err(|_| "a sealing key is none".to_owned())?;
        Ok::<_, String>(SealingKey {
            generation: key.generation,
            made: Timestamp::from_micros(key.made_micros),
            pair,
        })
    });
    Ok(Identity {
        deployment,
        name,
        host_name: host_name.map_err(|error| error.to_string())?,
        signing: SigningKey::from_seed_bytes(&secret(&stored.signing_seed, "the signing seed")?)
            .map_err(|_| "the signing seed is none".to_owned())?,
        sealing: sealing.collect::<Result<_, _>>()?,
        trust: read_trust(&stored.trust)?,
        servers: stored.servers.clone(),
        gateways: stored.gateways.clone(),
    })
}

fn secret(text: &str, what: &str) -> Result<SecretBytes, String> {
    let bytes = STANDARD.decode(text).map(Zeroizing::new);
    let mut bytes = bytes.map_err(|_| format!("{what} is not base64"))?;
    Ok(SecretBytes::from(std::mem::take(&mut *bytes)))
}

/// Role words and keys, as files and answers carry them.
pub(crate) fn trust_words(
    trust: &BTreeMap<keywheel_core::audit::Role, VerifyingKey>,
) -> BTreeMap<String, String> {
    let word = |(role, key): (&keywheel_core::audit::Role, &VerifyingKey)| {
        (role_word(*role).to_owned(), STANDARD.encode(key.to_bytes()))
    };
    trust.iter().map(word).collect()
}

/// Reads what [`trust_words`] wrote.
pub(crate) fn read_trust(
    words: &BTreeMap<String, String>,
) -> Result<BTreeMap<keywheel_core::audit::Role, VerifyingKey>, String> {
    let read = |(word, key): (&String, &String)| {
        let shown: String = word.chars().take(40).collect();
        let role = role_of(word).ok_or_else(|| format!("`{shown}` is no role"))?;
        let bytes = STANDARD
            .decode(key)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(bytes).ok());
        Ok((
            role,
            key.ok_or_else(|| format!("the key of {shown} is none"))?,
        ))
    };
    words.iter().map(read).collect()
}
