//! Who this installation is: deployment, host, and the signing keys of its services, sealed at rest
//! under the unseal key.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use keywheel_bus::{Identity, Trust};
use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_engine::port::ids::Ids;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::{SealedKey, UnsealKey};
use keywheel_seal::sign::SigningKey;
use serde::{Deserialize, Serialize};

use super::error::{Error, Kind};

const FILE: &str = "identity.json";
const ROLES: [(Role, &str); 5] = [
    (Role::Gateway, "gateway"),
    (Role::Scheduler, "scheduler"),
    (Role::StoreSync, "store-sync"),
    (Role::Injector, "injector"),
    (Role::AuditSink, "audit-sink"),
];

/// What the file holds; keys are sealed, everything else is public.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    deployment: String,
    host: String,
    sealed_keys: BTreeMap<String, String>,
}

/// Who this installation is.
pub(super) struct Installation {
    pub(super) deployment: DeploymentId,
    pub(super) host: HostId,
    keys: BTreeMap<Role, SigningKey>,
}

impl Installation {
    /// Opens the identity, or makes one on an empty data directory.
    pub(super) fn open(
        data_dir: &Path,
        unseal: &UnsealKey,
        key_path: &Path,
        ids: &dyn Ids,
    ) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::read(&text, &path, unseal, key_path, data_dir),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::make(&path, unseal, ids)
            }
            Err(error) => Err(Error::path(&path, &error)),
        }
    }

    /// Opens the identity that has to be there.
    pub(super) fn present(
        data_dir: &Path,
        unseal: &UnsealKey,
        key_path: &Path,
    ) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| Error::path(&path, &error))?;
        Self::read(&text, &path, unseal, key_path, data_dir)
    }

    fn read(
        text: &str,
        path: &Path,
        unseal: &UnsealKey,
        key_path: &Path,
        data_dir: &Path,
    ) -> Result<Self, Error> {
        let damaged = || damaged(path);
        let stored: Stored = serde_json::from_str(text).map_err(|_| damaged())?;
        let deployment = DeploymentId::parse(&stored.deployment).map_err(|_| damaged())?;
        let host = HostId::parse(&stored.host).map_err(|_| damaged())?;
        let mut keys = BTreeMap::new();
        for (role, name) in ROLES {
            let sealed = stored
                .sealed_keys
                .get(name)
                .and_then(|hex| unhex(hex))
                .ok_or_else(damaged)?;
            let sealed = SealedKey::from_bytes(&sealed).ok_or_else(damaged)?;
            let seed = unseal
                .open_service_key(deployment.bytes(), name, &sealed)
                .map_err(|_| Error::wrong_unseal_key(key_path, data_dir))?;
            keys.insert(
                role,
                SigningKey::from_seed_bytes(&seed).map_err(|_| damaged())?,
            );
        }
        Ok(Self {
            deployment,
            host,
            keys,
        })
    }

    fn make(path: &Path, unseal: &UnsealKey, ids: &dyn Ids) -> Result<Self, Error> {
        let deployment = DeploymentId::from_bytes(ids.draw());
        let host = HostId::from_bytes(ids.draw());
        let (mut keys, mut sealed_keys) = (BTreeMap::new(), BTreeMap::new());
        for (role, name) in ROLES {
            let key = SigningKey::generate(&OsEntropy);
            let sealed = unseal.seal_service_key(deployment.bytes(), name, &key.seed(), &OsEntropy);
            let sealed = sealed.map_err(|error| {
                Error::new(
                    Kind::Broken,
                    format!("cannot seal the key of {name}: {error}"),
                    "start again; report this if it stays",
                )
            })?;
            sealed_keys.insert(name.to_owned(), hex(&sealed.to_bytes()));
            keys.insert(role, key);
        }
        let stored = Stored {
            deployment: deployment.to_string(),
            host: host.to_string(),
            sealed_keys,
        };
        write_durably(path, &stored)?;
        Ok(Self {
            deployment,
            host,
            keys,
        })
    }

    /// Origin line of the audit's checkpoints.
    pub(super) fn origin(&self) -> String {
        format!("keywheel.dev/audit/{}", self.deployment)
    }

    /// Whose signature counts for which role; that of a host comes with [`Self::trust_host`].
    pub(super) fn trust(&self) -> Trust {
        let keys = self
            .keys
            .iter()
            .map(|(role, key)| (*role, key.verifying_key()));
        Trust::new(self.deployment, keys)
    }

    /// Trusts this machine's injector as one host, and no other host.
    pub(super) fn trust_host(&self, trust: &Trust, host: HostId) {
        let own = self.keys.get(&Role::Injector);
        let hosts = own.map(|key| (host, key.verifying_key()));
        trust.set_hosts(hosts.into_iter().collect());
    }

    /// Takes a new host id, for good: the old one was evicted.
    pub(super) fn renew_host(&self, data_dir: &Path, ids: &dyn Ids) -> Result<HostId, Error> {
        let path = data_dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| Error::path(&path, &error))?;
        let mut stored: Stored = serde_json::from_str(&text).map_err(|_| damaged(&path))?;
        let host = HostId::from_bytes(ids.draw());
        stored.host = host.to_string();
        write_durably(&path, &stored)?;
        Ok(host)
    }

    /// The injector of a host, for its end of the bus.
    pub(super) fn injector(&self, host: HostId) -> Result<Identity, Error> {
        let key = self.signing_key(Role::Injector)?;
        Ok(Identity::injector(self.deployment, host, key))
    }

    /// The gateway's public key: events and checkpoints are signed with its other half.
    pub(super) fn gateway_public_key(&self) -> Option<[u8; 32]> {
        self.keys
            .get(&Role::Gateway)
            .map(|key| key.verifying_key().to_bytes())
    }

    /// A second copy of a role's signing key.
    pub(super) fn signing_key(&self, role: Role) -> Result<SigningKey, Error> {
        let missing = || {
            Error::new(
                Kind::Broken,
                format!("no signing key for role {role:?}"),
                "report this",
            )
        };
        let key = self.keys.get(&role).ok_or_else(missing)?;
        SigningKey::from_seed_bytes(&key.seed()).map_err(|_| missing())
    }

    /// A service with its key, for its end of the bus; a host's injector is [`Self::injector`].
    pub(super) fn identity(&self, role: Role) -> Result<Identity, Error> {
        let key = self.signing_key(role)?;
        Ok(Identity::service(self.deployment, role, key))
    }
}

