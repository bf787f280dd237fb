//! `keywheel init`: keys, certificates, configurations of services that run apart and of their bus.
//! Made once; nothing that exists is overwritten, and nothing is started.

mod configuration;
mod database;
mod places;
mod single;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::ids::Ids as _;
use keywheel_identity::authority::{
    Authority, AuthorityError, MEMBER_LIFETIME_MOST, check_addresses,
};
use keywheel_identity::init::{self, InitError, NewDeployment, NewServer};
use keywheel_identity::name::OperatorName;
use keywheel_schemas::subject::role_word;
use keywheel_seal::OsEntropy;

use self::configuration::Told;
use self::database::Server;
use self::places::Places;
use crate::address::MAX_HOST_BYTES;
use crate::args::InitArgs;
use crate::ca;
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::seal::making::{self, Wish};
use crate::up::layout;

/// A bus server's port for the other servers lies this far above the one for clients.
const CLUSTER_OFFSET: u16 = 2000;
/// Most bytes of all streams of a bus server on disk.
const MAX_STORE_BYTES: u64 = 4 << 30;

/// One bus server as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    host: String,
    port: u16,
}

/// Whether it is a host's name, its IPv4 address, or its IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => (1..=MAX_HOST_BYTES).contains(&text.len()) && text.bytes().all(fits),
    }
}

impl Named {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::new(
                Exit::Usage,
                "--bus names no place for a bus server: a host's name or address, a colon and a port, and nothing else",
                "write --bus HOST:PORT, for example --bus bus-1.example:4222",
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if !is_host(host) || port == 0 || port.checked_add(CLUSTER_OFFSET).is_none() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }

