//! What is read of Podman's own JSON, and what becomes of it. Tolerant as `form` is, and drops the same.

use std::path::PathBuf;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::{ContainerRecord, StartRefusal};
use serde::Deserialize;

use crate::form::{self, Config, HostConfig, SHELL, State};

/// With what the name of each of our runtimes begins.
const OUR_RUNTIMES: &str = "keywheel";
/// What Podman puts behind a runtime's words.
const AFTER: [&str; 3] = [
    ": OCI runtime error",
    ": OCI permission denied",
    ": OCI runtime attempted to invoke a command that was not found",
];
/// When Podman says that something never was.
const NEVER: &str = "0001-01-01T";

/// The part of `info` that says where the storage is.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Installation {
    #[serde(default)]
    store: Store,
}

#[derive(Debug, Default, Deserialize)]
struct Store {
    #[serde(default, rename = "graphRoot")]
    graph_root: PathBuf,
}

impl Installation {
    /// Absolute, or nothing.
    pub(super) fn graph_root(self) -> Option<PathBuf> {
        Some(self.store.graph_root).filter(|root| root.is_absolute())
    }
}

/// One container in full.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "OCIRuntime")]
    runtime: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    static_dir: PathBuf,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    state: State,
    #[serde(default)]
    host_config: HostConfig,
}

impl Inspected {
    /// The directory in which Podman and conmon keep what belongs to the container.
    pub(super) fn directory(self) -> Option<PathBuf> {
        Some(self.static_dir).filter(|directory| directory.is_absolute())
    }

    /// What our runtime said, if it refused the only start there was. Podman keeps these words also when the
    /// container ran later, so of one that ever ran nothing is said.
    fn refused(&self) -> Option<StartRefusal> {
        let is_new = self.state.status == "created" && !self.state.running;
        let never = self.state.started_at.is_empty() || self.state.started_at.starts_with(NEVER);
        let said = (is_new && never).then(|| runtime_words(&self.state.error, &self.runtime))??;
        let refused = form::refusal_in(said)?;
        Some(StartRefusal {
            has_policy: self.host_config.restart_policy.is_one(),
            after: self.state.down_since(&self.created),
            ..refused
        })
    }

    pub(super) fn into_record(self) -> Option<ContainerRecord> {
        let refused = self.refused();
        // Podman's `Running` leaves out those that are paused.
        let running = self.state.running || self.state.paused;
        Some(ContainerRecord {
            facts: ContainerFacts {
                id: ContainerId::parse(&self.id).ok()?,
                name: self.name,
                image_digest: digest(&self.image),
                image_name: self.config.image,
                labels: self.config.labels,
                user: Some(self.config.user.clone()),
            },
            pid: if running { self.state.pid } else { 0 },
            running,
            paused: self.state.paused,
            health: self.state.health(),
            started_at: self.state.started_at,
            runtime: self.runtime,
            placeholders: self.config.env,
            refused,
            health_command: health_command(&self.config.healthcheck.test),
            user: self.config.user,
        })
    }
}

/// An image's id as Docker writes it; of a container without an image nothing.
pub(super) fn digest(image: &str) -> String {
    match image {
        "" => String::new(),
        id if id.starts_with("sha256:") => id.to_owned(),
        id => format!("sha256:{id}"),
    }
}

/// The arguments of the health check, as Podman runs it: with `/bin/sh` whatever shell the image names.
fn health_command(test: &[String]) -> Vec<String> {
    match test.split_first() {
        Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            [SHELL.map(str::to_owned).as_slice(), &[rest.join(" ")]].concat()
        }
        Some((kind, _)) if kind == "NONE" || kind.is_empty() => Vec::new(),
        Some(_) => test.to_vec(),
        None => Vec::new(),
    }
}

