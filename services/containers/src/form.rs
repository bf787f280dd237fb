//! What is read of the engine's JSON, and what becomes of it.
//!
//! Tolerant on purpose: unknown fields and unknown words for a state are passed over, because
//! engines add them (Podman says `stopped`, which a strict reader refuses). Everything but entries
//! with a placeholder is dropped from an env while it is read, and of what the engine says about a
//! failed start only whether it is our runtime's refusal is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::container_host::{ContainerRecord, Health, StartRefusal};
use serde::{Deserialize, Deserializer};

use crate::when;

/// What opens a placeholder in an env entry.
const PLACEHOLDER: &str = "{keywheel:";

/// What an engine puts before a runtime's words, by its version, in this order.
const BEFORE_NOT_CREATED: [&str; 2] = [
    "failed to create task for container: ",
    "failed to create shim task: ",
];
/// How the engine tells that a runtime did not create a container.
const NOT_CREATED: &str = "OCI runtime create failed: ";
/// What follows instead of the runtime's words when its log could not be read.
const NO_LOG: &str = "unable to retrieve OCI runtime error";
/// Then comes the runtime's exit code, and what it printed.
const EXIT: &str = ": exit status ";
/// What every refusal of `keywheel-runtime` has, in this order; a test there holds its words.
const REFUSAL: [&str; 2] = ["keywheel: ", "; next: "];
/// How one begins that says that no injector answered; the socket follows.
const NOBODY: &str = "the injector at ";
/// What may follow the socket.
const AFTER_SOCKET: [&str; 2] = [" cannot be reached", " did not answer"];

/// One row of the list endpoint.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    names: Vec<String>,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "ImageID")]
    image_id: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    state: String,
}

/// One container in full, from the inspect endpoint or from the engine's own file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    #[serde(alias = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    state: State,
    #[serde(default)]
    pub(crate) host_config: HostConfig,
    #[serde(default)]
    created: String,
}

/// How a container was configured.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) image: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "placeholders_only")]
    pub(crate) env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) healthcheck: Healthcheck,
    #[serde(default, deserialize_with = "or_default")]
    shell: Vec<String>,
    #[serde(default)]
    pub(crate) user: String,
}

/// The configured health check.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Healthcheck {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) test: Vec<String>,
}

/// With what a shell's command begins, unless the image names another shell.
pub(crate) const SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl Config {
    /// The arguments of the health check, as the engine runs it.
    fn health_command(&self) -> Vec<String> {
        let Some((kind, rest)) = self.healthcheck.test.split_first() else {
            return Vec::new();
        };
        let shell = match (kind.as_str(), self.shell.is_empty()) {
            ("CMD", _) => Vec::new(),
            ("CMD-SHELL", true) => SHELL.map(str::to_owned).to_vec(),
            ("CMD-SHELL", false) => self.shell.clone(),
            _ => return Vec::new(),
        };
        [shell.as_slice(), rest].concat()
    }
}

/// How a container is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    #[serde(default)]
    pub(crate) running: bool,
    #[serde(default)]
    pub(crate) paused: bool,
    #[serde(default)]
    pub(crate) pid: i32,
    #[serde(default)]
    pub(crate) started_at: String,
    #[serde(default)]
    finished_at: String,
    #[serde(default)]
    health: Option<HealthState>,
    /// `created`, `exited`, `restarting`, …; not in the engine's own file.
    #[serde(default)]
    pub(crate) status: String,
    /// Why its last start failed; the engine empties it when it runs.
    #[serde(default)]
    pub(crate) error: String,
}

impl State {
    /// What our runtime said, if it refused the last start and nothing ran since.
    fn refused(&self) -> Option<StartRefusal> {
        let is_down = matches!(self.status.as_str(), "created" | "exited");
        let is_down = is_down && !self.running;
        is_down.then(|| parse_refusal(&self.error)).flatten()
    }

    /// When it last ended, or was made at `created`.
    pub(crate) fn down_since(&self, created: &str) -> Option<Timestamp> {
        when::parse(&self.finished_at).max(when::parse(created))
    }

    /// What its health check says.
    pub(crate) fn health(&self) -> Health {
        let said = self.health.as_ref();
        said.map_or(Health::None, |health| parse_health(&health.status))
    }
}

/// What the runtime said. Anchored at the beginning throughout: a mount's path, a program's name and
/// what another runtime says of them come behind other words.
fn runtime_words(error: &str) -> Option<&str> {
    let mut rest = error;
    for before in BEFORE_NOT_CREATED {
        rest = rest.strip_prefix(before).unwrap_or(rest);
    }
    let said = rest.strip_prefix(NOT_CREATED)?;
    if !said.starts_with(NO_LOG) {
        return Some(said);
    }
    let (_, printed) = said.split_once(EXIT)?;
    let (code, printed) = printed.split_once(": ")?;
    let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit());
    is_code.then_some(printed)
}

