//! Whose code we build: the rules of `deny.toml` over all dependencies.
//!
//! Pure: metadata and the rules' text in, findings out. It enforces licences, bans and sources, which
//! `cargo deny check licenses bans sources` would too; that tool takes minutes to compile, and these
//! three rules take a second. Advisories and double versions are left to people and to that tool.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// How the origin of a crate begins that comes from the registry, as all do.
const REGISTRY: &str = "registry+";

/// What `deny.toml` says, as far as it is enforced here.
struct Rules<'a> {
    licences: Vec<&'a str>,
    banned: Vec<&'a str>,
}

/// Findings over the output of `cargo metadata` with dependencies.
pub(crate) fn check(rules: &str, metadata: &Value) -> Result<Vec<String>> {
    let rules = read(rules)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let mut findings = Vec::new();
    for package in packages.context("cargo metadata without packages")? {
        let text = |key| package.get(key).and_then(Value::as_str);
        let name = text("name").context("a package without a name")?;
        // Our own have no source.
        let Some(source) = text("source") else {
            continue;
        };
        if !source.starts_with(REGISTRY) {
            findings.push(format!(
                "crate {name} comes from {source}, not from the registry"
            ));
        }
        if rules.banned.contains(&name) {
            findings.push(format!("crate {name} is banned; deny.toml says why"));
        }
        match text("license") {
            // Its text is in a file, which cargo-deny compares.
            None if text("license_file").is_some() => {}
            None => findings.push(format!("crate {name} states no licence")),
            Some(licence) if !is_allowed(licence, &rules.licences) => findings.push(format!(
                "crate {name} has the licence {licence}, which deny.toml does not allow"
            )),
            Some(_) => {}
        }
    }
    Ok(findings)
}

/// Reads the two lists; the form is this repository's own.
fn read(text: &str) -> Result<Rules<'_>> {
    let (_, licences) = text
        .split_once("\nallow = [")
        .context("deny.toml: no `allow`")?;
    let (licences, _) = licences
        .split_once(']')
        .context("deny.toml: `allow` does not end")?;
    let licences: Vec<&str> = licences.split('"').skip(1).step_by(2).collect();
    let banned: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ crate = \"")?.split('"').next())
        .collect();
    ensure!(
        !licences.is_empty() && !banned.is_empty(),
        "deny.toml: a list is empty"
    );
    Ok(Rules { licences, banned })
}

/// Whether an SPDX expression can be satisfied; `/` is how `OR` was written once.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest, allowed) && rest.is_empty()
}

fn next_is(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, after)) if *first == word => {
            *rest = after;
            true
        }
        _ => false,
    }
}

fn either(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut holds = both(rest, allowed);
    while next_is(rest, "OR") {
        holds |= both(rest, allowed);
    }
    holds
}

fn both(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut holds = one(rest, allowed);
    while next_is(rest, "AND") {
        holds &= one(rest, allowed);
    }
    holds
}

fn one(rest: &mut &[&str], allowed: &[&str]) -> bool {
    if next_is(rest, "(") {
        let holds = either(rest, allowed);
        return next_is(rest, ")") && holds;
    }
    let Some((name, after)) = rest.split_first() else {
        return false;
    };
    *rest = after;
    if !next_is(rest, "WITH") {
        return allowed.contains(name);
    }
    let Some((exception, after)) = rest.split_first() else {
        return false;
    };
    *rest = after;
    let whole = format!("{name} WITH {exception}");
    allowed.contains(name) || allowed.contains(&whole.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RULES: &str = "[licenses]\nallow = [\n  \"MIT\", \"Apache-2.0 WITH LLVM-exception\",\n]\n[bans]\ndeny = [\n  { crate = \"openssl-sys\", reason = \"no\" },\n]\n";

    fn found(name: &str, licence: Option<&str>, source: &str) -> Vec<String> {
        let package = json!({ "name": name, "license": licence, "source": source });
        let own = json!({ "name": "keywheel-core", "license": "x", "source": null });
        check(RULES, &json!({ "packages": [package, own] })).unwrap()
    }

    #[test]
    fn an_expression_is_judged_as_a_whole() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "MIT AND ISC",
            "(GPL-3.0 OR MIT) AND ISC",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR ISC) AND GPL-3.0",
            "MIT ISC",
            "(MIT",
            "Apache-2.0",
        ] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn source_ban_and_licence_are_found_and_our_own_crates_are_not_asked() {
        assert_eq!(found("a", Some("MIT"), REGISTRY), Vec::<String>::new());
        assert_eq!(found("a", Some("GPL-3.0"), REGISTRY).len(), 1);
        assert_eq!(found("a", None, REGISTRY).len(), 1);
        assert_eq!(found("openssl-sys", Some("MIT"), REGISTRY).len(), 1);
        assert_eq!(
            found("a", Some("MIT"), "git+https://example.com/a").len(),
            1
        );
    }

    #[test]
    fn rules_that_are_not_understood_are_an_error() {
        assert!(check("", &json!({ "packages": [] })).is_err());
    }
}
