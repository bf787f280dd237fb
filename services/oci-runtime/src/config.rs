//! The OCI configuration: what is read from it, and the changed copy for the private bundle.
//!
//! Pure. The engine's own file is never written. Env strings are overwritten when a configuration is dropped.

use std::path::Path;

use keywheel_sys::scrub::{self, Scrubbed};
use keywheel_sys::wire::is_plain_directory;
use serde_json::{Value, json};

use crate::refuse::Refusal;

/// How a placeholder begins, wherever it is in a variable.
pub(crate) const PLACEHOLDER: &str = "{keywheel:";
/// The variable that names a user's home.
const HOME: &str = "HOME=";
/// Largest configuration that is read.
pub(crate) const MAX_CONFIG: u64 = 16 * 1024 * 1024;

/// A parsed `config.json`.
pub(crate) struct Config(Value);

fn garbled(what: &str) -> Refusal {
    Refusal::new(
        format!("the engine's config.json {what}"),
        "check the engine's log; this is not a file of keywheel",
    )
}

impl Config {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| garbled(&format!("is not JSON ({error})")))?;
        if !value.is_object() {
            return Err(garbled("is not an object"));
        }
        Ok(Self(value))
    }

    /// A process file alone, as `exec` gets it.
    pub(crate) fn of_process(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut process = Self::parse(bytes)?;
        Ok(Self(json!({ "process": process.0.take() })))
    }

    /// What the process runs; `None` when that is no list of texts.
    pub(crate) fn args(&self) -> Option<Vec<&str>> {
        let args = self.0.pointer("/process/args")?.as_array()?;
        args.iter().map(Value::as_str).collect()
    }

    /// Whether this process is one that an engine runs beside the `first` by itself: with nothing of its own
    /// in its environment, as the same user and in no group more, from the same directory, with the same rights, and
    /// with no terminal. What is told of a person's exec with other flags is told so. A umask gives no right; Podman
    /// writes it for the first process alone, and for the others the user's home, which the first gets from the
    /// runtime.
    pub(crate) fn runs_like(&self, first: &Self) -> bool {
        let is_same = |at: &str| self.0.pointer(at) == first.0.pointer(at);
        let has_terminal = self.0.pointer("/process/terminal") == Some(&Value::Bool(true));
        let all = [
            "/process/cwd",
            "/process/user/uid",
            "/process/user/gid",
            "/process/user/username",
            "/process/capabilities",
        ];
        let known: Vec<&str> = first.env().collect();
        let has_home = known.iter().any(|entry| entry.starts_with(HOME));
        let is_known =
            |entry: &str| known.contains(&entry) || (!has_home && entry.starts_with(HOME));
        !has_terminal
            && all.into_iter().all(is_same)
            && self
                .groups()
                .all(|group| first.groups().any(|one| one == group))
            && self.env().all(is_known)
    }

    fn groups(&self) -> impl Iterator<Item = &Value> {
        let groups = self.0.pointer("/process/user/additionalGids");
        groups.and_then(Value::as_array).into_iter().flatten()
    }

    fn env(&self) -> impl Iterator<Item = &str> {
        self.0
            .pointer("/process/env")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// Variables with a placeholder, as `NAME=text`.
    pub(crate) fn placeholders(&self) -> Vec<&str> {
        self.env()
            .filter(|entry| entry.contains(PLACEHOLDER))
            .collect()
    }

    /// Where something is mounted already.
    pub(crate) fn mount_destinations(&self) -> Vec<&str> {
        let mounts = self
            .0
            .get("mounts")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        mounts
            .filter_map(|mount| mount.get("destination")?.as_str())
            .collect()
    }

    /// Puts the values in place of their placeholders.
    pub(crate) fn put_env(&mut self, values: &[(String, Scrubbed)]) -> Result<(), Refusal> {
        let mut used = vec![false; values.len()];
        let entries = self
            .0
            .pointer_mut("/process/env")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for entry in entries {
            let Value::String(text) = entry else { continue };
            if !text.contains(PLACEHOLDER) {
                continue;
            }
            let name = text
                .split_once('=')
                .map_or(text.as_str(), |(name, _)| name)
                .to_owned();
            let Some(at) = values.iter().position(|(candidate, _)| *candidate == name) else {
                return Err(Refusal::new(
                    format!("the placeholder in variable {name} was not resolved"),
                    format!(
                        "bind the secret to this container with env {name}, or remove the placeholder"
                    ),
                ));
            };
            if let Some(flag) = used.get_mut(at) {
                *flag = true;
            }
            if let Some((_, value)) = values.get(at) {
                *text = variable(&name, value)?;
            }
        }
        match values.iter().zip(&used).find(|(_, used)| !**used) {
            None => Ok(()),
            Some(((name, _), _)) => Err(Refusal::new(
                format!("the injector answered for variable {name}, which has no placeholder here"),
                "install keywheel and keywheel-runtime of the same version",
            )),
        }
    }

    /// Adds an empty read-only mount point for each directory.
    pub(crate) fn add_mount_points(&mut self, dirs: &[String]) -> Result<(), Refusal> {
        for (index, dir) in dirs.iter().enumerate() {
            if !is_plain_directory(dir.as_bytes()) {
                return Err(Refusal::new(
                    format!("{dir:?} is not a directory for secrets"),
                    "use an absolute path of at most 240 bytes without . or .. in the binding",
                ));
            }
            let others = dirs
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .map(|(_, other)| other.as_str());
            let taken = self
                .mount_destinations()
                .into_iter()
                .find(|mount| is_at_or_below(mount, dir));
            if let Some(mount) =
                taken.or_else(|| others.into_iter().find(|other| is_at_or_below(other, dir)))
            {
                return Err(Refusal::new(
                    format!(
                        "the container already has a mount at {mount}, where its secrets belong ({dir})"
                    ),
                    "set another directory in the binding, or remove that mount from the container",
                ));
            }
        }
        let root = self
            .0
            .as_object_mut()
            .ok_or_else(|| garbled("is not an object"))?;
        let mounts = root.entry("mounts").or_insert_with(|| json!([]));
        if mounts.is_null() {
            *mounts = json!([]);
        }
        let mounts = mounts
            .as_array_mut()
            .ok_or_else(|| garbled("has mounts that are not a list"))?;
        mounts.extend(dirs.iter().map(|dir| {
            json!({
                "destination": dir,
                "type": "tmpfs",
                "source": "keywheel",
                "options": ["ro", "nosuid", "nodev", "noexec", "mode=0755", "size=4k"],
            })
        }));
        Ok(())
    }

    /// Makes what is relative to the engine's bundle absolute: the root file system and bind sources.
    pub(crate) fn anchor(&mut self, bundle: &Path) -> Result<(), Refusal> {
        let anchored = |text: &str| -> Result<Option<Value>, Refusal> {
            if Path::new(text).is_absolute() {
                return Ok(None);
            }
            let path = bundle.join(text);
            let path = path
                .to_str()
                .ok_or_else(|| garbled("lies under a path that is not UTF-8"))?;
            Ok(Some(Value::from(path)))
        };
        let root = self
            .0
            .pointer_mut("/root/path")
            .ok_or_else(|| garbled("names no root.path"))?;
        let text = root
            .as_str()
            .ok_or_else(|| garbled("has a root.path that is not text"))?;
        if let Some(path) = anchored(text)? {
            *root = path;
        }
        for mount in self
            .0
            .get_mut("mounts")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if !is_bind(mount) {
                continue;
            }
            if let Some(source) = mount.get_mut("source")
                && let Some(text) = source.as_str()
                && let Some(path) = anchored(text)?
            {
                *source = path;
            }
        }
        Ok(())
    }

    /// The bytes of the private `config.json`.
    pub(crate) fn bytes(&self) -> Result<Scrubbed, Refusal> {
        written(&self.0)
    }

    /// The bytes of the private process file.
    pub(crate) fn process_bytes(&self) -> Result<Scrubbed, Refusal> {
        written(self.0.get("process").unwrap_or(&Value::Null))
    }
}

