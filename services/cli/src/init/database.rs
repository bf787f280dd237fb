//! Databases of a deployment that is being made: addresses, passwords, and what the server keeps of
//! those. Invariant: no password is in a configuration or in a statement.

use std::fmt::Write as _;

use keywheel_core::audit::Role;
use keywheel_postgres::Address;
use keywheel_postgres::verifier::{SALT_BYTES, scram_verifier};
use keywheel_seal::{Entropy, SecretBytes};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

/// Random bytes in a password.
const PASSWORD_BYTES: usize = 32;

/// One database, named like its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Whose it is.
    pub(super) role: Role,
    /// Its name and its user's.
    pub(super) name: &'static str,
    /// The file of its password.
    pub(super) password_file: &'static str,
}

/// What is kept in databases; `deploy/postgres/roles.sql` makes them and their users.
pub(super) const KEPT: [Kept; 2] = [
    Kept {
        role: Role::Gateway,
        name: "keywheel_journal",
        password_file: "journal.password",
    },
    Kept {
        role: Role::StoreSync,
        name: "keywheel_cache",
        password_file: "cache.password",
    },
];

/// The server, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    place: String,
    query: String,
}

impl Server {
    /// Reads `postgres://HOST[:PORT][?…]`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::new(
                Exit::Usage,
                format!("--database cannot be used: {why}"),
                "write --database postgres://HOST:PORT; users and names of databases are those of deploy/postgres/roles.sql",
            )
        };
        let rest = text
            .strip_prefix("postgres://")
            .ok_or_else(|| wrong("it does not begin with postgres://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.is_empty() || place.contains(['@', '/']) {
            return Err(wrong("it is not the place of a server alone"));
        }
        let server = Self {
            place: place.to_owned(),
            query: query.to_owned(),
        };
        for kept in KEPT {
            Address::parse(&server.url(kept), None)
                .map_err(|error| wrong(&keywheel_daemon::chain(&error)))?;
        }
        Ok(server)
    }

    /// The address of one database.
    pub(super) fn url(&self, kept: Kept) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        let Self { place, query } = self;
        format!("postgres://{0}@{place}/{0}{mark}{query}", kept.name)
    }
}

/// Passwords by file, and the statements that tell the server what to keep of them.
pub(super) fn passwords(entropy: &dyn Entropy) -> (Vec<(&'static str, SecretBytes)>, String) {
    let mut text =
        "-- Made by `keywheel init`: what the server keeps of each password.\n".to_owned();
    let made = KEPT.map(|kept| {
        let password = password(entropy);
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt);
        let verifier = scram_verifier(&password, salt);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "ALTER ROLE {} PASSWORD '{verifier}';", kept.name);
        (kept.password_file, password)
    });
    (made.into(), text)
}

/// Random digits: a password is text.
fn password(entropy: &dyn Entropy) -> SecretBytes {
    let mut drawn = Zeroizing::new([0u8; PASSWORD_BYTES]);
    entropy.fill(&mut *drawn);
    let mut text = Vec::with_capacity(2 * PASSWORD_BYTES);
    for byte in *drawn {
        text.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    SecretBytes::from(text)
}

#[cfg(test)]
mod tests {
    use keywheel_seal::OsEntropy;

    use super::*;

    #[test]
    fn a_server_is_a_place_and_nothing_else() {
        for bad in [
            "",
            "db.example",
            "mysql://db.example",
            "postgres://",
            "postgres://me@db.example",
            "postgres://db.example/keywheel",
            "postgres://db.example?password=x",
        ] {
            assert_eq!(Server::parse(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
        let server = Server::parse("postgres://db.example:5433/?sslrootcert=/etc/db.pem").unwrap();
        let url = server.url(KEPT[0]);
        let whole =
            "postgres://keywheel_journal@db.example:5433/keywheel_journal?sslrootcert=/etc/db.pem";
        assert_eq!(url, whole);
        let socket = Server::parse("postgres://%2Frun%2Fpostgresql").unwrap();
        let url = socket.url(KEPT[1]);
        assert_eq!(
            url,
            "postgres://keywheel_cache@%2Frun%2Fpostgresql/keywheel_cache"
        );
    }

    #[test]
    fn statements_hold_no_password() {
        let (passwords, statements) = passwords(&OsEntropy);
        assert_eq!(statements.matches("SCRAM-SHA-256$").count(), KEPT.len());
        for (name, password) in passwords {
            let text = std::str::from_utf8(password.expose()).unwrap();
            assert_eq!(text.len(), 2 * PASSWORD_BYTES, "{name}");
            assert!(!statements.contains(text), "{name}");
        }
    }
}
