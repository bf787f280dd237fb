//! Where the key service is reached that opens store-sync's cache: a file of its own, TOML, that `keywheel init`
//! and `keywheel reseal` are given and the seal file remembers by its path.
//!
//! Invariant: no secret is in here; tokens, secret ids and access keys come by file path. What is wrapped is kept in
//! the seal file, so address and login here may change without it.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::leaf::shorten;

/// Longest file of a key service's settings, in bytes.
pub const MAX_UNSEAL_FILE_BYTES: usize = 16 << 10;
/// Longest name of a key, in bytes.
pub const MAX_KEY_BYTES: usize = 2048;
/// Longest other text in it, in bytes.
pub const MAX_UNSEAL_TEXT_BYTES: usize = 512;
/// Where a transit engine is mounted by default.
pub const DEFAULT_TRANSIT_MOUNT: &str = "transit";
/// Where the auth method AppRole is mounted by default.
pub const DEFAULT_APPROLE_MOUNT: &str = "approle";

/// AWS KMS. Without an access key the standard chain of AWS gives the login: environment, profile, role, web
/// identity, container, instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KmsSettings {
    /// The key: its ARN, its id, or `alias/NAME`. A symmetric one, for encryption.
    #[schemars(length(min = 1, max = 2048))]
    pub key: String,
    /// The region. Default: the ARN's, else the standard chain's.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub region: Option<String>,
    /// Another endpoint than the region's: `https://`, or `http://` of this machine.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// A profile of the standard chain. Default: the chain's own.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub profile: Option<String>,
    /// An access key instead of the standard chain: its id.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub access_key_id: Option<String>,
    /// File with the secret access key; others may not read it. Absolute path.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub secret_access_key_file: Option<String>,
    /// File with the session token of a temporary access key. Absolute path.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub session_token_file: Option<String>,
}

/// The transit engine of Vault or OpenBao. The login is a token, or AppRole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransitSettings {
    /// `https://HOST:PORT`, or `http://` of this machine.
    #[schemars(length(min = 1, max = 512))]
    pub address: String,
    /// The key: one for encryption with associated data, such as `aes256-gcm96`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]+$"), length(max = 512))]
    pub key: String,
    /// Where the engine is mounted. Default `transit`.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub mount: Option<String>,
    /// The namespace. Default: the root one.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub namespace: Option<String>,
    /// Authorities (PEM) that the server's certificate comes from. Default: the system's. Absolute path.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub ca_file: Option<String>,
    /// File with a token; others may not read it. Absolute path.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub token_file: Option<String>,
    /// AppRole: the role id.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub role_id: Option<String>,
    /// AppRole: file with the secret id; others may not read it. Absolute path.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub secret_id_file: Option<String>,
    /// AppRole: where the auth method is mounted. Default `approle`.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub approle_mount: Option<String>,
}

/// The file, TOML: `[kms]`, `[transit]`, or both while one takes the other's place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnsealFile {
    /// AWS KMS.
    #[serde(default)]
    pub kms: Option<KmsSettings>,
    /// The transit engine of Vault or OpenBao.
    #[serde(default)]
    pub transit: Option<TransitSettings>,
}

/// Reads the file.
///
/// # Errors
/// With every fault of it.
pub fn parse(path: &Path, text: &str) -> Result<UnsealFile, Vec<ConfigError>> {
    let fault = |message: String| ConfigError {
        origin: path.display().to_string(),
        message,
    };
    if text.len() > MAX_UNSEAL_FILE_BYTES {
        let message = format!(
            "the file has {} bytes; at most {MAX_UNSEAL_FILE_BYTES} are allowed",
            text.len()
        );
        return Err(vec![fault(message)]);
    }
    let read: Result<UnsealFile, _> = toml::from_str(text);
    let file = read.map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        vec![fault(format!("line {line}: {}", error.message()))]
    })?;
    let kms = file.kms.as_ref().map_or_else(Vec::new, KmsSettings::faults);
    let transit = file.transit.as_ref();
    let transit = transit.map_or_else(Vec::new, TransitSettings::faults);
    let faults: Vec<_> = kms.into_iter().chain(transit).map(fault).collect();
    match faults.is_empty() {
        true => Ok(file),
        false => Err(faults),
    }
}

