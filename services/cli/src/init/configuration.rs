//! A configuration per service of a deployment that is being made, ready to be used.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use keywheel_core::audit::Role;
use keywheel_identity::init::SERVICES;
use keywheel_schemas::config::shape::{ConfigFile, DatabaseSection, ListenSection};
use keywheel_schemas::subject::role_word;
use keywheel_seal::{OsEntropy, SecretBytes};

use super::database::{self, KEPT, Server};
use super::places::Places;
use crate::args::InitArgs;
use crate::exit::{Exit, Failure};
use crate::up::Error;

/// Where the statements for the database server lie.
pub(super) const PASSWORDS: &str = "postgres/passwords.sql";

/// What configurations say beside places.
pub(super) struct Told<'a> {
    pub(super) places: &'a Places,
    pub(super) database: Option<&'a Server>,
    pub(super) listen: ListenSection,
}

/// The gateway's ports: at every address where it is reached from elsewhere, else on loopback.
pub(super) fn listen(args: &InitArgs) -> Result<ListenSection, Failure> {
    if args.api_port == args.join_port {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "operators and joining hosts cannot share port {}",
                args.api_port
            ),
            "give --api-port and --join-port two different ones",
        ));
    }
    let is_near = |name: &String| {
        let ip = name.trim_matches(['[', ']']).parse::<IpAddr>();
        name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    };
    let ip = match args.gateway.iter().all(is_near) {
        true => Ipv4Addr::LOCALHOST,
        false => Ipv4Addr::UNSPECIFIED,
    };
    let at = |port| SocketAddr::new(ip.into(), port).to_string();
    let name = args
        .gateway
        .first()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => name.clone(),
        });
    Ok(ListenSection {
        api: Some(at(args.api_port)),
        api_tokens: None,
        join: Some(at(args.join_port)),
        advertise_join: name.map(|name| format!("{name}:{}", args.join_port)),
    })
}

/// Writes them into the directory, with passwords where there is a database.
pub(super) fn write(out: &Path, told: &Told<'_>) -> Result<(), Failure> {
    for role in SERVICES {
        let name = format!("{}.toml", role_word(role));
        put(&out.join(name), text(role, told)?.as_bytes())?;
    }
    if told.database.is_none() {
        return Ok(());
    }
    let (passwords, statements) = database::passwords(&OsEntropy);
    for (name, password) in passwords {
        put_secret(&out.join(name), &password)?;
    }
    let path = out.join(PASSWORDS);
    if let Some(parent) = path.parent() {
        let made = fs::DirBuilder::new().mode(0o700).create(parent);
        made.map_err(|e| Failure::from(Error::path(parent, &e)))?;
    }
    put(&path, statements.as_bytes())
}

fn text(role: Role, told: &Told<'_>) -> Result<String, Failure> {
    let file = file(role, told);
    let settings = toml::to_string(&file).map_err(|error| {
        let next = "give names without unusual characters";
        Failure::new(Exit::Usage, error.to_string(), next)
    })?;
    let word = role_word(role);
    Ok(format!(
        "# Made by `keywheel init` for the {word}: `keywheel server {word} --config THIS`.\n\
         # Every setting is explained in schemas/generated/config.schema.json.\n{settings}"
    ))
}

fn file(role: Role, told: &Told<'_>) -> ConfigFile {
    let Told { places, .. } = told;
    let shown = |path: &Path| Some(path.display().to_string());
    let database = |wanted: Role| {
        let kept = KEPT.into_iter().find(|kept| kept.role == wanted)?;
        let server = told.database.filter(|_| role == wanted)?;
        Some(DatabaseSection {
            url: Some(server.url(kept)),
            password_file: shown(&places.etc.join(kept.password_file)),
        })
    };
    let is_gateway = role == Role::Gateway;
    ConfigFile {
        identity_dir: shown(&places.identity(role)),
        data_dir: shown(&places.data(role)),
        unseal_key_file: places.unseal_key(role).and_then(shown),
        socket: is_gateway
            .then(|| places.socket())
            .and_then(|path| shown(&path)),
        listen: is_gateway.then(|| told.listen.clone()),
        journal: database(Role::Gateway),
        cache: database(Role::StoreSync),
        ..ConfigFile::default()
    }
}

