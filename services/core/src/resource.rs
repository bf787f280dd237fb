//! A resource whose accounts a secret opens: where it is, which accounts, and how they change over.
//!
//! Values and passwords are not here. One account belongs to one secret.

use std::borrow::Cow;
use std::fmt;

use crate::name::SecretName;

/// Most accounts of one secret: two that alternate.
pub const MAX_ACCOUNTS: usize = 2;
/// Longest name of an account, in bytes: the longest one any kind takes.
pub const MAX_ACCOUNT_BYTES: usize = 128;
/// Longest `connection`, in bytes.
pub const MAX_CONNECTION_BYTES: usize = 1024;

/// What kind of server checks the passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB or MySQL.
    Mariadb,
    /// Redis or Valkey, with ACLs.
    Redis,
    /// A receiver of a person's own, which is asked for each step by a signed HTTP request.
    Webhook,
}

impl Kind {
    /// As the manifest writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
            Self::Redis => "redis",
            Self::Webhook => "webhook",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Postgres, Self::Mariadb, Self::Redis, Self::Webhook];
        all.into_iter().find(|kind| kind.word() == word)
    }

    /// The port of a server that names none.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Mariadb => 3306,
            Self::Redis => 6379,
            Self::Webhook => 443,
        }
    }

    /// The server that `HOST` or `HOST:PORT` names, in the one way in which servers are compared: small
    /// letters, and always with the port. A unix socket (`%2F…`) has none, but for PostgreSQL, where it
    /// is a directory.
    #[must_use]
    pub fn server(self, host: &str) -> String {
        let host = host.to_ascii_lowercase();
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port),
            _ => (host.as_str(), ""),
        };
        match port.parse::<u16>() {
            Ok(port) => format!("{name}:{port}"),
            Err(_) if !port.is_empty() => host,
            Err(_) if name.starts_with("%2f") && self != Self::Postgres => name.to_owned(),
            Err(_) => format!("{name}:{}", self.port()),
        }
    }

    /// The same of the one to which a connection goes, whoever signs in there.
    fn server_at(self, connection: &str) -> String {
        let scheme_ends = connection.find("://").map_or(0, |at| at + 3);
        let rest = connection.get(scheme_ends..).unwrap_or_default();
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        self.server(host)
    }

    /// An account's name in the one way in which accounts are compared: MariaDB's has a host part.
    #[must_use]
    pub fn account(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Mariadb if !name.contains('@') => Cow::Owned(format!("{name}@%")),
            Self::Mariadb | Self::Postgres | Self::Redis | Self::Webhook => Cow::Borrowed(name),
        }
    }

    /// Strategies that it can, best first.
    #[must_use]
    pub const fn strategies(self) -> &'static [Strategy] {
        match self {
            Self::Postgres => &[Strategy::AlternatingUsers, Strategy::SingleUser],
            Self::Mariadb | Self::Redis => &[
                Strategy::DualPassword,
                Strategy::AlternatingUsers,
                Strategy::SingleUser,
            ],
            Self::Webhook => &[Strategy::DualPassword, Strategy::SingleUser],
        }
    }

    /// The strategy where none is named: the best one for so many accounts, but no overlap where only the
    /// other side knows whether there is one.
    #[must_use]
    pub fn default_strategy(self, accounts: usize) -> Strategy {
        let known = self.strategies().iter().copied();
        let mut fits = known.filter(|one| one.accounts() == accounts);
        match self {
            Self::Webhook => Strategy::SingleUser,
            Self::Postgres | Self::Mariadb | Self::Redis => fits
                .next()
                .or(self.strategies().first().copied())
                .unwrap_or(Strategy::SingleUser),
        }
    }
}

/// How the old credential and the new one change over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strategy {
    /// One account accepts two passwords for the while.
    DualPassword,
    /// Two accounts with the same rights: the standby one gets the new password, then all move to it.
    AlternatingUsers,
    /// One account, one password: the old one dies when the new one is set. There is a gap.
    SingleUser,
}

