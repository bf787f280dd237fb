//! How an engine tells what a container is while it creates it, and whether it hands annotations on: what `status`
//! says of that.
//!
//! Owns the question for the engine's version and the words. It reads nothing about any container.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_engine::port::container_host::{CreateFacts, Lack};
use keywheel_engine::port::{ErrorKind, PortError};
use serde::Deserialize;

use crate::docker::parse;
use crate::wire;

/// How long the question may take: a beat asks it, and is not to become late.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// The version of Docker's API from which containers have annotations (Docker 24).
const ANNOTATIONS: (u32, u32) = (1, 43);

/// What an engine says of its version.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Version {
    #[serde(default, rename = "Version")]
    pub(crate) engine: String,
    #[serde(default, rename = "ApiVersion")]
    pub(crate) api: String,
}

impl Version {
    /// Asks for it, as Docker and Podman answer.
    pub(crate) async fn ask(socket: &Path) -> Result<Self, PortError> {
        let body = wire::read(socket, "/version").await?;
        parse(&body.unwrap_or_default())
    }

    /// Whether Docker of this version hands annotations to OCI runtimes.
    fn passes_annotations(&self) -> bool {
        let parts = self.api.split_once('.');
        let parsed: Option<(u32, u32)> =
            parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        parsed.is_some_and(|api| api >= ANNOTATIONS)
    }
}

/// Docker, whose files lie below this directory.
pub(crate) fn of_docker(version: &Version, containers: &Path, is_there: bool) -> CreateFacts {
    let folder = containers.display();
    CreateFacts {
        engine: format!("Docker {}", version.engine),
        source: format!("its list of containers, and from {folder} while it does not answer"),
        lack: (!is_there).then(|| Lack {
            is_total: false,
            note: format!(
                "{folder} is not there: what Docker starts while it does not answer, as at its own start, is refused and comes back later"
            ),
            next: "run the injector where it sees Docker's own files, under the path that `docker info` calls Docker Root Dir"
                .to_owned(),
        }),
        passes_annotations: version.passes_annotations(),
    }
}

/// Podman, whose database is this file.
pub(crate) fn of_podman(version: &Version, database: &Path, is_there: bool) -> CreateFacts {
    let file = database.display();
    CreateFacts {
        engine: format!("Podman {}", version.engine),
        source: format!("its database {file}"),
        lack: (!is_there).then(|| Lack {
            is_total: true,
            note: format!("{file} is not there: what starts under the runtime is refused"),
            next: "use Podman 4 with `database_backend = \"boltdb\"`, and run the injector where it sees Podman's storage"
                .to_owned(),
        }),
        passes_annotations: true,
    }
}

/// containerd, whose clients write a container's whole configuration.
pub(crate) fn of_containerd() -> CreateFacts {
    CreateFacts {
        engine: "containerd".to_owned(),
        source: "its record of the container, for which it answers meanwhile".to_owned(),
        lack: None,
        passes_annotations: true,
    }
}

/// Whether something is at a path.
pub(crate) async fn is_there(path: PathBuf) -> Result<bool, PortError> {
    let looked = tokio::task::spawn_blocking(move || path.exists()).await;
    looked.map_err(|error| {
        let text = "the engine's files were not looked at";
        PortError::caused(ErrorKind::Unavailable, text, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(engine: &str, api: &str) -> Version {
        let text = serde_json::json!({ "Version": engine, "ApiVersion": api, "Os": "linux" });
        parse(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn docker_hands_annotations_on_from_24_on_and_podman_does() {
        for (api, passes) in [
            ("1.41", false),
            ("1.42", false),
            ("1.43", true),
            ("1.55", true),
            ("1.9", false),
            ("2.0", true),
            ("", false),
            ("new", false),
        ] {
            let found = of_docker(&version("x", api), Path::new("/c"), true);
            assert_eq!(found.passes_annotations, passes, "{api}");
        }
        let found = of_podman(&version("4.3.1", "1.41"), Path::new("/d"), true);
        assert!(found.passes_annotations);
        assert_eq!(found.engine, "Podman 4.3.1");
        assert!(of_containerd().passes_annotations);
    }

    #[test]
    fn files_that_are_not_there_are_named_with_what_follows() {
        let known = version("20.10.24", "1.41");
        let place = Path::new("/var/lib/docker/containers");
        assert_eq!(of_docker(&known, place, true).lack, None);
        let lack = of_docker(&known, place, false).lack.unwrap();
        assert!(!lack.is_total && lack.note.contains("/var/lib/docker/containers"));
        let place = Path::new("/s/libpod/bolt_state.db");
        assert_eq!(of_podman(&known, place, true).lack, None);
        let lack = of_podman(&known, place, false).lack.unwrap();
        assert!(lack.is_total && lack.note.contains("bolt_state.db is not there"));
        assert!(lack.next.contains("boltdb"), "{}", lack.next);
    }

    #[tokio::test]
    async fn a_place_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_there(folder.path().to_owned()).await.unwrap());
        assert!(!is_there(folder.path().join("no")).await.unwrap());
    }
}