/// What a runtime of ours said: Podman writes `NAME: WORDS: OCI runtime error`. Anchored at both ends, so that a
/// program's or a mount's name that holds such words is not taken for it.
fn runtime_words<'a>(error: &'a str, runtime: &str) -> Option<&'a str> {
    if !runtime.starts_with(OUR_RUNTIMES) {
        return None;
    }
    let said = error.strip_prefix(runtime)?.strip_prefix(": ")?;
    AFTER.iter().find_map(|after| said.strip_suffix(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_engine::port::container_host::Health;
    use serde_json::{Value, json};

    fn id() -> String {
        "a".repeat(64)
    }

    fn read(value: Value) -> ContainerRecord {
        let inspected: Inspected = serde_json::from_value(value).unwrap();
        inspected.into_record().unwrap()
    }

    #[test]
    fn podmans_inspect_becomes_a_record() {
        let record = read(json!({
            "Id": id(), "Name": "web", "Image": "b".repeat(64), "OCIRuntime": "keywheel",
            "State": { "Status": "paused", "Running": false, "Paused": true, "Pid": 7,
                "StartedAt": "2026-11-28T12:00:00Z", "Health": { "Status": "healthy" } },
            "Config": { "Image": "localhost/app:1", "Env": ["A=plain", "B={keywheel:x}"],
                "Labels": { "app": "x" }, "User": "app", "Entrypoint": "" },
        }));
        assert!(record.running && record.paused);
        assert_eq!((record.pid, record.health), (7, Health::Healthy));
        assert_eq!(
            record.facts.image_digest,
            format!("sha256:{}", "b".repeat(64))
        );
        assert_eq!(record.facts.image_name, "localhost/app:1");
        assert_eq!(
            (record.runtime.as_str(), record.user.as_str()),
            ("keywheel", "app")
        );
        assert_eq!(record.placeholders, ["B={keywheel:x}"]);
        assert_eq!(digest(""), "");
    }

    #[test]
    fn a_health_check_is_known_as_podman_runs_it() {
        let test = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            health_command(&words)
        };
        assert_eq!(test(&["CMD", "curl", "-f"]), ["curl", "-f"]);
        assert_eq!(
            test(&["CMD-SHELL", "test -f", "/x"]),
            ["/bin/sh", "-c", "test -f /x"]
        );
        assert_eq!(test(&["curl", "-f"]), ["curl", "-f"]);
        assert!(test(&["NONE"]).is_empty() && test(&[]).is_empty());
    }

    #[test]
    fn a_refused_start_is_known_by_our_runtimes_words_and_only_while_it_never_ran() {
        const OURS: &str =
            "keywheel: keywheel: no binding grants secret `a`; next: apply one: OCI runtime error";
        let refused = |runtime: &str, status: &str, started: &str, error: &str| {
            let state = json!({ "Status": status, "StartedAt": started, "Error": error });
            let value = json!({ "Id": id(), "OCIRuntime": runtime, "State": state });
            read(value).refused.is_some()
        };
        let never = "0001-01-01T00:00:00Z";
        assert!(refused("keywheel", "created", never, OURS));
        assert!(!refused("keywheel", "exited", never, OURS));
        assert!(!refused(
            "keywheel",
            "created",
            "2026-11-28T12:00:00Z",
            OURS
        ));
        assert!(!refused("runc", "created", never, OURS));
        for other in [
            "",
            "keywheel: x; next: y: OCI runtime error",
            "keywheel: keywheel: x; next: y",
            "keywheel: runc create failed: \"keywheel: x; next: y\": OCI runtime error",
            "other: keywheel: x; next: y: OCI runtime error",
        ] {
            assert!(!refused("keywheel", "created", never, other), "{other}");
        }
    }

    #[test]
    fn no_answer_of_podman_makes_it_panic() {
        let good = json!({ "Id": id(), "OCIRuntime": "keywheel", "State": { "Status": "created",
            "Error": "keywheel: keywheel: x; next: y: OCI runtime error" } });
        keywheel_testkit::hostile(good.to_string().as_bytes(), |bytes| {
            let inspected = serde_json::from_slice::<Inspected>(bytes).ok();
            drop(inspected.and_then(Inspected::into_record));
            drop(
                serde_json::from_slice::<Installation>(bytes)
                    .ok()
                    .and_then(Installation::graph_root),
            );
        });
    }
}
