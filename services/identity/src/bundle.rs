//! Credentials on disk: one directory per service, host, bus server or person.
//!
//! Files: `ca.pem`, `tls.pem`, `tls.key`, and for who speaks on the bus `identity.json` (signing seed,
//! whom to trust for what, sealing keys of a host) and `nats.creds`. Invariants: directories are 0700
//! and files 0600; a replacement is all or nothing, also over a crash (new files are written beside
//! and synced, then a marker says that they count, then they are renamed); what is read is checked
//! against itself. Secret text is overwritten in memory after use.

pub(crate) mod disk;
pub(crate) mod stored;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_core::name::HostName;
use keywheel_core::time::Timestamp;
use keywheel_schemas::subject::Client;
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::HostKeyPair;
use keywheel_seal::sign::{SigningKey, VerifyingKey};

use crate::authority::{certificates, validity};
use crate::name::{NameError, PeerName};
use crate::tls::{TlsCredentials, TlsError};

/// The roots to trust.
pub const CA_FILE: &str = "ca.pem";
/// The certificate with its chain.
pub const CERTIFICATE_FILE: &str = "tls.pem";
/// Its key.
pub const KEY_FILE: &str = "tls.key";
/// Who it is and whom it trusts.
pub const IDENTITY_FILE: &str = "identity.json";
/// The permit for the bus.
pub const BUS_FILE: &str = "nats.creds";
/// The gateway's second permit, with which it tells the bus of revocations.
pub const CLAIMS_FILE: &str = "nats-claims.creds";

/// Why credentials cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The disk said no.
    #[error("{path}: cannot {action}; check the directory and its owner")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Others can read it.
    #[error(
        "{path} can be read by others (mode {mode:o}); run `chmod {wanted:o}` on it, and issue the credentials again if others may have read them"
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it should be.
        wanted: u32,
    },
    /// Not what it should be.
    #[error(
        "{path} is damaged: {reason}; restore it from your backup or issue the credentials again"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not belong together.
    #[error("{path}: the credentials do not belong together")]
    Tls {
        /// Which directory.
        path: PathBuf,
        /// Which part.
        #[source]
        source: TlsError,
    },
}

impl BundleError {
    /// The same of a directory that has another name, too.
    pub(crate) fn renamed(self, from: &Path, to: &Path) -> Self {
        let other = |path: &Path| match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => to.join(rest),
            Err(_) => path.to_owned(),
        };
        match self {
            Self::Io {
                path,
                action,
                source,
            } => Self::Io {
                path: other(&path),
                action,
                source,
            },
            Self::Open { path, mode, wanted } => Self::Open {
                path: other(&path),
                mode,
                wanted,
            },
            Self::Damaged { path, reason } => Self::Damaged {
                path: other(&path),
                reason,
            },
            Self::Tls { path, source } => Self::Tls {
                path: other(&path),
                source,
            },
        }
    }
}

/// PEM of a certificate, its key and the roots.
pub struct TlsFiles {
    /// The certificate with its chain.
    pub chain_pem: String,
    /// Its key.
    pub key_pem: SecretBytes,
    /// The roots to trust.
    pub roots_pem: String,
}

/// One of a host's sealing keys.
pub struct SealingKey {
    /// Counts the host's keys.
    pub generation: u64,
    /// When it was made.
    pub made: Timestamp,
    /// The pair.
    pub pair: HostKeyPair,
}

/// Who speaks on the bus, and whom it believes what.
pub struct Identity {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Who it is: a service or a host.
    pub name: PeerName,
    /// A host's name.
    pub host_name: Option<HostName>,
    /// What it says is signed with this key.
    pub signing: SigningKey,
    /// A host's keys for what is sealed to it, oldest first.
    pub sealing: Vec<SealingKey>,
    /// Whose signature counts for which role. Hosts' keys come over the bus.
    pub trust: BTreeMap<Role, VerifyingKey>,
    /// Where the bus's servers are.
    pub servers: Vec<String>,
    /// A host's: where gateways let machines join, HOST:PORT, the newest first. Who was away for longer
    /// than its credentials live asks there.
    pub gateways: Vec<String>,
}

/// Most join ports that a host remembers.
pub const MAX_GATEWAYS: usize = 4;

/// Everything one directory holds.
pub struct Bundle {
    /// Certificate, key, roots.
    pub tls: TlsFiles,
    /// Who it is on the bus; a person and a bus server have none.
    pub identity: Option<Identity>,
    /// Text of the credentials file for the bus.
    pub bus: Option<SecretBytes>,
    /// The same of the gateway's second permit.
    pub claims: Option<SecretBytes>,
}

impl Identity {
    /// Its end of the bus: role, and host if it is one. `None` for who does not speak there.
    #[must_use]
    pub fn client(&self) -> Option<Client> {
        client_of(&self.name)
    }

    /// The host's id, if it is a host.
    #[must_use]
    pub fn host(&self) -> Option<HostId> {
        match self.name {
            PeerName::Host(host) => Some(host),
            _ => None,
        }
    }

    /// Remembers the join port of a gateway that answered.
    pub fn learn_gateway(&mut self, address: &str) {
        self.gateways.retain(|known| known != address);
        self.gateways.insert(0, address.to_owned());
        self.gateways.truncate(MAX_GATEWAYS);
    }

    /// The newest of a host's sealing keys.
    #[must_use]
    pub fn newest_sealing(&self) -> Option<&SealingKey> {
        self.sealing.iter().max_by_key(|key| key.generation)
    }
}

