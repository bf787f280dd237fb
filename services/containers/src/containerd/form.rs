//! What is read of containerd's messages, and what becomes of it.
//!
//! Only the fields that are used, by their numbers in containerd's published definitions (API v1). Of a container's
//! specification the env entries with a placeholder and the user are kept.

use std::collections::HashMap;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::{ContainerRecord, Health};
use serde::Deserialize;

use crate::form::{or_default, placeholders_only};

/// The label that says which image a container without one counts as, by its config digest.
const IMAGE_LABEL: &str = "dev.keywheel.image";
/// Where nerdctl keeps a container's name.
const NAME_LABEL: &str = "nerdctl/name";
/// With what a config digest begins.
const DIGEST: &str = "sha256:";
/// States of a task.
const RUNNING: i32 = 2;
const PAUSED: i32 = 4;
const PAUSING: i32 = 5;

/// A question or an answer without content.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Nothing {}

/// A container's id, as containers are asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Id {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// The same, as tasks are asked for and told of.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TaskId {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Kill {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(uint32, tag = "3")]
    pub(super) signal: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Namespace {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    pub(super) namespaces: Vec<Namespace>,
}

/// Something of a kind that its own field names.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Runtime {
    #[prost(message, optional, tag = "2")]
    options: Option<Any>,
}

/// The options of the runc shim.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    #[prost(string, tag = "6")]
    binary_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    image: String,
    #[prost(message, optional, tag = "4")]
    runtime: Option<Runtime>,
    #[prost(message, optional, tag = "5")]
    spec: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Task {
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(uint32, tag = "3")]
    pid: u32,
    #[prost(int32, tag = "4")]
    status: i32,
}

impl Task {
    /// A paused one runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.status, RUNNING | PAUSED | PAUSING)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TaskAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) process: Option<Task>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Tasks {
    #[prost(message, repeated, tag = "1")]
    pub(super) tasks: Vec<Task>,
}

/// An event, with its kind's path.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Envelope {
    #[prost(string, tag = "3")]
    pub(super) topic: String,
    #[prost(message, optional, tag = "4")]
    pub(super) event: Option<Any>,
}

/// Which process of a container ended: its first has the container's id.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Exit {
    #[prost(string, tag = "2")]
    pub(super) id: String,
}

/// The part of a specification that is kept.
#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default, deserialize_with = "or_default")]
    process: Process,
}

#[derive(Default, Deserialize)]
struct Process {
    #[serde(default, deserialize_with = "placeholders_only")]
    env: Vec<String>,
    #[serde(default)]
    user: Option<ProcessUser>,
}

/// As whom the first process runs: containerd looked its name up already.
#[derive(Deserialize)]
struct ProcessUser {
    #[serde(default)]
    uid: u32,
}

/// What is known of a container and, when there is one, its task.
pub(super) fn record(container: Container, task: Option<Task>) -> Option<ContainerRecord> {
    let id = ContainerId::parse(&container.id).ok()?;
    let task = task.filter(Task::is_running);
    let pid = task.as_ref().and_then(|task| i32::try_from(task.pid).ok());
    let pid = pid.unwrap_or_default();
    let spec = container.spec.unwrap_or_default().value;
    let spec: Spec = serde_json::from_slice(&spec).unwrap_or_default();
    let name = container.labels.get(NAME_LABEL);
    Some(ContainerRecord {
        pid,
        running: task.is_some(),
        paused: task.is_some_and(|task| task.status != RUNNING),
        started_at: started_at(pid),
        runtime: runtime(container.runtime),
        health: Health::None,
        placeholders: spec.process.env,
        refused: None,
        health_command: Vec::new(),
        user: String::new(),
        facts: ContainerFacts {
            name: name.map_or_else(|| id.short().to_owned(), Clone::clone),
            image_digest: image_digest(&container.image, container.labels.get(IMAGE_LABEL)),
            image_name: container.image,
            labels: container.labels.into_iter().collect(),
            user: spec.process.user.map(|user| user.uid.to_string()),
            id,
        },
    })
}

