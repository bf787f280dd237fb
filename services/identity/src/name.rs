//! Names in certificates: which service, host or person a certificate speaks for.
//!
//! Invariants: a certificate carries exactly one of our names, as a URI of its own deployment, and
//! nothing else of it counts (not its subject, not its DNS names). Parsing is strict: what does not
//! print back the same is not a name. It does not say who may do what.

use std::fmt;

use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_schemas::subject::role_word;

/// Longest name of a person, in bytes.
pub const MAX_OPERATOR_BYTES: usize = 64;
/// Every service role.
pub const ROLES: [Role; 5] = [
    Role::Gateway,
    Role::Scheduler,
    Role::StoreSync,
    Role::Injector,
    Role::AuditSink,
];
const SCHEME: &str = "spiffe://";
const BUS_SERVER: &str = "nats";

/// Whose certificate it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerName {
    /// One of our services.
    Service(Role),
    /// A server of the bus.
    BusServer,
    /// A host's injector.
    Host(HostId),
    /// A person with a client certificate.
    Operator(OperatorName),
}

/// Name of a person: what stands in the audit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorName(String);

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Off the grammar.
    #[error(
        "`{0}` is not an operator name; use at most {MAX_OPERATOR_BYTES} of: lower-case letters, digits, `.`, `_`, `-`, `@`"
    )]
    Operator(String),
    /// Not a URI of ours.
    #[error(
        "the certificate names `{0}`, which is no service, host or operator of a deployment; issue one with `keywheel init` or `keywheel-injector join`"
    )]
    NotOurs(String),
    /// A name of another deployment.
    #[error(
        "the certificate belongs to deployment {found}, this one is {ours}; use the credentials of this deployment"
    )]
    OtherDeployment {
        /// Whose certificate it is.
        found: DeploymentId,
        /// Who we are.
        ours: DeploymentId,
    },
    /// No name, or more than one.
    #[error(
        "the certificate carries {0} names of the form {SCHEME}…, exactly one is needed; issue it again"
    )]
    Count(usize),
    /// Not a certificate.
    #[error(
        "the bytes are not an X.509 certificate; restore the file or issue the certificate again"
    )]
    Unreadable,
}

impl OperatorName {
    /// Parses a name.
    ///
    /// # Errors
    /// When it is empty, too long or off the grammar.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let fits = |b: u8| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'@')
        };
        let good = !name.is_empty() && name.len() <= MAX_OPERATOR_BYTES && name.bytes().all(fits);
        if good {
            Ok(Self(name.to_owned()))
        } else {
            Err(NameError::Operator(shortened(name)))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PeerName {
    /// The name as it stands in a certificate.
    #[must_use]
    pub fn uri(&self, deployment: DeploymentId) -> String {
        match self {
            Self::Service(role) => format!("{SCHEME}{deployment}/service/{}", role_word(*role)),
            Self::BusServer => format!("{SCHEME}{deployment}/service/{BUS_SERVER}"),
            Self::Host(host) => format!("{SCHEME}{deployment}/host/{host}"),
            Self::Operator(name) => format!("{SCHEME}{deployment}/operator/{name}"),
        }
    }

    /// Reads a certificate's URI of the given deployment.
    ///
    /// # Errors
    /// When it is not a name, or one of another deployment.
    pub fn parse(uri: &str, ours: DeploymentId) -> Result<Self, NameError> {
        let bad = || NameError::NotOurs(shortened(uri));
        let mut parts = uri.strip_prefix(SCHEME).ok_or_else(bad)?.splitn(3, '/');
        let (Some(found), Some(kind), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let found = DeploymentId::parse(found).map_err(|_| bad())?;
        let name = Self::of_kind(kind, rest).ok_or_else(bad)?;
        if name.uri(found) != uri {
            return Err(bad());
        }
        if found == ours {
            Ok(name)
        } else {
            Err(NameError::OtherDeployment { found, ours })
        }
    }

    fn of_kind(kind: &str, rest: &str) -> Option<Self> {
        match kind {
            "service" if rest == BUS_SERVER => Some(Self::BusServer),
            "service" => role_of(rest).map(Self::Service),
            "host" => HostId::parse(rest).ok().map(Self::Host),
            "operator" => OperatorName::parse(rest).ok().map(Self::Operator),
            _ => None,
        }
    }

    /// The deployment that a certificate (DER) belongs to. Says nothing about whether it is to be
    /// trusted.
    ///
    /// # Errors
    /// When it is not a certificate or carries not exactly one name of a deployment.
    pub fn deployment_of(der: &[u8]) -> Result<DeploymentId, NameError> {
        let uri = uri_of(der)?;
        let parts = uri
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once('/'));
        let found = parts.and_then(|(id, _)| DeploymentId::parse(id).ok());
        let found = found.ok_or_else(|| NameError::NotOurs(shortened(&uri)))?;
        Self::parse(&uri, found).map(|_| found)
    }

    /// Whose certificate this is (DER). Says nothing about whether it is to be trusted.
    ///
    /// # Errors
    /// When it is not a certificate or carries not exactly one name of this deployment.
    pub fn of_certificate(der: &[u8], ours: DeploymentId) -> Result<Self, NameError> {
        Self::parse(&uri_of(der)?, ours)
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(role) => write!(f, "service {}", role_word(*role)),
            Self::BusServer => f.write_str("the bus server"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::Operator(name) => write!(f, "operator {name}"),
        }
    }
}

/// The one URI in a certificate.
fn uri_of(der: &[u8]) -> Result<String, NameError> {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| NameError::Unreadable)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| NameError::Unreadable)?;
    if !rest.is_empty() {
        return Err(NameError::Unreadable);
    }
    let mut uris = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.count()) {
        (Some(uri), 0) => Ok(uri.to_owned()),
        (None, _) => Err(NameError::Count(0)),
        (Some(_), more) => Err(NameError::Count(1 + more)),
    }
}