impl KmsSettings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        faults.extend(text_fault("kms.key", &self.key, MAX_KEY_BYTES));
        for (name, text) in [
            ("kms.region", &self.region),
            ("kms.endpoint", &self.endpoint),
            ("kms.profile", &self.profile),
            ("kms.access_key_id", &self.access_key_id),
        ] {
            faults.extend(given_fault(name, text.as_ref()));
        }
        for (name, path) in [
            ("kms.secret_access_key_file", &self.secret_access_key_file),
            ("kms.session_token_file", &self.session_token_file),
        ] {
            faults.extend(path_fault(name, path.as_ref()));
        }
        let has_key = self.access_key_id.is_some();
        if has_key != self.secret_access_key_file.is_some() {
            faults.push("`kms.access_key_id` and `kms.secret_access_key_file` belong together; name both, or neither for the standard chain".to_owned());
        }
        if self.session_token_file.is_some() && !has_key {
            faults.push("`kms.session_token_file` is of no use without an access key".to_owned());
        }
        if self.profile.is_some() && has_key {
            faults.push("`kms.profile` is of no use beside an access key; name one".to_owned());
        }
        faults
    }
}

impl TransitSettings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        faults.extend(text_fault(
            "transit.address",
            &self.address,
            MAX_UNSEAL_TEXT_BYTES,
        ));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.key.is_empty()
            || self.key.len() > MAX_UNSEAL_TEXT_BYTES
            || !self.key.chars().all(is_plain)
        {
            faults.push(format!(
                "`transit.key` `{}` is not the name of a key: letters, digits, `.`, `_` and `-`",
                shorten(&self.key)
            ));
        }
        for (name, text) in [
            ("transit.mount", &self.mount),
            ("transit.namespace", &self.namespace),
            ("transit.role_id", &self.role_id),
            ("transit.approle_mount", &self.approle_mount),
        ] {
            faults.extend(given_fault(name, text.as_ref()));
        }
        for (name, mount) in [
            ("transit.mount", &self.mount),
            ("transit.approle_mount", &self.approle_mount),
        ] {
            let is_wrong = |mount: &String| mount.starts_with('/') || mount.ends_with('/');
            if mount.as_ref().is_some_and(is_wrong) {
                faults.push(format!("`{name}` has a slash around it; leave that out"));
            }
        }
        for (name, path) in [
            ("transit.ca_file", &self.ca_file),
            ("transit.token_file", &self.token_file),
            ("transit.secret_id_file", &self.secret_id_file),
        ] {
            faults.extend(path_fault(name, path.as_ref()));
        }
        let (by_token, by_role) = (self.token_file.is_some(), self.role_id.is_some());
        if by_role != self.secret_id_file.is_some() {
            faults.push(
                "`transit.role_id` and `transit.secret_id_file` belong together; name both"
                    .to_owned(),
            );
        } else if by_token == by_role {
            faults.push("name one login: `transit.token_file`, or `transit.role_id` with `transit.secret_id_file`".to_owned());
        }
        faults
    }
}

fn text_fault(name: &str, text: &str, most: usize) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    let fits = (1..=most).contains(&text.len()) && text.chars().all(is_plain);
    (!fits).then(|| {
        format!(
            "`{name}` `{}` is not one word of at most {most} plain bytes",
            shorten(text)
        )
    })
}

fn given_fault(name: &str, text: Option<&String>) -> Option<String> {
    text.and_then(|text| text_fault(name, text, MAX_UNSEAL_TEXT_BYTES))
}

