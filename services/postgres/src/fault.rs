//! What a failure of the server means for the caller's next step.

use crate::Error;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A row of that name exists.
    Taken,
    /// Another transaction was first; read again and decide anew.
    Race,
    /// No room on the server's disk.
    Full,
    /// The server is there and overloaded, or another session holds on to what we need.
    Busy,
    /// The connection is lost or cannot be made. After a COMMIT was sent, its outcome is unknown.
    Gone,
    /// The server can only read: a standby.
    Standby,
    /// The server knows us and says no.
    Refused,
    /// The server says that its files are damaged.
    Damaged,
    /// Anything else.
    Unknown,
}

/// Sorts a failure by its SQLSTATE. Whatever the sort: unless it was a COMMIT that failed with
/// [`Fault::Gone`] or [`Fault::Unknown`], the transaction changed nothing.
#[must_use]
pub fn sort(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => return Fault::Gone,
        sqlx::Error::Tls(_) => return Fault::Refused,
        _ => {}
    }
    let code = error.as_database_error().and_then(|error| error.code());
    let Some(code) = code.as_deref() else {
        return Fault::Unknown;
    };
    match code {
        "23505" => Fault::Taken,
        "40001" | "40P01" => Fault::Race,
        "53100" => Fault::Full,
        "55P03" | "57014" => Fault::Busy,
        "25006" => Fault::Standby,
        // The server cut a session that held a transaction open without working.
        "25P03" | "25P04" => Fault::Gone,
        "42501" | "3D000" => Fault::Refused,
        "XX001" | "XX002" => Fault::Damaged,
        _ => match code.get(..2) {
            Some("53") => Fault::Busy,
            Some("08" | "57") => Fault::Gone,
            Some("28") => Fault::Refused,
            _ => Fault::Unknown,
        },
    }
}

/// A failure before the database was ready, for a person.
pub(crate) fn opening(name: &str, source: sqlx::Error) -> Error {
    let name = name.to_owned();
    match sort(&source) {
        Fault::Gone | Fault::Busy => Error::Gone { name, source },
        Fault::Refused => Error::Refused { name, source },
        _ => Error::Failed { name, source },
    }
}

/// A failure in words: what, and the next step. `what` is the thing that is kept there.
#[must_use]
pub fn text(fault: Fault, what: &str, name: &str) -> String {
    match fault {
        Fault::Taken => format!("the {what} in {name} has that already; read again"),
        Fault::Race => format!("the {what} in {name} moved on; read again"),
        Fault::Full => format!(
            "the disk of the database {name} is full; free space there, then repeat the command"
        ),
        Fault::Busy => format!("the database {name} is busy; try again in a moment"),
        Fault::Gone => format!("the database {name} does not answer; try again in a moment"),
        Fault::Standby => {
            format!("the database {name} can only be read; give the primary's address")
        }
        Fault::Refused => {
            format!("the database {name} refuses us; correct the user, its password or its rights")
        }
        Fault::Damaged => format!("the database {name} is damaged; restore it from a backup"),
        Fault::Unknown => format!("the {what} in {name} failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_gone_and_every_text_names_the_database() {
        let lost = sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(sort(&lost), Fault::Gone);
        assert_eq!(sort(&sqlx::Error::PoolTimedOut), Fault::Gone);
        assert_eq!(sort(&sqlx::Error::RowNotFound), Fault::Unknown);
        for fault in [
            Fault::Taken,
            Fault::Race,
            Fault::Full,
            Fault::Busy,
            Fault::Gone,
            Fault::Standby,
            Fault::Refused,
            Fault::Damaged,
            Fault::Unknown,
        ] {
            assert!(text(fault, "journal", "db at host").contains("db at host"));
        }
    }
}