/// The role a word stands for.
#[must_use]
pub fn role_of(word: &str) -> Option<Role> {
    ROLES.into_iter().find(|role| role_word(*role) == word)
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> DeploymentId {
        DeploymentId::from_bytes([7; 16])
    }

    #[test]
    fn every_name_reads_back() {
        let mut names = vec![
            PeerName::BusServer,
            PeerName::Host(HostId::from_bytes([9; 16])),
            PeerName::Operator(OperatorName::parse("ada@example.org").unwrap()),
        ];
        names.extend(ROLES.map(PeerName::Service));
        for name in names {
            let uri = name.uri(deployment());
            assert_eq!(PeerName::parse(&uri, deployment()), Ok(name), "{uri}");
        }
    }

    #[test]
    fn what_is_almost_a_name_is_none() {
        let id = deployment();
        let host = HostId::from_bytes([9; 16]);
        for uri in [
            String::new(),
            "https://example.org".into(),
            format!("spiffe://{id}/service/root"),
            format!("spiffe://{id}/service/gateway/"),
            format!("spiffe://{id}/service"),
            format!("SPIFFE://{id}/service/gateway"),
            format!("spiffe://{id}/host/{}", host.to_string().replace('-', "")),
            format!("spiffe://{id}/host/{}", host.to_string().to_uppercase()),
            format!("spiffe://{id}/operator/../service/gateway"),
        ] {
            let name = PeerName::parse(&uri, id);
            let ok_host = name == Ok(PeerName::Host(host));
            assert!(
                matches!(name, Err(NameError::NotOurs(_)))
                    || (ok_host && uri == PeerName::Host(host).uri(id)),
                "{uri}: {name:?}"
            );
        }
    }

    #[test]
    fn another_deployments_name_says_so() {
        let other = DeploymentId::from_bytes([8; 16]);
        let uri = PeerName::Service(Role::Gateway).uri(other);
        let error = PeerName::parse(&uri, deployment()).unwrap_err();
        assert!(matches!(error, NameError::OtherDeployment { found, .. } if found == other));
    }

    #[test]
    fn an_operator_name_has_a_limit() {
        assert!(OperatorName::parse(&"a".repeat(MAX_OPERATOR_BYTES)).is_ok());
        assert!(OperatorName::parse(&"a".repeat(MAX_OPERATOR_BYTES + 1)).is_err());
        for name in ["", "Ada", "a/b", "a b", "ä"] {
            assert!(OperatorName::parse(name).is_err(), "{name}");
        }
    }
}
