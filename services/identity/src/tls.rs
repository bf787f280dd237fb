//! Mutual TLS 1.3: configurations that follow a renewed certificate without a restart.
//!
//! Invariants: nothing older than TLS 1.3; both sides show a certificate; the other side is known
//! by the one name in its certificate, never by the address it was reached at; no session is
//! resumed, since a resumed one would skip the check. The one exception is the join port: a new host
//! has no certificate yet, but knows the authority's fingerprint; one that was away has none any more,
//! and signs over the connection's binding. Opens no socket.

mod refusal;
mod verify;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_seal::SecretBytes;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConnectionCommon, ServerConfig};

pub use self::refusal::{Refusal, explain};
use self::verify::{Anchor, GatewayVerifier, Known, Presenter};
use crate::authority::{certificates, validity};
use crate::name::{NameError, PeerName};

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not certificates.
    #[error("{what} cannot be read: {reason}; restore the file or issue the certificate again")]
    Pem {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Not one of ours.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Credentials of somebody else.
    #[error("these are credentials of {found}, this is {ours}; restore the right ones")]
    NotOurs {
        /// Whose they are.
        found: PeerName,
        /// Who we are.
        ours: PeerName,
    },
    /// The library refused.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Which kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    /// A service of this role.
    Service(Role),
    /// A server of the bus.
    BusServer,
    /// Any host.
    Host,
    /// Any person.
    Operator,
}

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admit(BTreeSet<PeerKind>);

impl Admit {
    /// These and nobody else.
    #[must_use]
    pub fn only(kinds: impl IntoIterator<Item = PeerKind>) -> Self {
        Self(kinds.into_iter().collect())
    }

    /// Whether this peer is one of them.
    #[must_use]
    pub fn admits(&self, name: &PeerName) -> bool {
        self.0.contains(&PeerKind::of(name))
    }
}

impl fmt::Display for Admit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, kind) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { " or " };
            write!(f, "{between}{kind}")?;
        }
        Ok(())
    }
}

impl PeerKind {
    /// The kind of a name.
    #[must_use]
    pub fn of(name: &PeerName) -> Self {
        match name {
            PeerName::Service(role) => Self::Service(*role),
            PeerName::BusServer => Self::BusServer,
            PeerName::Host(_) => Self::Host,
            PeerName::Operator(_) => Self::Operator,
        }
    }
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(role) => PeerName::Service(*role).fmt(f),
            Self::BusServer => PeerName::BusServer.fmt(f),
            Self::Host => f.write_str("a host"),
            Self::Operator => f.write_str("an operator"),
        }
    }
}

/// A certificate with its key and the roots to trust, parsed and checked against each other.
pub struct TlsCredentials {
    name: PeerName,
    not_before: Timestamp,
    not_after: Timestamp,
    known: Known,
}

impl TlsCredentials {
    /// Reads PEM: the certificate with its chain, its key, the roots.
    ///
    /// # Errors
    /// When a part cannot be read, the key is another certificate's, or the name is not ours.
    pub fn from_pem(
        deployment: DeploymentId,
        chain_pem: &str,
        key_pem: &SecretBytes,
        roots_pem: &str,
    ) -> Result<Self, TlsError> {
        let read = |what, text| certificates(text).map_err(|reason| TlsError::Pem { what, reason });
        let chain = read("the certificate", chain_pem)?;
        let roots = read("the bundle of trusted roots", roots_pem)?;
        // EXPOSE: the PEM text is parsed into the key type.
        let key = PrivateKeyDer::from_pem_slice(key_pem.expose()).map_err(|error| {
            let reason = error.to_string();
            let what = "the private key";
            TlsError::Pem { what, reason }
        })?;
        let unreadable = || TlsError::Name(NameError::Unreadable);
        let leaf = chain.first().ok_or_else(unreadable)?;
        let name = PeerName::of_certificate(leaf, deployment)?;
        let (not_before, not_after) = validity(leaf).map_err(|_| unreadable())?;
        let known = Known::new(chain, key, roots, &provider())?;
        Ok(Self {
            name,
            not_before,
            not_after,
            known,
        })
    }

    /// Whose they are.
    #[must_use]
    pub fn name(&self) -> &PeerName {
        &self.name
    }
}

impl fmt::Debug for TlsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsCredentials({}, …)", self.name)
    }
}

/// One end's identity: what it shows, whom it trusts, whom it refuses. Replaceable while in use.
pub struct TlsIdentity {
    deployment: DeploymentId,
    name: PeerName,
    current: RwLock<Arc<TlsCredentials>>,
    denied: RwLock<Arc<BTreeSet<PeerName>>>,
    clock: Arc<dyn Clock>,
}

