//! Everything a new distributed deployment needs, made in one go and written once.
//!
//! Under the directory: `gateway/`, `scheduler/`, `store-sync/`, `audit-sink/` (credentials of a
//! service each; the gateway's also holds `authority.json` and `bus-authority.json`, whose keys are
//! sealed under the unseal key, and `revocations.json`), `operators/NAME/`, and `nats/SERVER/` (its
//! certificate and `nats.conf`). Invariant: an existing deployment is never overwritten.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_schemas::subject::role_word;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::sign::{SigningKey, VerifyingKey};
use keywheel_seal::{Entropy, SecretBytes};
use serde::{Serialize, de::DeserializeOwned};

use crate::authority::{Authority, AuthorityError, StoredAuthority};
use crate::bundle::{
    Bundle, BundleError, CA_FILE, CERTIFICATE_FILE, Identity, KEY_FILE, TlsFiles, client_of, disk,
};
use crate::name::{OperatorName, PeerName};
use crate::nats::{
    BusAuthority, BusCluster, BusServer, BusTls, NatsError, Revocations, StoredBusAuthority,
    UserKey, server_config,
};

/// The sealed certificate authority, in the gateway's directory.
pub const AUTHORITY_FILE: &str = "authority.json";
/// The sealed keys of the bus, in the gateway's directory.
pub const BUS_AUTHORITY_FILE: &str = "bus-authority.json";
/// Revoked keys of the bus, in the gateway's directory.
pub const REVOCATIONS_FILE: &str = "revocations.json";
/// The bus server's configuration.
pub const SERVER_FILE: &str = "nats.conf";
/// Services that have credentials of their own from the start; hosts join.
pub const SERVICES: [Role; 4] = [
    Role::Gateway,
    Role::Scheduler,
    Role::StoreSync,
    Role::AuditSink,
];

/// Why a deployment cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there.
    #[error("{0} exists already; choose another directory, or go on with what is there")]
    Exists(PathBuf),
    /// The authority refused.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The bus's authority refused.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The disk said no.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// One bus server of the new deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewServer {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the other servers connect; `None` for a single one.
    pub cluster: Option<SocketAddr>,
    /// `HOST:PORT` at which the others reach it.
    pub route: Option<String>,
    /// Its DNS names and IP addresses.
    pub addresses: Vec<String>,
    /// Its directory for streams and claims.
    pub store: PathBuf,
    /// Most bytes of all streams on disk.
    pub max_store_bytes: u64,
    /// Where its directory under `nats/` will be on its machine; for the paths in its configuration.
    pub installed: PathBuf,
}

/// What is to be made.
pub struct NewDeployment<'a> {
    /// Its id.
    pub deployment: DeploymentId,
    /// Certificates by an authority of its own, or by yours.
    pub authority: Authority,
    /// The first person with a client certificate.
    pub operator: OperatorName,
    /// DNS names and IP addresses of services; a service without any has no entry.
    pub addresses: BTreeMap<Role, Vec<String>>,
    /// The bus's servers.
    pub servers: Vec<NewServer>,
    /// How clients reach them: `tls://HOST:PORT`.
    pub urls: Vec<String>,
    /// Whether the bus has TLS; without it every server must listen on loopback.
    pub tls: bool,
    /// Seals the private keys of both authorities.
    pub unseal: &'a UnsealKey,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
    /// The time.
    pub now: Timestamp,
}

/// Makes everything under `out`, which must not exist.
///
/// # Errors
/// When something is there, an authority refuses, or the disk says no.
pub fn init(out: &Path, new: &NewDeployment<'_>) -> Result<(), InitError> {
    if out.exists() {
        return Err(InitError::Exists(out.to_owned()));
    }
    refuse_nameless(new)?;
    let bus = BusAuthority::create(new.deployment);
    let mut revocations = Revocations::default();
    let keys = SERVICES.map(|role| (role, SigningKey::generate(new.entropy)));
    let trust: BTreeMap<Role, VerifyingKey> = keys
        .iter()
        .map(|(role, key)| (*role, key.verifying_key()))
        .collect();
    disk::make_directory(out)?;
    for (role, key) in keys {
        let bundle = service(new, &bus, role, key, &trust)?;
        bundle.write(&out.join(role_word(role)))?;
    }
    for part in ["operators", "nats"] {
        disk::make_directory(&out.join(part))?;
    }
    write_operator(&out.join("operators"), new)?;
    for server in &new.servers {
        write_server(&out.join("nats"), new, &bus, &mut revocations, server)?;
    }
    Home::new(out.join(role_word(Role::Gateway))).write(
        &new.authority.seal(new.unseal, new.entropy)?,
        &bus.seal(new.unseal, new.entropy)?,
        &revocations,
    )
}

