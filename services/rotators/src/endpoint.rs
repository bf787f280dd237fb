//! One endpoint outside, for whoever tells something there over HTTP or by mail: where it is, and the way to it.
//!
//! Invariants: those of a rotator's receiver. Only TLS leaves this machine, the certificate is always checked,
//! what listens on this machine or its link is asked only where that was allowed, and no text of an error
//! holds the URL's path, which may be a credential.

use std::net::SocketAddr;

use async_trait::async_trait;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_stores::http::{Door, Stream};

use crate::address::Address;
use crate::redis::{tls, wire};
use crate::webhook::receiver::{
    Schemes, addresses, look_up, may_be_asked, parse, parse_as, too_near,
};

/// Mail servers, and the ports at which they take what is submitted.
const MAIL: Schemes = Schemes {
    secure: ("smtps", 465),
    plain: ("smtp", 25),
};

/// An endpoint.
pub struct Endpoint {
    address: Address,
    path: String,
    authorities: Option<Vec<u8>>,
    near: Vec<SocketAddr>,
    setting: &'static str,
}

impl Endpoint {
    /// The one at a URL, whose certificate comes from these authorities (PEM) or from the system's.
    ///
    /// # Errors
    /// When it is no URL that may be asked.
    pub fn parse(url: &str, authorities: Option<Vec<u8>>) -> Result<Self, PortError> {
        let found = parse(url).map_err(|_| {
            let text = "the URL cannot be used; it has to be https://HOST/PATH, without a login or a query, or http:// of this machine";
            PortError::new(ErrorKind::Denied, text)
        })?;
        Ok(Self::new(found, authorities))
    }

    /// The mail server at `smtps://host:port`, or at `smtp://` of this machine.
    ///
    /// # Errors
    /// When it is no URL that may be asked.
    pub fn parse_mail(url: &str, authorities: Option<Vec<u8>>) -> Result<Self, PortError> {
        let found = parse_as(url, &MAIL).map_err(|_| {
            let text = "the URL cannot be used; it has to be smtps://HOST:PORT, without a login or a query, or smtp:// of this machine";
            PortError::new(ErrorKind::Denied, text)
        })?;
        Ok(Self::new(found, authorities))
    }

    fn new((address, path): (Address, String), authorities: Option<Vec<u8>>) -> Self {
        Self {
            address,
            path,
            authorities,
            near: Vec::new(),
            setting: "",
        }
    }

    /// These addresses of this machine and its link may be asked, too, as that setting says.
    #[must_use]
    pub fn allowing(self, near: &[SocketAddr], setting: &'static str) -> Self {
        Self {
            near: near.to_vec(),
            setting,
            ..self
        }
    }

    /// What is asked for there.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

#[async_trait]
impl Door for Endpoint {
    fn name(&self) -> &str {
        &self.address.name
    }

    async fn open(&self) -> Result<Box<dyn Stream>, PortError> {
        let at = addresses(&self.address, &self.near, self.setting).await?;
        let opened = tls::connect_to(&self.address, &at, self.authorities.as_deref()).await;
        let stream = opened.map_err(|failure| wire::explain(failure, self.name()))?;
        Ok(Box::new(stream))
    }
}

/// Refuses a server of which any address is this machine's or its link's and not among those that a setting
/// allows: for a client that looks its name up by itself, so what a name service says a moment later is not
/// seen here.
///
/// # Errors
/// `Denied` when it may not be asked, `Unavailable` when the name has no address now.
pub async fn refuse_near(
    place: (&str, u16),
    near: &[SocketAddr],
    setting: &str,
) -> Result<(), PortError> {
    let name = format!("{}:{}", place.0, place.1);
    let found = look_up(place, &name).await?;
    let refused = found.into_iter().find(|at| !may_be_asked(near, *at));
    refused.map_or(Ok(()), |at| Err(too_near(&name, at, setting)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_near_is_asked_only_where_that_was_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let endpoint = || Endpoint::parse(&format!("http://{at}/hook"), None).unwrap();
        let refused = endpoint().allowing(&[], "some.setting").open().await;
        let refused = refused.map(drop).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        assert!(refused.text.contains("`some.setting`"), "{refused}");
        assert!(endpoint().allowing(&[at], "").open().await.is_ok());
        assert_eq!(endpoint().path(), "/hook");
    }

    #[tokio::test]
    async fn a_server_that_is_near_by_any_name_is_refused() {
        let near = "127.0.0.1:4222".parse().unwrap();
        let check = async |host: &str, near: &[SocketAddr]| {
            let checked = refuse_near((host, 4222), near, "some.setting").await;
            checked.map_err(|refused| (refused.kind, refused.text))
        };
        for host in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "localhost",
            "0.0.0.0",
        ] {
            let (kind, text) = check(host, &[]).await.unwrap_err();
            assert_eq!(kind, ErrorKind::Denied, "{host}");
            assert!(text.contains("`some.setting`"), "{text}");
        }
        assert_eq!(check("127.0.0.1", &[near]).await, Ok(()));
        assert_eq!(check("192.0.2.1", &[]).await, Ok(()));
    }

    #[test]
    fn no_refusal_quotes_a_url() {
        for url in [
            "http://hooks.example/canary",
            "https://a:canary@b",
            "canary",
        ] {
            for refused in [Endpoint::parse(url, None), Endpoint::parse_mail(url, None)] {
                let refused = refused.map(drop).unwrap_err();
                assert!(!refused.text.contains("canary"), "{refused}");
            }
        }
    }

    #[test]
    fn a_mail_server_away_is_asked_with_tls_alone() {
        for url in [
            "smtps://mail.example",
            "smtps://mail.example:465",
            "smtp://127.0.0.1:2525",
        ] {
            assert!(Endpoint::parse_mail(url, None).is_ok(), "{url}");
        }
        for url in [
            "smtp://mail.example",
            "https://mail.example",
            "smtps://me@mail.example",
        ] {
            assert!(Endpoint::parse_mail(url, None).is_err(), "{url}");
        }
    }
}