/// The deployment in a data directory; its keys stay sealed.
pub(super) fn deployment_of(data_dir: &Path) -> Result<DeploymentId, Error> {
    let path = data_dir.join(FILE);
    let text = fs::read_to_string(&path).map_err(|error| Error::path(&path, &error))?;
    let stored: Stored = serde_json::from_str(&text).map_err(|_| damaged(&path))?;
    DeploymentId::parse(&stored.deployment).map_err(|_| damaged(&path))
}

fn damaged(path: &Path) -> Error {
    Error::new(
        Kind::Broken,
        format!("{} is damaged", path.display()),
        "restore it from your backup",
    )
}

/// Writes beside, syncs, renames: a crash leaves the old file or the new one.
fn write_durably(path: &Path, stored: &Stored) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let text = serde_json::to_string_pretty(stored)
        .map_err(|e| Error::new(Kind::Broken, e.to_string(), "report this"))?;
    let beside = path.with_extension("new");
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent()
            .map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
    };
    write().map_err(|e| Error::path(path, &e))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_daemon::SystemIds;

    #[test]
    fn a_renewed_host_is_another_and_the_deployment_and_its_keys_stay() {
        let dir = std::env::temp_dir().join(format!("keywheel-identity-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let unseal = UnsealKey::generate(&OsEntropy);
        let open = || Installation::open(&dir, &unseal, Path::new("key"), &SystemIds);
        let first = open().ok().unwrap();
        let renewed = first.renew_host(&dir, &SystemIds).ok().unwrap();
        assert_ne!(renewed, first.host);
        let second = open().ok().unwrap();
        assert_eq!(second.host, renewed);
        assert_eq!(second.deployment, first.deployment);
        assert_eq!(second.gateway_public_key(), first.gateway_public_key());
        fs::remove_dir_all(&dir).unwrap();
    }
}