/// Clients and other servers check a bus server's address in its certificate.
fn refuse_nameless(new: &NewDeployment<'_>) -> Result<(), NatsError> {
    let nameless = |server: &&NewServer| new.tls && server.addresses.is_empty();
    match new.servers.iter().find(nameless) {
        None => Ok(()),
        Some(server) => Err(NatsError::Setting(format!(
            "the bus server `{}` has neither a DNS name nor an IP address; give those that clients connect to",
            server.name
        ))),
    }
}

fn service(
    new: &NewDeployment<'_>,
    bus: &BusAuthority,
    role: Role,
    signing: SigningKey,
    trust: &BTreeMap<Role, VerifyingKey>,
) -> Result<Bundle, InitError> {
    let name = PeerName::Service(role);
    let addresses = new.addresses.get(&role).map_or(&[][..], Vec::as_slice);
    let issued = new
        .authority
        .issue(&name, addresses, new.now, new.entropy)?;
    let end = issued.certificate.not_after;
    let user = UserKey::generate();
    let permit = match client_of(&name) {
        Some(client) => bus.permit(&client, &user.public_key(), new.now, end)?,
        None => return Err(NatsError::UserKey.into()),
    };
    let claims = if role == Role::Gateway {
        let user = UserKey::generate();
        let permit = bus.system_permit(&user.public_key(), new.now, end)?;
        Some(user.credentials(&permit)?)
    } else {
        None
    };
    Ok(Bundle {
        tls: TlsFiles {
            chain_pem: issued.certificate.chain_pem,
            key_pem: issued.key_pem,
            roots_pem: issued.certificate.roots_pem,
        },
        identity: Some(Identity {
            gateways: Vec::new(),
            deployment: new.deployment,
            name,
            host_name: None,
            signing,
            sealing: Vec::new(),
            trust: trust.clone(),
            servers: new.urls.clone(),
        }),
        bus: Some(user.credentials(&permit)?),
        claims,
    })
}

fn write_operator(operators: &Path, new: &NewDeployment<'_>) -> Result<(), InitError> {
    let name = PeerName::Operator(new.operator.clone());
    plain(&new.authority, &name, &[], new.now, new.entropy)?
        .write(&operators.join(new.operator.as_str()))?;
    Ok(())
}