impl Strategy {
    /// As the manifest writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::DualPassword => "dualPassword",
            Self::AlternatingUsers => "alternatingUsers",
            Self::SingleUser => "singleUser",
        }
    }

    /// The strategy of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::DualPassword, Self::AlternatingUsers, Self::SingleUser];
        all.into_iter().find(|strategy| strategy.word() == word)
    }

    /// How many accounts it needs.
    #[must_use]
    pub const fn accounts(self) -> usize {
        match self {
            Self::AlternatingUsers => 2,
            Self::DualPassword | Self::SingleUser => 1,
        }
    }

    /// Whether old and new credential are both good while consumers move.
    #[must_use]
    pub const fn overlaps(self) -> bool {
        !matches!(self, Self::SingleUser)
    }
}

/// A resource, as a secret's manifest declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The kind of server.
    pub kind: Kind,
    /// Where it is, with the admin's name and without a password: `postgres://admin@host:5432/shop`. A
    /// webhook's is its URL.
    pub connection: String,
    /// The accounts; two where they alternate.
    pub accounts: Vec<String>,
    /// The secret that holds the admin's password; a webhook's holds the key that signs.
    pub admin: SecretName,
    /// How the old credential and the new one change over.
    pub strategy: Strategy,
    /// The file of authorities (PEM) that the server's certificate has to come from; without one, those
    /// of the system.
    pub ca: Option<String>,
}

impl Resource {
    /// The server by its address alone: whoever is admin there, and however it is written, its accounts
    /// are the same.
    #[must_use]
    pub fn server(&self) -> String {
        self.kind.server_at(&self.connection)
    }

    /// The server as `credentialFor` of the admin's secret names it.
    #[must_use]
    pub fn credential_server(&self) -> String {
        format!("{}://{}", self.kind.word(), self.server())
    }

    /// Whether versions of the one open what versions of the other do. The admin and the authority may
    /// change; an account is written as it was, for so stands it in the versions' values.
    #[must_use]
    pub fn has_same_accounts(&self, other: &Self) -> bool {
        let (ours, theirs) = ((self.kind, self.strategy), (other.kind, other.strategy));
        ours == theirs && self.server() == other.server() && self.accounts == other.accounts
    }

    /// The first account that both name at one server.
    #[must_use]
    pub fn shared_with<'r>(&'r self, other: &Self) -> Option<&'r str> {
        if self.kind != other.kind || self.server() != other.server() {
            return None;
        }
        let name = |account: &'r str| self.kind.account(account);
        let mut ours = self.accounts.iter();
        let shared = ours.find(|ours| {
            let mut theirs = other.accounts.iter();
            theirs.any(|theirs| self.kind.account(theirs) == name(ours))
        });
        shared.map(String::as_str)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.kind.word(), self.server())
    }
}

/// The server at which the logins that a store makes are good, as the manifest of a secret with leases declares it:
/// there each of them is tried. Nobody of ours is admin there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The kind of server.
    pub kind: Kind,
    /// Where it is, without a login: `postgres://host:5432/shop`.
    pub connection: String,
    /// The file of authorities (PEM) that the server's certificate has to come from; without one, those
    /// of the system.
    pub ca: Option<String>,
}

