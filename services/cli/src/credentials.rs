//! `keywheel credentials`: at the gateway's machine, with its authorities and its unseal key. Nothing is
//! asked of a running gateway; each directory is a deed of its own, which a gateway puts on record.

use std::path::{Path, PathBuf};

use keywheel_core::time::Timestamp;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_identity::authority::{Authority, MEMBER_LIFETIME_MOST};
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_identity::enrol::Registrar;
use keywheel_identity::init::{Home, InitError};
use keywheel_identity::ledger::Verb;
use keywheel_identity::name::PeerName;
use keywheel_identity::nats::BusAuthority;
use keywheel_identity::refresh::{RefreshError, refresh_any, whose};
use keywheel_member::ends;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use serde::Serialize;

use crate::args::{HomeArgs, RefreshArgs};
use crate::deed::{About, noted};
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::up::layout;

/// What the audit calls a bus server's credentials.
pub(crate) const BUS_SERVER: &str = "bus-server";
/// What it calls credentials that cannot be read.
const UNKNOWN: &str = "directory";

/// The authorities in the gateway's directory, opened.
pub(crate) struct Opened {
    pub(crate) authority: Authority,
    pub(crate) bus: BusAuthority,
    pub(crate) identity: Identity,
    pub(crate) home: Home,
    pub(crate) unseal: UnsealKey,
}

/// One directory that is fresh.
#[derive(Debug, Serialize)]
struct Refreshed {
    directory: PathBuf,
    name: String,
    ends: String,
}

/// Makes directories fresh, one after the other; the first that cannot be ends it.
pub(crate) fn refresh(screen: Screen, args: &RefreshArgs) -> Result<(), Failure> {
    let mut done = Vec::new();
    for directory in &args.directories {
        let place = std::path::absolute(directory);
        let place = place.unwrap_or_else(|_| directory.clone());
        let about = About {
            verb: Verb::RefreshCredentials,
            object: &object(directory),
            words: &format!("directory {}", place.display()),
        };
        let work = || refreshed(&args.home, directory);
        let said = |one: &Refreshed| format!("fresh until {}", one.ends);
        done.push(noted(&args.home, about, work, said)?);
    }
    screen.show(&done, |done| {
        let line = |one: &Refreshed| {
            let directory = one.directory.display();
            format!("{directory}: fresh until {}\n", one.ends)
        };
        let mut text: String = done.iter().map(line).collect();
        text.push_str("bring each back to its machine and start the service again; a bus server reads its files anew on SIGHUP\n");
        text
    })
}

fn refreshed(home: &HomeArgs, directory: &Path) -> Result<Refreshed, Failure> {
    let opened = open(home)?;
    let (name, end) = opened.refresh(directory, SystemClock::new().now())?;
    Ok(Refreshed {
        directory: directory.to_owned(),
        name: name.uri(opened.identity.deployment),
        ends: ends(end),
    })
}

/// Whose credentials they are, as other records name them.
fn object(directory: &Path) -> String {
    match whose(directory) {
        Ok(PeerName::Service(role)) => format!("service/{role:?}"),
        Ok(PeerName::BusServer) => BUS_SERVER.to_owned(),
        Ok(PeerName::Host(host)) => format!("host/{host}"),
        Ok(PeerName::Operator(name)) => format!("operator/{name}"),
        Err(_) => UNKNOWN.to_owned(),
    }
}

impl Opened {
    fn refresh(&self, directory: &Path, now: Timestamp) -> Result<(PeerName, Timestamp), Failure> {
        let registrar = Registrar {
            authority: &self.authority,
            bus: &self.bus,
            trust: &self.identity.trust,
            servers: &self.identity.servers,
        };
        refresh_any(directory, &registrar, now, &OsEntropy).map_err(|error| {
            let exit = match &error {
                RefreshError::Bundle(_) => Exit::NoInput,
                _ => Exit::Config,
            };
            let next = "name directories that `keywheel init` made for this deployment";
            Failure::new(exit, keywheel_daemon::chain(&error), next)
        })
    }
}

pub(crate) fn open(args: &HomeArgs) -> Result<Opened, Failure> {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        let next = "name the gateway's directory of credentials with --gateway-dir, and its key with --unseal-key-file";
        Failure::new(Exit::Config, keywheel_daemon::chain(error), next)
    };
    let unseal = layout::present_unseal_key(&args.unseal_key_file, &args.gateway_dir)?;
    let home = Home::new(&args.gateway_dir);
    let authorities = || Ok::<_, InitError>((home.authority(&unseal)?, home.bus(&unseal)?));
    let (authority, bus) = authorities().map_err(|e| refused(&e))?;
    let read = Bundle::read_speaker(&args.gateway_dir);
    let (_, identity) = read.map_err(|e| refused(&e))?;
    Ok(Opened {
        // As long as the first ones: they have to be brought to their machines.
        authority: authority.with_member_lifetime(MEMBER_LIFETIME_MOST),
        bus,
        identity,
        home,
        unseal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;
    use crate::ca::tests::home;

    /// As the help says it.
    #[test]
    fn the_first_directory_that_cannot_be_made_fresh_ends_it_and_those_before_are() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        let deployment = home.gateway_dir.parent().unwrap().to_owned();
        let of = |home: &HomeArgs, names: &[&str]| {
            let directories = names.iter().map(|name| deployment.join(name));
            let args = RefreshArgs {
                home: home.clone(),
                directories: directories.collect(),
            };
            refresh(Screen::of_terminal(Format::Json), &args)
        };
        let certificate = || {
            let bundle = Bundle::read(&deployment.join("operators/ada")).unwrap();
            bundle.tls.chain_pem
        };
        let before = certificate();
        let refused = of(&home, &["operators/ada", "none", "store-sync"]).unwrap_err();
        assert_eq!(refused.exit, Exit::NoInput, "{}", refused.what);
        assert!(certificate() != before, "the one before it is fresh");
        let other_key = HomeArgs {
            unseal_key_file: scratch.path().join("none"),
            ..home.clone()
        };
        let refused = of(&other_key, &["operators/ada"]).unwrap_err();
        assert_eq!(refused.exit, Exit::Config, "{}", refused.what);
    }
}
