//! Where a database is: a URL without a password, and the password from its file.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr as _;

use keywheel_seal::SecretBytes;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::Error;

/// Longest URL that is read, in bytes.
pub(crate) const MAX_URL_BYTES: usize = 2048;
/// What a URL may ask for behind its `?`.
const PARAMETERS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// A person copies an address into statements and comments.
const CONTROL: &str = "it holds a control character; leave that out";

/// A database's address, ready to connect.
#[derive(Clone)]
pub struct Address {
    options: PgConnectOptions,
    name: String,
}

impl Address {
    /// Reads `postgres://user@host:port/database`, or with a directory of unix sockets for a host:
    /// `postgres://user@%2Frun%2Fpostgresql/database`. The password is the content of its file; one
    /// line break at its end does not count.
    ///
    /// # Errors
    /// When it is no such URL, holds a password, or leaves a network connection without TLS.
    pub fn parse(url: &str, password: Option<&SecretBytes>) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Address(why.to_owned());
        if url.len() > MAX_URL_BYTES {
            return Err(refuse("it is too long"));
        }
        check_form(url)?;
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            refuse("give postgres://user@host:port/database, and only sslrootcert, sslcert, sslkey behind a `?`")
        })?;
        let Some(database) = options.get_database().map(str::to_owned) else {
            return Err(refuse("it names no database"));
        };
        let (host, near) = host_of(&options);
        let parts = [options.get_username(), database.as_str(), host.as_str()];
        if parts.iter().any(|part| part.chars().any(char::is_control)) {
            return Err(refuse(CONTROL));
        }
        let options = match near {
            true => options,
            // Whatever it asked for: a server whose name is not checked could be anyone's.
            false => options.ssl_mode(PgSslMode::VerifyFull),
        };
        let options = match password {
            None => options,
            Some(password) => {
                // EXPOSE: the client signs in with it and takes it as text.
                let text = std::str::from_utf8(password.expose());
                let text = text.map_err(|_| refuse("its password is not text"))?;
                options.password(text.strip_suffix('\n').unwrap_or(text))
            }
        };
        Ok(Self {
            options: options.disable_statement_logging(),
            name: format!("{database} at {host}"),
        })
    }

    /// The database for people: its name and its host.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who signs in there.
    #[must_use]
    pub fn user(&self) -> &str {
        self.options.get_username()
    }

    /// The same place for another user.
    ///
    /// # Errors
    /// When the password is not text.
    pub fn for_user(&self, user: &str, password: &SecretBytes) -> Result<Self, Error> {
        // EXPOSE: the client signs in with it and takes it as text.
        let text = std::str::from_utf8(password.expose());
        let text = text.map_err(|_| Error::Address("its password is not text".to_owned()))?;
        Ok(Self {
            options: self.options.clone().username(user).password(text),
            name: self.name.clone(),
        })
    }

    /// The same place, where the server's certificate has to come from one of these authorities (PEM) and
    /// to have its name; a unix socket has none.
    #[must_use]
    pub fn trusting(&self, authorities: Vec<u8>) -> Self {
        let options = self.options.clone().ssl_root_cert_from_pem(authorities);
        // Whoever names an authority wants it asked for, on this machine, too.
        let options = match is_socket(&options) {
            true => options,
            false => options.ssl_mode(PgSslMode::VerifyFull),
        };
        Self {
            options,
            name: self.name.clone(),
        }
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.name).finish()
    }
}

/// Refuses what the library would take and we do not.
fn check_form(url: &str) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Address(why.to_owned()));
    // The library would silently leave some of them out.
    if url.chars().any(char::is_control) {
        return refuse(CONTROL);
    }
    let rest = url.strip_prefix("postgres://");
    let Some(rest) = rest.or_else(|| url.strip_prefix("postgresql://")) else {
        return refuse("it does not begin with postgres://");
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let host = place.split('/').next().unwrap_or_default();
    if host
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
    {
        return refuse("it holds a password; put that into a file of mode 0600 and name the file");
    }
    if !host.contains('@') {
        return refuse("it names no user");
    }
    let keys = query.split('&').filter(|pair| !pair.is_empty());
    let mut keys = keys.map(|pair| pair.split('=').next().unwrap_or_default());
    if keys.any(|key| !PARAMETERS.contains(&key)) {
        return refuse("behind a `?` only sslmode, sslrootcert, sslcert and sslkey are known");
    }
    Ok(())
}

fn is_socket(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || options.get_host().starts_with('/')
}

