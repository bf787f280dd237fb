//! Why a database cannot be used, by what a person can do about it.
//!
//! Invariant: no text quotes an address, which may hold what does not belong there.

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error("the database address cannot be used: {0}")]
    Address(String),
    /// The server does not answer, or breaks off.
    #[error("the database {name} does not answer; start it, or correct its address")]
    Gone {
        /// The database.
        name: String,
        /// What the library says.
        #[source]
        source: sqlx::Error,
    },
    /// The server knows us and says no.
    #[error("the database {name} refuses us; correct the user, its password or its rights")]
    Refused {
        /// The database.
        name: String,
        /// What the library says.
        #[source]
        source: sqlx::Error,
    },
    /// The server would acknowledge what a power cut undoes, or is too old.
    #[error(
        "the database {name} is not fit: {setting} is {found}, {wanted} is needed; change it there"
    )]
    Unfit {
        /// The database.
        name: String,
        /// Name of a setting.
        setting: &'static str,
        /// What the server says.
        found: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// The tables are newer than this build.
    #[error(
        "the tables in {name} have format {found}, this build knows {known}; use a newer keywheel"
    )]
    UnknownFormat {
        /// The database.
        name: String,
        /// What the database says.
        found: i64,
        /// What this build knows.
        known: i64,
    },
    /// Anything else.
    #[error("the database {name} failed")]
    Failed {
        /// The database.
        name: String,
        /// What the library says.
        #[source]
        source: sqlx::Error,
    },
}
