//! Reads credentials of stores: from files, and from secrets of the store `local`.
//!
//! Invariants: read anew each time one is asked for; no text of an error holds one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use keywheel_core::id::SecretId;
use keywheel_core::name::SecretName;
use keywheel_core::store::{CredentialNow, CredentialRef};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use tokio::io::AsyncReadExt;

/// Largest credential in a file, in bytes: a certificate chain has room.
const MAX_CREDENTIAL_BYTES: u64 = 64 * 1024;

/// One store's credentials.
pub(crate) struct Book {
    vault: Arc<dyn VersionVault>,
    known: Mutex<BTreeMap<SecretName, (SecretId, Option<u64>)>>,
}

impl Book {
    pub(crate) fn new(vault: Arc<dyn VersionVault>, known: &[CredentialNow]) -> Self {
        let book = Self {
            vault,
            known: Mutex::default(),
        };
        book.learn(known);
        book
    }

    /// Which versions of which secrets hold them now.
    pub(crate) fn learn(&self, known: &[CredentialNow]) {
        let now = |now: &CredentialNow| (now.name.clone(), (now.secret, now.version));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
            known.iter().map(now).collect();
    }

    async fn of_secret(&self, name: &SecretName) -> Result<SecretBytes, PortError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(name).copied()
        };
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
            CredentialRef::File(path) => of_file(path).await?,
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
        Ok(SecretBytes::from(bytes.to_vec()))
    }
}

fn words(credential: &CredentialRef) -> String {
    match credential {
        CredentialRef::File(path) => format!("file {path}"),
        CredentialRef::Secret(name) => format!("secret `{name}`"),
    }
}

async fn of_file(path: &str) -> Result<SecretBytes, PortError> {
    let fault = |error: std::io::Error| {
        let (kind, next) = match error.kind() {
            std::io::ErrorKind::NotFound => (
                ErrorKind::NotFound,
                "write it there, on the machine where store-sync runs",
            ),
            std::io::ErrorKind::PermissionDenied => {
                (ErrorKind::Denied, "let store-sync's user read it")
            }
            _ => (ErrorKind::Unavailable, "look at that file"),
        };
        let text = format!("the credential in file {path} cannot be read; {next}");
        PortError::caused(kind, text, error)
    };
    let mut file = tokio::fs::File::open(path).await.map_err(fault)?;
    let about = file.metadata().await.map_err(fault)?;
    if about.permissions().mode() & 0o007 != 0 {
        let text = format!(
            "the credential in file {path} may be read or written by everyone; say `chmod o-rwx {path}`"
        );
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    if about.len() > MAX_CREDENTIAL_BYTES {
        let text =
            format!("the credential in file {path} has more than {MAX_CREDENTIAL_BYTES} bytes");
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
    let mut bounded = (&mut file).take(MAX_CREDENTIAL_BYTES);
    bounded.read_to_end(&mut bytes).await.map_err(fault)?;
    Ok(SecretBytes::from(bytes))
}