/// The host for people, and whether the way to it stays on this machine.
fn host_of(options: &PgConnectOptions) -> (String, bool) {
    if let Some(socket) = options.get_socket() {
        return (socket.display().to_string(), true);
    }
    let host = options.get_host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let near = is_socket(options)
        || host == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    (host.to_owned(), near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Address::parse(url, None)
            .map(|a| a.name)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn another_user_goes_to_the_same_place() {
        let address = Address::parse("postgres://me@127.0.0.1:5432/shop", None).unwrap();
        let password = SecretBytes::from(b"canary".to_vec());
        let other = address.for_user("app", &password).unwrap();
        assert_eq!((other.user(), address.user()), ("app", "me"));
        assert_eq!(other.name(), address.name());
        assert!(!format!("{other:?}").contains("canary"));
        let binary = SecretBytes::from(vec![0xff]);
        assert!(address.for_user("app", &binary).is_err());
    }

    #[test]
    fn no_url_makes_its_reader_panic_or_leaves_a_network_connection_without_tls() {
        for url in [
            "postgres://me@db.example:5432/keywheel?sslmode=require&sslrootcert=/etc/ca.pem",
            "postgresql://me@%2Frun%2Fpostgresql/keywheel",
        ] {
            assert!(Address::parse(url, None).is_ok(), "{url}");
            keywheel_testkit::hostile(url.as_bytes(), |bytes| {
                let text = String::from_utf8_lossy(bytes);
                let Ok(address) = Address::parse(&text, None) else {
                    return;
                };
                let (_, is_near) = host_of(&address.options);
                let options = format!("{:?}", address.options);
                assert!(
                    is_near || options.contains("ssl_mode: VerifyFull"),
                    "{text}: {options}"
                );
            });
        }
    }

    #[test]
    fn a_password_never_stands_in_an_address() {
        for url in [
            "postgres://me:pw@db/keywheel",
            "postgres://me:@db/keywheel",
            "postgres://me@db/keywheel?password=pw",
            "postgres://me@db/keywheel?options=-c%20password%3Dpw",
        ] {
            let text = refused(url);
            assert!(!text.contains("pw"), "{text}");
        }
        let password = SecretBytes::from(b"pw-canary\n".to_vec());
        let address = Address::parse("postgres://me@db/keywheel", Some(&password)).unwrap();
        assert!(!format!("{address:?}").contains("canary"));
        assert_eq!(address.name(), "keywheel at db");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (url, reason) in [
            ("mysql://me@db/keywheel", "postgres://"),
            ("postgres://db/keywheel", "no user"),
            ("postgres://me@db", "no database"),
            ("postgres://me@db/keywheel?sslmode=off", "postgres://user@"),
            ("postgres://me%0a@db/keywheel", "control character"),
            ("postgres://me@db/key%07wheel", "control character"),
            ("postgres://me@%2Frun%0a/keywheel", "control character"),
            ("postgres://m\ne@db/keywheel", "control character"),
            (
                "postgres://me@db/keywheel?application_name=x",
                "only sslmode",
            ),
        ] {
            assert!(refused(url).contains(reason), "{url}: {}", refused(url));
        }
        let long = format!("postgres://me@db/{}", "x".repeat(MAX_URL_BYTES));
        assert!(refused(&long).contains("too long"));
    }

    #[test]
    fn beyond_this_machine_the_server_proves_its_name() {
        let mode = |url: &str| Address::parse(url, None).unwrap().options.get_ssl_mode();
        for url in [
            "postgres://me@db/k",
            "postgres://me@10.0.0.7/k?sslmode=disable",
        ] {
            assert!(matches!(mode(url), PgSslMode::VerifyFull), "{url}");
        }
        for url in [
            "postgres://me@localhost/k",
            "postgres://me@127.0.0.1:5433/k",
            "postgres://me@[::1]/k",
            "postgres://me@%2Frun%2Fpostgresql/k",
        ] {
            assert!(!matches!(mode(url), PgSslMode::VerifyFull), "{url}");
        }
    }

    #[test]
    fn where_an_authority_is_named_the_server_proves_its_name_on_this_machine_too() {
        for (url, is_checked) in [
            ("postgres://me@localhost/k", true),
            ("postgres://me@127.0.0.1:5433/k?sslmode=disable", true),
            ("postgres://me@[::1]/k", true),
            ("postgres://me@db/k", true),
            ("postgres://me@%2Frun%2Fpostgresql/k", false),
        ] {
            let address = Address::parse(url, None).unwrap().trusting(Vec::new());
            let mode = address.options.get_ssl_mode();
            assert_eq!(matches!(mode, PgSslMode::VerifyFull), is_checked, "{url}");
        }
    }
}
