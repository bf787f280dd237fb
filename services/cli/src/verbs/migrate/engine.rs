//! Docker's engine as `migrate` needs it: a few calls over its socket, each bounded in time, with the
//! engine's own words when it says no.
//!
//! Invariant: nobody gets a container's variables as part of anything else; they are taken out of an
//! answer while it is read. It decides nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use zeroize::Zeroize as _;

use super::take::Environment;
use crate::exit::{Exit, Failure};
use crate::http::{self, Ask, Fault, escape};
use crate::output::tame;
use crate::setup::dockerd;

/// How long an answer to a look may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a stop or start may take: a container's own stop timeout is within.
const ACTION: Duration = Duration::from_secs(900);
/// Most characters of what the engine says against something.
const MAX_COMPLAINT_CHARS: usize = 2000;

/// The engine of this machine.
#[derive(Debug)]
pub(super) struct Engine {
    socket: PathBuf,
}

/// A container as the engine describes it, apart from its variables.
#[derive(Debug)]
pub(super) struct Inspected {
    /// Everything; `Config.Env` is null.
    pub(super) about: Value,
    /// The variables.
    pub(super) env: Environment,
}

/// A version of the engine's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Api(pub(super) u32, pub(super) u32);

/// A path that differs from the image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Change {
    /// Where.
    pub(super) path: String,
}

/// Whom a container shares something with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Neighbour {
    /// Its name, with a slash before it.
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    host_config: Shares,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shares {
    #[serde(default)]
    network_mode: Option<String>,
    #[serde(default)]
    pid_mode: Option<String>,
    #[serde(default)]
    ipc_mode: Option<String>,
    #[serde(default)]
    links: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    api_version: String,
}

#[derive(Debug, Default, Deserialize)]
struct Complaint {
    #[serde(default)]
    message: String,
}

impl Neighbour {
    /// What it takes from the container with this id and name, in words.
    pub(super) fn takes_from(&self, id: &str, name: &str) -> Option<&'static str> {
        let means = |mode: &Option<String>| {
            let other = mode
                .as_deref()
                .and_then(|mode| mode.strip_prefix("container:"));
            other == Some(id) || other == Some(name)
        };
        let shares = &self.host_config;
        if means(&shares.network_mode) {
            return Some("network");
        }
        if means(&shares.pid_mode) {
            return Some("processes");
        }
        if means(&shares.ipc_mode) {
            return Some("shared memory");
        }
        let linked = format!("/{name}:");
        let mut links = shares.links.iter().flatten();
        links
            .any(|link| link.starts_with(&linked))
            .then_some("link")
    }
}

