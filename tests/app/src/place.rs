//! Where a database is and where its password comes from, and how much is asked of it, as the command line says it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::login::Source;

/// Between two queries on one connection, where nothing is said of it.
const PAUSE: Duration = Duration::from_millis(20);

/// What a pool does all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Connections of each pool.
    pub(crate) size: usize,
    /// How long one rests between two queries.
    pub(crate) pause: Duration,
}

impl Load {
    /// Reads `SIZE` or `SIZE:MILLISECONDS`.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        let wrong = || format!("`{word}` is no SIZE and no SIZE:MILLISECONDS");
        let (size, pause) = match word.split_once(':') {
            None => (word, PAUSE),
            Some((size, pause)) => {
                let pause = pause.parse().map_err(|_| wrong())?;
                (size, Duration::from_millis(pause))
            }
        };
        let size = size.parse().map_err(|_| wrong())?;
        Ok(Self { size, pause })
    }
}

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    MariaDb,
    Redis,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        let all = [Self::Postgres, Self::MariaDb, Self::Redis];
        all.into_iter().find(|kind| kind.word() == word)
    }

    /// As the command line says it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::Redis => "redis",
        }
    }

    /// The query of the load: it writes, so that what is lost is seen at the server.
    pub(crate) const fn work(self) -> &'static str {
        match self {
            Self::Postgres | Self::MariaDb => "INSERT INTO orders VALUES (1)",
            Self::Redis => "INCR orders",
        }
    }
}

/// A database of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// Empty for none.
    pub(crate) name: String,
}

impl Place {
    /// Reads a kind and `HOST:PORT/NAME`.
    pub(crate) fn parse(kind: &str, place: &str) -> Result<Self, String> {
        let (address, name) = place
            .split_once('/')
            .ok_or_else(|| format!("`{place}` is no HOST:PORT/NAME"))?;
        Ok(Self {
            kind: Kind::of(kind).ok_or_else(|| format!("`{kind}` is no kind of database"))?,
            address: address
                .parse()
                .map_err(|_| format!("`{address}` is no address with a port"))?,
            name: name.to_owned(),
        })
    }
}

/// A database of the application.
pub(crate) struct Database {
    pub(crate) place: Place,
    pub(crate) source: Source,
}

impl Database {
    /// Reads `KIND=HOST:PORT/NAME=SOURCE`.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        let mut parts = word.splitn(3, '=');
        let (Some(kind), Some(place), Some(source)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("`{word}` is no KIND=HOST:PORT/NAME=SOURCE"));
        };
        Ok(Self {
            place: Place::parse(kind, place)?,
            source: Source::parse(source)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_read_and_what_is_none_is_told() {
        let pause = Duration::from_millis(250);
        assert_eq!(Load::parse("1:250").unwrap(), Load { size: 1, pause });
        let usual = Load {
            size: 3,
            pause: PAUSE,
        };
        assert_eq!(Load::parse("3").unwrap(), usual);
        for word in ["", ":", "1:", ":1", "one", "1:250:1"] {
            assert!(Load::parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_database_is_read_and_what_is_none_is_told() {
        let read = Database::parse("redis=127.0.0.1:6379/=env:app:WORD").unwrap();
        assert_eq!(read.place.kind, Kind::Redis);
        assert_eq!(read.place.address.port(), 6379);
        assert_eq!(read.place.name, "");
        let wanted = Source::Variable {
            user: "app".to_owned(),
            name: "WORD".to_owned(),
        };
        assert_eq!(read.source, wanted);
        for word in [
            "",
            "redis=127.0.0.1:1/",
            "oracle=127.0.0.1:1/=file:/a",
            "redis=127.0.0.1/=file:/a",
            "redis=127.0.0.1:1=file:/a",
            "redis=127.0.0.1:1/=word",
        ] {
            assert!(Database::parse(word).is_err(), "{word}");
        }
    }
}