fn path_fault(name: &str, path: Option<&String>) -> Option<String> {
    let path = path?;
    let is_path = path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains('\0')
        && path.len() <= MAX_UNSEAL_TEXT_BYTES;
    (!is_path).then(|| {
        format!(
            "`{name}` is not the absolute path of a file of at most {MAX_UNSEAL_TEXT_BYTES} bytes; what it says is not repeated, for it may be the credential itself"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KMS: &str = "[kms]\nkey = \"arn:aws:kms:eu-central-1:123456789012:key/0f\"\n";
    const TRANSIT: &str = "[transit]\naddress = \"https://bao.example:8200\"\nkey = \"keywheel\"\n";

    fn read(text: &str) -> Result<UnsealFile, String> {
        parse(Path::new("unseal.toml"), text).map_err(|faults| {
            let faults = faults.iter().map(ToString::to_string);
            faults.collect::<Vec<_>>().join("; ")
        })
    }

    #[test]
    fn either_service_is_named_with_little_and_both_may_be() {
        let file = read(KMS).unwrap();
        assert!(file.kms.is_some() && file.transit.is_none());
        let by_role = "role_id = \"r\"\nsecret_id_file = \"/s\"\n";
        let file = read(&format!("{KMS}{TRANSIT}{by_role}")).unwrap();
        assert_eq!(file.transit.unwrap().role_id.as_deref(), Some("r"));
        assert!(read(&format!("{TRANSIT}token_file = \"/t\"\n")).is_ok());
        assert_eq!(read(""), Ok(UnsealFile::default()));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        for (text, told) in [
            ("[kms]\nkey = \"\"\n".to_owned(), "`kms.key`"),
            (format!("{KMS}access_key_id = \"a\"\n"), "belong together"),
            (format!("{KMS}session_token_file = \"/t\"\n"), "of no use"),
            (
                format!(
                    "{KMS}access_key_id = \"a\"\nsecret_access_key_file = \"/k\"\nprofile = \"p\"\n"
                ),
                "`kms.profile` is of no use",
            ),
            (format!("{KMS}region = \"eu 1\"\n"), "`kms.region`"),
            (format!("{KMS}secret = \"x\"\n"), "unknown field"),
            (TRANSIT.to_owned(), "name one login"),
            (
                format!("{TRANSIT}token_file = \"/t\"\nrole_id = \"r\"\nsecret_id_file = \"/s\"\n"),
                "name one login",
            ),
            (format!("{TRANSIT}role_id = \"r\"\n"), "belong together"),
            (format!("{TRANSIT}token_file = \"t\"\n"), "absolute path"),
            (
                format!("{TRANSIT}token_file = \"/t\"\nmount = \"/transit\"\n"),
                "a slash around it",
            ),
            (
                TRANSIT.replace("\"keywheel\"", "\"a/b\""),
                "not the name of a key",
            ),
            ("[transit]\n".to_owned(), "line 1"),
        ] {
            let fault = read(&text).unwrap_err();
            assert!(fault.contains(told), "{told}: {fault}");
            assert!(fault.contains("unseal.toml"), "{fault}");
        }
        let two = read("[kms]\nkey = \"\"\nregion = \"\"\n").unwrap_err();
        assert!(
            two.contains("kms.key") && two.contains("kms.region"),
            "{two}"
        );
    }

    #[test]
    fn a_text_is_as_long_as_its_limit_and_not_longer() {
        let key = |bytes: usize| format!("[kms]\nkey = \"{}\"\n", "k".repeat(bytes));
        assert!(read(&key(MAX_KEY_BYTES)).is_ok());
        assert!(read(&key(MAX_KEY_BYTES + 1)).is_err());
        let region = |bytes: usize| format!("{KMS}region = \"{}\"\n", "r".repeat(bytes));
        assert!(read(&region(MAX_UNSEAL_TEXT_BYTES)).is_ok());
        assert!(read(&region(MAX_UNSEAL_TEXT_BYTES + 1)).is_err());
        let long = format!("{KMS}#{}", " ".repeat(MAX_UNSEAL_FILE_BYTES));
        assert!(read(&long).unwrap_err().contains("at most"));
    }
}
