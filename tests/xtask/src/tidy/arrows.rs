//! Which crate may depend on which: the table of `services/ARCHITECTURE.md`.
//!
//! Invariant: a crate that is not in the table is a finding, so a new crate
//! always states its place. Development dependencies may also reach the pure
//! crates and the test kit.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Allowed to depend on anything; nothing depends on them.
const FREE: [&str; 4] = ["cli", "tests", "bench", "xtask"];
/// What tests of a crate may use besides the crate's own arrows.
const FOR_TESTS: [&str; 5] = ["core", "seal", "engine", "testkit", "schemas"];

/// Our crates' arrows, without the `keywheel-` prefix.
const ARROWS: [(&str, &[&str]); 25] = [
    ("core", &[]),
    ("policy", &[]),
    ("sys", &[]),
    ("seal", &["core", "sys"]),
    ("schemas", &["core"]),
    ("engine", &["core", "seal"]),
    ("identity", &["engine", "core", "seal", "schemas"]),
    (
        "member",
        &[
            "daemon", "engine", "core", "seal", "schemas", "bus", "identity",
        ],
    ),
    ("postgres", &["seal"]),
    (
        "journal",
        &["engine", "core", "seal", "schemas", "postgres"],
    ),
    ("bus", &["engine", "core", "seal", "schemas"]),
    ("cache", &["engine", "core", "seal", "schemas", "postgres"]),
    ("stores", &["engine", "core", "seal", "schemas"]),
    (
        "rotators",
        &["engine", "core", "seal", "schemas", "postgres", "stores"],
    ),
    (
        "signals",
        &[
            "engine", "core", "seal", "schemas", "bus", "stores", "rotators",
        ],
    ),
    ("containers", &["engine", "core", "seal", "schemas"]),
    ("daemon", &["engine", "core", "schemas"]),
    ("testkit", &["engine", "core", "seal"]),
    ("telemetry", &["engine", "core"]),
    (
        "gateway",
        &[
            "daemon",
            "engine",
            "seal",
            "core",
            "schemas",
            "journal",
            "bus",
            "identity",
            "policy",
            "telemetry",
        ],
    ),
    (
        "scheduler",
        &[
            "daemon",
            "engine",
            "seal",
            "core",
            "schemas",
            "bus",
            "telemetry",
        ],
    ),
    (
        "store-sync",
        &[
            "daemon",
            "engine",
            "seal",
            "core",
            "schemas",
            "bus",
            "stores",
            "rotators",
            "cache",
            "telemetry",
        ],
    ),
    (
        "injector",
        &[
            "daemon",
            "engine",
            "seal",
            "core",
            "schemas",
            "bus",
            "containers",
            "identity",
            "member",
            "sys",
            "telemetry",
        ],
    ),
    (
        "audit-sink",
        &[
            "daemon",
            "engine",
            "seal",
            "core",
            "schemas",
            "bus",
            "stores",
            "rotators",
            "telemetry",
        ],
    ),
    ("oci-runtime", &["sys"]),
];

/// Third-party crates that live behind one port only.
const CONFINED: [(&str, &[&str]); 10] = [
    ("argon2", &["seal"]),
    ("aws-sdk-kms", &["stores"]),
    ("cedar-policy", &["policy"]),
    (
        "sqlx",
        &["postgres", "journal", "cache", "audit-sink", "rotators"],
    ),
    ("bollard", &["containers"]),
    ("async-nats", &["bus"]),
    ("anyhow", &[]),
    ("vsss-rs", &["seal"]),
    // Rule K8: what draws random bytes is called in one place.
    ("getrandom", &["seal"]),
    ("rand", &[]),
];

/// Features of ours, and who takes them: an injector links neither Argon2 nor the sharing of secrets.
const FEATURES: [(&str, &str, &[&str]); 1] = [("seal", "unseal", &["store-sync"])];

/// The pure crate's whole list of third-party crates.
const CORE_THIRD_PARTY: [&str; 1] = ["thiserror"];
/// The OCI runtime's: tiny, no async.
const RUNTIME_THIRD_PARTY: [&str; 4] = ["serde_json", "rustix", "libc", "base64"];

/// Findings over the output of `cargo metadata --no-deps`.
pub(crate) fn check(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("cargo metadata without packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let Some(name) = package.get("name").and_then(Value::as_str) else {
            continue;
        };
        let short = name.strip_prefix("keywheel-").unwrap_or(name);
        for dependency in package
            .get("dependencies")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let Some(on) = dependency.get("name").and_then(Value::as_str) else {
                continue;
            };
            let for_tests = dependency.get("kind").and_then(Value::as_str) == Some("dev");
            findings.extend(match on.strip_prefix("keywheel-") {
                Some(ours) => wrong_arrow(short, ours, for_tests)
                    .or_else(|| wrong_feature(short, ours, dependency)),
                None => wrong_third_party(short, on, for_tests),
            });
        }
    }
    Ok(findings)
}

