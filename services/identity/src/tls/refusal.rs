//! Why a connection was refused, in words a person can act on.
//!
//! Owns the translation of the TLS library's errors and alerts. Keeps no state; nothing here decides.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::name::{NameError, PeerName};

/// Why a connection was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too old.
    #[error(
        "the certificate of the other side has expired; renew it there (`keywheel-injector join` or a new certificate) and check both clocks"
    )]
    Expired,
    /// Too new.
    #[error(
        "the certificate of the other side is not valid yet; set the clocks right on both sides"
    )]
    NotYetValid,
    /// Another authority, or none.
    #[error(
        "the certificate of the other side was issued by itself or by an authority this deployment does not trust; use credentials issued by this deployment"
    )]
    UnknownAuthority,
    /// Nothing shown.
    #[error("the client showed no certificate; connect with one issued by this deployment")]
    NoCertificate,
    /// Not TLS.
    #[error("the other side does not speak TLS; connect with TLS 1.3")]
    Plaintext,
    /// Old TLS.
    #[error("the other side does not speak TLS 1.3; update it")]
    OldProtocol,
    /// Somebody else than was expected.
    #[error(
        "the other side is {found}, but only {wanted} may be there; use the right address and the right credentials"
    )]
    WrongPeer {
        /// Who it is.
        found: PeerName,
        /// Who may be there.
        wanted: String,
    },
    /// Evicted.
    #[error("{0} was evicted from this deployment; let it join again with a new token")]
    Denied(PeerName),
    /// A name that is none of ours.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The server does not lead to the root whose fingerprint the join token carries.
    #[error(
        "the server does not lead to the authority in the join token: it is another deployment, or somebody stands in between; get a new token and check the address"
    )]
    WrongPin,
    /// The other side refused us.
    #[error("the other side refused our credentials: {0}")]
    ByPeer(&'static str),
    /// Something else.
    #[error("the TLS handshake failed: {0}")]
    Other(String),
}

/// The refusal behind an IO error of a TLS stream; `None` when it is no TLS error.
#[must_use]
pub fn explain(error: &io::Error) -> Option<Refusal> {
    let mut source: Option<&(dyn StdError + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<Error>() {
            return Some(Refusal::of(error));
        }
        source = inner.source();
    }
    None
}

impl Refusal {
    /// The refusal somewhere behind an error, such as that of an HTTP library.
    #[must_use]
    pub fn behind(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<io::Error>().and_then(explain) {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// The refusal behind an error of the TLS library.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(reason) => Self::of_certificate(reason),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidMessage(_) => Self::Plaintext,
            Error::PeerIncompatible(_) => Self::OldProtocol,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            other => Self::Other(other.to_string()),
        }
    }

    fn of_certificate(reason: &CertificateError) -> Self {
        match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownAuthority
            }
            CertificateError::Other(other) => other
                .0
                .downcast_ref::<Self>()
                .cloned()
                .unwrap_or(Self::UnknownAuthority),
            other => Self::Other(other.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::ProtocolVersion => Self::OldProtocol,
            AlertDescription::CertificateRequired => {
                Self::ByPeer("it wants a client certificate and we showed none")
            }
            AlertDescription::CertificateExpired => Self::ByPeer(
                "our certificate has expired or is not valid yet; renew it and check the clocks",
            ),
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                Self::ByPeer("our certificate comes from an authority it does not trust")
            }
            AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::AccessDenied => Self::ByPeer(
                "our certificate is not one that may connect there, or we were evicted; its log says which",
            ),
            other => Self::Other(format!("the other side ended it with {other:?}")),
        }
    }
}
