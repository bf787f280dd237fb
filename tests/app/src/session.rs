//! One connection to a database of any kind, signed in.
//!
//! Invariant: no text of a failure has a user, a password or a statement.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::login::Login;
use crate::mariadb::MariaDb;
use crate::place::{Kind, Place};
use crate::postgres::Postgres;
use crate::redis::Redis;

/// Far above what any server takes, also on a machine that stands still meanwhile.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Why a login or a query failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server does not let this login in.
    Refused,
    /// The other end closed the connection; whether it did what it was asked to, nobody knows.
    Ended,
    /// Anything else.
    Broken(String),
}

impl Failure {
    pub(crate) fn broken(why: impl Into<String>) -> Self {
        Self::Broken(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Ended => f.write_str("the server ended the connection"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Ended,
            _ => Self::Broken(format!("connection: {error}")),
        }
    }
}

/// A connection that is signed in.
pub(crate) enum Session {
    Postgres(Postgres),
    MariaDb(MariaDb),
    Redis(Redis),
}

impl Session {
    /// Connects and signs in.
    pub(crate) fn open(place: &Place, login: &Login) -> Result<Self, Failure> {
        Ok(match place.kind {
            Kind::Postgres => Self::Postgres(Postgres::open(place, login)?),
            Kind::MariaDb => Self::MariaDb(MariaDb::open(place, login)?),
            Kind::Redis => Self::Redis(Redis::open(place, login)?),
        })
    }

    /// Runs a statement; gives the first value of its answer, or nothing.
    pub(crate) fn run(&mut self, statement: &str) -> Result<String, Failure> {
        match self {
            Self::Postgres(session) => session.run(statement),
            Self::MariaDb(session) => session.run(statement),
            Self::Redis(session) => session.run(statement),
        }
    }

    /// Says goodbye.
    pub(crate) fn close(self) {
        match self {
            Self::Postgres(session) => session.close(),
            Self::MariaDb(session) => session.close(),
            Self::Redis(session) => session.close(),
        }
    }
}

/// Connects.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
