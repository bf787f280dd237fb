//! Where the host cache's key comes from.
//!
//! Invariants: the key is never below the directory that holds the cache (rule K4); a key file that
//! others may read is refused; a key that is missing is made anew only where nothing is sealed with
//! the old one, or in the keyring, which a reboot empties.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use keywheel_core::id::{DeploymentId, HostId};
use keywheel_daemon::{chain, env, names};
use keywheel_seal::kept::HostCacheKey;
use keywheel_seal::{Entropy, SecretBytes};
use keywheel_sys::keyring;

use super::SUFFIX;
use crate::error::InjectorError;
use crate::options::{HostCache, HostSettings};

/// Longest content of a key file that is read.
const MAX_KEY_FILE_BYTES: u64 = 128;
/// Where systemd says its credentials lie.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The key, as the options say; `None` when nothing is to be kept.
pub(super) fn load(
    options: &HostSettings,
    entropy: &dyn Entropy,
) -> Result<Option<HostCacheKey>, InjectorError> {
    match &options.host_cache {
        HostCache::Off => Ok(None),
        HostCache::Keyring => Ok(from_keyring(options, entropy)),
        HostCache::KeyFile(path) => from_file(path, &options.host_cache_dir, entropy).map(Some),
        HostCache::SystemdCredential(name) => {
            from_credential(env::lookup(CREDENTIALS).map(PathBuf::from), name).map(Some)
        }
    }
}

/// The key's name in the keyring.
pub(super) fn keyring_name(deployment: DeploymentId, host: HostId) -> String {
    format!("keywheel:host-cache:{deployment}:{host}")
}

fn from_keyring(options: &HostSettings, entropy: &dyn Entropy) -> Option<HostCacheKey> {
    let name = keyring_name(options.deployment, options.host);
    let read = || keyring::read(&name).map(|payload| payload.map(SecretBytes::from));
    let had = read().and_then(|found| {
        if let Some(key) = found.and_then(|found| HostCacheKey::from_stored(&found).ok()) {
            return Ok(Some(key));
        }
        // EXPOSE: the fresh key goes into the kernel.
        keyring::keep(&name, HostCacheKey::generate(entropy).to_stored().expose())?;
        Ok(read()?.and_then(|found| HostCacheKey::from_stored(&found).ok()))
    });
    match had {
        Ok(Some(key)) => {
            tracing::info!("host cache on: its key is in the kernel's keyring until the next boot");
            Some(key)
        }
        Ok(None) => {
            tracing::warn!("host cache off: the kernel's keyring gave back another key");
            None
        }
        Err(error) => {
            tracing::warn!(
                { names::ERROR } = chain(&error),
                "host cache off: no kernel keyring; without the control plane nothing starts after a restart of the injector; give a key file instead"
            );
            None
        }
    }
}

fn from_file(
    path: &Path,
    folder: &Path,
    entropy: &dyn Entropy,
) -> Result<HostCacheKey, InjectorError> {
    refuse_inside(path, folder)?;
    match File::open(path) {
        Ok(file) => {
            refuse_open_to_others(path, &file)?;
            read_key(path, file)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if has_files(folder) {
                let next = format!(
                    "put it back, or remove {} to start with an empty cache",
                    folder.display()
                );
                return Err(refused(
                    format!(
                        "{} is missing, and the cache is sealed with it",
                        path.display()
                    ),
                    next,
                ));
            }
            make_key(path, entropy).map_err(|error| unusable(path, &error))
        }
        Err(error) => Err(unusable(path, &error)),
    }
}

fn from_credential(directory: Option<PathBuf>, name: &str) -> Result<HostCacheKey, InjectorError> {
    let next = format!(
        "add `LoadCredentialEncrypted={name}` (or `LoadCredential=`) to the unit, with 32 random bytes in it"
    );
    let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    let Some(directory) = directory.filter(|_| is_plain) else {
        let reason = format!("systemd gave no credential `{name}`");
        return Err(refused(reason, next));
    };
    let path = directory.join(name);
    let file = File::open(&path)
        .map_err(|error| refused(format!("{} cannot be read ({error})", path.display()), next))?;
    read_key(&path, file)
}

fn read_key(path: &Path, file: File) -> Result<HostCacheKey, InjectorError> {
    let mut content = Vec::with_capacity(usize::try_from(MAX_KEY_FILE_BYTES).unwrap_or_default());
    let read = file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut content);
    let content = SecretBytes::from(content);
    read.map_err(|error| unusable(path, &error))?;
    HostCacheKey::from_stored(&content).map_err(|_| {
        refused(
            format!(
                "{} is neither 32 bytes nor 64 hex digits on one line",
                path.display()
            ),
            "give the file that was made for this host",
        )
    })
}

