//! The key service that a seal file names: its settings from their file, its credentials from theirs.
//!
//! Invariants: nothing of a credential is an argument, a variable of ours or part of the settings; each is read anew
//! when it is needed; a file that everybody may read or write is refused. Who answers, and what that opens, is
//! store-sync's.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::store::{AwsAuth, AwsSpec, CredentialRef, OldVersions, VaultAuth, VaultSpec};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::key_service::KeyService;
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::config::unseal::{
    self, DEFAULT_APPROLE_MOUNT, DEFAULT_TRANSIT_MOUNT, KmsSettings, MAX_UNSEAL_FILE_BYTES,
    TransitSettings, UnsealFile,
};
use keywheel_seal::unseal::{Service, ServiceKind};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_store_sync::seal::SERVICE_TIMEOUT;
use keywheel_stores::aws::AwsKey;
use keywheel_stores::file;
use keywheel_stores::vault::{Process, TransitKey};

use crate::exit::{Exit, Failure};
use crate::up::{Error, Kind, layout};

/// Largest credential, in bytes: a long session token has room.
const MAX_CREDENTIAL_BYTES: u64 = 16 * 1024;
/// What to put right in the settings.
const CORRECT: &str = "correct the file; `deploy/docs/seal.md` has every setting";

/// The service that opens a sealed root key; no credential of it may lie inside what that protects.
pub(crate) fn of_kept(
    kept: &Service,
    protects: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn KeyService>, Error> {
    connect(kept.kind(), (Path::new(kept.settings()), protects), clock)
}

/// The service of this file, which opens what lies in that directory. Nothing is asked yet.
pub(crate) fn connect(
    kind: ServiceKind,
    (path, protects): (&Path, &Path),
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn KeyService>, Error> {
    let file = read(path)?;
    refuse_inside(&file, path, protects)?;
    let UnsealFile { kms, transit } = file;
    let connected = match kind {
        ServiceKind::Kms => {
            let settings = kms.ok_or_else(|| lacks(path, kind))?;
            let key = AwsKey::new(
                aws_spec(&settings),
                &settings.key,
                SERVICE_TIMEOUT,
                Arc::new(Files),
            );
            key.map(|key| Arc::new(key) as Arc<dyn KeyService>)
        }
        ServiceKind::Transit => {
            let settings = transit.ok_or_else(|| lacks(path, kind))?;
            let process = Process {
                clock,
                entropy: Arc::new(OsEntropy),
                wrappings: Arc::default(),
            };
            let by = (SERVICE_TIMEOUT, Arc::new(Files) as Arc<dyn Credentials>);
            let key = TransitKey::new(&vault_spec(&settings), &settings.key, by, process);
            key.map(|key| Arc::new(key) as Arc<dyn KeyService>)
        }
    };
    connected.map_err(|error| {
        let text = format!("{}: {}", path.display(), keywheel_daemon::chain(&error));
        Error::new(Kind::BadConfiguration, text, CORRECT)
    })
}

/// What a person is told when a service gave nothing.
pub(crate) fn failed(error: &PortError) -> Failure {
    let exit = match error.kind {
        ErrorKind::Unavailable => Exit::Unavailable,
        _ => Exit::Config,
    };
    let next = "put right what is named there, and repeat the command; nothing was changed";
    Failure::new(exit, keywheel_daemon::chain(error), next)
}

/// A login that lies beside what it opens would be in every copy of that.
fn refuse_inside(file: &UnsealFile, path: &Path, protects: &Path) -> Result<(), Error> {
    let kms = file.kms.iter();
    let kms = kms.flat_map(|kms| [&kms.secret_access_key_file, &kms.session_token_file]);
    let transit = file.transit.iter();
    let transit = transit.flat_map(|transit| [&transit.token_file, &transit.secret_id_file]);
    for credential in kms.chain(transit).flatten() {
        if layout::is_inside(Path::new(credential), protects)? {
            let text = format!(
                "the credential {credential} lies inside {}: a copy of that would open everything",
                protects.display()
            );
            let next = format!("put it elsewhere, and name it in {}", path.display());
            return Err(Error::new(Kind::Refused, text, next));
        }
    }
    Ok(())
}

fn lacks(path: &Path, kind: ServiceKind) -> Error {
    let word = kind.word();
    let text = format!("{} has no table `[{word}]`", path.display());
    Error::new(Kind::BadConfiguration, text, CORRECT)
}

fn read(path: &Path) -> Result<UnsealFile, Error> {
    let text = text(path).map_err(|error| {
        let text = format!(
            "the settings of the key service {} cannot be read: {error}",
            path.display()
        );
        let next = "put the file there that `keywheel init` or `reseal` was given, where this user may read it";
        Error::new(Kind::MissingInput, text, next)
    })?;
    unseal::parse(path, &text).map_err(|faults| {
        let faults = faults.iter().map(ToString::to_string);
        let text = faults.collect::<Vec<_>>().join("; ");
        Error::new(Kind::BadConfiguration, text, CORRECT)
    })
}

/// One byte more than the limit is enough to see that it is too long.
fn text(path: &Path) -> std::io::Result<String> {
    let opened = File::open(path)?;
    let about = opened.metadata()?;
    if !about.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    if about.mode() & 0o002 != 0 {
        let why = "everybody may write to it, and it says to whom a key goes; `chmod o-w` it";
        return Err(std::io::Error::other(why));
    }
    let most = u64::try_from(MAX_UNSEAL_FILE_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    opened
        .take(most.saturating_add(1))
        .read_to_string(&mut text)?;
    Ok(text)
}

fn aws_spec(settings: &KmsSettings) -> AwsSpec {
    let auth = match (&settings.access_key_id, &settings.secret_access_key_file) {
        (Some(id), Some(file)) => AwsAuth::Keys {
            access_key_id: id.clone(),
            secret_access_key: CredentialRef::File(file.clone()),
            session_token: settings.session_token_file.clone().map(CredentialRef::File),
        },
        _ => AwsAuth::Chain {
            profile: settings.profile.clone().unwrap_or_default(),
        },
    };
    AwsSpec {
        region: settings.region.clone().unwrap_or_default(),
        endpoint: settings.endpoint.clone().unwrap_or_default(),
        auth,
    }
}

fn vault_spec(settings: &TransitSettings) -> VaultSpec {
    let or =
        |given: &Option<String>, usual: &str| given.clone().unwrap_or_else(|| usual.to_owned());
    let auth = match (&settings.role_id, &settings.secret_id_file) {
        (Some(role_id), Some(file)) => VaultAuth::AppRole {
            mount: or(&settings.approle_mount, DEFAULT_APPROLE_MOUNT),
            role_id: role_id.clone(),
            secret_id: CredentialRef::File(file.clone()),
            wrapped: false,
        },
        // The file was read with one login or the other.
        _ => VaultAuth::Token {
            token: CredentialRef::File(or(&settings.token_file, "")),
        },
    };
    VaultSpec {
        address: settings.address.clone(),
        namespace: settings.namespace.clone().unwrap_or_default(),
        mount: or(&settings.mount, DEFAULT_TRANSIT_MOUNT),
        ca_file: settings.ca_file.clone().unwrap_or_default(),
        old_versions: OldVersions::default(),
        auth,
    }
}

/// Credentials in files alone: no secret of ours can open what opens the secrets.
struct Files;

#[async_trait]
impl Credentials for Files {
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError> {
        let CredentialRef::File(path) = credential else {
            let text = "a key service's credential lies in a file, and in no secret";
            return Err(PortError::new(ErrorKind::Denied, text));
        };
        let read = file::read(Path::new(path), MAX_CREDENTIAL_BYTES).await;
        let read = read.map_err(|error| {
            let text = format!(
                "the credential in file {path} cannot be read; write it there, on the machine where store-sync runs, and let its user read it"
            );
            PortError::caused(ErrorKind::Denied, text, error)
        })?;
        if read.mode & 0o007 != 0 {
            let text = format!(
                "the credential in file {path} may be read or written by everyone; say `chmod o-rwx {path}`"
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        // EXPOSE: the line break at its end goes; the bytes stay in our own kind of memory.
        let bytes = read.bytes.expose();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() {
            let text = format!("the credential in file {path} is empty; write it there");
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        Ok(SecretBytes::from(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use keywheel_daemon::SystemClock;

    use super::*;

    fn connected(kind: ServiceKind, path: &Path) -> Result<String, String> {
        let protects = path.with_file_name("data");
        let connected = connect(kind, (path, &protects), Arc::new(SystemClock::new()));
        let connected = connected.map(|service| service.key().to_owned());
        connected.map_err(|error| format!("{}; {}", error.what, error.next))
    }

    #[test]
    fn settings_that_cannot_be_used_are_named_with_their_file() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("unseal.toml");
        let missing = connected(ServiceKind::Kms, &path).unwrap_err();
        assert!(missing.contains("unseal.toml cannot be read"), "{missing}");
        fs::write(&path, "[kms]\nkey = \"alias/kw\"\n").unwrap();
        let key = connected(ServiceKind::Kms, &path);
        assert_eq!(key.as_deref(), Ok("alias/kw"));
        let other = connected(ServiceKind::Transit, &path).unwrap_err();
        assert!(other.contains("no table `[transit]`"), "{other}");
        let plain =
            "[transit]\naddress = \"http://bao.example\"\nkey = \"kw\"\ntoken_file = \"/t\"\n";
        fs::write(&path, plain).unwrap();
        let plain = connected(ServiceKind::Transit, &path).unwrap_err();
        assert!(plain.contains("only https may leave it"), "{plain}");
        let inside = scratch.path().join("keys/../data/token");
        let beside = format!(
            "[transit]\naddress = \"https://bao.example\"\nkey = \"kw\"\ntoken_file = {inside:?}\n"
        );
        fs::create_dir(scratch.path().join("keys")).unwrap();
        fs::write(&path, beside).unwrap();
        let beside = connected(ServiceKind::Transit, &path).unwrap_err();
        assert!(beside.contains("a copy of that would open"), "{beside}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let open = connected(ServiceKind::Transit, &path).unwrap_err();
        assert!(open.contains("everybody may write"), "{open}");
    }

    #[tokio::test]
    async fn a_credential_that_everybody_may_read_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("token");
        let named = CredentialRef::File(path.display().to_string());
        assert!(Files.read(&named).await.is_err(), "it is not there");
        fs::write(&path, "canary-91aa\r\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let open = Files.read(&named).await.unwrap_err();
        assert!(open.text.contains("chmod o-rwx") && !open.text.contains("canary"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let read = Files.read(&named).await.unwrap();
        assert!(read.ct_eq(&SecretBytes::from(b"canary-91aa".to_vec())));
        fs::write(&path, "\n").unwrap();
        assert!(
            Files
                .read(&named)
                .await
                .unwrap_err()
                .text
                .contains("is empty")
        );
    }
}
