//! What lies on this machine: data directory, unseal key, credentials.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use keywheel_core::audit::Role;
use keywheel_core::time::Timestamp;
use keywheel_daemon::{SystemClock, chain};
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::presence::{Fact, MEMORY_FACT};
use keywheel_gateway::views::status::EXPIRY_WARNING;
use keywheel_identity::bundle::Bundle;
use keywheel_identity::life::life_of;
use keywheel_identity::name::PeerName;
use keywheel_schemas::config::Config;
use keywheel_schemas::mirror::TextForm as _;
use keywheel_seal::{MAX_VALUE_BYTES, SecretBytes, memory};

use crate::up::layout;

/// Less room than this and new work is refused soon: the journal's reserve and what ends its use.
const LEAST_FREE_BYTES: u64 = 72 << 20;
/// Less room than this is worth a word.
const LITTLE_FREE_BYTES: u64 = 1 << 30;

/// Room and owner of the data directory; one that is not there yet is made at the start.
pub(super) fn data_directory(directory: &Path) -> Vec<Fact> {
    let shown = directory.display();
    let mut facts = Vec::new();
    match std::fs::metadata(directory) {
        Ok(found) if !found.is_dir() => {
            let next = "name a directory as `data_dir`";
            facts.push(Fact::problem(
                "data",
                format!("{shown} is no directory"),
                next,
            ));
        }
        Ok(found) if found.mode() & 0o077 != 0 => {
            let note = format!(
                "{shown} can be entered by others (mode {:04o})",
                found.mode() & 0o7777
            );
            facts.push(Fact::warning("data", note, format!("chmod 0700 {shown}")));
        }
        Ok(_) => facts.push(Fact::ok("data", format!("{shown} is private"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let note = format!("{shown} is not there yet; the first start makes it");
            facts.push(Fact::ok("data", note));
        }
        Err(error) => {
            let next = "run doctor as the user that runs the service";
            facts.push(Fact::problem("data", format!("{shown}: {error}"), next));
        }
    }
    facts.push(room(directory));
    facts
}

fn room(directory: &Path) -> Fact {
    // What is not there yet will lie where its parent is.
    let there = directory.ancestors().find(|path| path.exists());
    let there = there.unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(found) => free(found.f_bavail.saturating_mul(found.f_frsize), there),
        Err(error) => {
            let note = format!("{}: {error}", there.display());
            Fact::unknown("disk", note, "look at the file system")
        }
    }
}

/// Judges free room.
pub(super) fn free(bytes: u64, at: &Path) -> Fact {
    let note = format!("{} MiB are free at {}", bytes >> 20, at.display());
    let next = format!("free some room, at least {} MiB", LITTLE_FREE_BYTES >> 20);
    match bytes {
        _ if bytes < LEAST_FREE_BYTES => Fact::problem("disk", note, next),
        _ if bytes < LITTLE_FREE_BYTES => Fact::warning("disk", note, next),
        _ => Fact::ok("disk", note),
    }
}

/// That people, or a key service, unseal this store-sync, so that it needs no key file.
pub(super) fn seal_file(config: &Config, role: Option<Role>) -> Option<Fact> {
    let directory = config.apart.identity_dir.as_ref();
    let path = directory.filter(|_| role == Some(Role::StoreSync))?;
    let path = path.join(keywheel_store_sync::seal::file::NAME);
    path.exists().then(|| {
        let note = format!(
            "{} is there: it says what opens the cache at each start, or `keywheel unseal` does",
            path.display()
        );
        Fact::ok("unseal key", note)
    })
}

/// The unseal key's file: there, closed to others, apart from the data. `is_made` marks a `keywheel up`, whose first
/// start makes it.
pub(super) fn unseal_key(path: &Path, data_dir: &Path, is_made: bool) -> Fact {
    let found = match is_made {
        true => layout::has_unseal_key(path, data_dir),
        false => layout::present_unseal_key(path, data_dir).map(|_| true),
    };
    match found {
        Ok(true) => Fact::ok(
            "unseal key",
            format!("{} is there and closed to others", path.display()),
        ),
        Ok(false) => Fact::ok(
            "unseal key",
            format!(
                "{} is not there yet; the first start makes it",
                path.display()
            ),
        ),
        Err(error) => Fact::problem("unseal key", error.what, error.next),
    }
}

/// A service's or host's credentials.
pub(super) fn service_credentials(directory: &Path, role: Option<Role>) -> Vec<Fact> {
    let next = "name the directory that `keywheel init` or `keywheel-injector join` made as `identity_dir`";
    let (_, identity) = match Bundle::read_speaker(directory) {
        Ok(read) => read,
        Err(error) => return vec![Fact::problem("credentials", chain(&error), next)],
    };
    let name = &identity.name;
    let is_right = match (role, name) {
        (None, _) | (Some(Role::Injector), PeerName::Host(_)) => true,
        (Some(wanted), PeerName::Service(found)) => wanted == *found,
        _ => false,
    };
    let shown = format!(
        "{} in {}",
        name.uri(identity.deployment),
        directory.display()
    );
    let whose = match is_right {
        true => Fact::ok("credentials", shown),
        false => {
            let next = "name this service's own directory as `identity_dir`: no service speaks for another";
            Fact::problem(
                "credentials",
                format!("they are of another role: {shown}"),
                next,
            )
        }
    };
    vec![whose, life(directory)]
}

/// An operator's credentials.
pub(super) fn operator_credentials(directory: &Path) -> Vec<Fact> {
    let next =
        "name an operator's directory with --identity; `keywheel init` made it as operators/NAME";
    match Bundle::read(directory) {
        Err(error) => vec![Fact::problem("operator", chain(&error), next)],
        Ok(bundle) if bundle.identity.is_some() => {
            let note = format!("{} holds a service's credentials", directory.display());
            vec![Fact::problem("operator", note, next)]
        }
        Ok(_) => vec![
            Fact::ok(
                "operator",
                format!("credentials in {}", directory.display()),
            ),
            life(directory),
        ],
    }
}

fn life(directory: &Path) -> Fact {
    let Some(life) = life_of(directory) else {
        let note = format!("no certificate can be read in {}", directory.display());
        return Fact::problem("certificate", note, "issue the credentials again");
    };
    judge_life(life, SystemClock::new().now())
}

/// Judges a certificate's begin and end.
pub(super) fn judge_life((begin, end): (Timestamp, Timestamp), now: Timestamp) -> Fact {
    if now < begin {
        let note = format!("it is not valid before {}", begin.text());
        return Fact::problem("certificate", note, "set this machine's clock");
    }
    let left = end.since(now);
    let note = format!("it ends at {}", end.text());
    if left.is_zero() {
        let note = format!("it ended at {}", end.text());
        let next = "issue the credentials again: `keywheel init` for services and people, a new join token for a host; and check the clock";
        return Fact::problem("certificate", note, next);
    }
    if left < EXPIRY_WARNING {
        return Fact::warning(
            "certificate",
            note,
            "a running service renews it; look at its log",
        );
    }
    Fact::ok("certificate", note)
}

/// Whether keys and values are locked in memory. It is this process that tries, so the limit is that of whoever runs
/// doctor: a unit or a container has its own, which `keywheel status` tells.
pub(super) fn locked_memory() -> Fact {
    let mut state = memory::prepare();
    if memory::plain(&state).is_none() {
        // A service has as much at once when values of the largest size come.
        let value = SecretBytes::from(vec![0; MAX_VALUE_BYTES]);
        state = memory::state();
        drop(value);
    }
    match memory::plain(&state) {
        None => Fact::ok(MEMORY_FACT, memory::kept(&state)),
        Some(note) => Fact::warning(MEMORY_FACT, note, memory::NEXT_STEP),
    }
}
