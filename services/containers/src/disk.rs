//! The engine's own files about a container, for the moments in which it does not answer.
//!
//! While dockerd starts it restarts containers before it serves its API, so a list hangs for the
//! whole create. Owns two file names and nothing of their content but what `form` reads.

use std::path::{Path, PathBuf};

use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::ContainerRecord;
use keywheel_engine::port::{ErrorKind, PortError};

use crate::form::{HostConfig, Inspected};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Where the engine's files about containers lie.
pub(crate) fn folder(data_root: &Path) -> PathBuf {
    data_root.join("containers")
}

/// Reads a container's record; `None` when the engine has no files about it. Blocks.
pub(crate) fn read(
    data_root: &Path,
    id: &ContainerId,
) -> Result<Option<ContainerRecord>, PortError> {
    let folder = folder(data_root).join(id.as_str());
    let Some(text) = read_file(&folder.join("config.v2.json"))? else {
        return Ok(None);
    };
    let mut inspected: Inspected = serde_json::from_slice(&text).map_err(|error| {
        PortError::caused(
            ErrorKind::Corrupt,
            "the engine's file about a container is not understood",
            error,
        )
    })?;
    if let Some(text) = read_file(&folder.join("hostconfig.json"))? {
        inspected.host_config = serde_json::from_slice::<HostConfig>(&text).unwrap_or_default();
    }
    Ok(inspected
        .into_record()
        .filter(|record| record.facts.id == *id))
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, PortError> {
    let failed = |error| {
        PortError::caused(
            ErrorKind::Unavailable,
            format!("cannot read {}", path.display()),
            error,
        )
    };
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_FILE_BYTES => Err(PortError::new(
            ErrorKind::Corrupt,
            format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display()),
        )),
        Ok(_) => std::fs::read(path).map(Some).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, id: &str, name: &str, text: &str) {
        let folder = root.join("containers").join(id);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn a_container_is_read_from_its_two_files() {
        let root = tempfile::tempdir().unwrap();
        let id = "b".repeat(64);
        write(
            root.path(),
            &id,
            "config.v2.json",
            &format!(
                r#"{{"ID":"{id}","Name":"/web","Image":"sha256:5","Config":{{"Image":"app","User":"1000:1000","Labels":{{"a":"b"}}}},"State":{{"Running":false}}}}"#
            ),
        );
        write(
            root.path(),
            &id,
            "hostconfig.json",
            r#"{"Runtime":"keywheel"}"#,
        );
        let record = read(root.path(), &ContainerId::parse(&id).unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(record.runtime, "keywheel");
        assert_eq!(record.facts.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(record.facts.user.as_deref(), Some("1000:1000"));
    }

    #[test]
    fn a_container_without_files_is_none_and_a_broken_file_is_corrupt() {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::parse(&"c".repeat(64)).unwrap();
        assert!(read(root.path(), &id).unwrap().is_none());
        write(root.path(), id.as_str(), "config.v2.json", "{");
        assert_eq!(read(root.path(), &id).unwrap_err().kind, ErrorKind::Corrupt);
    }
}