fn wrong_arrow(from: &str, to: &str, for_tests: bool) -> Option<String> {
    if FREE.contains(&from) || (for_tests && FOR_TESTS.contains(&to)) {
        return None;
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
        return Some(format!(
            "crate {from} is in no table: add it to the arrows and to services/ARCHITECTURE.md"
        ));
    };
    (!allowed.contains(&to)).then(|| format!("crate {from} may not depend on {to}"))
}

/// A crate's defaults have each of its features, so they count as all of them.
fn wrong_feature(from: &str, to: &str, dependency: &Value) -> Option<String> {
    let takes = |feature: &str| {
        let named = dependency.get("features").and_then(Value::as_array);
        let mut named = named.into_iter().flatten().filter_map(Value::as_str);
        dependency.get("uses_default_features") == Some(&Value::Bool(true))
            || named.any(|one| one == feature)
    };
    let (_, feature, _) = FEATURES.iter().find(|(of, feature, homes)| {
        *of == to && !homes.contains(&from) && !FREE.contains(&from) && takes(feature)
    })?;
    Some(format!(
        "crate {from} may not take the feature {feature} of {to}: write `keywheel-{to}.workspace = true`"
    ))
}

fn wrong_third_party(from: &str, to: &str, for_tests: bool) -> Option<String> {
    if for_tests || FREE.contains(&from) {
        return None;
    }
    let confined = CONFINED.iter().find(|(name, _)| *name == to);
    if let Some((_, homes)) = confined
        && !homes.contains(&from)
    {
        return Some(format!(
            "crate {from} may not use {to}: it lives in {} only",
            place(homes)
        ));
    }
    let list: &[&str] = match from {
        "core" => &CORE_THIRD_PARTY,
        "oci-runtime" => &RUNTIME_THIRD_PARTY,
        _ => return None,
    };
    (!list.contains(&to)).then(|| {
        format!(
            "crate {from} may not use {to}: its list is {}",
            list.join(", ")
        )
    })
}

fn place(homes: &[&str]) -> String {
    if homes.is_empty() {
        "tools and tests".to_owned()
    } else {
        homes.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(from: &str, to: &str, kind: Option<&str>) -> Vec<String> {
        let dependency = json!({ "name": to, "kind": kind });
        check(&json!({ "packages": [{ "name": from, "dependencies": [dependency] }] })).unwrap()
    }

    #[test]
    fn an_arrow_of_the_table_passes() {
        assert!(one("keywheel-engine", "keywheel-core", None).is_empty());
        assert!(one("keywheel-cli", "keywheel-journal", None).is_empty());
    }

    #[test]
    fn an_adapter_may_not_reach_another() {
        assert_eq!(one("keywheel-journal", "keywheel-bus", None).len(), 1);
        assert_eq!(one("keywheel-core", "keywheel-seal", None).len(), 1);
    }

    #[test]
    fn tests_may_use_the_test_kit_and_no_adapter() {
        assert!(one("keywheel-journal", "keywheel-testkit", Some("dev")).is_empty());
        assert_eq!(
            one("keywheel-journal", "keywheel-cache", Some("dev")).len(),
            1
        );
    }

    #[test]
    fn third_party_crates_stay_in_their_adapter() {
        assert_eq!(one("keywheel-gateway", "sqlx", None).len(), 1);
        assert!(one("keywheel-journal", "sqlx", None).is_empty());
        assert_eq!(one("keywheel-core", "serde", None).len(), 1);
        assert!(one("keywheel-seal", "getrandom", None).is_empty());
        assert_eq!(one("keywheel-cache", "getrandom", None).len(), 1);
        assert_eq!(one("keywheel-seal", "rand", None).len(), 1);
    }

    #[test]
    fn a_feature_is_taken_by_its_homes_alone() {
        let of = |from: &str, named: &[&str], defaults: bool| {
            let dependency = json!({
                "name": "keywheel-seal", "kind": null, "features": named,
                "uses_default_features": defaults,
            });
            let packages = json!({ "packages": [{ "name": from, "dependencies": [dependency] }] });
            check(&packages).unwrap().len()
        };
        assert_eq!(of("keywheel-injector", &[], false), 0);
        assert_eq!(of("keywheel-injector", &["unseal"], false), 1);
        assert_eq!(of("keywheel-injector", &[], true), 1);
        assert_eq!(of("keywheel-store-sync", &["unseal"], false), 0);
        assert_eq!(of("keywheel-cli", &["unseal"], false), 0);
    }

    #[test]
    fn an_unknown_crate_must_state_its_place() {
        assert_eq!(one("keywheel-surprise", "keywheel-core", None).len(), 1);
    }
}
