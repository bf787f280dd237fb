//! Where the daemon is: the text of `--address` and what it means.

use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// The address unless `--address` or `KEYWHEEL_ADDRESS` says otherwise.
pub(crate) const DEFAULT: &str = "unix:///run/keywheel/keywheel.sock";
/// Longest path of a unix socket on Linux, in bytes.
pub(crate) const MAX_SOCKET_PATH: usize = 107;

/// A unix socket, by absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(PathBuf);

impl Address {
    /// Reads `unix:///path`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(200).collect();
            Failure::new(
                Exit::Usage,
                format!("`{shown}` is not an address: {why}"),
                format!(
                    "give --address or KEYWHEEL_ADDRESS as unix:///PATH, for example {DEFAULT}"
                ),
            )
        };
        let path = match (text.strip_prefix("unix://"), text.split_once("://")) {
            (Some(path), _) => path,
            (None, Some((scheme, _))) => {
                return Err(wrong(&format!(
                    "`{scheme}` is not spoken here, only `unix`"
                )));
            }
            (None, None) => return Err(wrong("it does not begin with unix://")),
        };
        if !path.starts_with('/') {
            return Err(wrong("after unix:// comes an absolute path"));
        }
        if path.len() > MAX_SOCKET_PATH {
            return Err(wrong(&format!(
                "a socket's path has at most {MAX_SOCKET_PATH} bytes"
            )));
        }
        Ok(Self(PathBuf::from(path)))
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.0
    }

    /// The injector's socket that `keywheel up` puts beside it.
    pub(crate) fn injector_socket(&self) -> PathBuf {
        self.0.with_file_name("injector.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_address_gives_its_path_and_the_injectors_beside_it() {
        let address = Address::parse(DEFAULT).unwrap();
        assert_eq!(address.socket(), Path::new("/run/keywheel/keywheel.sock"));
        assert_eq!(
            address.injector_socket(),
            Path::new("/run/keywheel/injector.sock")
        );
    }

    #[test]
    fn everything_else_is_refused_with_the_form_that_is_understood() {
        let long = format!("unix:///{}", "a".repeat(MAX_SOCKET_PATH));
        for text in [
            "",
            "http//x",
            "unix://",
            "relative/path",
            "unix://relative",
            "https://host:1",
            &long,
        ] {
            let failure = Address::parse(text).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{text}");
            assert!(failure.to_string().contains("unix:///"), "{failure}");
        }
        let limit = format!("unix:///{}", "a".repeat(MAX_SOCKET_PATH - 1));
        assert!(Address::parse(&limit).is_ok());
    }
}
