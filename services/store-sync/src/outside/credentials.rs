//! Reads credentials of stores: from files, and from secrets of the store `local`.
//!
//! Invariants: read anew each time one is asked for; a file is read only below the directory that the
//! configuration names, so no declaration makes a file of ours go out; no text of an error holds one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use keywheel_core::id::SecretId;
use keywheel_core::name::SecretName;
use keywheel_core::store::{CredentialNow, CredentialRef};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_stores::file::{self, FileError};

/// Largest credential in a file, in bytes: a certificate chain has room.
const MAX_CREDENTIAL_BYTES: u64 = 64 * 1024;

/// One store's credentials.
pub(crate) struct Book {
    vault: Arc<dyn VersionVault>,
    directory: PathBuf,
    known: Mutex<Known>,
}

/// Which version of which secret holds a credential now.
type Known = BTreeMap<SecretName, (SecretId, Option<u64>)>;

impl Book {
    /// Files lie below this directory.
    pub(crate) fn new(vault: Arc<dyn VersionVault>, directory: &Path) -> Self {
        Self {
            vault,
            directory: directory.to_owned(),
            known: Mutex::default(),
        }
    }

    /// Which versions of which secrets hold them now; `true` when that is something else than before.
    pub(crate) fn learn(&self, known: &[CredentialNow]) -> bool {
        let now = |now: &CredentialNow| (now.name.clone(), (now.secret, now.version));
        let now: Known = known.iter().map(now).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != now;
        *known = now;
        is_news
    }

    async fn of_secret(&self, name: &SecretName) -> Result<SecretBytes, PortError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(name).copied()
        };
        if known.is_none() {
            let text = format!(
                "the credential is to be in secret `{name}`, which is not there or is declared for another server; apply it with a `credentialFor` that names this one"
            );
            return Err(PortError::new(ErrorKind::NotFound, text));
        }
        let Some((secret, Some(version))) = known else {
            let text = format!(
                "the credential is to be in secret `{name}`, which has no version; give it one with `keywheel secret put {name} --value-file FILE`"
            );
            return Err(PortError::new(ErrorKind::NotFound, text));
        };
        self.vault.open(secret, version).await
    }
}

#[async_trait]
impl Credentials for Book {
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError> {
        let read = match credential {
            CredentialRef::File(path) => of_file(&self.directory, path).await?,
            CredentialRef::Secret(name) => self.of_secret(name).await?,
        };
        // EXPOSE: the line break at its end goes; the bytes stay in our own kind of memory.
        let bytes = read.expose();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() {
            let text = format!("the credential in {} is empty", words(credential));
            return Err(PortError::new(ErrorKind::NotFound, text));
        }
        Ok(SecretBytes::copied(bytes))
    }
}

fn words(credential: &CredentialRef) -> String {
    match credential {
        CredentialRef::File(path) => format!("file {path}"),
        CredentialRef::Secret(name) => format!("secret `{name}`"),
    }
}

async fn of_file(directory: &Path, path: &str) -> Result<SecretBytes, PortError> {
    let read = file::read_below(directory, Path::new(path), MAX_CREDENTIAL_BYTES).await;
    let read = read.map_err(|error| refused(directory, path, error))?;
    if read.mode & 0o007 != 0 {
        let text = format!(
            "the credential in file {path} may be read or written by everyone; say `chmod o-rwx {path}`"
        );
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    Ok(read.bytes)
}

fn refused(directory: &Path, path: &str, error: FileError) -> PortError {
    let (kind, next) = match &error {
        FileError::Elsewhere(_) => {
            let text = format!(
                "file {path} does not lie below {}, and no other file is read for a store; put the credential there, or name its directory as `stores.credentials_dir` in store-sync's configuration",
                directory.display()
            );
            return PortError::new(ErrorKind::Denied, text);
        }
        FileError::NotRegular | FileError::TooLong(_) => {
            (ErrorKind::Denied, "name the file that holds it")
        }
        FileError::System(error) => match error.kind() {
            std::io::ErrorKind::NotFound => (
                ErrorKind::NotFound,
                "write it there, on the machine where store-sync runs",
            ),
            std::io::ErrorKind::PermissionDenied => {
                (ErrorKind::Denied, "let store-sync's user read it")
            }
            _ => (ErrorKind::Unavailable, "look at that file"),
        },
    };
    let text = format!("the credential in file {path} cannot be read; {next}");
    PortError::caused(kind, text, error)
}