/// A certificate with its key for somebody who does not speak on the bus: a person, a bus server.
///
/// # Errors
/// When the authority refuses.
pub fn plain(
    authority: &Authority,
    name: &PeerName,
    addresses: &[String],
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Bundle, AuthorityError> {
    let issued = authority.issue(name, addresses, now, entropy)?;
    Ok(Bundle {
        tls: TlsFiles {
            chain_pem: issued.certificate.chain_pem,
            key_pem: issued.key_pem,
            roots_pem: issued.certificate.roots_pem,
        },
        identity: None,
        bus: None,
        claims: None,
    })
}

fn write_server(
    servers: &Path,
    new: &NewDeployment<'_>,
    bus: &BusAuthority,
    revocations: &mut Revocations,
    server: &NewServer,
) -> Result<(), InitError> {
    let name = PeerName::BusServer;
    let bundle = plain(
        &new.authority,
        &name,
        &server.addresses,
        new.now,
        new.entropy,
    )?;
    let config = bus_server(server, &new.servers, new.tls);
    let config = server_config(bus, revocations, &config, new.now)?;
    Ok(write_bus_server(
        &servers.join(&server.name),
        &bundle,
        config,
    )?)
}

/// A server as its configuration says it, with its files where they will be; `all` are those of the
/// cluster.
#[must_use]
pub fn bus_server(server: &NewServer, all: &[NewServer], tls: bool) -> BusServer {
    let routes = all.iter().filter_map(|other| other.route.clone());
    let file = |name: &str| server.installed.join(name);
    BusServer {
        name: server.name.clone(),
        listen: server.listen,
        store: server.store.clone(),
        max_store_bytes: server.max_store_bytes,
        tls: tls.then(|| BusTls {
            certificate: file(CERTIFICATE_FILE),
            key: file(KEY_FILE),
            roots: file(CA_FILE),
        }),
        cluster: server.cluster.map(|listen| BusCluster {
            listen,
            routes: routes.collect(),
        }),
    }
}

/// Writes a bus server's directory: its certificate and its configuration.
///
/// # Errors
/// When the disk says no.
pub fn write_bus_server(
    directory: &Path,
    certificate: &Bundle,
    config: String,
) -> Result<(), BundleError> {
    certificate.write(directory)?;
    let config = SecretBytes::from(config.into_bytes());
    disk::replace(directory, &[(SERVER_FILE, config)])
}

/// The authorities' files in the gateway's directory.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// Those in the gateway's directory of credentials.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Writes all three, all or nothing.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn write(
        &self,
        authority: &StoredAuthority,
        bus: &StoredBusAuthority,
        revocations: &Revocations,
    ) -> Result<(), InitError> {
        let files = [
            (AUTHORITY_FILE, json(authority)),
            (BUS_AUTHORITY_FILE, json(bus)),
            (REVOCATIONS_FILE, json(revocations)),
        ];
        Ok(disk::replace(&self.0, &files)?)
    }

    /// Opens the certificate authority.
    ///
    /// # Errors
    /// When the file is missing or damaged, or the unseal key is another one.
    pub fn authority(&self, unseal: &UnsealKey) -> Result<Authority, InitError> {
        let stored: StoredAuthority = self.read(AUTHORITY_FILE)?;
        Ok(Authority::open(&stored, unseal)?)
    }

    /// Says another word when the certificate authority's file is another one.
    #[must_use]
    pub fn authority_stamp(&self) -> Option<(u64, i64, i64)> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(self.0.join(AUTHORITY_FILE)).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec()))
    }

    /// Opens the keys of the bus.
    ///
    /// # Errors
    /// When the file is missing or damaged, or the unseal key is another one.
    pub fn bus(&self, unseal: &UnsealKey) -> Result<BusAuthority, InitError> {
        let stored: StoredBusAuthority = self.read(BUS_AUTHORITY_FILE)?;
        Ok(BusAuthority::open(&stored, unseal)?)
    }

    /// Reads what is revoked on the bus.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn revocations(&self) -> Result<Revocations, InitError> {
        self.read(REVOCATIONS_FILE)
    }

    /// Keeps what is revoked on the bus.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn keep_revocations(&self, revocations: &Revocations) -> Result<(), InitError> {
        Ok(disk::replace(
            &self.0,
            &[(REVOCATIONS_FILE, json(revocations))],
        )?)
    }

    /// Keeps a rolled-over authority.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn keep_authority(&self, authority: &StoredAuthority) -> Result<(), InitError> {
        Ok(disk::replace(
            &self.0,
            &[(AUTHORITY_FILE, json(authority))],
        )?)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T, InitError> {
        let _lock = disk::finish(&self.0)?;
        let bytes = disk::read(&self.0, name)?;
        // EXPOSE: these files hold public parts and sealed keys.
        let read = serde_json::from_slice(bytes.expose());
        read.map_err(|error| {
            InitError::Bundle(BundleError::Damaged {
                path: self.0.join(name),
                reason: format!("line {} is not as expected", error.line()),
            })
        })
    }
}

/// A struct of strings and numbers always has a JSON form.
fn json<T: Serialize>(value: &T) -> SecretBytes {
    SecretBytes::from(serde_json::to_vec_pretty(value).unwrap_or_default())
}

#[cfg(test)]
mod tests;