fn make_key(path: &Path, entropy: &dyn Entropy) -> io::Result<HostCacheKey> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let key = HostCacheKey::generate(entropy);
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // EXPOSE: the fresh key goes into its file.
    file.write_all(key.to_stored().expose())?;
    file.sync_all()?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        File::open(parent)?.sync_all()?;
    }
    tracing::info!({ names::PATH } = %path.display(), "host cache's key made");
    Ok(key)
}

fn refuse_inside(key: &Path, folder: &Path) -> Result<(), InjectorError> {
    let above = |path: &Path| {
        path.parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map_or_else(|| PathBuf::from("."), Path::to_owned)
    };
    let real = |path: PathBuf| std::fs::canonicalize(&path).unwrap_or(path);
    let data_dir = real(above(folder));
    if !real(above(key)).starts_with(&data_dir) {
        return Ok(());
    }
    Err(refused(
        format!(
            "{} lies in the data directory {}, so whoever copies the one has the other",
            key.display(),
            data_dir.display()
        ),
        "keep it on another path",
    ))
}

fn refuse_open_to_others(path: &Path, file: &File) -> Result<(), InjectorError> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = file
        .metadata()
        .map_err(|error| unusable(path, &error))?
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(refused(
        format!("other users may read {}", path.display()),
        format!("run `chmod 600 {}`", path.display()),
    ))
}

fn has_files(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let is_ours = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.ends_with(SUFFIX));
    entries
        .filter_map(Result::ok)
        .any(|entry| is_ours(&entry.file_name()))
}

fn unusable(path: &Path, error: &io::Error) -> InjectorError {
    refused(
        format!("{} cannot be used ({error})", path.display()),
        "give the path of a file in a directory that root may write",
    )
}

fn refused(reason: impl Into<String>, next: impl Into<String>) -> InjectorError {
    InjectorError::HostCacheKey {
        reason: reason.into(),
        next: next.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use keywheel_seal::OsEntropy;

    use super::*;

    fn text(result: Result<HostCacheKey, InjectorError>) -> String {
        result.unwrap_err().to_string()
    }

    fn same(left: &HostCacheKey, right: &HostCacheKey) -> bool {
        left.to_stored().ct_eq(&right.to_stored())
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("data/host-cache");
        std::fs::create_dir_all(&cache).unwrap();
        let path = folder.path().join("cache.key");
        let first = from_file(&path, &cache, &OsEntropy).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(same(&first, &from_file(&path, &cache, &OsEntropy).unwrap()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(text(from_file(&path, &cache, &OsEntropy)).contains("chmod 600"));
    }

    #[test]
    fn a_key_beside_what_it_seals_is_refused_also_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("data/host-cache");
        std::fs::create_dir_all(&cache).unwrap();
        std::os::unix::fs::symlink(folder.path().join("data"), folder.path().join("other"))
            .unwrap();
        for inside in ["data/cache.key", "data/host-cache/key", "other/cache.key"] {
            let refused = text(from_file(&folder.path().join(inside), &cache, &OsEntropy));
            assert!(refused.contains("another path"), "{inside}: {refused}");
        }
    }

    #[test]
    fn a_lost_key_is_not_replaced_while_something_is_sealed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("data/host-cache");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join("plan.sealed"), b"x").unwrap();
        let path = folder.path().join("cache.key");
        assert!(text(from_file(&path, &cache, &OsEntropy)).contains("put it back"));
        assert!(!path.exists());
        std::fs::write(&path, "short").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(text(from_file(&path, &cache, &OsEntropy)).contains("64 hex digits"));
    }

    #[test]
    fn a_credential_is_read_by_its_plain_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cache"), [7; 32]).unwrap();
        let given = || Some(folder.path().to_owned());
        let key = from_credential(given(), "cache").unwrap();
        let stored = HostCacheKey::from_stored(&SecretBytes::from(vec![7; 32])).unwrap();
        assert!(same(&key, &stored));
        for name in ["", "../cache", ".cache", "none"] {
            let refused = text(from_credential(given(), name));
            assert!(refused.contains("LoadCredential"), "{name}: {refused}");
        }
        assert!(text(from_credential(None, "cache")).contains("LoadCredential"));
    }
}
