//! Settings of services that run apart: credentials, bus servers, databases, ports.
//!
//! Invariant: a database's password is never in a URL; it lies in a file of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::sources::Sources;

/// Most bus servers that can be named.
pub const MAX_BUS_SERVERS: usize = 16;

/// How long credentials of services and hosts live, by default: what is stolen is soon worth nothing.
pub const DEFAULT_CREDENTIAL_LIFETIME: Duration = Duration::from_secs(3600);
/// Shortest life of credentials: below it members do nothing but renew.
pub const MIN_CREDENTIAL_LIFETIME: Duration = Duration::from_secs(10);
/// Longest life of credentials.
pub const MAX_CREDENTIAL_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A database on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// `postgres://USER@HOST:PORT/NAME`, without a password.
    pub url: String,
    /// File with the password, if one is needed.
    pub password_file: Option<PathBuf>,
}

/// Settings of services that run apart; `keywheel up` needs none of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Apart {
    /// Directory of this service's credentials, as `keywheel init` or `keywheel-injector join` made
    /// it.
    pub identity_dir: Option<PathBuf>,
    /// Bus servers, `nats://HOST:PORT` or `tls://HOST:PORT`.
    pub bus_servers: Vec<String>,
    /// The bus servers' monitoring ports, `http://HOST:PORT`; only `status` reads them.
    pub bus_monitors: Vec<String>,
    /// The journal's database; without it a SQLite file in the data directory.
    pub journal: Option<Database>,
    /// The cache's database; without it a SQLite file in the data directory.
    pub cache: Option<Database>,
    /// Where the gateway serves operators, over mutual TLS.
    pub listen_api: Option<SocketAddr>,
    /// Whether who shows no certificate there may come with a token.
    pub api_tokens: bool,
    /// Where the gateway lets hosts join.
    pub listen_join: Option<SocketAddr>,
    /// The host and port that joining hosts are told; by default where the gateway listens.
    pub advertise_join: Option<String>,
    /// How long the credentials live that the gateway gives to services and hosts; by default one
    /// hour.
    pub credential_lifetime: Option<Duration>,
}

impl Apart {
    pub(super) fn take(sources: &mut Sources) -> Self {
        Self {
            identity_dir: sources.optional_path("identity_dir"),
            bus_servers: sources.list("bus.servers", MAX_BUS_SERVERS, check_server),
            bus_monitors: sources.list("bus.monitors", MAX_BUS_SERVERS, check_monitor),
            journal: database(sources, "journal.url", "journal.password_file"),
            cache: database(sources, "cache.url", "cache.password_file"),
            listen_api: sources.address("listen.api"),
            api_tokens: take_api_tokens(sources),
            listen_join: sources.address("listen.join"),
            advertise_join: sources.optional_text("listen.advertise_join"),
            credential_lifetime: sources.optional_span(
                "credentials.lifetime",
                MIN_CREDENTIAL_LIFETIME..=MAX_CREDENTIAL_LIFETIME,
            ),
        }
    }

    /// The first of its settings that was given, by name; for programs that need none.
    #[must_use]
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("identity_dir", self.identity_dir.is_some()),
            ("bus.servers", !self.bus_servers.is_empty()),
            ("bus.monitors", !self.bus_monitors.is_empty()),
            ("journal.url", self.journal.is_some()),
            ("cache.url", self.cache.is_some()),
            ("listen.api", self.listen_api.is_some()),
            ("listen.api_tokens", self.api_tokens),
            ("listen.join", self.listen_join.is_some()),
            ("listen.advertise_join", self.advertise_join.is_some()),
            ("credentials.lifetime", self.credential_lifetime.is_some()),
        ];
        given
            .into_iter()
            .find_map(|(name, given)| given.then_some(name))
    }
}

fn take_api_tokens(sources: &mut Sources) -> bool {
    match sources.optional_text("listen.api_tokens").as_deref() {
        None | Some("off") => false,
        Some("on") => true,
        Some(other) => {
            let message = format!("`{other}` is neither `on` nor `off`");
            sources.fault("listen.api_tokens", message);
            false
        }
    }
}

fn check_server(text: &str) -> Result<(), String> {
    let rest = text
        .strip_prefix("nats://")
        .or_else(|| text.strip_prefix("tls://"));
    let port = rest.and_then(|rest| rest.rsplit_once(':'));
    match port {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err("is not a bus server; write tls://HOST:PORT, or nats://127.0.0.1:PORT".to_owned()),
    }
}

fn check_monitor(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("http://");
    let port = rest.and_then(|rest| rest.trim_end_matches('/').rsplit_once(':'));
    match port {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err("is not a monitoring port; write http://127.0.0.1:8222".to_owned()),
    }
}

fn database(sources: &mut Sources, url: &'static str, password: &'static str) -> Option<Database> {
    let password_file = sources.optional_path(password);
    let Some(text) = sources.optional_text(url) else {
        if password_file.is_some() {
            sources.fault(
                password,
                format!("`{password}` is of no use without `{url}`"),
            );
        }
        return None;
    };
    let known = ["postgres://", "postgresql://"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match known {
        None => sources.fault(
            url,
            format!("`{url}` is not a database; write postgres://USER@HOST:PORT/NAME"),
        ),
        Some(rest) if holds_password(rest) => sources.fault(
            url,
            format!("`{url}` holds a password; put it into a file and name that with `{password}`"),
        ),
        Some(_) => {}
    }
    Some(Database {
        url: text,
        password_file,
    })
}

/// Whether a URL after its scheme says a password, as user information or as a parameter.
fn holds_password(rest: &str) -> bool {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || rest.contains("password=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_found_wherever_they_stand() {
        assert!(holds_password("kw:secret@db:5432/kw"));
        assert!(holds_password("kw@db/kw?password=secret"));
        assert!(!holds_password("kw@db:5432/kw?sslmode=verify-full"));
        assert!(!holds_password("db:5432/kw"));
    }

    #[test]
    fn a_monitoring_port_is_plain_http() {
        assert!(check_monitor("http://127.0.0.1:8222").is_ok());
        assert!(check_monitor("http://[::1]:8222/").is_ok());
        for bad in ["", "127.0.0.1:8222", "https://x:1", "http://x", "http://:1"] {
            assert!(check_monitor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bus_server_has_scheme_host_and_port() {
        for good in [
            "nats://127.0.0.1:4222",
            "tls://bus.example:4222",
            "tls://[::1]:4222",
        ] {
            assert!(check_server(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:4222",
            "http://x:1",
            "tls://x",
            "tls://:1",
            "tls://x:99999",
        ] {
            assert!(check_server(bad).is_err(), "{bad}");
        }
    }
}
