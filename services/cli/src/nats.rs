//! `keywheel nats config`: a bus server's configuration again, from the gateway's authorities; for a
//! server that is new, lost its files or listens elsewhere now. A certificate that is made with it is a deed, which a
//! gateway puts on record; what is only printed holds no secret and gives nobody anything.

use std::io::Write as _;
use std::path::Path;

use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_identity::init::{NewServer, bus_server, plain, write_bus_server};
use keywheel_identity::ledger::Verb;
use keywheel_identity::name::PeerName;
use keywheel_identity::nats::{BusServer, server_config};
use keywheel_seal::OsEntropy;

use crate::args::NatsConfigArgs;
use crate::credentials::{BUS_SERVER, Opened, open};
use crate::deed::{About, noted};
use crate::exit::{Exit, Failure};
use crate::init::{Named, servers};
use crate::output::Screen;

/// Prints the configuration, or writes it with a certificate.
pub(crate) fn config(screen: Screen, args: &NatsConfigArgs) -> Result<(), Failure> {
    let named = args.bus.iter().map(|text| Named::parse(text));
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let tls = args.bus_tls || !named.iter().all(Named::is_loopback);
    let all = servers(&named, &args.installed, &args.bus_store);
    let server = find(&all, &args.node)?;
    let configured = bus_server(server, &all, tls);
    let Some(out) = &args.out else {
        let config = text(&open(&args.home)?, &configured)?;
        return std::io::stdout()
            .write_all(config.as_bytes())
            .map_err(|e| refused(&e));
    };
    let place = std::path::absolute(out).unwrap_or_else(|_| out.clone());
    let about = About {
        verb: Verb::IssueCredentials,
        object: BUS_SERVER,
        words: &format!("{}, directory {}", server.name, place.display()),
    };
    let work = || {
        let opened = open(&args.home)?;
        write(&opened, server, &configured, out)
    };
    noted(&args.home, about, work, |()| "written".to_owned())?;
    let installed = server.installed.display();
    let json =
        serde_json::json!({ "node": server.name, "directory": out, "installed": server.installed });
    screen.show(&json, |_| {
        format!(
            "{}: configuration and certificate of {}\nbring it to {installed} on its machine, and start or reload nats-server there\n",
            out.display(),
            server.name
        )
    })
}

fn text(opened: &Opened, configured: &BusServer) -> Result<String, Failure> {
    let mut revocations = opened.home.revocations().map_err(|e| refused(&e))?;
    let now = SystemClock::new().now();
    let config = server_config(&opened.bus, &mut revocations, configured, now);
    config.map_err(|e| refused(&e))
}

fn write(
    opened: &Opened,
    server: &NewServer,
    configured: &BusServer,
    out: &Path,
) -> Result<(), Failure> {
    let config = text(opened, configured)?;
    let (name, now) = (PeerName::BusServer, SystemClock::new().now());
    let certificate = plain(&opened.authority, &name, &server.addresses, now, &OsEntropy);
    let certificate = certificate.map_err(|e| refused(&e))?;
    write_bus_server(out, &certificate, config).map_err(|e| refused(&e))
}

fn find<'a>(all: &'a [NewServer], node: &str) -> Result<&'a NewServer, Failure> {
    all.iter()
        .find(|server| server.name == node)
        .ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|server| server.name.as_str()).collect();
            Failure::new(
                Exit::Usage,
                format!("`{node}` is none of these bus servers"),
                format!(
                    "write --node {}; they count in the order of --bus",
                    names.join("|")
                ),
            )
        })
}

fn refused(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(
        Exit::CannotCreate,
        keywheel_daemon::chain(error),
        "correct what is named above and try again; nothing that runs was changed",
    )
}

#[cfg(test)]
mod tests {
    use keywheel_identity::ledger::{Ledger, Stage};

    use super::*;
    use crate::args::Format;
    use crate::ca::tests::home;

    #[test]
    fn a_bus_server_s_certificate_is_noted_before_and_after_and_what_is_refused_of_it_too() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        let out = scratch.path().join("bus-1");
        let args = NatsConfigArgs {
            home: home.clone(),
            bus: vec!["127.0.0.1:4222".to_owned()],
            node: "bus-1".to_owned(),
            bus_tls: true,
            bus_store: scratch.path().join("store"),
            installed: scratch.path().join("installed"),
            out: Some(out.clone()),
        };
        config(Screen::of_terminal(Format::Json), &args).unwrap();
        assert!(out.is_dir());
        let other_key = NatsConfigArgs {
            home: crate::args::HomeArgs {
                unseal_key_file: scratch.path().join("none"),
                ..home.clone()
            },
            ..args
        };
        config(Screen::of_terminal(Format::Json), &other_key).unwrap_err();
        let noted = Ledger::new(&home.gateway_dir).read().unwrap().unwrap();
        let all: Vec<Stage> = noted.lines.iter().map(|line| line.stage).collect();
        let expected = [Stage::Asked, Stage::Done, Stage::Asked, Stage::Failed];
        assert_eq!(all, expected);
        let is_its = |line: &keywheel_identity::ledger::Line| {
            line.verb == Verb::IssueCredentials && line.object == BUS_SERVER
        };
        assert!(noted.lines.iter().all(is_its), "{:?}", noted.lines);
    }
}