fn put_secret(path: &Path, secret: &SecretBytes) -> Result<(), Failure> {
    // EXPOSE: a password rests in this file, which only its owner reads.
    put(path, secret.expose())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| Failure::from(Error::path(path, &error)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use keywheel_schemas::config::{Config, ConfigFlags};

    use super::*;
    use crate::args::OwnCa;

    fn args(gateway: &[&str]) -> InitArgs {
        InitArgs {
            out: PathBuf::from("/made"),
            unseal_key_file: Some(PathBuf::from("/keys/gateway.key")),
            unseal: "key-file".to_owned(),
            single: false,
            bus: vec!["127.0.0.1:4222".to_owned()],
            bus_tls: false,
            bus_store: None,
            gateway: gateway.iter().map(|name| (*name).to_owned()).collect(),
            api_port: 8443,
            join_port: 8444,
            database: None,
            root: Some(PathBuf::from("/")),
            operator: "admin".to_owned(),
            own: OwnCa {
                ca_cert: None,
                ca_key: None,
            },
        }
    }

    fn loaded(role: Role, args: &InitArgs) -> Config {
        let server = Server::parse("postgres://db.example").unwrap();
        let told = Told {
            places: &Places::of(args),
            database: Some(&server),
            listen: listen(args).unwrap(),
        };
        let text = text(role, &told).unwrap();
        let flags = ConfigFlags {
            machine_name: Some("m".to_owned()),
            ..ConfigFlags::default()
        };
        Config::load(Some(("made", &text)), &|_| None, flags).unwrap()
    }

    #[test]
    fn every_service_finds_its_own_on_its_machine() {
        let args = args(&["gw.example"]);
        let gateway = loaded(Role::Gateway, &args);
        let identity = gateway.apart.identity_dir.unwrap();
        assert_eq!(identity, Path::new("/etc/keywheel/gateway"));
        assert_eq!(gateway.data_dir, Path::new("/var/lib/keywheel/gateway"));
        let key = Path::new("/etc/keywheel/gateway-unseal.key");
        assert_eq!(gateway.unseal_key_file, key);
        assert!(gateway.apart.cache.is_none());
        let journal = gateway.apart.journal.unwrap();
        assert_eq!(
            journal.url,
            "postgres://keywheel_journal@db.example/keywheel_journal"
        );
        let told = gateway.apart.advertise_join.unwrap();
        assert_eq!(told, "gw.example:8444");
        assert!(gateway.apart.listen_api.unwrap().ip().is_unspecified());
        let store_sync = loaded(Role::StoreSync, &args);
        assert!(store_sync.apart.journal.is_none() && store_sync.apart.listen_api.is_none());
        let password = store_sync.apart.cache.unwrap().password_file.unwrap();
        assert_eq!(password, Path::new("/etc/keywheel/cache.password"));
        let scheduler = loaded(Role::Scheduler, &args).apart;
        assert!(scheduler.journal.is_none() && scheduler.cache.is_none());
    }

    #[test]
    fn without_a_root_everything_is_used_where_it_was_made() {
        let mut args = args(&[]);
        args.root = None;
        let gateway = loaded(Role::Gateway, &args);
        assert_eq!(
            gateway.apart.identity_dir.unwrap(),
            Path::new("/made/gateway")
        );
        assert_eq!(gateway.unseal_key_file, Path::new("/keys/gateway.key"));
        assert!(gateway.apart.listen_api.unwrap().ip().is_loopback());
        let key = loaded(Role::StoreSync, &args).unseal_key_file;
        assert_eq!(key, Path::new("/keys/store-sync-unseal.key"));
    }

    #[test]
    fn two_ports_cannot_be_one() {
        let mut args = args(&[]);
        args.join_port = args.api_port;
        assert_eq!(listen(&args).unwrap_err().exit, Exit::Usage);
    }
}
