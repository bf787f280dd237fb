//! `keywheel nats config`: a bus server's configuration again, from the gateway's authorities; for a
//! server that is new, lost its files or listens elsewhere now. A certificate that is made with it is a deed, which a
//! gateway puts on record; what is only printed holds no secret and gives nobody anything.
//!
//! Invariant: a key is written only where nobody else gets it, or may put something in its place.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_identity::init::{NewServer, SERVER_FILE, bus_server, plain, write_bus_server};
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
        refuse_strange(out)?;
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

/// What lies in a directory is its owner's, and whoever may write into it may put another key in the place of ours.
fn refuse_strange(out: &Path) -> Result<(), Failure> {
    // Without the slash at its end, which would lead through a link.
    let plain: PathBuf = out.components().collect();
    let found = match fs::symlink_metadata(&plain) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(strange(out, &format!("cannot be looked at: {error}"))),
    };
    if !found.is_dir() {
        return Err(strange(out, "is a link, or no directory"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        let uid = found.uid();
        let why = format!("belongs to another user (uid {uid}), who would get the key");
        return Err(strange(out, &why));
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        let why = format!("can be written by others (mode {mode:04o})");
        return Err(strange(out, &why));
    }
    if mode & 0o055 != 0 && holds_other_things(&plain) {
        return Err(strange(
            out,
            "holds other things, which would be shut to everybody else",
        ));
    }
    Ok(())
}

/// Whether something is there, and no bus server's configuration. What cannot be listed fails when it is written.
fn holds_other_things(directory: &Path) -> bool {
    let is_empty = fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    !is_empty && !directory.join(SERVER_FILE).exists()
}

fn strange(out: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::CannotCreate,
        format!("{} {why}; nothing was written", out.display()),
        "name with --out a directory that is not there yet, or one of your own (mode 0700), and bring it to the bus server's machine",
    )
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

    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::args::Format;
    use crate::ca::tests::home;

    fn into(home: &crate::args::HomeArgs, out: &Path) -> Result<(), Failure> {
        let args = NatsConfigArgs {
            home: home.clone(),
            bus: vec!["127.0.0.1:4222".to_owned()],
            node: "bus-1".to_owned(),
            bus_tls: true,
            bus_store: out.join("store"),
            installed: out.join("installed"),
            out: Some(out.to_owned()),
        };
        config(Screen::of_terminal(Format::Json), &args)
    }

    fn directory(path: &Path, mode: u32) -> PathBuf {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_owned()
    }

    #[test]
    fn a_key_is_not_written_where_somebody_else_gets_it_or_may_put_another_in_its_place() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        let at = |name: &str| scratch.path().join(name);
        let own = directory(&at("own"), 0o700);
        symlink(&own, at("link")).unwrap();
        fs::write(at("file"), "kept").unwrap();
        let full = directory(&at("full"), 0o755);
        fs::write(full.join("another"), "kept").unwrap();
        let mut rows = vec![
            (at("link"), "is a link"),
            (at("link/"), "is a link"),
            (at("file"), "no directory"),
            (directory(&at("group"), 0o770), "(mode 0770)"),
            (directory(&at("world"), 0o1777), "(mode 1777)"),
            (full.clone(), "other things"),
        ];
        let foreign = directory(&at("foreign"), 0o700);
        if std::os::unix::fs::chown(&foreign, Some(4242), Some(4242)).is_ok() {
            rows.push((foreign, "(uid 4242)"));
        }
        for (out, why) in rows {
            let before = fs::symlink_metadata(&out).unwrap().mode();
            let failure = into(&home, &out).unwrap_err();
            let text = failure.to_string();
            assert_eq!(failure.exit, Exit::CannotCreate, "{text}");
            assert!(text.contains(&out.display().to_string()), "{text}");
            assert!(text.contains(why) && text.contains("--out"), "{text}");
            assert!(!out.join(SERVER_FILE).exists(), "{text}");
            assert_eq!(fs::symlink_metadata(&out).unwrap().mode(), before, "{text}");
        }
        assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
        let noted = Ledger::new(&home.gateway_dir).read().unwrap().unwrap();
        assert_eq!(noted.lines.last().unwrap().stage, Stage::Failed);
    }

    #[test]
    fn a_directory_of_one_s_own_that_is_empty_or_a_bus_server_s_is_written_again() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        let out = directory(&scratch.path().join("bus-1"), 0o755);
        for _ in 0..2 {
            into(&home, &out).unwrap();
            assert!(out.join(SERVER_FILE).is_file());
            // As after somebody opened it for a server of another user.
            fs::set_permissions(&out, fs::Permissions::from_mode(0o750)).unwrap();
        }
    }

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