/// Kubernetes names images by their config digest. A container without an image has the one that its label says; of
/// any other image the label says nothing.
fn image_digest(image: &str, label: Option<&String>) -> String {
    let said = match image {
        "" => label.map_or("", String::as_str),
        image => image,
    };
    if said.starts_with(DIGEST) {
        said.to_owned()
    } else {
        String::new()
    }
}

/// The runtime that the shim calls, by its program's name; `runc` unless told otherwise.
fn runtime(runtime: Option<Runtime>) -> String {
    let options = runtime.and_then(|runtime| runtime.options);
    let options = options.unwrap_or_default().value;
    let program = <RuncOptions as prost::Message>::decode(options.as_slice());
    let program = program
        .map(|options| options.binary_name)
        .unwrap_or_default();
    match program.rsplit('/').next() {
        None | Some("") => "runc".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// containerd keeps no such time: the first process and when it began, by the kernel's count.
fn started_at(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let ticks = fields.and_then(|fields| fields.split_ascii_whitespace().nth(19));
    match ticks {
        Some(ticks) if pid > 0 => format!("{pid} at {ticks}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn container() -> Container {
        let options = RuncOptions {
            binary_name: "/usr/local/libexec/keywheel/keywheel".to_owned(),
        };
        let spec = serde_json::json!({ "process": { "env": ["A=b", "B={keywheel:x}"] } });
        Container {
            id: "a".repeat(64),
            labels: HashMap::from([
                ("app".to_owned(), "x".to_owned()),
                (IMAGE_LABEL.to_owned(), "sha256:1".to_owned()),
            ]),
            image: String::new(),
            runtime: Some(Runtime {
                options: Some(Any {
                    value: options.encode_to_vec(),
                }),
            }),
            spec: Some(Any {
                value: spec.to_string().into_bytes(),
            }),
        }
    }

    fn task(status: i32) -> Task {
        Task {
            id: "a".repeat(64),
            pid: std::process::id(),
            status,
        }
    }

    #[test]
    fn a_container_and_its_task_become_a_record() {
        let found = record(container(), Some(task(RUNNING))).unwrap();
        assert!(found.running && !found.paused && !found.started_at.is_empty());
        assert_eq!(found.runtime, "keywheel");
        assert_eq!(found.placeholders, ["B={keywheel:x}"]);
        assert_eq!(found.facts.image_digest, "sha256:1");
        assert_eq!(found.facts.name, "a".repeat(12));
        assert!(record(container(), Some(task(PAUSED))).unwrap().paused);
        for down in [None, Some(task(1)), Some(task(3))] {
            let found = record(container(), down).unwrap();
            assert_eq!(
                (found.running, found.pid, found.started_at.as_str()),
                (false, 0, "")
            );
        }
    }

    #[test]
    fn a_label_names_no_image_of_a_container_that_has_one() {
        let mut named = container();
        named.image = "docker.io/library/app:1".to_owned();
        let found = record(named, None).unwrap();
        assert_eq!(found.facts.image_digest, "");
        let mut kubernetes = container();
        kubernetes.image = "sha256:2".to_owned();
        let found = record(kubernetes, None).unwrap();
        assert_eq!(found.facts.image_digest, "sha256:2");
    }

    #[test]
    fn a_short_id_is_no_container_and_no_runtime_is_runc() {
        let mut short = container();
        short.id = "web".to_owned();
        assert!(record(short, None).is_none());
        let mut plain = container();
        plain.runtime = None;
        assert_eq!(record(plain, None).unwrap().runtime, "runc");
    }

    #[test]
    fn no_answer_of_containerd_makes_it_panic() {
        let good = container().encode_to_vec();
        keywheel_testkit::hostile(&good, |bytes| {
            let container = Container::decode(bytes).ok();
            drop(container.and_then(|container| record(container, None)));
            drop(Envelope::decode(bytes));
        });
    }
}
