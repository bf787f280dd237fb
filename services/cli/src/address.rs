//! Where the daemon is: the text of `--address` and what it means.

use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// The address unless `--address` or `KEYWHEEL_ADDRESS` says otherwise.
pub(crate) const DEFAULT: &str = "unix:///run/keywheel/keywheel.sock";
/// The injector's socket of a machine whose gateway is elsewhere.
const INJECTOR_SOCKET: &str = "/run/keywheel/injector.sock";
/// Longest path of a unix socket on Linux, in bytes.
pub(crate) const MAX_SOCKET_PATH: usize = 107;
/// Longest host of an address, in bytes.
pub(crate) const MAX_HOST_BYTES: usize = 253;

/// A unix socket on this machine, or a gateway's port for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// An absolute path.
    Unix(PathBuf),
    /// HOST:PORT, spoken to over mutual TLS.
    Https(String),
}

impl Address {
    /// Reads `unix:///path` or `https://host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let parsed = match text.split_once("://") {
            Some(("unix", path)) => socket(path).map(Self::Unix),
            Some(("https", rest)) => authority(rest).map(Self::Https),
            Some(("http", _)) => Err("keywheel is not spoken in the clear; use https".to_owned()),
            Some((scheme, _)) => Err(format!(
                "`{scheme}` is not spoken here, only `unix` and `https`"
            )),
            None => Err("it does not begin with unix:// or https://".to_owned()),
        };
        parsed.map_err(|why| {
            // One with a login is not repeated.
            let shown: String = match text.contains('@') {
                true => "what was given".to_owned(),
                false => format!("`{}`", text.chars().take(200).collect::<String>()),
            };
            Failure::new(
                Exit::Usage,
                format!("{shown} is not an address: {why}"),
                format!(
                    "give --address or KEYWHEEL_ADDRESS as unix:///PATH, for example {DEFAULT}, or as https://HOST:PORT"
                ),
            )
        })
    }

    /// The injector's socket: beside the daemon's when that is on this machine.
    pub(crate) fn injector_socket(&self) -> PathBuf {
        match self {
            Self::Unix(path) => path.with_file_name("injector.sock"),
            Self::Https(_) => PathBuf::from(INJECTOR_SOCKET),
        }
    }
}

fn socket(path: &str) -> Result<PathBuf, String> {
    if !Path::new(path).is_absolute() {
        return Err("after unix:// comes an absolute path".to_owned());
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(format!(
            "a socket's path has at most {MAX_SOCKET_PATH} bytes"
        ));
    }
    Ok(PathBuf::from(path))
}

fn authority(rest: &str) -> Result<String, String> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    let is_number = port.parse::<u16>().is_ok_and(|port| port != 0);
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let good_host = match in_brackets {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(fits)
        }
    };
    if !good_host || host.len() > MAX_HOST_BYTES || !is_number {
        return Err("after https:// come a host, a colon and a port, and nothing else".to_owned());
    }
    Ok(rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_address_gives_its_path_and_the_injectors_beside_it() {
        let address = Address::parse(DEFAULT).unwrap();
        let path = PathBuf::from("/run/keywheel/keywheel.sock");
        assert_eq!(address, Address::Unix(path));
        assert_eq!(
            address.injector_socket(),
            Path::new("/run/keywheel/injector.sock")
        );
    }

    #[test]
    fn an_https_address_gives_host_and_port() {
        for (text, authority) in [
            ("https://gateway.example:7443", "gateway.example:7443"),
            ("https://10.0.0.1:1/", "10.0.0.1:1"),
            ("https://[::1]:7443", "[::1]:7443"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address, Address::Https(authority.to_owned()));
            assert_eq!(address.injector_socket(), Path::new(INJECTOR_SOCKET));
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_forms_that_are_understood() {
        let long = format!("unix:///{}", "a".repeat(MAX_SOCKET_PATH));
        let long_host = format!("https://{}:1", "a".repeat(MAX_HOST_BYTES + 1));
        for text in [
            "",
            "http//x",
            "http://gateway.example:7443",
            "unix://",
            "relative/path",
            "unix://relative",
            "https://gateway.example",
            "https://gateway.example:0",
            "https://gateway.example:99999",
            "https://gateway.example:1/v1/status",
            "https://ada:pw@gateway.example:1",
            "https://:1",
            "https://::1:1",
            &long,
            &long_host,
        ] {
            let failure = Address::parse(text).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{text}");
            assert!(failure.to_string().contains("unix:///"), "{failure}");
            assert!(failure.to_string().contains("https://"), "{failure}");
            assert!(!failure.to_string().contains("ada:pw"), "{failure}");
        }
        let limit = format!("unix:///{}", "a".repeat(MAX_SOCKET_PATH - 1));
        assert!(Address::parse(&limit).is_ok());
        let limit = format!("https://{}:1", "a".repeat(MAX_HOST_BYTES));
        assert!(Address::parse(&limit).is_ok());
    }
}