/// What is known of a refusal by the engine's words for it; `None` when they are of something else.
fn parse_refusal(error: &str) -> Option<StartRefusal> {
    refusal_in(runtime_words(error)?)
}

/// The same of what a runtime said, without an engine's words around it.
pub(crate) fn refusal_in(words: &str) -> Option<StartRefusal> {
    let [begin, next] = REFUSAL;
    let said = words.strip_prefix(begin)?;
    let (what, _) = said.split_once(next)?;
    let socket = what.strip_prefix(NOBODY).and_then(|what| {
        let mut ends = AFTER_SOCKET.iter();
        ends.find_map(|end| what.split_once(*end))
    });
    let nobody_at = socket.map(|(path, _)| PathBuf::from(path));
    Some(StartRefusal {
        nobody_at,
        ..StartRefusal::default()
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthState {
    #[serde(default)]
    status: String,
}

/// The part of a container that its host configuration holds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostConfig {
    #[serde(default)]
    runtime: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) restart_policy: RestartPolicy,
}

/// When the engine starts it again.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RestartPolicy {
    #[serde(default)]
    name: String,
}

impl RestartPolicy {
    /// Whether the engine starts the container again by itself.
    pub(crate) fn is_one(&self) -> bool {
        !matches!(self.name.as_str(), "" | "no")
    }
}

/// One line of the event stream.
#[derive(Debug, Deserialize)]
pub(crate) struct EventLine {
    #[serde(default, rename = "Type")]
    pub(crate) kind: String,
    #[serde(default, rename = "Action")]
    pub(crate) action: String,
    #[serde(default, rename = "Actor")]
    pub(crate) actor: Actor,
}

/// Whom an event is about.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Actor {
    #[serde(default, rename = "ID")]
    pub(crate) id: String,
    #[serde(default, rename = "Attributes", deserialize_with = "or_default")]
    pub(crate) attributes: Attributes,
}

/// What else an event says; the container's labels are among it, and may overlay anything.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Attributes {
    #[serde(default, rename = "execID")]
    pub(crate) exec_id: String,
}

/// How far an exec is.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ExecState {
    #[serde(default, rename = "Running")]
    pub(crate) running: bool,
    #[serde(default, rename = "ExitCode")]
    pub(crate) exit_code: Option<i64>,
}

/// An answer of the engine that is not what was asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Complaint {
    #[serde(default)]
    pub(crate) message: String,
}

impl Listed {
    /// What a row of the list tells: no pid, no runtime, no placeholders.
    pub(crate) fn into_record(self) -> Option<ContainerRecord> {
        let running = matches!(self.state.as_str(), "running" | "paused");
        let name = self.names.first().map(String::as_str).unwrap_or_default();
        Some(ContainerRecord {
            facts: ContainerFacts {
                id: ContainerId::parse(&self.id).ok()?,
                name: name.trim_start_matches('/').to_owned(),
                image_digest: self.image_id,
                image_name: self.image,
                labels: self.labels,
                user: None,
            },
            pid: 0,
            running,
            paused: self.state == "paused",
            started_at: String::new(),
            runtime: String::new(),
            health: Health::None,
            placeholders: Vec::new(),
            refused: None,
            health_command: Vec::new(),
            user: String::new(),
        })
    }
}

impl Inspected {
    pub(crate) fn into_record(self) -> Option<ContainerRecord> {
        let refused = self.state.refused().map(|refused| StartRefusal {
            has_policy: self.host_config.restart_policy.is_one(),
            after: self.state.down_since(&self.created),
            ..refused
        });
        let health_command = self.config.health_command();
        // Between two starts by its restart policy the engine says that it runs, without a process.
        let running = self.state.running && self.state.pid > 0;
        Some(ContainerRecord {
            facts: ContainerFacts {
                id: ContainerId::parse(&self.id).ok()?,
                name: self.name.trim_start_matches('/').to_owned(),
                image_digest: self.image,
                image_name: self.config.image,
                labels: self.config.labels,
                user: Some(self.config.user.clone()),
            },
            pid: if running { self.state.pid } else { 0 },
            running,
            paused: self.state.paused,
            health: self.state.health(),
            started_at: self.state.started_at,
            runtime: self.host_config.runtime,
            placeholders: self.config.env,
            refused,
            health_command,
            user: self.config.user,
        })
    }
}

fn parse_health(status: &str) -> Health {
    match status {
        "" | "none" => Health::None,
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        _ => Health::Starting,
    }
}

pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