/// Who a name is on the bus.
#[must_use]
pub fn client_of(name: &PeerName) -> Option<Client> {
    match name {
        PeerName::Service(role) => Some(Client::service(*role)),
        PeerName::Host(host) => Some(Client::injector(*host)),
        PeerName::BusServer | PeerName::Operator(_) => None,
    }
}

impl TlsFiles {
    /// The deployment that the certificate belongs to: a person's credentials say it nowhere else.
    ///
    /// # Errors
    /// When the certificate cannot be read or names nobody of a deployment.
    pub fn deployment(&self) -> Result<DeploymentId, TlsError> {
        let what = "the certificate";
        let chain =
            certificates(&self.chain_pem).map_err(|reason| TlsError::Pem { what, reason })?;
        let leaf = chain.first().ok_or(NameError::Unreadable)?;
        Ok(PeerName::deployment_of(leaf)?)
    }

    /// Begin and end of the certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn life(&self) -> Result<(Timestamp, Timestamp), TlsError> {
        let what = "the certificate";
        let chain =
            certificates(&self.chain_pem).map_err(|reason| TlsError::Pem { what, reason })?;
        let leaf = chain.first().ok_or(NameError::Unreadable)?;
        Ok(validity(leaf).map_err(|_| NameError::Unreadable)?)
    }

    /// Parses and checks them.
    ///
    /// # Errors
    /// When a part cannot be read or belongs to another.
    pub fn credentials(&self, deployment: DeploymentId) -> Result<TlsCredentials, TlsError> {
        TlsCredentials::from_pem(deployment, &self.chain_pem, &self.key_pem, &self.roots_pem)
    }
}

impl Bundle {
    /// Writes the directory, or replaces what is in it, all or nothing.
    ///
    /// # Errors
    /// When the disk says no; then the old files count, or the new ones at the next read.
    pub fn write(&self, directory: &Path) -> Result<(), BundleError> {
        let mut files: Vec<(&str, SecretBytes)> = vec![
            (CA_FILE, text(&self.tls.roots_pem)),
            (CERTIFICATE_FILE, text(&self.tls.chain_pem)),
            (KEY_FILE, copy(&self.tls.key_pem)),
        ];
        if let Some(identity) = &self.identity {
            files.push((IDENTITY_FILE, stored::encode(identity)));
        }
        if let Some(bus) = &self.bus {
            files.push((BUS_FILE, copy(bus)));
        }
        if let Some(claims) = &self.claims {
            files.push((CLAIMS_FILE, copy(claims)));
        }
        disk::replace(directory, &files)
    }

    /// Reads and checks a directory that [`Self::write`] made.
    ///
    /// # Errors
    /// When a file is missing, open to others, damaged, or belongs to another.
    pub fn read(directory: &Path) -> Result<Self, BundleError> {
        let _lock = disk::finish(directory)?;
        let need = |name| disk::read(directory, name);
        let pem = |name| {
            let path = directory.join(name);
            into_text(&need(name)?).ok_or_else(|| damaged(&path, "it is not text"))
        };
        let tls = TlsFiles {
            chain_pem: pem(CERTIFICATE_FILE)?,
            key_pem: need(KEY_FILE)?,
            roots_pem: pem(CA_FILE)?,
        };
        let maybe = |name| {
            let there = directory.join(name).exists();
            there.then(|| need(name)).transpose()
        };
        let identity = match maybe(IDENTITY_FILE)? {
            None => None,
            Some(bytes) => {
                let path = directory.join(IDENTITY_FILE);
                let identity = stored::decode(&bytes).map_err(|why| damaged(&path, why))?;
                check(directory, &tls, &identity)?;
                Some(identity)
            }
        };
        Ok(Self {
            tls,
            identity,
            bus: maybe(BUS_FILE)?,
            claims: maybe(CLAIMS_FILE)?,
        })
    }

    /// Reads the directory of a service or host; one of a person or bus server is refused.
    ///
    /// # Errors
    /// As [`Self::read`], and when there is no identity.
    pub fn read_speaker(directory: &Path) -> Result<(Self, Identity), BundleError> {
        let mut bundle = Self::read(directory)?;
        let path = directory.join(IDENTITY_FILE);
        let identity = bundle.identity.take();
        let identity = identity.ok_or_else(|| damaged(&path, "it is missing"))?;
        Ok((bundle, identity))
    }
}

/// The certificate must be the identity's.
fn check(directory: &Path, tls: &TlsFiles, identity: &Identity) -> Result<(), BundleError> {
    let wrong = |source| BundleError::Tls {
        path: directory.to_owned(),
        source,
    };
    let credentials = tls.credentials(identity.deployment).map_err(wrong)?;
    if *credentials.name() == identity.name {
        return Ok(());
    }
    Err(wrong(TlsError::NotOurs {
        found: credentials.name().clone(),
        ours: identity.name.clone(),
    }))
}

fn damaged(path: &Path, reason: impl Into<String>) -> BundleError {
    BundleError::Damaged {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn text(text: &str) -> SecretBytes {
    SecretBytes::copied(text.as_bytes())
}

fn copy(bytes: &SecretBytes) -> SecretBytes {
    // EXPOSE: copied to be written to its file.
    SecretBytes::copied(bytes.expose())
}

fn into_text(bytes: &SecretBytes) -> Option<String> {
    // EXPOSE: these are certificates, which are public.
    String::from_utf8(bytes.expose().to_vec()).ok()
}

#[cfg(test)]
mod tests;
