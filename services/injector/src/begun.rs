//! Which ordered restarts were begun, and for which incarnation of their containers, over the injector's own end.
//!
//! Owns what that looks like and its file in the run directory; decides nothing. Ids, numbers and the engine's times;
//! never a value. A file that is not understood counts as empty and is said: what it named is restarted once more.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use keywheel_core::host::MAX_ORDERS;
use keywheel_core::id::ContainerId;
use serde::{Deserialize, Serialize};

/// Name of the file in the state directory; no container is called so.
const FILE: &str = "orders.json";
/// Largest file that is read: all orders at their limit, and room.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A restart that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The order's number.
    pub(crate) number: u64,
    /// When the incarnation began that it is for, as the engine prints it.
    pub(crate) started_at: String,
}

/// The same in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    container: String,
    number: u64,
    started_at: String,
}

/// Writes the file, whole or not at all. Blocks.
pub(crate) fn save(folder: &Path, begun: &BTreeMap<ContainerId, Begun>) -> io::Result<()> {
    let row = |(id, one): (&ContainerId, &Begun)| Row {
        container: id.to_string(),
        number: one.number,
        started_at: one.started_at.clone(),
    };
    let rows: Vec<Row> = begun.iter().take(MAX_ORDERS).map(row).collect();
    let temp = folder.join(format!(".{FILE}.tmp"));
    std::fs::write(&temp, serde_json::to_vec(&rows)?)?;
    std::fs::rename(temp, folder.join(FILE))
}

/// What an earlier run wrote. Blocks.
pub(crate) fn load(folder: &Path) -> BTreeMap<ContainerId, Begun> {
    let mut text = Vec::new();
    let read = std::fs::File::open(folder.join(FILE))
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    if read.is_err() {
        return BTreeMap::new();
    }
    let Ok(rows) = serde_json::from_slice::<Vec<Row>>(&text) else {
        tracing::warn!("file of ordered restarts not understood");
        return BTreeMap::new();
    };
    let begun = |row: Row| {
        let id = ContainerId::parse(&row.container).ok()?;
        let begun = Begun {
            number: row.number,
            started_at: row.started_at,
        };
        Some((id, begun))
    };
    rows.into_iter().filter_map(begun).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_also_at_its_limit_and_what_is_not_understood_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).is_empty());
        let one = |number: usize| {
            let id = ContainerId::parse(&format!("{number:064x}")).unwrap();
            let begun = Begun {
                number: u64::MAX,
                started_at: "2026-01-04T02:00:00.000000001Z".to_owned(),
            };
            (id, begun)
        };
        let all: BTreeMap<ContainerId, Begun> = (0..MAX_ORDERS).map(one).collect();
        save(folder.path(), &all).unwrap();
        assert_eq!(load(folder.path()), all);
        assert!(crate::state::load_all(folder.path()).unwrap().is_empty());
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(load(folder.path()).is_empty());
    }
}
