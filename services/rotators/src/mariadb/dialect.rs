//! Which of the two kinds of server answers, by what it says of itself, and what it is asked in its own words.
//!
//! Invariant: nothing is asked of a server whose kind is not known.

/// The oldest MySQL that is taken. It has all that is asked of it: two passwords (8.0.14), and hashes in
/// hexadecimal digits (8.0.17).
const OLDEST_MYSQL: [u32; 3] = [8, 0, 22];

/// The number of our own connection is the last one that was given; a server process is known by its
/// start, in seconds.
const NOW_AT_MARIADB: &str = "SELECT CAST(CONNECTION_ID() AS CHAR), \
     CAST(UNIX_TIMESTAMP() - CAST(VARIABLE_VALUE AS SIGNED) AS CHAR) \
     FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'";
const NOW_AT_MYSQL: &str = "SELECT CAST(CONNECTION_ID() AS CHAR), \
     CAST(UNIX_TIMESTAMP() - CAST(VARIABLE_VALUE AS SIGNED) AS CHAR) \
     FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'";
/// A killed session does nothing more; one that is logging in might still become the user's. MySQL's
/// `performance_schema` has such a table, too, but it is empty where that is switched off and lacks sessions where
/// its memory is full: then none would look like no session.
pub(super) const OLDER: &str = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.PROCESSLIST \
     WHERE ID <= CAST(? AS UNSIGNED) AND COMMAND <> 'Killed' \
     AND (BINARY USER = ? OR USER = 'unauthenticated user')";
/// The numbers of a user's sessions up to a connection's.
pub(super) const UP_TO: &str = "SELECT CAST(ID AS CHAR) FROM information_schema.PROCESSLIST \
     WHERE ID <= CAST(? AS UNSIGNED) AND COMMAND <> 'Killed' AND BINARY USER = ?";

/// The kind of server that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    MariaDb,
    MySql,
}

impl Dialect {
    /// By what a server says of its version; nothing of one that is too old, or no such server.
    pub(super) fn of(version: &str) -> Option<Self> {
        if version.contains("MariaDB") {
            return Some(Self::MariaDb);
        }
        let digits = version
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next();
        let numbers = digits.unwrap_or_default().split('.').map(str::parse::<u32>);
        let numbers: Vec<u32> = numbers.map_while(Result::ok).collect();
        let is_known = numbers.len() == OLDEST_MYSQL.len() && numbers[..] >= OLDEST_MYSQL[..];
        is_known.then_some(Self::MySql)
    }

    pub(super) const fn now(self) -> &'static str {
        match self {
            Self::MariaDb => NOW_AT_MARIADB,
            Self::MySql => NOW_AT_MYSQL,
        }
    }

    /// Ends a session.
    pub(super) fn kill(self, id: u64) -> String {
        match self {
            Self::MariaDb => format!("KILL HARD CONNECTION {id}"),
            Self::MySql => format!("KILL CONNECTION {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_what_it_says_of_itself() {
        for (version, dialect) in [
            ("10.11.6-MariaDB-0+deb12u1", Some(Dialect::MariaDb)),
            ("5.5.5-10.4.34-MariaDB-log", Some(Dialect::MariaDb)),
            ("8.0.22", Some(Dialect::MySql)),
            ("8.0.36-28", Some(Dialect::MySql)),
            ("8.4.0-cluster", Some(Dialect::MySql)),
            ("9.1.0", Some(Dialect::MySql)),
            ("8.0.21", None),
            ("5.7.44-log", None),
            ("8.0", None),
            ("", None),
            ("PostgreSQL 15.18", None),
        ] {
            assert_eq!(Dialect::of(version), dialect, "{version}");
        }
    }

    #[test]
    fn mysql_is_asked_in_words_that_it_has() {
        assert_eq!(Dialect::MySql.kill(7), "KILL CONNECTION 7");
        assert_eq!(Dialect::MariaDb.kill(7), "KILL HARD CONNECTION 7");
        let now = Dialect::MySql.now();
        assert!(
            now.contains(" FROM performance_schema.global_status "),
            "{now}"
        );
        // Sessions are looked for where none is missing.
        for sql in [OLDER, UP_TO] {
            assert!(
                sql.contains(" FROM information_schema.PROCESSLIST "),
                "{sql}"
            );
        }
    }
}
