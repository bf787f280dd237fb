//! Settings of an injector for the time without the control plane: where the key of the host cache
//! is, how long what the host has may be used, and what becomes of it then.

use std::path::PathBuf;
use std::time::Duration;

use super::sources::Sources;
use crate::leaf::shorten;

/// How long a host may use what it has without a word of the gateway, by default: a day's repair.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(24 * 3600);
/// Shortest lease: below it a restart of the gateway would end it.
pub const MIN_LEASE: Duration = Duration::from_secs(5 * 60);
/// Longest lease: above it a stolen machine would serve for too long.
pub const MAX_LEASE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest name of a systemd credential, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 255;

/// Where the key is that seals what the host keeps on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CacheKey {
    /// Nothing is kept: after a restart of the injector nothing starts until the gateway answers.
    Off,
    /// In the kernel's keyring: outlives a crash, not a reboot.
    #[default]
    Keyring,
    /// In this file.
    File(PathBuf),
    /// The credential of this name that systemd gives the service.
    Credential(String),
}

/// What becomes of values in running containers when the lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterLease {
    /// They stay.
    #[default]
    Keep,
    /// Files are removed, and containers that hold one in a variable are stopped.
    Withdraw,
}

/// The time without the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCacheSettings {
    /// Where the key is; the kernel's keyring by default.
    pub key: CacheKey,
    /// How long what the host has may be used; 24 hours by default.
    pub lease: Duration,
    /// What becomes of it then; kept by default.
    pub after: AfterLease,
}

impl HostCacheSettings {
    pub(super) fn take(sources: &mut Sources) -> Self {
        let lease = sources.span("injector.lease", DEFAULT_LEASE, MIN_LEASE..=MAX_LEASE);
        let after = match sources.optional_text("injector.lease_policy").as_deref() {
            None | Some("keep") => AfterLease::Keep,
            Some("withdraw") => AfterLease::Withdraw,
            Some(other) => {
                let other = shorten(other);
                let message = format!("`{other}` is no lease policy; use `keep` or `withdraw`");
                sources.fault("injector.lease_policy", message);
                AfterLease::Keep
            }
        };
        let key = key(sources);
        Self { key, lease, after }
    }
}

fn key(sources: &mut Sources) -> CacheKey {
    const CACHE: &str = "injector.host_cache";
    const FILE: &str = "injector.host_cache_key_file";
    const CREDENTIAL: &str = "injector.host_cache_credential";
    let (file, credential) = (
        sources.optional_path(FILE),
        sources.optional_text(CREDENTIAL),
    );
    let named = sources.optional_text(CACHE);
    let word = named.as_deref().unwrap_or("keyring");
    if file.is_some() && word != "key-file" {
        let message = format!("`{FILE}` is of no use without `{CACHE} = \"key-file\"`");
        sources.fault(FILE, message);
    }
    if credential.is_some() && word != "systemd-credential" {
        let message =
            format!("`{CREDENTIAL}` is of no use without `{CACHE} = \"systemd-credential\"`");
        sources.fault(CREDENTIAL, message);
    }
    match (word, file, credential) {
        ("keyring", ..) => CacheKey::Keyring,
        ("off", ..) => CacheKey::Off,
        ("key-file", Some(file), _) => CacheKey::File(file),
        ("systemd-credential", _, Some(name)) => {
            if !is_credential_name(&name) {
                let name = shorten(&name);
                let message = format!(
                    "`{name}` is no name of a systemd credential; use letters, digits, `-`, `_` and `.`"
                );
                sources.fault(CREDENTIAL, message);
            }
            CacheKey::Credential(name)
        }
        ("key-file", None, _) => {
            let message =
                format!("`{CACHE} = \"key-file\"` needs the file's path; name it with `{FILE}`");
            sources.fault(CACHE, message);
            CacheKey::Off
        }
        ("systemd-credential", _, None) => {
            let message = format!(
                "`{CACHE} = \"systemd-credential\"` needs its name; give it with `{CREDENTIAL}`"
            );
            sources.fault(CACHE, message);
            CacheKey::Off
        }
        (other, ..) => {
            let other = shorten(other);
            let message = format!(
                "`{other}` is no place for the host cache's key; use `keyring`, `key-file`, `systemd-credential` or `off`"
            );
            sources.fault(CACHE, message);
            CacheKey::Off
        }
    }
}

fn is_credential_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= MAX_CREDENTIAL_BYTES && !name.starts_with('.') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigFlags};
    use super::*;

    fn load(text: &str) -> Result<HostCacheSettings, String> {
        let flags = ConfigFlags {
            machine_name: Some("web-1".to_owned()),
            ..ConfigFlags::default()
        };
        let text = format!("[injector]\n{text}");
        let loaded = Config::load(Some(("c.toml", &text)), &|_| None, flags);
        let settings = loaded.map(|config| config.injector.host_cache);
        settings.map_err(|faults| faults.iter().map(|fault| format!("{fault}\n")).collect())
    }

    #[test]
    fn by_default_the_key_is_in_the_keyring_for_a_day() {
        let settings = load("").unwrap();
        assert_eq!(settings.key, CacheKey::Keyring);
        assert_eq!(settings.lease, DEFAULT_LEASE);
        assert_eq!(settings.after, AfterLease::Keep);
    }

    #[test]
    fn every_place_and_policy_can_be_said() {
        let settings = load(
            "host_cache = \"key-file\"\nhost_cache_key_file = \"/k\"\nlease = \"2h\"\nlease_policy = \"withdraw\"",
        )
        .unwrap();
        assert_eq!(settings.key, CacheKey::File("/k".into()));
        assert_eq!(settings.lease, Duration::from_secs(7200));
        assert_eq!(settings.after, AfterLease::Withdraw);
        let key = |text| load(text).unwrap().key;
        assert_eq!(key("host_cache = \"off\""), CacheKey::Off);
        let credential =
            key("host_cache = \"systemd-credential\"\nhost_cache_credential = \"kw.key\"");
        assert_eq!(credential, CacheKey::Credential("kw.key".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_right_word() {
        for (text, wanted) in [
            ("host_cache = \"tpm\"", "use `keyring`, `key-file`"),
            (
                "host_cache = \"key-file\"",
                "name it with `injector.host_cache_key_file`",
            ),
            (
                "host_cache = \"systemd-credential\"",
                "`injector.host_cache_credential`",
            ),
            ("host_cache_key_file = \"/k\"", "of no use without"),
            ("host_cache_credential = \"x\"", "of no use without"),
            (
                "host_cache = \"systemd-credential\"\nhost_cache_credential = \"../x\"",
                "no name of a systemd credential",
            ),
            (
                "lease = \"1s\"",
                "`injector.lease` has to lie between 300s and 30d",
            ),
            ("lease = \"31d\"", "has to lie between"),
            ("lease_policy = \"burn\"", "use `keep` or `withdraw`"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
            assert!(said.starts_with("c.toml:"), "{said}");
        }
    }
}