impl Api {
    /// Reads `1.41`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl Engine {
    /// The one that `DOCKER_HOST` names, or the machine's.
    pub(super) fn here() -> Result<Self, Failure> {
        Ok(Self {
            socket: dockerd::socket()?,
        })
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A container by id or name, whole; `None` when there is none.
    pub(super) async fn inspect(&self, container: &str) -> Result<Option<Inspected>, Failure> {
        let path = format!("/containers/{}/json", escape(container));
        let Some(body) = self.look(&path).await? else {
            return Ok(None);
        };
        let mut about: Value = understood(&body)?;
        let env = Environment::of(&mut about);
        wipe(body);
        Ok(Some(Inspected { about, env }))
    }

    /// An image by name or id; `None` when there is none.
    pub(super) async fn image(&self, name: &str) -> Result<Option<Value>, Failure> {
        let found = self.look(&format!("/images/{}/json", escape(name))).await?;
        found.as_deref().map(understood).transpose()
    }

    /// The newest version of its API, which it speaks when none is named.
    pub(super) async fn api(&self) -> Result<Api, Failure> {
        let body = self.look("/version").await?.unwrap_or_default();
        let version: Version = understood(&body)?;
        Api::parse(&version.api_version).ok_or_else(|| not_understood("its API's version"))
    }

    /// Ids of all containers, also of those that do not run.
    pub(super) async fn ids(&self) -> Result<Vec<String>, Failure> {
        let body = self.look("/containers/json?all=1").await?;
        let rows: Vec<Row> = understood(&body.unwrap_or_default())?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// What another container shares; `None` when it went meanwhile.
    pub(super) async fn neighbour(&self, id: &str) -> Result<Option<Neighbour>, Failure> {
        let found = self.look(&format!("/containers/{id}/json")).await?;
        found.as_deref().map(understood).transpose()
    }

    /// What a container's own layer holds.
    pub(super) async fn changes(&self, id: &str) -> Result<Vec<Change>, Failure> {
        let body = self.look(&format!("/containers/{id}/changes")).await?;
        let changes: Option<Vec<Change>> = understood(&body.unwrap_or_default())?;
        Ok(changes.unwrap_or_default())
    }

    /// Creates a container; its id.
    pub(super) async fn create(
        &self,
        name: &str,
        body: &Map<String, Value>,
    ) -> Result<String, Failure> {
        let path = format!("/containers/create?name={}", escape(name));
        let body = serde_json::to_vec(body).map_err(|_| not_understood("what it is to create"))?;
        let answer = self
            .act("create the container anew", Method::POST, path, Some(body))
            .await?;
        let row: Row = understood(&answer)?;
        Ok(row.id)
    }

    /// Connects a container to a network.
    pub(super) async fn connect(
        &self,
        id: &str,
        network: &str,
        settings: &Value,
    ) -> Result<(), Failure> {
        let path = format!("/networks/{}/connect", escape(network));
        let body = json!({ "Container": id, "EndpointConfig": settings });
        let what = format!("connect it to network {network}");
        self.act(&what, Method::POST, path, Some(body.to_string().into()))
            .await
            .map(drop)
    }

    /// Disconnects a container from a network.
    pub(super) async fn disconnect(&self, id: &str, network: &str) -> Result<(), Failure> {
        let path = format!("/networks/{}/disconnect", escape(network));
        let body = json!({ "Container": id });
        let what = format!("disconnect it from network {network}");
        self.act(&what, Method::POST, path, Some(body.to_string().into()))
            .await
            .map(drop)
    }

    /// Stops a container, in its own time.
    pub(super) async fn stop(&self, id: &str) -> Result<(), Failure> {
        self.post("stop the container", id, "stop").await
    }

    /// Starts a container.
    pub(super) async fn start(&self, id: &str) -> Result<(), Failure> {
        self.post("start the container", id, "start").await
    }

    /// Gives a container another name.
    pub(super) async fn rename(&self, id: &str, name: &str) -> Result<(), Failure> {
        let verb = format!("rename?name={}", escape(name));
        self.post("rename the container", id, &verb).await
    }

    /// Removes a container, also one that runs; its volumes stay. One that is gone is removed.
    pub(super) async fn remove(&self, id: &str) -> Result<(), Failure> {
        let path = format!("/containers/{id}?force=1");
        let done = self.act("remove the container", Method::DELETE, path, None);
        match done.await {
            Err(failure) if failure.exit != Exit::NotFound => Err(failure),
            _ => Ok(()),
        }
    }

    async fn post(&self, what: &str, id: &str, verb: &str) -> Result<(), Failure> {
        let path = format!("/containers/{id}/{verb}");
        self.act(what, Method::POST, path, None).await.map(drop)
    }

    async fn look(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        let (status, body) = self.exchange(Ask::look(path), ANSWER).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(body)),
            status => Err(refused("answer", status, &body)),
        }
    }