fn written(value: &Value) -> Result<Scrubbed, Refusal> {
    // Measured first, so that the buffer with the values never moves.
    let mut measure = Measure(0);
    serde_json::to_writer(&mut measure, value).map_err(|_| garbled("cannot be written again"))?;
    let mut sink = Scrubbed::with_capacity(measure.0);
    serde_json::to_writer(sink.expose_mut(), value)
        .map_err(|_| garbled("cannot be written again"))?;
    Ok(sink)
}

impl Drop for Config {
    fn drop(&mut self) {
        let entries = self
            .0
            .pointer_mut("/process/env")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for entry in entries {
            if let Value::String(text) = entry.take() {
                scrub::text(text);
            }
        }
    }
}

struct Measure(usize);

impl std::io::Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn variable(name: &str, value: &Scrubbed) -> Result<String, Refusal> {
    let unfit = |reason: &str| {
        Refusal::new(
            format!("the secret for variable {name} {reason}, which an environment cannot carry"),
            "deliver this secret as a file",
        )
    };
    // EXPOSE: becomes the variable in the private configuration.
    let value = std::str::from_utf8(value.expose()).map_err(|_| unfit("is not UTF-8 text"))?;
    if value.contains('\0') {
        return Err(unfit("holds a NUL byte"));
    }
    let mut text = String::with_capacity(name.len() + 1 + value.len());
    text.extend([name, "=", value]);
    Ok(text)
}