    /// As a certificate names it.
    fn addresses(&self) -> Vec<String> {
        vec![self.host.trim_matches(['[', ']']).to_owned()]
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Where it listens: its own address, or everywhere when it has a name.
    fn listen(&self, port: u16) -> SocketAddr {
        let ip = if self.is_loopback() {
            self.ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
        } else {
            self.ip().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        };
        SocketAddr::new(ip, port)
    }
}

/// Makes everything under the directory that was named.
pub(crate) async fn run(screen: Screen, args: &InitArgs) -> Result<(), Failure> {
    let wish = Wish::parse(&args.unseal)?;
    if args.single {
        return single::run(screen, args, &wish).await;
    }
    let named = args
        .bus
        .iter()
        .map(|text| Named::parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    let tls = args.bus_tls || !named.iter().all(Named::is_loopback);
    let operator = OperatorName::parse(&args.operator).map_err(|e| {
        let next = "write --operator NAME, for example --operator alice";
        Failure::new(Exit::Usage, e.to_string(), next)
    })?;
    refuse_bad_addresses(args, &named)?;
    if args.out.exists() {
        return Err(exists(&args.out));
    }
    let database = args.database.as_deref().map(Server::parse).transpose()?;
    if database.is_some() && wish != Wish::KeyFile {
        return Err(needs_key_file());
    }
    let asked = wish.ask(&args.out)?;
    asked.prove().await?;
    let places = Places::of(args);
    let told = Told {
        places: &places,
        database: database.as_ref(),
        listen: configuration::listen(args)?,
    };
    let key_file = args.key_file();
    let unseal = layout::first_unseal_key(&key_file, &args.out)?;
    if wish == Wish::KeyFile {
        layout::first_unseal_key(&places::store_sync_key(&key_file), &args.out)?;
    }
    let deployment = DeploymentId::from_bytes(SystemIds.draw());
    let now = SystemClock::new().now();
    let authority = match ca::own(&args.own, deployment)? {
        Some(own) => own,
        None => Authority::create(deployment, now, &OsEntropy).map_err(|e| broken(&e))?,
    };
    // Time to bring them to their machines; each service renews as soon as it runs.
    let authority = authority.with_member_lifetime(MEMBER_LIFETIME_MOST);
    let scheme = if tls { "tls" } else { "nats" };
    let new = NewDeployment {
        deployment,
        authority,
        operator,
        addresses: BTreeMap::from([(Role::Gateway, args.gateway.clone())]),
        servers: servers(&named, &places.etc, &places.bus_store),
        urls: named
            .iter()
            .map(|server| format!("{scheme}://{}:{}", server.host, server.port))
            .collect(),
        tls,
        unseal: &unseal,
        entropy: &OsEntropy,
        now,
    };
    init::init(&args.out, &new).map_err(|error| match error {
        InitError::Exists(path) => exists(&path),
        other => broken(&other),
    })?;
    configuration::write(&args.out, &told)?;
    let store_sync = args.out.join(role_word(Role::StoreSync));
    let shares = making::texts(&asked.write(&store_sync, deployment).await?);
    tell(screen, (args, &wish), &new, &shares)
}

/// Before anything is made: half a deployment would be in the way of the next attempt.
fn refuse_bad_addresses(args: &InitArgs, named: &[Named]) -> Result<(), Failure> {
    let wrong = |flag: &str, next: &str, error: &AuthorityError| {
        Failure::new(Exit::Usage, format!("{flag}: {error}"), next)
    };
    check_addresses(&args.gateway).map_err(|error| {
        let next = "write --gateway NAME or --gateway IP, for example --gateway gateway.example, once for each";
        wrong("--gateway", next, &error)
    })?;
    for server in named {
        check_addresses(&server.addresses()).map_err(|error| {
            let next = "write --bus HOST:PORT, for example --bus bus-1.example:4222";
            wrong("--bus", next, &error)
        })?;
    }
    Ok(())
}

fn needs_key_file() -> Failure {
    Failure::new(
        Exit::Usage,
        "store-syncs that share a database are opened by a key file: a share or passphrase would reach one of them",
        "leave --unseal out, or leave --database out, so that store-sync keeps a file of its own",
    )
}

/// The servers as they are told of each other, their files below `etc`.
pub(crate) fn servers(named: &[Named], etc: &Path, store: &Path) -> Vec<NewServer> {
    let is_cluster = named.len() > 1;
    let etc = std::path::absolute(etc).unwrap_or_else(|_| etc.to_owned());
    named
        .iter()
        .zip(1u32..)
        .map(|(server, number)| {
            let name = format!("bus-{number}");
            let between = server.port.saturating_add(CLUSTER_OFFSET);
            NewServer {
                listen: server.listen(server.port),
                cluster: is_cluster.then(|| server.listen(between)),
                route: is_cluster.then(|| format!("{}:{between}", server.host)),
                addresses: server.addresses(),
                store: store.join(&name),
                max_store_bytes: MAX_STORE_BYTES,
                installed: etc.join("nats").join(&name),
                name,
            }
        })
        .collect()
}

fn exists(path: &Path) -> Failure {
    Failure::new(
        Exit::CannotCreate,
        format!("{} exists already", path.display()),
        "give another --out; `init` never changes a deployment that is there",
    )
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(
        Exit::CannotCreate,
        keywheel_daemon::chain(error),
        "check the names given, and that the directory above --out can be written",
    )
}

fn tell(
    screen: Screen,
    (args, wish): (&InitArgs, &Wish),
    new: &NewDeployment<'_>,
    shares: &[String],
) -> Result<(), Failure> {
    let out = args.out.display();
    let key_file = args.key_file();
    let key = key_file.display();
    let mut text = format!(
        "deployment {} is made under {out}\n\nnext, each on its machine:\n",
        new.deployment
    );
    for server in &new.servers {
        let line = format!("  nats-server -c {out}/nats/{}/nats.conf\n", server.name);
        text.push_str(&line);
    }
    for role in ["gateway", "store-sync", "scheduler", "audit-sink"] {
        let line = format!("  keywheel server {role} --config {out}/{role}.toml\n");
        text.push_str(&line);
    }
    text.push_str(
        "  keywheel host join-token NAME            # then keywheel-injector join on the host\n",
    );
    text.push_str("\nstart the services within a day: what lies there ends then\n");
    if args.database.is_some() {
        let file = configuration::PASSWORDS;
        let line = format!("the database server's part of the passwords is in {out}/{file}\n");
        text.push_str(&line);
    }
    text.push_str(&format!(
        "keep {key} apart from {out}/gateway: it opens the authorities there\n"
    ));
    if let Some(line) = wish.at_a_start() {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&making::told(shares, wish));
    let json = serde_json::json!({
        "unseal": args.unseal,
        "shares": shares,
        "deployment": new.deployment.to_string(),
        "directory": args.out,
        "bus_servers": new.urls,
        "tls": new.tls,
    });
    screen.show(&json, |_| text)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_place_for_a_bus_server_is_a_host_and_a_port_with_room_above() {
        for bad in ["", "bus", "bus:", ":4222", "bus:0", "bus:65000", "bus:x"] {
            assert_eq!(Named::parse(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
        for bad in [
            "nats://ada:hunter2@bus:4222",
            "hunter2@bus:4222",
            "bus/hunter2:1",
            "::1:4222",
        ] {
            let text = Named::parse(bad).unwrap_err().to_string();
            assert!(
                text.contains("--bus") && !text.contains("hunter2"),
                "{text}"
            );
        }
        let named = Named::parse("bus-1.example:4222").unwrap();
        assert!(!named.is_loopback());
        assert_eq!(named.listen(named.port).to_string(), "0.0.0.0:4222");
        let own = Named::parse("127.0.0.1:4222").unwrap();
        assert!(own.is_loopback());
        assert_eq!(own.listen(own.port).to_string(), "127.0.0.1:4222");
        assert!(Named::parse("[::1]:4222").unwrap().is_loopback());
    }

    #[tokio::test]
    async fn an_address_that_no_certificate_can_have_is_refused_before_anything_is_made() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("deployment");
        let out_word = out.display().to_string();
        let key = scratch.path().join("gateway.key");
        let key_word = key.display().to_string();
        let head = ["keywheel", "init", "--out", &out_word];
        for (flag, bad) in [
            ("--gateway", "gate way"),
            ("--gateway", "https://gateway.example"),
            ("--bus", "bus..example:4222"),
        ] {
            let rest = ["--unseal-key-file", &key_word, flag, bad];
            let words = head.into_iter().chain(rest);
            let crate::args::Verb::Init(args) =
                crate::args::Cli::try_parse_from(words).unwrap().verb
            else {
                panic!("no init");
            };
            let screen = Screen::of_terminal(crate::args::Format::Json);
            let failure = run(screen, &args).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{failure}");
            assert!(failure.what.starts_with(flag), "{failure}");
            assert!(failure.next.unwrap().contains(flag), "{bad}");
            assert!(!out.exists() && !key.exists(), "{bad}: something was made");
        }
    }

    #[test]
    fn several_bus_servers_know_each_other() {
        let named = ["10.0.0.1:4222", "10.0.0.2:4222", "10.0.0.3:4222"];
        let named: Vec<_> = named
            .iter()
            .map(|text| Named::parse(text).unwrap())
            .collect();
        let made = servers(&named, Path::new("/etc/kw"), Path::new("/var/lib/nats"));
        let routes: Vec<_> = made.iter().filter_map(|s| s.route.as_deref()).collect();
        assert_eq!(routes, ["10.0.0.1:6222", "10.0.0.2:6222", "10.0.0.3:6222"]);
        assert_eq!(made[2].installed, Path::new("/etc/kw/nats/bus-3"));
        let single = servers(&named[..1], Path::new("/etc/kw"), Path::new("/x"));
        assert_eq!((single[0].cluster, single[0].route.as_ref()), (None, None));
    }
}
