//! Where a database of the configuration is, with its password from a file.

use std::fs::File;
use std::io::Read as _;

use keywheel_postgres::Address;
use keywheel_schemas::config::apart::Database;
use keywheel_seal::SecretBytes;

use crate::up::{Error, Kind};

/// Longest password file, in bytes.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// The address that a setting names.
pub(super) fn address(database: &Database, setting: &str) -> Result<Address, Error> {
    let password = match &database.password_file {
        None => None,
        Some(path) => {
            let mut bytes = Vec::with_capacity(128);
            File::open(path)
                .and_then(|file| file.take(MAX_PASSWORD_BYTES).read_to_end(&mut bytes))
                .map_err(|e| Error::path(path, &e))?;
            Some(SecretBytes::from(bytes))
        }
    };
    Address::parse(&database.url, password.as_ref()).map_err(|error| {
        Error::new(
            Kind::BadConfiguration,
            format!("`{setting}`: {}", keywheel_daemon::chain(&error)),
            "write postgres://USER@HOST:PORT/NAME, with the password in a file of its own",
        )
    })
}