pub(crate) fn placeholders_only<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<String>, D::Error> {
    let mut entries = Option::<Vec<String>>::deserialize(from)?.unwrap_or_default();
    entries.retain(|entry| entry.contains(PLACEHOLDER));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_answer_of_the_engine_makes_it_panic() {
        let id = "d".repeat(64);
        let good = format!(
            "{{\"Id\":\"{id}\",\"Name\":\"/a\",\"Image\":\"sha256:x\",\"Config\":{{\"Env\":[\"A={{keywheel:b}}\"],\"Labels\":null}},\"State\":{{\"Running\":true,\"Pid\":7,\"Health\":{{\"Status\":\"healthy\"}}}},\"HostConfig\":{{\"Runtime\":\"keywheel\"}}}}"
        );
        let read = |bytes: &[u8]| {
            let inspected = serde_json::from_slice::<super::Inspected>(bytes).ok()?;
            inspected.into_record()
        };
        assert!(read(good.as_bytes()).is_some());
        keywheel_testkit::hostile(good.as_bytes(), |bytes| {
            drop(read(bytes));
            drop(serde_json::from_slice::<Vec<super::Listed>>(bytes));
        });
    }

    use super::*;

    fn id() -> String {
        "a".repeat(64)
    }

    #[test]
    fn a_state_nobody_knows_and_nulls_are_read() {
        let text = format!(
            r#"{{"Id":"{}","Names":null,"Image":"app","ImageID":"sha256:1","Labels":null,"State":"stopped","New":1}}"#,
            id()
        );
        let record = serde_json::from_str::<Listed>(&text)
            .unwrap()
            .into_record()
            .unwrap();
        assert!(!record.running);
        assert_eq!(record.facts.image_digest, "sha256:1");
    }

    #[test]
    fn only_placeholders_stay_of_an_env() {
        let text = format!(
            r#"{{"Id":"{}","Name":"/web","Image":"sha256:2","Config":{{"Image":"app:1","Env":["A=plain","B=x{{keywheel:prod/db}}"],"Labels":{{"app":"x"}}}},
                "State":{{"Running":true,"Pid":7,"StartedAt":"t","Health":{{"Status":"starting"}}}},"HostConfig":{{"Runtime":"keywheel"}}}}"#,
            id()
        );
        let record = serde_json::from_str::<Inspected>(&text)
            .unwrap()
            .into_record()
            .unwrap();
        assert_eq!(record.placeholders, ["B=x{keywheel:prod/db}"]);
        assert_eq!((record.pid, record.runtime.as_str()), (7, "keywheel"));
        assert_eq!(
            (record.facts.name.as_str(), record.facts.image_name.as_str()),
            ("web", "app:1")
        );
        assert_eq!(record.health, Health::Starting);
    }

    #[test]
    fn the_engines_own_file_reads_like_an_inspect() {
        let text = format!(
            r#"{{"ID":"{}","Name":"/web","Image":"sha256:2","State":{{"Running":false,"Pid":9}}}}"#,
            id()
        );
        let record = serde_json::from_str::<Inspected>(&text)
            .unwrap()
            .into_record()
            .unwrap();
        assert_eq!((record.pid, record.running), (0, false));
    }

    #[test]
    fn one_that_waits_for_its_restart_policy_does_not_run() {
        let state = serde_json::json!({ "Status": "restarting", "Running": true, "Restarting": true, "Pid": 0 });
        let text = serde_json::json!({ "Id": id(), "State": state }).to_string();
        let inspected: Inspected = serde_json::from_str(&text).unwrap();
        let record = inspected.into_record().unwrap();
        assert_eq!((record.pid, record.running), (0, false));
    }

    #[test]
    fn a_refused_start_is_known_by_our_runtimes_words_and_only_while_it_is_down() {
        const OURS: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: keywheel: no binding grants secret `a`; next: apply one: unknown";
        let read = |status: &str, running: bool, error: &str| {
            let state = serde_json::json!({ "Status": status, "Running": running, "Error": error });
            let text = serde_json::json!({ "Id": id(), "State": state }).to_string();
            let inspected: Inspected = serde_json::from_str(&text).unwrap();
            inspected.into_record().unwrap().refused.is_some()
        };
        for status in ["created", "exited"] {
            assert!(read(status, false, OURS), "{status}");
        }
        // Where the shim could not read the runtime's log it has what the runtime printed.
        let printed = "OCI runtime create failed: unable to retrieve OCI runtime error: exit status 1: keywheel: x; next: y";
        assert!(read("created", false, printed));
        let unread = "OCI runtime create failed: unable to retrieve OCI runtime error (open /x/log.json: no such file or directory): exit status 1: keywheel: x; next: y";
        assert!(read("created", false, unread));
        assert!(!read("", false, OURS) && !read("stopped", false, OURS));
        assert!(!read("running", true, OURS) && !read("restarting", true, OURS));
        assert!(!read("dead", false, OURS) && !read("removing", false, OURS));
        for other in [
            "",
            "keywheel: x; next: y",
            "driver failed programming external connectivity: port is already allocated",
            "OCI runtime create failed: runc create failed: exec: \"/no\": stat /no: no such file",
            "OCI runtime create failed: keywheel: x",
            "OCI runtime create failed: x; next: keywheel: y",
            // Words that whoever makes a container may choose: a program's name, a mount's path.
            "OCI runtime create failed: runc create failed: exec: \"keywheel: x; next: y\": not found",
            "OCI runtime create failed: runc create failed: exec: \": exit status 1: keywheel: x; next: y\"",
            "error while creating mount source path '/OCI runtime create failed: keywheel: x; next: y'",
            "failed to mount /keywheel: x; next: y: OCI runtime create failed: keywheel: x; next: y",
            "OCI runtime create failed: unable to retrieve OCI runtime error: exit status x: keywheel: x; next: y",
        ] {
            assert!(!read("created", false, other), "{other}");
        }
    }

    #[test]
    fn a_health_check_is_known_as_the_engine_runs_it() {
        let read = |config: serde_json::Value| {
            let text = serde_json::json!({ "Id": id(), "Config": config }).to_string();
            let inspected: Inspected = serde_json::from_str(&text).unwrap();
            inspected.into_record().unwrap().health_command
        };
        let test = |words: &[&str]| serde_json::json!({ "Healthcheck": { "Test": words } });
        assert_eq!(read(test(&["CMD", "curl", "-f"])), ["curl", "-f"]);
        let shell = read(test(&["CMD-SHELL", "test -f /x"]));
        assert_eq!(shell, ["/bin/sh", "-c", "test -f /x"]);
        let other = serde_json::json!({ "Healthcheck": { "Test": ["CMD-SHELL", "x"] }, "Shell": ["/bin/ash", "-ec"] });
        assert_eq!(read(other), ["/bin/ash", "-ec", "x"]);
        for none in [
            test(&["NONE"]),
            test(&[]),
            serde_json::json!({}),
            serde_json::json!({ "Healthcheck": null, "Shell": null }),
            serde_json::json!({ "Healthcheck": { "Test": null } }),
        ] {
            assert!(read(none).is_empty());
        }
    }

    #[test]
    fn a_refusal_names_the_socket_at_which_nobody_answered() {
        let at = |what: &str| {
            let error = format!("OCI runtime create failed: keywheel: {what}; next: y: unknown");
            parse_refusal(&error).unwrap().nobody_at
        };
        let (path, why) = ("/run/keywheel/injector.sock", "os error 2");
        let socket = Some(PathBuf::from(path));
        let gone = format!("the injector at {path} cannot be reached ({why}), so it would start");
        assert_eq!(at(&gone), socket);
        let slow = format!("the injector at {path} did not answer within 30 s, so it would start");
        assert_eq!(at(&slow), socket);
        assert_eq!(at("no binding grants secret `a`"), None);
        assert_eq!(at("the injector at home is well"), None);
    }

    #[test]
    fn a_refused_start_has_the_policy_and_the_time_after_which_it_was() {
        const OURS: &str = "OCI runtime create failed: keywheel: x; next: y";
        let read = |policy: serde_json::Value, finished: &str| {
            let state =
                serde_json::json!({ "Status": "exited", "Error": OURS, "FinishedAt": finished });
            let value = serde_json::json!({
                "Id": id(), "State": state, "Created": "1970-01-01T00:00:02Z",
                "HostConfig": { "RestartPolicy": policy },
            });
            let inspected: Inspected = serde_json::from_value(value).unwrap();
            let refused = inspected.into_record().unwrap().refused.unwrap();
            (refused.has_policy, refused.after.map(Timestamp::micros))
        };
        let policy = |name: &str| serde_json::json!({ "Name": name, "MaximumRetryCount": 0 });
        let never = "0001-01-01T00:00:00Z";
        for name in ["", "no"] {
            assert_eq!(read(policy(name), never), (false, Some(2_000_000)));
        }
        assert!(!read(serde_json::Value::Null, never).0);
        for name in ["always", "unless-stopped", "on-failure"] {
            let ended = read(policy(name), "1970-01-01T00:00:03Z");
            assert_eq!(ended, (true, Some(3_000_000)), "{name}");
        }
    }

    #[test]
    fn a_short_id_is_no_container() {
        let text = r#"{"Id":"abc"}"#;
        assert!(
            serde_json::from_str::<Listed>(text)
                .unwrap()
                .into_record()
                .is_none()
        );
    }
}
