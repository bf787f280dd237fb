//! Where a server is: a URL without a password.
//!
//! Invariants: no address holds a password; beyond this machine the way is TLS. Opens nothing.

use std::net::IpAddr;
use std::path::PathBuf;

use keywheel_engine::port::{ErrorKind, PortError};

/// Longest URL that is read, in bytes.
pub(crate) const MAX_URL_BYTES: usize = 2048;

/// How the URLs of one kind of server look.
pub(crate) struct Form {
    /// What a URL begins with, and whether that asks for TLS.
    pub(crate) schemes: &'static [(&'static str, bool)],
    /// The port when none is said.
    pub(crate) port: u16,
    /// An example for a person.
    pub(crate) example: &'static str,
}

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A unix socket.
    Socket(PathBuf),
    /// A host by name or number, without brackets, and its port.
    Tcp(String, u16),
}

/// A server's address.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// The login that changes others.
    pub(crate) user: String,
    pub(crate) target: Target,
    /// Whether the URL asks for TLS.
    pub(crate) is_tls: bool,
    /// Whether the way stays on this machine.
    pub(crate) is_near: bool,
    /// For people: `HOST:PORT`, or the socket.
    pub(crate) name: String,
}

impl Address {
    /// Reads `scheme://user@host:port`, or with the path of a unix socket for a host, its slashes
    /// written as `%2F`. A database behind the host is not looked at: accounts are the server's.
    pub(crate) fn parse(url: &str, form: &Form) -> Result<Self, PortError> {
        let refuse = |why: &str| {
            let text = format!("`connection` of a rotator cannot be used: {why}");
            PortError::new(ErrorKind::Denied, text)
        };
        let unclear = || refuse(&format!("it is not {}; correct it", form.example));
        if url.len() > MAX_URL_BYTES {
            return Err(refuse("it is too long; correct it"));
        }
        let scheme = |(scheme, is_tls): &(&str, bool)| Some((url.strip_prefix(scheme)?, *is_tls));
        let (rest, is_tls) = form.schemes.iter().find_map(scheme).ok_or_else(unclear)?;
        let (user, place) = rest.rsplit_once('@').ok_or_else(unclear)?;
        if user.contains(':') || user.contains('@') {
            return Err(refuse(
                "it holds a password; put that into a secret and name it as adminSecret",
            ));
        }
        if place.contains(['?', '#']) {
            return Err(unclear());
        }
        let place = place.split('/').next().unwrap_or_default();
        let user = decoded(user).filter(|user| !user.is_empty());
        let user = user.ok_or_else(unclear)?;
        let target = target(place, form.port).ok_or_else(unclear)?;
        let (name, is_near) = match &target {
            Target::Socket(path) => (path.display().to_string(), true),
            Target::Tcp(host, port) => (format!("{host}:{port}"), is_this_machine(host)),
        };
        Ok(Self {
            user,
            target,
            is_tls,
            is_near,
            name,
        })
    }
}

/// Reads `host`, `host:port`, `[address]:port` or `%2Fa%2Fsocket`.
fn target(place: &str, default: u16) -> Option<Target> {
    let whole = decoded(place)?;
    if whole.starts_with('/') {
        return Some(Target::Socket(PathBuf::from(whole)));
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let _address: IpAddr = host.parse().ok()?;
            (host, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        None => default,
        Some(port) => port.parse().ok()?,
    };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let is_host = !host.is_empty() && host.chars().all(known);
    is_host.then(|| Target::Tcp(host.to_owned(), port))
}

/// Text with its `%XX` resolved; nothing when that is no text, or holds a control character.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

pub(crate) fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form = Form {
        schemes: &[("redis://", false), ("rediss://", true)],
        port: 6379,
        example: "redis://user@host:port",
    };

    fn parsed(url: &str) -> Address {
        Address::parse(url, &FORM).unwrap()
    }

    #[test]
    fn hosts_ports_and_sockets_are_read() {
        for (url, target, is_near) in [
            ("redis://me@db", Target::Tcp("db".to_owned(), 6379), false),
            ("rediss://me@db:7/0", Target::Tcp("db".to_owned(), 7), false),
            ("redis://me@[::1]:7", Target::Tcp("::1".to_owned(), 7), true),
            (
                "redis://me@127.0.0.1",
                Target::Tcp("127.0.0.1".to_owned(), 6379),
                true,
            ),
            (
                "redis://me@%2Frun%2Fr.sock",
                Target::Socket("/run/r.sock".into()),
                true,
            ),
        ] {
            let address = parsed(url);
            assert_eq!(address.target, target, "{url}");
            assert_eq!(address.is_near, is_near, "{url}");
            assert_eq!(address.is_tls, url.starts_with("rediss"), "{url}");
        }
        assert_eq!(parsed("redis://a%40b@db").user, "a@b");
        assert_eq!(parsed("redis://me@%2Frun%2Fr.sock").name, "/run/r.sock");
    }

    #[test]
    fn a_password_never_stands_in_an_address_and_no_refusal_quotes_one() {
        for url in ["redis://me:pw@db", "redis://me:@db", "redis://me@pw@db"] {
            let text = Address::parse(url, &FORM).unwrap_err().to_string();
            assert!(
                text.contains("adminSecret") && !text.contains("pw"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("redis://me@{}", "x".repeat(MAX_URL_BYTES));
        for url in [
            "http://me@db",
            "redis://db",
            "redis://@db",
            "redis://me@",
            "redis://me@/0",
            "redis://me@db?x=y",
            "redis://me@db:x",
            "redis://me@db:65536",
            "redis://me@[db]",
            "redis://%0a@db",
            "redis://%zz@db",
            "redis://me@%2",
            "redis://me@d b",
            &long,
        ] {
            assert!(Address::parse(url, &FORM).is_err(), "{url}");
        }
        let fits = format!("redis://me@{}", "x".repeat(MAX_URL_BYTES - 11));
        assert!(Address::parse(&fits, &FORM).is_ok());
        keywheel_testkit::hostile(b"rediss://me%20@[::1]:6379/0", |bytes| {
            let _read = Address::parse(&String::from_utf8_lossy(bytes), &FORM);
        });
    }
}