impl TlsIdentity {
    /// Takes up an identity.
    #[must_use]
    pub fn new(
        deployment: DeploymentId,
        credentials: TlsCredentials,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            deployment,
            name: credentials.name.clone(),
            current: RwLock::new(Arc::new(credentials)),
            denied: RwLock::default(),
            clock,
        })
    }

    /// Who we are.
    #[must_use]
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// Begin and end of the certificate in use.
    #[must_use]
    pub fn life(&self) -> (Timestamp, Timestamp) {
        let current = self.current();
        (current.not_before, current.not_after)
    }

    /// Shows a renewed certificate (and trusts its roots) from the next handshake on.
    ///
    /// # Errors
    /// When the credentials are somebody else's; the old ones stay in use.
    pub fn replace(&self, credentials: TlsCredentials) -> Result<(), TlsError> {
        if credentials.name != self.name {
            return Err(TlsError::NotOurs {
                found: credentials.name,
                ours: self.name.clone(),
            });
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
        Ok(())
    }

    /// Refuses these from the next handshake on, however good their certificates are.
    pub fn deny(&self, names: BTreeSet<PeerName>) {
        *self.denied.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    /// For a listener: clients must show a certificate of one of `admit`.
    ///
    /// # Errors
    /// When the library refuses the set-up.
    pub fn server_config(self: &Arc<Self>, admit: Admit) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_details(provider(), self.time())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(self.presenter(admit));
        Ok(unresumed(
            builder.with_cert_resolver(self.presenter(Admit::only([]))),
        ))
    }

    /// For a listener where clients may show no certificate: one that is shown must be of one of `admit`.
    ///
    /// # Errors
    /// When the library refuses the set-up.
    pub fn server_config_or_none(self: &Arc<Self>, admit: Admit) -> Result<ServerConfig, TlsError> {
        let clients = Presenter::new(Arc::clone(self), admit).or_none();
        let builder = ServerConfig::builder_with_details(provider(), self.time())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(clients));
        Ok(unresumed(
            builder.with_cert_resolver(self.presenter(Admit::only([]))),
        ))
    }

    /// For the join listener: clients show nothing, their token is checked afterwards.
    ///
    /// # Errors
    /// When the library refuses the set-up.
    pub fn join_server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_details(provider(), self.time())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth();
        Ok(unresumed(
            builder.with_cert_resolver(self.presenter(Admit::only([]))),
        ))
    }

    /// For a client: the server must be one of `admit`, at whatever address.
    ///
    /// # Errors
    /// When the library refuses the set-up.
    pub fn client_config(self: &Arc<Self>, admit: Admit) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_details(provider(), self.time())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.presenter(admit))
            .with_client_cert_resolver(self.presenter(Admit::only([])));
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Whose certificate the other side showed, of a finished handshake.
    ///
    /// # Errors
    /// When it showed none, or one that names nobody of this deployment.
    pub fn peer(&self, shown: Option<&[CertificateDer<'_>]>) -> Result<PeerName, Refusal> {
        let leaf = shown.and_then(<[_]>::first).ok_or(Refusal::NoCertificate)?;
        Ok(PeerName::of_certificate(leaf, self.deployment)?)
    }

    fn current(&self) -> Arc<TlsCredentials> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    fn denied(&self) -> Arc<BTreeSet<PeerName>> {
        let denied = self.denied.read();
        Arc::clone(&denied.unwrap_or_else(PoisonError::into_inner))
    }

    fn presenter(self: &Arc<Self>, admit: Admit) -> Arc<Presenter> {
        Arc::new(Presenter::new(Arc::clone(self), admit))
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(Time(Arc::clone(&self.clock)))
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsIdentity({}, …)", self.name)
    }
}

/// For a machine that joins: the server must be the deployment's gateway, issued under the root
/// with this fingerprint. The machine shows nothing.
///
/// # Errors
/// When the library refuses the set-up.
pub fn join_client_config(
    deployment: DeploymentId,
    pin: [u8; 32],
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    bare_client_config(Some(deployment), Anchor::Pin(pin), clock)
}

/// For a host whose certificate has ended: the server must be the deployment's gateway, issued under
/// one of these roots (PEM). The host shows nothing and signs what it asks.
///
/// # Errors
/// When the roots cannot be read, or the library refuses the set-up.
pub fn return_client_config(
    deployment: DeploymentId,
    roots_pem: &str,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let roots = certificates(roots_pem).map_err(|reason| TlsError::Pem {
        what: "the roots",
        reason,
    })?;
    bare_client_config(Some(deployment), Anchor::of_roots(roots)?, clock)
}

/// For a client that shows nothing and comes with a token: the server must be a gateway, issued under one of these
/// roots (PEM).
///
/// # Errors
/// When the roots cannot be read, or the library refuses the set-up.
pub fn token_client_config(
    roots_pem: &str,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let roots = certificates(roots_pem).map_err(|reason| TlsError::Pem {
        what: "the roots",
        reason,
    })?;
    bare_client_config(None, Anchor::of_roots(roots)?, clock)
}

fn bare_client_config(
    deployment: Option<DeploymentId>,
    anchor: Anchor,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let verifier = GatewayVerifier::new(deployment, anchor);
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What only the two ends of one connection know (RFC 9266). What is signed over it counts on that
/// connection and on no other.
pub type Binding = [u8; 32];

/// The binding of a finished handshake.
///
/// # Errors
/// When the handshake has not finished.
pub fn binding<Side>(connection: &ConnectionCommon<Side>) -> Result<Binding, TlsError> {
    let label = b"EXPORTER-Channel-Binding";
    Ok(connection.export_keying_material([0; 32], label, None)?)
}

/// The one cryptography provider, named explicitly: no process-wide default is read or set.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unresumed(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// Our clock in the shape the TLS library wants.
struct Time(Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let micros = u64::try_from(self.0.now().micros()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(micros)))
    }
}

#[cfg(test)]
mod tests;
