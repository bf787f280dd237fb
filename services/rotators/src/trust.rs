//! Why TLS with a server did not come about.

use std::io;

/// Whether a connection ended because the server's certificate is not to be trusted: another name, or
/// another authority.
pub(crate) fn is_distrusted(error: &io::Error) -> bool {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_is_no_lost_connection() {
        let strange = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(is_distrusted(&io::Error::new(
            io::ErrorKind::InvalidData,
            strange
        )));
        let early = rustls::Error::HandshakeNotComplete;
        assert!(!is_distrusted(&io::Error::new(
            io::ErrorKind::InvalidData,
            early
        )));
        assert!(!is_distrusted(&io::ErrorKind::BrokenPipe.into()));
    }
}
