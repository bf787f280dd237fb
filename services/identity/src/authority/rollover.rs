//! From one root to the next without a connection lost.
//!
//! Between `begin` and `finish` both roots are trusted. New certificates come from the new root and
//! are presented with a *link*: the new root's key, signed by the old root. A peer that knows only
//! the old root follows the link, one that knows the new root needs none. The old private key is
//! dropped at `begin`: nothing new can be issued from it.

use keywheel_core::time::Timestamp;
use keywheel_seal::Entropy;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyUsagePurpose, SerialNumber};
use rustls::pki_types::CertificateDer;

use super::{
    Authority, AuthorityError, BUS_SERVER_LIFETIME, OPERATOR_LIFETIME, draw_serial, set_life,
    skewed, validity,
};

/// The old root while it is still trusted.
pub(super) struct Rollover {
    pub(super) root: CertificateDer<'static>,
    pub(super) link: CertificateDer<'static>,
    pub(super) begun: Timestamp,
}

/// What becomes of the certificates of people and bus servers under the old root; they live far
/// longer than those of services and hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongLived {
    /// Wait until the last of them expired.
    Wait,
    /// Refuse them from now on; give out new ones before.
    Drop,
}

impl Authority {
    /// Begins a rollover to `next` (made by [`Authority::create`] or [`Authority::from_pem`]).
    /// From here on certificates come from `next`, and both roots are trusted.
    ///
    /// # Errors
    /// When a rollover is under way, or the link cannot be made.
    pub fn begin_rollover(
        &mut self,
        next: Self,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), AuthorityError> {
        if self.rollover.is_some() || next.rollover.is_some() {
            return Err(AuthorityError::RolloverUnderWay);
        }
        let empty = || AuthorityError::Chain("it is empty".into());
        let root = self.chain.last().ok_or_else(empty)?.clone();
        let link = self.link_to(&next, now, entropy)?;
        self.key = next.key;
        self.chain = next.chain;
        self.rollover = Some(Rollover {
            root,
            link,
            begun: now,
        });
        Ok(())
    }

    /// Whether an old root is still trusted.
    #[must_use]
    pub fn is_rolling_over(&self) -> bool {
        self.rollover.is_some()
    }

    /// When [`Self::finish_rollover`] will not refuse; `None` when none is under way. Members'
    /// certificates count with the life that [`Self::with_member_lifetime`] said.
    #[must_use]
    pub fn rollover_ends(&self, old: LongLived) -> Option<Timestamp> {
        let longest = match old {
            LongLived::Wait => OPERATOR_LIFETIME.max(BUS_SERVER_LIFETIME),
            LongLived::Drop => self.member_lifetime,
        };
        Some(self.rollover.as_ref()?.begun.plus(longest))
    }

    /// Ends a rollover: the old root is trusted no more.
    ///
    /// # Errors
    /// When none is under way, or certificates of the old root may still be in use.
    pub fn finish_rollover(
        &mut self,
        now: Timestamp,
        old: LongLived,
    ) -> Result<(), AuthorityError> {
        let ends = self.rollover_ends(old).ok_or(AuthorityError::NoRollover)?;
        if now < ends {
            let until = jiff::Timestamp::from_microsecond(ends.micros())
                .map(|at| at.to_string())
                .unwrap_or_else(|_| ends.to_string());
            return Err(AuthorityError::TooEarly { until });
        }
        self.rollover = None;
        Ok(())
    }

    /// The issuing name and key of `next`, signed by the root's issuing key we have.
    fn link_to(
        &self,
        next: &Self,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let (_, own_end) = validity(self.issuing()?)?;
        let (_, next_end) = validity(next.issuing()?)?;
        let issued_as = Issuer::from_ca_cert_der(next.issuing()?, &next.key)?;
        let mut params = CertificateParams::default();
        set_life(&mut params, skewed(now), own_end.min(next_end));
        params.serial_number = Some(SerialNumber::from_slice(&draw_serial(entropy)));
        params.distinguished_name = subject(next.issuing()?)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(self.issuing()?, &self.key)?;
        Ok(params.signed_by(issued_as.key(), &issuer)?.der().clone())
    }
}

/// The subject of a CA, to be repeated in its link.
fn subject(der: &CertificateDer<'_>) -> Result<rcgen::DistinguishedName, AuthorityError> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let bad = || AuthorityError::Chain("it holds something that is no certificate".into());
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| bad())?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .ok_or_else(bad)?;
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::CommonName, name);
    Ok(subject)
}
