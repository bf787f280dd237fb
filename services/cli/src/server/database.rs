//! Where a database of the configuration is, with its password from a file.

use std::fs::File;

use crate::reading;
use crate::up::{Error, Kind};
use keywheel_postgres::Address;
use keywheel_schemas::config::apart::Database;

/// Longest password file, in bytes.
const MAX_PASSWORD_BYTES: usize = 4096;

/// The address that a setting names.
pub(super) fn address(database: &Database, setting: &str) -> Result<Address, Error> {
    let password = match &database.password_file {
        None => None,
        Some(path) => {
            let read = File::open(path).and_then(|file| reading::secret(file, MAX_PASSWORD_BYTES));
            Some(read.map_err(|e| Error::path(path, &e))?)
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