impl Probe {
    /// The server by its address alone, in the one way in which servers are compared.
    #[must_use]
    pub fn server(&self) -> String {
        format!(
            "{}://{}",
            self.kind.word(),
            self.kind.server_at(&self.connection)
        )
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.kind.server_at(&self.connection);
        write!(f, "{} at {server}", self.kind.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(connection: &str, accounts: &[&str]) -> Resource {
        Resource {
            kind: Kind::Postgres,
            connection: connection.to_owned(),
            accounts: accounts.iter().map(ToString::to_string).collect(),
            admin: SecretName::parse("db/admin").unwrap(),
            strategy: Strategy::SingleUser,
            ca: None,
        }
    }

    #[test]
    fn a_server_is_known_by_its_address_whoever_is_admin_there() {
        let ours = resource("postgres://admin@DB.example:5432/shop", &["a", "b"]);
        let theirs = resource("postgresql://other@db.example:5432/stock?x=1", &["c", "b"]);
        assert_eq!(ours.server(), "db.example:5432");
        assert_eq!(ours.shared_with(&theirs), Some("b"));
        let elsewhere = resource("postgres://admin@db.example:5433/shop", &["a"]);
        assert_eq!(ours.shared_with(&elsewhere), None);
        assert_eq!(ours.credential_server(), "postgres://db.example:5432");
        let new_admin = resource("postgres://b@db.example:5432/shop", &["a", "b"]);
        assert!(ours.has_same_accounts(&new_admin));
        assert!(!ours.has_same_accounts(&theirs) && !elsewhere.has_same_accounts(&ours));
        let other_kind = Resource {
            kind: Kind::Redis,
            ..theirs
        };
        assert_eq!(ours.shared_with(&other_kind), None);
    }

    #[test]
    fn a_server_and_an_account_are_the_same_however_they_are_written() {
        for (kind, host, server) in [
            (Kind::Postgres, "DB.example", "db.example:5432"),
            (Kind::Postgres, "db.example:05432", "db.example:5432"),
            (Kind::Postgres, "db:", "db:5432"),
            (
                Kind::Postgres,
                "%2Frun%2Fpostgresql",
                "%2frun%2fpostgresql:5432",
            ),
            (Kind::Mariadb, "[::1]", "[::1]:3306"),
            (Kind::Mariadb, "[::1]:3307", "[::1]:3307"),
            (Kind::Redis, "%2Frun%2Fr.sock", "%2frun%2fr.sock"),
            (Kind::Redis, "cache:x", "cache:x"),
            (Kind::Redis, "", ":6379"),
        ] {
            assert_eq!(kind.server(host), server, "{host}");
        }
        let ours = resource("postgres://admin@db.example/shop", &["a"]);
        let theirs = resource("postgresql://other@DB.example:5432/stock", &["a"]);
        assert_eq!(ours.shared_with(&theirs), Some("a"));
        assert!(ours.has_same_accounts(&theirs));
        let mariadb = |account: &str| Resource {
            kind: Kind::Mariadb,
            ..resource("mariadb://admin@db", &[account])
        };
        let (short, full) = (mariadb("app"), mariadb("app@%"));
        assert_eq!(short.shared_with(&full), Some("app"));
        assert_eq!(full.shared_with(&short), Some("app@%"));
        assert_eq!(short.shared_with(&mariadb("app@10.0.0.%")), None);
    }

    #[test]
    fn a_probe_s_server_is_the_same_however_its_connection_is_written() {
        let probe = |connection: &str| Probe {
            kind: Kind::Postgres,
            connection: connection.to_owned(),
            ca: None,
        };
        let (short, full) = (
            probe("postgres://DB.example"),
            probe("postgresql://db.example:5432/shop"),
        );
        assert_eq!(short.server(), "postgres://db.example:5432");
        assert_eq!(short.server(), full.server());
        assert_ne!(short.server(), probe("postgres://db.example:5433").server());
        assert_eq!(full.to_string(), "postgres at db.example:5432");
        let named = resource("postgres://admin@db.example/shop", &["app"]);
        assert_eq!(named.credential_server(), full.server());
    }

    #[test]
    fn words_come_back_and_every_kind_has_a_strategy_for_one_account() {
        for kind in [Kind::Postgres, Kind::Mariadb, Kind::Redis, Kind::Webhook] {
            assert_eq!(Kind::of(kind.word()), Some(kind));
            let strategies = kind.strategies();
            assert!(strategies.contains(&Strategy::SingleUser));
            assert!(strategies.first().is_some_and(|best| best.overlaps()));
            for strategy in strategies {
                assert_eq!(Strategy::of(strategy.word()), Some(*strategy));
                assert!((1..=MAX_ACCOUNTS).contains(&strategy.accounts()));
            }
        }
        assert_eq!((Kind::of("oracle"), Strategy::of("none")), (None, None));
    }

    #[test]
    fn no_overlap_is_assumed_where_only_the_other_side_knows_of_one() {
        for (kind, accounts, strategy) in [
            (Kind::Postgres, 2, Strategy::AlternatingUsers),
            (Kind::Postgres, 1, Strategy::SingleUser),
            (Kind::Mariadb, 1, Strategy::DualPassword),
            (Kind::Redis, 0, Strategy::DualPassword),
            (Kind::Webhook, 1, Strategy::SingleUser),
        ] {
            assert_eq!(kind.default_strategy(accounts), strategy, "{kind:?}");
        }
        let webhook = Resource {
            kind: Kind::Webhook,
            ..resource("https://Hooks.example/rotate/stripe", &["/rotate/stripe"])
        };
        assert_eq!(webhook.credential_server(), "webhook://hooks.example:443");
    }
}