fn is_bind(mount: &Value) -> bool {
    let options = mount
        .get("options")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    mount.get("type").and_then(Value::as_str) == Some("bind")
        || options
            .filter_map(Value::as_str)
            .any(|option| option == "bind" || option == "rbind")
}

/// Compares by components, after `.` , `..` and doubled slashes are resolved in the text.
fn is_at_or_below(path: &str, dir: &str) -> bool {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let dir: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    parts.starts_with(&dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: &Value) -> Config {
        Config::parse(value.to_string().as_bytes()).unwrap()
    }

    fn sample() -> Config {
        config(&json!({
            "ociVersion": "1.0.2",
            "annotations": { "run.oci.keep_original_groups": "1" },
            "process": { "env": ["PATH=/bin", "A={keywheel:a}", "B=pre{keywheel:b}"], "oomScoreAdj": -500 },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/etc/hosts", "type": "bind", "source": "hosts", "options": ["rbind"] },
                { "destination": "/data", "source": "/srv", "options": ["bind"] },
            ],
            "linux": { "resources": { "unified": { "memory": 18_446_744_073_709_551_615_u64 } } },
        }))
    }

    fn value(name: &str, bytes: &[u8]) -> (String, Scrubbed) {
        (name.into(), Scrubbed::new(bytes.to_vec()))
    }

    fn parsed(config: &Config) -> Value {
        serde_json::from_slice(config.bytes().unwrap().expose()).unwrap()
    }

    #[test]
    fn placeholders_and_mounts_are_read() {
        let config = sample();
        assert_eq!(
            config.placeholders(),
            ["A={keywheel:a}", "B=pre{keywheel:b}"]
        );
        assert_eq!(
            config.mount_destinations(),
            ["/proc", "/etc/hosts", "/data"]
        );
    }

    #[test]
    fn values_replace_whole_variables_and_nothing_else_changes() {
        let mut config = sample();
        config
            .put_env(&[
                value("B", b"{keywheel:a}"),
                value("A", "\u{fc} \"=\n".as_bytes()),
            ])
            .unwrap();
        let after = parsed(&config);
        assert_eq!(
            after["process"]["env"],
            json!(["PATH=/bin", "A=\u{fc} \"=\n", "B={keywheel:a}"])
        );
        let mut restored = after;
        restored["process"]["env"] = json!(["PATH=/bin", "A={keywheel:a}", "B=pre{keywheel:b}"]);
        assert_eq!(restored, parsed(&sample()));
    }

    #[test]
    fn a_process_file_changes_in_its_variables_only() {
        let file = json!({
            "terminal": false, "args": ["/bin/sh", "-c", "x"], "cwd": "/",
            "env": ["PATH=/bin", "A={keywheel:a}"],
        });
        let mut process = Config::of_process(file.to_string().as_bytes()).unwrap();
        assert_eq!(process.args(), Some(vec!["/bin/sh", "-c", "x"]));
        assert_eq!(process.placeholders(), ["A={keywheel:a}"]);
        process.put_env(&[value("A", b"x")]).unwrap();
        let bytes = process.process_bytes().unwrap();
        let mut after: Value = serde_json::from_slice(bytes.expose()).unwrap();
        assert_eq!(after["env"], json!(["PATH=/bin", "A=x"]));
        after["env"] = file["env"].clone();
        assert_eq!(after, file);
        assert_eq!(config(&json!({ "process": { "args": [7] } })).args(), None);
        assert!(Config::of_process(b"[]").is_err());
    }

    #[test]
    fn only_a_process_with_nothing_of_its_own_runs_like_the_first() {
        let first = json!({
            "terminal": true, "args": ["/bin/app"], "cwd": "/srv",
            "user": { "uid": 7, "gid": 7, "additionalGids": [7, 8], "umask": 18 },
            "env": ["PATH=/bin", "TERM=xterm", "A={keywheel:a}"],
            "capabilities": { "bounding": ["CAP_CHOWN"] },
        });
        let of = |process: &Value| Config::of_process(process.to_string().as_bytes()).unwrap();
        let whole = config(&json!({ "process": first }));
        let mut check = first.clone();
        check["terminal"] = json!(false);
        check["args"] = json!(["/bin/check"]);
        check["env"] = json!(["PATH=/bin", "A={keywheel:a}"]);
        assert!(of(&check).runs_like(&whole));
        // Podman writes the home here alone, where the first has it from the runtime.
        let mut with_home = check.clone();
        with_home["env"] = json!(["PATH=/bin", "A={keywheel:a}", "HOME=/root"]);
        assert!(of(&with_home).runs_like(&whole));
        let mut homely = first.clone();
        homely["env"] = json!(["PATH=/bin", "HOME=/srv", "A={keywheel:a}"]);
        assert!(!of(&with_home).runs_like(&config(&json!({ "process": homely }))));
        // Podman writes no umask, and fewer groups.
        for fewer in [json!(null), json!([8])] {
            check["user"] = json!({ "uid": 7, "gid": 7, "additionalGids": fewer });
            assert!(of(&check).runs_like(&whole));
        }
        for (key, other) in [
            ("terminal", json!(true)),
            ("cwd", json!("/")),
            ("user", json!({ "uid": 0, "gid": 0 })),
            ("user", json!({ "uid": 7, "gid": 8 })),
            (
                "user",
                json!({ "uid": 7, "gid": 7, "additionalGids": [7, 9] }),
            ),
            ("env", json!(["PATH=/evil", "A={keywheel:a}"])),
            (
                "env",
                json!(["PATH=/bin", "A={keywheel:a}", "LD_PRELOAD=/x"]),
            ),
            (
                "capabilities",
                json!({ "bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"] }),
            ),
            ("capabilities", Value::Null),
        ] {
            let mut exec = check.clone();
            exec[key] = other;
            assert!(!of(&exec).runs_like(&whole), "{exec}");
        }
    }

    #[test]
    fn what_is_left_unresolved_or_unasked_is_refused() {
        let text = sample().put_env(&[value("A", b"x")]).unwrap_err().text();
        assert!(text.contains("variable B was not resolved"), "{text}");
        let extra = [value("A", b"x"), value("B", b"x"), value("PATH", b"x")];
        assert!(
            sample()
                .put_env(&extra)
                .unwrap_err()
                .text()
                .contains("PATH")
        );
    }

    #[test]
    fn what_an_environment_cannot_carry_is_refused_without_the_value() {
        for bytes in [&b"can\0ary"[..], b"canary\xff"] {
            let text = sample()
                .put_env(&[value("A", bytes), value("B", b"")])
                .unwrap_err()
                .text();
            assert!(
                text.contains("as a file") && !text.contains("can\0") && !text.contains("canary"),
                "{text}"
            );
        }
    }

    #[test]
    fn mount_points_are_appended_read_only() {
        let mut config = sample();
        config
            .add_mount_points(&["/run/secrets".into(), "/opt/s".into()])
            .unwrap();
        let after = parsed(&config);
        assert_eq!(after["mounts"].as_array().unwrap().len(), 5);
        assert_eq!(after["mounts"][3]["source"], "keywheel");
        assert_eq!(after["mounts"][3]["options"][0], "ro");
        assert_eq!(after["mounts"][4]["destination"], "/opt/s");
        for mounts in [json!({}), json!({ "mounts": null })] {
            let mut config = super::tests::config(&mounts);
            config.add_mount_points(&["/run/secrets".into()]).unwrap();
            assert_eq!(parsed(&config)["mounts"].as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_mount_at_or_below_is_named() {
        for taken in [
            "/run/secrets",
            "/run/secrets/",
            "/run//secrets/db",
            "run/x/../secrets",
            "/../run/secrets/a/b",
        ] {
            let mut config = config(&json!({ "mounts": [{ "destination": taken }] }));
            let text = config
                .add_mount_points(&["/run/secrets".into()])
                .unwrap_err()
                .text();
            assert!(text.contains(taken), "{text}");
        }
        for free in ["/run", "/run/secrets2", "/"] {
            let mut config = config(&json!({ "mounts": [{ "destination": free }] }));
            config.add_mount_points(&["/run/secrets".into()]).unwrap();
        }
        let nested = ["/run/secrets".to_owned(), "/run/secrets/a".to_owned()];
        assert!(sample().add_mount_points(&nested).is_err());
        assert!(sample().add_mount_points(&["/run/../etc".into()]).is_err());
    }

    #[test]
    fn relative_paths_are_anchored_in_the_engines_bundle() {
        let mut config = sample();
        config.anchor(Path::new("/engine/bundle")).unwrap();
        let after = parsed(&config);
        assert_eq!(after["root"]["path"], "/engine/bundle/rootfs");
        assert_eq!(after["mounts"][0]["source"], "proc");
        assert_eq!(after["mounts"][1]["source"], "/engine/bundle/hosts");
        assert_eq!(after["mounts"][2]["source"], "/srv");
        assert!(
            super::tests::config(&json!({}))
                .anchor(Path::new("/b"))
                .is_err()
        );
    }

    #[test]
    fn no_bundle_makes_it_panic() {
        let good = br#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"env":["A={keywheel:a}","B"]},"mounts":[{"destination":"/run/secrets","type":"tmpfs"}]}"#;
        keywheel_testkit::hostile(good, |bytes| {
            let Ok(mut config) = Config::parse(bytes) else {
                return;
            };
            let _ = (
                config.placeholders().len(),
                config.mount_destinations().len(),
            );
            let _ = config.put_env(&[value("A", b"x")]);
            let _ = config.add_mount_points(&["/run/secrets".to_owned()]);
            let _ = config.anchor(Path::new("/bundle"));
            let _ = config.bytes();
        });
    }

    #[test]
    fn what_is_not_a_configuration_is_refused() {
        for bytes in [&b""[..], b"[", b"[]", b"7"] {
            assert!(Config::parse(bytes).is_err());
        }
        let odd = config(&json!({ "process": { "env": [7] }, "mounts": 7 }));
        assert!(odd.placeholders().is_empty() && odd.mount_destinations().is_empty());
    }
}
