//! What Podman 4 keeps of a container in its database, for the time of its creation.
//!
//! While Podman creates a container it holds that container's lock, and each call about it waits for that. Owns one
//! file's name and the fields read of one value; the value is written once, when the container is made, and never
//! changes but for a rename.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::{ContainerRecord, Health};
use keywheel_engine::port::{ErrorKind, PortError};
use serde::Deserialize;

use super::form::digest;
use crate::bolt;
use crate::form::or_default;

/// The database, below the storage's root.
pub(super) const FILE: &str = "libpod/bolt_state.db";
/// How often its lock is tried, and how long is waited in between: Podman holds it for some milliseconds.
const TRIES: usize = 200;
const BETWEEN: Duration = Duration::from_millis(10);

/// A container's configuration.
#[derive(Debug, Deserialize)]
struct Kept {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "rootfsImageID")]
    image: String,
    #[serde(default, rename = "rootfsImageName")]
    image_name: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    runtime: String,
}

impl Kept {
    /// Not how it is: only who and what.
    fn into_record(self) -> Option<ContainerRecord> {
        Some(ContainerRecord {
            facts: ContainerFacts {
                id: ContainerId::parse(&self.id).ok()?,
                name: self.name,
                image_digest: digest(&self.image),
                image_name: self.image_name,
                labels: self.labels,
                user: Some(self.user.clone()),
            },
            pid: 0,
            running: false,
            paused: false,
            started_at: String::new(),
            runtime: self.runtime,
            health: Health::None,
            placeholders: Vec::new(),
            refused: None,
            health_command: Vec::new(),
            user: self.user,
        })
    }
}

/// Reads a container's record; `None` when Podman has none. Blocks.
pub(super) fn read(
    graph_root: &Path,
    id: &ContainerId,
) -> Result<Option<ContainerRecord>, PortError> {
    let path = graph_root.join(FILE);
    let file = open(&path)?;
    let place: [&[u8]; 2] = [b"ctr", id.as_str().as_bytes()];
    let found = bolt::value(&file, &place, b"config").map_err(|error| {
        PortError::caused(
            ErrorKind::Corrupt,
            format!("Podman's database {} is not understood", path.display()),
            error,
        )
    })?;
    let Some(text) = found else { return Ok(None) };
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| {
        PortError::caused(
            ErrorKind::Corrupt,
            "Podman's record of a container is not understood",
            error,
        )
    })?;
    Ok(kept.into_record().filter(|record| record.facts.id == *id))
}

/// Opens it under the shared lock, which goes with the file.
fn open(path: &Path) -> Result<File, PortError> {
    let failed = |error: std::io::Error| {
        let text = format!(
            "cannot read Podman's database {}, from which a container under creation is known (Podman 4 keeps it there)",
            path.display()
        );
        PortError::caused(ErrorKind::Unavailable, text, error)
    };
    let file = File::open(path).map_err(failed)?;
    for _ in 0..TRIES {
        match file.try_lock_shared() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    let text = format!(
        "Podman holds its database {} for too long; look for a podman that hangs",
        path.display()
    );
    Err(PortError::new(ErrorKind::Unavailable, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bolt::tests::of_container;

    fn id() -> ContainerId {
        ContainerId::parse(&"a".repeat(64)).unwrap()
    }

    fn root(database: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("libpod")).unwrap();
        std::fs::write(root.path().join(FILE), database).unwrap();
        root
    }

    #[test]
    fn a_container_is_read_from_the_database_with_its_labels() {
        let config = serde_json::json!({
            "spec": { "process": { "env": ["A=b"] } }, "id": id().as_str(), "name": "web",
            "rootfsImageID": "c".repeat(64), "rootfsImageName": "localhost/app:1",
            "labels": { "app": "x" }, "user": "app", "runtime": "keywheel", "lockID": 4,
        });
        let root = root(&of_container(id().as_str(), config.to_string().as_bytes()));
        let record = read(root.path(), &id()).unwrap().unwrap();
        assert_eq!(record.facts.name, "web");
        assert_eq!(
            record.facts.image_digest,
            format!("sha256:{}", "c".repeat(64))
        );
        assert_eq!(record.facts.image_name, "localhost/app:1");
        assert_eq!(
            record.facts.labels.get("app").map(String::as_str),
            Some("x")
        );
        assert_eq!(record.runtime, "keywheel");
        let other = ContainerId::parse(&"b".repeat(64)).unwrap();
        assert!(read(root.path(), &other).unwrap().is_none());
    }

    #[test]
    fn a_database_that_is_not_there_broken_or_held_is_an_error() {
        let nowhere = tempfile::tempdir().unwrap();
        let error = read(nowhere.path(), &id()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let broken = root(b"not a database");
        let error = read(broken.path(), &id()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        let mute = root(&of_container(id().as_str(), b"{"));
        assert_eq!(
            read(mute.path(), &id()).unwrap_err().kind,
            ErrorKind::Corrupt
        );
        let held = root(&of_container(id().as_str(), b"{}"));
        let writer = File::open(held.path().join(FILE)).unwrap();
        writer.lock().unwrap();
        let error = read(held.path(), &id()).unwrap_err();
        assert!(error.text.contains("for too long"), "{}", error.text);
    }
}