    async fn act(
        &self,
        what: &str,
        method: Method,
        path: String,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, Failure> {
        let ask = Ask {
            method,
            path,
            body,
            bearer: None,
        };
        let (status, answer) = self.exchange(ask, ACTION).await?;
        // 304: it is so already.
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        Err(refused(what, status, &answer))
    }

    async fn exchange(&self, ask: Ask, patience: Duration) -> Result<(StatusCode, Bytes), Failure> {
        http::exchange(self.socket.as_path(), ask, patience)
            .await
            .map_err(|fault| self.unreached(&fault))
    }

    fn unreached(&self, fault: &Fault) -> Failure {
        let socket = self.socket.display();
        match fault {
            Fault::Connect(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let what = format!("the system does not let this user open {socket}");
                Failure::new(Exit::Denied, what, "use sudo")
            }
            Fault::Connect(error) => {
                let what = format!("Docker does not answer on {socket}: {error}");
                let next = "run this on the container's own machine, with Docker running";
                Failure::new(Exit::Unavailable, what, next)
            }
            Fault::Late(patience) => {
                let seconds = patience.as_secs();
                let what = format!("Docker did not answer on {socket} within {seconds} s");
                Failure::new(Exit::Unavailable, what, "look into dockerd's log")
            }
            fault => {
                let what = format!("Docker's answer on {socket} broke off: {fault:?}");
                Failure::new(Exit::Unavailable, what, "look into dockerd's log")
            }
        }
    }
}

/// Overwrites an answer with variables in it, where nobody else holds its bytes.
fn wipe(body: Bytes) {
    if let Ok(mut own) = body.try_into_mut() {
        own.as_mut().zeroize();
    }
}

fn understood<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // serde's own words may quote what it read.
    serde_json::from_slice(body).map_err(|_| not_understood("its answer"))
}

fn not_understood(what: &str) -> Failure {
    Failure::new(
        Exit::Unexpected,
        format!("Docker's engine and keywheel do not understand each other: {what}"),
        "report this fault of keywheel, with what `docker version` prints",
    )
}

fn refused(what: &str, status: StatusCode, answer: &[u8]) -> Failure {
    let said: Complaint = serde_json::from_slice(answer).unwrap_or_default();
    let said: String = tame(&said.message)
        .chars()
        .take(MAX_COMPLAINT_CHARS)
        .collect();
    let exit = match status {
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::CONFLICT => Exit::Conflict,
        _ => Exit::Unavailable,
    };
    Failure::new(
        exit,
        format!("Docker did not {what}: {said} ({})", status.as_u16()),
        "mend what Docker says, then repeat the command",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_api_are_ordered_as_numbers() {
        assert!(Api::parse("1.9") < Api::parse("1.41"));
        assert_eq!(Api::parse("1.44"), Some(Api(1, 44)));
        for bad in ["", "1", "1.x", "x.1"] {
            assert_eq!(Api::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn whoever_takes_something_from_a_container_is_found() {
        let of = |host: Value| -> Neighbour {
            serde_json::from_value(json!({ "Name": "/other", "HostConfig": host })).unwrap()
        };
        let takes = |host| of(host).takes_from("0123", "web");
        assert_eq!(
            takes(json!({ "NetworkMode": "container:0123" })),
            Some("network")
        );
        assert_eq!(
            takes(json!({ "PidMode": "container:web" })),
            Some("processes")
        );
        assert_eq!(
            takes(json!({ "IpcMode": "container:0123" })),
            Some("shared memory")
        );
        assert_eq!(takes(json!({ "Links": ["/web:/other/web"] })), Some("link"));
        for host in [
            json!({}),
            json!({ "NetworkMode": "bridge", "PidMode": null, "Links": null }),
            json!({ "NetworkMode": "container:9999", "Links": ["/web-2:/other/web"] }),
        ] {
            assert_eq!(takes(host), None);
        }
    }

    #[test]
    fn what_the_engine_says_is_told_and_cannot_steer_the_terminal() {
        let answer = br#"{"message":"no such\u001b[31m image"}"#;
        let failure = refused("create it", StatusCode::NOT_FOUND, answer);
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.what.contains("no such\u{b7}[31m image (404)"));
        let long = format!("{{\"message\":\"{}\"}}", "a".repeat(9000));
        let failure = refused("x", StatusCode::INTERNAL_SERVER_ERROR, long.as_bytes());
        assert!(failure.what.len() < MAX_COMPLAINT_CHARS + 100);
    }
}
