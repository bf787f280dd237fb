//! Whose turn it is to restart in each service, and what services failed with, over the injector's own end.
//!
//! Owns what that looks like and its file in the run directory; decides nothing. Ids, digests, names of services
//! and version numbers; never a value. It is of one boot, as every container that runs is: after a reboot all
//! start with what is current, and nothing has to restart.
//!
//! Invariants: at most [`MAX_KEPT`] of each; a file that is not understood counts as empty and is said.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use keywheel_core::id::{BindingId, ContainerId};
use serde::{Deserialize, Serialize};

use crate::model::Service;

/// Turns, and failures, that are kept.
pub(crate) const MAX_KEPT: usize = 1024;
/// Bindings that are kept of one turn.
const MAX_DUE: usize = 64;
/// Longest name of a service that is kept; it is the text of a label.
const MAX_SERVICE_BYTES: usize = 512;
/// Name of the file in the state directory; no container is called so.
const FILE: &str = "turns.json";
/// Largest file that is read: all of the above at its limit, and room.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// The restart of one container, as one of its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) service: Service,
    /// What it restarts for.
    pub(crate) due: Vec<(BindingId, u64)>,
}

/// Versions that a container of the service did not run well with.
pub(crate) type Failures = BTreeMap<(Service, BindingId), u64>;

/// See the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    /// By the container whose turn it is.
    pub(crate) turns: BTreeMap<ContainerId, Turn>,
    pub(crate) failed: Failures,
}

/// The same in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rows {
    turns: Vec<TurnRow>,
    failed: Vec<FailedRow>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TurnRow {
    container: String,
    image: String,
    service: String,
    due: Vec<(String, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FailedRow {
    image: String,
    service: String,
    binding: String,
    version: u64,
}

/// Whether a service can be kept.
fn fits((image, service): &Service) -> bool {
    image.len() <= MAX_SERVICE_BYTES && service.len() <= MAX_SERVICE_BYTES
}

impl Rows {
    fn of(kept: &Turns) -> Self {
        let turn = |(id, turn): (&ContainerId, &Turn)| TurnRow {
            container: id.to_string(),
            image: turn.service.0.clone(),
            service: turn.service.1.clone(),
            due: turn
                .due
                .iter()
                .take(MAX_DUE)
                .map(|(binding, version)| (binding.to_string(), *version))
                .collect(),
        };
        let failed = |((service, binding), version): (&(Service, BindingId), &u64)| FailedRow {
            image: service.0.clone(),
            service: service.1.clone(),
            binding: binding.to_string(),
            version: *version,
        };
        let turns = kept.turns.iter().filter(|(_, turn)| fits(&turn.service));
        let failures = kept.failed.iter().filter(|((service, _), _)| fits(service));
        Self {
            turns: turns.map(turn).take(MAX_KEPT).collect(),
            failed: failures.map(failed).take(MAX_KEPT).collect(),
        }
    }

    fn parse(self) -> Turns {
        let due = |(binding, version): (String, u64)| {
            let binding = BindingId::parse(&binding).ok()?;
            Some((binding, version))
        };
        let turn = |row: TurnRow| {
            let id = ContainerId::parse(&row.container).ok()?;
            let turn = Turn {
                service: (row.image, row.service),
                due: row.due.into_iter().filter_map(due).collect(),
            };
            Some((id, turn))
        };
        let failed = |row: FailedRow| {
            let binding = BindingId::parse(&row.binding).ok()?;
            Some((((row.image, row.service), binding), row.version))
        };
        Turns {
            turns: self.turns.into_iter().filter_map(turn).collect(),
            failed: self.failed.into_iter().filter_map(failed).collect(),
        }
    }
}

/// Writes the file, whole or not at all. Blocks.
pub(crate) fn save(folder: &Path, kept: &Turns) -> io::Result<()> {
    let temp = folder.join(format!(".{FILE}.tmp"));
    std::fs::write(&temp, serde_json::to_vec(&Rows::of(kept))?)?;
    std::fs::rename(temp, folder.join(FILE))
}

/// What an earlier run wrote. Blocks.
pub(crate) fn load(folder: &Path) -> Turns {
    let mut text = Vec::new();
    let read = std::fs::File::open(folder.join(FILE))
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    if read.is_err() {
        return Turns::default();
    }
    match serde_json::from_slice::<Rows>(&text) {
        Ok(rows) => rows.parse(),
        Err(_) => {
            tracing::warn!("file of restarts under way not understood");
            Turns::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(number: u8) -> BindingId {
        BindingId::from_bytes([number; 16])
    }

    fn service(name: &str) -> Service {
        ("sha256:1".to_owned(), name.to_owned())
    }

    fn id(number: usize) -> ContainerId {
        ContainerId::parse(&format!("{number:064x}")).unwrap()
    }

    fn turn(name: &str, due: usize) -> Turn {
        Turn {
            service: service(name),
            due: (0..due).map(|_| (binding(1), u64::MAX)).collect(),
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_what_is_not_understood_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()), Turns::default());
        let kept = Turns {
            turns: BTreeMap::from([(id(1), turn("web", 2))]),
            failed: BTreeMap::from([((service("web"), binding(2)), 7)]),
        };
        save(folder.path(), &kept).unwrap();
        assert_eq!(load(folder.path()), kept);
        assert!(crate::state::load_all(folder.path()).unwrap().is_empty());
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(load(folder.path()), Turns::default());
    }

    #[test]
    fn at_its_limits_it_can_be_read_and_what_is_beyond_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let longest = "s".repeat(MAX_SERVICE_BYTES);
        let failure = |number: usize| {
            let name = format!("{number:0width$}", width = MAX_SERVICE_BYTES);
            ((service(&name), binding(1)), u64::MAX)
        };
        let kept = Turns {
            turns: (0..=MAX_KEPT)
                .map(|number| (id(number), turn(&longest, MAX_DUE + 1)))
                .collect(),
            failed: (0..=MAX_KEPT).map(failure).collect(),
        };
        save(folder.path(), &kept).unwrap();
        let loaded = load(folder.path());
        assert_eq!(loaded.turns.len(), MAX_KEPT);
        assert_eq!(loaded.failed.len(), MAX_KEPT);
        assert!(loaded.turns.values().all(|turn| turn.due.len() == MAX_DUE));

        let too_long = format!("{longest}s");
        let kept = Turns {
            turns: BTreeMap::from([(id(1), turn(&too_long, 1))]),
            failed: BTreeMap::from([((service(&too_long), binding(1)), 1)]),
        };
        save(folder.path(), &kept).unwrap();
        assert_eq!(load(folder.path()), Turns::default());
    }
}
