//! What the engine keeps of an exec. Compared with a health check, and never printed.

use keywheel_engine::port::container_host::ExecDetails;
use serde::Deserialize;

use crate::form::or_default;

/// An exec, as the engine keeps it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ExecLook {
    #[serde(default, rename = "ProcessConfig")]
    process: ExecProcess,
}

#[derive(Default, Deserialize)]
struct ExecProcess {
    #[serde(default)]
    tty: bool,
    #[serde(default)]
    entrypoint: String,
    #[serde(default, deserialize_with = "or_default")]
    arguments: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    privileged: bool,
    #[serde(default)]
    user: String,
}

impl std::fmt::Debug for ExecProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExecProcess(..)")
    }
}

impl ExecLook {
    pub(crate) fn into_details(self) -> ExecDetails {
        let ExecProcess {
            tty,
            entrypoint,
            arguments,
            privileged,
            user,
        } = self.process;
        ExecDetails {
            args: [vec![entrypoint], arguments].concat(),
            user,
            is_special: tty || privileged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Inspected;

    #[test]
    fn only_an_exec_with_nothing_of_its_own_is_the_health_check() {
        let value = serde_json::json!({
            "Id": "a".repeat(64),
            "Config": { "User": "app", "Healthcheck": { "Test": ["CMD", "check", "a b"] } },
        });
        let record = serde_json::from_value::<Inspected>(value).unwrap();
        let record = record.into_record().unwrap();
        let check = serde_json::json!({
            "tty": false, "entrypoint": "check", "arguments": ["a b"], "user": "app",
        });
        let is_check = |process: serde_json::Value| {
            let value = serde_json::json!({ "ID": "e", "ProcessConfig": process });
            let look: ExecLook = serde_json::from_value(value).unwrap();
            record.is_health_check(&look.into_details())
        };
        assert!(is_check(check.clone()));
        for (key, other) in [
            ("tty", serde_json::json!(true)),
            ("privileged", serde_json::json!(true)),
            ("user", serde_json::json!("root")),
            ("entrypoint", serde_json::json!("check a")),
            // The same when the engine tells of it in its events.
            ("arguments", serde_json::json!(["a", "b"])),
            ("arguments", serde_json::Value::Null),
        ] {
            let mut exec = check.clone();
            exec[key] = other;
            assert!(!is_check(exec), "{key}");
        }
    }
}
