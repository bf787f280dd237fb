//! Where the key service is reached that opens store-sync's cache: a file of its own, TOML, that `keywheel init`
//! and `keywheel reseal` are given and the seal file remembers by its path.
//!
//! Invariant: no secret is in here; tokens, secret ids and access keys come by file path. What is wrapped is kept in
//! the seal file, so address and login here may change without it.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::tables::{self, Found, Known};
use crate::leaf::shorten;
use crate::near::nearest;

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

/// Without these there is no key at AWS KMS.
const KMS_NEEDED: &[&str] = &["key"];
/// What else `[kms]` may say.
const KMS_OPTIONAL: &[&str] = &[
    "region",
    "endpoint",
    "profile",
    "access_key_id",
    "secret_access_key_file",
    "session_token_file",
];
/// Without these there is no key at a transit engine.
const TRANSIT_NEEDED: &[&str] = &["address", "key"];
/// What else `[transit]` may say.
const TRANSIT_OPTIONAL: &[&str] = &[
    "mount",
    "namespace",
    "ca_file",
    "token_file",
    "role_id",
    "secret_id_file",
    "approle_mount",
];

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
/// With every fault of it, each with its line; where it is no TOML with those alone.
pub fn parse(path: &Path, text: &str) -> Result<UnsealFile, Vec<ConfigError>> {
    tables::read(path, text, MAX_UNSEAL_FILE_BYTES, of_file)
}

/// What is wrong in the file, all of it.
fn of_file(file: &DeTable<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (key, value) in file {
        let name: &str = key.get_ref();
        let begin = key.span().start;
        match (name, value.get_ref()) {
            ("kms", DeValue::Table(kms)) => found.extend(of_kms(begin, kms)),
            ("transit", DeValue::Table(transit)) => found.extend(of_transit(begin, transit)),
            ("kms" | "transit", _) => {
                let what =
                    format!("`{name}` has to stand in brackets, `[{name}]`, above its settings");
                found.push((begin, what));
            }
            _ => {
                let near = nearest(name, &["kms", "transit"]);
                let name = shorten(name);
                let what = format!("`{name}` is not known{near}; write `[kms]` or `[transit]`");
                found.push((begin, what));
            }
        }
    }
    found
}

fn of_kms(begin: usize, kms: &DeTable<'_>) -> Vec<Found> {
    let known = Known {
        called: "`[kms]`",
        begin,
        needed: KMS_NEEDED,
        optional: KMS_OPTIONAL,
    };
    let mut found = tables::of_table(kms, &known, |name, value| {
        faults(&format!("kms.{name}"), value)
    });
    let has = |name: &str| kms.contains_key(name);
    let has_key = has("access_key_id");
    let mut odd = |what: &str| found.push((begin, what.to_owned()));
    if has_key != has("secret_access_key_file") {
        odd(
            "`kms.access_key_id` and `kms.secret_access_key_file` belong together; name both, or neither for the standard chain",
        );
    }
    if has("session_token_file") && !has_key {
        odd("`kms.session_token_file` is of no use without an access key");
    }
    if has("profile") && has_key {
        odd("`kms.profile` is of no use beside an access key; name one");
    }
    found
}

fn of_transit(begin: usize, transit: &DeTable<'_>) -> Vec<Found> {
    let known = Known {
        called: "`[transit]`",
        begin,
        needed: TRANSIT_NEEDED,
        optional: TRANSIT_OPTIONAL,
    };
    let mut found = tables::of_table(transit, &known, |name, value| {
        faults(&format!("transit.{name}"), value)
    });
    let has = |name: &str| transit.contains_key(name);
    let (by_token, by_role) = (has("token_file"), has("role_id"));
    if by_role != has("secret_id_file") {
        let what = "`transit.role_id` and `transit.secret_id_file` belong together; name both";
        found.push((begin, what.to_owned()));
    } else if by_token == by_role {
        let what = "name one login: `transit.token_file`, or `transit.role_id` with `transit.secret_id_file`";
        found.push((begin, what.to_owned()));
    }
    found
}

/// Of one setting, by its whole name.
fn faults(name: &str, value: &DeValue<'_>) -> Vec<String> {
    let text = match tables::text(name, value) {
        Ok(text) => text,
        Err(fault) => return vec![fault],
    };
    let fault = match name {
        "transit.key" => key_fault(text),
        "kms.key" => text_fault(name, text, MAX_KEY_BYTES),
        _ if name.ends_with("_file") => path_fault(name, text),
        _ => text_fault(name, text, MAX_UNSEAL_TEXT_BYTES),
    };
    let is_mount = name.ends_with("mount");
    let has_slash = is_mount && (text.starts_with('/') || text.ends_with('/'));
    let slash = has_slash.then(|| format!("`{name}` has a slash around it; leave that out"));
    fault.into_iter().chain(slash).collect()
}

fn key_fault(key: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_key = (1..=MAX_UNSEAL_TEXT_BYTES).contains(&key.len()) && key.chars().all(is_plain);
    (!is_key).then(|| {
        format!(
            "`transit.key` `{}` is not the name of a key: letters, digits, `.`, `_` and `-`",
            shorten(key)
        )
    })
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

fn path_fault(name: &str, path: &str) -> Option<String> {
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
            (format!("{KMS}secret = \"x\"\n"), "is not known"),
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
    fn faults_of_form_and_of_content_are_told_together_each_with_its_line() {
        let text = "[kms]\nkey = 5\nregoin = \"eu\"\nendpoint = \"a b\"\n\n[transit]\nkey = \"a/b\"\n\
                    token_file = \"hunter2\"\nmount = \"/x\"\n\n[kmss]\n";
        let faults = parse(Path::new("unseal.toml"), text).unwrap_err();
        let wanted = [
            ("line 2: ", "`kms.key` has to be text in quotes"),
            (
                "line 3: ",
                "setting `regoin` is not known (did you mean `region`?)",
            ),
            ("line 4: ", "`kms.endpoint`"),
            ("line 6: ", "`address` is missing in `[transit]`"),
            ("line 7: ", "not the name of a key"),
            ("line 8: ", "`transit.token_file` is not the absolute path"),
            ("line 9: ", "a slash around it"),
            ("line 11: ", "did you mean `kms`?"),
        ];
        assert_eq!(faults.len(), wanted.len(), "{faults:?}");
        for (fault, (begin, part)) in faults.iter().zip(wanted) {
            let told = &fault.message;
            assert!(told.starts_with(begin) && told.contains(part), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        let plain = read("kms = \"alias/x\"\n").unwrap_err();
        assert!(
            plain.contains("line 1: ") && plain.contains("`[kms]`"),
            "{plain}"
        );
        let broken = read("[kms]\nkey = alias\n").unwrap_err();
        assert!(broken.contains("line 2: this is not TOML"), "{broken}");
    }

    #[test]
    fn every_setting_that_there_is_is_known() {
        let settings = |value: serde_json::Value| {
            let names = value.as_object().unwrap().keys().cloned();
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            names
        };
        let known = |needed: &[&'static str], optional: &[&'static str]| {
            let mut names = [needed, optional].concat();
            names.sort_unstable();
            names
        };
        let kms = settings(serde_json::to_value(KmsSettings::default()).unwrap());
        assert_eq!(kms, known(KMS_NEEDED, KMS_OPTIONAL));
        let transit = settings(serde_json::to_value(TransitSettings::default()).unwrap());
        assert_eq!(transit, known(TRANSIT_NEEDED, TRANSIT_OPTIONAL));
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
